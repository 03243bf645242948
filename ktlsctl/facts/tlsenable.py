# SPDX-License-Identifier: BSD-2-Clause
"""What FreeBSD's kernel answers when it is handed keys: TCP_TXTLS_ENABLE and TCP_RXTLS_ENABLE, cipher by cipher.

A capture is judged on Linux too, whose errno values differ: an errno here is FreeBSD's number (freebsdabi.Errno).
`probe` runs in a child on FreeBSD; everything else is pure.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ktlsctl import freebsdkernel
from ktlsctl.ciphers import BOGUS_CIPHER_ID, FREEBSD_CIPHERS, FreebsdCipher
from ktlsctl.codec import encode
from ktlsctl.model import Direction, TlsVersion
from ktlsctl.servant import ProbeError

if TYPE_CHECKING:
    import socket

PROBE = "ktlsctl.facts.tlsenable:probe"


@dataclass(frozen=True, slots=True)
class Filling:
    """What goes into `struct tls_enable` besides the keys themselves; lengths in bytes."""

    version: TlsVersion
    algorithm: int
    key: int
    iv: int
    auth_algorithm: int = 0
    auth_key: int = 0

    def session(self) -> freebsdkernel.Session:
        """Filled with throw-away random keys."""
        key, iv, auth_key = (bytearray(os.urandom(n)) for n in (self.key, self.iv, self.auth_key))
        return freebsdkernel.Session(self.version.wire, self.algorithm, key, iv, self.auth_algorithm, auth_key)


def filling(cipher: FreebsdCipher, version: TlsVersion) -> Filling:
    iv = cipher.iv12 if version is TlsVersion.TLS12 else cipher.iv13
    return Filling(version, cipher.algorithm, cipher.key, iv, cipher.auth_algorithm, cipher.auth_key)


#: Right in everything but the cipher: the kernel must refuse it with EINVAL.
CONTROL = Filling(TlsVersion.TLS12, BOGUS_CIPHER_ID, 16, 4)


@dataclass(frozen=True, slots=True)
class Try:
    """One setsockopt on a fresh socket.  `errno`: FreeBSD's number, 0 when it was taken; then `mode` says by whom."""

    version: TlsVersion
    cipher: str
    direction: Direction
    errno: int
    mode: int | None = None


@dataclass(frozen=True, slots=True)
class Control:
    """The errno that a cipher got which no kernel knows."""

    direction: Direction
    errno: int


@dataclass(frozen=True, slots=True)
class Answers:
    """All that the kernel said.  `mode_errno`: of getsockopt(TCP_TXTLS_MODE) on a fresh socket, 0 with KERN_TLS.

    `connected`: the sockets were a loopback connection; without a usable loopback they stay unconnected, which the
    kernel allows (FreeBSD's own tests enable first and connect later).
    """

    mode_errno: int
    controls: tuple[Control, ...]
    tries: tuple[Try, ...]
    connected: bool


def enable(sock: freebsdkernel.Options, direction: Direction, what: Filling) -> int:
    """Hand the kernel throw-away random keys; the errno of its answer, 0 when it took them."""
    session = what.session()
    try:
        freebsdkernel.enable(sock, direction, session)
    except OSError as error:
        if error.errno is None:
            raise
        return error.errno
    finally:
        session.wipe()
    return 0


def attempts(pairs: Iterator[Ends]) -> Answers:
    """Every cipher, version and direction; each `Ends` gives two sockets, so that each direction finds a fresh one."""
    first = next(pairs)
    mode_errno, _ = _mode(first.sender, Direction.TX)
    connected = first.connected
    controls = tuple(Control(d, enable(first.of(d), d, CONTROL)) for d in Direction)
    tries = []
    for cipher in FREEBSD_CIPHERS:
        for version in cipher.versions():
            ends = next(pairs)
            connected = connected and ends.connected
            for direction in Direction:
                errno = enable(ends.of(direction), direction, filling(cipher, version))
                mode = None if errno else _mode(ends.of(direction), direction)[1]
                tries.append(Try(version, cipher.name, direction, errno, mode))
    return Answers(mode_errno, controls, tuple(tries), connected)


def _mode(end: socket.socket, direction: Direction) -> tuple[int, int | None]:
    try:
        return 0, freebsdkernel.mode(end, direction)
    except OSError as error:
        if error.errno is None:
            raise
        return error.errno, None


@dataclass(frozen=True, slots=True)
class Ends:
    """Two sockets, one for each direction."""

    sender: socket.socket
    receiver: socket.socket
    connected: bool

    def of(self, direction: Direction) -> socket.socket:
        return self.sender if direction is Direction.TX else self.receiver


def loopback_pairs() -> Iterator[Ends]:
    """Fresh pairs for ever, each closed when the next is asked for; a jail may have no loopback, or only one family.

    Raises OSError when not even a socket is to be had.
    """
    import socket

    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        try:
            listener = socket.create_server((address, 0), family=family, backlog=1)
        except OSError:
            continue
        with listener:
            try:
                while True:
                    sender = socket.create_connection(listener.getsockname()[:2], timeout=1.0)
                    with sender, listener.accept()[0] as receiver:
                        yield Ends(sender, receiver, True)
            except OSError:
                continue
    while True:
        with socket.socket() as sender, socket.socket() as receiver:
            yield Ends(sender, receiver, False)


def probe(argument: Any) -> Any:
    """In a child: `Answers` as JSON.  Takes nothing; ProbeError on another system than FreeBSD."""
    if not sys.platform.startswith("freebsd"):
        raise ProbeError("TCP_TXTLS_ENABLE is FreeBSD's; this system has another kernel TLS")
    try:
        return encode(attempts(loopback_pairs()))
    except OSError as error:
        raise ProbeError(f"no TCP socket to try keys on: {error.strerror}") from None
