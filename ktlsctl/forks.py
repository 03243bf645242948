# SPDX-License-Identifier: BSD-2-Clause
"""One forked process per session, each with a network namespace of its own where that is allowed.

A crash or a hang of the library is one failed session, and the next one still runs.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import struct
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ktlsctl.codec import encode
from ktlsctl.libssl import TlsError
from ktlsctl.servant import ProbeError, die_with_parent, signal_name
from ktlsctl.stage import Deadline


def enter_own_namespace() -> None:
    """A new network namespace with loopback up, where the counters of tls_stat are ours alone.

    Always together with a user namespace, also for root: the capabilities in there are none in the first one, so
    sock_diag tells all and nothing can make the kernel load a module.  Raises OSError where that is not allowed.  Call
    it in a forked child only: without loopback the process is of no further use.
    """
    import ctypes
    import fcntl

    libc = ctypes.CDLL(None, use_errno=True)
    newnet, newuser = 0x40000000, 0x10000000  # CLONE_NEW* of linux/sched.h
    if libc.unshare(newuser | newnet) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        # SIOCSIFFLAGS with IFF_UP | IFF_RUNNING
        fcntl.ioctl(control, 0x8914, struct.pack("16sH22x", b"lo", 0x41))


def namespace_trial() -> str:
    """Why no namespace of our own can be had here; empty where it can."""
    if sys.platform != "linux":
        return "network namespaces are Linux's"

    def trial() -> str:
        try:
            enter_own_namespace()
        except OSError as error:
            return error.strerror or str(error)
        return ""

    (ended,) = in_children([trial], 10.0, 1)
    return ended.failure or ended.untried or str(ended.value)


# ---- one process a session


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of one work: its `value` as JSON; or a `failure`, what the library did instead (a refusal, the signal
    it died of, the deadline); or `untried`, what on this host kept it from being tried, which says nothing of it."""

    value: Any = None
    failure: str = ""
    untried: str = ""


def in_words(error: BaseException) -> str:
    """What it says, with its type where that is not plain from the words."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror + (f" ({error.filename})" if error.filename else "")
    return str(error) if isinstance(error, ProbeError) else f"{type(error).__name__}: {error}"


class Fork:
    """`work()` in a forked child: its value as JSON, or why there is none."""

    def __init__(self, work: Callable[[], Any], seconds: float) -> None:
        self._seconds = seconds
        self.deadline = Deadline(seconds)
        self._content = b""
        self.reader, writer = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self.reader)
            die_with_parent()
            try:
                document = json.dumps({"value": encode(work())}).encode()
            except TlsError as error:
                document = json.dumps({"failure": str(error)}).encode()
            except BaseException as error:
                document = json.dumps({"untried": in_words(error)}).encode()
            while document:
                document = document[os.write(writer, document) :]
            os._exit(0)
        os.close(writer)

    def take(self) -> bool:
        """Read what is there; whether the child has said everything."""
        piece = os.read(self.reader, 65536)
        self._content += piece
        return not piece

    def finish(self, late: bool) -> Ended:
        """Reap it, killed first if it is `late`."""
        os.close(self.reader)
        if late:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
        _, status = os.waitpid(self._pid, 0)
        if late:
            return Ended(failure=f"no answer within {self._seconds:g} s")
        if os.WIFSIGNALED(status):
            return Ended(failure=f"the library died of {signal_name(os.WTERMSIG(status))}")
        if not self._content:
            code = os.waitstatus_to_exitcode(status)
            return Ended(failure=f"the session's process ended with status {code} and no answer")
        return Ended(**json.loads(self._content))


def in_children(works: Sequence[Callable[[], Any]], seconds: float | Sequence[float], width: int) -> list[Ended]:
    """Every work in a forked child of its own, `width` at a time; answers in the same order.

    `seconds` to do it: for each of them, or one for all.
    """
    given = [seconds] * len(works) if isinstance(seconds, int | float) else list(seconds)
    answers = [Ended(untried="not run")] * len(works)
    waiting = list(enumerate(works))[::-1]
    running: dict[int, Fork] = {}
    poll = select.poll()
    while waiting or running:
        while waiting and len(running) < width:
            at, work = waiting.pop()
            running[at] = Fork(work, given[at])
            poll.register(running[at].reader, select.POLLIN)
        soonest = min(fork.deadline.left for fork in running.values())
        ready = {fd for fd, _ in poll.poll(max(0.0, soonest) * 1000)}
        for at, fork in list(running.items()):
            late = fork.deadline.left <= 0
            if late or (fork.reader in ready and fork.take()):
                poll.unregister(fork.reader)
                answers[at] = fork.finish(late)
                del running[at]
    return answers
