# SPDX-License-Identifier: BSD-2-Clause
"""schema and completion: what the package carries for other programs."""

from __future__ import annotations

import click

from ktlsctl.commands.options import debug_option
from ktlsctl.commands.output import ExitStatus, put


@click.command()
@debug_option
def schema() -> int:
    """Print the JSON Schema of the reports."""
    from ktlsctl.schema import report_schema

    put(report_schema())
    return ExitStatus.OK


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@debug_option
def completion(shell: str) -> int:
    """Print the completion file for a shell."""
    from importlib.resources import files

    put((files("ktlsctl.completions") / f"ktlsctl.{shell}").read_text("utf-8"))
    return ExitStatus.OK
