# SPDX-License-Identifier: BSD-2-Clause
"""The commands: parse, call, render, exit status.  No judgement here; everything heavy is imported when needed."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from ktlsctl import __version__

if TYPE_CHECKING:
    from ktlsctl.changes import Outcome, Wishes
    from ktlsctl.configure.journal import Journal
    from ktlsctl.configure.roots import Root
    from ktlsctl.host import Host, LiveHost
    from ktlsctl.model import About, Report
    from ktlsctl.probe import Options
    from ktlsctl.sessions import Query

Command = TypeVar("Command", bound=Callable[..., Any])


class ExitStatus(IntEnum):
    """Frozen.  3 also stands for a usage error, a missing privilege and an internal error."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3
    INTERRUPTED = 130


class Failure(click.ClickException):
    """The command could not do its work: one sentence with the cause and the next step."""

    exit_code = ExitStatus.UNKNOWN


#: Which verdicts `--fail-on` lets through as 0.  `unknown` fails unless nothing shall.
_TOLERATED = {
    "never": ("warning", "critical", "unknown"),
    "warning": (),
    "critical": ("warning",),
}


def exit_status(verdict: str, fail_on: str, errors: bool) -> ExitStatus:
    """The exit status of a report.  An argument that could not be used is 3 whatever `--fail-on` says."""
    if errors:
        return ExitStatus.UNKNOWN
    if verdict in _TOLERATED[fail_on]:
        return ExitStatus.OK
    return ExitStatus[verdict.upper()]


def _debug_option(command: Command) -> Command:
    return click.option("--debug", is_flag=True, help="Show the traceback of an internal error.")(command)


def _library_option(command: Command) -> Command:
    return click.option(
        "--libssl",
        metavar="PATH",
        multiple=True,
        help="Also examine this TLS library; the first one named is what the verdict is about. May be repeated.",
    )(command)


def _load_option(command: Command) -> Command:
    return click.option(
        "--load", is_flag=True, help="Let the probe load the kernel module (needs root). Without it nothing is changed."
    )(command)


def _watch_option(command: Command) -> Command:
    return click.option(
        "--watch",
        metavar="[S]",
        type=click.FloatRange(0.1, 86400),
        is_flag=False,
        flag_value=2.0,
        help="Print again every S seconds (2 if not given) until interrupted.",
    )(command)


def _color_option(command: Command) -> Command:
    return click.option(
        "--color",
        type=click.Choice(["auto", "always", "never"]),
        default="auto",
        show_default=True,
        help="Colour the text; auto: on a terminal, unless NO_COLOR is set.",
    )(command)


