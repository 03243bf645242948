# SPDX-License-Identifier: BSD-2-Clause
"""short-buffers: see scenarios/short_buffers.py."""

from __future__ import annotations

import socket

from ktlsctl.libssl import SSL_MODE_ENABLE_PARTIAL_WRITE
from ktlsctl.scenarios.short_buffers import RECEIVE_BUFFER, SEND_BUFFER, SIZE, Facts, Flow
from ktlsctl.stage import WRITE_SIZES, End, Stream
from ktlsctl.trials.ground import Ground


def run(ground: Ground) -> Facts:
    pair = ground.sockets(send_buffer=SEND_BUFFER, receive_buffer=RECEIVE_BUFFER)
    ends = ground.ends(pair)
    for end in ends:
        end.session.allow(SSL_MODE_ENABLE_PARTIAL_WRITE)
    ground.handshake(ends)
    server, client = ends
    up, down = Sender(ground.noise(SIZE)), Sender(ground.noise(SIZE))

    def step() -> bool | None:
        moved = [up.send(client), down.send(server), up.stream.receive(server), down.stream.receive(client)]
        return (up.stream.done and down.stream.done) or (False if any(moved) else None)

    ground.drive(ends, "moving data through short buffers", step)
    return Facts(
        ground.carried(ends),
        SIZE,
        pair.server.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF),
        pair.server.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF),
        up.flow(),
        down.flow(),
    )


class Sender:
    """A stream sent with SSL_MODE_ENABLE_PARTIAL_WRITE, which takes what has gone and leaves the rest to us."""

    def __init__(self, payload: bytes) -> None:
        self.stream = Stream(payload)
        self.want_write = self.partial = 0
        self._size = self._turn = 0

    def send(self, end: End) -> bool:
        """Write as long as the library takes it; whether anything moved."""
        stream, moved = self.stream, False
        while stream.sent < len(stream.payload):
            # Until something is taken, the same bytes again: a retry may not be of another size or place.
            if not self._size:
                self._size = min(WRITE_SIZES[self._turn % len(WRITE_SIZES)], len(stream.payload) - stream.sent)
                self._turn += 1
            taken = end.session.write_at(stream.payload, stream.sent, self._size)
            if not taken:
                self.want_write += end.session.wants_write
                break
            self.partial += taken < self._size
            self._size = 0
            stream.sent += taken
            moved = True
        return moved

    def flow(self) -> Flow:
        return Flow(self.stream.intact, self.want_write, self.partial)
