# SPDX-License-Identifier: BSD-2-Clause
"""The kernel's numbers for people: what is open now apart from what was counted since boot, errors marked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ktlsctl.model import Report, Statistic, StatisticKind
from ktlsctl.render.blocks import errors, findings, head, joined, verdict
from ktlsctl.render.layout import WIDTH, Paint, table, wrapped
from ktlsctl.render.strings import each_string, plain

_TITLES = {
    StatisticKind.GAUGE: "Now",
    StatisticKind.COUNTER: "Counted since boot, or since this network namespace was made",
    StatisticKind.UNKNOWN: "New to this ktlsctl",
}


def render(report: Report, *, color: bool = False, quiet: bool = False, verbose: bool = False) -> str:
    """The report's text; ends with a newline.  `quiet`: what is wrong, and the verdict; `verbose`: evidence, too."""
    report = each_string(report, plain)
    paint = Paint(color)
    blocks: tuple[Callable[[], Iterator[str]], ...] = (
        lambda: findings(report.checks, paint, quiet=True, verbose=verbose),
        lambda: errors(report),
        lambda: verdict(report, paint),
    )
    if not quiet:
        blocks = (
            lambda: head(report),
            *((lambda kind=kind: _block(report.statistics or (), kind)) for kind in StatisticKind),
            *blocks,
        )
    return joined(block() for block in blocks)


def _block(statistics: Sequence[Statistic], kind: StatisticKind) -> Iterator[str]:
    mine = [each for each in statistics if each.kind is kind]
    if not mine:
        return
    yield _TITLES[kind]
    rates = any(each.rate is not None for each in mine)
    rows = [[each.name, str(each.value), *([_rate(each.rate)] if rates else []), _words(each)] for each in mine]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    rows = [
        [row[0], *(cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:], strict=True)), row[-1]]
        for row in rows
    ]
    left = WIDTH - 2 - sum(width + 2 for width in widths)
    if left >= 20:
        rows = [[*row[:-1], "\n".join(wrapped(row[-1], width=left))] for row in rows]
    yield from table(rows, "  ")


def _rate(rate: float | None) -> str:
    """One decimal below ten, none above."""
    if rate is None:
        return ""
    return f"+{rate:.1f}/s" if rate < 10 else f"+{rate:.0f}/s"


def _words(each: Statistic) -> str:
    meaning = each.meaning.partition(";")[0]
    return f"ERROR: {meaning}" if each.error and each.value else meaning
