# SPDX-License-Identifier: BSD-2-Clause
"""The kernel link: how this kernel was built."""

from __future__ import annotations

from collections.abc import Callable

from ktlsctl.facts.kconfig import DRIVER_OPTIONS, Built, KernelConfig
from ktlsctl.linux_findings.situation import Facts, Situation, holds
from ktlsctl.model import Check, Evidence, Link, Outcome, Remedy, Status, Tri

ANOTHER_KERNEL = Remedy(
    "boot a kernel with CONFIG_TLS: the stock kernels of Debian 12, Ubuntu 20.04, RHEL 8, Fedora, Arch and openSUSE "
    "Tumbleweed and of their later releases have it"
)


def _evidence(config: KernelConfig | None) -> Evidence:
    if config is None:
        return {"file": None}
    names = ("CONFIG_TLS", "CONFIG_TLS_DEVICE", "CONFIG_NET_HANDSHAKE", "CONFIG_MODULES")
    return {"file": config.path, **{name: str(config.built(name)) for name in names}}


def config(facts: Facts, now: Situation) -> Check:
    """linux.kernel.config: whether this kernel has kernel TLS at all.  A kernel that answers beats every file."""
    found = facts.config.value
    evidence = _evidence(found)

    def say(status: Status, summary: str, reason: str = "", *remedy: Remedy) -> Check:
        return Check("linux.kernel.config", Link.KERNEL, status, summary, reason, evidence, remedy)

    if now.registered is Tri.YES:
        note = ""
        if found is not None and found.built("CONFIG_TLS") is Built.NO:
            note = f"{found.path} says that CONFIG_TLS is not set, so it is not this kernel's configuration"
        return say(Status.OK, "the running kernel has kernel TLS", note)
    if now.no_ulp:
        return say(
            Status.CRITICAL,
            "this kernel's TCP takes no upper-layer protocol",
            "it does not know TCP_ULP: a Linux before 4.13, or a TCP that is not Linux's own (gVisor, WSL 1)",
            ANOTHER_KERNEL,
        )
    if now.lacking:
        assert found is not None
        return say(
            Status.CRITICAL,
            "this kernel was built without kernel TLS",
            f"{found.path} says that CONFIG_TLS is not set; no module can add it",
            ANOTHER_KERNEL,
        )
    if found is None:
        return _without_file(facts, now, say)
    built = found.built("CONFIG_TLS")
    if built is Built.NO and facts.on_disk.file and not now.container:
        return say(
            Status.OK,
            "this kernel has kernel TLS as a module",
            f"{found.path} says that CONFIG_TLS is not set, but {facts.tree.directory} holds tls.ko",
        )
    if not holds(found, container=now.container):
        whose = "belongs to the container's image" if now.container else "may belong to another kernel"
        return say(
            Status.UNKNOWN,
            "whether this kernel has kernel TLS is not known",
            f"{found.path} says CONFIG_TLS={built}, but it {whose}",
            Remedy("load the module on the host, and check again: the kernel's own answer counts", "modprobe tls"),
        )
    if built is Built.MODULE:
        return say(Status.OK, "this kernel has kernel TLS as a module")
    return say(
        Status.UNKNOWN,
        "the kernel's configuration and its answer disagree",
        f"{found.path} says CONFIG_TLS={built}, yet TCP does not know the ULP",
        Remedy("see what the kernel said at boot", "dmesg | grep -i tls"),
    )


def _without_file(facts: Facts, now: Situation, say: Callable[..., Check]) -> Check:
    if not now.container and (facts.tree.builtin.value or facts.on_disk.file):
        return say(
            Status.OK,
            "this kernel has kernel TLS as a module" if facts.on_disk.file else "kernel TLS is built into this kernel",
            f"no configuration file was found; {facts.tree.directory} says so",
        )
    remedy: tuple[Remedy, ...] = ()
    if facts.on_disk.configs:
        remedy = (Remedy("have the kernel show its configuration", "modprobe configs"),)
    elif facts.config.outcome is Outcome.DENIED:
        remedy = (Remedy("run ktlsctl as root: the configuration is not readable by everybody"),)
    return say(
        Status.UNKNOWN,
        "whether this kernel has kernel TLS is not known",
        f"no kernel configuration could be read: {facts.config.reason}",
        *remedy,
        Remedy("try to load the module: if that works, the kernel has it", "modprobe tls"),
    )


def device(facts: Facts, now: Situation) -> Check:
    """linux.kernel.device: whether a NIC could ever take the work over.  Kernel TLS does not need it."""
    found = facts.config.value

    def say(status: Status, summary: str, reason: str = "") -> Check:
        evidence = {**_evidence(found), **{o: str(found.built(o)) for o in DRIVER_OPTIONS if found is not None}}
        return Check("linux.kernel.device", Link.NIC, status, summary, reason, evidence)

    if now.lacking or now.no_ulp:
        return say(Status.SKIP, "no NIC offload without kernel TLS", "this kernel has no kernel TLS")
    if found is None:
        return say(
            Status.UNKNOWN,
            "whether the kernel supports NIC offload is not known",
            f"no kernel configuration could be read: {facts.config.reason}",
        )
    if not holds(found, container=now.container):
        return say(
            Status.UNKNOWN,
            "whether the kernel supports NIC offload is not known",
            f"{found.path} may not be the running kernel's",
        )
    if found.built("CONFIG_TLS_DEVICE") is Built.NO:
        return say(
            Status.SKIP,
            "the kernel was built without NIC offload",
            "CONFIG_TLS_DEVICE is not set: encryption stays on the CPU",
        )
    drivers = tuple(o for o in DRIVER_OPTIONS if found.built(o) is not Built.NO)
    note = (
        "" if drivers else "CONFIG_TLS_DEVICE is set, but no NIC driver was built with it: encryption stays on the CPU"
    )
    return say(Status.OK, "the kernel can hand encryption to a NIC", note)
