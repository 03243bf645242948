# SPDX-License-Identifier: BSD-2-Clause
"""early-data: what its facts mean, and the trial on this kernel."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ktlsctl.model import Finding, Status
from ktlsctl.scenarios.early_data import SIZE, Facts, judge
from ktlsctl.sessionfacts import Carried, Way
from tests.trials import WAYS, judged_here

GOOD = Facts(Carried(server_tx=True), True, True, 4, 3, True, True, True)


def with_(which: str, value: Any) -> Facts:
    change: dict[str, Any] = {which: value}
    return replace(GOOD, **change)


def test_an_ssl_read_that_wants_room_is_expected_and_its_meaning_told() -> None:
    found = judge(GOOD)
    assert (found.status, found.finding, found.bytes, found.sha256_ok) == (Status.OK, Finding.FINE, SIZE, True)
    assert "SSL_read says WANT_WRITE" in found.summary
    assert "event loop" in found.summary
    assert found.evidence == {"answered_by": "SSL_sendfile", "want_write": 4, "read_want_write": 3}


def test_tickets_that_found_room_are_fine_without_further_words() -> None:
    found = judge(replace(GOOD, read_want_write=0, sendfile=False))
    assert found.finding is Finding.FINE
    assert "event loop" not in found.summary
    assert found.evidence["answered_by"] == "SSL_write_early_data"


def test_early_data_that_was_not_accepted_is_unknown() -> None:
    found = judge(Facts(Carried(), False))
    assert (found.status, found.finding) == (Status.UNKNOWN, Finding.NOT_RUN)


@pytest.mark.parametrize(
    ("which", "named"),
    [("early_intact", "early data"), ("answer_intact", "the answer"), ("late_intact", "data after the handshake")],
)
def test_wrong_bytes_are_unexplained_and_say_which(which: str, named: str) -> None:
    found = judge(with_(which, False))
    assert (found.status, found.finding, found.sha256_ok) == (Status.CRITICAL, Finding.UNEXPLAINED, False)
    assert named in found.reason


def test_an_answer_that_found_room_at_once_proves_nothing() -> None:
    found = judge(replace(GOOD, want_write=0))
    assert (found.status, found.finding) == (Status.UNKNOWN, Finding.NOT_RUN)


@pytest.mark.parametrize("way", WAYS)
def test_this_kernel_answers_early_data_intact(way: Way) -> None:
    (found,) = judged_here("early-data", way)
    assert found.finding is Finding.FINE, found
    assert found.version == "TLSv1.3"
    assert found.evidence["answered_by"] == "SSL_write_early_data"
