# SPDX-License-Identifier: BSD-2-Clause
"""Real sessions of the system's libssl over the datapath; needs no kernel TLS, only that OpenSSL asks for it."""

from __future__ import annotations

import contextlib
import ctypes as C
import errno
import fcntl
import os
import platform
import socket
import struct
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ktlsctl.datapath import Datapath, Event, Policy, Step
from ktlsctl.model import Direction
from tests.datapath.tls import SYSCALL, TLS12, TLS13, End, Ossl, Session, TlsError

GCM12, GCM13 = (TLS12, "ECDHE-ECDSA-AES128-GCM-SHA256"), (TLS13, "TLS_AES_128_GCM_SHA256")
OBSERVE = {"tx": Policy.OBSERVE, "rx": Policy.OBSERVE}

# Which suites libssl asks the kernel for; 3.0 and 3.1 never ask for TLS 1.3 RX nor for TLS 1.3 CCM.
ASKED = (
    (TLS12, "ECDHE-ECDSA-AES128-GCM-SHA256", 51),
    (TLS12, "ECDHE-ECDSA-AES256-GCM-SHA384", 52),
    (TLS12, "ECDHE-ECDSA-CHACHA20-POLY1305", 54),
    (TLS12, "ECDHE-ECDSA-AES128-CCM", 53),
    (TLS12, "ECDHE-ECDSA-AES256-CCM", None),
    (TLS12, "ECDHE-ECDSA-AES128-SHA256", None),
    (TLS13, "TLS_AES_128_GCM_SHA256", 51),
    (TLS13, "TLS_AES_256_GCM_SHA384", 52),
    (TLS13, "TLS_CHACHA20_POLY1305_SHA256", 54),
    (TLS13, "TLS_AES_128_CCM_SHA256", 53),
)


def old(ossl: Ossl) -> bool:
    return bool(ossl.version.startswith(("OpenSSL 3.0.", "OpenSSL 3.1.")))


@contextlib.contextmanager
def session(ossl: Ossl, pem: Path, path: Datapath | None, suite: tuple[int, str], **how: Any) -> Iterator[Session]:
    with Session(ossl, *suite, pem, path, **how) as s:
        s.handshake()
        yield s


def events(end: End) -> tuple[Event, ...]:
    assert end.bio
    return end.bio.events()


def read_to_the_end(s: Session, end: End) -> None:
    while end.read() is None:
        s.wait([end])


def both_ways(s: Session, size: int = 200_000, chunk: int = 16384) -> None:
    data = os.urandom(size)
    for a, b in ((s.client, s.server), (s.server, s.client)):
        assert s.transfer(a, b, data, chunk) == data


@pytest.mark.parametrize(("version", "suite", "cipher"), ASKED)
def test_probe(ossl: Ossl, pem: Path, path: Datapath, version: int, suite: str, cipher: int | None) -> None:
    """SET_KTLS arrives exactly for what the library offloads; refused, the session goes on in user space."""
    with session(ossl, pem, path, (version, suite), client=OBSERVE, server=OBSERVE) as s:
        both_ways(s)
        s.shutdown()
        for end in s.ends:
            assert end.bio is not None
            events = end.bio.events()
            expected = {Direction.TX, Direction.RX} if cipher else set()
            if version == TLS13 and old(ossl):
                expected = {Direction.TX} if cipher and cipher != 53 else set()
            assert {e.direction for e in events} == expected
            assert len(events) == len(expected)
            for e in events:
                assert (e.version, e.cipher_type, e.step, e.errno) == (version, cipher, Step.OBSERVED, 0)
                assert e.leftover == 0, "no byte may be read ahead while the kernel may take over"
            assert end.ktls() == (False, False)


def test_never_asked_without_the_option(ossl: Ossl, pem: Path, path: Datapath) -> None:
    with session(ossl, pem, path, GCM12, client=OBSERVE, ktls=False) as s:
        assert events(s.client) == ()


