# SPDX-License-Identifier: BSD-2-Clause
"""Real TLS sessions on loopback, for the self-test: what each witness said, without any judgement.

This is the child's side of selftest.py.  `probe` runs in a clean child (child.py), opens the one libssl, makes its
throw-away certificates in memory, and forks once per session: a crash or a hang of the library is one failed cell, and
the next one still runs.  Each session's process has a network namespace of its own where that is allowed, so that the
kernel's counters are its own too.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from ktlsctl import datapath, evidence, freebsdkernel
from ktlsctl.ciphers import bulk_cipher
from ktlsctl.codec import decode, encode
from ktlsctl.facts import capability, ktlsgauges, tlsstat
from ktlsctl.libssl import SSL_OP_ENABLE_KTLS, Context, Libssl, TlsError
from ktlsctl.model import Direction, TlsVersion
from ktlsctl.servant import die_with_parent, signal_name
from ktlsctl.sessionfacts import EndWords, Handover, Order, SelftestFacts, SessionFacts, Way, WitnessFacts

MAX_RECORD = 16384
#: Write sizes around the record's edge come first; the rest of the payload follows in these, over and over.
WRITE_SIZES = (1, MAX_RECORD - 1, MAX_RECORD, MAX_RECORD + 1, 777, 3 * MAX_RECORD)


# ---- what a session runs on


class Road:
    """The datapath of one session: a ring and the custom BIO's home, or neither for OpenSSL's own socket BIO."""

    def __init__(self, ring: datapath.Ring | None, path: datapath.Datapath | None, reason: str) -> None:
        self._ring = ring
        self.path = path
        #: why there is no io_uring; empty where there is
        self.reason = reason
        self.name = Way.SOCKET if path is None else Way.IO_URING

    @staticmethod
    def open(libssl: Libssl, way: Way) -> Road:
        if way is Way.SOCKET:
            return Road(None, None, "the socket datapath was asked for")
        ring = datapath.open_ring()
        if isinstance(ring, datapath.NoRing):
            return Road(None, None, str(ring))
        library = datapath.Library(libssl.addresses(datapath.SYMBOLS))
        return Road(ring, datapath.Datapath(library, ring), "")

    def close(self) -> None:
        if self.path is not None:
            self.path.close()
        if self._ring is not None:
            self._ring.close()


class Pair:
    """Two ends of one TCP connection over loopback, non-blocking; closed by `close()`."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=8) as listener:
            while True:
                self.client = socket.create_connection(listener.getsockname(), timeout=5)
                listener.settimeout(5)
                self.server, peer = listener.accept()
                if peer == self.client.getsockname():
                    break
                # Somebody else on this host was quicker: not our connection.
                self.client.close()
                self.server.close()
        for end in (self.client, self.server):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        self.client.close()
        self.server.close()


class End:
    """One TLS end on a socket, over the custom BIO of `path` or, without one, over OpenSSL's own socket BIO."""

    def __init__(self, context: Context, sock: socket.socket, path: datapath.Datapath | None) -> None:
        self.sock = sock
        self.bio = None if path is None else path.bio(sock.fileno())
        self.session = context.unbound()
        if self.bio is None:
            self.session.set_fd(sock.fileno())
        else:
            self.bio.attach(self.session.address)

    def close(self) -> None:
        # In this order: an operation in flight pins the file, and the peer would see no FIN.
        if self.bio is not None:
            self.bio.close()
        self.session.free()
        self.sock.close()

    def handover(self, direction: Direction) -> Handover | None:
        if self.bio is None:
            return None
        for event in self.bio.events():
            if event.direction is direction:
                return Handover(event.step.value, event.accepted, event.errno, event.leftover)
        return None


class Deadline:
    def __init__(self, seconds: float) -> None:
        self._at = time.monotonic() + seconds

    @property
    def left(self) -> float:
        return self._at - time.monotonic()