def _report_options(more: str) -> Callable[[Command], Command]:
    """What every command that prints a report takes; `more` is what --verbose adds."""

    def decorate(command: Command) -> Command:
        for option in (
            _color_option,
            click.option("-v", "--verbose", is_flag=True, help=f"Text: {more}."),
            click.option("-q", "--quiet", is_flag=True, help="Text: only what is wrong, and the verdict."),
            click.option(
                "--output", metavar="FILE", help="Write the report to FILE, whole or not at all, instead of stdout."
            ),
            # An option of its own: two on one parameter have another default in click 8.2 than in 8.1.
            click.option("--json", "as_json", is_flag=True, help="The same as --format json."),
        ):
            command = option(command)
        return command

    return decorate


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
)
@click.version_option(__version__, prog_name="ktlsctl", message="%(prog)s %(version)s")
@click.pass_context
def cli(context: click.Context) -> int:
    """Diagnose and configure kernel TLS on Linux and FreeBSD.

    Is kernel TLS on, in which direction, for which cipher; if not, which link of the chain is broken, and what mends
    it. Start with: ktlsctl check

    Exit status: 0 ok, 1 warning, 2 critical, 3 unknown or usage error.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
    return ExitStatus.UNKNOWN


@cli.command()
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "nagios", "prometheus"]),
    default="text",
    show_default=True,
    help="What to print.",
)
@click.option(
    "--fail-on",
    type=click.Choice(["never", "warning", "critical"]),
    default="warning",
    show_default=True,
    help="The mildest verdict that makes the exit status other than 0.",
)
@_library_option
@_load_option
@click.option(
    "--from", "capture", metavar="FILE", help="Judge a captured host instead of this one; - reads it from stdin."
)
@click.option("--fix", is_flag=True, help="Then propose a plan for what was found, as 'ktlsctl enable' does.")
@click.option("--diff", is_flag=True, help="With --fix: show a unified diff of every file.")
@click.option("-y", "--yes", is_flag=True, help="With --fix: carry the plan out without asking.")
@_report_options("evidence, every reason, every advisory")
@_debug_option
def check(
    form: str,
    as_json: bool,
    fail_on: str,
    libssl: tuple[str, ...],
    load: bool,
    capture: str | None,
    fix: bool,
    diff: bool,
    yes: bool,
    output: str | None,
    quiet: bool,
    verbose: bool,
    color: str,
    debug: bool,
) -> int:
    """Can this host do kernel TLS, and if not, why?

    Tries each TLS version, cipher and direction on a loopback socket with throw-away keys, asks each TLS library
    whether it would hand its keys over, names the first broken link and the command that mends it. Changes nothing
    unless --load or --fix is given, and needs no privilege.
    """
    from ktlsctl import probe

    if quiet and verbose:
        raise click.UsageError("--quiet and --verbose exclude each other")
    if fix and (capture is not None or output is not None or form not in ("text", "json")):
        raise click.UsageError("--fix changes this host: it excludes --from, --output and formats for collectors")
    if (yes or diff) and not fix:
        raise click.UsageError("--yes and --diff belong to --fix")
    options = probe.Options(libssl=libssl, load=load)
    report = _judge_capture(capture, options) if capture is not None else _judge_this_host(options)
    form = "json" if as_json else form
    painted = _wants_color(color, output)
    if fix:
        return _fix(report, options, _Manner(yes, diff, form == "json", painted), quiet, verbose)
    _deliver(_render(report, form, quiet, verbose, painted), output)
    return exit_status(report.verdict.status, fail_on, bool(report.errors))


def _fix(report: Report, options: Options, manner: _Manner, quiet: bool, verbose: bool) -> int:
    """The report, then the plan; after it was carried out the host is judged once more, and that is what counts."""
    from ktlsctl.changes import Wishes

    if not manner.as_json:
        _print(_render(report, "text", quiet, verbose, manner.color))
        click.echo()
    show = _keep_quiet if manner.as_json else _show_outcome
    outcome, errors = _with_plan(Wishes(on=True), manner, show)
    if outcome.run is not None:
        report = _judge_this_host(options)
        if not manner.as_json:
            _print(f"\nChecked again: {report.verdict.status.upper()} - {report.verdict.summary}\n")
    if manner.as_json:
        from ktlsctl.render import jsondoc

        _print(jsondoc.render(report, outcome))
    return max(_outcome_status((outcome, errors)), exit_status(report.verdict.status, "warning", bool(report.errors)))


def _keep_quiet(about: About, outcome: Outcome, errors: tuple[str, ...], manner: _Manner) -> None:
    """Where the plan becomes part of another document."""


def _judge_this_host(options: Options) -> Report:
    from ktlsctl import probe
    from ktlsctl.host import LiveHost, UnsupportedSystem

    try:
        return probe.check(LiveHost(), options)
    except UnsupportedSystem as error:
        raise Failure(f"{error}.") from None


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


def _render(report: Report, form: str, quiet: bool, verbose: bool, color: bool) -> str:
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


def _wants_color(choice: str, output: str | None) -> bool:
    """NO_COLOR (any non-empty value) beats FORCE_COLOR, which beats what the terminal is."""
    if choice != "auto":
        return choice == "always"
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR") or os.environ.get("CLICOLOR_FORCE", "0") != "0":
        return True
    return output is None and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def _deliver(document: str, output: str | None) -> None:
    if output is None:
        _print(document)
        return
    from ktlsctl.atomic import write_whole

    try:
        write_whole(output, document.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise Failure(f"cannot write {output}: {error.strerror}; choose a file in a directory you may write.") from None


def _print(document: str) -> bool:
    """To stdout as UTF-8 whatever the locale; a reader that has gone away is not an error, and False."""
    sys.stdout.flush()
    stream = getattr(sys.stdout, "buffer", None)
    try:
        if stream is None:
            sys.stdout.write(document)
        else:
            stream.write(document.encode("utf-8", "backslashreplace"))
        sys.stdout.flush()
    except OSError as error:
        _abandon_stdout()
        if error.errno != errno.EPIPE:
            raise Failure(f"cannot write the report to stdout: {error.strerror}.") from None
        return False
    return True


def _abandon_stdout() -> None:
    """Nothing more will be written: the interpreter's last flush must not fail a second time."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


