# SPDX-License-Identifier: BSD-2-Clause
"""The self-test: sessions over the suites, and what they prove.

`run` asks (the check first, for what kernel and library promise; then a child for the sessions); everything else here
is a pure judgement over `session.SelftestFacts`.  A direction is proved only when every witness that could be asked
agrees on both ends; disagreement is a finding of its own that shows each of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ktlsctl import probe
from ktlsctl.ciphers import LINUX_CIPHERS, bulk_cipher
from ktlsctl.codec import DecodeError, decode, encode
from ktlsctl.facts import ktlsgauges, sockdiag
from ktlsctl.host import Host
from ktlsctl.model import (
    Attempt,
    Cell,
    Check,
    Direction,
    DirectionResult,
    Link,
    MatrixRow,
    Os,
    Outcome,
    Remedy,
    Report,
    SelftestResult,
    Status,
    TlsVersion,
    Verdict,
)
from ktlsctl.sessionfacts import EndWords, Order, SelftestFacts, SessionFacts, Way, WitnessFacts

_LINUX_NUMBER = {cipher.name: cipher.id for cipher in LINUX_CIPHERS}
_LINUX_NAME = {cipher.id: cipher.name for cipher in LINUX_CIPHERS}
_VERSION_NAME = {version.wire: version.value for version in TlsVersion}
_CONF_NAME: Mapping[int, str] = {
    sockdiag.TlsConf.BASE: "none",
    sockdiag.TlsConf.SW: "software",
    sockdiag.TlsConf.HW: "nic",
    sockdiag.TlsConf.HW_RECORD: "toe",
}


class PolicyError(ValueError):
    """A requirement that cannot be read; the message is one sentence."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """A policy: in this version at least one suite (or one with this cipher) must have these directions proved."""

    version: TlsVersion
    directions: tuple[Direction, ...]
    cipher: str = ""

    @staticmethod
    def parse(text: str) -> Requirement:
        """`tls1.2:tx,rx` or `tls1.3:aes-128-gcm:tx`.  Raises PolicyError."""
        parts = text.strip().lower().split(":")
        versions = {"tls1.2": TlsVersion.TLS12, "tlsv1.2": TlsVersion.TLS12} | {
            "tls1.3": TlsVersion.TLS13, "tlsv1.3": TlsVersion.TLS13,
        }  # fmt: skip
        example = "write it like tls1.2:tx,rx or tls1.3:aes-128-gcm:tx"
        if len(parts) not in (2, 3) or parts[0] not in versions:
            raise PolicyError(f"cannot read the requirement {text!r}; {example}")
        cipher = parts[1].upper() if len(parts) == 3 else ""
        if cipher and cipher not in _LINUX_NUMBER and "CBC" not in cipher:
            raise PolicyError(f"no kernel knows the cipher {cipher!r}; one of {', '.join(_LINUX_NUMBER)}")
        try:
            directions = tuple(sorted({Direction(d.strip()) for d in parts[-1].split(",")}, reverse=True))
        except ValueError:
            raise PolicyError(f"cannot read the directions of {text!r}; {example}") from None
        return Requirement(versions[parts[0]], directions, cipher)

    def __str__(self) -> str:
        cipher = f" {self.cipher}" if self.cipher else ""
        return f"{self.version}{cipher} {' and '.join(d.upper() for d in self.directions)}"

    def met(self, results: Iterable[SelftestResult]) -> bool:
        return any(
            result.version is self.version
            and (not self.cipher or bulk_cipher(result.suite) == self.cipher)
            and all(result.direction(d).status is Status.OK for d in self.directions)
            for result in results
        )


@dataclass(frozen=True, slots=True)
class Policy:
    """`directions`: those that are judged at all.  `required`: beyond what kernel and library promise.

    Raises PolicyError for a requirement on a direction that is not judged: it could never be met.
    """

    directions: tuple[Direction, ...] = tuple(Direction)
    required: tuple[Requirement, ...] = ()

    def __post_init__(self) -> None:
        for requirement in self.required:
            if not set(requirement.directions) <= set(self.directions):
                raise PolicyError(f"{requirement} is required, but --direction leaves that out")


# ---- asking


def run(host: Host, options: probe.Options, order: Order, policy: Policy) -> Report:
    """Check the host, then run the sessions in a child; both judged.  Changes nothing, needs no privilege.

    `order.libssl` and `order.promised` are filled in from the check.  Raises PolicyError when a suite was named that
    the library does not offer.
    """
    checked = probe.check(host, options)
    subject = checked.subject
    if checked.errors or subject is None or checked.libraries[subject].status is Status.UNKNOWN:
        reason = checked.errors[0] if checked.errors else "no TLS library was found that could be tested"
        verdict = Verdict(Status.UNKNOWN, reason, checked.verdict.first_broken, checked.verdict.remedy)
        return replace(checked, verdict=verdict, results=())
    agreed = {key[:2] for key, promise in promises(checked.matrix).items() if promise.given}
    order = replace(order, libssl=checked.libraries[subject].path, promised=tuple(sorted(agreed)))
    # Sessions have deadlines of their own; this one is for a child that lost itself: some 64 suites, two at a time.
    found = host.begin("ktlsctl.session:probe", encode(order), 60.0 + 40 * order.timeout).answer()
    answer: Attempt[SelftestFacts] = Attempt(found.outcome, None, found.reason)
    if found.present:
        try:
            answer = Attempt.ran(decode(SelftestFacts, found.value))
        except DecodeError as error:
            answer = Attempt(Outcome.FAILED, reason=f"the self-test's answer cannot be read: {error}")
    if answer.value is not None and not (answer.value.ring_reason and order.datapath is Way.IO_URING):
        offered = {session.suite for session in answer.value.sessions}
        missing = [name for name in order.suites if name not in offered]
        if missing:
            raise PolicyError(f"{answer.value.library_version} does not offer {', '.join(missing)} in these versions")
    return report(checked, answer, policy, order.datapath)


# ---- judging one direction


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


# ---- promises, results, verdict


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


def judge(facts: SelftestFacts, rows: Sequence[MatrixRow], policy: Policy, system: Os) -> tuple[SelftestResult, ...]:
    """One result per suite, in the order in which they ran."""
    promised = promises(rows)
    witnesses = {(w.version, w.suite): w for w in facts.witnesses}
    unknown_cipher = Promise(False, f"neither kernel nor library offload this cipher on {system}")
    subject = f"{facts.library_version} ({facts.library_path})"
    results = []
    for session in facts.sessions:
        cipher = bulk_cipher(session.suite)
        witness = witnesses.get((session.version, session.suite))
        judged = {
            d: judge_direction(session, d, promised.get((session.version, cipher, d), unknown_cipher), witness, system)
            if d in policy.directions
            else DirectionResult(Status.SKIP, {}, "this direction was not asked for")
            for d in Direction
        }
        results.append(
            SelftestResult(
                version=session.version,
                suite=session.suite,
                scenario="session",
                datapath=session.datapath,
                library=subject,
                tx=judged[Direction.TX],
                rx=judged[Direction.RX],
                bytes=session.bytes_each_way,
                sha256_ok=session.sha256_ok,
                reason=session.failure,
            )
        )
    return tuple(results)


def pronounce(results: Sequence[SelftestResult], policy: Policy, checked: Verdict) -> Verdict:
    """The self-test's own verdict.  `checked` explains why nothing was promised, where nothing was."""
    cells = [(r, d, r.direction(d)) for r in results for d in policy.directions]
    proved = [c for c in cells if c[2].status is Status.OK]
    if not results:
        remedy = Remedy("ask for a suite that the library offers")
        return Verdict(Status.UNKNOWN, "no suite was tested", None, (remedy,))
    for result, direction, cell in cells:
        if cell.status is Status.CRITICAL:
            return Verdict(
                Status.CRITICAL,
                f"{result.version} {result.suite} {direction.upper()}: {cell.reason}",
                "selftest.sessions",
                checked.remedy,
            )
    for requirement in policy.required:
        if not requirement.met(results):
            return Verdict(
                Status.CRITICAL,
                f"required and not proved: {requirement}",
                checked.first_broken or "selftest.sessions",
                checked.remedy,
            )
    if not proved:
        why = "kernel and library promise no cell that was tested"
        if checked.status is not Status.OK:
            why = checked.summary
        return Verdict(
            Status.CRITICAL,
            f"no session got kernel TLS; {why}",
            checked.first_broken or "selftest.sessions",
            checked.remedy,
        )
    for result, direction, cell in cells:
        if cell.status is Status.UNKNOWN:
            return Verdict(
                Status.UNKNOWN,
                f"{result.version} {result.suite} {direction.upper()}: {cell.reason}",
                None,
                (Remedy("compare the witnesses in the evidence of this cell (--verbose or --format json)"),),
            )
    suites = len({(r.version, r.suite) for r, _, _ in proved})
    summary = f"{len(proved)} directions of {suites} suites proved to be in the kernel, {len(results)} suites tested"
    return Verdict(Status.OK, summary)


