# SPDX-License-Identifier: BSD-2-Clause
"""FreeBSD's loader.conf(5): what the boot loader sets and loads before the kernel runs."""

from __future__ import annotations

import re
from collections.abc import Callable

from ktlsctl.host import Host
from ktlsctl.model import Attempt
from ktlsctl.sysctl import ConfFile, Setting, conf_file

MAIN = "/boot/loader.conf"
DROP_IN = "/boot/loader.conf.d"
LOCAL = "/boot/loader.conf.local"

#: One assignment a line; the value in double quotes or a bare word; nothing but a comment may follow.
_ASSIGNMENT = re.compile(r'\s*([\w.%-]+)\s*=\s*(?:"([^"]*)"|([^\s#"]+))\s*(?:#.*)?')


def parse(content: bytes) -> tuple[Setting, ...]:
    """The assignments in order; a malformed line is passed over, as the loader does."""
    found = []
    for line in content.decode("utf-8", "replace").split("\n"):
        match = _ASSIGNMENT.fullmatch(line.rstrip("\r"))
        if match:
            found.append(Setting(match[1], match[2] if match[2] is not None else match[3]))
    return tuple(found)


def read(host: Host, wanted: Callable[[str], bool]) -> tuple[ConfFile, ...]:
    """The files in the order in which the loader reads them: the last assignment stands."""
    names = host.names(DROP_IN)
    drop_ins = [f"{DROP_IN}/{name}" for name in names.or_else(()) if name.endswith(".conf")]
    files = [conf_file(host, path, parse, wanted) for path in (MAIN, *drop_ins, LOCAL)]
    if not (names.present or names.absent):
        files.append(ConfFile(DROP_IN, Attempt(names.outcome, reason=names.reason)))
    return tuple(files)


def loads(files: tuple[ConfFile, ...], module: str) -> str | None:
    """The file whose `<module>_load="YES"` stands at the end; None when the loader does not load it."""
    standing = [(value, file.path) for file in files for value in file.values(f"{module}_load")]
    return standing[-1][1] if standing and standing[-1][0].upper() == "YES" else None
