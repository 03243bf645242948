# SPDX-License-Identifier: BSD-2-Clause
"""The tls module: what the running kernel says of it, and what lies in the directory its modules are loaded from."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ktlsctl.facts.attempts import mapped, read_line, read_number
from ktlsctl.host import Host
from ktlsctl.model import Attempt, Outcome

MODULE = "tls"

#: Where a release's modules lie: kmod's own place first, then NixOS's, which has no /lib/modules.
ROOTS = ("/lib/modules", "/usr/lib/modules", "/run/booted-system/kernel-modules/lib/modules")

_FILE = re.compile(r"(?:^|/)tls\.ko(?:\.(?:gz|xz|zst))?$")


@dataclass(frozen=True, slots=True)
class Loaded:
    """The module's line of /proc/modules.  `holders`: modules that need it; -1 references: the kernel cannot unload."""

    references: int
    holders: tuple[str, ...]
    state: str


@dataclass(frozen=True, slots=True)
class Listing:
    """/proc/modules: whether it names the module, and how."""

    line: Loaded | None


@dataclass(frozen=True, slots=True)
class OnDisk:
    """What modules.dep says.  `file` is relative to the directory, empty when tls is not among the modules;
    `dependants` are modules that pull tls in; `configs`: the module that brings /proc/config.gz is there."""

    file: str
    dependants: tuple[str, ...]
    configs: bool


@dataclass(frozen=True, slots=True)
class Tree:
    """The running release's modules.  `file`: tls.ko itself; `siblings`: other releases, if the directory is gone."""

    directory: str
    dep: Attempt[OnDisk]
    builtin: Attempt[bool]
    alias: Attempt[bool]
    file: Attempt[str]
    siblings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Running:
    """What the kernel says: /proc/modules, /sys/module/tls, the registered ULPs."""

    listing: Attempt[Listing]
    initstate: Attempt[str]
    references: Attempt[int]
    ulps: Attempt[tuple[str, ...]]


# --- the running kernel ---------------------------------------------------------------------------------------------


def only_tls(content: bytes) -> bytes:
    """/proc/modules without other modules and without load addresses, which defeat KASLR when root reads them."""
    lines = (line.split() for line in content.splitlines())
    return b"".join(b" ".join(words[:5]) + b"\n" for words in lines if words and words[0] == MODULE.encode())


def parse_proc_modules(content: bytes) -> Listing:
    """The line of tls; what cannot be read in it is left out (references -1, no holders)."""
    for line in content.decode("utf-8", "replace").splitlines():
        name, _, rest = line.partition(" ")
        if name != MODULE:
            continue
        words = rest.split()
        references = words[1] if len(words) > 1 else ""
        holders = words[2] if len(words) > 2 else "-"
        return Listing(
            Loaded(
                references=int(references)
                if references.isascii() and references.isdigit() and len(references) < 12
                else -1,
                holders=tuple(h for h in holders.split(",") if h not in ("", "-", "[permanent]")),
                state=words[3] if len(words) > 3 else "",
            )
        )
    return Listing(None)


def read_running(host: Host) -> Running:
    """Costs four small reads; needs no privilege."""
    return Running(
        listing=mapped(host.read("/proc/modules", keep=only_tls), parse_proc_modules),
        initstate=read_line(host, f"/sys/module/{MODULE}/initstate"),
        references=read_number(host, f"/sys/module/{MODULE}/refcnt"),
        ulps=mapped(read_line(host, "/proc/sys/net/ipv4/tcp_available_ulp"), lambda text: tuple(text.split())),
    )


# --- the directory on disk ------------------------------------------------------------------------------------------


_DEP_LINES = re.compile(rb"^.*(?:tls\.ko|configs\.ko).*$", re.MULTILINE)
_BUILTIN_LINES = re.compile(rb"^.*tls\.ko.*$", re.MULTILINE)
_ALIAS_LINES = re.compile(rb"^.*tcp[-_]ulp[-_]tls.*$", re.MULTILINE)


def _lines_with(content: bytes, needle: re.Pattern[bytes]) -> bytes:
    return b"".join(match[0] + b"\n" for match in needle.finditer(content))


def keep_dep(content: bytes) -> bytes:
    """The lines of modules.dep that name tls or configs: under 1 % of them."""
    return _lines_with(content, _DEP_LINES)


def keep_builtin(content: bytes) -> bytes:
    """The lines of modules.builtin that name tls."""
    return _lines_with(content, _BUILTIN_LINES)


def keep_alias(content: bytes) -> bytes:
    """The lines of modules.alias about the ULP."""
    return _lines_with(content, _ALIAS_LINES)


def module_name(path: str) -> str:
    """kernel/net/tls/tls.ko.xz -> tls; dashes are underscores, as the kernel has it."""
    return path.rsplit("/", 1)[-1].partition(".")[0].replace("-", "_")


def parse_dep(content: bytes) -> OnDisk:
    """modules.dep: `file: what it needs`.  Other lines are ignored."""
    file, configs = "", False
    dependants: list[str] = []
    for line in content.decode("utf-8", "replace").splitlines():
        target, colon, needs = line.partition(":")
        if not colon:
            continue
        if _FILE.search(target):
            file = file or target
        elif module_name(target) == "configs":
            configs = True
        if any(_FILE.search(need) for need in needs.split()):
            dependants.append(module_name(target))
    return OnDisk(file, tuple(sorted(set(dependants))), configs)


def parse_builtin(content: bytes) -> bool:
    """modules.builtin: whether tls is compiled into the kernel."""
    return any(_FILE.search(line) for line in content.decode("utf-8", "replace").splitlines())


def parse_alias(content: bytes) -> bool:
    """modules.alias: whether a request for the ULP leads to the module (`alias tcp-ulp-tls tls`)."""
    return any(
        words[:1] == ["alias"] and words[1].replace("_", "-") == "tcp-ulp-tls" and words[2] == MODULE
        for words in (line.split() for line in content.decode("utf-8", "replace").splitlines())
        if len(words) == 3
    )


def read_tree(host: Host, release: str) -> Tree:
    """The first root that has this release, or the first root at all."""
    directory, present = f"{ROOTS[0]}/{release}", False
    siblings: set[str] = set()
    for root in ROOTS:
        found = host.names(root).or_else(())
        if release in found:
            directory, present = f"{root}/{release}", True
            break
        siblings.update(found)
    dep = mapped(host.read(f"{directory}/modules.dep", keep=keep_dep), parse_dep)
    on_disk = dep.or_else(OnDisk("", (), False))
    absent: Attempt[bool] = Attempt(Outcome.ABSENT, reason="no module directory of this release")
    return Tree(
        directory=directory,
        dep=dep,
        builtin=mapped(host.read(f"{directory}/modules.builtin", keep=keep_builtin), parse_builtin)
        if present
        else absent,
        alias=mapped(host.read(f"{directory}/modules.alias", keep=keep_alias), parse_alias) if on_disk.file else absent,
        file=host.resolve(f"{directory}/{on_disk.file}")
        if on_disk.file
        else Attempt(Outcome.ABSENT, reason="modules.dep does not name it"),
        siblings=() if present else tuple(sorted(siblings)),
    )
