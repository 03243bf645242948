# SPDX-License-Identifier: BSD-2-Clause
"""read-ahead: application data that arrives in one segment with the Finished message, before the kernel has the key."""

from __future__ import annotations

from dataclasses import dataclass

from ktlsctl.model import Status
from ktlsctl.scenarios.ending import Ending
from ktlsctl.scenarios.judgement import Judgement, fine, not_run, unexplained
from ktlsctl.sessionfacts import Carried

#: Payload bytes in the record that comes with Finished.
SIZE = 300
#: Payload bytes that follow it.
REST = 40000


@dataclass(frozen=True, slots=True)
class Case:
    """`role`: the end that receives.  `read_ahead`: SSL_set_read_ahead(1) there.  `whole`: all of the record came with
    Finished, or only its first half.

    `glued`: it did come so.  `kernel`: receiving is the kernel's now; `handover`, `leftover`: what became of handing it
    over where the datapath knows (empty: not asked), and the bytes that were read ahead.  `intact`: what SSL_read gave
    is what was sent, `first` with Finished and `rest` after it.
    """

    role: str
    read_ahead: bool
    whole: bool
    glued: bool
    kernel: bool
    handover: str
    leftover: int
    first: bool
    rest: bool
    ending: Ending


@dataclass(frozen=True, slots=True)
class Facts:
    carried: Carried
    cases: tuple[Case, ...]


def _name(case: Case) -> str:
    glued = "whole record" if case.whole else "half a record"
    return f"{case.role}, {glued}{', read_ahead' * case.read_ahead}"


def _where(case: Case, carried: Carried) -> str:
    if case.kernel:
        return "in the kernel"
    if case.leftover:
        return f"in user space: {case.handover}, {case.leftover} bytes"
    # OpenSSL before 3.2 keeps a direction whose record it has begun to read (ssl/t1_enc.c), and tells nobody.
    kept = carried.client_rx if case.role == "client" else carried.server_rx
    return "in user space: the library kept it" if kept else "in user space"


def judge(facts: Facts) -> Judgement:
    evidence = {_name(case): _where(case, facts.carried) for case in facts.cases}
    for case in facts.cases:
        wrong = "" if case.first and case.rest else "SSL_read gave other bytes than were sent"
        problem = f"SSL_read failed: {case.ending}" if case.ending else wrong
        if problem:
            return unexplained(
                "data behind Finished goes wrong",
                f"{_name(case)}, received {_where(case, facts.carried)}: {problem}",
                facts.carried,
                evidence=evidence,
                intact=None if case.ending else False,
            )
    if not all(case.glued for case in facts.cases):
        return not_run(
            "nothing proved",
            "the data could not be brought into one segment with Finished",
            status=Status.UNKNOWN,
            evidence=evidence,
        )
    kernel, cases = sum(case.kernel for case in facts.cases), len(facts.cases)
    where = {cases: "by the kernel", 0: "in user space"}.get(kernel, f"by the kernel in {kernel} of {cases} cases")
    return fine(
        f"data behind Finished intact, received {where}",
        facts.carried,
        evidence=evidence,
        size=SIZE + REST,
        intact=True,
    )
