# SPDX-License-Identifier: BSD-2-Clause
"""facts/ktlslist: FreeBSD's list of sessions as its headers lay it out, whatever bytes come, and never a secret."""

from __future__ import annotations

import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktlsctl.facts.ktlslist import KtlsListError, KtlsSession, OneWay, decode, masked

SECRET = bytes(range(200, 232))


def xinpgen(count: int) -> bytes:
    """struct xinpgen of netinet/in_pcb.h, 64 bytes: length, count, generation, socket generation, spare."""
    return struct.pack("=QI4xQQ", 64, count, 7, 7) + bytes(32)


def one_way(
    algorithm: int = 0, auth: int = 0, key: int = 0, major: int = 0, minor: int = 0, interface: bytes = b"",
    iv: bytes = SECRET, max_payload: int = 16384,
) -> bytes:  # fmt: skip
    """struct xktls_session_onedir of sys/ktls.h, 176 bytes."""
    made = bytes(8 + 64 + 32) + iv.ljust(32, b"\0")
    made += struct.pack("=iiHHHHBBBBBBH", algorithm, auth, key, 12, 0, max_payload, major, minor, 13, 16, 1, 0, 0)
    made += interface.ljust(16, b"\0")
    assert len(made) == 176
    return made


NOTHING = bytes(176)
GCM13 = one_way(25, major=3, minor=4)
CHACHA12 = one_way(41, major=3, minor=3, interface=b"mce0")


def record(
    rx: bytes = NOTHING, tx: bytes = GCM13, local: str = "192.0.2.1", remote: str = "198.51.100.9", tail: bytes = b""
) -> bytes:
    """struct xktls_session, 424 bytes; the kernel's records are a multiple of 8 and may have keys and text behind."""

    def address(text: str) -> bytes:
        return ipaddress.ip_address(text).packed.rjust(16, b"\0")

    connection = struct.pack("=BBH", 1 if ":" in local else 0, 0, 0)
    connection += struct.pack(">HH", 50000, 443) + address(remote) + address(local) + bytes(4)
    assert len(connection) == 44
    made = struct.pack("=IIQ8x", 424 + len(tail), 424, 99) + connection + bytes(4) + rx + tx
    assert len(made) == 424
    return made + tail


def listing(*records: bytes) -> bytes:
    return xinpgen(len(records)) + b"".join(records) + xinpgen(len(records))


def test_a_session_is_read_whole() -> None:
    assert decode(listing(record(rx=CHACHA12))) == (
        KtlsSession(
            99, "192.0.2.1", 443, "198.51.100.9", 50000,
            rx=OneWay(41, 0, 0, 16384, 3, 3, "mce0"),
            tx=OneWay(25, 0, 0, 16384, 3, 4, ""),
        ),
    )  # fmt: skip


def test_ipv6_addresses_take_all_sixteen_bytes() -> None:
    (found,) = decode(listing(record(local="2001:db8::1", remote="2001:db8::2")))
    assert (found.local, found.remote) == ("2001:db8::1", "2001:db8::2")


def test_a_direction_without_a_session_is_not_there() -> None:
    (found,) = decode(listing(record()))
    assert (found.rx.there, found.tx.there) == (False, True)


def test_records_are_stepped_by_their_own_size_and_a_longer_fixed_part_is_accepted() -> None:
    newer = bytearray(record(tail=bytes(16)))
    newer[4:8] = struct.pack("=I", 440)
    found = decode(listing(record(tail=b"driver\0\0"), bytes(newer), record(rx=GCM13)))
    assert [s.rx.there for s in found] == [False, False, True]


def test_an_empty_list_has_no_session() -> None:
    assert decode(listing()) == ()


def test_ivs_and_whatever_follows_a_record_never_leave_the_reader() -> None:
    whole = listing(record(rx=CHACHA12, tail=SECRET), record())
    kept = masked(whole)
    assert not any(SECRET[i : i + 4] in kept for i in range(28))
    assert decode(kept) == decode(whole)
    assert len(kept) == len(whole)


@pytest.mark.parametrize("cut", [0, 63, 64, 100, 64 + 424, 64 + 424 + 63, 64 + 424 + 64 + 1])
def test_a_list_that_was_cut_is_refused_and_its_rest_dropped(cut: int) -> None:
    whole = listing(record(rx=CHACHA12), record())
    with pytest.raises(KtlsListError):
        decode(whole[:cut])
    assert SECRET[:4] not in masked(whole[:cut])


@pytest.mark.parametrize(("size", "fixed"), [(0, 424), (423, 424), (424, 100), (1 << 31, 424), (424, 500)])
def test_a_record_with_impossible_sizes_is_refused_and_dropped(size: int, fixed: int) -> None:
    damaged = bytearray(record())
    damaged[:8] = struct.pack("=II", size, fixed)
    content = listing(bytes(damaged))
    with pytest.raises(KtlsListError):
        decode(content)
    assert SECRET[:4] not in masked(content)


@given(
    st.one_of(
        st.binary(max_size=700),
        st.lists(st.binary(min_size=424, max_size=424), max_size=3).map(lambda rs: listing(*rs)),
        st.builds(lambda b, at: listing(record())[:at] + b, st.binary(max_size=600), st.integers(0, 552)),
    )
)
def test_any_bytes_are_sessions_or_refused_and_masking_changes_nothing_but_secrets(content: bytes) -> None:
    kept = masked(content)
    try:
        found = decode(content)
    except KtlsListError:
        return
    assert decode(kept) == found
    for session in found:
        assert str(ipaddress.ip_address(session.local))
