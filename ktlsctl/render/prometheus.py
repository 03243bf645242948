# SPDX-License-Identifier: BSD-2-Clause
"""A report in the Prometheus text format 0.0.4, for the textfile collector.

States are state sets (one sample for each possible state, 1 for the one that holds), so that a state that ends does
not leave a stale series behind.  What was not seen has no sample: it is neither 1 nor 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from ktlsctl import __version__
from ktlsctl.model import Report, Status
from ktlsctl.render.metrics import Family, Kind, Labels, Sample, samples
from ktlsctl.render.strings import each_string, plain

BUILD = Family("ktls_build_info", Kind.GAUGE, "Version of the ktlsctl that wrote this; always 1.")
LAST_RUN = Family("ktls_last_run_timestamp_seconds", Kind.GAUGE, "When the host was judged, in seconds since 1970.")
VERDICT = Family("ktls_verdict", Kind.GAUGE, "Whether the verdict on the host is this status.")
CHECK = Family("ktls_check_status", Kind.GAUGE, "Whether the check has this status.")
MATRIX = Family("ktls_matrix", Kind.GAUGE, "Whether the witness says yes; no sample where it could not be asked.")

#: The same as the verdict of the JSON document: a verdict is never `skip`.
VERDICTS = (Status.OK, Status.WARNING, Status.CRITICAL, Status.UNKNOWN)


def render(report: Report) -> str:
    """The metrics of a report, families in one piece each, HELP before TYPE; ends with a newline."""
    return _text(_samples(each_string(report, plain)))


def render_counters(report: Report) -> str:
    """Only the kernel's numbers, under the same names, and whether they could be had."""
    report = each_string(report, plain)
    return _text((*_statuses(report), *samples(report.counters)))


def _text(found: Iterable[Sample]) -> str:
    families: dict[Family, dict[Labels, int]] = {}
    for sample in found:
        # A label set may stand only once in a scrape; the first word counts.
        families.setdefault(sample.family, {}).setdefault(sample.labels, sample.value)
    return "".join(f"{line}\n" for family, values in families.items() for line in _lines(family, values.items()))


def _samples(report: Report) -> Iterator[Sample]:
    yield Sample(BUILD, (("version", __version__),), 1)
    yield from _last_run(report.generated_at)
    for status in VERDICTS:
        yield Sample(VERDICT, (("status", status.value),), int(report.verdict.status is status))
    yield from _statuses(report)
    for row in report.matrix:
        place = (("version", row.version.value), ("cipher", row.cipher), ("direction", row.direction.value))
        for witness, cell in (("kernel", row.kernel), ("library", row.library), ("session", row.session)):
            if cell is not None and cell.status is not Status.UNKNOWN:
                yield Sample(MATRIX, (*place, ("witness", witness)), int(cell.status is Status.OK))
    yield from samples(report.counters)


def _statuses(report: Report) -> Iterator[Sample]:
    for check in report.checks:
        for status in Status:
            yield Sample(CHECK, (("check", check.id), ("status", status.value)), int(check.status is status))


def _last_run(generated_at: str) -> Iterator[Sample]:
    try:
        when = datetime.fromisoformat(generated_at)
    except ValueError:
        return
    if when.tzinfo is not None:
        yield Sample(LAST_RUN, (), int(when.timestamp()))


def _lines(family: Family, values: Iterable[tuple[Labels, int]]) -> Iterator[str]:
    yield f"# HELP {family.name} {family.help}"
    yield f"# TYPE {family.name} {family.kind}"
    for labels, value in values:
        inner = ",".join(f'{name}="{_escaped(text)}"' for name, text in labels)
        yield f"{family.name}{{{inner}}} {value}" if inner else f"{family.name} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
