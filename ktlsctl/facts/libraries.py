# SPDX-License-Identifier: BSD-2-Clause
"""Where a host keeps its TLS libraries: the directories of the dynamic linker, the usual others, and what lies there.

Names only: nothing is opened.  Which of them is what, libsslprobe.py asks in a child process.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from ktlsctl.host import Host
from ktlsctl.model import Os, Outcome

#: libssl.so.3, libssl.so.1.0.2k, libssl-8bd944e8.so.3; not libssl3.so, which is NSS, nor libssl.so.3.hmac
_LIBSSL = re.compile(r"libssl(?:-[\w.]+)?\.so(?:\.\d+[a-z]*)*\Z")
#: PostgreSQL's client library: the minor number of its file name is the release it comes from
_LIBPQ = re.compile(r"libpq\.so\.5\.(\d{1,4})\Z")

#: No ld.so.conf includes deeper.
_DEEPEST = 4


class Origin(StrEnum):
    """Where a library comes from."""

    DISTRIBUTION = "distribution"
    PORTS = "ports"
    LOCAL = "local"
    WHEEL = "wheel"
    NAMED = "named"
    STATIC = "static"


@dataclass(frozen=True, slots=True)
class Found:
    """One libssl file.  `path`: with every link followed; `name`: the file name by which it was found.

    `linked`: the dynamic linker gives this file to a program that asks for `name`.
    """

    path: str
    name: str
    origin: Origin
    linked: bool


@dataclass(frozen=True, slots=True)
class Libpq:
    """One PostgreSQL client library; `release` is PostgreSQL's major number."""

    path: str
    release: int


@dataclass(frozen=True, slots=True)
class Search:
    """What lies on the library paths.  `unseen`: "DIRECTORY: why" for those that could not be listed."""

    libssl: tuple[Found, ...]
    libpq: tuple[Libpq, ...]
    unseen: tuple[str, ...] = ()


def telling(name: str) -> bool:
    """What is kept of a listing of library directories, which have thousands of entries: one choice for all readers."""
    return bool(_LIBSSL.match(name) or _LIBPQ.match(name) or "-linux-" in name or name.startswith("postgresql"))


def search(host: Host) -> Search:
    """Every libssl and libpq on the usual library paths, each real file once, in the order of the dynamic linker."""
    libssl: dict[str, Found] = {}
    libpq: dict[str, Libpq] = {}
    unseen: list[str] = []
    seen: set[str] = set()
    taken: set[str] = set()
    for directory, linker in _directories(host):
        real = host.resolve(directory)
        if real.value is None or real.value in seen:
            if real.outcome not in (Outcome.RAN, Outcome.ABSENT):
                unseen.append(f"{directory}: {real.reason}")
            continue
        seen.add(real.value)
        names = host.names(real.value, telling)
        if names.value is None:
            unseen.append(f"{directory}: {names.reason}")
        for name in names.value or ():
            if _LIBSSL.match(name):
                path = host.resolve(f"{real.value}/{name}").value
                # the linker takes the first that has the name it wants; the bare .so is for compilers
                linked = linker and name not in taken and not name.endswith(".so")
                if linker:
                    taken.add(name)
                if path is not None and (path not in libssl or (linked and not libssl[path].linked)):
                    libssl[path] = Found(path, name, origin_of(path, host.about.os), linked)
            elif found := _LIBPQ.match(name):
                libpq.setdefault(f"{real.value}/{name}", Libpq(f"{real.value}/{name}", int(found[1])))
    return Search(tuple(libssl.values()), tuple(libpq.values()), tuple(unseen))


def origin_of(path: str, system: Os) -> Origin:
    """By the place of the file; `NAMED` for a place that says nothing."""
    if re.search(r"/(?:site|dist)-packages/|\.libs/", path):
        return Origin.WHEEL
    if path.startswith("/usr/local/"):
        return Origin.PORTS if system is Os.FREEBSD else Origin.LOCAL
    if path.startswith("/opt/"):
        return Origin.LOCAL
    if path.startswith(("/lib", "/usr/lib")):
        return Origin.DISTRIBUTION
    return Origin.NAMED


