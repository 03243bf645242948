# SPDX-License-Identifier: BSD-2-Clause
"""codec: facts survive the way through JSON, and nothing else does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktlsctl.codec import DecodeError, decode, encode
from ktlsctl.model import About, Attempt, Check, Library, MatrixRow, Report


class Colour(StrEnum):
    RED = "red"


@dataclass(frozen=True, slots=True)
class Inner:
    name: str
    colour: Colour
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Outer:
    inner: Inner
    many: tuple[Inner, ...]
    by_name: Mapping[str, int]
    pair: tuple[int, str]
    attempt: Attempt[tuple[str, ...]]
    flag: bool = False


inners = st.builds(Inner, st.text(), st.sampled_from(Colour), st.none() | st.integers())
outers = st.builds(
    Outer,
    inners,
    st.lists(inners).map(tuple),
    st.dictionaries(st.text(), st.integers()),
    st.tuples(st.integers(), st.text()),
    st.lists(st.text()).map(lambda texts: Attempt.ran(tuple(texts))),
    st.booleans(),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
)


@given(outers)
def test_what_is_encoded_is_decoded_to_the_same_value(value: Outer) -> None:
    assert decode(Outer, json.loads(json.dumps(encode(value)))) == value


@given(st.sampled_from((Outer, About, Check, Library, MatrixRow, Report, Attempt[int])), json_values)
def test_any_json_value_is_decoded_or_refused_with_decode_error(cls: type, value: object) -> None:
    try:
        decode(cls, value)
    except DecodeError:
        return
    # Only an object can carry what these records require.
    assert isinstance(value, dict)


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ({"colour": "red"}, "$.name: missing"),
        ({"name": 3, "colour": "red"}, "$.name: expected str"),
        ({"name": "n", "colour": "blue"}, "$.colour: 'blue' is no Colour"),
        ({"name": "n", "colour": "red", "size": True}, "$.size: no alternative fits"),
    ],
)
def test_a_refusal_says_where_the_shape_is_wrong(value: object, where: str) -> None:
    with pytest.raises(DecodeError, match="^" + where.replace("$", r"\$").replace(".", r"\.") + "$"):
        decode(Inner, value)


def test_unknown_members_are_ignored_so_that_a_newer_capture_can_be_read() -> None:
    assert decode(Inner, {"name": "n", "colour": "red", "later": 1}) == Inner("n", Colour.RED)


def test_a_record_that_refuses_its_values_is_a_decode_error() -> None:
    with pytest.raises(DecodeError, match="needs a reason"):
        decode(Check, {"id": "x", "link": "kernel", "status": "critical", "summary": "s"})
