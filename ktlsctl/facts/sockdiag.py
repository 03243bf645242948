# SPDX-License-Identifier: BSD-2-Clause
"""Linux sock_diag: what the kernel tells about TCP sockets over netlink, and of their ULP above all.

Layouts: include/uapi/linux/{netlink,sock_diag,inet_diag,tls}.h.  The decoder is pure and tolerant: attributes that it
does not know are passed over, whatever newer kernels add.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_DUMP = 0x1, 0x300
#: The kernel sends INET_DIAG_ULP_INFO only to who asks for INET_DIAG_INFO (2): bit 2 - 1 (net/ipv4/tcp_diag.c).
EXT_INFO = 1 << (2 - 1)
IPPROTO_TCP = 6
TCP_ESTABLISHED = 1

_NLMSGHDR = struct.Struct("=IHHII")
_REQ_V2_HEAD = struct.Struct("=BBBBI")
_SOCKID = struct.Struct(">HH16s16s")
_MSG_HEAD = struct.Struct("=BBBB")
_MSG_TAIL = struct.Struct("=IIIII")
_MSG_SIZE = 72
_SOCKID_SIZE = 48
_RTATTR = struct.Struct("=HH")

INET_DIAG_ULP_INFO = 19
INET_ULP_INFO_NAME, INET_ULP_INFO_TLS = 1, 2
_NLA_TYPE_MASK = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER


class TlsConf(IntEnum):
    """TLS_CONF_*: who does one direction's records.  `BASE`: nobody, the socket is plain in that direction."""

    BASE = 1
    SW = 2
    HW = 3
    HW_RECORD = 4


def armed(conf: int | None) -> bool | None:
    """Whether the kernel does a direction's records: BASE is plain; SW, HW and whatever comes later are its work."""
    return None if conf is None else conf != TlsConf.BASE


class SockDiagError(Exception):
    """The kernel refused, or its answer is no netlink message; `errno` is 0 for the latter."""

    def __init__(self, message: str, errno: int = 0) -> None:
        super().__init__(message)
        self.errno = errno


@dataclass(frozen=True, slots=True)
class Ulp:
    """INET_DIAG_ULP_INFO.  `version`, `cipher`, `tx`, `rx` are the kernel's numbers, None where it sent none.

    `tx` and `rx` are TLS_CONF_* (see TlsConf; newer kernels may know others).  `tx_max_payload` in bytes.
    """

    name: str
    version: int | None = None
    cipher: int | None = None
    tx: int | None = None
    rx: int | None = None
    zerocopy_tx: bool = False
    no_pad_rx: bool = False
    tx_max_payload: int | None = None


@dataclass(frozen=True, slots=True)
class TcpSocket:
    """One TCP socket.  `state` as in linux/tcp_states.h; `queued_*` in bytes; `ulp` None: not there or not shown."""

    state: int
    source: str
    source_port: int
    destination: str
    destination_port: int
    queued_rx: int
    queued_tx: int
    uid: int
    inode: int
    ulp: Ulp | None


def request_all(family: int, states: int = 0xFFF) -> bytes:
    """Dump every TCP socket of AF_INET (2) or AF_INET6 (10) in this network namespace; `states`: 1 << state."""
    return _request(family, NLM_F_REQUEST | NLM_F_DUMP, states, bytes(_SOCKID_SIZE))


def request_one(family: int, source: tuple[str, int], destination: tuple[str, int]) -> bytes:
    """Ask for one established socket by its two ends, as (address, port)."""
    addresses = (ipaddress.ip_address(source[0]).packed, ipaddress.ip_address(destination[0]).packed)
    identity = _SOCKID.pack(source[1], destination[1], *addresses)
    no_cookie = struct.pack("=III", 0, 0xFFFFFFFF, 0xFFFFFFFF)  # any interface, INET_DIAG_NOCOOKIE
    return _request(family, NLM_F_REQUEST, 1 << TCP_ESTABLISHED, identity + no_cookie)


def _request(family: int, flags: int, states: int, identity: bytes) -> bytes:
    body = _REQ_V2_HEAD.pack(family, IPPROTO_TCP, EXT_INFO, 0, states) + identity
    return _NLMSGHDR.pack(_NLMSGHDR.size + len(body), SOCK_DIAG_BY_FAMILY, flags, 1, 0) + body


def decode(datagram: bytes) -> tuple[tuple[TcpSocket, ...], bool]:
    """The sockets in one datagram from the kernel, and whether the dump is done.

    Raises SockDiagError for an error message, and for bytes that are no netlink messages.
    """
    sockets: list[TcpSocket] = []
    offset = 0
    while offset + _NLMSGHDR.size <= len(datagram):
        length, kind, _flags, _sequence, _port = _NLMSGHDR.unpack_from(datagram, offset)
        if length < _NLMSGHDR.size or offset + length > len(datagram):
            raise SockDiagError("truncated netlink message")
        body = datagram[offset + _NLMSGHDR.size : offset + length]
        if kind == NLMSG_DONE:
            return tuple(sockets), True
        if kind == NLMSG_ERROR:
            number = -struct.unpack_from("=i", body)[0] if len(body) >= 4 else 0
            raise SockDiagError("the kernel refused the request", number)
        if kind == SOCK_DIAG_BY_FAMILY:
            sockets.append(_socket(body))
        offset += (length + 3) & ~3
    if offset < len(datagram):
        raise SockDiagError("truncated netlink message")
    return tuple(sockets), False


def _socket(body: bytes) -> TcpSocket:
    if len(body) < _MSG_SIZE:
        raise SockDiagError("truncated inet_diag_msg")
    family, state, _timer, _retransmits = _MSG_HEAD.unpack_from(body)
    source_port, destination_port, source, destination = _SOCKID.unpack_from(body, 4)
    _expires, queued_rx, queued_tx, uid, inode = _MSG_TAIL.unpack_from(body, 4 + _SOCKID_SIZE)
    attributes = dict(_attributes(body[_MSG_SIZE:]))
    ulp = attributes.get(INET_DIAG_ULP_INFO)
    return TcpSocket(
        state,
        _address(family, source),
        source_port,
        _address(family, destination),
        destination_port,
        queued_rx,
        queued_tx,
        uid,
        inode,
        None if ulp is None else _ulp(ulp),
    )


def _address(family: int, packed: bytes) -> str:
    return str(ipaddress.IPv4Address(packed[:4]) if family == 2 else ipaddress.IPv6Address(packed))


def _attributes(block: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and payload of each attribute; a damaged tail ends the walk."""
    offset = 0
    while offset + _RTATTR.size <= len(block):
        length, kind = _RTATTR.unpack_from(block, offset)
        if length < _RTATTR.size or offset + length > len(block):
            return
        yield kind & _NLA_TYPE_MASK, block[offset + _RTATTR.size : offset + length]
        offset += (length + 3) & ~3


def _ulp(block: bytes) -> Ulp:
    parts = dict(_attributes(block))
    tls = dict(_attributes(parts.get(INET_ULP_INFO_TLS, b"")))

    def number(kind: int) -> int | None:
        payload = tls.get(kind, b"")
        return int(struct.unpack_from("=H", payload)[0]) if len(payload) >= 2 else None

    return Ulp(
        name=parts.get(INET_ULP_INFO_NAME, b"").split(b"\0")[0].decode("ascii", "replace"),
        version=number(1),
        cipher=number(2),
        tx=number(3),
        rx=number(4),
        zerocopy_tx=5 in tls,
        no_pad_rx=6 in tls,
        tx_max_payload=number(7),
    )
