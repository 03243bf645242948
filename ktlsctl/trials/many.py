# SPDX-License-Identifier: BSD-2-Clause
"""many: see scenarios/many.py."""

from __future__ import annotations

import ctypes
import fcntl
import gc
import os
import resource
import sys

from ktlsctl.libssl import SSL_MODE_RELEASE_BUFFERS
from ktlsctl.scenarios.many import AGAIN, SIZE, WANTED, Facts
from ktlsctl.sessionfacts import Carried
from ktlsctl.stage import End, Pair, Stream, drive, handshake, transfer
from ktlsctl.trials.ground import Ground

#: Descriptors for everything but the sessions.
_RESERVE = 100


def run(ground: Ground) -> Facts:
    count = max(0, min(WANTED, (_descriptor_limit() - len(_descriptors()) - _RESERVE) // 2))
    if count < WANTED:
        return Facts(count, Carried(), 0, 0, 0, 0, 0, 0, 0)
    ticket = _Ticket(ground)
    before = _descriptors()
    # What stays loaded and mapped for good is there after the first.
    _close(_open(ground, ticket, 1))
    bare = _resident()
    first = _open(ground, ticket, count)
    intact = _all_active(ground, first)
    idle = (_resident() - bare) // (2 * count)
    buffers = 0 if ground.path is None else ground.path.stats().buffers_live
    carried = [ground.carried(ends) for ends in first]
    _close(first)
    left = _allocated()
    second = _open(ground, ticket, min(count, AGAIN))
    _all_active(ground, second)
    _close(second)
    return Facts(
        sessions=count,
        carried=carried[-1] if carried else Carried(),
        in_kernel=sum(map(bool, carried)),
        intact=intact,
        idle_bytes=max(0, idle),
        kept_bytes=max(0, _allocated() - left),
        descriptors=len(_descriptors()) - len(before),
        buffers_idle=buffers,
        bios_left=0 if ground.path is None else ground.path.stats().bios,
        gauges={name: value for name, value in ground.counters().items() if name.startswith("TlsCurr")},
    )


class _Ticket:
    """The session of a first connection: resuming it spares a thousand public-key operations."""

    def __init__(self, ground: Ground) -> None:
        self._lib = ground.libssl.lib
        ends = ground.session()
        self._session = self._lib.SSL_get1_session(ends[1].session.raw)
        _close([ends])

    def use(self, client: End) -> None:
        self._lib.SSL_set_session(client.session.raw, self._session)


def _open(ground: Ground, ticket: _Ticket, count: int) -> list[tuple[End, End]]:
    """`count` sessions at once, shaken, a byte each way.  Not of the ground's: they are closed while it is open."""
    opened = []
    for _ in range(count):
        pair = Pair()
        ends = End(ground.contexts[0], pair.server, ground.path), End(ground.contexts[1], pair.client, ground.path)
        opened.append(ends)
        for end in ends:
            end.force(ground.version, ground.suite)
            end.session.allow(SSL_MODE_RELEASE_BUFFERS)
        ticket.use(ends[1])
        handshake(ends, ground.path, ground.deadline)
        transfer(ends, ground.path, ground.deadline, b"?", b"!")
    return opened


def _all_active(ground: Ground, sessions: list[tuple[End, End]]) -> int:
    """Payloads both ways in all of them at the same time; how many arrived intact."""
    payload = ground.noise(SIZE)
    streams = [(Stream(payload), Stream(payload)) for _ in sessions]
    flat = tuple(end for ends in sessions for end in ends)
    active = list(zip(sessions, streams, strict=True))

    def step() -> bool | None:
        moved = False
        for (server, client), (up, down) in list(active):
            one = [up.send(client), down.send(server), up.receive(server), down.receive(client)]
            moved = moved or any(one)
        active[:] = [each for each in active if not (each[1][0].done and each[1][1].done)]
        return not active or (False if moved else None)

    drive(flat, ground.path, ground.deadline, "moving data in all sessions", step)
    return sum(up.intact and down.intact for up, down in streams)


def _close(sessions: list[tuple[End, End]]) -> None:
    for ends in sessions:
        for end in ends:
            end.close()


def _descriptors() -> list[int]:
    """The open ones.  FreeBSD's /dev/fd lists 0, 1 and 2 alone unless fdescfs is mounted: there each number is tried,
    as far as the sessions' go (the kernel gives the lowest that is free)."""
    if sys.platform == "linux":
        return [int(name) for name in os.listdir("/proc/self/fd")]
    return [number for number in range(2 * WANTED + 4 * _RESERVE) if _is_open(number)]


def _is_open(number: int) -> bool:
    try:
        fcntl.fcntl(number, fcntl.F_GETFD)
    except OSError:  # EBADF
        return False
    return True


def _descriptor_limit() -> int:
    """As many as may be had without a privilege."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * WANTED + 4 * _RESERVE
    if soft < wanted and hard > soft:
        soft = min(wanted, hard) if hard != resource.RLIM_INFINITY else wanted
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return soft


def _resident() -> int:
    """Resident bytes of this process."""
    gc.collect()
    if sys.platform == "linux":
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    import psutil

    return int(psutil.Process().memory_info().rss)


class _Mallinfo2(ctypes.Structure):
    """struct mallinfo2 of glibc's malloc.h."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keep",
        )
    ]


def _allocated() -> int:
    """Bytes that malloc has given out; where it cannot be asked, what is resident (pages are not all given back)."""
    gc.collect()
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallinfo2"):  # musl, FreeBSD, glibc before 2.33
        return _resident()
    libc.mallinfo2.restype = _Mallinfo2
    said = libc.mallinfo2()
    return int(said.uordblks + said.hblkhd)