def check_of(results: Sequence[SelftestResult], verdict: Verdict, facts: SelftestFacts) -> Check:
    """The self-test as one link of the chain."""
    evidence: dict[str, str | int | bool | None | tuple[str, ...]] = {
        "library": f"{facts.library_version} {facts.library_path}",
        "suites": len(results),
        "io_uring": facts.ring_reason or "used",
        "own_network_namespace": facts.namespace_reason or "yes",
    }
    cells = [r.direction(d).status for r in results for d in Direction]
    proved, failed = cells.count(Status.OK), cells.count(Status.CRITICAL)
    summary = f"{proved} directions in the kernel, {failed} failed, {len(results)} suites tested"
    reason = "" if verdict.status is Status.OK else verdict.summary
    return Check("selftest.sessions", Link.SESSION, verdict.status, summary, reason, evidence)


def with_sessions(rows: Sequence[MatrixRow], results: Sequence[SelftestResult]) -> tuple[MatrixRow, ...]:
    """The matrix with the third witness: the worst that any suite of this cipher met."""
    worst = (Status.CRITICAL, Status.UNKNOWN, Status.SKIP, Status.OK)
    found: dict[tuple[TlsVersion, str, Direction], DirectionResult] = {}
    for result in results:
        for direction in Direction:
            key = result.version, bulk_cipher(result.suite), direction
            cell = result.direction(direction)
            if key not in found or worst.index(cell.status) < worst.index(found[key].status):
                found[key] = cell
    seen = [(row, found.get((row.version, row.cipher, row.direction))) for row in rows]
    return tuple(row if met is None else replace(row, session=Cell(met.status, met.reason)) for row, met in seen)


