# SPDX-License-Identifier: BSD-2-Clause
"""The readers of /proc/PID/maps and /proc/PID/stat: what the kernel writes, and what a process may make it write."""

from __future__ import annotations

import contextlib
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktlsctl.facts import maps
from tests.elsewhere import linux_only

LIBSSL = b"7f50c8a00000-7f50c8a60000 r-xp 0001f000 fe:00 339900                     /usr/lib/libssl.so.3\n"


def test_each_file_mapped_as_code_is_named_once_with_what_identifies_it() -> None:
    more = (
        b"7f50c89e0000-7f50c8a00000 r--p 00000000 fe:00 339900                     /usr/lib/libssl.so.3\n",
        LIBSSL,
        LIBSSL.replace(b"7f50c8a00000-7f50c8a60000", b"7f50c8b00000-7f50c8b60000"),
        b"7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0                          [stack]\n",
        b"7ffd00100000-7ffd00102000 r-xp 00000000 00:00 0                          [vdso]\n",
        b"7f0000000000-7f0000001000 rwxp 00000000 00:00 0 \n",
    )
    assert maps.mappings(more) == (
        maps.Mapping("/usr/lib/libssl.so.3", "fe:00", 339900, "7f50c8a00000-7f50c8a60000", False),
    )


def test_a_deleted_file_a_memfd_and_odd_names_are_told_apart() -> None:
    line = b"00400000-00452000 r-xp 00000000 00:01 7 %s\n"
    found = [
        maps.mappings([line % name])[0]
        for name in (b"/a b/lib x.so (deleted)", b"/memfd:code (deleted)", b"/new\\012line", b"/\xff")
    ]
    assert [(m.path, m.deleted) for m in found] == [
        ("/a b/lib x.so", True), ("/memfd:code", True), ("/new\nline", False), ("/\udcff", False),
    ]  # fmt: skip
    # as the entry in map_files is called
    assert found[0].area == "400000-452000"


@given(st.lists(st.binary(max_size=80) | st.binary(max_size=20).map(lambda b: LIBSSL[:-1] + b + b"\n"), max_size=5))
def test_any_lines_are_read(lines: list[bytes]) -> None:
    for found in maps.mappings(lines):
        assert found.path.startswith("/")


@linux_only
def test_the_own_maps_name_the_interpreter() -> None:
    with open("/proc/self/maps", "rb") as file:
        found = maps.mappings(file)
    program = os.stat("/proc/self/exe")
    assert any(m.inode == program.st_ino for m in found)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"812 (nginx) S 1 812 812 0 -1 4194560 1 2", maps.Process("nginx", False)),
        (b"2 (kthreadd) S 0 0 0 0 -1 2129984 0 0", maps.Process("kthreadd", True)),
        (b"9 (ended) Z 1 9 9 0 -1 4194560 1 2", maps.Process("ended", True)),
        (b"9 (a) Z (b\n) S 1 9 9 0 -1 4194560 1 2", maps.Process("a) Z (b\n", False)),
    ],
)
def test_kernel_threads_and_zombies_are_known_whatever_a_process_calls_itself(
    content: bytes, expected: maps.Process
) -> None:
    assert maps.parse_stat(content) == expected


@given(st.binary(max_size=60) | st.binary(max_size=30).map(lambda b: b"1 (x" + b + b") S 1 1 1 0 -1 64"))
def test_any_stat_is_read_or_refused(content: bytes) -> None:
    with contextlib.suppress(maps.NotStat):
        maps.parse_stat(content)
