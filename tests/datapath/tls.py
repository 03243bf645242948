# SPDX-License-Identifier: BSD-2-Clause
"""A small TLS driver for the datapath's tests: any libssl by ctypes, both ends of a loopback session in one thread.

Deliberately not the project's own `openssl.py`: the tests of one room should not rest on another.
"""

from __future__ import annotations

import contextlib
import ctypes as C
import ctypes.util
import select
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ktlsctl.datapath import SYMBOLS, Bio, Datapath, Library

OP_ENABLE_KTLS = 1 << 3
WANT_READ, WANT_WRITE, SYSCALL, ZERO_RETURN = 2, 3, 5, 6
MODE_PARTIAL, MODE_MOVING, MODE_RELEASE = 1, 2, 16
TLS12, TLS13 = 0x0303, 0x0304

P, N, L = C.c_void_p, C.c_int, C.c_long
PROTOTYPES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "TLS_method": (P, ()),
    "SSL_CTX_new": (P, (P,)),
    "SSL_CTX_free": (None, (P,)),
    "SSL_CTX_ctrl": (L, (P, N, L, P)),
    "SSL_CTX_set_options": (C.c_uint64, (P, C.c_uint64)),
    "SSL_CTX_use_certificate_file": (N, (P, C.c_char_p, N)),
    "SSL_CTX_use_PrivateKey_file": (N, (P, C.c_char_p, N)),
    "SSL_CTX_set_cipher_list": (N, (P, C.c_char_p)),
    "SSL_CTX_set_ciphersuites": (N, (P, C.c_char_p)),
    "SSL_CTX_set_num_tickets": (N, (P, C.c_size_t)),
    "SSL_new": (P, (P,)),
    "SSL_free": (None, (P,)),
    "SSL_ctrl": (L, (P, N, L, P)),
    "SSL_set_fd": (N, (P, N)),
    "SSL_get_wfd": (N, (P,)),
    "SSL_get_rbio": (P, (P,)),
    "SSL_set_accept_state": (None, (P,)),
    "SSL_set_connect_state": (None, (P,)),
    "SSL_do_handshake": (N, (P,)),
    "SSL_is_init_finished": (N, (P,)),
    "SSL_read": (N, (P, P, N)),
    "SSL_write": (N, (P, P, N)),
    "SSL_shutdown": (N, (P,)),
    "SSL_key_update": (N, (P, N)),
    "SSL_get_error": (N, (P, N)),
    "SSL_get_current_cipher": (P, (P,)),
    "SSL_CIPHER_get_name": (C.c_char_p, (P,)),
    "BIO_ctrl": (L, (P, N, L, P)),
    "BIO_read": (N, (P, P, N)),
    "BIO_write": (N, (P, P, N)),
    "BIO_test_flags": (N, (P, N)),
    "BIO_free": (N, (P,)),
    "BIO_method_type": (N, (P,)),
    "ERR_clear_error": (None, ()),
    "ERR_get_error": (C.c_ulong, ()),
    "ERR_error_string_n": (None, (C.c_ulong, C.c_char_p, C.c_size_t)),
    "OpenSSL_version": (C.c_char_p, (N,)),
}
OPTIONAL: dict[str, tuple[Any, tuple[Any, ...]]] = {"SSL_sendfile": (C.c_ssize_t, (P, N, L, C.c_size_t, N))}


class TlsError(Exception):
    def __init__(self, code: int, errno: int, queue: list[str]) -> None:
        super().__init__(code, errno, queue)
        self.code, self.errno, self.queue = code, errno, queue


