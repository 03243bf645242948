# SPDX-License-Identifier: BSD-2-Clause
"""What the running kernel takes: keys of throw-away loopback sockets, handed over with setsockopt, errno kept.

`probe` runs in a child.  Its keys are random, are used for one record at most, and never leave the child.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ktlsctl.ciphers import BOGUS_CIPHER_ID, LINUX_CIPHERS, LinuxCipher
from ktlsctl.codec import decode, encode
from ktlsctl.facts.attempts import mapped
from ktlsctl.facts.capability import Capability, drop_net_admin
from ktlsctl.host import Host, Pending
from ktlsctl.model import Attempt, Direction, TlsVersion

if TYPE_CHECKING:
    from socket import socket

TARGET = "ktlsctl.facts.ulp:probe"

#: Seconds for the whole child, and until it answers with what it has.  For a cipher that was not built the kernel runs
#: modprobe several times: 0.6 s under emulation, many seconds on a busy machine.
TIMEOUT = 30.0
BUDGET = 20.0

# include/uapi/linux/tcp.h, include/linux/socket.h, include/uapi/linux/tls.h; Python's socket has none of them
_TCP_ULP = 31
_SOL_TLS = 282
_OPTION = {Direction.TX: 1, Direction.RX: 2}
_TLS_RX_EXPECT_NO_PAD = 4
_TLS_TX_MAX_PAYLOAD_LEN = 5


@dataclass(frozen=True, slots=True)
class Tried:
    """One call: `errno` is the symbol of the refusal, None when it was accepted or not made at all."""

    made: bool = False
    errno: str | None = None

    @property
    def accepted(self) -> bool:
        return self.made and self.errno is None


@dataclass(frozen=True, slots=True)
class TriedCell:
    """One key offered on a fresh socket.  `shared`: not asked again, its algorithm had been found missing."""

    version: TlsVersion
    cipher: str
    direction: Direction
    tried: Tried
    shared: bool = False


@dataclass(frozen=True, slots=True)
class Answers:
    """All that the child found out.

    `pair`: whether loopback sockets could be connected.  `attach`: TCP_ULP "tls" (on an unconnected socket when there
    is no pair: ENOTCONN then says that the ULP is registered).  `control`: a cipher that no kernel knows.  `rekey`: a
    second TLS 1.3 key for sending.  `disconnect`: connect(AF_UNSPEC).  `echo`: one record there and back.
    `pulled`: kernel modules that appeared meanwhile.
    """

    capability: Capability
    pair: Tried
    attach: Tried = Tried()
    control: Tried = Tried()
    cells: tuple[TriedCell, ...] = ()
    rekey: Tried = Tried()
    disconnect: Tried = Tried()
    max_payload: Tried = Tried()
    expect_no_pad: Tried = Tried()
    echo: Tried = Tried()
    echo_equal: bool = False
    pulled: tuple[str, ...] = ()


def begin(host: Host, *, load: bool) -> Pending:
    """Start the child.  Only with `load` may its touching TCP_ULP make the kernel load the module."""
    return host.begin(TARGET, {"load": load, "seconds": BUDGET}, TIMEOUT)


def collect(pending: Pending) -> Attempt[Answers]:
    return collect_answer(pending.answer())


def collect_answer(answer: Attempt[Any]) -> Attempt[Answers]:
    """FAILED when a capture holds something else."""
    return mapped(answer, lambda value: decode(Answers, value))


# --- in the child ---------------------------------------------------------------------------------------------------


def probe(argument: Any) -> Any:
    """Ask this kernel.  `argument`: {"load": bool, "seconds": float}; returns Answers as a JSON value."""
    end = time.monotonic() + float(argument["seconds"])
    capability = Capability.KEPT if argument["load"] else drop_net_admin()
    if capability is Capability.STUCK and not os.path.exists("/proc/net/tls_stat"):
        # asking could load the module, and that is not ours to do
        return encode(Answers(capability, Tried()))
    before = _module_names()
    answers = _ask(capability, end)
    pulled = tuple(sorted(_module_names() - before))
    return encode(_with(answers, pulled=pulled))


def _with(answers: Answers, **changes: Any) -> Answers:
    from dataclasses import replace

    return replace(answers, **changes)


def _module_names() -> set[str]:
    try:
        with open("/proc/modules", "rb") as file:
            return {line.split(b" ", 1)[0].decode("utf-8", "replace") for line in file}
    except OSError:
        return set()


def _try(call: Callable[[], object]) -> Tried:
    try:
        call()
    except OSError as error:  # socket.timeout too: it has no errno
        return Tried(True, _symbol(error.errno or errno.ETIMEDOUT))
    return Tried(True)


def _symbol(number: int) -> str:
    """EOPNOTSUPP under the name that the kernel's source has for it: on Linux ENOTSUP is the same number."""
    return "EOPNOTSUPP" if number == errno.EOPNOTSUPP else errno.errorcode.get(number, f"errno {number}")


