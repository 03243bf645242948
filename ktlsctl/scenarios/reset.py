# SPDX-License-Identifier: BSD-2-Clause
"""reset: a peer that goes away without saying so is reported, and everything it held here is given back."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from ktlsctl.model import Status
from ktlsctl.scenarios.ending import TOO_LONG, UNEXPECTED_EOF, Ending
from ktlsctl.scenarios.judgement import Judgement, fine, known, unexplained
from ktlsctl.sessionfacts import Carried


class Loss(StrEnum):
    """How the peer goes away."""

    RESET_READING = "reset while we read"
    RESET_WRITING = "reset while we write"
    MID_RECORD = "closed within a record"
    END = "closed without close_notify"
    END_OWN_BIO = "closed without close_notify, over OpenSSL's own BIO"
    KILLED_SENDING = "killed while it sends"
    KILLED_RECEIVING = "killed while it leaves our data unread"


@dataclass(frozen=True, slots=True)
class Case:
    """`kernel_rx`: whether our end's records came through the kernel.  `intact`: what was read is the beginning of what
    was sent.  What was still open when our end was closed too: `files` more descriptors than before, `gauges` kTLS
    sockets by the kernel's count, `operations` of io_uring, `buffers` and BIOs of the datapath.
    """

    loss: Loss
    kernel_rx: bool
    intact: bool
    ending: Ending
    files: int
    gauges: int
    operations: int
    buffers: int


@dataclass(frozen=True, slots=True)
class Facts:
    carried: Carried
    cases: tuple[Case, ...]


EOF_AS_LENGTH = "openssl.eof-without-close-notify"
#: SSL_ERROR_SYSCALL of openssl/ssl.h
_SYSCALL = 5
_ENDS = (Loss.MID_RECORD, Loss.END, Loss.END_OWN_BIO)
_KILLS = (Loss.KILLED_SENDING, Loss.KILLED_RECEIVING)


def _is_reset(ending: Ending) -> bool:
    return ending.errno in (errno.ECONNRESET, errno.EPIPE)


def _is_end(ending: Ending) -> bool:
    """OpenSSL 3.0 gave the end of file a reason of its own; before, it was a system call that failed with nothing."""
    return ending.says(UNEXPECTED_EOF) or (ending.kind == _SYSCALL and not ending.errno)


def _is_length(case: Case) -> bool:
    return case.kernel_rx and case.loss in (*_ENDS, Loss.KILLED_SENDING) and case.ending.says(TOO_LONG)


def _is_expected(case: Case) -> bool:
    if case.loss in _ENDS:
        return _is_end(case.ending)
    # Who is killed with our bytes unread resets the connection, else it just ends.
    return _is_reset(case.ending) or (case.loss in _KILLS and _is_end(case.ending))


def _problems(case: Case) -> Iterator[str]:
    if case.ending.orderly:
        yield "it passes for an orderly end, so lost data would go unnoticed"
    elif not (_is_expected(case) or _is_length(case)):
        yield f"the library says '{case.ending}'"
    if not case.intact:
        yield "what was read is not what was sent"
    if case.files:
        yield f"{case.files} file descriptors are left open"
    if case.gauges:
        yield f"the kernel still counts {case.gauges} TLS directions open"
    if case.operations:
        yield f"{case.operations} operations of io_uring are still in flight"
    if case.buffers:
        yield f"{case.buffers} buffers or BIOs are still held"


def judge(facts: Facts) -> Judgement:
    evidence = {str(case.loss): str(case.ending) for case in facts.cases}
    for case in facts.cases:
        problems = "; ".join(_problems(case))
        if problems:
            return unexplained(
                f"a lost peer ({case.loss}) is not dealt with as it should be",
                f"{case.loss}: {problems}",
                facts.carried,
                evidence=evidence,
            )
    if any(_is_length(case) for case in facts.cases):
        return known(
            Status.WARNING,
            "every lost peer is reported and all is given back, but an end of file under a wrong name",
            "a peer that ends without close_notify is reported as 'packet length too long', and "
            "SSL_OP_IGNORE_UNEXPECTED_EOF does not help",
            (EOF_AS_LENGTH,),
            facts.carried,
            evidence=evidence,
        )
    # The defect is in OpenSSL's own BIO: another one says nothing about it.
    received = any(case.kernel_rx and case.loss is Loss.END_OWN_BIO for case in facts.cases)
    return fine(
        f"{len(facts.cases)} ways to lose a peer reported, and all that it held given back",
        facts.carried,
        refuted=(EOF_AS_LENGTH,) if received else (),
        evidence=evidence,
    )
