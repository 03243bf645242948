# SPDX-License-Identifier: BSD-2-Clause
"""records: what its facts mean, and the trial on this kernel."""

from __future__ import annotations

import errno
from dataclasses import replace

import pytest

from ktlsctl.model import Finding, Status
from ktlsctl.scenarios.records import SIZE, TICKETS, Close, Facts, Tickets, judge
from ktlsctl.sessionfacts import Carried, Way
from tests.trials import WAYS, judged_here

CLOSES = tuple(Close(role, (errno.EIO, errno.EIO), True, True, True) for role in ("server", "client"))
GOOD = Facts(Carried(True, True, True, True), Tickets(TICKETS, True), CLOSES)


def closing(close: Close) -> Facts:
    return replace(GOOD, closes=(CLOSES[0], close))


def test_tickets_and_closes_that_go_through_the_kernel_are_fine() -> None:
    found = judge(GOOD)
    assert (found.status, found.finding, found.bytes, found.sha256_ok) == (Status.OK, Finding.FINE, SIZE, True)
    assert found.evidence["tickets"] == "5 of 5"
    assert "Input/output error" in str(found.evidence["recv"])


def test_in_user_space_nothing_is_said_of_a_plain_read() -> None:
    plain = tuple(replace(close, plain=()) for close in CLOSES)
    found = judge(Facts(Carried(), None, plain))
    assert found.finding is Finding.FINE
    assert "recv" not in found.evidence
    assert "tickets" not in found.summary


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (replace(GOOD, tickets=Tickets(2, True)), "2 of 5 tickets arrived"),
        (replace(GOOD, tickets=Tickets(TICKETS, False)), "no session could be resumed"),
        (closing(replace(CLOSES[1], plain=(0, errno.EIO))), "recv(2) at the server met close_notify and gave bytes"),
        (closing(replace(CLOSES[1], plain=(errno.EIO, errno.EBADMSG))), "Bad message instead of twice"),
        (closing(replace(CLOSES[1], noticed=False)), "the server did not see the close_notify of the client"),
        (closing(replace(CLOSES[1], intact=False)), "what the server sent after the client had closed"),
        (closing(replace(CLOSES[1], answered=False)), "the client did not see the close_notify that came back"),
    ],
)
def test_each_thing_that_goes_wrong_is_unexplained_and_named(facts: Facts, said: str) -> None:
    found = judge(facts)
    assert (found.status, found.finding) == (Status.CRITICAL, Finding.UNEXPLAINED)
    assert said in found.reason


@pytest.mark.parametrize("way", WAYS)
def test_this_kernel_carries_control_records(way: Way) -> None:
    for found in judged_here("records", way):
        assert found.finding is Finding.FINE, found
        assert found.sha256_ok
        assert found.evidence["half_close"] == ("the server closed first", "the client closed first")
