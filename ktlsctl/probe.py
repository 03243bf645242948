# SPDX-License-Identifier: BSD-2-Clause
"""Run this platform's checks over a host, put the witnesses side by side, pronounce the verdict.

The one place where a platform module is bound: by what the *host* is, not by what this machine is, so that a FreeBSD
capture is judged on Linux by the very same code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from ktlsctl import advisories, openssl
from ktlsctl.host import Host
from ktlsctl.model import (
    CHAIN_ORDER,
    About,
    Cell,
    Check,
    Direction,
    KernelReport,
    Library,
    Link,
    MatrixRow,
    Os,
    Remedy,
    Report,
    Status,
    TlsVersion,
    Verdict,
)


class Platform(Protocol):
    """What linux.py and freebsd.py both are.  `Facts` is the module's own; only `judge` looks into it."""

    def gather(self, host: Host, *, load: bool) -> Any: ...

    def judge(self, facts: Any, about: About) -> KernelReport: ...


def platform_of(system: Os) -> Platform:
    if system is Os.LINUX:
        from ktlsctl import linux

        return linux
    from ktlsctl import freebsd

    return freebsd


@dataclass(frozen=True, slots=True)
class Options:
    """`libssl`: libraries named by the user, the first is the verdict's subject.  `load`: modules may be loaded."""

    libssl: tuple[str, ...] = ()
    load: bool = False


def check(host: Host, options: Options, source: str = "live") -> Report:
    """Ask the host everything and judge it.  Changes nothing unless `options.load`; needs no privilege."""
    about = host.about
    library_probes = openssl.begin(host, options.libssl)
    platform = platform_of(about.os)
    kernel = platform.judge(platform.gather(host, load=options.load), about)
    library = openssl.judge(library_probes.facts(), about)
    subject = None if library.subject is None else library.libraries[library.subject]
    rows = side_by_side(about.os, kernel.rows, subject)
    notices = advisories.concerning(
        about,
        library.libraries,
        kernel.proved | library.proved,
        _version_text(host, about.os),
        kernel.refuted | (advisories.of_kernel(about.os) if kernel.lacking else frozenset()),
    )
    checks = (*kernel.checks, *library.checks, usable(rows, subject), advisories.check(notices))
    return Report(
        about=about,
        generated_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        verdict=pronounce(checks, library.errors),
        checks=checks,
        matrix=rows,
        libraries=library.libraries,
        advisories=notices,
        counters=kernel.counters,
        errors=library.errors,
        source=source,
        subject=library.subject,
    )


def _version_text(host: Host, system: Os) -> str:
    """What the kernel says of its own build: distributions put their package's version there."""
    if system is Os.LINUX:
        return host.read("/proc/version", advisories.build_text).or_else(b"").decode("utf-8", "replace").strip()
    return ""


def side_by_side(system: Os, kernel: Sequence[MatrixRow], subject: Library | None) -> tuple[MatrixRow, ...]:
    """The kernel's rows with the library's word added, then the ciphers that only the library knows."""
    said: dict[tuple[TlsVersion, str, Direction], Cell] = {}
    for cell in subject.cells if subject is not None else ():
        said.setdefault((cell.version, cell.cipher, Direction.TX), cell.tx)
        said.setdefault((cell.version, cell.cipher, Direction.RX), cell.rx)
    no_suite = Cell(Status.SKIP, "no TLS suite of this library uses it") if said else None
    rows = [
        MatrixRow(
            row.version,
            row.cipher,
            row.direction,
            row.kernel,
            said.pop((row.version, row.cipher, row.direction), no_suite),
        )
        for row in kernel
    ]
    name = "Linux" if system is Os.LINUX else "FreeBSD"
    rows.extend(
        MatrixRow(version, cipher, direction, Cell(Status.SKIP, f"{name} kernels have no {cipher}"), cell)
        for (version, cipher, direction), cell in said.items()
    )
    return tuple(rows)


def _agreed(rows: Sequence[MatrixRow]) -> tuple[MatrixRow, ...]:
    return tuple(
        row
        for row in rows
        if row.kernel is not None
        and row.library is not None
        and row.kernel.status is Status.OK
        and row.library.status is Status.OK
    )


