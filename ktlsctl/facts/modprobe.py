# SPDX-License-Identifier: BSD-2-Clause
"""Who may load tls: modprobe.d(5), modules-load.d(5), the kernel's command line and its locks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase

from ktlsctl.facts.attempts import mapped, read_line, read_number
from ktlsctl.facts.kmod import MODULE
from ktlsctl.host import Host
from ktlsctl.model import Attempt

#: What the kernel asks its helper for when a program names an unknown ULP (net/ipv4/tcp_ulp.c).
ALIAS = "tcp-ulp-tls"

#: First to last: a file of the same name in an earlier directory masks the later one.
_ROOTS = ("/etc", "/run", "/usr/local/lib", "/usr/lib", "/lib")
MODPROBE_DIRECTORIES = tuple(f"{root}/modprobe.d" for root in _ROOTS)
LOAD_DIRECTORIES = tuple(f"{root}/modules-load.d" for root in _ROOTS)


class Directive(StrEnum):
    """The directives of modprobe.d that can keep a module out."""

    BLACKLIST = "blacklist"
    INSTALL = "install"
    ALIAS = "alias"


@dataclass(frozen=True, slots=True)
class Rule:
    """One directive that concerns tls, and where it stands.  `argument`: the command, or what the alias leads to.
    `lines`: how many physical lines it takes, from `line` on."""

    directive: Directive
    pattern: str
    argument: str
    path: str
    line: int
    lines: int = 1

    @property
    def last(self) -> int:
        return self.line + self.lines - 1

    @property
    def where(self) -> str:
        return f"{self.path}:{self.line}"

    @property
    def text(self) -> str:
        return f"{self.directive} {self.pattern} {self.argument}".rstrip()


@dataclass(frozen=True, slots=True)
class Unread:
    """A configuration file or directory that is there and could not be read."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Configured:
    """What the files say, in the order in which kmod sees it."""

    rules: tuple[Rule, ...]
    unread: tuple[Unread, ...]


@dataclass(frozen=True, slots=True)
class CommandLine:
    """What /proc/cmdline says: `module_blacklist=` (the kernel obeys), `modprobe.blacklist=` (only modprobe does),
    `modules_load=` (systemd loads at boot), `module.sig_enforce`, `lockdown=`."""

    module_blacklist: bool = False
    modprobe_blacklist: bool = False
    modules_load: bool = False


@dataclass(frozen=True, slots=True)
class Locks:
    """What stops the kernel itself.  `helper` is the program it runs to load a module, empty: none."""

    modules_disabled: Attempt[int]
    helper: Attempt[str]
    lockdown: Attempt[str]
    sig_enforce: Attempt[str]
    command_line: Attempt[CommandLine]


@dataclass(frozen=True, slots=True)
class AtBoot:
    """Files that have tls loaded at boot, each as path:line."""

    files: tuple[str, ...]
    unread: tuple[Unread, ...]


# --- modprobe.d -----------------------------------------------------------------------------------------------------


def underscored(name: str) -> str:
    """Names are compared with dashes as underscores, except inside the brackets of a pattern (kmod's underscores())."""
    return "".join(part if part.startswith("[") else part.replace("-", "_") for part in re.split(r"(\[[^\]]*\])", name))


def _logical_lines(content: bytes) -> Iterator[tuple[int, int, str]]:
    """Number of its first line, how many it takes, and text: a backslash joins the next line, before any other
    character it vanishes."""
    held: list[str] = []
    # only \n ends a line: splitlines() would also break at form feeds and the like
    for number, physical in enumerate(content.decode("utf-8", "replace").split("\n"), 1):
        backslashes = len(physical) - len(physical.rstrip("\\"))
        held.append(physical[:-1] if backslashes % 2 else physical)
        if not backslashes % 2:
            yield number - len(held) + 1, len(held), re.sub(r"\\(.)", r"\1", "".join(held))
            held = []
    if held:
        yield number - len(held) + 1, len(held), re.sub(r"\\(.)", r"\1", "".join(held))


