"""`poco-journal`: look into the journal of a robot, check it, hand it out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import tyro

from poco.command_line import Command, run_command
from poco.episodes import Episode
from poco.errors import ArtifactError, PocoError, UsageError, guard
from poco.journal.disk import FolderFiles
from poco.journal.segments import DAMAGED, scan, segment_name, segment_starts
from poco.learner.journal_audit import Audit, compare_with_inbox
from poco.learner.journal_files import JournalFiles
from poco.learner.progress import track
from poco.records import DISCARDED
from poco.specification import Specification

DESCRIPTION = """The journal of a robot: the folder journal-NAME beside its run folders. All commands only read, also in a run.

examples:
  poco-journal ls runs/journal-fr3                               # what it holds, episode by episode
  poco-journal verify runs/journal-fr3                           # does every byte check? exit code 4 if not
  poco-journal audit runs/journal-fr3                            # every step once and in order, every gap said?
  poco-journal audit runs/journal-fr3 --inbox runs/served/inbox  # and has the learner the same?
  poco-journal export runs/journal-fr3 --to lerobot --out data --task "put the peg in the hole"
  poco-journal export runs/journal-fr3 --to mcap --out journal.mcap

Exit codes: 0 done, 2 usage, 4 no journal there, or it does not check."""

SHOWN = 10

Folder = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="JOURNAL")]


def ls(journal: Folder) -> None:
    """Show what the journal holds.

    Args:
        journal: Folder of the journal.
    """
    files = JournalFiles(journal)
    head, log = files.head, files.log
    print(f"robot {head.robot}, journal {head.journal}, {len(log.starts)} segments from entry {log.first_sequence}")
    for specification in files.specifications():
        print(f"task {specification.name}, specification {specification.digest()[:12]}")
        print(f"{'boot epoch':>14} {'episode':>8} {'steps':>6} {'human':>6} outcome    generations")
        for episode in files.episodes(specification):
            generations = sorted({step.generation for step in episode.steps})
            human = sum(step.intervened for step in episode.steps)
            print(
                f"{episode.end.boot_epoch:>14} {episode.end.episode:>8} {len(episode.steps):>6} {human:>6} "
                f"{episode.end.outcome:<10} {', '.join(map(str, generations))}"
            )


def verify(journal: Folder) -> None:
    """Check every frame of every segment against its checksum.

    Args:
        journal: Folder of the journal, or of a learner's inbox.
    """
    files = FolderFiles(journal)
    starts = segment_starts(files.names())
    if not starts:
        raise ArtifactError(f"no journal in {journal}: name a folder such as runs/journal-fr3")
    damaged = entries = 0
    for number, start in enumerate(starts):
        end = starts[number + 1] if number + 1 < len(starts) else None
        content = files.read(segment_name(start))
        found = scan(content, start, end)
        covered = sum(entry.span for entry in found.entries if entry.payload != DAMAGED)
        last = end if end is not None else (found.entries[-1].following if found.entries else start)
        bad = last - start - covered + (not found.head)
        torn = len(content) - found.good_bytes if end is None else 0
        entries, damaged = entries + covered, damaged + bad
        print(
            f"{segment_name(start)} {len(content):>10} bytes {covered:>8} entries {bad:>4} damaged {torn:>6} bytes torn off"
        )
    if damaged:
        raise ArtifactError(
            f"{damaged} entries in {journal} no longer check: they are told as missing, the rest is good"
        )
    print(f"every one of {entries} entries checks")


def audit(journal: Folder, inbox: Path | None = None) -> None:
    """Check that every step is there once and in order, that every gap is said, and that a learner has the same.

    Args:
        journal: Folder of the journal.
        inbox: The inbox of a learner on this computer, to compare with.
    """
    files = JournalFiles(journal)
    found = Audit(files)
    counts, violations = found.counts, found.violations
    if inbox is not None:
        more, further = compare_with_inbox(files, inbox)
        counts, violations = counts + more, violations + further
    for name, count in sorted(counts.items()):
        print(f"{count:>10} {name}")
    for violation in violations[:SHOWN]:
        print(violation)
    if violations:
        raise ArtifactError(f"{len(violations)} violations in {journal}: the first is {violations[0]}")
    print("audit clean")


def export(journal: Folder, to: Literal["lerobot", "mcap"], out: Path, task: str = "do the task") -> None:
    """Write the journal in a format of others.

    Args:
        journal: Folder of the journal.
        to: lerobot: whole episodes of the newest specification as a LeRobotDataset v3, without those that a person has thrown
            away. mcap: everything as one MCAP file.
        out: New folder (lerobot) or file (mcap).
        task: What the robot was to do, in words (lerobot).
    """
    if out.exists():
        raise UsageError(f"--out {out} is there already: choose another or remove it")
    files = JournalFiles(journal)
    if to == "mcap":
        from poco.learner.journal_mcap import write_mcap

        with track("export to mcap", sum(1 for _ in files.log.all()), "entries") as advance:
            count = write_mcap(out, files, advance)
        print(f"{count} messages in {out}")
        return
    from poco.learner.datasets.lerobot_writer import write_lerobot

    specification = files.specification()
    total = sum(1 for _ in _kept(files, specification))
    with track("export to lerobot", total, "episodes") as advance:
        frames = write_lerobot(out, _kept(files, specification), specification, task, advance)
    print(f"{total} episodes of {specification.name}, {frames} frames in {out}")


def _kept(files: JournalFiles, specification: Specification) -> Iterator[Episode]:
    """Yield the whole episodes that nobody has thrown away."""
    return (episode for episode in files.episodes(specification) if episode.end.outcome != DISCARDED)


def main() -> None:
    """Entry point of `poco-journal`."""
    commands: dict[str, Command] = {"ls": ls, "verify": verify, "audit": audit, "export": export}

    def run() -> None:
        try:
            run_command(commands, "poco-journal", DESCRIPTION)
        except OSError as error:
            raise PocoError(
                f"{error.filename} cannot be read ({error.strerror}): look at its rights and its disk"
            ) from error

    guard(run)
