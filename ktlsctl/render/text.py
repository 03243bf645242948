# SPDX-License-Identifier: BSD-2-Clause
"""A report for people: worst finding first, the matrix at a glance, the verdict and the next command last.

80 columns; only a command or a path that is longer by itself runs over, because one that was cut cannot be copied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ktlsctl.model import AdvisoryNotice, Certainty, Library, Report
from ktlsctl.render.blocks import BODY, errors, findings, head, joined, remedy_lines, verdict
from ktlsctl.render.grid import grid, library_grid
from ktlsctl.render.layout import WIDTH, Paint, folded, table, wrapped
from ktlsctl.render.strings import each_string, plain


def render(report: Report, *, color: bool = False, quiet: bool = False, verbose: bool = False) -> str:
    """The report's text; ends with a newline.

    `quiet`: what is wrong, and the verdict.  `verbose`: evidence, every reason, every advisory, each library's own
    matrix.  States are always spelled out; `color` colours the words.
    """
    report = each_string(report, plain)
    paint = Paint(color)
    blocks: tuple[Callable[[], Iterator[str]], ...] = (
        lambda: findings(report.checks, paint, quiet=quiet, verbose=verbose),
        lambda: errors(report),
        lambda: verdict(report, paint),
    )
    if not quiet:
        blocks = (
            lambda: head(report),
            blocks[0],
            lambda: _matrix(report, verbose=verbose),
            lambda: _libraries(report, verbose=verbose),
            lambda: _advisories(report, verbose=verbose),
            lambda: _counters(report, verbose=verbose),
            *blocks[1:],
        )
    return joined(block() for block in blocks)


def _matrix(report: Report, *, verbose: bool) -> Iterator[str]:
    if report.matrix:
        yield "Who takes what (yes: kernel and library both)"
        yield from grid(report.matrix, verbose=verbose)


def _libraries(report: Report, *, verbose: bool) -> Iterator[str]:
    if not report.libraries:
        return
    yield "TLS libraries"
    rows = [["version", "has kTLS", "used by"]]
    for library in report.libraries:
        # "OpenSSL 3.0.22 2 Jun 2026": name and number; the date is for -v.
        version = " ".join(library.version.split()[:2]) or "unknown"
        rows.append([version, library.built_with_ktls.value, ", ".join(library.roles) or "-"])
    left = WIDTH - sum(max(map(len, column)) + 2 for column in zip(*rows, strict=True))
    paths = ("path", *(folded(library.path, left) for library in report.libraries))
    yield from table([[*row, path] for row, path in zip(rows, paths, strict=True)])
    if verbose:
        for library in report.libraries:
            yield ""
            yield from _library(library)


def _library(library: Library) -> Iterator[str]:
    yield library.path
    built = f"{library.built_with_ktls} ({library.proof})" if library.proof else library.built_with_ktls.value
    for name, value in (
        ("status", f"{library.status.upper()}: {library.reason}" if library.reason else library.status.upper()),
        ("version", library.version),
        ("origin", library.origin),
        ("package", library.package),
        ("libcrypto", library.libcrypto),
        ("configuration", library.config_file),
        ("has kTLS", built),
        ("on by default", library.enabled_by_default.value),
    ):
        if value:
            yield from wrapped(value, f"  {name:<13}  ")
    if library.cells:
        yield from library_grid(library)


def _advisories(report: Report, *, verbose: bool) -> Iterator[str]:
    if not report.advisories:
        return
    yield "Known defects (POSSIBLE: by version, which is only a hint: fixes are backported)"
    possible: dict[str, list[AdvisoryNotice]] = {}
    for notice in report.advisories:
        if notice.certainty is Certainty.PROVED:
            yield from _advisory(notice, "PROVED", verbose=verbose)
        else:
            possible.setdefault(notice.subject, []).append(notice)
    for subject, notices in possible.items():
        if verbose:
            for notice in notices:
                yield from _advisory(notice, "POSSIBLE", verbose=True)
        else:
            # One line and one step each: what is only possible must not bury what is wrong.
            many = f"{len(notices)} known defects" if len(notices) > 1 else "1 known defect"
            yield from wrapped(f"{subject}: {many}; -v shows what to do about each", "POSSIBLE  ")
            yield from remedy_lines(notices[0].remedy, "next: ")


def _advisory(notice: AdvisoryNotice, word: str, *, verbose: bool) -> Iterator[str]:
    yield from wrapped(f"{notice.id}: {notice.summary}", f"{word:<8}  ")
    yield from wrapped(notice.subject, BODY)
    if verbose:
        for name in ("affected", "fixed", "reference"):
            if value := getattr(notice, name):
                yield from wrapped(value, f"{BODY}{name}: ", f"{BODY}  ")
    yield from remedy_lines(notice.remedy, "next: ")


def _counters(report: Report, *, verbose: bool) -> Iterator[str]:
    if verbose and report.counters:
        yield "Counters"
        yield from table([[name, str(value)] for name, value in report.counters.items()])
