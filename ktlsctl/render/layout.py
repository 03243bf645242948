# SPDX-License-Identifier: BSD-2-Clause
"""Lines of at most 80 columns: wrapping, tables, colour.  Knows nothing of reports but the names of the states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ktlsctl.model import Status

WIDTH = 80

#: SGR parameters: bold red, yellow, magenta, green, dim.
_COLOURS = {
    Status.CRITICAL: "1;31",
    Status.WARNING: "33",
    Status.UNKNOWN: "35",
    Status.OK: "32",
    Status.SKIP: "2",
}


@dataclass(frozen=True, slots=True)
class Paint:
    """Colours the word that names a state; the word is there with and without."""

    on: bool

    def word(self, status: Status, text: str) -> str:
        return f"\x1b[{_COLOURS[status]}m{text}\x1b[0m" if self.on else text

    def head(self, status: Status, line: str, word: str) -> str:
        """`line`, which begins with `word`, with that word coloured: colouring comes after wrapping."""
        return self.word(status, word) + line[len(word) :]


def wrapped(text: str, first: str = "", rest: str | None = None, width: int = WIDTH) -> list[str]:
    """`text` in lines that begin with `first`, the later ones with `rest` (default: as many spaces).

    A word longer than a line, such as a path, stays whole: a path that was cut cannot be copied.
    """
    import textwrap

    rest = " " * len(first) if rest is None else rest
    lines = textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )
    return lines or [first.rstrip()]


def shortened(text: str, first: str) -> str:
    """`text` in one line behind `first`, cut at a word's end; a first word that is longer than the line is cut, too."""
    whole = wrapped(text, first)
    if len(whole) == 1 and len(whole[0]) <= WIDTH:
        return whole[0]
    room = WIDTH - len("...")
    return f"{wrapped(text, first, width=room)[0][:room].rstrip(' .,;:')}..."


def table(rows: Sequence[Sequence[str]], indent: str = "") -> list[str]:
    """Rows, the first of which may be a heading, in aligned columns two spaces apart.

    A cell is text and stays as it is: "3.0" is no number.  It may have several lines.
    """
    from tabulate import tabulate

    # The heading goes in as a row: tabulate pads columns that have a header by two more.
    text = tabulate(rows, tablefmt="plain", disable_numparse=True)
    return [f"{indent}{line.rstrip()}" for line in text.splitlines()]


def folded(path: str, width: int) -> str:
    """A path in lines of at most `width` columns where its components allow, each later one beginning with a slash."""
    lines: list[str] = []
    first, *parts = path.split("/")
    line = first
    for part in parts:
        if line and len(line) + 1 + len(part) > width:
            lines.append(line)
            line = ""
        line += f"/{part}"
    return "\n".join([*lines, line])
