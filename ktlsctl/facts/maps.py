# SPDX-License-Identifier: BSD-2-Clause
"""Which files a process has mapped as code: /proc/PID/maps, and what /proc/PID/stat says of the process (proc(5)).

psutil reads smaps for that, which makes the kernel walk every page table (seven times slower where this was
measured), and drops what is needed here: device, inode, and the mark of a deleted file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_DELETED = b" (deleted)"
_PF_KTHREAD = 0x00200000  # linux/sched.h


@dataclass(frozen=True, slots=True)
class Mapping:
    """One file.  `device`, `inode`: of the file that is mapped, which may not be the one that has its name now.

    `path` as the process's own root shows it; `area`: its name in /proc/PID/map_files; `deleted`: the kernel says so.
    """

    path: str
    device: str
    inode: int
    area: str
    deleted: bool


def mappings(lines: Iterable[bytes]) -> tuple[Mapping, ...]:
    """The files that are mapped executable, each once, in the order of their addresses.  Takes any lines."""
    found: dict[tuple[bytes, bytes, bytes], Mapping] = {}
    for line in lines:
        words = line.rstrip(b"\n").split(None, 5)
        if len(words) != 6 or b"x" not in words[1] or not words[5].startswith(b"/"):
            continue
        area, _, _, device, inode, path = words
        if (device, inode, path) in found or not (inode.isdigit() and len(inode) <= 20):
            continue
        if not re.fullmatch(rb"[0-9a-f]{1,16}-[0-9a-f]{1,16}", area):
            continue
        found[device, inode, path] = Mapping(
            path=_unescaped(path.removesuffix(_DELETED)),
            device=device.decode("ascii", "replace"),
            inode=int(inode),
            area=_without_zeros(area),
            deleted=path.endswith(_DELETED),
        )
    return tuple(found.values())


def _unescaped(path: bytes) -> str:
    """The kernel writes a newline as \\012 and nothing else so (fs/proc/task_mmu.c)."""
    return path.replace(b"\\012", b"\n").decode("utf-8", "surrogateescape")


def _without_zeros(area: bytes) -> str:
    """maps pads addresses to eight digits, map_files does not (fs/proc/base.c)."""
    start, _, end = area.partition(b"-")
    return f"{int(start, 16):x}-{int(end, 16):x}"


@dataclass(frozen=True, slots=True)
class Process:
    """`name`: what it calls itself, at most 15 bytes.  `empty`: a kernel thread or a zombie, which map nothing."""

    name: str
    empty: bool


class NotStat(ValueError):
    """The content is no /proc/PID/stat."""


def parse_stat(content: bytes) -> Process:
    """Raises NotStat.  The name stands in parentheses and may hold any byte, parentheses and newlines included."""
    _, opened, rest = content.partition(b"(")
    name, closed, tail = rest.rpartition(b")")
    words = tail.split()
    if not opened or not closed or len(words) < 7 or not words[6].isdigit() or len(words[6]) > 20:
        raise NotStat("not a process's stat")
    return Process(
        name.decode("utf-8", "surrogateescape"),
        words[0] in (b"Z", b"X", b"x") or bool(int(words[6]) & _PF_KTHREAD),
    )
