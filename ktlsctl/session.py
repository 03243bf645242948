# SPDX-License-Identifier: BSD-2-Clause
"""Real TLS sessions on loopback, for the self-test: what each witness said, without any judgement.

This is the child's side of selftest.py.  `probe` runs in a clean child (child.py), opens the one libssl, makes its
throw-away certificates in memory, and forks once per session, so that the kernel's counters are each session's own.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from ktlsctl import datapath, evidence
from ktlsctl.codec import decode, encode
from ktlsctl.forks import enter_own_namespace, in_children
from ktlsctl.libssl import Context, TlsError
from ktlsctl.model import Direction, TlsVersion
from ktlsctl.prepared import offered, prepare
from ktlsctl.sessionfacts import EndWords, Order, SelftestFacts, SessionFacts, Way, WitnessFacts
from ktlsctl.stage import (
    Deadline,
    End,
    Pair,
    Road,
    counters,
    drive,
    handshake,
    hosts_trouble,
    noise,
    sequence,
    transfer,
)
from ktlsctl.witness import import_witness, run_witness

# ---- one session, all witnesses


def run_session(
    contexts: tuple[Context, Context], order: Order, version: TlsVersion, suite: str, alone: str
) -> SessionFacts:
    """Both ends of one session in this process.  `alone`: why there is no network namespace of our own, or empty.

    Raises OSError, Unusable where this host or the library's configuration does not let it be tried.
    """
    if not alone:
        enter_own_namespace()
    road = Road.open(contexts[0].libssl, order.datapath)
    path = road.path
    facts: dict[str, Any] = {
        "version": version, "suite": suite, "datapath": road.name, "own_namespace": not alone,
        "namespace_reason": alone, "bytes_each_way": order.size,
    }  # fmt: skip
    before = counters()
    pair = Pair()
    ends: list[End] = []
    deadline = Deadline(order.timeout)
    try:
        ends = [End(contexts[0], pair.server, path), End(contexts[1], pair.client, path)]
        both = (ends[0], ends[1])
        for end in both:
            end.force(version, suite)
        handshake(both, path, deadline)
        facts["agreed"] = " ".join(both[0].session.agreed())
        # Tickets are records too: read them before records are counted.
        transfer(both, path, deadline, b"?", b"!")
        opening = {(e, d): sequence(e, d) for e in both for d in Direction}
        source = random.Random(order.seed)
        up, down = transfer(both, path, deadline, noise(source, order.size), noise(source, order.size))
        facts["sha256_ok"] = up.intact and down.intact
        facts["counters"] = {k: v - before.get(k, 0) for k, v in counters().items()}
        # Both directions of both ends: the client's TX carries `up`, and so does the server's RX.
        for role, end, sends, receives in (("server", both[0], down, up), ("client", both[1], up, down)):
            for direction, stream in ((Direction.TX, sends), (Direction.RX, receives)):
                facts[f"{role}_{direction}"] = _words(end, direction, opening[end, direction], stream.records)
        facts["clean_close"] = _close_both(both, path, deadline)
    except (TlsError, OSError) as error:
        if hosts_trouble(error):
            raise
        facts["failure"] = str(error)
    finally:
        if path is not None:
            facts["enters"] = path.stats().enters
        for end in ends:
            end.close()
        pair.close()
        road.close()
    return SessionFacts(**facts)


def _words(end: End, direction: Direction, opening: int | None, records: int) -> EndWords:
    silent = []
    said = evidence.kernel_word(end.sock, direction)
    if said.value is None:
        silent.append(f"kernel: {said.reason}")
    diag = evidence.diag_word(end.sock)
    conf = None
    if diag.value is not None:
        conf = diag.value.tx if direction is Direction.TX else diag.value.rx
    else:
        silent.append(f"sock_diag: {diag.reason}")
    closing = sequence(end, direction)
    return EndWords(
        library=end.session.ktls(direction),
        kernel=None if said.value is None else (said.value.version, said.value.cipher),
        armed=None if said.value is None else said.value.armed,
        sequence=None if opening is None or closing is None else (opening, closing),
        records=records,
        diag=conf,
        handover=end.handover(direction),
        silent=tuple(silent),
    )


def _close_both(ends: tuple[End, End], path: datapath.Datapath | None, deadline: Deadline) -> bool:
    """close_notify both ways."""

    def step() -> bool | None:
        closed = [end.session.shutdown() for end in ends]
        return all(closed) or None

    with suppress(TlsError):
        drive(ends, path, deadline, "closing", step)
        return True
    return False


# ---- the probe


def probe(argument: Any) -> Any:
    """The self-test child: an `Order` in, `SelftestFacts` out, both as JSON."""
    order = decode(Order, argument)
    prepared = prepare(order.libssl, order.datapath)
    libssl, contexts, alone, width = prepared.libssl, prepared.contexts, prepared.alone, prepared.width
    suites = offered(contexts[0], order.versions)
    if order.datapath is Way.IO_URING and prepared.ring_reason:
        suites = ()
    if order.suites:
        suites = tuple(s for s in suites if s[1] in order.suites)
    # The session has its own deadline, which names what it was doing; this one is for a library that hangs.
    patience = order.timeout + 5.0
    works: list[Callable[[], Any]] = [
        partial(run_session, contexts, order, version, suite, alone) for version, suite, _ in suites
    ]
    sessions = [
        decode(SessionFacts, ended.value)
        if ended.value is not None
        else SessionFacts(version, suite, prepared.road_name, ended.failure, untried=ended.untried)
        for (version, suite, _), ended in zip(suites, in_children(works, patience, width), strict=True)
    ]
    # One suite speaks for its cipher: what is proved here is the record protection, not the key exchange.
    proving = {(version, cipher): suite for version, suite, cipher in reversed(suites)}
    chosen = [(version, proving[version, cipher]) for version, cipher in order.promised if (version, cipher) in proving]
    if chosen:
        import_witness()
    works = [partial(run_witness, contexts[0], order, version, suite) for version, suite in chosen]
    witnesses = [
        decode(WitnessFacts, ended.value)
        if ended.value is not None
        else WitnessFacts(version, suite, "", ended.failure, ended.untried)
        for (version, suite), ended in zip(chosen, in_children(works, patience, width), strict=True)
    ]
    about = libssl.version, libssl.path, libssl.libcrypto, prepared.ring_reason, alone
    return encode(SelftestFacts(*about, tuple(sessions), tuple(witnesses)))