def parse_modprobe(content: bytes, path: str) -> tuple[Rule, ...]:
    """Every rule that concerns tls or its ULP alias, in file order.  What kmod would ignore is ignored."""
    rules = []
    for number, count, text in _logical_lines(content):
        # kmod takes # for a comment in the first column only; elsewhere the directive is just unknown to it
        words = [] if text.startswith("#") else [w for w in re.split(r"[ \t]+", text) if w]
        if len(words) < 2 or words[0] not in tuple(Directive):
            continue
        directive, pattern = Directive(words[0]), words[1]
        argument = " ".join(words[2:] if directive is Directive.INSTALL else words[2:3])
        if directive is not Directive.BLACKLIST and not argument:
            continue
        if _concerns(directive, pattern):
            told = "" if directive is Directive.BLACKLIST else argument
            rules.append(Rule(directive, pattern, told, path, number, count))
    return tuple(rules)


def _concerns(directive: Directive, pattern: str) -> bool:
    name = underscored(pattern)
    if directive is Directive.BLACKLIST:
        return name == MODULE
    if directive is Directive.INSTALL:
        return fnmatchcase(MODULE, name)
    return fnmatchcase(underscored(ALIAS), name) or fnmatchcase(MODULE, name)


def only_rules(content: bytes) -> bytes:
    """The rules that concern tls, each on the lines where it stood; everything else is an empty line."""
    lines: list[str] = []
    for rule in parse_modprobe(content, ""):
        lines.extend([""] * (rule.line - 1 - len(lines)))
        text = [rule.text.replace("\\", "\\\\"), *[""] * (rule.lines - 1)]
        lines.extend([*(line + "\\" for line in text[:-1]), text[-1]])
    return "".join(line + "\n" for line in lines).encode("utf-8", "replace")


def _visible(host: Host, directories: Sequence[str], suffixes: tuple[str, ...]) -> tuple[list[str], list[Unread]]:
    """Paths in the order of their names, with masked ones left out; and directories that could not be listed."""
    chosen: dict[str, str] = {}
    unread = []
    for directory in directories:
        names = host.names(directory)
        if not names.present and not names.absent:
            unread.append(Unread(directory, names.reason))
        for name in names.or_else(()):
            if name.endswith(suffixes) and not name.startswith("."):
                chosen.setdefault(name, f"{directory}/{name}")
    return [chosen[name] for name in sorted(chosen)], unread


def read_configured(host: Host) -> Configured:
    """All of modprobe.d.  kmod reads *.conf, and *.alias too until version 33."""
    paths, unread = _visible(host, MODPROBE_DIRECTORIES, (".conf", ".alias"))
    rules: list[Rule] = []
    for path in paths:
        content = host.read(path, keep=only_rules)
        if content.value is not None:
            rules.extend(parse_modprobe(content.value, path))
        elif not content.absent:
            unread.append(Unread(path, content.reason))
    return Configured(tuple(rules), tuple(unread))


# --- at boot --------------------------------------------------------------------------------------------------------


def parse_modules_load(content: bytes) -> tuple[int, ...]:
    """Numbers of the lines that name tls.  `#` and `;` begin a comment; /etc/modules allows options after the name."""
    return tuple(
        number
        for number, line in enumerate(content.decode("utf-8", "replace").split("\n"), 1)
        if line.split()[:1] == [MODULE]
    )


def keep_load_lines(content: bytes) -> bytes:
    """The lines that name tls, each where it stood; everything else is an empty line."""
    wanted = parse_modules_load(content)
    last = max(wanted, default=0)
    return b"".join((MODULE.encode() if number in wanted else b"") + b"\n" for number in range(1, last + 1))


def read_at_boot(host: Host) -> AtBoot:
    """modules-load.d of systemd (and OpenRC), and /etc/modules of Debian and Alpine."""
    paths, unread = _visible(host, LOAD_DIRECTORIES, (".conf",))
    files: list[str] = []
    for path in (*paths, "/etc/modules"):
        content = host.read(path, keep=keep_load_lines)
        if content.value is not None:
            files.extend(f"{path}:{number}" for number in parse_modules_load(content.value))
        elif not content.absent:
            unread.append(Unread(path, content.reason))
    return AtBoot(tuple(files), tuple(unread))


