# SPDX-License-Identifier: BSD-2-Clause
"""The directions of self-tested suites, in the words and in the order that every format gives them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ktlsctl.model import Direction, DirectionResult, SelftestResult, Status, TlsVersion
from ktlsctl.render.order import SEVERITY
from ktlsctl.render.strings import shown

_WORDS = {Status.OK: "kernel", Status.SKIP: "user space", Status.CRITICAL: "FAILED"}


@dataclass(frozen=True, slots=True)
class Side:
    """One direction of one suite."""

    result: SelftestResult
    direction: Direction
    said: DirectionResult

    @property
    def failed(self) -> bool:
        """Neither proved nor rightly in user space."""
        return self.said.status not in (Status.OK, Status.SKIP)

    @property
    def title(self) -> str:
        """ "TLSv1.2 ECDHE-ECDSA-AES128-GCM-SHA256 TX" """
        return f"{self.result.version} {self.result.suite} {self.direction.upper()}"

    @property
    def reason(self) -> str:
        return self.said.reason or self.result.reason or "no reason was given"

    @property
    def evidence(self) -> list[str]:
        """ "server.library: BIO_get_ktls says yes" """
        return [f"{name}: {shown(value)}" for name, value in self.said.evidence.items()]


def sides(results: Iterable[SelftestResult] | None) -> list[Side]:
    """As tested, TX before RX; nothing for a report without results."""
    return [Side(result, d, result.direction(d)) for result in results or () for d in Direction]


def word(said: DirectionResult) -> str:
    """kernel, user space, FAILED, unclear; a direction that no witness was asked about is "not asked"."""
    if said.status is Status.SKIP and not said.evidence:
        return "not asked"
    return _WORDS.get(said.status, "unclear")


def worst_first(results: Iterable[SelftestResult]) -> list[SelftestResult]:
    """By the worse of both directions; those alike stay in the order in which they were tested."""
    return sorted(results, key=lambda result: min(SEVERITY[result.tx.status], SEVERITY[result.rx.status]))


def where(some: Sequence[Side], everything: Sequence[Side]) -> str:
    """ "TLSv1.2 TX+RX: ECDHE-ECDSA-AES128-SHA; TLSv1.3 RX: every suite" """
    return "; ".join(_where(some, everything))


def _where(some: Sequence[Side], everything: Sequence[Side]) -> Iterator[str]:
    for version in TlsVersion:
        all_suites = {each.result.suite for each in everything if each.result.version is version}
        directions: dict[str, list[str]] = {}
        for each in some:
            if each.result.version is version:
                directions.setdefault(each.result.suite, []).append(each.direction.upper())
        alike: dict[str, list[str]] = {}
        for name, which in directions.items():
            alike.setdefault("+".join(dict.fromkeys(which)), []).append(name)
        for columns, names in alike.items():
            every = len(names) > 1 and set(names) == all_suites
            yield f"{version} {columns}: {'every suite' if every else ', '.join(names)}"