def report(checked: Report, answer: Attempt[SelftestFacts], policy: Policy, way: Way) -> Report:
    """The self-test's document: the check's, with results, the session column and a verdict of its own."""
    if answer.value is None:
        reason = f"the self-test gave no answer: {answer.reason}"
        verdict = Verdict(Status.UNKNOWN, reason, checked.verdict.first_broken, checked.verdict.remedy)
        broken = Check("selftest.sessions", Link.SESSION, Status.UNKNOWN, "the self-test gave no answer", reason)
        return replace(checked, verdict=verdict, checks=(*checked.checks, broken), results=())
    facts = answer.value
    if not facts.sessions and facts.ring_reason and way is Way.IO_URING:
        reason = f"io_uring was asked for and cannot be had: {facts.ring_reason}"
        remedy = Remedy("leave --datapath out: the socket datapath proves kernel TLS as well")
        verdict = Verdict(Status.UNKNOWN, reason, None, (remedy,))
        return replace(checked, verdict=verdict, checks=(*checked.checks, check_of((), verdict, facts)), results=())
    results = judge(facts, checked.matrix, policy, checked.about.os)
    verdict = pronounce(results, policy, checked.verdict)
    return replace(
        checked,
        verdict=verdict,
        checks=(*checked.checks, check_of(results, verdict, facts)),
        matrix=with_sessions(checked.matrix, results),
        results=results,
    )
