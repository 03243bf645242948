# SPDX-License-Identifier: BSD-2-Clause
"""facts/diagdump: a dump is read to its end, and whether a ULP would have been shown is only what was proved."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import struct
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktlsctl import sessions
from ktlsctl.facts import diagdump, sockdiag
from ktlsctl.facts.diagdump import Sight
from ktlsctl.host import LiveHost
from ktlsctl.model import Attempt, Tri
from ktlsctl.sessions import _decoded, _read_answer
from tests.test_sockdiag import message, pair, socket_message

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="netlink is Linux's")
__all__ = ["pair"]

Y, N, U = Tri.YES, Tri.NO, Tri.UNKNOWN


@pytest.mark.parametrize(
    ("registered", "capable", "own", "shown"),
    [
        (Y, Y, Y, Y),
        (Y, N, Y, Y),  # Linux 6.15 and later
        (Y, N, N, N),  # before
        (Y, Y, N, N),  # before 5.4 nobody is shown it
        (N, N, U, Y),  # without the ULP there is no such socket
        (Y, Y, U, Y),  # no loopback to try with: the rule of tcp_diag.c
        (Y, N, U, U),
        (U, U, U, U),
        (U, Y, U, Y),
    ],
)
def test_nothing_shown_is_nothing_there_only_where_it_would_have_been_shown(
    registered: Tri, capable: Tri, own: Tri, shown: Tri
) -> None:
    assert Sight(registered, capable, own).shown is shown


@pytest.mark.parametrize(
    ("datagram", "last"),
    [
        (message(3, bytes(4)), True),
        (message(2, struct.pack("=i", -1) + bytes(16)), True),
        (socket_message() + message(3, bytes(4)), True),
        (socket_message(), False),
        (socket_message() + socket_message(), False),
        (b"", True),
        (bytes(20), True),
    ],
)
def test_a_dump_ends_where_the_kernel_says_so_or_says_nothing_sensible(datagram: bytes, last: bool) -> None:
    assert diagdump.ends(datagram) is last


@given(st.one_of(st.binary(), st.builds(message, st.integers(0, 30), st.binary(max_size=40))))
def test_any_datagram_ends_a_dump_or_not(datagram: bytes) -> None:
    assert diagdump.ends(datagram) in (True, False)


@linux_only
def test_this_kernels_dump_is_read_to_its_end(pair: tuple[socket.socket, socket.socket]) -> None:
    datagrams = diagdump.read(LiveHost(), socket.AF_INET, sockdiag.CONNECTED).value
    assert datagrams is not None
    parts = [sockdiag.decode(bytes(d)) for d in datagrams]
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    inodes = {s.inode for part in parts for s in part.sockets}
    assert {os.fstat(end.fileno()).st_ino for end in pair} <= inodes


@linux_only
def test_sockets_that_come_and_go_while_the_table_is_dumped_do_no_harm() -> None:
    stop = threading.Event()

    def churn() -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
            while not stop.is_set():
                ends = [socket.create_connection(listener.getsockname()) for _ in range(40)]
                ends += [listener.accept()[0] for _ in range(40)]
                for end in ends:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("=ii", 1, 0))
                    end.close()

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        reports = [sessions.gather(LiveHost(), sessions.Query(everything=True)) for _ in range(20)]
    finally:
        stop.set()
        thread.join()
    assert all(facts.views[0].sockets.present for facts in reports)
    assert any(facts.sessions for facts in reports)


@linux_only
def test_listeners_and_closed_connections_are_not_asked_for(pair: tuple[socket.socket, socket.socket]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        inode = os.fstat(listener.fileno()).st_ino
        asked, everything = (
            {s.inode for d in diagdump.dump(socket.AF_INET, states) for s in sockdiag.decode(d).sockets}
            for states in (sockdiag.CONNECTED, 0xFFF)
        )
    assert inode not in asked
    assert inode in everything


@linux_only
def test_asking_for_the_sight_leaves_no_socket_and_loads_no_module() -> None:
    def sockets() -> list[int]:
        """Of this process: those of other programs come and go meanwhile."""
        found = []
        for descriptor in range(1024):
            with contextlib.suppress(OSError):
                about = os.fstat(descriptor)
                found += [about.st_ino] if stat.S_ISSOCK(about.st_mode) else []
        return found

    def modules() -> str:
        try:
            return "".join(sorted(line.split()[0] for line in Path("/proc/modules").read_text().splitlines()))
        except FileNotFoundError:  # a kernel without modules
            return ""

    before, loaded = sockets(), modules()
    found = diagdump.sight()
    assert modules() == loaded
    assert sockets() == before
    # a kernel knows the ULP exactly when it has the counters (5.5 and later)
    assert (found.registered is Tri.YES) == os.path.exists("/proc/net/tls_stat")


def look(path: str, inode: int) -> Attempt[Any]:
    argument = {"inode": inode, "path": path, "families": [2, 10], "states": sockdiag.CONNECTED}
    return LiveHost().begin(diagdump.TARGET, argument, 20).answer()


@linux_only
@pytest.mark.parametrize("path", ["/proc/self/ns/net", "/proc/2147483647/ns/net", "/dev/null"])
def test_the_child_finds_the_namespace_by_any_process_in_it(
    pair: tuple[socket.socket, socket.socket], path: str
) -> None:
    answer = look(path, os.stat("/proc/self/ns/net").st_ino)
    if answer.value is None:
        # setns(2), even to where one is, is root's
        assert (os.geteuid() == 0, answer.reason) == (False, "Operation not permitted")
        return
    dumps, _ = _read_answer(answer.value)
    sockets, _ = _decoded(dumps)
    assert {os.fstat(end.fileno()).st_ino for end in pair} <= {s.inode for s in sockets.or_else(())}


@linux_only
def test_a_namespace_that_is_gone_is_told_from_one_that_may_not_be_entered() -> None:
    assert look("/proc/2147483647/ns/net", 1).value == {"gone": True}


@linux_only
def test_what_is_no_namespace_is_a_reason_not_an_accident() -> None:
    answer = look("/dev/null", os.stat("/dev/null").st_ino)
    assert (answer.value, answer.reason) == (None, "Invalid argument")
