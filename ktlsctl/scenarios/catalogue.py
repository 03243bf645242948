# SPDX-License-Identifier: BSD-2-Clause
"""The scenarios: what each proves, how long it takes, on what it runs, who judges it.  One table, in running order."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ktlsctl.codec import decode
from ktlsctl.model import Os, ScenarioResult, Status, TlsVersion
from ktlsctl.scenarios import (
    bulk,
    corruption,
    early_data,
    handover,
    key_update,
    limits,
    lying_bio,
    many,
    moving_write_buffer,
    read_ahead,
    records,
    reset,
    sendfile,
    short_buffers,
)
from ktlsctl.scenarios.judgement import Judgement, direction, not_run, unexplained
from ktlsctl.sessionfacts import Carried, TrialFacts

#: The plain session per suite, which is no entry of this table but can be asked for like one.
SESSION = "session"


@dataclass(frozen=True, slots=True)
class Scenario:
    """`proves`: one sentence.  `seconds`: what one run of it takes on a slow machine, for people.

    `quick`: part of a self-test that names no scenario.  `per_cipher`: run with one suite of each cipher that kernel
    and library promise; otherwise with one suite of each version.  `patience`: seconds after which a trial is given up.
    `defects`: ids of the advisories that it can prove.
    """

    name: str
    proves: str
    seconds: float
    facts: type[Any]
    judge: Callable[[Any], Judgement]
    quick: bool = False
    per_cipher: bool = False
    versions: tuple[TlsVersion, ...] = tuple(TlsVersion)
    patience: float = 20.0
    defects: tuple[str, ...] = ()


CATALOGUE: tuple[Scenario, ...] = (
    Scenario(
        "bulk",
        "16 MiB each way arrive intact, in writes of every size around a record's edge.",
        4.0,
        bulk.Facts,
        bulk.judge,
        per_cipher=True,
        patience=60.0,
    ),
    Scenario(
        "short-buffers",
        "Data arrives intact both ways at once through the smallest socket buffers, every write that found no room "
        "repeated.",
        1.0,
        short_buffers.Facts,
        short_buffers.judge,
        quick=True,
    ),
    Scenario(
        moving_write_buffer.NAME,
        "A write repeated from another address sends the data, not what the old memory holds by then.",
        1.0,
        moving_write_buffer.Facts,
        moving_write_buffer.judge,
        quick=True,
        defects=(moving_write_buffer.DEFECT, moving_write_buffer.LATE),
    ),
    Scenario(
        "sendfile",
        "A file over 64 KiB goes out whole by SSL_sendfile, from any offset, blocking and not, and with zerocopy.",
        5.0,
        sendfile.Facts,
        sendfile.judge,
        defects=(sendfile.SHORT_BUFFER_HANG,),
    ),
    Scenario(
        "early-data",
        "0-RTT that is answered until there is no more room arrives intact, though the tickets are still to be sent.",
        4.0,
        early_data.Facts,
        early_data.judge,
        versions=(TlsVersion.TLS13,),
    ),
    Scenario(
        "records",
        "What is no application data goes through the kernel too: session tickets, close_notify both ways, data after "
        "half-close, and a plain read that meets such a record.",
        1.0,
        records.Facts,
        records.judge,
        quick=True,
    ),
    Scenario(
        "key-update",
        "A TLS 1.3 KeyUpdate from either side changes the kernel's keys, and poll tells of the data behind it.",
        1.5,
        key_update.Facts,
        key_update.judge,
        versions=(TlsVersion.TLS13,),
        defects=(key_update.WRONG_KEY, key_update.FATAL, key_update.POLL_STALL),
    ),
    Scenario(
        "corruption",
        "Records flipped, cut, reordered, replayed or oversized on their way are refused with the right error, counted "
        "once, and nothing of them is delivered.",
        3.0,
        corruption.Facts,
        corruption.judge,
        defects=(corruption.NO_ALERT,),
    ),
    Scenario(
        "reset",
        "A peer that resets, ends within a record or without close_notify, or is killed, is reported, and all that it "
        "held is given back.",
        1.5,
        reset.Facts,
        reset.judge,
        defects=(reset.EOF_AS_LENGTH,),
    ),
    Scenario(
        "read-ahead",
        "Data that comes in one segment with the Finished message is never delivered as ciphertext, and the report "
        "says whether the kernel receives then.",
        2.0,
        read_ahead.Facts,
        read_ahead.judge,
        quick=True,
    ),
    Scenario(
        "limits",
        "What keeps kernel TLS off silently (fragment lengths, padding, compression, encrypt-then-MAC) is named, the "
        "bytes stay intact, and renegotiation is refused once it is on.",
        2.0,
        limits.Facts,
        limits.judge,
        defects=(limits.PADDING_IGNORED,),
    ),
    Scenario(
        "many",
        "1,000 sessions at once on one ring, idle and then all active, stay intact and leave nothing behind.",
        20.0,
        many.Facts,
        many.judge,
        versions=(TlsVersion.TLS12,),
        patience=240.0,
    ),
    Scenario(
        "handover",
        "After the handshake a program leaves OpenSSL aside and moves plaintext with io_uring alone (send, splice from "
        "a file, recvmsg with record types): intact, system calls and copies counted against memory BIOs.",
        2.0,
        handover.Facts,
        handover.judge,
    ),
    Scenario(
        "lying-bio",
        "What happens to a program whose own BIO claims success for kernel TLS without doing it (PostgreSQL up to 17).",
        0.5,
        lying_bio.Facts,
        lying_bio.judge,
        defects=(lying_bio.ADVISORY,),
    ),
)

#: Everything, as an argument.
ALL = "all"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a self-test shall run: the plain session of each suite, and which scenarios."""

    sessions: bool
    scenarios: tuple[str, ...]


