# SPDX-License-Identifier: BSD-2-Clause
"""The BIO by itself, its traps one by one: BIO_read, BIO_write and BIO_ctrl on one end, a plain socket at the other."""

from __future__ import annotations

import ctypes as C
import errno
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from ktlsctl.datapath import Bio, Datapath, Library, NoRing, Policy, Reason, Stage, Step, _reason, open_ring
from ktlsctl.model import Direction
from tests.datapath.tls import Ossl, tcp_pair

RETRY_READ, RETRY_WRITE = 0x09, 0x0A
EOF_, PENDING, FLUSH, WPENDING, SET_KTLS, GET_SEND, GET_RECV, GET_FD = 2, 10, 11, 13, 72, 73, 76, 105
#: struct tls12_crypto_info_aes_gcm_128 with a key of zeros
INFO = struct.pack("=HH", 0x0304, 51) + bytes(36)


class Rig:
    """One BIO, never attached to an SSL, and the plain socket at its other end."""

    def __init__(self, ossl: Ossl, path: Datapath, **how: Any) -> None:
        self.ossl, self.path = ossl, path
        self.sock, self.peer = tcp_pair()
        self.bio: Bio = path.bio(self.sock.fileno(), **how)
        self.address = self.bio.address

    def read(self, count: int) -> bytes | int:
        buffer = C.create_string_buffer(max(count, 1))
        C.set_errno(0)
        n: int = self.ossl.BIO_read(self.address, buffer, count)
        return buffer.raw[:n] if n > 0 else n

    def write(self, data: bytes) -> int:
        C.set_errno(0)
        return int(self.ossl.BIO_write(self.address, data, len(data)))

    def ctrl(self, command: int, number: int = 0, pointer: Any = None) -> int:
        return int(self.ossl.BIO_ctrl(self.address, command, number, pointer))

    def set_ktls(self, tx: bool) -> int:
        return self.ctrl(SET_KTLS, int(tx), C.create_string_buffer(INFO, 64))

    def flags(self) -> int:
        return int(self.ossl.BIO_test_flags(self.address, 0x0F))

    def fill(self) -> int:
        """Write until the BIO takes no more, and the stack neither; how many bytes it took."""
        total = 0
        while True:
            moved = 0
            while (n := self.write(bytes(16384))) > 0:
                moved += n
            total += moved
            if C.get_errno() != errno.EAGAIN or not moved:
                return total
            self.path.wait([(self.bio, False, True)], 0.1)

    def close(self) -> None:
        self.bio.close()
        self.sock.close()
        self.peer.close()


@pytest.fixture
def rig(ossl: Ossl, path: Datapath) -> Iterator[Rig]:
    r = Rig(ossl, path, tx=Policy.OBSERVE, rx=Policy.OBSERVE, drain=0.2)
    yield r
    r.close()


