# SPDX-License-Identifier: BSD-2-Clause
"""Records through FreeBSD's kernel and back, without any TLS library: are the bytes right, and the framing?

`probe` runs in a child on FreeBSD over loopback: TLS 1.2 AES-128-GCM, which every release does in both directions.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from ktlsctl import freebsdkernel
from ktlsctl.codec import encode
from ktlsctl.facts import ktlsgauges
from ktlsctl.facts.tlsenable import Filling, loopback_pairs
from ktlsctl.freebsdabi import Crypto, Errno, Tls, errno_name
from ktlsctl.freebsdkernel import Calls, Fate, Record, Session, Unframed
from ktlsctl.model import Direction, TlsVersion
from ktlsctl.servant import ProbeError

PROBE = "ktlsctl.facts.recordproof:probe"

#: Seconds for all of it; the child's own deadline stands above it.
BUDGET = 6.0

#: Three records and a rest, read in pieces that do not divide them.
STREAM = 3 * Tls.MAX_MSG_SIZE_V10_2 + 777
PIECE = 5000
#: More than a socket buffer holds, so that sendfile(2) has to stop and go on: the pattern of the known corruption.
FILE = 512 * 1024
#: A content type that TLS does not have: whoever shows it was told by the kernel.
CONTROL_KIND = 0x21

_WHAT = Filling(TlsVersion.TLS12, Crypto.AES_NIST_GCM_16, 16, Tls.AEAD_GCM_LEN)


class End(freebsdkernel.Socket, Protocol):
    """A connected socket as this proof uses one."""

    def recv(self, size: int, /) -> bytes: ...

    def send(self, data: bytes, /) -> int: ...


class Step(StrEnum):
    """What was being done."""

    WIRE = "one record, read without kernel TLS"
    STREAM = "records through send"
    CONTROL = "a record of another type"
    FILE = "a file through sendfile"


@dataclass(frozen=True, slots=True)
class Proof:
    """What was seen.  `refused`: FreeBSD's errno where a direction was not to be had, 0 else; then nothing follows.

    `failure`: one sentence, empty if none; `late`: it is that of a deadline.
    `counted`: how far enable_calls and offload_total rose meanwhile (others may have raised them too), None where
    they could not be read.  `sendfile_stops`: how often the socket was full.
    """

    refused: int = 0
    encrypted: bool | None = None  #: the plaintext was not on the wire, and a TLS record was
    stream_equal: bool | None = None
    records: int = 0
    pieces: int = 0
    largest: int = 0  #: bytes of the longest record
    control_kind: int | None = None
    file_equal: bool | None = None
    sendfile_stops: int = 0
    counted: tuple[int, int] | None = None
    failure: str = ""
    failed_at: Step | None = None
    errno: int = 0  #: of the failure
    late: bool = False


class Failed(Exception):
    """The proof could not be carried on; the message is one sentence.  `errno`: FreeBSD's number, 0 without one."""

    def __init__(self, message: str, errno: int | None = 0) -> None:
        super().__init__(message if not errno else f"{message}: {errno_name(errno)}")
        self.errno = errno or 0


class Late(Failed):
    """It could not in time, which a busy machine is enough for."""

    def __init__(self) -> None:
        super().__init__("the records did not arrive in time")


class _Transfer:
    """Records from one end to the other, both in this process and not blocking."""

    def __init__(self, calls: Calls, sender: End, receiver: End, deadline: float) -> None:
        self._calls = calls
        self._sender = sender
        self._receiver = receiver
        self._deadline = deadline
        self._reader = freebsdkernel.RecordReader()

    def drain(self, size: int) -> Iterator[Record]:
        """Every record that can be had now, read in pieces of at most `size` bytes.  Raises Failed."""
        while True:
            try:
                piece = freebsdkernel.receive(self._receiver, size)
                record = self._reader.take(piece)
            except Unframed as error:
                raise Failed(f"the records are not framed as FreeBSD frames them: {error}") from None
            except OSError as error:
                if freebsdkernel.fate(error.errno) is Fate.WAITS:
                    return
                raise Failed("receiving failed", error.errno) from None
            if piece.end_of_stream:
                raise Failed("the kernel closed the connection")
            if record is not None:
                yield record

    def until(self, size: int, wanted: int) -> list[Record]:
        """Records until they hold `wanted` bytes."""
        found: list[Record] = []
        while sum(len(record.data) for record in found) < wanted:
            found.extend(self.drain(size))
            self._pause()
        return found

    def _pause(self) -> None:
        """Decryption is a kernel thread's work: what was sent is readable a little later."""
        if time.monotonic() > self._deadline:
            raise Late
        time.sleep(0.001)

    def stream(self, data: bytes) -> list[Record]:
        """`data` through send(2), cut into records by the kernel."""
        found: list[Record] = []
        sent = 0
        while sent < len(data):
            try:
                sent += self._sender.send(data[sent:])
            except OSError as error:
                if error.errno not in freebsdkernel.FULL:
                    raise Failed("sending failed", error.errno) from None
            found.extend(self.drain(PIECE))
            self._pause()
        return found + self.until(PIECE, len(data) - sum(len(record.data) for record in found))

    def control(self, kind: int, data: bytes) -> Record:
        try:
            freebsdkernel.send_record(self._sender, kind, data)
        except OSError as error:
            raise Failed("a record of another type could not be sent", error.errno) from None
        return self.until(PIECE, len(data))[0]

    def file(self, descriptor: int, size: int) -> tuple[list[Record], int]:
        """The whole file through sendfile(2); its records, and how often the socket was full."""
        found: list[Record] = []
        sent = stops = 0
        while sent < size:
            step = freebsdkernel.sendfile_all(self._calls, descriptor, self._sender.fileno(), sent, size - sent)
            sent += step.count
            if step.errno and step.errno not in freebsdkernel.FULL:
                raise Failed("sendfile failed", step.errno)
            stops += bool(step.errno)
            found.extend(self.drain(65536))
            self._pause()
        arrived = sum(len(record.data) for record in found)
        return found + self.until(65536, size - arrived), stops


