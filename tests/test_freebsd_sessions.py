# SPDX-License-Identifier: BSD-2-Clause
"""`ktlsctl sessions` on FreeBSD: the kernel's list with its owners, the gauges without it, and nothing made up."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktlsctl import freebsd_sessions, sessions
from ktlsctl.facts import connections
from ktlsctl.facts.connections import Connection, Process
from ktlsctl.facts.ktlslist import OneWay
from ktlsctl.host import CapturedHost, LiveHost, Ran
from ktlsctl.model import About, Armed, Attempt, Mode, Outcome, Owner, Report, Status
from ktlsctl.sessions import Query
from tests.hosts import FREEBSD, captured
from tests.test_ktlslist import CHACHA12, NOTHING, listing, one_way, record

SYSCTL = ("run", '["sysctl", "-ie", "kern.osreldate", "kern.ipc.tls"]')
PS = ("run", json.dumps(("ps", "-ax", "-o", "pid=", "-o", "ppid=", "-o", "comm=")))
LIST = ("ask", "sysctl net.inet.tcp.ktlslist")
CONNECTIONS = ("ask", "tcp connections")
ENDS = ("192.0.2.1", 443, "198.51.100.9", 50000)


def ran(text: str) -> dict[str, Any]:
    done = Ran(0, text, "")
    return {"status": done.status, "stdout": done.stdout, "stderr": done.stderr}


def host(list_: Any, gauges: str = "kern.ipc.tls.stats.active=2\n", more: Any = None) -> CapturedHost:
    answers: dict[Any, Any] = {
        LIST: list_,
        SYSCTL: ran(f"kern.osreldate=1500068\n{gauges}"),
        PS: ran("   10     1 nginx\n   11    10 nginx: worker\n   20     1 some name\n"),
        CONNECTIONS: {
            ENDS: Connection("ESTABLISHED", (11,)),
            ("192.0.2.1", 22, "198.51.100.9", 50001): Connection("ESTABLISHED", (20,)),
            ("192.0.2.1", 22, "198.51.100.9", 50002): Connection("TIME_WAIT"),
        },
        ("names", "/var/run"): ["nginx.pid", "cron.pid", "sshd.pid"],
    }
    known = {"/var/run/nginx.pid": b"10\n", "/var/run/cron.pid": b"junk"}
    return captured(known, {**answers, **(more or {})}, FREEBSD)


def listed(of: CapturedHost, query: Query | None = None, about: About = FREEBSD) -> Report:
    query = query or Query()
    return sessions.report(about, sessions.gather(of, query), query)


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


# ---- what is not in the list

USER = replace(FREEBSD, privileged=False)


@pytest.mark.parametrize(
    ("list_", "active", "about", "status"),
    [
        (listing(), 2, USER, Status.UNKNOWN),
        (listing(record()), 2, USER, Status.UNKNOWN),
        (listing(), 2, FREEBSD, Status.UNKNOWN),
        (listing(record()), 2, FREEBSD, Status.OK),
        (listing(record()), 1, USER, Status.OK),
        (listing(), 0, USER, Status.OK),
    ],
)
def test_a_list_that_is_shorter_than_the_gauge_is_unknown_unless_it_may_be_a_race(
    list_: Any, active: int, about: About, status: Status
) -> None:
    report = listed(host(list_, f"kern.ipc.tls.stats.active={active}\n"), about=about)
    assert report.verdict.status is status
    assert ("counts more sessions than it lists" in report.verdict.summary) is (status is Status.UNKNOWN)


@pytest.mark.parametrize(
    ("wanted", "found", "status"),
    [
        ("aes-128-gcm", 1, Status.UNKNOWN),
        ("aes-gcm", 1, Status.OK),
        ("aes-cbc", 0, Status.OK),
        ("aes-128-cbc-sha1", 0, Status.OK),
        ("chacha20-poly1305", 0, Status.OK),
    ],
)
def test_a_cipher_whose_family_is_listed_may_be_the_wanted_one(wanted: str, found: int, status: Status) -> None:
    report = listed(host(listing(record())), Query(ciphers=frozenset({sessions.cipher_named(wanted)})))
    assert (len(report.sessions or ()), report.verdict.status) == (found, status)


def test_a_connection_that_its_peer_has_closed_keeps_its_process() -> None:
    of = host(listing(record()), more={CONNECTIONS: {ENDS: Connection("CLOSE_WAIT", (11,))}})
    (s,) = listed(of).sessions or ()
    assert s.owners == (Owner(11, "nginx: worker"),)


def test_psutils_connections_keep_their_state_and_all_their_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(_kind: str) -> list[Any]:
        here, there = SimpleNamespace(ip="192.0.2.1", port=443), SimpleNamespace(ip="198.51.100.9", port=50000)
        return [SimpleNamespace(laddr=here, raddr=there, status="CLOSE_WAIT", pid=pid) for pid in (12, None, 11)] + [
            SimpleNamespace(laddr=here, raddr=(), status="LISTEN", pid=10)
        ]

    monkeypatch.setattr(psutil, "net_connections", found)
    assert connections.read(LiveHost()).value == {ENDS: Connection("CLOSE_WAIT", (11, 12))}


@pytest.mark.parametrize("error", [RuntimeError("size mismatch"), psutil.AccessDenied(1)])
def test_connections_that_psutil_cannot_read_are_no_internal_error(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails(_kind: str) -> list[Any]:
        raise error

    monkeypatch.setattr(psutil, "net_connections", fails)
    assert connections.read(LiveHost()).outcome is Outcome.FAILED


FAILED: Attempt[Any] = Attempt(Outcome.FAILED, reason="psutil: size mismatch")


def test_connections_that_could_not_be_listed_make_all_of_them_unknown_with_the_reason() -> None:
    of = host(listing(record()), more={CONNECTIONS: FAILED})
    report = listed(of, Query(everything=True))
    assert report.verdict.status is Status.UNKNOWN
    assert {c.reason for c in report.checks if "size mismatch" in c.reason}
    # without --all only the owner is not known, with the reason
    report = listed(of)
    assert [(c.id, c.status, c.reason) for c in report.checks[1:]] == [("sessions.owners", Status.SKIP, FAILED.reason)]


@pytest.mark.parametrize("answer", [ran(""), ran("1234\n  77\n"), FAILED])
def test_a_filter_by_name_is_unknown_where_no_process_could_be_named(answer: Any) -> None:
    of = host(listing(record()), more={PS: answer})
    assert connections.processes(of).outcome is Outcome.FAILED
    assert listed(of, Query(processes=frozenset({"nginx"}))).verdict.status is Status.UNKNOWN
    assert listed(of).verdict.status is Status.OK


def test_no_question_to_ps_has_a_comma_behind_a_header() -> None:
    # FreeBSD's ps(1) takes all that follows "=" for the header: one column is left
    calls = [
        call
        for module in Path(connections.__file__).parents[1].rglob("*.py")
        for call in re.findall(r'"ps",[^)]*', module.read_text())
    ]
    assert len(calls) >= 2
    assert [call for call in calls if re.search(r'=[^"]*,[^"]*"', call)] == []


def test_ps_lines_are_processes_and_others_nothing() -> None:
    assert connections.parse_ps("  1 0 init\n12 1 a b  \nx y z\n\n99999999999 1 n\n") == {
        1: Process(0, "init"),
        12: Process(1, "a b"),
    }


@given(st.text())
def test_any_text_of_ps_is_processes(text: str) -> None:
    assert all(isinstance(pid, int) for pid in connections.parse_ps(text))