def _wait(ends: tuple[End, ...], path: datapath.Datapath | None, deadline: Deadline, doing: str) -> None:
    """Until one of the ends may go on.  Raises TlsError at the deadline."""
    left = deadline.left
    if left <= 0:
        raise TlsError(f"deadline passed while {doing}")
    if path is not None:
        path.wait([(e.bio, True, e.session.wants_write) for e in ends if e.bio is not None], min(left, 1.0))
        return
    poll = select.poll()
    for end in ends:
        poll.register(end.sock, select.POLLIN | (select.POLLOUT if end.session.wants_write else 0))
    poll.poll(min(left, 1.0) * 1000)


def _drive(
    ends: tuple[End, ...],
    path: datapath.Datapath | None,
    deadline: Deadline,
    doing: str,
    step: Callable[[], bool | None],
) -> None:
    """Call `step` until it says True; None means that nothing moved, so that waiting is due."""
    while True:
        done = step()
        if done:
            return
        if done is None:
            _wait(ends, path, deadline, doing)


def handshake(ends: tuple[End, ...], path: datapath.Datapath | None, deadline: Deadline) -> None:
    def step() -> bool | None:
        finished = [end.session.handshake() for end in ends]  # every end, whatever the first says
        return all(finished) or None

    _drive(ends, path, deadline, "shaking hands", step)


