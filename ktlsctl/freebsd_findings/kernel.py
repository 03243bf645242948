# SPDX-License-Identifier: BSD-2-Clause
"""The kernel itself: built with it, switched on, in which direction; inside a jail or not."""

from __future__ import annotations

from dataclasses import replace

from ktlsctl.facts import ktlsgauges
from ktlsctl.freebsd_findings.remedies import default_of_enable, setting
from ktlsctl.freebsd_findings.situation import JAILED, MB_USE_EXT_PGS, Seen, needs_kernel, unknown
from ktlsctl.freebsdabi import Errno, errno_name
from ktlsctl.model import Check, Evidence, Link, Remedy, Status

#: Without a direct map of physical memory there is no kernel TLS (PMAP_HAS_DMAP).
WITHOUT_DIRECT_MAP = frozenset(("i386", "arm", "armv6", "armv7", "powerpc", "powerpcspe"))


def option(seen: Seen) -> Check:
    """freebsd.kernel.option: built with KERN_TLS, by two witnesses."""
    identity, link = "freebsd.kernel.option", Link.KERNEL
    fresh = None if seen.answers is None else seen.answers.mode_errno
    evidence: dict[str, str | int | bool | None] = {
        "kern.ipc.tls": seen.node if seen.facts.sysctls.present else None,
        "TCP_TXTLS_MODE": None if fresh is None else errno_name(fresh) if fresh else "ok",
        "machine": seen.machine,
    }
    config = seen.facts.kernel_config
    if config is not None and config.present:
        evidence["kern.conftxt names KERN_TLS"] = config.or_else(False)
    # Two witnesses: the sysctl node and the socket option are compiled with the same option.
    if seen.node or fresh == 0:
        return Check(identity, link, Status.OK, "the kernel is built with KERN_TLS", evidence=evidence)
    if not seen.facts.sysctls.present and fresh != Errno.ENOPROTOOPT:
        why = "; ".join(a.reason for a in (seen.facts.sysctls, seen.facts.answers) if a.reason)
        return unknown(identity, link, "whether the kernel has KERN_TLS", why or "neither sysctl nor socket answered")
    if seen.machine in WITHOUT_DIRECT_MAP:
        return Check(
            identity,
            link,
            Status.CRITICAL,
            f"no FreeBSD kernel has kernel TLS on {seen.machine}",
            "kernel TLS needs the direct map of physical memory, which this architecture has not",
            evidence,
            (Remedy("run FreeBSD for amd64 or arm64 (aarch64) on a 64-bit machine; no setting changes this"),),
        )
    return Check(
        identity,
        link,
        Status.CRITICAL,
        "the kernel is built without KERN_TLS",
        "there is no kern.ipc.tls, which every kernel built with options KERN_TLS has",
        evidence,
        (
            Remedy(
                "add 'options KERN_TLS' to the kernel's configuration file, or build and install GENERIC, which has it "
                "on amd64 and arm64, then reboot",
                "make -C /usr/src kernel KERNCONF=GENERIC",
            ),
        ),
    )


def enable(seen: Seen) -> Check:
    """freebsd.sysctl.enable: the gate of every new session."""
    identity, link, name = "freebsd.sysctl.enable", Link.KERNEL, ktlsgauges.ENABLE
    value = seen.flag(name)
    if value is None:
        return needs_kernel(identity, link, name, seen)
    evidence: Evidence = {name: seen.values[name]}
    if value:
        return Check(identity, link, Status.OK, f"{name} is on", evidence=evidence)
    default = default_of_enable(seen.about.release)
    reason = f"the kernel refuses every new session with EOPNOTSUPP and counts nothing; {default}"
    standing = seen.at_boot(name)
    if standing is not None and standing[0] != "0":
        reason += f"; {standing[1]} sets it to {standing[0]}, so something turned it off after boot"
    reason += (
        ". Once it is on, programs that ask their TLS library for kernel TLS get it; with the base OpenSSL of 13.x "
        "(1.1.1) every program does, unless it opts out"
    )
    return Check(identity, link, Status.CRITICAL, f"{name} is off", reason, evidence, setting(name, "1", seen))


