# SPDX-License-Identifier: BSD-2-Clause
"""The lines of config(5ssl): what one states, and how a value is put together; any bytes are taken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktlsctl.facts import conflines
from ktlsctl.facts.conflines import (
    Assignment,
    Damage,
    Header,
    Include,
    Logical,
    Pragma,
    Unexpandable,
    expand,
    statement,
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[ a b ] rest", Header("a b")),
        ("[]", Header("")),
        ("[a", Damage()),
        ("[a:b]", Damage()),
        ("a = b = c ", Assignment("", "a", "b = c")),
        (" s::a=", Assignment("s", "a", "")),
        ("a\\=b = c", Assignment("", "a\\=b", "c")),
        ("a b = c", Damage()),
        ("a", Damage()),
        ("é = x", Damage()),
        (".include /x", Include("/x")),
        (".include=/x", Include("/x")),
        (".include", Damage()),
        (".includes = /x", Include("/x")),
        (".pragma = abspath:true", Pragma("abspath", "true")),
        (".pragma abspath:maybe", Damage()),
        (".pragma unknown:", Damage()),
        (".pragma unknown: x", Pragma("unknown", "x")),
        ("a$ = c", Damage()),
    ],
)
def test_a_line_states_one_thing(text: str, said: object) -> None:
    assert statement(text) == said


def test_a_dollar_may_be_part_of_a_name_where_a_pragma_says_so() -> None:
    assert statement("a$ = c", dollarid=True) == Assignment("", "a$", "c")


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"a\\\nb # c\n\nd", [Logical(1, 2, "ab "), Logical(4, 4, "d")]),
        (b"a\\\\\nb\r\r\n", [Logical(1, 1, "a\\\\"), Logical(2, 2, "b")]),
        (b"# a \\\nb\n", []),
        (b"a\\", [Logical(1, 1, "a")]),
        (b"\xef\xbb\xbfa\n", [Logical(1, 1, "a")]),
        (b"a = 'x # y' # z\n", [Logical(1, 1, "a = 'x # y' ")]),
    ],
)
def test_physical_lines_are_joined_and_comments_cut(content: bytes, lines: list[Logical]) -> None:
    assert list(conflines.logical_lines(content)) == lines


@pytest.mark.parametrize(
    ("content", "ended"), [(b"a\\", True), (b"a\\\n", True), (b"a\\\\", False), (b"a\n", False), (b"", False)]
)
def test_an_unfinished_last_line_is_noticed(content: bytes, ended: bool) -> None:
    assert conflines.open_ended(content) is ended


VALUES = {("s", "x"): "here", ("default", "x"): "there", ("default", "y"): ""}


def value(section: str, name: str) -> str | None:
    return VALUES.get((section, name), VALUES.get(("default", name)))


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("$x", "here"),
        ("a${x}b", "ahereb"),
        ("a$(default::x)b", "athereb"),
        ("$y.", "."),
        ("'$x'\"\\$\"", "$x$"),
        ("a\\$x\\n", "a$x\n"),
        ("'open", "open"),
        ("end\\", "end"),
    ],
)
def test_a_value_is_put_together(written: str, meant: str) -> None:
    assert expand(written, "s", value) == meant


@pytest.mark.parametrize("written", ["$nothing", "$", "${x", "${x)", "$$", "$s::z"])
def test_a_value_that_cannot_be_put_together_is_refused(written: str) -> None:
    with pytest.raises(Unexpandable):
        expand(written, "s", value)


def test_a_value_does_not_grow_without_end() -> None:
    with pytest.raises(Unexpandable):
        expand("$x$x", "s", lambda _section, _name: "x" * 40000)


def test_a_dollar_without_brace_is_text_where_a_pragma_says_so() -> None:
    assert expand("$x${x}", "s", value, dollarid=True) == "$xhere"


@given(st.binary(max_size=120) | st.text("ab$\\'\"`#[]=: .\n\r{}()", max_size=40).map(str.encode), st.booleans())
def test_any_bytes_are_taken(content: bytes, dollarid: bool) -> None:
    last = 0
    for line in conflines.logical_lines(content):
        assert last < line.first <= line.last
        last = line.last
        said = statement(line.text, dollarid)
        if isinstance(said, Assignment):
            list(conflines.references(said.value))
            try:
                assert isinstance(expand(said.value, "s", value, dollarid), str)
            except Unexpandable:
                continue
    conflines.open_ended(content)
