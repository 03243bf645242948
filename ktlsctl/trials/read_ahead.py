# SPDX-License-Identifier: BSD-2-Clause
"""read-ahead: see scenarios/read_ahead.py."""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import Any

from ktlsctl.libssl import TlsError, ffi
from ktlsctl.model import Direction, TlsVersion
from ktlsctl.scenarios.read_ahead import REST, SIZE, Case, Facts
from ktlsctl.sessionfacts import Carried
from ktlsctl.stage import End
from ktlsctl.trials.ground import Ground
from ktlsctl.trials.reading import Reader, ended
from ktlsctl.trials.relay import Lane, Relay

_ROLES = ("server", "client")
_CHANGE_CIPHER_SPEC = 20
#: Result of SSL_read_early_data (openssl/ssl.h): the client sent none, or no more.
_READ_EARLY_DATA_FINISH = 2
#: Turns without a sign of life after which everything of a flight has arrived.
_QUIET = 3


def run(ground: Ground) -> Facts:
    carried: list[Carried] = []
    cases = tuple(
        _case(ground, at, read_ahead, whole, carried)
        for at, read_ahead, whole in product((0, 1), (False, True), (True, False))
    )
    return Facts(Carried.of_all(carried), cases)


def _session_to_resume(ground: Ground) -> Any:
    """For one connection: one that is freed without close_notify takes its session with it (ssl_clear_bad_session)."""
    lib = ground.libssl.lib
    _, client = ground.session()
    return ffi.gc(lib.SSL_get1_session(client.session.raw), lib.SSL_SESSION_free)


class _Glue:
    """Holds a lane from the sender's change_cipher_spec on, the record before its Finished in both versions, until the
    data behind Finished is there too."""

    def __init__(self, lane: Lane, whole: bool) -> None:
        self._lane = lane
        self._whole = whole
        self._seen = self._quiet = 0
        self.sent = False
        lane.tamper = self._watch

    def _watch(self, record: bytes) -> bytes:
        if record[0] == _CHANGE_CIPHER_SPEC and not self.sent:
            self._lane.held = True
        return record

    def turn(self) -> None:
        """Once a turn after the data was written: let go of what has gathered."""
        lane = self._lane
        self._quiet = self._quiet + 1 if lane.waiting == self._seen else 0
        self._seen = lane.waiting
        if self._quiet < _QUIET or not lane.held:
            return
        self._quiet = 0
        if self.sent or self._whole:
            lane.held = False
        else:
            lane.let = lane.waiting - SIZE // 2
        self.sent = True


def _case(ground: Ground, at: int, read_ahead: bool, whole: bool, carried: list[Carried]) -> Case:
    relay: Relay = ground.closing(Relay())
    lib = ground.libssl.lib
    ends = ground.end(ground.contexts[0], relay.server), ground.end(ground.contexts[1], relay.client)
    receiver, sender = ends[at], ends[1 - at]
    lib.SSL_set_read_ahead(receiver.session.raw, int(read_ahead))
    if ground.version is TlsVersion.TLS12 and at == 0:
        # Only in a resumed session is the client's Finished the last one, with data right behind it.
        lib.SSL_set_session(sender.session.raw, _session_to_resume(ground))
    glue = _Glue(relay.to_server if at == 0 else relay.to_client, whole)
    first, rest = ground.noise(SIZE), ground.noise(REST)
    reader = Reader(receiver)
    write = _early(sender, first) if ground.version is TlsVersion.TLS13 and at == 1 else partial(_late, sender, first)
    written = False

    def step() -> bool | None:
        nonlocal written
        if not written:
            written = write()
        else:
            glue.turn()
            sender.session.handshake()
        return _received(reader, SIZE)

    relay.drive(ends, ground.deadline, "waiting for the data behind Finished", step)
    if not reader.ending:
        relay.drive(ends, ground.deadline, "writing", lambda: sender.session.write_at(rest, 0, REST) > 0 or None)
        relay.drive(ends, ground.deadline, "waiting for the rest", partial(_received, reader, SIZE + REST))
    carried.append(ground.carried(ends))
    handover = receiver.handover(Direction.RX)
    for closable in (*ends, relay):
        closable.close()
    return Case(
        role=_ROLES[at],
        read_ahead=read_ahead,
        whole=whole,
        glued=glue.sent,
        kernel=(carried[-1].server_rx, carried[-1].client_rx)[at],
        handover="" if handover is None else handover.step,
        leftover=0 if handover is None else handover.leftover,
        first=bytes(reader.data[:SIZE]) == first,
        rest=bytes(reader.data[SIZE:]) == rest,
        ending=reader.ending,
    )


def _received(reader: Reader, size: int) -> bool | None:
    """Shake hands, then read; whether so much is there, or it ended."""
    try:
        if not reader.end.session.handshake():
            return None
    except TlsError as error:
        reader.ending = ended(error)
    reader.read()
    return bool(reader.ending) or len(reader.data) >= size or None


def _late(end: End, payload: bytes) -> bool:
    """Write as soon as our Finished is out."""
    return end.session.handshake() and end.session.write_at(payload, 0, len(payload)) > 0


def _early(end: End, payload: bytes) -> Any:
    """Write right behind the server's Finished, before the client's has come, as only early data's functions can."""
    session, lib = end.session, end.session.libssl.lib
    room, count = ffi.new("char[]", 1), ffi.new("size_t *")
    state = 0

    def write() -> bool:
        nonlocal state
        if state != _READ_EARLY_DATA_FINISH:
            state = lib.SSL_read_early_data(session.raw, room, 1, count)
            if state != _READ_EARLY_DATA_FINISH:
                session.step(state)
                return False
        return session.step(lib.SSL_write_early_data(session.raw, payload, len(payload), count)) > 0

    return write
