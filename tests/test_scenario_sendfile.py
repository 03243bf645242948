# SPDX-License-Identifier: BSD-2-Clause
"""sendfile: what its facts mean, and the trial on this kernel."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ktlsctl import advisories
from ktlsctl.model import Finding, Os, Status
from ktlsctl.scenarios.sendfile import (
    FILE_SIZE,
    FREEBSD_REPLAY,
    RANGES,
    SHORT_BUFFER_HANG,
    Case,
    Facts,
    Mode,
    judge,
)
from ktlsctl.sessionfacts import Carried, Way
from tests.trials import WAYS, judged_here

SHORT = Case(Mode.SHORT, 0, 70_000, 70_000, 70_000, 70_000, calls=9, waits=8, short=2, stalled=False, intact=True)
BLOCKING = Case(Mode.BLOCKING, 4097, 100, 100, 100, 100, calls=1, waits=0, short=0, stalled=False, intact=True)
GOOD = Facts(Carried(server_tx=True), Os.LINUX, "", True, (SHORT, BLOCKING))


def test_files_that_arrive_whole_are_fine() -> None:
    found = judge(GOOD)
    assert (found.status, found.finding, found.bytes, found.sha256_ok) == (Status.OK, Finding.FINE, 70_100, True)
    assert found.evidence == {
        "cases": 2,
        "calls": 10,
        "want_write": 8,
        "short_calls": 2,
        "zerocopy": "taken by the kernel",
    }


@pytest.mark.parametrize(("zerocopy", "said"), [(False, "not taken"), (None, "cannot be told")])
def test_the_zerocopy_option_is_told_as_the_kernel_tells_it(zerocopy: bool | None, said: str) -> None:
    assert said in str(judge(replace(GOOD, zerocopy=zerocopy)).evidence["zerocopy"])


def test_without_kernel_tx_a_refusal_is_as_it_must_be() -> None:
    found = judge(Facts(Carried(client_tx=True), Os.LINUX, "uninitialized"))
    assert (found.status, found.finding) == (Status.OK, Finding.FINE)
    assert found.evidence == {"refusal": "uninitialized"}


def test_without_kernel_tx_a_file_that_goes_out_is_unexplained() -> None:
    found = judge(Facts(Carried(), Os.LINUX, ""))
    assert (found.status, found.finding) == (Status.CRITICAL, Finding.UNEXPLAINED)
    assert "unencrypted" in found.reason


def test_a_damaged_file_is_unexplained_and_named() -> None:
    found = judge(replace(GOOD, cases=(SHORT, replace(BLOCKING, intact=False))))
    assert (found.status, found.finding, found.sha256_ok) == (Status.CRITICAL, Finding.UNEXPLAINED, False)
    assert "100 bytes from 4097, blocking" in found.reason


def test_a_file_that_got_stuck_says_where() -> None:
    found = judge(replace(GOOD, cases=(replace(SHORT, arrived=49152, sent=60_000, stalled=True, intact=False),)))
    assert (found.status, found.finding, found.sha256_ok) == (Status.CRITICAL, Finding.UNEXPLAINED, None)
    assert "49152 of 70000 bytes arrived, 60000 were said to be sent" in found.reason


HANGING = replace(
    SHORT, mode=Mode.BLOCKING_SHORT, calls=2, waits=1, arrived=16384, sent=32768, stalled=True, intact=False
)


def test_a_blocking_call_that_hangs_with_a_short_buffer_is_the_known_limit() -> None:
    found = judge(replace(GOOD, cases=(SHORT, BLOCKING, HANGING)))
    assert (found.status, found.finding, found.known) == (Status.WARNING, Finding.KNOWN, (SHORT_BUFFER_HANG,))
    assert found.refuted == ()
    assert advisories.by_id(SHORT_BUFFER_HANG) is not None


def test_a_blocking_call_that_ends_with_a_short_buffer_refutes_the_limit_where_it_was_tried() -> None:
    ended = replace(BLOCKING, mode=Mode.BLOCKING_SHORT)
    assert judge(replace(GOOD, cases=(SHORT, ended))).refuted == (SHORT_BUFFER_HANG,)
    assert judge(replace(GOOD, system=Os.FREEBSD, cases=(SHORT, ended))).refuted == ()
    assert judge(GOOD).refuted == ()


@pytest.mark.parametrize(
    "other",
    [
        replace(BLOCKING, stalled=True, intact=False),
        replace(SHORT, stalled=True, intact=False),
        replace(HANGING, stalled=False),
    ],
    ids=["blocking", "non-blocking", "damaged"],
)
def test_anything_else_that_fails_beside_it_is_not_the_known_limit(other: Case) -> None:
    assert judge(replace(GOOD, cases=(SHORT, other, HANGING))).finding is Finding.UNEXPLAINED


def test_elsewhere_a_hang_is_unexplained() -> None:
    assert judge(replace(GOOD, system=Os.FREEBSD, cases=(SHORT, HANGING))).finding is Finding.UNEXPLAINED


def test_on_freebsd_a_file_damaged_after_short_calls_is_the_known_defect() -> None:
    damaged = replace(SHORT, intact=False)
    found = judge(replace(GOOD, system=Os.FREEBSD, cases=(damaged, BLOCKING)))
    assert (found.status, found.finding, found.known) == (Status.CRITICAL, Finding.KNOWN, (FREEBSD_REPLAY,))
    assert advisories.by_id(FREEBSD_REPLAY) is not None


@pytest.mark.parametrize(
    "damaged",
    [replace(SHORT, waits=0, short=0, intact=False), replace(BLOCKING, intact=False)],
    ids=["no wait", "blocking"],
)
def test_on_freebsd_other_damage_is_not_the_known_defect(damaged: Case) -> None:
    assert judge(replace(GOOD, system=Os.FREEBSD, cases=(damaged,))).finding is Finding.UNEXPLAINED


def test_a_send_buffer_that_was_never_full_proves_nothing() -> None:
    found = judge(replace(GOOD, cases=(replace(SHORT, waits=0, short=0), BLOCKING)))
    assert (found.status, found.finding) == (Status.UNKNOWN, Finding.NOT_RUN)


def test_a_call_that_sent_a_part_met_a_full_buffer_too() -> None:
    assert judge(replace(GOOD, cases=(replace(SHORT, waits=0, short=1), BLOCKING))).finding is Finding.FINE


def test_the_ranges_are_what_breaks_sendfile() -> None:
    """Over 64 KiB, from a page's start and not, the tail, and beyond the end."""
    assert any(asked > 65536 and offset % 4096 == 0 and offset for offset, asked in RANGES)
    assert any(asked > 65536 and offset % 4096 for offset, asked in RANGES)
    assert any(offset + asked == FILE_SIZE and offset for offset, asked in RANGES)
    assert any(offset + asked > FILE_SIZE for offset, asked in RANGES)


@pytest.mark.parametrize("way", WAYS)
def test_here_ssl_sendfile_is_refused_exactly_where_tx_is_in_user_space(way: Way) -> None:
    for found in judged_here("sendfile", way):
        assert found.finding is Finding.FINE, found
        assert ("refusal" in found.evidence) == (found.tx.status is Status.SKIP)
