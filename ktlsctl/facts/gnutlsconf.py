# SPDX-License-Identifier: BSD-2-Clause
"""GnuTLS's system-wide configuration: whether it switches kTLS on (lib/priority.c, since 3.7.3)."""

from __future__ import annotations

from ktlsctl.facts.attempts import mapped
from ktlsctl.host import Host
from ktlsctl.model import Attempt

#: Where distributions build it to look (--with-system-priority-file has this default).
PATH = "/etc/gnutls/config"


def read(host: Host) -> Attempt[bool]:
    """Without the file it is off."""
    found = host.read(PATH)
    return Attempt.ran(False) if found.absent else mapped(found, parse)


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
