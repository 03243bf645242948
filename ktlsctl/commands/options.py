# SPDX-License-Identifier: BSD-2-Clause
"""Options that several commands share."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import click

from ktlsctl.commands.output import wants_color

Command = TypeVar("Command", bound=Callable[..., Any])


class Seconds(click.FloatRange):
    """A time span.  FloatRange lets NaN pass, which is in no range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        seconds: float = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail(f"{value} is no number of seconds.", param, ctx)
        return seconds


def together(*options: Callable[[Any], Any]) -> Callable[[Command], Command]:
    """Several options as one decorator, in the order in which help shows them."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def debug_option(command: Command) -> Command:
    # cli.run looks for it itself: it holds for errors before any command begins, too
    return click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an internal error.")(
        command
    )


def library_option(command: Command) -> Command:
    return click.option(
        "--libssl",
        metavar="PATH",
        multiple=True,
        help="Also examine this TLS library; the first one named is what the verdict is about. May be repeated.",
    )(command)


def load_option(command: Command) -> Command:
    return click.option(
        "--load", is_flag=True, help="Let the probe load the kernel module (needs root). Without it nothing is changed."
    )(command)


def watch_option(command: Command) -> Command:
    return click.option(
        "--watch",
        metavar="[S]",
        type=Seconds(0.1, 86400),
        is_flag=False,
        flag_value=2.0,
        help="Print again every S seconds (2 if not given) until interrupted.",
    )(command)


def color_option(command: Command) -> Command:
    return click.option(
        "--color",
        type=click.Choice(["auto", "always", "never"]),
        default="auto",
        show_default=True,
        help="Colour the text; auto: on a terminal, unless NO_COLOR is set.",
    )(command)


def format_option(*forms: str, help: str = "What to print.") -> Callable[[Command], Command]:
    """--format, the first of `forms` by default."""
    return click.option("--format", "form", type=click.Choice(forms), default=forms[0], show_default=True, help=help)


def json_option(command: Command) -> Command:
    # An option of its own: two on one parameter have another default in click 8.2 than in 8.1.
    return click.option("--json", "as_json", is_flag=True, help="The same as --format json.")(command)


@dataclass(frozen=True, slots=True)
class Printing:
    """How a report is printed.  `output`: the file that gets it; None: stdout."""

    form: str
    output: str | None
    quiet: bool
    verbose: bool
    color: bool


def report_options(more: str) -> Callable[[Command], Command]:
    """What every command that prints a report takes beside `format_option`; `more` is what --verbose adds.

    The command gets all of it, the form included, as one `printing`.
    """

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def printing(
            *, form: str, as_json: bool, output: str | None, quiet: bool, verbose: bool, color: str, **given: Any
        ) -> Any:
            if quiet and verbose:
                raise click.UsageError("--quiet and --verbose exclude each other")
            form = "json" if as_json else form
            how = Printing(form, output, quiet, verbose, wants_color(color, output))
            return command(printing=how, **given)

        options = together(
            json_option,
            click.option(
                "--output", metavar="FILE", help="Write the report to FILE, whole or not at all, instead of stdout."
            ),
            click.option("-q", "--quiet", is_flag=True, help="Text: only what is wrong, and the verdict."),
            click.option("-v", "--verbose", is_flag=True, help=f"Text: {more}."),
            color_option,
        )
        return cast(Command, options(printing))

    return decorate
