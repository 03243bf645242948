# SPDX-License-Identifier: BSD-2-Clause
"""Probes that misbehave, for test_child: each is called in a child as `tests.probes:NAME`."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

from ktlsctl.libsslfile import Unusable
from ktlsctl.servant import ProbeError


def echo(argument: Any) -> Any:
    return argument


def chatty(argument: Any) -> Any:
    print("noise of a library's constructor")
    os.write(1, b"more noise")
    return "answer"


def big(argument: int) -> str:
    return "x" * argument


def crash(argument: Any) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def hang(argument: Any) -> None:
    time.sleep(600)


def hang_with_grandchild(path: str) -> None:
    pid = os.fork()
    if pid == 0:
        time.sleep(600)
        os._exit(0)
    with open(path, "w") as file:
        file.write(f"{os.getpid()} {pid}")
    time.sleep(600)


def leave(argument: Any) -> None:
    os._exit(9)


def refuse(argument: Any) -> None:
    raise ProbeError("not a TLS library")


def unusable(argument: Any) -> None:
    raise Unusable("certificate", "ee key too small")


def bug(argument: Any) -> None:
    raise ZeroDivisionError("division by zero")


def mapped(argument: Any) -> list[str]:
    with open("/proc/self/maps") as maps:
        return sorted({line.split()[-1] for line in maps if "libcrypto" in line or "libssl" in line})


def modules(argument: Any) -> list[str]:
    return sorted(sys.modules)
