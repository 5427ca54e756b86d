"""A journal as an MCAP file, for Foxglove and other viewers: steps, ends of episodes and events as JSON in their own time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from poco.errors import UsageError
from poco.journal.records import Boot, Ended, Missing, Noted, Record, Stepped, Viewed
from poco.learner.journal_files import JournalFiles

TOPICS: tuple[tuple[type[Record], str], ...] = (
    (Boot, "/boots"),
    (Stepped, "/steps"),
    (Viewed, "/views"),
    (Ended, "/episodes"),
    (Noted, "/events"),
    (Missing, "/missing"),
)


def write_mcap(out: Path, journal: JournalFiles, advance: Callable[[str], None]) -> int:
    """Write everything readable in `journal` to the file `out` and return the number of messages; raises UsageError.

    The log time of a message is when the robot wrote the record (Unix time, ns). The file gets its name when it is whole.
    """
    try:
        from mcap.writer import Writer
    except ImportError as error:
        raise UsageError(f'MCAP needs the package mcap ({error}): pip install "poco-robot[datasets]"') from error
    part = out.with_name(f"{out.name}.part")
    count = 0
    with part.open("wb") as stream:
        writer = Writer(stream)
        writer.start(library="poco")
        channels = {}
        for kind, topic in TOPICS:
            described = msgspec.json.encode(msgspec.json.schema(kind))
            schema = writer.register_schema(name=f"poco.{kind.__name__}", encoding="jsonschema", data=described)
            channels[kind] = writer.register_channel(topic=topic, message_encoding="json", schema_id=schema)
        for entry, written in journal.all():
            if written is None:
                continue
            writer.add_message(
                channel_id=channels[type(written.record)],
                log_time=written.unix_ns,
                publish_time=written.unix_ns,
                sequence=entry.sequence & 0xFFFFFFFF,
                data=msgspec.json.encode(written.record),
            )
            count += 1
            advance(f"{count} messages")
        writer.finish()  # type: ignore[no-untyped-call]
    part.rename(out)
    return count
