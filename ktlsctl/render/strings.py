# SPDX-License-Identifier: BSD-2-Clause
"""Strings that came from the machine, made harmless before anything is laid out.

A file name or a kernel's line may hold an escape sequence, a newline, a byte that is not UTF-8.  Each renderer passes
the whole report through `each_string` first, so that no single place can forget to.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from typing import Any, TypeVar

T = TypeVar("T")


def plain(text: str) -> str:
    r"""One printable line: white space becomes a space, whatever else does not print its escape (`\x1b`, `\u202e`).

    That covers terminal controls (C0, C1), bidirectional overrides, and the lone surrogates in which Python hands out
    file names that are not UTF-8.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " if c.isspace() else ascii(c)[1:-1] for c in text)


def columns(text: str) -> int:
    """How many columns of a terminal a line of `plain` text takes: East Asian wide characters take two, marks none."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def cut(text: str, width: int) -> str:
    """As much of a line of `plain` text as fits into so many columns."""
    if text.isascii():
        return text[:width]
    taken = 0
    for at, character in enumerate(text):
        taken += _columns(character)
        if taken > width:
            return text[:at]
    return text


def encodable(text: str) -> str:
    r"""The same text with lone surrogates, which no UTF-8 can carry, written as an escape (`\udcff`)."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def shown(value: str | int | bool | None | tuple[str, ...]) -> str:
    """A value of evidence in words; never empty."""
    if isinstance(value, tuple):
        return ", ".join(value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value) or '""'


def each_string(value: T, change: Callable[[str], str]) -> T:
    """A copy of a report, or of any part of it, with `change` applied to every string in it; enums are left alone."""
    return _walk(value, change)  # type: ignore[no-any-return]


def _walk(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, Enum):
        return value
    if isinstance(value, str):
        return change(value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _walk(getattr(value, f.name), change) for f in fields(value)})
    if isinstance(value, tuple):
        return tuple(_walk(item, change) for item in value)
    if isinstance(value, Mapping):
        return {change(key): _walk(item, change) for key, item in value.items()}
    return value