class Stream:
    """A payload on its way: how far the sender is, what the receiver has hashed."""

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self.sent = 0
        self.records = 0
        self.received = 0
        self._turn = 0
        self._hash = _sha256()

    def send(self, end: End) -> bool:
        """Write as long as the library takes it; whether anything moved."""
        moved = False
        while self.sent < len(self.payload):
            size = min(WRITE_SIZES[self._turn % len(WRITE_SIZES)], len(self.payload) - self.sent)
            # The same address and length on every retry: OpenSSL asks for it, and 3.0 with kernel TX corrupts data
            # silently when a retry comes from elsewhere (openssl issue 21202).
            if not end.session.write_at(self.payload, self.sent, size):
                break
            self._turn += 1
            self.sent += size
            self.records += -(-size // MAX_RECORD)
            moved = True
        return moved

    def receive(self, end: End) -> bool:
        moved = False
        while self.received < len(self.payload):
            data = end.session.read_some(MAX_RECORD * 2)
            if not data:
                break
            self.arrived(data)
            moved = True
        return moved

    def arrived(self, data: bytes) -> None:
        self._hash.update(data)
        self.received += len(data)

    @property
    def done(self) -> bool:
        return self.sent == len(self.payload) and self.received >= len(self.payload)

    @property
    def intact(self) -> bool:
        expected = _sha256()
        expected.update(self.payload)
        return self.received == len(self.payload) and self._hash.digest() == expected.digest()


def transfer(
    ends: tuple[End, End], path: datapath.Datapath | None, deadline: Deadline, up: bytes, down: bytes
) -> tuple[Stream, Stream]:
    """`up` from the client (ends[1]) to the server, `down` the other way, at the same time."""
    server, client = ends
    to_server, to_client = Stream(up), Stream(down)

    def step() -> bool | None:
        moved = [
            to_server.send(client), to_client.send(server), to_server.receive(server), to_client.receive(client)
        ]  # fmt: skip
        return (to_server.done and to_client.done) or (False if any(moved) else None)

    _drive(ends, path, deadline, "moving data", step)
    return to_server, to_client


def _sha256() -> Any:
    """CPython's own SHA-256: importing hashlib would map the system's libcrypto beside the one under test."""
    try:
        module = importlib.import_module("_sha2")  # 3.12 and later
    except ImportError:
        module = importlib.import_module("_sha256")  # 3.11
    return module.sha256()


# ---- one session, all witnesses


def _sequence(end: End, direction: Direction) -> int | None:
    try:
        return datapath.record_sequence(end.sock.fileno(), direction)
    except OSError:
        return None


def _counters() -> Mapping[str, int]:
    """The kernel's own, by its own names; on FreeBSD those of all sockets of the system."""
    if sys.platform != "linux":
        return freebsdkernel.numbers(freebsdkernel.LiveCalls(), (ktlsgauges.OFFLOAD_TOTAL, *ktlsgauges.TROUBLE))
    try:
        with open(tlsstat.PATH, "rb") as file:
            return tlsstat.parse(file.read())
    except (OSError, tlsstat.NotCounters):
        return {}


def run_session(
    contexts: tuple[Context, Context], order: Order, version: TlsVersion, suite: str, alone: str
) -> SessionFacts:
    """Both ends of one session in this process.  `alone`: why there is no network namespace of our own, or empty."""
    if not alone:
        enter_own_namespace()
    road = Road.open(contexts[0].libssl, order.datapath)
    path = road.path
    facts: dict[str, Any] = {
        "version": version, "suite": suite, "datapath": road.name, "own_namespace": not alone,
        "namespace_reason": alone, "bytes_each_way": order.size,
    }  # fmt: skip
    before = _counters()
    pair = Pair()
    ends: list[End] = []
    deadline = Deadline(order.timeout)
    try:
        ends = [End(contexts[0], pair.server, path), End(contexts[1], pair.client, path)]
        both = (ends[0], ends[1])
        for end in both:
            end.session.force(version, suite)
        handshake(both, path, deadline)
        facts["agreed"] = " ".join(both[0].session.agreed())
        # Tickets are records too: read them before records are counted.
        transfer(both, path, deadline, b"?", b"!")
        opening = {(e, d): _sequence(e, d) for e in both for d in Direction}
        noise = random.Random(order.seed)
        up, down = transfer(both, path, deadline, noise.randbytes(order.size), noise.randbytes(order.size))
        facts["sha256_ok"] = up.intact and down.intact
        facts["counters"] = {k: v - before.get(k, 0) for k, v in _counters().items()}
        # Both directions of both ends: the client's TX carries `up`, and so does the server's RX.
        for role, end, sends, receives in (("server", both[0], down, up), ("client", both[1], up, down)):
            for direction, stream in ((Direction.TX, sends), (Direction.RX, receives)):
                facts[f"{role}_{direction}"] = _words(end, direction, opening[end, direction], stream.records)
        facts["clean_close"] = _close_both(both, path, deadline)
    except (TlsError, OSError) as error:
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
    closing = _sequence(end, direction)
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
        _drive(ends, path, deadline, "closing", step)
        return True
    return False


# ---- a network namespace of one's own


def enter_own_namespace() -> None:
    """A new network namespace with loopback up, where the counters of tls_stat are ours alone.

    Always together with a user namespace, also for root: the capabilities in there are none in the first one, so
    sock_diag tells all and nothing can make the kernel load a module.  Raises OSError where that is not allowed.  Call
    it in a forked child only: without loopback the process is of no further use.
    """
    import ctypes
    import fcntl

    libc = ctypes.CDLL(None, use_errno=True)
    newnet, newuser = 0x40000000, 0x10000000  # CLONE_NEW* of linux/sched.h
    if libc.unshare(newuser | newnet) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        # SIOCSIFFLAGS with IFF_UP | IFF_RUNNING
        fcntl.ioctl(control, 0x8914, struct.pack("16sH22x", b"lo", 0x41))


def _namespace_trial() -> str:
    """Why no namespace of our own can be had here; empty where it can."""
    if sys.platform != "linux":
        return "network namespaces are Linux's"

    def trial() -> str:
        try:
            enter_own_namespace()
        except OSError as error:
            return error.strerror or str(error)
        return ""

    ((answer, failure),) = in_children([trial], 10.0, 1)
    return failure or str(answer)


# ---- one process a session


class Fork:
    """`work()` in a forked child: its value as JSON, or why there is none (the signal, the deadline)."""

    def __init__(self, work: Callable[[], Any], seconds: float) -> None:
        self._seconds = seconds
        self.deadline = Deadline(seconds)
        self._content = b""
        self.reader, writer = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self.reader)
            die_with_parent()
            try:
                document = json.dumps({"value": encode(work())}).encode()
            except BaseException as error:
                document = json.dumps({"failed": f"{type(error).__name__}: {error}"}).encode()
            while document:
                document = document[os.write(writer, document) :]
            os._exit(0)
        os.close(writer)

    def take(self) -> bool:
        """Read what is there; whether the child has said everything."""
        piece = os.read(self.reader, 65536)
        self._content += piece
        return not piece

    def finish(self, late: bool) -> tuple[Any, str]:
        """Reap it, killed first if it is `late`: its value and no failure, or none and the failure."""
        os.close(self.reader)
        if late:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
        _, status = os.waitpid(self._pid, 0)
        if late:
            return None, f"no answer within {self._seconds:g} s"
        if os.WIFSIGNALED(status):
            return None, f"the library died of {signal_name(os.WTERMSIG(status))}"
        if not self._content:
            return None, f"the session's process ended with status {os.waitstatus_to_exitcode(status)} and no answer"
        reply = json.loads(self._content)
        return reply.get("value"), reply.get("failed", "")


