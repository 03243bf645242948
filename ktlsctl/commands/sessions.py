# SPDX-License-Identifier: BSD-2-Clause
"""sessions and top: what is in the kernel right now."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from ktlsctl.commands import reports
from ktlsctl.commands.options import Seconds, color_option, debug_option, format_option, json_option, watch_option
from ktlsctl.commands.output import ExitStatus, Failure, wants_color
from ktlsctl.commands.reports import live_host

if TYPE_CHECKING:
    from ktlsctl.model import Report
    from ktlsctl.sessions import Query


@click.command(short_help="Which sockets of which programs are in the kernel right now?")
@format_option("text", "json", help="What to print; with --watch, json is one document a line.")
@json_option
@click.option("--all", "everything", is_flag=True, help="Also list established TCP sockets without kernel TLS.")
@click.option("--failed", is_flag=True, help="List only sockets that tried and have no direction in the kernel.")
@click.option("--summary", is_flag=True, help="One line out of the kernel's counters, without looking at any socket.")
@watch_option
@click.option("--pid", "pids", metavar="N", type=click.IntRange(1), multiple=True, help="Only this process's sockets.")
@click.option("--process", "processes", metavar="NAME", multiple=True, help="Only sockets of processes of this name.")
@click.option(
    "--port", "ports", metavar="N", type=click.IntRange(1, 65535), multiple=True, help="Only this port, at either end."
)
@click.option("--cipher", "ciphers", metavar="NAME", multiple=True, help="Only this cipher, such as aes-128-gcm.")
@click.option("--tx", type=click.Choice(["software", "nic", "none"]), help="Only sockets that send like this.")
@click.option("--rx", type=click.Choice(["software", "nic", "none"]), help="Only sockets that receive like this.")
@click.option("--all-netns", is_flag=True, help="Look into every network namespace that may be entered (Linux).")
@color_option
@debug_option
def sessions(
    form: str,
    as_json: bool,
    everything: bool,
    failed: bool,
    summary: bool,
    watch: float | None,
    pids: tuple[int, ...],
    processes: tuple[str, ...],
    ports: tuple[int, ...],
    ciphers: tuple[str, ...],
    tx: str | None,
    rx: str | None,
    all_netns: bool,
    color: str,
) -> int:
    """Which sockets of which programs are in the kernel right now? Which tried, and are not?

    Lists every TCP socket with kernel TLS by process: version, cipher, who does the records of each direction, and the
    bytes that crossed the wire. Filters of one kind add up, those of different kinds must all hold. Before Linux 6.15
    it needs CAP_NET_ADMIN (root); what cannot be seen is unknown, never none.
    """
    from ktlsctl import sessions as live
    from ktlsctl.model import Mode

    try:
        query = live.Query(
            everything=everything,
            failed=failed,
            all_netns=all_netns,
            pids=frozenset(pids),
            processes=frozenset(processes),
            ports=frozenset(ports),
            ciphers=frozenset(map(live.cipher_named, ciphers)),
            tx=Mode(tx) if tx else None,
            rx=Mode(rx) if rx else None,
        )
    except live.UnknownCipher as error:
        raise click.UsageError(f"{error}.") from None
    if everything and failed:
        raise click.UsageError("--all and --failed exclude each other")
    if summary and query != live.Query():
        raise click.UsageError("--summary counts the sockets of this network namespace, it cannot choose among them")
    once = _summaries() if summary else listings(query)
    lines = as_json or form == "json"
    return _show(once, watch, lines, summary, wants_color(color, None))


def listings(query: Query) -> Callable[[], Report]:
    import gc

    from ktlsctl import sessions as live

    # Ten thousand sockets are records without cycles: the collector would go through them again and again.
    gc.set_threshold(500_000)
    host = live_host()
    return lambda: live.report(host.about, live.gather(host, query), query)


def _summaries() -> Callable[[], Report]:
    from ktlsctl import summary

    host = live_host()
    before = None

    def once() -> Report:
        nonlocal before
        numbers = summary.read(host)
        report = summary.report(host.about, numbers, before)
        before = numbers.value
        return report

    return once


def _show(once: Callable[[], Report], watch: float | None, lines: bool, brief: bool, color: bool) -> int:
    def text(report: Report) -> str:
        if lines:
            return reports.as_json(report, watch)
        if brief:
            return (
                f"{report.verdict.summary}\n" if watch is None else f"{report.generated_at}  {report.verdict.summary}\n"
            )
        from ktlsctl.render import sessions_text

        return reports.stamped(sessions_text.render(report, color=color), report, watch)

    return reports.show(once, watch, text)


@click.command(short_help="Watch sessions by process, with bytes per second.")
@click.option(
    "--interval",
    metavar="S",
    type=Seconds(0.1, 3600),
    default=2.0,
    show_default=True,
    help="Seconds between two looks.",
)
@click.option("--all-netns", is_flag=True, help="Look into every network namespace that may be entered (Linux).")
@debug_option
def top(interval: float, all_netns: bool) -> int:
    """Watch sessions by process on the whole terminal, with bytes per second; q quits.

    Needs the same privilege as 'ktlsctl sessions'.
    """
    import time

    from ktlsctl import screen
    from ktlsctl import sessions as live
    from ktlsctl import top as view
    from ktlsctl.render import top_text

    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise Failure("top needs a terminal; use 'ktlsctl sessions --watch' for a pipe or a file.")
    once = listings(live.Query(all_netns=all_netns))
    before: view.Sample | None = None

    def update() -> screen.Draw:
        nonlocal before
        report = once()
        now = view.Sample(time.monotonic(), report.sessions or ())
        rows = view.rows(now, before)
        before = now
        said = f"{report.verdict.status.upper()} - {report.verdict.summary}"
        return lambda height, width: top_text.screen(
            rows, verdict=said, clock=report.generated_at, height=height, width=width
        )

    try:
        screen.show(update, interval)
    except screen.NoScreen as error:
        raise Failure(f"{error}; set TERM, or use 'ktlsctl sessions --watch'.") from None
    return ExitStatus.OK
