# SPDX-License-Identifier: BSD-2-Clause
"""facts/sockdiag: what is asked, what is understood of any answer, and this kernel's answer about a real socket."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ktlsctl.facts import sockdiag
from ktlsctl.facts.sockdiag import SockDiagError, TcpSocket, TlsConf, Ulp, decode

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="netlink is Linux's")


# ---- messages written by hand, after linux/netlink.h and linux/inet_diag.h


def attribute(kind: int, payload: bytes) -> bytes:
    padding = -len(payload) % 4
    return struct.pack("=HH", 4 + len(payload), kind) + payload + bytes(padding)


def message(kind: int, body: bytes, flags: int = 0) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 4711) + body


def socket_message(attributes: bytes = b"", family: int = 2, source: str = "127.0.0.1") -> bytes:
    end = ipaddress.ip_address(source).packed.ljust(16, b"\0")
    body = struct.pack("=BBBB", family, 1, 0, 0)
    body += struct.pack(">HH", 4433, 50000) + end + end + struct.pack("=III", 0, 7, 8)
    body += struct.pack("=IIIII", 0, 11, 22, 1000, 99)  # expires, rqueue, wqueue, uid, inode
    assert len(body) == 72
    return message(20, body + attributes)


def number(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("=H", value))


TLS_INFO = number(1, 0x0304) + number(2, 51) + number(3, 2) + number(4, 1)
#: attributes as they come: INET_DIAG_INFO (2) first, then the ULP's with NLA_F_NESTED
ULP = attribute(2, bytes(232)) + attribute(19 | 0x8000, attribute(1, b"tls\0") + attribute(2 | 0x8000, TLS_INFO))


def only(datagram: bytes) -> TcpSocket:
    (found,) = decode(datagram).sockets
    return found


def test_a_socket_with_kernel_tls_is_read_whole() -> None:
    assert only(socket_message(ULP)) == TcpSocket(
        state=1, source="127.0.0.1", source_port=4433, destination="127.0.0.1", destination_port=50000,
        queued_rx=11, queued_tx=22, uid=1000, inode=99,
        ulp=Ulp("tls", version=0x0304, cipher=51, tx=TlsConf.SW, rx=TlsConf.BASE),
        cookie=8 << 32 | 7, bytes_acked=0, bytes_received=0,
    )  # fmt: skip


def test_an_address_of_the_other_family_is_read_as_such() -> None:
    assert only(socket_message(family=10, source="::1")).source == "::1"


def test_flags_and_the_largest_payload_are_read() -> None:
    tls = TLS_INFO + attribute(5, b"") + attribute(6, b"") + number(7, 512)
    ulp = only(socket_message(attribute(19, attribute(1, b"tls\0") + attribute(2, tls)))).ulp
    assert ulp is not None
    assert (ulp.zerocopy_tx, ulp.no_pad_rx, ulp.tx_max_payload) == (True, True, 512)


def test_attributes_of_newer_kernels_are_passed_over() -> None:
    newer = attribute(77, b"abcde") + number(3, 9) + number(200, 1)
    ulp = only(socket_message(attribute(90, b"x") + attribute(19, attribute(9, b"?") + attribute(2, newer)))).ulp
    assert ulp == Ulp("", tx=9)


def test_a_socket_of_another_ulp_says_its_name_only() -> None:
    assert only(socket_message(attribute(19, attribute(1, b"mptcp\0")))).ulp == Ulp("mptcp")


def test_no_attribute_is_no_ulp() -> None:
    assert only(socket_message()).ulp is None
    assert only(socket_message(attribute(2, bytes(232)))).ulp is None


U64_MAX = 2**64 - 1


@pytest.mark.parametrize("count", [0, 1, 2**32, 2**63, U64_MAX])
def test_counters_of_bytes_are_read_up_to_the_last_bit(count: int) -> None:
    info = bytes(120) + struct.pack("=QQ", count, U64_MAX - count) + bytes(100)
    found = only(socket_message(attribute(2, info)))
    assert (found.bytes_acked, found.bytes_received) == (count, U64_MAX - count)


@pytest.mark.parametrize("length", [0, 104, 135])
def test_an_older_kernels_shorter_tcp_info_has_no_counters_of_bytes(length: int) -> None:
    found = only(socket_message(attribute(2, bytes(length)) + ULP[236:]))
    assert (found.bytes_acked, found.bytes_received) == (None, None)
    assert found.ulp is not None


def test_a_cookie_is_read_low_word_first() -> None:
    body = bytearray(socket_message())
    body[16 + 4 + 40 : 16 + 4 + 48] = struct.pack("=II", 0x2, 0x1)
    assert only(bytes(body)).cookie == 0x1_0000_0002


def test_a_table_that_changed_while_it_was_dumped_is_told() -> None:
    body = socket_message()[16:]
    part = decode(message(20, body, flags=0x2 | 0x10) + message(20, body, flags=0x2))
    assert (len(part.sockets), part.interrupted) == (2, True)
    assert decode(message(3, bytes(4), flags=0x12)).interrupted
    assert not decode(message(20, body, flags=0x2)).interrupted


def test_a_dump_that_ended_in_an_error_is_refused_with_it() -> None:
    with pytest.raises(SockDiagError) as caught:
        decode(socket_message() + message(3, struct.pack("=i", -errno.EMSGSIZE)))
    assert caught.value.errno == errno.EMSGSIZE


@pytest.mark.parametrize("damage", [b"\xff\xff\x13\x00", b"\x00\x00\x13\x00", b"\x05"])
def test_a_damaged_attribute_ends_the_walk_and_keeps_what_came_before(damage: bytes) -> None:
    found = only(socket_message(ULP + damage))
    assert found.ulp is not None
    assert found.ulp.cipher == 51


def test_a_dump_of_several_messages_ends_with_done() -> None:
    odd = attribute(40, b"abc")[:-1]  # its padding is the message's
    several = socket_message(odd) + b"\0" + socket_message(ULP) + message(3, bytes(4)) + b"rest"
    part = decode(several)
    assert ([s.ulp is not None for s in part.sockets], part.done) == ([False, True], True)
    assert decode(socket_message()).done is False


def test_messages_of_another_kind_are_passed_over() -> None:
    assert decode(message(1, b"noop") + socket_message(ULP)).sockets[0].inode == 99


@pytest.mark.parametrize("cause", [errno.ENOENT, errno.EPERM, errno.EOPNOTSUPP])
def test_a_refusal_names_its_errno(cause: int) -> None:
    with pytest.raises(SockDiagError) as caught:
        decode(message(2, struct.pack("=i", -cause) + bytes(16)))
    assert caught.value.errno == cause


@pytest.mark.parametrize("length", range(1, len(socket_message()), 5))
def test_a_truncated_message_is_refused_wherever_it_was_cut(length: int) -> None:
    with pytest.raises(SockDiagError) as caught:
        decode(socket_message()[:length])
    assert caught.value.errno == 0


def test_a_message_too_short_for_a_socket_is_refused() -> None:
    with pytest.raises(SockDiagError, match="inet_diag_msg"):
        decode(message(20, bytes(71)))


@given(
    st.one_of(
        st.binary(),
        st.builds(message, st.sampled_from([2, 3, 20, 21]), st.binary(max_size=120)),
        st.builds(socket_message, st.binary(max_size=60)),
        st.builds(lambda b: socket_message(attribute(19, b)), st.binary(max_size=60)),
        st.builds(lambda b: socket_message(attribute(19, attribute(2, b))), st.binary(max_size=60)),
    )
)
@example(b"")
def test_any_bytes_are_sockets_or_refused(datagram: bytes) -> None:
    try:
        part = decode(datagram)
    except SockDiagError:
        return
    assert isinstance(part.done, bool)
    assert isinstance(part.interrupted, bool)
    assert all(isinstance(s, TcpSocket) for s in part.sockets)


# ---- requests


@given(
    st.one_of(
        st.tuples(st.just(2), st.ip_addresses(v=4), st.ip_addresses(v=4)),
        st.tuples(st.just(10), st.ip_addresses(v=6), st.ip_addresses(v=6)),
    ),
    st.integers(0, 65535),
    st.integers(0, 65535),
)
def test_a_request_names_the_two_ends_and_asks_for_what_carries_the_ulp(
    ends: tuple[int, object, object], here: int, there: int
) -> None:
    family, source, destination = ends
    request = sockdiag.request_one(family, (str(source), here), (str(destination), there))
    assert struct.unpack_from("=IHH", request) == (len(request), 20, 0x1)
    # struct inet_diag_req_v2: family, protocol, extensions, padding, states; then the ends as in an answer
    assert struct.unpack_from("=BBBBI", request, 16) == (family, socket.IPPROTO_TCP, 2, 0, 1 << 1)
    answer = struct.pack("=BBBB", family, 1, 0, 0) + request[24:72] + bytes(20)
    found = only(message(20, answer))
    # as inet_ntop(3) and ss(8) write them, which differs from ipaddress for mapped ones
    assert (ipaddress.ip_address(found.source), found.source_port) == (source, here)
    assert (ipaddress.ip_address(found.destination), found.destination_port) == (destination, there)


def test_a_dump_asks_for_every_state_and_no_one_socket() -> None:
    request = sockdiag.request_all(10)
    assert struct.unpack_from("=IHH", request) == (len(request), 20, 0x301)
    assert struct.unpack_from("=BBBBI", request, 16) == (10, 6, 2, 0, 0xFFF)
    assert request[24:] == bytes(48)


# ---- this kernel


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    with client, server:
        yield client, server


def ask(request: bytes) -> Iterator[TcpSocket]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, sockdiag.NETLINK_SOCK_DIAG) as netlink:
        netlink.settimeout(5)
        netlink.send(request)
        dump = struct.unpack_from("=H", request, 6)[0] & 0x300
        done = False
        while not done:
            part = decode(netlink.recv(1 << 16))
            yield from part.sockets
            done = part.done or not dump


@linux_only
def test_this_kernel_finds_a_plain_socket_by_its_ends(pair: tuple[socket.socket, socket.socket]) -> None:
    client, server = pair
    server.sendall(b"five!")
    (found,) = ask(sockdiag.request_one(client.family, client.getsockname(), client.getpeername()))
    assert ((found.source, found.source_port), (found.destination, found.destination_port)) == (
        client.getsockname(),
        client.getpeername(),
    )
    assert (found.state, found.queued_rx, found.queued_tx) == (sockdiag.TCP_ESTABLISHED, 5, 0)
    assert (found.uid, found.inode, found.ulp) == (os.getuid(), os.fstat(client.fileno()).st_ino, None)


@linux_only
def test_this_kernels_dump_holds_both_ends(pair: tuple[socket.socket, socket.socket]) -> None:
    found = {s.inode: s.ulp for s in ask(sockdiag.request_all(socket.AF_INET))}
    for end in pair:
        assert found[os.fstat(end.fileno()).st_ino] is None


@linux_only
def test_a_connection_that_is_not_there_is_refused_with_enoent(pair: tuple[socket.socket, socket.socket]) -> None:
    client, _ = pair
    with pytest.raises(SockDiagError) as caught:
        list(ask(sockdiag.request_one(client.family, client.getsockname(), ("127.0.0.1", 1))))
    assert caught.value.errno == errno.ENOENT


# ---- recorded dumps (record_sockdiag.py)

#: By (version, cipher), TX, RX: what each recording holds of sockets with the ULP.
HELD = Counter({
    (0x303, 51, TlsConf.SW, TlsConf.BASE): 1,
    (0x303, 51, TlsConf.BASE, TlsConf.SW): 1,
    (0x304, 52, TlsConf.SW, TlsConf.SW): 2,
    (0x304, 53, TlsConf.SW, TlsConf.BASE): 1,
    (0x304, 53, TlsConf.BASE, TlsConf.SW): 1,
    (0x303, 54, TlsConf.SW, TlsConf.BASE): 1,
    (0x303, 54, TlsConf.BASE, TlsConf.SW): 1,
    (0x303, 55, TlsConf.BASE, TlsConf.BASE): 1,
    (None, None, TlsConf.BASE, TlsConf.BASE): 1,
})  # fmt: skip


def recorded(name: str) -> list[TcpSocket]:
    lines = (Path(__file__).parent / "captures" / f"sockdiag-{name}.hex").read_text().split()
    parts = [decode(bytes.fromhex(line)) for line in lines]
    assert sum(part.done for part in parts) == 2  # one dump of each family
    return [s for part in parts for s in part.sockets]


@pytest.mark.parametrize("kernel", ["6.1", "6.12", "7.2", "7.2-user"])
def test_a_real_kernels_dump_has_the_sockets_that_were_held(kernel: str) -> None:
    sockets = recorded(kernel)
    ulps = [s.ulp for s in sockets if s.ulp is not None]
    assert Counter((u.version, u.cipher, u.tx, u.rx) for u in ulps) == HELD
    assert {u.name for u in ulps} == {"tls"}
    # the two other ends of the sockets that no key was taken for
    assert sum(s.ulp is None for s in sockets) == 2
    assert [u.cipher for u in ulps if u.no_pad_rx] == [52]
    limits = [u.tx_max_payload for u in ulps if u.tx_max_payload not in (None, 16384)]
    assert limits == ([512] if kernel.startswith("7.2") else [])
    sent = [s for s in sockets if s.ulp is not None and s.ulp.tx == TlsConf.SW and s.bytes_acked]
    assert all(1000 < (s.bytes_acked or 0) < 1100 for s in sent)
    assert len(sent) == 4
    assert {s.source for s in sockets if s.ulp is not None and s.ulp.cipher == 54} == {"::1"}
    assert len({s.cookie for s in sockets}) == len(sockets)


@pytest.mark.parametrize("kernel", ["6.1-user", "6.12-user"])
def test_before_615_the_same_sockets_are_shown_to_an_ordinary_user_without_their_ulp(kernel: str) -> None:
    sockets = recorded(kernel)
    assert len(sockets) == HELD.total() + 2
    assert all(s.ulp is None for s in sockets)
