# SPDX-License-Identifier: BSD-2-Clause
"""`ktlsctl libraries`: which TLS libraries the running processes carry, and whether those can use kernel TLS at all.

`gather` asks the host, `report` judges.  A libssl is asked by running it only where nobody but root and this user can
have written it: any user can map any file, and what he maps must not run with the rights of whoever looks.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from ktlsctl import openssl
from ktlsctl.facts import answers, gnutlsconf, packages, tlsscan
from ktlsctl.facts.answers import Answer, Subject
from ktlsctl.facts.libraries import Origin, origin_of
from ktlsctl.facts.tlsfiles import Family, Implementation
from ktlsctl.facts.tlsscan import File, Look, Order, Scan, Sight
from ktlsctl.host import Host
from ktlsctl.model import (
    About,
    Armed,
    Attempt,
    Check,
    Evidence,
    Library,
    Link,
    Outcome,
    Reach,
    Remedy,
    Report,
    Session,
    Status,
    TlsProcess,
    Tri,
    Verdict,
)

__all__ = ["Facts", "Order", "gather", "report"]

#: How the name of a file begins that is a TLS library if it is what it is called; only for one that cannot be read.
_CALLED = re.compile(r"lib(?:ssl3?|gnutls|wolfssl|mbedtls|s2n)[-.]")


@dataclass(frozen=True, slots=True)
class Facts:
    """What the host said.  `answers`: by path, what each libssl that may be run says of itself; `owners`: package by
    path."""

    order: Order
    scan: Attempt[Scan]
    answers: Mapping[str, Attempt[Answer]] = field(default_factory=dict)
    owners: Mapping[str, str] = field(default_factory=dict)
    gnutls: Attempt[gnutlsconf.Setting] = field(default_factory=lambda: Attempt(Outcome.UNRECORDED))

    @property
    def elsewhere(self) -> bool:
        """Whether any process lives in a network namespace that is not the caller's."""
        scan = self.scan.value
        return scan is not None and any(look.network not in ("", scan.network) for look in scan.processes)


def gather(host: Host, order: Order) -> Facts:
    """Ask the host; no attempt raises, nothing on it is changed."""
    scan = tlsscan.read(host, order)
    if scan.value is None:
        return Facts(order, scan)
    told = [file for file in scan.value.files if file.content is not None and file.content.implementations]
    asked = [file.own for file in told if file.own and _may_be_asked(file)]
    return Facts(
        order,
        scan,
        answers.ask(host, dict.fromkeys(asked)),
        packages.owners(host, [file.path for file in told if _of_host(file)]),
        gnutlsconf.read(host),
    )


def _of_host(file: File) -> bool:
    """Whether this host's package manager knows it, or knew it: a container's file of the same path is another's."""
    return file.here or file.replaced_here


def _may_be_asked(file: File) -> bool:
    return file.content is not None and any(
        x.family is Family.OPENSSL and not x.static for x in file.content.implementations
    )


# ---- findings


def report(about: About, facts: Facts, sessions: Report, everywhere: Report | None = None) -> Report:
    """`sessions`: what `ktlsctl sessions` says of the same host; `everywhere`: with all network namespaces."""
    scan = facts.scan.value or Scan((), ())
    table = _Table(about, facts, scan)
    sockets = _Sockets(sessions, everywhere or sessions, scan.network)
    processes = tuple(
        _process(look, table, sockets) for look in scan.processes if look.sight is Sight.SEEN and table.of(look)
    )
    errors = tuple(_errors(facts.order, facts.scan))
    checks = (
        _seen(about, facts, scan),
        *_replaced(processes, table.libraries),
        *_alone(scan),
        *_unseen(scan, processes, sockets),
    )
    return Report(
        about=about,
        generated_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        verdict=_verdict(processes, checks, errors),
        checks=checks,
        libraries=tuple(table.libraries),
        errors=errors,
        processes=processes,
    )


