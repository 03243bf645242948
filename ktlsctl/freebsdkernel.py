# SPDX-License-Identifier: BSD-2-Clause
"""FreeBSD's kernel TLS calls, typed: the one place that packs and unpacks what they take and give.

Works on any object that behaves like a socket and on any `Calls`; tests put a model of the kernel there.  What a call
refuses is an OSError with FreeBSD's errno number (freebsdabi.Errno).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from ktlsctl.freebsdabi import (
    CTL_MAXNAME,
    FUNCTIONS,
    IPPROTO_TCP,
    KLD_FILE_STAT,
    TLS_ENABLE,
    TLS_GET_RECORD,
    Cmsg,
    CtlFlag,
    CtlSysctl,
    CtlType,
    Errno,
    Msg,
    TcpOption,
)
from ktlsctl.model import Direction

_ENABLE = {Direction.TX: TcpOption.TCP_TXTLS_ENABLE, Direction.RX: TcpOption.TCP_RXTLS_ENABLE}
_MODE = {Direction.TX: TcpOption.TCP_TXTLS_MODE, Direction.RX: TcpOption.TCP_RXTLS_MODE}


class Options(Protocol):
    """The part of socket.socket that kernel TLS is switched on and asked with."""

    def setsockopt(self, level: int, option: int, value: bytes, /) -> None: ...

    def getsockopt(self, level: int, option: int, /) -> int: ...


class Socket(Options, Protocol):
    """The part of socket.socket that records pass through."""

    def fileno(self) -> int: ...

    def sendmsg(self, buffers: Sequence[bytes], ancillary: Sequence[tuple[int, int, bytes]], flags: int, /) -> int: ...

    def recvmsg(
        self, size: int, ancillary: int, flags: int, /
    ) -> tuple[bytes, list[tuple[int, int, bytes]], int, Any]: ...


# --- switching it on ---


@dataclass(frozen=True, slots=True)
class Session:
    """One direction's protection, as struct tls_enable has it.  `version` is the number on the wire (0x0303).

    It owns its key material: `wipe()` it when the kernel has its copy.
    """

    version: int
    algorithm: int
    key: bytearray = field(repr=False)
    iv: bytearray = field(repr=False)
    auth_algorithm: int = 0
    auth_key: bytearray = field(default_factory=bytearray, repr=False)
    sequence: int = 0
    flags: int = 0

    def wipe(self) -> None:
        for secret in (self.key, self.iv, self.auth_key):
            secret[:] = bytes(len(secret))


def enable(sock: Options, direction: Direction, session: Session) -> None:
    """TCP_TXTLS_ENABLE or TCP_RXTLS_ENABLE.  The kernel copies the key during the call.  Raises OSError."""
    # These buffers are views, so that wiping the session wipes all there is; they must live as long as the call.
    secrets = (session.key, session.iv, session.auth_key)
    buffers = [(ctypes.c_ubyte * len(secret)).from_buffer(secret) for secret in secrets]
    # AEAD: an auth_key that is not NULL is refused.
    key, iv, auth_key = (ctypes.addressof(buffer) if len(buffer) else 0 for buffer in buffers)
    major, minor = divmod(session.version, 256)
    lengths = [len(secret) for secret in secrets]
    request = TLS_ENABLE[ctypes.sizeof(ctypes.c_void_p)].pack(
        key, iv, auth_key, session.algorithm, lengths[0], lengths[1], session.auth_algorithm, lengths[2],
        session.flags, major, minor, session.sequence.to_bytes(8, "big"),
    )  # fmt: skip
    sock.setsockopt(IPPROTO_TCP, _ENABLE[direction], request)


def mode(sock: Options, direction: Direction) -> int:
    """TCP_*TLS_MODE: a freebsdabi.Mode, or a number that this tool does not know.  Raises OSError."""
    return sock.getsockopt(IPPROTO_TCP, _MODE[direction])


# --- records ---


@dataclass(frozen=True, slots=True)
class Head:
    """What the kernel says of a record with its first bytes: content type, version on the wire (TLS 1.3 shows 0x0303),
    and a length in bytes."""

    kind: int
    version: int
    length: int


@dataclass(frozen=True, slots=True)
class Piece:
    """What one recvmsg(2) returned.  `head`: only with the first bytes of a record; `last`: MSG_EOR."""

    data: bytes
    head: Head | None = None
    last: bool = False
    truncated: bool = False  #: MSG_CTRUNC: the control message did not fit, so that the record's type is lost

    @property
    def end_of_stream(self) -> bool:
        return not self.data and self.head is None and not self.last


def send_record(sock: Socket, kind: int, data: bytes, flags: int = 0) -> int:
    """One record of content type `kind`, whole or not at all: at most 16384 bytes.  Raises OSError."""
    return sock.sendmsg([data], [(IPPROTO_TCP, Cmsg.TLS_SET_RECORD_TYPE, bytes([kind]))], flags)


#: CMSG_SPACE(sizeof(struct tls_get_record)) where it is largest; Python's socket.CMSG_SPACE is this machine's.
_CONTROL = 64


def receive(sock: Socket, size: int, flags: int = 0) -> Piece:
    """At most `size` bytes of at most one record.  Raises OSError, see `fate`."""
    data, control, returned, _ = sock.recvmsg(size, _CONTROL, flags)
    head = None
    for level, kind, content in control:
        if (level, kind) == (IPPROTO_TCP, Cmsg.TLS_GET_RECORD) and len(content) >= TLS_GET_RECORD.size:
            record, major, minor, length = TLS_GET_RECORD.unpack(content)
            head = Head(record, major << 8 | minor, int.from_bytes(length, "big"))
    return Piece(data, head, bool(returned & Msg.EOR), bool(returned & Msg.CTRUNC))


class Fate(StrEnum):
    """What becomes of a connection whose recvmsg(2) failed."""

    WAITS = "nothing to read yet"
    LIVES = "one record was bad and is gone; later ones are still decrypted"
    ENDED = "the kernel dropped the connection"


#: sys/kern/uipc_ktls.c: a record that fails its authentication is dropped alone, a malformed header ends everything.
_FATES: Mapping[int, Fate] = {
    Errno.EAGAIN: Fate.WAITS,
    Errno.EINTR: Fate.WAITS,
    Errno.ENOBUFS: Fate.WAITS,
    Errno.EBADMSG: Fate.LIVES,
}


def fate(errno: int | None) -> Fate:
    """Of FreeBSD's number.  EMSGSIZE (length), EINVAL (version, outer type) and every other error end it."""
    return _FATES.get(errno or 0, Fate.ENDED)


