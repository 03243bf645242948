# SPDX-License-Identifier: BSD-2-Clause
"""A plan, what became of it, and the history, for people: what changes now, what at boot, what is left to somebody."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ktlsctl.changes import (
    FileEdit,
    Made,
    Obstacle,
    Outcome,
    PastRun,
    RunStanding,
    Scope,
    Standing,
    State,
    undo_command,
    verdict,
)
from ktlsctl.model import Remedy, Status
from ktlsctl.render.blocks import BODY, joined
from ktlsctl.render.layout import Paint, table, wrapped
from ktlsctl.render.strings import plain

_TITLES = {Scope.NOW: "Now", Scope.BOOT: "At boot", Scope.LIBRARY: "TLS library"}

_WORDS = {
    State.WANTED: ("WOULD", Status.WARNING),
    State.DONE: ("DONE", Status.OK),
    State.FAILED: ("FAILED", Status.CRITICAL),
}

_STANDINGS = {
    Standing.NOT_ASKED: "not asked for, left as it is",
    Standing.AS_WANTED: "as wanted, nothing to change",
    Standing.TO_CHANGE: "to be changed",
    Standing.CHANGED: "changed",
    Standing.FAILED: "not as wanted: a change failed",
    Standing.BLOCKED: "not as wanted: see below",
}


def render(
    outcome: Outcome, *, root: str = "/", diff: bool = False, color: bool = False, terminal: bool = False
) -> str:
    """The text of a plan or of what became of it; `diff`: with a unified diff of every file.  `root`: where it was.
    `terminal`: it is shown on one, where a carriage return would hide what stands before it."""
    paint = Paint(color)
    blocks = [
        [line for notice in outcome.notices for line in wrapped(plain(notice), "Note: ")],
        *([*_scope(outcome, scope, paint, diff=diff, terminal=terminal)] for scope in Scope),
        [*_left(outcome.plan.obstacles, paint, terminal=terminal)],
        [*_verdict(outcome, paint, root)],
    ]
    return joined(blocks)


def _scope(outcome: Outcome, scope: Scope, paint: Paint, *, diff: bool, terminal: bool) -> Iterator[str]:
    standing = outcome.standing(scope)
    if scope is Scope.LIBRARY and standing is Standing.NOT_ASKED:
        return
    yield f"{_TITLES[scope]}: {_STANDINGS[standing]}"
    for made in outcome.made:
        if made.change.scope is scope:
            yield from _change(made, paint)
            if diff and made.change.diff:
                yield from _diff(made.change.diff, terminal=terminal)


def _change(made: Made, paint: Paint) -> Iterator[str]:
    word, status = _WORDS[made.state]
    change = made.change
    lines = wrapped(plain(change.summary), f"{word:<8}  ", BODY)
    yield paint.head(status, lines[0], word)
    yield from lines[1:]
    if isinstance(change.edit, FileEdit):
        what = "new file" if change.edit.before is None else "removed" if change.edit.after is None else "edited"
        yield from wrapped(f"{plain(change.target)} ({what})", BODY)
    if change.note:
        yield from wrapped(plain(change.note), BODY)
    if made.reason:
        yield from wrapped(plain(made.reason), f"{BODY}reason: ", f"{BODY}  ")


def _diff(text: str, *, terminal: bool) -> Iterator[str]:
    # at the left edge and with its white space, so that patch(1) takes it
    kept = r"(\t)" if terminal else r"(\t|\r)"
    for line in text.split("\n"):
        yield "".join(part if re.fullmatch(kept, part) else plain(part) for part in re.split(kept, line))


def _left(obstacles: tuple[Obstacle, ...], paint: Paint, *, terminal: bool) -> Iterator[str]:
    if not obstacles:
        return
    yield "Left to you"
    for obstacle in obstacles:
        word, status = ("BLOCKED", Status.CRITICAL) if obstacle.blocking else ("NOTE", Status.SKIP)
        lines = wrapped(plain(f"{_TITLES[obstacle.scope].lower()}: {obstacle.summary}"), f"{word:<8}  ", BODY)
        yield paint.head(status, lines[0], word)
        yield from lines[1:]
        for remedy in obstacle.remedy:
            yield from _remedy(remedy)
        if obstacle.diff:
            yield from _diff(obstacle.diff, terminal=terminal)


def _remedy(remedy: Remedy) -> Iterator[str]:
    yield from wrapped(plain(remedy.text), BODY)
    if remedy.command is not None:
        yield f"{BODY}  {plain(remedy.command)}"


def _verdict(outcome: Outcome, paint: Paint, root: str) -> Iterator[str]:
    said = verdict(outcome)
    word = said.status.upper()
    lines = wrapped(plain(f"{word} - {said.summary}"), "Result: ")
    yield "Result: " + paint.head(said.status, lines[0][len("Result: ") :], word)
    yield from lines[1:]
    if outcome.run is not None and not outcome.plan.undoes:
        yield f"This is run {outcome.run} in the journal. To put back what was:"
        yield f"  {plain(undo_command(outcome.run, root))}"


def history(runs: tuple[PastRun, ...], root: str = "/") -> str:
    """The runs of the journal, newest first.  `root`: where it was."""
    if not runs:
        return "The journal is empty: ktlsctl has changed nothing here.\n"
    rows = [["run", "begun", "command", "state", "what"]]
    for run in reversed(runs):
        rows.append([str(run.id), run.began, run.command, run.state, "\n".join(map(plain, run.changed)) or "-"])
    left = [
        f"Run {run.id} was interrupted: {plain(undo_command(run.id, root))} puts back what was."
        for run in runs
        if run.state is RunStanding.INTERRUPTED
    ]
    return "\n".join([*table(rows), *left]) + "\n"