def prove(pairs: Iterator[tuple[End, End]], calls: Calls, file: int, content: bytes, deadline: float) -> Proof:
    """`pairs`: fresh connected ends that do not block; `file`: a descriptor of `content`; `deadline`: time.monotonic().

    Raises OSError when there is no pair.
    """
    seen: dict[str, Any] = {}
    try:
        seen["counted"] = before = _counts(calls)
        _prove(pairs, calls, file, content, deadline, seen)
        after = _counts(calls)
        seen["counted"] = None if before is None or after is None else (after[0] - before[0], after[1] - before[1])
        seen["failed_at"] = None
    except Failed as error:
        seen |= {"failure": str(error), "errno": error.errno, "late": isinstance(error, Late), "counted": None}
    except _Refused as error:
        seen |= {"refused": error.errno, "counted": None, "failed_at": None}
    return Proof(**seen)


class _Refused(Exception):
    def __init__(self, errno: int) -> None:
        super().__init__()
        self.errno = errno


def _prove(
    pairs: Iterator[tuple[End, End]], calls: Calls, file: int, content: bytes, deadline: float, seen: dict[str, Any]
) -> None:
    seen["failed_at"] = Step.WIRE
    sender, receiver = next(pairs)
    session = _WHAT.session()
    try:
        _enable(sender, Direction.TX, session)
    finally:
        session.wipe()
    seen["encrypted"] = _encrypted(sender, receiver, os.urandom(64), deadline)
    seen["failed_at"] = Step.STREAM
    sender, receiver = next(pairs)
    session = _WHAT.session()
    try:
        _enable(receiver, Direction.RX, session)
        _enable(sender, Direction.TX, session)
    finally:
        session.wipe()
    transfer = _Transfer(calls, sender, receiver, deadline)
    data = os.urandom(STREAM)
    records = transfer.stream(data)
    seen |= {
        "stream_equal": b"".join(record.data for record in records) == data,
        "records": len(records),
        "pieces": sum(record.pieces for record in records),
        "largest": max(len(record.data) for record in records),
    }
    seen["failed_at"] = Step.CONTROL
    seen["control_kind"] = transfer.control(CONTROL_KIND, os.urandom(32)).kind
    seen["failed_at"] = Step.FILE
    records, seen["sendfile_stops"] = transfer.file(file, len(content))
    seen["file_equal"] = b"".join(record.data for record in records) == content


def _enable(end: End, direction: Direction, session: Session) -> None:
    try:
        freebsdkernel.enable(end, direction, session)
    except OSError as error:
        raise _Refused(error.errno or 0) from None


def _encrypted(sender: End, receiver: End, text: bytes, deadline: float) -> bool:
    """Whether what the other end reads without kernel TLS is one TLS record without the text in it."""
    try:
        sender.send(text)
    except OSError as error:
        raise Failed("sending failed", error.errno) from None
    # RFC 5288: an explicit nonce before, a tag behind
    length = 8 + len(text) + 16
    wire = b""
    while len(wire) < 5 + length:
        try:
            if not (piece := receiver.recv(4096)):
                raise Failed("the kernel closed the connection")
            wire += piece
        except OSError as error:
            if freebsdkernel.fate(error.errno) is not Fate.WAITS:
                raise Failed("receiving failed", error.errno) from None
            if time.monotonic() > deadline:
                raise Late from None
            time.sleep(0.001)
    head = bytes((Tls.RLTYPE_APP,)) + TlsVersion.TLS12.wire.to_bytes(2, "big") + length.to_bytes(2, "big")
    return wire[:5] == head and text not in wire


def _counts(calls: Calls) -> tuple[int, int] | None:
    names = ktlsgauges.ENABLE_CALLS, ktlsgauges.OFFLOAD_TOTAL
    found = freebsdkernel.numbers(calls, names)
    return (found[names[0]], found[names[1]]) if len(found) == len(names) else None


def _pairs() -> Iterator[tuple[End, End]]:
    for ends in loopback_pairs():
        if not ends.connected:
            raise OSError(Errno.ENOTCONN, "no loopback connection can be made")
        ends.sender.setblocking(False)
        ends.receiver.setblocking(False)
        yield ends.sender, ends.receiver


def probe(argument: Any) -> Any:
    """In a child: `Proof` as JSON.  Takes nothing; ProbeError on another system than FreeBSD."""
    if not sys.platform.startswith("freebsd"):
        raise ProbeError("these records are FreeBSD's; this system has another kernel TLS")
    import tempfile

    content = os.urandom(FILE)
    try:
        # no name, and gone with the process
        with tempfile.TemporaryFile() as file:
            file.write(content)
            file.flush()
            deadline = time.monotonic() + BUDGET
            return encode(prove(_pairs(), freebsdkernel.LiveCalls(), file.fileno(), content, deadline))
    except OSError as error:
        raise ProbeError(f"no records could be sent over loopback: {error.strerror}") from None
