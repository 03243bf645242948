# SPDX-License-Identifier: BSD-2-Clause
"""Whether FreeBSD's kernel configuration names `options KERN_TLS`: kern.conftxt, where the kernel carries it."""

from __future__ import annotations

import re

from ktlsctl.host import Host
from ktlsctl.model import Attempt, Outcome

#: Only the one line leaves this pipe: a configuration may name its owner.
_COMMAND = "sysctl -n kern.conftxt | grep -E '^options[[:space:]]+(KERN_TLS|INCLUDE_CONFIG_FILE)([[:space:]]|$)'"


def parse(text: str) -> bool:
    """Whether the option stands in the configuration; kern.conftxt has `include` files flattened already."""
    return re.search(r"^options\s+KERN_TLS\s*(?:=.*)?$", text, re.MULTILINE) is not None


def names_kern_tls(host: Host) -> Attempt[bool]:
    """ABSENT when the kernel carries no configuration (built without INCLUDE_CONFIG_FILE)."""
    ran = host.run("sh", "-c", _COMMAND)
    if ran.value is None:
        return Attempt(Outcome.FAILED if ran.absent else ran.outcome, reason=ran.reason)
    # GENERIC has INCLUDE_CONFIG_FILE, and what is not there cannot name itself.
    if not ran.value.stdout.strip():
        said = ran.value.stderr.strip().splitlines()
        return Attempt(Outcome.ABSENT, reason=said[0] if said else "the kernel carries no configuration")
    return Attempt.ran(parse(ran.value.stdout))