def in_children(works: Sequence[Callable[[], Any]], seconds: float, width: int) -> list[tuple[Any, str]]:
    """Every work in a forked child of its own with `seconds` to do it, `width` at a time; answers in the same order."""
    answers: list[tuple[Any, str]] = [(None, "not run")] * len(works)
    waiting = list(enumerate(works))[::-1]
    running: dict[int, Fork] = {}
    poll = select.poll()
    while waiting or running:
        while waiting and len(running) < width:
            at, work = waiting.pop()
            running[at] = Fork(work, seconds)
            poll.register(running[at].reader, select.POLLIN)
        soonest = min(fork.deadline.left for fork in running.values())
        ready = {fd for fd, _ in poll.poll(max(0.0, soonest) * 1000)}
        for at, fork in list(running.items()):
            late = fork.deadline.left <= 0
            if late or (fork.reader in ready and fork.take()):
                poll.unregister(fork.reader)
                answers[at] = fork.finish(late)
                del running[at]
    return answers


# ---- the witness: TLS in user space, by another OpenSSL


class Witness:
    """A TLS client of pyOpenSSL on memory BIOs: what it sends and gets are the bytes on the wire themselves."""

    def __init__(self, version: TlsVersion, suite: str) -> None:
        from OpenSSL import SSL

        self._ssl = SSL
        self.name = SSL.OpenSSL_version(SSL.OPENSSL_VERSION).decode("ascii", "replace")
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_verify(SSL.VERIFY_NONE, lambda *_: True)
        context.set_min_proto_version(version.wire)
        context.set_max_proto_version(version.wire)
        if version is TlsVersion.TLS12:
            context.set_cipher_list(suite.encode())
        else:
            _choose_tls13(context, suite)
        self._connection = SSL.Connection(context, None)
        self._connection.set_connect_state()
        self._shaken = False
        self._pending = memoryview(b"")

    def agreed(self) -> str:
        return str(self._connection.get_cipher_name())

    def feed(self, wire: bytes) -> None:
        view = memoryview(wire)
        while view:
            view = view[self._connection.bio_write(bytes(view[:65536])) :]

    def handshake(self) -> bool:
        if not self._shaken:
            try:
                self._connection.do_handshake()
                self._shaken = True
            except self._ssl.WantReadError:
                pass
            except self._ssl.Error as error:
                raise TlsError(f"the witness refused: {_reasons(error)}") from None
        return self._shaken

    def read(self) -> bytes:
        try:
            return bytes(self._connection.recv(MAX_RECORD))
        except (self._ssl.WantReadError, self._ssl.ZeroReturnError):
            return b""
        except self._ssl.Error as error:
            raise TlsError(f"the witness could not decrypt: {_reasons(error)}") from None

    def write(self, data: bytes) -> None:
        self._connection.sendall(data)

    def wire(self) -> bytes:
        """What it wants to send."""
        pieces = []
        while True:
            try:
                pieces.append(self._connection.bio_read(65536))
            except self._ssl.WantReadError:
                return b"".join(pieces)


def _choose_tls13(context: Any, suite: str) -> None:
    """Offer this suite only.  Before pyOpenSSL had a method for it, its binding had the function at least."""
    chooser = getattr(context, "set_tls13_ciphersuites", None)
    if chooser is not None:
        chooser(suite.encode())
        return
    from OpenSSL import _util

    choose = getattr(_util.lib, "SSL_CTX_set_ciphersuites", None)
    if choose is None or choose(context._context, suite.encode()) != 1:
        raise LookupError("this pyOpenSSL cannot choose TLS 1.3 suites")


