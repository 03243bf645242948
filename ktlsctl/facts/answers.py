# SPDX-License-Identifier: BSD-2-Clause
"""What the TLS libraries of a host answered: the probe children's answers with types, and how they are gathered.

The questions are put by libsslprobe.py, one child a library.  Nothing is judged here.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from ktlsctl.codec import decode
from ktlsctl.facts import libraries, opensslcnf, programs
from ktlsctl.facts.attempts import mapped
from ktlsctl.facts.libraries import Origin
from ktlsctl.host import Host, Pending
from ktlsctl.model import Attempt, Outcome, TlsVersion

#: Seconds that a library may take: a hundred times what it needs, since emulated machines are that slow.
PATIENCE = 10.0

#: Children at work at the same time: each takes memory, and each one's deadline runs from its start.
_AT_ONCE = 4

_PROBE, _PYTHON = "ktlsctl.libsslprobe:probe", "ktlsctl.libsslprobe:python"


class Role(StrEnum):
    """Who uses a library here."""

    NAMED = "named"
    SYSTEM = "system"
    PYTHON = "python"
    PYOPENSSL = "pyopenssl"


class Fault(StrEnum):
    """Why a file could not be asked, as far as the child lived to say."""

    MISSING = "missing"
    DENIED = "denied"
    UNREADABLE = "unreadable"
    DIRECTORY = "directory"
    EMPTY = "empty"
    TEXT = "text"
    NOT_ELF = "not_elf"
    DAMAGED = "damaged"
    FOREIGN = "foreign"
    NOT_SHARED = "not_shared"
    LIBCRYPTO = "libcrypto"
    CONFLICT = "conflict"
    LOAD = "load"
    NOT_LIBSSL = "not_libssl"
    TOO_OLD = "too_old"
    SYMBOLS = "symbols"
    CONFIGURATION = "configuration"
    CERTIFICATE = "certificate"


@dataclass(frozen=True, slots=True)
class Asked:
    """How often one end of a session asked its BIO for the kernel, by direction."""

    tx: int
    rx: int

    @property
    def any(self) -> bool:
        return self.tx > 0 or self.rx > 0


@dataclass(frozen=True, slots=True)
class SuiteAnswer:
    """One suite: whether a session came about (else `reason` is the library's own), and what each end asked for."""

    version: TlsVersion
    suite: str
    agreed: bool
    reason: str
    server: Asked
    client: Asked


@dataclass(frozen=True, slots=True)
class Answer:
    """What one libssl said.  `option`: a fresh context has SSL_OP_ENABLE_KTLS; `unprompted`: it asks without that.

    With a `fault` the members hold what was learnt before it.
    """

    fault: Fault | None = None
    detail: str = ""
    version: str = ""
    libcrypto: str = ""
    directory: str = ""
    config_file: str = ""
    option: bool = False
    unprompted: bool = False
    suites: tuple[SuiteAnswer, ...] = ()


@dataclass(frozen=True, slots=True)
class Bound:
    """A Python module and the libssl it is bound to; "" when OpenSSL is linked into `file` itself.

    Then `version` is that one's, and `strings` says whether the file names the kTLS record layer of 3.2 and later.
    """

    file: str
    libssl: str
    version: str
    strings: bool


@dataclass(frozen=True, slots=True)
class PythonAnswer:
    """What this interpreter carries.  `ssl` is None when it has no ssl module; `absent` then says why."""

    ssl: Bound | None = None
    absent: str = ""
    bindings: tuple[Bound, ...] = ()


@dataclass(frozen=True, slots=True)
class Subject:
    """One TLS library of the host: where it is, who uses it, what it answered.

    `path` has every link followed; `name` is the file name by which it was found; `linked`: the dynamic linker gives
    it to programs that ask for `name`.
    """

    path: str
    name: str
    origin: Origin
    linked: bool
    roles: tuple[Role, ...]
    package: str
    answer: Attempt[Answer]


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything about TLS libraries.  `libraries`: named ones first, then in the order of the dynamic linker."""

    libraries: tuple[Subject, ...]
    python: Attempt[PythonAnswer]
    configurations: tuple[Attempt[opensslcnf.Configuration], ...]
    programs: programs.Programs
    unseen: tuple[str, ...] = ()

    def configuration(self, path: str) -> opensslcnf.Configuration | None:
        """The file that was read under this name."""
        values = (attempt.value for attempt in self.configurations)
        return next((value for value in values if value is not None and value.path == path), None)


class Gathering:
    """Questions under way.  Construction begins them; `facts()` waits for the answers."""

    def __init__(self, host: Host, named: tuple[str, ...], timeout: float = PATIENCE) -> None:
        self._host = host
        self._timeout = timeout
        self._python = host.begin(_PYTHON, {}, timeout)
        self._search = libraries.search(host)
        self._subjects: dict[str, Subject] = {}
        for path in named:
            self._name(os.path.abspath(path))
        for found in self._search.libssl:
            self._add(found, Role.SYSTEM if found.linked else None)
        self._queue = _Queue(host, timeout)
        self._queue.add(s.path for s in self._subjects.values() if s.answer.outcome is Outcome.UNRECORDED)

    def _name(self, path: str) -> None:
        """A library that the user named; one that is not there is not worth a child."""
        real = self._host.resolve(path)
        if real.value is not None:
            origin = libraries.origin_of(real.value, self._host.about.os)
            found = libraries.Found(real.value, os.path.basename(path), origin, False)
            self._add(found, Role.NAMED)
            return
        found = libraries.Found(path, os.path.basename(path), Origin.NAMED, False)
        faults = {Outcome.ABSENT: Fault.MISSING, Outcome.DENIED: Fault.DENIED, Outcome.FAILED: Fault.UNREADABLE}
        fault = faults.get(real.outcome)
        answer: Attempt[Answer] = Attempt(real.outcome, None, real.reason)
        self._add(found, Role.NAMED, answer if fault is None else Attempt.ran(Answer(fault, real.reason)))

    def _add(self, found: libraries.Found, role: Role | None, answer: Attempt[Answer] | None = None) -> None:
        unasked: Attempt[Answer] = Attempt(Outcome.UNRECORDED, reason="not asked")
        roles = () if role is None else (role,)
        known = self._subjects.get(found.path)
        if known is None:
            self._subjects[found.path] = Subject(
                found.path, found.name, found.origin, found.linked, roles, "", answer or unasked
            )
        else:
            # named by the user and found as well: what was found knows more
            self._subjects[found.path] = replace(
                known, name=found.name, origin=found.origin, linked=found.linked, roles=_joined(known.roles, roles)
            )

    def facts(self) -> Facts:
        """Wait for every child, at most until its deadline, and read what explains the answers."""
        packages = {f.path: libraries.package_of(self._host, f) for f in self._search.libssl}
        installed = programs.gather(self._host, self._search.libpq)
        python = mapped(self._python.answer(), lambda value: decode(PythonAnswer, value))
        bound = python.or_else(PythonAnswer())
        self._use((bound.ssl,) if bound.ssl else (), Role.PYTHON)
        self._use(bound.bindings, Role.PYOPENSSL)
        answers = self._queue.answers()
        subjects = tuple(
            replace(subject, package=packages.get(path, ""), answer=answers.get(path, subject.answer))
            for path, subject in self._subjects.items()
        )
        files = dict.fromkeys(s.answer.value.config_file for s in subjects if s.answer.value is not None)
        configurations = tuple(opensslcnf.read(self._host, file) for file in files if file)
        return Facts(subjects, python, configurations, installed, self._search.unseen)

    def _use(self, modules: Iterable[Bound], role: Role) -> None:
        """Note who uses a library; ask one that was found only by that."""
        system = self._host.about.os
        for module in modules:
            if not module.libssl:
                origin = libraries.origin_of(module.file, system)
                origin = origin if origin is Origin.WHEEL else Origin.STATIC
                found = libraries.Found(module.file, os.path.basename(module.file), origin, False)
                self._add(found, role, Attempt.ran(Answer(version=module.version)))
            elif module.libssl in self._subjects:
                known = self._subjects[module.libssl]
                self._subjects[module.libssl] = replace(known, roles=_joined(known.roles, (role,)))
            else:
                name = os.path.basename(module.libssl)
                origin = libraries.origin_of(module.libssl, system)
                self._add(libraries.Found(module.libssl, name, origin, False), role)
                self._queue.add([module.libssl])


def _joined(some: tuple[Role, ...], more: tuple[Role, ...]) -> tuple[Role, ...]:
    return tuple(dict.fromkeys((*some, *more)))


def ask(host: Host, paths: Iterable[str], timeout: float = PATIENCE) -> dict[str, Attempt[Answer]]:
    """What these libssl files say of themselves: each is loaded and run in a child of its own."""
    queue = _Queue(host, timeout)
    queue.add(paths)
    return queue.answers()


class _Queue:
    """Probe children, a few at a time."""

    def __init__(self, host: Host, timeout: float) -> None:
        self._host = host
        self._timeout = timeout
        self._waiting: list[str] = []
        self._running: dict[str, Pending] = {}

    def add(self, paths: Iterable[str]) -> None:
        self._waiting.extend(paths)
        self._begin()

    def _begin(self) -> None:
        while self._waiting and len(self._running) < _AT_ONCE:
            path = self._waiting.pop(0)
            self._running[path] = self._host.begin(_PROBE, {"path": path}, self._timeout)

    def answers(self) -> dict[str, Attempt[Answer]]:
        """Every answer, by path."""
        found: dict[str, Attempt[Answer]] = {}
        while self._running:
            path = next(iter(self._running))
            found[path] = mapped(self._running[path].answer(), lambda value: decode(Answer, value))
            del self._running[path]
            self._begin()
        return found
