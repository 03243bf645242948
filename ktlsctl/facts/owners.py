# SPDX-License-Identifier: BSD-2-Clause
"""Which processes hold which sockets on Linux, what those processes are called, and which systemd unit they run in.

One pass over /proc/*/fd for all sockets at once: psutil makes objects and several reads of every process and file
descriptor, which is too slow for ten thousand sockets.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from ktlsctl.host import Host
from ktlsctl.model import Attempt

PROC = "/proc"

_SOCKET = "socket:["


@dataclass(frozen=True, slots=True)
class Holders:
    """`pids`: processes by the inode of the socket that they hold, ascending.  `unseen`: why some holders may be
    missing; empty when every process of this PID namespace was looked into."""

    pids: Mapping[int, tuple[int, ...]]
    unseen: str = ""


def read(host: Host, wanted: Collection[int]) -> Attempt[Holders]:
    """The holders of the sockets with these inodes."""
    return host.ask("socket owners", lambda: scan(PROC, wanted))


def scan(proc: str, wanted: Collection[int]) -> Holders:
    """Raises OSError when `proc` itself cannot be listed.  A process that ends meanwhile is passed over."""
    names = {f"{_SOCKET}{inode}]": inode for inode in wanted}
    found: dict[int, list[int]] = {}
    denied = 0
    pids = sorted(int(name) for name in os.listdir(proc) if name.isascii() and name.isdigit())
    for pid in pids:
        try:
            directory = os.open(f"{proc}/{pid}/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except PermissionError:
            denied += 1
            continue
        except OSError:
            continue
        try:
            # Relative to the directory: the kernel then does not walk /proc/PID/fd for each descriptor again.
            for number in os.listdir(directory):
                try:
                    inode = names.get(os.readlink(number, dir_fd=directory))
                except FileNotFoundError:  # closed since
                    continue
                if inode is not None:
                    holders = found.setdefault(inode, [])
                    # dup(2), or one descriptor each in many threads
                    if not holders or holders[-1] != pid:
                        holders.append(pid)
        except PermissionError:
            denied += 1
        except OSError:
            continue
        finally:
            os.close(directory)
    return Holders({inode: tuple(holders) for inode, holders in found.items()}, _unseen(denied, pids))


def _unseen(denied: int, pids: list[int]) -> str:
    if denied:
        whose = "1 process keeps its" if denied == 1 else f"{denied} processes keep their"
        return f"{whose} descriptors from this user"
    # Every PID namespace has a process 1.
    return "" if 1 in pids else "/proc shows this user its own processes only (mount option hidepid)"


def name(host: Host, pid: int) -> str | None:
    """What the process calls itself (at most 15 bytes), as ps(1) and ss(8) show it; None when it has ended."""
    content = host.read(f"{PROC}/{pid}/comm").value
    return None if content is None else content.decode("utf-8", "surrogateescape").removesuffix("\n")


def is_cut(name: str, whole: str) -> bool:
    """Whether `name` is what the kernel keeps of `whole`: 15 bytes on Linux (TASK_COMM_LEN), 19 on FreeBSD
    (MAXCOMLEN)."""
    kept, full = os.fsencode(name), os.fsencode(whole)
    return len(kept) in (15, 19) and full.startswith(kept)


def program(host: Host, pid: int) -> str | None:
    """The name of the file that the process runs; None when it has ended or hides it."""
    path: str | None = host.ask(f"program of process {pid}", lambda: os.readlink(f"{PROC}/{pid}/exe")).value
    return None if path is None else os.path.basename(path.removesuffix(" (deleted)"))


def ended(host: Host, pid: int) -> bool:
    """Whether there is no such process.  By kill(2), since /proc may hide what there is (mount option hidepid)."""
    return host.ask(f"process {pid}", lambda: _exists(pid)).value is False


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def unit(host: Host, pid: int) -> str | None:
    """The systemd unit (service or scope) that the process runs in; None where there is none or it is not known."""
    return parse_cgroup(host.read(f"{PROC}/{pid}/cgroup").or_else(b""))


def parse_cgroup(content: bytes) -> str | None:
    """The innermost unit in a cgroup(7) file: a service may have groups of its own below, which are no units.

    `0::/system.slice/nginx.service` where there is one hierarchy, `1:name=systemd:/...` where there are several.
    """
    for line in content.decode("utf-8", "surrogateescape").splitlines():
        _number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers in ("", "name=systemd"):
            for part in reversed(path.split("/")):
                if part.endswith((".service", ".scope")) and part not in (".service", ".scope"):
                    return part
    return None
