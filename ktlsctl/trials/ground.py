# SPDX-License-Identifier: BSD-2-Clause
"""What a trial stands on: the library, a datapath, one suite, a deadline, and whatever it opened, closed at the end."""

from __future__ import annotations

import os
import random
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, Self

from ktlsctl import evidence
from ktlsctl.libssl import Context, Libssl
from ktlsctl.model import Direction, TlsVersion
from ktlsctl.prepared import contexts_of
from ktlsctl.sessionfacts import Carried, Way
from ktlsctl.stage import Deadline, End, Pair, Road, counters, drive, handshake, noise, transfer


class NotHere(Exception):
    """This trial means nothing on this system, with this library or suite; the message is the reason."""


class Ground:
    """One trial's own.  `contexts`: server and client, kTLS on, certificates made; shared by all trials of a child, so
    what a trial sets goes on its connections or on contexts of its own (`fresh_contexts`).  `alone`: the network
    namespace is this trial's own.

    Use it in a `with`: connections, sockets and the datapath are closed in the order in which that is safe.
    """

    def __init__(
        self,
        libssl: Libssl,
        contexts: tuple[Context, Context],
        way: Way,
        version: TlsVersion,
        suite: str,
        *,
        seconds: float,
        seed: int,
        alone: bool = False,
    ) -> None:
        self.libssl = libssl
        self.contexts = contexts
        self.version = version
        self.suite = suite
        self.deadline = Deadline(seconds)
        self.road = Road.open(libssl, way)
        self.path = self.road.path
        self._alone = alone
        self._noise = random.Random(seed)
        self._open = ExitStack()
        self._open.callback(self.road.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def fresh_contexts(self) -> tuple[Context, Context]:
        """Contexts of this trial alone, to set what it likes on."""
        return contexts_of(self.libssl)

    def counters(self) -> Mapping[str, int]:
        """The kernel's own TLS counters now, if nobody but this trial moves them; else none."""
        return counters() if self._alone else {}

    def noise(self, size: int) -> bytes:
        """`size` bytes that compress badly and differ at every place; the same for the same seed."""
        return noise(self._noise, size)

    def file(self, content: bytes) -> int:
        """A descriptor of a file that has this content and no name; gone at the trial's end."""
        if sys.platform == "linux":
            fd = os.memfd_create("ktlsctl")
        else:
            fd, name = tempfile.mkstemp()
            os.unlink(name)
        self._open.callback(os.close, fd)
        os.write(fd, content)
        return fd

    def closing(self, closable: Any) -> Any:
        """Close it at the trial's end, after everything that was opened later."""
        self._open.callback(closable.close)
        return closable

    def sockets(self, *, send_buffer: int | None = None, receive_buffer: int | None = None) -> Pair:
        """A connected pair on loopback, non-blocking, its buffers as in `Pair`."""
        pair: Pair = self.closing(Pair(send_buffer, receive_buffer))
        return pair

    def end(self, context: Context, sock: socket.socket) -> End:
        """One TLS end of this trial's version and suite on a socket, not yet shaken."""
        end: End = self.closing(End(context, sock, self.path))
        end.force(self.version, self.suite)
        return end

    def ends(self, pair: Pair | None = None, contexts: tuple[Context, Context] | None = None) -> tuple[End, End]:
        """Server and client on a pair, not yet shaken."""
        pair = pair or self.sockets()
        server, client = contexts or self.contexts
        return self.end(server, pair.server), self.end(client, pair.client)

    def session(
        self, pair: Pair | None = None, contexts: tuple[Context, Context] | None = None
    ) -> tuple[End, End]:  # fmt: skip
        """Server and client after the handshake and a byte each way: tickets are read, RX is armed where it will be."""
        both = self.ends(pair, contexts)
        self.handshake(both)
        transfer(both, self.path, self.deadline, b"?", b"!")
        return both

    def handshake(self, ends: tuple[End, ...]) -> None:
        handshake(ends, self.path, self.deadline)

    def drive(self, ends: tuple[End, ...], doing: str, step: Callable[[], bool | None]) -> None:
        """Call `step` until it says True; None: nothing moved, wait.  Raises TlsError at the deadline."""
        drive(ends, self.path, self.deadline, doing, step)

    @staticmethod
    def carried(ends: tuple[End, End]) -> Carried:
        """What the kernel carries of both ends now: only what kernel and library both say."""

        def armed(end: End, direction: Direction) -> bool:
            said = evidence.kernel_word(end.sock, direction).value
            return end.session.ktls(direction) and said is not None and said.armed

        server, client = ends
        return Carried(
            armed(server, Direction.TX),
            armed(server, Direction.RX),
            armed(client, Direction.TX),
            armed(client, Direction.RX),
        )
