# SPDX-License-Identifier: BSD-2-Clause
"""What the kernel says of one socket: is a direction in the kernel, with which version and cipher, by which witness.

Nothing here needs a privilege, and nothing here can hold key material: the crypto state is read with a 4-byte buffer
(`getsockopt(SOL_TLS, TLS_TX)` with the full length would return the traffic key; the record sequence number, which
only the long form has, is read in C and wiped there, see datapath/ktls.c).
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from dataclasses import dataclass

from ktlsctl import freebsdkernel
from ktlsctl.facts import sockdiag
from ktlsctl.freebsdabi import Mode
from ktlsctl.model import Attempt, Direction, Outcome

# include/uapi/linux/{tcp,tls}.h
TCP_ULP = 31
SOL_TLS = 282
TLS_OPTION = {Direction.TX: 1, Direction.RX: 2}

FREEBSD_MODES = {Mode.NONE: "none", Mode.SW: "software", Mode.IFNET: "nic", Mode.TOE: "toe"}


@dataclass(frozen=True, slots=True)
class KernelWord:
    """The kernel's own answer for one direction of one socket.

    `armed`: the kernel holds a key for it.  `version` is the wire number (0x0303), `cipher` the TLS_CIPHER_* number;
    both 0 where the system does not tell (FreeBSD tells the mode only).
    """

    armed: bool
    version: int = 0
    cipher: int = 0
    mode: str = ""


def kernel_word(sock: socket.socket, direction: Direction) -> Attempt[KernelWord]:
    """Ask the socket itself.  Never raises: what the kernel refuses to say is an attempt that failed."""
    if sys.platform == "linux":
        return _linux_word(sock, direction)
    return _freebsd_word(sock, direction)


def _linux_word(sock: socket.socket, direction: Direction) -> Attempt[KernelWord]:
    try:
        header = sock.getsockopt(SOL_TLS, TLS_OPTION[direction], 4)
    except OSError as error:
        # net/tls/tls_main.c: EBUSY = ULP attached, this direction has no key; EOPNOTSUPP = no ULP on the socket
        # (ENOPROTOOPT where the protocol knows no SOL_TLS at all).
        if error.errno in (errno.EBUSY, errno.EOPNOTSUPP, errno.ENOPROTOOPT):
            return Attempt.ran(KernelWord(armed=False))
        return Attempt(Outcome.FAILED, reason=f"getsockopt(SOL_TLS): {error.strerror}")
    version, cipher = struct.unpack("=HH", header)
    return Attempt.ran(KernelWord(armed=True, version=version, cipher=cipher))


def _freebsd_word(sock: socket.socket, direction: Direction) -> Attempt[KernelWord]:
    try:
        mode = freebsdkernel.mode(sock, direction)
    except OSError as error:
        return Attempt(Outcome.FAILED, reason=f"getsockopt(TCP_{direction.upper()}TLS_MODE): {error.strerror}")
    name = FREEBSD_MODES[Mode(mode)] if mode in FREEBSD_MODES else str(mode)
    return Attempt.ran(KernelWord(armed=mode != Mode.NONE, mode=name))


def diag_word(sock: socket.socket) -> Attempt[sockdiag.Ulp]:
    """What sock_diag says of the socket's ULP; Linux only.

    Before 6.15 the kernel shows it only to who may administrate the network namespace: without the attribute the
    attempt is DENIED unless the answer could not have been withheld.
    """
    if sys.platform != "linux":
        return Attempt(Outcome.ABSENT, reason="sock_diag is Linux's")
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, sockdiag.NETLINK_SOCK_DIAG) as netlink:
            netlink.settimeout(2.0)
            netlink.send(sockdiag.request_one(sock.family, sock.getsockname()[:2], sock.getpeername()[:2]))
            found = sockdiag.decode(netlink.recv(65536)).sockets
    except sockdiag.SockDiagError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        return Attempt(Outcome.FAILED, reason=f"sock_diag: {reason}")
    except OSError as error:
        return Attempt(Outcome.FAILED, reason=f"sock_diag: {error.strerror or error}")
    if not found:
        return Attempt(Outcome.FAILED, reason="sock_diag does not know the socket")
    if found[0].ulp is None:
        return Attempt(Outcome.DENIED, reason="no ULP shown (before Linux 6.15 that needs CAP_NET_ADMIN)")
    return Attempt.ran(found[0].ulp)
