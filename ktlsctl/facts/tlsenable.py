# SPDX-License-Identifier: BSD-2-Clause
"""What FreeBSD's kernel answers when it is handed keys: TCP_TXTLS_ENABLE and TCP_RXTLS_ENABLE, cipher by cipher.

The numbers are those of netinet/tcp.h, sys/ktls.h and sys/errno.h (15.0-era headers), and stand only here: a capture
is judged on Linux too, whose errno values differ.  `probe` runs in a child on FreeBSD; everything else is pure.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from ktlsctl.ciphers import BOGUS_CIPHER_ID, FREEBSD_CIPHERS, FreebsdCipher
from ktlsctl.codec import encode
from ktlsctl.model import Direction, TlsVersion
from ktlsctl.servant import ProbeError

if TYPE_CHECKING:
    import socket

PROBE = "ktlsctl.facts.tlsenable:probe"

IPPROTO_TCP = 6
TCP_TXTLS_ENABLE = 39
TCP_TXTLS_MODE = 40
TCP_RXTLS_ENABLE = 41
TCP_RXTLS_MODE = 42

_ENABLE = {Direction.TX: TCP_TXTLS_ENABLE, Direction.RX: TCP_RXTLS_ENABLE}
_MODE = {Direction.TX: TCP_TXTLS_MODE, Direction.RX: TCP_RXTLS_MODE}


class Mode(IntEnum):
    """TCP_TLS_MODE_*: who does the record work of one direction."""

    NONE = 0
    SW = 1
    IFNET = 2
    TOE = 3


class Errno(IntEnum):
    """FreeBSD's sys/errno.h, as far as kernel TLS answers with it."""

    EPERM = 1
    ENOENT = 2
    ENXIO = 6
    ENOMEM = 12
    EACCES = 13
    EFAULT = 14
    EBUSY = 16
    EINVAL = 22
    EAGAIN = 35
    EALREADY = 37
    ENOPROTOOPT = 42
    EPROTONOSUPPORT = 43
    EOPNOTSUPP = 45
    ECONNRESET = 54
    ENOBUFS = 55
    ENOTCONN = 57


def errno_name(number: int) -> str:
    return Errno(number).name if number in Errno._value2member_map_ else f"errno {number}"


#: struct tls_enable by the size of a pointer: three pointers, six ints, two version bytes, rec_seq, tail padding.
#: `=`: the machine's own byte order (powerpc64 is big-endian) without the compiler's padding, which stands here.
_LAYOUTS = {8: struct.Struct("=QQQiiiiiiBB8s6x"), 4: struct.Struct("=IIIiiiiiiBB8s2x")}


@dataclass(frozen=True, slots=True)
class Filling:
    """What goes into `struct tls_enable` besides the keys themselves; lengths in bytes."""

    version: TlsVersion
    algorithm: int
    key: int
    iv: int
    auth_algorithm: int = 0
    auth_key: int = 0

    def pack(self, cipher_key: int, iv: int, auth_key: int, pointer: int) -> bytes:
        """The structure for these three addresses; `pointer` is the size of one, 4 or 8.  rec_seq and flags are 0."""
        major, minor = divmod(self.version.wire, 256)
        return _LAYOUTS[pointer].pack(
            cipher_key, iv, auth_key, self.algorithm, self.key, self.iv, self.auth_algorithm, self.auth_key, 0,
            major, minor, bytes(8),
        )  # fmt: skip


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


#: setsockopt(level, option, value) and getsockopt(level, option) of one socket; both raise OSError.
Set = Callable[[int, int, bytes], None]


def enable(setsockopt: Set, direction: Direction, what: Filling) -> int:
    """Hand the kernel throw-away random keys; the errno of its answer, 0 when it took them."""
    import ctypes

    # The kernel copies the material during the call; the buffers must live exactly that long.
    buffers = [(ctypes.c_ubyte * n).from_buffer(bytearray(os.urandom(n))) for n in (what.key, what.iv, what.auth_key)]
    key, iv, auth_key = (ctypes.addressof(buffer) if len(buffer) else 0 for buffer in buffers)
    try:
        setsockopt(IPPROTO_TCP, _ENABLE[direction], what.pack(key, iv, auth_key, ctypes.sizeof(ctypes.c_void_p)))
    except OSError as error:
        if error.errno is None:
            raise
        return error.errno
    finally:
        for buffer in buffers:
            ctypes.memset(buffer, 0, len(buffer))
    return 0


def attempts(pairs: Iterator[Ends]) -> Answers:
    """Every cipher, version and direction; each `Ends` gives two sockets, so that each direction finds a fresh one."""
    first = next(pairs)
    mode_errno, _ = _mode(first.sender, Direction.TX)
    connected = first.connected
    controls = tuple(Control(d, enable(first.of(d).setsockopt, d, CONTROL)) for d in Direction)
    tries = []
    for cipher in FREEBSD_CIPHERS:
        for version in cipher.versions():
            ends = next(pairs)
            connected = connected and ends.connected
            for direction in Direction:
                errno = enable(ends.of(direction).setsockopt, direction, filling(cipher, version))
                mode = None if errno else _mode(ends.of(direction), direction)[1]
                tries.append(Try(version, cipher.name, direction, errno, mode))
    return Answers(mode_errno, controls, tuple(tries), connected)


def _mode(end: socket.socket, direction: Direction) -> tuple[int, int | None]:
    try:
        return 0, end.getsockopt(IPPROTO_TCP, _MODE[direction])
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
