# SPDX-License-Identifier: BSD-2-Clause
"""moving-write-buffer: what its facts mean, how records are told apart, and the trial on this kernel."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ktlsctl import advisories
from ktlsctl.model import Finding, Status
from ktlsctl.scenarios.moving_write_buffer import DEFECT, LATE, RECORD, RECORDS, Attempt, Facts, judge
from ktlsctl.sessionfacts import Carried, Way
from ktlsctl.trials.moving_write_buffer import compare
from tests.trials import WAYS, judged_here

CLEAN = Attempt(retries=8, stale=0, foreign=0)
IN_KERNEL = Facts(Carried(server_tx=True), RECORDS, CLEAN, CLEAN)


def with_(which: str, value: Any) -> Facts:
    change: dict[str, Any] = {which: value}
    return replace(IN_KERNEL, **change)


def test_records_that_stay_intact_in_the_kernel_refute_both_defects() -> None:
    found = judge(IN_KERNEL)
    assert (found.status, found.finding, found.known) == (Status.OK, Finding.FINE, ())
    assert found.refuted == (DEFECT, LATE)


def test_records_that_stay_intact_in_user_space_refute_nothing() -> None:
    found = judge(replace(IN_KERNEL, carried=Carried(server_rx=True, client_tx=True)))
    assert (found.status, found.finding, found.refuted) == (Status.OK, Finding.FINE, ())


def test_stale_memory_is_data_corruption_and_names_who_is_affected() -> None:
    found = judge(replace(IN_KERNEL, before=Attempt(8, 7, 0), after=Attempt(8, 7, 0)))
    assert (found.status, found.finding) == (Status.CRITICAL, Finding.KNOWN)
    assert found.known == (DEFECT,)
    assert found.sha256_ok is False
    assert "data corruption" in found.summary
    assert "Python" in found.reason
    assert "rust-openssl" in found.reason


def test_a_mode_set_late_is_named_without_an_alarm_and_the_other_defect_refuted() -> None:
    found = judge(replace(IN_KERNEL, after=Attempt(8, 3, 0)))
    assert (found.status, found.finding, found.known) == (Status.OK, Finding.KNOWN, (LATE,))
    assert found.refuted == (DEFECT,)
    assert found.reason


@pytest.mark.parametrize("which", ["before", "after"])
def test_records_that_differ_in_another_way_are_not_explained_by_the_known_defect(which: str) -> None:
    found = judge(with_(which, Attempt(8, 2, 1)))
    assert (found.status, found.finding, found.known) == (Status.CRITICAL, Finding.UNEXPLAINED, ())


def test_stale_memory_sent_from_user_space_is_not_the_known_defect() -> None:
    found = judge(Facts(Carried(client_tx=True), RECORDS, Attempt(8, 2, 0), CLEAN))
    assert (found.status, found.finding) == (Status.CRITICAL, Finding.UNEXPLAINED)


@pytest.mark.parametrize("which", ["before", "after"])
def test_a_run_without_a_repeated_write_proves_nothing(which: str) -> None:
    found = judge(with_(which, Attempt(0, 0, 0)))
    assert (found.status, found.finding, found.refuted) == (Status.UNKNOWN, Finding.NOT_RUN, ())


def test_both_defects_stand_in_the_table() -> None:
    for identity in (DEFECT, LATE):
        assert advisories.by_id(identity) is not None


def test_a_record_with_the_mark_is_stale_and_another_wrong_one_foreign() -> None:
    good = bytes(range(256)) * (RECORD // 256)
    stale = good[: RECORD // 2] + b"\xee" * (RECORD // 2)
    foreign = b"x" + good[1:]
    assert compare(good * 4, good + stale + foreign + good) == (1, 1)
    assert compare(good * 2, good) == (0, 1)
    assert compare(good, good * 2) == (0, 1)


@pytest.mark.parametrize("way", WAYS)
def test_this_kernel_repeats_writes_from_another_address_intact(way: Way) -> None:
    for found in judged_here("moving-write-buffer", way):
        assert found.finding is Finding.FINE, found
        assert found.evidence["stale_records"] == found.evidence["stale_records_mode_set_late"] == 0
