# SPDX-License-Identifier: BSD-2-Clause
"""early-data: see scenarios/early_data.py."""

from __future__ import annotations

from typing import Any

from ktlsctl.libssl import Context, ffi
from ktlsctl.scenarios.early_data import SHORT_BUFFER, SIZE, Facts
from ktlsctl.sessionfacts import Carried
from ktlsctl.stage import MAX_RECORD, Deadline, End, Stream, wait
from ktlsctl.trials.ground import Ground, NotHere

# include/openssl/ssl.h
_OP_NO_ANTI_REPLAY = 1 << 24
_READ_ERROR, _READ_FINISH = 0, 2
_REJECTED, _ACCEPTED = 1, 2

_EARLY, _LATE = b"GET / HTTP/1.1\r\n\r\n", b"thanks"
#: Seconds in which SSL_read may come to want room; all it waits for has been sent by then.
_PATIENCE = 0.5
_REPEATS = 3


def run(ground: Ground) -> Facts:
    if not ground.libssl.has("SSL_read_early_data"):
        raise NotHere(f"{ground.libssl.version} has no early data")
    contexts = ground.fresh_contexts()
    server_context = contexts[0]
    server_context.libssl.lib.SSL_CTX_set_max_early_data(server_context.raw, MAX_RECORD)
    # As nginx does it: a ticket that can be used without the server remembering it.
    server_context.set_options(_OP_NO_ANTI_REPLAY)
    ticket = _ticket(ground, contexts)
    lib = ground.libssl.lib
    if ticket == ffi.NULL or not lib.SSL_SESSION_get_max_early_data(ticket):
        return Facts(Carried(), False)
    ends = ground.ends(ground.sockets(send_buffer=SHORT_BUFFER, receive_buffer=SHORT_BUFFER), contexts)
    lib.SSL_set_session(ends[1].session.raw, ticket)
    answer = ground.noise(SIZE)
    return Exchange(ground, ends, answer, ground.file(answer)).run()


def _ticket(ground: Ground, contexts: tuple[Context, Context]) -> Any:
    """What a first connection leaves for a second one."""
    lib = contexts[1].libssl.lib
    _, client = ground.session(contexts=contexts)
    return ffi.gc(lib.SSL_get1_session(client.session.raw), lib.SSL_SESSION_free)


class Exchange:
    """The second connection, whose answer fills the way to the client before the handshake is finished."""

    def __init__(self, ground: Ground, ends: tuple[End, End], answer: bytes, fd: int) -> None:
        self._ground = ground
        self._ends = self._server, self._client = ends
        self._lib = ground.libssl.lib
        self._fd = fd
        self._answer = Stream(answer)
        self._early, self._late = bytearray(), bytearray()
        self._want_write = self._read_want_write = 0
        self._room, self._count = ffi.new("char[]", MAX_RECORD), ffi.new("size_t *")
        self._reading_early, self._thanked = True, False

    def run(self) -> Facts:
        self._ground.drive(self._ends, "sending early data", self._ask)
        self._ground.drive(self._ends, "reading early data", self._hear)
        session = self._server.session
        if self._status() != _ACCEPTED:
            return Facts(self._ground.carried(self._ends), False)
        sendfile = session.ktls("tx")
        if sendfile:
            self._send()
        else:
            self._ground.drive(self._ends, "answering early data", self._write)
        shaken = self._client.session.handshake
        self._ground.drive(self._ends, "finishing the client's handshake", lambda: shaken() or None)
        self._block()
        seen = self._read_want_write
        self._ground.drive(self._ends, "reading the answer", self._finish)
        return Facts(
            self._ground.carried(self._ends),
            True,
            sendfile,
            self._want_write,
            seen,
            bytes(self._early) == _EARLY,
            self._answer.intact,
            bytes(self._late) == _LATE,
        )

    def _status(self) -> int:
        return int(self._lib.SSL_get_early_data_status(self._server.session.raw))

    def _ask(self) -> bool | None:
        session = self._client.session
        return session.step(self._lib.SSL_write_early_data(session.raw, _EARLY, len(_EARLY), self._count)) == 1 or None

    def _hear(self) -> bool | None:
        while len(self._early) < len(_EARLY):
            if not self._read_early():
                return self._status() == _REJECTED or None
        return True

    def _read_early(self) -> bool:
        """Whether SSL_read_early_data had something, be it the end."""
        session = self._server.session
        result = self._lib.SSL_read_early_data(session.raw, self._room, MAX_RECORD, self._count)
        if result == _READ_ERROR:
            session.step(0)
            return False
        self._early += ffi.buffer(self._room, self._count[0])
        self._reading_early = result != _READ_FINISH
        return True

    def _send(self) -> None:
        """Send as much of the file as there is room for."""
        session, stream = self._server.session, self._answer
        while stream.sent < SIZE:
            sent = session.sendfile(self._fd, stream.sent, SIZE - stream.sent)
            if sent is None:
                self._want_write += 1
                return
            stream.sent += sent

    def _write(self) -> bool | None:
        """The same without the kernel.  A write that found no room must be repeated before anything else is done, so
        the client has to read."""
        session, stream = self._server.session, self._answer
        moved = stream.receive(self._client)
        while stream.sent < SIZE:
            where = ffi.from_buffer(stream.payload) + stream.sent
            size = min(MAX_RECORD, SIZE - stream.sent)
            taken = session.step(self._lib.SSL_write_early_data(session.raw, where, size, self._count)) == 1
            session.full = session.wants_write
            if not taken:
                self._want_write += 1
                break
            stream.sent += size
            moved = True
        return stream.sent == SIZE or (False if moved else None)

    def _block(self) -> None:
        """Read while the client does not: what the server says now is what an event loop gets to hear."""
        patience = Deadline(_PATIENCE)
        while not self._read_want_write and patience.left > 0:
            self._read()
            wait((self._server,), self._ground.path, Deadline(0.05), "the server waits")
        for _ in range(1, _REPEATS if self._read_want_write else 0):
            self._read()

    def _read(self) -> None:
        session = self._server.session
        while self._reading_early:
            if not self._read_early():
                self._read_want_write += session.wants_write
                return
        data = session.read_some(MAX_RECORD)
        self._late += data
        self._read_want_write += session.wants_write

    def _finish(self) -> bool | None:
        moved = self._answer.receive(self._client)
        if not self._thanked:
            self._thanked = self._client.session.write_at(_LATE, 0, len(_LATE)) > 0
        self._read()
        if self._answer.sent < SIZE:
            self._send()
        return (self._answer.done and len(self._late) >= len(_LATE)) or (False if moved else None)
