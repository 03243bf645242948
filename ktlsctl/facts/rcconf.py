# SPDX-License-Identifier: BSD-2-Clause
"""FreeBSD's rc.conf(5): `kld_list`, the modules that rc loads, and whether rc starts NFS over TLS.

The file is sh: assignments in any quoting, continued over lines, built upon earlier values.  It is tokenized, never
run; what only a shell could know (command substitution, files it sources) stays unknown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ktlsctl.host import Host
from ktlsctl.model import Attempt
from ktlsctl.sysctl import ConfFile, Setting

KLD_LIST = "kld_list"
#: The daemons of NFS over TLS (rpc.tlsservd(8), rpc.tlsclntd(8)) by the variable that starts them.
NFS_DAEMONS: Mapping[str, str] = {"rpc.tlsservd": "tlsservd_enable", "rpc.tlsclntd": "tlsclntd_enable"}

#: Read by load_rc_config of /etc/rc.d/kld, tlsservd and tlsclntd in this order.
FILES = (
    "/etc/rc.conf",
    "/etc/rc.conf.local",
    "/etc/rc.conf.d/kld",
    "/etc/rc.conf.d/tlsservd",
    "/etc/rc.conf.d/tlsclntd",
)

_KEPT = frozenset((KLD_LIST, *NFS_DAEMONS.values()))

_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_ASSIGNS = re.compile(r"([A-Za-z_]\w*)=", re.ASCII)
_ENDS_WORD = " \t\r\n;&|()<>"


@dataclass(frozen=True, slots=True)
class Assignment:
    """`raw` is the word as written, `setting` what sh would make of it."""

    raw: str
    setting: Setting


def parse(content: bytes, known: Mapping[str, str] | None = None) -> tuple[Assignment, ...]:
    """Every assignment in order.  `known`: variables that earlier files set; others expand to nothing."""
    variables = dict(known or {})
    found = []
    for raw in _words(content.decode("utf-8", "replace")):
        match = _ASSIGNS.match(raw)
        if match:
            value = _expanded(raw[match.end() :], variables)
            variables[match[1]] = value
            found.append(Assignment(raw, Setting(match[1], value)))
    return tuple(found)


def read(host: Host) -> tuple[ConfFile, ...]:
    """What each file makes of these variables.  Nothing else of rc.conf is kept: it holds addresses and names."""
    files = []
    known: dict[str, str] = {}
    for path in FILES:
        content = host.read(path, _keep)
        if content.value is None:
            files.append(ConfFile(path, Attempt(content.outcome, reason=content.reason)))
            continue
        settings = tuple(a.setting for a in parse(content.value, known) if a.setting.name in _KEPT)
        known.update((s.name, s.value) for s in settings)
        files.append(ConfFile(path, Attempt.ran(settings)))
    return tuple(files)


def loads(files: tuple[ConfFile, ...], module: str) -> str | None:
    """The file whose `kld_list` stands and names `module` (with or without `.ko`); None when rc does not load it."""
    standing = [(value, file.path) for file in files for value in file.values(KLD_LIST)]
    if not standing or not {module, f"{module}.ko"} & set(standing[-1][0].split()):
        return None
    return next(path for value, path in standing if {module, f"{module}.ko"} & set(value.split()))


def is_on(files: tuple[ConfFile, ...], variable: str) -> bool:
    """What checkyesno of rc.subr(8) makes of it; not set is no."""
    standing = [value for file in files for value in file.values(variable)]
    return bool(standing) and standing[-1].upper() in ("YES", "TRUE", "ON", "1")


def _keep(content: bytes) -> bytes:
    return "".join(f"{a.raw}\n" for a in parse(content) if a.setting.name in _KEPT).encode()


def _words(text: str) -> Iterator[str]:
    """The words of a shell text as written, comments left out."""
    at, end = 0, len(text)
    while at < end:
        if text[at] in _ENDS_WORD:
            at += 1
        elif text.startswith("\\\n", at):
            at += 2
        elif text[at] == "#":
            at = _after(text, "\n", at)
        else:
            start = at
            while at < end and text[at] not in _ENDS_WORD:
                at = _after_piece(text, at)
            yield text[start:at]


def _after(text: str, what: str, at: int) -> int:
    found = text.find(what, at)
    return len(text) if found < 0 else found + len(what)


def _after_piece(text: str, at: int) -> int:
    """The position behind one character, one escape or one quoted piece."""
    if text[at] == "'":
        return _after(text, "'", at + 1)
    if text[at] == '"':
        at += 1
        while at < len(text) and text[at] != '"':
            at += 2 if text[at] == "\\" else 1
        return min(at + 1, len(text))
    return min(at + (2 if text[at] == "\\" else 1), len(text))


def _expanded(raw: str, variables: Mapping[str, str]) -> str:
    """Quotes taken off, escapes resolved, `$name` and `${name}` replaced."""
    out = []
    quoted = False
    at = 0
    while at < len(raw):
        char = raw[at]
        if char == "'" and not quoted:
            close = _after(raw, "'", at + 1)
            out.append(raw[at + 1 : close].removesuffix("'"))
            at = close
        elif char == '"':
            quoted = not quoted
            at += 1
        elif char == "\\" and at + 1 < len(raw):
            if raw[at + 1] != "\n":
                out.append(raw[at + 1] if not quoted or raw[at + 1] in '$`"\\' else raw[at : at + 2])
            at += 2
        elif char == "$" and (match := re.compile(r"\$(?:\{(\w+)[^{}]*\}|(\w+))").match(raw, at)):
            out.append(variables.get(match[1] or match[2], ""))
            at = match.end()
        else:
            out.append(char)
            at += 1
    return "".join(out)
