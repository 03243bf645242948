# SPDX-License-Identifier: BSD-2-Clause
"""The self-test: sessions over the suites, scenarios, and what they prove.

`run` asks (the check first, for what kernel and library promise; then a child for the sessions and one for the
scenarios); everything else here is a pure judgement over what they answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

from ktlsctl import advisories, probe
from ktlsctl.ciphers import bulk_cipher
from ktlsctl.codec import DecodeError, decode, encode
from ktlsctl.host import Host
from ktlsctl.model import (
    Attempt,
    Cell,
    Check,
    Direction,
    DirectionResult,
    Evidence,
    Finding,
    Library,
    Link,
    MatrixRow,
    Os,
    Outcome,
    Remedy,
    Report,
    ScenarioResult,
    SelftestResult,
    Status,
    TlsVersion,
    Verdict,
)
from ktlsctl.policy import Policy, PolicyError
from ktlsctl.scenarios import catalogue
from ktlsctl.scenarios.catalogue import Wanted
from ktlsctl.sessionfacts import Order, SelftestFacts, Trial, TrialsFacts, TrialsOrder, Way
from ktlsctl.votes import Promise, judge_direction, promises

F = TypeVar("F")

#: The check ids of what is done here.
SESSIONS, SCENARIOS = "selftest.sessions", "selftest.scenarios"

# ---- asking


def run(host: Host, options: probe.Options, order: Order, policy: Policy, wanted: Wanted) -> Report:
    """Check the host, then run the sessions and the scenarios in children; all judged.  Changes nothing, needs no
    privilege.

    `order.libssl` and `order.promised` are filled in from the check.  Raises PolicyError when a suite was named that
    the library does not offer, or a requirement that nothing of what is wanted could meet.
    """
    if policy.required and not wanted.sessions:
        raise PolicyError(f"{policy.required[0]} is required, which only sessions prove; add --scenario session")
    checked = probe.check(host, options)
    subject = checked.subject
    if checked.errors or subject is None or checked.libraries[subject].status is Status.UNKNOWN:
        reason = checked.errors[0] if checked.errors else "no TLS library was found that could be tested"
        verdict = Verdict(Status.UNKNOWN, reason, checked.verdict.first_broken, checked.verdict.remedy)
        return replace(checked, verdict=verdict, results=())
    library = checked.libraries[subject]
    agreed = {key[:2] for key, promise in promises(checked.matrix).items() if promise.given}
    order = replace(order, libssl=library.path, promised=tuple(sorted(agreed)))
    sessions = _sessions(host, order) if wanted.sessions else None
    trials = _trials(host, order, library, wanted) if wanted.scenarios else None
    return report(checked, sessions, trials, policy, order.datapath)


def _sessions(host: Host, order: Order) -> Attempt[SelftestFacts]:
    # Sessions have deadlines of their own; this one is for a child that lost itself: some 64 suites, two at a time.
    running = host.begin("ktlsctl.session:probe", encode(order), 60.0 + 40 * order.timeout)
    answer = _decoded(SelftestFacts, running.answer())
    if answer.value is not None and not (answer.value.ring_reason and order.datapath is Way.IO_URING):
        offered = {session.suite for session in answer.value.sessions}
        _require_all([name for name in order.suites if name not in offered], answer.value.library_version)
    return answer


def _trials(host: Host, order: Order, library: Library, wanted: Wanted) -> Attempt[TrialsFacts]:
    trials = trials_of(order, library, wanted)
    asked = TrialsOrder(order.libssl, order.datapath, order.timeout, order.seed, trials, order.suites)
    seconds = sum(catalogue.patience(trial.scenario, order.timeout) + 5.0 for trial in trials)
    running = host.begin("ktlsctl.trials.run:probe", encode(asked), 60.0 + seconds)
    answer = _decoded(TrialsFacts, running.answer())
    if answer.value is not None:
        elsewhere = {n for v in TlsVersion if v not in order.versions for n in order.suites if _belongs(n, v)}
        missing = elsewhere.union(answer.value.not_offered)
        _require_all([name for name in order.suites if name in missing], answer.value.library_version)
    return answer


def _require_all(missing: Sequence[str], library: str) -> None:
    if missing:
        raise PolicyError(f"{library} does not offer {', '.join(missing)} in these versions")


def _decoded(kind: type[F], found: Attempt[Any]) -> Attempt[F]:
    if not found.present:
        return Attempt(found.outcome, None, found.reason)
    try:
        return Attempt.ran(decode(kind, found.value))
    except DecodeError as error:
        return Attempt(Outcome.FAILED, reason=f"the self-test's answer cannot be read: {error}")


def _belongs(suite: str, version: TlsVersion) -> bool:
    """TLS 1.3 has suites of its own, and all of their names begin alike."""
    return suite.startswith("TLS_") is (version is TlsVersion.TLS13)


def trials_of(order: Order, library: Library, wanted: Wanted) -> tuple[Trial, ...]:
    """Which suites each scenario runs with: those named; else one of each promised cipher, or one of each version.

    Where nothing is promised (no kernel TLS) one suite of each version shows that user space is intact.
    """
    suite_of: dict[tuple[TlsVersion, str], str] = {}
    for cell in library.cells:
        if Status.UNKNOWN not in (cell.tx.status, cell.rx.status):
            suite_of.setdefault((cell.version, cell.cipher), cell.suite)
    pools: dict[TlsVersion, list[str]] = {}
    for version in order.versions:
        named = [name for name in order.suites if _belongs(name, version)]
        # In the library's own order, which puts what is used most first.
        promised = [suite for key, suite in suite_of.items() if key[0] is version and key in order.promised]
        offered = [suite for (of, _), suite in suite_of.items() if of is version]
        pools[version] = named if order.suites else promised or offered[:1]
    return tuple(
        Trial(name, version, suite)
        for name in wanted.scenarios
        for version in order.versions
        if version in catalogue.BY_NAME[name].versions
        for suite in (pools[version] if catalogue.BY_NAME[name].per_cipher or order.suites else pools[version][:1])
    )


# ---- promises, results, verdict


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
                scenario=catalogue.SESSION,
                datapath=session.datapath,
                library=subject,
                tx=judged[Direction.TX],
                rx=judged[Direction.RX],
                bytes=session.bytes_each_way,
                sha256_ok=session.sha256_ok,
                reason=session.failure or session.untried,
            )
        )
    return tuple(results)


def pronounce(results: Sequence[SelftestResult], policy: Policy, checked: Verdict) -> Verdict:
    """The sessions' verdict.  `checked` explains why nothing was promised, where nothing was."""
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
                SESSIONS,
                checked.remedy,
            )
    untried = next((c for c in cells if c[0].reason and c[2].status is Status.UNKNOWN), None)
    if untried is not None and not (proved and all(requirement.met(results) for requirement in policy.required)):
        # What is missing may be what this host did not let be tried.
        remedy = Remedy("lift what is in the way (a limit, a sandbox, the library's configuration), and run it again")
        return Verdict(Status.UNKNOWN, f"{untried[0].version} {untried[0].suite}: {untried[2].reason}", None, (remedy,))
    for requirement in policy.required:
        if not requirement.met(results):
            return Verdict(
                Status.CRITICAL,
                f"required and not proved: {requirement}",
                checked.first_broken or SESSIONS,
                checked.remedy,
            )
    if not proved:
        why = "kernel and library promise no cell that was tested"
        if checked.status is not Status.OK:
            why = checked.summary
        return Verdict(
            Status.CRITICAL,
            f"no session got kernel TLS; {why}",
            checked.first_broken or SESSIONS,
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


def _surroundings(facts: SelftestFacts | TrialsFacts) -> Evidence:
    """Which library, over what, and whose counters: what a result means nothing without."""
    return {
        "library": f"{facts.library_version} {facts.library_path}",
        "io_uring": facts.ring_reason or "used",
        "own_network_namespace": facts.namespace_reason or "yes",
    }


def check_of(results: Sequence[SelftestResult], verdict: Verdict, facts: SelftestFacts) -> Check:
    """The self-test as one link of the chain."""
    evidence: Evidence = {**_surroundings(facts), "suites": len(results)}
    cells = [r.direction(d).status for r in results for d in Direction]
    proved, failed = cells.count(Status.OK), cells.count(Status.CRITICAL)
    summary = f"{proved} directions in the kernel, {failed} failed, {len(results)} suites tested"
    reason = "" if verdict.status is Status.OK else verdict.summary
    return Check(SESSIONS, Link.SESSION, verdict.status, summary, reason, evidence)


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


# ---- scenarios


def pronounce_scenarios(results: Sequence[ScenarioResult], base: Verdict) -> Verdict:
    """The verdict of sessions (`base`) and scenarios together: the worse; a defect that is accepted does not weigh."""
    weighed = [result for result in results if not result.accepted]
    if base.status is Status.CRITICAL:
        return base
    for status in (Status.CRITICAL, Status.UNKNOWN, Status.WARNING):
        if base.status is status:
            return base
        worst = next((r for r in weighed if r.status is status), None)
        if worst is not None:
            first = SCENARIOS if status is not Status.UNKNOWN else None
            where = f"{worst.scenario}, {worst.version} {worst.suite}"
            return Verdict(status, f"{where}: {worst.summary}", first, _remedies(worst))
    if not results:
        return base
    accepted = len(results) - len(weighed)
    ran = sum(result.finding is not Finding.NOT_RUN for result in weighed)
    counts = (ran, "scenario runs fine"), (accepted, "with an accepted defect"), (len(weighed) - ran, "not run")
    said = ", ".join(f"{number} {what}" for number, what in counts if number)
    return replace(base, summary=f"{base.summary}; {said}" if base.summary else said)


def _remedies(result: ScenarioResult) -> tuple[Remedy, ...]:
    found = tuple(advisory.remedy for advisory in map(advisories.by_id, result.known) if advisory is not None)
    if not found and result.finding is Finding.UNEXPLAINED:
        return (Remedy("this is not known: report it with the output of --json; leave kernel TLS off meanwhile"),)
    return found


def scenarios_alone(results: Sequence[ScenarioResult], checked: Verdict, promised: bool) -> Verdict:
    """What stands in for the sessions' verdict where none were wanted: something must have been in the kernel."""
    if not results:
        remedy = Remedy("ask for a suite that the library offers, of a version that the scenario is about")
        return Verdict(Status.UNKNOWN, "no scenario was run", None, (remedy,))
    if all(r.finding is Finding.NOT_RUN for r in results):
        why = next((f"{r.summary}; {r.reason}" for r in results if r.status is Status.UNKNOWN), results[0].reason)
        reason = f"no scenario could be run: {why}"
        return Verdict(Status.UNKNOWN, reason, checked.first_broken, checked.remedy)
    if any(r.direction(d).status is not Status.SKIP for r in results for d in Direction):
        return Verdict(Status.OK, "")
    if promised:
        # Some scenarios are about what stays in user space.
        return Verdict(Status.OK, "no record was in the kernel")
    return Verdict(
        Status.CRITICAL,
        f"nothing was in the kernel; {checked.summary if checked.status is not Status.OK else 'no cell is promised'}",
        checked.first_broken or SCENARIOS,
        checked.remedy,
    )


def check_of_scenarios(results: Sequence[ScenarioResult], facts: TrialsFacts) -> Check:
    """The scenarios as one link of the chain."""
    order = (Status.CRITICAL, Status.UNKNOWN, Status.WARNING, Status.OK, Status.SKIP)
    worst = min((r.status for r in results), key=order.index, default=Status.SKIP)
    count = {finding: sum(r.finding is finding for r in results) for finding in Finding}
    said = ", ".join(f"{number} {finding}" for finding, number in count.items() if number) or "none was run"
    reason = "; ".join(dict.fromkeys(f"{r.scenario}: {r.summary}" for r in results if r.status is worst))
    known = tuple(dict.fromkeys(identity for r in results for identity in r.known))
    evidence: Evidence = {**_surroundings(facts), "known": known}
    reason = "" if worst is Status.OK else reason or said
    remedies = tuple(dict.fromkeys(remedy for r in results if r.status is worst for remedy in _remedies(r)))
    return Check(SCENARIOS, Link.BYTES, worst, said, reason, evidence, remedies)


# ---- the document


def report(
    checked: Report,
    sessions: Attempt[SelftestFacts] | None,
    trials: Attempt[TrialsFacts] | None,
    policy: Policy,
    way: Way,
) -> Report:
    """The self-test's document: the check's, with results, the session column and a verdict of its own.

    None: not wanted.
    """
    found = checked
    promised = any(promise.given for promise in promises(checked.matrix).values())
    base: Verdict | None = None
    if sessions is not None:
        found = _with_sessions(checked, sessions, policy, way)
        base = found.verdict
    if trials is not None:
        found = _with_trials(found, trials, policy, way, base, promised, checked.verdict)
    return found


def _without_ring(reason: str) -> Verdict:
    remedy = Remedy("leave --datapath out: the socket datapath proves kernel TLS as well")
    return Verdict(Status.UNKNOWN, f"io_uring was asked for and cannot be had: {reason}", None, (remedy,))


def _with_sessions(checked: Report, answer: Attempt[SelftestFacts], policy: Policy, way: Way) -> Report:
    if answer.value is None:
        reason = f"the self-test gave no answer: {answer.reason}"
        verdict = Verdict(Status.UNKNOWN, reason, checked.verdict.first_broken, checked.verdict.remedy)
        broken = Check(SESSIONS, Link.SESSION, Status.UNKNOWN, "the self-test gave no answer", reason)
        return replace(checked, verdict=verdict, checks=(*checked.checks, broken), results=())
    facts = answer.value
    if not facts.sessions and facts.ring_reason and way is Way.IO_URING:
        verdict = _without_ring(facts.ring_reason)
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


def _with_trials(
    found: Report,
    answer: Attempt[TrialsFacts],
    policy: Policy,
    way: Way,
    base: Verdict | None,
    promised: bool,
    checked: Verdict,
) -> Report:
    if answer.value is None:
        reason = f"the scenarios gave no answer: {answer.reason}"
        broken = Check(SCENARIOS, Link.BYTES, Status.UNKNOWN, "the scenarios gave no answer", reason)
        verdict = base if base is not None and base.status is Status.CRITICAL else Verdict(Status.UNKNOWN, reason)
        return replace(found, verdict=verdict, checks=(*found.checks, broken), results=found.results or ())
    facts = answer.value
    if facts.ring_reason and way is Way.IO_URING:
        checks = (*found.checks, check_of_scenarios((), facts))
        return replace(found, verdict=_without_ring(facts.ring_reason), checks=checks, results=found.results or ())
    library = f"{facts.library_version} ({facts.library_path})"
    judged = (catalogue.judged(trial, library) for trial in facts.trials)
    results = tuple(
        replace(r, accepted=r.finding is Finding.KNOWN and policy.accepted.issuperset(r.known)) for r in judged
    )
    subject = None if found.subject is None else found.libraries[found.subject]
    notices = advisories.confirmed(
        found.advisories,
        frozenset(identity for r in results for identity in r.known),
        frozenset(identity for r in results for identity in r.refuted),
        found.about,
        subject,
    )
    revised = advisories.check(notices)
    checks = tuple(revised if check.id == revised.id else check for check in found.checks)
    return replace(
        found,
        verdict=pronounce_scenarios(results, base or scenarios_alone(results, checked, promised)),
        checks=(*checks, check_of_scenarios(results, facts)),
        advisories=notices,
        results=found.results or (),
        scenarios=results,
    )
