# SPDX-License-Identifier: BSD-2-Clause
"""evidence: what the kernel says of a socket, and that it is never asked for the key."""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from ktlsctl import evidence
from ktlsctl.evidence import KernelWord
from ktlsctl.facts import sockdiag
from ktlsctl.model import Direction, Outcome

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="asks this kernel")

TX, RX = Direction


class Asked:
    """Stands for a socket: answers as told, and keeps how it was asked."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.calls: list[tuple[int, int, int | None]] = []

    def getsockopt(self, level: int, option: int, length: int | None = None) -> Any:
        self.calls.append((level, option, length))
        if isinstance(self.answer, int) and length is not None:
            raise OSError(self.answer, os.strerror(self.answer))
        return self.answer


def linux_word(answer: Any, direction: Direction) -> Any:
    return evidence._linux_word(Asked(answer), direction)  # type: ignore[arg-type]


@pytest.fixture
def end() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    with client, server:
        yield client


@linux_only
@pytest.mark.parametrize("direction", Direction)
def test_a_plain_socket_of_this_kernel_is_not_armed(end: socket.socket, direction: Direction) -> None:
    assert evidence.kernel_word(end, direction).value == KernelWord(armed=False)


@linux_only
def test_a_plain_socket_has_no_ulp_that_this_kernel_would_show(end: socket.socket) -> None:
    said = evidence.diag_word(end)
    assert (said.outcome, said.value) == (Outcome.DENIED, None)
    assert "CAP_NET_ADMIN" in said.reason


@linux_only
def test_a_socket_without_a_peer_is_a_failed_attempt() -> None:
    with socket.socket() as alone:
        said = evidence.diag_word(alone)
    assert (said.outcome, said.reason) == (Outcome.FAILED, f"sock_diag: {os.strerror(errno.ENOTCONN)}")


@linux_only
def test_a_closed_socket_is_a_failed_attempt(end: socket.socket) -> None:
    end.close()
    said = evidence.kernel_word(end, TX)
    assert (said.outcome, said.reason) == (Outcome.FAILED, f"getsockopt(SOL_TLS): {os.strerror(errno.EBADF)}")


@linux_only
@pytest.mark.parametrize(("direction", "option"), [(TX, 1), (RX, 2)])
def test_never_more_than_the_four_bytes_without_the_key_are_asked_for(direction: Direction, option: int) -> None:
    asked = Asked(struct.pack("=HH", 0x0304, 52))
    said = evidence.kernel_word(asked, direction)  # type: ignore[arg-type]
    assert asked.calls == [(282, option, 4)]
    assert said.value == KernelWord(armed=True, version=0x0304, cipher=52)


@pytest.mark.parametrize("cause", [errno.EBUSY, errno.EOPNOTSUPP, errno.ENOPROTOOPT])
def test_a_direction_without_a_key_is_an_answer(cause: int) -> None:
    assert linux_word(cause, TX).value == KernelWord(armed=False)


@pytest.mark.parametrize("cause", [errno.EACCES, errno.EPERM, errno.ENOMEM])
def test_a_refusal_is_never_a_no(cause: int) -> None:
    said = linux_word(cause, RX)
    assert (said.outcome, said.value) == (Outcome.FAILED, None)
    assert os.strerror(cause) in said.reason


@pytest.mark.parametrize(("mode", "name"), [(0, "none"), (1, "software"), (2, "nic"), (3, "toe"), (7, "7")])
@pytest.mark.parametrize(("direction", "option"), [(TX, 40), (RX, 42)])
def test_freebsd_tells_its_mode(mode: int, name: str, direction: Direction, option: int) -> None:
    asked = Asked(mode)
    said = evidence._freebsd_word(asked, direction)  # type: ignore[arg-type]
    assert asked.calls == [(socket.IPPROTO_TCP, option, None)]
    assert said.value == KernelWord(armed=mode != 0, mode=name)


@pytest.mark.parametrize(("conf", "word"), [(None, None), (1, False), (2, True), (3, True), (9, True)])
def test_only_the_base_configuration_is_plain(conf: int | None, word: bool | None) -> None:
    assert sockdiag.armed(conf) is word
