# SPDX-License-Identifier: BSD-2-Clause
"""The TLS libraries of running processes for people: each library once, with what it can and the processes it is in.

80 columns, as the report of `check`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ktlsctl.model import Library, Reach, Report, Status, TlsProcess, Tri
from ktlsctl.render.blocks import errors, findings, head, joined, verdict
from ktlsctl.render.layout import WIDTH, Paint, table, wrapped
from ktlsctl.render.strings import each_string, plain

_CAN = {Tri.YES: "can do kTLS", Tri.NO: "no kTLS", Tri.UNKNOWN: "unknown"}
_STATUS = {Reach.NOW: Status.OK, Reach.COULD: Status.OK, Reach.NEVER: Status.SKIP, Reach.UNKNOWN: Status.UNKNOWN}


def render(report: Report, *, color: bool = False, quiet: bool = False, verbose: bool = False) -> str:
    """The report's text; ends with a newline.  `quiet`: what is wrong, and the verdict; `verbose`: with evidence."""
    report = each_string(report, plain)
    paint = Paint(color)
    blocks: tuple[Callable[[], Iterator[str]], ...] = (
        lambda: findings(report.checks, paint, quiet=quiet, verbose=verbose),
        lambda: errors(report),
        lambda: verdict(report, paint),
    )
    processes = report.processes or ()
    if not quiet:
        of_each = tuple(
            (lambda n=number, each=library: _library(n, each, processes, paint, verbose=verbose))
            for number, library in enumerate(report.libraries)
        )
        blocks = (lambda: head(report), *of_each, *blocks)
    return joined(block() for block in blocks)


def _library(
    number: int, library: Library, processes: Sequence[TlsProcess], paint: Paint, *, verbose: bool
) -> Iterator[str]:
    can = _CAN[library.built_with_ktls]
    status = {Tri.YES: Status.OK, Tri.NO: Status.SKIP, Tri.UNKNOWN: Status.UNKNOWN}[library.built_with_ktls]
    name = " ".join(library.version.split()[:2]) or library.family or "unknown library"
    if not name.startswith(library.family.split()[0] if library.family else name):
        name = f"{library.family} {name}"
    marks = [
        mark
        for mark, there in (
            (library.package, bool(library.package)),
            ("linked in", bool(library.static)),
            ("replaced or deleted on disk", bool(library.deleted)),
        )
        if there
    ]
    title = f"{name} ({', '.join(marks)})" if marks else name
    lines = wrapped(f"{can} - {title}", "")
    yield paint.head(status, lines[0], can)
    yield from lines[1:]
    yield f"  {library.path}"
    if library.reason:
        yield from wrapped(library.reason, "  ")
    if verbose and library.proof:
        yield from wrapped(library.proof, "  proof: ", "    ")
    if verbose and library.build_id:
        yield f"  build id: {library.build_id}"
    yield from _processes([p for p in processes if number in p.libraries])


def _processes(inside: Sequence[TlsProcess]) -> Iterator[str]:
    """One row for all processes of one name and state: a server has many workers."""
    groups: dict[tuple[str, Reach, str], list[TlsProcess]] = {}
    for process in inside:
        # what stands above, where this library is the only one
        told = process.ktls in (Reach.NEVER, Reach.UNKNOWN) and len(process.libraries) == 1
        reason = "" if process.ktls is Reach.NOW or told else process.reason
        groups.setdefault((process.name, process.ktls, reason), []).append(process)
    rows = [["process", "pid", "kTLS"]]
    for (name, reach, reason), members in groups.items():
        rows.append([name, _pids([m.pid for m in members]), _state(reach, reason, members)])
    left = WIDTH - 2 - sum(max(len(row[i]) for row in rows) + 2 for i in (0, 1))
    if left >= 24:
        rows = [[*row[:2], "\n".join(wrapped(row[2], width=left))] for row in rows]
    yield from table(rows, "  ")


def _pids(pids: Sequence[int]) -> str:
    shown = [str(pid) for pid in pids[:4]]
    return " ".join(shown) + (f" and {len(pids) - 4} more" if len(pids) > 4 else "")


def _state(reach: Reach, reason: str, members: Sequence[TlsProcess]) -> str:
    if reach is Reach.NOW:
        count = sum(m.sockets or 0 for m in members)
        return f"now: {count} socket{'' if count == 1 else 's'}"
    if reach is Reach.COULD:
        seen = "" if all(m.sockets is not None for m in members) else "; whether it has any now was not seen"
        return f"could: {reason}{seen}"
    return f"{reach}: {reason}" if reason else reach.value
