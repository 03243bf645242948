# SPDX-License-Identifier: BSD-2-Clause
"""What Linux needs so that kernel TLS is there, or is not: the tls module now and at boot, offload by an interface.

`gather` reads, `plan` is pure.  Lines that others wrote in modprobe.d and modules-load.d are named and never edited.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from ktlsctl import linux
from ktlsctl.changes import Change, FileEdit, Kind, Obstacle, Scope, Turn, Wishes, below
from ktlsctl.configure import edits, runtime
from ktlsctl.facts import kmod, modprobe, tlsstat
from ktlsctl.facts.modprobe import AtBoot, CommandLine, Configured, Directive, Rule, Unread, in_force, underscored
from ktlsctl.facts.netdev import Interface
from ktlsctl.host import Host
from ktlsctl.linux_findings import module
from ktlsctl.linux_findings.situation import situation
from ktlsctl.model import About, Attempt, Check, Direction, Remedy, Tri

LOAD_FILE = "/etc/modules-load.d/ktlsctl.conf"
BLOCK_FILE = "/etc/modprobe.d/ktlsctl.conf"

OFFLOADS = {Direction.TX: "tls-hw-tx-offload", Direction.RX: "tls-hw-rx-offload"}


@dataclass(frozen=True, slots=True)
class Facts:
    """`kernel`: None for another root, where no kernel runs.  `load`, `block`: the tool's own files as they are."""

    kernel: linux.Facts | None
    configured: Configured
    at_boot: AtBoot
    load: Attempt[bytes]
    block: Attempt[bytes]


def gather(host: Host, *, running: bool) -> Facts:
    """Everything that a plan rests on; changes nothing."""
    kernel = linux.gather(host, load=False) if running else None
    return Facts(
        kernel,
        kernel.configured if kernel is not None else modprobe.read_configured(host),
        kernel.at_boot if kernel is not None else modprobe.read_at_boot(host),
        host.read(LOAD_FILE),
        host.read(BLOCK_FILE),
    )


Item = Change | Obstacle


def plan(facts: Facts, about: About, wishes: Wishes) -> Iterator[Item]:
    """Changes and obstacles for the kernel; pure."""
    if wishes.only is not None and not wishes.offload:
        for scope in (s for s in (Scope.NOW, Scope.BOOT) if wishes.wants(s)):
            yield Obstacle(
                scope,
                "Linux has no switch for one direction of kernel TLS: a program gets what its TLS library asks for",
                True,
                (Remedy("name an interface whose offload is meant with --offload, or leave the direction out"),),
            )
        return
    if wishes.now:
        yield from _now(facts, about, wishes)
    if wishes.persist:
        yield from (_boot_on if wishes.on else _boot_off)(facts, wishes.root)
    yield from _offload(facts, wishes)


# --- the running kernel ---------------------------------------------------------------------------------------------


def _now(facts: Facts, about: About, wishes: Wishes) -> Iterator[Item]:
    if facts.kernel is None:
        return
    found = next(check for check in linux.judge(facts.kernel, about).checks if check.id == "linux.module.tls")
    now = situation(facts.kernel)
    if wishes.on:
        if now.lacking or now.no_ulp:
            yield Obstacle(
                Scope.NOW,
                "this kernel was built without kernel TLS (CONFIG_TLS)",
                True,
                (Remedy("boot a kernel that has it: every distribution's standard kernel does"),),
            )
        elif now.registered is not Tri.YES:
            yield from _load(facts.kernel, found)
        return
    if now.built_in:
        yield Obstacle(
            Scope.NOW,
            "tls is built into this kernel and cannot be taken out",
            True,
            (Remedy("switch it off where it is used: ktlsctl disable --library, or each service's own configuration"),),
        )
    elif now.registered is Tri.YES:
        held = _held(facts.kernel)
        if held:
            yield Obstacle(
                Scope.NOW,
                f"the tls module cannot be unloaded: {held}",
                True,
                (Remedy("stop what uses it, then run this again; new connections of other programs still get it"),),
            )
        else:
            yield Change(
                "now.module.tls", Scope.NOW, Kind.MODULE, "unload the tls module",
                Turn(kmod.MODULE, runtime.LOADED, runtime.ABSENT), "nothing uses it now",
            )  # fmt: skip


