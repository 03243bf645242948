# SPDX-License-Identifier: BSD-2-Clause
"""A captured Linux host with sockets of the test's choice, for `sessions`, `top` and their renderers."""

from __future__ import annotations

import base64
import ipaddress
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from ktlsctl.facts import netns
from ktlsctl.facts.diagdump import Sight
from ktlsctl.facts.owners import Holders
from ktlsctl.host import CapturedHost
from ktlsctl.model import Attempt, NetworkNamespace, Outcome, Tri
from tests.hosts import captured

HERE = NetworkNamespace(4026531833, own=True)
BLUE = NetworkNamespace(4026532200, "blue")
DENIED: Attempt[Any] = Attempt(Outcome.DENIED, reason="Operation not permitted")

DONE = struct.pack("=IHHII", 20, 3, 2, 1, 0) + bytes(4)


def attribute(kind: int, payload: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def ulp(
    version: int = 0, cipher: int = 0, tx: int = 1, rx: int = 1, more: bytes = b"", name: bytes = b"tls\0"
) -> bytes:
    """INET_DIAG_ULP_INFO; version and cipher 0: not told."""
    told = b"".join(attribute(k, struct.pack("=H", v)) for k, v in ((1, version), (2, cipher)) if v)
    told += attribute(3, struct.pack("=H", tx)) + attribute(4, struct.pack("=H", rx)) + more
    return attribute(19, attribute(1, name) + attribute(2, told))


def sock(
    inode: int, attributes: bytes = b"", port: int = 443, local: str = "192.0.2.1", state: int = 1, acked: int = 0,
    received: int = 0, flags: int = 2,
) -> bytes:  # fmt: skip
    """One SOCK_DIAG_BY_FAMILY message; the cookie is the inode."""
    ends = [
        ipaddress.ip_address(a).packed.ljust(16, b"\0")
        for a in (local, "2001:db8::9" if ":" in local else "198.51.100.9")
    ]
    body = (
        struct.pack("=BBBB", 10 if ":" in local else 2, state, 0, 0) + struct.pack(">HH", port, 50000) + b"".join(ends)
    )
    body += struct.pack("=IIIIIIII", 0, inode, 0, 0, 0, 0, 1000, inode)
    body += attribute(2, bytes(120) + struct.pack("=QQ", acked, received) + bytes(60)) + attributes
    return struct.pack("=IHHII", 16 + len(body), 20, flags, 1, 0) + body


GCM = ulp(0x304, 52, tx=2, rx=1)
CHACHA = ulp(0x303, 54, tx=2, rx=2)
CCM = ulp(0x304, 53, tx=1, rx=2)
REFUSED = ulp(0x303, 55)
UNKEYED = ulp()

SEES = Sight(Tri.YES, Tri.YES, Tri.YES)
BLIND = Sight(Tri.YES, Tri.NO, Tri.NO)
NO_MODULE = Sight(Tri.NO, Tri.NO)


def answers(
    v4: Sequence[bytes] | Attempt[Any] = (), v6: Sequence[bytes] | Attempt[Any] = (), sight: Any = SEES,
    holders: Any = None,
) -> dict[tuple[str, str], Any]:  # fmt: skip
    """What an own network namespace says: messages of each family, in one datagram."""

    def dump(messages: Sequence[bytes] | Attempt[Any]) -> Any:
        return messages if isinstance(messages, Attempt) else [b"".join(messages) + DONE]

    return {
        ("ask", "network namespace"): HERE,
        ("ask", "sock_diag dump 2 0xb32"): dump(v4),
        ("ask", "sock_diag dump 10 0xb32"): dump(v6),
        ("ask", "sock_diag sight"): sight,
        ("ask", "socket owners"): Holders({}) if holders is None else holders,
    }


def other(
    space: NetworkNamespace, path: str, messages: Sequence[bytes] | Attempt[Any], sight: Sight = SEES
) -> dict[tuple[str, str], Any]:
    """The child's answer about another namespace."""
    key = (
        "probe",
        'ktlsctl.facts.diagdump:look {"families": [2, 10], '
        f'"inode": {space.inode}, "path": "{path}", "states": 2866}}',
    )
    if isinstance(messages, Attempt):
        return {key: messages}
    datagrams = {"2": [b"".join(messages) + DONE], "10": [DONE]}
    return {
        key: {
            "families": {f: [base64.b64encode(d).decode() for d in ds] for f, ds in datagrams.items()},
            "sight": [sight.registered.value, sight.capable.value, sight.own.value],
        }
    }


def spaces(*others: tuple[NetworkNamespace, str], unseen: int = 0) -> dict[tuple[str, str], Any]:
    return {("ask", "network namespaces"): netns.Found(((HERE, "/proc/self/ns/net"), *others), unseen)}


FILES = {
    "/proc/10/comm": b"nginx\n",
    "/proc/10/cgroup": b"0::/system.slice/nginx.service\n",
    "/proc/11/comm": b"nginx\n",
    "/proc/11/cgroup": b"0::/system.slice/nginx.service\n",
    "/proc/20/comm": b"python3\n",
    "/proc/20/cgroup": b"0::/\n",
    "/proc/net/tls_stat": b"TlsCurrTxSw 2\nTlsCurrRxSw 0\nTlsTxSw 9\nTlsDecryptError 0\n",
}


def host(files: Mapping[str, bytes] | None = None, **given: Any) -> CapturedHost:
    """`given` as for `answers`; `extra`: more answers."""
    extra = given.pop("extra", {})
    return captured(FILES if files is None else files, {**answers(**given), **extra})
