# SPDX-License-Identifier: BSD-2-Clause
"""A self-test as a list of test points, for the formats that are one: each direction of each suite, each scenario."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ktlsctl.model import Report, ScenarioResult, Status, TlsVersion
from ktlsctl.render.directions import Side, sides
from ktlsctl.render.strings import shown


@dataclass(frozen=True, slots=True)
class Point:
    """`what`: its name without the version, the same whatever came of it.  `accepted`: a known defect that shall not
    fail the run."""

    version: TlsVersion
    what: str
    datapath: str
    library: str
    status: Status
    reason: str
    evidence: Mapping[str, str] = field(default_factory=dict)
    accepted: bool = False

    @property
    def failed(self) -> bool:
        return self.status not in (Status.OK, Status.SKIP) and not self.accepted

    @property
    def title(self) -> str:
        return f"{self.version} {self.what}"


def points(report: Report) -> list[Point]:
    """As tested: the sessions' directions, TX before RX, then the scenarios."""
    return [*map(_of_side, sides(report.results)), *map(_of_scenario, report.scenarios)]


def _of_side(side: Side) -> Point:
    result = side.result
    what = side.title.partition(" ")[2]
    evidence = {name: shown(value) for name, value in side.said.evidence.items()}
    reason = "" if side.said.status is Status.OK else side.reason
    return Point(result.version, what, result.datapath, result.library, side.said.status, reason, evidence)


def _of_scenario(result: ScenarioResult) -> Point:
    evidence = {name: shown(value) for name, value in result.evidence.items()}
    if result.known:
        evidence = {"known": ", ".join(result.known), **evidence}
    reason = "" if result.status is Status.OK else f"{result.summary}: {result.reason}"
    what = f"{result.suite} {result.scenario}"
    return Point(
        result.version, what, result.datapath, result.library, result.status, reason, evidence, result.accepted
    )


def needs_verdict(report: Report) -> bool:
    """Whether a format that lists points must list the verdict, too, because no point says as much.

    So it is after an error or where nothing was tested, where a policy was not met, and where nothing was promised.
    """
    found = points(report)
    if report.errors or not found:
        return True
    return report.verdict.status is not Status.OK and not any(point.failed for point in found)
