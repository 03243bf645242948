# SPDX-License-Identifier: BSD-2-Clause
"""reset: see scenarios/reset.py."""

from __future__ import annotations

import os
import signal
import socket
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from ktlsctl.facts.tlsstat import GAUGES
from ktlsctl.libssl import TlsError
from ktlsctl.scenarios.ending import Ending
from ktlsctl.scenarios.reset import Case, Facts, Loss
from ktlsctl.servant import die_with_parent
from ktlsctl.sessionfacts import Carried
from ktlsctl.stage import MAX_RECORD, Deadline, End, Pair, Road, drive, handshake, transfer
from ktlsctl.trials.ground import Ground
from ktlsctl.trials.reading import Reader, ended
from ktlsctl.trials.relay import Relay

#: Seconds that the kernel may take to give back what a closed socket held.
_GRACE = 2.0
#: Bytes of a small buffer: full soon.
_SMALL = 32768


@dataclass(frozen=True, slots=True)
class _Seen:
    """How one loss looked from our end, when all is closed again."""

    carried: Carried
    intact: bool
    ending: Ending


def run(ground: Ground) -> Facts:
    block = ground.noise(MAX_RECORD)
    seen, cases = [], []
    for loss in Loss:
        files, gauges = _files(), _gauges(ground)
        found = _LOSSES[loss](ground, block)
        seen.append(found.carried)
        patience = Deadline(_GRACE)
        while _gauges(ground) > gauges and patience.left > 0:
            time.sleep(0.01)
        operations, buffers = _held(ground)
        left = (_files() - files, _gauges(ground) - gauges, operations, buffers)
        cases.append(Case(loss, found.carried.server_rx, found.intact, found.ending, *left))
    return Facts(Carried.of_all(seen), tuple(cases))


def _files() -> int:
    return len(os.listdir("/dev/fd"))


def _gauges(ground: Ground) -> int:
    found = ground.counters()
    return sum(found.get(name, 0) for name in GAUGES)


def _held(ground: Ground) -> tuple[int, int]:
    """What the datapath still has in flight, and what it still has in memory."""
    if ground.path is None:
        return 0, 0
    stats = ground.path.stats()
    return stats.submitted - stats.completed, stats.buffers_live + stats.buffers_leaked + stats.bios


# ---- the losses: the peer is the client, we are the server


def _reset_reading(ground: Ground, block: bytes) -> _Seen:
    server, client = ends = ground.session()
    carried = ground.carried(ends)
    ground.drive(ends, "writing", partial(_written, client, block))
    _reset(client)
    reader = _read_to_end(ground, server)
    return _Seen(carried, block.startswith(bytes(reader.data)), reader.ending)


def _reset_writing(ground: Ground, block: bytes) -> _Seen:
    server, client = ends = ground.session(ground.sockets(send_buffer=_SMALL, receive_buffer=_SMALL))
    carried = ground.carried(ends)
    _fill(ground, server, block)
    _reset(client)
    return _Seen(carried, True, _write_to_end(ground, server, block))


def _mid_record(ground: Ground, block: bytes) -> _Seen:
    relay: Relay = ground.closing(Relay())
    server, client = ends = (
        ground.end(ground.contexts[0], relay.server),
        ground.end(ground.contexts[1], relay.client),
    )  # fmt: skip
    relay.shake_hands(ends, ground.deadline)
    carried = ground.carried(ends)
    relay.to_server.cut = len(block) // 2
    relay.drive(ends, ground.deadline, "writing", partial(_written, client, block))
    reader = Reader(server)
    relay.drive((server,), ground.deadline, "waiting for the end within a record", partial(_ended, reader))
    for closable in (server, client, relay):
        closable.close()
    return _Seen(carried, not reader.data, reader.ending)


def _end(ground: Ground, block: bytes) -> _Seen:
    server, client = ends = ground.session()
    carried = ground.carried(ends)
    ground.drive(ends, "writing", partial(_written, client, block))
    client.sock.shutdown(socket.SHUT_WR)
    reader = _read_to_end(ground, server)
    client.close()
    return _Seen(carried, bytes(reader.data) == block, reader.ending)


