# SPDX-License-Identifier: BSD-2-Clause
"""How many sessions are in the kernel, in one line, from the kernel's own gauges.

No socket is looked at: a line costs one small file however many sockets there are, and no privilege.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from ktlsctl.facts import ktlsgauges, tlsstat
from ktlsctl.host import Host
from ktlsctl.model import About, Attempt, Mode, Os, Outcome, Report, Status, Tri, Verdict


@dataclass(frozen=True, slots=True)
class Count:
    """What is open now by who does it, and what was opened and what went wrong since boot.

    FreeBSD counts each direction of a connection by itself and does not tell which: `rx` is None there, `tx` is both.
    """

    tx: Mapping[Mode, int]
    rx: Mapping[Mode, int] | None
    opened: int
    errors: int


def read(host: Host) -> Attempt[Mapping[str, int]]:
    """The numbers by their own names; ABSENT, with the reason, only where there can be no session at all."""
    if host.about.os is Os.FREEBSD:
        from ktlsctl import freebsd_sessions

        return freebsd_sessions.gauges(host)
    numbers = tlsstat.read(host)
    if not numbers.absent:
        return numbers
    why = tlsstat.absence(host)
    if why.lacking:
        return Attempt(Outcome.ABSENT, reason="this kernel was built without kernel TLS")
    if why.loaded is Tri.NO:
        return Attempt(Outcome.ABSENT, reason="the tls module is not loaded")
    if why.loaded is Tri.YES:
        return Attempt(Outcome.FAILED, reason=f"this kernel keeps no counters ({tlsstat.PATH} came with Linux 5.5)")
    return Attempt(Outcome.FAILED, reason=f"{tlsstat.PATH} is not there, and the modules were not seen")


def count(system: Os, numbers: Mapping[str, int]) -> Count:
    def total(*names: str) -> int:
        return sum(numbers.get(name, 0) for name in names)

    if system is Os.LINUX:
        return Count(
            {Mode.SOFTWARE: total("TlsCurrTxSw"), Mode.NIC: total("TlsCurrTxDevice")},
            {Mode.SOFTWARE: total("TlsCurrRxSw"), Mode.NIC: total("TlsCurrRxDevice")},
            total("TlsTxSw", "TlsTxDevice", "TlsRxSw", "TlsRxDevice"),
            total(*tlsstat.ERRORS),
        )
    root, stats = ktlsgauges.ROOT, ktlsgauges.STATS
    ciphers = ("cbc", "gcm", "chacha20")
    return Count(
        {
            Mode.SOFTWARE: total(*(f"{root}.sw.{cipher}" for cipher in ciphers)),
            Mode.NIC: total(*(f"{root}.{nic}.{cipher}" for nic in ("ifnet", "toe") for cipher in ciphers)),
        },
        None,
        total(f"{stats}.offload_total"),
        total(*ktlsgauges.TROUBLE),
    )


def report(about: About, numbers: Attempt[Mapping[str, int]], before: Mapping[str, int] | None) -> Report:
    """`before`: the numbers of the last report, for what has happened since."""
    if numbers.absent:
        why = numbers.reason if about.os is Os.LINUX else "this kernel has no kernel TLS"
        said = Verdict(Status.OK, f"no session: {why}")
    elif numbers.value is None:
        said = Verdict(Status.UNKNOWN, f"unknown: {numbers.reason}")
    else:
        last = None if before is None else count(about.os, before)
        said = Verdict(Status.OK, in_words(count(about.os, numbers.value), last))
    return Report(
        about=about,
        generated_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        verdict=said,
        counters=numbers.or_else({}),
    )


def in_words(now: Count, before: Count | None) -> str:
    """ "TX 5000 software 0 nic  RX 5000 software 0 nic  opened 10000 (+12)  errors 0" """

    def open_now(counts: Mapping[Mode, int]) -> str:
        return " ".join(f"{number} {mode}" for mode, number in counts.items())

    def grown(name: str, number: int, last: int | None) -> str:
        return f"{name} {number}" if last is None else f"{name} {number} (+{max(0, number - last)})"

    parts = [f"TX+RX {open_now(now.tx)}"] if now.rx is None else [f"TX {open_now(now.tx)}", f"RX {open_now(now.rx)}"]
    parts.append(grown("opened", now.opened, before.opened if before else None))
    parts.append(grown("errors", now.errors, before.errors if before else None))
    return "  ".join(parts)
