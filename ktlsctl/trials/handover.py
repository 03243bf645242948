# SPDX-License-Identifier: BSD-2-Clause
"""handover: see scenarios/handover.py."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from ktlsctl import datapath
from ktlsctl.libssl import Memory, TlsError
from ktlsctl.scenarios.handover import SIZE, Facts, Move
from ktlsctl.stage import End, Pair, Stream
from ktlsctl.trials.ground import Ground, NotHere

_PIECE = 64 << 10  # a pipe's capacity, four records

# linux/tls.h
_SOL_TLS, _TLS_GET_RECORD_TYPE = 282, 2


class Mover(Protocol):
    """Plaintext on a socket, past OpenSSL.  Raises OSError, BlockingIOError for "not now"."""

    @property
    def calls(self) -> int: ...

    def send(self, fd: int, data: bytes, offset: int, size: int) -> int: ...

    def splice(self, source: int, offset: int | None, target: int, size: int) -> int: ...

    def receive(self, fd: int, room: bytearray) -> tuple[int, int]: ...


class ByRing:
    """Over an io_uring of its own."""

    def __init__(self, ring: datapath.Ring) -> None:
        self._ring = ring
        self.send, self.splice, self.receive = ring.send, ring.splice, ring.receive

    @property
    def calls(self) -> int:
        return self._ring.enters


class ByCall:
    """By system calls."""

    def __init__(self) -> None:
        self._calls = 0

    @property
    def calls(self) -> int:
        return self._calls

    def send(self, fd: int, data: bytes, offset: int, size: int) -> int:
        self._calls += 1
        with socket.socket(fileno=os.dup(fd)) as sock:
            return sock.send(memoryview(data)[offset : offset + size], socket.MSG_DONTWAIT)

    def splice(self, source: int, offset: int | None, target: int, size: int) -> int:
        self._calls += 1
        if sys.platform != "linux":
            raise NotHere("splice is Linux's")
        return os.splice(source, target, size, offset_src=offset, flags=2)  # SPLICE_F_NONBLOCK

    def receive(self, fd: int, room: bytearray) -> tuple[int, int]:
        self._calls += 1
        with socket.socket(fileno=os.dup(fd)) as sock:
            got, messages, _, _ = sock.recvmsg_into([room], socket.CMSG_SPACE(1), socket.MSG_DONTWAIT)
        types = [data[0] for level, kind, data in messages if (level, kind) == (_SOL_TLS, _TLS_GET_RECORD_TYPE)]
        return got, types[0] if types else -1


def run(ground: Ground) -> Facts:
    if sys.platform != "linux":
        raise NotHere("splice and io_uring are Linux's")
    ends = ground.session()
    carried = ground.carried(ends)
    if not carried:
        raise NotHere("neither direction is in the kernel, so only OpenSSL can read and write the records")
    server, client = ends
    mover = _mover(ground)
    types: list[int] = []
    closed = "the kernel does not send here"
    direct = Receiver(mover, client, types) if carried.client_rx else None
    if carried.server_tx:
        send = _move(ground, "send", ends, mover, _sender(ground, mover, server), direct)
        splice = _move(ground, "splice", ends, mover, _splicer(ground, mover, server), direct)
    else:
        send, splice = Move("send", None, absent=closed), Move("splice", None, absent=closed)
    if direct is not None:
        # The alert that ends the session: a record of another type, which only a control message can tell.
        ground.drive(ends, "closing", lambda: (server.session.shutdown(), direct.alert())[1] or None)
    return Facts(carried, send, splice, _by_memory(ground), tuple(dict.fromkeys(types)))


def _mover(ground: Ground) -> Mover:
    if ground.path is None:
        return ByCall()
    ring = datapath.open_ring()
    if isinstance(ring, datapath.NoRing):
        return ByCall()
    return ByRing(ground.closing(ring))


class Receiver:
    """The client's end, past OpenSSL."""

    def __init__(self, mover: Mover, end: End, types: list[int]) -> None:
        self._mover = mover
        self._end = end
        self._room = bytearray(_PIECE)
        self._types = types

    def take(self, stream: Stream) -> bool:
        """What has arrived; whether anything had."""
        try:
            got, kind = self._mover.receive(self._end.sock.fileno(), self._room)
        except BlockingIOError:
            return False
        self._types.append(kind)
        stream.arrived(bytes(self._room[:got]))
        return got > 0

    def alert(self) -> bool:
        with suppress(BlockingIOError):
            _, kind = self._mover.receive(self._end.sock.fileno(), self._room)
            self._types.append(kind)
            return True
        return False


