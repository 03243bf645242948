# SPDX-License-Identifier: BSD-2-Clause
"""One libssl opened by path, through cffi: the library, its contexts and its connections.

Everything here meets foreign code, so it runs in a child process (child.py).  The child must start fast: no dataclass,
enum, typing or re at run time.
"""

from __future__ import annotations

import os

from ktlsctl._libssl import ffi as _ffi
from ktlsctl.libsslfile import CRYPTO_NAMES, SSL_NAMES, Unusable, examine

# typing.TYPE_CHECKING, whose import would cost more than this module
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ktlsctl.facts import elf

ffi: Any = _ffi

# include/openssl/ssl.h, bio.h, crypto.h, obj_mac.h: the same numbers from 1.1.1 to 4.x
SSL_OP_ENABLE_KTLS = 1 << 3
SSL_OP_NO_COMPRESSION = 1 << 17
SSL_OP_NO_ENCRYPT_THEN_MAC = 1 << 19
_SSL_CTRL_OPTIONS = 32
_SSL_CTRL_SET_MIN_PROTO_VERSION = 123
_SSL_CTRL_SET_MAX_PROTO_VERSION = 124
SSL_ERROR_WANT_READ, SSL_ERROR_WANT_WRITE = 2, 3
BIO_CTRL_SET_KTLS = 72
_OPENSSL_VERSION, _OPENSSL_DIR = 0, 4
_EVP_PKEY_RSA, _EVP_PKEY_EC = 6, 408
_SSL_CTRL_MODE, _SSL_CTRL_SET_DH_AUTO = 33, 118
SSL_MODE_ENABLE_PARTIAL_WRITE, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER, SSL_MODE_RELEASE_BUFFERS = 1, 2, 16
SSL_ERROR_SSL, SSL_ERROR_SYSCALL, SSL_ERROR_ZERO_RETURN = 1, 5, 6
BIO_CTRL_GET_KTLS_SEND, BIO_CTRL_GET_KTLS_RECV = 73, 76
# NID_auth_rsa, NID_auth_ecdsa, NID_auth_any; NID_kx_rsa, NID_kx_ecdhe, NID_kx_dhe, NID_kx_any
_AUTH_NIDS, _KX_NIDS = (1046, 1047, 1064), (1037, 1038, 1039, 1063)
_X509_VERSION_3 = 2

_SSL_CTRL_SET_GROUPS_LIST, _SSL_CTRL_SET_SIGALGS_LIST, _SSL_VERIFY_NONE = 92, 98, 0
#: What RSA with 2048 bits and P-256 meet, and what Debian has as its default.
_SECURITY_LEVEL = 2
#: The built-in list by its name (3.5 and later), what was built in before, and what a FIPS provider has: the first
#: that the library takes.
_GROUPS = (b"DEFAULT", b"X25519:P-256:X448:P-521:P-384", b"P-256:P-384:P-521")
#: All that the certificates of `certify` can sign with.
_SIGNATURES = b"ECDSA+SHA256:RSA-PSS+SHA256:RSA-PSS+SHA384:RSA-PSS+SHA512:RSA+SHA256:RSA+SHA384:RSA+SHA512"

#: Libraries that this process keeps until it ends.
_HELD: list[Any] = []

_WIRE = {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}

#: What is asked for, version and OpenSSL's name.  tests/test_openssl.py holds it equal to ciphers.SUITES, which would
#: bring dataclasses into the child.
SUITES = (
    ("TLSv1.2", "ECDHE-ECDSA-AES128-GCM-SHA256"),
    ("TLSv1.2", "ECDHE-ECDSA-AES256-GCM-SHA384"),
    ("TLSv1.2", "ECDHE-ECDSA-CHACHA20-POLY1305"),
    ("TLSv1.2", "ECDHE-ECDSA-AES128-CCM"),
    ("TLSv1.2", "ECDHE-ECDSA-AES256-CCM"),
    ("TLSv1.2", "ECDHE-ECDSA-AES128-CCM8"),
    ("TLSv1.2", "ECDHE-ECDSA-AES128-SHA"),
    ("TLSv1.2", "ECDHE-ECDSA-AES256-SHA"),
    ("TLSv1.2", "ECDHE-ECDSA-AES128-SHA256"),
    ("TLSv1.2", "ECDHE-ECDSA-AES256-SHA384"),
    ("TLSv1.2", "ECDHE-ECDSA-ARIA128-GCM-SHA256"),
    ("TLSv1.2", "ECDHE-ECDSA-ARIA256-GCM-SHA384"),
    ("TLSv1.3", "TLS_AES_128_GCM_SHA256"),
    ("TLSv1.3", "TLS_AES_256_GCM_SHA384"),
    ("TLSv1.3", "TLS_CHACHA20_POLY1305_SHA256"),
    ("TLSv1.3", "TLS_AES_128_CCM_SHA256"),
    ("TLSv1.3", "TLS_AES_128_CCM_8_SHA256"),
)


