# SPDX-License-Identifier: BSD-2-Clause
"""FreeBSD: which process holds which TCP connection, what it is called, and which rc(8) service started it.

The kernel's list of kernel TLS sessions names no process: the two ends of a connection lead to it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ktlsctl.host import Host
from ktlsctl.model import Attempt, Outcome

RUN = "/var/run"

#: local address and port, remote address and port
Ends = tuple[str, int, str, int]

ESTABLISHED = "ESTABLISHED"


@dataclass(frozen=True, slots=True)
class Connection:
    """`state` as psutil writes it; `pids`: who holds it, ascending, as far as this user may see them."""

    state: str
    pids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Process:
    parent: int
    name: str


def read(host: Host) -> Attempt[Mapping[Ends, Connection]]:
    """Every connection: one that the peer has closed (CLOSE_WAIT) may still have kernel TLS."""
    return host.ask("tcp connections", _connections)


def _connections() -> Mapping[Ends, Connection]:
    import psutil

    found: dict[Ends, Connection] = {}
    try:
        for each in psutil.net_connections("tcp"):
            if each.laddr and each.raddr:
                ends = (each.laddr.ip, each.laddr.port, each.raddr.ip, each.raddr.port)
                others = found[ends].pids if ends in found else ()
                found[ends] = Connection(each.status, tuple(sorted({*others, *((each.pid,) if each.pid else ())})))
    except (psutil.Error, RuntimeError) as error:  # RuntimeError: the kernel's list has another size than psutil's
        raise OSError(0, f"psutil: {error}") from None
    return found


def processes(host: Host) -> Attempt[Mapping[int, Process]]:
    """Every process that this user may see, by its id."""
    # One -o each: in FreeBSD's ps(1) all that follows "=" is the header of that column, commas too.
    ran = host.run("ps", "-ax", "-o", "pid=", "-o", "ppid=", "-o", "comm=")
    if ran.value is None or ran.value.status != 0:
        return Attempt(Outcome.FAILED, reason=f"ps(1): {ran.reason or 'failed'}")
    # ps lists itself, at least
    found = parse_ps(ran.value.stdout)
    return Attempt.ran(found) if found else Attempt(Outcome.FAILED, reason="ps(1): its answer names no process")


def parse_ps(text: str) -> Mapping[int, Process]:
    """Lines of id, parent's id and name; any other line is passed over."""
    lines = (re.fullmatch(r"\s*([0-9]{1,10})\s+([0-9]{1,10})\s+(.*\S)\s*", line) for line in text.split("\n"))
    return {int(m[1]): Process(int(m[2]), m[3]) for m in lines if m is not None}


def services(host: Host) -> Mapping[int, str]:
    """rc(8) services by their first process: what a daemon writes to /var/run/NAME.pid."""
    names = host.names(RUN, keep=lambda name: name.endswith(".pid")).or_else(())
    found = {}
    for name in names:
        content = host.read(f"{RUN}/{name}").or_else(b"").strip()
        if re.fullmatch(rb"[0-9]{1,10}", content):
            found[int(content)] = name.removesuffix(".pid")
    return found


def service_of(pid: int, services: Mapping[int, str], processes: Mapping[int, Process]) -> str | None:
    """The service of the process or of its parent: many daemons work in children of the one that wrote the file."""
    if pid in services:
        return services[pid]
    process = processes.get(pid)
    return services.get(process.parent) if process is not None else None
