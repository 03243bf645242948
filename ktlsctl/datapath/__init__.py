# SPDX-License-Identifier: BSD-2-Clause
"""How record bytes move: one OpenSSL BIO, in C, over io_uring or over plain system calls.

    ring = open_ring()                                       # or a NoRing that says why not
    with Library(addresses) as library, Datapath(library, ring if isinstance(ring, Ring) else None) as path:
        bio = path.bio(sock.fileno())
        bio.attach(ssl)                                      # SSL_set_bio; the SSL owns the BIO from here on
        ...                                                  # SSL_do_handshake, SSL_read, SSL_write; path.wait()
        bio.close()                                          # before the socket is closed
        print(bio.events(), bio.stats())

OpenSSL comes in as plain addresses, so any loader will do and one build serves every libssl from 1.1.1 to 4.x.
Times are seconds.  Nothing here is closed by the garbage collector: C releases the GIL, and a finalizer in another
thread would be a second user of a ring that allows one.  Use `close()` or `with`.
"""

from __future__ import annotations

import errno as E
import os
import select
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Any, Self

from ktlsctl.datapath._datapath import ffi, lib
from ktlsctl.model import Direction

__all__ = [
    "SYMBOLS",
    "Bio",
    "BioStats",
    "Datapath",
    "DatapathStats",
    "Event",
    "Library",
    "NoRing",
    "Policy",
    "Reason",
    "Ring",
    "Stage",
    "Step",
    "open_ring",
    "record_sequence",
]


#: A direct operation never waits for its peer; this bounds one that the kernel took to a worker of its own.
_DIRECT_MS = 5000


def _symbols() -> tuple[str, ...]:
    names: list[str] = []
    while lib.ossl_symbols[len(names)] != ffi.NULL:
        names.append(ffi.string(lib.ossl_symbols[len(names)]).decode())
    return tuple(names)


#: The OpenSSL functions a `Library` needs; libssl first, then libcrypto, is where to look for them.
SYMBOLS: tuple[str, ...] = _symbols()


class Reason(StrEnum):
    """Why there is no ring."""

    UNSUPPORTED = "this build has no io_uring"
    ABSENT = "the kernel has no io_uring"
    SYSCTL = "forbidden by kernel.io_uring_disabled"
    SECCOMP = "forbidden by a seccomp filter"
    DENIED = "forbidden, neither sysctl nor seccomp explains it"
    OLD = "the kernel's io_uring is older than 5.11"
    RESOURCES = "no memory or file descriptors left"
    BROKEN = "the ring does not answer"


class Stage(StrEnum):
    """The step of opening a ring that failed; the order is that of `enum ring_stage`."""

    BUILD = "build"
    SETUP = "io_uring_setup"
    FEATURES = "features"
    MMAP = "mmap"
    NOP = "io_uring_enter"


@dataclass(frozen=True, slots=True)
class NoRing:
    """No ring: the reason, the step and errno it rests on, what kernel.io_uring_disabled says (None: unknown)."""

    reason: Reason
    stage: Stage
    errno: int
    sysctl: int | None

    def __str__(self) -> str:
        return f"{self.reason} ({self.stage}: {os.strerror(self.errno)})"


class Policy(StrEnum):
    """What to answer OpenSSL's BIO_CTRL_SET_KTLS in one direction."""

    ACCEPT = "accept"  #: hand the key to the kernel
    REFUSE = "refuse"  #: say no at once, like a BIO that does not know kTLS
    OBSERVE = "observe"  #: do everything up to the system calls, then say no


class Step(StrEnum):
    """What became of one BIO_CTRL_SET_KTLS; the order is that of `enum ktls_step`."""

    ACCEPTED = "accepted"
    POLICY = "refused by policy"
    OBSERVED = "observed only"
    LEFTOVER = "refused: bytes read ahead"
    DRAIN = "refused: queued bytes not sent in time"
    CIPHER = "cipher unknown"
    ULP = "TCP_ULP"
    KEY = "key"


