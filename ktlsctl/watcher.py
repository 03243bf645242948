# SPDX-License-Identifier: BSD-2-Clause
"""A session of a libssl with itself, in memory, over a BIO that watches whether the kernel is asked for.

The question "built with kTLS?" is put by behaviour.  A libssl that has kTLS, is told to use it and can offload the
suite sends BIO_CTRL_SET_KTLS down to its BIO, whatever the kernel (ssl/t1_enc.c, ssl/tls13_enc.c in 3.0;
ssl/record/methods/ktls_meth.c from 3.2 on).  The BIO here is ours: it carries bytes between two byte queues, counts
that call and answers 0, so the session goes on in user space.  No socket exists, hence nothing can attach the ULP or
load the module.  What the call points at holds the traffic key: it is never looked at.
"""

from __future__ import annotations

from ktlsctl.libssl import BIO_CTRL_SET_KTLS, Connection, Context, Libssl, TlsError, ffi

# typing.TYPE_CHECKING, whose import would cost more than this module
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# include/openssl/bio.h
_BIO_TYPE_SOURCE_SINK = 0x0400
_BIO_FLAGS_RETRY_READ = 0x09  # BIO_FLAGS_READ | BIO_FLAGS_SHOULD_RETRY
_BIO_FLAGS_RWS_RETRY = 0x0F
_BIO_CTRL_FLUSH = 11


class End:
    """One end of a connection in memory: what it may read, what it wrote, how often it asked for the kernel."""

    def __init__(self) -> None:
        self.incoming = bytearray()
        self.outgoing = bytearray()
        self.asked = {"tx": 0, "rx": 0}


class Watcher:
    """A BIO method of Python callbacks that serves any number of ends."""

    def __init__(self, libssl: Libssl) -> None:
        self._lib = libssl.lib
        self._ends: dict[int, End] = {}
        self._write = ffi.callback("int(BIO *, const char *, int)", self._on_write)
        self._read = ffi.callback("int(BIO *, char *, int)", self._on_read)
        self._ctrl = ffi.callback("long(BIO *, int, long, void *)", self._on_ctrl)
        # The method and its callbacks live as long as the process: an SSL freed late may still call them.
        self._method = self._lib.BIO_meth_new(self._lib.BIO_get_new_index() | _BIO_TYPE_SOURCE_SINK, b"ktlsctl watcher")
        self._lib.BIO_meth_set_write(self._method, self._write)
        self._lib.BIO_meth_set_read(self._method, self._read)
        self._lib.BIO_meth_set_ctrl(self._method, self._ctrl)

    def bio(self, end: End) -> Any:
        """A new BIO for `end`.  The session that takes it frees it."""
        bio = self._lib.BIO_new(self._method)
        self._lib.BIO_set_init(bio, 1)
        self._ends[self._key(bio)] = end
        return bio

    @staticmethod
    def _key(bio: Any) -> int:
        return int(ffi.cast("uintptr_t", bio))

    def _on_write(self, bio: Any, data: Any, size: int) -> int:
        self._lib.BIO_clear_flags(bio, _BIO_FLAGS_RWS_RETRY)
        self._ends[self._key(bio)].outgoing += ffi.buffer(data, size)
        return size

    def _on_read(self, bio: Any, room: Any, size: int) -> int:
        self._lib.BIO_clear_flags(bio, _BIO_FLAGS_RWS_RETRY)
        incoming = self._ends[self._key(bio)].incoming
        if not incoming:
            self._lib.BIO_set_flags(bio, _BIO_FLAGS_RETRY_READ)
            return -1
        chunk = bytes(incoming[:size])
        del incoming[:size]
        ffi.memmove(room, chunk, len(chunk))
        return len(chunk)

    def _on_ctrl(self, bio: Any, command: int, number: int, pointer: Any) -> int:
        if command == BIO_CTRL_SET_KTLS:
            # 3.0 says 2 for TX, 3.2 and later 1; 0 is RX in all.
            self._ends[self._key(bio)].asked["tx" if number else "rx"] += 1
            return 0
        return int(command == _BIO_CTRL_FLUSH)  # a BIO that cannot flush gets no kTLS


def converse(server: Context, client: Context, watcher: Watcher, version: str, suite: str) -> dict[str, Any]:
    """One session of this version and suite in memory: whether it came about, and what each end asked its BIO for."""
    ends = End(), End()
    answer: dict[str, Any] = {"version": version, "suite": suite, "agreed": False, "reason": ""}
    try:
        exchange(server, client, watcher, ends, version, suite)
        answer["agreed"] = True
    except TlsError as error:
        answer["reason"] = str(error)
    answer["server"], answer["client"] = ends[0].asked, ends[1].asked
    return answer


#: What `exchange` sends: from the client, from the server.
MESSAGES = b"ping", b"pong"


def exchange(
    server: Context, client: Context, watcher: Watcher, ends: tuple[End, End], version: str, suite: str
) -> None:
    """One session of this version and suite in memory, a message each way.  Raises TlsError, also for wrong bytes."""
    both = server.unbound(), client.unbound()
    try:
        for connection, end in zip(both, ends, strict=True):
            connection.set_bio(watcher.bio(end))
            connection.force(version, suite)
        _shake_hands(both, ends)
        # TLS 1.3 tickets, and the reads after which some versions hand RX over
        for source, target, message in ((1, 0, MESSAGES[0]), (0, 1, MESSAGES[1])):
            both[source].write_at(message, 0, len(message))
            _carry(ends)
            # A library without SSL_MODE_AUTO_RETRY comes back after a ticket.
            if message not in (both[target].read_some(1024), both[target].read_some(1024)):
                raise TlsError("the bytes that arrived are not those that were sent")
        if both[0].agreed() != (version, suite):
            raise TlsError("agreed on {1} of {0} instead".format(*both[0].agreed()))
    finally:
        for connection in both:
            connection.free()


def _carry(ends: tuple[End, End]) -> None:
    """Move what each end wrote to where the other reads."""
    for source, target in (ends, ends[::-1]):
        target.incoming += source.outgoing
        source.outgoing.clear()


def _shake_hands(both: tuple[Connection, Connection], ends: tuple[End, End]) -> None:
    # A handshake has at most four flights; the bound keeps a library that never ends from hanging us.
    for _ in range(16):
        done = [connection.handshake() for connection in reversed(both)]
        _carry(ends)
        if all(done):
            return
    raise TlsError("the handshake came to no end")