def _end_own_bio(ground: Ground, block: bytes) -> _Seen:
    """Over OpenSSL's own BIO whatever the datapath is: it is what programs use."""
    pair = ground.sockets()
    server: End = ground.closing(End(ground.contexts[0], pair.server, None))
    client: End = ground.closing(End(ground.contexts[1], pair.client, None))
    ends = server, client
    for end in ends:
        end.force(ground.version, ground.suite)
    handshake(ends, None, ground.deadline)
    transfer(ends, None, ground.deadline, b"?", b"!")
    carried = ground.carried(ends)
    drive(ends, None, ground.deadline, "writing", partial(_written, client, block))
    client.sock.shutdown(socket.SHUT_WR)
    reader = Reader(server)
    drive((server,), None, ground.deadline, "waiting for the end", partial(_ended, reader))
    server.close()
    client.close()
    return _Seen(carried, bytes(reader.data) == block, reader.ending)


def _killed_sending(ground: Ground, block: bytes) -> _Seen:
    server, pid = _forked(ground, block, sends=True)
    reader = Reader(server)

    def some() -> bool | None:
        moved = reader.read(8 * len(block))
        return bool(reader.ending) or len(reader.data) >= 8 * len(block) or (False if moved else None)

    try:
        ground.drive((server,), "reading from the peer that will be killed", some)
        carried = _own(ground, server)
    finally:
        _kill(pid)
    ending = reader.ending or _read_to_end(ground, server, reader).ending
    whole = block * (len(reader.data) // len(block) + 1)
    return _Seen(carried, whole.startswith(bytes(reader.data)), ending)


def _killed_receiving(ground: Ground, block: bytes) -> _Seen:
    server, pid = _forked(ground, block, sends=False)
    try:
        _fill(ground, server, block)
        carried = _own(ground, server)
    finally:
        _kill(pid)
    return _Seen(carried, True, _write_to_end(ground, server, block))


_LOSSES: Mapping[Loss, Callable[[Ground, bytes], _Seen]] = {
    Loss.RESET_READING: _reset_reading,
    Loss.RESET_WRITING: _reset_writing,
    Loss.MID_RECORD: _mid_record,
    Loss.END: _end,
    Loss.END_OWN_BIO: _end_own_bio,
    Loss.KILLED_SENDING: _killed_sending,
    Loss.KILLED_RECEIVING: _killed_receiving,
}


def _written(end: End, block: bytes) -> bool | None:
    return end.session.write_at(block, 0, len(block)) > 0 or None


def _ended(reader: Reader) -> bool | None:
    reader.read()
    return bool(reader.ending) or None


def _fill(ground: Ground, end: End, block: bytes) -> None:
    """Write until nothing more is taken, and the peer leaves it so."""
    full = 0

    def step() -> bool | None:
        nonlocal full
        if _written(end, block):
            full = 0
            return False
        full += 1
        return full > 2 or False

    ground.drive((end,), "filling the buffers", step)


def _read_to_end(ground: Ground, end: End, reader: Reader | None = None) -> Reader:
    reader = reader or Reader(end)
    ground.drive((end,), "waiting for the end", partial(_ended, reader))
    end.close()
    return reader


def _write_to_end(ground: Ground, end: End, block: bytes) -> Ending:
    ending = Ending()

    def step() -> bool | None:
        nonlocal ending
        try:
            return False if _written(end, block) else None
        except TlsError as error:
            ending = ended(error)
            return True

    ground.drive((end,), "waiting for a write to fail", step)
    end.close()
    return ending


def _reset(end: End) -> None:
    end.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.close()


def _own(ground: Ground, server: End) -> Carried:
    """Of a session whose other end is another process's."""
    both = ground.carried((server, server))
    return Carried(server_tx=both.server_tx, server_rx=both.server_rx)


# ---- the peer that is killed


def _forked(ground: Ground, block: bytes, *, sends: bool) -> tuple[End, int]:
    """Our end, shaken, and the process that has the other: it sends without end, or reads nothing."""
    pair = ground.sockets(send_buffer=_SMALL, receive_buffer=_SMALL)
    pid = os.fork()
    if pid == 0:
        try:
            _live(ground, pair, block, sends)
        finally:
            os._exit(0)
    pair.client.close()
    server = ground.end(ground.contexts[0], pair.server)
    try:
        ground.handshake((server,))
    except BaseException:
        _kill(pid)
        raise
    return server, pid


def _live(ground: Ground, pair: Pair, block: bytes, sends: bool) -> None:
    die_with_parent()
    pair.server.close()
    # A ring is its opener's alone.
    road = Road.open(ground.libssl, ground.road.name)
    end = End(ground.contexts[1], pair.client, road.path)
    end.force(ground.version, ground.suite)
    drive((end,), road.path, ground.deadline, "shaking hands", lambda: end.session.handshake() or None)
    if sends:
        drive((end,), road.path, ground.deadline, "sending", lambda: False if _written(end, block) else None)
    time.sleep(max(0.0, ground.deadline.left))


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
