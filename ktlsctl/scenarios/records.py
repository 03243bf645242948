# SPDX-License-Identifier: BSD-2-Clause
"""records: what is no application data goes through the kernel too: tickets, close_notify, half-close."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass

from ktlsctl.scenarios.judgement import Judgement, fine, unexplained
from ktlsctl.sessionfacts import Carried

#: Tickets that the server is told to send (OpenSSL's default is 2).
TICKETS = 5
#: Payload bytes that one end sends after the other has closed.
SIZE = 64 << 10


@dataclass(frozen=True, slots=True)
class Tickets:
    """NewSessionTicket after a TLS 1.3 handshake.  `got`: those that the client's library accepted, `resumed`: whether
    a second session was resumed with the last of them."""

    got: int
    resumed: bool


@dataclass(frozen=True, slots=True)
class Close:
    """One end sends close_notify, the other goes on sending and then closes too.  `closer`: "server" or "client".

    `plain`: errno of two calls of recv(2) while close_notify was the next record, empty where the records are not the
    kernel's; `noticed`: SSL_read then said close_notify; `intact`: what the other end sent later; `answered`: its
    close_notify came back.
    """

    closer: str
    plain: tuple[int, ...]
    noticed: bool
    intact: bool
    answered: bool


@dataclass(frozen=True, slots=True)
class Facts:
    """`tickets`: None in TLS 1.2, whose ticket comes before the kernel has any key."""

    carried: Carried
    tickets: Tickets | None
    closes: tuple[Close, ...]


def _problems(facts: Facts) -> Iterator[str]:
    if facts.tickets is not None:
        if facts.tickets.got != TICKETS:
            yield f"{facts.tickets.got} of {TICKETS} tickets arrived"
        elif not facts.tickets.resumed:
            yield "no session could be resumed with a ticket that arrived"
    for close in facts.closes:
        other = "client" if close.closer == "server" else "server"
        if any(number != errno.EIO for number in close.plain):
            said = ", ".join(os.strerror(number) if number else "bytes" for number in close.plain)
            yield f"recv(2) at the {other} met close_notify and gave {said} instead of twice {os.strerror(errno.EIO)}"
        if not close.noticed:
            yield f"the {other} did not see the close_notify of the {close.closer}"
        if not close.intact:
            yield f"what the {other} sent after the {close.closer} had closed did not arrive as it was"
        if not close.answered:
            yield f"the {close.closer} did not see the close_notify that came back"


def judge(facts: Facts) -> Judgement:
    evidence: dict[str, str | tuple[str, ...]] = {
        "tickets": "none in this version" if facts.tickets is None else f"{facts.tickets.got} of {TICKETS}",
        "half_close": tuple(f"the {close.closer} closed first" for close in facts.closes if close.intact),
    }
    if any(close.plain for close in facts.closes):
        evidence["recv"] = "a plain recv(2) meets a control record: " + os.strerror(errno.EIO)
    problems = "; ".join(_problems(facts))
    if problems:
        return unexplained("control records go wrong", problems, facts.carried, evidence=evidence)
    tickets = "" if facts.tickets is None else f"{TICKETS} tickets, "
    return fine(
        f"{tickets}close_notify both ways, {SIZE} bytes after half-close: all intact",
        facts.carried,
        evidence=evidence,
        size=SIZE,
        intact=True,
    )
