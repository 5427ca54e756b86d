"""The benchmarks count, compare and judge correctly, and each of them runs; how fast anything is is no business of a test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from poco._core import Memory, time_loop
from poco.artifact import Artifact
from poco.errors import PocoError, UsageError
from poco.limits import fr3_limits
from poco.runtime.bench import main, run
from poco.runtime.benchmarks import durable, link
from poco.runtime.benchmarks.inference import raw_inference
from poco.runtime.benchmarks.loop import histogram
from poco.runtime.benchmarks.native_loop import READY_RAD, STRIDE_RAD, WIDE_GUARDS, back_and_forth, measure, resting_arm
from poco.runtime.benchmarks.observe_to_chunk import STAGES, Policy
from poco.runtime.benchmarks.outcome import (
    Measurement,
    Outcome,
    OutcomeReport,
    check_budgets,
    parse_budgets,
    report_of,
)
from poco.runtime.session import Session
from poco.runtime.weights_choice import interleaved
from poco.trouble import Mode
from programs import ARTIFACT, ROOT, Program, wait_gone

HISTOGRAM = """# Histogram
000000 000000
000007 000003
000009 000001
# Total: 000000004
# Max Latencies: 00321
# Histogram Overflows: 00002
"""


def outcome() -> Outcome:
    """Two subjects over three repeats: ours always twice its competitor, which once was disturbed."""
    bare = [np.arange(101.0), 10.0 * np.arange(101.0), np.arange(101.0)]
    return Outcome(
        "sample",
        "A sample",
        [Measurement("ours", [2.0 * s for s in bare]), Measurement("bare", bare)],
        [("ours", "bare")],
    )


def test_figures_are_medians_over_repeats_and_ratios_of_neighbours() -> None:
    """A disturbance that hits both subjects of one repeat changes neither medians nor ratios."""
    figures = outcome().figures()
    assert figures["bare.p90"] == 90.0
    assert figures["ours.p99"] == 198.0
    assert figures["bare.max"] == 100.0
    assert {figures[f"ours/bare.{name}"] for name in ("p50", "p90", "p99", "p99.9", "max")} == {2.0}


def test_report_names_samples_command_and_computer() -> None:
    """The JSON holds every repeat's percentiles and survives a round trip."""
    report = report_of(outcome(), ["poco-bench", "sample"])
    again = msgspec.json.decode(msgspec.json.encode(report), type=OutcomeReport)
    assert again == report
    assert again.subjects["ours"].samples == [101, 101, 101]
    assert again.subjects["ours"].percentiles_us["p50"] == [100.0, 1000.0, 100.0]
    assert again.computer.cores >= 1


def test_budgets_are_read_and_judged() -> None:
    """A figure on its budget passes, one above is named with both numbers and exit code 1."""
    figures = outcome().figures()
    check_budgets(figures, parse_budgets(["ours/bare.p99=2", "ours.p99=198"]))
    with pytest.raises(PocoError, match=r"ours\.p99 is 198, its budget 100") as caught:
        check_budgets(figures, parse_budgets(["ours.p99=100", "bare.p50=50"]))
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("word", ["ours.p99", "ours.p99=fast", "ours.p99=-1", "ours.p99=nan", "=3="])
def test_a_malformed_budget_is_refused(word: str) -> None:
    """Anything but NAME=NUMBER gets a sentence with an example."""
    with pytest.raises(UsageError, match="must be NAME=VALUE"):
        parse_budgets([word])


def test_a_budget_without_a_figure_is_refused_with_the_nearest() -> None:
    """A misspelt figure is not taken as kept."""
    with pytest.raises(UsageError, match=r"did you mean ours\.p99"):
        check_budgets(outcome().figures(), {"our.p99": 1.0})


def test_cyclictest_histogram_becomes_samples() -> None:
    """Every counted sample comes back, those beyond the histogram as its maximum; other text is refused."""
    assert sorted(histogram(HISTOGRAM).tolist()) == [7.0, 7.0, 7.0, 9.0, 321.0, 321.0]
    with pytest.raises(PocoError, match=r"rt-tests 2\.0"):
        histogram("nothing")


def test_loop_without_cyclictest_names_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without its competitor there is no benchmark, and the sentence says what to install."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PocoError, match="apt-get install rt-tests"):
        run(["loop", "--out", str(tmp_path)], Console())


def test_native_loop_follows_its_chunk() -> None:
    """Every tick is stepped and stamped, and the arm is where the chunk says at the end of a segment."""
    late_ns, step_ns = np.full((2, 203), -1, np.int64)
    memory = Memory()
    limits = fr3_limits(guards=WIDE_GUARDS)
    time_loop(resting_arm(), back_and_forth(203), limits, memory, late_ns, step_ns, 203)
    assert (memory.mode, memory.fault, memory.tick) == (Mode.FOLLOWING, 0, 202)
    np.testing.assert_allclose(memory.q, READY_RAD + STRIDE_RAD, atol=1e-9)
    assert np.all(late_ns >= 0)
    assert np.all(step_ns > 0)


