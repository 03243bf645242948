# SPDX-License-Identifier: BSD-2-Clause
"""A report as a monitoring plugin prints it (Nagios, Icinga, Naemon, Sensu): one line with perfdata, then details.

Monitoring Plugins Development Guidelines: `STATUS: text | 'label'=value[UOM]`, the text within 80 columns, a pipe
nowhere but before perfdata.  Counters have the unit `c`; statistics of unknown meaning are left out.
"""

from __future__ import annotations

from collections.abc import Iterator

from ktlsctl.model import Check, Remedy, Report, Status
from ktlsctl.render.directions import sides
from ktlsctl.render.metrics import Kind, samples
from ktlsctl.render.order import worst_first
from ktlsctl.render.strings import each_string, plain

WIDTH = 80

#: What became of each direction of each self-tested suite.
_SELFTEST = {
    Status.OK: "proved",
    Status.CRITICAL: "failed",
    Status.SKIP: "skipped",
    Status.UNKNOWN: "unknown",
}


def render(report: Report) -> str:
    """The plugin's output; ends with a newline.  The exit status is the caller's."""
    report = each_string(report, plain)
    text = _within(f"KTLS {report.verdict.status.upper()} - {report.verdict.summary}", WIDTH)
    first = f"{_without_pipe(text)} | {' '.join(_performance(report))}"
    return "".join(f"{line}\n" for line in (first, *map(_without_pipe, _details(report))))


def _without_pipe(text: str) -> str:
    """A pipe begins perfdata, on later lines too."""
    return text.replace("|", "/")


def _within(text: str, columns: int) -> str:
    if len(text) <= columns:
        return text
    cut = text[: columns - 3]
    # At a word's end, unless one long word would take most of the line with it.
    head = cut.rpartition(" ")[0]
    return f"{head if len(head) > columns // 2 else cut}..."


def _performance(report: Report) -> Iterator[str]:
    for status in Status:
        yield f"checks_{status}={sum(check.status is status for check in report.checks)}"
    if report.results is not None:
        said = [each.said.status for each in sides(report.results)]
        for status, name in _SELFTEST.items():
            yield f"selftest_{name}={said.count(status)}"
    for sample in samples(report.counters):
        if sample.family.kind is not Kind.UNTYPED:
            name = sample.family.name.removeprefix("ktls_").removesuffix("_total")
            label = "_".join((name, *(value for _, value in sample.labels)))
            yield f"{label}={sample.value}{'c' if sample.family.kind is Kind.COUNTER else ''}"


def _details(report: Report) -> Iterator[str]:
    for error in report.errors:
        yield f"ERROR: {error}"
    for check in worst_first(report.checks):
        if check.status not in (Status.OK, Status.SKIP):
            yield _detail(check)


def _detail(check: Check) -> str:
    steps = "".join(f"; next: {_next(remedy)}" for remedy in check.remedy[:1])
    return f"{check.status.upper()} {check.id}: {check.summary} ({check.reason}){steps}"


def _next(remedy: Remedy) -> str:
    """The command, unless it cannot be written here: without its pipe it would be another one."""
    return remedy.text if remedy.command is None or "|" in remedy.command else remedy.command
