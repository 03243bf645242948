# SPDX-License-Identifier: BSD-2-Clause
"""records: see scenarios/records.py."""

from __future__ import annotations

import sys
from typing import Any

from ktlsctl.libssl import SSL_OP_ENABLE_KTLS, ffi
from ktlsctl.model import TlsVersion
from ktlsctl.scenarios.ending import Ending
from ktlsctl.scenarios.records import SIZE, TICKETS, Close, Facts, Tickets
from ktlsctl.sessionfacts import Carried
from ktlsctl.stage import End, Stream, transfer
from ktlsctl.trials.ground import Ground
from ktlsctl.trials.reading import Reader

_ROLES = ("server", "client")
#: SSL_CTRL_SET_SESS_CACHE_MODE, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL of openssl/ssl.h
_SET_CACHE_MODE, _CACHE_CLIENT = 44, 0x0001 | 0x0300


def run(ground: Ground) -> Facts:
    carried: list[Carried] = []
    tickets = _tickets(ground, carried) if ground.version is TlsVersion.TLS13 else None
    closes = tuple(_close(ground, at, carried) for at in (0, 1))
    return Facts(Carried.of_all(carried), tickets, closes)


class _Purse:
    """Keeps what the client's library hands out as new sessions."""

    def __init__(self, ground: Ground) -> None:
        self._lib = ground.libssl.lib
        self.sessions: list[Any] = []
        self._callback = ffi.callback("int(SSL *, SSL_SESSION *)", self._take)
        # Of its own: the other trials' sessions do not fill it.
        context = self.context = ground.libssl.context(server=False)
        context.lift_limits()
        context.offer_all()
        context.set_options(SSL_OP_ENABLE_KTLS)
        self._lib.SSL_CTX_ctrl(context.raw, _SET_CACHE_MODE, _CACHE_CLIENT, ffi.NULL)
        self._lib.SSL_CTX_sess_set_new_cb(context.raw, self._callback)

    def _take(self, ssl: Any, session: Any) -> int:
        self.sessions.append(session)
        return 1  # it is ours to free

    def close(self) -> None:
        while self.sessions:
            self._lib.SSL_SESSION_free(self.sessions.pop())


def _tickets(ground: Ground, carried: list[Carried]) -> Tickets:
    purse: _Purse = ground.closing(_Purse(ground))
    lib = ground.libssl.lib
    contexts = ground.contexts[0], purse.context
    ends = ground.ends(contexts=contexts)
    lib.SSL_set_num_tickets(ends[0].session.raw, TICKETS)
    ground.handshake(ends)
    # Tickets lie before the data, so with it they have all come.
    transfer(ends, ground.path, ground.deadline, b"?", b"!")
    carried.append(ground.carried(ends))
    got = len(purse.sessions)
    resumed = False
    if got:
        again = ground.ends(contexts=contexts)
        lib.SSL_set_session(again[1].session.raw, purse.sessions[-1])
        ground.handshake(again)
        transfer(again, ground.path, ground.deadline, b"?", b"!")
        resumed = bool(lib.SSL_session_reused(again[0].session.raw))
    return Tickets(got, resumed)


def _close(ground: Ground, at: int, carried: list[Carried]) -> Close:
    ends = ground.session()
    carried.append(ground.carried(ends))
    receives = (carried[-1].server_rx, carried[-1].client_rx)
    closer, other = ends[at], ends[1 - at]
    _send_close_notify(ground, ends, closer)
    # In user space recv(2) would take ciphertext away, and FreeBSD hands the record out without its type.
    plain = tuple(_recv(ground, other) for _ in range(2)) if receives[1 - at] and sys.platform == "linux" else ()
    noticed = _read_to_end(ground, ends, other)
    stream, late = Stream(ground.noise(SIZE)), Reader(closer)

    def rest() -> bool | None:
        moved = stream.send(other)
        moved = late.read() or moved
        stream.arrived(bytes(late.data))
        late.data.clear()
        return stream.done or bool(late.ending) or (False if moved else None)

    ground.drive(ends, "sending to the end that has closed", rest)
    _send_close_notify(ground, ends, other)
    answered = _read_to_end(ground, ends, closer)
    return Close(_ROLES[at], plain, noticed.orderly, stream.intact, answered.orderly)


def _send_close_notify(ground: Ground, ends: tuple[End, End], end: End) -> None:
    session = end.session

    def step() -> bool | None:
        result = session.libssl.lib.SSL_shutdown(session.raw)
        return True if result >= 0 else session.step(result) > 0 or None

    ground.drive(ends, "sending close_notify", step)


def _recv(ground: Ground, end: End) -> int:
    """errno of a plain recv(2), 0 if it gave something; waits for something to be there."""
    outcome = -1

    def step() -> bool | None:
        nonlocal outcome
        try:
            end.sock.recv(64)
            outcome = 0
        except BlockingIOError:
            return None
        except OSError as error:
            outcome = error.errno or 0
        return True

    ground.drive((end,), "receiving with recv(2)", step)
    return outcome


def _read_to_end(ground: Ground, ends: tuple[End, End], end: End) -> Ending:
    reader = Reader(end)

    def step() -> bool | None:
        reader.read()
        return bool(reader.ending) or None

    ground.drive(ends, "waiting for close_notify", step)
    return reader.ending
