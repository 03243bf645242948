# SPDX-License-Identifier: BSD-2-Clause
"""`ktlsctl top`: rows and rates out of two samples, a screen that always fits, and a real terminal."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Iterator

import pyte
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktlsctl import top
from ktlsctl.model import Armed, Mode, NetworkNamespace, Owner
from ktlsctl.render import top_text
from ktlsctl.render.strings import columns
from ktlsctl.top import Row, Sample
from tests.test_sessions_text import SESSION, SESSIONS

NGINX = SESSION._replace(identity=1, bytes_acked=1000, bytes_received=10)
PYTHON = SESSION._replace(identity=2, owners=(Owner(20, "python3"),), cipher="AES-128-CCM", tx=Mode.NONE, rx=Mode.NIC)


def rows(now: Sample, before: Sample | None = None) -> tuple[Row, ...]:
    return top.rows(now, before)


def test_sessions_are_added_up_by_process() -> None:
    other = NGINX._replace(identity=3, cipher="AES-128-GCM")
    more = NGINX._replace(identity=4)
    refused = NGINX._replace(identity=5, armed=Armed.REFUSED, cipher="SM4-GCM")
    first, second = rows(Sample(0, (PYTHON, NGINX, other, more, refused)))
    assert (first.process, first.pids, first.sessions, first.refused) == ("nginx", (10, 11), 3, 1)
    assert first.ciphers == ("AES-256-GCM", "AES-128-GCM")
    assert (first.tx[Mode.SOFTWARE], first.rx[Mode.NONE]) == (3, 3)
    assert (second.process, second.sessions, second.rx[Mode.NIC]) == ("python3", 1, 1)


def test_rates_are_bytes_per_second_between_two_samples_and_unknown_in_the_first() -> None:
    first = Sample(10, (NGINX,))
    later = Sample(12, (NGINX._replace(bytes_acked=5000, bytes_received=30),))
    assert [(r.tx_rate, r.rx_rate) for r in rows(first)] == [(None, None)]
    assert [(r.tx_rate, r.rx_rate) for r in rows(later, first)] == [(2000.0, 10.0)]


def test_a_rate_is_of_the_sessions_that_both_samples_have() -> None:
    gone = NGINX._replace(identity=8, bytes_acked=10**12)
    new = NGINX._replace(identity=9, bytes_acked=10**12)
    (row,) = rows(Sample(1, (NGINX._replace(bytes_acked=1500), new)), Sample(0, (NGINX, gone)))
    assert row.tx_rate == 500.0


def test_after_a_look_that_saw_nothing_the_bytes_of_a_lifetime_are_no_rate() -> None:
    (row,) = rows(Sample(2, (NGINX._replace(bytes_acked=10**12),)), Sample(1, ()))
    assert (row.tx_rate, row.rx_rate) == (None, None)
    assert screen((row,))[4].endswith("      -        - AES-256-GCM")


def test_the_same_number_in_two_network_namespaces_is_two_sockets() -> None:
    blue = NGINX._replace(namespace=NetworkNamespace(77, "blue"), bytes_acked=9000)
    (row,) = rows(Sample(1, (NGINX, blue._replace(bytes_acked=9700))), Sample(0, (NGINX, blue)))
    assert row.tx_rate == 700.0


@pytest.mark.parametrize(("then", "now"), [(2**64 - 1, 0), (5, 4)])
def test_a_counter_that_falls_is_no_negative_rate(then: int, now: int) -> None:
    (row,) = rows(Sample(1, (NGINX._replace(bytes_acked=now),)), Sample(0, (NGINX._replace(bytes_acked=then),)))
    assert row.tx_rate == 0.0


def test_bytes_that_are_not_counted_have_no_rate() -> None:
    uncounted = NGINX._replace(bytes_acked=None)
    (row,) = rows(Sample(1, (uncounted,)), Sample(0, (uncounted,)))
    assert (row.tx_rate, row.rx_rate) == (None, 0.0)


def test_two_samples_at_the_same_time_have_no_rate() -> None:
    assert rows(Sample(1, (NGINX,)), Sample(1, (NGINX,)))[0].tx_rate is None


def test_the_busiest_process_comes_first() -> None:
    busy = PYTHON._replace(bytes_acked=10**9)
    before = Sample(0, (NGINX, PYTHON))
    assert [r.process for r in rows(Sample(1, (NGINX, busy)), before)] == ["python3", "nginx"]


@pytest.mark.parametrize(
    ("owners", "name"), [(None, "(unknown)"), ((), "(no process)"), ((Owner(3, None),), "(ended)")]
)
def test_a_socket_without_a_name_is_told_why(owners: tuple[Owner, ...] | None, name: str) -> None:
    assert rows(Sample(0, (NGINX._replace(owners=owners),)))[0].process == name


# ---- the screen


def screen(found: tuple[Row, ...], height: int = 24, width: int = 80) -> list[str]:
    return top_text.screen(found, verdict="OK - 2 sessions", clock="2026-11-21T12:00:00Z", height=height, width=width)


def test_a_screen_of_80_by_24_has_process_directions_rates_and_ciphers() -> None:
    before = Sample(0, (NGINX, PYTHON))
    now = Sample(1, (NGINX._replace(bytes_acked=1001000), PYTHON))
    assert screen(rows(now, before)) == [
        "ktlsctl top  2026-11-21T12:00:00Z  q quits",
        "OK - 2 sessions",
        "",
        "PROCESS             PID  SESS TX       RX           TX/s     RX/s CIPHERS",
        "nginx              10+1     1 software none       1.0 MB      0 B AES-256-GCM",
        "python3              20     1 none     nic           0 B      0 B AES-128-CCM",
    ]


def test_sessions_that_differ_are_mixed() -> None:
    mixed = (NGINX, NGINX._replace(identity=3, tx=Mode.NIC))
    assert " mixed    none" in screen(rows(Sample(0, mixed)))[4]


@given(st.lists(SESSIONS, max_size=12), st.integers(1, 30), st.integers(1, 120))
def test_whatever_there_is_fits_into_whatever_terminal(found: list[object], height: int, width: int) -> None:
    lines = screen(rows(Sample(0, tuple(found))), height, width)  # type: ignore[arg-type]
    assert len(lines) <= height
    assert all(columns(line) <= width and (line.isprintable() or not line) for line in lines)


def test_names_of_double_width_keep_the_columns_where_they_are() -> None:
    wide = NGINX._replace(owners=(Owner(10, "\u30b5\u30fc\u30d0\u30fc" * 3),))
    combined = NGINX._replace(owners=(Owner(11, "e\u0301" * 20),))
    head, *lines = (screen(rows(Sample(0, (wide, combined))))[n] for n in (3, 4, 5))
    for line in lines:
        before = line[: line.index(" software")]
        assert columns(before) == head.index(" TX")
    assert columns(screen(rows(Sample(0, (wide,))), width=6)[4]) == 6


def test_refused_sockets_are_named_before_the_ciphers() -> None:
    refused = NGINX._replace(identity=5, armed=Armed.REFUSED)
    assert screen(rows(Sample(0, (NGINX, refused))))[4].endswith(" 1 refused AES-")


def test_what_does_not_fit_is_counted() -> None:
    many = tuple(NGINX._replace(identity=n, owners=(Owner(n, f"p{n}"),)) for n in range(1, 41))
    lines = screen(rows(Sample(0, many)))
    assert len(lines) == 24
    assert lines[-1] == "... 21 more, below"


# ---- a terminal

PROGRAM = """
import os, sys
from ktlsctl import cli, sessions
from tests.test_top import NGINX, PYTHON
calls = 0
def report(about, facts, query):
    global calls
    calls += 1
    from ktlsctl.model import Report, Status, Verdict
    found = (NGINX._replace(bytes_acked=calls * 1000000), PYTHON)
    return Report(about, f"look {calls}", Verdict(Status.OK, "2 sessions"), sessions=found)