class TlsError(Exception):
    """The library refused; the message is its own reason.

    `kind`: SSL_ERROR_* of the call that failed, 0 where it was none; `errno` what it left, 0 for nothing.
    """

    def __init__(self, message: str, kind: int = 0, errno: int = 0) -> None:
        super().__init__(message)
        self.kind = kind
        self.errno = errno


def mapped(prefixes: tuple[str, ...]) -> list[str]:
    """Real paths of the objects in this process whose file name begins with one of `prefixes`, in order of loading."""
    names: list[str] = []

    def note(info: Any, size: int, data: Any) -> int:
        if info.dlpi_name != ffi.NULL:
            names.append(os.fsdecode(ffi.string(info.dlpi_name)))
        return 0

    ffi.dlopen(None).dl_iterate_phdr(ffi.callback("int(struct dl_phdr_info *, size_t, void *)", note), ffi.NULL)
    return [os.path.realpath(name) for name in names if os.path.basename(name).startswith(prefixes)]


class Libssl:
    """One libssl, mapped with the libcrypto that lies beside it.

    `lib` reaches the functions of both: dlsym on a handle also searches what the object was linked with.
    Raises Unusable when the file cannot be loaded or is no libssl.
    """

    def __init__(self, path: str) -> None:
        file = examine(path)
        if file.soname.startswith(CRYPTO_NAMES):
            raise Unusable("libcrypto", file.soname)
        strangers = mapped(SSL_NAMES + CRYPTO_NAMES)
        if strangers:
            # The dynamic linker would take the libcrypto that is there for the one that is wanted (same SONAME).
            raise Unusable("conflict", strangers[0])
        flags = ffi.RTLD_NOW | ffi.RTLD_LOCAL
        if _has(ffi.dlopen(None), "OpenSSL_version"):
            # An interpreter with OpenSSL linked into it exports the same names: prefer the library's own scope.
            flags |= getattr(os, "RTLD_DEEPBIND", 0)
        self.path = path
        self.lib = _map(path, file, flags)
        if not _has(self.lib, "SSL_CTX_new"):
            raise Unusable("libcrypto" if _has(self.lib, "EVP_PKEY_free") else "not_libssl", file.soname)
        if not _has(self.lib, "OPENSSL_init_ssl"):
            raise Unusable("too_old", file.soname)
        bound = mapped(CRYPTO_NAMES)
        # More than one: the linker did not take the one offered, so libssl uses the later one.
        self.libcrypto = bound[-1] if bound else ""
        self.version = self._text(self.lib.OpenSSL_version(_OPENSSL_VERSION))
        self.directory = self._text(self.lib.OpenSSL_version(_OPENSSL_DIR)).partition('"')[2].rstrip('"')

    @staticmethod
    def _text(value: Any) -> str:
        return "" if value == ffi.NULL else ffi.string(value).decode("utf-8", "replace")

    def addresses(self, names: tuple[str, ...]) -> dict[str, int]:
        """Where these functions are mapped; every name must stand in libssl_build.py.  Raises Unusable."""
        try:
            return {name: int(ffi.cast("uintptr_t", ffi.addressof(self.lib, name))) for name in names}
        except (ffi.error, AttributeError) as error:
            raise Unusable("symbols", str(error)) from None

    def start(self) -> None:
        """Initialise as any program does: default configuration file, the caller's environment."""
        if self.lib.OPENSSL_init_ssl(0, ffi.NULL) != 1:
            raise Unusable("configuration", self.complaint())

    def has(self, name: str) -> bool:
        """Whether it has this function; the name must stand in libssl_build.py."""
        return _has(self.lib, name)

    def config_file(self) -> str:
        """The configuration file it reads: OPENSSL_CONF, or openssl.cnf in its own directory."""
        if not _has(self.lib, "CONF_get1_default_file"):
            return os.environ.get("OPENSSL_CONF") or os.path.join(self.directory, "openssl.cnf")
        return self._text(self.lib.CONF_get1_default_file())

    def complaint(self) -> str:
        """The reasons on the error queue, oldest first, emptied by this.  Reasons only: no data, no secrets."""
        reasons = []
        while code := self.lib.ERR_get_error():
            reason = self._text(self.lib.ERR_reason_error_string(code)) or _unnamed(code)
            if reason not in reasons:
                reasons.append(reason)
        return ", ".join(reasons)

    def context(self, *, server: bool) -> Context:
        """A fresh SSL_CTX, as its effective configuration makes it.  Raises Unusable when there is none to be had."""
        method = self.lib.TLS_server_method() if server else self.lib.TLS_client_method()
        raw = self.lib.SSL_CTX_new(method)
        if raw == ffi.NULL:
            raise Unusable("configuration", self.complaint())
        return Context(self, ffi.gc(raw, self.lib.SSL_CTX_free), server)


