# SPDX-License-Identifier: BSD-2-Clause
"""`ktlsctl check` on real kernels: what it says is what the kernel does, and asking changed nothing."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from ktlsctl.schema import report_schema
from tests.lab import DEBIAN12, DEBIAN13, Guest, boot
from tests.lab.fixtures import need

pytestmark = pytest.mark.lab

#: For what modprobe(8) and the kernel's common code decide: one host speaks for all three.
on_one_host = pytest.mark.parametrize("lab_guest", [pytest.param(DEBIAN13, id="debian13")], indirect=True)

ROOT = Path(__file__).parent.parent

#: Which cells a real session can get, per host: (version, cipher) -> directions.
TLS12 = {("TLSv1.2", c): "tx rx" for c in ("AES-128-GCM", "AES-256-GCM", "AES-128-CCM", "CHACHA20-POLY1305")}
LIBRARY = {
    "debian12": TLS12 | {("TLSv1.3", c): "tx" for c in ("AES-128-GCM", "AES-256-GCM", "CHACHA20-POLY1305")},
    "debian13": TLS12
    | {("TLSv1.3", c): "tx rx" for c in ("AES-128-GCM", "AES-256-GCM", "CHACHA20-POLY1305", "AES-128-CCM")},
}
LIBRARY["sid"] = LIBRARY["debian13"]

#: Every cell of linux/tls.h: None = taken, otherwise the errno that all three kernels answer with.
KERNEL: dict[tuple[str, str], str | None] = {
    (version, cipher): answer
    for version in ("TLSv1.2", "TLSv1.3")
    for cipher, answer in {
        "AES-128-GCM": None,
        "AES-256-GCM": None,
        "AES-128-CCM": None,
        "CHACHA20-POLY1305": None,
        "SM4-GCM": "ENOENT",
        "SM4-CCM": "ENOENT",
        "ARIA-128-GCM": "ENOENT" if version == "TLSv1.2" else "EINVAL",
        "ARIA-256-GCM": "ENOENT" if version == "TLSv1.2" else "EINVAL",
    }.items()
}


def check(guest: Guest, *arguments: str, user: str | None = None, before: str = "", wrap: str = "") -> tuple[int, Any]:
    """Exit status and document of one run."""
    command = f"{before} {wrap} {guest.ktlsctl} check --json {shlex.join(arguments)}"
    result = guest.run(command, timeout=120, user=user)
    assert result.err == ""
    report = json.loads(result.out)
    jsonschema.validate(report, json.loads(report_schema()))
    return result.status, report


def finding(report: Any, identity: str) -> Any:
    (found,) = [c for c in report["checks"] if c["id"] == identity]
    return found


def commands(checked: Any) -> list[str]:
    return [r["command"] for r in checked["remedy"] if r["command"]]


def loaded(guest: Guest) -> bool:
    return guest.run("grep -q '^tls ' /proc/modules").status == 0


RESET = "rmmod tls 2>/dev/null; rm -f /etc/modprobe.d/lab-*.conf; true"


@pytest.fixture
def bare(lab_guest: Guest) -> Iterator[Guest]:
    """A guest whose tls module is not loaded, with modprobe.d as the distribution has it; so again afterwards."""
    lab_guest.run(RESET).check()
    assert not loaded(lab_guest)
    yield lab_guest
    lab_guest.run(RESET).check()


@pytest.fixture(scope="module")
def ready_report(lab_guest: Guest) -> Any:
    """What root's check says with the module loaded: asked once a host, since a check takes ten seconds there."""
    lab_guest.run(f"{RESET}; modprobe tls").check()
    _, report = check(lab_guest)
    lab_guest.run(RESET).check()
    return report


@pytest.fixture
def ready(bare: Guest) -> Guest:
    bare.run("modprobe tls").check()
    return bare


