# SPDX-License-Identifier: BSD-2-Clause
"""stats: what the kernel has counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ktlsctl.commands.options import debug_option, not_both, report_options, watch_option
from ktlsctl.commands.output import Failure, deliver, exit_status, wants_color
from ktlsctl.commands.reports import live_host, rendered, show_again

if TYPE_CHECKING:
    from ktlsctl.model import Report


@click.command()
@watch_option
@click.option("--pid", metavar="N", type=click.IntRange(1), help="The numbers of this process's network namespace.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "prometheus"]),
    default="text",
    show_default=True,
    help="What to print; with --watch, json is one document a line.",
)
@report_options("evidence")
@debug_option
def stats(
    watch: float | None,
    pid: int | None,
    form: str,
    as_json: bool,
    output: str | None,
    quiet: bool,
    verbose: bool,
    color: str,
    debug: bool,
) -> int:
    """What has the kernel counted? How fast does it grow?

    The kernel's own numbers about kernel TLS by its own names: what is open now, what was counted since boot, which of
    them are errors and what they mean. Without the tls module there are none, which is not the same as zero.
    """
    from ktlsctl import stats as counted
    from ktlsctl.model import Os

    form = "json" if as_json else form
    not_both(quiet, verbose)
    if watch is not None and (output is not None or form == "prometheus"):
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
        if form == "json" and watch is not None:
            from ktlsctl.render import jsondoc

            return jsondoc.render_line(report)
        if form == "prometheus":
            from ktlsctl.render import prometheus

            # There is no metric for it, and nothing must not replace the last good file.
            if report.errors:
                raise Failure(f"{report.errors[0]}.")
            return prometheus.render_counters(report)
        if form == "json":
            return rendered(report, form, quiet, verbose, False)
        from ktlsctl.render import stats_text

        block = stats_text.render(report, color=wants_color(color, output), quiet=quiet, verbose=verbose)
        return block if watch is None else f"{report.generated_at}\n\n{block}\n"

    if output is None:
        return show_again(once, watch, text)
    report = once()
    deliver(text(report), output)
    return exit_status(report.verdict.status, "warning", bool(report.errors))
