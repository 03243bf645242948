# SPDX-License-Identifier: BSD-2-Clause
"""The library's column: which TLS libraries a host has, what each asks of the kernel, and what that means.

`begin` starts the questions (facts/answers.py), `judge` turns the answers into findings.  Judging is a pure function.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence

from ktlsctl.ciphers import SUITES, Suite
from ktlsctl.facts.answers import (
    PATIENCE,
    Answer,
    Bound,
    Facts,
    Fault,
    Gathering,
    PythonAnswer,
    Role,
    Subject,
    SuiteAnswer,
)
from ktlsctl.facts.libraries import Origin
from ktlsctl.facts.opensslcnf import Effect, KtlsLine, explain
from ktlsctl.facts.programs import Program, Programs
from ktlsctl.host import Host
from ktlsctl.model import (
    About,
    Attempt,
    Cell,
    Check,
    Evidence,
    Library,
    LibraryCell,
    LibraryReport,
    Link,
    Os,
    Outcome,
    Remedy,
    Status,
    TlsVersion,
    Tri,
)

__all__ = ["Facts", "Gathering", "begin", "describe", "judge"]

#: What is wrong with a file and what to do next, to stand behind its path.
_FAULTS: Mapping[Fault, str] = {
    Fault.MISSING: "there is no such file; name the libssl.so file itself",
    Fault.DENIED: "this user may not read it; run ktlsctl as root or as the user whose programs use it",
    Fault.UNREADABLE: "it cannot be read ({detail}); name a regular libssl.so file",
    Fault.DIRECTORY: "it is a directory; name the libssl.so file in it",
    Fault.EMPTY: "it is an empty file; reinstall what it belongs to",
    Fault.TEXT: "it is a text file and no library; name the libssl.so file itself",
    Fault.NOT_ELF: "it is no ELF file and so no library; name the libssl.so file itself",
    Fault.DAMAGED: "it is damaged ({detail}); reinstall what it belongs to",
    Fault.FOREIGN: "it is for another architecture ({detail}); run ktlsctl with a Python of the same one",
    Fault.NOT_SHARED: "it is an ELF file but no shared library; name the libssl.so file itself",
    Fault.LIBCRYPTO: "it is a libcrypto ({detail}); name the libssl beside it",
    Fault.CONFLICT: "the probe had {detail} loaded already, which would have answered for it; unset LD_PRELOAD",
    Fault.LOAD: "the dynamic linker refuses it ({detail}); ldd shows what it lacks",
    Fault.NOT_LIBSSL: "it is a shared library but no libssl, it has no SSL_CTX_new; name the libssl.so file itself",
    Fault.TOO_OLD: "it is older than OpenSSL 1.1.0, which had no kTLS; use a newer one",
    Fault.SYMBOLS: "it lacks what the test needs ({detail}); only OpenSSL from 1.1.1 on has all of it",
    Fault.CONFIGURATION: "it makes no context under its configuration ({detail}), nor will it for any program; correct"
    " {config_file}",
    Fault.CERTIFICATE: "it could not make the certificate for the test ({detail}); its configuration may forbid P-256",
}

#: Libraries of OpenSSL's family that have no kTLS of their own, by the text they give as their version.
_WITHOUT = ("LibreSSL", "BoringSSL", "AWS-LC")

_WHERE_BUILT = (
    "Debian 12, Ubuntu 22.04, Fedora, RHEL 9, Alpine 3.17 and later, Arch and NixOS build OpenSSL with kTLS;"
    " a program gets it when it uses the distribution's libssl"
)
_WHERE_BUILT_BSD = "FreeBSD 13.1 and later have it in the base system, unless built WITHOUT_OPENSSL_KTLS"

#: OpenSSL issue 21202: the first release of each branch that has the correction; none for 3.0.
_MOVING_BUFFER_FIXED = {(3, 5): 7, (3, 6): 3, (4, 0): 1}


def begin(host: Host, named: tuple[str, ...], timeout: float = PATIENCE) -> Gathering:
    """Find the libraries of this host and start asking them.  `named`: paths that the user gave."""
    return Gathering(host, named, timeout)


def judge(facts: Facts, about: About) -> LibraryReport:
    """Findings from facts; asks the machine nothing."""
    libraries = tuple(_library(subject, facts, about) for subject in facts.libraries)
    errors = tuple(f"{library.path}: {library.reason}" for library in libraries if _refused(library))
    system = _system(facts, libraries, about)
    subject = next(
        (i for i, x in enumerate(libraries) if Role.NAMED in x.roles and x.status is not Status.UNKNOWN), None
    )
    if subject is None:
        subject = system
    if subject is None:
        subject = next((i for i, x in enumerate(libraries) if Role.PYTHON in x.roles), None)
    checks: list[Check] = [_found(facts, libraries, subject, about)]
    if subject is not None:
        library = libraries[subject]
        checks += [_build(library, libraries, about), _matrix(library), _config(library, facts)]
        checks.append(_programs(libraries[system if system is not None else subject], facts))
    checks += [_python(facts, libraries), _others(libraries, subject)]
    return LibraryReport(tuple(checks), libraries, subject, errors)


def describe(subject: Subject, about: About) -> Library:
    """What one library's answer means, without a host around it; asks the machine nothing."""
    unasked: Attempt[PythonAnswer] = Attempt(Outcome.UNRECORDED, reason="not asked")
    return _library(subject, Facts((subject,), unasked, (), Programs(())), about)


