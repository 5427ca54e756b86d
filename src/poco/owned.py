"""Files for their owner alone: what a computer makes for itself and then runs, such as engines and graphs it has compiled."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from poco.durable import write_durably
from poco.errors import ArtifactError


def write_owned(file: Path, content: bytes) -> None:
    """Write `content` to `file`, durably, for its owner alone; any process."""
    old = os.umask(0o077)
    try:
        write_durably(file, content)
    finally:
        os.umask(old)
    file.chmod(0o600)


def check_owner(path: Path) -> None:
    """Raise ArtifactError unless the file or folder `path` is the caller's alone and no link; any process."""
    found = path.lstat()
    mode = stat.S_IMODE(found.st_mode)
    if stat.S_ISLNK(found.st_mode) or found.st_uid != os.getuid() or mode & 0o077:
        raise ArtifactError(
            f"{path} has the mode {mode:o} and the owner {found.st_uid}, what computes is for its owner alone, since it is code: "
            f"look who wrote it, then chmod {'700' if stat.S_ISDIR(found.st_mode) else '600'} or delete it"
        )
