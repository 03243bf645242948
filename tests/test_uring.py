# SPDX-License-Identifier: BSD-2-Clause
"""io_uring is asked with a NOP, and each obstacle has a reason of its own that never weighs on the verdict."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktlsctl.facts import uring
from ktlsctl.facts.uring import Nop
from ktlsctl.host import LiveHost
from ktlsctl.model import Attempt, Outcome, Status
from tests.linux_hosts import DEBIAN13, finding

NONE = {"/proc/self/status": b"Seccomp:\t0\n"}
FILTERED = {"/proc/self/status": b"Name:\tx\nSeccomp:\t2\n"}
DISABLED = "/proc/sys/kernel/io_uring_disabled"


@pytest.mark.parametrize(
    ("nop", "files", "reason"),
    [
        (Nop("setup", "ENOSYS"), NONE, "CONFIG_IO_URING"),
        (Nop("setup", "EPERM"), {**NONE, DISABLED: b"2\n"}, "io_uring_disabled is 2: nobody"),
        (Nop("setup", "EPERM"), {**FILTERED, DISABLED: b"1\n"}, "io_uring_disabled is 1: only CAP_SYS_ADMIN"),
        (Nop("setup", "EPERM"), {**FILTERED, DISABLED: b"0\n"}, "seccomp filter"),
        (Nop("setup", "EPERM"), FILTERED, "seccomp filter"),
        (Nop("setup", "EPERM"), NONE, "security module"),
        (Nop("setup", "ENOMEM"), NONE, "RLIMIT_MEMLOCK"),
        (Nop("enter", "EINVAL"), NONE, "`enter` with EINVAL"),
        (Nop("complete", None), NONE, "`complete` with a wrong answer"),
    ],
)
def test_each_obstacle_has_its_own_reason_and_is_none_of_kernel_tls(
    nop: Nop, files: dict[str, Any], reason: str
) -> None:
    check = finding(DEBIAN13.having(files).but(uring=nop).judged(), "linux.io_uring")
    assert check.status is Status.SKIP
    assert reason in check.reason


def test_a_probe_that_died_is_unknown() -> None:
    died: Attempt[Any] = Attempt(Outcome.FAILED, reason="the probing process died of SIGSYS")
    check = finding(DEBIAN13.but(uring=died).judged(), "linux.io_uring")
    assert check.status is Status.UNKNOWN
    assert "SIGSYS" in check.reason


@pytest.mark.skipif(sys.platform != "linux", reason="io_uring is Linux's")
def test_this_machine_answers_with_a_nop_or_a_named_obstacle() -> None:
    answer = uring.read(LiveHost(), uring.begin(LiveHost())).nop
    assert answer.value is not None, answer.reason
    assert answer.value.step in ("", "setup")
    assert (answer.value.errno is None) is (answer.value.step == "")


@given(st.binary() | st.lists(st.sampled_from([b"Seccomp:", b"\t2", b"\n", b"3", b" 0"])).map(b"".join))
def test_arbitrary_bytes_are_a_mode_or_refused(content: bytes) -> None:
    try:
        mode = uring.parse_seccomp(content)
    except ValueError:
        return
    assert mode in (0, 1, 2)
    assert uring.parse_seccomp(uring.only_seccomp(content)) == mode
