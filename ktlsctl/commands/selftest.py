# SPDX-License-Identifier: BSD-2-Clause
"""selftest: sessions and scenarios, proved."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from ktlsctl.commands.options import Printing, Seconds, debug_option, format_option, report_options
from ktlsctl.commands.output import ExitStatus, deliver, progress
from ktlsctl.commands.reports import live_host, rendered, status_of

if TYPE_CHECKING:
    from ktlsctl.model import Report


@click.command(short_help="Does a real TLS session get kernel TLS, TX and RX?")
@click.option("--tls1.2", "tls12", is_flag=True, help="Test TLS 1.2 only (with --tls1.3: both, as without either).")
@click.option("--tls1.3", "tls13", is_flag=True, help="Test TLS 1.3 only.")
@click.option(
    "--suite", "suites", metavar="NAME", multiple=True, help="Test this suite (OpenSSL's name). May be repeated."
)
@click.option(
    "--scenario",
    "scenarios",
    metavar="NAME",
    multiple=True,
    help="Run this scenario, 'session' (the plain session of each suite) or 'all'. May be repeated. Without it: the "
    "sessions and the quick scenarios.",
)
@click.option("--list-scenarios", is_flag=True, help="Say what each scenario proves and how long it takes, and end.")
@click.option(
    "--accept",
    "accepted",
    metavar="ID",
    multiple=True,
    help="Keep this known defect out of the verdict, though a scenario proves it. May be repeated.",
)
@click.option(
    "--direction",
    type=click.Choice(["tx", "rx", "both"]),
    default="both",
    show_default=True,
    help="Which direction is judged.",
)
@click.option(
    "--datapath",
    type=click.Choice(["auto", "io_uring", "socket"]),
    default="auto",
    show_default=True,
    help="How record bytes move; auto: io_uring where it works, else the socket.",
)
@click.option("--libssl", metavar="PATH", help="Test this TLS library instead of the system's.")
@click.option(
    "--require",
    "required",
    metavar="POLICY",
    multiple=True,
    help="Also require a proof, such as tls1.2:tx,rx or tls1.3:aes-128-gcm:tx. May be repeated.",
)
@click.option(
    "--bytes",
    "size",
    metavar="N",
    type=click.IntRange(1, 1 << 30),
    default=1 << 17,
    show_default=True,
    help="Payload bytes each way and suite.",
)
@click.option(
    "--timeout",
    metavar="S",
    type=Seconds(0.1, 3600),
    default=20.0,
    show_default=True,
    help="Seconds that one session may take.",
)
@format_option("text", "json", "tap", "junit", "nagios")
@report_options("the evidence of every direction")
@debug_option
def selftest(
    tls12: bool,
    tls13: bool,
    suites: tuple[str, ...],
    scenarios: tuple[str, ...],
    list_scenarios: bool,
    accepted: tuple[str, ...],
    direction: str,
    datapath: str,
    libssl: str | None,
    required: tuple[str, ...],
    size: int,
    timeout: float,
    printing: Printing,
) -> int:
    """Does a real TLS session get kernel TLS, TX and RX, with this cipher?

    Runs a session per suite on loopback and proves, per direction and on both ends, what carried the records: a
    direction counts only when every witness agrees. What kernel and library both promise must be met, and at least one
    promise must exist. Then scenarios try what breaks kernel TLS in production, and tell a known defect from one that
    is not known. Loads no module and needs no privilege.
    """
    from ktlsctl import selftest as test
    from ktlsctl.model import Direction, TlsVersion
    from ktlsctl.policy import Policy, PolicyError, Requirement
    from ktlsctl.probe import Options
    from ktlsctl.scenarios import catalogue
    from ktlsctl.sessionfacts import Order, Way

    if list_scenarios:
        if printing.form != "text":
            raise click.UsageError("--list-scenarios is text only; leave --json and --format out.")
        from ktlsctl.render import scenarios_text

        deliver(scenarios_text.catalogue_text(), printing.output)
        return ExitStatus.OK
    known = (catalogue.SESSION, catalogue.ALL, *catalogue.BY_NAME)
    for name in scenarios:
        if name not in known:
            raise click.UsageError(f"no scenario is called {name!r}; name one of {', '.join(known)}.")
    for name in accepted:
        if name not in catalogue.DEFECTS:
            provable = ", ".join(catalogue.DEFECTS)
            raise click.UsageError(f"no scenario proves a defect called {name!r}; name one of {provable}.")
    if libssl == "":
        raise click.UsageError("--libssl names no file; give the path of a libssl.so, or leave it out.")
    chosen = [v for v, wanted in ((TlsVersion.TLS12, tls12), (TlsVersion.TLS13, tls13)) if wanted]
    order = Order(
        libssl="",
        versions=tuple(chosen or TlsVersion),
        suites=suites,
        datapath=Way(datapath),
        size=size,
        witness_size=max(size, 1 << 20),
        timeout=timeout,
        seed=int.from_bytes(os.urandom(4), "big"),
    )
    try:
        policy = Policy(
            tuple(Direction) if direction == "both" else (Direction(direction),),
            tuple(Requirement.parse(text) for text in required),
            frozenset(accepted),
            order.versions,
        )
        with progress(f"testing with {', '.join(order.versions)} ..."):
            options = Options(libssl=(libssl,) if libssl is not None else ())
            host = live_host()
            report = test.run(host, options, order, policy, catalogue.wanted(scenarios, host.about.os))
    except PolicyError as error:
        raise click.UsageError(f"{error}.") from None
    deliver(_rendered(report, printing), printing.output)
    return status_of(report)


def _rendered(report: Report, printing: Printing) -> str:
    if printing.form == "tap":
        from ktlsctl.render import tap

        return tap.render(report)
    if printing.form == "junit":
        from ktlsctl.render import junit

        return junit.render(report)
    if printing.form != "text":
        return rendered(report, printing)
    from ktlsctl.render import selftest_text

    return selftest_text.render(report, color=printing.color, quiet=printing.quiet, verbose=printing.verbose)