@cli.command()
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
    type=click.FloatRange(0.1, 3600),
    default=20.0,
    show_default=True,
    help="Seconds that one session may take.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "tap", "junit", "nagios"]),
    default="text",
    show_default=True,
    help="What to print.",
)
@_report_options("the evidence of every direction")
@_debug_option
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
    form: str,
    as_json: bool,
    output: str | None,
    quiet: bool,
    verbose: bool,
    color: str,
    debug: bool,
) -> int:
    """Does a real TLS session get kernel TLS, TX and RX, with this cipher?

    Runs a session per suite on loopback and proves, per direction and on both ends, what carried the records: a
    direction counts only when every witness agrees. What kernel and library both promise must be met, and at least one
    promise must exist. Then scenarios try what breaks kernel TLS in production, and tell a known defect from one that
    is not known. Loads no module and needs no privilege.
    """
    from ktlsctl import advisories
    from ktlsctl import selftest as test
    from ktlsctl.host import LiveHost, UnsupportedSystem
    from ktlsctl.model import Direction, TlsVersion
    from ktlsctl.policy import Policy, PolicyError, Requirement
    from ktlsctl.probe import Options
    from ktlsctl.scenarios import catalogue
    from ktlsctl.sessionfacts import Order, Way

    if list_scenarios:
        from ktlsctl.render import scenarios_text

        _deliver(scenarios_text.catalogue_text(), output)
        return ExitStatus.OK
    known = (catalogue.SESSION, catalogue.ALL, *catalogue.BY_NAME)
    for name in scenarios:
        if name not in known:
            raise click.UsageError(f"no scenario is called {name!r}; one of {', '.join(known)}.")
    for name in accepted:
        if advisories.by_id(name) is None:
            raise click.UsageError(
                f"no known defect is called {name!r}; 'ktlsctl check --verbose' names those there are."
            )

    if quiet and verbose:
        raise click.UsageError("--quiet and --verbose exclude each other")
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
        )
        with _progress(f"testing with {', '.join(order.versions)} ..."):
            options = Options(libssl=(libssl,) if libssl else ())
            host = LiveHost()
            report = test.run(host, options, order, policy, catalogue.wanted(scenarios, host.about.os))
    except PolicyError as error:
        raise click.UsageError(f"{error}.") from None
    except UnsupportedSystem as error:
        raise Failure(f"{error}.") from None
    form = "json" if as_json else form
    _deliver(_render_selftest(report, form, quiet, verbose, _wants_color(color, output)), output)
    return exit_status(report.verdict.status, "warning", bool(report.errors))


@contextlib.contextmanager
def _progress(text: str) -> Iterator[None]:
    """A line on stderr while something takes long; only on a terminal, and gone afterwards."""
    if not sys.stderr.isatty():
        yield
        return
    click.echo(f"{text}\r", nl=False, err=True)
    try:
        yield
    finally:
        click.echo(f"\r{' ' * len(text)}\r", nl=False, err=True)


def _render_selftest(report: Report, form: str, quiet: bool, verbose: bool, color: bool) -> str:
    if form == "tap":
        from ktlsctl.render import tap

        return tap.render(report)
    if form == "junit":
        from ktlsctl.render import junit

        return junit.render(report)
    if form != "text":
        return _render(report, form, quiet, verbose, color)
    from ktlsctl.render import selftest_text

    return selftest_text.render(report, color=color, quiet=quiet, verbose=verbose)


