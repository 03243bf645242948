# SPDX-License-Identifier: BSD-2-Clause
"""Who would be hurt if a library's configuration file switched kTLS on for everybody.

Two kinds: programs that break under kTLS (PostgreSQL and libpq up to 17), and, where the library sends wrong data after
a repeated write from another buffer, programs that set SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER.  Judging is a pure function
over facts/installed.py.  Whether a program sets that mode was read in its source; nothing in a binary tells it.
Whether the library is one of those is tried where the kernel carries a session already; else its version has to do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from ktlsctl import advisories
from ktlsctl.codec import DecodeError, decode, encode
from ktlsctl.facts import installed
from ktlsctl.facts.answers import Role
from ktlsctl.facts.installed import Installed, Process
from ktlsctl.facts.programs import FIRST_SAFE_POSTGRESQL, Programs
from ktlsctl.host import Host
from ktlsctl.model import Certainty, Library, Os, Remedy, TlsVersion, Tri
from ktlsctl.scenarios import catalogue, moving_write_buffer
from ktlsctl.sessionfacts import Trial, TrialsFacts, TrialsOrder, Way


@dataclass(frozen=True, slots=True)
class Endangered:
    """A kind of program and where it is on this host.

    `name`: what `--despite` takes.  `why` and `harm` are sentences without full stop; `installed` and `running` say
    which program and where.  `certainty`: proved when a trial saw the library do it, or the programs were.
    """

    name: str
    title: str
    why: str
    harm: str
    certainty: Certainty
    reference: str
    way_out: Remedy
    installed: tuple[str, ...] = ()
    running: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Inventory:
    """`unjudged`: running programs of this library of which nobody knows; `unseen`: what could not be looked at."""

    endangered: tuple[Endangered, ...] = ()
    unjudged: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Setter:
    """A program that sets the mode.  `package`, `program` (its file's name) and `mapped` (a path) are patterns."""

    name: str
    title: str
    source: str
    package: str
    program: str
    mapped: str


_SETTERS = (
    _Setter(
        "python",
        "Python's ssl",
        "Modules/_ssl.c: newPySSLSocket",
        r"(?!)",
        r"(?!)",
        r".*/_ssl\.[^/]*",
    ),
    _Setter(
        "ruby",
        "Ruby's openssl",
        "ext/openssl/ossl_ssl.c: ossl_sslctx_s_alloc",
        r"(?:lib)?ruby[\d.]*(?:-libs)?|rubygem-openssl",
        r"(?!)",
        r".*/ruby/.*/openssl\.so",
    ),
    _Setter(
        "perl",
        "Perl's IO::Socket::SSL",
        "lib/IO/Socket/SSL.pm",
        r"libio-socket-ssl-perl|(?:perl|p5)-IO-Socket-SSL",
        r"(?!)",
        r".*/Net/SSLeay/SSLeay\.so",
    ),
    _Setter(
        "redis",
        "Redis, Valkey",
        "src/tls.c: createSSLContext",
        r"(?:redis|valkey)\d*(?:-server|-tools)?",
        r"(?:redis|valkey)-(?:server|sentinel|cli|benchmark)",
        r"(?!)",
    ),
    _Setter("stunnel", "stunnel", "src/ctx.c", r"stunnel\d?", r"stunnel\d?", r"(?!)"),
    _Setter("lighttpd", "lighttpd", "src/mod_openssl.c", r"lighttpd(?:-mod-openssl)?", r"lighttpd", r"(?!)"),
)

#: Measured under a host-wide switch, with no harm, and known not to set the mode, or to be out of the kernel's way.
_UNHARMED = re.compile(r"nginx|openssl|apache2|httpd|haproxy|curl|mariadbd?")

_PACKAGED_SERVER = re.compile(r"postgresql-\d+|postgresql\d*-server")
_PACKAGED_CLIENT = re.compile(r"libpq5?|postgresql\d*-(?:client|libs|private-libs)")
_LIBPQ = re.compile(r".*/libpq\.so\.5\.(\d{1,4})")


def inventory(host: Host, library: Library) -> Inventory:
    """What the switch would hurt."""
    if library.built_with_ktls is Tri.NO:
        return Inventory()
    return judge(installed.gather(host, library.path), library, *_tried(host, library))


def merged(inventories: Iterable[Inventory]) -> Inventory:
    """What a switch that several libraries read would hurt: each kind of program once, with all its places."""
    found: dict[str, Endangered] = {}
    unjudged: list[str] = []
    unseen: list[str] = []
    for each in inventories:
        for program in each.endangered:
            found[program.name] = _both(found.get(program.name, program), program)
        unjudged += each.unjudged
        unseen += each.unseen
    return Inventory(tuple(found.values()), installed.unique(unjudged), installed.unique(unseen))


def _both(one: Endangered, other: Endangered) -> Endangered:
    """The worse of two, with the places of both."""
    worse = other if one.certainty is not Certainty.PROVED and other.certainty is Certainty.PROVED else one
    return replace(
        worse,
        installed=installed.unique((*one.installed, *other.installed)),
        running=installed.unique((*one.running, *other.running)),
    )


#: The defect is the library's, whatever the cipher.
_TRIALS = (
    Trial(moving_write_buffer.NAME, TlsVersion.TLS12, "ECDHE-ECDSA-AES128-GCM-SHA256"),
    Trial(moving_write_buffer.NAME, TlsVersion.TLS13, "TLS_AES_128_GCM_SHA256"),
)


def _tried(host: Host, library: Library) -> tuple[frozenset[str], frozenset[str]]:
    """Ids of advisories: of which the library showed the defect just now, and that it is not there.

    A version that is free of it needs no trial.  Nothing of both where the kernel carried no session, and on FreeBSD,
    where no scenario has ever been run."""
    nothing: frozenset[str] = frozenset()
    if host.about.os is not Os.LINUX or corrupts(library, nothing, nothing) is None:
        return nothing, nothing
    order = TrialsOrder(library.path, Way.SOCKET, catalogue.patience(moving_write_buffer.NAME, 0), 1, _TRIALS)
    answer = host.begin("ktlsctl.trials.run:probe", encode(order), 60.0).answer()
    try:
        facts = decode(TrialsFacts, answer.value).trials if answer.present else ()
        results = [catalogue.judged(trial, library.version) for trial in facts]
    except DecodeError:
        return nothing, nothing
    proved = frozenset(identity for result in results for identity in result.known)
    return proved, frozenset(identity for result in results for identity in result.refuted) - proved


def judge(
    facts: Installed, library: Library, proved: frozenset[str] = frozenset(), refuted: frozenset[str] = frozenset()
) -> Inventory:
    """Findings from facts; asks the machine nothing.  `proved`, `refuted`: ids of advisories of which a trial saw the
    defect, or that it is not there; either outweighs the library's version."""
    if library.built_with_ktls is Tri.NO:
        return Inventory()
    if Role.SYSTEM.value not in library.roles:
        # what was installed for the host uses the host's own; of this one only what has it mapped is known
        facts = replace(facts, programs=Programs(()), packages=())
    found = [*_postgresql(facts, library)]
    certainty = corrupts(library, proved, refuted)
    if certainty is not None:
        found += _setters(facts, library, certainty)
    known = {process.pid for process in facts.processes if _judged(process)}
    unjudged = installed.unique(_called(p) for p in facts.processes if p.pid not in known)
    return Inventory(tuple(found), unjudged, facts.unseen)


def corrupts(library: Library, proved: frozenset[str], refuted: frozenset[str]) -> Certainty | None:
    """Whether the library sends wrong data after a write that was repeated from another buffer; None: it does not."""
    if advisories.MOVING_BUFFER in proved:
        return Certainty.PROVED
    version = advisories.openssl_version(library.version)
    advisory = advisories.named(advisories.MOVING_BUFFER)
    # one that does not say its version is taken to
    if advisories.MOVING_BUFFER in refuted or (version is not None and not advisory.concerns(version)):
        return None
    return Certainty.POSSIBLE


# ---- PostgreSQL


def _postgresql(facts: Installed, library: Library) -> Iterator[Endangered]:
    version = advisories.openssl_version(library.version)
    modern = version is None or version >= advisories.parse("3.2")
    breaking = [program for program in facts.programs.found if program.breaks]
    for name, title, packaged, mapped in (
        ("postgresql", "PostgreSQL server", _PACKAGED_SERVER, None),
        ("libpq", "libpq", _PACKAGED_CLIENT, _LIBPQ),
    ):
        own = [program for program in breaking if program.name == title]
        releases = {program.release for program in own}
        places = [str(program) for program in own]
        for package in facts.packages:
            release = installed.major(package.version)
            old = release is None or release < FIRST_SAFE_POSTGRESQL
            if packaged.fullmatch(package.name) and old and release not in releases:
                places.append(f"package {package.name} {package.version}")
        safe = {x.path for x in facts.programs.found if not x.breaks}
        running = [p for p in facts.processes if (_old_libpq(p) if mapped else _is_server(p) and p.program not in safe)]
        if places or running:
            yield Endangered(
                name,
                f"{title} up to 17",
                f"up to release 17 the BIO of {title} answers for a kernel that it does not use",
                "every TLS connection fails" if modern else "every TLS 1.2 connection fails",
                Certainty.PROVED,
                "src/backend/libpq/be-secure-openssl.c and src/interfaces/libpq/fe-secure-openssl.c of PostgreSQL",
                Remedy(
                    "start it with OPENSSL_CONF naming a file that has Options = -KTLS in its system_default section,"
                    " or move to release 18"
                ),
                tuple(places),
                _grouped(running),
            )


def _is_server(process: Process) -> bool:
    return (process.program.rpartition("/")[2] or process.name) == "postgres"


def _old_libpq(process: Process) -> bool:
    found = [match for path in process.libraries if (match := _LIBPQ.fullmatch(path))]
    return any(int(match[1]) < FIRST_SAFE_POSTGRESQL for match in found)


# ---- programs that set the mode


def _setters(facts: Installed, library: Library, certainty: Certainty) -> Iterator[Endangered]:
    advisory = advisories.named(advisories.MOVING_BUFFER)
    number = re.search(r"\d+\.\d+\.\d+", library.version)
    which = f"OpenSSL {number[0]}" if number else "this libssl"
    for setter in _SETTERS:
        places = [f"package {p.name} {p.version}" for p in facts.packages if re.fullmatch(setter.package, p.name)]
        if setter.name == "python":
            places += facts.pythons
        running = [process for process in facts.processes if _is(setter, process)]
        if places or running:
            yield Endangered(
                setter.name,
                setter.title,
                f"{setter.title} sets SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER ({setter.source}), and {which} then reads"
                " the old buffer when a write to a full socket is repeated",
                "it sends wrong bytes, and nothing reports it"
                + (": seen here just now" if certainty is Certainty.PROVED else ""),
                certainty,
                advisory.reference,
                Remedy(
                    f"move to a release that has the correction ({advisory.fixed}), or let single services ask for"
                    " kTLS themselves",
                    "ktlsctl snippet",
                ),
                tuple(places),
                _grouped(running),
            )


def _is(setter: _Setter, process: Process) -> bool:
    program = process.program.rpartition("/")[2] or process.name
    return bool(
        re.fullmatch(setter.program, program) or any(re.fullmatch(setter.mapped, path) for path in process.libraries)
    )


def _judged(process: Process) -> bool:
    program = process.program.rpartition("/")[2] or process.name
    return (
        bool(_UNHARMED.fullmatch(program))
        or any(_LIBPQ.fullmatch(path) for path in process.libraries)
        or _is_server(process)
        or any(_is(setter, process) for setter in _SETTERS)
    )


def _called(process: Process) -> str:
    return process.program or process.name or f"process {process.pid}"


def _grouped(processes: list[Process]) -> tuple[str, ...]:
    """`/usr/bin/python3.11 (pid 17, 23)`, a program an entry."""
    pids: dict[str, list[int]] = {}
    for process in processes:
        pids.setdefault(_called(process), []).append(process.pid)
    shown = {name: [*map(str, some[:5]), *(["..."] if len(some) > 5 else [])] for name, some in pids.items()}
    return tuple(f"{name} (pid {', '.join(numbers)})" for name, numbers in shown.items())
