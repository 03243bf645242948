# SPDX-License-Identifier: BSD-2-Clause
"""handover: after the handshake a program leaves OpenSSL aside and moves plaintext on the socket itself.

The way to no copy in user space: send from where the data lies, splice from a file, receive with record types.
"""

from __future__ import annotations

from dataclasses import dataclass

from ktlsctl.scenarios.judgement import Judgement, fine, unexplained
from ktlsctl.sessionfacts import Carried

#: Payload bytes of each way of moving them.
SIZE = 2 << 20
APPLICATION_DATA, ALERT = 23, 21


@dataclass(frozen=True, slots=True)
class Move:
    """One way of moving SIZE bytes.  Calls: system calls, None where OpenSSL received; `copied`: bytes that the
    program itself moved from one buffer of its own to another.  `intact` None: this way was not open (`absent`)."""

    name: str
    intact: bool | None
    sender_calls: int = 0
    receiver_calls: int | None = 0
    copied: int = 0
    absent: str = ""

    @property
    def shown(self) -> str:
        if self.intact is None:
            return f"not open: {self.absent}"
        per_mib = SIZE >> 20
        said = "intact" if self.intact else "DIFFERENT BYTES"
        calls = f"{self.sender_calls / per_mib:.1f} calls to send"
        if self.receiver_calls is not None:
            calls += f", {self.receiver_calls / per_mib:.1f} to receive"
        return f"{said}; per MiB {calls}, {self.copied // per_mib} bytes copied in user space"


@dataclass(frozen=True, slots=True)
class Facts:
    """`memory`: the same payload through two memory BIOs in user space, to compare with.  `record_types`: those that
    the direct receiver saw, in order; empty where it could not receive."""

    carried: Carried
    send: Move
    splice: Move
    memory: Move
    record_types: tuple[int, ...]


def judge(facts: Facts) -> Judgement:
    moves = facts.send, facts.splice, facts.memory
    evidence: dict[str, str | int | tuple[str, ...]] = {move.name: move.shown for move in moves}
    evidence["record_types"] = tuple(map(str, facts.record_types))
    open_ones = [move for move in moves if move.intact is not None]
    intact = all(move.intact for move in open_ones)
    wrong = [move.name for move in open_ones if not move.intact]
    if wrong:
        return unexplained(
            "bytes differ", f"what {', '.join(wrong)} moved is not what arrived", facts.carried,
            evidence=evidence, size=SIZE, intact=False,
        )  # fmt: skip
    if facts.record_types and facts.record_types != (APPLICATION_DATA, ALERT):
        return unexplained(
            "record types are wrong",
            f"application data and a close_notify were sent, the receiver saw {facts.record_types}",
            facts.carried,
            evidence=evidence,
            size=SIZE,
            intact=intact,
        )
    direct = " and ".join(move.name for move in (facts.send, facts.splice) if move.intact)
    return fine(f"{direct} intact without OpenSSL", facts.carried, evidence=evidence, size=SIZE, intact=intact)
