# SPDX-License-Identifier: BSD-2-Clause
"""How a file below a root is replaced, removed and made, so that no moment shows half of it.

Only apply.py and journal.py call these; every change of the disk that the tool makes to a system goes through here.
"""

from __future__ import annotations

import contextlib
import errno
import os

from ktlsctl.configure.roots import FileState, Place, Root

_WORDS = {
    errno.EROFS: ("the file system is mounted read-only", "mount it writable"),
    errno.ENOSPC: ("no space left on the device", "make room there"),
    errno.EDQUOT: ("the disk quota is used up", "make room there"),
    errno.EPERM: ("not permitted", "see whether it is immutable (lsattr, ls -lo) or root's rights are restricted"),
    errno.EACCES: ("permission denied", "run this as root"),
    errno.EINVAL: ("not an ordinary file", "see what stands there"),
}


def said(error: OSError) -> str:
    """The cause in words."""
    return _WORDS.get(error.errno or 0, (error.strerror or str(error), ""))[0]


class FileProblem(Exception):
    """The disk refused: a sentence with the cause and the next step."""

    def __init__(self, path: str, error: OSError) -> None:
        step = _WORDS.get(error.errno or 0, ("", "mend that"))[1]
        super().__init__(f"cannot write {path}: {said(error)}; {step}, then run this again")
        self.errno = error.errno


def temporary(name: str, mark: str) -> str:
    """Hidden, and with an ending that no program takes for configuration."""
    return f".{name}.{mark}"


def put(root: Root, path: str, state: FileState, mark: str) -> None:
    """Make a file what `state` says by rename(2): a reader sees the old or the new one.  Its directory must exist.

    Raises FileProblem; then the old file stands, and the temporary one is gone.
    """
    try:
        with root.place(path) as place:
            _replace(place, state, mark)
    except OSError as error:
        raise FileProblem(root.shown(path), error) from None


def _replace(place: Place, state: FileState, mark: str) -> None:
    name, directory = temporary(place.name, mark), place.directory
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)  # of a run that was killed
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(name, flags, 0o600, dir_fd=directory)
    try:
        try:
            left = memoryview(state.content)
            while left:
                left = left[os.write(fd, left) :]
            if (os.fstat(fd).st_uid, os.fstat(fd).st_gid) != (state.uid, state.gid):
                os.fchown(fd, state.uid, state.gid)
            os.fchmod(fd, state.mode)  # after the owner: chown(2) takes set-id bits away
            _set_attributes(fd, state)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(name, place.name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=directory)
        raise
    _sync(directory)


def _set_attributes(fd: int, state: FileState) -> None:
    """As many as this file system takes: one that was made without labels must not keep a file from being restored."""
    import base64

    setxattr = getattr(os, "setxattr", None)
    if setxattr is None:
        return
    for name, value in state.xattrs.items():
        with contextlib.suppress(OSError):
            setxattr(fd, name, base64.b64decode(value))


def _sync(directory: int) -> None:
    """Names are on the disk when this returns; a descriptor made with O_PATH cannot be synced itself."""
    fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _is_there(place: Place) -> bool:
    """Asked first: on a read-only mount unlink(2) and rmdir(2) answer EROFS even for what is not there."""
    if place.missing:
        return False
    try:
        os.stat(place.name, dir_fd=place.directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def remove(root: Root, path: str) -> None:
    """Remove a file; one that is not there is fine.  Raises FileProblem."""
    try:
        with root.place(path) as place:
            if _is_there(place):
                os.unlink(place.name, dir_fd=place.directory)
                _sync(place.directory)
    except FileNotFoundError:
        return
    except OSError as error:
        raise FileProblem(root.shown(path), error) from None


def ensure_directory(root: Root, path: str, mode: int) -> None:
    """Make a directory and what is missing above it (those with 0755).  Raises FileProblem."""
    for _ in range(path.count("/") + 1):
        try:
            with root.place(f"{path}/.ktlsctl-none") as place:
                if not place.missing:
                    return
                # one a turn, so that each is looked up again: somebody may have made it meanwhile
                last = len(place.missing) == 1
                with contextlib.suppress(FileExistsError):
                    _make(place, mode if last else 0o755)
        except OSError as error:
            raise FileProblem(root.shown(path), error) from None


def _make(place: Place, mode: int) -> None:
    # a stricter mask of the caller would close /etc/modules-load.d to everybody else
    before = os.umask(0o022)
    try:
        os.mkdir(place.missing[0], mode, dir_fd=place.directory)
    finally:
        os.umask(before)
    _sync(place.directory)


def remove_if_empty(root: Root, path: str) -> None:
    """Remove a directory that a run made; one that holds something by now, or is gone, is left.  Raises FileProblem."""
    try:
        with root.place(path) as place:
            if _is_there(place):
                os.rmdir(place.name, dir_fd=place.directory)
                _sync(place.directory)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT, errno.ENOTDIR):
            raise FileProblem(root.shown(path), error) from None