def _load(kernel: linux.Facts, found: Check) -> Iterator[Item]:
    """`found`: what check says of the module.  Where it says that modprobe would fail, that is not tried."""
    now = situation(kernel)
    barred = any(module.Way.BY_NAME in obstacle.bars for obstacle in module.obstacles(kernel, now))
    # a modules.dep that could not be read says nothing
    missing = kernel.tree.file.absent and (kernel.tree.dep.present or kernel.tree.dep.absent)
    if barred or now.container or missing:
        yield Obstacle(Scope.NOW, f"{found.summary}: {found.reason}", True, found.remedy)
        return
    yield Change(
        "now.module.tls", Scope.NOW, Kind.MODULE, "load the tls module",
        Turn(kmod.MODULE, runtime.ABSENT, runtime.LOADED), "every local user can reach its code then",
    )  # fmt: skip


def _held(kernel: linux.Facts) -> str:
    """Who keeps the module from being unloaded; empty: nobody."""
    listing = kernel.running.listing.value
    line = listing.line if listing is not None else None
    return held_by(line.holders if line else (), line.references if line else 0, kernel.stats.or_else({}))


def holders(host: Host) -> str:
    """The same, asked of a host."""
    running = kmod.read_running(host)
    line = running.listing.value.line if running.listing.value is not None else None
    return held_by(line.holders if line else (), line.references if line else 0, tlsstat.read(host).or_else({}))


def held_by(needing: tuple[str, ...], references: int, counters: Mapping[str, int]) -> str:
    """In words.  The reference count holds both: one for each module that needs it, one for each kTLS socket."""
    parts = []
    if needing:
        parts.append(f"{', '.join(needing)} need{'s' if len(needing) == 1 else ''} it")
    sockets = max(references, 0) - len(needing)
    if sockets > 0:
        here = sum(counters.get(name, 0) for name in ("TlsCurrTxSw", "TlsCurrTxDevice"))
        where = f", {here} of them sending in this network namespace" if here else ""
        parts.append(
            f"{sockets} open socket{'s' * (sockets > 1)} use{'s' * (sockets == 1)} it{where} (ss -tie shows them)"
        )
    if references < 0:
        parts.append("the kernel was built without unloading of modules")
    return "; ".join(parts)


# --- at boot --------------------------------------------------------------------------------------------------------


def _boot_on(facts: Facts, root: str) -> Iterator[Item]:
    if (elsewhere := _elsewhere(facts)) is not None:
        yield from elsewhere
        return
    own = {number for rule in _own(facts) for number in range(rule.line, rule.last + 1)}
    if own and facts.block.value is not None:
        yield _file(
            "boot.modprobe", "take the tool's own block away", BLOCK_FILE, facts.block.value,
            edits.without_block(facts.block.value, frozenset(own)),
        )  # fmt: skip
    yield from _unread((*facts.configured.unread, *facts.at_boot.unread))
    yield from _foreign(_lines(_others(facts)), "the module from being loaded at boot", ("keeps", "keep"), root)
    line = _command_line(facts)
    if line is not None and (line.modprobe_blacklist or line.module_blacklist):
        yield Obstacle(
            Scope.BOOT,
            "the kernel's command line blacklists tls",
            True,
            (Remedy("remove it from the boot loader's kernel command line"),),
        )
    if not facts.at_boot.files and not (line is not None and line.modules_load):
        yield _file(
            "boot.modules-load", "have the module loaded at every boot", LOAD_FILE, facts.load.value,
            edits.LOAD_DROP_IN if not facts.load.value else edits.append(facts.load.value, b"tls"),
        )  # fmt: skip


