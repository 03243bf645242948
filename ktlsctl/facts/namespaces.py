# SPDX-License-Identifier: BSD-2-Clause
"""From where this process sees the kernel: its namespaces, and signs of a container around it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ktlsctl.facts.attempts import mapped
from ktlsctl.host import Host
from ktlsctl.model import Attempt, Tri

#: The inodes of the first namespaces are fixed (include/linux/proc_ns.h); that of the first network namespace is not.
FIRST_USER = 0xEFFFFFFD
FIRST_PID = 0xEFFFFFFC

_RUNTIME = re.compile(rb"docker|kubepods|libpod|containerd|crio|lxc|machine\.slice|garden|buildkit")


@dataclass(frozen=True, slots=True)
class Namespaces:
    """`own`, `first`: inode by kind ("net", "user", "pid") of this process and of process 1, which needs the right to
    trace it.  `marks`: files and names that container managers leave.  `uid_map`: (inside, outside, count) lines."""

    own: Attempt[Mapping[str, int]]
    first: Attempt[Mapping[str, int]]
    uid_map: Attempt[tuple[tuple[int, int, int], ...]]
    ulp_sysctl: Attempt[bool]
    marks: tuple[str, ...]
    runtime: tuple[str, ...]

    @property
    def in_first_network(self) -> Tri:
        """tcp_available_ulp is registered in the first network namespace only (measured on 6.1, 6.12, 7.2)."""
        if self.ulp_sysctl.present:
            return Tri.YES
        own, first = self.own.or_else({}), self.first.or_else({})
        if self.in_first_pid and "net" in own and "net" in first:
            return Tri.YES if own["net"] == first["net"] else Tri.NO
        return Tri.NO if self.ulp_sysctl.absent else Tri.UNKNOWN

    @property
    def in_first_pid(self) -> bool:
        return self.own.or_else({}).get("pid") == FIRST_PID

    @property
    def in_first_user(self) -> Tri:
        own = self.own.or_else({})
        if "user" in own:
            return Tri.YES if own["user"] == FIRST_USER else Tri.NO
        if self.uid_map.value is not None:
            return Tri.YES if self.uid_map.value == ((0, 0, 0xFFFFFFFF),) else Tri.NO
        return Tri.UNKNOWN

    @property
    def container(self) -> bool:
        """Whether files under / are an image's, not the host's.  A mark alone may be left over in a machine whose root
        was made from an image; with a process namespace of its own it counts."""
        return bool(self.runtime) or (bool(self.marks) and not self.in_first_pid and self.own.present)


def parse_uid_map(content: bytes) -> tuple[tuple[int, int, int], ...]:
    """Raises ValueError when a line is not three numbers."""
    lines = []
    for line in content.decode("utf-8", "replace").splitlines():
        words = line.split()
        if len(words) != 3 or not all(w.isascii() and w.isdigit() and len(w) <= 10 for w in words):
            raise ValueError("a line of the map is not three numbers")
        lines.append((int(words[0]), int(words[1]), int(words[2])))
    return tuple(lines)


def runtimes(content: bytes) -> bytes:
    """The names of container managers in a cgroup path: the path itself holds identifiers."""
    return b"\n".join(sorted(set(_RUNTIME.findall(content))))


def container_variable(content: bytes) -> bytes:
    """`container=...` of an environment, and nothing else of it: there are secrets in environments."""
    return b"\n".join(v for v in content.split(b"\0") if v.startswith(b"container="))


def parse_inodes(value: Any) -> Mapping[str, int]:
    """Raises ValueError when a captured answer has another shape."""
    if not isinstance(value, dict) or not all(
        isinstance(k, str) and isinstance(v, int) and not isinstance(v, bool) for k, v in value.items()
    ):
        raise ValueError("not a mapping of namespaces to inodes")
    return value


def _inodes(process: str) -> dict[str, int]:
    return {kind: os.stat(f"/proc/{process}/ns/{kind}").st_ino for kind in ("net", "user", "pid")}


def read(host: Host) -> Namespaces:
    """Some ten small reads.  As an ordinary user process 1 stays closed; nothing depends on it alone."""
    marks = [path for path in ("/.dockerenv", "/run/.containerenv") if host.read(path, keep=lambda _: b"").present]
    variable = host.read("/proc/1/environ", keep=container_variable).or_else(b"")
    cgroup = host.read("/proc/1/cgroup", keep=runtimes).or_else(b"") + b"\n"
    cgroup += host.read("/proc/self/cgroup", keep=runtimes).or_else(b"")
    found = {word.decode("ascii", "replace") for word in cgroup.split()}
    found |= {word.decode("utf-8", "replace").removeprefix("container=") for word in variable.split()}
    return Namespaces(
        own=mapped(host.ask("namespaces self", lambda: _inodes("self")), parse_inodes),
        first=mapped(host.ask("namespaces 1", lambda: _inodes("1")), parse_inodes),
        uid_map=mapped(host.read("/proc/self/uid_map"), parse_uid_map),
        ulp_sysctl=mapped(host.read("/proc/sys/net/ipv4/tcp_available_ulp"), lambda _: True),
        marks=tuple(marks),
        runtime=tuple(sorted(found - {""})),
    )
