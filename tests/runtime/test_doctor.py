"""The doctor reads the kernel's files correctly, grades what it finds and gives a remedy for everything that is not ok."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import msgspec
import numpy as np
import pytest
from rich.console import Console

from poco.arm_settings import RealtimeSettings
from poco.errors import UsageError
from poco.runtime import network_path
from poco.runtime.benchmarks.native_loop import NativeLoop
from poco.runtime.cli import run
from poco.runtime.findings import (
    Finding,
    client_library,
    cpu_list,
    governor,
    isolation,
    jitter,
    kernel,
    memory_group,
    memory_shortage,
    setup,
)

PINNED = RealtimeSettings(priority=80, cpu=3, required=False)
ROUTES = "Iface\tDestination\tGateway\neth0\t00000000\t0101A8C0\neth1\t000010AC\t00000000\n"
INTERRUPTS = (
    "      CPU0 CPU1\n 24:  9  0  PCI-MSI eth1-rx-0\n 25:  9  0  PCI-MSI eth1-tx-0\n 26:  1  1  PCI-MSI eth10\n"
)


def put(root: Path, path: str, text: str) -> None:
    """Write one file of a kernel's file tree under `root`."""
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def loop_with(late_us: list[float], *setup_rows: tuple[str, bool, str]) -> NativeLoop:
    """A measurement with the given lateness of its ticks."""
    return NativeLoop(np.array(late_us), np.ones(len(late_us)), list(setup_rows))


def complaints(*found: Finding) -> list[str]:
    """Grades of the findings; a remedy must stand exactly where something is not ok."""
    assert all(bool(finding.remedy) == (finding.grade != "ok") for finding in found)
    return [finding.grade for finding in found]


@pytest.mark.parametrize(
    ("text", "cpus"), [("", set()), ("\n", set()), ("3\n", {3}), ("0-2,5\n", {0, 1, 2, 5}), ("1,4-5", {1, 4, 5})]
)
def test_cpu_lists(text: str, cpus: set[int]) -> None:
    """The kernel's notation for sets of CPUs, empty and mixed."""
    assert cpu_list(text) == cpus


