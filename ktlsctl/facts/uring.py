# SPDX-License-Identifier: BSD-2-Clause
"""io_uring: whether this process may use it, found by one NOP (uringprobe.py); and the switches that forbid it."""

from __future__ import annotations

from dataclasses import dataclass

from ktlsctl.codec import decode
from ktlsctl.facts.attempts import mapped, read_number
from ktlsctl.host import Host, Pending
from ktlsctl.model import Attempt

TARGET = "ktlsctl.facts.uringprobe:probe"
TIMEOUT = 10.0


@dataclass(frozen=True, slots=True)
class Nop:
    """How far a NOP got.  `step` is the one that failed ("" when it came back), `errno` its symbol."""

    step: str
    errno: str | None
    features: int = 0


@dataclass(frozen=True, slots=True)
class Uring:
    """`disabled`, `group`: sysctls since 6.6.  `seccomp`: mode of this process (0 none, 1 strict, 2 filter)."""

    nop: Attempt[Nop]
    disabled: Attempt[int]
    group: Attempt[int]
    seccomp: Attempt[int]


def begin(host: Host) -> Pending:
    return host.begin(TARGET, {}, TIMEOUT)


def only_seccomp(content: bytes) -> bytes:
    """The Seccomp line of /proc/self/status."""
    return b"".join(line + b"\n" for line in content.splitlines() if line.startswith(b"Seccomp:"))


def parse_seccomp(content: bytes) -> int:
    """Raises ValueError when there is no such line: a kernel without seccomp."""
    for line in content.splitlines():
        name, _, value = line.partition(b":")
        if name == b"Seccomp" and value.strip() in (b"0", b"1", b"2"):
            return int(value)
    raise ValueError("no Seccomp line")


def read(host: Host, pending: Pending) -> Uring:
    return Uring(
        nop=mapped(pending.answer(), lambda value: decode(Nop, value)),
        disabled=read_number(host, "/proc/sys/kernel/io_uring_disabled"),
        group=read_number(host, "/proc/sys/kernel/io_uring_group"),
        seccomp=mapped(host.read("/proc/self/status", keep=only_seccomp), parse_seccomp),
    )