@dataclass(frozen=True, slots=True)
class Event:
    """One BIO_CTRL_SET_KTLS.  `errno` belongs to `step`, which matters: ENOENT of ULP is a missing module, ENOENT
    of KEY a missing cipher.  `leftover` are bytes held here at that moment (RX: read ahead, TX: not yet sent),
    `in_flight` operations of io_uring that were cancelled and reaped first."""

    direction: Direction
    version: int  #: 0x0303, 0x0304
    cipher_type: int  #: TLS_CIPHER_* of linux/tls.h, CRYPTO_* on FreeBSD
    step: Step
    errno: int
    leftover: int
    in_flight: int

    @property
    def accepted(self) -> bool:
        return self.step is Step.ACCEPTED


@dataclass(frozen=True, slots=True)
class BioStats:
    """Counters of one BIO.  Bytes are those OpenSSL read and wrote.  Records by type are known only for a direction
    that is in the kernel (20 change_cipher_spec, 21 alert, 22 handshake, 23 application data, 24 heartbeat, 0 rest)."""

    sent: int
    received: int
    records_sent: Mapping[int, int]
    records_received: Mapping[int, int]
    backlog: int  #: bytes accepted from OpenSSL that the socket has not taken yet
    read_ahead: int  #: bytes read that OpenSSL has not asked for yet
    in_flight: int
    events: int
    events_lost: int
    ktls_send: bool
    ktls_recv: bool
    eof: bool
    closed: bool
    errno: int  #: what ended sending; 0: nothing did


@dataclass(frozen=True, slots=True)
class DatapathStats:
    """Counters of one datapath.  `calls` are system calls of the plain transport, `enters` io_uring_enter."""

    calls: int
    enters: int
    submitted: int
    completed: int
    sq_full: int  #: times the submission queue was full
    cancelled: int
    buffers_live: int
    buffers_cached: int
    buffers_leaked: int  #: given up because the kernel would not return them
    bios: int


def _reason(stage: Stage, errno: int, sysctl: int, seccomp: int) -> Reason:
    filtered = seccomp == 2  # SECCOMP_MODE_FILTER
    if stage is Stage.BUILD:
        return Reason.UNSUPPORTED
    if stage is Stage.FEATURES or errno == E.EINVAL:
        return Reason.OLD
    if errno == E.ENOSYS:  # where the sysctl exists the kernel has io_uring, so somebody pretends
        return Reason.SECCOMP if filtered and sysctl >= 0 else Reason.ABSENT
    if errno in (E.EPERM, E.EACCES):
        if stage is Stage.SETUP and (sysctl == 2 or (sysctl == 1 and os.geteuid() != 0)):
            return Reason.SYSCTL
        return Reason.SECCOMP if filtered else Reason.DENIED
    return Reason.RESOURCES if errno in (E.ENOMEM, E.EMFILE, E.ENFILE) else Reason.BROKEN


class _Closing:
    """`with` for what has a `close()`."""

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Ring(_Closing):
    """An io_uring that has answered a NOP.  Of one process (a forked child gets EOWNERDEAD) and one thread at a
    time.  Made by `open_ring()`."""

    def __init__(self, pointer: Any) -> None:
        self._ring = pointer

    def send(self, fd: int, data: bytes, offset: int, size: int) -> int:
        """Send `size` bytes of `data` from `offset`; how many were taken.  Raises OSError, BlockingIOError for later.

        This and the two below move plaintext on a socket whose records the kernel makes, past any BIO."""
        return _done(lib.direct_send(self._pointer(), fd, ffi.from_buffer(data) + offset, size, _DIRECT_MS))

    def splice(self, source: int, offset: int | None, target: int, size: int) -> int:
        """Move bytes from a file at `offset`, or from a pipe (None), into a pipe or socket, without seeing them."""
        at = -1 if offset is None else offset
        return _done(lib.direct_splice(self._pointer(), source, at, target, size, _DIRECT_MS))

    def receive(self, fd: int, room: bytearray) -> tuple[int, int]:
        """Receive into `room`: bytes (0: the end) and the record type that came with them, -1 where none did."""
        kind = ffi.new("int *")
        got = _done(lib.direct_receive(self._pointer(), fd, ffi.from_buffer(room), len(room), kind, _DIRECT_MS))
        return got, int(kind[0])

    @property
    def enters(self) -> int:
        """System calls so far: io_uring_enter."""
        stats = ffi.new("struct ring_stats *")
        lib.ring_get_stats(self._pointer(), stats)
        return int(stats.enters)

    def _pointer(self) -> Any:
        if self._ring is None:
            raise ValueError("the ring is closed")
        return self._ring

    def close(self) -> None:
        """Close the ring.  BIOs still on it answer EBADF; close them first."""
        if self._ring is not None:
            lib.ring_kill(self._ring)
            lib.ring_unref(self._ring)
            self._ring = None


