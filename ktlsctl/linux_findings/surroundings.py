# SPDX-License-Identifier: BSD-2-Clause
"""What stands around the chain: counters, namespaces, io_uring, network interfaces."""

from __future__ import annotations

from ktlsctl.facts.tlsstat import ERRORS, PATH
from ktlsctl.linux_findings.situation import Facts, Situation
from ktlsctl.model import Check, Evidence, Link, Remedy, Status, Tri


def stats(facts: Facts, now: Situation) -> Check:
    """linux.stats: the kernel's error counters.  All counters are in the report's own `counters`."""
    counters = facts.stats.or_else({})
    errors = {name: counters[name] for name in ERRORS if counters.get(name)}

    def say(status: Status, summary: str, reason: str = "", *remedy: Remedy) -> Check:
        return Check("linux.stats", Link.SESSION, status, summary, reason, errors, remedy)

    if facts.stats.absent:
        if now.registered is Tri.YES:
            return say(Status.SKIP, "the kernel keeps no counters", f"{PATH} is not there: it came with Linux 5.5")
        return say(Status.SKIP, "no counters yet", f"{PATH} appears with the tls module")
    if not facts.stats.present:
        return say(Status.UNKNOWN, "the counters were not seen", f"{PATH}: {facts.stats.reason}")
    whose = (
        ""
        if facts.namespaces.in_first_network is not Tri.NO
        else "the counters are those of this network namespace only"
    )
    if errors:
        meaning = "; ".join(f"{name} = {count}: {ERRORS[name]}" for name, count in errors.items())
        return say(
            Status.WARNING,
            "the kernel counted errors in TLS records or keys",
            "; ".join(filter(None, (meaning, whose))),
            Remedy("see whether they still grow: they count since boot", f"cat {PATH}"),
        )
    return say(Status.OK, "the kernel counted no errors", whose)


def namespace(facts: Facts) -> Check:
    """linux.namespace: from where this process sees the kernel.  Never a fault in itself."""
    seen = facts.namespaces
    network, user = seen.in_first_network, seen.in_first_user
    evidence: Evidence = {
        "first_network_namespace": str(network),
        "first_user_namespace": str(user),
        "container": seen.container,
        "signs": (*seen.marks, *seen.runtime),
    }
    notes = []
    if seen.container:
        notes.append("this is a container: the kernel and its modules are the host's, the files here are an image's")
    if user is Tri.NO:
        notes.append("this user namespace is not the first one: root in it cannot have the tls module loaded")
    if network is Tri.NO:
        notes.append(
            "this network namespace is not the first one: the counters are its own, and tcp_available_ulp does not "
            "exist here, which says nothing about the kernel"
        )
    if seen.marks and not seen.container:
        notes.append(
            f"{', '.join(seen.marks)} looks like a container, but this process is in the host's own namespaces"
        )
    if network is user is Tri.UNKNOWN:
        return Check(
            "linux.namespace",
            Link.KERNEL,
            Status.UNKNOWN,
            "the namespaces of this process were not seen",
            f"/proc/self/ns: {seen.own.reason or 'not readable'}",
            evidence,
        )
    summary = "seen from the host itself"
    if seen.container:
        summary = "seen from inside a container"
    elif user is Tri.NO:
        summary = "seen from a user namespace of its own"
    elif network is Tri.NO:
        summary = "seen from a network namespace of its own"
    return Check("linux.namespace", Link.KERNEL, Status.OK, summary, "; ".join(notes), evidence)


