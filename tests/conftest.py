# SPDX-License-Identifier: BSD-2-Clause
"""Fixtures that every test may use, and hooks that know what runs side by side."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from tests.elsewhere import LINUX_ALONE
from tests.lab.fixtures import lab_guest

if TYPE_CHECKING:
    from tests.workers import Scheduler

# Tests never assert on time: a busy machine is not a failure.
settings.register_profile("ktlsctl", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ktlsctl")

__all__ = ["lab_guest"]


# Both are pytest-xdist's, and imported late: without it (-p no:xdist) the tests run one after the other.


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    from tests.workers import suitable_number

    return suitable_number()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduler:
    from tests.workers import Scheduler

    return Scheduler(config, log)


#: Tests of Linux itself, on another system; why, stands there.
collect_ignore = [] if sys.platform == "linux" else sorted(LINUX_ALONE)
