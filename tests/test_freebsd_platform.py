# SPDX-License-Identifier: BSD-2-Clause
"""The whole command line where `sys.platform` says FreeBSD: nothing that only Linux has is reached."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ktlsctl import cli
from tests import freebsd_guise, freebsd_hosts
from tests.freebsd_hosts import HOSTS, Kernel
from tests.libssls import SYSTEM

ROOT = Path(__file__).parent.parent
GUISE = Path(freebsd_guise.__file__)
KERNEL = HOSTS["14.3"]


def script(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/sh\n{body}")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """System commands that answer as those of the modelled host do."""
    place = tmp_path_factory.mktemp("commands")
    (place / "answer").write_text(KERNEL.sysctl_answer())
    (place / "ifconfig.txt").write_text(KERNEL.interfaces)
    script(place / "sysctl", f"[ \"$1\" = -n ] && exit 1\nexec /bin/cat '{place}/answer'\n")
    script(place / "ifconfig", f"exec /bin/cat '{place}/ifconfig.txt'\n")
    for name in ("sh", "grep", "cat"):
        (place / name).symlink_to(f"/bin/{name}")
    return place


def ran(commands: Path, *arguments: str, content: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, str(GUISE), str(commands), *arguments],
        input=content, capture_output=True, check=False, timeout=300, cwd=ROOT, env={"PYTHONPATH": str(ROOT)},
    )  # fmt: skip


@pytest.fixture(scope="module")
def captured(commands: Path) -> bytes:
    done = ran(commands, "capture")
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


@pytest.mark.parametrize("form", ["text", "json", "nagios", "prometheus"])
@pytest.mark.parametrize("name", ["13.0", "14.3-i386", "15.1-lighttpd"])
def test_a_captured_host_is_judged(commands: Path, name: str, form: str) -> None:
    done = ran(commands, "check", "--format", form, "--from", str(freebsd_hosts.path_of(name)))
    assert done.stderr == b""
    assert done.returncode in (1, 2)
    assert done.stdout


def test_a_live_host_is_captured_and_judged_alike(commands: Path, captured: bytes) -> None:
    document = json.loads(captured)
    assert document["about"]["os"] == "freebsd"
    probes = {a["key"].split(" ")[0]: a for a in document["answers"] if a["door"] == "probe"}
    # this machine's kernel is no FreeBSD: what its socket says to FreeBSD's options does not matter here
    assert {"ktlsctl.facts.tlsenable:probe", "ktlsctl.facts.recordproof:probe"} <= set(probes)
    assert probes["ktlsctl.facts.tlsenable:probe"]["outcome"] == "ran"
    done = ran(commands, "check", "--json", "--from", "-", content=captured)
    report = json.loads(done.stdout)
    found = {check["id"]: check for check in report["checks"]}
    assert found["freebsd.sysctl.enable"]["status"] == "critical"
    assert report["verdict"]["first_broken"] == "freebsd.sysctl.enable"
    assert done.returncode == 2


def test_no_probe_of_linux_is_begun(captured: bytes) -> None:
    asked = {(a["door"], a["key"]) for a in json.loads(captured)["answers"]}
    assert not [key for door, key in asked if key.startswith(("/proc", "/sys"))]
    assert not [key for door, key in asked if "ulp" in key or "uring" in key]


def test_the_live_check_speaks_of_freebsd(commands: Path) -> None:
    done = ran(commands, "check")
    assert (done.returncode, done.stderr) == (2, b"")
    assert b"kern.ipc.tls.enable is off" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("--help",), 0),
        (("--version",), 0),
        (("schema",), 0),
        (("completion", "bash"), 0),
        (("completion", "zsh"), 0),
        (("completion", "fish"), 0),
        ((), 3),
        (("check", "--nonsense"), 3),
        (("check", "--from", "/nonexistent"), 3),
        (("selftest", "--require", "nonsense"), 3),
        (("selftest", "--quiet", "--verbose"), 3),
        (("selftest", "--libssl", "/nonexistent.so"), 3),
    ],
)
def test_every_other_command_works_or_refuses_in_a_sentence(
    commands: Path, arguments: tuple[str, ...], status: int
) -> None:
    done = ran(commands, *arguments)
    assert done.returncode == status, done.stderr
    assert b"internal error" not in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("command", sorted(cli.cli.commands))
def test_each_command_explains_itself_and_refuses_nonsense(commands: Path, command: str) -> None:
    assert ran(commands, command, "--help").returncode == 0
    done = ran(commands, command, "--no-such-option")
    assert done.returncode == 3
    assert b"no-such-option" in done.stderr


def test_a_selftest_without_a_library_says_so(commands: Path) -> None:
    done = ran(commands, "selftest", "--datapath", "io_uring")
    assert done.returncode in (2, 3)
    assert b"internal error" not in done.stderr


def test_a_selftests_session_runs_over_the_socket(commands: Path) -> None:
    """Over this machine's libssl; what this machine's kernel says to FreeBSD's socket options does not matter here."""
    suite = "ECDHE-ECDSA-AES128-GCM-SHA256"
    done = ran(commands, "selftest", "--json", "--suite", suite, "--datapath", "socket", "--libssl", SYSTEM)
    (result,) = json.loads(done.stdout)["results"]
    assert (result["datapath"], result["reason"]) == ("socket", None)
    assert b"ReachedLinux" not in done.stdout + done.stderr


def test_every_scenario_comes_to_its_end(commands: Path) -> None:
    """As above; `many` has nothing of Linux to count its memory and descriptors with."""
    suite = ("--suite", "ECDHE-ECDSA-AES128-GCM-SHA256", "--datapath", "socket", "--libssl", SYSTEM)
    done = ran(commands, "selftest", "--json", "--scenario", "all", *suite)
    assert b"did not come to its end" not in done.stdout
    assert b"ReachedLinux" not in done.stdout + done.stderr
    (found,) = [r["evidence"] for r in json.loads(done.stdout)["results"] if r["scenario"] == "many"]
    assert (found["sessions"], found["descriptors_left"]) == (1000, 0)
    assert found["bytes_per_idle_end"] > 1000


def test_the_guise_catches_what_only_linux_has(commands: Path, tmp_path: Path) -> None:
    """The negative control: a program that reaches for Linux does not get there."""
    for program in (
        "open('/proc/modules')",
        "import os; os.listdir('/sys/module')",
        "import ctypes; ctypes.CDLL(None).prctl",
        "import ctypes; ctypes.CDLL(None).unshare",
        "import socket; socket.AF_NETLINK",
        "import os; os.sched_getaffinity(0)",
    ):
        code = f"import runpy; runpy.run_path({str(GUISE)!r})['put_on']()\n{program}"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
        assert done.returncode != 0, program
        assert b"ReachedLinux" in done.stderr or b"AttributeError" in done.stderr, done.stderr


def test_every_module_that_freebsd_uses_is_imported_there() -> None:
    """Every module of the package but Linux's own room and the C extension's build scripts."""
    modules = sorted(
        ".".join(("ktlsctl", *path.relative_to(ROOT / "ktlsctl").with_suffix("").parts)).removesuffix(".__init__")
        for path in (ROOT / "ktlsctl").rglob("*.py")
        if path.name not in ("build.py", "libssl_build.py", "__main__.py")
    )
    code = f"import runpy; runpy.run_path({str(GUISE)!r})['put_on']()\nimport importlib\n"
    code += f"for name in {modules!r}: importlib.import_module(name)\nprint('all')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.stdout == "all\n", done.stderr


def test_the_guise_of_a_kernel_is_one_of_the_modelled_hosts() -> None:
    assert isinstance(KERNEL, Kernel)