class Ossl:
    """One libssl."""

    def __init__(self, path: str | None = None) -> None:
        name = path or ctypes.util.find_library("ssl") or "libssl.so.3"
        self.dll = C.CDLL(name, use_errno=True)
        for symbol, (result, arguments) in {**PROTOTYPES, **OPTIONAL}.items():
            function = getattr(self.dll, symbol, None)
            if function is None and symbol in OPTIONAL:
                continue
            function = getattr(self.dll, symbol)
            function.restype, function.argtypes = result, arguments
            setattr(self, symbol, function)
        self.version = self.OpenSSL_version(0).decode()

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)

    def addresses(self) -> dict[str, int]:
        return {n: C.cast(getattr(self.dll, n), P).value or 0 for n in SYMBOLS}

    def errors(self) -> list[str]:
        queue = []
        while code := self.ERR_get_error():
            text = C.create_string_buffer(256)
            self.ERR_error_string_n(code, text, 256)
            queue.append(text.value.decode())
        return queue

    @contextlib.contextmanager
    def context(
        self, version: int, suite: str, certificate: Path | None = None, *, ktls: bool = True, mode: int = MODE_RELEASE
    ) -> Iterator[int]:
        ctx = self.SSL_CTX_new(self.TLS_method())
        try:
            self.SSL_CTX_ctrl(ctx, 123, version, None)
            self.SSL_CTX_ctrl(ctx, 124, version, None)
            if version == TLS13:
                assert self.SSL_CTX_set_ciphersuites(ctx, suite.encode()), self.errors()
            else:
                assert self.SSL_CTX_set_cipher_list(ctx, f"{suite}:@SECLEVEL=0".encode()), self.errors()
            if ktls:
                self.SSL_CTX_set_options(ctx, OP_ENABLE_KTLS)
            self.SSL_CTX_ctrl(ctx, 33, mode, None)
            if certificate:
                assert self.SSL_CTX_use_certificate_file(ctx, bytes(certificate), 1), self.errors()
                assert self.SSL_CTX_use_PrivateKey_file(ctx, bytes(certificate), 1), self.errors()
            yield ctx
        finally:
            self.SSL_CTX_free(ctx)


def certificate(directory: Path) -> Path:
    """A self-signed P-256 certificate and its key in one PEM file."""
    path = directory / "end.pem"
    if not path.exists():
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", str(path))
        request = ("openssl", "req", "-x509", "-days", "2", "-subj", "/CN=localhost", "-out", f"{path}.crt")
        subprocess.run([*request, *key], check=True, capture_output=True)
        path.write_bytes(path.read_bytes() + Path(str(path) + ".crt").read_bytes())
    return path


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        a = socket.create_connection(listener.getsockname())
        b, _ = listener.accept()
    for s in (a, b):
        s.setblocking(False)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return a, b


class End:
    """One end of a session.  `bio` None: OpenSSL's own socket BIO."""

    def __init__(
        self, ossl: Ossl, ctx: int, sock: socket.socket, server: bool, path: Datapath | None, **how: Any
    ) -> None:
        self.ossl, self.sock, self.server = ossl, sock, server
        self.ssl = ossl.SSL_new(ctx)
        self.bio: Bio | None = None
        if path is None:
            ossl.SSL_set_fd(self.ssl, sock.fileno())
        else:
            self.bio = path.bio(sock.fileno(), **how)
            self.bio.attach(self.ssl)
        (ossl.SSL_set_accept_state if server else ossl.SSL_set_connect_state)(self.ssl)
        self.wants = (True, False)

    def attempt(self, call: Callable[[], int]) -> int | None:
        """The result, or None when it must be tried again; `wants` says after what."""
        self.ossl.ERR_clear_error()
        C.set_errno(0)
        rc = call()
        if rc > 0:
            return rc
        errno = C.get_errno()
        code = self.ossl.SSL_get_error(self.ssl, rc)
        if code in (WANT_READ, WANT_WRITE):
            self.wants = (code == WANT_READ, code == WANT_WRITE)
            return None
        if code == ZERO_RETURN:
            return 0
        raise TlsError(code, errno, self.ossl.errors())

    def handshake(self) -> int | None:
        return self.attempt(lambda: self.ossl.SSL_do_handshake(self.ssl))

    def write(self, data: C.Array[Any], offset: int, count: int) -> int | None:
        return self.attempt(lambda: self.ossl.SSL_write(self.ssl, C.addressof(data) + offset, count))

    def read(self, count: int = 16384) -> bytes | None:
        """Data, b"" after close_notify, None: try again."""
        buffer = C.create_string_buffer(count)
        n = self.attempt(lambda: self.ossl.SSL_read(self.ssl, buffer, count))
        return None if n is None else buffer.raw[:n]

    def ktls(self) -> tuple[bool, bool]:
        """(TX, RX) as OpenSSL asks its BIO; bit 13 of a 4-byte getsockopt is another witness."""
        bio = self.ossl.SSL_get_rbio(self.ssl)
        return self.ossl.BIO_ctrl(bio, 73, 0, None) > 0, self.ossl.BIO_ctrl(bio, 76, 0, None) > 0

    def free(self) -> None:
        if self.ssl:
            if self.bio:
                self.bio.close()
            self.ossl.SSL_free(self.ssl)
            self.ssl = None
        self.sock.close()