def soon(condition: Any, seconds: float = 2.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


# ---- reading and writing


def test_retry_flags(rig: Rig) -> None:
    assert rig.read(5) == -1
    assert (rig.flags(), C.get_errno()) == (RETRY_READ, errno.EAGAIN)
    rig.peer.send(b"hello")
    rig.path.wait([(rig.bio, True, False)], 1)
    assert rig.read(5) == b"hello"
    assert rig.flags() == 0
    rig.fill()
    assert (rig.flags(), C.get_errno()) == (RETRY_WRITE, errno.EAGAIN)
    rig.peer.setblocking(True)
    rig.peer.recv(1 << 20)
    rig.path.wait([(rig.bio, False, True)], 1)
    assert rig.read(5) == -1
    assert rig.flags() == RETRY_READ, "the flag of the write is gone"
    rig.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    rig.peer.close()
    soon(lambda: rig.read(5) == -1 and rig.flags() == 0)


def test_reads_are_bounded_until_attached_and_finished(rig: Rig) -> None:
    rig.peer.send(bytes(range(100)))
    rig.path.wait([(rig.bio, True, False)], 1)
    assert rig.read(5) == bytes(range(5))
    assert rig.ctrl(PENDING) == 0
    assert rig.bio.stats().read_ahead == 0
    assert rig.sock.recv(200) == bytes(range(5, 100)), "the rest is still the socket's"


def test_end_of_file(rig: Rig) -> None:
    rig.peer.send(b"last")
    rig.peer.shutdown(socket.SHUT_WR)
    rig.path.wait([(rig.bio, True, False)], 1)
    assert rig.read(10) == b"last"
    assert rig.ctrl(EOF_) == 0
    soon(lambda: rig.read(10) == 0)
    assert rig.ctrl(EOF_) == 1
    assert rig.flags() == 0
    assert rig.read(10) == 0


def test_reset_is_an_error_not_an_end(rig: Rig) -> None:
    rig.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    rig.peer.close()
    rig.path.wait([(rig.bio, True, False)], 1)
    assert rig.read(10) == -1
    assert (C.get_errno(), rig.flags(), rig.ctrl(EOF_)) == (errno.ECONNRESET, 0, 0)
    assert rig.write(b"x") == -1
    assert (C.get_errno(), rig.flags()) == (errno.EPIPE, 0), "and no SIGPIPE"


def test_zero_length(rig: Rig) -> None:
    assert rig.write(b"") == 0
    assert rig.read(0) == 0


def test_backlog_arrives_in_order(rig: Rig) -> None:
    """What was accepted and not sent belongs to the BIO: the caller's memory may be reused at once."""
    rig.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2304)
    sent, got = bytearray(), bytearray()
    rig.peer.setblocking(False)
    n = 0
    for _ in range(80):
        block = C.create_string_buffer(os.urandom(5000), 5000)
        n = rig.ossl.BIO_write(rig.address, block, 5000)
        if n > 0:
            sent += block.raw[:n]
        C.memset(block, 0xEE, 5000)
        if n <= 0:
            assert rig.bio.stats().backlog > 0
            assert rig.ctrl(WPENDING) == rig.bio.stats().backlog
            got += rig.peer.recv(1 << 20)
            rig.path.wait([(rig.bio, False, True)], 1)
    rig.peer.settimeout(2)
    while len(got) < len(sent):
        rig.path.wait([(rig.bio, False, True)], 0)
        got += rig.peer.recv(1 << 20)
    assert got == sent
    assert rig.ctrl(FLUSH) == 1
    assert rig.path.stats().buffers_live == 0


def test_descriptor(rig: Rig) -> None:
    fd = C.c_int(-1)
    assert rig.ctrl(GET_FD, 0, C.byref(fd)) == rig.sock.fileno() == fd.value
    assert rig.ctrl(GET_FD) == fd.value
    kind = rig.ossl.BIO_method_type(rig.address)
    assert kind & 0x500 == 0x500, "source/sink and descriptor"


@pytest.mark.parametrize("command", [1, 3, 4, 5, 6, 7, 12, 77, 90, 100, 101, 104, 110, 12345])
def test_unknown_ctrl_is_zero(rig: Rig, command: int) -> None:
    """OpenSSL tests SET_KTLS and its kin for truth: -1 would be a yes."""
    assert rig.ctrl(command) == 0


# ---- the switch


def test_switch_to_rx_is_refused_with_bytes_read_ahead(ossl: Ossl, path: Datapath) -> None:
    """Trap 1: the kernel would never see them, and TLS 1.3 would read cipher text as plain text."""
    rig = Rig(ossl, path, tx=Policy.ACCEPT, rx=Policy.ACCEPT)
    ctx = ossl.SSL_CTX_new(ossl.TLS_method())
    ssl = ossl.SSL_new(ctx)
    rig.bio.attach(ssl)
    try:
        finished = C.CFUNCTYPE(C.c_int, C.c_void_p)(lambda _: 1)
        fake = {**ossl.addresses(), "SSL_is_init_finished": C.cast(finished, C.c_void_p).value or 0}
        with Library(fake) as other, Datapath(other) as plain:
            eager = Rig(ossl, plain, rx=Policy.ACCEPT)
            eager.bio.attach(second := ossl.SSL_new(ctx))
            eager.peer.send(b"0123456789")
            soon(lambda: eager.read(3) == b"012")
            assert eager.bio.stats().read_ahead == 7
            assert eager.ctrl(PENDING) == 7
            assert eager.set_ktls(tx=False) == 0
            event = eager.bio.events()[-1]
            assert (event.direction, event.step, event.leftover) == (Direction.RX, Step.LEFTOVER, 7)
            assert eager.ctrl(GET_RECV) == 0
            assert eager.read(100) == b"3456789", "and nothing is lost"
            eager.close()
            ossl.SSL_free(second)
    finally:
        rig.close()
        ossl.SSL_free(ssl)
        ossl.SSL_CTX_free(ctx)


