# SPDX-License-Identifier: BSD-2-Clause
"""Which programs of a host use a libssl, or may: what package managers list, what lies on disk, what is running.

Facts only, of the programs that endangered.py has something to say about, and of every process that has a libssl
mapped.  Nothing is started but package managers, procstat(1) and ps(1).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ktlsctl.facts import elf, libraries
from ktlsctl.facts import programs as postgresql
from ktlsctl.facts.programs import Programs
from ktlsctl.host import Host
from ktlsctl.model import Os, Outcome

#: What is kept of a package manager's list.
_PACKAGES = (
    *("postgresql*", "libpq", "libpq5", "ruby*", "libruby*", "redis*", "valkey*", "stunnel*", "lighttpd*"),
    *("libio-socket-ssl-perl", "perl-IO-Socket-SSL", "p5-IO-Socket-SSL"),
)
_TELLING_PACKAGE = re.compile("|".join(p.replace("*", r"[\w.+-]*") for p in _PACKAGES), re.IGNORECASE)

#: What is kept of a process's mappings: libssl, libpq, and modules that bind a language to libssl.
_TELLING_FILE = re.compile(r"(?:libssl[-.]|libpq\.|_ssl\.|SSLeay\.so\Z|openssl\.so\Z)")

_MAPPED = re.compile(r"[0-9a-f]+-[0-9a-f]+ \S+ [0-9a-f]+ [0-9a-f]+:[0-9a-f]+ (\d+) +(/.+)\Z", re.ASCII)
_DELETED = " (deleted)"

_APK = "/lib/apk/db/installed"

#: A package manager may have to wait for its lock.
_PATIENCE = 20.0


@dataclass(frozen=True, slots=True)
class Package:
    """An installed package, as its manager names it."""

    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Process:
    """A running program that has a libssl mapped.  `libraries`: telling files of its address space, links followed.

    `program`: the path of its executable, "" when that may not be seen.
    """

    pid: int
    name: str
    program: str
    libraries: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Installed:
    """`pythons`: _ssl modules that are linked with the library; `unseen`: what could not be looked at, and why."""

    programs: Programs
    packages: tuple[Package, ...] = ()
    pythons: tuple[str, ...] = ()
    processes: tuple[Process, ...] = ()
    unseen: tuple[str, ...] = ()


def gather(host: Host, libssl: str) -> Installed:
    """Everything that concerns the programs of the libssl at this path (links followed)."""
    found = libraries.search(host)
    programs = postgresql.gather(host, found.libpq)
    packages, packages_unseen = _packages(host)
    processes, processes_unseen = _processes(host, libssl)
    unseen = (*found.unseen, *programs.unseen, *packages_unseen, *processes_unseen)
    return Installed(programs, packages, tuple(_pythons(host, libssl)), processes, unseen)


# ---- packages


def _packages(host: Host) -> tuple[tuple[Package, ...], list[str]]:
    if host.about.os is Os.FREEBSD:
        # -g takes shell patterns; status 1 when nothing matches
        return _listed(host, "", "pkg", "query", "-g", "%n %v", *_PACKAGES)
    status = host.read("/var/lib/dpkg/status", keep_packages)
    if status.value is not None:
        return parse_packages(status.value.decode("utf-8", "replace")), []
    if not status.absent:
        return (), [f"/var/lib/dpkg/status: {status.reason}"]
    database = host.read(_APK, keep_alpine_packages)
    if database.value is not None:
        return parse_packages(database.value.decode("utf-8", "replace")), []
    if not database.absent:
        return (), [f"{_APK}: {database.reason}"]
    none = "installed packages: neither dpkg, apk nor rpm is here"
    return _listed(host, none, "rpm", "-qa", "--qf", "%{NAME} %{VERSION}\n", *_PACKAGES)


def _listed(host: Host, none: str, *argv: str) -> tuple[tuple[Package, ...], list[str]]:
    """`none`: what is to be said where there is no such command; "": then there are no packages."""
    answer = host.run(*argv, timeout=_PATIENCE)
    if answer.value is not None:
        return parse_packages(answer.value.stdout), []
    if answer.absent:
        return (), [none] if none else []
    return (), [f"{argv[0]}: {answer.reason}"]


def keep_packages(content: bytes) -> bytes:
    """A filter for dpkg's status: a line `NAME VERSION` for each telling package that is installed."""
    kept = []
    for stanza in content.decode("utf-8", "replace").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in stanza.splitlines() if ": " in line and line[:1] != " ")
        if fields.get("Status", "").endswith(" installed"):
            kept.append(f"{fields.get('Package', '')} {fields.get('Version', '')}\n")
    telling = (f"{p.name} {p.version}\n" for p in parse_packages("".join(kept)))
    return "".join(telling).encode()


