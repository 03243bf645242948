# SPDX-License-Identifier: BSD-2-Clause
"""How each application is told to use kernel TLS, as data, and what is installed of it here.

Nothing is written: what stands in an application's own configuration is the administrator's.  Each text was tried with
the real program where there is one that can do it; version limits are those of its sources and release notes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from ktlsctl import advisories
from ktlsctl.host import Host

Release = tuple[int, ...]


class Standing(StrEnum):
    """What the version that is installed here can do."""

    READY = "ready"
    #: it could, but sends wrong data with the OpenSSL that it uses
    HARMFUL = "harmful"
    TOO_OLD = "too_old"
    NEVER = "never"
    ABSENT = "absent"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Step:
    """A command that shows something, and what it shows."""

    command: str
    shows: str


@dataclass(frozen=True, slots=True)
class Snippet:
    """One application.  Texts are sentences; `lines` and `off` go into a configuration file as they are.

    `where`: the file and the place in it; "" with `lines` "" when nothing can be put anywhere.  `since`: the first
    release that can, None: no release.  `version`: commands that tell the release, the first that is there counts;
    `pattern`: where in the answer, as the group `release`, and where it says so the OpenSSL it runs with as `openssl`.
    """

    name: str
    title: str
    needs: str
    where: str
    lines: str
    off: str
    verify: tuple[Step, ...]
    notes: tuple[str, ...]
    since: Release | None
    version: tuple[tuple[str, ...], ...]
    pattern: str
    #: what the release does not tell, where more than the release decides
    untold: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """What is installed here: the release as the program says it, "" when it did not say."""

    standing: Standing
    release: str = ""
    reason: str = ""


_COUNTERS = Step("grep -E 'Tls(Curr)?[TR]x' /proc/net/tls_stat", "Linux: the counters move with its sessions")
_SS = Step("ss -tnpie", "Linux, as root: txconf and rxconf of each of its sockets say sw or hw")
_BSD = Step("sysctl kern.ipc.tls.stats", "FreeBSD: the counters move with its sessions")
_MOVING = (
    "it repeats writes from another buffer: with an OpenSSL before 3.5.7, 3.6.3 or 4.0.1 (3.0 has no correction) kernel"
    " TLS makes it send wrong data; leave it off there"
)

_PYTHON = """\
import ssl

context = ssl.create_default_context()  # or the one that the program has
major, minor, _, patch, _ = ssl.OPENSSL_VERSION_INFO
# since when a repeated write sends the right data
sound = {(3, 5): 7, (3, 6): 3, (4, 0): 1}.get((major, minor))
if (major, minor) > (4, 0) or (sound is not None and patch >= sound):
    # its name is there from Python 3.12 on
    context.options |= getattr(ssl, "OP_ENABLE_KTLS", 1 << 3)
