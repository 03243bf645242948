# SPDX-License-Identifier: BSD-2-Clause
"""How a scenario ends, in the words that all of them share: fine, a known defect, something unexplained, not run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ktlsctl.model import DirectionResult, Evidence, Finding, Status
from ktlsctl.sessionfacts import Carried


@dataclass(frozen=True, slots=True)
class Judgement:
    """`known`, `refuted`: ids in the table of advisories.  `reason`: required for every status but ok.

    `bytes`: payload bytes each way whose hashes were compared, `sha256_ok` whether they were equal.
    """

    status: Status
    finding: Finding
    summary: str
    reason: str = ""
    known: tuple[str, ...] = ()
    refuted: tuple[str, ...] = ()
    evidence: Evidence = field(default_factory=dict)
    carried: Carried = field(default_factory=Carried)
    bytes: int = 0
    sha256_ok: bool | None = None


def fine(
    summary: str,
    carried: Carried,
    *,
    refuted: Sequence[str] = (),
    evidence: Evidence | None = None,
    size: int = 0,
    intact: bool | None = None,
) -> Judgement:
    """What was seen is as it should be."""
    return Judgement(
        Status.OK, Finding.FINE, summary, "", (), tuple(refuted), evidence or {}, carried, size, intact
    )  # fmt: skip


def known(
    status: Status,
    summary: str,
    reason: str,
    ids: Sequence[str],
    carried: Carried,
    *,
    refuted: Sequence[str] = (),
    evidence: Evidence | None = None,
    size: int = 0,
    intact: bool | None = None,
) -> Judgement:
    """The behaviour of a known defect or limit was seen; `status` says how bad that is here."""
    return Judgement(
        status, Finding.KNOWN, summary, reason, tuple(ids), tuple(refuted), evidence or {}, carried, size, intact
    )


def unexplained(
    summary: str,
    reason: str,
    carried: Carried,
    *,
    evidence: Evidence | None = None,
    size: int = 0,
    intact: bool | None = None,
) -> Judgement:
    """Something is wrong, and nothing that is known looks like it."""
    return Judgement(
        Status.CRITICAL, Finding.UNEXPLAINED, summary, reason, (), (), evidence or {}, carried, size, intact
    )  # fmt: skip


def not_run(summary: str, reason: str, *, status: Status = Status.SKIP, evidence: Evidence | None = None) -> Judgement:
    """It means nothing here (skip), or could not be asked (unknown)."""
    return Judgement(status, Finding.NOT_RUN, summary, reason, evidence=evidence or {})


def direction(carried: bool, failed: bool, wrong: bool) -> DirectionResult:
    """One direction's word: where the records were carried, unless the scenario failed or the bytes were wrong."""
    where = "in the kernel" if carried else "in user space"
    if wrong or (carried and failed):
        why = "the bytes that arrived are not those that were sent" if wrong else "the scenario failed"
        return DirectionResult(Status.CRITICAL, {}, f"{where}, and {why}")
    return DirectionResult(Status.OK) if carried else DirectionResult(Status.SKIP, {}, f"{where} in this scenario")