def test_native_loop_runs_in_a_process_of_its_own() -> None:
    """All ticks come back with the outcome of the real-time set-up, whatever this user may."""
    loop = measure(50, priority=1, cpu=None)
    assert loop.late_us.shape == loop.step_us.shape == (50,)
    assert len(loop.setup) == 4
    assert len(loop.missing) == sum(not ok for _, ok, _ in loop.setup)


def test_pairs_alternate_who_comes_first() -> None:
    """Neither side always runs on the other's warm cache."""
    calls: list[str] = []
    ours_us, theirs_us = interleaved(
        [lambda: calls.append("ours"), lambda: calls.append("theirs")], 3, time.process_time_ns
    )
    assert calls == ["ours", "theirs", "theirs", "ours", "ours", "theirs"]
    assert ours_us.shape == theirs_us.shape == (3,)


def test_raw_inference_computes_the_same_chunk(artifact: Artifact) -> None:
    """The competitor does the same work: same graph, same tensors, same chunk."""
    observation, noise = (artifact.golden[name][0].astype(np.float32) for name in ("observation", "noise"))
    ours = Session(artifact).run(observation, noise)
    chunk = raw_inference(artifact, observation, noise)()
    np.testing.assert_array_equal(chunk.reshape(noise.shape), ours)
    compiled = raw_inference(artifact, observation, noise, compiled_in=True)()
    np.testing.assert_allclose(compiled.reshape(noise.shape), ours, atol=1e-6, rtol=0.0)


def test_inference_with_torch_leaves_json_and_picture(artifact: Artifact, tmp_path: Path) -> None:
    """All three subjects are counted, both comparisons made, and the files are there."""
    words = [
        "inference",
        "--policy",
        str(artifact.path),
        "--repeats",
        "2",
        "--pairs",
        "5",
        "--out",
        str(tmp_path / "out"),
    ]
    run([*words, "--torch", str(Path(__file__).parents[2] / "bench" / "torch_eager.py")], Console())
    report = msgspec.json.decode((tmp_path / "out" / "inference.json").read_bytes(), type=OutcomeReport)
    assert {name: subject.samples for name, subject in report.subjects.items()} == {
        "session": [5, 5],
        "raw_onnxruntime": [5, 5],
        "weights_compiled_in": [5, 5],
        "torch_eager": [5, 5],
    }
    assert report.figures["session/torch_eager.p50"] > 0.0
    assert report.command[:2] == ["poco-bench", "inference"]
    with Image.open(tmp_path / "out" / "inference.png") as picture:
        assert picture.width > 800


def test_franka_measures_both_loops_on_an_emulated_arm(tmp_path: Path) -> None:
    """Servo and bare loop hold the same arm in turn, tick for tick, and a budget of nothing is exceeded."""
    words = ["franka", "--host", "127.0.3.11", "--repeats", "1", "--block-s", "0.3", "--out", str(tmp_path)]
    with pytest.raises(PocoError, match=r"servo\.p50 is .*, its budget 0"):
        run([*words, "--budget", "servo.p50=0"], Console())
    report = msgspec.json.decode((tmp_path / "franka.json").read_bytes(), type=OutcomeReport)
    assert {name: subject.samples for name, subject in report.subjects.items()} == {"servo": [300], "bare": [300]}
    assert not list(Path("/dev/shm").glob("poco-bench-*"))


def test_sigterm_ends_a_benchmark_as_ctrl_c_does(tmp_path: Path) -> None:
    """It leaves with the same code, without a traceback, and arm and loop that it has started end with it."""
    words = ["franka", "--host", "127.0.3.19", "--block-s", "3600", "--out", str(tmp_path / "out")]
    program = Program("poco-bench", *words, folder=tmp_path)
    try:
        program.until(lambda: {"emulator", "franka_block"} <= set(program.children()))
        children = list(program.children().values())
        program.process.send_signal(signal.SIGTERM)
        assert (program.wait(), program.out, program.err) == (130, "", "")
        wait_gone(children)
    finally:
        program.end()


def test_hogs_end_with_who_measures() -> None:
    """A benchmark that is killed leaves no process behind that keeps a core busy."""
    script = "from poco.runtime.benchmarks.hogs import hogs\nwith hogs(2) as ids: print(*ids, flush=True), input()"
    words = [sys.executable, "-c", script]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as bench:
        assert bench.stdout is not None
        running = [int(word) for word in bench.stdout.readline().split()]
        bench.kill()
    assert len(running) == 2
    wait_gone(running)


