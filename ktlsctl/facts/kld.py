# SPDX-License-Identifier: BSD-2-Clause
"""FreeBSD's kernel linker: which files are loaded, and loading one when that was allowed."""

from __future__ import annotations

import re

from ktlsctl.host import Host
from ktlsctl.model import Attempt, Outcome

#: kldstat(8): Id Refs Address Size Name, numbers right-aligned, address and size in hex.
_FILE = re.compile(r"\s*\d+\s+\d+\s+0x[0-9a-f]+\s+[0-9a-f]+\s+(\S+)")


def parse(text: str) -> tuple[str, ...]:
    """File names (`kernel`, `ktls_ocf.ko`) from the output of kldstat(8); any other line is passed over."""
    return tuple(match[1] for line in text.split("\n") if (match := _FILE.match(line)))


def loaded(host: Host) -> Attempt[tuple[str, ...]]:
    ran = host.run("kldstat")
    if ran.value is None:
        return Attempt(Outcome.FAILED if ran.absent else ran.outcome, reason=ran.reason)
    files = parse(ran.value.stdout)
    if not files:
        # The kernel itself is always a file: an empty list is a refusal, not an answer.
        return Attempt(Outcome.FAILED, reason=ran.value.stderr.strip() or "kldstat(8) named not even the kernel")
    return Attempt.ran(files)


def load(host: Host, module: str) -> Attempt[bool]:
    """kldload(8) `module`; -n: already loaded is fine.  Needs root and changes the kernel."""
    ran = host.run("kldload", "-n", module)
    if ran.value is None:
        return Attempt(Outcome.FAILED if ran.absent else ran.outcome, reason=ran.reason)
    if ran.value.status != 0:
        return Attempt(Outcome.FAILED, reason=ran.value.stderr.strip() or f"kldload ended with {ran.value.status}")
    return Attempt.ran(True)