def _refused(library: Library) -> bool:
    """Named by the user and of no use: an error of its own, told beside the findings."""
    return Role.NAMED in library.roles and library.status is Status.UNKNOWN


# ---- one library


def _library(subject: Subject, facts: Facts, about: About) -> Library:
    answer = subject.answer.value or Answer()
    built, proof, reason = _built(subject, facts)
    status = {Tri.YES: Status.OK, Tri.NO: Status.SKIP, Tri.UNKNOWN: Status.UNKNOWN}[built]
    return Library(
        path=subject.path,
        version=answer.version,
        origin=subject.origin.value,
        roles=tuple(role.value for role in subject.roles),
        status=status,
        reason=reason,
        built_with_ktls=built,
        proof=proof,
        enabled_by_default=_enabled(answer),
        config_file=answer.config_file,
        package=subject.package,
        libcrypto=answer.libcrypto,
        cells=tuple(_cell(suite, answer, built, about) for suite in SUITES) if answer.suites else (),
    )


def _built(subject: Subject, facts: Facts) -> tuple[Tri, str, str]:
    """Built with kTLS or not, how that is known, and the reason for anything but yes."""
    if subject.answer.value is None:
        return Tri.UNKNOWN, "", _unanswered(subject.answer)
    answer = subject.answer.value
    static = _static(facts, subject.path)
    if static is not None:
        return _built_by_strings(static)
    if answer.fault is Fault.TOO_OLD:
        return Tri.NO, "a function that came with 1.1.0 is missing, not a handshake", _FAULTS[Fault.TOO_OLD]
    family = next((name for name in _WITHOUT if name in answer.version), None)
    asked = sum(1 for suite in answer.suites if suite.server.any or suite.client.any)
    agreed = [suite for suite in answer.suites if suite.agreed]
    if asked:
        return Tri.YES, f"loopback handshakes: it asked for the kernel in {asked} of {len(agreed)} suites", ""
    if family is not None and not agreed:
        return Tri.NO, f"its version text says {family}, not a handshake", f"{family} has no kTLS"
    if answer.fault is not None:
        return Tri.UNKNOWN, "", _FAULTS[answer.fault].format(detail=answer.detail, config_file=answer.config_file)
    if not any("AES-128-GCM" in _cipher(suite) or "AES-256-GCM" in _cipher(suite) for suite in agreed):
        refusals = ", ".join(dict.fromkeys(s.reason for s in answer.suites if s.reason)) or "none was tried"
        return Tri.UNKNOWN, "", f"no test session with AES-GCM came about ({refusals}); allow it in the configuration"
    why = f"{family} has no kTLS" if family else "it was built without kTLS"
    return Tri.NO, f"loopback handshakes: it never asked for the kernel, in {len(agreed)} suites", why


def _unanswered(attempt: Attempt[Answer]) -> str:
    if attempt.outcome is Outcome.TIMEOUT:
        return f"it hung while it was loaded or asked ({attempt.reason}); keep it away from ktlsctl or reinstall it"
    if attempt.outcome is Outcome.FAILED:
        return f"asking it failed ({attempt.reason}); reinstall what it belongs to"
    return f"it was not asked ({attempt.reason}); run ktlsctl on the host itself"