@cli.command()
@click.argument("file", default="-")
@_library_option
@_load_option
@_debug_option
def capture(file: str, libssl: tuple[str, ...], load: bool, debug: bool) -> int:
    """Freeze what this host says in FILE (default: stdout), for someone else to judge with 'check --from FILE'.

    It holds the kernel's release and the answers that 'check' is made of: kernel configuration lines, module state and
    blocking lines of modprobe.d, kTLS settings and counters, which ciphers the kernel took, network interface names
    and their offload flags, the TLS libraries found and what they did. It holds no keys, no host name, no addresses and
    no file that check does not read. Read it before you send it: it is plain JSON.
    """
    import json
    from datetime import UTC, datetime

    from ktlsctl import probe
    from ktlsctl.host import LiveHost, RecordingHost, UnsupportedSystem

    host = RecordingHost(LiveHost(), libssl)
    try:
        probe.check(host, probe.Options(libssl=libssl, load=load))
    except UnsupportedSystem as error:
        raise Failure(f"{error}.") from None
    document = host.document(datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
    _deliver(json.dumps(document, indent=1) + "\n", None if file == "-" else file)
    return ExitStatus.OK


@dataclass(frozen=True)
class _Manner:
    """How a plan is shown, and whether it is carried out without asking."""

    yes: bool
    diff: bool
    as_json: bool
    color: bool
    root: str = "/"


def _manner_options(command: Command) -> Command:
    for option in (
        _color_option,
        click.option("--json", "as_json", is_flag=True, help="Print one JSON document; never asks."),
        click.option("-y", "--yes", is_flag=True, help="Carry the plan out without asking."),
        click.option("--diff", is_flag=True, help="Show a unified diff of every file."),
    ):
        command = option(command)
    return command


def _root_option(command: Command) -> Command:
    return click.option(
        "--root",
        metavar="DIR",
        default="/",
        help="Work on the system below DIR instead of this one: on its files, which its next boot reads.",
    )(command)


def _wish_options(verb: str) -> Callable[[Command], Command]:
    """What enable and disable take."""

    def decorate(command: Command) -> Command:
        for option in (
            _root_option,
            click.option(
                "--offload",
                metavar="IFACE",
                multiple=True,
                help=f"Linux: also switch this network interface's TLS offload {verb}, until the next boot. "
                "May be repeated.",
            ),
            click.option("--rx-only", is_flag=True, help="Receiving alone, where the system can."),
            click.option("--tx-only", is_flag=True, help="Sending alone, where the system can."),
            click.option(
                "--library",
                metavar="[PATH]",
                is_flag=False,
                flag_value="",
                default=None,
                help=f"Switch it {verb} in the openssl.cnf of the system's TLS library, or of the one at PATH: for "
                "every program that uses it.",
            ),
            click.option("--persist", is_flag=True, help=f"Have it {verb} after every boot."),
            click.option("--now", is_flag=True, help=f"Switch it {verb} in the running kernel."),
        ):
            command = option(command)
        return command

    return decorate


@cli.command()
@_wish_options("on")
@click.option(
    "--despite",
    metavar="NAME",
    multiple=True,
    help="Accept that this program, which --library is known to hurt, may break. May be repeated.",
)
@_manner_options
@_debug_option
def enable(despite: tuple[str, ...], **given: Any) -> int:
    """Switch kernel TLS on: now, after every boot, for a TLS library.

    Without any of --now, --persist and --library: --now --persist. Shows the plan and asks; without a terminal it only
    shows the plan, and exits 1 if anything would change, 0 if nothing would. What it changes is put back by 'ktlsctl
    undo'. Lines that others wrote are named, never edited.
    """
    return _configure(True, frozenset(despite), **given)


@cli.command()
@_wish_options("off")
@_manner_options
@_debug_option
def disable(**given: Any) -> int:
    """Switch kernel TLS off: now, at every boot, for a TLS library.

    Without any of --now, --persist and --library: --now --persist. Works like 'ktlsctl enable'. What is in use is not
    torn away: then it says who holds it.
    """
    return _configure(False, frozenset(), **given)


def _configure(
    on: bool,
    despite: frozenset[str],
    *,
    now: bool,
    persist: bool,
    library: str | None,
    tx_only: bool,
    rx_only: bool,
    offload: tuple[str, ...],
    root: str,
    **manner: Any,
) -> int:
    from ktlsctl.changes import Wishes
    from ktlsctl.model import Direction

    if tx_only and rx_only:
        raise click.UsageError("--tx-only and --rx-only exclude each other")
    elsewhere = os.path.realpath(root) != "/"
    if elsewhere and (now or offload or library is not None):
        raise click.UsageError("--root writes what holds after boot: it excludes --now, --library and --offload")
    if not (now or persist or library is not None):
        now, persist = not elsewhere, True
    wishes = Wishes(
        on,
        now=now,
        persist=persist,
        only=Direction.TX if tx_only else Direction.RX if rx_only else None,
        library=library,
        offload=offload,
        despite=despite,
        root=root if elsewhere else "/",
    )
    settled = _with_plan(wishes, _manner(wishes.root, **manner), _show_outcome)
    return _outcome_status(settled)


def _manner(root: str, *, yes: bool, diff: bool, as_json: bool, color: str, debug: bool) -> _Manner:
    return _Manner(yes, diff, as_json, not as_json and _wants_color(color, None), root)


def _outcome_status(settled: tuple[Outcome, tuple[str, ...]]) -> ExitStatus:
    from ktlsctl.changes import verdict

    outcome, errors = settled
    return ExitStatus.UNKNOWN if errors else ExitStatus[verdict(outcome).status.upper()]


@contextlib.contextmanager
def _configurable(root: str) -> Iterator[tuple[Host, Root, Journal]]:
    """The host, its files and its journal.  What goes wrong with them ends the command with a sentence."""
    from ktlsctl.configure.apply import Changed
    from ktlsctl.configure.files import FileProblem
    from ktlsctl.configure.journal import Journal, JournalError
    from ktlsctl.configure.plan import NoSystem, about_root
    from ktlsctl.configure.roots import Root, RootHost
    from ktlsctl.host import LiveHost, UnsupportedSystem

    try:
        place = Root(root)
    except OSError as error:
        raise Failure(f"cannot use {root}: {error.strerror}; name the root directory of a system.") from None
    try:
        host = LiveHost() if root == "/" else RootHost(place, about_root(place))
        yield host, place, Journal(place, host.about.os)
    except (NoSystem, UnsupportedSystem, Changed, JournalError, FileProblem) as error:
        raise Failure(f"{error}.") from None
    finally:
        place.close()


#: What shows a plan or its outcome; the errors say why it was not carried out.
_Show = Callable[["About", "Outcome", tuple[str, ...], _Manner], None]


def _with_plan(wishes: Wishes, manner: _Manner, show: _Show) -> tuple[Outcome, tuple[str, ...]]:
    """Make the plan, show it, carry it out if it may be; the outcome, and why it was not carried out."""
    from ktlsctl.changes import proposed
    from ktlsctl.configure.apply import apply, interruption
    from ktlsctl.configure.plan import make

    with _configurable(wishes.root) as (host, root, journal):
        with _progress("looking at this host ..."):
            prepared = make(host, wishes)
        notices = tuple(interruption(run) for run in journal.interrupted())
        return _settled(
            proposed(prepared.plan, notices),
            lambda: apply(prepared.plan, wishes.command, host, root, journal, prepared.look),
            host.about,
            manner,
            show,
        )


def _settled(
    outcome: Outcome, carry_out: Callable[[], Outcome], about: About, manner: _Manner, show: _Show
) -> tuple[Outcome, tuple[str, ...]]:
    """The rules of asking.  Nothing to change: say so.  No privilege: the command to type.  No terminal: show only."""
    plan = outcome.plan
    if plan.refusals or not plan.changes:
        show(about, outcome, (), manner)
        return outcome, plan.refusals
    if manner.root == "/" and not about.privileged:
        errors = (f"only root may change this; as root, type: {_retyped()}",)
        show(about, outcome, errors, manner)
        if not manner.as_json:
            click.echo(f"ktlsctl: {errors[0]}", err=True)
        return outcome, errors
    if not manner.yes:
        show(about, outcome, (), manner)
        if manner.as_json or not (sys.stdin.isatty() and sys.stdout.isatty()):
            if not manner.as_json:
                click.echo(f"Nothing was changed. To carry it out: {_retyped()}", err=True)
            return outcome, ()
        if not click.confirm("Make these changes?"):
            click.echo("Nothing was changed.", err=True)
            return outcome, ()
    outcome = carry_out()
    show(about, outcome, (), manner)
    return outcome, ()


def _retyped() -> str:
    """The command line that carries out what the present one showed."""
    import shlex

    context = click.get_current_context()
    words = [*context.command_path.split()]
    for parameter in context.command.params:
        value = context.params[str(parameter.name)]
        option = max(parameter.opts, key=len)
        if value in (None, False, (), parameter.default) or option in (
            "--json",
            "--color",
            "--diff",
            "--debug",
            "--yes",
        ):
            continue
        if isinstance(parameter, click.Argument):
            words.append(str(value))
        elif value is True or value == "":
            words.append(option)
        else:
            for each in value if isinstance(value, tuple) else (value,):
                words.append(f"{option}={each}")
    return shlex.join([*words, "--yes"])


def _show_outcome(about: About, outcome: Outcome, errors: tuple[str, ...], manner: _Manner) -> None:
    if manner.as_json:
        from ktlsctl.render import jsondoc

        _print(jsondoc.render_outcome(about, outcome, errors))
    else:
        from ktlsctl.render import plan_text

        _print(plan_text.render(outcome, root=manner.root, diff=manner.diff, color=manner.color))


@cli.command()
@click.argument("run", required=False, type=click.IntRange(1))
@_root_option
@_manner_options
@_debug_option
def undo(run: int | None, root: str, **given: Any) -> int:
    """Put back what a run of enable or disable changed: the last one, or the one with this number.

    Files get their content, mode and owner back, new ones go. What somebody else changed since is left alone and shown.
    Asks like 'ktlsctl enable'. 'ktlsctl history' lists the runs.
    """
    from ktlsctl.changes import Plan, proposed
    from ktlsctl.configure import undo as planner
    from ktlsctl.configure.apply import interruption
    from ktlsctl.configure.apply import undo as put_back
    from ktlsctl.configure.journal import RunState

    root = root if os.path.realpath(root) != "/" else "/"
    manner = _manner(root, **given)
    with _configurable(root) as (host, place, journal):
        runs = journal.runs()
        chosen = planner.newest(runs) if run is None else next((r for r in runs if r.id == run), None)
        if chosen is None and run is not None:
            raise Failure(f"the journal has no run {run}; 'ktlsctl history' lists those that it has.")
        if chosen is None or chosen.state is RunState.UNDONE:
            outcome = proposed(Plan(f"undo {run}" if run else "undo", ()))
            _show_outcome(host.about, outcome, (), manner)
            return _outcome_status((outcome, ()))
        undoing = planner.plan(chosen, runs, host, place)
        notices = tuple(interruption(r) for r in journal.interrupted() if r.id != chosen.id)
        if not undoing.steps and (manner.yes or sys.stdin.isatty()):
            # nothing to put back, but the run has to be closed, and what it left half-written to go
            outcome = put_back(undoing, host, place, journal)
            _show_outcome(host.about, outcome, (), manner)
            return _outcome_status((outcome, ()))
        return _outcome_status(
            _settled(
                proposed(undoing.plan, notices),
                lambda: put_back(undoing, host, place, journal),
                host.about,
                manner,
                _show_outcome,
            )
        )


@cli.command()
@_root_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@_debug_option
def history(root: str, as_json: bool, debug: bool) -> int:
    """List the runs of enable and disable that the journal knows, newest first."""
    from ktlsctl.configure.past import past_runs

    with _configurable(root if os.path.realpath(root) != "/" else "/") as (host, _, journal):
        runs = past_runs(journal)
        if as_json:
            from ktlsctl.render import jsondoc

            _print(jsondoc.render_history(host.about, runs))
        else:
            from ktlsctl.render import plan_text

            _print(plan_text.history(runs))
    return ExitStatus.OK


@cli.command()
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="What to print; with --watch, json is one document a line.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option("--all", "everything", is_flag=True, help="Also list established TCP sockets without kernel TLS.")
@click.option("--failed", is_flag=True, help="List only sockets that tried and have no direction in the kernel.")
@click.option("--summary", is_flag=True, help="One line out of the kernel's counters, without looking at any socket.")
@_watch_option
@click.option("--pid", "pids", metavar="N", type=click.IntRange(1), multiple=True, help="Only this process's sockets.")
@click.option("--process", "processes", metavar="NAME", multiple=True, help="Only sockets of processes of this name.")
@click.option(
    "--port", "ports", metavar="N", type=click.IntRange(1, 65535), multiple=True, help="Only this port, at either end."
)
@click.option("--cipher", "ciphers", metavar="NAME", multiple=True, help="Only this cipher, such as aes-128-gcm.")
@click.option("--tx", type=click.Choice(["software", "nic", "none"]), help="Only sockets that send like this.")
@click.option("--rx", type=click.Choice(["software", "nic", "none"]), help="Only sockets that receive like this.")
@click.option("--all-netns", is_flag=True, help="Look into every network namespace that may be entered (Linux).")
@_color_option
@_debug_option
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
    debug: bool,
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
    once = _summaries() if summary else _listings(query)
    lines = as_json or form == "json"
    return _show_sessions(once, watch, lines, summary, _wants_color(color, None))


def _listings(query: Query) -> Callable[[], Report]:
    import gc

    from ktlsctl import sessions as live

    # Ten thousand sockets are records without cycles: the collector would go through them again and again.
    gc.set_threshold(500_000)
    host = _live_host()
    return lambda: live.report(host.about, live.gather(host, query), query)


def _summaries() -> Callable[[], Report]:
    from ktlsctl import summary

    host = _live_host()
    before = None

    def once() -> Report:
        nonlocal before
        numbers = summary.read(host)
        report = summary.report(host.about, numbers, before)
        before = numbers.value
        return report

    return once


def _live_host() -> LiveHost:
    from ktlsctl.host import LiveHost, UnsupportedSystem

    host = LiveHost()
    try:
        _ = host.about
    except UnsupportedSystem as error:
        raise Failure(f"{error}.") from None
    return host


def _show_sessions(once: Callable[[], Report], watch: float | None, as_json: bool, brief: bool, color: bool) -> int:
    def text(report: Report) -> str:
        if as_json:
            from ktlsctl.render import jsondoc

            return jsondoc.render(report) if watch is None else jsondoc.render_line(report)
        if brief:
            return (
                f"{report.verdict.summary}\n" if watch is None else f"{report.generated_at}  {report.verdict.summary}\n"
            )
        from ktlsctl.render import sessions_text

        block = sessions_text.render(report, color=color)
        return block if watch is None else f"{report.generated_at}\n\n{block}\n"

    return _show(once, watch, text)


def _show(once: Callable[[], Report], watch: float | None, text: Callable[[Report], str]) -> int:
    """Once, or again and again until SIGINT: stopping a watch is no failure, its status is the last report's."""
    report = once()
    if watch is None:
        _print(text(report))
        return exit_status(report.verdict.status, "warning", bool(report.errors))
    with contextlib.suppress(KeyboardInterrupt):
        reports = _every(watch, once)
        while _print(text(report)):
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


@cli.command()
@click.option(
    "--interval",
    metavar="S",
    type=click.FloatRange(0.1, 3600),
    default=2.0,
    show_default=True,
    help="Seconds between two looks.",
)
@click.option("--all-netns", is_flag=True, help="Look into every network namespace that may be entered (Linux).")
@_debug_option
def top(interval: float, all_netns: bool, debug: bool) -> int:
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
    once = _listings(live.Query(all_netns=all_netns))
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


@cli.command()
@click.option("--pid", "pids", metavar="N", type=click.IntRange(1), multiple=True, help="Only this process.")
@click.option("--process", "names", metavar="NAME", multiple=True, help="Only processes of this name.")
@click.option(
    "--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True, help="What to print."
)
@_report_options("evidence, proofs, build ids")
@_debug_option
def libraries(
    pids: tuple[int, ...],
    names: tuple[str, ...],
    form: str,
    as_json: bool,
    output: str | None,
    quiet: bool,
    verbose: bool,
    color: str,
    debug: bool,
) -> int:
    """Which TLS library does each running program carry, and can it do kernel TLS at all?

    Looks into the files that each process has mapped, whatever they are called: bundled copies, files that were
    replaced on disk since, libraries linked into programs. Says for each process whether it has kernel TLS now, could
    have it, or never can, and why. Changes nothing; without root it sees the processes of its own user only.
    """
    from ktlsctl import libraries as carried
    from ktlsctl import sessions as live

    if quiet and verbose:
        raise click.UsageError("--quiet and --verbose exclude each other")
    host = _live_host()
    with _progress("looking into the running processes ..."):
        facts = carried.gather(host, carried.Order(tuple(dict.fromkeys(pids)), names))
        here = live.report(host.about, live.gather(host, live.Query()), live.Query())
        query = live.Query(all_netns=True)
        everywhere = live.report(host.about, live.gather(host, query), query) if facts.elsewhere else here
        report = carried.report(host.about, facts, here, everywhere)
    if as_json or form == "json":
        document = _render(report, "json", quiet, verbose, False)
    else:
        from ktlsctl.render import libraries_text

        document = libraries_text.render(report, color=_wants_color(color, output), quiet=quiet, verbose=verbose)
    _deliver(document, output)
    return exit_status(report.verdict.status, "warning", bool(report.errors))


@cli.command()
@_watch_option
@click.option("--pid", metavar="N", type=click.IntRange(1), help="The numbers of this process's network namespace.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "prometheus"]),
    default="text",
    show_default=True,
    help="What to print; with --watch, json is one document a line.",
)
@_report_options("evidence")
@_debug_option
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
    if quiet and verbose:
        raise click.UsageError("--quiet and --verbose exclude each other")
    if watch is not None and (output is not None or form == "prometheus"):
        raise click.UsageError("--watch prints text or json to stdout; it goes with neither --output nor prometheus")
    host = _live_host()
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

            return prometheus.render_counters(report)
        if form == "json":
            return _render(report, form, quiet, verbose, False)
        from ktlsctl.render import stats_text

        block = stats_text.render(report, color=_wants_color(color, output), quiet=quiet, verbose=verbose)
        return block if watch is None else f"{report.generated_at}\n\n{block}\n"

    if output is None:
        return _show(once, watch, text)
    report = once()
    _deliver(text(report), output)
    return exit_status(report.verdict.status, "warning", bool(report.errors))


@cli.command()
@_debug_option
def schema(debug: bool) -> int:
    """Print the JSON Schema of the reports."""
    from ktlsctl.schema import report_schema

    _print(report_schema())
    return ExitStatus.OK


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@_debug_option
def completion(shell: str, debug: bool) -> int:
    """Print the completion file for a shell."""
    from importlib.resources import files

    _print((files("ktlsctl.completions") / f"ktlsctl.{shell}").read_text("utf-8"))
    return ExitStatus.OK


@cli.command()
@click.argument(
    "application",
    required=False,
    type=click.Choice(["nginx", "haproxy", "apache", "lighttpd", "stunnel", "python", "gnutls", "postgresql"]),
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "lines", "json"]),
    default="text",
    show_default=True,
    help="What to print; lines: only what goes into the configuration.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@_debug_option
