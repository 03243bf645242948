# SPDX-License-Identifier: BSD-2-Clause
"""FreeBSD's list of kernel TLS sessions, the sysctl net.inet.tcp.ktlslist, as bytes in and records out.

The layouts are freebsdabi.py's, the same on 32 and 64 bits.  The kernel has a second list with the keys; this one has
none, but it does have the IVs, which are wiped before anything else sees the bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from socket import AF_INET, AF_INET6, inet_ntop
from typing import Any

from ktlsctl.freebsdabi import INC_ISIPV6, XINPGEN, XKTLS_SESSION, XKTLS_SESSION_ONEDIR
from ktlsctl.host import Host
from ktlsctl.model import Attempt

NAME = "net.inet.tcp.ktlslist"

_XINPGEN_SIZE = XINPGEN.size
_FIXED = XKTLS_SESSION.size
_RCV_AT, _SND_AT = XKTLS_SESSION.field("rcv").offset, XKTLS_SESSION.field("snd").offset
_IV = XKTLS_SESSION_ONEDIR.field("iv")


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
    return at + _XINPGEN_SIZE <= len(content) and XINPGEN.value("xig_len", content, at) == _XINPGEN_SIZE


def _records(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Position, size and size of the fixed part of each record; ends where the bytes are no record."""
    at = _XINPGEN_SIZE
    while at + _FIXED <= len(content):
        size, fixed = (XKTLS_SESSION.value(name, content, at) for name in ("tsz", "fsz"))
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
    def its(name: str) -> Any:
        return XKTLS_SESSION.value(name, content, at)

    ipv6 = bool(its("coninf.inc_flags") & INC_ISIPV6)
    return KtlsSession(
        its("inp_gencnt"),
        _address(its("coninf.inc_ie.ie_dependladdr"), ipv6),
        int.from_bytes(its("coninf.inc_ie.ie_lport"), "big"),
        _address(its("coninf.inc_ie.ie_dependfaddr"), ipv6),
        int.from_bytes(its("coninf.inc_ie.ie_fport"), "big"),
        rx=_one_way(content, at + _RCV_AT),
        tx=_one_way(content, at + _SND_AT),
    )


def _address(packed: bytes, ipv6: bool) -> str:
    # struct in_addr_4in6: an IPv4 address is the last of four words.
    return inet_ntop(AF_INET6, packed) if ipv6 else inet_ntop(AF_INET, packed[12:])


def _one_way(content: bytes, at: int) -> OneWay:
    def its(name: str) -> Any:
        return XKTLS_SESSION_ONEDIR.value(name, content, at)

    return OneWay(
        its("cipher_algorithm"),
        its("auth_algorithm"),
        its("cipher_key_len"),
        its("max_frame_len"),
        its("tls_vmajor"),
        its("tls_vminor"),
        its("ifnet").split(b"\0")[0].decode("ascii", "replace"),
    )
