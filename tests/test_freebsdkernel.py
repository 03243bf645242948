# SPDX-License-Identifier: BSD-2-Clause
"""freebsdkernel and the proof of records, driven against the model of FreeBSD's kernel; the model against FreeBSD's own
test list (tests/sys/kern/ktls_test.c), whose names stand behind `Rests on`."""

from __future__ import annotations

import ast
import ctypes
import os
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ktlsctl import freebsdkernel
from ktlsctl.facts import recordproof
from ktlsctl.facts.tlsenable import Filling
from ktlsctl.freebsdabi import (
    KLD_FILE_STAT,
    Crypto,
    CtlFlag,
    CtlType,
    Errno,
    Mode,
    Msg,
    TcpOption,
)
from ktlsctl.freebsdkernel import Fate, Head, NotANumber, Piece, Record, RecordReader, Sent, Session, Unframed
from ktlsctl.model import Direction, TlsVersion
from ktlsctl.servant import ProbeError
from tests.freebsd_kernel import ROOT, Kernel, Running, Socket, connect
from tests.tlsrecords import MAC_SIZES, Protection

PACKAGE = Path(freebsdkernel.__file__).parent

F13_0 = Kernel((13, 0), enable=True, module_loaded=True)
F13_2 = replace(F13_0, line=(13, 2))
F14_3 = Kernel((14, 3), enable=True)
F15_0 = Kernel((15, 0), enable=True)
F15_1 = Kernel((15, 1), enable=True, rx_enable=True)
RELEASES = {"13.0": F13_0, "13.2": F13_2, "14.3": F14_3, "15.0": F15_0, "15.1-p4": F15_1}
each_release = pytest.mark.parametrize("kernel", RELEASES.values(), ids=RELEASES.keys())


@dataclass(frozen=True)
class Suite:
    """A cipher token of FreeBSD's test names: `aes128_gcm_1_3`."""

    name: str
    version: int
    algorithm: Crypto
    key: int
    iv: int
    auth: Crypto | None = None

    def session(self, **changes: Any) -> Session:
        auth = os.urandom(MAC_SIZES[self.auth]) if self.auth is not None else b""
        made = Session(
            self.version, self.algorithm, bytearray(os.urandom(self.key)), bytearray(os.urandom(self.iv)),
            self.auth or 0, bytearray(auth), sequence=int.from_bytes(os.urandom(7), "big"),
        )  # fmt: skip
        return replace(made, **changes)

    @property
    def cbc(self) -> bool:
        return self.algorithm == Crypto.AES_CBC

    def sent_by(self, kernel: Kernel) -> bool:
        return self.algorithm != Crypto.CHACHA20_POLY1305 or kernel.line >= (13, 1)

    def received_by(self, kernel: Kernel) -> bool:
        """The published support matrix."""
        if self.cbc:
            return kernel.line >= (14, 0) and self.version >= 0x0302
        return self.sent_by(kernel) and (self.version == 0x0303 or kernel.line >= (14, 0))


