# SPDX-License-Identifier: BSD-2-Clause
"""Dataclasses to JSON values and back, by their type hints.

Used where facts cross a process or a file: a probe child's answer, a captured host, a report.  Decoding is strict:
a value of the wrong shape raises `DecodeError`, whatever bytes stood in the file.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")
Json = Any  # what json.loads gives


class DecodeError(ValueError):
    """The value does not have the shape of the type; the message says where."""


def encode(value: object) -> Json:
    """JSON value of a dataclass, enum, mapping, sequence or scalar.  Field order is kept; nothing is dropped."""
    if isinstance(value, Enum):
        return value.value
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: encode(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(k): encode(v) for k, v in value.items()}
    if isinstance(value, tuple | list | frozenset | set):
        return [encode(v) for v in value]
    raise TypeError(f"cannot encode {type(value).__name__}")


@cache
def _hints(cls: type) -> Mapping[str, Any]:
    return typing.get_type_hints(cls)


def decode(cls: type[T], value: Json, where: str = "$") -> T:
    """An instance of `cls` from a JSON value; unknown members are ignored, missing ones take their default.

    Raises DecodeError when a member is missing without default or has another shape than its type hint.
    """
    return typing.cast(T, _decode(cls, value, where, {}))


def _decode(hint: Any, value: Json, where: str, bound: Mapping[Any, Any]) -> Any:
    hint = bound.get(hint, hint)
    origin = typing.get_origin(hint)
    args = typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _decode_union(args, value, where, bound)
    if origin is tuple:
        if not isinstance(value, list):
            raise DecodeError(f"{where}: expected a list")
        if len(args) == 2 and args[1] is Ellipsis:
            return tuple(_decode(args[0], v, f"{where}[{i}]", bound) for i, v in enumerate(value))
        if len(args) != len(value):
            raise DecodeError(f"{where}: expected {len(args)} items")
        return tuple(_decode(a, v, f"{where}[{i}]", bound) for i, (a, v) in enumerate(zip(args, value, strict=True)))
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, dict):
            raise DecodeError(f"{where}: expected an object")
        return {str(k): _decode(args[1], v, f"{where}.{k}", bound) for k, v in value.items()}
    if origin is not None and is_dataclass(origin):
        parameters = getattr(origin, "__parameters__", ())
        return _decode_record(origin, value, where, dict(zip(parameters, args, strict=True)))
    if is_dataclass(hint):
        return _decode_record(hint, value, where, {})
    if isinstance(hint, type) and issubclass(hint, Enum):
        try:
            return hint(value)
        except ValueError:
            raise DecodeError(f"{where}: {value!r} is no {hint.__name__}") from None
    return _decode_scalar(hint, value, where)


def _decode_union(args: tuple[Any, ...], value: Json, where: str, bound: Mapping[Any, Any]) -> Any:
    if value is None and type(None) in args:
        return None
    for candidate in args:
        if candidate is type(None):
            continue
        try:
            return _decode(candidate, value, where, bound)
        except DecodeError:
            continue
    raise DecodeError(f"{where}: no alternative fits")


def _decode_record(cls: Any, value: Json, where: str, bound: Mapping[Any, Any]) -> Any:
    if not isinstance(value, dict):
        raise DecodeError(f"{where}: expected an object")
    hints = _hints(cls)
    found: dict[str, Any] = {}
    for f in fields(cls):
        if f.name in value:
            found[f.name] = _decode(hints[f.name], value[f.name], f"{where}.{f.name}", bound)
        elif f.default is MISSING and f.default_factory is MISSING:
            raise DecodeError(f"{where}.{f.name}: missing")
    try:
        return cls(**found)
    except ValueError as error:
        raise DecodeError(f"{where}: {error}") from None


def _decode_scalar(hint: Any, value: Json, where: str) -> Any:
    if hint is bool:
        fits = isinstance(value, bool)
    elif hint is int:
        fits = isinstance(value, int) and not isinstance(value, bool)
    elif hint is float:
        fits = isinstance(value, int | float) and not isinstance(value, bool)
    elif hint is str:
        fits = isinstance(value, str)
    elif hint is type(None):
        fits = value is None
    else:
        raise TypeError(f"cannot decode {hint!r}")
    if not fits:
        raise DecodeError(f"{where}: expected {hint.__name__}")
    return value
