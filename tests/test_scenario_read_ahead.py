# SPDX-License-Identifier: BSD-2-Clause
"""read-ahead: what its facts mean, and the trial on this kernel."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ktlsctl.model import Finding, Status
from ktlsctl.scenarios.ending import NOTHING, Ending
from ktlsctl.scenarios.read_ahead import REST, SIZE, Case, Facts, judge
from ktlsctl.sessionfacts import Carried, Way
from tests.trials import WAYS, judged_here

KERNEL = Case("client", False, True, True, True, "accepted", 0, True, True, NOTHING)
FALLEN_BACK = replace(KERNEL, whole=False, kernel=False, handover="refused: bytes read ahead", leftover=36)
USER = Case("server", True, True, True, False, "", 0, True, True, NOTHING)


def of(*cases: Case) -> Facts:
    return Facts(Carried(client_rx=any(case.kernel for case in cases)), cases)


@pytest.mark.parametrize(
    ("cases", "said"),
    [
        ((KERNEL, KERNEL), "received by the kernel"),
        ((USER,), "received in user space"),
        ((KERNEL, FALLEN_BACK, USER), "received by the kernel in 1 of 3 cases"),
    ],
)
def test_data_that_stays_intact_is_fine_and_it_is_said_who_received(cases: tuple[Case, ...], said: str) -> None:
    found = judge(of(*cases))
    assert (found.status, found.finding) == (Status.OK, Finding.FINE)
    assert (found.bytes, found.sha256_ok) == (SIZE + REST, True)
    assert found.summary.endswith(said)


def test_a_fallback_says_why_where_the_datapath_knows() -> None:
    evidence = judge(of(FALLEN_BACK, USER)).evidence
    assert evidence["client, half a record"] == "in user space: refused: bytes read ahead, 36 bytes"
    assert evidence["server, whole record, read_ahead"] == "in user space"


def test_a_direction_that_other_cases_had_in_the_kernel_was_kept_by_the_library() -> None:
    evidence = judge(of(KERNEL, replace(USER, role="client"), USER)).evidence
    assert evidence["client, whole record, read_ahead"] == "in user space: the library kept it"
    assert evidence["server, whole record, read_ahead"] == "in user space"


@pytest.mark.parametrize("which", ["first", "rest"])
def test_other_bytes_than_were_sent_are_unexplained_and_wrong(which: str) -> None:
    wrong = replace(KERNEL, first=False) if which == "first" else replace(KERNEL, rest=False)
    found = judge(of(USER, wrong))
    assert (found.status, found.finding, found.sha256_ok) == (Status.CRITICAL, Finding.UNEXPLAINED, False)
    assert "other bytes than were sent" in found.reason


def test_an_error_is_unexplained_and_not_called_wrong_bytes() -> None:
    found = judge(of(replace(KERNEL, first=False, rest=False, ending=Ending(1, 0, "unexpected message"))))
    assert (found.status, found.finding, found.sha256_ok) == (Status.CRITICAL, Finding.UNEXPLAINED, None)
    assert "SSL_read failed: unexpected message" in found.reason


def test_data_that_did_not_come_with_finished_proves_nothing() -> None:
    found = judge(of(KERNEL, replace(USER, glued=False)))
    assert (found.status, found.finding) == (Status.UNKNOWN, Finding.NOT_RUN)


@pytest.mark.parametrize("way", WAYS)
def test_on_this_kernel_data_behind_finished_is_intact(way: Way) -> None:
    for found in judged_here("read-ahead", way):
        assert found.finding is Finding.FINE, found
        assert len(found.evidence) == 8
        assert set(found.evidence.values()) == {"in user space"}
