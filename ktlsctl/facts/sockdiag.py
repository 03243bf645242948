# SPDX-License-Identifier: BSD-2-Clause
"""Linux sock_diag: what the kernel tells about TCP sockets over netlink, and of their ULP above all.

Layouts: include/uapi/linux/{netlink,sock_diag,inet_diag,tls}.h.  The decoder is pure and tolerant: attributes that it
does not know are passed over, whatever newer kernels add.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton, ntohs
from typing import NamedTuple

NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_DUMP = 0x1, 0x300
#: In an answer: the table changed while it was dumped, so that sockets may be missing or twice.
NLM_F_DUMP_INTR = 0x10
#: The kernel sends INET_DIAG_ULP_INFO only to who asks for INET_DIAG_INFO (2): bit 2 - 1 (net/ipv4/tcp_diag.c).
EXT_INFO = 1 << (2 - 1)
IPPROTO_TCP = 6
TCP_ESTABLISHED = 1
#: linux/tcp_states.h, as ss(8) and netstat(8) write them
TCP_STATES = (
    "UNKNOWN", "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT1", "FIN_WAIT2", "TIME_WAIT", "CLOSE", "CLOSE_WAIT",
    "LAST_ACK", "LISTEN", "CLOSING", "NEW_SYN_RECV",
)  # fmt: skip
#: The states in which a socket can have the ULP: connected, or on the way down.
CONNECTED = 1 << TCP_ESTABLISHED | 1 << 4 | 1 << 5 | 1 << 8 | 1 << 9 | 1 << 11

_NLMSGHDR = struct.Struct("=IHHII")
_REQ_V2_HEAD = struct.Struct("=BBBBI")
_SOCKID = struct.Struct(">HH16s16s")
#: struct inet_diag_msg: family, state, timer, retransmits; the two ports (in network order) and addresses; interface,
#: cookie (low word first); then expires, rqueue, wqueue, uid, inode
_MSG = struct.Struct("=BBxxHH16s16s4xIIIIIII")
_MSG_SIZE = 72
_SOCKID_SIZE = 48
_RTATTR = struct.Struct("=HH")
#: tcpi_bytes_acked and tcpi_bytes_received of struct tcp_info (linux/tcp.h)
_BYTES = struct.Struct("=QQ")
_BYTES_OFFSET = 120

INET_DIAG_INFO = 2
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


class TcpSocket(NamedTuple):  # made by the ten thousand: seven times as fast as a frozen dataclass
    """One TCP socket.  `state` as in linux/tcp_states.h; `queued_*` in bytes; `ulp` None: not there or not shown.

    `bytes_acked` (sent, and acknowledged by the peer) and `bytes_received` count what crossed the wire, record headers
    and handshake included; None where the kernel sent no struct tcp_info.  `cookie` is never used twice.
    """

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
    cookie: int = 0
    bytes_acked: int | None = None
    bytes_received: int | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """One datagram of an answer.  `done`: it was the last.  `interrupted`: the table changed meanwhile."""

    sockets: tuple[TcpSocket, ...]
    done: bool
    interrupted: bool = False


def request_all(family: int, states: int = 0xFFF) -> bytes:
    """Dump every TCP socket of AF_INET (2) or AF_INET6 (10) in this network namespace; `states`: 1 << state."""
    return _request(family, NLM_F_REQUEST | NLM_F_DUMP, states, bytes(_SOCKID_SIZE))


def request_one(family: int, source: tuple[str, int], destination: tuple[str, int]) -> bytes:
    """Ask for one established socket by its two ends, as (address, port)."""
    addresses = (inet_pton(family, source[0]), inet_pton(family, destination[0]))
    identity = _SOCKID.pack(source[1], destination[1], *addresses)
    no_cookie = struct.pack("=III", 0, 0xFFFFFFFF, 0xFFFFFFFF)  # any interface, INET_DIAG_NOCOOKIE
    return _request(family, NLM_F_REQUEST, 1 << TCP_ESTABLISHED, identity + no_cookie)


def _request(family: int, flags: int, states: int, identity: bytes) -> bytes:
    body = _REQ_V2_HEAD.pack(family, IPPROTO_TCP, EXT_INFO, 0, states) + identity
    return _NLMSGHDR.pack(_NLMSGHDR.size + len(body), SOCK_DIAG_BY_FAMILY, flags, 1, 0) + body


def decode(datagram: bytes) -> Part:
    """The sockets in one datagram from the kernel.

    Raises SockDiagError for an error message, for a dump that ended in an error, and for bytes that are no netlink
    messages.
    """
    sockets: list[TcpSocket] = []
    interrupted = False
    offset = 0
    while offset + _NLMSGHDR.size <= len(datagram):
        length, kind, flags, _sequence, _port = _NLMSGHDR.unpack_from(datagram, offset)
        if length < _NLMSGHDR.size or offset + length > len(datagram):
            raise SockDiagError("truncated netlink message")
        begin, end = offset + _NLMSGHDR.size, offset + length
        if kind == SOCK_DIAG_BY_FAMILY:
            interrupted |= bool(flags & NLM_F_DUMP_INTR)
            sockets.append(_socket(datagram, begin, end))
        elif kind in (NLMSG_DONE, NLMSG_ERROR):
            number = -struct.unpack_from("=i", datagram, begin)[0] if end - begin >= 4 else 0
            if kind == NLMSG_ERROR or number > 0:
                raise SockDiagError("the kernel refused the request", number)
            return Part(tuple(sockets), True, interrupted or bool(flags & NLM_F_DUMP_INTR))
        offset += (length + 3) & ~3
    if offset < len(datagram):
        raise SockDiagError("truncated netlink message")
    return Part(tuple(sockets), False, interrupted)


def _socket(datagram: bytes, begin: int, end: int) -> TcpSocket:
    if end - begin < _MSG_SIZE:
        raise SockDiagError("truncated inet_diag_msg")
    family, state, sport, dport, source, dest, low, high, _, queued_rx, queued_tx, uid, inode = _MSG.unpack_from(
        datagram, begin
    )
    acked = received = ulp = None
    # Ten thousand sockets have some sixty thousand attributes: only the two of interest are copied.
    offset = begin + _MSG_SIZE
    while offset + 4 <= end:
        length, kind = _RTATTR.unpack_from(datagram, offset)
        if length < 4 or offset + length > end:
            break  # a damaged tail: what came before stands
        if kind == INET_DIAG_INFO:
            if length >= 4 + _BYTES_OFFSET + _BYTES.size:
                acked, received = _BYTES.unpack_from(datagram, offset + 4 + _BYTES_OFFSET)
        elif kind & _NLA_TYPE_MASK == INET_DIAG_ULP_INFO:
            ulp = _ulp(datagram[offset + 4 : offset + length])
        offset += (length + 3) & ~3
    return TcpSocket(
        state,
        _address(family, source),
        ntohs(sport),
        _address(family, dest),
        ntohs(dport),
        queued_rx,
        queued_tx,
        uid,
        inode,
        ulp,
        high << 32 | low,
        acked,
        received,
    )


@lru_cache(maxsize=4096)
def _address(family: int, packed: bytes) -> str:
    return inet_ntop(AF_INET, packed[:4]) if family == AF_INET else inet_ntop(AF_INET6, packed)


def _attributes(block: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and payload of each attribute; a damaged tail ends the walk."""
    offset = 0
    while offset + _RTATTR.size <= len(block):
        length, kind = _RTATTR.unpack_from(block, offset)
        if length < _RTATTR.size or offset + length > len(block):
            return
        yield kind & _NLA_TYPE_MASK, block[offset + _RTATTR.size : offset + length]
        offset += (length + 3) & ~3


# The sockets of a host have a handful of distinct ULPs among them.
@lru_cache(maxsize=256)
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
