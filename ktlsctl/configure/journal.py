# SPDX-License-Identifier: BSD-2-Clause
"""The journal: what every run was about to change and what was there before, written before anything is changed.

One JSON file a run, N.json, in a directory that only root can enter: it holds whole files of /etc.  A run that is not
closed and whose lock nobody holds was interrupted.  Since every change is one rename(2), unlink(2) or switch of the
kernel, what an interrupted run changed is found by comparing.  The lock is flock(2): it ends with its owner.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from ktlsctl.changes import Kind, Scope
from ktlsctl.codec import DecodeError, decode, encode
from ktlsctl.configure.files import FileProblem, ensure_directory, put, remove, said
from ktlsctl.configure.roots import FileState, Root
from ktlsctl.host import READ_LIMIT
from ktlsctl.model import Os

FORMAT = 1

#: hier(7) of either system.
DIRECTORIES = {Os.LINUX: "/var/lib/ktlsctl/journal", Os.FREEBSD: "/var/db/ktlsctl/journal"}

_LOCK = "lock"

#: What cannot be read again could not be undone; the word for its state may become longer.
_LARGEST = READ_LIMIT - 100


class JournalError(Exception):
    """The journal cannot be used: one sentence."""


class Busy(JournalError):
    """Another run holds the lock."""


class RunState(StrEnum):
    """OPEN: being carried out, or interrupted.  UNDOING: being put back, or interrupted in that."""

    OPEN = "open"
    DONE = "done"
    UNDOING = "undoing"
    UNDONE = "undone"


@dataclass(frozen=True, slots=True)
class Record:
    """One change with all that undoing it takes.  A file: `before` and `after`, None for no file, at `path` (without
    links), and the `directories` that it needed.  Something of the kernel: the two values."""

    id: str
    scope: Scope
    kind: Kind
    summary: str
    target: str
    path: str = ""
    before: FileState | None = None
    after: FileState | None = None
    directories: tuple[str, ...] = ()
    value_before: str = ""
    value_after: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of enable or disable.  `began` is RFC 3339 in UTC."""

    id: int
    command: str
    began: str
    state: RunState
    records: tuple[Record, ...]
    format: int = FORMAT

    @property
    def mark(self) -> str:
        """What the names of its temporary files end with."""
        return f"ktlsctl-{self.id}"


class Journal:
    """The journal inside a root.  Methods raise JournalError, FileProblem when the disk refuses."""

    def __init__(self, root: Root, system: Os) -> None:
        self._root = root
        self._directory = DIRECTORIES[system]

    def runs(self) -> tuple[Run, ...]:
        """Every run, oldest first; none when there is no journal yet."""
        try:
            names = self._root.names(self._directory)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise JournalError(f"cannot read the journal {self._shown()}: {said(error)}") from None
        numbers = sorted(int(n.removesuffix(".json")) for n in names if _is_run(n))
        return tuple(self._read(number) for number in numbers)

    def _shown(self, name: str = "") -> str:
        return self._root.shown(self._directory + (f"/{name}" if name else ""))

    def _read(self, number: int) -> Run:
        name = f"{number}.json"
        try:
            found = self._root.read(f"{self._directory}/{name}")
        except OSError as error:
            raise JournalError(f"cannot read {self._shown(name)}: {said(error)}") from None
        try:
            document = json.loads(found.content if found is not None else b"")
            if isinstance(document, dict) and document.get("format") != FORMAT:
                raise DecodeError(f"format {document.get('format')!r}, which this ktlsctl does not know")
            run = decode(Run, document)
            for record in run.records:
                for state in (record.before, record.after):
                    if state is not None:
                        state.content  # noqa: B018  raises ValueError for what is no base64
            return run
        except (ValueError, RecursionError) as error:
            raise JournalError(
                f"{self._shown(name)} is damaged ({error}): move it away, then look at what it names by hand"
            ) from None

    def interrupted(self) -> tuple[Run, ...]:
        """The runs that were begun and not ended, and that nobody is at; none when they cannot be seen."""
        with contextlib.suppress(JournalError, OSError):
            found = tuple(r for r in self.runs() if r.state in (RunState.OPEN, RunState.UNDOING))
            return found if found and not self._held() else ()
        return ()

    def _held(self) -> bool:
        with self._root.place(f"{self._directory}/{_LOCK}") as place:
            try:
                fd = os.open(place.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place.directory)
            except FileNotFoundError:
                return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return False
        except BlockingIOError:
            return True
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def locked(self, command: str) -> Iterator[None]:
        """Nobody else changes anything meanwhile.  Raises Busy, which says who does."""
        ensure_directory(self._root, self._directory, 0o700)
        try:
            fd = self._open_lock()
        except OSError as error:
            raise FileProblem(self._shown(_LOCK), error) from None
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(fd, 200, 0).decode("utf-8", "replace").strip() or "another ktlsctl"
                raise Busy(f"{holder} is changing this host now; wait for it, then run this again") from None
            try:
                os.ftruncate(fd, 0)
                os.pwrite(fd, f"process {os.getpid()} (ktlsctl {command})\n".encode(), 0)
            except OSError:
                os.ftruncate(fd, 0)  # on a full disk it stays empty: it only tells who holds it
            self._sweep()
            yield
        finally:
            os.close(fd)

    def _open_lock(self) -> int:
        with self._root.place(f"{self._directory}/{_LOCK}") as place:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            return os.open(place.name, flags, 0o600, dir_fd=place.directory)

    def _sweep(self) -> None:
        """Remove what a run that was killed while it wrote the journal left behind."""
        for name in self._root.names(self._directory):
            if name.startswith(".") and name.endswith(".journal"):
                remove(self._root, f"{self._directory}/{name}")

    def write(self, run: Run) -> None:
        """Put a run into the journal, whole and on the disk when this returns."""
        content = (json.dumps(encode(run), indent=1) + "\n").encode()
        if len(content) > _LARGEST:
            raise JournalError(
                f"the journal cannot hold run {run.id}, with {len(content)} bytes (at most {_LARGEST}): "
                "make the files that it would change smaller"
            )
        state = FileState.of(content, 0o600, os.geteuid(), os.getegid())
        put(self._root, f"{self._directory}/{run.id}.json", state, "journal")

    def next_id(self) -> int:
        return max((run.id for run in self.runs()), default=0) + 1


def _is_run(name: str) -> bool:
    stem = name.removesuffix(".json")
    return name.endswith(".json") and stem.isascii() and stem.isdigit() and len(stem) < 10
