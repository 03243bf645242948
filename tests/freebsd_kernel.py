# SPDX-License-Identifier: BSD-2-Clause
"""A model of FreeBSD's kernel TLS, for the tests: what 13.0 to 15.1 answer, as docs/freebsd.md has it.

`Kernel` is one release with its settings: pure answers.  `Running` is such a kernel with sockets, sessions and counters
on it, behind the same seam as the real one (freebsdkernel.Socket and Calls).  No shipped module can reach it.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ktlsctl.ciphers import FREEBSD_CIPHERS
from ktlsctl.facts import tlsenable
from ktlsctl.facts.tlsenable import Answers, Control, Try
from ktlsctl.freebsdabi import (
    IPPROTO_TCP,
    TLS_ENABLE,
    TLS_GET_RECORD,
    Cmsg,
    Crypto,
    CtlFlag,
    CtlType,
    Errno,
    Mode,
    Msg,
    TcpOption,
    Tls,
    errno_name,
)
from ktlsctl.freebsdkernel import Sent
from ktlsctl.model import Direction, TlsVersion
from tests.tlsrecords import HEADER, MAC_SIZES, BadRecord, Fault, Protection

ROOT = "kern.ipc.tls"

DIRECTION = {TcpOption.TCP_TXTLS_ENABLE: Direction.TX, TcpOption.TCP_RXTLS_ENABLE: Direction.RX}
DIRECTION_OF_MODE = {TcpOption.TCP_TXTLS_MODE: Direction.TX, TcpOption.TCP_RXTLS_MODE: Direction.RX}
GAUGE = {Crypto.AES_CBC: "cbc", Crypto.AES_NIST_GCM_16: "gcm", Crypto.CHACHA20_POLY1305: "chacha20"}


@dataclass(frozen=True)
class Request:
    """struct tls_enable as the kernel reads it: lengths, and the addresses of what it copies."""

    key_at: int
    iv_at: int
    auth_at: int
    algorithm: int
    key: int
    iv: int
    auth_algorithm: int
    auth_key: int
    flags: int
    major: int
    minor: int
    sequence: bytes

    @staticmethod
    def parse(value: bytes) -> Request | None:
        """None for another length than that of the structure."""
        layout = TLS_ENABLE[ctypes.sizeof(ctypes.c_void_p)]
        return Request(*layout.unpack(value)) if len(value) == layout.size else None

    def protection(self) -> Protection:
        def copied(at: int, length: int) -> bytes:
            return ctypes.string_at(at, length) if length else b""

        secrets = (copied(self.key_at, self.key), copied(self.iv_at, self.iv), copied(self.auth_at, self.auth_key))
        key, iv, auth_key = secrets
        version = self.major << 8 | self.minor
        sequence = int.from_bytes(self.sequence, "big")
        return Protection(version, self.algorithm, key, iv, self.auth_algorithm, auth_key, sequence)


@dataclass(frozen=True)
class Kernel:
    """One kernel's answers.  `line`: the release whose code it runs, as (major, minor)."""

    line: tuple[int, int]
    enable: bool = False
    rx_enable: bool | None = None
    cbc_enable: bool = True
    ext_pgs: bool = True
    module_loaded: bool = False
    kern_tls: bool = True
    threads_start: bool = True
    counters: Mapping[str, int] = field(default_factory=dict)

    @property
    def backend(self) -> bool:
        return self.line >= (14, 0) or self.module_loaded

    def answer(self, option: int, value: bytes) -> int:
        """The errno of setsockopt on a fresh TCP socket, 0 for success: the order of ktls_enable_tx() and _rx()."""
        request = Request.parse(value)
        direction = DIRECTION[TcpOption(option)]
        return self.before_the_socket(direction, request) or self.behind_the_socket(direction, request)

    def before_the_socket(self, direction: Direction, request: Request | None) -> int:
        """What is refused before the kernel counts a request in enable_calls."""
        if not self.kern_tls:
            return Errno.ENOPROTOOPT
        if request is None:
            return Errno.EINVAL
        if not self.enable or (direction is Direction.RX and self.rx_enable is False):
            return Errno.EOPNOTSUPP
        return 0

    def behind_the_socket(self, direction: Direction, request: Request | None) -> int:
        """What is refused for the request itself."""
        assert request is not None
        if request.algorithm == Crypto.AES_CBC and not self.cbc_enable:
            return Errno.EOPNOTSUPP
        if direction is Direction.TX and not self.ext_pgs:
            return Errno.ENXIO
        if not self.threads_start and self.line >= (14, 0):
            return Errno.ENXIO
        if request.major != Tls.MAJOR_VER_ONE or not Tls.MINOR_VER_ZERO <= request.minor <= Tls.MINOR_VER_THREE:
            return Errno.EINVAL
        if request.flags or not self._legal(request):
            return Errno.EINVAL
        if self._software_does(direction, request.algorithm, request.minor):
            return 0
        return Errno.EPROTONOSUPPORT if self.line >= (14, 0) else Errno.EOPNOTSUPP

    def _legal(self, r: Request) -> bool:
        if r.algorithm == Crypto.AES_NIST_GCM_16:
            iv = {Tls.MINOR_VER_TWO: Tls.AEAD_GCM_LEN, Tls.MINOR_VER_THREE: Tls.CHACHA20_IV_LEN}
            return not r.auth_algorithm and not r.auth_key and r.key in (16, 32) and iv.get(Tls(r.minor)) == r.iv
        if r.algorithm == Crypto.CHACHA20_POLY1305:
            fits = r.key == 32 and r.iv == Tls.CHACHA20_IV_LEN and r.minor >= Tls.MINOR_VER_TWO
            return self.line >= (13, 1) and not r.auth_algorithm and not r.auth_key and fits
        if r.algorithm == Crypto.AES_CBC:
            if r.auth_algorithm not in MAC_SIZES or r.auth_key != MAC_SIZES[Crypto(r.auth_algorithm)]:
                return False
            if r.minor == Tls.MINOR_VER_ZERO and r.iv != Tls.CBC_IMPLICIT_IV_LEN:
                return False
            sha2_is_fine = r.auth_algorithm == Crypto.SHA1_HMAC or r.minor == Tls.MINOR_VER_TWO
            return r.minor <= Tls.MINOR_VER_TWO and r.key in (16, 32) and sha2_is_fine
        return False

    def _software_does(self, direction: Direction, algorithm: int, minor: int) -> bool:
        if not self.backend:
            return False
        if direction is Direction.TX:
            return True
        if algorithm == Crypto.AES_CBC:
            return self.line >= (14, 0) and minor >= Tls.MINOR_VER_ONE
        return minor == Tls.MINOR_VER_TWO or self.line >= (14, 0)

    # as a socket of its own, fresh for every question
    def setsockopt(self, level: int, option: int, value: bytes, /) -> None:
        assert level == IPPROTO_TCP
        if errno := self.answer(option, value):
            raise OSError(errno, errno_name(errno))

    def getsockopt(self, level: int, option: int, /) -> int:
        raise NotImplementedError("a fresh socket for every question has no mode to tell")

    def answers(self) -> Answers:
        """What the probe brings home from this kernel."""

        def tried(version: TlsVersion, cipher: str, direction: Direction, what: tlsenable.Filling) -> Try:
            errno = tlsenable.enable(self, direction, what)
            return Try(version, cipher, direction, errno, None if errno else Mode.SW)

        return Answers(
            mode_errno=0 if self.kern_tls else Errno.ENOPROTOOPT,
            controls=tuple(Control(d, tlsenable.enable(self, d, tlsenable.CONTROL)) for d in Direction),
            tries=tuple(
                tried(version, cipher.name, direction, tlsenable.filling(cipher, version))
                for cipher in FREEBSD_CIPHERS
                for version in cipher.versions()
                for direction in Direction
            ),
            connected=True,
        )

    def sysctls(self) -> dict[str, str]:
        """Every leaf that `sysctl kern.ipc.tls` and its neighbours have on this release."""
        major, minor = self.line
        found = {
            "kern.osreldate": f"{major}{minor:02}000" if minor else f"{major}00097",
            "kern.ipc.mb_use_ext_pgs": str(int(self.ext_pgs)),
        }
        if not self.kern_tls:
            return found
        settings = {"cbc_enable": self.cbc_enable, "enable": self.enable, "maxlen": 16384, "bind_threads": 0}
        if self.rx_enable is not None:
            settings["rx_enable"] = self.rx_enable
        if major == 13:
            settings["allow_unload"] = 0
        else:
            settings |= {"ifnet_max_rexmit_pct": 2, "sw_buffer_cache": 1, "max_reclaim": 1024}
        settings["ifnet.permitted"] = 0
        numbers = dict.fromkeys(("toe.gcm", "toe.cbc", "ifnet.gcm", "ifnet.cbc", "sw.gcm", "sw.cbc", "tasks_active"), 0)
        numbers |= dict.fromkeys(("ifnet.reset", "ifnet.reset_dropped", "ifnet.reset_failed"), 0)
        if self.line >= (13, 1):
            numbers |= dict.fromkeys(("toe.chacha20", "ifnet.chacha20", "sw.chacha20", "stats.sw_tx_pending"), 0)
        stats = "switch_failed switch_to_sw switch_to_ifnet failed_crypto corrupted_records active enable_calls"
        stats += " offload_total sw_rx_inqueue sw_tx_inqueue threads"
        if major >= 14:
            stats += " ifnet_disable_failed ifnet_disable_ok destroy_task"
        numbers |= {f"stats.{leaf}": 0 for leaf in stats.split()}
        numbers["stats.threads"] = 4 if major == 13 else 0
        if self.backend:
            numbers |= {f"stats.ocf.{leaf}": 0 for leaf in self._ocf_leaves()}
        numbers |= self.counters
        return found | {f"{ROOT}.{leaf}": str(int(value)) for leaf, value in (settings | numbers).items()}

    def _ocf_leaves(self) -> tuple[str, ...]:
        if self.line == (13, 0):
            return (
                *("tls10_cbc_crypts", "tls11_cbc_crypts", "tls12_gcm_crypts", "tls13_gcm_crypts"),
                *("inplace", "separate_output", "retries"),
            )
        both = ("tls12_gcm", "tls12_chacha20", "tls13_gcm", "tls13_chacha20")
        return (
            *("tls10_cbc_encrypts", "tls11_cbc_encrypts", "inplace", "separate_output", "retries"),
            *(f"{name}_{way}" for name in both for way in ("decrypts", "encrypts")),
            *(("tls11_cbc_decrypts", "tls12_gcm_recrypts", "tls13_gcm_recrypts") if self.line >= (14, 0) else ()),
        )

    def modules(self) -> tuple[str, ...]:
        """What kldstat(2) names."""
        return ("kernel", *(("ktls_ocf.ko",) if self.module_loaded else ()))

    def kind_of(self, name: str) -> int:
        """The kind word of a sysctl: type and flags as the source's macros give them (docs/freebsd.md)."""
        leaf = name.removeprefix(f"{ROOT}.")
        tunable = CtlFlag.RD | CtlFlag.TUN
        both = tunable | CtlFlag.WR
        if leaf in ("enable", "cbc_enable"):
            return CtlType.U8 | (both if self.line >= (13, 1) else CtlFlag.RD | CtlFlag.WR)
        if leaf == "rx_enable":
            return CtlType.U8 | both
        if leaf == "sw_buffer_cache":
            return CtlType.U8 | tunable
        if leaf == "maxlen":
            return CtlType.UINT | (tunable if self.line >= (14, 0) else both)
        if leaf in ("ifnet.permitted", "ifnet_max_rexmit_pct"):
            return CtlType.UINT | both
        if leaf in ("bind_threads", "allow_unload"):
            return CtlType.INT | tunable
        if leaf == "max_reclaim":
            return CtlType.INT | both
        if leaf == "stats.threads":
            return CtlType.INT | CtlFlag.RD
        if name == "kern.ipc.mb_use_ext_pgs":
            return (CtlType.U8 if self.line < (14, 0) else CtlType.INT) | both
        if name == "kern.osreldate":
            return CtlType.INT | CtlFlag.RD
        return CtlType.U64 | CtlFlag.RD


