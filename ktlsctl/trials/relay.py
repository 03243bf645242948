# SPDX-License-Identifier: BSD-2-Clause
"""A relay between two TLS ends, in one process with them: whole TLS records, which can be changed on their way."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from ktlsctl.libssl import TlsError
from ktlsctl.stage import Deadline, End, Pair

#: Bytes of a record's header: type, version (2), length (2).
HEADER = 5
#: Seconds between two looks at sockets that said nothing: what a ring still has in flight moves in between.
_NAP = 0.01


class Lane:
    """One way through the relay.  `tamper` gets every whole record with its header, and what it returns goes on: the
    record, nothing, several, or anything else.

    While `held`, records are collected; `let` lets the first bytes of them go, in one write, and all of them go in one
    when it ends.  `cut`: forward no more than so many bytes from now on, and then end.
    """

    def __init__(self, source: socket.socket, target: socket.socket) -> None:
        self._source, self._target = source, target
        self._inbound, self._outbound = bytearray(), bytearray()
        self._ended = self._closed = False
        self.tamper: Callable[[bytes], bytes] = bytes
        self.held = False
        self.let = 0
        self.cut: int | None = None

    @property
    def listening(self) -> bool:
        return not self._ended

    @property
    def waiting(self) -> int:
        """Bytes of whole records, or of what `tamper` made of them, that have not left."""
        return len(self._outbound)

    def inject(self, data: bytes) -> None:
        """Send this too, behind what already waits."""
        self._outbound += data

    def pump(self) -> bool:
        """Move what can be moved; whether anything did."""
        return bool(self._take() | self._give())

    def _take(self) -> bool:
        moved = False
        while not self._ended:
            try:
                data = self._source.recv(65536)
            except BlockingIOError:
                break
            except ConnectionError:
                data = b""
            moved = True
            self._inbound += data
            self._ended = not data
            self._split()
        if self._ended and self._inbound:
            # What is left is no whole record: it goes as it is.
            self._outbound += self._inbound
            self._inbound.clear()
        return moved

    def _split(self) -> None:
        while len(self._inbound) >= HEADER:
            size = HEADER + int.from_bytes(self._inbound[3:5], "big")
            if len(self._inbound) < size:
                return
            record = bytes(self._inbound[:size])
            del self._inbound[:size]
            self._outbound += self.tamper(record)

    def _give(self) -> bool:
        if self._closed or (self.held and not self.let):
            return False
        if self.cut is not None and len(self._outbound) >= self.cut:
            del self._outbound[self.cut :]
            self._ended = True
        moved = False
        try:
            while self._outbound:
                sent = self._target.send(self._outbound[: self.let] if self.held else self._outbound)
                del self._outbound[:sent]
                moved = True
                if self.cut is not None:
                    self.cut -= sent
                if self.held:
                    self.let -= sent
                    if not self.let:
                        break
        except BlockingIOError:
            return moved
        except ConnectionError:
            # Nobody is there any more: what was meant for them is lost.
            self._ended = True
            self._outbound.clear()
        if self._ended and not self._outbound:
            self._closed = True
            with suppress(OSError):
                self._target.shutdown(socket.SHUT_WR)
            return True
        return moved


class Relay:
    """Two connections on loopback and what lies between: give `server` and `client` to the TLS ends."""

    def __init__(self) -> None:
        self._near, self._far = Pair(), Pair()
        self.server, self.client = self._near.server, self._far.client
        self.to_server = Lane(self._far.server, self._near.client)
        self.to_client = Lane(self._near.client, self._far.server)

    def pump(self) -> bool:
        """Move what can be moved, both ways; whether anything did."""
        return bool(self.to_server.pump() | self.to_client.pump())

    def drive(
        self, ends: tuple[End, ...], deadline: Deadline, doing: str, step: Callable[[], bool | None]
    ) -> None:  # fmt: skip
        """Pump and call `step` until it says True; None: nothing moved, wait.  Raises TlsError at the deadline."""
        while True:
            moved = self.pump()
            done = step()
            if done:
                return
            if deadline.left <= 0:
                raise TlsError(f"deadline passed while {doing}")
            if done is None and not moved:
                self._wait(ends)

    def shake_hands(self, ends: tuple[End, End], deadline: Deadline) -> None:
        """Handshake, and a byte each way: tickets are read, and RX is where it will be.  Raises TlsError."""

        def shake() -> bool | None:
            finished = [end.session.handshake() for end in ends]  # every end, whatever the first says
            return all(finished) or None

        self.drive(ends, deadline, "shaking hands through the relay", shake)
        for source, target in (ends, ends[::-1]):
            self.drive(ends, deadline, "writing a byte", partial(_wrote, source))
            self.drive(ends, deadline, "reading a byte", partial(_read, target))

    def settle(self, ends: tuple[End, ...], deadline: Deadline) -> None:
        """Pump until nothing has moved for a while.  Raises TlsError at the deadline."""
        quiet = 0
        while quiet < 2:
            if deadline.left <= 0:
                raise TlsError("deadline passed while the relay emptied itself")
            quiet = 0 if self.pump() else quiet + 1
            if quiet:
                self._wait(ends)

    def close(self) -> None:
        self._near.close()
        self._far.close()

    def _wait(self, ends: tuple[End, ...]) -> None:
        poll = select.poll()
        for lane, sock in ((self.to_client, self._near.client), (self.to_server, self._far.server)):
            if lane.listening:
                poll.register(sock, select.POLLIN)
        for end in ends:
            if end.sock.fileno() >= 0:
                poll.register(end.sock, select.POLLIN | (select.POLLOUT if end.session.wants_write else 0))
        poll.poll(_NAP * 1000)


def _wrote(end: End) -> bool | None:
    return end.session.write_at(b"?", 0, 1) > 0 or None


def _read(end: End) -> bool | None:
    return bool(end.session.read_some(1)) or None


def flipped(record: bytes, at: int) -> bytes:
    """The record with one bit of one byte changed; `at` may count from the end, and lies within."""
    changed = bytearray(record)
    changed[at] ^= 0x01
    return bytes(changed)


def resized(record: bytes, size: int) -> bytes:
    """The record cut, or filled with zeros, to a body of `size` bytes, and its header says so."""
    body = record[HEADER : HEADER + size].ljust(size, b"\0")
    return record[:3] + size.to_bytes(2, "big") + body
