# SPDX-License-Identifier: BSD-2-Clause
"""What undoing a run would change: its journal against what is there now.  Nothing is written here.

What is as the run left it goes back to what was before; what is already so needs nothing; what is neither was changed
by somebody else since and is left alone.  Of runs that changed the same thing the last has to be undone first: else it
would bring back later what the earlier one had made.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ktlsctl.changes import Change, FileEdit, Kind, Obstacle, Plan, Scope, Turn, context_of, undo_command
from ktlsctl.configure import runtime
from ktlsctl.configure.files import FileProblem
from ktlsctl.configure.journal import Record, Run, RunState
from ktlsctl.configure.roots import FileState, Root
from ktlsctl.host import Host
from ktlsctl.model import Os, Remedy


@dataclass(frozen=True, slots=True)
class Step:
    """One change back, with its record turned round."""

    change: Change
    record: Record


@dataclass(frozen=True, slots=True)
class Undoing:
    """`complete`: with these steps the run is undone as far as anything can undo it."""

    run: Run
    plan: Plan
    steps: tuple[Step, ...]
    complete: bool


def newest(runs: tuple[Run, ...]) -> Run | None:
    """The run that `undo` without a number is about."""
    return next((run for run in reversed(runs) if run.state is not RunState.UNDONE), None)


def plan(run: Run, runs: tuple[Run, ...], host: Host, root: Root) -> Undoing:
    """Compare and say.  Raises FileProblem when a file cannot be read."""
    steps: list[Step] = []
    obstacles: list[Obstacle] = []
    for record in reversed(run.records):
        touching = _touching(record, run, runs)
        if touching is not None:
            obstacles.append(_not_yet(record, run, touching, root))
        elif record.kind is Kind.FILE:
            _file(record, run, root, steps, obstacles)
        else:
            _turn(record, host, steps, obstacles)
    asked = tuple(scope for scope in Scope if any(r.scope is scope for r in run.records))
    wanted = Plan(f"undo {run.id}", asked, tuple(step.change for step in steps), tuple(obstacles))
    return Undoing(run, wanted, tuple(steps), not any(o.blocking for o in obstacles))


def _touching(record: Record, run: Run, runs: tuple[Run, ...]) -> Run | None:
    """The last run after this one that is not undone and changed the same thing."""
    what = (record.kind, record.path or record.target)
    later = (r for r in reversed(runs) if r.id > run.id and r.state is not RunState.UNDONE)
    return next((r for r in later if any((x.kind, x.path or x.target) == what for x in r.records)), None)


def _not_yet(record: Record, run: Run, touching: Run, root: Root) -> Obstacle:
    what = root.shown(record.path) if record.path else record.target
    remedy = Remedy(f"undo run {touching.id} first", undo_command(touching.id, root.path))
    summary = f"{what} was changed by run {touching.id} after run {run.id}, and is left as it is"
    return Obstacle(record.scope, summary, True, (remedy,))


def _file(record: Record, run: Run, root: Root, steps: list[Step], obstacles: list[Obstacle]) -> None:
    try:
        now = root.read(record.path)
    except OSError as error:
        raise FileProblem(root.shown(record.path), error) from None
    if _same(now, record.before):
        return
    if _content(now) not in (_content(record.after), _content(record.before)):
        obstacles.append(_conflict(record, now, run, root))
        return
    what = "remove" if record.before is None else "restore"
    edit = FileEdit(record.path, _content(now), _content(record.before))
    change = Change(record.id, record.scope, Kind.FILE, f"{what} {record.path}", edit)
    steps.append(Step(change, replace(record, before=now, after=record.before, directories=())))


def _content(state: FileState | None) -> bytes | None:
    return None if state is None else state.content


def _same(one: FileState | None, other: FileState | None) -> bool:
    """Attributes that a file system without them lost do not make another file."""
    if one is None or other is None:
        return one is other
    return replace(one, xattrs={}) == replace(other, xattrs={})


def _conflict(record: Record, now: FileState | None, run: Run, root: Root) -> Obstacle:
    return Obstacle(
        record.scope,
        f"{root.shown(record.path)} was changed by somebody else since run {run.id}, and is left as it is",
        True,
        (Remedy("edit it by hand: below is what was changed since"),),
        FileEdit(record.path, _content(record.after), _content(now)).diff(context_of(record.scope)),
    )


def _turn(record: Record, host: Host, steps: list[Step], obstacles: list[Obstacle]) -> None:
    now = runtime.read(host, record.kind, record.target)
    if now == record.value_before:
        return
    if now is not None and now != record.value_after:
        obstacles.append(
            Obstacle(
                record.scope,
                f"{record.target} is {now} now, neither what it was ({record.value_before}) nor what was set",
                True,
                (Remedy("set it by hand to what you want"),),
            )
        )
        return
    if record.kind is Kind.MODULE and record.value_before == runtime.ABSENT:
        why = _held(record, host)
        if why:
            obstacles.append(Obstacle(record.scope, why, False))
            return
    change = Change(
        record.id,
        record.scope,
        record.kind,
        _words(record),
        Turn(record.target, record.value_after, record.value_before),
    )
    turned = replace(record, value_before=record.value_after, value_after=record.value_before)
    steps.append(Step(change, turned))


def _words(record: Record) -> str:
    if record.kind is Kind.MODULE:
        return f"{'load' if record.value_before == runtime.LOADED else 'unload'} the {record.target} module"
    return f"set {record.target} back to {record.value_before}"


def _held(record: Record, host: Host) -> str:
    """Why a module that a run loaded stays.  A module that is in use is no reason not to put back the rest."""
    if host.about.os is Os.FREEBSD:
        return f"{record.target} stays loaded until the next boot: the kernel does not give up a TLS backend"
    from ktlsctl.configure.linux import holders

    held = holders(host)
    return f"the {record.target} module stays loaded until the next boot: {held}" if held else ""
