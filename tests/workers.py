# SPDX-License-Identifier: BSD-2-Clause
"""How pytest-xdist spreads the tests: how many workers, and what one of them must do alone."""

from __future__ import annotations

import os
import re

import psutil
from xdist.scheduler import LoadScopeScheduling

from tests.lab import GUEST_MEMORY, HOSTS

_HOST = re.compile(rf"\[({'|'.join(map(str, HOSTS))})\b")


def suitable_number() -> int:
    """One a core, since an emulated guest keeps about one busy, as far as memory goes: beside the guest that a worker's
    tests share, one of them may boot its own, which stays smaller.  More than four find nothing to do beside the three
    hosts."""
    memory = psutil.virtual_memory().available // (GUEST_MEMORY * 3 // 2)
    return max(1, min(4, memory, len(os.sched_getaffinity(0))))


#: Its tests share guests too, but their own: another worker may have them.
_OWN_GUESTS = "tests/test_enable_in_lab.py"


def group(test: str) -> str:
    """What goes to one worker: by pytest's name of it, each test for itself but all tests of a host together, so that
    its guest boots once."""
    host = _HOST.search(test)
    if host is None:
        return test
    return f"{_OWN_GUESTS} {host[1]}" if test.startswith(_OWN_GUESTS) else host[1]


class Scheduler(LoadScopeScheduling):
    """Groups in the order of their sizes: the hosts come first, and the many small ones let all workers end together.

    Not xdist's own `--dist loadgroup`: it renames tests from within, which pytest 9.2 does not let it do any more."""

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)
