# SPDX-License-Identifier: BSD-2-Clause
"""The blocks of text that the check's and the self-test's reports share: head, findings, errors, verdict.

Each yields lines of at most 80 columns.  What they are given has been through `strings.plain` already.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ktlsctl import __version__
from ktlsctl.model import Check, Os, Remedy, Report, Status
from ktlsctl.render.layout import Paint, shortened, wrapped
from ktlsctl.render.order import worst_first
from ktlsctl.render.strings import shown

#: Under the status word.
BODY = " " * 10

#: An id that is longer pushes its summary to the right, and only its own.
ID_WIDTH = 24

_NAMES = {Os.LINUX: "Linux", Os.FREEBSD: "FreeBSD"}


def joined(blocks: Iterable[Iterable[str]]) -> str:
    """The text: blocks of lines, an empty line between them, empty blocks left out; ends with a newline."""
    texts = ["\n".join(block) for block in blocks]
    return "\n\n".join(text for text in texts if text) + "\n"


def head(report: Report) -> Iterator[str]:
    """Who was asked, and by whom."""
    about = report.about
    who = "as root" if about.privileged else "without root"
    if report.source == "live":
        yield f"ktlsctl {__version__}, run {who}"
    else:
        yield from wrapped(f"judging a {report.source}, made {who}", f"ktlsctl {__version__}, ")
    kernel = f"{_NAMES[about.os]} {about.release}"
    parts = (about.distribution, kernel) if not about.distribution.startswith(kernel) else (about.distribution,)
    yield from wrapped(", ".join(part for part in (*parts, about.machine) if part))


def findings(checks: Iterable[Check], paint: Paint, *, quiet: bool, verbose: bool) -> Iterator[str]:
    """Worst first; `quiet`: only what is wrong; `verbose`: with evidence, whole notes and advice."""
    checks = [c for c in worst_first(checks) if not quiet or c.status not in (Status.OK, Status.SKIP)]
    width = min(ID_WIDTH, max((len(check.id) for check in checks), default=0))
    for check in checks:
        yield from _finding(check, paint, width, verbose=verbose)


def _finding(check: Check, paint: Paint, width: int, *, verbose: bool) -> Iterator[str]:
    word = check.status.upper()
    lines = wrapped(check.summary, f"{word:<8}  {check.id:<{width}}  ", " " * (10 + width + 2))
    yield paint.head(check.status, lines[0], word)
    yield from lines[1:]
    wrong = check.status not in (Status.OK, Status.SKIP)
    if check.reason and (wrong or verbose):
        yield from wrapped(check.reason, BODY)
    elif check.reason:
        yield shortened(check.reason, BODY)
    if verbose:
        for name, value in check.evidence.items():
            yield from wrapped(shown(value), f"{BODY}{name}: ", f"{BODY}  ")
    if wrong or verbose:
        for remedy in check.remedy:
            yield from remedy_lines(remedy, "fix: " if wrong else "advice: ")


def remedy_lines(remedy: Remedy, label: str) -> Iterator[str]:
    """The sentence behind its label, the command on a line of its own, whole."""
    yield from wrapped(remedy.text, f"{BODY}{label}")
    if remedy.command is not None:
        yield f"{BODY}{' ' * len(label)}{remedy.command}"


def errors(report: Report) -> Iterator[str]:
    """What kept the run from doing what it was told."""
    for error in report.errors:
        yield from wrapped(error, "Error: ")


def verdict(report: Report, paint: Paint) -> Iterator[str]:
    """The last block: the state, the first broken link, what to type next."""
    said = report.verdict
    lead, word = "Verdict: ", said.status.upper()
    lines = wrapped(f"{word} - {said.summary}", lead)
    yield lead + paint.head(said.status, lines[0][len(lead) :], word)
    yield from lines[1:]
    if said.first_broken is not None:
        link = next((check.link for check in report.checks if check.id == said.first_broken), None)
        yield f"First broken link: {link} ({said.first_broken})" if link else f"First: {said.first_broken}"
    label = "Next: "
    for remedy in said.remedy:
        # The sentence stands under the finding; the end is for typing.
        yield from wrapped(remedy.text, label) if remedy.command is None else [f"{label}{remedy.command}"]
        label = " " * len(label)
