# SPDX-License-Identifier: BSD-2-Clause
"""The order in which people read findings: worst first, along the chain."""

from __future__ import annotations

from collections.abc import Iterable

from ktlsctl.model import CHAIN_ORDER, Check, Status

#: 0 first.
SEVERITY = {
    status: position
    for position, status in enumerate((Status.CRITICAL, Status.WARNING, Status.UNKNOWN, Status.OK, Status.SKIP))
}


def worst_first(checks: Iterable[Check]) -> list[Check]:
    """By severity, then by position in the chain; checks of one link keep their order."""
    return sorted(checks, key=lambda check: (SEVERITY[check.status], CHAIN_ORDER[check.link]))