def snippet(application: str | None, form: str, as_json: bool, debug: bool) -> int:
    """How is this application told to use kernel TLS?

    Prints what to put where, from which release on, how to keep it off, and how to see whether it works; without an
    application, which there are and what is installed here. Writes nothing: an application's configuration is yours.
    """
    from ktlsctl.host import LiveHost, UnsupportedSystem
    from ktlsctl.snippets import BY_NAME, SNIPPETS, look

    form = "json" if as_json else form
    chosen = SNIPPETS if application is None else (BY_NAME[application],)
    if form == "lines":
        if application is None:
            raise click.UsageError("--format lines prints one application: name it.")
        if not chosen[0].lines:
            raise Failure(f"there is nothing to write for {chosen[0].title}: {chosen[0].needs}.")
        _print(chosen[0].lines)
        return ExitStatus.OK
    host = LiveHost()
    looked = [(each, look(host, each)) for each in chosen]
    if form == "json":
        from ktlsctl.render import jsondoc

        try:
            _print(jsondoc.render_snippets(host.about, looked))
        except UnsupportedSystem as error:
            raise Failure(f"{error}.") from None
    else:
        from ktlsctl.render import snippet_text

        _print(snippet_text.render_list(looked) if application is None else snippet_text.render(*looked[0]))
    return ExitStatus.OK


