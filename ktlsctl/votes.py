# SPDX-License-Identifier: BSD-2-Clause
"""What the witnesses of one session say of a direction, each under its own name, and what that proves.

A direction is proved only when every witness that could be asked agrees on both ends; disagreement is a finding of its
own that shows each of them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ktlsctl.ciphers import LINUX_CIPHERS, bulk_cipher
from ktlsctl.facts import ktlsgauges, sockdiag
from ktlsctl.model import Direction, DirectionResult, MatrixRow, Os, Status, TlsVersion
from ktlsctl.sessionfacts import EndWords, SessionFacts, WitnessFacts

_LINUX_NUMBER = {cipher.name: cipher.id for cipher in LINUX_CIPHERS}
_LINUX_NAME = {cipher.id: cipher.name for cipher in LINUX_CIPHERS}
_VERSION_NAME = {version.wire: version.value for version in TlsVersion}
_CONF_NAME: Mapping[int, str] = {
    sockdiag.TlsConf.BASE: "none",
    sockdiag.TlsConf.SW: "software",
    sockdiag.TlsConf.HW: "nic",
    sockdiag.TlsConf.HW_RECORD: "toe",
}


@dataclass(frozen=True, slots=True)
class Promise:
    """Whether kernel and library both take this cell; `reason` says who does not."""

    given: bool
    reason: str = ""


def promises(rows: Sequence[MatrixRow]) -> Mapping[tuple[TlsVersion, str, Direction], Promise]:
    return {(row.version, row.cipher, row.direction): _promise(row) for row in rows}


def _promise(row: MatrixRow) -> Promise:
    for name, cell in (("library", row.library), ("kernel", row.kernel)):
        if cell is None or cell.status is Status.UNKNOWN:
            return Promise(False, f"the {name} could not be asked" + (f": {cell.reason}" if cell is not None else ""))
        if cell.status is not Status.OK:
            return Promise(False, f"{name}: {cell.reason}")
    return Promise(True)


class Votes:
    """What the witnesses say of one direction, each under its own name: True in the kernel, False in user space."""

    def __init__(self) -> None:
        self.cast: dict[str, bool] = {}
        self.evidence: dict[str, str | int | bool | None | tuple[str, ...]] = {}

    def add(self, name: str, vote: bool | None, shown: str) -> None:
        self.evidence[name] = shown
        if vote is not None:
            self.cast[name] = vote

    @property
    def for_kernel(self) -> bool:
        return bool(self.cast) and all(self.cast.values())

    @property
    def for_user_space(self) -> bool:
        return bool(self.cast) and not any(self.cast.values())


def _end_votes(votes: Votes, role: str, end: EndWords, version: TlsVersion, cipher: str, system: Os) -> None:
    votes.add(f"{role}.library", end.library, "BIO_get_ktls says " + ("yes" if end.library else "no"))
    if end.armed is not None:
        votes.add(f"{role}.kernel", _kernel_vote(end, version, cipher, system), _kernel_shown(end))
    if end.sequence is not None:
        first, last = end.sequence
        # Neither a standstill nor another count is the kernel's work on these records.
        votes.add(f"{role}.sequence", last - first == end.records, f"{first} to {last} for {end.records} records")
    if end.diag is not None:
        votes.add(f"{role}.sock_diag", sockdiag.armed(end.diag), _CONF_NAME.get(end.diag, str(end.diag)))
    if end.handover is not None:
        shown = end.handover.step
        if not end.handover.accepted and end.handover.errno:
            shown += f": {os.strerror(end.handover.errno)}"
        votes.add(f"{role}.bio", end.handover.accepted, shown)
    if end.silent:
        votes.evidence[f"{role}.not_asked"] = end.silent


def _kernel_vote(end: EndWords, version: TlsVersion, cipher: str, system: Os) -> bool | None:
    if not end.armed:
        return False
    if system is Os.LINUX:
        # Armed with another version or cipher is not this session's record protection.
        return end.kernel == (version.wire, _LINUX_NUMBER.get(cipher, -1))
    return True


def _kernel_shown(end: EndWords) -> str:
    if not end.armed:
        return "no key"
    version, cipher = end.kernel or (0, 0)
    if not version:
        return "armed"
    return f"{_VERSION_NAME.get(version, hex(version))} {_LINUX_NAME.get(cipher, cipher)}"


def _counter_votes(votes: Votes, session: SessionFacts, direction: Direction) -> None:
    """The kernel's counters of sessions opened: exact only where nobody else is counted."""
    if not session.own_namespace or not session.counters:
        if ktlsgauges.OFFLOAD_TOTAL in session.counters:
            moved = ", ".join(f"{name} +{by}" for name, by in session.counters.items() if by)
            votes.evidence["counters"] = f"of the whole system: {moved or 'none moved'}"
        return
    name = direction.value.capitalize()
    opened = session.counters.get(f"Tls{name}Sw", 0) + session.counters.get(f"Tls{name}Device", 0)
    votes.add("counters", {0: False, 2: True}.get(opened), f"Tls{name}Sw and Tls{name}Device rose by {opened}")
    if opened not in (0, 2):
        votes.cast["counters"] = not votes.for_kernel  # one end of two: whatever the others say, this disagrees


