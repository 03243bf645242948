# SPDX-License-Identifier: BSD-2-Clause
"""A report as one JSON document (RFC 8259): the contract that ktlsctl/schema/report-1.json describes.

Members stand in the order of the contract.  What is not known is null, never an empty string.  Everything outside
ASCII is escaped, so that the document survives any locale and holds nothing that a terminal would obey.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from ktlsctl import __version__
from ktlsctl.changes import FileEdit, Made, Obstacle, Outcome, PastRun, Scope, in_short, verdict
from ktlsctl.model import (
    SCHEMA_VERSION,
    About,
    AdvisoryNotice,
    Cell,
    Check,
    DirectionResult,
    Library,
    MatrixRow,
    Remedy,
    Report,
    ScenarioResult,
    SelftestResult,
    Session,
    Statistic,
    Status,
    TlsProcess,
    Verdict,
)
from ktlsctl.render.strings import each_string, encodable
from ktlsctl.snippets import Found, Snippet, Standing

Json = dict[str, Any]


def render(report: Report, outcome: Outcome | None = None) -> str:
    """The document of a report, with a plan and what became of it if there was one; ends with a newline."""
    sessions = report.sessions
    more = {} if outcome is None else _outcome(each_string(outcome, encodable))
    text = _text(_report(report) | more)
    if sessions is None:
        return text
    # One line each, without indent: the encoder in C knows none, and ten thousand are an ordinary list.
    lines = ",\n    ".join(map(json.dumps, _sessions(sessions)))
    return f'{text.removesuffix(_END)},\n  "sessions": [{f"{_INDENT}{lines}{_OUTDENT}" if lines else ""}]{_END}'


def render_line(report: Report) -> str:
    """The same document in one line, for a stream of them."""
    document = _report(report)
    if report.sessions is not None:
        document["sessions"] = list(_sessions(report.sessions))
    return json.dumps(document, allow_nan=False) + "\n"


_END = "\n}\n"
_INDENT, _OUTDENT = "\n    ", "\n  "


def _report(report: Report) -> Json:
    report = each_string(replace(report, sessions=None), encodable)
    return _document(
        host=_host(report.about),
        generated_at=report.generated_at,
        source=report.source,
        verdict=_verdict(report.verdict),
        checks=[_check(check) for check in report.checks],
        matrix=[_row(row) for row in report.matrix],
        libraries=[_library(library) for library in report.libraries],
        advisories=[_advisory(notice) for notice in report.advisories],
        counters=dict(report.counters),
        errors=list(report.errors),
        results=None if report.results is None else [*map(_result, report.results), *map(_scenario, report.scenarios)],
        processes=None if report.processes is None else [_process(process) for process in report.processes],
        statistics=None if report.statistics is None else [_statistic(each) for each in report.statistics],
    )


def render_outcome(about: About, outcome: Outcome, errors: tuple[str, ...] = ()) -> str:
    """The document of enable, disable or undo.  `errors`: why it was not carried out."""
    outcome = each_string(outcome, encodable)
    errors = tuple(encodable(error) for error in (*errors, *outcome.plan.refusals))
    said = verdict(outcome) if not errors else Verdict(Status.UNKNOWN, errors[0])
    return _text(_bare(about, said, errors) | _outcome(outcome))


def render_history(about: About, runs: tuple[PastRun, ...]) -> str:
    """The document of the history."""
    runs = each_string(runs, encodable)
    said = Verdict(Status.OK, f"{len(runs)} run{'s' * (len(runs) != 1)} in the journal")
    listed = [
        {
            "id": run.id,
            "command": run.command,
            "began": run.began,
            "state": run.state.value,
            "changed": list(run.changed),
        }
        for run in runs
    ]
    return _text(_bare(about, said, ()) | {"runs": listed})


def render_snippets(about: About, looked: Sequence[tuple[Snippet, Found]]) -> str:
    """The document of snippets."""
    found = [each_string(found, encodable) for _, found in looked]
    ready = [snippet.title for snippet, here in looked if here.standing is Standing.READY]
    said = Verdict(Status.OK, f"can use kernel TLS here: {', '.join(ready) or 'none of these'}")
    listed = [_snippet(snippet, here) for (snippet, _), here in zip(looked, found, strict=True)]
    return _text(_bare(about, said, ()) | {"snippets": listed})


def _snippet(snippet: Snippet, found: Found) -> Json:
    return {
        "name": snippet.name,
        "title": snippet.title,
        "standing": found.standing.value,
        "release": found.release or None,
        "reason": found.reason or None,
        "needs": snippet.needs,
        "where": snippet.where or None,
        "lines": snippet.lines or None,
        "off": snippet.off or None,
        "verify": [{"command": step.command, "shows": step.shows} for step in snippet.verify],
        "notes": list(snippet.notes),
    }


def _bare(about: About, said: Verdict, errors: tuple[str, ...]) -> Json:
    return _document(
        host=_host(each_string(about, encodable)),
        generated_at=_now(),
        source="live",
        verdict=_verdict(said),
        errors=errors,
    )


def _outcome(outcome: Outcome) -> Json:
    plan = outcome.plan
    return {
        "plan": {
            "command": plan.command,
            "run": outcome.run,
            **{scope.value: outcome.standing(scope).value for scope in Scope},
            "refusals": list(plan.refusals),
            "notices": list(outcome.notices),
        },
        "changes": [_change(made) for made in outcome.made],
        "obstacles": [_obstacle(obstacle) for obstacle in plan.obstacles],
    }


def _change(made: Made) -> Json:
    change, edit = made.change, made.change.edit
    if isinstance(edit, FileEdit):
        before, after = in_short(edit.before), in_short(edit.after)
    else:
        before, after = edit.before, edit.after
    return {
        "id": change.id,
        "scope": change.scope.value,
        "kind": change.kind.value,
        "target": change.target,
        "summary": change.summary,
        "note": change.note or None,
        "before": before,
        "after": after,
        "diff": change.diff or None,
        "state": made.state.value,
        "reason": made.reason or None,
    }


def _obstacle(obstacle: Obstacle) -> Json:
    return {
        "scope": obstacle.scope.value,
        "summary": obstacle.summary,
        "blocking": obstacle.blocking,
        "remedy": [_remedy(remedy) for remedy in obstacle.remedy],
        "diff": obstacle.diff or None,
    }


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def error_document(message: str, about: About | None = None, generated_at: str | None = None) -> str:
    """The document of a run that could not make a report: verdict unknown, `message` in `errors`, nothing tested.

    `generated_at` (RFC 3339, UTC) defaults to now.  Where even the host is not known its members are null.
    """
    message = encodable(message) or "internal error without a message"
    nowhere: Json = {"os": "unknown", "release": None, "machine": None, "privileged": None, "distribution": None}
    return _text(
        _document(
            host=nowhere if about is None else _host(each_string(about, encodable)),
            generated_at=generated_at or _now(),
            source="none",
            verdict=_verdict(Verdict(Status.UNKNOWN, message)),
            errors=[message],
        )
    )


def _document(
    host: Json,
    generated_at: str,
    source: str,
    verdict: Json,
    checks: Iterable[Json] = (),
    matrix: Iterable[Json] = (),
    libraries: Iterable[Json] = (),
    advisories: Iterable[Json] = (),
    counters: Json | None = None,
    errors: Iterable[str] = (),
    results: Iterable[Json] | None = None,
    processes: Iterable[Json] | None = None,
    statistics: Iterable[Json] | None = None,
) -> Json:
    document: Json = {
        "schema_version": SCHEMA_VERSION,
        "tool": {"name": "ktlsctl", "version": __version__},
        "host": host,
        "generated_at": generated_at,
        "source": source,
        "verdict": verdict,
        "checks": list(checks),
        "matrix": list(matrix),
        "libraries": list(libraries),
        "advisories": list(advisories),
        "counters": counters or {},
        "errors": list(errors),
    }
    # Where a command did not look there is no such member.
    for name, items in (("results", results), ("processes", processes), ("statistics", statistics)):
        if items is not None:
            document[name] = list(items)
    return document


def _text(document: Json) -> str:
    return json.dumps(document, indent=2, allow_nan=False) + "\n"


def _host(about: About) -> Json:
    return {
        "os": about.os.value,
        "release": about.release or None,
        "machine": about.machine or None,
        "privileged": about.privileged,
        "distribution": about.distribution or None,
    }


def _verdict(verdict: Verdict) -> Json:
    return {
        "status": verdict.status.value,
        "summary": verdict.summary,
        "first_broken": verdict.first_broken,
        "remedy": [_remedy(remedy) for remedy in verdict.remedy],
    }


def _remedy(remedy: Remedy) -> Json:
    return {"text": remedy.text, "command": remedy.command}


def _check(check: Check) -> Json:
    return {
        "id": check.id,
        "link": check.link.value,
        "status": check.status.value,
        "summary": check.summary,
        "reason": check.reason or None,
        "evidence": dict(check.evidence),
        "remedy": [_remedy(remedy) for remedy in check.remedy],
    }


def _cell(cell: Cell) -> Json:
    return {"status": cell.status.value, "reason": cell.reason or None, "errno": cell.errno}


def _row(row: MatrixRow) -> Json:
    return {
        "version": row.version.value,
        "cipher": row.cipher,
        "direction": row.direction.value,
        "kernel": None if row.kernel is None else _cell(row.kernel),
        "library": None if row.library is None else _cell(row.library),
        "session": None if row.session is None else _cell(row.session),
    }


def _library(library: Library) -> Json:
    return {
        "path": library.path,
        "version": library.version or None,
        "origin": library.origin,
        "roles": list(library.roles),
        "status": library.status.value,
        "reason": library.reason or None,
        "built_with_ktls": library.built_with_ktls.value,
        "proof": library.proof or None,
        "enabled_by_default": library.enabled_by_default.value,
        "config_file": library.config_file or None,
        "package": library.package or None,
        "libcrypto": library.libcrypto or None,
        "cells": [
            {
                "version": cell.version.value,
                "suite": cell.suite,
                "cipher": cell.cipher,
                "tx": _cell(cell.tx),
                "rx": _cell(cell.rx),
            }
            for cell in library.cells
        ],
        "family": library.family or None,
        "build_id": library.build_id or None,
        "static": library.static,
        "deleted": library.deleted,
    }


def _process(process: TlsProcess) -> Json:
    return {
        "pid": process.pid,
        "name": process.name or None,
        "program": process.program or None,
        "ktls": process.ktls.value,
        "reason": process.reason,
        "sockets": process.sockets,
        "libraries": list(process.libraries),
    }


def _statistic(each: Statistic) -> Json:
    return {
        "name": each.name,
        "kind": each.kind.value,
        "value": each.value,
        "error": each.error,
        "meaning": each.meaning or None,
        "rate": each.rate,
    }


def _advisory(notice: AdvisoryNotice) -> Json:
    return {
        "id": notice.id,
        "certainty": notice.certainty.value,
        "subject": notice.subject,
        "summary": notice.summary,
        "affected": notice.affected or None,
        "fixed": notice.fixed or None,
        "reference": notice.reference or None,
        "remedy": _remedy(notice.remedy),
    }


def _result(result: SelftestResult | ScenarioResult) -> Json:
    return {
        "version": result.version.value,
        "suite": result.suite,
        "scenario": result.scenario,
        "datapath": result.datapath,
        "library": result.library,
        "tx": _direction(result.tx),
        "rx": _direction(result.rx),
        "bytes": result.bytes,
        "sha256_ok": result.sha256_ok,
        "reason": result.reason or None,
    }


def _scenario(result: ScenarioResult) -> Json:
    return {
        **_result(result),
        "status": result.status.value,
        "finding": result.finding.value,
        "summary": result.summary,
        "known": list(result.known),
        "accepted": result.accepted,
        "refuted": list(result.refuted),
        "evidence": dict(result.evidence),
    }


def _sessions(sessions: Sequence[Session]) -> Iterator[Json]:
    from ktlsctl.sessions import MEANING

    for s in sessions:
        space = s.namespace
        yield {
            "state": s.armed.value,
            "meaning": MEANING.get(s.armed),
            "local": {"address": s.local, "port": s.local_port},
            "remote": {"address": s.remote, "port": s.remote_port},
            "tcp_state": s.tcp_state,
            "version": s.version,
            "cipher": s.cipher,
            "suite": s.suite,
            "tx": s.tx.value,
            "rx": s.rx.value,
            "zerocopy_tx": s.zerocopy_tx,
            "no_pad_rx": s.no_pad_rx,
            "tx_max_payload": s.tx_max_payload,
            "bytes_acked": s.bytes_acked,
            "bytes_received": s.bytes_received,
            "uid": s.uid,
            "inode": s.inode,
            "owners": None
            if s.owners is None
            else [{"pid": o.pid, "name": None if o.name is None else encodable(o.name)} for o in s.owners],
            "service": None if s.service is None else encodable(s.service),
            "network_namespace": None
            if space is None
            else {"inode": space.inode, "name": encodable(space.name) or None, "own": space.own},
        }


def _direction(said: DirectionResult) -> Json:
    return {"status": said.status.value, "reason": said.reason or None, "evidence": dict(said.evidence)}
