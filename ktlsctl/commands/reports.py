# SPDX-License-Identifier: BSD-2-Clause
"""What commands that print a report share: the host, the form, the watching."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ktlsctl.commands.output import Failure, exit_status, put

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


def rendered(report: Report, form: str, quiet: bool, verbose: bool, color: bool) -> str:
    if form == "json":
        from ktlsctl.render import jsondoc

        return jsondoc.render(report)
    if form == "nagios":
        from ktlsctl.render import nagios

        return nagios.render(report)
    if form == "prometheus":
        from ktlsctl.render import prometheus

        return prometheus.render(report)
    from ktlsctl.render import text

    return text.render(report, color=color, quiet=quiet, verbose=verbose)


def show_again(once: Callable[[], Report], watch: float | None, text: Callable[[Report], str]) -> int:
    """Once, or again and again until SIGINT: stopping a watch is no failure, its status is the last report's."""
    report = once()
    if watch is None:
        put(text(report))
        return exit_status(report.verdict.status, "warning", bool(report.errors))
    with contextlib.suppress(KeyboardInterrupt):
        reports = _every(watch, once)
        while put(text(report)):
            report = next(reports)
    return exit_status(report.verdict.status, "warning", bool(report.errors))


def _every(seconds: float, once: Callable[[], Report]) -> Iterator[Report]:
    """On a beat of its own, however long asking takes."""
    import time

    due = time.monotonic()
    while True:
        due = max(due + seconds, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))
        yield once()
