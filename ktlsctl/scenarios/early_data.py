# SPDX-License-Identifier: BSD-2-Clause
"""early-data: 0-RTT, answered at once until there is no more room, while the session tickets are still to be sent."""

from __future__ import annotations

from dataclasses import dataclass

from ktlsctl.model import Status
from ktlsctl.scenarios.judgement import Judgement, fine, not_run, unexplained
from ktlsctl.sessionfacts import Carried

#: The answer's size, more than the buffers between the ends hold.
SIZE = 192 << 10
SHORT_BUFFER = 2304


@dataclass(frozen=True, slots=True)
class Facts:
    """`accepted`: the second connection resumed the first, and the server took its early data; else nothing follows.

    The answer went out by SSL_sendfile if TX was in the kernel by then (`sendfile`), else by SSL_write_early_data.
    `want_write`: calls for the answer that found no room.  `read_want_write`: calls of SSL_read, or of
    SSL_read_early_data before it, that asked for room before the client began to read.  `early_intact`,
    `answer_intact`, `late_intact`: what the client sent early, what the server answered, what the client sent after
    the handshake.
    """

    carried: Carried
    accepted: bool
    sendfile: bool = False
    want_write: int = 0
    read_want_write: int = 0
    early_intact: bool = False
    answer_intact: bool = False
    late_intact: bool = False


def judge(facts: Facts) -> Judgement:
    if not facts.accepted:
        return not_run(
            "0-RTT was not accepted",
            "no ticket, or one that does not allow early data: the library's configuration may forbid tickets",
            status=Status.UNKNOWN,
        )
    evidence = {
        "answered_by": "SSL_sendfile" if facts.sendfile else "SSL_write_early_data",
        "want_write": facts.want_write,
        "read_want_write": facts.read_want_write,
    }
    pieces = (
        ("early data", facts.early_intact),
        ("the answer", facts.answer_intact),
        ("data after the handshake", facts.late_intact),
    )
    broken = [what for what, intact in pieces if not intact]
    if broken:
        return unexplained(
            "bytes differ",
            f"not what was sent: {', '.join(broken)}",
            facts.carried,
            evidence=evidence,
            size=SIZE,
            intact=False,
        )
    if not facts.want_write:
        return not_run(
            "nothing proved",
            "there was room for the whole answer at once, so nothing stood in the tickets' way",
            status=Status.UNKNOWN,
            evidence=evidence,
        )
    summary = f"0-RTT accepted, {SIZE} bytes of answer intact"
    if facts.read_want_write:
        summary += (
            "; SSL_read says WANT_WRITE while tickets wait for room, as it may: an event loop must then wait for "
            "writability, and call SSL_read again"
        )
    return fine(summary, facts.carried, evidence=evidence, size=SIZE, intact=True)