@pytest.mark.skipif(
    platform.system() == "Linux" and "tls" in Path("/proc/sys/net/ipv4/tcp_available_ulp").read_text().split(),
    reason="this kernel has TLS: the lab's tests cover that",
)
@pytest.mark.parametrize("suite", [GCM12, GCM13])
def test_kernel_without_tls_falls_back(ossl: Ossl, pem: Path, path: Datapath, suite: tuple[int, str]) -> None:
    """The call and the errno that refused are told; the bytes flow."""
    with session(ossl, pem, path, suite) as s:
        both_ways(s)
        s.shutdown()
        for end in s.ends:
            assert end.bio is not None
            assert end.bio.events()
            assert {(e.step, e.errno) for e in end.bio.events()} == {(Step.ULP, errno.ENOENT)}


def test_policy_refuse(ossl: Ossl, pem: Path, path: Datapath) -> None:
    with session(ossl, pem, path, GCM12, client={"tx": Policy.REFUSE}, server=OBSERVE) as s:
        assert s.client.bio
        steps = {e.direction: e.step for e in s.client.bio.events()}
        assert steps[Direction.TX] is Step.POLICY
        both_ways(s, 1000)


@pytest.mark.parametrize("chunk", [1, 999, 16384, 16385])
@pytest.mark.parametrize("suite", [GCM12, GCM13])
def test_sizes(ossl: Ossl, pem: Path, path: Datapath, suite: tuple[int, str], chunk: int) -> None:
    with session(ossl, pem, path, suite) as s:
        both_ways(s, min(300_000, chunk * 300), chunk)
        s.shutdown()
        assert path.stats().buffers_live == 0, "an idle connection holds no buffer"


@pytest.mark.parametrize("suite", [GCM12, GCM13])
def test_tiny_send_buffer(ossl: Ossl, pem: Path, path: Datapath, suite: tuple[int, str]) -> None:
    """Short sends and both ends in one thread."""
    with session(ossl, pem, path, suite, sndbuf=2304, client=OBSERVE, server=OBSERVE) as s:
        both_ways(s)
        s.shutdown()


def test_reads_more_only_after_the_handshake(ossl: Ossl, pem: Path, path: Datapath) -> None:
    def calls() -> int:
        return path.stats().calls + path.stats().enters

    with session(ossl, pem, path, GCM13) as s:
        data = bytes(16 * 16384)
        s.transfer(s.client, s.server, data[:100_000])
        before = calls()
        held = (C.c_char * len(data)).from_buffer_copy(data)
        for i in range(4):
            assert s.client.write(held, i * 16384, 16384)
        got = 0
        while got < 4 * 16384:
            got += len(s.server.read(65536) or b"")
        assert calls() - before <= 4 + 3, "four sends and at most three receives instead of eight"


def test_server_data_right_behind_its_finished(ossl: Ossl, pem: Path, path: Datapath) -> None:
    """Application data in the segment of the Finished: bounded reads leave it for whoever decrypts it."""
    with Session(ossl, *GCM13, pem, path, client=OBSERVE, server=OBSERVE) as s:
        payload = (C.c_char * 100).from_buffer_copy(os.urandom(100))
        assert s.client.handshake() is None
        assert s.server.handshake() is None
        while s.client.handshake() is None:
            pass
        assert s.client.write(payload, 0, 100) == 100  # behind the client's Finished
        while s.server.handshake() is None:
            pass
        while (got := s.server.read()) is None:
            pass
        assert got == payload.raw
        for end in s.ends:
            assert end.bio
            assert all(e.leftover == 0 for e in end.bio.events())


def test_buffers_shrink_at_a_record_edge(ossl: Ossl, pem: Path, path: Datapath) -> None:
    with session(ossl, pem, path, GCM13) as s:
        s.transfer(s.client, s.server, bytes(500_000))  # reads in large pieces by now
        small = (C.c_char * 50)()
        for _ in range(40):
            assert s.client.write(small, 0, 50) == 50
        assert s.server.bio
        arrived = C.c_int()
        while arrived.value < 40 * 72:  # the stack may take its time
            fcntl.ioctl(s.server.sock, termios.FIONREAD, arrived)
        for left in range(39, -1, -1):
            assert s.server.read(50) == bytes(50)
            assert bool(s.server.bio.stats().read_ahead) == bool(left)
            assert path.stats().buffers_live == (1 if left else 0)
        assert path.stats().buffers_cached <= 6


def test_key_update_in_user_space(ossl: Ossl, pem: Path, path: Datapath) -> None:
    with session(ossl, pem, path, GCM13, client=OBSERVE, server=OBSERVE) as s:
        both_ways(s)
        assert ossl.SSL_key_update(s.client.ssl, 1) == 1
        both_ways(s)