def _static(facts: Facts, path: str) -> Bound | None:
    """The module of this path, when it has OpenSSL linked into it."""
    python = facts.python.value
    modules = () if python is None else (*((python.ssl,) if python.ssl else ()), *python.bindings)
    return next((module for module in modules if not module.libssl and module.file == path), None)


def _built_by_strings(module: Bound) -> tuple[Tri, str, str]:
    number = _number(module.version)
    proof = "strings in the file, not a handshake"
    if module.strings:
        return Tri.YES, proof, ""
    if number is None or number < (3, 2, 0):
        # 3.0 and 3.1 leave no trace of kTLS in the file: ssl/ktls.c has no string of its own
        return Tri.UNKNOWN, "", "OpenSSL is linked into this file, where it cannot be asked; use another libssl"
    return Tri.NO, proof, "OpenSSL is linked into this file without its kTLS record layer"


def _enabled(answer: Answer) -> Tri:
    if not answer.suites:
        return Tri.UNKNOWN
    return Tri.YES if answer.option or answer.unprompted else Tri.NO


def _cipher(answer: SuiteAnswer) -> str:
    return next((s.cipher for s in SUITES if (s.version, s.name) == (answer.version, answer.suite)), "")


def _number(version: str) -> tuple[int, int, int] | None:
    """(3, 0, 22) of `OpenSSL 3.0.22 7 Apr 2026`.  For explanations: what a library does is asked, not derived."""
    found = re.match(r"OpenSSL (\d{1,4})\.(\d{1,4})\.(\d{1,4})", version, re.ASCII)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def _cell(suite: Suite, answer: Answer, built: Tri, about: About) -> LibraryCell:
    said = next((a for a in answer.suites if (a.version, a.suite) == (suite.version, suite.name)), None)
    if said is None:
        cell = Cell(Status.UNKNOWN, "this suite was not asked for")
        return LibraryCell(suite.version, suite.name, suite.cipher, cell, cell)
    if not said.agreed:
        cell = Cell(Status.SKIP, f"not offered by this library: {said.reason or 'no reason given'}")
        return LibraryCell(suite.version, suite.name, suite.cipher, cell, cell)
    sends = said.server.tx > 0 or said.client.tx > 0
    note = "with peers that do not do encrypt-then-MAC" if "-CBC-" in suite.cipher else ""
    tx = _direction(said.server.tx, said.client.tx, note, _why_not(suite, answer, built, about, False))
    rx = _direction(said.server.rx, said.client.rx, note, _why_not(suite, answer, built, about, sends))
    return LibraryCell(suite.version, suite.name, suite.cipher, tx, rx)


def _direction(server: int, client: int, note: str, why_not: str) -> Cell:
    if server and client:
        return Cell(Status.OK, note)
    if not server and not client:
        return Cell(Status.SKIP, why_not)
    return Cell(Status.UNKNOWN, f"only the {'server' if server else 'client'} asked for the kernel")


def _why_not(suite: Suite, answer: Answer, built: Tri, about: About, sends: bool) -> str:
    """Why a suite that works is not given to the kernel.  The behaviour was seen; the version only explains it."""
    if built is not Tri.YES:
        return "this library was built without kTLS"
    number = _number(answer.version)
    old = number is not None and number < (3, 2, 0)
    if old and suite.version is TlsVersion.TLS13 and (sends or suite.cipher == "AES-128-CCM"):
        what = "TLS 1.3 receiving" if sends else "TLS 1.3 with AES-CCM"
        return f"OpenSSL hands {what} to the kernel from 3.2 on"
    system = "Linux" if about.os is Os.LINUX else "FreeBSD"
    return f"this OpenSSL hands no {suite.cipher} to the kernel on {system}"


# ---- which one is meant


def _system(facts: Facts, libraries: Sequence[Library], about: About) -> int | None:
    """The libssl of the host's own programs: what the dynamic linker gives for a name that the distribution uses.

    Of several names (a compatibility package beside the current one) the newest OpenSSL.
    """
    names = {s.name for s in facts.libraries if s.origin is Origin.DISTRIBUTION}
    linked = [i for i, s in enumerate(facts.libraries) if s.linked and (s.name in names or not names)]
    # a file that cannot be asked counts only when there is no other
    return max(linked, key=lambda i: (libraries[i].status is not Status.UNKNOWN, _rank(libraries[i])), default=None)