class _Loopback:
    """Makes connected TCP pairs, both ends in this process, for any thread."""

    def __init__(self, listener: socket) -> None:
        import threading

        self._listener = listener
        self._one_at_a_time = threading.Lock()

    @contextlib.contextmanager
    def pair(self) -> Iterator[tuple[socket, socket]]:
        import socket

        with socket.socket(self._listener.family, socket.SOCK_STREAM) as client:
            client.settimeout(2.0)
            with self._one_at_a_time:  # so that what is accepted is what was connected
                client.connect(self._listener.getsockname())
                server, _ = self._listener.accept()
            with server:
                server.settimeout(2.0)
                yield client, server


def _listen() -> socket:
    """On IPv4, or on IPv6 where there is no IPv4.  Raises OSError of the first when neither is up."""
    import socket

    first: OSError | None = None
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        try:
            listener = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:
            first = first or error
            continue
        try:
            listener.settimeout(2.0)
            listener.bind((address, 0))
            listener.listen(4)
            with _Loopback(listener).pair():
                return listener
        except OSError as error:
            listener.close()
            first = first or error
    assert first is not None
    raise first


def _attach(sock: socket) -> None:
    sock.setsockopt(6, _TCP_ULP, b"tls")


def _key(version: TlsVersion, cipher: LinuxCipher) -> bytes:
    """`struct tls12_crypto_info_*` with random iv, key and salt, and record number 0."""
    secret = os.urandom(cipher.iv + cipher.key + cipher.salt)
    return struct.pack("=HH", version.wire, cipher.id) + secret + bytes(cipher.REC_SEQ)


def _install(sock: socket, direction: Direction, key: bytes) -> None:
    """By ctypes, which lets the other threads run meanwhile; Python's own setsockopt does not."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setsockopt(sock.fileno(), _SOL_TLS, _OPTION[direction], key, len(key)):
        raise OSError(ctypes.get_errno(), "setsockopt")


def _ask(capability: Capability, end: float) -> Answers:
    import socket

    try:
        listener = _listen()
    except OSError as error:
        no_pair = Tried(True, _symbol(error.errno or errno.ETIMEDOUT))
        with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_STREAM) as unconnected:
            return Answers(capability, no_pair, attach=_try(lambda: _attach(unconnected)))
        return Answers(capability, no_pair)
    with listener:
        loopback = _Loopback(listener)
        with loopback.pair() as (client, _):
            attach = _try(lambda: _attach(client))
            if not attach.accepted:
                return Answers(capability, Tried(True), attach)
            control = _try(lambda: client.setsockopt(_SOL_TLS, 1, _bogus()))
            # on a socket without keys: a kernel that allows it loses nothing there
            disconnect = _try(lambda: _disconnect(client))
        answers = Answers(capability, Tried(True), attach, control, disconnect=disconnect)
        if control.errno != "EINVAL":
            return answers
        answers = _with(answers, **_features(loopback))
        return _with(answers, cells=_cells(loopback, end))


def _bogus() -> bytes:
    return struct.pack("=HH", TlsVersion.TLS12.wire, BOGUS_CIPHER_ID) + os.urandom(36)


def _disconnect(sock: socket) -> None:
    """connect(AF_UNSPEC), which Python's socket cannot say.  EOPNOTSUPP since the fix of CVE-2025-37756."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.connect(sock.fileno(), ctypes.create_string_buffer(16), 16):
        raise OSError(ctypes.get_errno(), "connect")


