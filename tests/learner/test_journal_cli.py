"""`poco-journal`: what is in a journal comes out of it, and what is wrong with one is found and named."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from mcap.reader import make_reader

from link_run import Writer
from poco.errors import ArtifactError, UsageError
from poco.journal.disk import FolderDisk
from poco.journal.records import Boot, Ended, Noted, Record, Stepped
from poco.journal.segments import Entry
from poco.learner import journal_cli
from poco.learner.datasets.lerobot_folder import open_lerobot
from poco.learner.inbox import LogInbox
from poco.learner.journal_files import JournalFiles
from poco.records import DISCARDED
from poco.runtime.entrance import Entrance
from poco.runtime.journal import Journal
from poco.surroundings import RealSurroundings
from synthetic_run import specification

EPISODES, LENGTH = 5, 20


def story() -> list[Record]:
    """Five whole episodes, an event and one that is broken off."""
    writer = Writer(Entrance("nobody", "policy-1"), "arm", specification(), 1)
    writer.begin()
    writer.make(EPISODES * LENGTH, LENGTH)
    writer.offer(Noted(event="clip", tick=7, generation=1, text="bent", episode=EPISODES))
    writer.make(3, LENGTH)
    return writer.offered


def record(folder: Path, records: list[Record], numbers: list[int] | None = None, writer: str = "policy-1") -> Path:
    """Write `records` of one writer to a journal of several segments, each with its number."""
    disk = FolderDisk(folder)
    journal = Journal(disk, "arm", RealSurroundings(), quota_bytes=1 << 30, segment_bytes=8_000)
    for number, one in zip(numbers or range(1, len(records) + 1), records, strict=True):
        journal.append(writer, number, one)
        assert journal.commit()
    journal.close()
    return folder


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """A good journal."""
    return record(tmp_path / "journal", story())


def test_ls_and_audit_of_a_good_journal(journal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every whole episode is listed, every byte checks, the audit counts what was written and is clean."""
    journal_cli.ls(journal)
    rows = capsys.readouterr().out.splitlines()
    assert [row.split()[:3] for row in rows[3:]] == [["1", str(number), str(LENGTH)] for number in range(EPISODES)]
    journal_cli.verify(journal)
    assert len(capsys.readouterr().out.splitlines()) > 3
    journal_cli.audit(journal)
    out = capsys.readouterr().out
    assert f"{EPISODES * LENGTH + 3} steps" in out
    assert f"{EPISODES} episodes" in out
    assert "1 events: clip" in out
    assert out.endswith("audit clean\n")


def test_ls_shows_every_task(journal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Episodes of an earlier task of the robot are listed under its name, before those of the newest."""
    other = msgspec.structs.replace(specification(), name="another")
    writer = Writer(Entrance("nobody", "policy-2"), "arm", other, 2)
    writer.begin()
    writer.make(2 * LENGTH, LENGTH)
    journal_cli.ls(record(journal, writer.offered, writer="policy-2"))
    rows = capsys.readouterr().out.splitlines()
    tasks = [row for row in rows if row.startswith("task")]
    assert tasks == [f"task {one.name}, specification {one.digest()[:12]}" for one in (specification(), other)]
    assert [len(rows[:place]) for place, row in enumerate(rows) if row == tasks[1]] == [3 + EPISODES]
    assert [row.split()[:2] for row in rows[-2:]] == [["2", "0"], ["2", "1"]]


def test_flipped_bit_is_found(journal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One bit in an old segment: verify refuses, the audit counts what is missing, the episode does not come out."""
    file = min(journal.glob("*.seg"))
    content = bytearray(file.read_bytes())
    content[-100] ^= 1
    file.write_bytes(content)
    with pytest.raises(ArtifactError, match="no longer check"):
        journal_cli.verify(journal)
    journal_cli.audit(journal)
    assert "1 missing: damaged" in capsys.readouterr().out
    assert sum(1 for _ in JournalFiles(journal).episodes(specification())) == EPISODES - 1


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda all: [*all[:9], *all[10:]], "is not there"),
        (lambda all: [*all[:9], all[8], *all[9:]], "is there twice"),
        (lambda all: [*all[:8], all[9], all[8], *all[10:]], "is not there"),
        (lambda all: all[1:], "has not begun"),
    ],
)
def test_wrong_stories(wrong: object, said: str, tmp_path: Path) -> None:
    """A step left out, told twice or out of order, and steps of nobody are violations, though every byte checks."""
    assert callable(wrong)
    folder = record(tmp_path / "wrong", wrong(story()))
    journal_cli.verify(folder)
    with pytest.raises(ArtifactError, match=said):
        journal_cli.audit(folder)