def _rank(library: Library) -> tuple[int, int, int]:
    return _number(library.version) or (0, 0, 0)


def _title(library: Library) -> str:
    """For a sentence: `OpenSSL 3.0.22`; the file's name where the version is not known."""
    number = _number(library.version)
    if number is not None:
        return f"OpenSSL {'.'.join(map(str, number))}"
    return library.version[:30] or library.path.rpartition("/")[2][:40]


# ---- findings


def _found(facts: Facts, libraries: Sequence[Library], subject: int | None, about: About) -> Check:
    identity = "openssl.found"
    if subject is None:
        if facts.unseen:
            return Check(
                identity,
                Link.LIBRARY,
                Status.UNKNOWN,
                "no libssl was seen",
                f"not all places could be searched: {'; '.join(facts.unseen[:3])}",
                remedy=(Remedy("run ktlsctl as root"), Remedy("or name the library with --libssl PATH")),
            )
        return Check(
            identity,
            Link.LIBRARY,
            Status.CRITICAL,
            "there is no libssl on the library paths",
            "no program here can get kTLS through OpenSSL",
            remedy=(
                _install(about),
                Remedy("or name the library that your program uses with --libssl PATH"),
            ),
        )
    library = libraries[subject]
    usable = [x for x in libraries if not _refused(x)]
    count = "one libssl" if len(usable) == 1 else f"{len(usable)} TLS libraries"
    return Check(
        identity,
        Link.LIBRARY,
        Status.OK,
        f"{count} found; judged is {_title(library)} ({_whose(library)})",
        f"not searched: {'; '.join(facts.unseen[:3])}" if facts.unseen else "",
        evidence={
            "path": library.path,
            "version": library.version,
            "origin": library.origin,
            "package": library.package,
            "libcrypto": library.libcrypto,
            "found": tuple(x.path for x in usable),
        },
    )


def _install(about: About) -> Remedy:
    if about.os is Os.FREEBSD:
        return Remedy("install the base system's OpenSSL again; the ports' is security/openssl")
    debian = about.distribution.startswith(("Debian", "Ubuntu"))
    return Remedy("install the distribution's OpenSSL library", "apt install openssl" if debian else None)


def _whose(library: Library) -> str:
    if Role.NAMED in library.roles:
        return "as named"
    if Role.SYSTEM in library.roles:
        return "the system's"
    return "Python's"


def _build(library: Library, libraries: Sequence[Library], about: About) -> Check:
    identity = "openssl.build"
    evidence = {"path": library.path, "version": library.version, "proof": library.proof}
    if library.built_with_ktls is Tri.YES:
        return Check(
            identity, Link.LIBRARY, Status.OK, f"{_title(library)} was built with kTLS", library.proof, evidence
        )
    if library.built_with_ktls is Tri.UNKNOWN:
        return Check(
            identity,
            Link.LIBRARY,
            Status.UNKNOWN,
            "whether the libssl was built with kTLS could not be found out",
            f"{library.path}: {library.reason}",
            evidence,
            (Remedy("name another library with --libssl PATH"),),
        )
    other = next((x for x in libraries if x.built_with_ktls is Tri.YES), None)
    remedy = [Remedy(_WHERE_BUILT if about.os is Os.LINUX else _WHERE_BUILT_BSD)]
    if other is not None:
        remedy.insert(0, Remedy(f"let the program use {other.path}, which was built with it"))
    # strings in a file, or a version text, are not seen behaviour
    proved = library.proof.startswith("loopback")
    return Check(
        identity,
        Link.LIBRARY,
        Status.CRITICAL if proved else Status.WARNING,
        f"{_title(library)} was built without kTLS",
        f"{library.reason} ({library.proof})",
        evidence,
        tuple(remedy),
    )


