# SPDX-License-Identifier: BSD-2-Clause
"""Write a file whole or not at all: a reader (a collector, the next boot) never sees half of it."""

from __future__ import annotations

import contextlib
import os
import stat


def write_whole(path: str, content: bytes, mode: int = 0o644) -> None:
    """Put `content` at `path` by rename(2) from a temporary name in the same directory, synced before.

    An existing file keeps its permission bits and, where that is allowed, its owner; a symbolic link is followed, so
    that the link stays a link.  What is no file (a device, a FIFO, /dev/stdout on a pipe) is written into: a rename
    would put a file in its place.  Raises OSError; the temporary file is gone then.
    """
    # By the name that was given: what /proc/self/fd/1 reads as ("pipe:[…]") is no path.
    there = _stat(path)
    if there is not None and not (stat.S_ISREG(there.st_mode) or stat.S_ISDIR(there.st_mode)):
        _write_into(path, content)
        return
    target = os.path.realpath(path)
    if there is not None:
        mode = there.st_mode & 0o7777
    temporary = os.path.join(os.path.dirname(target), f".{os.path.basename(target)}.{os.getpid()}.tmp")
    # O_EXCL and O_NOFOLLOW: in a directory that others may write, nobody's file or link is written through.
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb") as file:
            file.write(content)
            file.flush()
            if there is not None:
                with contextlib.suppress(OSError):
                    os.fchown(file.fileno(), there.st_uid, there.st_gid)
            # After the owner: fchown takes the set-user-ID bits off.
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.rename(temporary, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def _stat(path: str) -> os.stat_result | None:
    with contextlib.suppress(FileNotFoundError):
        return os.stat(path)
    return None


def _write_into(path: str, content: bytes) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC), "wb", buffering=0) as file:
        while content:
            content = content[file.write(content) or 0 :]