def test_switch_to_tx_drains_first(rig: Rig) -> None:
    """Trap 2: what is queued must be in the socket before the first record of the kernel."""
    total = rig.fill()
    backlog = rig.bio.stats().backlog
    assert backlog > 0
    assert rig.ctrl(FLUSH) == 1, "owned bytes count as flushed while OpenSSL encrypts"
    before = time.monotonic()
    assert rig.set_ktls(tx=True) == 0
    assert 0.15 < time.monotonic() - before < 1
    event = rig.bio.events()[-1]
    assert (event.step, event.errno, event.leftover) == (Step.DRAIN, errno.ETIMEDOUT, backlog)
    got = bytearray()

    def slurp() -> None:
        rig.peer.settimeout(2)
        while len(got) < total:
            got.extend(rig.peer.recv(1 << 20))

    reader = threading.Thread(target=slurp)
    reader.start()
    assert rig.set_ktls(tx=True) == 0
    reader.join()
    event = rig.bio.events()[-1]
    assert (event.step, event.leftover) == (Step.OBSERVED, backlog)
    assert len(got) == total
    assert rig.bio.stats().backlog == 0


@pytest.mark.parametrize("tx", [True, False])
def test_operations_in_flight_are_reaped_before_a_switch(ossl: Ossl, ring_path: Datapath, tx: bool) -> None:
    """Trap 3."""
    rig = Rig(ossl, ring_path, tx=Policy.OBSERVE, rx=Policy.OBSERVE)
    assert ring_path.wait([(rig.bio, True, False)], 0.01) == (False,)
    assert rig.bio.stats().in_flight == 1
    rig.set_ktls(tx)
    event = rig.bio.events()[-1]
    assert (event.step, event.in_flight) == (Step.OBSERVED, 1)
    assert rig.bio.stats().in_flight == 0
    assert ring_path.stats().cancelled == 1
    rig.close()


def test_the_call_that_failed_is_told(ossl: Ossl, path: Datapath) -> None:
    rig = Rig(ossl, path)
    rig.ctrl(SET_KTLS, 1, C.create_string_buffer(struct.pack("=HH", 0x0304, 99), 64))
    assert rig.bio.events()[-1].step is Step.CIPHER
    rig.set_ktls(tx=True)
    assert rig.bio.events()[-1].step in (Step.ULP, Step.ACCEPTED)
    for _ in range(10):
        rig.ctrl(SET_KTLS, 1, C.create_string_buffer(struct.pack("=HH", 0x0304, 99), 64))
    stats = rig.bio.stats()
    assert (stats.events, stats.events_lost) == (8, 4)
    assert rig.ctrl(SET_KTLS, 1, None) == 0
    rig.close()


# ---- waiting


@pytest.mark.parametrize("timeout_option", [True, False])
def test_blocking_read_has_a_deadline(ossl: Ossl, path: Datapath, timeout_option: bool) -> None:
    """Trap 5: io_uring knows neither SO_RCVTIMEO nor O_NONBLOCK."""
    rig = Rig(ossl, path, wait=0.15)
    rig.sock.setblocking(True)
    if timeout_option:
        rig.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 60, 0))
    before = time.monotonic()
    assert rig.read(5) == -1
    assert 0.1 < time.monotonic() - before < 1
    assert (C.get_errno(), rig.flags()) == (errno.ETIMEDOUT, 0)
    assert rig.bio.stats().in_flight == 0
    threading.Timer(0.05, rig.peer.send, [b"later"]).start()
    assert rig.read(5) == b"later"
    rig.close()


