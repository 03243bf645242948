# SPDX-License-Identifier: BSD-2-Clause
"""short-buffers: non-blocking, both ways at once, through the smallest buffers that a socket can have."""

from __future__ import annotations

from dataclasses import dataclass

from ktlsctl.model import Status
from ktlsctl.scenarios.judgement import Judgement, fine, not_run, unexplained
from ktlsctl.sessionfacts import Carried

#: Payload bytes each way: many times what the buffers hold, several records.
SIZE = 192 << 10
#: What is asked for.  Linux doubles both and allows no less (SOCK_MIN_SNDBUF, SOCK_MIN_RCVBUF in net/sock.h).
SEND_BUFFER = RECEIVE_BUFFER = 2304


@dataclass(frozen=True, slots=True)
class Flow:
    """One way.  `want_write`: writes that found no room, `partial`: those that took less than they were given."""

    intact: bool
    want_write: int
    partial: int


@dataclass(frozen=True, slots=True)
class Facts:
    """`up` is from the client to the server, `down` the other way; buffers in bytes as the system granted them."""

    carried: Carried
    bytes_each_way: int
    send_buffer: int
    receive_buffer: int
    up: Flow
    down: Flow


def judge(facts: Facts) -> Judgement:
    up, down = facts.up, facts.down
    evidence = {
        "send_buffer": facts.send_buffer,
        "receive_buffer": facts.receive_buffer,
        "want_write": up.want_write + down.want_write,
        "partial_writes": up.partial + down.partial,
    }
    size = facts.bytes_each_way
    broken = [way for way, flow in (("to the server", up), ("to the client", down)) if not flow.intact]
    if broken:
        return unexplained(
            "bytes differ",
            f"what arrived {' and '.join(broken)} through short buffers is not what was sent, and nothing said so",
            facts.carried,
            evidence=evidence,
            size=size,
            intact=False,
        )
    if not (up.want_write and down.want_write):
        return not_run(
            "nothing proved",
            "the send buffers were never full, so no write had to be repeated",
            status=Status.UNKNOWN,
            evidence=evidence,
        )
    return fine(
        f"{size} bytes each way intact through buffers of {facts.send_buffer} and {facts.receive_buffer} bytes, "
        f"{up.want_write + down.want_write} writes repeated",
        facts.carried,
        evidence=evidence,
        size=size,
        intact=True,
    )