def test_kernel_governor_and_isolation(tmp_path: Path) -> None:
    """A prepared computer is ok in each; one powersave core, or a servo beside the isolated CPU, is not."""
    put(tmp_path, "sys/kernel/realtime", "1\n")
    put(tmp_path, "sys/devices/system/cpu/isolated", "2-3\n")
    put(tmp_path, "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance\n")
    assert complaints(kernel(tmp_path), governor(tmp_path), isolation(PINNED, tmp_path)) == ["ok"] * 3
    put(tmp_path, "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "powersave\n")
    beside = msgspec.structs.replace(PINNED, cpu=1)
    unpinned = msgspec.structs.replace(PINNED, cpu=None)
    assert complaints(governor(tmp_path), isolation(beside, tmp_path), isolation(unpinned, tmp_path)) == ["warn"] * 3


@pytest.mark.parametrize(
    ("groups", "files", "seen"),
    [
        ("0::/robot.slice/poco.service\n", {"robot.slice/poco.service/memory.max": "max"}, "none"),
        ("0::/robot.slice/poco.service\n", {"robot.slice/memory.max": "2147483648"}, "2048 MB in "),
        ("0::/a\n", {"a/memory.max": "2147483648", "a/memory.high": "1073741824"}, "1024 MB in "),
        ("0::/\n", {"memory.max": "536870912"}, "512 MB in "),
        ("4:memory:/a\n0::/\n", {"memory/memory.limit_in_bytes": "9223372036854771712"}, "none"),
        ("9:cpu,memory:/a/b\n", {"memory/a/memory.limit_in_bytes": "1048576"}, "1 MB in "),
        ("4:cpu:/a\n", {"memory/a/memory.limit_in_bytes": "1048576"}, "none"),
    ],
)
def test_a_shared_limit_on_memory(tmp_path: Path, groups: str, files: dict[str, str], seen: str) -> None:
    """The tightest limit of any group above is found, in both versions of control groups; "max" and huge numbers are none."""
    put(tmp_path, "proc/self/cgroup", groups)
    for path, text in files.items():
        put(tmp_path, f"sys/fs/cgroup/{path}", text + "\n")
    finding = memory_group(tmp_path)
    assert complaints(finding) == ["ok" if seen == "none" else "warn"]
    assert finding.seen.startswith(seen)


def test_jitter_is_graded_by_what_is_left_of_the_tick() -> None:
    """One late tick in a thousand is noise; one in ten beyond the vendor's 500 us fails."""
    assert complaints(jitter(loop_with([30.0] * 999 + [9000.0]))) == ["ok"]
    assert complaints(jitter(loop_with([30.0] * 90 + [300.0] * 10))) == ["warn"]
    assert complaints(jitter(loop_with([30.0] * 90 + [600.0] * 10))) == ["fail"]


def test_missing_rights_fail_only_where_they_are_required() -> None:
    """The reason of the set-up is the remedy; limits are named beside the rights they rule."""
    loop = loop_with(
        [1.0], ("SCHED_FIFO priority 80", False, "Operation not permitted; raise it"), ("memory locked", True, "")
    )
    assert complaints(*setup(loop, required=False)) == ["warn", "ok"]
    fifo, memory = setup(loop, required=True)
    assert fifo.grade == "fail"
    assert "rtprio limit" in fifo.seen
    assert "memlock limit" in memory.seen


@pytest.mark.parametrize(
    ("user", "capabilities", "what", "words"),
    [
        (0, 0, "memory locked", "--cap-add IPC_LOCK"),
        (0, 0, "CPU wake-up latency of 0 us", "--device /dev/cpu_dma_latency"),
        (0, 0, "SCHED_FIFO priority 80", "--cap-add SYS_NICE"),
        (0, 1 << 23, "SCHED_FIFO priority 80", "kernel.sched_rt_runtime_us=-1"),
        (0, 1 << 14, "memory locked", "raise it"),
        (1000, 0, "SCHED_FIFO priority 80", "raise it"),
    ],
)
def test_root_is_told_what_gives_it_the_right(
    tmp_path: Path, user: int, capabilities: int, what: str, words: str
) -> None:
    """Where a container keeps rights back, to be root or to raise its own limits is no help."""
    put(tmp_path, "proc/self/status", f"Uid:\t1000\t{user}\t0\t0\nCapEff:\t{capabilities:016x}\n")
    (finding,) = setup(loop_with([1.0], (what, False, "Operation not permitted; raise it")), False, tmp_path)
    assert finding.grade == "warn"
    assert words in finding.remedy


@pytest.mark.parametrize(
    ("user", "capabilities", "score", "grade", "words"),
    [
        (0, 0, 0, "warn", "--cap-add SYS_RESOURCE"),
        (1000, 0, 0, "warn", "or run as root"),
        (0, 1 << 24, 0, "ok", ""),
        (1000, 0, -1000, "ok", ""),
    ],
)
def test_the_servo_is_spared_when_memory_runs_out(
    tmp_path: Path, user: int, capabilities: int, score: int, grade: str, words: str
) -> None:
    """By the right to ask for it or because it was started so; root without the right is not told to become root."""
    put(tmp_path, "proc/self/status", f"Uid:\t0\t{user}\t0\t0\nCapEff:\t{capabilities:016x}\n")
    put(tmp_path, "proc/self/oom_score_adj", f"{score}\n")
    finding = memory_shortage(tmp_path)
    assert complaints(finding) == [grade]
    assert words in finding.remedy
    assert ("run as root" in finding.remedy) == (words == "or run as root")


def test_client_library_is_the_pinned_one() -> None:
    """What the project installs is what the doctor asks for."""
    assert complaints(client_library()) == ["ok"]


def test_link_sharing_and_interrupts(tmp_path: Path) -> None:
    """A slow or wireless link, the default route and interrupts on the servo's CPU are each noticed; eth10 is not eth1."""
    put(tmp_path, "proc/net/route", ROUTES)
    put(tmp_path, "proc/interrupts", INTERRUPTS)
    put(tmp_path, "proc/irq/24/smp_affinity_list", "0-1\n")
    put(tmp_path, "proc/irq/25/smp_affinity_list", "1\n")
    put(tmp_path, "proc/irq/26/smp_affinity_list", "3\n")
    for name, speed in (("eth0", "100"), ("eth1", "1000"), ("wlan0", "2000"), ("tap0", "-1")):
        put(tmp_path, f"sys/class/net/{name}/operstate", "up\n")
        put(tmp_path, f"sys/class/net/{name}/speed", speed)
    put(tmp_path, "sys/class/net/wlan0/wireless/status", "0")
    links = [network_path.link("arm", name, tmp_path) for name in ("eth1", "tap0", "eth0", "wlan0")]
    assert complaints(*links) == ["ok", "ok", "warn", "warn"]
    assert complaints(network_path.sharing("eth1", tmp_path), network_path.sharing("eth0", tmp_path)) == ["ok", "warn"]
    placed = [network_path.interrupts("eth1", cpu, tmp_path) for cpu in (None, 3, 1)]
    assert complaints(*placed) == ["ok", "ok", "warn"]
    assert placed[0].seen == "2 of eth1, on CPUs [0, 1]"


def test_loopback_reaches_an_emulated_arm() -> None:
    """An address of this computer needs no network card; a silent arm fails with what to do."""
    assert network_path.interface_towards("127.0.3.12") == network_path.LOOPBACK
    found = network_path.network("127.0.3.12", servo_cpu=None, answer_needed=True)
    assert complaints(*found) == ["ok", "fail"]
    assert "poco-emulator" in found[1].remedy
    assert complaints(*network_path.network("127.0.3.12", servo_cpu=None, answer_needed=False)) == ["ok"]


def test_round_trip_connects_and_sends_nothing() -> None:
    """An arm that listens sees the connections and not one byte."""
    received: list[bytes] = []

    def accept() -> None:
        for _ in range(network_path.CONNECTIONS):
            connection, _ = listener.accept()
            with connection:
                received.append(connection.recv(16))

    with socket.create_server(("127.0.3.13", network_path.ARM_PORT)) as listener:
        arm = threading.Thread(target=accept)
        arm.start()
        finding = network_path.round_trip("127.0.3.13")
        arm.join()
    assert received == [b""] * network_path.CONNECTIONS
    assert "median of 5" in finding.seen


def test_doctor_prints_json_and_says_by_its_exit_code_whether_anything_failed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The simulated arm needs no answer; an arm that is not there fails."""
    for kind, failing in (("sim", False), ("franka", True)):
        words = ["doctor", "--json", "--jitter-s", "0.1", "--robot", kind, "--robot.host", "127.0.3.14"]
        code = run(words, Console())
        found = msgspec.json.decode(capsys.readouterr().out, type=list[Finding])
        assert code == int(any(finding.grade == "fail" for finding in found))
        assert ("round trip" in [finding.what for finding in found if finding.grade == "fail"]) == failing


def test_doctor_prints_a_line_for_each_finding_and_each_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    """Lines are not wrapped, so that they can be searched."""
    run(["doctor", "--jitter-s", "0.1"], Console(width=40))
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith(("ok   ", "warn ", "fail ", "     remedy: ")) for line in lines)
    assert sum(line.startswith("     remedy: ") for line in lines) == sum(
        line.startswith(("warn", "fail")) for line in lines
    )


@pytest.mark.parametrize(
    ("words", "sentence"), [(["--jitter-s", "0"], "--jitter-s is 0 s"), (["--robot.hst", "x"], "hst")]
)
def test_mistakes_are_refused(words: list[str], sentence: str) -> None:
    """One sentence, exit code 2."""
    with pytest.raises(UsageError, match=sentence):
        run(["doctor", *words], Console())