def test_blocking_write_has_a_deadline(ossl: Ossl, path: Datapath) -> None:
    rig = Rig(ossl, path, wait=0.15, drain=0.05)
    rig.sock.setblocking(True)
    before = time.monotonic()
    rig.fill()
    assert 0.1 < time.monotonic() - before < 2
    assert (C.get_errno(), rig.flags()) == (errno.ETIMEDOUT, 0)
    assert rig.bio.stats().in_flight == 0
    rig.close()


def test_wait_has_a_deadline(rig: Rig) -> None:
    before = time.monotonic()
    assert rig.path.wait([(rig.bio, True, False)], 0.1) == (False,)
    assert 0.08 < time.monotonic() - before < 1
    assert rig.path.wait([(rig.bio, True, True)], 0.5) == (True,)


def test_full_submission_queue(ossl: Ossl, library: Library) -> None:
    """More waits than the queue has slots, and more completions than its ring."""
    ring = open_ring(2)
    assert not isinstance(ring, NoRing)
    with ring, Datapath(library, ring) as path:
        rigs = [Rig(ossl, path) for _ in range(40)]
        wanted = [(r.bio, True, False) for r in rigs]
        assert not any(path.wait(wanted, 0.01))
        assert path.stats().sq_full >= 19
        for r in rigs:
            r.peer.send(b"x")
        woken = [False] * 40
        deadline = time.monotonic() + 2
        while not all(woken):
            assert time.monotonic() < deadline
            for i, ready in enumerate(path.wait(wanted, 0.1)):
                if ready and rigs[i].read(1) == b"x":
                    woken[i] = True
        for r in rigs:
            r.close()
        assert path.stats().bios == 0


# ---- the end


def fin(sock: socket.socket, seconds: float) -> bool:
    sock.settimeout(seconds)
    try:
        return sock.recv(1) == b""
    except TimeoutError:
        return False


def test_close_with_an_operation_in_flight(ossl: Ossl, ring_path: Datapath) -> None:
    """Trap 7: a request pins the file, so close(2) alone sends no FIN; the BIO's close takes it back first."""
    rig = Rig(ossl, ring_path)
    ring_path.wait([(rig.bio, True, False)], 0.01)
    assert rig.bio.stats().in_flight == 1
    rig.sock.close()
    assert not fin(rig.peer, 0.1), "pinned; should this fail, the kernel has changed for the better"
    rig.bio.close()
    assert fin(rig.peer, 1)
    rig.close()


def test_close_with_a_send_in_flight(ossl: Ossl, path: Datapath) -> None:
    rig = Rig(ossl, path, drain=0.1)
    rig.fill()
    before = time.monotonic()
    rig.bio.close()
    assert 0.05 < time.monotonic() - before < 1
    stats = rig.bio.stats()
    assert (stats.in_flight, stats.backlog, stats.errno) == (0, 0, errno.ECANCELED)
    rig.close()


def test_cancel_keeps_unsent_bytes(ossl: Ossl, path: Datapath) -> None:
    rig = Rig(ossl, path, drain=2)
    total = rig.fill()
    backlog = rig.bio.stats().backlog
    assert rig.bio.cancel()
    assert rig.bio.stats().in_flight == 0
    assert rig.bio.stats().backlog == backlog
    got = 0
    rig.peer.settimeout(2)
    while got < total:
        got += len(rig.peer.recv(1 << 20))
        rig.path.wait([(rig.bio, False, True)], 0)
    assert got == total
    rig.close()


def test_ring_closed_before_its_bios(ossl: Ossl, library: Library) -> None:
    ring = open_ring()
    assert not isinstance(ring, NoRing)
    path = Datapath(library, ring)
    rig = Rig(ossl, path)
    path.wait([(rig.bio, True, False)], 0.01)
    ring.close()
    assert rig.read(5) == -1
    assert (C.get_errno(), rig.flags()) == (errno.EBADF, 0)
    with pytest.raises(OSError, match="Bad file descriptor"):
        path.wait([(rig.bio, True, False)], 1)
    rig.close()
    path.close()
    with pytest.raises(ValueError, match="closed"):
        Datapath(library, ring)


