# SPDX-License-Identifier: BSD-2-Clause
"""The matrix at a glance: one row a cipher, one column a version and direction, then why a cell is no or not known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ktlsctl.model import Cell, Direction, Library, MatrixRow, Status, TlsVersion
from ktlsctl.render.layout import table, wrapped

Column = tuple[TlsVersion, Direction]

COLUMNS: tuple[Column, ...] = tuple((version, direction) for version in TlsVersion for direction in Direction)

#: No such combination: CBC ended with TLS 1.2.
NOTHING = "-"


@dataclass(frozen=True, slots=True)
class Said:
    """What is shown of one cell: `answer` is yes, no or ?, `who` the witnesses that it rests on, with their words."""

    answer: str
    who: Mapping[str, Cell]

    @property
    def text(self) -> str:
        if not self.who:
            return self.answer
        names = "both" if len(self.who) > 1 else next(iter(self.who))
        return f"no: {names}" if self.answer == "no" else f"{self.answer} {names}"


def combined(row: MatrixRow) -> Said:
    """Both say yes: yes.  One says no: no.  Otherwise it is not known."""
    words = {
        "kernel": row.kernel or Cell(Status.UNKNOWN, "the kernel was not asked in this run"),
        "library": row.library or Cell(Status.UNKNOWN, "no library was asked in this run"),
    }
    unseen = {who: cell for who, cell in words.items() if cell.status is Status.UNKNOWN}
    refused = {who: cell for who, cell in words.items() if cell.status not in (Status.OK, Status.UNKNOWN)}
    if refused:
        return Said("no", refused)
    if unseen:
        return Said("?", unseen)
    return Said("yes", {})


def grid(rows: Sequence[MatrixRow], *, verbose: bool) -> list[str]:
    """The lines of the matrix.  Ciphers that can never be are named in a line, unless `verbose` gives them rows."""
    cells: dict[str, dict[Column, Said]] = {}
    for row in rows:
        cells.setdefault(row.cipher, {})[row.version, row.direction] = combined(row)
    neither = _refused_everywhere(cells, "kernel", "library")
    # Where the library refuses everything the whole matrix is of interest, not a line.
    wants_some = any(row.library is not None and row.library.status is Status.OK for row in rows)
    library = [c for c in _refused_everywhere(cells, "library") if c not in neither] if wants_some else []
    shown = {cipher: said for cipher, said in cells.items() if verbose or cipher not in (*neither, *library)}
    lines = []
    if shown:
        lines += table(
            [
                ["cipher", *(f"{version} {direction.upper()}" for version, direction in COLUMNS)],
                *(
                    [cipher, *(said[c].text if c in said else NOTHING for c in COLUMNS)]
                    for cipher, said in shown.items()
                ),
            ]
        )
        lines += ["", *_legend(shown)] if any(s.who for said in shown.values() for s in said.values()) else []
    if not verbose:
        lines += wrapped(", ".join(library), "never, by the library: ") if library else []
        lines += wrapped(", ".join(neither), "never, by neither: ") if neither else []
    return lines


def _refused_everywhere(cells: Mapping[str, Mapping[Column, Said]], *who: str) -> list[str]:
    """Ciphers of which each of these witnesses says no for every version and direction."""
    return [
        cipher
        for cipher, columns in cells.items()
        if all(said.answer == "no" and set(who) <= set(said.who) for said in columns.values())
    ]


def library_grid(library: Library) -> list[str]:
    """What one library offered, suite by suite, and why not."""

    def word(cell: Cell) -> str:
        return {Status.OK: "yes", Status.UNKNOWN: "?"}.get(cell.status, "no")

    lines = table(
        [
            ["suite", "version", "TX", "RX"],
            *([cell.suite, cell.version.value, word(cell.tx), word(cell.rx)] for cell in library.cells),
        ],
        indent="  ",
    )
    reasons: dict[str, list[str]] = {}
    for cell in library.cells:
        for direction, said in ((Direction.TX, cell.tx), (Direction.RX, cell.rx)):
            if said.status is not Status.OK:
                reasons.setdefault(f"{word(said)}: {_explained(said)}", []).append(f"{cell.suite} {direction.upper()}")
    for reason in reasons:
        lines += wrapped(reason, "  ", "      ")
    return lines


def _explained(cell: Cell) -> str:
    return f"{cell.errno}: {cell.reason}" if cell.errno else cell.reason


def _legend(cells: Mapping[str, Mapping[Column, Said]]) -> Iterator[str]:
    """Each distinct reason once, with the cells that it holds for."""
    groups: dict[tuple[str, str], dict[str, list[Column]]] = {}
    for cipher, columns in cells.items():
        for column, said in columns.items():
            for who, cell in said.who.items():
                word = f"{'no:' if said.answer == 'no' else '?'} {who}"
                groups.setdefault((word, _explained(cell)), {}).setdefault(cipher, []).append(column)
    for (word, reason), where in groups.items():
        head = f"{word:<11}  "
        yield from wrapped(reason, head)
        if where != {cipher: list(columns) for cipher, columns in cells.items()}:
            yield from wrapped(f"({_where(where)})", " " * len(head))


def _where(ciphers: Mapping[str, Iterable[Column]]) -> str:
    """ "AES-128-GCM, AES-256-GCM: TLSv1.3 RX; SM4-GCM: TLSv1.2 TX+RX, TLSv1.3 TX+RX" """
    alike: dict[tuple[Column, ...], list[str]] = {}
    for cipher, columns in ciphers.items():
        alike.setdefault(tuple(columns), []).append(cipher)
    return "; ".join(f"{', '.join(names)}: {_columns(columns)}" for columns, names in alike.items())


def _columns(columns: Sequence[Column]) -> str:
    parts = []
    for version in TlsVersion:
        directions = [direction.upper() for v, direction in columns if v is version]
        if directions:
            parts.append(f"{version} {'+'.join(directions)}")
    return ", ".join(parts)