def rx_enable(seen: Seen) -> Check:
    """freebsd.sysctl.rx_enable: the gate of receive, which only patched kernels have."""
    identity, link, name = "freebsd.sysctl.rx_enable", Link.KERNEL, ktlsgauges.RX_ENABLE
    value = seen.flag(name)
    if not seen.node:
        return needs_kernel(identity, link, name, seen)
    if value is None and not seen.is_14_or_later:
        return Check(identity, link, Status.OK, "receive has no switch of its own on FreeBSD 13")
    if value is None:
        return Check(
            identity,
            link,
            Status.OK,
            "receive has no switch of its own on this kernel",
            f"{name} came with the fix for FreeBSD-SA-26:67.ktls: a hint that this kernel is older than that fix",
            remedy=(Remedy("bring the system to its branch's latest patch level", "freebsd-update fetch install"),),
        )
    evidence: Evidence = {name: seen.values[name]}
    if value:
        return Check(identity, link, Status.OK, f"{name} is on", evidence=evidence)
    return Check(
        identity,
        link,
        _partly(seen.flag(MB_USE_EXT_PGS) is False),
        f"{name} is off: no receive direction",
        "the kernel refuses every new receive session with EOPNOTSUPP; sending is not concerned",
        evidence,
        setting(name, "1", seen),
    )


def _partly(other_direction_is_shut: bool) -> Status:
    """One direction shut is a loss; both shut is a broken chain."""
    return Status.CRITICAL if other_direction_is_shut else Status.WARNING


def cbc_enable(seen: Seen) -> Check:
    """freebsd.sysctl.cbc_enable: the gate of AES-CBC."""
    identity, link, name = "freebsd.sysctl.cbc_enable", Link.KERNEL, ktlsgauges.CBC_ENABLE
    value = seen.flag(name)
    if not seen.node:
        return needs_kernel(identity, link, name, seen)
    if value is None:
        return unknown(identity, link, name, "this kernel has kern.ipc.tls without it, unlike every known release")
    evidence: Evidence = {name: seen.values[name]}
    if value:
        return Check(identity, link, Status.OK, f"{name} is on", evidence=evidence)
    # Advised by FreeBSD-SA-26:46.ktls, and AES-CBC is TLS's past: an administrator's choice, not a fault.
    return Check(
        identity,
        link,
        Status.OK,
        f"{name} is off: AES-CBC suites stay in user space",
        "the kernel refuses AES-CBC with EOPNOTSUPP; AES-GCM and ChaCha20-Poly1305 are not concerned",
        evidence,
        setting(name, "1", seen),
    )


def ext_pgs(seen: Seen) -> Check:
    """freebsd.sysctl.mb_use_ext_pgs: without unmapped mbufs nothing is sent."""
    identity, link, name = "freebsd.sysctl.mb_use_ext_pgs", Link.KERNEL, MB_USE_EXT_PGS
    value = seen.flag(name)
    if value is None:
        why = seen.facts.sysctls.reason or "this kernel has no such setting, unlike every release with kernel TLS"
        return unknown(identity, link, name, why)
    evidence: Evidence = {name: seen.values[name]}
    if value:
        return Check(identity, link, Status.OK, f"{name} is on", evidence=evidence)
    if not seen.node:
        return needs_kernel(identity, link, name, seen)
    return Check(
        identity,
        link,
        _partly(seen.flag(ktlsgauges.RX_ENABLE) is False),
        f"{name} is off: no send direction",
        "kernel TLS sends from unmapped mbufs: every new send session fails with ENXIO; receiving is not concerned",
        evidence,
        setting(name, "1", seen),
    )


def jail(seen: Seen) -> Check:
    """freebsd.jail: whose kernel, settings and boot files these are."""
    identity, link = "freebsd.jail", Link.KERNEL
    value = seen.flag(JAILED)
    if value is None:
        why = seen.facts.sysctls.reason or f"{JAILED} is missing"
        return unknown(identity, link, "whether this is a jail", why)
    evidence: Evidence = {JAILED: seen.values[JAILED]}
    if not value:
        return Check(identity, link, Status.OK, "not inside a jail", evidence=evidence)
    return Check(
        identity,
        link,
        Status.OK,
        "inside a jail",
        "the kernel, its settings, modules and boot files belong to the jail's host; ciphers were tried from in here",
        evidence,
    )


def from_inside_a_jail(check: Check) -> Check:
    """The same finding, its remedies pointed at the host of the jail."""
    return replace(check, remedy=tuple(replace(r, text=f"on the jail's host: {r.text}") for r in check.remedy))
