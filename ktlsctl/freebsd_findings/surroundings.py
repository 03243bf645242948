# SPDX-License-Identifier: BSD-2-Clause
"""What stands around the chain: error counters and network interfaces."""

from __future__ import annotations

from ktlsctl.facts import ifcaps, ktlsgauges
from ktlsctl.freebsd_findings.situation import Seen, needs_kernel, unknown
from ktlsctl.model import Check, Evidence, Link, Remedy, Status


def stats(seen: Seen) -> Check:
    """freebsd.stats: counters that should have stayed at 0."""
    identity, link = "freebsd.stats", Link.BYTES
    if not seen.node:
        return needs_kernel(identity, link, "counters", seen)
    counters = ktlsgauges.counters(seen.values)
    trouble = {name: what for name, what in ktlsgauges.TROUBLE.items() if counters.get(name)}
    told = (f"{ktlsgauges.STATS}.{leaf}" for leaf in ("enable_calls", "offload_total", "active"))
    evidence: Evidence = {name: counters[name] for name in (*told, *ktlsgauges.TROUBLE) if name in counters}
    if not trouble:
        return Check(
            identity, link, Status.OK, "no error counter of kernel TLS has moved since boot", evidence=evidence
        )
    reason = "; ".join(
        f"{name.removeprefix(ktlsgauges.ROOT + '.')} {counters[name]}: {what}" for name, what in trouble.items()
    )
    return Check(
        identity,
        link,
        Status.WARNING,
        f"{len(trouble)} error counter{'s' * (len(trouble) > 1)} of kernel TLS moved since boot",
        reason,
        evidence,
        (
            Remedy(
                "see whether they still grow: a peer or a test that sends damaged records counts here as well",
                f"sysctl {' '.join(trouble)}",
            ),
        ),
    )


def nic(seen: Seen) -> Check:
    """freebsd.nic: interfaces that could do the records themselves."""
    identity, link = "freebsd.nic", Link.NIC
    if not seen.facts.interfaces.present:
        return unknown(identity, link, "what the network interfaces can do", seen.facts.interfaces.reason)
    capable = [interface for interface in seen.facts.interfaces.or_else(()) if interface.tls]
    if not capable:
        return Check(
            identity,
            link,
            Status.SKIP,
            "no network interface offers TLS offload",
            f"none has {', '.join(ifcaps.TLS)}; kernel TLS works in software, which for large "
            "responses can be slower than user space: measure before relying on it",
        )
    evidence: dict[str, str | int | bool | None | tuple[str, ...]] = {
        interface.name: tuple(
            f"{name} {'on' if name in interface.enabled else 'off'}" for name in (*interface.tls, ifcaps.MEXTPG)
        )
        for interface in capable
    }
    permitted = seen.flag(ktlsgauges.IFNET_PERMITTED)
    if permitted is not None:
        evidence[ktlsgauges.IFNET_PERMITTED] = permitted
    notes = []
    remedy = []
    for interface in capable:
        off = [name for name in interface.tls if name not in interface.enabled]
        if off:
            notes.append(f"{interface.name}: {', '.join(off)} off")
            words = dict.fromkeys(name.rstrip("46").lower() for name in off)
            remedy.append(Remedy("switch it on", f"ifconfig {interface.name} {' '.join(words)}"))
        elif ifcaps.MEXTPG not in interface.enabled:
            notes.append(f"{interface.name}: {ifcaps.MEXTPG} off, which TX offload needs")
            remedy.append(Remedy("switch it on", f"ifconfig {interface.name} {ifcaps.MEXTPG.lower()}"))
    if permitted is False:
        notes.append(f"{ktlsgauges.IFNET_PERMITTED} is 0: new sessions start in software")
    ready = sum(1 for i in capable if any(name in i.enabled for name in i.tls))
    return Check(
        identity,
        link,
        Status.OK,
        f"{len(capable)} interface{'s' * (len(capable) > 1)} can offload TLS, {ready} switched on",
        "; ".join(notes),
        evidence,
        tuple(remedy),
    )
