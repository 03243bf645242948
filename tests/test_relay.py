# SPDX-License-Identifier: BSD-2-Clause
"""The relay: whole records, untouched unless something is to happen to them, and no wait without an end."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ktlsctl.libssl import TlsError
from ktlsctl.stage import Deadline
from ktlsctl.trials.relay import HEADER, Relay, flipped, resized

RECORDS = st.lists(st.builds(lambda kind, body: struct.pack(">BHH", kind, 0x303, len(body)) + body,
                             st.integers(20, 23), st.binary(max_size=300)), max_size=8)  # fmt: skip


@pytest.fixture
def relay() -> Iterator[Relay]:
    between = Relay()
    yield between
    between.close()


def record(body: bytes) -> bytes:
    return b"\x17\x03\x03" + len(body).to_bytes(2, "big") + body


def through(relay: Relay, size: int) -> bytes:
    """What reaches the server, until it is so much or the stream ended."""
    found = bytearray()

    def step() -> bool | None:
        try:
            data = relay.server.recv(65536)
        except BlockingIOError:
            return None
        found.extend(data)
        return not data or len(found) >= size

    relay.drive((), Deadline(10), "reading", step)
    return bytes(found)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(records=RECORDS, cuts=st.lists(st.integers(1, 400), max_size=6))
def test_records_pass_untouched_however_the_stream_is_cut(relay: Relay, records: list[bytes], cuts: list[int]) -> None:
    stream, whole, at = b"".join(records), len(b"".join(records)), 0
    for cut in [*cuts, whole]:
        relay.client.sendall(stream[at : at + cut])
        relay.pump()
        at += cut
    assert at >= whole
    if whole:
        assert through(relay, whole) == stream


def test_what_the_tamperer_returns_goes_on_instead(relay: Relay) -> None:
    seen: list[bytes] = []

    def swap(one: bytes) -> bytes:
        seen.append(one)
        return b"".join(reversed(seen)) if len(seen) == 2 else b""

    relay.to_server.tamper = swap
    relay.client.sendall(record(b"a") + record(b"bb"))
    assert through(relay, 2 * HEADER + 3) == record(b"bb") + record(b"a")


def test_the_other_way_is_not_tampered_with(relay: Relay) -> None:
    relay.to_server.tamper = lambda _: b""
    relay.server.sendall(record(b"down"))
    while relay.pump():
        pass
    assert relay.client.recv(100) == record(b"down")


def test_held_records_leave_together_or_up_to_what_is_let_go(relay: Relay) -> None:
    relay.to_server.held = True
    relay.client.sendall(record(b"first") + record(b"second"))
    relay.settle((), Deadline(10))
    assert relay.to_server.waiting == 2 * HEADER + 11
    relay.to_server.let = HEADER + 5 + 3
    assert through(relay, HEADER + 5 + 3) == record(b"first") + record(b"second")[:3]
    relay.to_server.held = False
    assert through(relay, HEADER + 3) == record(b"second")[3:]


def test_a_cut_lets_so_many_bytes_go_and_then_ends_the_stream(relay: Relay) -> None:
    relay.to_server.cut = 9
    relay.client.sendall(record(b"0123456789"))
    assert through(relay, 1000) == record(b"0123456789")[:9]


def test_a_stream_that_ends_while_held_ends_behind_what_was_held(relay: Relay) -> None:
    relay.to_server.held = True
    relay.client.sendall(record(b"held"))
    relay.client.shutdown(socket.SHUT_WR)
    relay.settle((), Deadline(10))
    relay.to_server.let = HEADER
    assert through(relay, HEADER) == record(b"held")[:HEADER]
    relay.to_server.held = False
    assert through(relay, 1000) == b"held"


def test_injected_bytes_follow_what_waits(relay: Relay) -> None:
    relay.client.sendall(record(b"a"))
    relay.settle((), Deadline(10))
    relay.to_server.inject(b"garbage")
    assert through(relay, HEADER + 1 + 7) == record(b"a") + b"garbage"


def test_the_end_of_a_stream_passes_behind_its_last_bytes_also_those_of_no_whole_record(relay: Relay) -> None:
    relay.client.sendall(record(b"whole") + b"\x17\x03\x03\xff")
    relay.client.shutdown(socket.SHUT_WR)
    assert through(relay, 1000) == record(b"whole") + b"\x17\x03\x03\xff"


def test_a_reset_on_one_side_is_an_end_on_the_other(relay: Relay) -> None:
    relay.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    relay.client.close()
    assert through(relay, 1) == b""


def test_a_step_that_never_comes_to_its_end_is_given_up_at_the_deadline(relay: Relay) -> None:
    with pytest.raises(TlsError, match="deadline passed while waiting for godot"):
        relay.drive((), Deadline(0.05), "waiting for godot", lambda: None)


def test_endless_movement_does_not_outlive_the_deadline_either(relay: Relay) -> None:
    with pytest.raises(TlsError, match="deadline passed"):
        relay.drive((), Deadline(0.05), "spinning", lambda: False)


def test_a_flipped_record_differs_in_one_bit() -> None:
    one = record(b"body")
    for at in (0, 2, HEADER, -1):
        changed = flipped(one, at)
        assert len(changed) == len(one)
        assert sum((a ^ b).bit_count() for a, b in zip(one, changed, strict=True)) == 1


@pytest.mark.parametrize("size", [0, 2, 4, 9])
def test_a_resized_records_header_tells_its_new_size(size: int) -> None:
    changed = resized(record(b"body"), size)
    assert len(changed) == HEADER + size
    assert int.from_bytes(changed[3:5], "big") == size
    assert changed[HEADER:] == b"body"[:size] + b"\0" * max(0, size - 4)