def test_observe_to_chunk_publishes_what_it_was_given() -> None:
    """Images, observation and chunk go the whole way: what the servo would read is the plan of these actions."""
    policy = Policy(rate_hz=50.0)
    try:
        stages_us = policy.measure(3)
        chunk = policy.memory.read_chunk()
    finally:
        policy.close()
    assert chunk is not None
    assert stages_us.shape == (3, len(STAGES))
    assert int(chunk["chunk_id"]) == 3
    assert int(chunk["predecessor_id"]) == 2
    assert int(chunk["segments"]) >= 50
    np.testing.assert_array_equal(chunk["gripper"][:50], 0.04)
    assert policy.stretched == 0
    assert np.all(np.isfinite(policy.images))
    assert policy.images.std() > 0.5


def test_observe_to_chunk_compares_with_round_trips(tmp_path: Path) -> None:
    """All subjects are counted, the stages add up, and no shared memory is left."""
    run(["observe-to-chunk", "--repeats", "2", "--chunks", "5", "--out", str(tmp_path)], Console())
    report = msgspec.json.decode((tmp_path / "observe-to-chunk.json").read_bytes(), type=OutcomeReport)
    assert set(report.subjects) == {"observe_to_chunk", "shared_memory", "zeromq", *STAGES}
    assert all(subject.samples == [5, 5] for subject in report.subjects.values())
    assert report.figures["observe_to_chunk/zeromq.p50"] > 0.0
    assert not list(Path("/dev/shm").glob(f"poco-bench-{os.getpid()}*"))


@pytest.mark.parametrize("command", ["loop", "inference", "observe-to-chunk", "journal", "link", "franka"])
def test_help_shows_every_command_with_an_example(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """The program's help calls each command once at least, the command's help explains --budget."""
    for words in ([], [command]):
        monkeypatch.setattr("sys.argv", ["poco-bench", *words, "--help"])
        with pytest.raises(SystemExit, match="0"):
            main()
    shown = capsys.readouterr().out
    assert f"  poco-bench {command} " in shown
    assert "--budget NAME=VALUE" in shown


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "required"),
        (["loop", "--repeats", "0"], "--repeats is 0"),
        (["inference"], "--policy"),
        (["inference", "--policy", "absent", "--pairs", "0"], "--pairs is 0"),
        (["loop", "--prio", "3"], "--prio"),
        (["loop", "--priority", "99"], "--priority is 99"),
        (["loop", "--cpu", "4096"], "--cpu is 4096"),
        (["loop", "--slice-s", "0"], "--slice-s is 0 s"),
        (["franka", "--block-s", "-1"], "--block-s is -1 s"),
        (["franka", "--out", "/dev/null/out"], "--out /dev/null/out"),
    ],
)
def test_mistakes_are_refused_before_anything_is_measured(words: list[str], sentence: str) -> None:
    """One sentence each, exit code 2."""
    with pytest.raises(UsageError, match=sentence):
        run(words, Console())


def test_journal_against_sqlite(tmp_path: Path) -> None:
    """Both stores get every step, in turns, and the notes say rate and bytes of both; nothing is left behind."""
    outcome = durable.run(tmp_path / "disk", repeats=2, groups=5, group_steps=3)
    assert [m.name for m in outcome.measurements] == ["journal", "sqlite"]
    assert all(samples.shape == (5,) and (samples > 0).all() for m in outcome.measurements for samples in m.repeats)
    assert [note.split(":")[0] for note in outcome.notes] == ["journal", "sqlite"]
    assert list((tmp_path / "disk").iterdir()) == []


def test_link_with_and_without_keys() -> None:
    """Real sockets carry every batch and its acknowledgement, with CURVE and without."""
    outcome = link.run(repeats=2, batches=5, batch_bytes=10_000)
    assert [m.name for m in outcome.measurements] == ["curve", "plain"]
    assert all(samples.shape == (5,) and (samples > 0).all() for m in outcome.measurements for samples in m.repeats)


def test_stages_of_a_policy_that_is_told_its_task(tmp_path: Path) -> None:
    """Every stage is timed in every call, the JSON says what computes; a policy that is told nothing is refused."""
    flags = ["--task", "pick up the object", "--repeats", "2", "--calls", "3", "--out", str(tmp_path)]
    run(["vla", "--policy", str(ROOT / "artifacts" / "tiny_smolvla"), *flags], Console())
    report = msgspec.json.decode((tmp_path / "vla.json").read_bytes(), type=OutcomeReport)
    stages = {"preprocess", "prefix", "steps", "postprocess"}
    assert set(report.subjects) == {"end_to_end", "prefix_there", "prefix_and_steps"} | stages
    assert all(subject.samples == [3, 3] for subject in report.subjects.values())
    assert sum(report.figures[f"{stage}.p50"] for stage in stages) < 1.5 * report.figures["end_to_end.max"]
    assert report.figures["peak_memory_mb"] > 10
    assert "onnxruntime-cpu" in report.notes[0]
    with pytest.raises(UsageError, match="poco-bench inference"):
        run(["vla", "--policy", str(ARTIFACT), *flags], Console())
