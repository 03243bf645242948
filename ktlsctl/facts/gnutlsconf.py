# SPDX-License-Identifier: BSD-2-Clause
"""GnuTLS's system-wide configuration: whether it switches kTLS on (lib/priority.c, since 3.7.3)."""

from __future__ import annotations

from dataclasses import dataclass

from ktlsctl.facts.attempts import mapped
from ktlsctl.host import Host
from ktlsctl.model import Attempt, Tri

#: The file is built into the library (--with-system-priority-file).  This is the default, and what Debian has.
PATH = "/etc/gnutls/config"
#: What RHEL and Fedora build it with.  update-crypto-policies(8) writes it, out of the policy and of LOCAL.
POLICY = "/etc/crypto-policies/back-ends/gnutls.config"
LOCAL = "/etc/crypto-policies/local.d/gnutls-ktls.txt"


@dataclass(frozen=True, slots=True)
class Setting:
    """`file`: the one that is taken to be read; `on` UNKNOWN: another file, which may be the one, says otherwise."""

    on: Tri
    file: str = PATH


def read(host: Host) -> Attempt[Setting]:
    """Without any file it is off.  Where crypto-policies are installed, GnuTLS is taken to be built for them."""
    default, policy = mapped(host.read(PATH), parse), mapped(host.read(POLICY), parse)
    if policy.absent:
        return Attempt.ran(Setting(Tri.NO)) if default.absent else mapped(default, lambda on: _setting(on, PATH))
    if policy.value is not None and not default.absent and default.value is not policy.value:
        # Debian has crypto-policies too, and its GnuTLS reads the default file.
        return Attempt.ran(Setting(Tri.UNKNOWN, POLICY))
    return mapped(policy, lambda on: _setting(on, POLICY))


def _setting(on: bool, file: str) -> Setting:
    return Setting(Tri.YES if on else Tri.NO, file)


def to_edit(file: str) -> str:
    """Where an administrator writes what shall stand in `file`."""
    return f"{LOCAL}, then update-crypto-policies" if file == POLICY else file or PATH


def parse(content: bytes) -> bool:
    """Whether `ktls = true` stands in [global]; names and values in any case, the last one counts.  Takes any bytes."""
    section, on = "", False
    for raw in content.decode("utf-8", "replace").splitlines():
        line = raw.split("#", 1)[0].split(";", 1)[0].strip()
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1].strip().lower()
        elif section == "global":
            name, equals, value = line.partition("=")
            if equals and name.strip().lower() == "ktls":
                on = value.strip().lower() == "true"
    return on
