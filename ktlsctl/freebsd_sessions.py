# SPDX-License-Identifier: BSD-2-Clause
"""`ktlsctl sessions` on FreeBSD: the kernel's own list of sessions, and its gauges where there is no list."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ktlsctl import sysctl
from ktlsctl.ciphers import FREEBSD_CIPHERS, family
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
    """`listed`: how the kernel's list was got.  `gauges`: its numbers by their own names; ABSENT without KERN_TLS.

    `connections`, `names`: how the connections with their processes, and the names of all processes, were got.
    """

    sessions: tuple[Session, ...]
    listed: Attempt[None]
    gauges: Attempt[Mapping[str, int]]
    connections: Attempt[None]
    names: Attempt[None]


def gather(host: Host, *, everything: bool) -> Listed:
    """Ask the host; `everything`: for connections without kernel TLS, too.  No attempt raises."""
    listed = mapped(ktlslist.read(host), ktlslist.decode)
    found = listed.or_else(())
    known: Attempt[Mapping[connections.Ends, connections.Connection]] = Attempt.ran({})
    processes: Attempt[Mapping[int, connections.Process]] = Attempt.ran({})
    if found or everything:
        known, processes = connections.read(host), connections.processes(host)
    return Listed(
        tuple(_sessions(host, found, known.or_else({}), processes.or_else({}), everything)),
        _outcome(listed),
        gauges(host),
        _outcome(known),
        _outcome(processes),
    )


def _outcome(attempt: Attempt[Any]) -> Attempt[None]:
    return Attempt(attempt.outcome, None, attempt.reason)


def gauges(host: Host) -> Attempt[Mapping[str, int]]:
    """The kernel's own count of open sessions, by its own names."""
    numbers = sysctl.tree(host, ktlsgauges.ROOT)
    if numbers.value is not None and not any(name.startswith(f"{ktlsgauges.ROOT}.") for name in numbers.value):
        return Attempt(Outcome.ABSENT, reason="it has no kern.ipc.tls: it was built without KERN_TLS")
    return mapped(numbers, ktlsgauges.counters)


def _sessions(
    host: Host,
    found: tuple[ktlslist.KtlsSession, ...],
    known: Mapping[connections.Ends, connections.Connection],
    processes: Mapping[int, connections.Process],
    everything: bool,
) -> Iterator[Session]:
    if not found and not everything:
        return
    services = connections.services(host)

    def who(ends: connections.Ends) -> tuple[tuple[Owner, ...] | None, str | None]:
        pids = known[ends].pids if ends in known else ()
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
    plain = (e for e, each in known.items() if each.state == connections.ESTABLISHED and e not in with_tls)
    for number, ends in enumerate(sorted(plain)) if everything else ():
        owners, service = who(ends)
        yield Session(
            Armed.PLAIN, connections.ESTABLISHED, None, None, None, Mode.NONE, Mode.NONE, None, None, None, owners,
            service, None, *ends, None, None, None, None, -1 - number,
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


def hidden(sessions: Sequence[Session], gauges: Attempt[Mapping[str, int]], *, privileged: bool) -> bool:
    """Whether the kernel counts more than it listed: the list leaves out what this user or this jail may not see.

    The gauge is read after the list, so that to root a list that is only short may be a race, an empty one not.
    """
    directions = sum(mode is not Mode.NONE for s in sessions if s.armed is Armed.KERNEL for mode in (s.tx, s.rx))
    return gauges.or_else({}).get(f"{ktlsgauges.STATS}.active", 0) > directions and not (privileged and directions)


def unfiltered(sessions: Sequence[Session], wanted: Collection[str]) -> Iterator[Check]:
    """Sessions of a cipher that may be the wanted one."""
    names = {s.cipher for s in sessions if s.cipher is not None and s.cipher not in wanted}
    if names & {family(name) for name in wanted}:
        yield Check(
            "sessions.cipher",
            Link.SESSION,
            Status.UNKNOWN,
            f"unknown which of them have {' or '.join(sorted(wanted))}",
            f"{ktlslist.NAME} does not tell the length of a key: {', '.join(sorted(names))} is all it says",
            remedy=(Remedy("ask for all of that kind", f"ktlsctl sessions --cipher {sorted(names)[0].lower()}"),),
        )


def unlisted(known: Attempt[None]) -> Iterator[Check]:
    """Sockets without kernel TLS, of which only the connections tell."""
    if not known.present:
        yield Check(
            "sessions.connections",
            Link.SESSION,
            Status.UNKNOWN,
            "unknown which sockets have no kernel TLS",
            f"the connections could not be listed: {known.reason}",
            remedy=(Remedy("see whether sockstat(1) lists them", "sockstat -c -P tcp"),),
        )


def checks(
    listed: Attempt[None], counted: Attempt[Mapping[str, int]], *, failed: bool, hidden: bool = False
) -> tuple[Check, ...]:
    """Whether the list was seen; without it the gauges tell at least whether there is a session.

    `failed`: sockets that were refused are asked for.  `hidden`: see there.
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
        if hidden:
            return say(
                Status.UNKNOWN,
                "unknown: the kernel counts more sessions than it lists for this user",
                f"{ktlsgauges.STATS}.active is {counted.or_else({}).get(f'{ktlsgauges.STATS}.active')}, each direction "
                "counted; the list leaves out those of other users and jails",
                Remedy("run it as root, outside of any jail", "ktlsctl sessions"),
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
