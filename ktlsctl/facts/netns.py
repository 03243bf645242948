# SPDX-License-Identifier: BSD-2-Clause
"""The network namespaces of a Linux host: those that some process runs in, and those that ip-netns(8) named."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass

from ktlsctl.host import Host
from ktlsctl.model import Attempt, NetworkNamespace

PROC = "/proc"
#: where ip-netns(8) mounts the namespaces that it names
NAMED = "/run/netns"


@dataclass(frozen=True, slots=True)
class Found:
    """`namespaces`: each once, with a path by which it can be entered; the own one first.  `unseen`: processes whose
    namespace this user may not look up."""

    namespaces: tuple[tuple[NetworkNamespace, str], ...]
    unseen: int = 0


def own(host: Host) -> Attempt[NetworkNamespace]:
    return host.ask("network namespace", lambda: NetworkNamespace(os.stat(f"{PROC}/self/ns/net").st_ino, own=True))


def read(host: Host) -> Attempt[Found]:
    """All of them, as far as this user may look."""
    return host.ask("network namespaces", lambda: scan(PROC, NAMED))


def scan(proc: str, named: str) -> Found:
    """Raises OSError when this process's own namespace cannot be looked up."""
    mine = os.stat(f"{proc}/self/ns/net")
    names: dict[int, str] = {}
    paths: dict[int, str] = {mine.st_ino: f"{proc}/self/ns/net"}
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(named)):
            with contextlib.suppress(OSError):
                mounted = os.stat(f"{named}/{name}")
                # A name whose mount is gone is an empty file on another file system.
                if mounted.st_dev == mine.st_dev:
                    names.setdefault(mounted.st_ino, name)
                    paths.setdefault(mounted.st_ino, f"{named}/{name}")
    unseen = 0
    for pid in os.listdir(proc):
        if pid.isascii() and pid.isdigit():
            path = f"{proc}/{pid}/ns/net"
            try:
                paths.setdefault(os.stat(path).st_ino, path)
            except PermissionError:
                unseen += 1
            except OSError:
                continue
    found = tuple(
        (NetworkNamespace(inode, names.get(inode, ""), own=inode == mine.st_ino), path) for inode, path in paths.items()
    )
    return Found(found, unseen)