def _reasons(error: Exception) -> str:
    queue = error.args[0] if error.args and isinstance(error.args[0], list) else []
    return ", ".join(str(entry[-1]) for entry in queue) or str(error) or type(error).__name__


def _import_witness() -> None:
    """Once, before the forks; where it cannot be imported each run says so."""
    with suppress(ImportError):
        import OpenSSL.SSL  # noqa: F401


class Wire:
    """One direction's bytes as they cross: framed as TLS records, and searched for what must not be seen there."""

    def __init__(self, payload: bytes) -> None:
        step = max(1, len(payload) // 16)
        self._marks = [payload[at : at + 16] for at in range(0, max(1, len(payload) - 16), step)]
        self._buffer = bytearray()
        self._tail = b""
        self.records = 0
        self.framing_ok = True
        self.leaked = False

    def see(self, data: bytes) -> None:
        window = self._tail + data
        self.leaked = self.leaked or any(mark in window for mark in self._marks)
        self._tail = window[-15:]
        self._buffer += data
        # RFC 8446 section 5.2: at most 2^14 + 256 bytes of ciphertext (TLS 1.2: 2^14 + 2048)
        while len(self._buffer) >= 5:
            kind, major, _minor, length = struct.unpack_from(">BBBH", self._buffer)
            if kind not in (20, 21, 22, 23) or major != 3 or length > MAX_RECORD + 2048:
                self.framing_ok = False
                self._buffer.clear()
                return
            if len(self._buffer) < 5 + length:
                return
            del self._buffer[: 5 + length]
            self.records += 1

    @property
    def whole(self) -> bool:
        return self.framing_ok and not self._buffer


def run_witness(context: Context, order: Order, version: TlsVersion, suite: str) -> WitnessFacts:
    """The subject serves over its datapath; the witness is the client.  Payloads cross both ways, hashes compared."""
    facts: dict[str, Any] = {
        "version": version, "suite": suite, "witness": "", "bytes_each_way": order.witness_size,
    }  # fmt: skip
    try:
        witness = Witness(version, suite)
    except Exception as error:
        return WitnessFacts(**facts, unavailable=f"pyOpenSSL cannot offer it: {_reasons(error)}")
    facts["witness"] = witness.name
    road = Road.open(context.libssl, order.datapath)
    path = road.path
    noise = random.Random(order.seed + 1)
    down, up = Stream(noise.randbytes(order.witness_size)), Stream(noise.randbytes(order.witness_size))
    to_witness, from_witness = Wire(down.payload), Wire(up.payload)
    pair = Pair()
    end: End | None = None
    deadline = Deadline(order.timeout)
    outbound = bytearray()
    try:
        end = End(context, pair.server, path)
        subject = end
        subject.session.force(version, suite)

        def pump() -> bool:
            """Wire bytes both ways between the socket's other end and the witness; whether any moved."""
            moved = False
            with suppress(BlockingIOError):
                while data := pair.client.recv(65536):
                    to_witness.see(data)
                    witness.feed(data)
                    moved = True
            outbound.extend(witness.wire())
            with suppress(BlockingIOError):
                while outbound:
                    sent = pair.client.send(outbound)
                    from_witness.see(bytes(outbound[:sent]))
                    del outbound[:sent]
                    moved = True
            return moved

        def shake() -> bool | None:
            done = [subject.session.handshake(), witness.handshake()]
            moved = pump()
            return (all(done) and not outbound) or (False if moved else None)

        _drive_against_wire(subject, pair.client, deadline, "shaking hands with the witness", shake)
        if witness.agreed() != suite:
            raise TlsError(f"the witness agreed on {witness.agreed()} instead")

        def step() -> bool | None:
            moved = down.send(subject)
            moved = up.receive(subject) or moved
            if up.sent < len(up.payload) and len(outbound) < 4 * MAX_RECORD:
                size = min(WRITE_SIZES[up.records % len(WRITE_SIZES)], len(up.payload) - up.sent)
                witness.write(up.payload[up.sent : up.sent + size])
                up.sent += size
                up.records += 1
                moved = True
            moved = pump() or moved
            while data := witness.read():
                down.arrived(data)
                moved = True
            return (down.done and up.done) or (False if moved else None)

        _drive_against_wire(subject, pair.client, deadline, "moving data to and from the witness", step)
        facts |= {
            "to_witness_ok": down.intact, "from_witness_ok": up.intact,
            "framing_ok": to_witness.whole and from_witness.whole,
            "leaked": to_witness.leaked or from_witness.leaked,
            "records": to_witness.records + from_witness.records,
            "tx_armed": subject.session.ktls(Direction.TX), "rx_armed": subject.session.ktls(Direction.RX),
        }  # fmt: skip
    except (TlsError, OSError) as error:
        facts["failure"] = str(error)
    finally:
        if end is not None:
            end.close()
        pair.close()
        road.close()
    return WitnessFacts(**facts)


def _drive_against_wire(
    end: End, other: socket.socket, deadline: Deadline, doing: str, step: Callable[[], bool | None]
) -> None:
    """Like `_drive`, where the other end is a bare socket: sleeps are on the sockets, never on the ring alone."""
    poll = select.poll()
    while True:
        done = step()
        if done:
            return
        if done is None:
            if deadline.left <= 0:
                raise TlsError(f"deadline passed while {doing}")
            poll.register(end.sock, select.POLLIN | (select.POLLOUT if end.session.wants_write else 0))
            poll.register(other, select.POLLIN)
            poll.poll(20)


# ---- the probe


def offered(context: Context, versions: tuple[TlsVersion, ...]) -> tuple[tuple[TlsVersion, str, str], ...]:
    """Every suite of these versions that this library offers and that needs no more than a certificate: version,
    OpenSSL's name, bulk cipher."""
    return tuple(
        (TlsVersion(version), name, bulk_cipher(name)) for version, name in context.suites() if version in set(versions)
    )


def probe(argument: Any) -> Any:
    """The self-test child: an `Order` in, `SelftestFacts` out, both as JSON."""
    order = decode(Order, argument)
    if sys.platform == "linux":
        capability.drop_net_admin()  # attaching the ULP must not load the module
    libssl = Libssl(order.libssl)
    libssl.start()
    contexts = libssl.context(server=True), libssl.context(server=False)
    contexts[0].certify()
    contexts[0].certify(rsa=True)
    for context in contexts:
        context.offer_all()
        context.set_options(SSL_OP_ENABLE_KTLS)
    road = Road.open(libssl, order.datapath)
    road.close()
    suites = offered(contexts[0], order.versions)
    if order.datapath is Way.IO_URING and road.reason:
        suites = ()
    if order.suites:
        suites = tuple(s for s in suites if s[1] in order.suites)
    alone = _namespace_trial()
    # Side by side where each has its counters to itself; one after the other where they share them.
    width = 1 if alone else max(1, len(os.sched_getaffinity(0)))
    # The session has its own deadline, which names what it was doing; this one is for a library that hangs.
    patience = order.timeout + 5.0
    works: list[Callable[[], Any]] = [
        partial(run_session, contexts, order, version, suite, alone) for version, suite, _ in suites
    ]
    sessions = [
        SessionFacts(version, suite, road.name, failure=why) if why else decode(SessionFacts, value)
        for (version, suite, _), (value, why) in zip(suites, in_children(works, patience, width), strict=True)
    ]
    # One suite speaks for its cipher: what is proved here is the record protection, not the key exchange.
    proving = {(version, cipher): suite for version, suite, cipher in reversed(suites)}
    chosen = [(version, proving[version, cipher]) for version, cipher in order.promised if (version, cipher) in proving]
    if chosen:
        _import_witness()
    works = [partial(run_witness, contexts[0], order, version, suite) for version, suite in chosen]
    witnesses = [
        WitnessFacts(version, suite, "", failure=why) if why else decode(WitnessFacts, value)
        for (version, suite), (value, why) in zip(chosen, in_children(works, patience, width), strict=True)
    ]
    about = libssl.version, libssl.path, libssl.libcrypto, road.reason, alone
    return encode(SelftestFacts(*about, tuple(sessions), tuple(witnesses)))
