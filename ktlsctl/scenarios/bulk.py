# SPDX-License-Identifier: BSD-2-Clause
"""bulk: much data each way, in writes of every size around a record's edge."""

from __future__ import annotations

from dataclasses import dataclass

from ktlsctl.scenarios.judgement import Judgement, fine, unexplained
from ktlsctl.sessionfacts import Carried

#: Payload bytes each way.
SIZE = 16 << 20


@dataclass(frozen=True, slots=True)
class Facts:
    """`up` is from the client to the server, `down` the other way; `sizes` the write sizes used."""

    carried: Carried
    bytes_each_way: int
    sizes: tuple[int, ...]
    up_intact: bool
    down_intact: bool


def judge(facts: Facts) -> Judgement:
    evidence = {"write_sizes": tuple(str(size) for size in facts.sizes)}
    intact = facts.up_intact and facts.down_intact
    size = facts.bytes_each_way
    if intact:
        return fine(f"{size} bytes each way intact", facts.carried, evidence=evidence, size=size, intact=True)
    broken = [
        way for way, ok in (("to the server", facts.up_intact), ("to the client", facts.down_intact)) if not ok
    ]  # fmt: skip
    return unexplained(
        "bytes differ",
        f"what arrived {' and '.join(broken)} is not what was sent, and nothing said so",
        facts.carried,
        evidence=evidence,
        size=size,
        intact=False,
    )
