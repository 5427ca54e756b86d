"""What the journal could never take is refused before anything starts; the largest that is not refused goes through."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
import yaml
from rich.console import Console

from poco.errors import ArtifactError
from poco.journal.disk import FolderDisk
from poco.journal.records import Boot, Ended, Record, Stepped, encode
from poco.records import VECTOR_MAX, EpisodeEnd, Step, StepKey
from poco.runtime import cli, task_check
from poco.runtime.entrance import PACKET_BYTES, Greeting, Offer
from poco.runtime.journal import Journal
from poco.runtime.link_core import LinkCore
from poco.runtime.recordable import check_recordable
from poco.runtime.run_options import OPERATOR_SPECIFICATION
from poco.specification import SEEN, Field, Specification, read_specification
from poco.surroundings import RealSurroundings

ROBOT = "fr3"


def seeing(sizes: Sequence[int], letters: int = 4) -> Specification:
    """The packaged task, of which encoders see as many numbers, in fields whose names have so many letters."""
    fields = [
        Field(
            name=f"{number:0{letters}d}",
            source=SEEN + "0" * 64,
            frame=f"camera_{number}",
            unit="1",
            low=(-1.0,) * size,
            high=(1.0,) * size,
        )
        for number, size in enumerate(sizes)
    ]
    return msgspec.structs.replace(read_specification(OPERATOR_SPECIFICATION), observation=tuple(fields))


def boot_of(specification: Specification) -> Boot:
    """What a policy process says first."""
    digest = specification.digest()
    return Boot(robot=ROBOT, boot_epoch=1, generation=0, specification=specification, specification_hash=digest)


def test_the_largest_goes_through(tmp_path: Path) -> None:
    """Boot, step and end of the widest specification fit into packets, and the journal of a real disk takes them."""
    specification = seeing([VECTOR_MAX // 16] * 16, letters=3000)
    check_recordable(specification, ROBOT)
    seen, done = [0.1] * specification.observation_size, [0.1] * specification.action_size
    key = StepKey(ROBOT, 1, 0, 0)
    step = Step(
        key=key,
        tick=1,
        generation=0,
        chunk_id=1,
        observation=seen,
        action_policy=done,
        action_executed=done,
        reward=0.0,
    )
    end = EpisodeEnd(
        robot=ROBOT,
        boot_epoch=1,
        episode=0,
        tick=1,
        final_observation=seen,
        outcome="success",
        terminated=True,
        truncated=False,
    )
    records: list[Record] = [boot_of(specification), Stepped(step=step), Ended(end=end)]
    core: LinkCore[int] = LinkCore(Journal(FolderDisk(tmp_path), ROBOT, RealSurroundings(), quota_bytes=1 << 24))
    assert core.receive(1, encode(Greeting("policy-1")))
    for number, record in enumerate(records, 1):
        packet = encode(Offer(number, record))
        assert len(packet) <= PACKET_BYTES
        assert core.receive(1, packet)
    core.journal.commit()
    assert core.journal.receipts == {"policy-1": len(records)}
    core.journal.close()


@pytest.mark.parametrize(
    ("specification", "words"),
    [
        (seeing([4000, 97]), r"has 4097 numbers, the journal takes up to 4096: leave fields out"),
        (
            seeing([100] * 32, letters=3000),
            rf"takes \d+ bytes on its way into the journal, the limit is {PACKET_BYTES}",
        ),
    ],
)
def test_more_is_refused_before_motion(specification: Specification, words: str, tmp_path: Path) -> None:
    """One number or many letters too many: value, limit and remedy, and `poco-runtime check` says the same."""
    with pytest.raises(ArtifactError, match=words):
        check_recordable(specification, ROBOT)
    file = tmp_path / "task.yaml"
    file.write_text(yaml.safe_dump(msgspec.to_builtins(specification)))
    out = io.StringIO()
    task_check.run(["--task", str(file), "--json"], Console(file=out, width=10_000))
    (finding,) = (one for one in msgspec.json.decode(out.getvalue()) if one["what"] == "observation")
    assert finding["grade"] == "fail"
    assert "the journal" in finding["seen"]


def test_a_run_says_so_before_it_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`poco-runtime record` of a task whose fields have very long names leaves neither run folder nor process."""
    monkeypatch.chdir(tmp_path)
    packaged = read_specification(OPERATOR_SPECIFICATION)
    fields = tuple(msgspec.structs.replace(item, name=item.name + "_" * 20_000) for item in packaged.observation)
    file = tmp_path / "task.yaml"
    file.write_text(yaml.safe_dump(msgspec.to_builtins(msgspec.structs.replace(packaged, observation=fields))))
    with pytest.raises(ArtifactError, match="give them shorter names"):
        cli.run(["record", "--robot", "sim", "--task", str(file), "--hands", "scripted"], Console(file=io.StringIO()))
    assert list(tmp_path.iterdir()) == [file]
