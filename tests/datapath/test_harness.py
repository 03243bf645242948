# SPDX-License-Identifier: BSD-2-Clause
"""Builds and runs the C harness: every call made to fail, under AddressSanitizer and UBSan, and under valgrind.

valgrind sees the plain transport only: Debian 12's 3.19 does not know what io_uring's kernel side writes, so the ring
runs under the sanitizers, whose shadow memory does not care who writes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [ROOT / "ktlsctl" / "datapath" / f"{name}.c" for name in ("ring", "buf", "ktls", "bio", "direct")]
WARNINGS = ("-std=gnu11", "-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror")
VALGRIND = ("valgrind", "-q", "--error-exitcode=9", "--leak-check=full", "--errors-for-leak-kinds=all")
#: 1 tries every fault (some 50,000 runs, two to three minutes); N each N-th, others at every scenario
EVERY = int(os.environ.get("KTLSCTL_HARNESS_EVERY", "7"))


def build(target: Path, *flags: str) -> Path:
    include = f"-I{ROOT / 'ktlsctl' / 'datapath'}"
    harness = Path(__file__).with_name("harness.c")
    options = ("-std=gnu11", "-g", "-O1", "-Wall", "-Wextra", "-Werror", "-DDATAPATH_FAULTS", include)
    subprocess.run(["cc", *options, *flags, harness, *SOURCES, "-o", target], check=True)
    return target


def test_direct_operations_under_the_sanitizers(tmp_path: Path) -> None:
    include = f"-I{ROOT / 'ktlsctl' / 'datapath'}"
    flags = ("-std=gnu11", "-g", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined", include)
    harness = Path(__file__).with_name("direct_harness.c")
    subprocess.run(["cc", *flags, harness, *SOURCES, "-o", tmp_path / "direct"], check=True)
    assert "checks passed" in run([tmp_path / "direct"])


def run(command: list[str | Path], timeout: int = 600) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("flags", [[], ["-O3"], ["-U__linux__"]], ids=["as built", "O3", "without linux"])
@pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.name)
def test_free_of_warnings(tmp_path: Path, source: Path, flags: list[str]) -> None:
    subprocess.run(["cc", *WARNINGS, "-O2", *flags, "-c", source, "-o", tmp_path / "out.o"], check=True)


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    flags = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    return build(tmp_path_factory.mktemp("harness") / "sanitized", *flags)


@pytest.mark.parametrize("transport", ["ring", "plain"])
def test_faults_under_the_sanitizers(sanitized: Path, transport: str) -> None:
    assert "checks" in run([sanitized, f"every={EVERY}", transport])


def test_faults_under_valgrind(tmp_path: Path) -> None:
    assert shutil.which("valgrind"), "valgrind is part of the test machine"
    harness = build(tmp_path / "harness")
    assert "checks" in run([*VALGRIND, harness, f"every={EVERY * 4}", "plain"])
