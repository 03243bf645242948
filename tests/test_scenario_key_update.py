# SPDX-License-Identifier: BSD-2-Clause
"""key-update: what its facts mean, and the trial on this kernel."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from ktlsctl import advisories
from ktlsctl.model import Finding, Status
from ktlsctl.scenarios.ending import NOTHING, Ending
from ktlsctl.scenarios.key_update import FATAL, POLL_STALL, WRONG_KEY, Case, Facts, Stall, judge
from ktlsctl.sessionfacts import Carried, Way
from tests.trials import WAYS, judged_here

ALL = Carried(True, True, True, True)
TX = Carried(server_tx=True, client_tx=True)
WORKS = tuple(Case(role, requested, ALL) for role, requested in product(("server", "client"), (False, True)))
BAD_MAC = Ending(1, 0, "decryption failed or bad record mac")
NO_LAYER = Ending(1, 16, "no suitable record layer, internal error")


def one_fails(carried: Carried, failed: str, ending: Ending) -> Facts:
    broken = Case("client", True, carried, failed, "receiving record 1 after it", ending)
    return Facts((*WORKS[:3], broken), None, 0)


def test_keys_that_change_and_a_poll_that_tells_refute_every_defect() -> None:
    found = judge(Facts(WORKS, Stall(True, False, False, True), 14))
    assert (found.status, found.finding, found.known) == (Status.OK, Finding.FINE, ())
    assert set(found.refuted) == {WRONG_KEY, FATAL, POLL_STALL}
    assert found.evidence["rekeys"] == 14


def test_in_user_space_it_works_and_refutes_nothing() -> None:
    found = judge(Facts(tuple(replace(case, carried=Carried()) for case in WORKS), None, 0))
    assert (found.finding, found.refuted) == (Finding.FINE, ())


def test_a_silent_poll_is_the_known_stall_and_a_warning() -> None:
    found = judge(Facts(WORKS, Stall(True, False, True, True), 14))
    assert (found.status, found.finding, found.known) == (Status.WARNING, Finding.KNOWN, (POLL_STALL,))
    assert set(found.refuted) == {WRONG_KEY, FATAL}
    assert "event loop" in found.reason


def test_a_silent_poll_is_no_stall_where_the_library_tells_of_more() -> None:
    assert judge(Facts(WORKS, Stall(True, True, True, True), 14)).finding is Finding.FINE


@pytest.mark.parametrize(("stall", "where"), [(Stall(False, False, True, True), "before"),
                                              (Stall(True, False, True, False), "after")])  # fmt: skip
def test_data_lost_around_a_key_update_is_unexplained(stall: Stall, where: str) -> None:
    found = judge(Facts(WORKS, stall, 14))
    assert (found.status, found.finding) == (Status.CRITICAL, Finding.UNEXPLAINED)
    assert f"{where} the KeyUpdate" in found.reason


def test_a_kernel_that_goes_on_with_the_old_key_is_the_known_defect() -> None:
    found = judge(one_fails(TX, "server", BAD_MAC))
    assert (found.status, found.finding, found.known) == (Status.WARNING, Finding.KNOWN, (WRONG_KEY,))
    assert "old key" in found.reason
    assert "server fails receiving record 1" in str(found.evidence["client, requested"])


def test_a_library_that_gives_up_is_the_known_defect() -> None:
    found = judge(one_fails(ALL, "client", NO_LAYER))
    assert (found.status, found.finding, found.known) == (Status.WARNING, Finding.KNOWN, (FATAL,))


def test_the_other_end_s_word_is_part_of_the_evidence() -> None:
    broken = Case("server", False, ALL, "server", "sending record 1 after it", NO_LAYER, BAD_MAC)
    assert "the other end then fails too: decryption failed" in str(judge(Facts((broken,), None, 0)).evidence["server"])
    silent = replace(broken, other=NOTHING)
    assert "the other end notices nothing" in str(judge(Facts((silent,), None, 0)).evidence["server"])


@pytest.mark.parametrize(
    ("carried", "failed", "ending"),
    [
        (Carried(), "server", BAD_MAC),
        (Carried(server_tx=True), "server", BAD_MAC),
        (Carried(), "client", NO_LAYER),
        (ALL, "client", Ending(5, 32, "Broken pipe")),
        (ALL, "server", Ending(reason="other bytes than were sent")),
    ],
    ids=["user space", "the other's kernel", "no kernel", "another error", "other bytes"],
)
def test_what_neither_defect_explains_is_unexplained(carried: Carried, failed: str, ending: Ending) -> None:
    found = judge(one_fails(carried, failed, ending))
    assert (found.status, found.finding) == (Status.CRITICAL, Finding.UNEXPLAINED)
    assert f"{failed} fails receiving record 1 after it: {ending}" in found.reason


def test_every_defect_stands_in_the_table() -> None:
    assert all(advisories.by_id(identity) for identity in (WRONG_KEY, FATAL, POLL_STALL))


@pytest.mark.parametrize("way", WAYS)
def test_this_kernels_sessions_survive_key_updates(way: Way) -> None:
    (found,) = judged_here("key-update", way)
    assert found.finding is Finding.FINE, found
    assert found.version == "TLSv1.3"
    assert found.evidence == {
        "server": "works", "server, requested": "works", "client": "works", "client, requested": "works", "rekeys": 0,
    }  # fmt: skip
