# SPDX-License-Identifier: BSD-2-Clause
"""The facts of one Linux host, and the few conclusions that every check starts from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ktlsctl.facts.kconfig import Built, KernelConfig
from ktlsctl.facts.kcrypto import Crypto
from ktlsctl.facts.kmod import OnDisk, Running, Tree
from ktlsctl.facts.modprobe import AtBoot, Configured, Locks
from ktlsctl.facts.namespaces import Namespaces
from ktlsctl.facts.netdev import Interfaces
from ktlsctl.facts.ulp import Answers
from ktlsctl.facts.uring import Uring
from ktlsctl.model import Attempt, Tri


@dataclass(frozen=True, slots=True)
class Facts:
    """What the machine said.  `load`: whether the probe was allowed to have the module loaded."""

    load: bool
    config: Attempt[KernelConfig]
    running: Running
    tree: Tree
    configured: Configured
    at_boot: AtBoot
    locks: Locks
    stats: Attempt[Mapping[str, int]]
    ulp: Attempt[Answers]
    crypto: Crypto
    namespaces: Namespaces
    uring: Uring
    interfaces: Interfaces

    @property
    def on_disk(self) -> OnDisk:
        return self.tree.dep.or_else(OnDisk("", (), False))


@dataclass(frozen=True, slots=True)
class Situation:
    """`registered`: whether TCP knows the ULP "tls" now.  `built_in`: it needs no module.  `lacking`: this kernel was
    built without it, proved.  `no_ulp`: this TCP knows no ULPs at all.  `container`: / is an image's, not the host's.
    """

    registered: Tri
    built_in: bool
    lacking: bool
    no_ulp: bool
    container: bool


def situation(facts: Facts) -> Situation:
    container = facts.namespaces.container
    registered = _registered(facts)
    config = facts.config.value
    no_ulp = facts.ulp.value is not None and facts.ulp.value.attach.errno == "ENOPROTOOPT"
    lacking = (
        registered is not Tri.YES
        and config is not None
        and config.built("CONFIG_TLS") is Built.NO
        and holds(config, container=container)
        # tls.ko made for this very release outweighs a file
        and (config.from_kernel or container or not facts.on_disk.file)
    )
    return Situation(registered, _built_in(facts, registered, container), lacking, no_ulp, container)


def holds(config: KernelConfig, *, container: bool) -> bool:
    """Whether the file is surely the running kernel's: inside a container all but the kernel's own are the image's."""
    return config.from_kernel or (config.exact and not container)


def _registered(facts: Facts) -> Tri:
    """The kernel's own answer to TCP_ULP first, then what only exists while it is registered."""
    answers = facts.ulp.value
    if answers is not None and answers.attach.made:
        if answers.attach.errno in (None, "ENOTCONN", "EEXIST"):
            return Tri.YES
        if answers.attach.errno == "ENOENT":
            return Tri.NO
    if facts.stats.present:
        return Tri.YES
    if facts.running.ulps.value is not None:
        return Tri.YES if "tls" in facts.running.ulps.value else Tri.NO
    if facts.running.listing.value is not None:
        line = facts.running.listing.value.line
        if line is not None:
            return Tri.YES if line.state == "Live" else Tri.UNKNOWN
        # one that is built in would have its counters
        return Tri.NO if facts.stats.absent else Tri.UNKNOWN
    return Tri.UNKNOWN


def _built_in(facts: Facts, registered: Tri, container: bool) -> bool:
    listing = facts.running.listing.value
    if registered is not Tri.YES or (listing is not None and listing.line is not None):
        return False
    if facts.config.value is not None and holds(facts.config.value, container=container):
        return facts.config.value.built("CONFIG_TLS") is Built.IN
    # registered and not among the modules
    return listing is not None or (facts.tree.builtin.value is True and not container)