def _boot_off(facts: Facts, root: str) -> Iterator[Item]:
    if (elsewhere := _elsewhere(facts)) is not None:
        yield from elsewhere
        return
    yield from _unread((*facts.configured.unread, *facts.at_boot.unread))
    ours = frozenset(int(where.rpartition(":")[2]) for where in facts.at_boot.files if _path(where) == LOAD_FILE)
    if ours and facts.load.value is not None:
        left = edits.without_lines(facts.load.value, ours)
        plain = all(not text.strip() or text in edits.LOAD_DROP_IN.split(b"\n") for text in left.split(b"\n"))
        yield _file(
            "boot.modules-load", "do not have it loaded at boot", LOAD_FILE, facts.load.value, None if plain else left
        )
    loading = [_Line(_path(where), int(where.rpartition(":")[2])) for where in facts.at_boot.files]
    foreign = [line for line in loading if line.path != LOAD_FILE]
    yield from _foreign(foreign, "the module loaded at boot", ("has", "have"), root)
    line = _command_line(facts)
    if line is not None and line.modules_load:
        yield Obstacle(
            Scope.BOOT,
            "the kernel's command line has the module loaded at boot (modules_load=tls)",
            True,
            (Remedy("remove it from the boot loader's kernel command line"),),
        )
    blocks = in_force(facts.configured.rules)
    if blocks.by_alias or any(rule.directive is Directive.INSTALL for rule in blocks.by_name):
        return
    # one alias that leads to the module is enough: kmod then passes over those that lead elsewhere
    leading = [r for r in facts.configured.rules if _of_ulp(r) and underscored(r.argument) == kmod.MODULE]
    yield from _foreign(_lines(leading), "programs' requests load the module all the same", ("lets", "let"), root)
    if not any(_of_ulp(rule) and rule not in leading for rule in _own(facts)):
        content = facts.block.value
        yield _file(
            "boot.modprobe", "let no program's request load the module", BLOCK_FILE, content,
            edits.BLOCK_DROP_IN if not content else edits.append(content, b"alias tcp-ulp-tls off"),
            "modules that need it, such as bonding, still bring it in; so does modprobe tls",
        )  # fmt: skip


def _of_ulp(rule: Rule) -> bool:
    asked = fnmatchcase(underscored(modprobe.ALIAS), underscored(rule.pattern))
    return rule.directive is Directive.ALIAS and asked


def _command_line(facts: Facts) -> CommandLine | None:
    return facts.kernel.locks.command_line.value if facts.kernel is not None else None


def _elsewhere(facts: Facts) -> tuple[Obstacle, ...] | None:
    """Where no file of this system decides: what there is to say of it; None: these files do."""
    if facts.kernel is None:
        return None
    now = situation(facts.kernel)
    if now.container:
        text = "what the host loads at boot stands in the host's files, not in this container's"
        return (Obstacle(Scope.BOOT, text, True, (Remedy("run this on the host"),)),)
    if now.built_in:
        return ()
    if now.lacking or now.no_ulp:
        text = "this kernel was built without kernel TLS: there is nothing to load at boot"
        return (Obstacle(Scope.BOOT, text, True, (Remedy("boot a kernel that has it"),)),)
    return None


def _own(facts: Facts) -> tuple[Rule, ...]:
    return tuple(rule for rule in facts.configured.rules if rule.path == BLOCK_FILE)


def _others(facts: Facts) -> tuple[Rule, ...]:
    """Rules of others that keep systemd from loading it: all but an alias of the ULP's name, which it does not ask."""
    blocks = in_force(tuple(rule for rule in facts.configured.rules if rule.path != BLOCK_FILE))
    lists = tuple(rule for rule in blocks.by_alias if rule.directive is Directive.BLACKLIST)
    return (*blocks.by_name, *lists)


