# SPDX-License-Identifier: BSD-2-Clause
"""The nouns of configuring: what is wished, what a plan would change, what it leaves to somebody else, what came of it.

A plan is pure data: who makes it reads, who carries it out writes, who prints it does neither.
"""

from __future__ import annotations

import difflib
import hashlib
import shlex
from dataclasses import dataclass, field
from enum import StrEnum

from ktlsctl.model import Direction, Remedy, Status, Verdict


class Scope(StrEnum):
    """What a change reaches.  Run-time state and boot state are two things."""

    NOW = "now"
    BOOT = "boot"
    LIBRARY = "library"


class Kind(StrEnum):
    FILE = "file"
    MODULE = "module"
    SYSCTL = "sysctl"
    OFFLOAD = "offload"


class State(StrEnum):
    """What became of one change."""

    WANTED = "wanted"
    DONE = "done"
    FAILED = "failed"


class Standing(StrEnum):
    """What became of everything that was wished in one scope."""

    NOT_ASKED = "not_asked"
    AS_WANTED = "as_wanted"
    TO_CHANGE = "to_change"
    CHANGED = "changed"
    FAILED = "failed"
    BLOCKED = "blocked"


@dataclass(frozen=True, slots=True)
class FileEdit:
    """A file's content before and after; None: there is no file.  The path may be a symbolic link, which stays one."""

    path: str
    before: bytes | None
    after: bytes | None

    def diff(self, context: int = 3) -> str:
        """A unified diff, as patch(1) takes it; without a line end at the end, empty when nothing differs."""
        return "\n".join(
            difflib.unified_diff(
                _lines(self.before),
                _lines(self.after),
                "/dev/null" if self.before is None else f"a{self.path}",
                "/dev/null" if self.after is None else f"b{self.path}",
                n=context,
                lineterm="",
            )
        )


def _lines(content: bytes | None) -> list[str]:
    r"""Without line ends; a last line that has none is told apart, as diff(1) does."""
    if not content:
        return []
    lines = content.decode("utf-8", "backslashreplace").split("\n")
    if lines[-1] == "":
        return lines[:-1]
    return [*lines[:-1], f"{lines[-1]}\n\\ No newline at end of file"]


def in_short(content: bytes | None) -> str:
    """A file's content without its content."""
    return "no file" if content is None else f"{len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()}"


def context_of(scope: Scope) -> int:
    """Lines that a diff shows beside what changes.  An openssl.cnf may hold passwords there."""
    return 0 if scope is Scope.LIBRARY else 3