SIZES = {CtlType.U8: 1, CtlType.INT: 4, CtlType.UINT: 4, CtlType.U64: 8}


class Running:
    """A kernel with sockets on it: freebsdkernel.Calls.

    `room`: bytes that a connection holds before its sender has to wait.  `replay`: after a short sendfile so many bytes
    are not counted, and sent again.  `interrupts`: how many sendfile calls a signal interrupts.
    """

    def __init__(self, kernel: Kernel, room: int = 65536, replay: int = 0, interrupts: int = 0) -> None:
        self.kernel = kernel
        self.room = room
        self.replay = replay
        self.interrupts = interrupts
        self.moved: dict[str, int] = {}
        self._sockets: list[Socket] = []

    def socket(self) -> Socket:
        """Not connected."""
        made = Socket(self, len(self._sockets))
        self._sockets.append(made)
        return made

    def pair(self) -> tuple[Socket, Socket]:
        """Two ends of a loopback connection that do not block."""
        ends = self.socket(), self.socket()
        connect(*ends)
        return ends

    def count(self, leaf: str, by: int = 1) -> None:
        self.moved[leaf] = self.moved.get(leaf, 0) + by

    # Calls

    def sendfile(self, file: int, sock: int, offset: int, count: int) -> Sent:
        try:
            sent = self._sockets[sock].send(os.pread(file, count, offset))
        except OSError as error:
            return Sent(0, error.errno or 0)
        if self.interrupts:
            self.interrupts -= 1
            return Sent(sent, Errno.EINTR)
        if sent < count:
            return Sent(max(0, sent - self.replay), Errno.EAGAIN)
        return Sent(sent)

    def oid(self, name: str) -> tuple[int, bytes]:
        values = self.kernel.sysctls()
        if name not in values:
            raise OSError(Errno.ENOENT, "No such file or directory")
        kind = self.kernel.kind_of(name)
        value = int(values[name]) + self.moved.get(name.removeprefix(f"{ROOT}."), 0)
        return kind, value.to_bytes(SIZES[CtlType(kind & 0xF)], sys.byteorder)

    def modules(self) -> tuple[str, ...]:
        return self.kernel.modules()


