# SPDX-License-Identifier: BSD-2-Clause
"""The module link: whether tls is loaded, what keeps it out, who may load it, and whether it comes back after boot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from ktlsctl.facts.capability import Capability
from ktlsctl.facts.modprobe import Blocks, Directive, Rule, in_force
from ktlsctl.linux_findings.situation import Facts, Situation
from ktlsctl.model import About, Check, Evidence, Link, Remedy, Status, Tri

LOAD = Remedy("load the module", "modprobe tls")
LOAD_AT_BOOT = Remedy("have it loaded at every boot", "echo tls > /etc/modules-load.d/tls.conf")

#: A module that needs tls and that many hosts use: blocking tls with `install` breaks it (facts §7, measured).
_BYSTANDER = "bonding"


class Way(StrEnum):
    """How the module may come in."""

    BY_NAME = "modprobe tls"
    AT_BOOT = "modules-load.d"
    ON_DEMAND = "a program's request for the ULP"


_EVERY_WAY = frozenset(Way)
#: A blacklist: systemd-modules-load probes with KMOD_PROBE_APPLY_BLACKLIST, an explicit modprobe without.
_BUT_BY_NAME = frozenset({Way.AT_BOOT, Way.ON_DEMAND})
_ON_DEMAND = frozenset({Way.ON_DEMAND})


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Something that keeps the module out.  `bars`: the ways it closes; `passing`: it ends with the next boot."""

    text: str
    remedy: tuple[Remedy, ...]
    bars: frozenset[Way]
    passing: bool = False


def obstacles(facts: Facts, now: Situation) -> tuple[Obstacle, ...]:
    """Everything in force, what closes every way first.  A container's own modprobe.d has no say."""
    found = [*_kernel_locks(facts)]
    if not now.container:
        blocks = in_force(facts.configured.rules)
        found += [_by_name(rule, facts) for rule in blocks.by_name]
        found += [_by_alias(rule) for rule in blocks.by_alias]
    command_line = facts.locks.command_line.value
    if command_line is not None and command_line.modprobe_blacklist:
        found.append(
            Obstacle(
                "the kernel was booted with modprobe.blacklist=tls: only an explicit modprobe loads it",
                (Remedy("remove it from the boot loader's kernel command line"),),
                _BUT_BY_NAME,
            )
        )
    if facts.locks.helper.value == "":
        found.append(
            Obstacle(
                "kernel.modprobe is empty: the kernel starts nobody to load a module",
                (Remedy("give the kernel its helper back", "sysctl -w kernel.modprobe=/sbin/modprobe"),),
                _ON_DEMAND,
            )
        )
    return tuple(found)


def _kernel_locks(facts: Facts) -> tuple[Obstacle, ...]:
    found = []
    if facts.locks.modules_disabled.value == 1:
        found.append(
            Obstacle(
                "kernel.modules_disabled is 1: no module can be loaded until the next boot",
                (
                    replace(LOAD_AT_BOOT, text="have tls loaded early at boot, before the lock"),
                    Remedy("then reboot: the lock cannot be taken back while the system runs", "reboot"),
                ),
                _EVERY_WAY,
                passing=True,
            )
        )
    command_line = facts.locks.command_line.value
    if command_line is not None and command_line.module_blacklist:
        found.append(
            Obstacle(
                "the kernel was booted with module_blacklist=tls: it refuses the module whoever asks",
                (Remedy("remove it from the boot loader's kernel command line, then reboot"),),
                _EVERY_WAY,
            )
        )
    return tuple(found)


def _by_name(rule: Rule, facts: Facts) -> Obstacle:
    remove = Remedy(f"remove the line `{rule.text}` ({rule.where}), then load the module")
    if rule.directive is Directive.ALIAS:
        # a request for the ULP is looked up under the ULP's alias, which leads to the module without another lookup
        return Obstacle(
            f"{rule.where} sends the name elsewhere: `{rule.text}`",
            (remove,),
            frozenset({Way.BY_NAME, Way.AT_BOOT}),
        )
    needing = facts.on_disk.dependants or (_BYSTANDER,)
    named = sorted(needing, key=lambda name: name != _BYSTANDER)[:3]
    return Obstacle(
        f"{rule.where} runs a command instead of loading it: `{rule.text}`; "
        f"that also stops what needs tls, such as {', '.join(named)}",
        (
            remove,
            Remedy("or load it this once, past the rule", "modprobe --ignore-install tls"),
            Remedy("to stop no more than the load on demand, `alias tcp-ulp-tls off` in that file is enough"),
        ),
        _EVERY_WAY,
    )


