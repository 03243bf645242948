# SPDX-License-Identifier: BSD-2-Clause
"""Remedies that several findings give: a setting or a module, now and at every boot."""

from __future__ import annotations

import re

from ktlsctl import sysctl
from ktlsctl.facts import loaderconf, rcconf
from ktlsctl.freebsd_findings.situation import MODULE, Seen
from ktlsctl.model import Remedy


def setting(name: str, value: str, seen: Seen) -> tuple[Remedy, ...]:
    """Set it now, and at every boot: a contrary line is changed where it stands, a right one is left alone."""
    now = Remedy(f"set it to {value} now", f"sysctl {name}={value}")
    standing = seen.at_boot(name)
    if standing is None:
        line = sysctl.Setting(name, value).line
        return now, Remedy("and at every boot", f"echo '{line}' >> {sysctl.FREEBSD_CONF[0]}")
    if standing[0] == value:
        return (now,)
    pattern = name.replace(".", r"\.")
    change = rf"sed -i '' 's/^[[:space:]]*{pattern}[[:space:]]*=.*/{name}={value}/' {standing[1]}"
    return now, Remedy(f"and at every boot: {standing[1]} sets it to {standing[0]}", change)


def major(release: str) -> int | None:
    """For explanations only: what a release's defaults are cannot be asked of a kernel whose settings were changed."""
    first = release.partition(".")[0]
    return int(first) if re.fullmatch(r"\d{1,4}", first, re.ASCII) else None


def default_of_enable(release: str) -> str:
    """In words, of a release as uname(1) has it."""
    line = major(release)
    if line is None:
        return "its default is 0 on FreeBSD 13 and 14, 1 from 15 on"
    return f"its default on FreeBSD {line} is {int(line >= 15)}"


def load_at_boot(seen: Seen) -> tuple[Remedy, ...]:
    """The module's line in rc.conf, unless some boot file has it already."""
    if persisted_by(seen) is not None:
        return ()
    text = f'and at every boot; {MODULE}_load="YES" in {loaderconf.MAIN} does the same earlier'
    return (Remedy(text, f'sysrc {rcconf.KLD_LIST}+=" {MODULE}"'),)


def persisted_by(seen: Seen) -> str | None:
    """The file that loads the module at boot."""
    return loaderconf.loads(seen.facts.loader_conf, MODULE) or rcconf.loads(seen.facts.rc_conf, MODULE)
