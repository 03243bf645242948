# SPDX-License-Identifier: BSD-2-Clause
"""The live edge of sock_diag: what the kernel sent when it was asked for all TCP sockets, undecoded; and whether this
process would be shown a ULP at all.

Before Linux 6.15 the kernel leaves a socket's ULP out of its answers to whoever lacks CAP_NET_ADMIN, without a word
(net/ipv4/tcp_diag.c): what was not shown is only "not there" once it is known that it would have been shown.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ktlsctl.facts import sockdiag
from ktlsctl.host import Host
from ktlsctl.model import Attempt, Tri

FAMILIES = (socket.AF_INET, socket.AF_INET6)

#: Seconds that the kernel may take for one datagram of a dump, and an own loopback connection.
TIMEOUT = 5.0
#: A dump of so many bytes (some ten million sockets) does not end any more.
LIMIT = 4 << 30

_TCP_ULP = 31  # linux/tcp.h
_NS_GET_USERNS = 0xB701  # linux/nsfs.h
_CAP_NET_ADMIN = 12


@dataclass(frozen=True, slots=True)
class Sight:
    """What decides whether this process is shown ULPs.

    `registered`: TCP knows the ULP "tls".  `capable`: CAP_NET_ADMIN over this network namespace.  `own`: a throw-away
    socket of this process with the ULP attached was shown with it.
    """

    registered: Tri
    capable: Tri
    own: Tri = Tri.UNKNOWN

    @property
    def shown(self) -> Tri:
        """Whether a socket with kernel TLS would have been seen.  The own socket's word is proof; without the ULP
        there is nothing to see; before 5.4 the kernel shows it to nobody, which only the own socket can tell."""
        if self.own is not Tri.UNKNOWN:
            return self.own
        if self.registered is Tri.NO:
            return Tri.YES
        return Tri.YES if self.capable is Tri.YES else Tri.UNKNOWN


def read(host: Host, family: int, states: int) -> Attempt[Sequence[bytes]]:
    """The datagrams of one dump of this network namespace; `states` as for sockdiag.request_all."""
    return host.ask(f"sock_diag dump {int(family)} {states:#x}", lambda: dump(family, states))


def read_sight(host: Host) -> Attempt[Sight]:
    """Makes two loopback sockets for a moment; loads no module."""
    return host.ask("sock_diag sight", sight)


def dump(family: int, states: int) -> list[bytes]:
    """Raises OSError: what the kernel answered, TimeoutError when it stopped answering."""
    datagrams: list[bytes] = []
    with _netlink() as netlink:
        netlink.send(sockdiag.request_all(family, states))
        size = 0
        while size < LIMIT:
            # The kernel fills what it is offered, up to 32 KiB (net/netlink/af_netlink.c).
            datagram = netlink.recv(1 << 17)
            datagrams.append(datagram)
            size += len(datagram)
            if _may_end(datagram) and ends(datagram):
                return datagrams
    raise OSError(errno.EFBIG, "the dump does not end")


def _netlink() -> socket.socket:
    if sys.platform != "linux":
        raise OSError(errno.EAFNOSUPPORT, "sock_diag is Linux's")
    netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, sockdiag.NETLINK_SOCK_DIAG)
    netlink.settimeout(TIMEOUT)
    return netlink


#: A DONE message with the dump's result and nothing more, which is what a socket without NETLINK_EXT_ACK gets.
_DONE_HEAD = struct.pack("=IH", 20, sockdiag.NLMSG_DONE)


def _may_end(datagram: bytes) -> bool:
    """A quick look at its first and its last message: most datagrams of a long dump are full of sockets."""
    return len(datagram) < 20 or _kind(datagram, 0) != sockdiag.SOCK_DIAG_BY_FAMILY or datagram[-20:-14] == _DONE_HEAD


def ends(datagram: bytes) -> bool:
    """Whether nothing follows.  DONE and ERROR come first in a datagram, or DONE last behind the last sockets."""
    if len(datagram) < 16 or _kind(datagram, 0) in (sockdiag.NLMSG_DONE, sockdiag.NLMSG_ERROR):
        return True
    offset = 0
    while offset + 16 <= len(datagram):
        length = struct.unpack_from("=I", datagram, offset)[0]
        if length < 16 or _kind(datagram, offset) == sockdiag.NLMSG_DONE:
            return True
        offset += (length + 3) & ~3
    return False


def _kind(datagram: bytes, offset: int) -> int:
    return int(struct.unpack_from("=H", datagram, offset + 4)[0])


# --- would a ULP be shown? ------------------------------------------------------------------------------------------


def sight() -> Sight:
    """Never raises; what could not be found out is UNKNOWN."""
    holds, over = _effective_net_admin(), _owns_network_namespace()
    capable = Tri.YES if holds is over is Tri.YES else Tri.NO if Tri.NO in (holds, over) else Tri.UNKNOWN
    registered = _registered()
    if registered is Tri.NO and holds is not Tri.NO:
        return Sight(Tri.NO, capable)
    # With the capability touching TCP_ULP would load the module; without it asking changes nothing.
    return _try_own(registered, capable)


def _registered() -> Tri:
    """The counters came with 5.5 and are in every network namespace; the list of ULPs is in the first one only."""
    if os.path.exists("/proc/net/tls_stat"):
        return Tri.YES
    with contextlib.suppress(OSError), open("/proc/sys/net/ipv4/tcp_available_ulp", encoding="ascii") as file:
        return Tri.YES if "tls" in file.read().split() else Tri.NO
    with contextlib.suppress(OSError), open("/proc/modules", encoding="ascii") as file:
        return Tri.YES if any(line.startswith("tls ") for line in file) else Tri.NO
    return Tri.NO


def _effective_net_admin() -> Tri:
    with contextlib.suppress(OSError, ValueError), open("/proc/self/status", encoding="utf-8") as file:
        for line in file:
            if line.startswith("CapEff:"):
                return Tri.YES if int(line.split()[1], 16) >> _CAP_NET_ADMIN & 1 else Tri.NO
    return Tri.UNKNOWN


def _owns_network_namespace() -> Tri:
    """Whether the capabilities of this process count in its network namespace: the user namespace that owns it is its
    own or one below (ioctl_ns(2): EPERM for any other)."""
    import fcntl

    try:
        with open("/proc/self/ns/net", "rb") as namespace:
            os.close(fcntl.ioctl(namespace, _NS_GET_USERNS))
    except PermissionError:
        return Tri.NO
    except OSError:
        return Tri.UNKNOWN
    return Tri.YES


def _try_own(registered: Tri, capable: Tri) -> Sight:
    try:
        with _pair() as (ours, theirs):
            try:
                ours.setsockopt(socket.IPPROTO_TCP, _TCP_ULP, b"tls")
            except FileNotFoundError:
                return Sight(Tri.NO, capable)
            with _netlink() as netlink:
                netlink.send(sockdiag.request_one(ours.family, ours.getsockname()[:2], theirs.getsockname()[:2]))
                found = sockdiag.decode(netlink.recv(1 << 17)).sockets
    except (OSError, sockdiag.SockDiagError):
        return Sight(registered, capable)
    if not found:
        return Sight(Tri.YES, capable)
    return Sight(Tri.YES, capable, Tri.NO if found[0].ulp is None else Tri.YES)


@contextlib.contextmanager
def _pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    last: OSError | None = None
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with contextlib.ExitStack() as opened:
            try:
                listener = opened.enter_context(socket.socket(family))
                listener.bind((address, 0))
                listener.listen(1)
                ours = opened.enter_context(socket.socket(family))
                ours.settimeout(TIMEOUT)
                ours.connect(listener.getsockname()[:2])
                listener.settimeout(TIMEOUT)
                theirs = opened.enter_context(listener.accept()[0])
                # A reset instead of a minute in TIME_WAIT: nothing of this shall stay.
                ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("=ii", 1, 0))
            except OSError as error:
                last = error
                continue
            yield ours, theirs
            return
    assert last is not None
    raise last


# --- another network namespace, in a child --------------------------------------------------------------------------

TARGET = "ktlsctl.facts.diagdump:look"


def look(argument: Any) -> Any:
    """The probe: enter the network namespace with this `inode`, answer with its dumps and its sight.

    `argument`: {"inode": int, "path": str, "families": [int], "states": int}.  Answers {"families": {"2": [base64]},
    "sight": [...]}, or {"gone": true} when there is no such namespace any more.  Raises ProbeError where it may not be
    entered or asked.
    """
    import base64

    from ktlsctl.servant import ProbeError

    try:
        namespace = _opened(argument["inode"], argument["path"])
        if namespace is None:
            return {"gone": True}
        _enter(namespace)
        families = {
            str(family): [base64.b64encode(d).decode("ascii") for d in dump(family, argument["states"])]
            for family in argument["families"]
        }
    except OSError as error:
        raise ProbeError(error.strerror or str(error)) from None
    found = sight()
    return {"families": families, "sight": [found.registered, found.capable, found.own]}


def _opened(inode: int, path: str) -> int | None:
    """The namespace by `path`, or by another process in it: the one that led there may have ended, and its number may
    be another's by now."""
    fd = _opened_as(inode, path)
    if fd is None:
        from ktlsctl.facts import netns

        again = netns.scan(netns.PROC, netns.NAMED).namespaces
        fd = next((_opened_as(inode, other) for space, other in again if space.inode == inode), None)
    return fd


def _opened_as(inode: int, path: str) -> int | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    if os.fstat(fd).st_ino == inode:
        return fd
    os.close(fd)
    return None


def _enter(namespace: int) -> None:
    """setns(2) into a network namespace (CLONE_NEWNET)."""
    import ctypes

    if ctypes.CDLL(None, use_errno=True).setns(namespace, 0x40000000) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    os.close(namespace)