def judge_direction(
    session: SessionFacts, direction: Direction, promise: Promise, witness: WitnessFacts | None, system: Os
) -> DirectionResult:
    """`ok` proved, `skip` rightly in user space, `critical` promised and not met, `unknown` witnesses disagree."""
    if session.untried:
        return DirectionResult(Status.UNKNOWN, {}, f"the session could not be tried: {session.untried}")
    if session.failure:
        return DirectionResult(Status.CRITICAL, {}, f"the session failed: {session.failure}")
    votes = Votes()
    cipher = bulk_cipher(session.suite)
    for role, end in zip(("server", "client"), session.words(direction), strict=True):
        _end_votes(votes, role, end, session.version, cipher, system)
    _counter_votes(votes, session, direction)
    if session.sha256_ok is False:
        return DirectionResult(Status.CRITICAL, votes.evidence, "the bytes that arrived are not those that were sent")
    if witness is not None:
        problem = _witness_problem(votes, witness, direction)
        if problem:
            return DirectionResult(Status.CRITICAL, votes.evidence, problem)
    if votes.for_kernel:
        if promise.given:
            return DirectionResult(Status.OK, votes.evidence, "")
        return DirectionResult(
            Status.UNKNOWN, votes.evidence, f"in the kernel, though it was not promised: {promise.reason}"
        )
    if votes.for_user_space:
        if not promise.given:
            return DirectionResult(Status.SKIP, votes.evidence, promise.reason)
        return DirectionResult(Status.CRITICAL, votes.evidence, _why_not(session, direction))
    return DirectionResult(
        Status.UNKNOWN,
        votes.evidence,
        "the witnesses disagree: "
        + ", ".join(f"{name} {'in the kernel' if vote else 'in user space'}" for name, vote in votes.cast.items()),
    )


def _why_not(session: SessionFacts, direction: Direction) -> str:
    """Kernel and library promised, the session did not: the call that refused, where the custom BIO saw it."""
    for end in session.words(direction):
        if end.handover is not None and not end.handover.accepted:
            cause = os.strerror(end.handover.errno) if end.handover.errno else f"{end.handover.leftover} bytes"
            return f"promised by kernel and library, but handing over failed at {end.handover.step}: {cause}"
    return "promised by kernel and library, but the session stayed in user space and nothing said why"


def _witness_problem(votes: Votes, witness: WitnessFacts, direction: Direction) -> str:
    """What the run against the witness has against this direction; empty if nothing."""
    if witness.unavailable:
        votes.evidence["witness"] = f"not run: {witness.unavailable}"
        return ""
    if witness.failure:
        votes.evidence["witness"] = f"failed: {witness.failure}"
        return f"against the witness ({witness.witness or 'pyOpenSSL'}): {witness.failure}"
    intact = witness.to_witness_ok if direction is Direction.TX else witness.from_witness_ok
    armed = witness.tx_armed if direction is Direction.TX else witness.rx_armed
    way = "kernel encrypts, witness decrypts" if direction is Direction.TX else "witness encrypts, kernel decrypts"
    votes.evidence["witness"] = (
        f"{witness.witness}: {way if armed else 'user space both sides'}, {witness.bytes_each_way} bytes "
        + ("equal" if intact else "DIFFER")
    )
    if armed is not None:
        votes.cast["witness"] = armed
    if not intact:
        return "the witness and the subject do not have the same bytes"
    if witness.leaked:
        return "plaintext was seen on the wire"
    if not witness.framing_ok:
        return "the bytes on the wire are not whole TLS records"
    return ""
