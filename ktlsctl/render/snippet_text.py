# SPDX-License-Identifier: BSD-2-Clause
"""How an application is told to use kernel TLS, for people; the lines to copy stand as they are."""

from __future__ import annotations

from collections.abc import Sequence

from ktlsctl.render.layout import table, wrapped
from ktlsctl.render.strings import plain
from ktlsctl.snippets import Found, Snippet, Standing, Step


def render(snippet: Snippet, found: Found) -> str:
    """One application."""
    lines = [*wrapped(f"{snippet.title}: {installed(found)}")]
    lines += ["", *wrapped(snippet.needs, "Needs: ")]
    if snippet.lines:
        lines += [*wrapped(snippet.where, "Where: "), "", *_copied(snippet.lines)]
    if snippet.off:
        lines += ["", "To keep it off:", "", *_copied(snippet.off)]
    lines += ["", "To see whether it works:", "", *(line for step in snippet.verify for line in _step(step))]
    lines += ["", *(line for note in snippet.notes for line in wrapped(note, "- "))]
    return "\n".join(lines) + "\n"


def render_list(looked: Sequence[tuple[Snippet, Found]]) -> str:
    """Every application that there is a snippet for."""
    rows = [("name", "application", "release", "here"), *((s.name, s.title, *_short(f)) for s, f in looked)]
    return "\n".join([*table(rows), "", "Print one: ktlsctl snippet NAME"]) + "\n"


def _short(found: Found) -> tuple[str, str]:
    words = {
        Standing.READY: "can use kernel TLS",
        Standing.HARMFUL: "would send wrong data",
        Standing.TOO_OLD: "too old",
        Standing.NEVER: "never uses kernel TLS",
        Standing.ABSENT: "not found",
        Standing.UNKNOWN: "unknown",
    }
    return plain(found.release), words[found.standing]


def installed(found: Found) -> str:
    """What is installed here, in words."""
    release = plain(found.release)
    return {
        Standing.READY: f"{release}, can use kernel TLS",
        Standing.HARMFUL: f"{release}, but {plain(found.reason)}",
        Standing.TOO_OLD: f"{release}, too old: {found.reason}",
        Standing.NEVER: f"{release}, never uses kernel TLS",
        Standing.ABSENT: "not found",
        Standing.UNKNOWN: f"{release + ', ' if release else ''}unknown: {plain(found.reason)}",
    }[found.standing]


def _step(step: Step) -> list[str]:
    return [f"    {step.command}", *wrapped(step.shows, "        ")]


def _copied(text: str) -> list[str]:
    return [f"    {line}".rstrip() for line in text.splitlines()]
