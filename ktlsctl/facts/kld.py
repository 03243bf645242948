# SPDX-License-Identifier: BSD-2-Clause
"""FreeBSD's kernel linker: which files are loaded, and loading one when that was allowed."""

from __future__ import annotations

from typing import Any

from ktlsctl.codec import decode
from ktlsctl.facts.attempts import mapped
from ktlsctl.host import Host
from ktlsctl.model import Attempt, Outcome

#: The system call that lists them; a capture keeps its answer under this name.
QUESTION = "kldstat"


def loaded(host: Host) -> Attempt[tuple[str, ...]]:
    """File names, as kldstat(2) has them: `kernel`, `ktls_ocf.ko`."""
    return mapped(host.ask(QUESTION, _ask), _names)


def _ask() -> list[str]:
    from ktlsctl.freebsdkernel import LiveCalls

    return list(LiveCalls().modules())


def _names(answer: Any) -> tuple[str, ...]:
    names = decode(tuple[str, ...], answer)
    if not names:
        # The kernel itself is always a file: an empty list is a refusal, not an answer.
        raise ValueError("kldstat(2) named not even the kernel")
    return names


def load(host: Host, module: str) -> Attempt[bool]:
    """kldload(8) `module`; -n: already loaded is fine.  Needs root and changes the kernel."""
    ran = host.run("kldload", "-n", module)
    if ran.value is None:
        return Attempt(Outcome.FAILED if ran.absent else ran.outcome, reason=ran.reason)
    if ran.value.status != 0:
        return Attempt(Outcome.FAILED, reason=ran.value.stderr.strip() or f"kldload ended with {ran.value.status}")
    return Attempt.ran(True)