@dataclass(frozen=True, slots=True)
class Turn:
    """Something of the running kernel: a module (`loaded`, `absent`), a sysctl's value, an offload (`on`, `off`)."""

    name: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that the tool would do itself.  `id` is dotted and stable; `note`: what to know about it."""

    id: str
    scope: Scope
    kind: Kind
    summary: str
    edit: FileEdit | Turn
    note: str = ""

    @property
    def target(self) -> str:
        return self.edit.path if isinstance(self.edit, FileEdit) else self.edit.name

    @property
    def diff(self) -> str:
        """Of a file; empty for what is none."""
        return self.edit.diff(context_of(self.scope)) if isinstance(self.edit, FileEdit) else ""


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Something that the tool does not do itself, with who can.  `blocking`: without it the wish does not come true.
    `diff`: what somebody else changed, where that is the obstacle."""

    scope: Scope
    summary: str
    blocking: bool
    remedy: tuple[Remedy, ...] = ()
    diff: str = ""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What was asked for.  `only`: one direction.  `library`: a path, or "" for the system's; None: leave it alone.
    `despite`: names of programs that are known to be hurt and were accepted.  `root`: another root file system."""

    on: bool
    now: bool = True
    persist: bool = True
    only: Direction | None = None
    library: str | None = None
    offload: tuple[str, ...] = ()
    despite: frozenset[str] = field(default_factory=frozenset)
    root: str = "/"

    @property
    def command(self) -> str:
        return "enable" if self.on else "disable"

    def wants(self, scope: Scope) -> bool:
        if scope is Scope.LIBRARY:
            return self.library is not None
        return self.now if scope is Scope.NOW else self.persist


def below(root: str, path: str) -> str:
    """A path inside a root as somebody outside of it has to type it."""
    return path if root == "/" else f"{root.rstrip('/')}{path}"


def undo_command(run: int, root: str) -> str:
    """What puts a run back: the journal of another root lies in that root."""
    return f"ktlsctl undo {run}" if root == "/" else f"ktlsctl undo {run} {shlex.quote(f'--root={root}')}"


@dataclass(frozen=True, slots=True)
class Plan:
    """`refusals`: why nothing of it is carried out, however it is asked; `asked`: the scopes that it is about."""

    command: str
    asked: tuple[Scope, ...]
    changes: tuple[Change, ...] = ()
    obstacles: tuple[Obstacle, ...] = ()
    refusals: tuple[str, ...] = ()

    @property
    def undoes(self) -> bool:
        return self.command.partition(" ")[0] == "undo"

    def blocked(self, scope: Scope) -> bool:
        return any(o.blocking and o.scope is scope for o in self.obstacles)


@dataclass(frozen=True, slots=True)
class Made:
    """What became of one change of a plan; `reason` says why it failed."""

    change: Change
    state: State
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A plan and what became of it.  `run`: the number in the journal, None when nothing was carried out.
    `notices`: what the journal had to tell."""

    plan: Plan
    made: tuple[Made, ...]
    run: int | None = None
    notices: tuple[str, ...] = ()

    def standing(self, scope: Scope) -> Standing:
        if scope not in self.plan.asked:
            return Standing.NOT_ASKED
        states = {made.state for made in self.made if made.change.scope is scope}
        if State.FAILED in states:
            return Standing.FAILED
        if State.WANTED in states:
            return Standing.TO_CHANGE
        if self.plan.blocked(scope):
            return Standing.BLOCKED
        return Standing.CHANGED if states else Standing.AS_WANTED


class RunStanding(StrEnum):
    """What became of a run of the journal, as far as it is known now."""

    RUNNING = "running"
    DONE = "done"
    INTERRUPTED = "interrupted"
    UNDONE = "undone"


@dataclass(frozen=True, slots=True)
class PastRun:
    """One line of the history.  `began` is RFC 3339 in UTC; `changed`: what each change was, in words."""

    id: int
    command: str
    began: str
    state: RunStanding
    changed: tuple[str, ...]


def verdict(outcome: Outcome) -> Verdict:
    """What a run of enable, disable or undo amounts to: ok as wanted, warning in part or not yet, critical failed."""
    plan, made = outcome.plan, outcome.made
    failed = [each for each in made if each.state is State.FAILED]
    wanted = sum(each.state is State.WANTED for each in made)
    blocking = [obstacle for obstacle in plan.obstacles if obstacle.blocking]
    remedy = tuple(remedy for obstacle in blocking for remedy in obstacle.remedy)
    if plan.refusals:
        return Verdict(Status.UNKNOWN, f"refused, nothing was changed: {'; '.join(plan.refusals)}")
    if failed:
        what = f"{len(failed)} of {_counted(len(made))} failed: {failed[0].change.summary}: {failed[0].reason}"
        return Verdict(Status.CRITICAL, what, failed[0].change.id)
    left = f"; {blocking[0].summary}" if blocking else ""
    if wanted:
        return Verdict(Status.WARNING, f"{_counted(wanted)} would be made{left}", made[0].change.id, remedy)
    if blocking:
        done = f"{_counted(len(made))} made, but " if made else ""
        # what undo leaves is left half way
        status = Status.WARNING if made and not plan.undoes else Status.CRITICAL
        return Verdict(status, f"{done}{blocking[0].summary}", f"configure.{blocking[0].scope}", remedy)
    nothing = "there is nothing to put back" if plan.undoes else "everything is as wanted already"
    return Verdict(Status.OK, f"{_counted(len(made))} made" if made else nothing)


def _counted(number: int) -> str:
    return f"{number} change{'s' * (number != 1)}"


def proposed(plan: Plan, notices: tuple[str, ...] = ()) -> Outcome:
    """The outcome of a plan that nobody carried out."""
    return Outcome(plan, tuple(Made(change, State.WANTED) for change in plan.changes), None, notices)
