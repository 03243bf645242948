# SPDX-License-Identifier: BSD-2-Clause
"""Make a plan for a host: the one place where the platform's planner is bound, as probe.py does for checks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ktlsctl.changes import Change, Obstacle, Plan, Scope, Wishes
from ktlsctl.configure.roots import Root
from ktlsctl.host import Host
from ktlsctl.model import About, Os, Outcome


class NoSystem(Exception):
    """The root holds no system that this tool configures."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """`look` is to be asked after each change whether it has the effect that it was made for: empty, or why not."""

    plan: Plan
    look: Callable[[Change], str]


def make(host: Host, wishes: Wishes) -> Prepared:
    """What would have to change; reads, and changes nothing."""
    running = wishes.root == "/"
    items: list[Change | Obstacle] = []
    refusals: tuple[str, ...] = ()
    look: Callable[[Change], str] = _nothing_more
    if wishes.now or wishes.persist or wishes.offload:
        items += _kernel(host, wishes, running)
    if wishes.library is not None:
        from ktlsctl.configure import library

        facts = library.gather(host, wishes)
        items += library.plan(facts, wishes)
        refusals = tuple(library.refusals(facts, wishes))
        look = library.look(host, facts, wishes)
    asked = tuple(scope for scope in Scope if wishes.wants(scope) or (scope is Scope.NOW and wishes.offload))
    changes = tuple(item for item in items if isinstance(item, Change))
    obstacles = tuple(item for item in items if isinstance(item, Obstacle))
    return Prepared(Plan(wishes.command, asked, changes, obstacles, refusals), look)


def _nothing_more(change: Change) -> str:
    """What is written or turned was read back already."""
    return ""


def _kernel(host: Host, wishes: Wishes, running: bool) -> Iterable[Change | Obstacle]:
    if host.about.os is Os.LINUX:
        from ktlsctl.configure import linux

        return linux.plan(linux.gather(host, running=running), host.about, wishes)
    from ktlsctl.configure import freebsd

    return freebsd.plan(freebsd.gather(host, running=running), host.about, wishes)


def about_root(root: Root) -> About:
    """Which system the files below a root are.  Raises NoSystem.

    FreeBSD's os-release is made at boot; its freebsd-version(1) is a script that carries the number.
    """
    from ktlsctl.configure.roots import RootHost
    from ktlsctl.host import distribution

    privileged = os.geteuid() == 0
    host = RootHost(root, About(Os.LINUX, "unknown", "unknown", privileged))
    script = host.read("/bin/freebsd-version")
    if script.outcome is not Outcome.ABSENT:
        release = _userland(script.or_else(b""))
        return About(Os.FREEBSD, release or "unknown", "unknown", privileged, f"FreeBSD {release}".rstrip())
    name = distribution(host.read("/etc/os-release").or_else(b""))
    if name.startswith("FreeBSD"):
        return About(Os.FREEBSD, name.partition(" ")[2] or "unknown", "unknown", privileged, name)
    if name or any(host.names(path).present for path in ("/etc/modprobe.d", "/lib/modules", "/usr/lib/modules")):
        return About(Os.LINUX, "unknown", "unknown", privileged, name)
    raise NoSystem(f"{root.path} holds neither a Linux nor a FreeBSD system: name the root of one with --root")


def _userland(script: bytes) -> str:
    for line in script.decode("utf-8", "replace").splitlines():
        name, equals, value = line.partition("=")
        if equals and name == "USERLAND_VERSION":
            return value.strip().strip("\"'")
    return ""