def keep_alpine_packages(content: bytes) -> bytes:
    """A filter for apk's database: a line `NAME VERSION` for each telling package; P: and V: are its fields."""
    kept = []
    for stanza in content.decode("utf-8", "replace").split("\n\n"):
        fields = dict(line.split(":", 1) for line in stanza.split("\n") if line[:2] in ("P:", "V:"))
        kept.append(f"{fields.get('P', '')} {fields.get('V', '')}\n")
    telling = (f"{p.name} {p.version}\n" for p in parse_packages("".join(kept)))
    return "".join(telling).encode()


def parse_packages(text: str) -> tuple[Package, ...]:
    """Telling packages of lines `NAME VERSION`.  Takes any text."""
    words = (line.split() for line in text.split("\n"))
    return tuple(Package(*pair) for pair in words if len(pair) == 2 and _TELLING_PACKAGE.fullmatch(pair[0]))


# ---- Python


def _pythons(host: Host, libssl: str) -> Iterator[str]:
    """The _ssl modules on disk that are linked with the library."""
    for directory in ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64"):
        for version in host.names(directory, _python).or_else(()):
            dynload = f"{directory}/{version}/lib-dynload"
            for name in host.names(dynload, _module).or_else(()):
                needed = host.read(f"{dynload}/{name}", keep_needed).or_else(b"").decode("utf-8", "replace").split()
                if any(is_named(libssl, wanted) for wanted in needed):
                    yield f"{dynload}/{name}"


def _python(name: str) -> bool:
    return re.fullmatch(r"python3\.\d+t?", name, re.ASCII) is not None


def _module(name: str) -> bool:
    return name.startswith("_ssl.") and name.endswith(".so")


def keep_needed(content: bytes) -> bytes:
    """A filter for an ELF file: what it is linked with, a name a line."""
    try:
        return "".join(f"{name}\n" for name in elf.parse(content).needed).encode("utf-8", "replace")
    except elf.ElfError:
        return b""


def is_named(path: str, soname: str) -> bool:
    """Whether a file bears this name: /usr/lib64/libssl.so.3.0.7 is what asks for libssl.so.3 get."""
    name = path.rpartition("/")[2]
    return bool(soname) and (name == soname or name.startswith(f"{soname}."))


# ---- processes


def _processes(host: Host, libssl: str) -> tuple[tuple[Process, ...], list[str]]:
    if host.about.os is Os.FREEBSD:
        return _processes_of_freebsd(host, libssl)
    pids = host.names("/proc", str.isdecimal)
    if pids.value is None:
        return (), [f"/proc: {pids.reason}"]
    own = host.ask(f"inode {libssl}", lambda: _inode(libssl)).value
    found: list[Process] = []
    denied = 0
    for pid in pids.value:
        maps = host.read(f"/proc/{pid}/maps", keep_mapped)
        denied += maps.outcome is Outcome.DENIED
        mapped = parse_mapped(maps.or_else(b""))
        # of another inode: a container's own file of that path, which reads its own configuration
        if any(path == libssl and (inode in (0, own) or own is None) for inode, path in mapped):
            name = host.read(f"/proc/{pid}/comm").or_else(b"").decode("utf-8", "replace").strip()
            program = host.resolve(f"/proc/{pid}/exe").or_else("").removesuffix(_DELETED)
            found.append(Process(int(pid), name, program, tuple(path for _, path in mapped)))
    reason = f"{denied} of {len(pids.value)} processes may not be looked into by this user"
    return tuple(found), [reason] if denied else []


