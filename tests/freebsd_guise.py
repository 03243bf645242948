# SPDX-License-Identifier: BSD-2-Clause
"""Makes an interpreter on Linux look like one on FreeBSD, as far as Python code can tell.

Run by test_freebsd_platform.py as a program of its own, in the tool's process and in each of its probe children.  What
exists on Linux only is gone, Linux's /proc and /sys cannot be opened, and commands come from a directory of the test.
"""

from __future__ import annotations

import builtins
import ctypes
import os
import resource
import select
import signal
import socket
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

#: Only Linux has them, or CPython does not offer them on FreeBSD.
LINUX_ONLY = {
    socket: ("AF_NETLINK", "AF_ALG", "AF_PACKET", "AF_VSOCK", "SOL_ALG", "SO_BINDTODEVICE", "SO_PEERCRED", "TCP_INFO"),
    os: (
        "sched_getaffinity", "sched_setaffinity", "memfd_create", "eventfd", "pidfd_open", "splice", "unshare", "setns",
        "getxattr", "setxattr", "listxattr", "CLONE_NEWNET", "CLONE_NEWUSER", "O_PATH", "O_TMPFILE",
    ),
    select: ("epoll", "EPOLLIN"),
    signal: ("pidfd_send_signal",),
    resource: ("prlimit",),
}  # fmt: skip

#: Functions of Linux's C libraries: calling one is an error of the tool.
LINUX_CALLS = ("prctl", "unshare", "setns", "capget", "capset", "syscall", "epoll_create1", "memfd_create", "splice")


class ReachedLinux(BaseException):
    """Not an Exception: no handler of the tool may swallow it."""


def _guarded(function: Any) -> Any:
    def call(path: Any, *arguments: Any, **named: Any) -> Any:
        text = os.fspath(path) if isinstance(path, (str, bytes, os.PathLike)) else ""
        text = text.decode() if isinstance(text, bytes) else text
        if text.startswith(("/proc/", "/sys/")):
            raise ReachedLinux(f"{function.__name__}({text!r})")
        return function(path, *arguments, **named)

    return call


#: Functions that the tool looks for and does without.
GLIBC_ALONE = ("mallinfo2",)

#: Functions that this machine's C library has not, or with another signature.
FREEBSD_CALLS = ("sendfile", "sysctl", "sysctlnametomib", "kldnext", "kldstat")


class Refusing:
    """A function of FreeBSD's C library that fails with ENOENT."""

    restype: Any = None
    argtypes: Any = None

    def __call__(self, *_: Any) -> int:
        ctypes.set_errno(2)
        return -1


class Library(ctypes.CDLL):
    """The C library without what only Linux's has."""

    def __getattr__(self, name: str) -> Any:
        if name in LINUX_CALLS:
            raise ReachedLinux(f"libc.{name}()")
        if name in GLIBC_ALONE:
            raise AttributeError(name)
        return Refusing() if name in FREEBSD_CALLS else super().__getattr__(name)


class Psutil(ModuleType):
    """FreeBSD's psutil, as far as a program can learn of itself without asking FreeBSD's kernel."""

    def __init__(self) -> None:
        super().__init__("psutil")
        self._open = open  # before it is guarded: this machine's kernel answers in its own way

    def Process(self) -> Any:
        with self._open("/proc/self/statm", "rb") as file:
            rss = int(file.read().split()[1]) * resource.getpagesize()
        return SimpleNamespace(memory_info=lambda: SimpleNamespace(rss=rss))

    def __getattr__(self, name: str) -> Any:
        raise ImportError(f"psutil.{name} asks FreeBSD's kernel")


def put_on() -> None:
    sys.modules["psutil"] = Psutil()
    sys.platform = "freebsd14"
    for module, names in LINUX_ONLY.items():
        for name in names:
            if hasattr(module, name):
                delattr(module, name)
    os.uname = lambda: os.uname_result(("FreeBSD", "guise", "14.3-RELEASE", "", "amd64"))
    for place, function in ((builtins, "open"), (os, "open"), (os, "listdir"), (os, "readlink"), (os, "scandir")):
        setattr(place, function, _guarded(getattr(place, function)))
    ctypes.CDLL = Library  # type: ignore[misc]


def main(commands: str, arguments: list[str]) -> int:
    """The tool's command line, with `commands` as the only directory of system commands."""
    put_on()
    from ktlsctl import child, cli, host

    dress = f"import runpy; runpy.run_path({os.path.abspath(__file__)!r})['put_on']();"
    assert "from ktlsctl.servant" in child._BOOT
    child._BOOT = child._BOOT.replace("from ktlsctl.servant", f"{dress} from ktlsctl.servant")
    host.COMMAND_PATH = commands
    return cli.run(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
