# SPDX-License-Identifier: BSD-2-Clause
"""sendfile: see scenarios/sendfile.py."""

from __future__ import annotations

import socket
import struct
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from ktlsctl.evidence import SOL_TLS
from ktlsctl.libssl import TlsError
from ktlsctl.model import Os
from ktlsctl.scenarios.sendfile import BUFFER, FILE_SIZE, RANGES, SHORT_BUFFER, STALL, Case, Facts, Mode
from ktlsctl.sessionfacts import Carried
from ktlsctl.stage import Deadline, End, Stream
from ktlsctl.trials.ground import Ground, NotHere

# include/openssl/ssl.h, from 3.2 on; include/uapi/linux/tls.h
_ZEROCOPY_OPTION, _TLS_TX_ZEROCOPY_RO = 1 << 34, 3


def run(ground: Ground) -> Facts:
    if not ground.libssl.has("SSL_sendfile"):
        raise NotHere(f"{ground.libssl.version} has no SSL_sendfile")
    system = Os.LINUX if sys.platform == "linux" else Os.FREEBSD
    content = ground.noise(FILE_SIZE)
    fd = ground.file(content)
    short = ground.session(ground.sockets(send_buffer=SHORT_BUFFER, receive_buffer=SHORT_BUFFER))
    carried = ground.carried(short)
    if not carried.server_tx:
        return Facts(carried, system, _refusal(short[0], fd))
    cases = _all_ranges(ground, short, fd, content, Mode.SHORT)
    cases += _blocking(ground, fd, content, Mode.BLOCKING, BUFFER)
    cases += _blocking(ground, fd, content, Mode.BLOCKING_SHORT, SHORT_BUFFER)
    ends = ground.ends()
    ends[0].session.set_options(_ZEROCOPY_OPTION)
    ground.handshake(ends)
    zerocopy = _zerocopy(ends[0].sock)
    if zerocopy:
        cases += _all_ranges(ground, ends, fd, content, Mode.ZEROCOPY)
    return Facts(Carried.of_all((carried, ground.carried(ends))), system, "", zerocopy, tuple(cases))


def _refusal(server: End, fd: int) -> str:
    try:
        server.session.sendfile(fd, 0, FILE_SIZE)
    except TlsError as error:
        return str(error)
    return ""


def _zerocopy(sock: socket.socket) -> bool | None:
    try:
        return sock.getsockopt(SOL_TLS, _TLS_TX_ZEROCOPY_RO) == 1
    except OSError:
        return None


@dataclass(slots=True)
class Progress:
    """How far one range has got."""

    offset: int
    asked: int
    stream: Stream
    calls: int = 0
    waits: int = 0
    short: int = 0
    ended: bool = False

    def send(self, server: End, fd: int) -> bool:
        """Send as long as there is room; whether anything moved."""
        moved = False
        while not self.ended:
            self.calls += 1
            size = self.asked - self.stream.sent
            sent = server.session.sendfile(fd, self.offset + self.stream.sent, size)
            if sent is None:
                self.waits += 1
                break
            self.stream.sent += sent
            self.short += sent < size and self.stream.sent < len(self.stream.payload)
            # 0 is the end of the file, when more was asked for than there is.
            self.ended = not sent or self.stream.sent == self.asked
            moved = True
        return moved

    @property
    def arrived(self) -> bool:
        return self.stream.received >= len(self.stream.payload)

    @property
    def done(self) -> bool:
        return self.ended and self.arrived

    def case(self, mode: Mode, stalled: bool) -> Case:
        stream = self.stream
        intact = stream.intact and stream.sent == len(stream.payload)
        return Case(
            mode, self.offset, self.asked, len(stream.payload), stream.sent, stream.received, self.calls, self.waits,
            self.short, stalled, intact,
        )  # fmt: skip


def _all_ranges(ground: Ground, ends: tuple[End, End], fd: int, content: bytes, mode: Mode) -> list[Case]:
    cases: list[Case] = []
    for offset, asked in RANGES:
        progress = Progress(offset, asked, Stream(content[offset : offset + asked]))
        stalled = not _carry(ground, ends, progress, fd)
        cases.append(progress.case(mode, stalled))
        if stalled:
            break  # what comes later would be taken for what is stuck
    return cases


def _carry(ground: Ground, ends: tuple[End, End], progress: Progress, fd: int) -> bool:
    """Send and receive in turns; whether it came to its end before nothing moved any more."""
    server, client = ends
    quiet = Deadline(STALL)

    def step() -> bool | None:
        nonlocal quiet
        moved = [progress.send(server, fd), progress.stream.receive(client)]
        if any(moved):
            quiet = Deadline(STALL)
        return progress.done or quiet.left <= 0 or (False if any(moved) else None)

    ground.drive(ends, "sending a file", step)
    return progress.done


def _blocking(ground: Ground, fd: int, content: bytes, mode: Mode, send_buffer: int) -> list[Case]:
    """The server's calls block, in a thread of their own, while the client reads here."""
    server, client = ground.session(ground.sockets(send_buffer=send_buffer))
    server.sock.setblocking(True)
    # SO_SNDTIMEO bounds sendfile(2) as well: what would hang says EAGAIN instead.
    server.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", int(STALL), 0))
    cases: list[Case] = []
    for offset, asked in RANGES:
        progress = Progress(offset, asked, Stream(content[offset : offset + asked]))
        # Nothing is left in the BIO, so that SSL_sendfile goes past it: the datapath stays this thread's own.
        call = Call(partial(progress.send, server, fd))
        quiet = Deadline(2 * STALL)

        def step(at: Progress = progress, call: Call = call, quiet: Deadline = quiet) -> bool | None:
            moved = at.stream.receive(client)
            gone = at.arrived or (call.over and at.waits > 0) or quiet.left <= 0
            return gone or (False if moved else None)

        try:
            ground.drive((client,), "receiving a file from a blocking call", step)
        finally:
            call.join()
        cases.append(progress.case(mode, not progress.done))
        if not progress.done:
            break
    server.sock.setblocking(False)
    return cases


class Call:
    """One call in a thread of its own."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._work = work
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._work()
        except (TlsError, OSError) as error:
            self._error = error

    @property
    def over(self) -> bool:
        return not self._thread.is_alive()

    def join(self) -> None:
        """Wait for its end.  Raises what it raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error