def _move(
    ground: Ground,
    name: str,
    ends: tuple[End, End],
    mover: Mover,
    push: tuple[bytes, Callable[[int], int]],
    direct: Receiver | None,
) -> Move:
    """SIZE bytes from the server to the client; `push(sent)` gives how many more went out, 0 for none."""
    payload, more = push
    stream = Stream(payload)
    calls = [0, 0]

    def step() -> bool | None:
        before = mover.calls
        pushed = more(stream.sent) if stream.sent < SIZE else 0
        stream.sent += pushed
        calls[0] += mover.calls - before
        before = mover.calls
        arrived = direct.take(stream) if direct is not None else stream.receive(ends[1])
        calls[1] += mover.calls - before
        return stream.done or (False if pushed or arrived else None)

    ground.drive(ends, f"moving data by {name}", step)
    return Move(name, stream.intact, calls[0], None if direct is None else calls[1])


def _sender(ground: Ground, mover: Mover, end: End) -> tuple[bytes, Callable[[int], int]]:
    payload = ground.noise(SIZE)

    def more(sent: int) -> int:
        try:
            return mover.send(end.sock.fileno(), payload, sent, min(_PIECE, SIZE - sent))
        except BlockingIOError:
            return 0

    return payload, more


def _splicer(ground: Ground, mover: Mover, end: End) -> tuple[bytes, Callable[[int], int]]:
    payload = ground.noise(SIZE)
    file = ground.file(payload)
    source, target = os.pipe()
    for fd in (source, target):
        ground.closing(_Descriptor(fd))
    held = [0]

    def more(sent: int) -> int:
        moved = 0
        try:
            if not held[0]:
                held[0] = mover.splice(file, sent, target, min(_PIECE, SIZE - sent))
            moved = mover.splice(source, None, end.sock.fileno(), held[0])
            held[0] -= moved
        except BlockingIOError:
            pass
        return moved

    return payload, more


class _Descriptor:
    def __init__(self, fd: int) -> None:
        self._fd = fd

    def close(self) -> None:
        os.close(self._fd)


def _by_memory(ground: Ground) -> Move:
    """The way of a program that keeps OpenSSL off the socket: two memory BIOs, records carried by hand."""
    pair: Pair = ground.sockets()
    payload = ground.noise(SIZE)
    stream = Stream(payload)
    calls, copied = [0, 0], 0
    server: Memory = ground.closing(Memory(ground.contexts[0], ground.version, ground.suite))
    client: Memory = ground.closing(Memory(ground.contexts[1], ground.version, ground.suite))
    while not all([client.handshake(), server.handshake()]) and ground.deadline.left > 0:
        server.put(client.take())
        client.put(server.take())
    backlog = bytearray()
    while not stream.done:
        if ground.deadline.left <= 0:
            raise TlsError("deadline passed while moving data by memory BIOs")
        if not backlog and stream.sent < SIZE:
            size = min(_PIECE, SIZE - stream.sent)
            server.write(payload[stream.sent : stream.sent + size])
            stream.sent += size
            backlog += server.take()
            copied += len(backlog)
        with suppress(BlockingIOError):
            if backlog:
                calls[0] += 1
                del backlog[: pair.server.send(backlog)]
        with suppress(BlockingIOError):
            calls[1] += 1
            wire = pair.client.recv(_PIECE)
            client.put(wire)
            copied += len(wire)
        while data := client.read():
            stream.arrived(data)
    return Move("memory BIOs", stream.intact, calls[0], calls[1], copied)