def io_uring(facts: Facts) -> Check:
    """linux.io_uring: whether the self-test may use it.  Kernel TLS does not need it: never more than a note."""
    ring = facts.uring
    nop = ring.nop.value
    evidence: Evidence = {
        "failed_step": nop.step or None if nop is not None else None,
        "errno": nop.errno if nop is not None else None,
        "io_uring_disabled": ring.disabled.value,
        "seccomp": ring.seccomp.value,
        "features": f"{nop.features:#x}" if nop is not None and nop.features else None,
    }

    def say(status: Status, summary: str, reason: str = "", *remedy: Remedy) -> Check:
        return Check("linux.io_uring", Link.SESSION, status, summary, reason, evidence, remedy)

    if nop is None:
        return say(Status.UNKNOWN, "whether io_uring works is not known", ring.nop.reason or "the probe gave no answer")
    if nop.step == "":
        return say(Status.OK, "io_uring works")
    aside = "kernel TLS does not need it; the self-test uses plain socket calls"
    summary = "io_uring cannot be used here"
    if nop.errno == "ENOSYS":
        return say(
            Status.SKIP,
            summary,
            f"the kernel has no io_uring (CONFIG_IO_URING), or a sandbox answers so; {aside}",
        )
    if nop.errno in ("EPERM", "EACCES"):
        allow = Remedy("if it is wanted, allow it", "sysctl -w kernel.io_uring_disabled=0")
        if ring.disabled.value == 2:
            return say(Status.SKIP, summary, f"kernel.io_uring_disabled is 2: nobody may; {aside}", allow)
        if ring.disabled.value == 1:
            return say(
                Status.SKIP,
                summary,
                "kernel.io_uring_disabled is 1: only CAP_SYS_ADMIN and the group of kernel.io_uring_group may; "
                + aside,
                allow,
            )
        if ring.seccomp.value == 2:
            return say(
                Status.SKIP,
                summary,
                f"a seccomp filter refuses it, as container managers do by default; {aside}",
                Remedy("if it is wanted, run with a seccomp profile that allows the io_uring calls"),
            )
        return say(Status.SKIP, summary, f"refused with {nop.errno}: a security module or a sandbox; {aside}")
    if nop.errno == "ENOMEM":
        return say(
            Status.SKIP,
            summary,
            f"not enough lockable memory (RLIMIT_MEMLOCK); {aside}",
            Remedy("raise the limit for this user", "ulimit -l unlimited"),
        )
    how = f"with {nop.errno}" if nop.errno else "with a wrong answer"
    return say(Status.SKIP, summary, f"a NOP ended at the step `{nop.step}` {how}; {aside}")


def nic(facts: Facts) -> Check:
    """linux.nic: which interface could take the work over, and whether it is switched on."""
    asked = facts.interfaces.asked
    interfaces = asked.or_else(())
    evidence: Evidence = {
        **{each.name: tuple(f"{f.name}: {f}" for f in each.features.or_else(())) for each in interfaces},
        **({"left_out": facts.interfaces.left_out} if facts.interfaces.left_out else {}),
    }

    def say(status: Status, summary: str, reason: str = "", *remedy: Remedy) -> Check:
        return Check("linux.nic", Link.NIC, status, summary, reason, evidence, remedy)

    if not asked.present:
        return say(Status.UNKNOWN, "the network interfaces were not seen", f"/sys/class/net: {asked.reason}")
    answered = [each for each in interfaces if each.features.present]
    if interfaces and not answered:
        return say(
            Status.UNKNOWN,
            "what the network interfaces offer was not seen",
            f"ethtool's question was not answered: {interfaces[0].features.reason}",
        )
    offering = [each for each in answered if each.offers]
    if not offering:
        return say(
            Status.SKIP,
            "no network interface offers TLS offload",
            "every tls-hw feature is fixed at off: encryption stays on the CPU, which is the usual case",
        )
    notes = []
    remedy = []
    for each in offering:
        for feature in each.features.or_else(()):
            if not feature.fixed and not feature.active:
                notes.append(f"{each.name}: {feature.name} is off")
    if notes:
        first = offering[0].name
        remedy.append(
            Remedy(
                "to hand new sessions to the NIC (TLS 1.2, AES-GCM)",
                f"ethtool -K {_quoted(first)} tls-hw-tx-offload on",
            )
        )
    names = ", ".join(each.name for each in offering)
    return say(Status.OK, f"TLS offload is offered by {names}"[:90], "; ".join(notes), *remedy)


def _quoted(name: str) -> str:
    """An interface name may hold any character but white space and a slash."""
    import shlex

    return shlex.quote(name)
