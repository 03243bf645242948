# SPDX-License-Identifier: BSD-2-Clause
"""The lines of config(5ssl): logical lines, what each one states, and how a value is put together.

As crypto/conf/conf_def.c of OpenSSL 3.0 to 4.0 does it: def_load_bio, clear_comments, str_copy, and the character
classes of conf_def.h.  What a statement means for kTLS belongs in opensslcnf.py.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

#: conf_def.h, CONF_WS; \v and \f are none, nor is what Unicode calls a blank
BLANKS = " \t\r\n"

_QUOTES = "\"'`"
_ESCAPED = {"r": "\r", "n": "\n", "b": "\b", "t": "\t"}

#: CONF_ALNUM_PUNCT, an escaped character included; the second is for `.pragma dollarid:on`
_NAMES = (
    re.compile(r"(?:\\.?|[A-Za-z0-9_!%&*+,\-./;?@^~|])*", re.DOTALL),
    re.compile(r"(?:\\.?|[A-Za-z0-9_!%&*+,\-./;?@^~|$])*", re.DOTALL),
)
_VARIABLES = (re.compile(r"[A-Za-z0-9_]*"), re.compile(r"[A-Za-z0-9_$]*"))

#: str_copy grows a value no further by variables.
_LONGEST = 65536


@dataclass(frozen=True, slots=True)
class Logical:
    """Physical lines `first` to `last`, from 1, joined; without their comment."""

    first: int
    last: int
    text: str


@dataclass(frozen=True, slots=True)
class Header:
    """`[name]`; the name as written."""

    name: str


@dataclass(frozen=True, slots=True)
class Include:
    path: str


@dataclass(frozen=True, slots=True)
class Pragma:
    keyword: str
    value: str


@dataclass(frozen=True, slots=True)
class Assignment:
    """`section::name = value`; section "" where none is written, the value as written."""

    section: str
    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Damage:
    """OpenSSL takes nothing from a configuration that has such a line."""


Statement = Header | Include | Pragma | Assignment | Damage


class Unexpandable(Exception):
    """A value that OpenSSL cannot put together; it then takes nothing from the configuration."""


def logical_lines(content: bytes) -> Iterator[Logical]:
    """Every logical line that states something.  Bytes that are not UTF-8 come as surrogates."""
    pending, first = "", 0
    lines = content.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape").split("\n")
    for number, raw in enumerate(lines, 1):
        first = first or number
        pending += raw.rstrip("\r")
        if pending.endswith("\\") and not pending.endswith("\\\\"):
            pending = pending[:-1]
            if number < len(lines):
                continue
        text = _without_comment(pending)
        if text.strip(BLANKS):
            yield Logical(first, number, text)
        pending, first = "", 0


def open_ended(content: bytes) -> bool:
    """Whether the last line asks to be continued: what is appended would become part of it."""
    last = content.decode("utf-8", "surrogateescape").rpartition("\n")
    tail = last[2] or last[0].rpartition("\n")[2]
    tail = tail.rstrip("\r")
    return tail.endswith("\\") and not tail.endswith("\\\\")


def _without_comment(text: str) -> str:
    """Cut at the first # that is neither quoted nor escaped."""
    quote = ""
    skip = False
    for at, char in enumerate(text):
        if skip:
            skip = False
        elif char == "\\":
            skip = True
        elif quote:
            quote = "" if char == quote else quote
        elif char in _QUOTES:
            quote = char
        elif char == "#":
            return text[:at]
    return text


def statement(text: str, dollarid: bool = False) -> Statement:
    """What one logical line states."""
    text = text.strip(BLANKS)
    if text.startswith("["):
        return _header(text, dollarid)
    section, start = "", 0
    end = _name_end(text, 0, dollarid)
    if text.startswith("::", end):
        section, start = text[:end], end + 2
        end = _name_end(text, start, dollarid)
    at = _after_blanks(text, end)
    for directive in (".pragma", ".include"):
        behind = start + len(directive)
        # `.include` joined with more is one as well: only its begin is compared
        if text.startswith(directive, start) and (at != behind or text.startswith("=", at)):
            rest = text[at:].removeprefix("=").strip(BLANKS)
            return Include(rest) if directive == ".include" else _pragma(rest)
    if not text.startswith("=", at):
        return Damage()
    return Assignment(section, text[start:end], text[at + 1 :].strip(BLANKS))


def _header(text: str, dollarid: bool) -> Header | Damage:
    start = at = _after_blanks(text, 1)
    while True:
        end = _name_end(text, at, dollarid)
        behind = _after_blanks(text, end)
        if text.startswith("]", behind):
            return Header(text[start:end])
        if behind == len(text) or behind == at:
            return Damage()
        at = behind


def _pragma(rest: str) -> Pragma | Damage:
    keyword, colon, value = rest.partition(":")
    if not colon or not keyword or not value:
        return Damage()
    keyword, value = keyword.strip(BLANKS), value.lstrip(BLANKS)
    if keyword in ("dollarid", "abspath") and value.lower() not in ("on", "true", "off", "false"):
        return Damage()
    return Pragma(keyword, value)


def _name_end(text: str, at: int, dollarid: bool) -> int:
    found = _NAMES[dollarid].match(text, at)
    return found.end() if found else at


def _after_blanks(text: str, at: int) -> int:
    while at < len(text) and text[at] in BLANKS:
        at += 1
    return at


def expand(value: str, section: str, variable: Callable[[str, str], str | None], dollarid: bool = False) -> str:
    """The value as the library sees it: quotes and escapes gone, variables replaced.

    `variable` gives the value of (section, name), None when it has none.  Raises Unexpandable.
    """
    out: list[str] = []
    grown = len(value)
    at = 0
    while at < len(value):
        char = value[at]
        if char in _QUOTES:
            at += 1
            while at < len(value) and value[at] != char:
                at += value[at] == "\\"
                out.append(value[at : at + 1])
                at += 1
            at += 1
        elif char == "\\":
            follower = value[at + 1 : at + 2]
            out.append(_ESCAPED.get(follower, follower))
            at += 2
        elif char == "$" and (not dollarid or value[at + 1 : at + 2] in ("{", "(")):
            where, name, at = _reference(value, at, section, dollarid)
            found = variable(where, name)
            if found is None:
                raise Unexpandable(f"the variable {name} has no value")
            out.append(found)
            grown += len(found)
            if grown > _LONGEST:
                raise Unexpandable("a value becomes longer than 64 KiB")
        else:
            out.append(char)
            at += 1
    return "".join(out)


def _reference(value: str, at: int, section: str, dollarid: bool) -> tuple[str, str, int]:
    """Section and name of the variable that the $ at `at` begins, and where the text goes on."""
    at += 1
    close = {"{": "}", "(": ")"}.get(value[at : at + 1], "")
    at += len(close)
    start, end = at, _variable_end(value, at, dollarid)
    if value.startswith("::", end):
        section = value[start:end]
        start = end + 2
        end = _variable_end(value, start, dollarid)
    if close and not value.startswith(close, end):
        raise Unexpandable("a variable's closing brace is missing")
    return section, value[start:end], end + len(close)


def _variable_end(value: str, at: int, dollarid: bool) -> int:
    found = _VARIABLES[dollarid].match(value, at)
    return found.end() if found else at


def references(value: str) -> Iterator[str]:
    """The names of the variables that are written in a value, roughly: quoted ones too."""
    yield from re.findall(r"\$[({]?(?:[A-Za-z0-9_]*::)?([A-Za-z0-9_]+)", value)