sessions.report, sessions.gather = report, lambda host, query: None
sys.exit(cli.run(sys.argv[1:]))
"""


class Terminal:
    """`ktlsctl top` on a pseudo-terminal of its own, and what a terminal would show."""

    def __init__(self, *arguments: str, term: str = "xterm", hangup: signal.Handlers = signal.SIG_DFL) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            # A shell's background job ignores it, and so do those that it starts.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.signal(signal.SIGHUP, hangup)
            environment = {**os.environ, "TERM": term, "LINES": "", "COLUMNS": ""}
            for name in ("LINES", "COLUMNS"):
                del environment[name]
            os.execve(sys.executable, [sys.executable, "-c", PROGRAM, "top", *arguments], environment)
        self.screen = pyte.Screen(80, 24)
        self.stream = pyte.ByteStream(self.screen)
        self.written = b""
        self.resize(24, 80)

    def resize(self, lines: int, columns: int) -> None:
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.screen.resize(lines, columns)

    def wait_for(self, text: str) -> None:
        """Until it is on the screen; a minute is the deadline of a hanging test, not a measure."""
        self._read_until(lambda: any(text in line for line in self.screen.display), text)

    def _read_until(self, there: object, what: str) -> None:
        end = time.monotonic() + 60
        while not there():  # type: ignore[operator]
            ready, _, _ = select.select([self.fd], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"no {what} on the screen: {self.screen.display}"
            try:
                data = os.read(self.fd, 65536)
            except OSError:
                data = b""
            assert data, f"ended without {what}: {self.written!r}"
            self.written += data
            self.stream.feed(data)

    def type(self, keys: bytes) -> None:
        os.write(self.fd, keys)

    def status(self) -> int:
        """Reads what is left, so that the child cannot block, and waits for its end; a minute is a hanging test's."""
        with contextlib.suppress(OSError):
            while True:
                ready, _, _ = select.select([self.fd], [], [], 60)
                assert ready, f"it does not end: {self.screen.display}"
                data = os.read(self.fd, 65536)
                if not data:
                    break
                self.written += data
                self.stream.feed(data)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.fd)


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    opened: list[Terminal] = []
    yield opened
    for each in opened:
        each.close()


