# SPDX-License-Identifier: BSD-2-Clause
"""The self-test's scenarios for people: what they found, each finding once, and what there is to be run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ktlsctl.ciphers import bulk_cipher
from ktlsctl.model import Finding, ScenarioResult, Status
from ktlsctl.render.blocks import BODY
from ktlsctl.render.layout import Paint, wrapped
from ktlsctl.render.order import SEVERITY
from ktlsctl.render.strings import shown
from ktlsctl.scenarios.catalogue import CATALOGUE, SESSION

#: Longer names push their sentence to the right, and only their own.
NAME_WIDTH = 20


def scenarios(results: Iterable[ScenarioResult], paint: Paint, *, quiet: bool, verbose: bool) -> Iterator[str]:
    """Each finding once, worst first, with the versions and ciphers that it was met with."""
    groups: dict[tuple[object, ...], list[ScenarioResult]] = {}
    for result in sorted(results, key=lambda r: SEVERITY[r.status]):
        if not quiet or result.status not in (Status.OK, Status.SKIP):
            key = result.status, result.scenario, result.summary, result.reason, result.known, _carried(result)
            groups.setdefault(key, []).append(result)
    for group in groups.values():
        yield from _finding(group, paint, verbose=verbose)


def _finding(group: list[ScenarioResult], paint: Paint, *, verbose: bool) -> Iterator[str]:
    first = group[0]
    name = first.status.upper()
    lines = wrapped(first.summary, f"{name:<8}  {first.scenario:<{NAME_WIDTH}}  ", " " * (10 + NAME_WIDTH + 2))
    yield paint.head(first.status, lines[0], name)
    yield from lines[1:]
    if first.reason:
        yield from wrapped(first.reason, BODY)
    if first.known:
        yield from wrapped(", ".join(first.known) + (" (accepted)" if first.accepted else ""), f"{BODY}known as: ")
    elif first.finding is Finding.UNEXPLAINED:
        yield f"{BODY}not a known defect"
    yield from wrapped(f"{'; '.join(map(_with, group))}: {_carried(first)}", BODY)
    if verbose:
        for result in group:
            for key, value in result.evidence.items():
                yield from wrapped(f"{key}: {shown(value)}", f"{BODY}  ", f"{BODY}    ")


def _with(result: ScenarioResult) -> str:
    return f"{result.version} {bulk_cipher(result.suite)}"


def _carried(result: ScenarioResult) -> str:
    carried = [d.upper() for d, said in (("tx", result.tx), ("rx", result.rx)) if said.reason.find("user space") < 0]
    return f"{'+'.join(carried)} in the kernel" if carried else "in user space"


def catalogue_text() -> str:
    """What each scenario proves and how long it takes; ends with a newline."""
    lines = wrapped("a plain session of each suite, witnesses compared (default)", f"{SESSION:<{NAME_WIDTH}}  ")
    for each in CATALOGUE:
        when = f"({'default, ' if each.quick else ''}about {each.seconds:g} s a run)"
        lines += wrapped(f"{each.proves} {when}", f"{each.name:<{NAME_WIDTH}}  ")
    return "".join(f"{line}\n" for line in lines)
