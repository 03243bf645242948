# SPDX-License-Identifier: BSD-2-Clause
"""The lab as pytest fixtures: import `lab_guest` from a conftest.py.

KTLSCTL_LAB=required             nothing may be skipped: what would be, fails (CI)
KTLSCTL_LAB=off                  everything is skipped
KTLSCTL_LAB_HOSTS=debian12,sid   only these hosts; without effect where the lab is required
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab import HOSTS, Guest, LabError, LabHost, boot, by_name

if TYPE_CHECKING:
    from collections.abc import Iterator

EVERY_HOST: list[Any] = [pytest.param(host, id=host.name, marks=pytest.mark.lab) for host in HOSTS]
"""For a test that boots guests of its own: `@pytest.mark.parametrize("host", EVERY_HOST)`, then `need(host)`."""


def why_not(host: LabHost) -> str | None:
    """What keeps tests from booting `host`, if anything."""
    mode = os.environ.get("KTLSCTL_LAB", "")
    if mode not in ("", "off", "required"):
        raise LabError(f"KTLSCTL_LAB={mode}: off, required or nothing")
    if mode == "off":
        return "KTLSCTL_LAB=off"
    chosen = os.environ.get("KTLSCTL_LAB_HOSTS")
    # by_name: a misspelt name must not make a test run that quietly lacks a host
    if chosen and mode != "required" and host not in [by_name(name.strip()) for name in chosen.split(",")]:
        return f"KTLSCTL_LAB_HOSTS={chosen} leaves out {host}"
    if not host.ready:
        return f"{host} is not set up: run scripts/lab-setup {host}"
    return None


def need(host: LabHost) -> LabHost:
    """Skip the test if `host` cannot be booted here, or fail it where the lab is required."""
    reason = why_not(host)
    if reason is not None:
        if os.environ.get("KTLSCTL_LAB") == "required":
            pytest.fail(f"KTLSCTL_LAB=required, but {reason}", pytrace=False)
        pytest.skip(reason)
    return host


@pytest.fixture(scope="session", params=EVERY_HOST)
def lab_guest(request: pytest.FixtureRequest) -> Iterator[Guest]:
    """A booted guest of each host in turn, the same one for all tests of the session: leave it as you found it."""
    with boot(need(request.param)) as guest:
        yield guest