def test_it_fills_the_terminal_updates_it_and_q_gives_it_back(terminals: list[Terminal]) -> None:
    terminal = Terminal("--interval", "0.1")
    terminals.append(terminal)
    terminal.wait_for("look 3")
    assert terminal.screen.display[3].startswith("PROCESS ")
    assert terminal.screen.display[4].startswith("nginx ")
    terminal.type(b"xq")
    assert terminal.status() == 0
    # the alternate screen was entered once, and left
    assert terminal.written.count(b"\x1b[?1049h") == terminal.written.count(b"\x1b[?1049l") == 1


def test_an_update_writes_only_what_differs(terminals: list[Terminal]) -> None:
    terminal = Terminal("--interval", "0.1")
    terminals.append(terminal)
    terminal.wait_for("look 2")
    before = len(terminal.written)
    terminal.wait_for("look 4")
    update = terminal.written[before:]
    assert b"PROCESS" not in update
    assert b"\x1b[2J" not in update
    terminal.type(b"q")
    assert terminal.status() == 0


def test_a_resized_terminal_is_redrawn_at_once(terminals: list[Terminal]) -> None:
    terminal = Terminal("--interval", "3600")
    terminals.append(terminal)
    terminal.wait_for("python3")
    terminal.resize(5, 40)
    terminal.wait_for("... 2 more, below")
    terminal.resize(24, 80)
    terminal.wait_for("python3")
    terminal.type(b"q")
    assert terminal.status() == 0


def test_an_interrupt_gives_the_terminal_back(terminals: list[Terminal]) -> None:
    terminal = Terminal("--interval", "3600")
    terminals.append(terminal)
    terminal.wait_for("python3")
    terminal.type(b"\x03")
    assert terminal.status() == 130
    assert b"\x1b[?1049l" in terminal.written


def test_it_ends_with_its_terminal_where_the_hangup_is_ignored(terminals: list[Terminal]) -> None:
    terminal = Terminal("--interval", "3600", hangup=signal.SIG_IGN)
    terminals.append(terminal)
    terminal.wait_for("python3")
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), terminal.fd)  # the other end is closed
    end = time.monotonic() + 60  # a hanging test's deadline
    while (ended := os.waitid(os.P_PID, terminal.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is None:
        assert time.monotonic() < end
        time.sleep(0.02)
    assert (ended.si_code, ended.si_status) == (os.CLD_EXITED, 0)


@pytest.mark.parametrize("term", ["", "no-such-terminal", "dumb"])
def test_a_terminal_that_is_not_known_is_a_sentence(terminals: list[Terminal], term: str) -> None:
    terminal = Terminal(term=term)
    terminals.append(terminal)
    assert terminal.status() == 3
    assert b"sessions --watch" in terminal.written
    assert b"Traceback" not in terminal.written
