# SPDX-License-Identifier: BSD-2-Clause
"""Carry out a plan, and put back what a run changed: the only module that changes a host.

First everything is journalled, then each change is made and looked at afterwards.  A change that fails does not take
the others with it: each stands for itself, and the journal knows them all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

from ktlsctl.changes import Change, FileEdit, Kind, Made, Outcome, Plan, State, proposed, undo_command
from ktlsctl.configure import runtime
from ktlsctl.configure.files import (
    FileProblem,
    ensure_directory,
    put,
    remove,
    remove_if_empty,
    temporary,
)
from ktlsctl.configure.journal import Journal, Record, Run, RunState
from ktlsctl.configure.roots import FileState, Root
from ktlsctl.configure.undo import Step, Undoing
from ktlsctl.host import Host


class Changed(Exception):
    """A file is not any more what the plan was made for."""


#: Asked after a change was made: empty when it has the effect that it was made for, else why not.
Look = Callable[[Change], str]


def apply(plan: Plan, command: str, host: Host, root: Root, journal: Journal, look: Look = lambda _: "") -> Outcome:
    """Carry out every change of a plan without refusals.

    Raises Changed, JournalError or FileProblem when the journal could not be written: then nothing was changed.
    """
    if not plan.changes:
        return proposed(plan)
    with journal.locked(command):
        notices = _settle(journal, root)
        run = Run(journal.next_id(), command, _now(), RunState.OPEN, _records(plan.changes, root))
        journal.write(run)
        made = tuple(
            _looked_at(_made(change, partial(_do, record, host, root, run.mark)), look)
            for change, record in zip(plan.changes, run.records, strict=True)
        )
        try:
            journal.write(replace(run, state=RunState.DONE))
        except FileProblem as error:
            notices += (f"run {run.id} could not be closed in the journal: {error}",)
    return Outcome(plan, made, run.id, notices)


def undo(undoing: Undoing, host: Host, root: Root, journal: Journal) -> Outcome:
    """Put back what a run changed, and leave alone what somebody else changed since.

    Raises Changed, JournalError or FileProblem: then nothing was put back.
    """
    run = undoing.run
    with journal.locked(f"undo {run.id}"):
        notices = (*_settle(journal, root, but=run.id), *_clean(run, root))
        for step in undoing.steps:
            _unchanged(step, root)
        journal.write(replace(run, state=RunState.UNDOING))
        made = tuple(_made(step.change, partial(_do, step.record, host, root, run.mark)) for step in undoing.steps)
        failed = any(m.state is State.FAILED for m in made)
        if not failed:
            notices += _clear_directories(run, root)
        # what failed is tried by the next undo; only a run that nobody ended counts as interrupted
        state = RunState.UNDONE if undoing.complete and not failed else RunState.DONE
        try:
            journal.write(replace(run, state=state))
        except FileProblem as error:
            notices += (f"run {run.id} could not be closed in the journal: {error}",)
    return Outcome(undoing.plan, made, run.id, notices)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _made(change: Change, do: Callable[[], None]) -> Made:
    try:
        do()
    except (FileProblem, runtime.TurnError, Changed) as error:
        return Made(change, State.FAILED, str(error))
    return Made(change, State.DONE)


def _looked_at(made: Made, look: Look) -> Made:
    why = look(made.change) if made.state is State.DONE else ""
    return replace(made, state=State.FAILED, reason=why) if why else made


def _records(changes: tuple[Change, ...], root: Root) -> tuple[Record, ...]:
    return tuple(_record(change, root) for change in changes)


def _record(change: Change, root: Root) -> Record:
    """What is there now, with all that a new file shall have.  Raises Changed, FileProblem."""
    edit = change.edit
    if not isinstance(edit, FileEdit):
        return Record(
            change.id,
            change.scope,
            change.kind,
            change.summary,
            edit.name,
            value_before=edit.before,
            value_after=edit.after,
        )
    try:
        with root.place(edit.path) as place:
            before, path, directories = place.read(), place.path, place.parents
    except OSError as error:
        raise FileProblem(root.shown(edit.path), error) from None
    if (None if before is None else before.content) != edit.before:
        raise Changed(f"{root.shown(edit.path)} was changed meanwhile, and nothing was done; run this again")
    return Record(
        change.id,
        change.scope,
        change.kind,
        change.summary,
        edit.path,
        path=path,
        before=before,
        after=None if edit.after is None else _with_content(before, edit.after),
        directories=directories,
    )


def _with_content(before: FileState | None, content: bytes) -> FileState:
    import os

    if before is None:
        return FileState.of(content, 0o644, os.geteuid(), os.getegid())
    return replace(before, content64=FileState.of(content, 0, 0, 0).content64)


def _do(record: Record, host: Host, root: Root, mark: str) -> None:
    """Make one change and look whether it is there.  Raises FileProblem, TurnError, Changed."""
    if record.kind is not Kind.FILE:
        runtime.turn(host, record.kind, record.target, record.value_after)
        return
    if _read(root, record.path) != record.before:
        raise Changed(f"{root.shown(record.path)} was changed meanwhile, and is left as it is")
    if record.after is None:
        remove(root, record.path)
    else:
        ensure_directory(root, record.path.rpartition("/")[0] or "/", 0o755)
        put(root, record.path, record.after, mark)
    now = _read(root, record.path)
    if (now is None) != (record.after is None) or (
        now is not None and record.after is not None and now.content64 != record.after.content64
    ):
        raise Changed(f"{root.shown(record.path)} does not hold what was written: something else writes it")


def _read(root: Root, path: str) -> FileState | None:
    try:
        return root.read(path)
    except OSError as error:
        raise FileProblem(root.shown(path), error) from None


def _unchanged(step: Step, root: Root) -> None:
    if step.record.kind is Kind.FILE and _read(root, step.record.path) != step.record.before:
        raise Changed(f"{root.shown(step.record.path)} was changed meanwhile, and nothing was put back; run this again")


def _settle(journal: Journal, root: Root, but: int | None = None) -> tuple[str, ...]:
    """What interrupted runs left half-written goes; what they changed stays until it is undone."""
    notices: list[str] = []
    for run in journal.runs():
        if run.state in (RunState.OPEN, RunState.UNDOING) and run.id != but:
            notices += [*_clean(run, root), interruption(run, root)]
    return tuple(notices)


def _clean(run: Run, root: Root) -> tuple[str, ...]:
    """Remove what was left half-written.  What cannot be removed does no harm, and must not stop the rest."""
    notices = []
    for record in run.records:
        if record.path:
            directory, _, name = record.path.rpartition("/")
            try:
                remove(root, f"{directory}/{temporary(name, run.mark)}")
            except FileProblem as error:
                notices.append(str(error))
    return tuple(notices)


def _clear_directories(run: Run, root: Root) -> tuple[str, ...]:
    """Remove the directories that the run made, innermost first, as far as they are empty."""
    notices = []
    for record in reversed(run.records):
        for directory in reversed(record.directories):
            try:
                remove_if_empty(root, directory)
            except FileProblem as error:
                notices.append(str(error))
    return tuple(notices)


def interruption(run: Run, root: Root) -> str:
    """What to tell about a run that did not end."""
    what = "was interrupted while it was undone" if run.state is RunState.UNDOING else "was interrupted"
    return (
        f"run {run.id} (ktlsctl {run.command}, begun {run.began}) {what}: "
        f"some of it may be there; {undo_command(run.id, root.path)} puts back what was"
    )