def _asks_for_json(arguments: list[str]) -> bool:
    return "--json" in arguments or any(
        a == "--format=json" or (a == "--format" and b == "json")
        for a, b in zip(arguments, [*arguments[1:], ""], strict=True)
    )


def _fail(arguments: list[str], message: str) -> ExitStatus:
    """The one way to end badly: a sentence on stderr, and where JSON was asked for a document that says the same."""
    click.echo(message, err=True)
    if _asks_for_json(arguments):
        from ktlsctl.render.jsondoc import error_document

        _print(error_document(message))
    return ExitStatus.UNKNOWN


def run(arguments: list[str]) -> ExitStatus:
    """Run one command line; the exit status.  Every exception ends here."""
    try:
        return ExitStatus(cli.main(arguments, prog_name="ktlsctl", standalone_mode=False) or 0)
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx is not None else "ktlsctl"
        return _fail(arguments, f"ktlsctl: {error.format_message()} See '{where} --help'.")
    except click.ClickException as error:
        return _fail(arguments, f"ktlsctl: {error.format_message()}")
    except (click.Abort, KeyboardInterrupt):
        return ExitStatus.INTERRUPTED
    except BrokenPipeError:
        _abandon_stdout()
        return ExitStatus.OK
    except Exception as error:
        if "--debug" in arguments:
            raise
        return _fail(
            arguments,
            f"ktlsctl: internal error: {type(error).__name__}: {error}. "
            "Run it again with --debug and report what it prints.",
        )


def main() -> NoReturn:
    """The console script."""
    sys.exit(run(sys.argv[1:]))
