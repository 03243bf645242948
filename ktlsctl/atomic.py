# SPDX-License-Identifier: BSD-2-Clause
"""Write a file whole or not at all: a reader (a collector, the next boot) never sees half of it."""

from __future__ import annotations

import contextlib
import os


def write_whole(path: str, content: bytes, mode: int = 0o644) -> None:
    """Put `content` at `path` by rename(2) from a temporary name in the same directory, synced before.

    An existing file keeps its permission bits; a symbolic link is followed, so that the link stays a link.
    Raises OSError; the temporary file is gone then.
    """
    target = os.path.realpath(path)
    with contextlib.suppress(FileNotFoundError):
        mode = os.stat(target).st_mode & 0o7777
    temporary = os.path.join(os.path.dirname(target), f".{os.path.basename(target)}.{os.getpid()}.tmp")
    # O_EXCL and O_NOFOLLOW: in a directory that others may write, nobody's file or link is written through.
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.rename(temporary, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