def _unnamed(code: int) -> str:
    """An error code without a reason of OpenSSL's: from 3.0 on an errno has none (ERR_SYSTEM_FLAG of openssl/err.h)."""
    return os.strerror(code & 0x7FFFFFFF) if code & 0x80000000 else f"error {code:#x}"


def _has(lib: Any, name: str) -> bool:
    try:
        getattr(lib, name)
    except ffi.error:
        return False
    return True


def _map(path: str, file: elf.Elf, flags: int) -> Any:
    """Load `path` after those of its dependencies that must come from its own directory.

    These are its libcrypto, and what the dynamic linker does not find: a wheel's libraries are found through the module
    that is linked with them, and would not load alone.
    """
    for name in file.needed:
        for directory in (os.path.dirname(path), os.path.dirname(os.path.realpath(path))):
            beside = os.path.join(directory, name)
            if os.path.exists(beside):
                if name.startswith(CRYPTO_NAMES) or not _findable(name, flags):
                    _map(beside, examine(beside), flags)
                break
    return load(path, flags)


def _findable(name: str, flags: int) -> bool:
    try:
        load(name, flags)
    except Unusable:
        return False
    return True


def load(path: str, flags: int) -> Any:
    """Load by path or name, for good: cffi unloads what nobody holds."""
    try:
        _HELD.append(ffi.dlopen(path, flags))
        return _HELD[-1]
    except OSError as error:
        # cffi: "cannot load library 'PATH': what dlerror said", which mostly begins with PATH again
        raise Unusable("load", str(error).partition("': ")[2].removeprefix(f"{path}: ")) from None


def _force(libssl: Libssl, raw: Any, version: str, suite: str) -> None:
    lib, wire = libssl.lib, _WIRE[version]
    choose = lib.SSL_set_ciphersuites if version == "TLSv1.3" else lib.SSL_set_cipher_list
    done = (
        lib.SSL_ctrl(raw, _SSL_CTRL_SET_MIN_PROTO_VERSION, wire, ffi.NULL) == 1
        and lib.SSL_ctrl(raw, _SSL_CTRL_SET_MAX_PROTO_VERSION, wire, ffi.NULL) == 1
        and choose(raw, suite.encode()) == 1
    )
    if not done:
        raise TlsError(libssl.complaint())


def _agreed(libssl: Libssl, raw: Any) -> tuple[str, str]:
    lib, text = libssl.lib, libssl._text
    return text(lib.SSL_get_version(raw)), text(lib.SSL_CIPHER_get_name(lib.SSL_get_current_cipher(raw)))


