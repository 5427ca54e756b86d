"""A soak says of a run what its processes hold, judges growth by a stated bound, and stops the arm before it reports."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from poco.runtime.run_folder import (
    EpisodeEnded,
    EpisodeStarted,
    Event,
    Fault,
    Hold,
    Minute,
    Recovery,
    Reflex,
    RunFolder,
)
from poco.runtime.soak.__main__ import JOURNAL, PICTURE, REPORT, SAMPLES, SoakReport, read_samples
from poco.runtime.soak.checks import GROWTH_MAX_KIB_H, Check, check
from poco.runtime.soak.figures import Watched, measure
from poco.runtime.soak.picture import draw
from poco.runtime.soak.watch import SUPERVISOR, ProcessSample, Sample, look
from poco.statistics import percentiles
from poco.trouble import BY_NAME, describe
from programs import gone

ARM_ERROR = describe(BY_NAME["arm_error"].code)
PROCESSES = {SUPERVISOR: 50_000, "emulator": 75_000, "servo": 170_000, "policy": 200_000}
"""Resident memory (KiB) of the processes of a run, about."""

Change = Callable[[str, float, ProcessSample], ProcessSample]


def sample(elapsed_s: float, change: Change) -> Sample:
    """What a run holds after `elapsed_s`: resident memory that wavers by 40 KiB, changed by `change`."""
    waver = int(40.0 * np.random.default_rng(round(elapsed_s)).random())
    processes = {
        name: change(
            name,
            elapsed_s,
            ProcessSample(pid=10, rss_kib=kib + waver, pss_kib=kib // 2, anonymous_kib=kib // 3, handles=9, threads=3),
        )
        for name, kib in PROCESSES.items()
    }
    return Sample(elapsed_s=elapsed_s, processes=processes, shared_files=1, shared_kib=6_789)


def watched(minutes: int, change: Change = lambda name, elapsed_s, process: process) -> Watched:
    """A run of `minutes` with an episode in each, sampled every five seconds, that nothing happened to."""
    samples = [sample(5.0 * number, change) for number in range(12 * minutes + 1)]
    spread = percentiles(np.linspace(20.0, 200.0, 1000))
    lines = [
        Minute(tick=60_000 * (n + 1), ticks=60_000, turnaround_us=spread, turnaround_over_1_ms=0, period_us=spread)
        for n in range(minutes)
    ]
    events: list[Event] = []
    for episode in range(minutes):
        first = 60_000 * episode
        events.append(EpisodeStarted(tick=first + 100, episode=episode, seed=7 + episode))
        events.append(EpisodeEnded(tick=first + 2100, episode=episode, outcome="success", steps=40, ticks=2000))
    return Watched(samples, lines, [], events)


def checks_of(seen: Watched, reflexes_per_100: float = 0.0, ended: str = "") -> dict[str, Check]:
    """The checks of a run by name."""
    return {item.name: item for item in check(measure(seen), reflexes_per_100, ended)}


def test_a_flat_run_passes() -> None:
    """Memory that wavers but does not grow, handles that stay, episodes without trouble: everything passes."""
    checks = checks_of(watched(30))
    assert {name: item.passed for name, item in checks.items()} == dict.fromkeys(checks, True)
    figures = measure(watched(30))
    assert (figures.episodes, figures.successes, figures.robot_min, figures.watched_min) == (30, 30, 30.0, 30.0)
    assert set(figures.processes) == set(PROCESSES)


@pytest.mark.parametrize("name", PROCESSES)
def test_slow_growth_of_any_process_is_found(name: str) -> None:
    """Twice the bound in one process fails, half of the bound passes; the sentence names process and slope."""

    def grown(share: float) -> Change:
        slope = share * GROWTH_MAX_KIB_H / 3600.0
        return lambda who, elapsed_s, process: (
            msgspec.structs.replace(process, rss_kib=process.rss_kib + int(slope * elapsed_s))
            if who == name
            else process
        )

    found = checks_of(watched(30, grown(2.0)))["memory"]
    assert found.passed is False
    assert f"{name} +4" in found.said
    assert checks_of(watched(30, grown(0.5)))["memory"].passed


def test_a_start_that_grows_is_no_leak() -> None:
    """What is filled in the first half, such as caches, is not held against the run."""
    checks = checks_of(
        watched(
            30, lambda _, s, process: msgspec.structs.replace(process, rss_kib=process.rss_kib + int(min(s, 600.0)))
        )
    )
    assert checks["memory"].passed


def test_what_is_filled_and_emptied_in_turns_is_no_leak() -> None:
    """Memory that climbs by 5 MiB and starts anew every twelve minutes is flat, one that climbs on with it is not."""

    def climbing(period_s: float) -> Change:
        return lambda _, s, process: msgspec.structs.replace(
            process, rss_kib=process.rss_kib + int(5 * 1024 * (s % period_s) / 720.0)
        )

    assert checks_of(watched(35, climbing(720.0)))["memory"].passed
    assert checks_of(watched(35, climbing(7200.0)))["memory"].passed is False


def test_a_short_soak_does_not_judge_memory() -> None:
    """Below ten minutes memory is not judged, and the sentence says why; everything else is."""
    checks = checks_of(watched(5))
    assert checks["memory"].passed is None
    assert "judged from 10 min on" in checks["memory"].said
    assert all(item.passed for name, item in checks.items() if name != "memory")


@pytest.mark.parametrize("what", ["handles", "threads"])
def test_one_more_handle_or_thread_is_found(what: str) -> None:
    """A single one more in the second half fails."""
    late = watched(
        10, lambda name, s, item: msgspec.structs.replace(item, **{what: 9 + (name == "policy" and s > 400.0)})
    )
    found = checks_of(late)["handles"]
    assert found.passed is False
    assert found.said == f"policy {what} 9 to 10"


def test_a_file_that_is_just_being_written_is_no_leak() -> None:
    """One more handle in a single sample passes."""
    late = watched(10, lambda _, s, item: msgspec.structs.replace(item, handles=9 + (s == 400.0)))
    assert checks_of(late)["handles"].passed


def test_more_shared_memory_is_found() -> None:
    """A second file in shared memory in the second half fails."""
    run = watched(10)
    more = [msgspec.structs.replace(item, shared_files=1 + (item.elapsed_s > 400.0)) for item in run.samples]
    assert checks_of(replace(run, samples=more))["handles"].said == "shared files 1 to 2"


def test_a_restarted_process_is_found() -> None:
    """Another process id under the same name is a restart."""
    run = watched(10, lambda name, s, item: msgspec.structs.replace(item, pid=10 + (name == "policy" and s > 60.0)))
    assert checks_of(run)["restarts"].said == "policy 1"
    assert checks_of(run)["restarts"].passed is False


def test_reflexes_are_allowed_by_rate_and_placed() -> None:
    """One reflex in 30 episodes is more than 1 per 100, not more than 4; it is told with its episode and counted once."""
    run = watched(30)
    tick = 60_000 * 3 + 500
    happened: list[Event] = [
        Reflex(tick=tick, errors=["joint_reflex"]),
        Fault(tick=tick, code=BY_NAME["arm_error"].code, text=ARM_ERROR),
        Recovery(tick=tick, automatic=True),
    ]
    run = replace(run, events=[*run.events[:7], *happened, *run.events[7:]])
    [reflex] = measure(run).reflexes
    assert (reflex.episode, reflex.seed, reflex.errors) == (3, 10, ["joint_reflex"])
    assert checks_of(run, 1.0)["reflexes"].passed is False
    assert checks_of(run, 4.0)["reflexes"].passed
    assert checks_of(run, 4.0)["faults"].passed


def test_other_faults_and_an_early_end_are_found() -> None:
    """A fault that no reflex explains fails with its sentence, a hold is counted, an early end is quoted."""
    run = watched(10)
    text = describe(BY_NAME["hold_timeout"].code)
    happened: list[Event] = [
        Fault(tick=1, code=1, text=text),
        Fault(tick=2, code=1, text=ARM_ERROR),
        Hold(tick=1, code=9, text="gap"),
    ]
    checks = checks_of(replace(run, events=[*run.events, *happened]), 100.0, "it ended")
    assert checks["faults"].passed is False
    assert text in checks["faults"].said
    assert ARM_ERROR in checks["faults"].said
    assert checks["ended"] == Check(name="ended", passed=False, said="it ended")
    assert measure(replace(run, events=[*run.events, *happened])).holds == {"gap": 1}


def test_picture(tmp_path: Path) -> None:
    """The picture of a long and of a just begun soak is a PNG with something in it."""
    for number, run in enumerate((watched(30), Watched([sample(0.0, lambda _, __, item: item)], [], [], []))):
        figures = measure(run)
        draw(run, figures, check(figures, 0.0, ""), "made from formulas", tmp_path / f"{number}.png")
        with Image.open(tmp_path / f"{number}.png") as picture:
            assert picture.width > 1000
            assert len(picture.convert("P").getcolors() or []) > 10


def test_look_reads_what_a_process_holds(tmp_path: Path) -> None:
    """Memory and handles of a child are those the kernel states, and one that has ended is left out."""
    program = "import sys; kept = [open('/dev/null') for _ in range(5)]; x = b'x' * 2**24; print(1, flush=True); sys.stdin.read()"
    child = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    seen = look(child.pid, "no-such-run", 1.0)
    assert (seen.shared_files, seen.shared_kib) == (0, 0)
    process = seen.processes[SUPERVISOR]
    assert process.handles == len(os.listdir(f"/proc/{child.pid}/fd")) == 8
    assert process.threads == 1
    assert process.rss_kib > process.anonymous_kib > 2**14
    child.communicate()
    assert look(child.pid, "no-such-run", 2.0).processes == {}


def soak(folder: Path, *words: str) -> subprocess.Popen[str]:
    """Start a soak with its run in `folder`."""
    command = [sys.executable, "-m", "poco.runtime.soak", "--out", str(folder), "--host", "127.0.12.12", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_interrupt_brakes_and_reports_what_was_seen(tmp_path: Path) -> None:
    """Ctrl-C during a soak: the arm brakes, the run ends, files in its folder alone hold what was seen, exit code 130."""
    folder = tmp_path / "soak"
    process = soak(folder, "--minutes", "60")
    while len(read_samples(folder / SAMPLES)) < 2:
        assert process.poll() is None, process.communicate()
    pids = {name: item.pid for name, item in read_samples(folder / SAMPLES)[-1].processes.items()}
    process.send_signal(signal.SIGINT)
    out, error = process.communicate()
    assert (process.returncode, error) == (130, "")
    assert "the arm brakes first" in out
    assert set(pids) == {*PROCESSES, "link"}
    assert all(gone(pid) for pid in pids.values())
    report = msgspec.json.decode((folder / REPORT).read_bytes(), type=SoakReport)
    by_name = {item.name: item for item in report.checks}
    assert by_name["ended"].passed
    assert by_name["memory"].passed is None
    assert (report.figures.reflexes, report.figures.faults, report.figures.samples >= 2) == ([], [], True)
    assert (folder / PICTURE).is_file()
    ticks = RunFolder.open(folder).ticks()
    assert ticks["command"]["finished"][-1] == 1
    assert list((folder / JOURNAL).glob("*.seg"))
    assert [path.name for path in tmp_path.iterdir()] == [folder.name], "a journal that other runs share"


def test_a_run_that_cannot_start_is_told_in_its_own_words(tmp_path: Path) -> None:
    """What the run said last is the soak's sentence."""
    process = soak(tmp_path / "soak", "--policy", "absent")
    _, error = process.communicate()
    assert process.returncode == 1
    assert error.startswith("error: nothing was seen of the run: the run ended by itself with exit code 4")
    assert "absent" in error


@pytest.mark.parametrize(
    ("words", "sentence"),
    [(("--minutes", "0"), "--minutes is 0"), (("--reflexes-per-100", "-1"), "--reflexes-per-100 is -1")],
)
def test_wrong_words(tmp_path: Path, words: tuple[str, str], sentence: str) -> None:
    """Impossible values are refused before anything starts."""
    process = soak(tmp_path / "soak", *words)
    _, error = process.communicate()
    assert process.returncode == 2
    assert sentence in error
    assert not (tmp_path / "soak").exists()
