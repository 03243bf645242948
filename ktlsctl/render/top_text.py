# SPDX-License-Identifier: BSD-2-Clause
"""`ktlsctl top` as a screen of text: what fits into so many lines and columns, the most important first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ktlsctl.model import Mode
from ktlsctl.render.sessions_text import size
from ktlsctl.render.strings import columns, cut, plain
from ktlsctl.top import Row

KEYS = "q quits"

#: process, pid, sessions, TX and RX each with who does it, rates; ciphers take what is left
_HEAD = ("PROCESS", "PID", "SESS", "TX", "RX", "TX/s", "RX/s", "CIPHERS")
_WIDTHS = (15, 7, 5, 8, 8, 8, 8)
_RIGHT = (1, 2, 5, 6)


def screen(rows: Sequence[Row], *, verdict: str, clock: str, height: int, width: int) -> list[str]:
    """At most `height` lines of at most `width` columns.  `verdict`: what the list's report says; `clock`: when."""
    lines = [
        f"ktlsctl top  {clock}  {KEYS}",
        verdict,
        "",
        _columns(_HEAD),
        *(_columns(_cells(row)) for row in rows),
    ]
    if len(lines) > height:
        hidden = len(lines) - height + 1
        lines = [*lines[: height - 1], f"... {hidden} more, below"] if height > 1 else lines[:height]
    return [cut(plain(line), width).rstrip() for line in lines]


def _columns(cells: Sequence[str]) -> str:
    fixed = (
        _field(plain(cell), width, right=index in _RIGHT)
        for index, (cell, width) in enumerate(zip(cells, _WIDTHS, strict=False))
    )
    return " ".join((*fixed, cells[len(_WIDTHS)]))


def _field(cell: str, width: int, *, right: bool) -> str:
    shown = cut(cell, width)
    blank = " " * (width - columns(shown))
    return blank + shown if right else shown + blank


def _cells(row: Row) -> tuple[str, ...]:
    pid = str(row.pids[0]) if row.pids else "-"
    more = f"+{len(row.pids) - 1}" if len(row.pids) > 1 else ""
    ciphers = [*([f"{row.refused} refused"] if row.refused else []), *row.ciphers]
    return (
        row.process,
        f"{pid}{more}",
        str(row.sessions),
        _who(row.tx),
        _who(row.rx),
        "-" if row.tx_rate is None else size(row.tx_rate),
        "-" if row.rx_rate is None else size(row.rx_rate),
        " ".join(ciphers),
    )


def _who(modes: Mapping[Mode, int]) -> str:
    """Who does the records of a direction; `mixed` where the sessions of a process differ."""
    there = [mode for mode, count in modes.items() if count]
    return there[0].value if len(there) == 1 else "mixed" if there else "-"
