# SPDX-License-Identifier: BSD-2-Clause
"""Installed programs that are known to break when a configuration file switches kTLS on for everybody.

PostgreSQL and libpq up to 17 read and write the socket themselves below BIO_s_socket's control function, so that libssl
believes in kTLS while they handle raw bytes (src/backend/libpq/be-secure-openssl.c); 18 has a BIO that refuses.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ktlsctl.facts.libraries import Libpq, telling
from ktlsctl.host import Host
from ktlsctl.model import Outcome

#: The first release of PostgreSQL whose BIO answers 0 to BIO_CTRL_SET_KTLS.
FIRST_SAFE_POSTGRESQL = 18

_VERSION = re.compile(r"\(PostgreSQL\) (\d{1,4})")

#: Servers outside a directory that names their release: Fedora, RHEL, Arch; FreeBSD's ports; PostgreSQL's own default
_UNVERSIONED = ("/usr/bin/postgres", "/usr/local/bin/postgres", "/usr/local/pgsql/bin/postgres")


@dataclass(frozen=True, slots=True)
class Program:
    """A PostgreSQL server or client library; `release` is PostgreSQL's major number, None when it could not be had."""

    name: str
    path: str
    release: int | None

    @property
    def breaks(self) -> bool:
        """Whether it breaks under kTLS; one of unknown release is taken to."""
        return self.release is None or self.release < FIRST_SAFE_POSTGRESQL

    def __str__(self) -> str:
        release = "of unknown release" if self.release is None else str(self.release)
        return f"{self.name} {release} ({self.path})"


@dataclass(frozen=True, slots=True)
class Programs:
    """Those that were found, and "PLACE: why" for places that could not be seen."""

    found: tuple[Program, ...]
    unseen: tuple[str, ...] = ()


def gather(host: Host, libpq: tuple[Libpq, ...]) -> Programs:
    """PostgreSQL servers where distributions put them, and the client libraries that were found on the way."""
    found: dict[str, Program] = {}
    unseen: list[str] = []
    for candidate, release in _servers(host):
        real = host.resolve(candidate)
        if real.outcome is Outcome.DENIED:
            unseen.append(f"{candidate}: {real.reason}")
        if real.value is not None and real.value not in found:
            found[real.value] = Program("PostgreSQL server", real.value, release or _asked(host, real.value))
    clients = (Program("libpq", library.path, library.release) for library in libpq)
    return Programs((*found.values(), *clients), tuple(unseen))


def _servers(host: Host) -> list[tuple[str, int | None]]:
    """Path and, where the path says it, release."""
    places: list[tuple[str, int | None]] = []
    # Debian
    for name in host.names("/usr/lib/postgresql").or_else(()):
        if release := _number(name):
            places.append((f"/usr/lib/postgresql/{name}/bin/postgres", release))
    # PostgreSQL's own RPMs, SUSE, Alpine
    for directory, stem in (("/usr", "pgsql-"), ("/usr/lib", "postgresql"), ("/usr/libexec", "postgresql")):
        for name in host.names(directory, _pgsql if stem == "pgsql-" else telling).or_else(()):
            if name.startswith(stem) and (release := _number(name.removeprefix(stem))):
                inner = "postgres" if directory == "/usr/libexec" else "bin/postgres"
                places.append((f"{directory}/{name}/{inner}", release))
    places.extend((path, None) for path in _UNVERSIONED)
    return places


def _pgsql(name: str) -> bool:
    return name.startswith("pgsql-")


def _number(text: str) -> int | None:
    """`17`, and the `9` of `9.6`."""
    found = re.match(r"(\d{1,4})(?:\.\d+)?\Z", text, re.ASCII)
    return int(found[1]) if found else None


def _asked(host: Host, path: str) -> int | None:
    answer = host.run(path, "--version")
    return parse_version(answer.value.stdout) if answer.value is not None else None


def parse_version(text: str) -> int | None:
    """The major number in `postgres (PostgreSQL) 16.4 (Debian 16.4-1)`; None for anything else."""
    found = _VERSION.search(text)
    return int(found[1]) if found else None