def test_number_that_was_never_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A writer's number that was skipped is told in the journal itself, so the audit counts it and is clean."""
    noted = next(one for one in story() if isinstance(one, Noted))
    records: list[Record] = [noted, noted]
    journal_cli.audit(record(tmp_path / "skipped", records, [1, 4]))
    assert "2 missing: overflow" in capsys.readouterr().out


def test_audit_against_what_is_no_inbox(journal: Path, tmp_path: Path) -> None:
    """A folder without an inbox is not taken for one that has nothing yet."""
    (tmp_path / "other").mkdir()
    with pytest.raises(ArtifactError, match="no inbox of a learner"):
        journal_cli.audit(journal, tmp_path / "other")


@pytest.mark.parametrize("spoil", [False, True])
def test_audit_against_an_inbox(spoil: bool, journal: Path, tmp_path: Path) -> None:
    """The learner's inbox has the same bytes; one payload that differs is named."""
    files = JournalFiles(journal)
    inbox = LogInbox(FolderDisk(tmp_path / "inbox"), specification().digest())
    for entry, _ in files.all():
        payload = entry.payload + b"x" if spoil and entry.sequence == 5 else entry.payload
        inbox.take("arm", files.head.journal, [Entry(entry.sequence, entry.span, payload)])
    assert inbox.commit()
    if spoil:
        with pytest.raises(ArtifactError, match="entry 5 differs"):
            journal_cli.audit(journal, tmp_path / "inbox")
    else:
        journal_cli.audit(journal, tmp_path / "inbox")


def test_export_to_lerobot(journal: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whole episodes come out as a data set that reads back; a folder that is there is refused."""
    out = tmp_path / "data"
    journal_cli.export(journal, "lerobot", out, "do it")
    assert f"{EPISODES} episodes of synthetic, {EPISODES * LENGTH} frames" in capsys.readouterr().out
    assert open_lerobot(out, 8, None).count == EPISODES
    with pytest.raises(UsageError, match="there already"):
        journal_cli.export(journal, "lerobot", out)


def test_what_a_person_has_thrown_away_is_not_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An episode whose end was later labelled "discarded" is listed as such and left out of a data set."""
    records = story()
    ends = [one.end for one in records if isinstance(one, Ended)]
    thrown = Ended(end=msgspec.structs.replace(ends[1], outcome=DISCARDED, revision=1))
    journal = record(tmp_path / "journal", [*records, thrown])
    journal_cli.ls(journal)
    assert capsys.readouterr().out.count(DISCARDED) == 1
    journal_cli.audit(journal)
    journal_cli.export(journal, "lerobot", tmp_path / "data", "do it")
    assert f"{EPISODES - 1} episodes of synthetic, {(EPISODES - 1) * LENGTH} frames" in capsys.readouterr().out


def test_export_to_mcap(journal: Path, tmp_path: Path) -> None:
    """Every record is a message of its topic, in order, and decodes to what was written; the boot comes again in every segment."""
    out = tmp_path / "journal.mcap"
    journal_cli.export(journal, "mcap", out)
    with out.open("rb") as stream:
        messages = [(channel.topic, message.data) for _, channel, message in make_reader(stream).iter_messages()]
    boots = [msgspec.json.decode(data, type=Boot) for topic, data in messages if topic == "/boots"]
    assert boots == story()[:1] * len(list(journal.glob("*.seg")))
    assert len(messages) - len(boots) + 1 == len(story())
    steps = [msgspec.json.decode(data, type=Stepped) for topic, data in messages if topic == "/steps"]
    assert steps == [one for one in story() if isinstance(one, Stepped)]
    assert sum(topic == "/episodes" for topic, _ in messages) == sum(isinstance(one, Ended) for one in story())


def test_no_journal(tmp_path: Path) -> None:
    """A folder without a journal is said to be one."""
    for command in (journal_cli.ls, journal_cli.verify, journal_cli.audit):
        with pytest.raises(ArtifactError, match="no journal"):
            command(tmp_path)