"""

SNIPPETS = (
    Snippet(
        "nginx",
        "nginx",
        "nginx 1.21.4 or later with OpenSSL 3.0 or later that was built with kernel TLS",
        "nginx.conf, in the http block, or in a server block: one there replaces those of the http block",
        "ssl_conf_command Options KTLS;\n",
        "ssl_conf_command Options -KTLS;\n",
        (
            Step("nginx -t", "the file is right; nginx -s reload uses it"),
            _COUNTERS,
            _BSD,
            Step(
                "error_log FILE debug;",
                "in nginx.conf, if built --with-debug: BIO_get_ktls_send(): 1, SSL_sendfile: BYTES",
            ),
        ),
        (
            "files are sent with SSL_sendfile over HTTP/1 only; HTTP/2, and what is proxied or compressed, is still"
            " encrypted by the kernel; HTTP/3 never is",
            "files need `sendfile on;` in the http block: distributions' nginx.conf has it, and nginx takes no second",
            "it concerns every site of the server, or with a server block its own",
        ),
        (1, 21, 4),
        (("nginx", "-v"),),
        r"nginx version: \S+?/(?P<release>\d+\.\d+\.\d+)",
    ),
    Snippet(
        "haproxy",
        "HAProxy",
        "HAProxy 3.3 or later on Linux 4.17 or later, where it is experimental",
        "haproxy.cfg: the first line in the global section, `ktls on` behind every bind or server line that shall have"
        " it",
        "global\n    expose-experimental-directives\n\nfrontend FRONTEND\n    bind :443 ssl crt FILE ktls on\n",
        "global\n    noktls\n",
        (
            Step("haproxy -c -f /etc/haproxy/haproxy.cfg", "the file is right"),
            Step("haproxy -vv | grep KTLS", "+KTLS: it was built with it"),
            _SS,
            _COUNTERS,
        ),
        (
            "up to 3.2 it has a BIO of its own and never uses kernel TLS; Options = KTLS in openssl.cnf does nothing"
            " to it",
            "a peer that sends KeyUpdate in a storm can stop it where it splices: https://github.com/haproxy/haproxy/issues/3450",
        ),
        (3, 3),
        (("haproxy", "-v"),),
        r"HA-?Proxy version (?P<release>\d+\.\d+(?:\.\d+)?)",
    ),
    Snippet(
        "apache",
        "Apache httpd",
        "no release: mod_ssl reads and writes the socket itself and refuses when OpenSSL asks for the kernel",
        "",
        "",
        "",
        (_SS,),
        (
            "SSLOpenSSLConfCmd Options KTLS is accepted and has no effect",
            "kernel TLS in front of it: let nginx end TLS and pass HTTP on",
        ),
        None,
        (("apache2", "-v"), ("httpd", "-v")),
        r"Apache/(?P<release>\d+\.\d+\.\d+)",
    ),
    Snippet(
        "lighttpd",
        "lighttpd",
        "lighttpd 1.4.69 or later with mod_openssl and OpenSSL 3.0 or later that was built with kernel TLS",
        "lighttpd.conf, where ssl.engine is enabled; as a rule nothing is needed: it is on by itself where the kernel"
        " offers it",
        'ssl.openssl.ssl-conf-cmd += ("Options" => "KTLS")\n',
        'ssl.openssl.ssl-conf-cmd += ("Options" => "-KTLS")\n',
        (Step("lighttpd -tt -f CONFIGURATION", "prints nothing: the file is right"), _COUNTERS, _BSD),
        (
            "started as root it loads the tls module; in a container it cannot see that the kernel has it, and leaves"
            " it off unless this line is there",
            "on FreeBSD 14.0 (freebsd.sendfile-shutdown) and 15 (freebsd.sendfile-replay, over 64 KiB) files arrived"
            " damaged: leave it off there",
            _MOVING,
        ),
        (1, 4, 69),
        (("lighttpd", "-v"),),
        r"lighttpd/(?P<release>\d+\.\d+\.\d+)",
    ),
    Snippet(
        "stunnel",
        "stunnel",
        "stunnel 5.68 or later, built with OpenSSL 3.0 or later, and a libssl that was built with kernel TLS",
        "stunnel.conf: in the section of the service",
        "options = ENABLE_KTLS\n",
        "options = -ENABLE_KTLS\n",
        (Step("service stunnel restart", "Debian: stunnel4; its log names a wrong line"), _COUNTERS, _BSD),
        ("5.68 is the oldest release that was tried", _MOVING),
        (5, 68),
        (("stunnel", "-version"), ("stunnel4", "-version")),
        r"stunnel (?P<release>\d+\.\d+)(?:[\s\S]*?[Rr]unning +with (?P<openssl>(?:Open|Libre)SSL [\d.]+))?",
    ),
    Snippet(
        "python",
        "Python's ssl",
        "Python 3.8 or later on OpenSSL 3.5.7, 3.6.3, 4.0.1 or later that was built with kernel TLS",
        "the program, where it makes its SSLContext",
        _PYTHON,
        "context.options &= ~(1 << 3)\n",
        (
            Step(
                "sock.getsockopt(282, 1, 4)",
                "in the program, Linux: 4 bytes when the kernel encrypts, OSError when not; 2 instead of 1 asks about"
                " decrypting; never ask for more bytes, they are the key",
            ),
            _COUNTERS,
            _BSD,
        ),
        (
            "only SSLSocket: asyncio, MemoryBIO and TLS inside TLS stay in user space",
            _MOVING,
        ),
        (3, 8),
        (("python3", "-I", "-c", "import ssl, sys; print(sys.version.split()[0], ssl.OPENSSL_VERSION)"),),
        r"(?P<release>\d+\.\d+\.\d+)\S* (?P<openssl>(?:Open|Libre)SSL [\d.]+)?",
    ),
    Snippet(
        "gnutls",
        "GnuTLS",
        "GnuTLS 3.7.3 or later that was built with --enable-ktls (Debian's is not); FreeBSD from 3.8.2 on",
        "/etc/gnutls/config; Fedora and RHEL: /etc/crypto-policies/local.d/gnutls-ktls.txt, then"
        " update-crypto-policies",
        "[global]\nktls = true\n",
        "[global]\nktls = false\n",
        (
            Step(
                "GNUTLS_DEBUG_LEVEL=4 gnutls-cli --list 2>&1 | grep cfg:",
                "the file that is read, and what is wrong in it",
            ),
            Step("nm -D LIBRARY | grep sendfile", "of libgnutls.so.30; nothing: it was built without kernel TLS"),
            _COUNTERS,
            _BSD,
        ),
        (
            "it concerns every program that uses GnuTLS on a file descriptor",
            "Linux: 3.8.10 and a kernel from 6.14 on, or a session ends when the peer changes its keys; receiving from"
            " 5.10 on",
        ),
        (3, 7, 3),
        (("gnutls-cli", "--version"),),
        r"gnutls-cli (?P<release>\d+\.\d+\.\d+)",
        "whether it was built with kernel TLS has to be looked up: see below",
    ),
    Snippet(
        "postgresql",
        "PostgreSQL",
        "no release: up to 17 server and libpq break under kernel TLS, from 18 on they refuse it and work",
        "",
        "",
        "",
        (Step("ktlsctl check", "openssl.programs: whether it is forced on a PostgreSQL that breaks"),),
        (
            "never switch it on for PostgreSQL up to 17: TLS 1.2 connections fail, with OpenSSL 3.2 and later all do",
            "where openssl.cnf switches it on for every program, start it with OPENSSL_CONF naming a file that has"
            " Options = -KTLS",
        ),
        None,
        (("postgres", "--version"), ("psql", "--version")),
        r"\(PostgreSQL\) (?P<release>\d+(?:\.\d+)?)",
    ),
)

BY_NAME: Mapping[str, Snippet] = {snippet.name: snippet for snippet in SNIPPETS}


def look(host: Host, snippet: Snippet) -> Found:
    """The release that is installed here, by what the program says of itself."""
    reason = ""
    for command in snippet.version:
        answer = host.run(*command)
        if answer.value is None:
            reason = reason or ("" if answer.absent else answer.reason)
            continue
        found = re.search(snippet.pattern, f"{answer.value.stdout}\n{answer.value.stderr}", re.ASCII)
        if found is None:
            reason = reason or f"{command[0]} did not say its version"
            continue
        return _judged(snippet, **found.groupdict())
    if reason:
        return Found(Standing.UNKNOWN, reason=reason)
    return Found(Standing.ABSENT, reason="it is not on the usual paths of commands")


def _judged(snippet: Snippet, release: str, openssl: str | None = None) -> Found:
    if snippet.since is None:
        return Found(Standing.NEVER, release, "no release can")
    if tuple(int(part) for part in release.split(".")) < snippet.since:
        return Found(Standing.TOO_OLD, release, f"{'.'.join(map(str, snippet.since))} is the first that can")
    if (openssl or "").startswith("LibreSSL"):
        return Found(Standing.NEVER, release, f"it uses {openssl}, which has no kernel TLS")
    version = advisories.openssl_version(openssl or "")
    if version is not None and version < advisories.parse("3.0"):
        return Found(Standing.TOO_OLD, release, f"it uses {openssl}, and OpenSSL 3.0 is the first that can")
    if version is not None and advisories.named(advisories.MOVING_BUFFER).concerns(version):
        return Found(Standing.HARMFUL, release, f"with {openssl} it sends wrong data under kernel TLS")
    return Found(Standing.UNKNOWN if snippet.untold else Standing.READY, release, snippet.untold)
