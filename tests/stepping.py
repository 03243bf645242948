# SPDX-License-Identifier: BSD-2-Clause
"""Kill a process at its Nth change of a file system, for every N: a child is forked, counts, and dies by SIGKILL.

Every function of `os` that changes anything is counted, before it runs; a write(2) is also cut in half once.  That the
code changes nothing by other ways is checked by an audit hook.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any

#: What changes a disk; open only with these flags.
CHANGING = (
    *("write", "pwrite", "fsync", "ftruncate", "rename", "replace", "unlink", "remove", "mkdir", "rmdir"),
    *("fchmod", "chmod", "fchown", "chown", "link", "symlink", "setxattr", "utime"),
)
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

#: Events of sys.audit that only a change of a file system raises.
_AUDITED = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.chown", "os.link", "os.symlink",
            "os.truncate", "os.setxattr", "os.utime"}  # fmt: skip


class _Counter:
    def __init__(self, last: int, half: bool) -> None:
        self.count = 0
        self.inside = False
        self._last = last
        self._half = half

    def wrapped(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            if name == "open" and not arguments[1] & _WRITING:
                return function(*arguments, **named)
            self.count += 1
            if self.count == self._last:
                if self._half and name in ("write", "pwrite"):
                    data = bytes(arguments[1])
                    function(arguments[0], data[: len(data) // 2], *arguments[2:], **named)
                os.kill(os.getpid(), signal.SIGKILL)
            self.inside = True
            try:
                return function(*arguments, **named)
            finally:
                self.inside = False

        return call

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING
        if (writes or event in _AUDITED) and not self.inside:
            os.write(2, f"a change that was not counted: {event} {arguments!r}\n".encode())
            os._exit(98)


def killed_at(number: int, action: Callable[[], object], *, half: bool = False) -> bool:
    """Run `action` in a child that dies before its change `number` (from 1); False when it ended before that.

    `half`: if that change is a write, half of it happens.  A child that fails otherwise fails the test.
    """
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            counter = _Counter(number, half)
            for name in (*CHANGING, "open"):
                setattr(os, name, counter.wrapped(name, getattr(os, name)))
            sys.addaudithook(counter.audit)
            action()
        except BaseException:
            counter.inside = True
            traceback.print_exc()
            os._exit(99)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0, f"the child failed with {os.WEXITSTATUS(status)}: see its output"
    return False
