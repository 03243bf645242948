# SPDX-License-Identifier: BSD-2-Clause
"""From where a process sees the kernel: containers, user and network namespaces are told apart from leftovers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktlsctl.facts import namespaces
from ktlsctl.facts.namespaces import FIRST_PID, FIRST_USER, Namespaces
from ktlsctl.model import Tri
from tests.linux_hosts import CONTAINER, DEBIAN12, DENIED, LinuxHost

FIRST = {"net": 10, "user": FIRST_USER, "pid": FIRST_PID}
ULPS = "/proc/sys/net/ipv4/tcp_available_ulp"


def read(host: LinuxHost) -> Namespaces:
    return namespaces.read(host.capture())


def test_on_the_host_itself_everything_is_the_first() -> None:
    seen = read(DEBIAN12)
    assert (seen.in_first_network, seen.in_first_user, seen.container) == (Tri.YES, Tri.YES, False)


def test_the_list_of_ulps_is_the_sign_of_the_first_network_namespace() -> None:
    assert read(DEBIAN12.lacking(ULPS)).in_first_network is Tri.NO


def test_process_1_settles_it_when_it_may_be_seen() -> None:
    bare = DEBIAN12.lacking(ULPS)
    assert read(bare.but(first=FIRST)).in_first_network is Tri.YES  # a kernel without that list
    assert read(bare.but(own={**FIRST, "net": 11}, first=FIRST)).in_first_network is Tri.NO


def test_a_list_that_may_not_be_read_proves_nothing() -> None:
    assert read(DEBIAN12.having({ULPS: DENIED})).in_first_network is Tri.UNKNOWN


def test_a_user_namespace_is_known_by_its_inode() -> None:
    assert read(DEBIAN12.but(own={**FIRST, "user": 99})).in_first_user is Tri.NO


@pytest.mark.parametrize(
    "files",
    [
        {"/.dockerenv": b""},
        {"/run/.containerenv": b""},
        {"/proc/1/environ": b"container=lxc"},
        {"/proc/self/cgroup": b"docker"},
    ],
)
def test_signs_of_a_container_count_in_a_process_namespace_of_its_own(files: dict[str, Any]) -> None:
    assert read(LinuxHost("6.1", files, own={**FIRST, "pid": 12})).container


def test_a_mark_left_over_in_a_machine_made_from_an_image_is_no_container() -> None:
    assert not read(DEBIAN12.having({"/.dockerenv": b""})).container


def test_a_container_is_noticed() -> None:
    assert read(CONTAINER).container


def test_of_an_environment_and_a_cgroup_only_the_container_is_kept() -> None:
    assert namespaces.container_variable(b"PASSWORD=x\0container=podman\0A=b") == b"container=podman"
    assert namespaces.runtimes(b"0::/system.slice/docker-0123456789abcdef.scope\n") == b"docker"
    assert namespaces.runtimes(b"0::/user.slice/user-1000.slice\n") == b""


@given(st.binary() | st.lists(st.sampled_from([b"0", b" ", b"\n", b"4294967295", b"\xd9\xa1", b"-1"])).map(b"".join))
def test_arbitrary_bytes_are_a_map_or_refused(content: bytes) -> None:
    try:
        lines = namespaces.parse_uid_map(content)
    except ValueError:
        return
    assert all(number >= 0 for line in lines for number in line)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda s: st.lists(s) | st.dictionaries(st.text(), s)
    )
)
def test_an_arbitrary_captured_answer_is_inodes_or_refused(value: Any) -> None:
    try:
        inodes = namespaces.parse_inodes(value)
    except ValueError:
        return
    assert all(isinstance(inode, int) for inode in inodes.values())