def _done(result: int) -> int:
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result


def open_ring(entries: int = 64) -> Ring | NoRing:
    """Open a ring with `entries` submission slots, prove it by a NOP round trip, or say why there is none.

    Rests on io_uring_setup(2) and kernel.io_uring_disabled (Documentation/admin-guide/sysctl/kernel.rst)."""
    why = ffi.new("struct ring_failure *")
    pointer = lib.ring_open(entries, why)
    if pointer != ffi.NULL:
        return Ring(pointer)
    stage = list(Stage)[why.stage]
    sysctl = None if why.sysctl < 0 else why.sysctl
    return NoRing(_reason(stage, why.error, why.sysctl, why.seccomp), stage, why.error, sysctl)


class Library(_Closing):
    """One libssl, by the addresses of its functions, and the BIO type made for it.

    Bind each libssl once per process: OpenSSL has 127 BIO types for custom use and never takes one back, and four
    libraries can be bound at the same time.  The library must stay loaded for as long as anything made from it lives.

    Raises KeyError if a name of `SYMBOLS` is missing in `addresses`, RuntimeError if OpenSSL or memory is exhausted.
    """

    def __init__(self, addresses: Mapping[str, int]) -> None:
        ordered = [addresses[name] for name in SYMBOLS]
        self._library: Any = lib.library_new(ordered, len(ordered))
        if self._library == ffi.NULL:
            self._library = None
            raise RuntimeError("no BIO type could be made for this libssl")

    def close(self) -> None:
        if self._library is not None:
            lib.library_free(self._library)
            self._library = None


class Datapath(_Closing):
    """BIOs of one library on one ring, or on plain system calls where `ring` is None."""

    def __init__(self, library: Library, ring: Ring | None = None) -> None:
        if library._library is None or (ring is not None and ring._ring is None):
            raise ValueError("the library or the ring is closed")
        self._path: Any = lib.datapath_new(library._library, ffi.NULL if ring is None else ring._ring)
        if self._path == ffi.NULL:
            raise MemoryError
        self.kind = "socket" if ring is None else "io_uring"

    def bio(
        self,
        fd: int,
        *,
        tx: Policy = Policy.ACCEPT,
        rx: Policy = Policy.ACCEPT,
        wait: float = 0.0,
        drain: float = 1.0,
    ) -> Bio:
        """A BIO on a connected TCP socket, which stays the caller's to close.

        With `wait` 0 it never blocks: OpenSSL reports WANT_READ and WANT_WRITE, and `Datapath.wait()` waits.  Else
        a read or write waits that long and then fails with ETIMEDOUT.  `drain` bounds the wait for queued bytes before
        the switch to kernel TX and at close.  Raises MemoryError."""
        policies = list(Policy)
        pointer = lib.dbio_new(self._path, fd, policies.index(tx), policies.index(rx), _ms(wait), _ms(drain))
        if pointer == ffi.NULL:
            raise MemoryError
        return Bio(pointer)

    def wait(self, wanted: Sequence[tuple[Bio, bool, bool]], timeout: float) -> tuple[bool, ...]:
        """Wait until one of `(bio, wants_read, wants_write)` may go on; for each, whether it may.  All False: the
        timeout, or a signal.  Wake-ups without cause are possible.  Raises OSError when the ring is unusable."""
        bios = ffi.new("struct dbio *[]", [bio._open() for bio, _, _ in wanted])
        events = ffi.new("short[]", [select.POLLIN * r | select.POLLOUT * w for _, r, w in wanted])
        ready = ffi.new("short[]", len(wanted))
        rc = lib.datapath_wait(self._path, bios, events, ready, len(wanted), _ms(timeout))
        if rc < 0:
            raise OSError(-rc, os.strerror(-rc))
        return tuple(bool(r) for r in ready)

    def stats(self) -> DatapathStats:
        s = ffi.new("struct dp_stats *")
        lib.datapath_get_stats(self._path, s)
        return DatapathStats(
            s.calls,
            s.ring.enters,
            s.ring.submitted,
            s.ring.completed,
            s.ring.sq_full,
            s.ring.cancelled,
            s.buffers_live,
            s.buffers_cached,
            s.buffers_leaked,
            s.bios,
        )

    def close(self) -> None:
        """Give the handle back.  What BIOs that an SSL still owns need lives on until they are freed."""
        if self._path is not None:
            lib.datapath_free(self._path)
            self._path = None


