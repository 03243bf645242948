# SPDX-License-Identifier: BSD-2-Clause
"""The commands: parse, call, render, exit status.  No judgement here; everything heavy is imported when needed."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from ktlsctl import __version__

if TYPE_CHECKING:
    from ktlsctl.model import Report
    from ktlsctl.probe import Options

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


def _report_options(more: str) -> Callable[[Command], Command]:
    """What every command that prints a report takes; `more` is what --verbose adds."""

    def decorate(command: Command) -> Command:
        for option in (
            click.option(
                "--color",
                type=click.Choice(["auto", "always", "never"]),
                default="auto",
                show_default=True,
                help="Colour the text; auto: on a terminal, unless NO_COLOR is set.",
            ),
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
@_report_options("evidence, every reason, every advisory")
@_debug_option
def check(
    form: str,
    as_json: bool,
    fail_on: str,
    libssl: tuple[str, ...],
    load: bool,
    capture: str | None,
    output: str | None,
    quiet: bool,
    verbose: bool,
    color: str,
    debug: bool,
) -> int:
    """Can this host do kernel TLS, and if not, why?

    Tries each TLS version, cipher and direction on a loopback socket with throw-away keys, asks each TLS library
    whether it would hand its keys over, names the first broken link and the command that mends it. Changes nothing
    unless --load is given, and needs no privilege.
    """
    from ktlsctl import probe

    if quiet and verbose:
        raise click.UsageError("--quiet and --verbose exclude each other")
    options = probe.Options(libssl=libssl, load=load)
    report = _judge_capture(capture, options) if capture is not None else _judge_this_host(options)
    form = "json" if as_json else form
    _deliver(_render(report, form, quiet, verbose, _wants_color(color, output)), output)
    return exit_status(report.verdict.status, fail_on, bool(report.errors))


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


def _print(document: str) -> None:
    """To stdout as UTF-8 whatever the locale; a reader that has gone away is not an error."""
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
