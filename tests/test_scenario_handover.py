# SPDX-License-Identifier: BSD-2-Clause
"""handover: what moving plaintext past OpenSSL amounts to.  Kernels on which it moves are in the lab's tests."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from typing import Any, cast

import pytest

from ktlsctl.model import Finding, Status
from ktlsctl.scenarios.handover import SIZE, Facts, Move, judge
from ktlsctl.sessionfacts import Carried, Way
from ktlsctl.trials import handover as trials_handover
from tests.trials import WAYS, judged_here

FACTS = Facts(
    Carried(True, True, True, True),
    Move("send", True, 32, 40),
    Move("splice", True, 64, 40),
    Move("memory BIOs", True, 32, 60, 2 * SIZE),
    (23, 21),
)


def test_calls_and_copies_are_told_per_mebibyte_beside_memory_bios() -> None:
    found = judge(FACTS)
    assert (found.status, found.sha256_ok, found.bytes) == (Status.OK, True, SIZE)
    assert found.evidence["send"] == "intact; per MiB 16.0 calls to send, 20.0 to receive, 0 bytes copied in user space"
    assert str(found.evidence["memory BIOs"]).endswith("2097152 bytes copied in user space")


def test_where_openssl_receives_only_the_sender_is_counted() -> None:
    found = judge(replace(FACTS, send=Move("send", True, 32, None), record_types=()))
    assert found.evidence["send"] == "intact; per MiB 16.0 calls to send, 0 bytes copied in user space"


@pytest.mark.parametrize("name", ["send", "splice", "memory"])
def test_wrong_bytes_are_not_known(name: str) -> None:
    wrong = replace(getattr(FACTS, name), intact=False)
    found = judge(replace(FACTS, **{name: wrong}))
    assert (found.finding, found.sha256_ok) == (Finding.UNEXPLAINED, False)
    assert wrong.name in found.reason


@pytest.mark.parametrize("types", [(23,), (23, -1, 21), (21, 23)])
def test_record_types_other_than_those_sent_are_not_known(types: tuple[int, ...]) -> None:
    assert judge(replace(FACTS, record_types=types)).finding is Finding.UNEXPLAINED


def test_a_direction_in_user_space_says_why_it_is_not_open() -> None:
    closed = Move("send", None, absent="the kernel does not send here")
    found = judge(replace(FACTS, send=closed, splice=replace(closed, name="splice"), record_types=()))
    assert found.evidence["splice"] == "not open: the kernel does not send here"
    assert found.status is Status.OK


class Bare:
    """A ground that only keeps what it is given."""

    def __init__(self) -> None:
        self.opened: list[Any] = []
        self.content = b""

    def noise(self, size: int) -> bytes:
        return b"x" * size

    def file(self, content: bytes) -> int:
        self.content = content
        return 12345

    def closing(self, closable: Any) -> Any:
        self.opened.append(closable)
        return closable


def test_what_is_spliced_is_in_no_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nonexistent")
    ground, sources = Bare(), []

    class Recorder:
        def splice(self, source: int, offset: int | None, target: int, size: int) -> int:
            sources.append(source)
            raise BlockingIOError

    payload, more = trials_handover._splicer(cast(Any, ground), cast(Any, Recorder()), cast(Any, None))
    more(0)
    for opened in ground.opened:
        opened.close()
    assert (sources, ground.content) == ([12345], payload)


@pytest.mark.parametrize("way", WAYS)
def test_without_kernel_tls_it_means_nothing_and_says_so(way: Way) -> None:
    for result in judged_here("handover", way):
        if result.finding is Finding.NOT_RUN:
            assert "neither direction is in the kernel" in result.reason
        else:
            assert result.status is Status.OK, result