class Bio(_Closing):
    """One connection's BIO.  Made by `Datapath.bio()`."""

    def __init__(self, pointer: Any) -> None:
        self._bio: Any = pointer
        self._last: tuple[tuple[Event, ...], BioStats] | None = None

    def _open(self) -> Any:
        if self._bio is None:
            raise ValueError("the BIO is closed")
        return self._bio

    @property
    def address(self) -> int:
        """The `BIO *`; 0 once its SSL has been freed."""
        return int(ffi.cast("uintptr_t", lib.dbio_pointer(self._open())))

    def attach(self, ssl: int) -> None:
        """Make it both BIOs of the `SSL *` at this address, which owns it from then on (SSL_set_bio).  Attached only
        does it read ahead, and only after SSL_is_init_finished."""
        lib.dbio_attach(self._open(), ffi.cast("SSL *", ssl))

    def events(self) -> tuple[Event, ...]:
        """Every BIO_CTRL_SET_KTLS so far, up to eight; also after `close()`."""
        if self._last is not None:
            return self._last[0]
        count = 8
        raw = ffi.new("struct dp_event[]", count)
        return tuple(
            Event(
                Direction.TX if e.tx else Direction.RX,
                e.version,
                e.cipher_type,
                list(Step)[e.step],
                e.error,
                e.leftover,
                e.in_flight,
            )
            for e in raw[0 : lib.dbio_events(self._bio, raw, count)]
        )

    def stats(self) -> BioStats:
        """The counters; also after `close()`."""
        if self._last is not None:
            return self._last[1]
        s = ffi.new("struct dp_bio_stats *")
        lib.dbio_get_stats(self._bio, s)
        return BioStats(
            s.sent,
            s.received,
            _by_type(s.records_sent),
            _by_type(s.records_received),
            s.backlog,
            s.read_ahead,
            s.in_flight,
            s.events,
            s.events_lost,
            s.ktls_send,
            s.ktls_recv,
            s.eof,
            s.closed,
            s.error,
        )

    def cancel(self) -> bool:
        """Take back every operation in flight; unsent bytes stay queued.  False: the ring is gone."""
        return bool(lib.dbio_cancel(self._open()))

    def close(self) -> None:
        """Drain, cancel and reap, release buffers.  Before the socket's own close: a request in flight keeps the file
        open, and the peer would see no FIN.  The SSL, if any, gets EBADF from then on."""
        if self._bio is None:
            return
        lib.dbio_close(self._bio)
        self._last = (self.events(), self.stats())
        lib.dbio_free(self._bio)
        self._bio = None


def record_sequence(fd: int, direction: Direction) -> int:
    """The kernel's number of the next record of this direction of a kTLS socket (Linux; net/tls/tls_main.c).

    Raises OSError: EBUSY the direction has no key, EOPNOTSUPP no kernel TLS on the socket, or another system."""
    number = ffi.new("uint64_t *")
    error = lib.ktls_sequence(fd, direction is Direction.TX, number)
    if error:
        raise OSError(error, os.strerror(error))
    return int(number[0])


def _ms(seconds: float) -> int:
    return max(0, min(int(seconds * 1000), 2**31 - 1))


def _by_type(counts: Any) -> dict[int, int]:
    """Slots of `enum DP_TYPE_FIRST`: 20 to 24, then every other type."""
    return {kind: count for kind, count in zip((20, 21, 22, 23, 24, 0), counts, strict=True) if count}