def test_fork(ossl: Ossl, ring_path: Datapath) -> None:
    """Trap 8: a child could use the inherited ring and take its parent's completions; it gets EOWNERDEAD."""
    rig = Rig(ossl, ring_path)
    ring_path.wait([(rig.bio, True, False)], 0.01)  # one operation in flight
    child = os.fork()
    if not child:
        status = 1
        try:
            ok = rig.read(5) == -1 and C.get_errno() == errno.EOWNERDEAD and rig.flags() == 0
            ok &= rig.write(b"from the child") == -1 and C.get_errno() == errno.EOWNERDEAD
            rig.bio.close()  # must neither hang nor cancel what is the parent's
            status = 0 if ok else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert rig.bio.stats().in_flight == 1
    rig.peer.send(b"hello")
    assert ring_path.wait([(rig.bio, True, False)], 1) == (True,)
    assert rig.read(5) == b"hello"
    rig.close()


# ---- no ring

SETUP, NOP = Stage.SETUP, Stage.NOP


@pytest.mark.parametrize(
    ("stage", "number", "sysctl", "seccomp", "reason"),
    [
        (Stage.BUILD, errno.ENOSYS, -1, -1, Reason.UNSUPPORTED),
        (SETUP, errno.ENOSYS, -1, 0, Reason.ABSENT),
        (SETUP, errno.ENOSYS, -1, 2, Reason.ABSENT),
        (SETUP, errno.ENOSYS, 0, 2, Reason.SECCOMP),
        (SETUP, errno.EPERM, 2, 0, Reason.SYSCTL),
        (SETUP, errno.EPERM, 2, 2, Reason.SYSCTL),
        (SETUP, errno.EPERM, 0, 2, Reason.SECCOMP),
        (SETUP, errno.EPERM, 0, 0, Reason.DENIED),
        (NOP, errno.EPERM, 0, 2, Reason.SECCOMP),
        (Stage.FEATURES, errno.ENOSYS, 0, 0, Reason.OLD),
        (SETUP, errno.EINVAL, 0, 0, Reason.OLD),
        (SETUP, errno.EMFILE, 0, 0, Reason.RESOURCES),
        (Stage.MMAP, errno.ENOMEM, 0, 0, Reason.RESOURCES),
        (NOP, errno.ETIMEDOUT, 0, 0, Reason.BROKEN),
    ],
)
def test_reason(stage: Stage, number: int, sysctl: int, seccomp: int, reason: Reason) -> None:
    assert _reason(stage, number, sysctl, seccomp) is reason


def test_no_descriptor_left(library: Library) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = os.open("/dev/null", os.O_RDONLY)
    os.close(highest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest, hard))
    try:
        none = open_ring()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert isinstance(none, NoRing)
    assert (none.reason, none.stage, none.errno) == (Reason.RESOURCES, SETUP, errno.EMFILE)


def test_ring_leaves_nothing_open() -> None:
    before = os.listdir("/proc/self/fd")
    for _ in range(50):
        ring = open_ring()
        assert not isinstance(ring, NoRing)
        ring.close()
        ring.close()
    assert os.listdir("/proc/self/fd") == before


def test_missing_symbol(ossl: Ossl) -> None:
    addresses = ossl.addresses()
    del addresses["BIO_new"]
    with pytest.raises(KeyError, match="BIO_new"):
        Library(addresses)
    with pytest.raises(RuntimeError):
        Library({**ossl.addresses(), "BIO_new": 0})


def test_four_libraries_at_a_time(ossl: Ossl, library: Library) -> None:
    more = [Library(ossl.addresses()) for _ in range(3)]
    with pytest.raises(RuntimeError):
        Library(ossl.addresses())
    for other in more:
        other.close()
    Library(ossl.addresses()).close()