def _matrix(library: Library) -> Check:
    identity = "openssl.matrix"
    cells = [(cell, "tx", cell.tx) for cell in library.cells] + [(cell, "rx", cell.rx) for cell in library.cells]
    asked = {(cell.version, direction) for cell, direction, said in cells if said.status is Status.OK}
    evidence = {
        "asked": tuple(
            f"{cell.version} {cell.cipher} {direction}" for cell, direction, said in cells if said.status is Status.OK
        )
    }
    if library.built_with_ktls is Tri.NO:
        return Check(identity, Link.LIBRARY, Status.SKIP, "it asks the kernel for nothing", library.reason, evidence)
    if not library.cells:
        return Check(
            identity,
            Link.LIBRARY,
            Status.UNKNOWN,
            "what it asks the kernel for could not be found out",
            library.reason or "OpenSSL is linked into this file, where it cannot be asked; use another libssl",
            evidence,
        )
    words = []
    for version in TlsVersion:
        directions = [direction.upper() for direction in ("tx", "rx") if (version, direction) in asked]
        if directions:
            words.append(f"{version} {' and '.join(directions)}")
    note = ""
    if (TlsVersion.TLS13, "tx") in asked and (TlsVersion.TLS13, "rx") not in asked:
        note = "TLS 1.3 receiving stays in user space: OpenSSL hands it to the kernel from 3.2 on"
    return Check(identity, Link.LIBRARY, Status.OK, f"it asks the kernel for {', '.join(words)}", note, evidence)


def _config(library: Library, facts: Facts) -> Check:
    identity = "openssl.config"
    if library.enabled_by_default is Tri.UNKNOWN:
        if any(
            s.path == library.path and s.answer.or_else(Answer()).fault is Fault.CONFIGURATION for s in facts.libraries
        ):
            # from 3.2 on a wrong line in system_default does that, where config_diagnostics is set as in Debian's file
            return Check(
                identity,
                Link.CONFIGURATION,
                Status.CRITICAL,
                "its configuration lets no TLS context be made",
                f"{library.path}: {library.reason}",
                {"config_file": library.config_file},
                (Remedy(f"correct {library.config_file}; config(5ssl) describes it"),),
            )
        return Check(
            identity,
            Link.CONFIGURATION,
            Status.UNKNOWN,
            "whether its configuration switches kTLS on could not be found out",
            library.reason or "OpenSSL is linked into this file, where it cannot be asked; use another libssl",
        )
    configuration = facts.configuration(library.config_file)
    reading = explain(configuration) if configuration is not None else None
    lines: Sequence[KtlsLine] = reading.lines if reading is not None else ()
    written = tuple(_written(x) for x in lines)
    evidence: Evidence = {
        "config_file": library.config_file,
        "lines": written,
        "enabled": library.enabled_by_default is Tri.YES,
    }
    if library.enabled_by_default is Tri.YES:
        notes = [_where_on(library, facts, lines)]
        if library.built_with_ktls is Tri.NO:
            notes.append("without effect, since this library was built without kTLS")
        return Check(
            identity,
            Link.CONFIGURATION,
            Status.OK,
            "its configuration switches kTLS on for every program that reads it",
            "; ".join(notes),
            evidence,
        )
    idle = [x for x in lines if x.effect in (Effect.STOPPED, Effect.UNREACHED)]
    if reading is not None and reading.on:
        # it ought to be on: an option that is new to this release ends the list before KTLS
        idle = [x for x in lines if x.effect is Effect.ON]
    if idle and reading is not None and reading.on is not False:
        first = idle[0]
        why = first.why or "this release stops before it; what stands in front of it may be unknown to it"
        return Check(
            identity,
            Link.CONFIGURATION,
            Status.WARNING,
            "KTLS is written in its configuration, but without effect",
            f"{_place(first)} `{first.line.name} = {first.line.value}`: {why}",
            evidence,
            (
                Remedy(f"remove the line at {_place(first)} and let each service ask for kTLS itself"),
                Remedy("or correct it, knowing that it then concerns every program that reads this file"),
            ),
        )
    return Check(
        identity,
        Link.CONFIGURATION,
        Status.OK,
        "kTLS is off unless a program asks for it itself",
        "each program or its own configuration must set Options = KTLS; that is the safe way",
        evidence,
        (
            Remedy("nginx, HAProxy, Python and others: see what to write where", "ktlsctl snippet"),
            Remedy(
                "another service: start it with OPENSSL_CONF naming a copy of"
                f" {library.config_file or 'openssl.cnf'} that has Options = KTLS in its system_default section"
            ),
        ),
    )


def _place(entry: KtlsLine) -> str:
    return f"{entry.line.file}:{entry.line.number}"


def _written(entry: KtlsLine) -> str:
    why = f" ({entry.why})" if entry.why else ""
    return f"{_place(entry)} [{entry.line.section}] {entry.line.name} = {entry.line.value}: {entry.effect}{why}"


