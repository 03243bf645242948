# SPDX-License-Identifier: BSD-2-Clause
"""`ktlsctl selftest` on real kernels: what it proves is what this kernel and this library do, on both datapaths."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from ktlsctl.ciphers import bulk_cipher
from ktlsctl.schema import report_schema
from tests.lab import DEBIAN12, DEBIAN13, Guest
from tests.test_check_in_lab import LIBRARY, RESET

pytestmark = pytest.mark.lab

on_one_host = pytest.mark.parametrize("lab_guest", [pytest.param(DEBIAN13, id="debian13")], indirect=True)

#: One suite of each cipher that some library hands over, and two that none does.
SUITES = (
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES128-CCM",
    "ECDHE-ECDSA-AES256-CCM",
    "ECDHE-ECDSA-AES128-SHA256",
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_AES_128_CCM_SHA256",
)
FEW = ("--suite", "ECDHE-ECDSA-AES128-GCM-SHA256", "--suite", "TLS_AES_128_GCM_SHA256")


def plain(guest: Guest) -> str:
    """The command, without the scenarios, which test_scenarios_in_lab.py is about."""
    return f"{guest.ktlsctl} selftest --scenario session"


def selftest(guest: Guest, *arguments: str, user: str | None = None, wrap: str = "") -> tuple[int, Any]:
    """Exit status and document of one run."""
    command = f"{wrap} {plain(guest)} --json {shlex.join(arguments)}"
    result = guest.run(command, timeout=240, user=user)
    assert result.err == ""
    report = json.loads(result.out)
    jsonschema.validate(report, json.loads(report_schema()))
    return result.status, report


def proved(report: Any) -> dict[tuple[str, str], str]:
    """(version, cipher) -> the directions that are in the kernel."""
    found: dict[tuple[str, str], str] = {}
    for result in report["results"]:
        directions = " ".join(d for d in ("tx", "rx") if result[d]["status"] == "ok")
        if directions:
            found[result["version"], bulk_cipher(result["suite"])] = directions
    return found


@pytest.fixture
def ready(lab_guest: Guest) -> Iterator[Guest]:
    """A guest with the tls module loaded."""
    lab_guest.run(f"{RESET}; modprobe tls").check()
    yield lab_guest
    lab_guest.run(RESET).check()


def _files_and_processes(guest: Guest) -> str:
    """What a self-test could leave behind: temporary files, processes, listening sockets, open kTLS sockets."""
    # Of /tmp what this guest wrote: below may lie this machine's own, where other tests are at work meanwhile.
    command = """
        upper=$(findmnt -no OPTIONS /tmp | grep -o 'upperdir=[^,]*') || exit
        ls -A "${upper#upperdir=}" /dev/shm /var/tmp || exit
        ps -e -o comm= | grep -c -e python -e ktlsctl
        ss -Hltn | wc -l
        lsmod | grep '^tls '
    """
    return guest.run(command).check().out


def test_the_whole_run_proves_every_cell_this_host_has_over_io_uring_and_leaves_nothing(ready: Guest) -> None:
    before = _files_and_processes(ready)
    status, report = selftest(ready)
    assert (status, report["verdict"]["status"]) == (0, "ok")
    assert proved(report) == LIBRARY[ready.host.name]
    assert {r["datapath"] for r in report["results"]} == {"io_uring"}
    assert all(r["sha256_ok"] for r in report["results"])
    # AEAD and not: what can never be offloaded is in the report, with its reason.
    skipped = [r for r in report["results"] if "CBC" in bulk_cipher(r["suite"])]
    assert skipped
    assert all(r["tx"]["status"] == "skip" and r["tx"]["reason"] for r in skipped)
    # The matrix has its third witness.
    session = {(r["version"], r["cipher"], r["direction"]): r["session"] for r in report["matrix"]}
    for (version, cipher), directions in LIBRARY[ready.host.name].items():
        for direction in directions.split():
            assert session[version, cipher, direction]["status"] == "ok"
    assert _files_and_processes(ready) == before


def test_every_proved_cell_rests_on_every_witness(ready: Guest) -> None:
    _, report = selftest(ready, *FEW)
    cell = next(r for r in report["results"] if r["version"] == "TLSv1.2")["tx"]
    evidence = cell["evidence"]
    for role in ("server", "client"):
        for witness in ("library", "kernel", "sequence", "sock_diag", "bio"):
            assert f"{role}.{witness}" in evidence, evidence
    assert "rose by 2" in evidence["counters"]
    assert "kernel encrypts, witness decrypts, 1048576 bytes equal" in evidence["witness"]


@pytest.mark.parametrize("user", [None, "nobody"])
def test_the_socket_datapath_proves_the_same_cells_for_root_and_nobody(ready: Guest, user: str | None) -> None:
    chosen = [a for s in SUITES for a in ("--suite", s)]
    status, report = selftest(ready, "--datapath", "socket", *chosen, user=user)
    assert status == 0
    assert proved(report) == LIBRARY[ready.host.name]
    assert {r["datapath"] for r in report["results"]} == {"socket"}


def test_without_the_module_no_session_gets_it_all_are_intact_and_it_is_not_loaded(ready: Guest) -> None:
    ready.run("rmmod tls").check()
    status, report = selftest(ready, *FEW)
    assert (status, report["verdict"]["first_broken"]) == (2, "linux.module.tls")
    assert all(r["sha256_ok"] for r in report["results"])
    assert not proved(report)
    assert ready.run("grep -q '^tls ' /proc/modules").status != 0


def test_what_is_required_and_not_there_is_critical(ready: Guest) -> None:
    met = ready.host is not DEBIAN12  # OpenSSL 3.0 hands no TLS 1.3 receiving over
    status, report = selftest(ready, *FEW, "--require", "tls1.3:tx,rx", "--require", "tls1.2:aes-128-gcm:tx")
    assert status == (0 if met else 2)
    assert ("required and not proved: TLSv1.3" in report["verdict"]["summary"]) is not met


@on_one_host
def test_io_uring_forbidden_by_sysctl_falls_back_and_still_proves(ready: Guest) -> None:
    ready.run("sysctl -q kernel.io_uring_disabled=2").check()
    status, report = selftest(ready, *FEW)
    forced = ready.run(f"{plain(ready)} --datapath io_uring {shlex.join(FEW)}", timeout=120)
    ready.run("sysctl -q kernel.io_uring_disabled=0").check()
    assert status == 0
    assert {r["datapath"] for r in report["results"]} == {"socket"}
    (check,) = [c for c in report["checks"] if c["id"] == "selftest.sessions"]
    assert "io_uring_disabled" in check["evidence"]["io_uring"]
    assert forced.status == 3
    assert "io_uring was asked for and cannot be had" in forced.out.replace("\n         ", " ")


@on_one_host
def test_a_session_that_is_held_open_agrees_with_ss(ready: Guest) -> None:
    # A slow run in the background in the tool's own network namespace: look into it from outside.
    script = (
        f"{plain(ready)} --datapath socket --suite ECDHE-ECDSA-AES256-GCM-SHA384 --bytes 200000000"
        " --timeout 60 >/dev/null 2>&1 & "
        "for i in $(seq 100); do for p in $(pgrep -f '[k]tlsctl.servant'); do "
        "out=$(nsenter -t $p -n ss -Htnie 2>/dev/null | grep -o 'tcp-ulp-tls.*rxconf: sw txconf: sw' | head -1); "
        '[ -n "$out" ] && echo "$out" && pkill -f "[k]tlsctl.servant"; done; '
        '[ -n "$out" ] && break; sleep 0.2; done; wait'
    )
    out = ready.run(script, timeout=200).out
    assert "version: 1.2 cipher: aes-gcm-256 rxconf: sw txconf: sw" in out


@on_one_host
def test_killing_the_tool_leaves_no_child(ready: Guest) -> None:
    script = (
        f"{plain(ready)} --bytes 100000000 >/dev/null 2>&1 & pid=$!; "
        "for i in $(seq 100); do pgrep -f '[k]tlsctl.session' >/dev/null && break; sleep 0.2; done; sleep 1; "
        "kill -9 $pid; sleep 3; pgrep -f '[k]tlsctl.servant' | wc -l"
    )
    assert ready.run(script, timeout=120).out.strip() == "0"


def test_the_text_is_the_self_tests_own_on_every_hosts_click(ready: Guest) -> None:
    lines = ready.run(f"{plain(ready)} {shlex.join(FEW)}", timeout=120).check().out.splitlines()
    assert any(line.startswith("TLSv1.2  ECDHE-ECDSA-AES128-GCM-SHA256") and "kernel" in line for line in lines)
    assert max(map(len, lines)) <= 80