def connect(one: Socket, other: Socket) -> None:
    one.peer, other.peer = other, one


@dataclass
class Ready:
    """A decrypted record in the receive queue; `taken`: bytes that were read of it."""

    kind: int
    data: bytes
    taken: int = 0


def refuse(errno: int) -> OSError:
    return OSError(errno, errno_name(errno))


class Socket:
    """A TCP socket of a Running kernel."""

    def __init__(self, system: Running, number: int) -> None:
        self.system = system
        self.number = number
        self.peer: Socket | None = None
        self.listening = False
        self.dropped = 0  #: the errno that ended the connection
        self.closed = False  #: the peer sends no more
        self._wire = bytearray()
        self._ready: deque[Ready | int] = deque()
        self._sessions: dict[Direction, Protection] = {}

    def fileno(self) -> int:
        return self.number

    # --- options ---

    def setsockopt(self, level: int, option: int, value: bytes, /) -> None:
        assert level == IPPROTO_TCP
        direction = DIRECTION[TcpOption(option)]
        kernel = self.system.kernel
        request = Request.parse(value)
        if errno := kernel.before_the_socket(direction, request):
            raise refuse(errno)
        self.system.count("stats.enable_calls")
        if self.listening:
            tx = Errno.ENOTCONN if kernel.line >= (14, 0) else Errno.EINVAL
            raise refuse(tx if direction is Direction.TX else Errno.EINVAL)
        if direction in self._sessions:
            raise refuse(Errno.EALREADY)
        if errno := kernel.behind_the_socket(direction, request):
            raise refuse(errno)
        if self.dropped:
            raise refuse(Errno.ECONNRESET)
        assert request is not None
        self._sessions[direction] = request.protection()
        for leaf in ("stats.offload_total", "stats.active", f"sw.{GAUGE[Crypto(request.algorithm)]}"):
            self.system.count(leaf)
        if direction is Direction.RX:
            self._decrypt()

    def getsockopt(self, level: int, option: int, /) -> int:
        assert level == IPPROTO_TCP
        if not self.system.kernel.kern_tls:
            raise refuse(Errno.ENOPROTOOPT)
        if self.listening:
            raise refuse(Errno.EINVAL)
        return Mode.SW if DIRECTION_OF_MODE[TcpOption(option)] in self._sessions else Mode.NONE

    def listen(self) -> None:
        if self._sessions:
            raise refuse(Errno.EINVAL)
        self.listening = True

    # --- sending ---

    def send(self, data: bytes, /) -> int:
        return self._send(data, None)

    def sendmsg(self, buffers: Sequence[bytes], ancillary: Sequence[tuple[int, int, bytes]], flags: int, /) -> int:
        kinds = [content[0] for level, kind, content in ancillary if kind == Cmsg.TLS_SET_RECORD_TYPE]
        return self._send(b"".join(buffers), kinds[0] if kinds else None)

    def _send(self, data: bytes, kind: int | None) -> int:
        session = self._sessions.get(Direction.TX)
        if self.peer is None or self.dropped:
            raise refuse(Errno.ENOTCONN)
        room = self.system.room - self.peer.waiting
        if session is None:
            sent = min(room, len(data))
            if data and sent <= 0:
                raise refuse(Errno.EAGAIN)
            self.peer.arrive(data[:sent])
            return sent
        if not data and not (session.cbc and session.version == 0x0301):
            raise refuse(Errno.EINVAL)
        if kind is not None or not data:
            # one record, whole or not at all
            if len(data) > Tls.MAX_MSG_SIZE_V10_2:
                raise refuse(Errno.EMSGSIZE)
            if room < len(data):
                raise refuse(Errno.EAGAIN)
            self.peer.arrive(session.seal(Tls.RLTYPE_APP if kind is None else kind, data))
            return len(data)
        if room <= 0:
            raise refuse(Errno.EAGAIN)
        sent = 0
        while sent < min(room, len(data)):
            piece = data[sent : min(room, len(data))][: Tls.MAX_MSG_SIZE_V10_2]
            self.peer.arrive(session.seal(Tls.RLTYPE_APP, piece))
            sent += len(piece)
        return sent

    def shutdown(self) -> None:
        if self.peer is not None:
            self.peer.end()

    def close(self) -> None:
        self.shutdown()
        for session in self._sessions.values():
            self.system.count("stats.active", -1)
            self.system.count(f"sw.{GAUGE[Crypto(session.algorithm)]}", -1)
        self._sessions.clear()

    # --- receiving ---

    @property
    def waiting(self) -> int:
        """Bytes that nobody has read yet."""
        return len(self._wire) + sum(len(r.data) - r.taken for r in self._ready if isinstance(r, Ready))

    def arrive(self, data: bytes) -> None:
        if not self.dropped:
            self._wire += data
            self._decrypt()

    def end(self) -> None:
        self.closed = True
        if self._wire and Direction.RX in self._sessions:
            self._drop(Errno.EMSGSIZE)

    def _drop(self, errno: int) -> None:
        self.dropped = errno
        self._wire.clear()
        self._ready.append(errno)

    def _decrypt(self) -> None:
        session = self._sessions.get(Direction.RX)
        while session is not None and len(self._wire) >= HEADER:
            try:
                length = HEADER + session.check(bytes(self._wire[:HEADER]))
            except BadRecord as error:
                self.system.count("stats.corrupted_records")
                self._drop(Errno.EINVAL if error.fault is Fault.HEADER else Errno.EMSGSIZE)
                return
            if len(self._wire) < length:
                return
            record = bytes(self._wire[:length])
            del self._wire[:length]
            try:
                self._ready.append(Ready(*session.open(record)))
            except BadRecord:
                self.system.count("stats.failed_crypto")
                self._ready.append(int(Errno.EBADMSG))

    def recv(self, size: int, /) -> bytes:
        return self.recvmsg(size, 0, 0)[0]

    def recvmsg(self, size: int, ancillary: int, flags: int, /) -> tuple[bytes, list[tuple[int, int, bytes]], int, Any]:
        session = self._sessions.get(Direction.RX)
        if session is None:
            return self._plain(size)
        if not self._ready:
            if self.closed or self.dropped:
                return b"", [], 0, None
            raise refuse(Errno.EAGAIN)
        first = self._ready[0]
        if isinstance(first, int):
            self._ready.popleft()
            raise refuse(first)
        data = first.data[first.taken : first.taken + size]
        control: list[tuple[int, int, bytes]] = []
        returned = 0
        if first.taken == 0 and ancillary:
            major, minor = divmod(session.outer_version, 256)
            content = TLS_GET_RECORD.pack(first.kind, major, minor, len(first.data).to_bytes(2, "big"))
            # a cmsghdr has 12 bytes and is aligned to 16
            if ancillary >= 16 + TLS_GET_RECORD.size:
                control.append((IPPROTO_TCP, Cmsg.TLS_GET_RECORD, content))
            else:
                returned |= Msg.CTRUNC
        if first.taken + len(data) == len(first.data):
            returned |= Msg.EOR
        if not flags & Msg.PEEK:
            first.taken += len(data)
            if returned & Msg.EOR:
                self._ready.popleft()
        return data, control, returned, None

    def _plain(self, size: int) -> tuple[bytes, list[tuple[int, int, bytes]], int, Any]:
        if not self._wire:
            if self.closed:
                return b"", [], 0, None
            raise refuse(Errno.EAGAIN)
        data = bytes(self._wire[:size])
        del self._wire[:size]
        return data, [], 0, None
