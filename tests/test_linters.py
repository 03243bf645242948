# SPDX-License-Identifier: BSD-2-Clause
"""Linters and type checkers are tests: a missing one is a failure, not a skip."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def _clean(*command: str) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ruff_finds_nothing() -> None:
    _clean(sys.executable, "-m", "ruff", "check", ".")


def test_ruff_would_format_nothing() -> None:
    _clean(sys.executable, "-m", "ruff", "format", "--check", ".")


@pytest.mark.parametrize("platform", ["linux", "freebsd14"])
def test_mypy_strict_finds_nothing_on_either_platform(platform: str) -> None:
    _clean(sys.executable, "-m", "mypy", "--strict", "--platform", platform, "ktlsctl")


def test_the_tests_are_typed_too() -> None:
    _clean(sys.executable, "-m", "mypy", "tests")


def test_shell_scripts_pass_shellcheck() -> None:
    scripts = [*sorted((ROOT / "scripts").iterdir()), ROOT / ".ci" / "run"]
    _clean("shellcheck", *(str(s) for s in scripts))
