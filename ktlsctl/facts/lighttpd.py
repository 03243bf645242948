# SPDX-License-Identifier: BSD-2-Clause
"""lighttpd on FreeBSD: whether it is installed, and whether its configuration keeps kernel TLS out.

From 1.4.68 on it looks at kern.ipc.tls.enable when it starts and then uses kernel TLS and SSL_sendfile by itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ktlsctl.host import Host
from ktlsctl.model import Attempt, Outcome

PROGRAM = "/usr/local/sbin/lighttpd"
DIRECTORY = "/usr/local/etc/lighttpd"
#: the port's, and OPNsense's web interface
FILES = (f"{DIRECTORY}/lighttpd.conf", "/var/etc/lighty-webConfigurator.conf")
DROP_IN = f"{DIRECTORY}/conf.d"

#: The first release that asks for kernel TLS unasked.
FIRST_UNASKED = (1, 4, 68)

_VERSION = re.compile(r"lighttpd/(\d{1,4})\.(\d{1,4})\.(\d{1,4})", re.ASCII)
_SETS = re.compile(r"\s*ssl\.openssl\.ssl-conf-cmd\s*\+?=", re.ASCII)
_OFF = re.compile(r'"Options"\s*=>\s*"[^"]*-KTLS\b', re.ASCII)


@dataclass(frozen=True, slots=True)
class Lighttpd:
    """An installed lighttpd.  `kept_out`: some file says -KTLS.  `unread`: "FILE: why" for those not readable."""

    path: str
    version: tuple[int, int, int] | None
    kept_out: bool
    unread: tuple[str, ...] = ()

    @property
    def asks_unasked(self) -> bool:
        """One of unknown version is taken to."""
        return self.version is None or self.version >= FIRST_UNASKED

    @property
    def release(self) -> str:
        return "of unknown release" if self.version is None else ".".join(map(str, self.version))


def read(host: Host) -> Lighttpd | None:
    """None where it is not installed."""
    if not host.resolve(PROGRAM).present:
        return None
    names = host.names(DROP_IN, _is_conf)
    files = (*FILES, *(f"{DROP_IN}/{name}" for name in names.or_else(())))
    contents: dict[str, Attempt[bytes]] = {path: host.read(path, _keep) for path in files}
    if not (names.present or names.absent):
        contents[DROP_IN] = Attempt(names.outcome, reason=names.reason)
    asked = host.run("lighttpd", "-v")
    return Lighttpd(
        PROGRAM,
        parse_version(asked.value.stdout) if asked.value is not None else None,
        any(keeps_out(content.or_else(b"")) for content in contents.values()),
        tuple(
            f"{path}: {content.reason}"
            for path, content in contents.items()
            if content.outcome not in (Outcome.RAN, Outcome.ABSENT)
        ),
    )


def parse_version(text: str) -> tuple[int, int, int] | None:
    """Of `lighttpd -v`: `lighttpd/1.4.85 (ssl) - a light and fast webserver`."""
    found = _VERSION.search(text)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def keeps_out(content: bytes) -> bool:
    """Whether a line of a configuration gives OpenSSL the option -KTLS."""
    return any(_OFF.search(line) for line in _lines(content))


def _keep(content: bytes) -> bytes:
    return "".join(f"{line}\n" for line in _lines(content)).encode()


def _lines(content: bytes) -> list[str]:
    """Its ssl-conf-cmd lines, without comments; -KTLS does not stand behind a `#` in quotes."""
    text = content.decode("utf-8", "replace").replace("\r", "")
    return [line.partition("#")[0].rstrip() for line in text.split("\n") if _SETS.match(line)]


def _is_conf(name: str) -> bool:
    return name.endswith(".conf")
