# SPDX-License-Identifier: BSD-2-Clause
"""many: what a thousand sessions leave behind is told, and a thousand sessions on this machine."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import pytest

from ktlsctl.model import Finding, Status
from ktlsctl.scenarios.many import SLACK, WANTED, Facts, judge
from ktlsctl.sessionfacts import Carried, Way
from ktlsctl.trials import many
from ktlsctl.trials.ground import Ground
from tests.trials import WAYS, judged_here

FINE = Facts(WANTED, Carried(True, True, True, True), WANTED, WANTED, 16000, 1000, 0, 0, 0, {"TlsCurrTxSw": 0})


def test_a_thousand_sessions_that_leave_nothing_are_fine_and_their_memory_is_told() -> None:
    found = judge(FINE)
    assert (found.status, found.sha256_ok) == (Status.OK, True)
    assert "1000 sessions at once, 16000 bytes an idle end" in found.summary


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"descriptors": 2}, "2 descriptors"),
        ({"bios_left": 1}, "1 BIOs"),
        ({"kept_bytes": SLACK + 1}, "a second round left"),
        ({"gauges": {"TlsCurrTxSw": 3}}, "still counts"),
        ({"in_kernel": 999}, "only 999"),
    ],
)
def test_whatever_is_left_behind_is_told(change: dict[str, object], said: str) -> None:
    found = judge(replace(FINE, **change))  # type: ignore[arg-type]
    assert (found.status, found.finding, found.sha256_ok) == (Status.CRITICAL, Finding.UNEXPLAINED, True)
    assert said in found.reason


def test_wrong_bytes_in_one_session_are_wrong_bytes() -> None:
    found = judge(replace(FINE, intact=WANTED - 1))
    assert (found.status, found.sha256_ok, found.summary) == (Status.CRITICAL, False, "bytes differ")


def test_fewer_than_wanted_is_unknown_with_what_to_raise() -> None:
    found = judge(replace(FINE, sessions=400))
    assert (found.status, found.finding) == (Status.UNKNOWN, Finding.NOT_RUN)
    assert "ulimit -n" in found.reason


@pytest.mark.parametrize("way", WAYS)
def test_a_thousand_sessions_here_leave_nothing(way: Way) -> None:
    (result,) = judged_here("many", way)
    assert result.status is Status.OK, result


@pytest.mark.parametrize("limit", [5, 300])
def test_under_a_low_limit_of_descriptors_nothing_is_opened(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(many, "_descriptor_limit", lambda: limit)
    facts = many.run(cast(Ground, None))
    assert 0 <= facts.sessions < WANTED
    assert judge(facts).status is Status.UNKNOWN


def test_open_descriptors_are_counted_where_no_folder_lists_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """FreeBSD's /dev/fd without fdescfs has 0, 1 and 2."""
    listed = [number for number in many._descriptors() if many._is_open(number)]
    monkeypatch.setattr("sys.platform", "freebsd14")
    assert many._descriptors() == sorted(listed)
    with open("/dev/null", "rb") as file:
        assert file.fileno() in many._descriptors()
