# SPDX-License-Identifier: BSD-2-Clause
"""The journal as a history: what was done, and whether it ended."""

from __future__ import annotations

from ktlsctl.changes import PastRun, RunStanding
from ktlsctl.configure.journal import Journal, RunState


def past_runs(journal: Journal) -> tuple[PastRun, ...]:
    """Every run, oldest first.  Raises JournalError."""
    runs = journal.runs()
    interrupted = {run.id for run in journal.interrupted()}

    def standing(identity: int, state: RunState) -> RunStanding:
        if identity in interrupted:
            return RunStanding.INTERRUPTED
        return {RunState.DONE: RunStanding.DONE, RunState.UNDONE: RunStanding.UNDONE}.get(state, RunStanding.RUNNING)

    return tuple(
        PastRun(
            run.id,
            run.command,
            run.began,
            standing(run.id, run.state),
            tuple(f"{record.summary}: {record.target}" if record.path else record.summary for record in run.records),
        )
        for run in runs
    )
