# SPDX-License-Identifier: BSD-2-Clause
"""Running processes and the TLS implementations that they have mapped: the probe, and the types of its answer.

`probe` runs in a child: a file may lie on a file system that hangs, and a process's maps behind a lock that is held.
There each step runs in a thread that is left behind when its time is over.  Files are read, never run.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, TypeVar

from ktlsctl.codec import decode, encode
from ktlsctl.facts import maps, tlsfiles
from ktlsctl.facts.attempts import mapped
from ktlsctl.host import Host
from ktlsctl.model import Attempt

T = TypeVar("T")
K = TypeVar("K")

TARGET = "ktlsctl.facts.tlsscan:probe"

#: Seconds for the whole child, and until it begins no further step.  An emulated machine with 30 processes takes 5.
TIMEOUT, BUDGET = 90.0, 60.0
#: Seconds that one process's maps or one file may take.
PATIENCE = 5.0

if sys.platform == "linux":
    _O_PATH = os.O_PATH
else:
    _O_PATH = 0

#: Of so many processes one is asked for a file; the next when that one has ended meanwhile.
_MOST_WITNESSES = 4


class Sight(StrEnum):
    """How the look into one process ended."""

    SEEN = "seen"
    EMPTY = "empty"
    DENIED = "denied"
    GONE = "gone"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Look:
    """One process.  `files` are indices in `Scan.files`; `network`: its network namespace, "" where not seen."""

    pid: int
    name: str
    sight: Sight
    reason: str = ""
    program: str = ""
    network: str = ""
    files: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class File:
    """One mapped file of interest.

    `deleted`: no name leads to it any more; `replaced`: another file has its name now; `replaced_here`: and that is
    this host's own file of that name, not a container's. `content` None: `reason` says why it could not be read.
    `own`: the real path under which this host's own programs find the very same file, and which nobody but root and
    this user can have written; only such a file may be run.
    """

    path: str
    key: str
    deleted: bool
    replaced: bool = False
    content: tlsfiles.Content | None = None
    reason: str = ""
    here: bool = False
    own: str = ""
    replaced_here: bool = False


@dataclass(frozen=True, slots=True)
class Scan:
    """What was asked for: processes with files of interest or that were not seen, and the files of interest.

    Those are what holds TLS, could, or could not be read.  `clear`: processes that were seen and have none; `empty`:
    kernel threads and zombies.  `network`: the caller's network namespace; `hidden`: /proc shows only some processes.
    """

    processes: tuple[Look, ...]
    files: tuple[File, ...]
    clear: int = 0
    empty: int = 0
    network: str = ""
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class Order:
    """`pids`, `names`: only these processes; empty: all.  A name is the process's own or its program's file name."""

    pids: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    budget: float = BUDGET


def read(host: Host, order: Order) -> Attempt[Scan]:
    return mapped(host.begin(TARGET, encode(order), TIMEOUT).answer(), lambda value: decode(Scan, value))


# ---- the child's side


def probe(argument: Any) -> Any:
    order = decode(Order, argument)
    return encode(_Scanner("/proc", order).scan() if sys.platform == "linux" else _bsd(order))


def within(seconds: float, step: Callable[[], T]) -> T:
    """What `step` returns or raises.  TimeoutError after `seconds`: its thread is left behind until the child ends."""
    result: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            result.append(step())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if failure:
        raise failure[0]
    if not result:
        raise TimeoutError(f"no answer within {seconds:g} s")
    return result[0]


def _why(error: BaseException) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


class _Scanner:
    """One scan of a /proc of Linux."""

    def __init__(self, proc: str, order: Order) -> None:
        self._proc = proc
        self._order = order
        self._end = time.monotonic() + order.budget
        #: what is mapped, in the order in which it was met, with who can show it
        self._met: dict[tuple[str, int, str, bool], list[tuple[int, maps.Mapping]]] = {}

    def scan(self) -> Scan:
        pids = self._order.pids or tuple(
            # not the observer
            sorted(
                {int(n) for n in os.listdir(self._proc) if n.isascii() and n.isdigit()} - {os.getpid(), os.getppid()}
            )
        )
        looks: list[tuple[Look, tuple[maps.Mapping, ...]]] = []
        for pid in pids:
            looked = self._look(pid)
            if looked is not None:
                looks.append(looked)
        files = {key: self._file(key, witnesses) for key, witnesses in self._met.items()}
        # every PID namespace has a process 1
        hidden = not self._order.pids and not os.path.exists(f"{self._proc}/1")
        found = [(look, [_key(mapping) for mapping in mapped_files]) for look, mapped_files in looks]
        return replace(_joined(found, files), network=_link(f"{self._proc}/self/ns/net"), hidden=hidden)

    def _look(self, pid: int) -> tuple[Look, tuple[maps.Mapping, ...]] | None:
        """None for a process that was not asked for."""
        if time.monotonic() > self._end:
            return Look(pid, "", Sight.FAILED, "the scan's time was over"), ()
        found: list[maps.Mapping] = []
        known = maps.Process("", False)
        where = f"{self._proc}/{pid}"
        try:
            # names end up in a report and must survive JSON
            known = within(PATIENCE, lambda: maps.parse_stat(_content(f"{where}/stat")))
            program, refusal = _program(f"{where}/exe")
            if self._order.names and not {known.name, os.path.basename(program)} & {*self._order.names}:
                # a kernel thread has no program that could have another name
                return (Look(pid, known.name, Sight.DENIED, refusal), ()) if refusal and not known.empty else None
            if known.empty:
                return Look(pid, known.name, Sight.EMPTY), ()
            found = within(PATIENCE, lambda: _maps(f"{where}/maps", time.monotonic() + PATIENCE))
        except PermissionError as error:
            return Look(pid, known.name, Sight.DENIED, _why(error)), ()
        except (FileNotFoundError, ProcessLookupError):
            return None if self._order.names else (Look(pid, known.name, Sight.GONE, "it has ended"), ())
        except (OSError, ValueError) as error:
            return Look(pid, known.name, Sight.FAILED, _why(error)), ()
        for mapping in found:
            witnesses = self._met.setdefault(_key(mapping), [])
            if len(witnesses) < _MOST_WITNESSES:
                witnesses.append((pid, mapping))
        return Look(pid, known.name, Sight.SEEN, "", program, _link(f"{where}/ns/net")), tuple(found)

    def _file(self, key: tuple[str, int, str, bool], witnesses: list[tuple[int, maps.Mapping]]) -> File:
        device, inode, path, deleted = key
        file = File(path, f"{device}:{inode}", deleted)
        if time.monotonic() > self._end:
            return replace(file, reason="the scan's time was over")
        reasons: list[str] = []
        for pid, mapping in witnesses:
            try:
                return within(PATIENCE + 1, lambda pid=pid, mapping=mapping: self._read(file, pid, mapping))  # type: ignore[misc]
            except (OSError, ValueError) as error:
                reasons.append(_why(error))
                if isinstance(error, TimeoutError):
                    break
        return replace(file, reason=reasons[0] if reasons else "no process could show it")

    def _read(self, file: File, pid: int, mapping: maps.Mapping) -> File:
        """Raises OSError when it cannot be read through this process."""
        fd = _open_same(
            mapping,
            # exactly what is mapped, but for root only (CAP_CHECKPOINT_RESTORE); then by name, in its own root
            (
                f"{self._proc}/{pid}/map_files/{mapping.area}",
                f"{self._proc}/{pid}/root{mapping.path}",
                mapping.path,
                f"{self._proc}/{pid}/exe",
            ),
        )
        try:
            status = os.fstat(fd)
            named = _stat(mapping.path)
            successor = _stat(f"{self._proc}/{pid}/root{mapping.path}") if file.deleted else None
            seen = replace(
                file,
                deleted=file.deleted or status.st_nlink == 0,
                replaced=successor is not None,
                replaced_here=successor is not None and _is(named, successor),
                here=_is(named, status),
                own=_own(mapping.path, status),
            )
            window = tlsfiles.Window(lambda size, at: _pread(fd, size, at), status.st_size)
            try:
                return replace(seen, content=tlsfiles.examine(window, time.monotonic() + PATIENCE / 2))
            except tlsfiles.NotElf:
                # a program in another form, such as one for a foreign machine under an interpreter: no TLS library
                return replace(seen, content=tlsfiles.Content())
        finally:
            os.close(fd)


def _key(mapping: maps.Mapping) -> tuple[str, int, str, bool]:
    return mapping.device, mapping.inode, mapping.path, mapping.deleted


def _of_interest(file: File) -> bool:
    content = file.content
    return content is None or bool(
        content.implementations or content.crypto_version or content.alone or content.unsearched
    )


def _joined(looks: Iterable[tuple[Look, list[K]]], files: Mapping[K, File]) -> Scan:
    """Numbers instead of keys, and nothing that is of no interest."""
    kept = [key for key, file in files.items() if _of_interest(file)]
    numbers = {key: number for number, key in enumerate(kept)}
    processes: list[Look] = []
    clear = empty = 0
    for look, keys in looks:
        mine = tuple(dict.fromkeys(numbers[key] for key in keys if key in numbers))
        if look.sight is Sight.EMPTY:
            empty += 1
        elif look.sight is Sight.SEEN and not mine:
            clear += 1
        else:
            processes.append(replace(look, files=mine))
    return Scan(tuple(processes), tuple(files[key] for key in kept), clear, empty)


def _content(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(1 << 16)


def _maps(path: str, deadline: float) -> list[maps.Mapping]:
    """Line by line: a process may have millions.  Raises TimeoutError."""

    def lines() -> Iterable[bytes]:
        with open(path, "rb") as file:
            for number, line in enumerate(file):
                if number % 4096 == 0 and time.monotonic() > deadline:
                    raise TimeoutError("its map is too large")
                yield line

    return list(maps.mappings(lines()))


def _program(path: str) -> tuple[str, str]:
    """The file that a process runs, and why this user may not know it; both empty where there is none."""
    try:
        return os.readlink(path).removesuffix(" (deleted)"), ""
    except PermissionError as error:
        return "", _why(error)
    except OSError:
        return "", ""


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except (OSError, ValueError):
        return None


def _is(some: os.stat_result | None, other: os.stat_result) -> bool:
    return some is not None and (some.st_dev, some.st_ino) == (other.st_dev, other.st_ino)


def _open_same(mapping: maps.Mapping, candidates: Iterable[str]) -> int:
    """A descriptor of the mapped file.  Nothing is opened for reading before it is known to be that file and a plain
    one: a container's name may lead to a device.  Raises the first refusal."""
    refusal: OSError | None = None
    for path in candidates:
        if "\0" in path:
            continue
        try:
            handle = os.open(path, _O_PATH | os.O_CLOEXEC)
        except OSError as error:
            refusal = refusal or error
            continue
        try:
            status = os.fstat(handle)
            # not the device: of btrfs and overlayfs maps names another than stat
            if stat.S_ISREG(status.st_mode) and status.st_ino == mapping.inode:
                return os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            refusal = refusal or error
        finally:
            os.close(handle)
    raise refusal or FileNotFoundError(2, "no name leads to it any more")