def _unread(files: tuple[Unread, ...]) -> Iterator[Obstacle]:
    for each in files:
        yield Obstacle(
            Scope.BOOT, f"{each.path} could not be read ({each.reason})", True, (Remedy("run this as root"),)
        )


def _path(where: str) -> str:
    return where.rpartition(":")[0]


@dataclass(frozen=True, slots=True)
class _Line:
    """A line that somebody else wrote, with those that continue it; `text`: what it says, where that is to be shown."""

    path: str
    first: int
    count: int = 1
    text: str = ""


def _lines(rules: Iterable[Rule]) -> list[_Line]:
    return [_Line(rule.path, rule.line, rule.lines, rule.text) for rule in rules]


def _foreign(lines: list[_Line], what: str, verb: tuple[str, str], root: str) -> Iterator[Obstacle]:
    """One obstacle and one command a file: a second command would count lines that the first has moved."""
    for path in dict.fromkeys(line.path for line in lines):
        here = [line for line in lines if line.path == path]
        where = f"{path}:{', '.join(str(line.first) for line in here)}"
        said = f": `{'`, `'.join(line.text for line in here)}`" if here[0].text else ""
        several = len(here) > 1
        remedy = f"if that is not meant, remove the line{'s' * several}"
        yield Obstacle(
            Scope.BOOT,
            f"{where} {verb[several]} {what}{said}",
            True,
            (Remedy(remedy, _delete(below(root, path), here)),),
        )


def _delete(path: str, lines: list[_Line]) -> str:
    spans = [f"{x.first}d" if x.count == 1 else f"{x.first},{x.first + x.count - 1}d" for x in lines]
    scripts = spans if len(spans) == 1 else [word for span in spans for word in ("-e", span)]
    return shlex.join(["sed", "-i", *scripts, path])


def _file(identity: str, summary: str, path: str, before: bytes | None, after: bytes | None, note: str = "") -> Change:
    return Change(identity, Scope.BOOT, Kind.FILE, summary, FileEdit(path, before, after), note)


# --- offload by a network interface ---------------------------------------------------------------------------------


def _offload(facts: Facts, wishes: Wishes) -> Iterator[Item]:
    if facts.kernel is None or not wishes.offload:
        return
    interfaces = {i.name: i for i in facts.kernel.interfaces.asked.or_else(())}
    wanted = runtime.ON if wishes.on else runtime.OFF
    for name in wishes.offload:
        interface = interfaces.get(name)
        if interface is None:
            yield Obstacle(
                Scope.NOW,
                f"there is no network interface {name}",
                True,
                (Remedy("see which there are", "ip -br link"),),
            )
            continue
        for direction, feature in OFFLOADS.items():
            if wishes.only in (None, direction):
                yield from _feature(interface, feature, wanted)
    if wishes.persist:
        yield Obstacle(
            Scope.BOOT,
            "offload by an interface lasts until the next boot: its own configuration has to set it there",
            False,
            (Remedy("set it where the interface is configured (systemd.link(5), ifupdown, NetworkManager)"),),
        )


def _feature(interface: Interface, feature: str, wanted: str) -> Iterator[Item]:
    found = next((f for f in interface.features.or_else(()) if f.name == feature), None)
    if found is None or (found.fixed and str(found) != f"{wanted} [fixed]"):
        why = (
            interface.features.reason if not interface.features.present else f"the driver of {interface.name} has none"
        )
        yield Obstacle(
            Scope.NOW,
            f"{feature} of {interface.name} cannot be switched {wanted}: {why}",
            True,
            (Remedy("kernel TLS works in software without it"),),
        )
    elif found.active != (wanted == runtime.ON):
        before = runtime.ON if found.active else runtime.OFF
        yield Change(
            f"now.offload.{interface.name}.{feature}", Scope.NOW, Kind.OFFLOAD,
            f"switch {feature} of {interface.name} {wanted}",
            Turn(runtime.offload_name(interface.name, feature), before, wanted),
            "for new connections; not kept across a boot",
        )  # fmt: skip