def _refused(cell: Cell | None) -> bool:
    return cell is not None and cell.status is Status.SKIP


def _in_words(rows: Sequence[MatrixRow]) -> str:
    """ "TLSv1.2 TX and RX, TLSv1.3 TX" """
    parts = []
    for version in TlsVersion:
        directions = [d for d in Direction if any(r.version is version and r.direction is d for r in rows)]
        if directions:
            parts.append(f"{version} {' and '.join(d.upper() for d in directions)}")
    return ", ".join(parts)


def usable(rows: Sequence[MatrixRow], subject: Library | None) -> Check:
    """Whether any version, cipher and direction is promised by kernel and library both."""
    agreed = _agreed(rows)
    identity, link = "matrix.usable", Link.LIBRARY
    if agreed:
        assert subject is not None
        return Check(
            identity,
            link,
            Status.OK,
            f"kernel and library agree on {_in_words(agreed)}",
            evidence={
                "library": f"{subject.version} {subject.path}",
                "cells": tuple(f"{r.version} {r.cipher} {r.direction}" for r in agreed),
            },
        )
    # A cell that neither refuses may still be had: what was not seen is not a no.
    open_cells = [row for row in rows if not _refused(row.kernel) and not _refused(row.library)]
    if open_cells or not rows:
        unseen = [
            name
            for name, cells in (
                ("kernel", [r.kernel for r in open_cells]),
                ("library", [r.library for r in open_cells]),
            )
            if not any(cell is not None and cell.status is Status.OK for cell in cells)
        ]
        which = " and ".join(unseen) or "kernel and library"
        return Check(
            identity,
            link,
            Status.UNKNOWN,
            "no cell of the matrix could be compared",
            f"the {which} column was not seen; the checks above say why",
        )
    return Check(
        identity,
        link,
        Status.CRITICAL,
        "no TLS version, cipher and direction has both kernel and library",
        "what the kernel takes and what the library asks for do not meet; the checks above say why",
    )


def pronounce(checks: Sequence[Check], errors: Sequence[str]) -> Verdict:
    """The verdict: the first broken link of the chain, in one sentence, with what mends it.

    An unusable argument (`errors`) makes it unknown whatever else was found.  A check that is unknown weighs only
    while nothing proves that kernel TLS is usable: what could not be seen beside a proof is not a fault.
    """
    # `matrix.usable` sums up: another check at the same status names the cause better.
    chain = sorted(checks, key=lambda c: (CHAIN_ORDER[c.link], c.id == "matrix.usable"))
    broken = next((c for c in chain if c.status is Status.CRITICAL), None)
    weak = next((c for c in chain if c.status is Status.WARNING), None)
    unseen = next((c for c in chain if c.status is Status.UNKNOWN), None)
    proof = next((c for c in chain if c.id == "matrix.usable" and c.status is Status.OK), None)
    first = broken or weak
    first_id = first.id if first is not None else None
    remedy = first.remedy if first is not None else ()
    if errors:
        return Verdict(
            Status.UNKNOWN,
            f"{errors[0]}; the rest of the report stands",
            first_id,
            (Remedy("name a TLS library that this machine can open with --libssl, or leave the option out"),),
        )
    if broken is not None:
        head = "kernel TLS is usable, but" if proof is not None else "kernel TLS is not usable:"
        return Verdict(Status.CRITICAL, f"{head} {broken.summary}", first_id, remedy)
    if proof is None:
        cause = unseen or weak
        why = f"{cause.summary} ({cause.reason})" if cause is not None else "nothing could be tested"
        return Verdict(
            Status.UNKNOWN,
            f"could not find out whether kernel TLS is usable: {why}",
            first_id,
            cause.remedy if cause is not None else (),
        )
    if weak is not None:
        return Verdict(Status.WARNING, f"kernel TLS is usable, but {weak.summary}", first_id, remedy)
    return Verdict(Status.OK, f"kernel TLS is usable: {proof.summary}")