class Context:
    """An SSL_CTX of one side."""

    def __init__(self, libssl: Libssl, raw: Any, server: bool) -> None:
        self.libssl = libssl
        self.raw = raw
        self.server = server

    def wants_ktls(self) -> bool:
        """Whether SSL_OP_ENABLE_KTLS is set."""
        lib = self.libssl.lib
        if _has(lib, "SSL_CTX_get_options"):
            return bool(lib.SSL_CTX_get_options(self.raw) & SSL_OP_ENABLE_KTLS)
        return bool(lib.SSL_CTX_ctrl(self.raw, _SSL_CTRL_OPTIONS, 0, ffi.NULL) & SSL_OP_ENABLE_KTLS)

    def set_options(self, options: int) -> None:
        """Add SSL_OP_* bits; a library that does not know one ignores it."""
        lib = self.libssl.lib
        if _has(lib, "SSL_CTX_set_options"):
            lib.SSL_CTX_set_options(self.raw, options)
        else:
            lib.SSL_CTX_ctrl(self.raw, _SSL_CTRL_OPTIONS, options, ffi.NULL)

    def lift_limits(self) -> None:
        """Take off what openssl.cnf may have put on and a throw-away certificate cannot meet: security level, groups,
        signature algorithms, the wish for a certificate of the peer's.  They say nothing of record protection."""
        lib, control = self.libssl.lib, self.libssl.lib.SSL_CTX_ctrl
        if _has(lib, "SSL_CTX_get_security_level") and lib.SSL_CTX_get_security_level(self.raw) > _SECURITY_LEVEL:
            lib.SSL_CTX_set_security_level(self.raw, _SECURITY_LEVEL)
        for groups in _GROUPS:
            if control(self.raw, _SSL_CTRL_SET_GROUPS_LIST, 0, ffi.new("char[]", groups)) == 1:
                break
        control(self.raw, _SSL_CTRL_SET_SIGALGS_LIST, 0, ffi.new("char[]", _SIGNATURES))
        lib.SSL_CTX_set_verify(self.raw, _SSL_VERIFY_NONE, ffi.NULL)
        lib.ERR_clear_error()

    def certify(self, rsa: bool = False) -> None:
        """Give it a throw-away self-signed certificate, P-256 or RSA, made by its own libcrypto, in memory."""
        lib = self.libssl.lib
        key = self._new_key(_EVP_PKEY_RSA if rsa else _EVP_PKEY_EC)
        certificate = ffi.gc(lib.X509_new(), lib.X509_free)
        lib.X509_set_version(certificate, _X509_VERSION_3)
        lib.X509_gmtime_adj(lib.X509_getm_notBefore(certificate), -3600)
        lib.X509_gmtime_adj(lib.X509_getm_notAfter(certificate), 3600)
        self._must(lib.X509_set_pubkey(certificate, key))
        self._must(lib.X509_sign(certificate, key, lib.EVP_sha256()))
        self._must(lib.SSL_CTX_use_certificate(self.raw, certificate))
        self._must(lib.SSL_CTX_use_PrivateKey(self.raw, key))

    def _new_key(self, kind: int) -> Any:
        lib = self.libssl.lib
        maker = lib.EVP_PKEY_CTX_new_id(kind, ffi.NULL)
        if maker == ffi.NULL:
            raise Unusable("certificate", self.libssl.complaint())
        maker = ffi.gc(maker, lib.EVP_PKEY_CTX_free)
        self._must(lib.EVP_PKEY_keygen_init(maker))
        setting = (b"ec_paramgen_curve", b"P-256") if kind == _EVP_PKEY_EC else (b"rsa_keygen_bits", b"2048")
        self._must(lib.EVP_PKEY_CTX_ctrl_str(maker, *setting))
        slot = ffi.new("EVP_PKEY **")
        self._must(lib.EVP_PKEY_keygen(maker, slot))
        return ffi.gc(slot[0], lib.EVP_PKEY_free)

    def _must(self, result: int) -> None:
        if result <= 0:
            raise Unusable("certificate", self.libssl.complaint())

    def unbound(self) -> Connection:
        """A connection that has no BIO yet."""
        return Connection(self)

    def offer_all(self) -> None:
        """Every suite that the security level lets pass, those outside the default list included."""
        lib = self.libssl.lib
        lib.SSL_CTX_set_cipher_list(self.raw, b"ALL")
        lib.SSL_CTX_set_ciphersuites(
            self.raw, ":".join(name for version, name in SUITES if version == "TLSv1.3").encode()
        )
        lib.SSL_CTX_ctrl(self.raw, _SSL_CTRL_SET_DH_AUTO, 1, ffi.NULL)
        lib.ERR_clear_error()

    def suites(self) -> list[tuple[str, str]]:
        """(version, name) of what it offers and that needs no more than an RSA or ECDSA certificate."""
        lib, text = self.libssl.lib, self.libssl._text
        session = ffi.gc(lib.SSL_new(self.raw), lib.SSL_free)
        stack = lib.SSL_get1_supported_ciphers(session)
        if stack == ffi.NULL:
            return []
        found = []
        for at in range(lib.OPENSSL_sk_num(stack)):
            cipher = ffi.cast("SSL_CIPHER *", lib.OPENSSL_sk_value(stack, at))
            if lib.SSL_CIPHER_get_auth_nid(cipher) in _AUTH_NIDS and lib.SSL_CIPHER_get_kx_nid(cipher) in _KX_NIDS:
                # SSL_CIPHER_get_version tells the oldest version of a suite: TLSv1.0 and SSLv3 ones also run in 1.2.
                newest = "TLSv1.3" if text(lib.SSL_CIPHER_get_version(cipher)) == "TLSv1.3" else "TLSv1.2"
                found.append((newest, text(lib.SSL_CIPHER_get_name(cipher))))
        lib.OPENSSL_sk_free(stack)
        return found


