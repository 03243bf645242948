# SPDX-License-Identifier: BSD-2-Clause
"""facts/netns: each network namespace once, by a process or by its name; those that cannot be looked up are counted."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from ktlsctl.facts import netns
from ktlsctl.host import LiveHost
from ktlsctl.model import NetworkNamespace

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="namespaces are Linux's")


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """Processes 1 and 2 share a namespace with this one, 3 has another; files stand for nsfs inodes."""
    for name in ("home", "other"):
        (tmp_path / name).touch()
    for pid, home in (("self", "home"), ("1", "home"), ("2", "home"), ("3", "other")):
        (tmp_path / "proc" / pid / "ns").mkdir(parents=True)
        (tmp_path / "proc" / pid / "ns" / "net").hardlink_to(tmp_path / home)
    (tmp_path / "proc" / "4").mkdir()  # ended meanwhile
    (tmp_path / "named").mkdir()
    return tmp_path


def test_a_namespace_of_many_processes_is_found_once_and_the_own_one_first(proc: Path) -> None:
    found = netns.scan(str(proc / "proc"), str(proc / "named"))
    home, other = ((proc / name).stat().st_ino for name in ("home", "other"))
    assert [space for space, _ in found.namespaces] == [
        NetworkNamespace(home, own=True),
        NetworkNamespace(other),
    ]
    assert found.namespaces[1][1].endswith("/3/ns/net")
    assert found.unseen == 0


def test_a_named_namespace_needs_no_process_and_a_leftover_name_is_none(
    proc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (proc / "third").touch()
    (proc / "named" / "blue").hardlink_to(proc / "third")
    (proc / "named" / "green").hardlink_to(proc / "other")
    (proc / "named" / "stale").symlink_to("/dev/null")  # another file system
    found = netns.scan(str(proc / "proc"), str(proc / "named"))
    names = {space.name: space.inode for space, _ in found.namespaces}
    assert names == {
        "": (proc / "home").stat().st_ino,
        "blue": (proc / "third").stat().st_ino,
        "green": (proc / "other").stat().st_ino,
    }


def test_processes_whose_namespace_may_not_be_looked_up_are_counted(
    proc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stat = os.stat

    def guarded(path: str) -> os.stat_result:
        if "/3/" in path:
            raise PermissionError(13, "Permission denied")
        return stat(path)

    monkeypatch.setattr(os, "stat", guarded)
    found = netns.scan(str(proc / "proc"), str(proc / "named"))
    assert (len(found.namespaces), found.unseen) == (1, 1)


@linux_only
def test_this_process_is_in_one_of_this_machines_namespaces() -> None:
    own = netns.own(LiveHost()).value
    found = netns.read(LiveHost()).value
    assert found is not None
    assert own is not None
    assert found.namespaces[0] == (own, "/proc/self/ns/net")
    assert own.own
