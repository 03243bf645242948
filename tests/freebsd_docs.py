# SPDX-License-Identifier: BSD-2-Clause
"""The numbers of docs/freebsd.md, from the tables of freebsdabi: `python -m tests.freebsd_docs` writes them anew."""

from __future__ import annotations

from pathlib import Path

from ktlsctl import freebsdabi

PAGE = Path(__file__).parent.parent / "docs" / "freebsd.md"
BEGIN, END = "<!-- numbers: written by python -m tests.freebsd_docs -->", "<!-- end of numbers -->"


def numbers() -> str:
    lines = ["### Constants", "", "| header | macros |", "|---|---|"]
    for table in freebsdabi.CONSTANTS:
        macros = ", ".join(f"{table.prefix}{name} {_shown(value)}" for name, value in table.values.items())
        lines.append(f"| {table.header} | {macros} |")
    lines += [
        "",
        "### Structures",
        "",
        "Offsets in bytes; where they differ, those of i386 stand behind the slash.",
        "",
    ]
    lines += ["| structure | header | size | fields |", "|---|---|---|---|"]
    for wide, narrow in zip(freebsdabi.layouts(8), freebsdabi.layouts(4), strict=True):
        fields = ", ".join(
            f"{a.name} {_both(a.offset, b.offset)}" for a, b in zip(wide.fields, narrow.fields, strict=True)
        )
        lines.append(f"| {wide.name} | {wide.header} | {_both(wide.size, narrow.size)} | {fields} |")
    lines += ["", "### Functions of libc", "", "| declaration | header |", "|---|---|"]
    for function in freebsdabi.FUNCTIONS:
        declared = f"{function.result} {function.name}({', '.join(function.arguments)})"
        lines.append(f"| `{declared}` | {function.header} |")
    return "\n".join(lines)


def _both(wide: int, narrow: int) -> str:
    return str(wide) if wide == narrow else f"{wide}/{narrow}"


def _shown(value: int) -> str:
    return hex(value) if value >= 1 << 16 else str(value)


def page(text: str) -> str:
    """The page with its numbers as the tables have them.  Raises ValueError when it has no place for them."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    if not rest or not after:
        raise ValueError("the page has no place for the numbers")
    return f"{before}{BEGIN}\n\n{numbers()}\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
