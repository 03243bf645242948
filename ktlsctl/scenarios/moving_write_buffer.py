# SPDX-License-Identifier: BSD-2-Clause
"""moving-write-buffer: a write that found no room is repeated from another address, the old memory overwritten."""

from __future__ import annotations

from dataclasses import dataclass

from ktlsctl.model import Status
from ktlsctl.scenarios.judgement import Judgement, fine, known, not_run, unexplained
from ktlsctl.sessionfacts import Carried

NAME = "moving-write-buffer"
DEFECT = "openssl.moving-write-buffer"
LATE = "openssl.moving-write-buffer-late"

#: One write each, which is one record each.
RECORD = 16384
RECORDS = 32
#: The smallest (Linux doubles them), so that many writes find no room.
SHORT_BUFFER = 2304

_USERS = "every Python ssl program, everything built on rust-openssl, and whoever else sets this mode"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One session.  `retries`: writes repeated from another address.  `stale`: records that arrived with what the old
    memory held by then, `foreign`: records that differ in another way."""

    retries: int
    stale: int
    foreign: int


@dataclass(frozen=True, slots=True)
class Facts:
    """The server sends.  `before`: SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER was set before the handshake, as CPython's ssl
    and rust-openssl do; `after`: once the handshake was done."""

    carried: Carried
    records: int
    before: Attempt
    after: Attempt


def judge(facts: Facts) -> Judgement:
    before, after, carried = facts.before, facts.after, facts.carried
    evidence = {
        "records": facts.records,
        "retries": before.retries,
        "stale_records": before.stale,
        "retries_mode_set_late": after.retries,
        "stale_records_mode_set_late": after.stale,
    }
    size = facts.records * RECORD
    stale = before.stale + after.stale
    if before.foreign or after.foreign or (stale and not carried.server_tx):
        return unexplained(
            "bytes differ",
            f"{before.foreign + after.foreign + stale} records differ after writes were repeated from another address, "
            "and not in the way that is known",
            carried,
            evidence=evidence,
            size=size,
            intact=False,
        )
    if before.stale:
        return known(
            Status.CRITICAL,
            f"data corruption: {before.stale} of {facts.records} records carried memory that was no longer the data",
            "OpenSSL repeats a kernel TLS write from the first attempt's address, silently; this concerns " + _USERS,
            (DEFECT,),
            carried,
            evidence=evidence,
            size=size,
            intact=False,
        )
    if not (before.retries and after.retries):
        return not_run(
            "nothing proved",
            "the send buffer was never full, so no write had to be repeated",
            status=Status.UNKNOWN,
            evidence=evidence,
        )
    summary = f"{facts.records} records intact, {before.retries} writes repeated from another address"
    # What the kernel did not send says nothing of a defect in how it is sent.
    refuted = [DEFECT] if carried.server_tx else []
    if after.stale:
        # No alarm: the programs known to set the mode set it before, and there is no version to change to.
        return known(
            Status.OK,
            f"{summary}; only where the mode is set after the handshake are they not ({after.stale} records)",
            "a program that sets SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER after its handshake sends wrong data; the usual "
            "ones, CPython's ssl and rust-openssl, set it before",
            (LATE,),
            carried,
            refuted=refuted,
            evidence=evidence,
            size=size,
            intact=True,
        )
    if carried.server_tx:
        refuted.append(LATE)
    return fine(summary, carried, refuted=refuted, evidence=evidence, size=size, intact=True)