class Connection:
    """An SSL of one side.  Every call returns at once; a refusal raises TlsError.  It lives until `free`.

    `wants_write`: the last call that could not go on waits for room in the socket's send buffer; `full`: the last
    write did, whatever was read since.
    `error`: SSL_get_error of the last call, 0 when it succeeded.  `raw`, `libssl`: for what has no method here; pass
    its result through `step`, which sets both and raises.
    """

    def __init__(self, context: Context) -> None:
        self.libssl = context.libssl
        self._lib = context.libssl.lib
        self._lib.ERR_clear_error()
        self.raw = self._lib.SSL_new(context.raw)
        if self.raw == ffi.NULL:
            raise TlsError(self.libssl.complaint())
        self.wants_write = self.full = False
        self.error = 0
        (self._lib.SSL_set_accept_state if context.server else self._lib.SSL_set_connect_state)(self.raw)

    @property
    def address(self) -> int:
        return int(ffi.cast("uintptr_t", self.raw))

    def set_fd(self, fd: int) -> None:
        """OpenSSL's own socket BIO for both directions."""
        if self._lib.SSL_set_fd(self.raw, fd) != 1:
            raise TlsError(self.libssl.complaint())

    def set_bio(self, rbio: Any, wbio: Any = None) -> None:
        """One BIO for both directions, or one each; the connection then owns them."""
        self._lib.SSL_set_bio(self.raw, rbio, rbio if wbio is None else wbio)

    def free(self) -> None:
        """SSL_free, its BIOs included."""
        if self.raw is not None:
            self._lib.SSL_free(self.raw)
            self.raw = None

    def force(self, version: str, suite: str) -> None:
        """Allow this version ("TLSv1.3") and suite (OpenSSL's name) only."""
        _force(self.libssl, self.raw, version, suite)

    def handshake(self) -> bool:
        """One step; whether it is finished."""
        return self.step(self._lib.SSL_do_handshake(self.raw)) == 1

    def write_at(self, payload: bytes | bytearray, offset: int, size: int) -> int:
        """Bytes taken: all of `size` (with SSL_MODE_ENABLE_PARTIAL_WRITE: some), or none yet.

        A retry must name the same payload, offset and size.
        """
        where = ffi.from_buffer(payload) + offset
        taken = max(0, self.step(self._lib.SSL_write(self.raw, where, size)))
        self.full = self.wants_write
        return taken

    def sendfile(self, fd: int, offset: int, size: int) -> int | None:
        """Bytes of the file that were sent, 0 at its end; None while there is no room.

        Raises TlsError where TX is not in the kernel.  Ask `libssl.has("SSL_sendfile")` first.
        """
        sent = int(self._lib.SSL_sendfile(self.raw, fd, offset, size, 0))
        self.full = False
        if sent < 0:
            self.step(-1)
            self.full = self.wants_write
            return None
        return sent

    def read_some(self, room: int) -> bytes:
        """What has arrived, at most one record of at most `room` bytes; empty when nothing has, or at the end."""
        space = ffi.new("char[]", room)
        taken = self.step(self._lib.SSL_read(self.raw, space, room))
        return bytes(ffi.buffer(space, taken)) if taken > 0 else b""

    def shutdown(self) -> bool:
        """Send close_notify, and whether the peer's has come."""
        result = self._lib.SSL_shutdown(self.raw)
        if result == 1:
            return True
        if result == 0:
            # Ours is out; reading finds the peer's.
            self.read_some(1024)
            return False
        self.step(result)
        return False

    def agreed(self) -> tuple[str, str]:
        """Version and suite of the finished handshake."""
        return _agreed(self.libssl, self.raw)

    def ktls(self, direction: str) -> bool:
        """BIO_get_ktls_send, BIO_get_ktls_recv: asked of the BIO, since the macros are 0 in a program built without."""
        if direction == "tx":
            bio, question = self._lib.SSL_get_wbio(self.raw), BIO_CTRL_GET_KTLS_SEND
        else:
            bio, question = self._lib.SSL_get_rbio(self.raw), BIO_CTRL_GET_KTLS_RECV
        return bool(self._lib.BIO_ctrl(bio, question, 0, ffi.NULL) > 0)

    def allow(self, mode: int) -> None:
        """Add SSL_MODE_* bits."""
        self._lib.SSL_ctrl(self.raw, _SSL_CTRL_MODE, mode, ffi.NULL)

    def without_ktls(self) -> None:
        """Take SSL_OP_ENABLE_KTLS off this connection alone; before its handshake."""
        self._lib.SSL_clear_options(self.raw, SSL_OP_ENABLE_KTLS)

    def set_options(self, options: int) -> None:
        """Add SSL_OP_* bits; a library that does not know one ignores it."""
        self._lib.SSL_set_options(self.raw, options)

    def step(self, result: int) -> int:
        """The result of an SSL_* call on this connection, once its error is known.  Raises TlsError."""
        left = int(ffi.errno)
        self.wants_write, self.error = False, 0
        if result <= 0:
            why = self.error = int(self._lib.SSL_get_error(self.raw, result))
            self.wants_write = why == SSL_ERROR_WANT_WRITE
            if why == SSL_ERROR_SYSCALL:
                raise TlsError(self.libssl.complaint() or (os.strerror(left) if left else "end of file"), why, left)
            if why not in (SSL_ERROR_WANT_READ, SSL_ERROR_WANT_WRITE, SSL_ERROR_ZERO_RETURN):
                raise TlsError(self.libssl.complaint() or f"SSL error {why}", why, left)
        return result


