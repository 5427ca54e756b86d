"""What `poco-runtime doctor` found out about one thing, and the checks of the computer itself."""

from __future__ import annotations

import os
import platform
import re
import resource
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from poco.arm_settings import RealtimeSettings
from poco.runtime.benchmarks.native_loop import NativeLoop
from poco.runtime.memory_group import memory_limit

GOOD_LATE_US = 200.0
BAD_LATE_US = 500.0
"""The vendor asks for a command within 500 us of the state; a loop that wakes that late has nothing left of it."""

PYLIBFRANKA = "0.21"
ROOT = Path("/")
CAPABILITIES = {"IPC_LOCK": 14, "SYS_NICE": 23, "SYS_RESOURCE": 24}
"""Numbers of the rights of root that a container may keep back, as linux/capability.h has them."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the doctor: `fail` keeps poco from working, `warn` from being punctual; `remedy` is empty where ok."""

    what: str
    grade: Literal["ok", "warn", "fail"]
    seen: str
    remedy: str = ""


def judged(what: str, good: bool, seen: str, remedy: str, otherwise: Literal["warn", "fail"] = "warn") -> Finding:
    """Return `what` as ok, or as `otherwise` with the remedy."""
    return Finding(what=what, grade="ok" if good else otherwise, seen=seen, remedy="" if good else remedy)


def kernel(root: Path = ROOT) -> Finding:
    """Look for a fully preemptible kernel."""
    flag = root / "sys/kernel/realtime"
    preemptible = (flag.is_file() and flag.read_text().strip() == "1") or "PREEMPT_RT" in platform.version()
    seen = f"{platform.release()}, {'' if preemptible else 'not '}PREEMPT_RT"
    return judged(
        "kernel", preemptible, seen, "install a PREEMPT_RT kernel (Debian: apt-get install linux-image-rt-amd64)"
    )


def governor(root: Path = ROOT) -> Finding:
    """Look whether every CPU stays at its full clock."""
    files = sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_governor"))
    names = sorted({file.read_text().strip() for file in files})
    seen = ", ".join(names) if names else "no frequency scaling offered"
    return judged("CPU governor", names in ([], ["performance"]), seen, "cpupower frequency-set --governor performance")


def isolation(realtime: RealtimeSettings, root: Path = ROOT) -> Finding:
    """Look whether the servo has a CPU of its own."""
    file = root / "sys/devices/system/cpu/isolated"
    isolated = cpu_list(file.read_text()) if file.is_file() else set()
    cpu = realtime.cpu
    seen = f"servo on {'any CPU' if cpu is None else f'CPU {cpu}'}, isolated: {sorted(isolated) or 'none'}"
    remedy = "start the kernel with isolcpus=N nohz_full=N and set robot.realtime.cpu to N"
    return judged("CPU isolation", cpu is not None and cpu in isolated, seen, remedy)


def cpu_list(text: str) -> set[int]:
    """Return the CPUs of a kernel list such as 0-3,5."""
    cpus: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        cpus.update(range(int(first), int(last or first) + 1))
    return cpus


def setup(loop: NativeLoop, required: bool, root: Path = ROOT) -> list[Finding]:
    """Say what of the real-time set-up the native loop was granted; `required` makes a missing right a failure."""
    otherwise: Literal["warn", "fail"] = "fail" if required else "warn"
    return [
        judged(what, ok, ("granted" if ok else "refused") + _limit(what), _for_root(what, root) or reason, otherwise)
        for what, ok, reason in loop.setup
    ]


def _for_root(what: str, root: Path) -> str:
    """Return what helps where even root is refused `what` of the set-up; empty for others, whom the set-up's own remedy helps."""
    if not _is_root(root):
        return ""
    if "memory" in what and not _capable("IPC_LOCK", root):
        return _cap_add("IPC_LOCK")
    if "wake-up" in what:
        return "start the container with --device /dev/cpu_dma_latency, or the kernel of its host with idle=poll"
    if "FIFO" in what and not _capable("SYS_NICE", root):
        return _cap_add("SYS_NICE")
    if "FIFO" in what:
        return "choose 1 to 99; the control group has no real-time budget: sysctl kernel.sched_rt_runtime_us=-1 on the host"
    return ""


