# SPDX-License-Identifier: BSD-2-Clause
"""sendfile: SSL_sendfile of a file of several records, in every way that programs call it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ktlsctl.model import Evidence, Os, Status
from ktlsctl.scenarios.judgement import Judgement, fine, known, not_run, unexplained
from ktlsctl.sessionfacts import Carried

FREEBSD_REPLAY = "freebsd.sendfile-replay"
SHORT_BUFFER_HANG = "linux.sendfile-short-buffer"

#: Neither whole pages nor whole records.
FILE_SIZE = 150_001
#: (offset, bytes asked for): all of it, page-aligned, not aligned, the tail, the tail and more than there is.
RANGES = (
    (0, FILE_SIZE),
    (4096, 65537),
    (4097, 70_000),
    (FILE_SIZE - 100, 100),
    (FILE_SIZE - 33, 4096),
)
#: SO_SNDBUF and SO_RCVBUF in bytes.  The short one is Linux's least (it doubles them), below one record; the other
#: holds several records and segments of loopback, but not the file.
SHORT_BUFFER, BUFFER = 2304, 32768
#: Seconds without a byte moving after which a case has stalled.
STALL = 2.0


class Mode(StrEnum):
    """How the server calls SSL_sendfile."""

    SHORT = "non-blocking through short buffers"
    BLOCKING = "blocking"
    BLOCKING_SHORT = "blocking with a short send buffer"
    ZEROCOPY = "with SSL_OP_ENABLE_KTLS_TX_ZEROCOPY_SENDFILE"


@dataclass(frozen=True, slots=True)
class Case:
    """One range in one mode.  `expected`: bytes of the range that the file has, `sent` what the calls said,
    `arrived` what the client read.  `waits`: calls that found no room, `short`: those that found too little.
    `stalled`: nothing moved any more."""

    mode: Mode
    offset: int
    asked: int
    expected: int
    sent: int
    arrived: int
    calls: int
    waits: int
    short: int
    stalled: bool
    intact: bool

    def __str__(self) -> str:
        return f"{self.asked} bytes from {self.offset}, {self.mode}"


@dataclass(frozen=True, slots=True)
class Facts:
    """`refusal`: what the library said where it would not; then there are no cases.  `zerocopy`: whether the kernel
    took that option, which it does from OpenSSL 3.2 on; None where it cannot be told."""

    carried: Carried
    system: Os
    refusal: str = ""
    zerocopy: bool | None = None
    cases: tuple[Case, ...] = ()


def judge(facts: Facts) -> Judgement:
    if not facts.carried.server_tx:
        return _without_kernel(facts)
    evidence: Evidence = {
        "cases": len(facts.cases),
        "calls": sum(case.calls for case in facts.cases),
        "want_write": sum(case.waits for case in facts.cases),
        "short_calls": sum(case.short for case in facts.cases),
        "zerocopy": {True: "taken by the kernel", False: "not taken", None: "cannot be told here"}[facts.zerocopy],
    }
    size = sum(case.expected for case in facts.cases)
    if facts.refusal:
        return unexplained(
            "SSL_sendfile fails though TX is in the kernel", facts.refusal, facts.carried, evidence=evidence
        )
    bad = [case for case in facts.cases if case.stalled or not case.intact]
    if bad:
        return _failed(facts, bad, {**evidence, "failed": tuple(map(str, bad))}, size)
    if not any(case.waits or case.short for case in facts.cases if case.mode is Mode.SHORT):
        return not_run(
            "nothing proved",
            "the send buffer was never full, so no call had to be repeated",
            status=Status.UNKNOWN,
            evidence=evidence,
        )
    refuted = (SHORT_BUFFER_HANG,) if any(case.mode is Mode.BLOCKING_SHORT for case in facts.cases) else ()
    return fine(
        f"{len(facts.cases)} files intact, {size} bytes, {evidence['want_write']} calls found no room, "
        f"{evidence['short_calls']} too little",
        facts.carried,
        refuted=refuted if facts.system is Os.LINUX else (),
        evidence=evidence,
        size=size,
        intact=True,
    )


def _without_kernel(facts: Facts) -> Judgement:
    if facts.refusal:
        return fine(
            "SSL_sendfile refuses, as it must where TX is not in the kernel",
            facts.carried,
            evidence={"refusal": facts.refusal},
        )
    return unexplained(
        "SSL_sendfile works though TX is not in the kernel",
        "the file would go out unencrypted, unless kernel or library say wrongly where TX is",
        facts.carried,
    )


def _failed(facts: Facts, bad: list[Case], evidence: Evidence, size: int) -> Judgement:
    wrong = [case for case in bad if not case.stalled]
    if facts.system is Os.LINUX and all(case.stalled and case.mode is Mode.BLOCKING_SHORT for case in bad):
        return known(
            Status.WARNING,
            "a blocking SSL_sendfile hangs with a short send buffer; every other way is intact",
            "the kernel waits for room that only data it holds back could make: a blocking program that made its "
            "socket's send buffer smaller than a few records hangs in sendfile",
            (SHORT_BUFFER_HANG,),
            facts.carried,
            evidence=evidence,
            size=size,
        )
    if (
        wrong
        and facts.system is Os.FREEBSD
        and all(c.mode in (Mode.SHORT, Mode.ZEROCOPY) and c.waits + c.short for c in bad)
    ):
        return known(
            Status.CRITICAL,
            f"{len(wrong)} of {len(facts.cases)} files arrived damaged",
            "bytes of a non-blocking sendfile that ended short are sent twice",
            (FREEBSD_REPLAY,),
            facts.carried,
            evidence=evidence,
            size=size,
            intact=False,
        )
    if wrong:
        return unexplained(
            f"{len(wrong)} of {len(facts.cases)} files arrived damaged",
            f"bytes differ, and nothing said so: {wrong[0]}",
            facts.carried,
            evidence=evidence,
            size=size,
            intact=False,
        )
    first = bad[0]
    return unexplained(
        f"{len(bad)} of {len(facts.cases)} files got stuck",
        f"{first}: {first.arrived} of {first.expected} bytes arrived, {first.sent} were said to be sent, then nothing "
        f"moved for {STALL:g} s",
        facts.carried,
        evidence=evidence,
        size=size,
    )
