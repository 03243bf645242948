# SPDX-License-Identifier: BSD-2-Clause
"""The only door to the machine: files, directories, commands, in-process questions, probe children.

Three hosts stand behind one surface: `LiveHost` asks this machine, `RecordingHost` asks another host and keeps every
answer, `CapturedHost` replays a recording on any machine.  Everything above sees `Attempt`s and never an OSError:
EACCES is `DENIED`, ENOENT is `ABSENT`, and the two are never confused.
"""

from __future__ import annotations

import base64
import errno
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from ktlsctl.codec import DecodeError, decode, encode
from ktlsctl.model import About, Attempt, Os, Outcome

CAPTURE_VERSION = "1.0"

#: Files larger than this are not what this tool reads (a kernel's modules.dep has under 1 MiB).
READ_LIMIT = 8 * 1024 * 1024

#: Where administration commands live, whatever the caller's PATH says.
COMMAND_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

Filter = Callable[[bytes], bytes]
NameFilter = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Ran:
    """A command that was started: exit status (negative: the signal it died of), output, errors."""

    status: int
    stdout: str
    stderr: str


class Pending(Protocol):
    """A probe child that was begun."""

    def answer(self) -> Attempt[Any]: ...


class Host(Protocol):
    """What every host answers.  No method raises for what the machine says or refuses."""

    @property
    def about(self) -> About: ...

    def read(self, path: str, keep: Filter | None = None) -> Attempt[bytes]:
        """A file's bytes.  `keep` reduces them at once, so that nothing else enters memory, a report or a capture."""

    def names(self, path: str, keep: NameFilter | None = None) -> Attempt[tuple[str, ...]]:
        """A directory's entries, sorted; those that `keep` says, so that a capture lists nothing else."""

    def resolve(self, path: str) -> Attempt[str]:
        """The path with every symbolic link followed; ABSENT when it does not exist."""

    def run(self, *argv: str, timeout: float = 5.0) -> Attempt[Ran]:
        """A system command in the C locale; ABSENT when it is not installed."""

    def ask(self, key: str, question: Callable[[], Any]) -> Attempt[Any]:
        """A cheap system call in this process: `question` returns a JSON value or raises OSError."""

    def begin(self, target: str, argument: Any, timeout: float) -> Pending:
        """Start the probe `module:function` in a child with a deadline in seconds."""


def failed(error: OSError) -> Attempt[Any]:
    """The attempt that an OSError amounts to."""
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENODEV):
        return Attempt(Outcome.ABSENT, reason=error.strerror or str(error))
    if error.errno in (errno.EACCES, errno.EPERM):
        return Attempt(Outcome.DENIED, reason=error.strerror or str(error))
    return Attempt(Outcome.FAILED, reason=error.strerror or str(error))


def _read_all(fd: int) -> bytes:
    """At most READ_LIMIT + 1 bytes.  In pieces: a sysctl answers a larger read than kmalloc can hold with ENOMEM
    (fs/proc/proc_sysctl.c)."""
    pieces = []
    left = READ_LIMIT + 1
    while left > 0 and (piece := os.read(fd, min(left, 1 << 17))):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