def _by_alias(rule: Rule) -> Obstacle:
    remedy = (Remedy(f"remove the line `{rule.text}` ({rule.where}) if it shall be loaded without being asked for"),)
    if rule.directive is Directive.BLACKLIST:
        return Obstacle(
            f"{rule.where} has `{rule.text}`: neither the kernel nor systemd at boot loads it, "
            f"but an explicit modprobe does, and so does a module that needs it, such as {_BYSTANDER}",
            remedy,
            _BUT_BY_NAME,
        )
    return Obstacle(
        f"{rule.where} has `{rule.text}`: a program's request for the ULP loads nothing, but an explicit modprobe does",
        remedy,
        _ON_DEMAND,
    )


# --- the module itself ----------------------------------------------------------------------------------------------


def _evidence(facts: Facts) -> Evidence:
    listing = facts.running.listing.value
    line = listing.line if listing is not None else None
    file = f"{facts.tree.directory}/{facts.on_disk.file}" if facts.on_disk.file else None
    answers = facts.ulp.value
    return {
        "state": facts.running.initstate.value or (line.state.lower() if line else None),
        "file": file,
        "references": facts.running.references.value,
        "holders": line.holders if line else (),
        "dependants": facts.on_disk.dependants,
        "tcp_ulp": (answers.attach.errno or "accepted") if answers is not None and answers.attach.made else None,
        "cap_net_admin": str(answers.capability) if answers is not None else None,
    }


def tls(facts: Facts, now: Situation, about: About) -> Check:
    """linux.module.tls: whether TCP knows the ULP now, and if not, the shortest way there."""

    def say(status: Status, summary: str, reason: str = "", *remedy: Remedy) -> Check:
        return Check("linux.module.tls", Link.MODULE, status, summary, reason, _evidence(facts), remedy)

    if now.lacking or now.no_ulp:
        return say(Status.SKIP, "no tls module", "this kernel has no kernel TLS: see linux.kernel.config")
    if now.registered is Tri.YES:
        return _there(facts, now, say)
    if now.registered is Tri.UNKNOWN:
        return say(
            Status.UNKNOWN,
            "whether the tls module is loaded is not known",
            f"it could not be asked: {why(facts)}",
            LOAD,
        )
    return _not_there(facts, now, about, say)


def why(facts: Facts) -> str:
    """Why the probe has no answer, in words."""
    answers = facts.ulp.value
    if answers is None:
        return facts.ulp.reason or "the probe gave no answer"
    if answers.capability is Capability.STUCK:
        return "CAP_NET_ADMIN could not be dropped, and with it the question would load the module"
    if answers.attach.errno in ("EPERM", "EACCES"):
        return f"TCP_ULP was refused with {answers.attach.errno}: a sandbox (seccomp, a security module, a BPF program)"
    if answers.pair.errno is not None:
        return f"no TCP connection over loopback ({answers.pair.errno})"
    return f"TCP_ULP was answered with {answers.attach.errno}, which no Linux does"


def _there(facts: Facts, now: Situation, say: Callable[..., Check]) -> Check:
    exposure = "every local user can reach its code now"
    if now.built_in:
        return say(Status.OK, "tls is built into the kernel", f"it is always there; {exposure}")
    listing = facts.running.listing.value
    holders = listing.line.holders if listing is not None and listing.line is not None else ()
    note = f"{', '.join(holders)} needs it: loaded does not mean used" if holders else "loaded does not mean used"
    return say(Status.OK, "the tls module is loaded", f"{note}; {exposure}")


def _not_there(facts: Facts, now: Situation, about: About, say: Callable[..., Check]) -> Check:
    summary = "the tls module is not loaded"
    found = obstacles(facts, now)
    barred = next((obstacle for obstacle in found if Way.BY_NAME in obstacle.bars), None)
    if barred is not None:
        return say(Status.CRITICAL, "the tls module is not loaded and cannot be", barred.text, *barred.remedy)
    if now.container:
        return say(
            Status.CRITICAL,
            summary,
            "the kernel is the host's, and a container cannot load it",
            replace(LOAD, text="load it on the host"),
        )
    if not facts.on_disk.file:
        return _no_file(facts, about, say)
    if facts.tree.file.absent:
        return say(
            Status.CRITICAL,
            "the tls module is not loaded and its file is gone",
            f"{facts.tree.directory}/modules.dep names {facts.on_disk.file}, which is not there",
            *_reinstall(about),
        )
    if found:
        reason = f"it is installed; {found[0].text}"
    elif not facts.load:
        reason = "it is installed and nothing keeps it out; ktlsctl leaves it as it is unless --load is given"
    elif about.privileged and facts.namespaces.in_first_user is not Tri.NO:
        reason = "the kernel was asked to load it and did not; its log may say why"
    else:
        reason = "--load needs CAP_NET_ADMIN in the first user namespace"
    return say(Status.CRITICAL, summary, reason, LOAD)