@dataclass(frozen=True, slots=True)
class Record:
    """One whole decrypted record."""

    kind: int
    version: int
    data: bytes
    pieces: int


class Unframed(ValueError):
    """Pieces that are no sequence of records; the message is one sentence."""


class RecordReader:
    """Puts pieces together to records: the type comes first, MSG_EOR last.  Pure: it reads nothing itself."""

    def __init__(self) -> None:
        self._head: Head | None = None
        self._data = b""
        self._pieces = 0

    @property
    def inside(self) -> bool:
        """Whether a record has begun and not ended."""
        return self._head is not None

    def take(self, piece: Piece) -> Record | None:
        """The record that this piece finishes, if it does.  Raises Unframed; what was read before is then gone."""
        try:
            return self._take(piece)
        except Unframed:
            self._reset()
            raise

    def _reset(self) -> None:
        self._head, self._data, self._pieces = None, b"", 0

    def _take(self, piece: Piece) -> Record | None:
        if piece.truncated:
            raise Unframed("the control message was cut off: the record's type is lost")
        if piece.end_of_stream:
            if self.inside:
                raise Unframed("the stream ended inside a record")
            return None
        if piece.head is not None and self.inside:
            raise Unframed("a record began before the one before it had ended")
        head = piece.head or self._head
        if head is None:
            raise Unframed("data came without a record's type")
        self._head = head
        self._data += piece.data
        self._pieces += 1
        if not piece.last:
            return None
        record = Record(head.kind, head.version, self._data, self._pieces)
        self._reset()
        return record


# --- calls that take no socket of Python's ---


@dataclass(frozen=True, slots=True)
class Sent:
    """What one sendfile(2) did.  Bytes count also when `errno` is not 0: whoever forgets them sends them twice."""

    count: int
    errno: int = 0


@dataclass(frozen=True, slots=True)
class Number:
    """A numeric sysctl.  `loader_only`: CTLFLAG_RDTUN."""

    value: int
    kind: CtlType
    writable: bool
    tunable: bool

    @property
    def loader_only(self) -> bool:
        return self.tunable and not self.writable


class Calls(Protocol):
    """The system calls below; each raises OSError."""

    def sendfile(self, file: int, sock: int, offset: int, count: int) -> Sent:
        """`count` bytes of `file` from `offset` on.  Never raises for what the socket refuses: see Sent."""

    def oid(self, name: str) -> tuple[int, bytes]:
        """The kind word of a sysctl (type and flags), and its value as the kernel has it."""

    def modules(self) -> tuple[str, ...]:
        """The files that the kernel linker has loaded, `kernel` among them."""


#: Bytes and sign of a kind; a long is as long as a pointer.
_NUMBERS: Mapping[CtlType, tuple[int, bool]] = {
    CtlType.INT: (4, True),
    CtlType.UINT: (4, False),
    CtlType.LONG: (0, True),
    CtlType.ULONG: (0, False),
    CtlType.S8: (1, True),
    CtlType.U8: (1, False),
    CtlType.S16: (2, True),
    CtlType.U16: (2, False),
    CtlType.S32: (4, True),
    CtlType.U32: (4, False),
    CtlType.S64: (8, True),
    CtlType.U64: (8, False),
}