def _features(loopback: _Loopback) -> dict[str, Any]:
    """One record there and back under TLS 1.2, then what a TLS 1.3 socket can do beyond keys."""
    aes = LINUX_CIPHERS[0]
    found: dict[str, Any] = {}
    with loopback.pair() as (client, server):
        key, text = _key(TlsVersion.TLS12, aes), os.urandom(64)

        def echo() -> None:
            for sock, direction in ((client, Direction.TX), (server, Direction.RX)):
                _attach(sock)
                _install(sock, direction, key)
            client.sendall(text)
            found["echo_equal"] = server.recv(len(text) + 1) == text

        found["echo"] = _try(echo)
    with loopback.pair() as (client, server):
        _attach(client)
        _attach(server)
        if _try(lambda: _install(client, Direction.TX, _key(TlsVersion.TLS13, aes))).accepted:
            found["rekey"] = _try(lambda: _install(client, Direction.TX, _key(TlsVersion.TLS13, aes)))
            size = struct.pack("=H", 16384)
            found["max_payload"] = _try(lambda: client.setsockopt(_SOL_TLS, _TLS_TX_MAX_PAYLOAD_LEN, size))
        if _try(lambda: _install(server, Direction.RX, _key(TlsVersion.TLS13, aes))).accepted:
            found["expect_no_pad"] = _try(lambda: server.setsockopt(_SOL_TLS, _TLS_RX_EXPECT_NO_PAD, 1))
    return found


def _cells(loopback: _Loopback, end: float) -> tuple[TriedCell, ...]:
    """Every cell, in the order of LINUX_CIPHERS.  Each algorithm is asked for in a thread of its own, so that one over
    which the kernel takes long loses no other; what has no answer at `end` (time.monotonic()) counts as not made."""
    import threading

    found: dict[tuple[TlsVersion, str, Direction], TriedCell] = {}

    def ask(algorithm: str) -> None:
        # Asked once per version: crypto finds an algorithm by its name alone, whatever the direction, and after
        # versions and ciphers that do not go together were refused with EINVAL (tls_set_sw_offload, tls_sw.c).
        missing: set[TlsVersion] = set()
        for cipher, version, direction in _questions():
            if cipher.algorithm != algorithm:
                continue
            shared = version in missing
            tried = Tried(True, "ENOENT") if shared else _cell(loopback, version, cipher, direction)
            if tried.errno == "ENOENT":
                missing.add(version)
            found[version, cipher.name, direction] = TriedCell(version, cipher.name, direction, tried, shared)

    # daemons: the process ends without them (child.serve), and with it the calls that they wait in
    algorithms = dict.fromkeys(cipher.algorithm for cipher in LINUX_CIPHERS)
    threads = [threading.Thread(target=ask, args=(algorithm,), daemon=True) for algorithm in algorithms]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    answered = dict(found)
    return tuple(
        answered.get((version, cipher.name, direction), TriedCell(version, cipher.name, direction, Tried()))
        for cipher, version, direction in _questions()
    )


def _questions() -> Iterator[tuple[LinuxCipher, TlsVersion, Direction]]:
    return ((c, v, d) for c in LINUX_CIPHERS for v in TlsVersion for d in Direction)


def _cell(loopback: _Loopback, version: TlsVersion, cipher: LinuxCipher, direction: Direction) -> Tried:
    def offer() -> None:
        with loopback.pair() as (client, _):
            _attach(client)
            _install(client, direction, _key(version, cipher))

    return _try(offer)