def _own_file(library: Library, facts: Facts) -> bool:
    """Whether it reads the file of its own directory: then this concerns the host, else the caller's environment."""
    answer = next((s.answer.value for s in facts.libraries if s.path == library.path), None)
    return answer is None or library.config_file == f"{answer.directory}/openssl.cnf"


def _where_on(library: Library, facts: Facts, lines: Iterable[KtlsLine]) -> str:
    answer = next((s.answer.value for s in facts.libraries if s.path == library.path), None)
    if answer is not None and not answer.option:
        return "this library tries kTLS in every session without being told to"
    on = next((x for x in reversed(tuple(lines)) if x.effect is Effect.ON), None)
    where = f"written at {_place(on)}" if on is not None else f"{library.config_file} does not show where"
    return where if _own_file(library, facts) else f"{where}; OPENSSL_CONF of this environment names that file"


def _programs(library: Library, facts: Facts) -> Check:
    identity = "openssl.programs"
    breaking = [program for program in facts.programs.found if program.breaks]
    evidence = {"found": tuple(str(program) for program in facts.programs.found), "unseen": facts.programs.unseen}
    if library.built_with_ktls is Tri.NO:
        return Check(
            identity,
            Link.CONFIGURATION,
            Status.OK,
            "no program can break under kTLS here",
            "the libssl of this host's programs was built without it",
            evidence,
        )
    if library.enabled_by_default is Tri.UNKNOWN:
        return Check(
            identity,
            Link.CONFIGURATION,
            Status.UNKNOWN,
            "whether kTLS is on for programs that break under it could not be found out",
            f"{library.path}: {library.reason or 'it could not be asked'}",
            evidence,
        )
    if library.enabled_by_default is Tri.NO:
        note = ""
        if breaking:
            note = f"it is not; switched on for the whole host it would break {_list(breaking)}"
        return Check(
            identity,
            Link.CONFIGURATION,
            Status.OK,
            "kTLS is not forced on any program that breaks under it",
            note,
            evidence,
        )
    if not breaking:
        note = f"not searched: {'; '.join(facts.programs.unseen)}" if facts.programs.unseen else ""
        return Check(
            identity,
            Link.CONFIGURATION,
            Status.OK,
            "kTLS is on for every program; none is known to break",
            note,
            evidence,
        )
    number = _number(library.version)
    modern = number is None or number >= (3, 2, 0)
    outcome = "every connection" if modern else "every TLS 1.2 connection"
    configuration = facts.configuration(library.config_file)
    on = [x for x in (explain(configuration).lines if configuration is not None else ()) if x.effect is Effect.ON]
    doubt = _doubt(library, facts)
    return Check(
        identity,
        Link.CONFIGURATION,
        Status.WARNING if doubt else Status.CRITICAL,
        f"kTLS is on for every program, and {_short(breaking)} under it",
        f"{_list(breaking)}: {outcome} fails, since up to release 17 PostgreSQL's own BIO methods answer for a kernel"
        f" that they do not use{doubt}",
        evidence,
        (
            *(_without_line(entry) for entry in on[-1:]),
            Remedy("or start PostgreSQL and its clients with OPENSSL_CONF naming a file that has Options = -KTLS"),
            Remedy("or move to PostgreSQL and libpq 18, which refuse kTLS and work"),
        ),
    )


def _doubt(library: Library, facts: Facts) -> str:
    """Why it may not hold for the programs of this host, to stand behind the reason; empty when it does."""
    if not _own_file(library, facts):
        return "; it is OPENSSL_CONF of this environment that says so, services may have another"
    if not any(s.answer.value is not None and s.answer.value.option for s in facts.libraries if s.path == library.path):
        return "; this was measured with OpenSSL 3, not with a library that tries kTLS without being told to"
    return ""


def _list(programs: Iterable[Program]) -> str:
    return ", ".join(str(program) for program in programs)


def _short(programs: Sequence[Program]) -> str:
    """At most 40 characters, with its verb."""
    first = programs[0]
    name = f"{first.name} {first.release}" if first.release is not None else first.name
    others = len(programs) - 1
    return f"{name} and {others} more break" if others else f"{name} breaks"