def _directories(host: Host) -> Iterator[tuple[str, bool]]:
    """Directory, and whether the dynamic linker searches it by itself; some repeat, many do not exist."""
    if host.about.os is Os.FREEBSD:
        # rtld(1): /lib and /usr/lib, then the hints that ldconfig makes of /usr/local/lib
        yield from ((directory, True) for directory in ("/lib", "/usr/lib", "/usr/local/lib"))
        return
    configured = tuple(_linker_directories(host, "/etc/ld.so.conf", 1))
    if not configured:
        # musl's own path (ldso/dynlink.c); harmless on glibc, which then knows no /usr/local/lib
        configured = ("/lib", "/usr/local/lib", "/usr/lib")
    multiarch = [n for n in host.names("/usr/lib", telling).or_else(()) if "-linux-" in n]
    own = [f"/usr/lib/{name}" for name in multiarch if name.startswith(_multiarch(host.about.machine))]
    yield from ((directory, True) for directory in (*configured, *own, "/lib64", "/usr/lib64", "/lib", "/usr/lib"))
    yield from ((f"/usr/lib/{name}", False) for name in multiarch)
    yield from ((directory, False) for directory in ("/usr/lib32", "/usr/local/lib", "/usr/local/lib64"))
    for name in host.names("/opt").or_else(()):
        yield from ((f"/opt/{name}/{library}", False) for library in ("lib", "lib64"))


def _multiarch(machine: str) -> str:
    """How the directories of this machine's own architecture begin; all 32-bit x86 share i386."""
    return "i386-" if re.fullmatch(r"i[3-6]86", machine) else "arm-" if machine.startswith("armv") else f"{machine}-"


def _linker_directories(host: Host, path: str, depth: int) -> Iterator[str]:
    """The directories of ld.so.conf(5) and its includes, in order."""
    for entry in parse_ld_so_conf(host.read(path).or_else(b"")):
        if not entry.startswith("include "):
            yield entry
        elif depth < _DEEPEST:
            for pattern in entry.split()[1:]:
                directory, _, last = pattern.rpartition("/")
                directory = (
                    directory if pattern.startswith("/") else f"{path.rpartition('/')[0]}/{directory}".rstrip("/")
                )
                for name in host.names(directory).or_else(()):
                    if fnmatch.fnmatchcase(name, last):
                        yield from _linker_directories(host, f"{directory}/{name}", depth + 1)


def parse_ld_so_conf(content: bytes) -> tuple[str, ...]:
    """Directories, and `include PATTERN…` as such, in order.  Takes any bytes."""
    found: list[str] = []
    for raw in content.decode("utf-8", "replace").splitlines():
        line = raw.partition("#")[0].strip()
        words = line.split()
        if words and words[0] == "include":
            found.append(" ".join(words))
        elif not words or words[0] != "hwcap":
            # elf/ldconfig.c: several on a line, parted by colon, comma or space; "=TYPE" is from libc5 days
            found.extend(
                d.partition("=")[0].rstrip("/") or "/" for d in re.split(r"[:,\s]+", line) if d.startswith("/")
            )
    return tuple(found)


#: Debian's architecture for the begin of a multiarch directory's name
_DEBIAN = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "i386": "i386",
    "arm": "armhf",
    "powerpc64le": "ppc64el",
    "riscv64": "riscv64",
    "s390x": "s390x",
    "loongarch64": "loong64",
}


def package_of(host: Host, found: Found) -> str:
    """The Debian package that owns the file, from dpkg's own lists, or an empty string.

    Only the lists of packages that could be meant are opened: asking dpkg would cost more than the handshakes.
    """
    if host.about.os is not Os.LINUX or found.origin is not Origin.DISTRIBUTION:
        return ""
    version = found.name.partition(".so.")[2]
    directory, _, name = found.path.rpartition("/")
    architecture = _DEBIAN.get(directory.rpartition("/")[2].partition("-")[0])
    # dpkg's lists may still say /lib where the file lies in /usr/lib
    endings = f"{directory.removeprefix('/usr')}/{name}".encode()

    def keep(content: bytes) -> bytes:
        return b"\n".join(line for line in content.splitlines() if line.endswith(endings))

    for package in (f"libssl{version}", f"libssl{version}t64") if architecture and version else ():
        full = f"{package}:{architecture}"
        if host.read(f"/var/lib/dpkg/info/{full}.list", keep).or_else(b""):
            return full
    return ""