class _Table:
    """Each distinct library once.  Copies are one when build id, path and who vouches for them agree: the containers
    of one image have the same."""

    def __init__(self, about: About, facts: Facts, scan: Scan) -> None:
        self.libraries: list[Library] = []
        #: indices in `libraries` by index in `scan.files`
        self._of_file: dict[int, tuple[int, ...]] = {}
        known: dict[tuple[object, ...], int] = {}
        versions = _crypto_versions(scan)
        for number, file in enumerate(scan.files):
            found = []
            for library in _libraries(about, facts, file, versions.get(number, "")):
                key = (
                    library.build_id or file.key, library.path, library.family, file.deleted, file.own, library.package,
                )  # fmt: skip
                if key not in known:
                    known[key] = len(self.libraries)
                    self.libraries.append(library)
                found.append(known[key])
            self._of_file[number] = tuple(found)

    def of(self, look: Look) -> tuple[int, ...]:
        return tuple(dict.fromkeys(index for file in look.files for index in self._of_file[file]))


def _crypto_versions(scan: Scan) -> Mapping[int, str]:
    """The version of each libssl file: that of the libcrypto beside it in a process, or of the only one there."""
    found: dict[int, str] = {}
    for look in scan.processes:
        cryptos = {
            os.path.dirname(scan.files[i].path): content.crypto_version
            for i in look.files
            if (content := scan.files[i].content) is not None and content.crypto_version
        }
        for i in look.files:
            version = cryptos.get(os.path.dirname(scan.files[i].path))
            if version is None and len(cryptos) == 1:
                (version,) = cryptos.values()
            if version:
                found.setdefault(i, version)
    return found


def _libraries(about: About, facts: Facts, file: File, crypto: str) -> Iterator[Library]:
    if file.content is None:
        if _CALLED.match(os.path.basename(file.path)):
            yield _unread(about, file)
        return
    for said in file.content.implementations:
        package = packages.of_wheel(file.path) or (facts.owners.get(file.path, "") if _of_host(file) else "")
        library = _library(about, facts, file, said, crypto)
        yield replace(
            library,
            family=said.family.value,
            build_id=file.content.build_id,
            static=said.static,
            deleted=file.deleted,
            package=package,
        )


def _unread(about: About, file: File) -> Library:
    why = f"it could not be read ({file.reason}), and its name proves nothing; run ktlsctl as root"
    return Library(
        file.path, "", origin_of(file.path, about.os).value, (), Status.UNKNOWN, why, Tri.UNKNOWN, "", Tri.UNKNOWN,
        deleted=file.deleted,
    )  # fmt: skip


def _library(about: About, facts: Facts, file: File, said: Implementation, crypto: str) -> Library:
    asked = facts.answers.get(file.own)
    if asked is not None and said.family is Family.OPENSSL and not said.static:
        name = os.path.basename(file.path)
        subject = Subject(file.own, name, origin_of(file.own, about.os), False, (), "", asked)
        library = openssl.describe(subject, about)
        if library.built_with_ktls is not Tri.UNKNOWN:
            return replace(library, path=file.path)
    origin = Origin.STATIC if said.static else origin_of(file.path, about.os)
    version = said.version or (crypto if said.family in (Family.OPENSSL, Family.LIBRESSL, Family.AWS_LC) else "")
    # all other families are off by what they are; OpenSSL's own configuration is not read for a library not asked
    enabled = Tri.UNKNOWN if said.ktls is not Tri.NO else Tri.NO
    setting = facts.gnutls.value if said.family is Family.GNUTLS and file.here else None
    if setting is not None and said.ktls is Tri.YES:
        enabled = setting.on
    return Library(
        path=file.path,
        version=version,
        origin=origin.value,
        roles=(),
        status={Tri.YES: Status.OK, Tri.NO: Status.SKIP, Tri.UNKNOWN: Status.UNKNOWN}[said.ktls],
        reason=_reason(said, version, file),
        built_with_ktls=said.ktls,
        proof=_proof(said),
        enabled_by_default=enabled,
        config_file=setting.file if setting is not None else "",
    )


