# SPDX-License-Identifier: BSD-2-Clause
"""What commands that print a report share: the host, the form, the watching."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ktlsctl.commands.options import Printing
from ktlsctl.commands.output import ExitStatus, Failure, exit_status, put

if TYPE_CHECKING:
    from ktlsctl.host import LiveHost
    from ktlsctl.model import Report


def live_host() -> LiveHost:
    from ktlsctl.host import LiveHost, UnsupportedSystem

    host = LiveHost()
    try:
        _ = host.about
    except UnsupportedSystem as error:
        raise Failure(f"{error}.") from None
    return host


def rendered(report: Report, printing: Printing) -> str:
    """As one of the forms that every report has."""
    if printing.form == "json":
        from ktlsctl.render import jsondoc

        return jsondoc.render(report)
    if printing.form == "nagios":
        from ktlsctl.render import nagios

        return nagios.render(report)
    if printing.form == "prometheus":
        from ktlsctl.render import prometheus

        return prometheus.render(report)
    from ktlsctl.render import text

    return text.render(report, color=printing.color, quiet=printing.quiet, verbose=printing.verbose)


def as_json(report: Report, watch: float | None) -> str:
    """A document, on one line where more follow."""
    from ktlsctl.render import jsondoc

    return jsondoc.render(report) if watch is None else jsondoc.render_line(report)


def stamped(block: str, report: Report, watch: float | None) -> str:
    """A text, with its time where more follow."""
    return block if watch is None else f"{report.generated_at}\n\n{block}\n"


def status_of(report: Report, fail_on: str = "warning") -> ExitStatus:
    return exit_status(report.verdict.status, fail_on, bool(report.errors))


def show(once: Callable[[], Report], watch: float | None, text: Callable[[Report], str]) -> int:
    """Once, or again and again until SIGINT: stopping a watch is no failure, its status is the last report's."""
    report = once()
    if watch is None:
        put(text(report))
        return status_of(report)
    with contextlib.suppress(KeyboardInterrupt):
        reports = _every(watch, once)
        while put(text(report)):
            report = next(reports)
    return status_of(report)


def _every(seconds: float, once: Callable[[], Report]) -> Iterator[Report]:
    """On a beat of its own, however long asking takes."""
    import time

    due = time.monotonic()
    while True:
        due = max(due + seconds, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))
        yield once()
