# SPDX-License-Identifier: BSD-2-Clause
"""A self-test for people: what failed and why, one line a suite, the verdict and the next command last.

80 columns, as in text.py, which has the blocks that both share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from ktlsctl.model import Report, SelftestResult, Status
from ktlsctl.render.blocks import BODY, errors, findings, head, joined, verdict
from ktlsctl.render.directions import Side, sides, where, word, worst_first
from ktlsctl.render.layout import Paint, table, wrapped
from ktlsctl.render.scenarios_text import scenarios
from ktlsctl.render.strings import each_string, plain, shown

#: What the self-test calls its own findings, which the other blocks show in their parts.
SESSIONS, SCENARIOS = "selftest.sessions", "selftest.scenarios"

#: Under the words of the legend, the longest of which is "user space".
LEGEND = 12


def render(report: Report, *, color: bool = False, quiet: bool = False, verbose: bool = False) -> str:
    """The report's text; ends with a newline.

    `quiet`: what is wrong, and the verdict.  `verbose`: every finding of the check, and the evidence of every
    direction.  States are always spelled out; `color` colours the words.
    """
    report = each_string(report, plain)
    paint = Paint(color)
    checks = [check for check in report.checks if check.id not in (SESSIONS, SCENARIOS)]
    blocks: tuple[Callable[[], Iterator[str]], ...] = (
        lambda: _failures(report, paint),
        lambda: scenarios(report.scenarios if quiet else (), paint, quiet=True, verbose=verbose),
        lambda: findings(checks, paint, quiet=not verbose, verbose=verbose),
        lambda: errors(report),
        lambda: verdict(report, paint),
    )
    if not quiet:
        blocks = (
            lambda: _head(report),
            *blocks[:3],
            lambda: _suites(report, paint),
            lambda: _legend(report),
            lambda: scenarios(report.scenarios, paint, quiet=False, verbose=verbose),
            lambda: _evidence(report, verbose=verbose),
            *blocks[3:],
        )
    return joined(block() for block in blocks)


def _head(report: Report) -> Iterator[str]:
    yield from head(report)
    evidence = next((check.evidence for check in report.checks if check.id in (SESSIONS, SCENARIOS)), {})
    if "library" in evidence:
        yield from wrapped(shown(evidence["library"]), "Library:  ")
    named = (*(r.datapath for r in report.results or ()), *(r.datapath for r in report.scenarios))
    datapaths = list(dict.fromkeys(named))
    ring = evidence.get("io_uring", "used")
    if datapaths:
        why = "" if ring == "used" else f", not io_uring: {shown(ring)}"
        yield from wrapped(f"{', '.join(datapaths)}{why}", "Datapath: ")
    alone = evidence.get("own_network_namespace", "yes")
    if alone != "yes":
        yield from wrapped(
            f"not of these sessions alone: no network namespace of our own: {shown(alone)}", "Counters: "
        )


def _grouped(some: Iterable[Side]) -> dict[tuple[Status, str], list[Side]]:
    """By state and reason, worst state first: each reason is said once."""
    groups: dict[tuple[Status, str], list[Side]] = {}
    for status in (Status.CRITICAL, Status.WARNING, Status.UNKNOWN, Status.SKIP):
        for each in some:
            if each.said.status is status:
                groups.setdefault((status, each.reason), []).append(each)
    return groups


def _failures(report: Report, paint: Paint) -> Iterator[str]:
    """Each reason once, with where it holds and what the witnesses said, the first of them by name."""
    everything = sides(report.results)
    for (status, reason), group in _grouped([each for each in everything if each.failed]).items():
        name = word(group[0].said)
        lines = wrapped(where(group, everything), f"{name:<8}  ")
        yield paint.head(status, lines[0], name)
        yield from lines[1:]
        yield from wrapped(reason, BODY)
        first = group[0]
        if first.evidence and len(group) > 1:
            yield from wrapped(f"evidence of {first.title}:", BODY)
        for line in first.evidence:
            yield from wrapped(line, f"{BODY}  ", f"{BODY}    ")


def _suites(report: Report, paint: Paint) -> Iterator[str]:
    if not report.results:
        return
    rows = [["version", "suite", "TX", "RX", "bytes"]]
    for result in worst_first(report.results):
        words = (paint.word(said.status, word(said)) for said in (result.tx, result.rx))
        rows.append([result.version.value, result.suite, *words, _bytes(result, paint)])
    yield from table(rows)


def _bytes(result: SelftestResult, paint: Paint) -> str:
    """What arrived, compared with what was sent."""
    if result.sha256_ok is None:
        return "-"
    return "ok" if result.sha256_ok else paint.word(Status.CRITICAL, "WRONG")


def _legend(report: Report) -> Iterator[str]:
    everything = sides(report.results)
    for (_, reason), group in _grouped([each for each in everything if not each.failed]).items():
        yield from wrapped(reason, f"{word(group[0].said):<{LEGEND}}")
        yield from wrapped(f"({where(group, everything)})", " " * LEGEND)


def _evidence(report: Report, *, verbose: bool) -> Iterator[str]:
    if not verbose:
        return
    for each in sides(report.results):
        if each.said.evidence:
            yield f"{each.title}: {word(each.said)}"
            for line in each.evidence:
                yield from wrapped(line, "  ", "    ")
