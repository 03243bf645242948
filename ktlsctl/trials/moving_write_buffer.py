# SPDX-License-Identifier: BSD-2-Clause
"""moving-write-buffer: see scenarios/moving_write_buffer.py."""

from __future__ import annotations

from ktlsctl.libssl import SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER
from ktlsctl.scenarios.moving_write_buffer import RECORD, RECORDS, SHORT_BUFFER, Attempt, Facts
from ktlsctl.sessionfacts import Carried
from ktlsctl.stage import End, transfer
from ktlsctl.trials.ground import Ground

#: What the old memory is filled with.  The payload is noise, which has no run of this.
_MARK = b"\xee"
_RUN = _MARK * 64


def run(ground: Ground) -> Facts:
    before, carried_before = _attempt(ground, late=False)
    after, carried_after = _attempt(ground, late=True)
    return Facts(Carried.of_all((carried_before, carried_after)), RECORDS, before, after)


def _attempt(ground: Ground, *, late: bool) -> tuple[Attempt, Carried]:
    ends = server, client = ground.ends(ground.sockets(send_buffer=SHORT_BUFFER, receive_buffer=SHORT_BUFFER))
    if not late:
        server.session.allow(SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER)
    ground.handshake(ends)
    transfer(ends, ground.path, ground.deadline, b"?", b"!")
    if late:
        server.session.allow(SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER)
    sender, arrived = Sender(ground.noise(RECORDS * RECORD)), bytearray()

    def step() -> bool | None:
        # The receiver reads only when the sender has been held up: else the buffer never fills.
        moved = sender.send(server)
        while data := client.session.read_some(RECORD):
            arrived.extend(data)
            moved = True
        return len(arrived) >= len(sender.payload) or (False if moved else None)

    ground.drive(ends, "repeating writes from another address", step)
    stale, foreign = compare(sender.payload, bytes(arrived))
    return Attempt(sender.retries, stale, foreign), ground.carried(ends)


class Sender:
    """Writes a payload record by record out of two buffers that change places whenever a write found no room."""

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self.retries = self._sent = 0
        self._now, self._next = bytearray(payload[:RECORD]), bytearray(RECORD)

    def send(self, end: End) -> bool:
        """Write as long as the library takes it; whether anything moved."""
        moved = False
        while self._sent < len(self.payload):
            if not end.session.write_at(self._now, 0, RECORD):
                self._next[:] = self._now
                self._now[:] = _MARK * RECORD
                self._now, self._next = self._next, self._now
                self.retries += 1
                break
            self._sent += RECORD
            self._now[:] = self.payload[self._sent : self._sent + RECORD] or bytes(RECORD)
            moved = True
        return moved


def compare(sent: bytes, arrived: bytes) -> tuple[int, int]:
    """How many records arrived with the mark in them, and how many differ in another way."""
    stale = foreign = 0
    for at in range(0, max(len(sent), len(arrived)), RECORD):
        record = arrived[at : at + RECORD]
        if record != sent[at : at + RECORD]:
            marked = _RUN in record
            stale += marked
            foreign += not marked
    return stale, foreign