# --- the kernel's own locks -----------------------------------------------------------------------------------------

#: Parameters with the list of modules that each takes; dash and underscore are the same in a parameter's name.
_LISTS = ("module_blacklist", "modprobe.blacklist", "modules_load", "rd.modules_load")


def _parameters(content: bytes) -> Iterator[tuple[str, str]]:
    for word in content.decode("utf-8", "replace").split():
        name, _, value = word.replace('"', "").partition("=")
        yield name.replace("-", "_"), value


def only_module_parameters(content: bytes) -> bytes:
    """The parameters of /proc/cmdline that are read here: the rest may hold addresses, names and secrets."""
    return " ".join(f"{name}={value}" for name, value in _parameters(content) if name in _LISTS).encode(
        "utf-8", "replace"
    )


def parse_command_line(content: bytes) -> CommandLine:
    """A kernel parameter given twice: the last counts; modprobe and systemd add theirs up."""
    kernel: list[str] = []
    modprobe: list[str] = []
    boot: list[str] = []
    for name, value in _parameters(content):
        modules = value.split(",")
        if name == "module_blacklist":
            kernel = modules
        elif name == "modprobe.blacklist":
            modprobe += modules
        elif name in ("modules_load", "rd.modules_load"):
            boot += modules
    return CommandLine(MODULE in kernel, MODULE in modprobe, MODULE in boot)


def parse_lockdown(text: str) -> str:
    """`none [integrity] confidentiality` -> integrity; empty when nothing is marked."""
    marked = re.search(r"\[([a-z]+)\]", text)
    return marked[1] if marked else ""


def read_locks(host: Host) -> Locks:
    """Costs five small reads; lockdown needs a mounted securityfs."""
    return Locks(
        modules_disabled=read_number(host, "/proc/sys/kernel/modules_disabled"),
        helper=read_line(host, "/proc/sys/kernel/modprobe"),
        lockdown=mapped(read_line(host, "/sys/kernel/security/lockdown"), parse_lockdown),
        sig_enforce=read_line(host, "/sys/module/module/parameters/sig_enforce"),
        command_line=mapped(host.read("/proc/cmdline", keep=only_module_parameters), parse_command_line),
    )


# --- what the rules amount to, by kmod's own logic ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Blocks:
    """The rules in force.  `by_name` stop `modprobe tls`; `by_alias` only what the kernel and systemd ask for."""

    by_name: tuple[Rule, ...]
    by_alias: tuple[Rule, ...]
    custom: tuple[Rule, ...]


def in_force(rules: Sequence[Rule]) -> Blocks:
    """kmod 30 libkmod-module.c: the first install command wins and is run for every kind of request; an alias of the
    configuration is looked up before modules.dep, by the name that was asked for; a blacklist does not hold for a
    module asked for by its own name."""
    by_name: list[Rule] = []
    by_alias: list[Rule] = [rule for rule in rules if rule.directive is Directive.BLACKLIST]
    custom: list[Rule] = []
    install = next((rule for rule in rules if rule.directive is Directive.INSTALL), None)
    if install is not None:
        # a command that runs neither can load nothing
        loads = "modprobe" in install.argument or "insmod" in install.argument
        (custom if loads else by_name).append(install)
    aliases = [rule for rule in rules if rule.directive is Directive.ALIAS]
    by_name.extend(_astray([a for a in aliases if fnmatchcase(MODULE, underscored(a.pattern))]))
    by_alias.extend(_astray([a for a in aliases if fnmatchcase(underscored(ALIAS), underscored(a.pattern))]))
    return Blocks(tuple(by_name), tuple(dict.fromkeys(by_alias)), tuple(custom))


def _astray(aliases: Sequence[Rule]) -> Sequence[Rule]:
    """The aliases that lead elsewhere, unless one of them leads to tls after all."""
    return () if any(underscored(alias.argument) == MODULE for alias in aliases) else aliases
