# SPDX-License-Identifier: BSD-2-Clause
"""Fixtures that every test may use."""

from __future__ import annotations

import sys

from hypothesis import settings

from tests.elsewhere import LINUX_ALONE
from tests.lab.fixtures import lab_guest

# Tests never assert on time: a busy machine is not a failure.
settings.register_profile("ktlsctl", deadline=None)
settings.load_profile("ktlsctl")

__all__ = ["lab_guest"]

#: Tests of Linux itself, on another system; why, stands there.
collect_ignore = [] if sys.platform == "linux" else sorted(LINUX_ALONE)
