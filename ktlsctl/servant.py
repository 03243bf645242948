# SPDX-License-Identifier: BSD-2-Clause
"""The child's side of child.py: call the probe, answer with one JSON document, end at once.

Imports next to nothing: it is loaded by every child before the probe itself.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # typing's own costs the child its import
if TYPE_CHECKING:
    from typing import Any


class ProbeError(Exception):
    """A probe could not answer; the message is one sentence that says why."""


def signal_name(number: int) -> str:
    """SIGSEGV, or `signal 37` for one without a name (most real-time signals)."""
    import signal

    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def die_with_parent() -> None:
    """End with a parent that is killed (PR_SET_PDEATHSIG, prctl(2)); elsewhere deadlines have to do."""
    if sys.platform == "linux":
        import ctypes
        import signal

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def serve(order: Any) -> None:
    """The child's side: call the probe, write one JSON document to what was standard output, end at once."""
    import importlib
    import json
    import resource
    import signal

    # A foreign library may print when it is loaded: only our document may reach the pipe.
    pipe = os.dup(1)
    os.dup2(2, 1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    die_with_parent()
    signal.alarm(order["alarm"])  # and never outlives its own deadline
    module, _, function = order["target"].partition(":")
    try:
        reply = {"value": getattr(importlib.import_module(module), function)(order["argument"])}
    except ProbeError as error:
        reply = {"failed": str(error)}
    except Exception as error:
        reply = {"failed": f"{type(error).__name__}: {error}"}
    document = json.dumps(reply).encode()
    while document:
        document = document[os.write(pipe, document) :]
    # No destructors: a foreign library's may crash, after the answer is known.
    os._exit(0)
