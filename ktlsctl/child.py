# SPDX-License-Identifier: BSD-2-Clause
"""Run one probe in a process of its own, with a deadline: its crash or hang is an answer, not an accident.

A probe is named `module:function`; it takes one JSON value and returns one.  The child is a bare interpreter
(`-I -S`: no site, no user code) because a foreign libssl must not meet another copy that some import had already
mapped: the dynamic linker would bind its libcrypto to the one that is there (same SONAME).  The child's own side is
servant.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ktlsctl.model import Attempt, Outcome
from ktlsctl.servant import signal_name

if TYPE_CHECKING:
    import subprocess

_BOOT = "import sys,json; a=json.loads(sys.argv[1]); sys.path[:]=a['path'];from ktlsctl.servant import serve; serve(a)"


@dataclass(frozen=True, slots=True)
class Probe:
    """What to run: `target` is `module:function`, `argument` a JSON value, `timeout` in seconds."""

    target: str
    argument: Any
    timeout: float

    @property
    def key(self) -> str:
        return f"{self.target}({json.dumps(self.argument, sort_keys=True)})"


class Running:
    """A child at work.  `answer()` waits for it, at most until its deadline, and may be called again."""

    def __init__(self, probe: Probe) -> None:
        import subprocess
        import time

        self._probe = probe
        self._deadline = time.monotonic() + probe.timeout
        self._answer: Attempt[Any] | None = None
        here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        order = {
            "path": [here, *(p for p in sys.path if p)],
            "target": probe.target,
            "argument": probe.argument,
            "alarm": int(probe.timeout) + 2,
        }
        # A session of its own: a terminal's Ctrl-C reaches us first, and we end the whole group.
        self._process: subprocess.Popen[bytes] = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _BOOT, json.dumps(order)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def answer(self) -> Attempt[Any]:
        if self._answer is None:
            self._answer = self._wait()
        return self._answer

    def kill(self) -> None:
        """End the child and whatever it started; reap it."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _wait(self) -> Attempt[Any]:
        import subprocess
        import time

        try:
            # A second at least: whoever asks late shall still get what was ready in time (the child ends itself).
            out, _ = self._process.communicate(timeout=max(1.0, self._deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.kill()
            return Attempt(Outcome.TIMEOUT, reason=f"no answer within {self._probe.timeout:g} s")
        except BaseException:
            self.kill()
            raise
        status = self._process.returncode
        if status < 0:
            return Attempt(Outcome.FAILED, reason=f"the probing process died of {signal_name(-status)}")
        try:
            reply = json.loads(out)
            if "failed" in reply:
                return Attempt(Outcome.FAILED, reason=str(reply["failed"]))
            return Attempt.ran(reply["value"])
        except (ValueError, TypeError, KeyError):
            return Attempt(Outcome.FAILED, reason=f"the probing process ended with status {status} and no answer")
