# SPDX-License-Identifier: BSD-2-Clause
"""Direct operations on a ring, from Python: bytes in and out of a socket past any BIO."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator

import pytest

from ktlsctl.datapath import NoRing, Ring, open_ring
from ktlsctl.stage import Pair

DATA = bytes(range(256)) * 300


@pytest.fixture
def ring() -> Iterator[Ring]:
    opened = open_ring()
    assert not isinstance(opened, NoRing), opened
    yield opened
    opened.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    both = Pair()
    yield both
    both.close()


def received(ring: Ring, pair: Pair, size: int) -> bytes:
    found, room = b"", bytearray(1 << 16)
    while len(found) < size:
        try:
            got, kind = ring.receive(pair.client.fileno(), room)
        except BlockingIOError:
            continue
        assert kind == -1, "a socket without kernel TLS has no record types"
        found += room[:got]
    return found


def test_what_is_sent_from_an_offset_arrives(ring: Ring, pair: Pair) -> None:
    assert ring.send(pair.server.fileno(), DATA, 100, 5000) == 5000
    assert received(ring, pair, 5000) == DATA[100:5100]


def test_what_is_spliced_from_a_file_arrives_and_is_counted_in_system_calls(ring: Ring, pair: Pair) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(DATA)
        file.flush()
        source, target = os.pipe()
        before = ring.enters
        size = ring.splice(file.fileno(), 256, target, 5000)
        assert ring.splice(source, None, pair.server.fileno(), size) == size == 5000
        assert ring.enters > before
        os.close(source)
        os.close(target)
    assert received(ring, pair, 5000) == DATA[256:5256]


def test_nothing_to_receive_is_not_now_and_a_peer_that_ended_is_the_end(ring: Ring, pair: Pair) -> None:
    room = bytearray(10)
    with pytest.raises(BlockingIOError):
        ring.receive(pair.client.fileno(), room)
    pair.server.close()
    assert ring.receive(pair.client.fileno(), room)[0] == 0


def test_a_closed_ring_is_refused(pair: Pair) -> None:
    opened = open_ring()
    assert isinstance(opened, Ring)
    opened.close()
    with pytest.raises(ValueError, match="closed"):
        opened.send(pair.server.fileno(), DATA, 0, 1)
