# SPDX-License-Identifier: BSD-2-Clause
"""Switches of the running kernel: read one, turn one.  Modules, sysctls, offloads of a network interface."""

from __future__ import annotations

from ktlsctl import sysctl
from ktlsctl.changes import Kind
from ktlsctl.facts import kld, kmod, netdev
from ktlsctl.host import Host, Ran
from ktlsctl.model import Attempt, Os

LOADED, ABSENT = "loaded", "absent"
ON, OFF = "on", "off"

#: A module's initialization may test ciphers, and a machine may be slow.
_PATIENCE = 60.0


class TurnError(Exception):
    """The kernel did not do it; the message says what was said."""


def offload_name(interface: str, feature: str) -> str:
    return f"{interface} {feature}"


def read(host: Host, kind: Kind, name: str) -> str | None:
    """What the kernel says now, in the words of the journal; None when it cannot be asked."""
    match kind:
        case Kind.MODULE:
            return _module(host, name)
        case Kind.SYSCTL:
            return sysctl.read(host, name).value
        case Kind.OFFLOAD:
            return _offload(host, name)
    return None


def _module(host: Host, name: str) -> str | None:
    if host.about.os is Os.FREEBSD:
        files = kld.loaded(host).value
        return None if files is None else LOADED if f"{name}.ko" in files else ABSENT
    running = kmod.read_running(host)
    if running.ulps.value is not None and "tls" in running.ulps.value:
        return LOADED
    listing = running.listing.value
    return None if listing is None else LOADED if listing.line is not None else ABSENT


def _offload(host: Host, name: str) -> str | None:
    interface, _, feature = name.partition(" ")
    for found in netdev.read(host).asked.or_else(()):
        if found.name == interface:
            for each in found.features.or_else(()):
                if each.name == feature:
                    return ON if each.active else OFF
    return None


def turn(host: Host, kind: Kind, name: str, value: str) -> None:
    """Turn it, and ask the kernel whether it is so.  Raises TurnError."""
    argv = _command(host, kind, name, value)
    ran = host.run(*argv, timeout=_PATIENCE)
    why = _why(ran)
    if ran.value is None or ran.value.status != 0:
        raise TurnError(f"{' '.join(argv)}: {why}")
    now = read(host, kind, name)
    if now != value:
        raise TurnError(f"{' '.join(argv)} succeeded, but the kernel still says {now or 'nothing'}")


def _command(host: Host, kind: Kind, name: str, value: str) -> tuple[str, ...]:
    match kind:
        case Kind.SYSCTL if host.about.os is Os.FREEBSD:
            return ("sysctl", f"{name}={value}")
        case Kind.SYSCTL:
            return ("sysctl", "-w", f"{name}={value}")
        case Kind.OFFLOAD:
            return ("ethtool", "-K", *name.split(" ", 1), value)
    if host.about.os is Os.FREEBSD:
        return ("kldload", "-n", name) if value == LOADED else ("kldunload", name)
    return ("modprobe", name) if value == LOADED else ("modprobe", "-r", name)


def _why(ran: Attempt[Ran]) -> str:
    if ran.value is None:
        return ran.reason
    lines = (ran.value.stderr.strip() or ran.value.stdout.strip()).splitlines()
    return lines[-1] if lines else f"it ended with {ran.value.status}"
