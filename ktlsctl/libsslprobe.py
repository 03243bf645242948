# SPDX-License-Identifier: BSD-2-Clause
"""What child.py asks a TLS library: what it is, whether it would hand its keys over, what its configuration wants.

Plain values only; facts/answers.py gives them their types.
"""

from __future__ import annotations

import os
import sys

from ktlsctl.libssl import SSL_OP_ENABLE_KTLS, SSL_OP_NO_ENCRYPT_THEN_MAC, SUITES, Libssl, ffi, load, mapped
from ktlsctl.libsslfile import SSL_NAMES, Unusable, examine, signs
from ktlsctl.watcher import Watcher, converse

# typing.TYPE_CHECKING, whose import would cost more than this module
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def probe(argument: Any) -> dict[str, Any]:
    """Everything one libssl says of itself.  `{"path": …}` in, answers.Answer out."""
    answer: dict[str, Any] = {"fault": None, "detail": ""}
    try:
        libssl = Libssl(argument["path"])
        answer |= {"version": libssl.version, "libcrypto": libssl.libcrypto, "directory": libssl.directory}
        answer["config_file"] = libssl.config_file()
        libssl.start()
        server, client = libssl.context(server=True), libssl.context(server=False)
        answer["option"] = server.wants_ktls() or client.wants_ktls()
        for context in (server, client):
            context.lift_limits()
        server.certify()
        watcher = Watcher(libssl)
        # Before anybody asks: FreeBSD's 1.1.1 has no option and tries always.
        first = converse(server, client, watcher, *SUITES[0])
        answer["unprompted"] = any(count for side in ("server", "client") for count in first[side].values())
        server.set_options(SSL_OP_ENABLE_KTLS)
        # encrypt-then-MAC keeps CBC suites in user space, also on FreeBSD: be a peer that does not know it
        client.set_options(SSL_OP_ENABLE_KTLS | SSL_OP_NO_ENCRYPT_THEN_MAC)
        answer["suites"] = [converse(server, client, watcher, *suite) for suite in SUITES]
    except Unusable as error:
        answer |= {"fault": error.fault, "detail": error.detail}
    except ffi.error as error:
        # cffi, for a function that is not there: "symbol 'NAME' not found in library 'PATH': …"
        answer |= {"fault": "symbols", "detail": str(error).partition(" not found")[0]}
    return answer


def wants(argument: Any) -> dict[str, Any]:
    """Whether fresh contexts want kTLS under a configuration file.

    `{"path": …, "config": …}` in; config None: the library's own.  `server` and `client` are None when the library
    makes no context; `fault` and `detail` then say why.
    """
    answer: dict[str, Any] = {"server": None, "client": None, "fault": None, "detail": ""}
    if argument["config"] is not None:
        os.environ["OPENSSL_CONF"] = argument["config"]
    try:
        libssl = Libssl(argument["path"])
        libssl.start()
        for side in ("server", "client"):
            answer[side] = libssl.context(server=side == "server").wants_ktls()
    except Unusable as error:
        answer |= {"fault": error.fault, "detail": error.detail}
    return answer


def python(argument: Any) -> dict[str, Any]:
    """Which libssl this interpreter's `ssl` uses, and which one cryptography carries.  answers.PythonAnswer out."""
    answer: dict[str, Any] = {"bindings": []}
    try:
        import _ssl
    except ImportError as error:
        answer["absent"] = str(error)
    else:
        module = getattr(_ssl, "__file__", None) or sys.executable
        answer["ssl"] = {"file": os.path.realpath(module), **_linked(module, mapped(SSL_NAMES))}
        answer["ssl"]["version"] = _ssl.OPENSSL_VERSION
    for file in _bindings():
        try:
            wanted = tuple(name for name in examine(file).needed if name.startswith(SSL_NAMES))
            for name in wanted:
                # by name, as the dynamic linker does for the module: one that `ssl` has mapped is taken again
                load(name, ffi.RTLD_NOW)
        except Unusable:
            continue  # a module that cannot be loaded serves nobody
        linked = _linked(file, mapped(wanted) if wanted else [])
        answer["bindings"].append({"file": os.path.realpath(file), **linked})
    return answer


def _bindings() -> list[str]:
    """cryptography's extension modules that carry OpenSSL or are linked with it; importing them would cost 100 ms."""
    for directory in sys.path:
        where = os.path.join(directory, "cryptography", "hazmat", "bindings")
        try:
            names = os.listdir(where)
        except OSError:
            continue
        # before cryptography 40 there was an _openssl beside _rust, and only that one was linked with libssl
        for stem in ("_openssl", "_rust"):
            found = [os.path.join(where, n) for n in names if n.startswith(stem + ".") and n.endswith(".so")]
            if found:
                return found
    return []


def _linked(file: str, libraries: list[str]) -> dict[str, Any]:
    """The libssl it is bound to; where there is none, what stands in the file itself."""
    if libraries:
        return {"libssl": libraries[0], "version": "", "strings": False}
    version, strings = signs(file)
    return {"libssl": "", "version": version, "strings": strings}