class LiveHost:
    """This machine.  `root` prefixes every file path (another root file system); commands and probes ignore it."""

    def __init__(self, root: str = "/") -> None:
        self._root = root
        self._about: About | None = None

    @property
    def about(self) -> About:
        if self._about is None:
            self._about = _about_this_machine(self)
        return self._about

    def _path(self, path: str) -> str:
        return path if self._root == "/" else os.path.join(self._root, path.lstrip("/"))

    def read(self, path: str, keep: Filter | None = None) -> Attempt[bytes]:
        try:
            # O_NONBLOCK: a FIFO where a file is expected must not hang the tool.
            fd = os.open(self._path(path), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                content = _read_all(fd)
            finally:
                os.close(fd)
        except OSError as error:
            return failed(error)
        if len(content) > READ_LIMIT:
            return Attempt(Outcome.FAILED, reason=f"larger than {READ_LIMIT} bytes")
        return Attempt.ran(content if keep is None else keep(content))

    def names(self, path: str, keep: NameFilter | None = None) -> Attempt[tuple[str, ...]]:
        try:
            return Attempt.ran(tuple(sorted(filter(keep or bool, os.listdir(self._path(path))))))
        except OSError as error:
            return failed(error)

    def resolve(self, path: str) -> Attempt[str]:
        try:
            return Attempt.ran(os.path.realpath(self._path(path), strict=True))
        except OSError as error:
            return failed(error)

    def run(self, *argv: str, timeout: float = 5.0) -> Attempt[Ran]:
        import shutil
        import subprocess

        program = shutil.which(argv[0], path=COMMAND_PATH)
        if program is None:
            return Attempt(Outcome.ABSENT, reason=f"{argv[0]} is not installed")
        try:
            done = subprocess.run(
                [program, *argv[1:]],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=timeout,
                env={"PATH": COMMAND_PATH, "LC_ALL": "C"},
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Attempt(Outcome.TIMEOUT, reason=f"{argv[0]} gave no answer within {timeout:g} s")
        except OSError as error:
            return failed(error)
        return Attempt.ran(
            Ran(done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))
        )

    def ask(self, key: str, question: Callable[[], Any]) -> Attempt[Any]:
        try:
            return Attempt.ran(question())
        except OSError as error:
            return failed(error)

    def begin(self, target: str, argument: Any, timeout: float) -> Pending:
        from ktlsctl.child import Probe, Running

        try:
            return Running(Probe(target, argument, timeout))
        except OSError as error:
            return _Answered(failed(error))


def _about_this_machine(host: Host) -> About:
    system = os.uname()
    names = {"Linux": Os.LINUX, "FreeBSD": Os.FREEBSD}
    if system.sysname not in names:
        raise UnsupportedSystem(f"{system.sysname} has no kernel TLS that ktlsctl knows; it runs on Linux and FreeBSD")
    return About(
        os=names[system.sysname],
        release=system.release,
        machine=system.machine,
        privileged=os.geteuid() == 0,
        distribution=distribution(host.read("/etc/os-release").or_else(b"")),
    )


def distribution(os_release: bytes) -> str:
    """PRETTY_NAME of an os-release(5) file, or an empty string."""
    for line in os_release.decode("utf-8", "replace").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip().strip("\"'")
    return ""


class UnsupportedSystem(Exception):
    """Neither Linux nor FreeBSD."""


class _Answered:
    """A probe whose answer was known at once."""

    def __init__(self, attempt: Attempt[Any]) -> None:
        self._attempt = attempt

    def answer(self) -> Attempt[Any]:
        return self._attempt


class RecordingHost:
    """Another host, with every answer kept for a capture file.  `libssl`: the libraries that the user named."""

    def __init__(self, inner: Host, libssl: tuple[str, ...] = ()) -> None:
        self._inner = inner
        self._libssl = libssl
        self._answers: dict[tuple[str, str], Attempt[Any]] = {}

    @property
    def about(self) -> About:
        return self._inner.about

    def _keep(self, door: str, key: str, answer: Attempt[Any]) -> Attempt[Any]:
        self._answers[door, key] = answer
        return answer

    def read(self, path: str, keep: Filter | None = None) -> Attempt[bytes]:
        return self._keep("read", path, self._inner.read(path, keep))

    def names(self, path: str, keep: NameFilter | None = None) -> Attempt[tuple[str, ...]]:
        found = self._inner.names(path, keep)
        before = self._answers.get(("names", path))
        if found.present and before is not None and before.present:
            # Asked before with another filter: the capture has to answer both.
            both = Attempt.ran(tuple(sorted({*before.or_else(()), *found.or_else(())})))
            self._keep("names", path, both)
        else:
            self._keep("names", path, found)
        return found

    def resolve(self, path: str) -> Attempt[str]:
        return self._keep("resolve", path, self._inner.resolve(path))

    def run(self, *argv: str, timeout: float = 5.0) -> Attempt[Ran]:
        return self._keep("run", json.dumps(argv), self._inner.run(*argv, timeout=timeout))

    def ask(self, key: str, question: Callable[[], Any]) -> Attempt[Any]:
        return self._keep("ask", key, self._inner.ask(key, question))

    def begin(self, target: str, argument: Any, timeout: float) -> Pending:
        return _Recording(self, _probe_key(target, argument), self._inner.begin(target, argument, timeout))

    def document(self, recorded_at: str) -> dict[str, Any]:
        """The capture as a JSON value: what the host is, and each question with its answer."""
        return {
            "ktlsctl_capture": CAPTURE_VERSION,
            "recorded_at": recorded_at,
            "about": encode(self.about),
            "libssl": list(self._libssl),
            "answers": [_write_answer(door, key, answer) for (door, key), answer in self._answers.items()],
        }


class _Recording:
    def __init__(self, host: RecordingHost, key: str, pending: Pending) -> None:
        self._host = host
        self._key = key
        self._pending = pending

    def answer(self) -> Attempt[Any]:
        return self._host._keep("probe", self._key, self._pending.answer())


def _probe_key(target: str, argument: Any) -> str:
    return f"{target} {json.dumps(argument, sort_keys=True)}"


def _write_answer(door: str, key: str, answer: Attempt[Any]) -> dict[str, Any]:
    entry: dict[str, Any] = {"door": door, "key": key, "outcome": answer.outcome.value}
    if answer.reason:
        entry["reason"] = answer.reason
    if isinstance(answer.value, bytes):
        try:
            entry["text"] = answer.value.decode("ascii")
        except UnicodeDecodeError:
            entry["base64"] = base64.b64encode(answer.value).decode("ascii")
    elif answer.present:
        entry["value"] = encode(answer.value)
    return entry


class CaptureError(Exception):
    """The file is no capture; the message is one sentence."""


class CapturedHost:
    """A recording, judged like a live host.

    What was not asked when it was made is `UNRECORDED`.  A capture written by hand may say `"otherwise": "absent"`:
    then files, directories and commands that it does not name do not exist.
    """

    def __init__(
        self, about: About, answers: dict[tuple[str, str], Attempt[Any]], otherwise: Outcome = Outcome.UNRECORDED
    ) -> None:
        self._about = about
        self._answers = answers
        self._otherwise = otherwise
        #: the libraries that were named when it was recorded, and when that was (RFC 3339)
        self.libssl: tuple[str, ...] = ()
        self.recorded_at = ""

    @staticmethod
    def parse(content: bytes) -> CapturedHost:
        """Raises CaptureError when `content` is not a capture that this version can read."""
        try:
            document = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise CaptureError(f"not JSON ({error})") from None
        if not isinstance(document, dict) or "ktlsctl_capture" not in document:
            raise CaptureError("not a ktlsctl capture")
        version = document["ktlsctl_capture"]
        if not isinstance(version, str) or version.partition(".")[0] != CAPTURE_VERSION.partition(".")[0]:
            raise CaptureError(f"capture version {version!r}; this ktlsctl reads {CAPTURE_VERSION}")
        try:
            about = decode(About, document.get("about"), "$.about")
            entries = document.get("answers")
            if not isinstance(entries, list):
                raise DecodeError("$.answers: expected a list")
            otherwise = Outcome(document.get("otherwise", Outcome.UNRECORDED))
            host = CapturedHost(about, dict(_read_answer(entry) for entry in entries), otherwise)
            host.libssl = decode(tuple[str, ...], document.get("libssl", []), "$.libssl")
            host.recorded_at = decode(str, document.get("recorded_at", ""), "$.recorded_at")
            return host
        except (DecodeError, ValueError) as error:
            raise CaptureError(f"damaged capture ({error})") from None

    @property
    def about(self) -> About:
        return self._about

    def _look(self, door: str, key: str) -> Attempt[Any]:
        if (door, key) in self._answers:
            return self._answers[door, key]
        if self._otherwise is Outcome.ABSENT and door in ("read", "names", "resolve", "run"):
            return Attempt(Outcome.ABSENT, reason="No such file or directory")
        return Attempt(Outcome.UNRECORDED, reason="not in the capture")

    def read(self, path: str, keep: Filter | None = None) -> Attempt[bytes]:
        found = self._look("read", path)
        if found.present and not isinstance(found.value, bytes):
            return Attempt(Outcome.UNRECORDED, reason="the capture holds no bytes for this file")
        return found

    def names(self, path: str, keep: NameFilter | None = None) -> Attempt[tuple[str, ...]]:
        found: Attempt[tuple[str, ...]] = self._typed(tuple[str, ...], "names", path)
        return Attempt.ran(tuple(filter(keep, found.value))) if keep and found.value is not None else found

    def resolve(self, path: str) -> Attempt[str]:
        found: Attempt[str] = self._typed(str, "resolve", path)
        if found.value == "":
            return Attempt(Outcome.UNRECORDED, reason="the capture holds no path for this file")
        return found

    def run(self, *argv: str, timeout: float = 5.0) -> Attempt[Ran]:
        return self._typed(Ran, "run", json.dumps(argv))

    def ask(self, key: str, question: Callable[[], Any]) -> Attempt[Any]:
        return self._look("ask", key)

    def begin(self, target: str, argument: Any, timeout: float) -> Pending:
        return _Answered(self._look("probe", _probe_key(target, argument)))

    def _typed(self, kind: Any, door: str, key: str) -> Attempt[Any]:
        found = self._look(door, key)
        if not found.present:
            return found
        try:
            return Attempt.ran(decode(kind, found.value, f"{door} {key}"))
        except DecodeError as error:
            return Attempt(Outcome.UNRECORDED, reason=f"damaged in the capture: {error}")


def _read_answer(entry: Any) -> tuple[tuple[str, str], Attempt[Any]]:
    if not isinstance(entry, dict) or not isinstance(entry.get("door"), str) or not isinstance(entry.get("key"), str):
        raise DecodeError("$.answers: an answer without door and key")
    outcome = Outcome(str(entry.get("outcome")))
    reason = str(entry.get("reason", ""))
    value: Any = None
    if outcome is Outcome.RAN:
        if "text" in entry:
            value = str(entry["text"]).encode()
        elif "base64" in entry:
            value = base64.b64decode(str(entry["base64"]), validate=True)
        else:
            value = entry.get("value")
    return (entry["door"], entry["key"]), Attempt(outcome, value, reason)
