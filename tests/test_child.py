# SPDX-License-Identifier: BSD-2-Clause
"""child: whatever a probe does, the parent gets an answer in time and nothing is left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ktlsctl.child import Probe, Running
from ktlsctl.model import Attempt, Outcome


def ask(name: str, argument: Any = None, timeout: float = 30) -> Attempt[Any]:
    return Running(Probe(f"tests.probes:{name}", argument, timeout)).answer()


def test_a_json_value_goes_in_and_comes_back() -> None:
    value = {"a": [1, None, "ü\ud800"], "b": {"c": 1.5}}
    assert ask("echo", value) == Attempt.ran(value)


def test_what_a_library_prints_does_not_reach_the_answer() -> None:
    assert ask("chatty") == Attempt.ran("answer")


def test_an_answer_larger_than_a_pipe_arrives_whole() -> None:
    assert len(ask("big", 1 << 20).or_else("")) == 1 << 20


def test_a_crash_names_the_signal() -> None:
    assert ask("crash") == Attempt(Outcome.FAILED, reason="the probing process died of SIGSEGV")


def test_a_hang_ends_at_the_deadline() -> None:
    begun = time.monotonic()
    assert ask("hang", timeout=0.5).outcome is Outcome.TIMEOUT
    assert time.monotonic() - begun < 10


def test_a_child_that_leaves_without_an_answer_is_a_failure() -> None:
    attempt = ask("leave")
    assert attempt.outcome is Outcome.FAILED
    assert "status 9" in attempt.reason


def test_a_refusal_is_the_probes_own_sentence() -> None:
    assert ask("refuse") == Attempt(Outcome.FAILED, reason="not a TLS library")


def test_a_library_that_cannot_be_used_is_a_sentence() -> None:
    said = "this TLS library cannot be used for the test: certificate (ee key too small)"
    assert ask("unusable") == Attempt(Outcome.FAILED, reason=said)


def test_a_bug_in_a_probe_is_named_and_not_a_traceback() -> None:
    assert ask("bug") == Attempt(Outcome.FAILED, reason="ZeroDivisionError: division by zero")


def test_an_unknown_probe_is_a_failure() -> None:
    assert ask("no_such_probe").outcome is Outcome.FAILED


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_tls_library_is_mapped_in_a_child_before_the_probe_opens_one() -> None:
    assert ask("mapped") == Attempt.ran([])


def test_a_child_starts_without_the_heavy_modules() -> None:
    loaded = set(ask("modules").or_else([]))
    assert not loaded & {"click", "ssl", "hashlib", "random", "cffi", "subprocess", "psutil", "tabulate"}


def _gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True


def _await_gone(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if _gone(pid):
            return True
        time.sleep(0.02)
    return False


def test_the_deadline_also_ends_what_the_probe_started(tmp_path: Path) -> None:
    note = tmp_path / "pids"
    assert ask("hang_with_grandchild", str(note), timeout=2).outcome is Outcome.TIMEOUT
    for pid in note.read_text().split():
        assert _await_gone(int(pid))


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG; elsewhere the alarm ends the child")
def test_a_child_does_not_outlive_a_parent_that_is_killed(tmp_path: Path) -> None:
    note = tmp_path / "pids"
    program = (
        "from ktlsctl.child import Probe, Running\n"
        f"Running(Probe('tests.probes:hang_with_grandchild', {str(note)!r}, 300)).answer()\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program])
    deadline = time.monotonic() + 20
    while not (note.exists() and note.read_text().count(" ")) and time.monotonic() < deadline:
        time.sleep(0.02)
    child, grandchild = (int(pid) for pid in note.read_text().split())
    parent.kill()
    parent.wait()
    try:
        assert _await_gone(child)
    finally:
        os.kill(grandchild, signal.SIGKILL)
