# SPDX-License-Identifier: BSD-2-Clause
"""Sysctls of both systems through the host door: what the kernel holds now, and what files set at boot.

Linux keeps them as files under /proc/sys.  FreeBSD has no such files: one `sysctl(8)` run answers for many names and
whole subtrees.  Values are read by name only, never by position: the order of FreeBSD's answer follows the kernel's
registration order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from ktlsctl.host import Host
from ktlsctl.model import Attempt, Os, Outcome

#: Every FreeBSD kernel has it: an answer without it means that sysctl(8) did not work, not that names are missing.
_ALWAYS_THERE = "kern.osreldate"

_ANSWER = re.compile(r"([A-Za-z0-9_%.-]+)=(.*)")


def read(host: Host, name: str) -> Attempt[str]:
    """The value of one sysctl, under its dotted name; ABSENT when this kernel does not know it."""
    if host.about.os is Os.FREEBSD:
        found = tree(host, name)
        if not found.present:
            return Attempt(found.outcome, reason=found.reason)
        value = found.or_else({}).get(name)
        return Attempt(Outcome.ABSENT, reason=f"unknown oid '{name}'") if value is None else Attempt.ran(value)
    content = host.read(proc_path(name))
    if not content.present:
        return Attempt(content.outcome, reason=content.reason)
    return Attempt.ran(content.or_else(b"").decode("utf-8", "replace").strip())


def proc_path(name: str) -> str:
    """Where Linux keeps a sysctl.  As in sysctl.d(5), a name whose first separator is `/` keeps its dots."""
    first = re.search(r"[./]", name)
    if first is not None and first.group() == ".":
        name = name.translate(str.maketrans("./", "/."))
    return f"/proc/sys/{name}"


def tree(host: Host, *names: str) -> Attempt[Mapping[str, str]]:
    """FreeBSD: every leaf at or below each of `names`, by full name.  A name that is not in the answer is absent.

    `-i` passes over unknown names, `-e` writes `name=value` (sysctl(8)).
    """
    ran = host.run("sysctl", "-ie", _ALWAYS_THERE, *names)
    if ran.value is None:
        # A missing command is a host that cannot be asked; ABSENT is for the sysctl itself.
        outcome = Outcome.FAILED if ran.absent else ran.outcome
        return Attempt(outcome, reason=ran.reason or "sysctl(8) did not run")
    values = parse_answer(ran.value.stdout, (_ALWAYS_THERE, *names))
    if _ALWAYS_THERE not in values:
        said = ran.value.stderr.strip().splitlines()
        why = said[0] if said else f"it did not name {_ALWAYS_THERE}, which every FreeBSD kernel has"
        return Attempt(Outcome.FAILED, reason=f"sysctl(8) gave no answer: {why}")
    return Attempt.ran(values)


def parse_answer(text: str, asked: Iterable[str]) -> Mapping[str, str]:
    """`sysctl -e` output as name and value.  Lines that nobody asked for (the rest of a long string) are left out."""
    wanted = tuple(asked)
    found: dict[str, str] = {}
    for line in text.split("\n"):
        match = _ANSWER.fullmatch(line.rstrip("\r"))
        if match and any(match[1] == name or match[1].startswith(f"{name}.") for name in wanted):
            found.setdefault(match[1], match[2].strip())
    return found


@dataclass(frozen=True, slots=True)
class Setting:
    """One assignment in a configuration file."""

    name: str
    value: str

    @property
    def line(self) -> str:
        """As sysctl.conf(5) has it."""
        return f"{self.name}={self.value}"


@dataclass(frozen=True, slots=True)
class ConfFile:
    """What one configuration file sets; `settings` says why when it could not be read."""

    path: str
    settings: Attempt[tuple[Setting, ...]]

    def values(self, name: str) -> tuple[str, ...]:
        return tuple(setting.value for setting in self.settings.or_else(()) if setting.name == name)


#: What FreeBSD's /etc/rc.d/sysctl applies, in this order: the last assignment stands.
FREEBSD_CONF = ("/etc/sysctl.conf", "/etc/sysctl.conf.local")


def persisted(host: Host, wanted: Callable[[str], bool]) -> tuple[ConfFile, ...]:
    """What FreeBSD's sysctl.conf files set at boot, for the names that `wanted` accepts."""
    return tuple(conf_file(host, path, parse_conf, wanted) for path in FREEBSD_CONF)


def conf_file(
    host: Host, path: str, parse: Callable[[bytes], tuple[Setting, ...]], wanted: Callable[[str], bool]
) -> ConfFile:
    """One file through its parser; only the wanted assignments are ever kept."""

    def keep(content: bytes) -> bytes:
        return "".join(f"{s.name}={_quoted(s.value)}\n" for s in parse(content) if wanted(s.name)).encode()

    content = host.read(path, keep)
    if content.value is None:
        return ConfFile(path, Attempt(content.outcome, reason=content.reason))
    return ConfFile(path, Attempt.ran(tuple(s for s in parse(content.value) if wanted(s.name))))


def _quoted(value: str) -> str:
    return value if re.fullmatch(r"[\w./:+-]+", value) else f'"{value}"'


def parse_conf(content: bytes) -> tuple[Setting, ...]:
    """The assignments of a sysctl.conf(5), in order: `name=value`, `#` starts a comment, quotes around a value go."""
    found = []
    for line in content.decode("utf-8", "replace").split("\n"):
        name, equals, value = line.partition("#")[0].partition("=")
        if equals and re.fullmatch(r"[\w%./-]+", name.strip()):
            found.append(Setting(name.strip(), unquoted(value.strip())))
    return tuple(found)


def unquoted(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
        return value[1:-1]
    return value


def last(files: Iterable[ConfFile], name: str) -> tuple[str, str] | None:
    """The value that stands after all files were applied, and the file that sets it."""
    standing = [(value, file.path) for file in files for value in file.values(name)]
    return standing[-1] if standing else None