def _proof(said: Implementation) -> str:
    if said.ktls is Tri.UNKNOWN:
        return ""
    by = f"known by its {'strings' if said.static else 'dynamic symbols'}"
    # of a family that has no kTLS the proof is the reason itself
    how = said.proof if said.family in (Family.OPENSSL, Family.GNUTLS, Family.S2N) or said.ktls is Tri.YES else by
    return f"{how}; the file was read, not run"


def _reason(said: Implementation, version: str, file: File) -> str:
    if said.ktls is Tri.YES:
        return ""
    if said.ktls is Tri.NO:
        return (
            said.proof
            if said.family not in (Family.OPENSSL, Family.GNUTLS, Family.S2N)
            else "it was built without kTLS"
        )
    short = " ".join(version.split()[:2])
    name = short if short.startswith(said.family.value) else f"{said.family.value} {short}".rstrip()
    where = "linked into this program" if file.content is not None and file.content.program else "linked into this file"
    return f"{name} is {where}, where nothing tells whether it was built with kTLS"


def _process(look: Look, table: _Table, sockets: _Sockets) -> TlsProcess:
    indices = table.of(look)
    carried = [table.libraries[i] for i in indices]
    count = sockets.of(look)
    reach, reason = _reach(carried, count)
    return TlsProcess(look.pid, look.name, look.program, reach, reason, count, indices)


def _reach(carried: Sequence[Library], sockets: int | None) -> tuple[Reach, str]:
    if sockets:
        return Reach.NOW, f"{sockets} socket{'' if sockets == 1 else 's'} with kernel TLS"
    able = [library for library in carried if library.built_with_ktls is Tri.YES]
    if able:
        words = dict.fromkeys(_how(library) for library in able)
        return Reach.COULD, "; ".join(words)
    open_ones = [library for library in carried if library.built_with_ktls is Tri.UNKNOWN]
    if open_ones:
        return Reach.UNKNOWN, "; ".join(dict.fromkeys(library.reason for library in open_ones))
    return Reach.NEVER, "; ".join(dict.fromkeys(f"{title(library)}: {library.reason}" for library in carried))


def _how(library: Library) -> str:
    """What it takes to get there."""
    if library.family == Family.RUSTLS.value:
        return "where the program calls the ktls crate"
    if library.family == Family.S2N.value:
        return "where the program calls s2n_connection_ktls_enable_send or _recv"
    if library.enabled_by_default is Tri.YES:
        return f"{library.config_file or 'its configuration'} asks for it in every new session"
    if library.family == Family.GNUTLS.value and library.config_file and library.enabled_by_default is Tri.UNKNOWN:
        return f"where the file that it was built to read says so: {gnutlsconf.PATH} and {gnutlsconf.POLICY} differ"
    if library.family == Family.GNUTLS.value:
        return f"only with `ktls = true` in the [global] section of {gnutlsconf.to_edit(library.config_file)}"
    if library.enabled_by_default is Tri.NO:
        return "where the program asks for it: it is off by default"
    return "where the program or its configuration asks for it"


def title(library: Library) -> str:
    """For a sentence: `OpenSSL 3.0.22`, `GnuTLS`, or the file's name."""
    if library.version.startswith("go"):
        return f"{library.family} ({library.version})"
    words = library.version.split()
    if words and words[0] == library.family.split()[0]:
        return " ".join(words[:3] if library.family == Family.MBEDTLS.value else words[:2])
    return f"{library.family} {library.version}".strip() or os.path.basename(library.path)


class _Sockets:
    """Sockets with kernel TLS by process, and why some may not have been seen: here, or in another namespace."""

    def __init__(self, here: Report, everywhere: Report, network: str) -> None:
        listed: Sequence[Session] = everywhere.sessions or ()
        self._count = Counter(owner.pid for s in listed if s.armed is Armed.KERNEL for owner in s.owners or ())
        self._network = network
        self._here, self._elsewhere = _blindness(here), _blindness(everywhere)

    def blind(self, look: Look) -> Check | None:
        """What kept the sockets of this process from being seen."""
        return self._here if look.network in ("", self._network) else self._elsewhere

    def of(self, look: Look) -> int | None:
        if look.pid in self._count:
            return self._count[look.pid]
        return None if self.blind(look) is not None else 0


