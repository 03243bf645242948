# SPDX-License-Identifier: BSD-2-Clause
"""The witness: a peer that does its TLS in user space with another OpenSSL (pyOpenSSL's), on memory BIOs.

What it sends and gets are the bytes on the wire themselves, so framing is checked and plaintext searched for as they
pass.
"""

from __future__ import annotations

import random
import select
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ktlsctl.libssl import Context, TlsError
from ktlsctl.model import Direction, TlsVersion
from ktlsctl.sessionfacts import Order, WitnessFacts
from ktlsctl.stage import MAX_RECORD, WRITE_SIZES, Deadline, End, Pair, Road, Stream, hosts_trouble, noise


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


def import_witness() -> None:
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
    source = random.Random(order.seed + 1)
    down, up = Stream(noise(source, order.witness_size)), Stream(noise(source, order.witness_size))
    to_witness, from_witness = Wire(down.payload), Wire(up.payload)
    pair = Pair()
    end: End | None = None
    deadline = Deadline(order.timeout)
    outbound = bytearray()
    try:
        end = End(context, pair.server, path)
        subject = end
        subject.force(version, suite)

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

        drive_against_wire(subject, pair.client, deadline, "shaking hands with the witness", shake)
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

        drive_against_wire(subject, pair.client, deadline, "moving data to and from the witness", step)
        facts |= {
            "to_witness_ok": down.intact, "from_witness_ok": up.intact,
            "framing_ok": to_witness.whole and from_witness.whole,
            "leaked": to_witness.leaked or from_witness.leaked,
            "records": to_witness.records + from_witness.records,
            "tx_armed": subject.session.ktls(Direction.TX), "rx_armed": subject.session.ktls(Direction.RX),
        }  # fmt: skip
    except (TlsError, OSError) as error:
        facts["unavailable" if hosts_trouble(error) else "failure"] = str(error)
    finally:
        if end is not None:
            end.close()
        pair.close()
        road.close()
    return WitnessFacts(**facts)


def drive_against_wire(
    end: End, other: socket.socket, deadline: Deadline, doing: str, step: Callable[[], bool | None]
) -> None:
    """Like `_drive`, where the other end is a bare socket: sleeps are on the sockets, never on the ring alone."""
    poll = select.poll()
    while True:
        done = step()
        if done:
            return
        if deadline.left <= 0:
            raise TlsError(f"deadline passed while {doing}")
        if done is None:
            poll.register(end.sock, select.POLLIN | (select.POLLOUT if end.session.wants_write else 0))
            poll.register(other, select.POLLIN)
            poll.poll(20)