def _suites() -> Iterator[Suite]:
    for bits in (128, 256):
        for minor, name in ((1, "1_0"), (2, "1_1"), (3, "1_2")):
            yield Suite(f"aes{bits}_cbc_{name}_sha1", 0x0300 + minor, Crypto.AES_CBC, bits // 8, 16, Crypto.SHA1_HMAC)
        for name, auth in (("sha256", Crypto.SHA2_256_HMAC), ("sha384", Crypto.SHA2_384_HMAC)):
            yield Suite(f"aes{bits}_cbc_1_2_{name}", 0x0303, Crypto.AES_CBC, bits // 8, 16, auth)
        yield Suite(f"aes{bits}_gcm_1_2", 0x0303, Crypto.AES_NIST_GCM_16, bits // 8, 4)
        yield Suite(f"aes{bits}_gcm_1_3", 0x0304, Crypto.AES_NIST_GCM_16, bits // 8, 12)
    yield Suite("chacha20_poly1305_1_2", 0x0303, Crypto.CHACHA20_POLY1305, 32, 12)
    yield Suite("chacha20_poly1305_1_3", 0x0304, Crypto.CHACHA20_POLY1305, 32, 12)


SUITES = tuple(_suites())
each_suite = pytest.mark.parametrize("suite", SUITES, ids=lambda s: s.name)
GCM12 = next(s for s in SUITES if s.name == "aes128_gcm_1_2")
GCM13 = next(s for s in SUITES if s.name == "aes128_gcm_1_3")
CBC10 = next(s for s in SUITES if s.name == "aes128_cbc_1_0_sha1")
CBC12 = next(s for s in SUITES if s.name == "aes128_cbc_1_2_sha256")


def in_user_space(session: Session) -> Protection:
    """The other end of a session, as a TLS library would have it."""
    return Protection(
        session.version, session.algorithm, bytes(session.key), bytes(session.iv), session.auth_algorithm,
        bytes(session.auth_key), session.sequence,
    )  # fmt: skip


def errno_of(call: Callable[[], object]) -> int:
    """0 when it was taken."""
    try:
        call()
    except OSError as error:
        return error.errno or -1
    return 0


def drained(end: Socket, size: int = 1 << 20) -> list[Record]:
    """Every record there is."""
    reader = RecordReader()
    found: list[Record] = []
    while True:
        try:
            record = reader.take(freebsdkernel.receive(end, size))
        except OSError as error:
            if freebsdkernel.fate(error.errno) is Fate.WAITS:
                return found
            raise
        if record is not None:
            found.append(record)


def receiving(suite: Suite, kernel: Kernel = F15_1) -> tuple[Socket, Socket, Protection, Running]:
    """The wire's end, the end that receives in the kernel, what seals for it, and the kernel."""
    running = Running(kernel)
    wire, end = running.pair()
    session = suite.session()
    freebsdkernel.enable(end, Direction.RX, session)
    return wire, end, in_user_space(session), running


# --- user-space records, against the world ---


def test_the_user_space_side_opens_a_record_of_rfc_8448() -> None:
    """Section 3, the client's application data: key, iv and record are published."""
    protection = Protection(
        0x0304, Crypto.AES_NIST_GCM_16,
        bytes.fromhex("17422dda596ed5d9acd890e3c63f5051"), bytes.fromhex("5b78923dee08579033e523d9"),
    )  # fmt: skip
    record = bytes.fromhex(
        "1703030043a23f7054b62c94d0affafe8228ba55cbefacea42f914aa66bcab3f2b9819a8a5b46b395bd54a9a20441e2b62974e1f5a62"
        "92a2977014bd1e3deae63aeebb21694915e4"
    )
    assert protection.open(record) == (23, bytes(range(50)))


# --- what is sent: ktls_transmit_* ---


@each_release
@each_suite
@pytest.mark.parametrize("size", [64, 65536], ids=["short", "long"])
def test_transmitted_records_decrypt_in_user_space(kernel: Kernel, suite: Suite, size: int) -> None:
    """Rests on ktls_transmit_<cipher>_short and _long."""
    running = Running(kernel, room=1 << 20)
    end, wire = running.pair()
    session = suite.session()
    if not suite.sent_by(kernel):
        assert errno_of(lambda: freebsdkernel.enable(end, Direction.TX, session)) == Errno.EINVAL
        return
    freebsdkernel.enable(end, Direction.TX, session)
    assert freebsdkernel.mode(end, Direction.TX) == Mode.SW
    assert freebsdkernel.mode(end, Direction.RX) == Mode.NONE
    data = os.urandom(size)
    assert end.send(data) == size
    opened = opened_by(in_user_space(session), wire.recv(1 << 20))
    assert b"".join(text for _, text in opened) == data
    assert {kind for kind, _ in opened} == {23}
    assert max(len(text) for _, text in opened) <= 16384


def opened_by(protection: Protection, wire: bytes) -> list[tuple[int, bytes]]:
    found: list[tuple[int, bytes]] = []
    while wire:
        end = 5 + int.from_bytes(wire[3:5], "big")
        found.append(protection.open(wire[:end]))
        wire = wire[end:]
    return found


@each_suite
def test_a_control_record_keeps_its_type_and_is_one_record(suite: Suite) -> None:
    """Rests on ktls_transmit_<cipher>_control."""
    end, wire = Running(F15_1).pair()
    session = suite.session()
    freebsdkernel.enable(end, Direction.TX, session)
    text = os.urandom(32)
    assert freebsdkernel.send_record(end, 0x21, text) == 32
    sent = wire.recv(1 << 16)
    assert opened_by(in_user_space(session), sent) == [(0x21, text)]
    assert sent[0] == (23 if suite.version == 0x0304 else 0x21)
    assert errno_of(lambda: freebsdkernel.send_record(end, 0x21, bytes(16385))) != 0, "never cut in two"


@pytest.mark.parametrize("padding", range(1, 17))
def test_every_length_of_cbc_padding_is_sent(padding: int) -> None:
    """Rests on ktls_transmit_<cbc>_padding_1 to _16."""
    end, wire = Running(F15_1).pair()
    session = CBC12.session()
    freebsdkernel.enable(end, Direction.TX, session)
    end.send(bytes(16 + padding))
    assert opened_by(in_user_space(session), wire.recv(1 << 16)) == [(23, bytes(16 + padding))]


@each_suite
def test_an_empty_record_is_sent_by_tls_1_0_cbc_only(suite: Suite) -> None:
    """Rests on ktls_transmit_<cipher>_empty_fragment."""
    end, wire = Running(F15_1).pair()
    session = suite.session()
    freebsdkernel.enable(end, Direction.TX, session)
    if suite.version == 0x0301:
        end.send(b"")
        assert opened_by(in_user_space(session), wire.recv(1 << 16)) == [(23, b"")]
    else:
        assert errno_of(lambda: end.send(b"")) == Errno.EINVAL


INVALID = (
    ("chacha20_poly1305_1_2", {"key": bytearray(16)}),
    ("chacha20_poly1305_1_2", {"version": 0x0302}),
    ("aes128_gcm_1_2", {"key": bytearray(24)}),
    ("aes128_gcm_1_2", {"iv": bytearray(12)}),
    ("aes128_gcm_1_3", {"iv": bytearray(4)}),
    ("aes128_gcm_1_2", {"version": 0x0301}),
    ("aes128_gcm_1_2", {"auth_algorithm": Crypto.SHA1_HMAC, "auth_key": bytearray(20)}),
    ("aes128_gcm_1_2", {"flags": 1}),
    ("aes128_gcm_1_2", {"version": 0x0305}),
    ("aes128_cbc_1_2_sha256", {"version": 0x0302}),
    ("aes128_cbc_1_2_sha1", {"version": 0x0304}),
    ("aes128_cbc_1_2_sha1", {"auth_algorithm": 0, "auth_key": bytearray()}),
    ("aes128_cbc_1_2_sha1", {"key": bytearray(24)}),
    ("aes128_gcm_1_2", {"algorithm": 0x7FFF}),
    ("aes128_gcm_1_2", {"key": bytearray()}),
)


@pytest.mark.parametrize(("name", "changes"), INVALID)
@pytest.mark.parametrize("direction", Direction)
def test_what_is_no_tls_is_refused_with_einval(name: str, changes: dict[str, Any], direction: Direction) -> None:
    """Rests on ktls_transmit_invalid_* and ktls_receive_invalid_*."""
    suite = next(s for s in SUITES if s.name == name)
    end, _ = Running(F15_1).pair()
    assert errno_of(lambda: freebsdkernel.enable(end, direction, suite.session(**changes))) == Errno.EINVAL
    assert freebsdkernel.mode(end, direction) == Mode.NONE


# --- what is received: ktls_receive_* ---


@each_release
@each_suite
@pytest.mark.parametrize("size", [64, 16384], ids=["short", "long"])
def test_received_records_come_with_their_type_and_end(kernel: Kernel, suite: Suite, size: int) -> None:
    """Rests on ktls_receive_<cipher>_short and _long, and ktls_receive_unsupported_*."""
    running = Running(kernel, room=1 << 20)
    wire, end = running.pair()
    session = suite.session()
    refused = errno_of(lambda: freebsdkernel.enable(end, Direction.RX, session))
    if not suite.received_by(kernel):
        unsupported = Errno.EPROTONOSUPPORT if kernel.line >= (14, 0) else Errno.EOPNOTSUPP
        assert refused == (unsupported if suite.sent_by(kernel) else Errno.EINVAL)
        return
    assert refused == 0
    text = os.urandom(size)
    wire.send(in_user_space(session).seal(0x17, text))
    piece = freebsdkernel.receive(end, 1 << 16)
    # the version is that on the wire, also for TLS 1.3
    assert piece == Piece(text, Head(23, min(suite.version, 0x0303), size), last=True)


RECEIVED = tuple(s for s in SUITES if s.received_by(F15_1))
each_received = pytest.mark.parametrize("suite", RECEIVED, ids=lambda s: s.name)


@each_received
@pytest.mark.parametrize("at", ["bad_data", "bad_mac"])
def test_a_record_that_fails_its_authentication_is_dropped_alone(suite: Suite, at: str) -> None:
    """Rests on ktls_receive_<cipher>_bad_data and _bad_mac."""
    wire, end, seal, running = receiving(suite)
    first, bad, last = (bytearray(seal.seal(23, bytes([n]) * 100)) for n in (1, 2, 3))
    bad[-20 if at == "bad_mac" else 5 + seal.explicit] ^= 1
    wire.send(bytes(first + bad + last))
    assert freebsdkernel.receive(end, 1 << 16).data == b"\1" * 100
    number = errno_of(lambda: freebsdkernel.receive(end, 1 << 16))
    assert (number, freebsdkernel.fate(number)) == (Errno.EBADMSG, Fate.LIVES)
    if suite.cbc and not seal.explicit:
        return
    assert freebsdkernel.receive(end, 1 << 16).data == b"\3" * 100
    assert running.moved["stats.failed_crypto"] == 1
    assert "stats.corrupted_records" not in running.moved


@each_received
def test_a_stream_that_ends_inside_a_record_is_a_wrong_length(suite: Suite) -> None:
    """Rests on ktls_receive_<cipher>_truncated_record."""
    wire, end, seal, _ = receiving(suite)
    wire.send(seal.seal(23, b"x" * 64)[:-1])
    assert errno_of(lambda: freebsdkernel.receive(end, 100)) == Errno.EAGAIN
    wire.shutdown()
    assert errno_of(lambda: freebsdkernel.receive(end, 100)) == Errno.EMSGSIZE
    assert freebsdkernel.receive(end, 100).end_of_stream


def spoilt(record: bytes, at: int, value: int) -> bytes:
    return record[:at] + bytes([value]) + record[at + 1 :]


@each_received
@pytest.mark.parametrize(
    ("name", "spoil", "errno"),
    [
        ("bad_major", lambda r: spoilt(r, 1, r[1] + 1), Errno.EINVAL),
        ("bad_minor", lambda r: spoilt(r, 2, r[2] + 1), Errno.EINVAL),
        ("header_only", lambda r: r[:3] + b"\0\0", Errno.EMSGSIZE),
        ("short", lambda r: r[:3] + b"\0\4" + r[5:9], Errno.EMSGSIZE),
        ("oversized", lambda r: r[:3] + b"\xff\xf0" + r[5:], Errno.EMSGSIZE),
    ],
)
def test_a_malformed_header_ends_the_connection(
    suite: Suite, name: str, spoil: Callable[[bytes], bytes], errno: int
) -> None:
    """Rests on ktls_receive_<cipher>_bad_major, _bad_minor and the tests of lengths."""
    wire, end, seal, running = receiving(suite)
    wire.send(spoil(seal.seal(23, b"x" * 64)))
    number = errno_of(lambda: freebsdkernel.receive(end, 100))
    assert (number, freebsdkernel.fate(number)) == (errno, Fate.ENDED), name
    assert running.moved["stats.corrupted_records"] == 1
    assert "stats.failed_crypto" not in running.moved
    assert freebsdkernel.receive(end, 100).end_of_stream
    assert errno_of(lambda: end.send(b"x")) != 0


@pytest.mark.parametrize("padding", [1, 200])
def test_tls_1_3_padding_is_removed_and_the_outer_type_is_checked(padding: int) -> None:
    """Rests on ktls_receive_<cipher>_short_padded, _long_padded and _bad_type."""
    wire, end, seal, _ = receiving(GCM13)
    wire.send(seal.seal(22, b"ticket", padding=padding))
    assert freebsdkernel.receive(end, 100) == Piece(b"ticket", Head(22, 0x0303, 6), last=True)
    wire.send(spoilt(seal.seal(23, b"x"), 0, 22))
    assert errno_of(lambda: freebsdkernel.receive(end, 100)) == Errno.EINVAL


def test_cbc_is_received_with_any_padding_and_not_with_half_a_block() -> None:
    """Rests on ktls_receive_<cbc>_padding_*, _bad_padding and _non_block_size."""
    wire, end, seal, _ = receiving(CBC12)
    for padding in range(12):
        wire.send(seal.seal(23, b"text", padding=padding))
        assert freebsdkernel.receive(end, 100).data == b"text"
    record = seal.seal(23, b"text")
    wire.send(record[:3] + (len(record) - 6).to_bytes(2, "big") + record[5:-1])
    assert errno_of(lambda: freebsdkernel.receive(end, 100)) == Errno.EMSGSIZE


def test_a_listening_socket_takes_no_session_and_a_session_no_listener() -> None:
    """Rests on ktls_listening_socket."""
    running = Running(F15_1)
    listener = running.socket()
    listener.listen()
    assert errno_of(lambda: freebsdkernel.enable(listener, Direction.TX, GCM12.session())) == Errno.ENOTCONN
    assert errno_of(lambda: freebsdkernel.enable(listener, Direction.RX, GCM12.session())) == Errno.EINVAL
    assert errno_of(lambda: freebsdkernel.mode(listener, Direction.TX)) == Errno.EINVAL
    unconnected = running.socket()
    freebsdkernel.enable(unconnected, Direction.TX, GCM12.session())
    assert errno_of(unconnected.listen) == Errno.EINVAL


#: FreeBSD's test names that no test above rests on, and why.
NOT_MODELLED = {
    "ktls_sendto_baddst": "an ordinary TCP error, nothing of kernel TLS",
    "ktls_receive_<cipher>_bad_iv": "the same path as bad_data: the explicit nonce is authenticated",
    "ktls_receive_<cipher>_short_header": "the same path as the lengths above",
}


def test_each_published_test_has_a_test_here_or_a_reason() -> None:
    published = (
        "ktls_transmit_<cipher>_short", "ktls_transmit_<cipher>_control", "ktls_transmit_<cbc>_padding_1",
        "ktls_transmit_<cipher>_empty_fragment", "ktls_transmit_invalid_*", "ktls_receive_<cipher>_short",
        "ktls_receive_<cipher>_bad_data", "ktls_receive_<cipher>_truncated_record", "ktls_receive_<cipher>_bad_major",
        "the tests of lengths", "_short_padded", "_bad_type", "ktls_receive_<cbc>_padding_*", "_bad_padding",
        "_non_block_size", "ktls_receive_unsupported_*", "ktls_receive_invalid_*", "ktls_listening_socket",
    )  # fmt: skip
    documented = " ".join(
        ast.get_docstring(node) or ""
        for node in ast.walk(ast.parse(Path(__file__).read_text()))
        if isinstance(node, ast.FunctionDef)
    )
    assert [name for name in published if name not in documented] == []
    assert all(NOT_MODELLED.values())


# --- receive by record ---


def test_a_partial_read_goes_on_in_the_same_record_without_its_type() -> None:
    wire, end, seal, _ = receiving(GCM12)
    wire.send(seal.seal(22, b"abcdef") + seal.seal(23, b"xy"))
    first, second, third = (freebsdkernel.receive(end, 4) for _ in range(3))
    assert first == Piece(b"abcd", Head(22, 0x0303, 6), last=False)
    assert second == Piece(b"ef", None, last=True), "one record a call, whatever would fit"
    assert third == Piece(b"xy", Head(23, 0x0303, 2), last=True)


def test_a_plain_read_throws_the_type_away() -> None:
    wire, end, seal, _ = receiving(GCM12)
    wire.send(seal.seal(21, b"\1\0"))
    assert end.recv(100) == b"\1\0"


def test_peeking_consumes_neither_data_nor_type() -> None:
    wire, end, seal, _ = receiving(GCM12)
    wire.send(seal.seal(21, b"\1\0"))
    assert freebsdkernel.receive(end, 100, Msg.PEEK) == freebsdkernel.receive(end, 100)


def test_bytes_already_there_when_receive_is_enabled_are_ciphertext() -> None:
    wire, end = Running(F15_1).pair()
    session = GCM13.session()
    seal = in_user_space(session)
    wire.send(seal.seal(23, b"early") + seal.seal(23, b"late")[:7])
    freebsdkernel.enable(end, Direction.RX, session)
    assert [record.data for record in drained(end)] == [b"early"]


def test_a_record_number_that_is_off_by_one_fails_every_record() -> None:
    wire, end = Running(F15_1).pair()
    session = GCM13.session()
    seal = in_user_space(session)
    freebsdkernel.enable(end, Direction.RX, replace(session, sequence=session.sequence + 1))
    wire.send(seal.seal(23, b"x"))
    assert errno_of(lambda: freebsdkernel.receive(end, 10)) == Errno.EBADMSG


@given(
    st.lists(st.tuples(st.integers(0, 255), st.binary(min_size=1, max_size=300)), max_size=8),
    st.lists(st.integers(1, 120), min_size=1, max_size=40),
    st.lists(st.integers(1, 200), min_size=1, max_size=20),
)
@settings(deadline=None)
def test_records_survive_any_cutting_on_the_wire_and_in_the_reads(
    sent: list[tuple[int, bytes]], reads: list[int], cuts: list[int]
) -> None:
    wire, end, seal, _ = receiving(GCM12)
    stream = b"".join(seal.seal(kind, data) for kind, data in sent)
    reader = RecordReader()
    found: list[tuple[int, bytes]] = []
    turn = 0
    while stream or end.waiting:
        cut = cuts[turn % len(cuts)]
        wire.send(stream[:cut])
        stream = stream[cut:]
        turn += 1
        try:
            piece = freebsdkernel.receive(end, reads[turn % len(reads)])
        except OSError as error:
            if freebsdkernel.fate(error.errno) is not Fate.WAITS:
                raise
        else:
            record = reader.take(piece)
            found += [(record.kind, record.data)] if record is not None else []
    assert found == sent
    assert not reader.inside


HEADS = st.none() | st.builds(Head, st.integers(0, 255), st.just(0x0303), st.integers(0, 16384))
PIECES = st.builds(Piece, st.binary(max_size=10), HEADS, st.booleans(), st.booleans())


@given(st.lists(PIECES, max_size=30))
def test_any_pieces_are_records_or_unframed_and_no_byte_is_made_up(pieces: list[Piece]) -> None:
    reader = RecordReader()
    came = given_out = 0
    for piece in pieces:
        came += len(piece.data)
        try:
            record = reader.take(piece)
        except Unframed:
            cut_short = reader.inside
        else:
            cut_short = False
            given_out += len(record.data) if record is not None else 0
        assert not cut_short, "after an error it begins anew"
    assert given_out <= came


@pytest.mark.parametrize(
    ("pieces", "words"),
    [
        ([Piece(b"x", last=True)], "without a record's type"),
        ([Piece(b"x", Head(23, 0x0303, 2)), Piece(b"y", Head(23, 0x0303, 1), last=True)], "before the one before"),
        ([Piece(b"x", Head(23, 0x0303, 2)), Piece(b"")], "inside a record"),
        ([Piece(b"x", truncated=True)], "cut off"),
    ],
)
def test_what_is_no_record_is_said_in_a_sentence(pieces: list[Piece], words: str) -> None:
    reader = RecordReader()
    for piece in pieces[:-1]:
        assert reader.take(piece) is None
    with pytest.raises(Unframed, match=words):
        reader.take(pieces[-1])


@pytest.mark.parametrize(
    ("errno", "fate"),
    [
        (Errno.EAGAIN, Fate.WAITS),
        (Errno.EINTR, Fate.WAITS),
        (Errno.EBADMSG, Fate.LIVES),
        (Errno.EMSGSIZE, Fate.ENDED),
        (Errno.EINVAL, Fate.ENDED),
        (Errno.ECONNABORTED, Fate.ENDED),
        (Errno.EIO, Fate.ENDED),
        (None, Fate.ENDED),
    ],
)
def test_what_an_error_means_for_the_connection(errno: int | None, fate: Fate) -> None:
    assert freebsdkernel.fate(errno) is fate


# --- enabling: the table of errors ---


@pytest.mark.parametrize(
    ("kernel", "direction", "errno", "counted"),
    [
        (replace(F14_3, kern_tls=False), Direction.TX, Errno.ENOPROTOOPT, 0),
        (replace(F14_3, enable=False), Direction.TX, Errno.EOPNOTSUPP, 0),
        (replace(F15_1, rx_enable=False), Direction.RX, Errno.EOPNOTSUPP, 0),
        (replace(F15_1, rx_enable=False), Direction.TX, 0, 1),
        (replace(F15_1, ext_pgs=False), Direction.TX, Errno.ENXIO, 1),
        (replace(F15_1, ext_pgs=False), Direction.RX, 0, 1),
        (replace(F15_1, threads_start=False), Direction.RX, Errno.ENXIO, 1),
        (replace(F13_2, module_loaded=False), Direction.TX, Errno.EOPNOTSUPP, 1),
    ],
)
def test_each_gate_answers_with_its_own_errno_and_counts_as_the_kernel_does(
    kernel: Kernel, direction: Direction, errno: int, counted: int
) -> None:
    running = Running(kernel)
    end, _ = running.pair()
    assert errno_of(lambda: freebsdkernel.enable(end, direction, GCM12.session())) == errno
    assert running.moved.get("stats.enable_calls", 0) == counted
    assert running.moved.get("stats.offload_total", 0) == (0 if errno else 1)


def test_cbc_has_a_gate_of_its_own() -> None:
    end, _ = Running(replace(F15_1, cbc_enable=False)).pair()
    assert errno_of(lambda: freebsdkernel.enable(end, Direction.TX, CBC12.session())) == Errno.EOPNOTSUPP
    assert errno_of(lambda: freebsdkernel.enable(end, Direction.TX, GCM12.session())) == 0


def test_there_is_no_rekey() -> None:
    end, _ = Running(F15_1).pair()
    session = GCM13.session()
    freebsdkernel.enable(end, Direction.TX, session)
    assert errno_of(lambda: freebsdkernel.enable(end, Direction.TX, session)) == Errno.EALREADY


def test_a_structure_of_another_length_is_refused() -> None:
    end, _ = Running(F15_1).pair()
    assert errno_of(lambda: end.setsockopt(6, TcpOption.TCP_TXTLS_ENABLE, bytes(63))) == Errno.EINVAL


def test_gauges_rise_with_a_session_and_fall_with_its_end() -> None:
    running = Running(F15_1)
    one, other = running.pair()
    for end in (one, other):
        for direction in Direction:
            freebsdkernel.enable(end, direction, GCM12.session())
    names = ("stats.enable_calls", "stats.offload_total", "stats.active", "sw.gcm")
    assert [freebsdkernel.number(running, f"{ROOT}.{leaf}").value for leaf in names] == [4, 4, 4, 4]
    one.close()
    other.close()
    assert [freebsdkernel.number(running, f"{ROOT}.{leaf}").value for leaf in names] == [4, 4, 0, 0]


# --- what the layer hands to the kernel ---


class Seen:
    """A socket that only keeps what it was given."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int, bytes]] = []
        self.copies: list[bytes] = []

    def setsockopt(self, level: int, option: int, value: bytes, /) -> None:
        self.calls.append((level, option, value))
        key, iv, auth = struct.unpack_from("=QQQ", value)
        lengths = struct.unpack_from("=6i", value, 24)
        self.copies = [
            ctypes.string_at(at, length) if at else b""
            for at, length in ((key, lengths[1]), (iv, lengths[2]), (auth, lengths[4]))
        ]

    def getsockopt(self, level: int, option: int, /) -> int:
        raise AssertionError


def test_the_structure_holds_every_member_where_the_headers_have_it() -> None:
    seen = Seen()
    session = Session(
        0x0304, 25, bytearray(b"k" * 32), bytearray(b"i" * 12), 7, bytearray(b"a" * 20), 0x0102030405060708
    )
    freebsdkernel.enable(seen, Direction.RX, session)
    ((level, option, value),) = seen.calls
    assert (level, option, len(value)) == (6, 41, 64)
    assert struct.unpack_from("=6i", value, 24) == (25, 32, 12, 7, 20, 0)
    assert (value[48], value[49], value[50:58]) == (3, 4, bytes(range(1, 9)))
    assert seen.copies == [b"k" * 32, b"i" * 12, b"a" * 20]


def test_an_aead_hands_over_no_address_of_an_auth_key() -> None:
    seen = Seen()
    freebsdkernel.enable(seen, Direction.TX, GCM13.session())
    assert struct.unpack_from("=Q", seen.calls[0][2], 16) == (0,)


def test_a_session_shows_no_key_and_can_be_wiped() -> None:
    session = Session(0x0303, 25, bytearray(b"SECRETSECRETSECR"), bytearray(b"SALT"), 0, bytearray(b"MACKEY"))
    for word in ("SECRET", "SALT", "MACKEY"):
        assert word not in repr(session)
    session.wipe()
    assert not any((*session.key, *session.iv, *session.auth_key))


def test_the_probes_keys_are_fresh_each_time() -> None:
    what = Filling(TlsVersion.TLS13, 25, 32, 12)
    one, other = what.session(), what.session()
    assert one.key != other.key
    assert any(one.key)
    assert (len(one.iv), len(one.auth_key)) == (12, 0)


def test_python_sockets_fit_the_layer() -> None:
    """The very classes: a socket of this machine carries what the layer packs, as far as this kernel knows it."""
    one, other = socket.socketpair()
    with one, other:
        fits: freebsdkernel.Socket = one
        other.send(b"hello")
        assert freebsdkernel.receive(fits, 100) == Piece(b"hello")
        assert errno_of(lambda: freebsdkernel.mode(fits, Direction.TX)) != 0


# --- sysctls ---


@each_release
def test_every_sysctl_of_a_release_is_read_with_its_own_width(kernel: Kernel) -> None:
    running = Running(kernel)
    for name, value in kernel.sysctls().items():
        assert freebsdkernel.number(running, name).value == int(value), name


def test_the_width_of_a_setting_may_change_between_releases() -> None:
    kinds = [freebsdkernel.number(Running(k), "kern.ipc.mb_use_ext_pgs").kind for k in (F13_0, F15_1)]
    assert kinds == [CtlType.U8, CtlType.INT]


@pytest.mark.parametrize(
    ("kernel", "leaf", "loader_only"),
    [(F13_2, "maxlen", False), (F14_3, "maxlen", True), (F14_3, "bind_threads", True), (F13_0, "enable", False)],
)
def test_a_setting_says_itself_whether_only_the_loader_can_make_it(
    kernel: Kernel, leaf: str, loader_only: bool
) -> None:
    assert freebsdkernel.number(Running(kernel), f"{ROOT}.{leaf}").loader_only is loader_only


def test_13_0_alone_does_not_take_enable_from_the_loader() -> None:
    assert [freebsdkernel.number(Running(k), f"{ROOT}.enable").tunable for k in (F13_0, F13_2)] == [False, True]


def test_a_name_that_a_kernel_does_not_have_is_enoent() -> None:
    running = Running(replace(F15_1, kern_tls=False))
    assert errno_of(lambda: freebsdkernel.number(running, f"{ROOT}.enable")) == Errno.ENOENT


@dataclass(frozen=True)
class Fixed:
    """Calls with one sysctl in them."""

    word: int
    content: bytes

    def oid(self, name: str) -> tuple[int, bytes]:
        return self.word, self.content

    def sendfile(self, file: int, sock: int, offset: int, count: int) -> Sent:
        raise AssertionError

    def modules(self) -> tuple[str, ...]:
        raise AssertionError


@pytest.mark.parametrize(
    ("word", "content"), [(CtlType.STRING, b"x\0"), (CtlType.NODE, b""), (0, b"\0"), (CtlType.U64, bytes(4))]
)
def test_what_is_no_number_is_said_to_be_none(word: int, content: bytes) -> None:
    with pytest.raises(NotANumber):
        freebsdkernel.number(Fixed(word, content), "kern.ostype")


@given(st.integers(0, 2**32 - 1), st.binary(max_size=20))
def test_any_answer_of_a_sysctl_is_a_number_or_none(word: int, content: bytes) -> None:
    try:
        found = freebsdkernel.number(Fixed(word, content), "x")
    except NotANumber:
        return
    assert found.value.to_bytes(len(content), sys.byteorder, signed=found.value < 0) == content


# --- sendfile ---


@pytest.fixture
def file(tmp_path: Path) -> Iterator[tuple[int, bytes]]:
    content = os.urandom(300_000)
    (tmp_path / "file").write_bytes(content)
    with open(tmp_path / "file", "rb") as opened:
        yield opened.fileno(), content


def carried(running: Running, file: tuple[int, bytes]) -> bytes:
    """What arrives of the whole file, over a kernel TLS connection that is often full."""
    sender, receiver = running.pair()
    session = GCM12.session()
    freebsdkernel.enable(sender, Direction.TX, session)
    freebsdkernel.enable(receiver, Direction.RX, session)
    arrived, sent = b"", 0
    while sent < len(file[1]):
        step = freebsdkernel.sendfile_all(running, file[0], sender.fileno(), sent, len(file[1]) - sent)
        assert step.errno in (0, *freebsdkernel.FULL)
        sent += step.count
        arrived += b"".join(record.data for record in drained(receiver))
    return arrived


def test_a_file_crosses_a_socket_that_is_often_full_without_repeated_bytes(file: tuple[int, bytes]) -> None:
    assert carried(Running(F15_1, room=20_000), file) == file[1]


def test_a_signal_in_the_middle_of_sendfile_repeats_nothing(file: tuple[int, bytes]) -> None:
    assert carried(Running(F15_1, room=20_000, interrupts=5), file) == file[1]


def test_a_kernel_that_forgets_bytes_of_a_short_sendfile_is_seen(file: tuple[int, bytes]) -> None:
    assert carried(Running(F15_1, room=65_536, replay=16_158), file) != file[1]


def test_a_dead_connection_ends_sendfile_with_its_error(file: tuple[int, bytes]) -> None:
    running = Running(F15_1)
    sender, receiver = running.pair()
    sender.dropped = Errno.ECONNABORTED
    sent = freebsdkernel.sendfile_all(running, file[0], sender.fileno(), 0, 1000)
    assert sent.count == 0
    assert sent.errno
    del receiver


# --- the proof of records ---


def proof(running: Running, seconds: float = 120.0, size: int = 200_000) -> recordproof.Proof:
    import tempfile

    content = os.urandom(size)
    with tempfile.TemporaryFile() as opened:
        opened.write(content)
        opened.flush()
        deadline = time.monotonic() + seconds
        return recordproof.prove(iter(running.pair, None), running, opened.fileno(), content, deadline)


@each_release
def test_the_proof_holds_on_every_release(kernel: Kernel) -> None:
    found = proof(Running(kernel))
    assert (found.failure, found.refused, found.encrypted, found.stream_equal, found.file_equal) == (
        "",
        0,
        True,
        True,
        True,
    )
    assert found.control_kind == recordproof.CONTROL_KIND
    assert found.pieces > found.records >= 4
    assert found.counted == (3, 3)


def test_the_proof_sees_repeated_bytes() -> None:
    assert proof(Running(F15_1, replay=16_158)).file_equal is not True


def test_a_direction_that_is_not_to_be_had_ends_the_proof_with_its_errno() -> None:
    assert proof(Running(replace(F14_3, enable=False))) == recordproof.Proof(refused=Errno.EOPNOTSUPP)
    assert proof(Running(replace(F15_1, rx_enable=False))).refused == Errno.EOPNOTSUPP


class Plain(Socket):
    """A broken kernel that takes the key and frames plaintext; `framed`: as a TLS record should look."""

    framed = False

    def _send(self, data: bytes, kind: int | None) -> int:
        assert self.peer is not None
        length = 8 + len(data) + 16
        head = b"\x17\x03\x03" + length.to_bytes(2, "big") if self.framed else bytes(5)
        self.peer.arrive(head + bytes(8) + data + bytes(16))
        return len(data)


class Framed(Plain):
    framed = True


class Flipping(Socket):
    """A broken kernel that decrypts to other bytes."""

    def recvmsg(self, size: int, ancillary: int, flags: int, /) -> tuple[bytes, list[tuple[int, int, bytes]], int, Any]:
        data, *rest = super().recvmsg(size, ancillary, flags)
        return bytes(byte ^ 1 for byte in data), *rest


def over(sender: type[Socket], receiver: type[Socket], good_pairs: int = 0) -> recordproof.Proof:
    """The proof where every pair but the first `good_pairs` is made of these."""
    running = Running(F15_1)

    def pairs() -> Iterator[tuple[Socket, Socket]]:
        for _ in range(good_pairs):
            yield running.pair()
        while True:
            one, other = sender(running, 0), receiver(running, 1)
            connect(one, other)
            yield one, other

    with open("/dev/null", "rb") as nothing:
        return recordproof.prove(pairs(), running, nothing.fileno(), b"", time.monotonic() + 120)


@pytest.mark.parametrize("broken", [Plain, Framed])
def test_the_proof_sees_plaintext_on_the_wire(broken: type[Socket]) -> None:
    assert over(broken, Socket).encrypted is False


def test_the_proof_sees_bytes_that_changed() -> None:
    found = over(Socket, Flipping, good_pairs=1)
    assert (found.encrypted, found.stream_equal) == (True, False)


def test_the_proof_ends_at_its_deadline_and_says_so() -> None:
    found = proof(Running(F15_1, replay=400_000), seconds=0.05)
    assert found.failure or found.file_equal is False
    silent = Running(F15_1)
    sender, receiver = silent.pair()
    sender.peer = silent.socket()
    with open("/dev/null", "rb") as nothing:
        late = recordproof.prove(iter([(sender, receiver)]), silent, nothing.fileno(), b"", time.monotonic() + 0.02)
    assert late.late
    assert "in time" in late.failure


def test_counters_that_cannot_be_read_do_not_spoil_the_proof() -> None:
    class Blind(Running):
        def oid(self, name: str) -> tuple[int, bytes]:
            raise OSError(Errno.EPERM, "not for you")

    found = proof(Blind(F15_1))
    assert (found.counted, found.stream_equal) == (None, True)


def test_the_proof_belongs_to_freebsd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    with pytest.raises(ProbeError, match="FreeBSD"):
        recordproof.probe(None)


def test_no_key_is_in_the_proof() -> None:
    assert {f.name for f in fields(recordproof.Proof)}.isdisjoint({"key", "iv", "content", "data"})
    assert len(str(proof(Running(F15_1)))) < 600


# --- the live calls, against a libc of our own ---


class Entry:
    """A function as ctypes gives it."""

    restype: Any = None
    argtypes: Any = None

    def __init__(self, function: Callable[..., int]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> int:
        assert len(arguments) == len(self.argtypes), "as many as the header's declaration has"
        for argument, kind in zip(arguments, self.argtypes, strict=True):
            kind.from_param(argument)  # as ctypes would convert it
        return self._function(*arguments)


class Libc:
    """What FreeBSD's libc does for the calls of the layer, with a little state behind it."""

    def __init__(self) -> None:
        self.files = [b"kernel", b"ktls_ocf.ko"]
        self.names = {b"kern.ipc.tls.enable": (1, 2, 3), b"huge": (9,)}
        self.sent = (0, 0)
        for name in ("sendfile", "sysctlnametomib", "sysctl", "kldnext", "kldstat"):
            setattr(self, name, Entry(getattr(self, f"_{name}")))

    def _sendfile(self, file: int, sock: int, offset: int, count: int, head: None, sent: int, flags: int) -> int:
        assert (head, flags) == (None, 0)
        ctypes.c_int64.from_address(sent).value = self.sent[0]
        ctypes.set_errno(self.sent[1])
        return -1 if self.sent[1] else 0

    def _sysctlnametomib(self, name: int, mib: int, length: int) -> int:
        found = self.names.get(ctypes.string_at(name))
        if found is None:
            ctypes.set_errno(Errno.ENOENT)
            return -1
        assert ctypes.c_size_t.from_address(length).value == 24
        for at, number in enumerate(found):
            ctypes.c_int.from_address(mib + 4 * at).value = number
        ctypes.c_size_t.from_address(length).value = len(found)
        return 0

    def _sysctl(self, mib: int, count: int, old: int, length: int, new: None, size: int) -> int:
        assert (new, size) == (None, 0), "nothing is written"
        path = [ctypes.c_int.from_address(mib + 4 * at).value for at in range(count)]
        content = b"\1"
        if path[:2] == [0, 4]:
            content = (CtlType.U8 | CtlFlag.RD | CtlFlag.WR).to_bytes(4, sys.byteorder) + b"CU\0"
        assert len(content) <= ctypes.c_size_t.from_address(length).value
        ctypes.memmove(old, content, len(content))
        ctypes.c_size_t.from_address(length).value = len(content)
        return 0

    def _kldnext(self, file: int) -> int:
        return file + 1 if file < len(self.files) else 0

    def _kldstat(self, file: int, at: int) -> int:
        layout = KLD_FILE_STAT[8]
        if ctypes.c_int.from_address(at).value != layout.size:
            ctypes.set_errno(Errno.EINVAL)
            return -1
        ctypes.memmove(at, layout.pack(layout.size, self.files[file - 1], 1, file), layout.size)
        return 0


def live(libc: Libc) -> freebsdkernel.LiveCalls:
    return freebsdkernel.LiveCalls(libc)


def test_a_sysctl_is_asked_for_its_kind_and_its_value() -> None:
    found = freebsdkernel.number(live(Libc()), "kern.ipc.tls.enable")
    assert (found.value, found.kind, found.writable, found.tunable) == (1, CtlType.U8, True, False)


def test_an_unknown_sysctl_is_an_oserror_that_names_it() -> None:
    with pytest.raises(OSError, match="no\\.such") as error:
        live(Libc()).oid("no.such")
    assert error.value.errno == Errno.ENOENT


@pytest.mark.parametrize("outcome", [(1000, 0), (700, Errno.EAGAIN), (0, Errno.EBUSY), (16, Errno.EINTR)])
def test_sendfile_keeps_its_count_whatever_it_answers(outcome: tuple[int, int]) -> None:
    libc = Libc()
    libc.sent = outcome
    assert live(libc).sendfile(3, 4, 0, 1000) == Sent(*outcome)


def test_the_kernels_files_are_those_that_kldstat_names() -> None:
    assert live(Libc()).modules() == ("kernel", "ktls_ocf.ko")


def test_a_refused_kldstat_is_an_oserror() -> None:
    libc = Libc()
    libc.kldnext = Entry(lambda file: -1)  # type: ignore[attr-defined]
    ctypes.set_errno(Errno.EPERM)
    with pytest.raises(OSError, match="kldnext"):
        live(libc).modules()


# --- the model stays in the tests ---


def test_no_shipped_module_can_reach_the_model() -> None:
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.split(".")[0] == "tests"], path
        assert "freebsd_kernel" not in path.read_text(), path


def test_no_option_or_variable_of_the_tool_names_a_python_module_to_load() -> None:
    """Probes are named by the code alone: LiveHost.begin is called with constants."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "begin":
                if (
                    path.name == "host.py"
                    or not node.args
                    or ast.unparse(node.func.value) not in ("host", "self._host")
                ):
                    continue
                target = node.args[0]
                constant = (
                    isinstance(target, ast.Constant) or ast.unparse(target).rsplit(".", 1)[-1].lstrip("_").isupper()
                )
                assert constant, f"{path}: {ast.unparse(node)}"


def test_a_wheel_holds_no_test() -> None:
    import tomllib

    packages = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert [name for name in packages if not name.startswith("ktlsctl")] == []
    assert {p.parent.name for p in PACKAGE.glob("*/__init__.py")} == {n.split(".")[1] for n in packages if "." in n}


def test_the_model_is_that_of_the_captured_hosts() -> None:
    from tests import freebsd_hosts

    assert issubclass(freebsd_hosts.Kernel, Kernel)
    assert cast(Any, freebsd_hosts.Kernel).answer is Kernel.answer
