# SPDX-License-Identifier: BSD-2-Clause
"""The command line: the commands under one name, and the one place where every error ends."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import click

from ktlsctl import __version__
from ktlsctl.commands.capture import capture
from ktlsctl.commands.check import check
from ktlsctl.commands.configure import disable, enable, history, undo
from ktlsctl.commands.libraries import libraries
from ktlsctl.commands.output import ExitStatus, abandon_stdout, put
from ktlsctl.commands.selftest import selftest
from ktlsctl.commands.sessions import sessions, top
from ktlsctl.commands.snippet import snippet
from ktlsctl.commands.stats import stats
from ktlsctl.commands.texts import completion, schema

COMMANDS = (
    capture,
    check,
    completion,
    disable,
    enable,
    history,
    libraries,
    schema,
    selftest,
    sessions,
    snippet,
    stats,
    top,
    undo,
)


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


for _command in COMMANDS:
    cli.add_command(_command)


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

        put(error_document(message))
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
        abandon_stdout()
        return ExitStatus.OK
    except Exception as error:
        if "--debug" in arguments:
            raise
        return _fail(
            arguments,
            f"ktlsctl: internal error: {type(error).__name__}: {error}. "
            "Run it again with --debug and report what it prints.",
        )


def _open_streams() -> None:
    """Standard streams that the caller closed lead nowhere: Python has none for them, and the next file that is opened
    would get the number."""
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(fd, "w" if fd else "r", encoding="utf-8", closefd=False))


def main() -> NoReturn:
    """The console script."""
    _open_streams()
    sys.exit(run(sys.argv[1:]))