def test_without_the_module_the_module_is_the_first_broken_link_and_is_not_loaded_by_asking(bare: Guest) -> None:
    status, report = check(bare)
    assert status == 2
    assert report["verdict"]["status"] == "critical"
    assert report["verdict"]["first_broken"] == "linux.module.tls"
    assert "modprobe tls" in commands(report["verdict"])
    assert not loaded(bare)
    path = bare.run("modprobe -n -v tls").check().out.split()[-1]
    assert Path(finding(report, "linux.module.tls")["evidence"]["file"]).name == Path(path).name


def test_without_the_module_an_ordinary_user_learns_the_same(bare: Guest) -> None:
    status, report = check(bare, user="nobody")
    assert (status, report["verdict"]["first_broken"]) == (2, "linux.module.tls")
    assert "CAP_NET_ADMIN" in json.dumps(finding(report, "linux.module.autoload"))
    assert not loaded(bare)


@pytest.mark.parametrize("user", [None, "nobody"])
def test_with_the_module_the_matrix_is_what_this_kernel_and_this_library_do(ready: Guest, user: str | None) -> None:
    status, report = check(ready, user=user)
    assert (status, report["verdict"]["status"], report["verdict"]["first_broken"]) == (0, "ok", None)
    rows = {(r["version"], r["cipher"], r["direction"]): r for r in report["matrix"]}
    library = LIBRARY[ready.host.name]
    for (version, cipher), errno in KERNEL.items():
        for direction in ("tx", "rx"):
            kernel = rows[version, cipher, direction]["kernel"]
            assert (kernel["status"], kernel["errno"]) == (("ok", None) if errno is None else ("skip", errno))
            assert errno is None or kernel["reason"]
    for (version, cipher, direction), row in rows.items():
        wanted = direction in library.get((version, cipher), "").split()
        assert row["library"]["status"] == ("ok" if wanted else "skip"), (version, cipher, direction)


def test_load_lets_root_load_the_module(bare: Guest) -> None:
    status, report = check(bare, "--load")
    assert (status, report["verdict"]["status"]) == (0, "ok")
    assert loaded(bare)


@on_one_host
def test_load_without_privilege_loads_nothing_and_says_so(bare: Guest) -> None:
    status, _ = check(bare, "--load", user="nobody")
    assert status == 2
    assert not loaded(bare)


@on_one_host
def test_a_blacklist_is_named_and_modprobe_by_name_still_works(bare: Guest) -> None:
    bare.run("echo 'blacklist tls' > /etc/modprobe.d/lab-a.conf").check()
    _, report = check(bare)
    policy = finding(report, "linux.module.policy")
    assert policy["status"] == "warning"
    assert "blacklist" in policy["summary"] + policy["reason"]
    assert "/etc/modprobe.d/lab-a.conf" in json.dumps(policy)
    assert "modprobe tls" in commands(report["verdict"])
    bare.run("modprobe tls").check()


@on_one_host
def test_an_install_rule_is_named_with_its_effect_on_bonding(bare: Guest) -> None:
    bare.run("echo 'install tls /bin/false' > /etc/modprobe.d/lab-b.conf").check()
    status, report = check(bare)
    policy = finding(report, "linux.module.policy")
    assert (status, policy["status"]) == (2, "critical")
    assert "bonding" in policy["reason"]
    assert "modprobe tls" not in commands(report["verdict"])  # it would fail
    # The claim itself, asked of the system.
    assert bare.run("modprobe tls").status != 0
    if bare.run("modinfo -F depends bonding | grep -qw tls").status == 0:
        assert bare.run("modprobe bonding").status != 0


@on_one_host
def test_an_alias_that_is_off_is_named_and_a_module_loaded_in_spite_of_it_is_usable(bare: Guest) -> None:
    bare.run("echo 'alias tcp-ulp-tls off' > /etc/modprobe.d/lab-c.conf; modprobe tls").check()
    _, report = check(bare)
    policy = finding(report, "linux.module.policy")
    assert "tcp-ulp-tls" in policy["summary"] + policy["reason"]
    assert "lab-c.conf" in json.dumps(policy)
    assert finding(report, "matrix.usable")["status"] == "ok"


