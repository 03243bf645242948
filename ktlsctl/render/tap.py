# SPDX-License-Identifier: BSD-2-Clause
"""A self-test in the Test Anything Protocol: one test point for each suite and direction and for
each scenario.

https://testanything.org/tap-version-14-specification.html.  It says version 13, of which it uses nothing that 14 has
changed: the `prove` of perl 5.36 (Debian 12) fails every stream that says 14.  The stream fails exactly when the
verdict is not ok, so that `prove` and the exit status never disagree.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from ktlsctl import __version__
from ktlsctl.model import Report, Status
from ktlsctl.render.points import Point, needs_verdict, points
from ktlsctl.render.strings import each_string, plain


def render(report: Report) -> str:
    """The stream; ends with a newline."""
    return "".join(f"{line}\n" for line in _lines(each_string(report, plain)))


def _lines(report: Report) -> Iterator[str]:
    verdict = report.verdict
    found = points(report)
    extra = needs_verdict(report)
    yield "TAP version 13"
    yield f"1..{len(found) + extra}"
    for number, each in enumerate(found, 1):
        yield from _point(number, each)
    if extra:
        yield f"not ok {len(found) + 1} - verdict"
        yield from _block({"message": verdict.summary, "status": verdict.status.value})
    yield _comment(f"ktlsctl {__version__}")
    for library in dict.fromkeys(each.library for each in found):
        yield _comment(f"library: {library}")
    yield _comment(f"verdict: {verdict.status.upper()} - {verdict.summary}")
    for remedy in verdict.remedy:
        yield _comment(f"next: {remedy.text if remedy.command is None else remedy.command}")
    # It ends the stream: nothing after it is read.
    if report.errors or not found:
        yield f"Bail out! {_escaped(report.errors[0] if report.errors else verdict.summary)}"


def _point(number: int, each: Point) -> Iterator[str]:
    # The same words whatever came of it: a name that changed with the result would be another test to its reader.
    said = " in the kernel" if each.what.endswith((" TX", " RX")) else ""
    name = _escaped(f"{each.title}{said} ({each.datapath})")
    if each.status in (Status.OK, Status.SKIP):
        skip = f" # SKIP {_escaped(each.reason)}" if each.status is Status.SKIP else ""
        yield f"ok {number} - {name}{skip}"
        return
    # A test that is marked "to do" may fail without failing the stream.
    todo = " # TODO a known defect, accepted" if each.accepted else ""
    yield f"not ok {number} - {name}{todo}"
    yield from _block({"message": each.reason, "status": each.status.value}, each.evidence)


def _block(members: Mapping[str, str], evidence: Mapping[str, str] | None = None) -> Iterator[str]:
    """A YAML diagnostic block.  Every string is quoted as JSON has it, which YAML reads alike."""
    yield "  ---"
    for name, text in members.items():
        yield f"  {name}: {_quoted(text)}"
    if evidence:
        yield "  evidence:"
        for name, text in evidence.items():
            yield f"    {_quoted(name)}: {_quoted(text)}"
    yield "  ..."


def _quoted(text: str) -> str:
    # Not escaped to ASCII: a character beyond the 16-bit plane would become two surrogates, which YAML does not join.
    return json.dumps(text, ensure_ascii=False)


def _comment(text: str) -> str:
    return f"# {text}"


def _escaped(text: str) -> str:
    """A hash would begin a directive, a backslash an escape."""
    return text.replace("\\", "\\\\").replace("#", "\\#")
