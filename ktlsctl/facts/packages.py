# SPDX-License-Identifier: BSD-2-Clause
"""Which package a file belongs to, by the host's own package manager: dpkg, rpm, apk(8) or FreeBSD's pkg(8)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from ktlsctl.host import Host
from ktlsctl.model import Os

#: Seconds for one question: dpkg reads the lists of all packages, which takes a busy emulated machine half a minute.
_PATIENCE = 60.0
#: pkg(8) is asked file by file.
_MOST_QUESTIONS = 32


def owners(host: Host, paths: Iterable[str]) -> Mapping[str, str]:
    """Package by path, for the files of this host that belong to one.  A package manager that fails is not an error."""
    # dpkg-query takes patterns
    wanted = [path for path in dict.fromkeys(paths) if path.startswith("/") and not re.search(r"[*?\[\]\\\n]", path)]
    if not wanted:
        return {}
    if host.about.os is Os.FREEBSD:
        answers = {
            path: host.run("pkg", "which", "-q", path, timeout=_PATIENCE).value for path in wanted[:_MOST_QUESTIONS]
        }
        return {p: a.stdout.strip() for p, a in answers.items() if a is not None and a.status == 0 and a.stdout.strip()}
    # dpkg's lists may say /lib where /lib is a link to /usr/lib
    both = [name for path in wanted for name in dict.fromkeys((path, path.removeprefix("/usr")))]
    asked = host.run("dpkg-query", "-S", *both, timeout=_PATIENCE)
    if asked.value is not None:
        said = parse_dpkg(asked.value.stdout)
        found = {path: said.get(path) or said.get(path.removeprefix("/usr"), "") for path in wanted}
        return {path: package for path, package in found.items() if package}
    asked = host.run("rpm", "-qf", "--qf", "%{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}\\n", *wanted, timeout=_PATIENCE)
    if asked.value is not None:
        return parse_rpm(asked.value.stdout, wanted)
    asked = host.run("apk", "info", "-W", *wanted, timeout=_PATIENCE)
    return parse_apk(asked.value.stdout) if asked.value is not None else {}


def parse_dpkg(text: str) -> Mapping[str, str]:
    """`libssl3:amd64: /usr/lib/…`; several owners are parted by commas, of which the first counts."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        match = re.fullmatch(r"(\S+?)(?:, \S+)*: (/.*)", line)
        if match and not line.startswith("diversion by "):
            found.setdefault(match[2], match[1])
    return found


def parse_rpm(text: str, paths: Iterable[str]) -> Mapping[str, str]:
    """A line for each path in order, or a sentence for one that belongs to nothing; several owners give more lines."""
    lines = text.splitlines()
    wanted = list(paths)
    if len(lines) != len(wanted):
        return {}
    return {path: line for path, line in zip(wanted, lines, strict=True) if line and " " not in line}


def parse_apk(text: str) -> Mapping[str, str]:
    """`/usr/lib/libssl.so.3 is owned by libssl3-3.1.4-r5`"""
    return {m[1]: m[2] for m in re.finditer(r"^(/.*) is owned by (\S+)$", text, re.MULTILINE)}


def of_wheel(path: str) -> str:
    """The Python distribution that brought a file along, by the directory it lies in; or an empty string."""
    found = re.search(r"/([^/]+)\.libs/[^/]+\Z", path) or re.search(r"/(?:site|dist)-packages/([^/]+)/", path)
    return found[1] if found else ""
