# SPDX-License-Identifier: BSD-2-Clause
"""bulk: see scenarios/bulk.py."""

from __future__ import annotations

from ktlsctl.scenarios.bulk import SIZE, Facts
from ktlsctl.stage import WRITE_SIZES, transfer
from ktlsctl.trials.ground import Ground


def run(ground: Ground) -> Facts:
    ends = ground.session()
    up, down = transfer(ends, ground.path, ground.deadline, ground.noise(SIZE), ground.noise(SIZE))
    return Facts(ground.carried(ends), SIZE, WRITE_SIZES, up.intact, down.intact)
