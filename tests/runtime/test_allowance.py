"""What a policy may take before its first chunk follows from its size, wherever it is opened: start of a run, gate, graph check."""

from __future__ import annotations

import resource
from pathlib import Path

import msgspec
import pytest

from poco.artifact import read_artifact
from poco.refusal import Reason, Refused
from poco.runtime import allowance, gate
from poco.runtime.gate import check_graph
from poco.runtime.graph_check import limits_for
from poco.runtime.policy_watch import START_LIMIT_S, start_limit_s
from poco.runtime.run_options import OPERATOR
from programs import ARTIFACT
from workshop import Workshop

FULL_BYTES, FULL_S, FULL_MEMORY_BYTES = 1_604_000_000, 225.0, 4_500_000_000
"""A SmolVLA: its artifact, how long it took to its first chunk on one thread of a busy computer, and its memory."""


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    """A robot that runs the committed policy."""
    return Workshop(read_artifact(ARTIFACT), tmp_path)


def test_the_start_of_a_run_waits_longer_for_a_large_policy(workshop: Workshop, tmp_path: Path) -> None:
    """Twice what was measured for a large one, about the usual for a small one, the sum for several, the usual for none."""
    large = tmp_path / "large"
    large.mkdir()
    with (large / "prefix.onnx").open("wb") as stream:
        stream.truncate(FULL_BYTES)  # a hole, no bytes on the disk
    options = msgspec.structs.replace(workshop.options, policy=str(large))
    assert start_limit_s(msgspec.structs.replace(options, policy=OPERATOR)) == START_LIMIT_S
    swap = msgspec.structs.replace(options.settings.swap, trust="")
    alone = msgspec.structs.replace(options, settings=msgspec.structs.replace(options.settings, swap=swap))
    assert start_limit_s(alone) > 2 * FULL_S
    both = start_limit_s(msgspec.structs.replace(alone, against=(str(large),)))
    assert both - START_LIMIT_S == pytest.approx(2 * (start_limit_s(alone) - START_LIMIT_S))
    workshop.store.adopt(workshop.artifact)
    assert START_LIMIT_S < start_limit_s(options) < 1.1 * START_LIMIT_S


def test_the_graph_check_leaves_room_for_a_large_policy() -> None:
    """Processor time and memory follow from the size; what opening does not need stays as little as it is."""
    small, large = limits_for(0), limits_for(FULL_BYTES)
    assert large[resource.RLIMIT_CPU] > 2 * FULL_S
    assert large[resource.RLIMIT_AS] - small[resource.RLIMIT_AS] > 2 * FULL_MEMORY_BYTES
    grown = {what for what in small if large[what] != small[what]}
    assert grown == {resource.RLIMIT_CPU, resource.RLIMIT_AS}


def test_the_gate_waits_by_the_size_of_what_is_offered(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where only the size gives time, so many seconds a byte let a policy pass that next to none refuse."""
    offer = workshop.first()
    monkeypatch.setattr(gate, "GRAPH_CHECK_S", 0.0)
    monkeypatch.setattr(allowance, "SECONDS_PER_GB", 1e-3)
    with pytest.raises(Refused, match="was not open after 0 s") as refused:
        check_graph(offer.manifest, offer.files)
    assert refused.value.reason == Reason.GRAPH
    monkeypatch.setattr(allowance, "SECONDS_PER_GB", 1e6)
    check_graph(offer.manifest, offer.files)
