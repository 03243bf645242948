# SPDX-License-Identifier: BSD-2-Clause
"""Small steps from an attempt to read something to an attempt at what it means."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ktlsctl.host import Host
from ktlsctl.model import Attempt, Outcome

S = TypeVar("S")
T = TypeVar("T")


def mapped(attempt: Attempt[S], parse: Callable[[S], T]) -> Attempt[T]:
    """The attempt at `parse` of the value.  A ValueError of `parse` becomes `FAILED` with its message."""
    if attempt.value is None:
        return Attempt(attempt.outcome, None, attempt.reason)
    try:
        return Attempt.ran(parse(attempt.value))
    except ValueError as error:
        return Attempt(Outcome.FAILED, reason=str(error))


def read_line(host: Host, path: str) -> Attempt[str]:
    """The content of a one-line file of /proc or /sys, without the white space around it."""
    return mapped(host.read(path), lambda content: content.decode("utf-8", "replace").strip())


def read_number(host: Host, path: str) -> Attempt[int]:
    """The decimal number that is all of a file; FAILED when something else stands there."""
    return mapped(read_line(host, path), _number)


def _number(text: str) -> int:
    # int() would take "1_0" and the digits of other scripts; the kernel writes neither.
    if not (text.isascii() and text.removeprefix("-").isdigit()):
        raise ValueError("not a number")
    # What a long of the kernel can hold: int() itself refuses thousands of digits.
    if len(text) > 20:
        raise ValueError("too large for a number of the kernel")
    return int(text)
