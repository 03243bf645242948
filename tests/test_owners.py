# SPDX-License-Identifier: BSD-2-Clause
"""facts/owners: who holds a socket, its name, its unit; processes that end while they are read."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktlsctl.facts import owners
from ktlsctl.host import LiveHost
from tests.hosts import captured

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")


def process(proc: Path, pid: int, *links: str) -> Path:
    directory = proc / str(pid) / "fd"
    directory.mkdir(parents=True)
    for number, link in enumerate(links):
        (directory / str(number)).symlink_to(link)
    return directory


def test_each_wanted_socket_has_every_process_that_holds_it(tmp_path: Path) -> None:
    process(tmp_path, 1, "/dev/null")
    process(tmp_path, 20, "socket:[7]", "socket:[8]", "socket:[7]", "pipe:[9]")
    process(tmp_path, 3, "socket:[7]", "anon_inode:[eventpoll]")
    found = owners.scan(str(tmp_path), {7, 9, 10})
    assert found.pids == {7: (3, 20)}  # 8 is not wanted, 9 is a pipe, 10 is held by nobody
    assert found.unseen == ""


def test_a_process_that_ended_meanwhile_is_passed_over(tmp_path: Path) -> None:
    process(tmp_path, 1)
    (tmp_path / "5").mkdir()  # its fd directory is gone
    (tmp_path / "6").touch()
    (tmp_path / "self").mkdir()
    (tmp_path / "7").symlink_to(tmp_path / "nowhere")
    process(tmp_path, 8, "socket:[1]")
    assert owners.scan(str(tmp_path), {1}).pids == {1: (8,)}


def test_a_descriptor_that_was_closed_meanwhile_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process(tmp_path, 1, "socket:[1]", "socket:[2]", "socket:[3]")
    read = os.readlink

    def closing(name: str, *, dir_fd: int) -> str:
        if name == "1":
            raise FileNotFoundError
        return read(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "readlink", closing)
    assert owners.scan(str(tmp_path), {1, 2, 3}).pids == {1: (1,), 3: (1,)}


@pytest.mark.parametrize("where", ["open", "readlink"])
def test_a_process_that_may_not_be_looked_into_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    process(tmp_path, 1, "socket:[1]")

    def refuse(*_: object, **__: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, where, refuse)
    found = owners.scan(str(tmp_path), {1})
    assert found.pids == {}
    assert found.unseen == "1 process keeps its descriptors from this user"


def test_without_a_process_1_others_are_hidden(tmp_path: Path) -> None:
    process(tmp_path, 20, "socket:[7]")
    assert "hidepid" in owners.scan(str(tmp_path), {7}).unseen


@linux_only
def test_this_machine_knows_who_holds_this_tests_own_socket() -> None:
    host = LiveHost()
    with socket.create_server(("127.0.0.1", 0)) as sock:
        inode = os.fstat(sock.fileno()).st_ino
        found = owners.read(host, {inode}).value
    assert found is not None
    assert found.pids == {inode: (os.getpid(),)}
    assert owners.name(host, os.getpid()) == Path("/proc/self/comm").read_text().rstrip("\n")


@linux_only
def test_a_process_that_has_ended_has_no_name_and_no_unit() -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    assert (owners.name(LiveHost(), child.pid), owners.unit(LiveHost(), child.pid)) == (None, None)


@linux_only
def test_a_process_that_is_there_is_told_from_one_that_has_ended() -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    here, host = os.getpid(), LiveHost()
    assert [owners.ended(host, pid) for pid in (1, here, child.pid, 10**30)] == [False, False, True, True]
    assert owners.program(host, here) == os.path.basename(os.readlink("/proc/self/exe"))
    assert owners.program(host, child.pid) is None


def test_a_name_is_kept_byte_for_byte() -> None:
    host = captured({"/proc/5/comm": b"a\nb\xff\n"})
    assert owners.name(host, 5) == "a\nb\udcff"


@pytest.mark.parametrize(
    ("content", "unit"),
    [
        ("0::/system.slice/nginx.service\n", "nginx.service"),
        ("0::/system.slice/nginx.service/worker\n", "nginx.service"),
        ("0::/user.slice/user-0.slice/user@0.service/app.slice/x.service\n", "x.service"),
        ("0::/system.slice/docker-0a1b.scope\n", "docker-0a1b.scope"),
        ("0::/system.slice/system-getty.slice/getty@tty1.service\n", "getty@tty1.service"),
        ("12:cpu:/a.service\n1:name=systemd:/system.slice/b.service\n0::/\n", "b.service"),
        ("0::/a:b.service\n", "a:b.service"),
        ("0::/\n", None),
        ("0::/.service\n", None),
        ("", None),
    ],
)
def test_the_innermost_unit_of_a_cgroup_is_the_service(content: str, unit: str | None) -> None:
    assert owners.parse_cgroup(content.encode()) == unit


@given(st.binary())
def test_any_cgroup_file_has_a_unit_or_none(content: bytes) -> None:
    found = owners.parse_cgroup(content)
    assert found is None or "/" not in found