def wanted(names: Sequence[str], system: Os = Os.LINUX) -> Wanted:
    """What these names ask for, in running order; none: the sessions and the quick scenarios.

    On FreeBSD, where no scenario has ever been run, only those that were named.
    """
    if not names:
        quick = tuple(scenario.name for scenario in CATALOGUE if scenario.quick)
        return Wanted(True, quick if system is Os.LINUX else ())
    everything = ALL in names
    chosen = tuple(scenario.name for scenario in CATALOGUE if everything or scenario.name in names)
    return Wanted(everything or SESSION in names, chosen)


BY_NAME = {scenario.name: scenario for scenario in CATALOGUE}

#: Ids of the advisories that some scenario can prove.
DEFECTS = tuple(identity for scenario in CATALOGUE for identity in scenario.defects)


def patience(name: str, timeout: float) -> float:
    """Seconds that a trial of this scenario may take where the user gives a session `timeout`."""
    return max(timeout, BY_NAME[name].patience)


def judged(trial: TrialFacts, library: str) -> ScenarioResult:
    """The result of one trial, whatever became of it."""
    scenario = BY_NAME[trial.scenario]
    if trial.failure:
        found = unexplained("the scenario did not come to its end", trial.failure, Carried())
    elif trial.untried:
        why = "this says nothing of kernel TLS; lift what is in the way (a limit, a sandbox), and run it again"
        found = not_run(f"could not be tried: {trial.untried}", why, status=Status.UNKNOWN)
    elif trial.absent:
        found = not_run("means nothing here", trial.absent)
    else:
        found = scenario.judge(decode(scenario.facts, json.loads(trial.seen)))
    bad = found.status is Status.CRITICAL, found.sha256_ok is False
    return ScenarioResult(
        scenario=scenario.name,
        version=trial.version,
        suite=trial.suite,
        datapath=trial.datapath,
        library=library,
        status=found.status,
        finding=found.finding,
        summary=found.summary,
        tx=direction(found.carried.tx, *bad),
        rx=direction(found.carried.rx, *bad),
        reason=found.reason,
        known=found.known,
        refuted=found.refuted,
        evidence=found.evidence,
        bytes=found.bytes,
        sha256_ok=found.sha256_ok,
    )
