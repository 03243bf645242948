# SPDX-License-Identifier: BSD-2-Clause
"""`ktlsctl sessions` over captured Linux hosts: what is listed, whose it is, and what could not be seen."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktlsctl import sessions
from ktlsctl.ciphers import LINUX_CIPHERS
from ktlsctl.facts.diagdump import Sight
from ktlsctl.facts.owners import Holders
from ktlsctl.host import CapturedHost
from ktlsctl.model import Armed, Attempt, Mode, Outcome, Owner, Report, Session, Status, Tri
from ktlsctl.sessions import Query
from tests.hosts import LINUX
from tests.live import (
    BLIND,
    BLUE,
    CCM,
    CHACHA,
    DENIED,
    FILES,
    GCM,
    HERE,
    NO_MODULE,
    REFUSED,
    UNKEYED,
    attribute,
    host,
    other,
    sock,
    spaces,
    ulp,
)  # fmt: skip


def listed(of: CapturedHost, query: Query | None = None) -> Report:
    query = query or Query()
    return sessions.report(LINUX, sessions.gather(of, query), query)


def inodes(report: Report) -> list[int | None]:
    return [s.inode for s in report.sessions or ()]


HOLDERS = Holders({1: (10, 11), 2: (20,)})


# ---- what is listed


def test_a_session_has_its_process_service_suite_directions_and_bytes() -> None:
    more = attribute(5, b"") + attribute(6, b"") + attribute(7, struct.pack("=H", 512))
    message = sock(1, ulp(0x304, 52, tx=2, rx=1, more=more), acked=2**64 - 1, received=7)
    report = listed(host(v4=[message], holders=HOLDERS))
    assert report.sessions == (
        Session(
            armed=Armed.KERNEL, local="192.0.2.1", local_port=443, remote="198.51.100.9", remote_port=50000,
            tcp_state="ESTABLISHED", version="TLSv1.3", cipher="AES-256-GCM", suite="TLS_AES_256_GCM_SHA384",
            tx=Mode.SOFTWARE, rx=Mode.NONE, zerocopy_tx=True, no_pad_rx=True, tx_max_payload=512,
            bytes_acked=2**64 - 1, bytes_received=7, uid=1000, inode=1, owners=(Owner(10, "nginx"), Owner(11, "nginx")),
            service="nginx.service", namespace=HERE, identity=1,
        ),
    )  # fmt: skip
    assert (report.verdict.status, report.verdict.summary) == (Status.OK, "1 session in the kernel, of 2 processes")


def test_sockets_of_both_families_are_listed() -> None:
    report = listed(host(v4=[sock(1, GCM)], v6=[sock(2, GCM, local="2001:db8::1")]))
    assert [s.local for s in report.sessions or ()] == ["192.0.2.1", "2001:db8::1"]


@pytest.mark.parametrize("cipher", LINUX_CIPHERS, ids=lambda c: c.name)
def test_every_cipher_of_the_kernel_has_its_name(cipher: Any) -> None:
    (s,) = listed(host(v4=[sock(1, ulp(0x303, cipher.id, tx=2))])).sessions or ()
    assert (s.cipher, s.suite) == (cipher.name, None)  # TLS 1.2 has many suites for a cipher


def test_numbers_of_newer_kernels_stay_numbers() -> None:
    (s,) = listed(host(v4=[sock(1, ulp(0x305, 99, tx=9, rx=1))])).sessions or ()
    assert (s.armed, s.version, s.cipher, s.tx) == (Armed.KERNEL, "0x0305", "cipher 99", Mode.UNKNOWN)


@pytest.mark.parametrize(("conf", "mode"), [(1, Mode.NONE), (2, Mode.SOFTWARE), (3, Mode.NIC), (4, Mode.NIC)])
def test_who_does_the_records_is_named(conf: int, mode: Mode) -> None:
    (s,) = listed(host(v4=[sock(1, ulp(0x303, 51, tx=2, rx=conf))])).sessions or ()
    assert s.rx is mode


def test_a_key_that_the_kernel_refused_is_told_from_a_socket_that_was_never_keyed() -> None:
    report = listed(host(v4=[sock(1, REFUSED), sock(2, UNKEYED), sock(3, GCM), sock(4)]))
    assert [s.armed for s in report.sessions or ()] == [Armed.REFUSED, Armed.UNKEYED, Armed.KERNEL]
    assert report.verdict.status is Status.WARNING
    assert report.verdict.summary == "1 session in the kernel; 1 socket refused; 1 socket never keyed"
    assert inodes(listed(host(v4=[sock(1, REFUSED), sock(3, GCM)]), Query(failed=True))) == [1]


def test_a_socket_that_was_never_keyed_is_no_warning() -> None:
    assert listed(host(v4=[sock(1, UNKEYED)])).verdict.status is Status.OK


def test_a_socket_of_another_ulp_has_no_kernel_tls() -> None:
    assert listed(host(v4=[sock(1, ulp(name=b"mptcp\0"))])).sessions == ()


def test_with_all_established_sockets_without_kernel_tls_are_there_too() -> None:
    messages = [sock(1), sock(2, GCM), sock(3, state=8), sock(4, GCM, state=8)]
    report = listed(host(v4=messages), Query(everything=True))
    assert [(s.inode, s.armed, s.tcp_state) for s in report.sessions or ()] == [
        (1, Armed.PLAIN, "ESTABLISHED"),
        (2, Armed.KERNEL, "ESTABLISHED"),
        (4, Armed.KERNEL, "CLOSE_WAIT"),
    ]


SIX = [
    sock(1, GCM), sock(2, CHACHA, port=8443), sock(3, CCM), sock(4, REFUSED), sock(5), sock(6, UNKEYED, port=50000),
]  # fmt: skip


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (Query(), [1, 2, 3, 4, 6]),
        (Query(pids=frozenset({11})), [1]),
        (Query(pids=frozenset({11, 20})), [1, 2]),
        (Query(processes=frozenset({"nginx"})), [1]),
        (Query(processes=frozenset({"ngin"})), []),
        (Query(ports=frozenset({8443})), [2]),
        (Query(ports=frozenset({50000})), [1, 2, 3, 4, 6]),
        (Query(ciphers=frozenset({"CHACHA20-POLY1305", "AES-128-CCM"})), [2, 3]),
        (Query(tx=Mode.SOFTWARE), [1, 2]),
        (Query(tx=Mode.SOFTWARE, rx=Mode.SOFTWARE), [2]),
        (Query(tx=Mode.NONE), [3, 4, 6]),
        (Query(failed=True), [4, 6]),
        (Query(failed=True, ports=frozenset({443})), [4]),
        (Query(everything=True, tx=Mode.NONE), [3, 4, 5, 6]),
        (Query(tx=Mode.NIC), []),
    ],
)
def test_filters_of_different_kinds_must_all_hold(query: Query, expected: list[int]) -> None:
    assert inodes(listed(host(v4=SIX, holders=HOLDERS), query)) == expected


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("aes-128-gcm", "AES-128-GCM"),
        ("AES-128-GCM", "AES-128-GCM"),
        ("TLS_AES_256_GCM_SHA384", "AES-256-GCM"),
        ("ECDHE-ECDSA-AES128-CCM", "AES-128-CCM"),
        ("chacha20-poly1305", "CHACHA20-POLY1305"),
        ("tls_chacha20_poly1305_sha256", "CHACHA20-POLY1305"),
        ("aes-gcm", "AES-GCM"),
        ("aes-cbc", "AES-CBC"),
    ],
)
def test_a_cipher_may_be_named_as_people_name_it(text: str, name: str) -> None:
    assert sessions.cipher_named(text) == name


@given(st.text())
def test_any_text_is_a_cipher_or_refused(text: str) -> None:
    try:
        assert sessions.cipher_named(text).isupper()
    except sessions.UnknownCipher:
        return


# ---- whose it is


def test_a_process_that_ended_while_it_was_asked_keeps_its_number_and_has_no_name() -> None:
    (s,) = listed(host(v4=[sock(1, GCM)], holders=Holders({1: (77,)}))).sessions or ()
    assert (s.owners, s.service) == ((Owner(77, None),), None)


def test_a_socket_that_no_process_holds_is_told_from_one_whose_process_is_hidden() -> None:
    (nobody,) = listed(host(v4=[sock(1, GCM)])).sessions or ()
    assert nobody.owners == ()
    report = listed(host(v4=[sock(1, GCM)], holders=Holders({}, "3 processes keep their descriptors from this user")))
    (hidden,) = report.sessions or ()
    assert hidden.owners is None
    assert report.verdict.status is Status.OK
    assert [(c.id, c.status) for c in report.checks if c.status is not Status.OK] == [("sessions.owners", Status.SKIP)]


@pytest.mark.parametrize("query", [Query(pids=frozenset({10})), Query(processes=frozenset({"nginx"}))])
def test_a_filter_by_process_cannot_exclude_a_socket_whose_process_is_hidden(query: Query) -> None:
    report = listed(host(v4=[sock(1, GCM), sock(9, GCM)], holders=Holders({1: (10,)}, "hidden")), query)
    assert inodes(report) == [1]
    assert report.verdict.status is Status.UNKNOWN
    assert "1 session in the kernel" in report.verdict.summary


def test_a_filter_by_process_leaves_alone_what_the_other_filters_exclude() -> None:
    of = host(v4=[sock(1, GCM), sock(9, GCM, port=8443), sock(5)], holders=Holders({1: (10,)}, "hidden"))
    assert listed(of, Query(pids=frozenset({10}), ports=frozenset({443}))).verdict.status is Status.OK
    assert listed(of, Query(pids=frozenset({10}), ports=frozenset({8443}))).verdict.status is Status.UNKNOWN


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a-program-with-a-long-name", [1]),
        ("a-program-with-", [1]),
        ("a-program-with", []),
        ("python3.11", [2]),
        ("python3", [2]),
        ("python3.1", []),
    ],
)
def test_a_process_may_be_named_by_its_whole_name_or_by_the_file_that_it_runs(name: str, expected: list[int]) -> None:
    of = host(
        {**FILES, "/proc/10/comm": b"a-program-with-\n"},
        v4=[sock(1, GCM), sock(2, GCM)],
        holders=Holders({1: (10,), 2: (20,)}),
        extra={("ask", "program of process 20"): "/usr/bin/python3.11 (deleted)"},
    )
    assert inodes(listed(of, Query(processes=frozenset({name})))) == expected


def test_a_process_that_does_not_exist_is_an_error_and_not_one_without_sockets() -> None:
    of = host(v4=[sock(1, GCM)], holders=HOLDERS, extra={("ask", "process 77"): False, ("ask", "process 10"): True})
    report = listed(of, Query(pids=frozenset({77, 10})))
    assert report.errors == ("there is no process 77; ps -e lists those that there are",)
    assert (report.verdict.status, inodes(report)) == (Status.UNKNOWN, [1])


def test_a_family_of_ciphers_stands_for_its_members() -> None:
    assert inodes(listed(host(v4=SIX, holders=HOLDERS), Query(ciphers=frozenset({"AES-GCM"})))) == [1]


def test_processes_that_could_not_be_asked_at_all_are_unknown_owners() -> None:
    (s,) = listed(host(v4=[sock(1, GCM)], holders=DENIED)).sessions or ()
    assert s.owners is None


# ---- what could not be seen


def test_nothing_shown_to_one_who_would_see_it_is_none() -> None:
    report = listed(host(v4=[sock(1)]))
    assert (report.verdict.status, report.verdict.summary) == (Status.OK, "no socket has kernel TLS")
    assert listed(host(sight=NO_MODULE)).verdict.status is Status.OK


def test_nothing_shown_to_one_who_would_not_see_it_is_unknown() -> None:
    report = listed(host(v4=[sock(1)], sight=BLIND))
    assert report.verdict.status is Status.UNKNOWN
    assert report.verdict.summary == "unknown (needs CAP_NET_ADMIN)"
    assert report.verdict.first_broken == "sessions.visible"
    # the counters are everybody's
    assert "TlsCurrTxSw 2" in report.checks[0].reason


@pytest.mark.parametrize("sight", [Sight(Tri.YES, Tri.UNKNOWN), Sight(Tri.UNKNOWN, Tri.NO), DENIED])
def test_what_is_not_known_to_be_shown_is_unknown(sight: Any) -> None:
    assert listed(host(sight=sight)).verdict.status is Status.UNKNOWN


def test_a_kernel_that_shows_it_to_nobody_is_not_blamed_on_a_missing_capability() -> None:
    report = listed(host(sight=Sight(Tri.YES, Tri.YES, Tri.NO)))
    assert report.verdict.status is Status.UNKNOWN
    assert "CAP_NET_ADMIN" not in report.verdict.summary
    assert "5.4" in report.checks[0].reason


def test_where_a_socket_is_shown_all_are_and_nothing_more_is_asked() -> None:
    assert listed(host(v4=[sock(1, GCM)], sight=BLIND)).verdict.status is Status.OK


@pytest.mark.parametrize(
    "failing",
    [
        DENIED,
        Attempt(Outcome.TIMEOUT, reason="timed out"),
        Attempt.ran([struct.pack("=IHHIIi", 36, 2, 0, 1, 0, -2) + bytes(16)]),
        Attempt.ran([sock(1, GCM)]),
        Attempt.ran([b"garbage"]),
        Attempt.ran([]),
    ],
    ids=["denied", "timeout", "ENOENT", "cut off", "garbage", "nothing"],
)
def test_a_dump_that_failed_is_unknown_with_its_reason(failing: Any) -> None:
    report = listed(host(v6=failing))
    assert report.verdict.status is Status.UNKNOWN
    assert "sock_diag did not answer: " in report.verdict.summary


def test_a_table_that_keeps_changing_is_asked_three_times_and_then_said_to_be_incomplete() -> None:
    of = host(v4=[sock(1, GCM, flags=0x12)])
    asked = []

    class Counting(CapturedHost):
        def ask(self, key: str, question: Any) -> Any:
            asked.append(key)
            return super().ask(key, question)

    report = listed(Counting(LINUX, of._answers))
    assert sum("dump 2 " in key for key in asked) == 3
    assert inodes(report) == [1]
    assert report.verdict.status is Status.UNKNOWN
    assert "sockets may be missing" in report.verdict.summary


# ---- network namespaces

LOOK_AT_X = (
    "probe",
    'ktlsctl.facts.diagdump:look {"families": [2, 10], "inode": 4026532200, "path": "/x", "states": 2866}',
)


def test_sockets_of_other_network_namespaces_are_listed_with_theirs() -> None:
    of = host(
        v4=[sock(1, GCM)], holders=HOLDERS,
        extra={**spaces((BLUE, "/run/netns/blue")), **other(BLUE, "/run/netns/blue", [sock(2, CHACHA)])},
    )  # fmt: skip
    report = listed(of, Query(all_netns=True))
    assert [(s.inode, s.namespace) for s in report.sessions or ()] == [(1, HERE), (2, BLUE)]
    assert report.verdict.status is Status.OK
    assert inodes(listed(of)) == [1]


def test_a_namespace_that_may_not_be_entered_is_named_and_unknown() -> None:
    extra = {**spaces((BLUE, "/run/netns/blue")), **other(BLUE, "/run/netns/blue", DENIED)}
    report = listed(host(v4=[sock(1, GCM)], extra=extra), Query(all_netns=True))
    assert inodes(report) == [1]
    assert report.verdict.status is Status.UNKNOWN
    assert "unknown in the network namespace blue: Operation not permitted" in report.verdict.summary


def test_a_namespace_that_ended_meanwhile_is_passed_over() -> None:
    extra = {**spaces((BLUE, "/x")), LOOK_AT_X: {"gone": True}}
    report = listed(host(v4=[sock(1, GCM)], extra=extra), Query(all_netns=True))
    assert (inodes(report), report.verdict.status) == ([1], Status.OK)


def test_a_namespace_in_which_nothing_would_be_shown_is_unknown() -> None:
    extra = {**spaces((BLUE, "/run/netns/blue")), **other(BLUE, "/run/netns/blue", [sock(2)], BLIND)}
    report = listed(host(extra=extra), Query(all_netns=True))
    assert report.verdict.summary == "unknown (needs CAP_NET_ADMIN) in the network namespace blue"


def test_processes_that_hide_their_namespace_make_the_list_incomplete() -> None:
    report = listed(host(extra=spaces(unseen=3)), Query(all_netns=True))
    assert report.verdict.status is Status.UNKNOWN
    assert "3 processes keep their network namespace" in report.checks[0].reason


@pytest.mark.parametrize(
    "value",
    [None, [], {}, {"families": {}}, {"families": {"2": ["!"]}, "sight": ["x"] * 3}, {"families": 7, "sight": 1}],
)
def test_a_childs_damaged_answer_is_unknown(value: Any) -> None:
    answer: Attempt[Any] = Attempt(Outcome.FAILED, reason="ended") if value is None else Attempt.ran(value)
    report = listed(host(extra={**spaces((BLUE, "/x")), LOOK_AT_X: answer}), Query(all_netns=True))
    assert report.verdict.status is Status.UNKNOWN


# ---- hostile answers


@given(st.lists(st.binary(max_size=200), max_size=3), st.binary(max_size=80))
def test_whatever_the_kernel_sends_there_is_a_report(datagrams: list[bytes], attributes: bytes) -> None:
    for sent in (datagrams, [sock(1, attributes)], [sock(1, attribute(19, attributes))]):
        report = listed(host(v4=Attempt.ran(sent)))
        assert report.verdict.status in (Status.OK, Status.UNKNOWN, Status.WARNING)


@given(st.integers(0, 65535), st.integers(0, 65535), st.integers(0, 65535), st.integers(0, 65535), st.integers(0, 255))
def test_whatever_numbers_a_socket_has_it_is_listed(version: int, cipher: int, tx: int, rx: int, state: int) -> None:
    (s,) = listed(host(v4=[sock(1, ulp(version, cipher, tx, rx), state=state)])).sessions or ()
    assert s.armed is not Armed.PLAIN
    assert s.tcp_state
