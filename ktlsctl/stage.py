# SPDX-License-Identifier: BSD-2-Clause
"""What sessions stand on: two sockets on loopback, a datapath, two TLS ends, a deadline, payloads on their way.

The child's side of the self-test: everything here meets the library under test.  session.py and trials/ drive it.
"""

from __future__ import annotations

import errno
import importlib
import random
import select
import socket
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

from ktlsctl import datapath, freebsdkernel
from ktlsctl.facts import ktlsgauges, tlsstat
from ktlsctl.libssl import Context, Libssl, TlsError
from ktlsctl.libsslfile import Unusable
from ktlsctl.model import Direction
from ktlsctl.sessionfacts import Handover, Way

MAX_RECORD = 16384
#: Write sizes around the record's edge come first; the rest of the payload follows in these, over and over.
WRITE_SIZES = (1, MAX_RECORD - 1, MAX_RECORD, MAX_RECORD + 1, 777, 3 * MAX_RECORD, 4 * MAX_RECORD + 1)

_PIECE = 1 << 24


#: What an OSError says when this host, not kernel TLS or the library, was in the way: limits, memory, space, rights,
#: what a sandbox forbids (seccomp answers ENOSYS or EPERM), RLIMIT_FSIZE, no port left.
_HOSTS_TROUBLE = frozenset(
    {
        errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN, errno.ENOSPC, errno.EROFS, errno.EPERM,
        errno.EACCES, errno.ENOENT, errno.ENOSYS, errno.EFBIG, errno.EADDRNOTAVAIL,
    }
)  # fmt: skip


def hosts_trouble(error: BaseException) -> bool:
    """Whether this says nothing of kernel TLS or the library: then it could not be tried."""
    return isinstance(error, OSError) and error.errno in _HOSTS_TROUBLE


class Road:
    """The datapath of one session: a ring and the custom BIO's home, or neither for OpenSSL's own socket BIO."""

    def __init__(
        self,
        ring: datapath.Ring | None,
        path: datapath.Datapath | None,
        reason: str,
        library: datapath.Library | None = None,
    ) -> None:
        self._ring = ring
        self._library = library
        self.path = path
        #: why there is no io_uring; empty where there is
        self.reason = reason
        self.name = Way.SOCKET if path is None else Way.IO_URING

    @staticmethod
    def open(libssl: Libssl, way: Way) -> Road:
        if way is Way.SOCKET:
            return Road(None, None, "the socket datapath was asked for")
        ring = datapath.open_ring()
        if isinstance(ring, datapath.NoRing):
            return Road(None, None, str(ring))
        library = datapath.Library(libssl.addresses(datapath.SYMBOLS))
        return Road(ring, datapath.Datapath(library, ring), "", library)

    def close(self) -> None:
        if self.path is not None:
            self.path.close()
        if self._ring is not None:
            self._ring.close()
        if self._library is not None:
            self._library.close()


class Pair:
    """Two ends of one TCP connection over loopback, non-blocking; closed by `close()`.

    The sizes of both ends' buffers are those of SO_SNDBUF and SO_RCVBUF in bytes, which Linux doubles.  They are set
    before the connection is made: a window once announced is not taken back, and what it lets in is thrown away.
    """

    def __init__(self, send_buffer: int | None = None, receive_buffer: int | None = None) -> None:
        sizes = ((socket.SO_SNDBUF, send_buffer), (socket.SO_RCVBUF, receive_buffer))
        with socket.create_server(("127.0.0.1", 0), backlog=8) as listener:
            # What it accepts inherits its sizes.
            _size(listener, sizes)
            listener.settimeout(5)
            while True:
                self.client = socket.socket()
                _size(self.client, sizes)
                self.client.settimeout(5)
                self.client.connect(listener.getsockname())
                self.server, peer = listener.accept()
                if peer == self.client.getsockname():
                    break
                # Somebody else on this host was quicker: not our connection.
                self.client.close()
                self.server.close()
        for end in (self.client, self.server):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        self.client.close()
        self.server.close()


def _size(sock: socket.socket, sizes: Iterable[tuple[int, int | None]]) -> None:
    for option, size in sizes:
        if size is not None:
            sock.setsockopt(socket.SOL_SOCKET, option, size)


class End:
    """One TLS end on a socket, over the custom BIO of `path` or, without one, over OpenSSL's own socket BIO."""

    def __init__(self, context: Context, sock: socket.socket, path: datapath.Datapath | None) -> None:
        self.sock = sock
        self.bio = None if path is None else path.bio(sock.fileno())
        self.session = context.unbound()
        if self.bio is None:
            self.session.set_fd(sock.fileno())
        else:
            self.bio.attach(self.session.address)

    def force(self, version: str, suite: str) -> None:
        """Allow this version and suite only.  Raises Unusable where the library's configuration forbids them, which is
        no failure of a session."""
        try:
            self.session.force(version, suite)
        except TlsError as error:
            raise Unusable("configuration", f"{suite}: {error}") from None

    def close(self) -> None:
        # In this order: an operation in flight pins the file, and the peer would see no FIN.
        if self.bio is not None:
            self.bio.close()
        self.session.free()
        self.sock.close()

    @property
    def wants_write(self) -> bool:
        """A read that came after a write that found no room must not hide it: nobody else would wake this end."""
        return self.session.wants_write or self.session.full

    def handover(self, direction: Direction) -> Handover | None:
        if self.bio is None:
            return None
        for event in self.bio.events():
            if event.direction is direction:
                return Handover(event.step.value, event.accepted, event.errno, event.leftover)
        return None