def test_end_of_file_without_close_notify(ossl: Ossl, pem: Path, path: Datapath) -> None:
    with session(ossl, pem, path, GCM12) as s:
        s.client.sock.shutdown(socket.SHUT_WR)
        with pytest.raises(TlsError) as caught:
            read_to_the_end(s, s.server)
        assert s.server.bio
        assert s.server.bio.stats().eof
        if ossl.version.startswith("OpenSSL 3."):
            assert "unexpected eof" in str(caught.value.queue)


def reset(end: End) -> None:
    end.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if end.bio:
        end.bio.close()
    end.sock.close()


def test_reset(ossl: Ossl, pem: Path, path: Datapath) -> None:
    with session(ossl, pem, path, GCM12) as s:
        reset(s.client)
        with pytest.raises(TlsError) as caught:
            read_to_the_end(s, s.server)
        assert (caught.value.code, caught.value.errno) == (SYSCALL, errno.ECONNRESET)
        assert s.server.bio
        assert not s.server.bio.stats().eof


def carry_on(s: Session, survivor: End, done: set[End]) -> None:
    while True:
        if survivor not in done and survivor.handshake():
            done.add(survivor)
        elif survivor in done:
            survivor.read()
        survivor.wants = (True, False)
        s.wait([survivor])


@pytest.mark.parametrize("suite", [GCM12, GCM13])
@pytest.mark.parametrize("victim", [0, 1])
def test_reset_at_every_step_of_the_handshake(
    ossl: Ossl, pem: Path, path: Datapath, suite: tuple[int, str], victim: int
) -> None:
    for step in range(12):
        with Session(ossl, *suite, pem, path, client=OBSERVE, server=OBSERVE, timeout=5) as s:
            done: set[End] = set()
            for turn in range(step):
                end = s.ends[turn % 2]
                if end not in done and end.handshake():
                    done.add(end)
            reset(s.ends[victim])
            survivor = s.ends[1 - victim]
            with pytest.raises(TlsError) as caught:
                carry_on(s, survivor, done)
            assert caught.value.errno in (errno.ECONNRESET, errno.EPIPE, 0)
        if len(done) == 2:
            break
    else:
        raise AssertionError("the handshake took more steps than expected")


def test_the_ssl_may_outlive_the_handle(ossl: Ossl, pem: Path, path: Datapath) -> None:
    s = Session(ossl, *GCM12, pem, path)
    s.handshake()
    for end in s.ends:
        ossl.SSL_free(end.ssl)
        assert end.bio
        assert end.bio.address == 0
        assert end.bio.stats().closed
        assert end.bio.events()
        end.bio.close()
        assert end.bio.events(), "still there after close"
        end.sock.close()


def test_closed_bio_answers(ossl: Ossl, pem: Path, path: Datapath) -> None:
    with session(ossl, pem, path, GCM12) as s:
        assert s.client.bio
        s.client.bio.close()
        with pytest.raises(TlsError) as caught:
            s.client.read()
        assert caught.value.errno == errno.EBADF


def test_sendfile_needs_the_descriptor_type(ossl: Ossl, pem: Path, path: Datapath, tmp_path: Path) -> None:
    """SSL_get_wfd finds the socket; without kTLS SSL_sendfile says no in an orderly way."""
    with session(ossl, pem, path, GCM12) as s:
        assert ossl.SSL_get_wfd(s.client.ssl) == s.client.sock.fileno()
        sendfile = getattr(ossl, "SSL_sendfile", None)
        if sendfile is None:
            pytest.skip("this libssl has no SSL_sendfile")
        file = tmp_path / "file"
        file.write_bytes(b"x" * 1000)
        with file.open("rb") as f:
            assert sendfile(s.client.ssl, f.fileno(), 0, 1000, 0) == -1
        ossl.ERR_clear_error()
        both_ways(s, 1000)


def test_many_connections_share_a_ring(ossl: Ossl, pem: Path, path: Datapath) -> None:
    with contextlib.ExitStack() as stack:
        sessions = [stack.enter_context(session(ossl, pem, path, GCM13)) for _ in range(20)]
        for s in sessions:
            both_ways(s, 50_000)
        assert path.stats().buffers_live == 0
        assert path.stats().bios == 40