def _without_line(entry: KtlsLine) -> Remedy:
    """Take the line out; a command only where nothing else is on it."""
    if re.fullmatch(r"\+?KTLS", entry.line.value, re.IGNORECASE):
        command = f"sed -i.orig '{entry.line.number}s/^/#/' {shlex.quote(entry.line.file)}"
        return Remedy("take the line out; services that shall have kTLS ask for it themselves", command)
    return Remedy(f"take KTLS out of the list at {_place(entry)}; services that shall have it ask for it themselves")


def _python(facts: Facts, libraries: Sequence[Library]) -> Check:
    identity = "openssl.python"
    answer = facts.python.value
    if answer is None:
        return Check(
            identity,
            Link.CONFIGURATION,
            Status.UNKNOWN,
            "which libssl Python uses could not be found out",
            facts.python.reason or "no answer",
        )
    library = next((x for x in libraries if Role.PYTHON in x.roles), None)
    if library is None:
        return Check(
            identity,
            Link.CONFIGURATION,
            Status.SKIP,
            "this Python has no ssl module",
            answer.absent or "it uses no OpenSSL",
        )
    evidence = {"path": library.path, "version": library.version}
    if library.built_with_ktls is not Tri.YES:
        known = "built without kTLS" if library.built_with_ktls is Tri.NO else "not known to have kTLS"
        summary, note = f"Python's ssl uses {_title(library)}, {known}", library.reason
        return Check(identity, Link.CONFIGURATION, Status.OK, summary, note, evidence)
    if not _corrupts(library):
        summary = f"Python's ssl uses {_title(library)}, built with kTLS"
        return Check(identity, Link.CONFIGURATION, Status.OK, summary, "", evidence)
    defect = (
        f"by its version {_title(library)} may send wrong bytes over kTLS when a write is resumed, and Python's ssl"
        " always allows that (OpenSSL issue 21202)"
    )
    if library.enabled_by_default is Tri.YES:
        return Check(
            identity,
            Link.CONFIGURATION,
            Status.WARNING,
            "kTLS is on for every Python program, and may corrupt what they send",
            defect,
            evidence,
            (
                Remedy(f"take KTLS out of {library.config_file}; services that shall have it ask for it themselves"),
                Remedy("or move to OpenSSL 3.5.7, 3.6.3, 4.0.1 or later; 3.0 has no correction"),
            ),
        )
    return Check(
        identity,
        Link.CONFIGURATION,
        Status.OK,
        "Python programs get kTLS only when they ask for it",
        f"{defect}: do not set ssl.OP_ENABLE_KTLS in programs that send much",
        evidence,
    )


def _corrupts(library: Library) -> bool:
    """Whether the version says that the moving-write-buffer defect is there; a distribution may have corrected it."""
    number = _number(library.version)
    if number is None or number < (3, 0, 0):
        return False
    branch, release = number[:2], number[2]
    if branch in _MOVING_BUFFER_FIXED:
        return release < _MOVING_BUFFER_FIXED[branch]
    return branch < max(_MOVING_BUFFER_FIXED)


def _others(libraries: Sequence[Library], subject: int | None) -> Check:
    identity = "openssl.others"
    others = [x for i, x in enumerate(libraries) if i != subject and not _refused(x)]
    without = [x for x in others if x.built_with_ktls is Tri.NO]
    unknown = [x for x in others if x.built_with_ktls is Tri.UNKNOWN]
    notes = []
    if without:
        notes.append(f"programs that use these never get kTLS: {', '.join(_named(x) for x in without)}")
    if unknown:
        notes.append("not known of " + ", ".join(f"{_named(x)} ({x.reason})" for x in unknown))
    if not others:
        summary = "there is no other TLS library"
    elif without:
        summary = f"{len(without)} of {len(others)} other TLS libraries without kTLS"
    else:
        summary = f"{len(others)} other TLS {'library' if len(others) == 1 else 'libraries'}, none known to lack kTLS"
    evidence = {
        "with": tuple(x.path for x in others if x.built_with_ktls is Tri.YES),
        "without": tuple(x.path for x in without),
        "unknown": tuple(x.path for x in unknown),
    }
    return Check(identity, Link.LIBRARY, Status.OK, summary, "; ".join(notes), evidence)


def _named(library: Library) -> str:
    roles = {Role.PYOPENSSL.value: "pyOpenSSL's ", Role.PYTHON.value: "Python's "}
    whose = next((roles[role] for role in library.roles if role in roles), "")
    return f"{whose}{_title(library)} ({library.path})"