def _inode(path: str) -> int:
    import os

    return os.stat(path).st_ino


def keep_mapped(content: bytes) -> bytes:
    """A filter for /proc/PID/maps: `INODE PATH` of each telling file once; inode 0: the file was deleted since."""
    kept: dict[str, None] = {}
    for line in content.decode("utf-8", "surrogateescape").split("\n"):
        found = _MAPPED.match(line)
        if found and _TELLING_FILE.match(found[2].rpartition("/")[2].removesuffix(_DELETED)):
            deleted = found[2].endswith(_DELETED)
            kept[f"{0 if deleted else found[1]} {found[2].removesuffix(_DELETED)}"] = None
    return "\n".join(kept).encode("utf-8", "surrogateescape")


def parse_mapped(content: bytes) -> tuple[tuple[int, str], ...]:
    """(inode, path) of what `keep_mapped` kept.  Takes any bytes."""
    lines = (line.partition(" ") for line in content.decode("utf-8", "surrogateescape").split("\n"))
    return tuple((int(inode), path) for inode, _, path in lines if re.fullmatch(r"\d{1,20}", inode, re.ASCII) and path)


def _processes_of_freebsd(host: Host, libssl: str) -> tuple[tuple[Process, ...], list[str]]:
    # a jail has a configuration of its own; one -o each, since what follows a = is all header
    names = host.run("ps", "-ax", "-o", "pid=", "-o", "jid=", "-o", "comm=")
    files = host.run("procstat", "-a", "-v", timeout=_PATIENCE)
    if names.value is None or files.value is None:
        return (), [f"running programs: {names.reason or files.reason}"]
    mapped = parse_procstat(files.value.stdout)
    found = []
    for pid, name in parse_ps(names.value.stdout):
        telling = tuple(p for p in mapped.get(pid, ()) if _TELLING_FILE.match(p.rpartition("/")[2]))
        if libssl in telling:
            found.append(Process(pid, name, next(iter(mapped[pid]), ""), telling))
    unseen = [] if host.about.privileged else ["processes of other users may not be looked into by this user"]
    return tuple(found), unseen


def parse_ps(text: str) -> tuple[tuple[int, str], ...]:
    """PID and name of the lines `PID JID NAME` outside of jails.  Takes any text."""
    found = re.findall(r"^ *(\d{1,10}) +0 +(\S.*?) *$", text, re.ASCII | re.MULTILINE)
    return tuple((int(pid), name) for pid, name in found)


def parse_procstat(text: str) -> dict[int, tuple[str, ...]]:
    """The files that each process has mapped, its executable first, from `procstat -v`.  Takes any text."""
    mapped: dict[int, dict[str, None]] = {}
    for line in text.split("\n"):
        # PID START END PRT RES PRES REF SHD FLAG TP PATH; vn is a file
        found = re.match(r" *(\d{1,10}) +0x[0-9a-f]+ +0x[0-9a-f]+ .*\bvn +(/.*\S)", line, re.ASCII)
        if found:
            mapped.setdefault(int(found[1]), {})[found[2]] = None
    return {pid: tuple(paths) for pid, paths in mapped.items()}


def major(version: str) -> int | None:
    """15 of `15.8-0+deb12u1`, 9 of `1:9.6`; None for anything else."""
    found = re.match(r"(?:\d+:)?(\d{1,4})(?!\d)", version, re.ASCII)
    return int(found[1]) if found else None


def unique(texts: Iterable[str]) -> tuple[str, ...]:
    """In order, each once."""
    return tuple(dict.fromkeys(texts))
