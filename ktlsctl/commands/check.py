# SPDX-License-Identifier: BSD-2-Clause
"""check: judge this host or a captured one, and propose what mends it."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from ktlsctl.commands.configure import Manner, show_outcome, with_plan
from ktlsctl.commands.options import Printing, debug_option, format_option, library_option, load_option, report_options
from ktlsctl.commands.output import Failure, deliver, exit_status, put
from ktlsctl.commands.reports import live_host, rendered, status_of

if TYPE_CHECKING:
    from ktlsctl.changes import Outcome
    from ktlsctl.model import About, Report
    from ktlsctl.probe import Options


@click.command()
@format_option("text", "json", "nagios", "prometheus")
@click.option(
    "--fail-on",
    type=click.Choice(["never", "warning", "critical"]),
    default="warning",
    show_default=True,
    help="The mildest verdict that makes the exit status other than 0.",
)
@library_option
@load_option
@click.option(
    "--from", "capture", metavar="FILE", help="Judge a captured host instead of this one; - reads it from stdin."
)
@click.option("--fix", is_flag=True, help="Then propose a plan for what was found, as 'ktlsctl enable' does.")
@click.option("--diff", is_flag=True, help="With --fix: show a unified diff of every file.")
@click.option("-y", "--yes", is_flag=True, help="With --fix: carry the plan out without asking.")
@report_options("evidence, every reason, every advisory")
@debug_option
def check(
    fail_on: str,
    libssl: tuple[str, ...],
    load: bool,
    capture: str | None,
    fix: bool,
    diff: bool,
    yes: bool,
    printing: Printing,
) -> int:
    """Can this host do kernel TLS, and if not, why?

    Tries each TLS version, cipher and direction on a loopback socket with throw-away keys, asks each TLS library
    whether it would hand its keys over, names the first broken link and the command that mends it. Changes nothing
    unless --load or --fix is given, and needs no privilege.
    """
    from ktlsctl import probe

    # what changes the host takes no contradiction: here --json does not win over another --format
    asked = click.get_current_context().params["form"]
    if fix and (capture is not None or printing.output is not None or asked not in ("text", "json")):
        raise click.UsageError("--fix changes this host: it excludes --from, --output and formats for collectors")
    if (yes or diff) and not fix:
        raise click.UsageError("--yes and --diff belong to --fix")
    options = probe.Options(libssl=libssl, load=load)
    report = _judge_capture(capture, options) if capture is not None else _judge_this_host(options)
    if fix:
        return _fix(report, options, Manner(yes, diff, printing.form == "json", printing.color), printing, fail_on)
    deliver(rendered(report, printing), printing.output)
    return status_of(report, fail_on)


def _fix(report: Report, options: Options, manner: Manner, printing: Printing, fail_on: str) -> int:
    """The report, then the plan; after it was carried out the host is judged once more, and that is what counts."""
    from ktlsctl.changes import Wishes, verdict

    if not manner.as_json:
        put(rendered(report, printing))
        click.echo()
    show = _keep_quiet if manner.as_json else show_outcome
    outcome, errors = with_plan(Wishes(on=True), manner, show)
    if outcome.run is not None:
        report = _judge_this_host(options)
        if not manner.as_json:
            put(f"\nChecked again: {report.verdict.status.upper()} - {report.verdict.summary}\n")
    if manner.as_json:
        from ktlsctl.render import jsondoc

        put(jsondoc.render(_with_errors(report, errors), outcome))
    return max(exit_status(verdict(outcome).status, fail_on, bool(errors)), status_of(report, fail_on))


def _with_errors(report: Report, errors: tuple[str, ...]) -> Report:
    """The report with why its plan was not carried out."""
    from ktlsctl import probe

    errors = (*report.errors, *errors)
    return replace(report, errors=errors, verdict=probe.pronounce(report.checks, errors))


def _keep_quiet(about: About, outcome: Outcome, errors: tuple[str, ...], manner: Manner) -> None:
    """Where the plan becomes part of another document."""


def _judge_this_host(options: Options) -> Report:
    from ktlsctl import probe

    return probe.check(live_host(), options)


def _judge_capture(path: str, options: Options) -> Report:
    from ktlsctl import probe
    from ktlsctl.host import CapturedHost, CaptureError

    if options.libssl or options.load:
        raise click.UsageError("--from judges what was recorded: --libssl and --load belong to 'ktlsctl capture'")
    try:
        content = sys.stdin.buffer.read() if path == "-" else _content(path)
        host = CapturedHost.parse(content)
    except OSError as error:
        raise Failure(f"cannot read {path}: {error.strerror}; name a file that 'ktlsctl capture' wrote.") from None
    except CaptureError as error:
        raise Failure(f"{path}: {error}; name a file that 'ktlsctl capture' wrote.") from None
    return probe.check(host, probe.Options(libssl=host.libssl), f"capture {host.recorded_at}".rstrip())


def _content(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
