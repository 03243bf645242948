# SPDX-License-Identifier: BSD-2-Clause
"""short-buffers: what its facts mean, and the trial on this kernel."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ktlsctl.libssl import Connection
from ktlsctl.model import Finding, Status
from ktlsctl.scenarios.short_buffers import SIZE, Facts, Flow, judge
from ktlsctl.sessionfacts import Carried, Way
from ktlsctl.stage import End
from tests.trials import WAYS, judged_here

GOOD = Facts(Carried(True, True, True, True), SIZE, 4608, 4608, Flow(True, 5, 3), Flow(True, 6, 0))


def with_(which: str, value: Any) -> Facts:
    change: dict[str, Any] = {which: value}
    return replace(GOOD, **change)


def test_what_arrives_intact_after_repeated_writes_is_fine() -> None:
    found = judge(GOOD)
    assert (found.status, found.finding, found.sha256_ok, found.bytes) == (Status.OK, Finding.FINE, True, SIZE)
    assert found.evidence == {"send_buffer": 4608, "receive_buffer": 4608, "want_write": 11, "partial_writes": 3}


@pytest.mark.parametrize(("which", "named"), [("up", "to the server"), ("down", "to the client")])
def test_wrong_bytes_are_unexplained_and_say_which_way_they_went(which: str, named: str) -> None:
    found = judge(with_(which, Flow(False, 5, 0)))
    assert (found.status, found.finding, found.sha256_ok) == (Status.CRITICAL, Finding.UNEXPLAINED, False)
    assert named in found.reason


@pytest.mark.parametrize("which", ["up", "down"])
def test_a_way_that_never_lacked_room_proves_nothing(which: str) -> None:
    found = judge(with_(which, Flow(True, 0, 0)))
    assert (found.status, found.finding) == (Status.UNKNOWN, Finding.NOT_RUN)


def test_wrong_bytes_count_even_where_no_write_was_repeated() -> None:
    assert judge(replace(GOOD, up=Flow(False, 0, 0))).status is Status.CRITICAL


def test_a_read_does_not_hide_that_an_earlier_write_waits_for_room() -> None:
    """Both ends waited for bytes that neither could send, once a second at most, where the last call was a read."""
    end = End.__new__(End)
    for wants_write, full, expected in ((False, True, True), (True, False, True), (False, False, False)):
        end.session = cast(Connection, SimpleNamespace(wants_write=wants_write, full=full))
        assert end.wants_write is expected


@pytest.mark.parametrize("way", WAYS)
def test_this_kernel_carries_data_through_short_buffers(way: Way) -> None:
    for found in judged_here("short-buffers", way):
        assert found.finding is Finding.FINE, found
        assert found.sha256_ok
        assert found.bytes == SIZE
