"""A learner's end of the link as a process that can be killed: serving_learner.py INBOX ADDRESS SPECIFICATION_HASH [KEYS]."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from poco.learner.link_server import LinkServer
from poco.link.keys import KeyFolder


def main() -> None:
    """Serve until the end."""
    folder, address, digest, *keys = sys.argv[1:]
    server = LinkServer(Path(folder), digest, address, KeyFolder(Path(keys[0])) if keys else None)
    print("ready", flush=True)
    while True:
        while server.next_finished() is not None:
            pass
        time.sleep(0.01)


if __name__ == "__main__":
    main()
