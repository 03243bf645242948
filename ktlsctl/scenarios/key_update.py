# SPDX-License-Identifier: BSD-2-Clause
"""key-update: a TLS 1.3 KeyUpdate, from either side, asking the other for its own or not."""

from __future__ import annotations

from dataclasses import dataclass

from ktlsctl.model import Status
from ktlsctl.scenarios.ending import BAD_RECORD_MAC, NO_RECORD_LAYER, NOTHING, Ending
from ktlsctl.scenarios.judgement import Judgement, fine, known, unexplained
from ktlsctl.sessionfacts import Carried

#: Between data and what follows it, poll(2) stays silent; see the table of advisories.
POLL_STALL = "linux.rekey-poll-stall"
WRONG_KEY = "openssl.keyupdate-wrong-key"
FATAL = "openssl.keyupdate-fatal"


@dataclass(frozen=True, slots=True)
class Case:
    """One session with one KeyUpdate.  `initiator`: "server" or "client", `requested`: the other shall answer with one.

    `failed`: the end that failed, empty for none; `doing`: at what; `ending` what its library said, `other` what the
    other end got to know of it.
    """

    initiator: str
    requested: bool
    carried: Carried
    failed: str = ""
    doing: str = ""
    ending: Ending = NOTHING
    other: Ending = NOTHING


@dataclass(frozen=True, slots=True)
class Stall:
    """Data, then a KeyUpdate, then more data, all there before the first read.

    `first`: the first read gave the data before the KeyUpdate.  `pending`: SSL_has_pending after it; `silent`: poll
    then reported nothing to read; `then`: though the next read gave the rest at once.
    """

    first: bool
    pending: bool
    silent: bool
    then: bool


@dataclass(frozen=True, slots=True)
class Facts:
    """`stall`: None where the receiving end is not in the kernel or a KeyUpdate does not work.  `rekeys`: keys
    that the kernel changed, by its own counters."""

    cases: tuple[Case, ...]
    stall: Stall | None
    rekeys: int

    @property
    def carried(self) -> Carried:
        return Carried.of_all(case.carried for case in self.cases)


def judge(facts: Facts) -> Judgement:
    carried = facts.carried
    evidence: dict[str, str | int] = {
        f"{case.initiator}{', requested' * case.requested}": _shown(case) for case in facts.cases
    }
    evidence["rekeys"] = facts.rekeys
    found = set()
    for case in facts.cases:
        if not case.failed:
            continue
        identity = _known(case)
        if not identity:
            return unexplained(
                "a KeyUpdate breaks the connection",
                f"KeyUpdate from the {case.initiator}, {'' if case.requested else 'not '}asking for one: "
                f"{case.failed} fails {case.doing}: {case.ending}",
                carried,
                evidence=evidence,
            )
        found.add(identity)
    if found:
        return known(
            Status.WARNING,
            "a KeyUpdate ends the connection",
            " and ".join(_CONSEQUENCES[identity] for identity in sorted(found)),
            sorted(found),
            carried,
            evidence=evidence,
        )
    refuted = [WRONG_KEY, FATAL] if carried.tx else []
    stall = facts.stall
    if stall is None:
        return fine("KeyUpdates work from both sides", carried, refuted=refuted, evidence=evidence)
    if not (stall.first and stall.then):
        return unexplained(
            "data around a KeyUpdate is lost",
            f"what was read {'after' if stall.first else 'before'} the KeyUpdate is not what was sent",
            carried,
            evidence=evidence,
        )
    if stall.silent and not stall.pending:
        return known(
            Status.WARNING,
            "KeyUpdates work from both sides, but poll can miss what follows one",
            "after data and a KeyUpdate in a row neither poll nor SSL_has_pending tell of the data that follows, "
            "though the next read gives it: an event loop that reads once per event stalls",
            (POLL_STALL,),
            carried,
            refuted=refuted,
            evidence=evidence,
        )
    return fine(
        "KeyUpdates work from both sides, and poll tells of what follows",
        carried,
        refuted=[*refuted, POLL_STALL],
        evidence=evidence,
    )


_CONSEQUENCES = {
    WRONG_KEY: "the kernel goes on with the old key, so the peer refuses the next record and closes",
    FATAL: "the kernel takes no second key, so the library gives up where it is told of a KeyUpdate",
}


def _known(case: Case) -> str:
    """The advisory whose behaviour this failure is; empty for none."""
    if case.ending.says(NO_RECORD_LAYER) and case.carried:
        return FATAL
    # The end that failed received what the kernel of the other end had sent.
    sender_in_kernel = case.carried.client_tx if case.failed == "server" else case.carried.server_tx
    if case.ending.says(BAD_RECORD_MAC) and sender_in_kernel:
        return WRONG_KEY
    return ""


def _shown(case: Case) -> str:
    if not case.failed:
        return "works"
    other = f"the other end then fails too: {case.other}" if case.other else "the other end notices nothing"
    return f"{case.failed} fails {case.doing}: {case.ending}; {other}"
