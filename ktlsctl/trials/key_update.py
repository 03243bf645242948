# SPDX-License-Identifier: BSD-2-Clause
"""key-update: see scenarios/key_update.py."""

from __future__ import annotations

import fcntl
import select
import struct
import sys
from itertools import product

from ktlsctl.libssl import TlsError
from ktlsctl.scenarios.ending import Ending
from ktlsctl.scenarios.key_update import Case, Facts, Stall
from ktlsctl.stage import End
from ktlsctl.trials.ground import Ground, NotHere
from ktlsctl.trials.reading import Reader, ended

#: SSL_KEY_UPDATE_NOT_REQUESTED and SSL_KEY_UPDATE_REQUESTED of openssl/ssl.h, by whether it is requested.
_TYPE = {False: 0, True: 1}
_ROLES = ("server", "client")
#: Linux: bytes sent that the peer has not acknowledged (SIOCOUTQ, linux/sockios.h); it has them in its queue after.
_SIOCOUTQ = 0x5411
#: Seconds without a sign after which poll is silent: what it should tell of is already there.
_SILENCE = 0.3


def run(ground: Ground) -> Facts:
    if not ground.libssl.has("SSL_key_update"):
        raise NotHere("this library has no SSL_key_update")
    before = _rekeys(ground)
    cases = tuple(_case(ground, at, requested) for at, requested in product((0, 1), (False, True)))
    works = not any(case.failed for case in cases)
    receives = any(case.carried.server_rx for case in cases)
    stall = _stall(ground) if works and receives and sys.platform == "linux" else None
    return Facts(cases, stall, _rekeys(ground) - before)


def _rekeys(ground: Ground) -> int:
    seen = ground.counters()
    return seen.get("TlsTxRekeyOk", 0) + seen.get("TlsRxRekeyOk", 0)


def _update(end: End, requested: bool) -> None:
    session = end.session
    session.step(session.libssl.lib.SSL_key_update(session.raw, _TYPE[requested]))


class _Failed(Exception):
    """One end failed: which, at what, how."""

    def __init__(self, at: int, doing: str, ending: Ending) -> None:
        super().__init__(doing)
        self.at, self.doing, self.ending = at, doing, ending


def _case(ground: Ground, at: int, requested: bool) -> Case:
    ends = ground.session()
    carried = ground.carried(ends)
    try:
        try:
            _update(ends[at], requested)
        except TlsError as error:
            raise _Failed(at, "asking for a KeyUpdate", ended(error)) from None
        # Twice each way: the KeyUpdate, its answer, and that the new keys stay in use.
        for turn in (1, 2):
            for source in (at, 1 - at):
                _leg(ground, ends, source, f"record {turn} after it")
        return Case(_ROLES[at], requested, carried)
    except _Failed as failed:
        other = _aftermath(ground, ends[1 - failed.at])
        return Case(_ROLES[at], requested, carried, _ROLES[failed.at], failed.doing, failed.ending, other)
    finally:
        for end in ends:
            end.close()


def _leg(ground: Ground, ends: tuple[End, End], source: int, what: str) -> None:
    """A payload from one end to the other; raises _Failed."""
    sender, target = ends[source], Reader(ends[1 - source])
    payload, sent = ground.noise(1000), False

    def step() -> bool | None:
        nonlocal sent
        if not sent:
            try:
                sent = sender.session.write_at(payload, 0, len(payload)) > 0
            except TlsError as error:
                raise _Failed(source, f"sending {what}", ended(error)) from None
        target.read()
        if target.ending:
            raise _Failed(1 - source, f"receiving {what}", target.ending)
        return len(target.data) >= len(payload) or None

    ground.drive(ends, "moving data after a KeyUpdate", step)
    if bytes(target.data) != payload:
        raise _Failed(1 - source, f"receiving {what}", Ending(reason="other bytes than were sent"))


def _aftermath(ground: Ground, end: End) -> Ending:
    """What the end that did not fail first gets to know, while nobody closes anything."""
    reader = Reader(end)
    reader.read()
    return reader.ending


def _stall(ground: Ground) -> Stall | None:
    server, client = ends = ground.session()
    if not ground.carried(ends).server_rx:
        return None
    before, after = ground.noise(100), ground.noise(200)

    def written(payload: bytes) -> None:
        ground.drive(ends, "writing", lambda: client.session.write_at(payload, 0, len(payload)) > 0 or None)

    written(before)
    _update(client, False)
    written(after)
    ground.drive(ends, "the data to arrive", lambda: _unacknowledged(client) == 0 or None)
    first = server.session.read_some(32768)
    pending = bool(server.session.libssl.lib.SSL_has_pending(server.session.raw))
    silent = not _told(ground, server)
    then = server.session.read_some(32768)
    return Stall(first == before, pending, silent, then == after)


def _unacknowledged(end: End) -> int:
    answer = fcntl.ioctl(end.sock, _SIOCOUTQ, struct.pack("i", 0))
    return int(struct.unpack("i", answer)[0])


def _told(ground: Ground, end: End) -> bool:
    """Whether the datapath's own poll says that there is something to read."""
    if ground.path is None or end.bio is None:
        poll = select.poll()
        poll.register(end.sock, select.POLLIN)
        return bool(poll.poll(_SILENCE * 1000))
    # The first may tell of what has been read since.
    ground.path.wait([(end.bio, True, False)], 0.0)
    return any(ground.path.wait([(end.bio, True, False)], _SILENCE))
