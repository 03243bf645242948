# SPDX-License-Identifier: BSD-2-Clause
"""libraries: what TLS library each running program carries."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ktlsctl.commands.options import Printing, debug_option, format_option, report_options
from ktlsctl.commands.output import deliver, progress
from ktlsctl.commands.reports import live_host, rendered, status_of

if TYPE_CHECKING:
    from ktlsctl.model import Report


@click.command(short_help="Which TLS library does each program carry, and is it able?")
@click.option("--pid", "pids", metavar="N", type=click.IntRange(1), multiple=True, help="Only this process.")
@click.option("--process", "names", metavar="NAME", multiple=True, help="Only processes of this name.")
@format_option("text", "json")
@report_options("evidence, proofs, build ids")
@debug_option
def libraries(pids: tuple[int, ...], names: tuple[str, ...], printing: Printing) -> int:
    """Which TLS library does each running program carry, and can it do kernel TLS at all?

    Looks into the files that each process has mapped, whatever they are called: bundled copies, files that were
    replaced on disk since, libraries linked into programs. Says for each process whether it has kernel TLS now, could
    have it, or never can, and why. Changes nothing; without root it sees the processes of its own user only.
    """
    from ktlsctl import libraries as carried
    from ktlsctl import sessions as live

    host = live_host()
    with progress("looking into the running processes ..."):
        facts = carried.gather(host, carried.Order(tuple(dict.fromkeys(pids)), names))
        here = live.report(host.about, live.gather(host, live.Query()), live.Query())
        query = live.Query(all_netns=True)
        everywhere = live.report(host.about, live.gather(host, query), query) if facts.elsewhere else here
        report = carried.report(host.about, facts, here, everywhere)
    deliver(_rendered(report, printing), printing.output)
    return status_of(report)


def _rendered(report: Report, printing: Printing) -> str:
    if printing.form != "text":
        return rendered(report, printing)
    from ktlsctl.render import libraries_text

    return libraries_text.render(report, color=printing.color, quiet=printing.quiet, verbose=printing.verbose)