def _no_file(facts: Facts, about: About, say: Callable[..., Check]) -> Check:
    directory = facts.tree.directory
    if facts.tree.dep.absent and facts.tree.siblings:
        return say(
            Status.CRITICAL,
            "the tls module is not loaded, and this kernel's modules are gone",
            f"{directory} does not exist any more, but there is {', '.join(facts.tree.siblings[:3])}: "
            "an upgrade replaced the running kernel's modules",
            Remedy("boot the kernel that is installed", "reboot"),
        )
    if facts.tree.dep.present:
        return say(
            Status.CRITICAL,
            "the tls module is not installed",
            f"{directory}/modules.dep does not name it: this kernel lacks it, or it is in a package of its own",
            *_reinstall(about),
        )
    if facts.tree.dep.absent:
        return say(
            Status.CRITICAL,
            "the tls module is not loaded, and no modules are installed",
            f"{directory} has no modules.dep: the kernel has no modules here, or they were never indexed",
            Remedy("if modules are there, index them, then load tls", "depmod"),
            LOAD,
        )
    return say(
        Status.CRITICAL,
        "the tls module is not loaded",
        f"whether it is installed could not be seen ({directory}/modules.dep: {facts.tree.dep.reason})",
        LOAD,
    )


def _reinstall(about: About) -> tuple[Remedy, ...]:
    """The package that brings the module, by what the distribution calls itself; the release is quoted: it may come
    from somebody else's capture."""
    import shlex

    packages = {
        "Debian": ("apt-get install --reinstall", "linux-image-"),
        "Ubuntu": ("apt-get install --reinstall", "linux-modules-"),
        "Fedora": ("dnf install", "kernel-modules-core-"),
    }
    for name, (command, package) in packages.items():
        if about.distribution.startswith(name):
            return (
                Remedy("install the kernel's modules", f"{command} {shlex.quote(package + about.release)}"),
                LOAD,
            )
    return (Remedy("install the package with this kernel's modules (often called extra modules), then load tls"), LOAD)


# --- what keeps it out ----------------------------------------------------------------------------------------------


def policy(facts: Facts, now: Situation) -> Check:
    """linux.module.policy: each rule or lock that keeps the module out, with its place."""
    blocks = in_force(facts.configured.rules) if not now.container else Blocks((), (), ())
    evidence: Evidence = {
        "rules": tuple(f"{rule.where}: {rule.text}" for rule in (*blocks.by_name, *blocks.by_alias, *blocks.custom)),
        "modules_disabled": facts.locks.modules_disabled.value,
        "lockdown": facts.locks.lockdown.value,
        "sig_enforce": facts.locks.sig_enforce.value,
        "helper": facts.locks.helper.value,
    }

    def say(status: Status, summary: str, reason: str = "", *remedy: Remedy) -> Check:
        return Check("linux.module.policy", Link.MODULE, status, summary, reason, evidence, remedy)

    if now.lacking or now.no_ulp:
        return say(Status.SKIP, "nothing to keep out", "this kernel has no kernel TLS")
    if now.built_in:
        return say(Status.SKIP, "nothing can keep it out", "tls is built into the kernel")
    found = obstacles(facts, now)
    reasons = "; ".join(obstacle.text for obstacle in found)
    remedy = tuple(remedy for obstacle in found for remedy in obstacle.remedy)
    if found and now.registered is Tri.YES:
        if any(Way.AT_BOOT in obstacle.bars and not obstacle.passing for obstacle in found):
            return say(Status.WARNING, "the tls module is loaded, but would not be after a reboot", reasons, *remedy)
        return say(Status.OK, "the tls module is loaded all the same", reasons)
    if any(Way.BY_NAME in obstacle.bars for obstacle in found):
        return say(Status.CRITICAL, "the tls module is kept from being loaded", reasons, *remedy)
    if found:
        return say(Status.WARNING, "the tls module is loaded by hand only", reasons, *remedy)
    if unread := (*facts.configured.unread,) if not now.container else ():
        where = ", ".join(f"{each.path} ({each.reason})" for each in unread)
        return say(
            Status.UNKNOWN,
            "whether a rule keeps the tls module out is not known",
            f"not readable: {where}",
            Remedy("run ktlsctl as root"),
        )
    if now.container:
        return say(Status.SKIP, "the host decides", "modprobe.d of a container has no say in what the host loads")
    notes = [f"{rule.where} loads it in its own way: `{rule.text}`" for rule in blocks.custom]
    if facts.locks.lockdown.value not in (None, "none") or facts.locks.sig_enforce.value == "Y":
        notes.append("the kernel loads signed modules only, as the distribution's are")
    return say(Status.OK, "nothing keeps the tls module out", "; ".join(notes))