class Deadline:
    def __init__(self, seconds: float) -> None:
        self._at = time.monotonic() + seconds

    @property
    def left(self) -> float:
        return self._at - time.monotonic()


def wait(ends: tuple[End, ...], path: datapath.Datapath | None, deadline: Deadline, doing: str) -> None:
    """Until one of the ends may go on.  Raises TlsError at the deadline."""
    left = deadline.left
    if left <= 0:
        raise TlsError(f"deadline passed while {doing}")
    if path is not None:
        path.wait([(e.bio, True, e.wants_write) for e in ends if e.bio is not None], min(left, 1.0))
        return
    poll = select.poll()
    for end in ends:
        poll.register(end.sock, select.POLLIN | (select.POLLOUT if end.wants_write else 0))
    poll.poll(min(left, 1.0) * 1000)


def drive(
    ends: tuple[End, ...],
    path: datapath.Datapath | None,
    deadline: Deadline,
    doing: str,
    step: Callable[[], bool | None],
) -> None:
    """Call `step` until it says True; None means that nothing moved, so that waiting is due.

    Raises TlsError at the deadline, also while data moves.
    """
    while True:
        done = step()
        if done:
            return
        if deadline.left <= 0:
            raise TlsError(f"deadline passed while {doing}")
        if done is None:
            wait(ends, path, deadline, doing)


def handshake(ends: tuple[End, ...], path: datapath.Datapath | None, deadline: Deadline) -> None:
    def step() -> bool | None:
        finished = [end.session.handshake() for end in ends]  # every end, whatever the first says
        return all(finished) or None

    drive(ends, path, deadline, "shaking hands", step)


def noise(source: random.Random, size: int) -> bytes:
    """`size` bytes that compress badly.  In pieces: CPython 3.11 makes no more than 2^31 bits at once."""
    pieces = (source.randbytes(min(_PIECE, size - at)) for at in range(0, size, _PIECE))
    return b"".join(pieces)


class Stream:
    """A payload on its way: how far the sender is, what the receiver has hashed."""

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self.sent = 0
        self.records = 0
        self.received = 0
        self._turn = 0
        self._hash = sha256()

    def send(self, end: End) -> bool:
        """Write as long as the library takes it; whether anything moved."""
        moved = False
        while self.sent < len(self.payload):
            size = min(WRITE_SIZES[self._turn % len(WRITE_SIZES)], len(self.payload) - self.sent)
            # The same address and length on every retry: OpenSSL asks for it, and 3.0 with kernel TX corrupts data
            # silently when a retry comes from elsewhere (openssl issue 21202).
            if not end.session.write_at(self.payload, self.sent, size):
                break
            self._turn += 1
            self.sent += size
            self.records += -(-size // MAX_RECORD)
            moved = True
        return moved

    def receive(self, end: End) -> bool:
        moved = False
        while self.received < len(self.payload):
            data = end.session.read_some(MAX_RECORD * 2)
            if not data:
                break
            self.arrived(data)
            moved = True
        return moved

    def arrived(self, data: bytes) -> None:
        self._hash.update(data)
        self.received += len(data)

    @property
    def done(self) -> bool:
        return self.sent == len(self.payload) and self.received >= len(self.payload)

    @property
    def intact(self) -> bool:
        expected = sha256()
        expected.update(self.payload)
        return self.received == len(self.payload) and self._hash.digest() == expected.digest()


def transfer(
    ends: tuple[End, End], path: datapath.Datapath | None, deadline: Deadline, up: bytes, down: bytes
) -> tuple[Stream, Stream]:
    """`up` from the client (ends[1]) to the server, `down` the other way, at the same time."""
    server, client = ends
    to_server, to_client = Stream(up), Stream(down)

    def step() -> bool | None:
        moved = [
            to_server.send(client), to_client.send(server), to_server.receive(server), to_client.receive(client)
        ]  # fmt: skip
        return (to_server.done and to_client.done) or (False if any(moved) else None)

    drive(ends, path, deadline, "moving data", step)
    return to_server, to_client


@cache
def _sha256_module() -> Any:
    try:
        return importlib.import_module("_sha2")  # 3.12 and later
    except ImportError:
        return importlib.import_module("_sha256")  # 3.11


def sha256() -> Any:
    """CPython's own SHA-256: importing hashlib would map the system's libcrypto beside the one under test."""
    return _sha256_module().sha256()


# ---- what the kernel says meanwhile


def sequence(end: End, direction: Direction) -> int | None:
    try:
        return datapath.record_sequence(end.sock.fileno(), direction)
    except OSError:
        return None


def counters() -> Mapping[str, int]:
    """The kernel's own, by its own names; on FreeBSD those of all sockets of the system."""
    if sys.platform != "linux":
        return freebsdkernel.numbers(freebsdkernel.LiveCalls(), (ktlsgauges.OFFLOAD_TOTAL, *ktlsgauges.TROUBLE))
    try:
        with open(tlsstat.PATH, "rb") as file:
            return tlsstat.parse(file.read())
    except (OSError, tlsstat.NotCounters):
        return {}
