"""step() allocates nothing: a counter in front of the C library's allocator stands still over 100,000 ticks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

COUNTER = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
static unsigned long count;
unsigned long allocations(void) { return count; }
void *malloc(size_t size) {
  static void *(*real)(size_t);
  if (!real) real = dlsym(RTLD_NEXT, "malloc");
  __atomic_add_fetch(&count, 1, __ATOMIC_RELAXED);
  return real(size);
}
void *realloc(void *old, size_t size) {
  static void *(*real)(void *, size_t);
  if (!real) real = dlsym(RTLD_NEXT, "realloc");
  __atomic_add_fetch(&count, 1, __ATOMIC_RELAXED);
  return real(old, size);
}
"""

COUNT = """
import ctypes
import numpy as np
from following_arm import random_chunk, wide_limits, READY_RAD, REST
from poco import _core
from poco.records import ARM_STATE, COMMAND
from poco.trouble import Mode, Request

allocations = ctypes.CDLL(None).allocations
allocations.restype = ctypes.c_ulong
rng = np.random.default_rng(51)
state, limits, memory = np.zeros((), ARM_STATE), wide_limits(), _core.Memory()
state["q"] = state["q_d"] = READY_RAD
TICKS = 1000
commands, nanoseconds = np.zeros(TICKS, COMMAND), np.zeros(TICKS, np.int64)
most, modes = 0, set()
for ident in range(1, 102):
    start = (np.array(memory.q if ident > 1 else READY_RAD), REST, REST)
    chunk = random_chunk(rng, start, rng.uniform(0.5, 1.2), attach=int(state["tick"]) + 2, ident=ident, pred=0)
    before = allocations()
    _core.follow(state, chunk, Request.ARMED, limits, memory, commands, nanoseconds, TICKS, ident)
    most = max(most, allocations() - before)
    modes |= set(commands["mode"].tolist())
    if memory.mode != Mode.HOLDING and not memory.fault:
        _core.follow(state, None, Request.DISARMED, limits, memory, commands, nanoseconds, TICKS, ident)
bytearray(1 << 16)
assert {Mode.HOLDING, Mode.FOLLOWING, Mode.BRAKING, Mode.FAULT} <= modes, modes
print(most, allocations() > before)
"""


def test_no_tick_allocates(tmp_path: Path) -> None:
    """In 100 runs of 1,000 ticks, taking in, following, braking and faults included, no call of the allocator is counted."""
    source, library = tmp_path / "counter.c", tmp_path / "counter.so"
    source.write_text(COUNTER)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    environment = {**os.environ, "LD_PRELOAD": str(library), "PYTHONMALLOC": "pymalloc"}
    result = subprocess.run(
        [sys.executable, "-c", COUNT],
        check=True,
        cwd=Path(__file__).parent,
        env=environment,
        capture_output=True,
        text=True,
    )
    most, counts = result.stdout.split()
    assert counts == "True", "the counter must count"
    assert int(most) == 0
