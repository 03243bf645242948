# SPDX-License-Identifier: BSD-2-Clause
"""Paths below a root that nothing leads out of: links are followed as if that root were `/` (what chroot(2) would see).

Each component is opened relative to the one before it and never through a link, so that a link that is put there
meanwhile is an error and not a way out (openat2(2) with RESOLVE_IN_ROOT would do it in one call, on Linux only).
"""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import os
import stat
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ktlsctl.host import READ_LIMIT, Filter, NameFilter, Pending, Ran, failed
from ktlsctl.model import About, Attempt, Outcome

#: As many as Linux follows (MAXSYMLINKS).
_MOST_LINKS = 40

#: Only Linux and FreeBSD 14 have O_PATH: it opens a directory that may be entered and not listed.
_DIRECTORY = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | getattr(os, "O_PATH", 0)


@dataclass(frozen=True, slots=True)
class FileState:
    """Everything of a file that is put back: content and attributes in base64, permission bits, owner."""

    content64: str
    mode: int
    uid: int
    gid: int
    xattrs: Mapping[str, str] = field(default_factory=dict)

    @property
    def content(self) -> bytes:
        return base64.b64decode(self.content64)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @staticmethod
    def of(content: bytes, mode: int, uid: int, gid: int, xattrs: Mapping[str, bytes] | None = None) -> FileState:
        kept = {name: base64.b64encode(value).decode() for name, value in (xattrs or {}).items()}
        return FileState(base64.b64encode(content).decode(), mode, uid, gid, kept)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a path leads: `directory` is the descriptor of the last directory that exists, `missing` the directories
    that do not exist below it, `name` the file's own name, `path` all of it without links, seen from the root."""

    directory: int
    missing: tuple[str, ...]
    name: str
    path: str

    @property
    def parents(self) -> tuple[str, ...]:
        """The paths of the missing directories, outermost first."""
        base = self.path.split("/")[: -1 - len(self.missing)]
        return tuple("/".join([*base, *self.missing[: i + 1]]) for i in range(len(self.missing)))

    def read(self) -> FileState | None:
        """The file as it is; None when there is none.  Raises OSError, also for what is no ordinary file."""
        if self.missing:
            return None
        try:
            # O_NONBLOCK: a FIFO must not hang the tool.
            fd = os.open(self.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self.directory)
        except FileNotFoundError:
            return None
        try:
            seen = os.fstat(fd)
            if not stat.S_ISREG(seen.st_mode):
                raise OSError(errno.EINVAL, "not an ordinary file")
            if seen.st_size > READ_LIMIT:
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
            pieces = []
            while piece := os.read(fd, 1 << 17):
                pieces.append(piece)
            return FileState.of(b"".join(pieces), stat.S_IMODE(seen.st_mode), seen.st_uid, seen.st_gid, _attributes(fd))
        finally:
            os.close(fd)


def _attributes(fd: int) -> dict[str, bytes]:
    """Extended attributes: access control lists, security labels.  FreeBSD's Python has no calls for them."""
    listxattr, getxattr = getattr(os, "listxattr", None), getattr(os, "getxattr", None)
    if listxattr is None or getxattr is None:
        return {}
    try:
        return {name: getxattr(fd, name) for name in listxattr(fd)}
    except OSError:  # a file system without them
        return {}


class Root:
    """A directory that is `/` for everything asked of it."""

    def __init__(self, path: str = "/") -> None:
        """Raises OSError when `path` is no directory."""
        self.path = os.path.abspath(path)
        self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        os.close(self._fd)

    def shown(self, path: str) -> str:
        """The path as somebody outside of this root has to type it."""
        return path if self.path == "/" else self.path + path

    @contextlib.contextmanager
    def place(self, path: str) -> Iterator[Place]:
        """Where an absolute path leads, every link followed inside this root.  Raises OSError."""
        stack, names = [os.dup(self._fd)], [""]
        try:
            missing, name = self._walk(path, stack, names)
            yield Place(stack[-1], missing, name, "/".join([*names, *missing, name]))
        finally:
            for fd in stack:
                os.close(fd)

    def _walk(self, path: str, stack: list[int], names: list[str]) -> tuple[tuple[str, ...], str]:
        todo = deque(_components(path))
        links = 0
        while todo:
            part = todo.popleft()
            if part == "..":
                if len(stack) > 1:  # the parent of a root is that root
                    os.close(stack.pop())
                    names.pop()
                continue
            try:
                seen = os.stat(part, dir_fd=stack[-1], follow_symlinks=False)
            except FileNotFoundError:
                left = (part, *todo)
                if ".." in left:
                    raise
                return left[:-1], left[-1]
            if stat.S_ISLNK(seen.st_mode):
                links += 1
                if links > _MOST_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                target = os.readlink(part, dir_fd=stack[-1])
                if target.startswith("/"):
                    while len(stack) > 1:
                        os.close(stack.pop())
                    del names[1:]
                todo.extendleft(reversed(_components(target)))
            elif todo:
                stack.append(os.open(part, _DIRECTORY, dir_fd=stack[-1]))
                names.append(part)
            else:
                return (), part
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)

    def read(self, path: str) -> FileState | None:
        """The file that a path leads to, None when there is none.  Raises OSError."""
        with self.place(path) as place:
            return place.read()

    def names(self, path: str) -> tuple[str, ...]:
        """The entries of a directory, sorted.  Raises OSError."""
        # the name of nothing, so that the last component is followed and entered like the others
        with self.place(f"{path}/.ktlsctl-none") as place:
            if place.missing:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=place.directory)
            try:
                return tuple(sorted(os.listdir(fd)))
            finally:
                os.close(fd)


def _components(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


class RootHost:
    """The files of another root file system through the door of a host: it runs no kernel that could be asked."""

    def __init__(self, root: Root, about: About) -> None:
        self._root = root
        self._about = about

    @property
    def about(self) -> About:
        return self._about

    def read(self, path: str, keep: Filter | None = None) -> Attempt[bytes]:
        try:
            found = self._root.read(path)
        except OSError as error:
            return failed(error)
        if found is None:
            return Attempt(Outcome.ABSENT, reason=os.strerror(errno.ENOENT))
        return Attempt.ran(found.content if keep is None else keep(found.content))

    def names(self, path: str, keep: NameFilter | None = None) -> Attempt[tuple[str, ...]]:
        try:
            return Attempt.ran(tuple(filter(keep or bool, self._root.names(path))))
        except OSError as error:
            return failed(error)

    def resolve(self, path: str) -> Attempt[str]:
        try:
            with self._root.place(path) as place:
                if place.read() is None:
                    return Attempt(Outcome.ABSENT, reason=os.strerror(errno.ENOENT))
                return Attempt.ran(place.path)
        except OSError as error:
            return failed(error)

    def run(self, *argv: str, timeout: float = 5.0) -> Attempt[Ran]:
        return _not_running()

    def ask(self, key: str, question: Any) -> Attempt[Any]:
        return _not_running()

    def begin(self, target: str, argument: Any, timeout: float) -> Pending:
        return _Silent()


class _Silent:
    def answer(self) -> Attempt[Any]:
        return _not_running()


def _not_running() -> Attempt[Any]:
    return Attempt(Outcome.UNRECORDED, reason="another root file system: its kernel does not run here")
