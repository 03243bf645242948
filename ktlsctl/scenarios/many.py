# SPDX-License-Identifier: BSD-2-Clause
"""many: a thousand sessions at once on one datapath, idle and then all active, and what is left of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ktlsctl.model import Evidence, Status
from ktlsctl.scenarios.judgement import Judgement, fine, not_run, unexplained
from ktlsctl.sessionfacts import Carried

#: Sessions at a time; each has two ends.
WANTED = 1000
#: Payload bytes each way and session, more than a record.
SIZE = 20_000
#: Sessions of the second round, which shows what the first has not given back.
AGAIN = 200
#: Allocated bytes that the second round may leave; an SSL alone has thousands.
SLACK = 200 * 2 * AGAIN


@dataclass(frozen=True, slots=True)
class Facts:
    """`sessions`: as many as the limit of descriptors allowed.  `idle_bytes`: resident memory of the process per end,
    after traffic, idle again.  `kept_bytes`: what a second round of sessions left allocated beyond what the first left.
    `descriptors`: open ones, after minus before.  `gauges`: the kernel's, when all was closed (own namespace only).
    `carried`: of the last session, `in_kernel` how many were like it."""

    sessions: int
    carried: Carried
    in_kernel: int
    intact: int
    idle_bytes: int
    kept_bytes: int
    descriptors: int
    buffers_idle: int
    bios_left: int
    gauges: Mapping[str, int] = field(default_factory=dict)


def judge(facts: Facts) -> Judgement:
    evidence: Evidence = {
        "sessions": facts.sessions,
        "in_the_kernel": facts.in_kernel,
        "bytes_per_idle_end": facts.idle_bytes,
        "bytes_kept_by_the_second_round": facts.kept_bytes,
        "buffers_live_when_idle": facts.buffers_idle,
        "descriptors_left": facts.descriptors,
        "gauges_left": tuple(f"{name} {value}" for name, value in facts.gauges.items() if value),
    }
    if facts.sessions < WANTED:
        return not_run(
            f"only {facts.sessions} sessions at once could be had",
            f"each needs two descriptors and the limit is lower; raise it (ulimit -n {2 * WANTED + 200})",
            status=Status.UNKNOWN,
            evidence=evidence,
        )
    problems = [
        text
        for wrong, text in (
            (facts.intact < facts.sessions, f"{facts.sessions - facts.intact} sessions had wrong bytes"),
            (facts.in_kernel not in (0, facts.sessions), f"only {facts.in_kernel} sessions were in the kernel"),
            (facts.descriptors != 0, f"{facts.descriptors} descriptors are left"),
            (facts.bios_left != 0, f"{facts.bios_left} BIOs are left"),
            (facts.kept_bytes > SLACK, f"a second round left {facts.kept_bytes} bytes more"),
            (any(facts.gauges.values()), "the kernel still counts open sessions"),
        )
        if wrong
    ]
    size, intact = SIZE, facts.intact == facts.sessions
    if problems:
        return unexplained(
            "something is left behind" if intact else "bytes differ",
            "; ".join(problems),
            facts.carried,
            evidence=evidence,
            size=size,
            intact=intact,
        )
    said = f"{facts.sessions} sessions at once, {facts.idle_bytes} bytes an idle end, nothing left behind"
    return fine(said, facts.carried, evidence=evidence, size=size, intact=True)