def _blindness(sessions: Report) -> Check | None:
    # a namespace that was not even found is none of a process that was looked into
    return next((c for c in sessions.checks if c.status is Status.UNKNOWN and c.id != "sessions.namespaces"), None)


def _unseen(scan: Scan, processes: Sequence[TlsProcess], sockets: _Sockets) -> Iterator[Check]:
    """libraries.sockets: only where it matters: a library without kTLS has no such socket."""
    open_ones = [p for p in processes if p.sockets is None and p.ktls is not Reach.NEVER]
    why = next((sockets.blind(look) for look in scan.processes for p in open_ones[:1] if look.pid == p.pid), None)
    if why is None:
        return
    yield Check(
        "libraries.sockets",
        Link.SESSION,
        Status.UNKNOWN,
        f"whether {_named(open_ones)} {'has' if len(open_ones) == 1 else 'have'} kernel TLS now was not seen",
        f"{why.summary}: {why.reason}",
        remedy=why.remedy,
    )


def _named(processes: Sequence[TlsProcess]) -> str:
    """`nginx (812) and 3 more processes`"""
    first = f"{processes[0].name} ({processes[0].pid})"
    more = len(processes) - 1
    return f"{first} and {more} more process{'' if more == 1 else 'es'}" if more else first


def _errors(order: Order, scan: Attempt[Scan]) -> Iterator[str]:
    """What was asked for by name and is not there."""
    if scan.value is None:
        return
    found = {look.pid for look in scan.value.processes if look.sight is not Sight.GONE}
    gone = [look.pid for look in scan.value.processes if look.sight is Sight.GONE]
    if order.pids:
        for pid in order.pids:
            if pid in gone and pid not in found:
                yield f"there is no process {pid}; ps -e lists those that there are"
    if order.names and not (found or scan.value.clear or scan.value.empty):
        yield f"no process here is called {' or '.join(order.names)}; ps -e lists those that there are"


def _seen(about: About, facts: Facts, scan: Scan) -> Check:
    """libraries.seen: how much of the host was looked into."""
    identity = "libraries.seen"
    if facts.scan.value is None:
        return Check(
            identity,
            Link.LIBRARY,
            Status.UNKNOWN,
            "the running processes were not seen",
            facts.scan.reason or "the look at them gave no answer",
            remedy=(Remedy("try again, or ask for one process with --pid"),),
        )
    by_sight = Counter(look.sight for look in scan.processes)
    seen = by_sight[Sight.SEEN] + scan.clear
    unread = [f for f in scan.files if f.content is None or f.content.unsearched]
    evidence: Evidence = {
        "seen": seen,
        "denied": by_sight[Sight.DENIED],
        "failed": by_sight[Sight.FAILED],
        "ended": by_sight[Sight.GONE],
        "kernel_threads_and_zombies": scan.empty,
        "unread_files": tuple(f"{f.path}: {f.reason or (f.content.unsearched if f.content else '')}" for f in unread),
    }
    summary = f"{seen} process{'' if seen == 1 else 'es'} looked into"
    missing = []
    if denied := [look for look in scan.processes if look.sight is Sight.DENIED]:
        missing.append(f"{_many(denied)} not for this user to look into ({denied[0].reason})")
    if failed := [look for look in scan.processes if look.sight is Sight.FAILED]:
        missing.append(f"{_many(failed)} failed to answer ({failed[0].reason})")
    if scan.hidden:
        missing.append("/proc shows this user its own processes only (mount option hidepid)")
    if unread:
        first = unread[0]
        why = first.reason or (first.content.unsearched if first.content is not None else "")
        many = f"{len(unread)} mapped files" if len(unread) > 1 else "a mapped file"
        missing.append(f"{many} could not be read, such as {first.path} ({why})")
    if missing:
        remedy = () if about.privileged else (Remedy("run it as root", "sudo ktlsctl libraries"),)
        return Check(
            identity,
            Link.LIBRARY,
            Status.UNKNOWN,
            "not everything could be looked into",
            "; ".join(missing),
            evidence,
            remedy,
        )
    if not seen:
        return Check(
            identity,
            Link.LIBRARY,
            Status.UNKNOWN,
            "no process was looked into",
            "kernel threads and zombies map no files" if scan.empty else "there was none",
            evidence,
        )
    return Check(identity, Link.LIBRARY, Status.OK, summary, "", evidence)


