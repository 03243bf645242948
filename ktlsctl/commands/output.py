# SPDX-License-Identifier: BSD-2-Clause
"""How a command ends and where its document goes: exit status, failure, stdout, a file, the line that waits."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from enum import IntEnum

import click


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


def wants_color(choice: str, output: str | None) -> bool:
    """NO_COLOR (any non-empty value) beats FORCE_COLOR, which beats what the terminal is."""
    if choice != "auto":
        return choice == "always"
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR") or os.environ.get("CLICOLOR_FORCE", "0") != "0":
        return True
    return output is None and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def deliver(document: str, output: str | None) -> None:
    if output is None:
        put(document)
        return
    from ktlsctl.atomic import write_whole

    try:
        write_whole(output, document.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise Failure(f"cannot write {output}: {error.strerror}; choose a file in a directory you may write.") from None


def put(document: str) -> bool:
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
        abandon_stdout()
        if error.errno != errno.EPIPE:
            raise Failure(f"cannot write the report to stdout: {error.strerror}.") from None
        return False
    return True


def abandon_stdout() -> None:
    """Nothing more will be written: the interpreter's last flush must not fail a second time."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


@contextlib.contextmanager
def progress(text: str) -> Iterator[None]:
    """A line on stderr while something takes long; only on a terminal, and gone afterwards."""
    if not sys.stderr.isatty():
        yield
        return
    click.echo(f"{text}\r", nl=False, err=True)
    try:
        yield
    finally:
        click.echo(f"\r{' ' * len(text)}\r", nl=False, err=True)