class Session:
    """Both ends on one loopback connection, driven from one thread."""

    def __init__(
        self,
        ossl: Ossl,
        version: int,
        suite: str,
        pem: Path,
        path: Datapath | None,
        *,
        sndbuf: int = 0,
        client: dict[str, Any] | None = None,
        server: dict[str, Any] | None = None,
        ktls: bool = True,
        mode: int = MODE_RELEASE,
        timeout: float = 30.0,
    ) -> None:
        self.path = path
        self.deadline = time.monotonic() + timeout
        self.turns = 0
        a, b = tcp_pair()
        if sndbuf:
            for s in (a, b):
                s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, sndbuf)
        with (
            ossl.context(version, suite, ktls=ktls, mode=mode) as cctx,
            ossl.context(version, suite, pem, ktls=ktls, mode=mode) as sctx,
        ):
            self.client = End(ossl, cctx, a, False, path, **(client or {}))
            self.server = End(ossl, sctx, b, True, path, **(server or {}))
        self.ends = (self.client, self.server)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        for end in self.ends:
            end.free()

    def wait(self, ends: list[End]) -> None:
        left = self.deadline - time.monotonic()
        assert left > 0, f"deadline; {[(e.server, e.wants, e.bio and e.bio.stats()) for e in self.ends]}"
        self.turns += 1
        if self.path is not None:
            self.path.wait([(e.bio, *e.wants) for e in ends if e.bio], min(left, 1.0))
        else:
            poller = select.poll()
            for e in ends:
                poller.register(e.sock, select.POLLIN * e.wants[0] | select.POLLOUT * e.wants[1])
            poller.poll(min(left, 1.0) * 1000)

    def handshake(self) -> None:
        todo = list(self.ends)
        while todo:
            rest = [e for e in todo if e.handshake() is None]
            if rest and len(rest) == len(todo):
                self.wait(rest)
            todo = rest

    def transfer(self, source: End, sink: End, data: bytes, chunk: int = 16384) -> bytes:
        """Send it all one way; what arrived."""
        held = (C.c_char * len(data)).from_buffer_copy(data)  # pinned: a retry repeats the same address
        sent, got = 0, bytearray()
        while len(got) < len(data):
            progress = False
            if sent < len(data) and (n := source.write(held, sent, min(chunk, len(data) - sent))):
                sent += n
                progress = True
            while piece := sink.read(32768):
                got += piece
                progress = True
            if not progress:
                sink.wants = (True, False)
                self.wait([source, sink] if sent < len(data) else [sink, source])
        return bytes(got)

    def shutdown(self) -> None:
        """close_notify both ways, both seen."""
        seen = dict.fromkeys(self.ends, False)
        for end in self.ends:
            end.ossl.ERR_clear_error()
            end.ossl.SSL_shutdown(end.ssl)
        while not all(seen.values()):
            for end in self.ends:
                if not seen[end]:
                    while (piece := end.read()) is not None:
                        if piece == b"":
                            seen[end] = True
                            break
            if not all(seen.values()):
                self.wait([e for e in self.ends if not seen[e]])


@contextlib.contextmanager
def library(ossl: Ossl) -> Iterator[Library]:
    with Library(ossl.addresses()) as bound:
        yield bound
