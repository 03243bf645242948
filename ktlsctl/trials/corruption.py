# SPDX-License-Identifier: BSD-2-Clause
"""corruption: see scenarios/corruption.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial

from ktlsctl.libssl import TlsError
from ktlsctl.model import TlsVersion
from ktlsctl.scenarios.corruption import Case, Damage, Facts
from ktlsctl.sessionfacts import Carried
from ktlsctl.stage import End
from ktlsctl.trials.ground import Ground
from ktlsctl.trials.reading import Reader
from ktlsctl.trials.relay import HEADER, Relay, flipped, resized

#: RFC 5246 section 6.2.3 allows 2^14 + 2048 bytes; one more is too many in every version.
_TOO_LONG = 16384 + 2048 + 1
#: Sizes of the three records that the client sends.
_SIZES = (700, 900, 800)

#: Of three records: how many pass unharmed, and what comes after these.
_DAMAGES: Mapping[Damage, tuple[int, Callable[[bytes, bytes, bytes], bytes]]] = {
    Damage.TYPE: (1, lambda a, b, c: flipped(b, 0) + c),
    Damage.VERSION: (1, lambda a, b, c: flipped(b, 2) + c),
    Damage.LENGTH: (1, lambda a, b, c: flipped(b, 4) + c),
    Damage.NONCE: (1, lambda a, b, c: flipped(b, HEADER + 1) + c),
    Damage.BODY: (1, lambda a, b, c: flipped(b, len(b) // 2) + c),
    Damage.TAG: (1, lambda a, b, c: flipped(b, -1) + c),
    Damage.SHORTENED: (1, lambda a, b, c: resized(b, len(b) - HEADER - 3) + c),
    Damage.STUB: (1, lambda a, b, c: resized(b, 5) + c),
    Damage.CUT: (1, lambda a, b, c: b[:-3] + c),
    Damage.OVERSIZED: (1, lambda a, b, c: resized(b, _TOO_LONG) + c),
    Damage.REORDERED: (1, lambda a, b, c: c + b),
    Damage.REPLAYED: (2, lambda a, b, c: b + c),
    Damage.SWALLOWED: (1, lambda a, b, c: c),
    Damage.FOREIGN: (1, lambda a, b, c: b"GET / HTTP/1.1\r\n\r\n" + b + c),
}


def run(ground: Ground) -> Facts:
    damages = [damage for damage in Damage if damage is not Damage.NONCE or _has_explicit_nonce(ground)]
    carried: list[Carried] = []
    cases = [_case(ground, damage, True, carried) for damage in damages]
    if any(case.kernel for case in cases):
        # The same in user space, on the same host: what the library itself makes of it.
        cases += [_case(ground, damage, False, carried) for damage in damages]
    return Facts(Carried.of_all(carried), ground.version, tuple(cases))


def _has_explicit_nonce(ground: Ground) -> bool:
    """RFC 5288, 6655; ChaCha20 (RFC 7905) and TLS 1.3 derive the whole nonce."""
    return ground.version is TlsVersion.TLS12 and ("GCM" in ground.suite or "CCM" in ground.suite)


def _case(ground: Ground, damage: Damage, ktls: bool, carried: list[Carried]) -> Case:
    relay: Relay = ground.closing(Relay())
    ends = ground.end(ground.contexts[0], relay.server), ground.end(ground.contexts[1], relay.client)
    server, client = ends
    if not ktls:
        server.session.without_ktls()
    relay.shake_hands(ends, ground.deadline)
    carried.append(ground.carried(ends))
    records: list[bytes] = []

    def collect(record: bytes) -> bytes:
        records.append(record)
        return b""

    relay.to_server.tamper = collect
    payloads = [ground.noise(size) for size in _SIZES]
    for payload in payloads:
        relay.drive(ends, ground.deadline, "sending", partial(_written, client, payload))
    relay.drive(ends, ground.deadline, "collecting records", lambda: len(records) == len(payloads) or None)
    unharmed, damaged = _DAMAGES[damage]
    before = ground.counters().get("TlsDecryptError")
    reader, sender = Reader(server), Reader(client)
    # First what is whole, and only when that has been read the rest: one recvmsg(2) reads on into the next record,
    # which is then refused twice, and counted so.
    whole = b"".join(payloads[:unharmed])
    relay.to_server.inject(b"".join(records[:unharmed]))
    relay.drive(ends, ground.deadline, "reading whole records", partial(_reached, reader, len(whole)))
    relay.to_server.inject(damaged(*records))
    total = sum(_SIZES)
    relay.drive(
        ends, ground.deadline, f"waiting for the refusal of a record ({damage})", partial(_reached, reader, total)
    )
    after = ground.counters().get("TlsDecryptError")
    more = _read_on(server)
    relay.settle(ends, ground.deadline)
    sender.read()
    alert = sender.ending
    server.close()
    relay.drive((client,), ground.deadline, f"the sender waits to be told ({damage})", partial(_ended, sender))
    client.close()
    relay.close()
    return Case(
        damage,
        carried[-1].server_rx,
        bytes(reader.data) == whole,
        bytes(reader.data) == b"".join(payloads),
        more,
        reader.ending,
        None if before is None or after is None else after - before,
        alert,
    )


def _written(end: End, payload: bytes) -> bool | None:
    return end.session.write_at(payload, 0, len(payload)) > 0 or None


def _reached(reader: Reader, size: int) -> bool | None:
    reader.read()
    return bool(reader.ending) or len(reader.data) >= size or None


def _ended(reader: Reader) -> bool | None:
    reader.read()
    return bool(reader.ending) or None


def _read_on(end: End) -> int:
    """Bytes that three more reads give after the error."""
    found = 0
    for _ in range(3):
        with suppress(TlsError):
            found += len(end.session.read_some(1024))
    return found
