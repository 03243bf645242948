# SPDX-License-Identifier: BSD-2-Clause
"""Options that several commands share."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


class Seconds(click.FloatRange):
    """A time span.  FloatRange lets NaN pass, which is in no range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        seconds: float = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail(f"{value} is no number of seconds.", param, ctx)
        return seconds


def debug_option(command: Command) -> Command:
    return click.option("--debug", is_flag=True, help="Show the traceback of an internal error.")(command)


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


def report_options(more: str) -> Callable[[Command], Command]:
    """What every command that prints a report takes; `more` is what --verbose adds."""

    def decorate(command: Command) -> Command:
        for option in (
            color_option,
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


def not_both(quiet: bool, verbose: bool) -> None:
    if quiet and verbose:
        raise click.UsageError("--quiet and --verbose exclude each other")