class NotANumber(ValueError):
    """A sysctl of another kind; the message is one sentence."""


def number(calls: Calls, name: str, pointer: int = ctypes.sizeof(ctypes.c_void_p)) -> Number:
    """One numeric sysctl, whatever its width: a SYSCTL_BOOL has 1 byte, kern.ipc.mb_use_ext_pgs 1 or 4 by release.

    Raises OSError (ENOENT: this kernel has no such name) and NotANumber.
    """
    word, content = calls.oid(name)
    kind = CtlType(word & 0xF) if word & 0xF in CtlType._value2member_map_ else None
    if kind is None or kind not in _NUMBERS:
        raise NotANumber(f"{name} is no number")
    size, signed = _NUMBERS[kind]
    if len(content) != (size or pointer):
        raise NotANumber(f"{name} has {len(content)} bytes, which its kind has not")
    value = int.from_bytes(content, sys.byteorder, signed=signed)
    return Number(value, kind, bool(word & CtlFlag.WR), bool(word & CtlFlag.TUN))


def numbers(calls: Calls, names: Iterable[str]) -> Mapping[str, int]:
    """Those of `names` that this kernel has and tells, by name."""
    found = {}
    for name in names:
        with contextlib.suppress(OSError, NotANumber):
            found[name] = number(calls, name).value
    return found


#: sendfile(2) on a socket that does not block stops with one of these when it may go on later.
FULL = frozenset((Errno.EAGAIN, Errno.EBUSY, Errno.ENOBUFS))


def sendfile_all(calls: Calls, file: int, sock: int, offset: int, count: int) -> Sent:
    """sendfile(2) until the socket takes no more: how far it came, and the errno that stopped it (0: all was sent)."""
    done = 0
    while done < count:
        sent = calls.sendfile(file, sock, offset + done, count - done)
        done += sent.count
        if sent.errno == Errno.EINTR:
            continue
        if sent.errno or not sent.count:
            return Sent(done, sent.errno)
    return Sent(done)


_CTYPES: Mapping[str, Any] = {
    "int": ctypes.c_int,
    "unsigned int": ctypes.c_uint,
    "size_t": ctypes.c_size_t,
    "off_t": ctypes.c_int64,
}


class LiveCalls:
    """This machine, by libc.  `libc`: a ctypes library; made with use_errno.

    Python's own os.sendfile forgets the count of a call that a signal interrupted, so it cannot be used.
    """

    def __init__(self, libc: Any = None) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True) if libc is None else libc
        for function in FUNCTIONS:
            entry = getattr(self._libc, function.name)
            entry.restype = _CTYPES[function.result]
            entry.argtypes = [_CTYPES.get(argument, ctypes.c_void_p) for argument in function.arguments]

    def sendfile(self, file: int, sock: int, offset: int, count: int) -> Sent:
        sent = ctypes.c_int64(0)
        refused = self._libc.sendfile(file, sock, offset, count, None, ctypes.addressof(sent), 0)
        return Sent(sent.value, ctypes.get_errno() if refused else 0)

    def oid(self, name: str) -> tuple[int, bytes]:
        mib = (ctypes.c_int * CTL_MAXNAME)()
        length = ctypes.c_size_t(CTL_MAXNAME)
        text = ctypes.create_string_buffer(name.encode())  # a name of its own: it must outlive the call
        addresses = (ctypes.addressof(it) for it in (text, mib, length))
        self._checked(self._libc.sysctlnametomib(*addresses), name)
        path = list(mib[: length.value])
        # CTL_SYSCTL is 0; the answer begins with the kind word, a string follows
        description = self._value([0, CtlSysctl.OIDFMT, *path], 4 + 256, name)
        return int.from_bytes(description[:4], sys.byteorder), self._value(path, 1024, name)

    def _value(self, path: list[int], room: int, name: str) -> bytes:
        mib = (ctypes.c_int * len(path))(*path)
        content = (ctypes.c_ubyte * room)()
        length = ctypes.c_size_t(room)
        self._checked(
            self._libc.sysctl(
                ctypes.addressof(mib), len(path), ctypes.addressof(content), ctypes.addressof(length), None, 0
            ),
            name,
        )
        return bytes(content[: length.value])

    def modules(self) -> tuple[str, ...]:
        layout = KLD_FILE_STAT[ctypes.sizeof(ctypes.c_void_p)]
        found = []
        file = self._checked(self._libc.kldnext(0), "kldnext")
        while file > 0:
            answer = (ctypes.c_ubyte * layout.size)()
            ctypes.c_int.from_buffer(answer).value = layout.size
            self._checked(self._libc.kldstat(file, ctypes.addressof(answer)), "kldstat")
            found.append(layout.unpack(bytes(answer))[1].split(b"\0", 1)[0].decode("utf-8", "replace"))
            file = self._checked(self._libc.kldnext(file), "kldnext")
        return tuple(found)

    @staticmethod
    def _checked(result: int, what: str) -> int:
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), what)
        return result
