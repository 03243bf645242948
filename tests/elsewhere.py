# SPDX-License-Identifier: BSD-2-Clause
"""What of these tests cannot run on FreeBSD, each with its reason.  What is not named here runs there too."""

from __future__ import annotations

import sys
from collections.abc import Mapping

import pytest

#: For single tests in the other files.
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="asks Linux, or opens what was built for it")

_LAB = "boots Linux kernels under QEMU"
_RING = "drives the C datapath over io_uring and Linux's kernel TLS"
_ASKS_LINUX = "asks this machine's own Linux kernel or tools"

#: Paths below tests/.
LINUX_ALONE: Mapping[str, str] = {
    "test_lab.py": _LAB,
    "test_check_in_lab.py": _LAB,
    "test_enable_in_lab.py": _LAB,
    "test_libraries_in_lab.py": _LAB,
    "test_postgresql_in_lab.py": _LAB,
    "test_scenarios_in_lab.py": _LAB,
    "test_selftest_in_lab.py": _LAB,
    "test_sessions_in_lab.py": _LAB,
    "test_snippets_in_lab.py": _LAB,
    "datapath": _RING,
    "test_uring.py": _RING,
    "test_ulp.py": _ASKS_LINUX,
    "test_sockdiag.py": _ASKS_LINUX,
    "test_namespaces.py": _ASKS_LINUX,
    "test_kmod.py": _ASKS_LINUX,
    "test_modprobe.py": _ASKS_LINUX,
    "test_openssl.py": "opens Debian's libssl and wheels for Linux",
    "test_freebsd_platform.py": "makes Linux look like FreeBSD",
    "test_linters.py": "linters read the source, which is the same everywhere: they run on Linux",
    "test_freebsd_port.py": "the same: rules about files of the source",
}
