# SPDX-License-Identifier: BSD-2-Clause
"""reset: what its facts mean, and the trial on this kernel."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from typing import Any

import pytest

from ktlsctl import advisories
from ktlsctl.libssl import _unnamed
from ktlsctl.model import Finding, Status
from ktlsctl.scenarios.ending import Ending
from ktlsctl.scenarios.reset import Case, Facts, Loss, judge
from ktlsctl.sessionfacts import Carried, Way
from ktlsctl.trials.reading import Reader
from tests.trials import WAYS, judged_here

RESET = Ending(5, errno.ECONNRESET, "Connection reset by peer")
END = Ending(1, 0, "unexpected eof while reading")
OLD_END = Ending(5, 0, "end of file")
LENGTH = Ending(1, 0, "packet length too long, record layer failure")
AS_LENGTH = "openssl.eof-without-close-notify"


def case(loss: Loss, ending: Ending, kernel_rx: bool = False) -> Case:
    return Case(loss, kernel_rx, True, ending, 0, 0, 0, 0)


def of(*cases: Case) -> Facts:
    return Facts(Carried(server_rx=any(one.kernel_rx for one in cases)), cases)


@pytest.mark.parametrize(
    ("loss", "ending"),
    [
        (Loss.RESET_READING, RESET),
        (Loss.RESET_WRITING, RESET),
        (Loss.RESET_WRITING, Ending(5, errno.EPIPE, "Broken pipe")),
        (Loss.MID_RECORD, END),
        (Loss.MID_RECORD, OLD_END),
        (Loss.END, END),
        (Loss.END_OWN_BIO, END),
        (Loss.KILLED_SENDING, END),
        (Loss.KILLED_SENDING, RESET),
        (Loss.KILLED_RECEIVING, RESET),
    ],
)
def test_a_loss_that_is_reported_as_what_it_was_is_fine(loss: Loss, ending: Ending) -> None:
    found = judge(of(case(loss, ending)))
    assert (found.status, found.finding, found.refuted) == (Status.OK, Finding.FINE, ())
    assert found.evidence == {str(loss): str(ending)}


def test_an_end_that_the_kernel_received_and_the_library_named_rightly_refutes_the_defect() -> None:
    assert judge(of(case(Loss.END_OWN_BIO, END, True))).refuted == (AS_LENGTH,)
    assert judge(of(case(Loss.END, END, True))).refuted == ()


@pytest.mark.parametrize("loss", [Loss.END, Loss.END_OWN_BIO, Loss.MID_RECORD, Loss.KILLED_SENDING])
def test_an_end_reported_as_a_length_is_the_known_defect(loss: Loss) -> None:
    found = judge(of(case(loss, LENGTH, True)))
    assert (found.status, found.finding, found.known) == (Status.WARNING, Finding.KNOWN, (AS_LENGTH,))
    assert advisories.by_id(AS_LENGTH) is not None


@pytest.mark.parametrize(
    ("loss", "ending", "kernel_rx"),
    [
        (Loss.END, LENGTH, False),
        (Loss.END, RESET, True),
        (Loss.MID_RECORD, RESET, False),
        (Loss.RESET_READING, END, True),
        (Loss.RESET_READING, LENGTH, True),
        (Loss.RESET_WRITING, Ending(1, 0, "bad length"), True),
    ],
)
def test_another_report_is_unexplained(loss: Loss, ending: Ending, kernel_rx: bool) -> None:
    found = judge(of(case(loss, ending, kernel_rx)))
    assert (found.status, found.finding) == (Status.CRITICAL, Finding.UNEXPLAINED)
    assert f"the library says '{ending}'" in found.reason


@pytest.mark.parametrize("loss", Loss)
def test_a_loss_that_passes_for_an_orderly_end_is_unexplained(loss: Loss) -> None:
    found = judge(of(case(loss, Ending(6), True)))
    assert found.status is Status.CRITICAL
    assert "lost data would go unnoticed" in found.reason


@pytest.mark.parametrize(
    ("which", "value", "said"),
    [
        ("intact", False, "what was read is not what was sent"),
        ("files", 2, "2 file descriptors are left open"),
        ("gauges", 1, "still counts 1 TLS directions"),
        ("operations", 3, "3 operations of io_uring"),
        ("buffers", 1, "1 buffers or BIOs"),
    ],
)
def test_what_is_not_given_back_is_unexplained(which: str, value: Any, said: str) -> None:
    change: dict[str, Any] = {which: value}
    found = judge(of(replace(case(Loss.END, END), **change)))
    assert (found.status, found.finding) == (Status.CRITICAL, Finding.UNEXPLAINED)
    assert said in found.reason


def test_an_errno_on_the_librarys_error_queue_is_told_by_its_name() -> None:
    assert _unnamed(0x80000000 | errno.ECONNRESET) == os.strerror(errno.ECONNRESET)
    assert _unnamed(0x0A000142) == "error 0xa000142"


@pytest.mark.parametrize("way", WAYS)
def test_on_this_kernel_every_loss_is_reported_and_all_is_given_back(way: Way) -> None:
    for found in judged_here("reset", way):
        assert found.finding is Finding.FINE, found
        assert set(found.evidence) == {str(loss) for loss in Loss}


class Endless:
    """A peer that has always more to say."""

    session: Any

    def __init__(self) -> None:
        self.session = self

    def read_some(self, room: int) -> bytes:
        return bytes(room)


def test_a_peer_that_never_pauses_is_not_read_without_end() -> None:
    endless: Any = Endless()
    reader = Reader(endless)
    assert reader.read(40000)
    assert 40000 <= len(reader.data) <= 40000 + 32768
    assert reader.read(1)
    assert len(reader.data) == 3 * 32768