@on_one_host
def test_persistence_is_seen_in_modules_load(ready: Guest, ready_report: Any) -> None:
    assert commands(finding(ready_report, "linux.module.persistence"))
    ready.run("echo tls > /etc/modules-load.d/lab-e.conf").check()
    persistence = finding(check(ready)[1], "linux.module.persistence")
    ready.run("rm /etc/modules-load.d/lab-e.conf").check()
    assert not commands(persistence)
    assert "lab-e.conf" in json.dumps(persistence)


@on_one_host
def test_inside_a_new_network_namespace_it_works_and_says_where_it_looks_from(ready: Guest) -> None:
    status, report = check(ready, wrap="unshare --net sh -c 'ip link set lo up; exec \"$@\"' --")
    assert status == 0
    namespace = finding(report, "linux.namespace")
    assert "network namespace" in namespace["summary"] + namespace["reason"]


@on_one_host
def test_inside_a_user_namespace_root_is_not_the_root_that_may_load_modules(bare: Guest) -> None:
    status, report = check(bare, wrap="unshare --user --map-root-user --net")
    assert (status, report["verdict"]["first_broken"]) == (2, "linux.module.tls")
    assert not loaded(bare)


def test_io_uring_disabled_by_sysctl_is_named_and_does_not_touch_the_verdict(ready: Guest, ready_report: Any) -> None:
    assert "io_uring_disabled" not in json.dumps(finding(ready_report, "linux.io_uring")["reason"])
    if ready.run("test -e /proc/sys/kernel/io_uring_disabled").status != 0:
        assert ready.host is DEBIAN12  # the sysctl came with 6.6
        return
    ready.run("sysctl -q kernel.io_uring_disabled=2").check()
    status, report = check(ready)
    ready.run("sysctl -q kernel.io_uring_disabled=0").check()
    assert status == 0
    assert "io_uring_disabled" in finding(report, "linux.io_uring")["reason"]


def test_rekey_is_what_the_kernel_does(ready: Guest, ready_report: Any) -> None:
    rekey = finding(ready_report, "linux.kernel.rekey")
    has_counters = ready.run("grep -q TlsTxRekeyOk /proc/net/tls_stat").status == 0
    assert rekey["evidence"]["supported"] is has_counters


_DECRYPT_ERROR = """
import socket, struct
listener = socket.create_server(("127.0.0.1", 0))
a = socket.create_connection(listener.getsockname())
b, _ = listener.accept()
b.setsockopt(6, 31, b"tls")
b.setsockopt(282, 2, struct.pack("=HH", 0x303, 51) + bytes(36))
a.sendall(b"\\x17\\x03\\x03\\x00\\x40" + bytes(64))
try:
    b.recv(100)
except OSError as error:
    print(error.errno)
"""


@on_one_host
def test_a_decryption_error_in_the_counters_is_a_warning_with_its_meaning(ready: Guest) -> None:
    assert ready.run("python3 -", input=_DECRYPT_ERROR.encode()).check().out == "74\n"
    status, report = check(ready)
    stats = finding(report, "linux.stats")
    assert (status, stats["status"]) == (1, "warning")
    assert report["counters"]["TlsDecryptError"] == 1


def test_the_counters_are_the_files_own(ready: Guest, ready_report: Any) -> None:
    lines = ready.run("cat /proc/net/tls_stat").check().out.splitlines()
    assert set(ready_report["counters"]) == {line.split()[0] for line in lines}


_HOLD_OPEN = """
import socket, struct, subprocess
listener = socket.create_server(("127.0.0.1", 0))
a = socket.create_connection(listener.getsockname())
b, _ = listener.accept()
key = bytes(36)
for s in (a, b):
    s.setsockopt(6, 31, b"tls")
a.setsockopt(282, 1, struct.pack("=HH", 0x304, 51) + key)
b.setsockopt(282, 2, struct.pack("=HH", 0x304, 51) + key)
print(subprocess.run(["ss", "-tnie"], capture_output=True, text=True).stdout.count("tcp-ulp-tls"))
print(subprocess.run(["KTLSCTL", "check", "--json"], capture_output=True, text=True).stdout)
"""