# --- at boot, and on demand -----------------------------------------------------------------------------------------


def persistence(facts: Facts, now: Situation) -> Check:
    """linux.module.persistence: whether something has it loaded at every boot."""
    command_line = facts.locks.command_line.value
    on_command_line = command_line is not None and command_line.modules_load
    files = facts.at_boot.files + (("kernel command line: modules_load=",) if on_command_line else ())

    def say(status: Status, summary: str, reason: str = "", *remedy: Remedy) -> Check:
        return Check("linux.module.persistence", Link.MODULE, status, summary, reason, {"files": files}, remedy)

    if now.lacking or now.no_ulp:
        return say(Status.SKIP, "nothing to load at boot", "this kernel has no kernel TLS")
    if now.built_in:
        return say(Status.OK, "tls is built into the kernel")
    if now.container:
        return say(Status.SKIP, "the host decides", "what is loaded at boot stands in the host's files, not in these")
    if files:
        stopping = [o for o in obstacles(facts, now) if Way.AT_BOOT in o.bars and not o.passing]
        if stopping:
            return say(
                Status.WARNING,
                "the tls module is listed to be loaded at boot, but will not be",
                stopping[0].text,
                *stopping[0].remedy,
            )
        return say(Status.OK, "the tls module is loaded at boot")
    if facts.at_boot.unread:
        where = ", ".join(f"{each.path} ({each.reason})" for each in facts.at_boot.unread)
        return say(
            Status.UNKNOWN,
            "whether the tls module is loaded at boot is not known",
            f"not readable: {where}",
            Remedy("run ktlsctl as root"),
        )
    return say(
        Status.OK,
        "the tls module is not listed to be loaded at boot",
        "after a reboot it comes only when root, or a program with CAP_NET_ADMIN, asks for it",
        LOAD_AT_BOOT,
    )


def autoload(facts: Facts, now: Situation) -> Check:
    """linux.module.autoload: who gets it loaded by just asking for the ULP (net/ipv4/tcp_ulp.c)."""
    answers = facts.ulp.value
    held = None if answers is None else answers.capability in (Capability.DROPPED, Capability.KEPT, Capability.STUCK)
    in_first = facts.namespaces.in_first_user
    may = held and in_first is Tri.YES if held is not None and in_first is not Tri.UNKNOWN else None
    evidence: Evidence = {
        "this_process_may": may,
        "first_user_namespace": str(in_first),
        "alias": facts.tree.alias.value,
    }

    def say(status: Status, summary: str, reason: str = "", *remedy: Remedy) -> Check:
        return Check("linux.module.autoload", Link.MODULE, status, summary, reason, evidence, remedy)

    rule = (
        "only a process with CAP_NET_ADMIN in the first user namespace triggers it; everybody else, also root in a "
        "container, gets ENOENT, which proves nothing about the kernel"
    )
    if now.lacking or now.no_ulp:
        return say(Status.SKIP, "nothing to load on first use", "this kernel has no kernel TLS")
    if now.registered is Tri.YES:
        return say(Status.OK, "tls is there: nobody needs to have it loaded", f"otherwise {rule}")
    barring = [obstacle for obstacle in obstacles(facts, now) if Way.ON_DEMAND in obstacle.bars]
    stopping = [obstacle.text for obstacle in barring]
    remedy = tuple(remedy for obstacle in barring for remedy in obstacle.remedy)
    if facts.tree.alias.value is False and not now.container:
        stopping.append(f"{facts.tree.directory}/modules.alias does not name the ULP")
        remedy += (Remedy("index the modules anew", "depmod"),)
    if stopping:
        return say(
            Status.WARNING, "no program has the tls module loaded on first use", f"{stopping[0]}; {rule}", *remedy
        )
    if not facts.on_disk.file and not now.container:
        return say(
            Status.SKIP, "nothing to load on first use", f"no tls module was found in {facts.tree.directory}; {rule}"
        )
    return say(Status.OK, "a privileged program has the tls module loaded on first use", rule)
