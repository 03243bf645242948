# SPDX-License-Identifier: BSD-2-Clause
"""`ktlsctl sessions` on FreeBSD: the kernel's own list of sessions, and its gauges where there is no list."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ktlsctl import sysctl
from ktlsctl.ciphers import FREEBSD_CIPHERS
from ktlsctl.facts import connections, ktlsgauges, ktlslist
from ktlsctl.facts.attempts import mapped
from ktlsctl.freebsdabi import Crypto, Tls
from ktlsctl.host import Host
from ktlsctl.model import Armed, Attempt, Check, Link, Mode, Outcome, Owner, Remedy, Session, Status, TlsVersion

#: By major and minor; kernels also carry versions that no suite of today's uses.
_VERSIONS: Mapping[tuple[int, int], str] = {
    (Tls.MAJOR_VER_ONE, Tls.MINOR_VER_ZERO): "TLSv1.0",
    (Tls.MAJOR_VER_ONE, Tls.MINOR_VER_ONE): "TLSv1.1",
    (Tls.MAJOR_VER_ONE, Tls.MINOR_VER_TWO): TlsVersion.TLS12.value,
    (Tls.MAJOR_VER_ONE, Tls.MINOR_VER_THREE): TlsVersion.TLS13.value,
}
#: By algorithm, where the list tells no key length (it does so only beside the keys).
_FAMILIES: Mapping[int, str] = {
    Crypto.AES_NIST_GCM_16: "AES-GCM",
    Crypto.CHACHA20_POLY1305: "CHACHA20-POLY1305",
    Crypto.AES_CBC: "AES-CBC",
}


@dataclass(frozen=True, slots=True)
class Listed:
    """`listed`: how the kernel's list was got.  `gauges`: its numbers by their own names; ABSENT without KERN_TLS."""

    sessions: tuple[Session, ...]
    listed: Attempt[None]
    gauges: Attempt[Mapping[str, int]]


def gather(host: Host, *, everything: bool) -> Listed:
    """Ask the host; `everything`: for connections without kernel TLS, too.  No attempt raises."""
    listed = mapped(ktlslist.read(host), ktlslist.decode)
    found = listed.or_else(())
    known = connections.read(host) if found or everything else Attempt.ran({})
    return Listed(
        tuple(_sessions(host, found, known, everything)), Attempt(listed.outcome, None, listed.reason), gauges(host)
    )


def gauges(host: Host) -> Attempt[Mapping[str, int]]:
    """The kernel's own count of open sessions, by its own names."""
    numbers = sysctl.tree(host, ktlsgauges.ROOT)
    if numbers.value is not None and not any(name.startswith(f"{ktlsgauges.ROOT}.") for name in numbers.value):
        return Attempt(Outcome.ABSENT, reason="it has no kern.ipc.tls: it was built without KERN_TLS")
    return mapped(numbers, ktlsgauges.counters)


def _sessions(
    host: Host,
    found: tuple[ktlslist.KtlsSession, ...],
    known: Attempt[Mapping[connections.Ends, tuple[int, ...]]],
    everything: bool,
) -> Iterator[Session]:
    if not found and not everything:
        return
    holders = known.or_else({})
    processes = connections.processes(host).or_else({})
    services = connections.services(host)

    def who(ends: connections.Ends) -> tuple[tuple[Owner, ...] | None, str | None]:
        pids = holders.get(ends, ())
        named = tuple(Owner(pid, processes[pid].name if pid in processes else None) for pid in pids)
        units = (connections.service_of(pid, services, processes) for pid in pids)
        return named or None, next((unit for unit in units if unit is not None), None)

    with_tls = set()
    for each in found:
        ends = (each.local, each.local_port, each.remote, each.remote_port)
        with_tls.add(ends)
        told = each.tx if each.tx.there else each.rx
        owners, service = who(ends)
        yield Session(
            Armed.KERNEL, None, version(told), cipher(told), None, _mode(each.tx), _mode(each.rx), None, None,
            each.tx.max_payload or None, owners, service, None, *ends, None, None, None, None, each.generation,
        )  # fmt: skip
    for number, ends in enumerate(sorted(holders.keys() - with_tls)) if everything else ():
        owners, service = who(ends)
        yield Session(
            Armed.PLAIN, "ESTABLISHED", None, None, None, Mode.NONE, Mode.NONE, None, None, None, owners, service, None,
            *ends, None, None, None, None, -1 - number,
        )  # fmt: skip


def version(way: ktlslist.OneWay) -> str:
    """As OpenSSL writes it; the two numbers of one that is not known."""
    return _VERSIONS.get((way.major, way.minor)) or f"{way.major}.{way.minor}"


def cipher(way: ktlslist.OneWay) -> str:
    """As the tables write it, without the key's length where the kernel does not tell it."""
    for each in FREEBSD_CIPHERS:
        if (each.algorithm, each.auth_algorithm, each.key) == (way.algorithm, way.authentication, way.key_length):
            return each.name
    return _FAMILIES.get(way.algorithm, f"cipher {way.algorithm}")


def _mode(way: ktlslist.OneWay) -> Mode:
    # The list does not tell the mode, but only the NIC's sessions have an interface.
    return Mode.NONE if not way.there else Mode.NIC if way.interface else Mode.SOFTWARE


def checks(listed: Attempt[None], counted: Attempt[Mapping[str, int]], *, failed: bool) -> tuple[Check, ...]:
    """Whether the list was seen; without it the gauges tell at least whether there is a session.

    `failed`: sockets that were refused are asked for.
    """

    def say(status: Status, summary: str, reason: str = "", *remedy: Remedy) -> tuple[Check, ...]:
        return (Check("sessions.visible", Link.SESSION, status, summary, reason, remedy=remedy),)

    if listed.present:
        if failed:
            return say(
                Status.UNKNOWN,
                "unknown: FreeBSD keeps no trace of a socket that was refused",
                "its list has open sessions only; it counts how many requests did not become one",
                Remedy("compare enable_calls with offload_total", "sysctl kern.ipc.tls.stats"),
            )
        return say(Status.OK, "the kernel lists its sessions")
    if counted.absent:
        return say(Status.OK, "this kernel has no kernel TLS", counted.reason)
    numbers = counted.value
    if numbers is None:
        return say(Status.UNKNOWN, "unknown: the kernel could not be asked", counted.reason)
    if listed.absent and numbers.get(f"{ktlsgauges.STATS}.active") == 0 and not failed:
        return say(Status.OK, "the kernel counts no open session", f"{ktlsgauges.STATS}.active is 0")
    gauge = ktlsgauges.Kind.GAUGE
    open_now = {name: count for name, count in numbers.items() if ktlsgauges.kind(name) is gauge and count}
    shown = ", ".join(f"{name} {count}" for name, count in open_now.items()) or "nothing"
    why = f"this kernel has no {ktlslist.NAME}" if listed.absent else f"{ktlslist.NAME}: {listed.reason}"
    return say(
        Status.UNKNOWN,
        f"unknown which sockets: {why}",
        f"the kernel counts {shown}; each direction of a connection is one",
    )