def test_open_sessions_agree_with_ss(ready: Guest) -> None:
    result = ready.run("python3 -", input=_HOLD_OPEN.replace("KTLSCTL", ready.ktlsctl).encode(), timeout=120).check()
    count, _, text = result.out.partition("\n")
    counters = json.loads(text)["counters"]
    assert int(count) == 2  # both sockets carry the ULP
    assert (counters["TlsCurrTxSw"], counters["TlsCurrRxSw"]) == (1, 1)


def test_a_loaded_module_agrees_with_lsmod(ready: Guest, ready_report: Any) -> None:
    assert ready.run("lsmod | grep -q '^tls '").status == 0
    assert finding(ready_report, "linux.module.tls")["status"] == "ok"


def test_nic_features_agree_with_ethtool(lab_guest: Guest, ready_report: Any) -> None:
    nic = finding(ready_report, "linux.nic")
    lines = lab_guest.run("ethtool -k lo").check().out.splitlines()
    theirs = {
        name.strip(): value.strip()
        for name, _, value in (line.partition(":") for line in lines)
        if name.strip().startswith("tls-hw-")
    }
    assert theirs
    assert set(nic["evidence"]["lo"]) == {f"{name}: {value}" for name, value in theirs.items()}


def test_a_capture_is_judged_elsewhere_as_it_is_judged_here(ready: Guest, ready_report: Any, tmp_path: Path) -> None:
    live = dict(ready_report)
    capture = tmp_path / "host.json"
    capture.write_bytes(ready.run(f"{ready.ktlsctl} capture", timeout=120).check().stdout)
    done = subprocess.run(
        [sys.executable, "-m", "ktlsctl", "check", "--from", str(capture), "--json"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    replayed = json.loads(done.stdout)
    for each in (live, replayed):
        for changing in ("generated_at", "source", "counters"):
            each.pop(changing)
    assert replayed == live


@on_one_host
def test_text_is_readable_in_80_columns_and_ends_with_the_next_command(bare: Guest) -> None:
    result = bare.run(f"{bare.ktlsctl} check", timeout=120)
    lines = result.out.splitlines()
    assert result.status == 2
    assert max(map(len, lines)) <= 80
    assert any(line.startswith("Next: modprobe tls") for line in lines[-3:])


def test_loading_disabled_until_reboot_is_the_reason_and_needs_a_reboot() -> None:
    with boot(need(DEBIAN13)) as guest:
        guest.run("sysctl -q kernel.modules_disabled=1").check()
        status, report = check(guest)
        assert guest.run("modprobe tls").status != 0
    policy = finding(report, "linux.module.policy")
    assert (status, policy["status"]) == (2, "critical")
    assert "modules_disabled" in policy["reason"]
    assert "reboot" in json.dumps(policy["remedy"])
    assert "modprobe tls" not in commands(report["verdict"])


def test_a_kernel_command_line_that_blocks_the_module_is_the_reason() -> None:
    with boot(need(DEBIAN13), append="module_blacklist=tls") as guest:
        status, report = check(guest)
        assert guest.run("modprobe tls").status != 0
    policy = finding(report, "linux.module.policy")
    assert (status, policy["status"]) == (2, "critical")
    assert "module_blacklist" in policy["reason"]


def test_in_fips_mode_chacha_is_refused_and_the_reason_is_fips() -> None:
    with boot(need(DEBIAN13), append="fips=1") as guest:
        guest.run("modprobe tls").check()
        _, report = check(guest)
    chacha = [r for r in report["matrix"] if r["cipher"] == "CHACHA20-POLY1305"]
    assert {(r["kernel"]["status"], r["kernel"]["errno"]) for r in chacha} == {("skip", "ENOENT")}
    assert all(re.search("FIPS", r["kernel"]["reason"]) for r in chacha)
    gcm = [r for r in report["matrix"] if r["cipher"] == "AES-128-GCM"]
    assert {r["kernel"]["status"] for r in gcm} == {"ok"}