def _many(looks: Sequence[Look]) -> str:
    """`process 12 (nginx)`, `7 processes`"""
    if len(looks) > 1:
        return f"{len(looks)} processes"
    return f"process {looks[0].pid}" + (f" ({looks[0].name})" if looks[0].name else "")


def _replaced(processes: Sequence[TlsProcess], libraries: Sequence[Library]) -> Iterator[Check]:
    """libraries.replaced: what is on disk is not what runs."""
    old = [p for p in processes if any(libraries[i].deleted for i in p.libraries)]
    if not old:
        return
    paths = tuple(dict.fromkeys(libraries[i].path for p in old for i in p.libraries if libraries[i].deleted))
    several = len(old) > 1
    yield Check(
        "libraries.replaced",
        Link.LIBRARY,
        Status.WARNING,
        f"{_named(old)} still use{'' if several else 's'} a TLS library that was replaced or deleted on disk",
        f"{', '.join(paths)}: what the file on disk can do says nothing about {'them' if several else 'it'}",
        {"processes": tuple(f"{p.name} ({p.pid})" for p in old), "paths": paths},
        (Remedy(f"restart {'them, and they use' if several else 'it, and it uses'} what is on disk now"),),
    )


def _alone(scan: Scan) -> Iterator[Check]:
    """libraries.static: programs that could hide one."""
    names = tuple(
        f"{look.name} ({look.pid})"
        for look in scan.processes
        if any(
            (content := scan.files[i].content) is not None and content.alone and not content.implementations
            for i in look.files
        )
    )
    if names:
        several = len(names) > 1
        yield Check(
            "libraries.static",
            Link.LIBRARY,
            Status.SKIP,
            f"{len(names)} statically linked program{'s show' if several else ' shows'} no sign of a TLS library",
            "that proves nothing: a library that is linked into a program need not leave its name there",
            {"processes": names},
        )


def _verdict(processes: Sequence[TlsProcess], checks: Sequence[Check], errors: Sequence[str]) -> Verdict:
    counted = in_words(processes)
    if errors:
        return Verdict(Status.UNKNOWN, errors[0])
    for status in (Status.UNKNOWN, Status.WARNING):
        first = next((check for check in checks if check.status is status), None)
        if first is not None:
            broken = first.id if status is Status.WARNING else None
            return Verdict(status, f"{counted}; {first.summary}", broken, first.remedy)
    return Verdict(Status.OK, counted)


def in_words(processes: Sequence[TlsProcess]) -> str:
    """ "7 processes have a TLS library: 2 have kernel TLS now, 4 could have it, 1 never can" """
    if not processes:
        return "no process that was seen has a TLS library"
    count = Counter(p.ktls for p in processes)
    words = {
        Reach.NOW: f"{'has' if count[Reach.NOW] == 1 else 'have'} kernel TLS now",
        Reach.COULD: "could have it",
        Reach.NEVER: "never can",
        Reach.UNKNOWN: "unknown",
    }
    parts = [f"{count[reach]} {text}" for reach, text in words.items() if count[reach]]
    many = f"{len(processes)} processes have" if len(processes) > 1 else "1 process has"
    return f"{many} a TLS library: {', '.join(parts)}"
