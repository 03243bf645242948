# SPDX-License-Identifier: BSD-2-Clause
"""FreeBSD's list of kernel TLS sessions, the sysctl net.inet.tcp.ktlslist, as bytes in and records out.

The layouts are freebsdabi.py's, the same on 32 and 64 bits.  The kernel has a second list with the keys; this one has
none, but it does have the IVs, which are wiped before anything else sees the bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from socket import AF_INET, AF_INET6, inet_ntop

from ktlsctl.freebsdabi import INC_ISIPV6, XINPGEN, XKTLS_SESSION, XKTLS_SESSION_ONEDIR
from ktlsctl.host import Host
from ktlsctl.model import Attempt

NAME = "net.inet.tcp.ktlslist"

_XINPGEN_SIZE = XINPGEN.size
_LENGTH = struct.Struct("=Q")
#: tsz (whole record), fsz (its fixed part)
_SIZES = struct.Struct("=II")
_FIXED = XKTLS_SESSION.size
_GENERATION = struct.Struct("=Q")
_GENERATION_AT = XKTLS_SESSION.field("inp_gencnt").offset
_FLAGS_AT = XKTLS_SESSION.field("coninf.inc_flags").offset
#: in network order: foreign port, local port, foreign and local address
_ENDS = struct.Struct(">HH16s16s")
_ENDS_AT = XKTLS_SESSION.field("coninf.inc_ie.ie_fport").offset
_RCV_AT, _SND_AT = XKTLS_SESSION.field("rcv").offset, XKTLS_SESSION.field("snd").offset
_IV = XKTLS_SESSION_ONEDIR.field("iv")
#: cipher, authentication; key, IV, authentication key and largest payload in bytes; major, minor version
_DIRECTION = struct.Struct("=iiHHHHBB")
_DIRECTION_AT = XKTLS_SESSION_ONEDIR.field("cipher_algorithm").offset
_IFNET = struct.Struct("16s")
_IFNET_AT = XKTLS_SESSION_ONEDIR.field("ifnet").offset


class KtlsListError(ValueError):
    """The bytes are no such list; the message says where they end being one."""


@dataclass(frozen=True, slots=True)
class OneWay:
    """One direction.  Numbers are crypto/cryptodev.h's; lengths in bytes; `key_length` 0: not told.  `interface` is
    the network interface that does the records, empty for software."""

    algorithm: int
    authentication: int
    key_length: int
    max_payload: int
    major: int
    minor: int
    interface: str

    @property
    def there(self) -> bool:
        return self.algorithm != 0 or self.major != 0


@dataclass(frozen=True, slots=True)
class KtlsSession:
    """One connection.  `generation` is the kernel's count of connections, never used twice."""

    generation: int
    local: str
    local_port: int
    remote: str
    remote_port: int
    rx: OneWay
    tx: OneWay


def read(host: Host) -> Attempt[bytes]:
    """The list with the IVs wiped; ABSENT where this kernel keeps none (before 15, or without KERN_TLS)."""
    return host.ask(f"sysctl {NAME}", _fetch)


def _fetch() -> bytes:
    import ctypes
    import os

    libc = ctypes.CDLL(None, use_errno=True)
    size = ctypes.c_size_t(0)

    def call(buffer: ctypes.Array[ctypes.c_char] | None) -> None:
        if libc.sysctlbyname(NAME.encode(), buffer, ctypes.byref(size), None, ctypes.c_size_t(0)):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    # Asked without a buffer the kernel answers with room to spare for sessions that come in between.
    call(None)
    buffer = ctypes.create_string_buffer(max(size.value, 2 * _XINPGEN_SIZE))
    size.value = len(buffer)
    try:
        call(buffer)
        return masked(buffer.raw[: size.value])
    finally:
        ctypes.memset(buffer, 0, len(buffer))


def masked(content: bytes) -> bytes:
    """The same list without secrets: the IVs zeroed, and of what follows the fixed part of a record nothing left.

    What does not parse is cut off: bytes that are not understood may hold anything.
    """
    if not _is_xinpgen(content, 0):
        return b""
    kept = bytearray(content[:_XINPGEN_SIZE])
    end = _XINPGEN_SIZE
    for at, size, fixed in _records(content):
        record = bytearray(content[at : at + fixed])
        for direction in (_RCV_AT, _SND_AT):
            record[direction + _IV.offset : direction + _IV.offset + _IV.size] = bytes(_IV.size)
        kept += record + bytes(size - fixed)
        end = at + size
    if end + _XINPGEN_SIZE == len(content) and _is_xinpgen(content, end):
        kept += content[end:]
    return bytes(kept)


def _is_xinpgen(content: bytes, at: int) -> bool:
    return at + _XINPGEN_SIZE <= len(content) and _LENGTH.unpack_from(content, at)[0] == _XINPGEN_SIZE


def _records(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Position, size and size of the fixed part of each record; ends where the bytes are no record."""
    at = _XINPGEN_SIZE
    while at + _FIXED <= len(content):
        size, fixed = _SIZES.unpack_from(content, at)
        if fixed < _FIXED or size < fixed or at + size > len(content):
            return
        yield at, size, fixed
        at += size


def decode(content: bytes) -> tuple[KtlsSession, ...]:
    """The sessions.  Raises KtlsListError unless the header, every record and the trailer are whole."""
    if len(content) < 2 * _XINPGEN_SIZE:
        raise KtlsListError("shorter than its header and trailer")
    if not _is_xinpgen(content, 0):
        raise KtlsListError("the header is no struct xinpgen")
    found = []
    end = _XINPGEN_SIZE
    for at, size, _fixed in _records(content):
        found.append(_session(content, at))
        end = at + size
    if end + _XINPGEN_SIZE != len(content) or not _is_xinpgen(content, end):
        raise KtlsListError(f"damaged behind session {len(found)}")
    return tuple(found)


def _session(content: bytes, at: int) -> KtlsSession:
    (generation,) = _GENERATION.unpack_from(content, at + _GENERATION_AT)
    remote_port, local_port, remote, local = _ENDS.unpack_from(content, at + _ENDS_AT)
    ipv6 = bool(content[at + _FLAGS_AT] & INC_ISIPV6)
    return KtlsSession(
        generation,
        _address(local, ipv6),
        local_port,
        _address(remote, ipv6),
        remote_port,
        rx=_one_way(content, at + _RCV_AT),
        tx=_one_way(content, at + _SND_AT),
    )


def _address(packed: bytes, ipv6: bool) -> str:
    # struct in_addr_4in6: an IPv4 address is the last of four words.
    return inet_ntop(AF_INET6, packed) if ipv6 else inet_ntop(AF_INET, packed[12:])


def _one_way(content: bytes, at: int) -> OneWay:
    fields = _DIRECTION.unpack_from(content, at + _DIRECTION_AT)
    algorithm, authentication, key, _iv, _auth_key, max_payload, major, minor = fields
    (interface,) = _IFNET.unpack_from(content, at + _IFNET_AT)
    return OneWay(
        algorithm,
        authentication,
        key,
        max_payload,
        major,
        minor,
        interface.split(b"\0")[0].decode("ascii", "replace"),
    )
