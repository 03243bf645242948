# SPDX-License-Identifier: BSD-2-Clause
"""stats: what the kernel has counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ktlsctl.commands.options import Printing, debug_option, format_option, report_options, watch_option
from ktlsctl.commands.output import Failure, deliver
from ktlsctl.commands.reports import as_json, live_host, show, stamped, status_of

if TYPE_CHECKING:
    from ktlsctl.model import Report


@click.command()
@watch_option
@click.option("--pid", metavar="N", type=click.IntRange(1), help="The numbers of this process's network namespace.")
@format_option("text", "json", "prometheus", help="What to print; with --watch, json is one document a line.")
@report_options("evidence")
@debug_option
def stats(watch: float | None, pid: int | None, printing: Printing) -> int:
    """What has the kernel counted? How fast does it grow?

    The kernel's own numbers about kernel TLS by its own names: what is open now, what was counted since boot, which of
    them are errors and what they mean. Without the tls module there are none, which is not the same as zero.
    """
    from ktlsctl import stats as counted
    from ktlsctl.model import Os

    if watch is not None and (printing.output is not None or printing.form == "prometheus"):
        raise click.UsageError("--watch prints text or json to stdout; it goes with neither --output nor prometheus")
    host = live_host()
    if pid is not None and host.about.os is not Os.LINUX:
        raise click.UsageError("--pid chooses a network namespace, which only Linux has")
    before: counted.Facts | None = None

    def once() -> Report:
        nonlocal before
        now = counted.gather(host, pid)
        report = counted.report(host.about, now, before)
        before = now
        return report

    def text(report: Report) -> str:
        if printing.form == "json":
            return as_json(report, watch)
        if printing.form == "prometheus":
            from ktlsctl.render import prometheus

            # There is no metric for it, and nothing must not replace the last good file.
            if report.errors:
                raise Failure(f"{report.errors[0]}.")
            return prometheus.render_counters(report)
        from ktlsctl.render import stats_text

        block = stats_text.render(report, color=printing.color, quiet=printing.quiet, verbose=printing.verbose)
        return stamped(block, report, watch)

    if printing.output is None:
        return show(once, watch, text)
    report = once()
    deliver(text(report), printing.output)
    return status_of(report)