def _cap_add(name: str) -> str:
    return f"root lacks CAP_{name} here: start the container with --cap-add {name} (a service: leave it in CapabilityBoundingSet=)"


def _is_root(root: Path) -> bool:
    return bool(re.search(r"^Uid:\s+\d+\s+0\s", (root / "proc/self/status").read_text(), re.MULTILINE))


def _capable(name: str, root: Path) -> bool:
    status = (root / "proc/self/status").read_text()
    effective = re.findall(r"^CapEff:\s+(\w+)", status, re.MULTILINE)[0]
    return bool(int(effective, 16) >> CAPABILITIES[name] & 1)


def memory_shortage(root: Path = ROOT) -> Finding:
    """Look whether the servo may ask to be spared when memory runs out."""
    capable = _capable("SYS_RESOURCE", root)
    spared = (root / "proc/self/oom_score_adj").read_text().strip() == "-1000"
    seen = "the servo is spared" if capable or spared else "the kernel may end the servo"
    remedy = "grant CAP_SYS_RESOURCE (systemd: OOMScoreAdjust=-1000) or run as root"
    if _is_root(root):
        remedy = f"{_cap_add('SYS_RESOURCE')}, or with --oom-score-adj -1000"
    return judged("memory runs out", capable or spared, seen, remedy)


def memory_group(root: Path = ROOT) -> Finding:
    """Look whether the servo shares a limit on memory with other processes."""
    limit = memory_limit(root)
    seen = "none" if limit is None else f"{limit[1] >> 20} MB in {limit[0]}"
    remedy = (
        "start poco outside of that control group (systemd: no MemoryMax= or MemoryHigh= above it) and limit others"
    )
    return judged("limit on memory", limit is None, seen, remedy)


def _limit(what: str) -> str:
    """Return the resource limit that rules `what` for those without privileges."""
    for word, name, limit in (
        ("memory", "memlock", resource.RLIMIT_MEMLOCK),
        ("FIFO", "rtprio", resource.RLIMIT_RTPRIO),
    ):
        if word in what:
            soft = resource.getrlimit(limit)[0]
            return f" ({name} limit {'unlimited' if soft == resource.RLIM_INFINITY else soft})"
    return ""


def jitter(loop: NativeLoop) -> Finding:
    """Judge how late the native loop woke."""
    p99, p999, largest = np.percentile(loop.late_us, (99, 99.9, 100))
    seen = f"p99 {p99:.0f} us, p99.9 {p999:.0f} us, max {largest:.0f} us late over {len(loop.late_us)} ticks of 1 ms"
    otherwise: Literal["warn", "fail"] = "fail" if p99 > BAD_LATE_US else "warn"
    return judged("jitter", bool(p99 <= GOOD_LATE_US), seen, "stop other load, then see the lines above", otherwise)


def client_library() -> Finding:
    """Look for the vendor's client library in the version this poco is made for."""
    try:
        found = version("pylibfranka")
    except PackageNotFoundError:
        found = "not installed"
    good = found.startswith(PYLIBFRANKA + ".")
    return judged("pylibfranka", good, found, "pip install 'poco-robot[franka]'", "fail")


def shared_memory() -> Finding:
    """Look whether /dev/shm has room for the shared memory of a run."""
    facts = os.statvfs("/dev/shm")
    free_mb = facts.f_bavail * facts.f_frsize / 1e6
    return judged(
        "shared memory", free_mb > 64.0, f"{free_mb:.0f} MB free in /dev/shm", "free 64 MB of /dev/shm", "fail"
    )
