# SPDX-License-Identifier: BSD-2-Clause
"""`ktlsctl sessions` on FreeBSD: the kernel's list with its owners, the gauges without it, and nothing made up."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktlsctl import freebsd_sessions, sessions
from ktlsctl.facts import connections
from ktlsctl.facts.connections import Process
from ktlsctl.facts.ktlslist import OneWay
from ktlsctl.host import CapturedHost, Ran
from ktlsctl.model import Armed, Attempt, Mode, Outcome, Owner, Report, Status
from ktlsctl.sessions import Query
from tests.hosts import FREEBSD, captured
from tests.test_ktlslist import CHACHA12, NOTHING, listing, one_way, record

SYSCTL = ("run", '["sysctl", "-ie", "kern.osreldate", "kern.ipc.tls"]')
PS = ("run", '["ps", "-axo", "pid=,ppid=,comm="]')
LIST = ("ask", "sysctl net.inet.tcp.ktlslist")
CONNECTIONS = ("ask", "tcp connections")
ENDS = ("192.0.2.1", 443, "198.51.100.9", 50000)


def ran(text: str) -> dict[str, Any]:
    done = Ran(0, text, "")
    return {"status": done.status, "stdout": done.stdout, "stderr": done.stderr}


def host(list_: Any, gauges: str = "kern.ipc.tls.stats.active=2\n", **more: Any) -> CapturedHost:
    answers: dict[Any, Any] = {
        LIST: list_,
        SYSCTL: ran(f"kern.osreldate=1500068\n{gauges}"),
        PS: ran("   10     1 nginx\n   11    10 nginx: worker\n   20     1 some name\n"),
        CONNECTIONS: {ENDS: (11,), ("192.0.2.1", 22, "198.51.100.9", 50001): (20,)},
        ("names", "/var/run"): ["nginx.pid", "cron.pid", "sshd.pid"],
        **more,
    }
    return captured({"/var/run/nginx.pid": b"10\n", "/var/run/cron.pid": b"junk"}, answers, FREEBSD)


def listed(of: CapturedHost, query: Query | None = None) -> Report:
    query = query or Query()
    return sessions.report(FREEBSD, sessions.gather(of, query), query)


NO_LIST: Attempt[Any] = Attempt(Outcome.ABSENT, reason="No such file or directory")


def test_a_session_of_the_list_has_its_process_and_its_rc_service() -> None:
    report = listed(host(listing(record(rx=CHACHA12))))
    (s,) = report.sessions or ()
    assert (s.armed, s.version, s.cipher) == (Armed.KERNEL, "TLSv1.3", "AES-GCM")
    assert (s.tx, s.rx) == (Mode.SOFTWARE, Mode.NIC)
    assert (s.local, s.local_port, s.remote, s.remote_port) == ENDS
    # the worker is a child of the process that wrote the file
    assert (s.owners, s.service) == ((Owner(11, "nginx: worker"),), "nginx")
    assert (s.bytes_acked, s.namespace, s.tcp_state) == (None, None, None)
    assert report.verdict.status is Status.OK


def test_a_session_whose_process_is_hidden_says_so() -> None:
    report = listed(host(listing(record(local="192.0.2.7"))))
    (s,) = report.sessions or ()
    assert s.owners is None
    assert [c.id for c in report.checks if c.status is Status.SKIP] == ["sessions.owners"]


def test_with_all_the_connections_without_kernel_tls_are_there_too() -> None:
    report = listed(host(listing(record())), Query(everything=True))
    assert [(s.armed, s.local_port) for s in report.sessions or ()] == [(Armed.KERNEL, 443), (Armed.PLAIN, 22)]


def test_without_the_list_open_sessions_are_unknown_and_the_gauges_say_how_many() -> None:
    report = listed(host(NO_LIST, "kern.ipc.tls.stats.active=2\nkern.ipc.tls.sw.gcm=2\n"))
    assert report.verdict.status is Status.UNKNOWN
    assert report.sessions == ()
    assert report.counters == {"kern.ipc.tls.stats.active": 2, "kern.ipc.tls.sw.gcm": 2}
    (check,) = report.checks
    assert "kern.ipc.tls.sw.gcm 2" in check.reason


def test_without_the_list_a_gauge_of_zero_proves_that_there_is_none() -> None:
    report = listed(host(NO_LIST, "kern.ipc.tls.stats.active=0\n"))
    assert (report.verdict.status, report.verdict.summary) == (Status.OK, "no socket has kernel TLS")


def test_a_kernel_without_ktls_has_none() -> None:
    assert listed(host(NO_LIST, "")).verdict.status is Status.OK


def test_a_kernel_that_cannot_be_asked_is_unknown() -> None:
    of = host(NO_LIST)
    assert listed(captured({}, {LIST: NO_LIST}, FREEBSD)).verdict.status is Status.UNKNOWN
    denied: Attempt[Any] = Attempt(Outcome.DENIED, reason="Operation not permitted")
    assert listed(host(denied, "kern.ipc.tls.stats.active=0\n")).verdict.status is Status.UNKNOWN
    assert listed(of).verdict.status is Status.UNKNOWN


def test_a_damaged_list_is_unknown() -> None:
    report = listed(host(listing(record())[:-10]))
    assert report.verdict.status is Status.UNKNOWN
    assert "damaged" in report.verdict.summary


def test_what_was_refused_leaves_no_trace_there_and_is_unknown() -> None:
    assert listed(host(listing()), Query(failed=True)).verdict.status is Status.UNKNOWN


@pytest.mark.parametrize(
    ("way", "version", "cipher"),
    [
        (OneWay(25, 0, 16, 0, 3, 3, ""), "TLSv1.2", "AES-128-GCM"),
        (OneWay(25, 0, 32, 0, 3, 4, ""), "TLSv1.3", "AES-256-GCM"),
        (OneWay(25, 0, 0, 0, 3, 4, ""), "TLSv1.3", "AES-GCM"),
        (OneWay(41, 0, 0, 0, 3, 4, ""), "TLSv1.3", "CHACHA20-POLY1305"),
        (OneWay(11, 7, 16, 0, 3, 1, ""), "TLSv1.0", "AES-128-CBC-SHA1"),
        (OneWay(11, 7, 0, 0, 3, 2, ""), "TLSv1.1", "AES-CBC"),
        (OneWay(77, 0, 0, 0, 4, 9, ""), "4.9", "cipher 77"),
    ],
)
def test_numbers_of_the_header_become_names(way: OneWay, version: str, cipher: str) -> None:
    assert (freebsd_sessions.version(way), freebsd_sessions.cipher(way)) == (version, cipher)


def test_a_session_that_only_receives_is_described_by_what_it_receives() -> None:
    (s,) = listed(host(listing(record(rx=one_way(41, major=3, minor=3), tx=NOTHING)))).sessions or ()
    assert (s.version, s.cipher, s.tx, s.rx) == ("TLSv1.2", "CHACHA20-POLY1305", Mode.NONE, Mode.SOFTWARE)


def test_ps_lines_are_processes_and_others_nothing() -> None:
    assert connections.parse_ps("  1 0 init\n12 1 a b  \nx y z\n\n99999999999 1 n\n") == {
        1: Process(0, "init"),
        12: Process(1, "a b"),
    }


@given(st.text())
def test_any_text_of_ps_is_processes(text: str) -> None:
    assert all(isinstance(pid, int) for pid in connections.parse_ps(text))
