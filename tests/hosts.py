# SPDX-License-Identifier: BSD-2-Clause
"""A captured host out of a few answers, where a test needs no whole recording."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ktlsctl.host import CapturedHost
from ktlsctl.model import About, Attempt, Os, Outcome

LINUX = About(Os.LINUX, "6.12.107", "x86_64", privileged=True, distribution="Debian GNU/Linux 13 (trixie)")
FREEBSD = About(Os.FREEBSD, "15.0-RELEASE", "amd64", privileged=True)


def captured(
    files: Mapping[str, bytes] | None = None, answers: Mapping[tuple[str, str], Any] | None = None, about: About = LINUX
) -> CapturedHost:
    """`files`: path to content; `answers`: door and key to a value, or to an Attempt.  Nothing else exists there."""
    known: dict[tuple[str, str], Attempt[Any]] = {("read", path): Attempt.ran(c) for path, c in (files or {}).items()}
    for key, value in (answers or {}).items():
        known[key] = value if isinstance(value, Attempt) else Attempt.ran(value)
    return CapturedHost(about, known, Outcome.ABSENT)