def _pread(fd: int, size: int, at: int) -> bytes:
    """All of it, unless the file ends before: not mapped, since one that shrinks would kill its reader."""
    pieces = []
    while size > 0 and (piece := os.pread(fd, min(size, 1 << 22), at)):
        pieces.append(piece)
        size -= len(piece)
        at += len(piece)
    return b"".join(pieces)


def _own(path: str, status: os.stat_result) -> str:
    """The real path of the very same file as this process sees it, when it can be trusted; else an empty string.

    To run a file with this user's rights no other user but root may have been able to write it or to put it there.
    """
    try:
        real = os.path.realpath(path, strict=True)
        if not _is(os.stat(real), status):
            return ""
        parts = [status]
        directory = os.path.dirname(real)
        while True:
            parts.append(os.stat(directory))
            if directory == "/":
                break
            directory = os.path.dirname(directory)
    except (OSError, ValueError):
        return ""
    return real if all(trusted(part, os.geteuid()) for part in parts) else ""


def trusted(part: os.stat_result, user: int) -> bool:
    """Whether only root and `user` can write this file or directory."""
    return part.st_uid in (0, user) and not part.st_mode & 0o022


# ---- FreeBSD


def _bsd(order: Order) -> Scan:
    """By psutil, which asks the kernel (kern.proc.vmmap): paths only, so a file is known by its name there."""
    import psutil

    looks: list[tuple[Look, tuple[str, ...]]] = []
    end = time.monotonic() + order.budget
    for pid in order.pids or tuple(psutil.pids()):
        name = ""
        try:
            process = psutil.Process(pid)
            name = process.name()
            program = process.exe()
            if order.names and not {name, os.path.basename(program)} & {*order.names}:
                continue
            regions: Any = process.memory_maps(grouped=False)
            paths = tuple(dict.fromkeys(r.path for r in regions if "x" in r.perms and r.path.startswith("/")))
            looks.append((Look(pid, name, Sight.SEEN if paths else Sight.EMPTY, "", program), paths))
        except psutil.ZombieProcess:
            looks.append((Look(pid, name, Sight.EMPTY), ()))
        except psutil.NoSuchProcess:
            looks.append((Look(pid, name, Sight.GONE, "it has ended"), ()))
        except psutil.AccessDenied:
            looks.append((Look(pid, name, Sight.DENIED, "Permission denied"), ()))
        except (psutil.Error, OSError) as error:
            looks.append((Look(pid, name, Sight.FAILED, _why(error)), ()))
    files: dict[str, File] = {}
    for path in dict.fromkeys(path for _, paths in looks for path in paths):
        files[path] = _named_file(path) if time.monotonic() < end else File(path, path, False, reason="out of time")
    return _joined([(look, list(paths)) for look, paths in looks], files)


def _named_file(path: str) -> File:
    def examine() -> File:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            status = os.fstat(fd)
            window = tlsfiles.Window(lambda size, at: _pread(fd, size, at), status.st_size)
            content = tlsfiles.Content()
            with contextlib.suppress(tlsfiles.NotElf):
                content = tlsfiles.examine(window, time.monotonic() + PATIENCE / 2)
            return File(path, path, False, content=content, here=True, own=_own(path, status))
        finally:
            os.close(fd)

    try:
        return within(PATIENCE, examine)
    except OSError as error:
        return File(path, path, False, reason=_why(error))