class Memory:
    """An SSL of one side on two memory BIOs, whose bytes the caller carries.  A library's refusal raises TlsError."""

    def __init__(self, context: Context, version: str, suite: str) -> None:
        self._lib = context.libssl.lib
        self._room = ffi.new("char[]", 1 << 16)
        incoming = self._incoming = self._lib.BIO_new(self._lib.BIO_s_mem())
        self._outgoing = self._lib.BIO_new(self._lib.BIO_s_mem())
        self._connection = context.unbound()
        self._connection.set_bio(incoming, self._outgoing)
        self._connection.force(version, suite)

    def handshake(self) -> bool:
        """One step; whether it is finished."""
        return self._connection.handshake()

    def write(self, data: bytes) -> None:
        self._connection.write_at(data, 0, len(data))

    def read(self) -> bytes:
        """What has arrived, at most one record; empty when nothing has."""
        return self._connection.read_some(len(self._room))

    def put(self, wire: bytes) -> None:
        """Bytes of records from the peer."""
        self._lib.BIO_write(self._incoming, wire, len(wire))

    def take(self) -> bytes:
        """Bytes of records for the peer."""
        pieces = []
        while (size := self._lib.BIO_read(self._outgoing, self._room, len(self._room))) > 0:
            pieces.append(bytes(ffi.buffer(self._room, size)))
        return b"".join(pieces)

    def close(self) -> None:
        self._connection.free()
