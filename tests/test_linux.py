# SPDX-License-Identifier: BSD-2-Clause
"""Linux hosts judged: each obstacle has its own place in the chain, its own reason and the command that mends it."""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from ktlsctl import linux
from ktlsctl.facts.capability import Capability
from ktlsctl.facts.kconfig import CRYPTO_OPTIONS
from ktlsctl.facts.ulp import Answers, Tried
from ktlsctl.host import CapturedHost, Host, LiveHost, RecordingHost
from ktlsctl.model import CHAIN_ORDER, About, Attempt, Cell, Direction, KernelReport, Os, Outcome, Status, TlsVersion
from tests.linux_hosts import (
    ACCEPTED,
    ARCH,
    CONFIG_DEBIAN,
    CONFIG_WITHOUT_TLS,
    CONTAINER,
    DEBIAN12,
    DEBIAN13,
    DENIED,
    FIXED_OFF,
    SID,
    TLS_STAT,
    UNLOADED,
    WITHOUT_TLS,
    LinuxHost,
    answers,
    by_hand,
    commands,
    finding,
    refused,
    unloaded,
    with_cell,
)

STOCK = {"debian12": DEBIAN12, "debian13": DEBIAN13, "sid": SID, "arch": ARCH}
HOSTS = pytest.mark.parametrize("host", STOCK.values(), ids=STOCK)
TLS12, TLS13 = TlsVersion
TX, RX = Direction


def statuses(report: KernelReport) -> dict[str, Status]:
    return {check.id: check.status for check in report.checks}


def first_broken(report: KernelReport) -> str | None:
    chain = sorted(report.checks, key=lambda check: CHAIN_ORDER[check.link])
    return next((check.id for check in chain if check.status is Status.CRITICAL), None)


def cell(report: KernelReport, version: TlsVersion, cipher: str, direction: Direction) -> Cell:
    (row,) = [r for r in report.rows if (r.version, r.cipher, r.direction) == (version, cipher, direction)]
    assert row.kernel is not None
    return row.kernel


# --- whole hosts ----------------------------------------------------------------------------------------------------


@HOSTS
@pytest.mark.parametrize("seen_by", [lambda host: host, by_hand], ids=["root", "user"])
def test_a_stock_host_with_the_module_has_nothing_to_complain_about(host: LinuxHost, seen_by: Any) -> None:
    report = seen_by(host).judged()
    assert set(statuses(report).values()) <= {Status.OK, Status.SKIP}
    assert Counter(row.kernel.status for row in report.rows if row.kernel) == {Status.OK: 16, Status.SKIP: 16}


@HOSTS
@pytest.mark.parametrize("seen_by", [lambda host: host, by_hand], ids=["root", "user"])
def test_without_the_module_the_module_is_the_first_broken_link(host: LinuxHost, seen_by: Any) -> None:
    report = seen_by(unloaded(host)).judged()
    assert first_broken(report) == "linux.module.tls"
    assert commands(finding(report, "linux.module.tls"))[0] == "modprobe tls"
    assert statuses(report)["linux.kernel.config"] is Status.OK
    assert {row.kernel.status for row in report.rows if row.kernel} == {Status.UNKNOWN}


@pytest.mark.parametrize("seen_by", [lambda host: host, by_hand], ids=["root", "user"])
def test_a_kernel_built_without_it_is_broken_at_the_kernel_and_nowhere_else(seen_by: Any) -> None:
    report = seen_by(WITHOUT_TLS).judged()
    assert [i for i, s in statuses(report).items() if s is Status.CRITICAL] == ["linux.kernel.config"]
    assert "CONFIG_TLS" in finding(report, "linux.kernel.config").reason
    assert {row.kernel.status for row in report.rows if row.kernel} == {Status.SKIP}
    assert not any("modprobe tls" in commands(check) for check in report.checks)


@pytest.mark.parametrize("outcome", [o for o in Outcome if o is not Outcome.RAN])
def test_a_host_that_answers_nothing_is_judged_without_a_crash_and_never_ok(outcome: Outcome) -> None:
    about = About(Os.LINUX, "6.1", "x86_64", False)
    host = CapturedHost(about, {}, otherwise=Outcome.UNRECORDED)
    host._look = lambda door, key: Attempt(outcome, reason="why not")  # type: ignore[method-assign]
    report = linux.judge(linux.gather(host, load=False), about)
    assert Status.OK not in {row.kernel.status for row in report.rows if row.kernel}
    for identity in ("linux.kernel.config", "linux.module.tls", "linux.kernel.matrix"):
        assert statuses(report)[identity] in (Status.UNKNOWN, Status.CRITICAL)


def test_the_report_has_every_check_once_and_says_all_in_short_sentences() -> None:
    for host in (*STOCK.values(), *map(unloaded, STOCK.values()), WITHOUT_TLS, CONTAINER):
        report = host.judged()
        ids = [check.id for check in report.checks]
        assert sorted(ids) == sorted(set(ids))
        assert {"linux.kernel.config", "linux.module.tls", "linux.kernel.matrix", "linux.nic"} <= set(ids)
        assert all(len(check.summary) <= 90 for check in report.checks)


# --- the kernel's configuration -------------------------------------------------------------------------------------


def test_a_kernel_that_answers_beats_a_file_that_says_no() -> None:
    report = DEBIAN12.having({"/boot/config-6.1.0-53-amd64": CONFIG_WITHOUT_TLS}).judged()
    check = finding(report, "linux.kernel.config")
    assert check.status is Status.OK
    assert "/boot/config-6.1.0-53-amd64" in check.reason
    assert Status.CRITICAL not in statuses(report).values()


def test_a_module_made_for_this_kernel_beats_a_file_that_says_no() -> None:
    report = unloaded(DEBIAN12).having({"/boot/config-6.1.0-53-amd64": CONFIG_WITHOUT_TLS}).judged()
    assert first_broken(report) == "linux.module.tls"


def test_without_any_configuration_the_module_directory_speaks() -> None:
    report = unloaded(DEBIAN12).lacking("/boot/config-6.1.0-53-amd64").judged()
    check = finding(report, "linux.kernel.config")
    assert check.status is Status.OK
    assert "/lib/modules/6.1.0-53-amd64" in check.reason


def test_no_configuration_at_all_is_unknown_and_not_no() -> None:
    host = LinuxHost("6.1", {"/proc/modules": b""}, ulp=UNLOADED)
    check = finding(host.judged(), "linux.kernel.config")
    assert check.status is Status.UNKNOWN


def test_a_configuration_that_may_not_be_read_asks_for_root() -> None:
    host = LinuxHost("6.1", {"/proc/modules": b"", "/boot/config-6.1": DENIED}, ulp=UNLOADED, privileged=False)
    check = finding(host.judged(), "linux.kernel.config")
    assert (check.status, "/boot/config-6.1: Permission denied" in check.reason) == (Status.UNKNOWN, True)
    assert any("root" in remedy.text for remedy in check.remedy)


def test_a_configuration_as_a_module_is_worth_a_hint() -> None:
    files = {"/proc/modules": b"", "/lib/modules/6.1/modules.dep": b"kernel/kernel/configs.ko.gz:\n"}
    check = finding(LinuxHost("6.1", files, ulp=UNLOADED).judged(), "linux.kernel.config")
    assert "modprobe configs" in commands(check)


@pytest.mark.parametrize("path", ["/usr/src/linux/.config", "/boot/config"])
def test_a_file_that_may_be_another_kernel_s_is_no_proof(path: str) -> None:
    host = LinuxHost("6.1", {"/proc/modules": b"", path: CONFIG_WITHOUT_TLS}, ulp=UNLOADED)
    check = finding(host.judged(), "linux.kernel.config")
    assert (check.status, path in check.reason) == (Status.UNKNOWN, True)


def test_in_a_container_a_file_in_boot_is_the_image_s_and_no_proof() -> None:
    report = CONTAINER.having({"/boot/config-6.1.0-53-amd64": CONFIG_WITHOUT_TLS}).judged()
    assert statuses(report)["linux.kernel.config"] is Status.UNKNOWN
    assert "image" in finding(report, "linux.kernel.config").reason
    assert first_broken(report) == "linux.module.tls"


def test_in_a_container_the_kernel_s_own_configuration_is_proof() -> None:
    report = CONTAINER.having({"/proc/config.gz": CONFIG_WITHOUT_TLS}).judged()
    assert first_broken(report) == "linux.kernel.config"


def test_a_tcp_without_upper_layer_protocols_is_the_kernel_s_fault() -> None:
    host = LinuxHost("4.4.0", {}, ulp=Answers(Capability.NOT_HELD, ACCEPTED, refused("ENOPROTOOPT")))
    report = host.judged()
    assert first_broken(report) == "linux.kernel.config"
    assert "gVisor" in finding(report, "linux.kernel.config").reason


def test_nic_offload_of_the_kernel_is_not_needed() -> None:
    host = DEBIAN12.having({"/boot/config-6.1.0-53-amd64": b"CONFIG_TLS=m\n# CONFIG_TLS_DEVICE is not set\n"})
    assert statuses(host.judged())["linux.kernel.device"] is Status.SKIP
    assert statuses(DEBIAN12.judged())["linux.kernel.device"] is Status.OK


# --- the module -----------------------------------------------------------------------------------------------------


def test_a_module_that_is_built_in_needs_no_loading_and_no_persistence() -> None:
    config = CONFIG_DEBIAN.replace(b"CONFIG_TLS=m", b"CONFIG_TLS=y")
    host = DEBIAN12.having({"/boot/config-6.1.0-53-amd64": config, "/proc/modules": b""})
    report = host.having({"/etc/modprobe.d/a.conf": b"install tls /bin/false\n"}).judged()
    assert finding(report, "linux.module.tls").summary == "tls is built into the kernel"
    assert statuses(report)["linux.module.policy"] is Status.SKIP
    assert commands(finding(report, "linux.module.persistence")) == []


def test_loaded_by_another_module_does_not_mean_used() -> None:
    report = DEBIAN12.having({"/proc/modules": b"tls 135168 1 bonding, Live 0x0\n"}).judged()
    check = finding(report, "linux.module.tls")
    assert check.status is Status.OK
    assert "bonding" in check.reason
    assert check.evidence["holders"] == ("bonding",)


def test_a_module_directory_that_an_upgrade_took_away_needs_a_reboot() -> None:
    host = LinuxHost(
        "6.17.1",
        {"/proc/config.gz": CONFIG_DEBIAN, "/proc/modules": b"", "/lib/modules/6.17.2/modules.dep": b""},
        ulp=UNLOADED,
    )
    report = host.judged()
    assert first_broken(report) == "linux.module.tls"
    assert commands(finding(report, "linux.module.tls")) == ["reboot"]


@pytest.mark.parametrize(
    ("distribution", "package"),
    [
        ("Debian GNU/Linux 12 (bookworm)", "linux-image-6.1"),
        ("Ubuntu 24.04", "linux-modules-6.1"),
        ("Fedora Linux 42", "kernel-modules-core-6.1"),
    ],
)
def test_a_module_that_is_not_installed_names_its_package(distribution: str, package: str) -> None:
    host = LinuxHost(
        "6.1",
        {"/proc/config.gz": CONFIG_DEBIAN, "/proc/modules": b"", "/lib/modules/6.1/modules.dep": b"kernel/a.ko:\n"},
        distribution=distribution,
        ulp=UNLOADED,
    )
    check = finding(host.judged(), "linux.module.tls")
    assert check.status is Status.CRITICAL
    assert "not installed" in check.summary
    assert package in commands(check)[0]


def test_a_release_out_of_a_capture_cannot_smuggle_a_command_into_a_remedy() -> None:
    release = "6.1; reboot"
    host = LinuxHost(release, {f"/lib/modules/{release}/modules.dep": b"kernel/a.ko:\n"}, ulp=UNLOADED)
    assert commands(finding(host.judged(), "linux.module.tls"))[0].endswith("'linux-image-6.1; reboot'")


def test_a_module_file_that_is_gone_is_told_from_one_never_installed() -> None:
    host = unloaded(DEBIAN12).lacking("/lib/modules/6.1.0-53-amd64/kernel/net/tls/tls.ko")
    assert "file is gone" in finding(host.judged(), "linux.module.tls").summary


def test_a_module_directory_that_may_not_be_read_is_not_an_empty_one() -> None:
    host = unloaded(DEBIAN12).having({"/lib/modules/6.1.0-53-amd64/modules.dep": DENIED})
    check = finding(host.judged(), "linux.module.tls")
    assert check.status is Status.CRITICAL
    assert "could not be seen" in check.reason
    assert "modprobe tls" in commands(check)


A = "/etc/modprobe.d/a.conf"

OBSTACLES: dict[str, tuple[dict[str, bytes], Status, str, bool]] = {
    # files, status of the policy, what its reason names, whether `modprobe tls` would still work
    "blacklist": ({A: b"blacklist tls\n"}, Status.WARNING, f"{A}:1 has `blacklist tls`", True),
    "install": ({A: b"\ninstall tls /bin/false\n"}, Status.CRITICAL, f"{A}:2 runs a command", False),
    "alias": ({A: b"alias tcp-ulp-tls off\n"}, Status.WARNING, "`alias tcp-ulp-tls off`", True),
    "alias of the name": ({A: b"alias tls off\n"}, Status.CRITICAL, "sends the name elsewhere", False),
    "modules_disabled": ({"/proc/sys/kernel/modules_disabled": b"1\n"}, Status.CRITICAL, "modules_disabled", False),
    "module_blacklist": ({"/proc/cmdline": b"module_blacklist=x,tls\n"}, Status.CRITICAL, "module_blacklist", False),
    "modprobe.blacklist": ({"/proc/cmdline": b"modprobe.blacklist=tls\n"}, Status.WARNING, "modprobe.blacklist", True),
    "no helper": ({"/proc/sys/kernel/modprobe": b"\n"}, Status.WARNING, "kernel.modprobe is empty", True),
}


@pytest.mark.parametrize(("files", "status", "reason", "by_name"), OBSTACLES.values(), ids=OBSTACLES)
def test_each_obstacle_is_named_with_its_own_reason(
    files: dict[str, bytes], status: Status, reason: str, by_name: bool
) -> None:
    report = unloaded(DEBIAN13).having(files).judged()
    policy = finding(report, "linux.module.policy")
    assert (policy.status, reason in policy.reason) == (status, True), policy.reason
    assert policy.remedy
    assert first_broken(report) == "linux.module.tls"
    module = finding(report, "linux.module.tls")
    assert reason in module.reason
    assert ("modprobe tls" in commands(module)) is by_name


def test_the_reasons_of_the_obstacles_are_all_different() -> None:
    reasons = [
        finding(unloaded(DEBIAN13).having(files).judged(), "linux.module.policy").reason
        for files, *_ in OBSTACLES.values()
    ]
    assert len(set(reasons)) == len(reasons)


def test_blocking_by_install_says_that_it_also_stops_bonding() -> None:
    report = unloaded(DEBIAN13).having({A: b"install tls /bin/false\n"}).judged()
    assert "bonding" in finding(report, "linux.module.policy").reason
    assert "modprobe --ignore-install tls" in commands(finding(report, "linux.module.tls"))


def test_loading_disabled_until_reboot_says_reboot() -> None:
    report = unloaded(DEBIAN13).having({"/proc/sys/kernel/modules_disabled": b"1\n"}).judged()
    assert "reboot" in commands(finding(report, "linux.module.tls"))


@pytest.mark.parametrize(
    ("files", "status"),
    [
        ({A: b"blacklist tls\n"}, Status.WARNING),
        ({A: b"install tls /bin/false\n"}, Status.WARNING),
        ({A: b"alias tcp-ulp-tls off\n"}, Status.OK),
        ({"/proc/sys/kernel/modules_disabled": b"1\n"}, Status.OK),
    ],
)
def test_once_it_is_loaded_only_what_holds_after_a_reboot_matters(files: dict[str, bytes], status: Status) -> None:
    report = DEBIAN13.having(files).judged()
    assert statuses(report)["linux.module.policy"] is status
    assert finding(report, "linux.module.policy").reason
    assert statuses(report)["linux.module.tls"] is Status.OK


def test_rules_that_may_not_be_read_are_unknown() -> None:
    check = finding(unloaded(DEBIAN13).having({A: DENIED}).judged(), "linux.module.policy")
    assert (check.status, A in check.reason) == (Status.UNKNOWN, True)


def test_a_container_s_own_rules_have_no_say() -> None:
    report = CONTAINER.having({A: b"install tls /bin/false\n"}).judged()
    assert statuses(report)["linux.module.policy"] is Status.SKIP
    assert finding(report, "linux.module.tls").remedy[0].text == "load it on the host"


def test_asked_to_load_and_not_allowed_to() -> None:
    host = unloaded(DEBIAN13).but(privileged=False, ulp=Answers(Capability.KEPT, ACCEPTED, refused("ENOENT")))
    check = finding(host.judged(load=True), "linux.module.tls")
    assert (check.status, "CAP_NET_ADMIN" in check.reason) == (Status.CRITICAL, True)


def test_when_the_ulp_cannot_be_asked_the_files_say_that_it_is_not_loaded() -> None:
    """In a new network namespace loopback is down, and root of a user namespace sees no list of ULPs."""
    host = unloaded(DEBIAN13).lacking("/proc/sys/net/ipv4/tcp_available_ulp")
    down = Answers(Capability.DROPPED, refused("EADDRNOTAVAIL"))
    assert first_broken(host.but(ulp=down).judged()) == "linux.module.tls"


def test_a_sandbox_that_refuses_the_question_is_unknown_and_no_fault() -> None:
    host = LinuxHost("6.1", {}, ulp=Answers(Capability.NOT_HELD, ACCEPTED, refused("EPERM")))
    report = host.judged()
    check = finding(report, "linux.module.tls")
    assert (check.status, "sandbox" in check.reason) == (Status.UNKNOWN, True)
    assert statuses(report)["linux.kernel.matrix"] is Status.UNKNOWN


# --- at boot and on demand ------------------------------------------------------------------------------------------


def test_a_module_that_will_not_come_back_is_advice_and_no_fault() -> None:
    check = finding(DEBIAN12.judged(), "linux.module.persistence")
    assert check.status is Status.OK
    assert commands(check) == ["echo tls > /etc/modules-load.d/tls.conf"]


@pytest.mark.parametrize("path", ["/etc/modules-load.d/x.conf", "/usr/lib/modules-load.d/x.conf", "/etc/modules"])
def test_a_module_listed_for_boot_needs_no_advice(path: str) -> None:
    check = finding(DEBIAN12.having({path: b"# x\ntls\n"}).judged(), "linux.module.persistence")
    assert (commands(check), check.evidence["files"]) == ([], (f"{path}:2",))


@pytest.mark.parametrize(
    ("rule", "status"), [(b"blacklist tls\n", Status.WARNING), (b"alias tcp-ulp-tls off\n", Status.OK)]
)
def test_a_blacklist_holds_for_the_list_of_boot_too_and_an_alias_does_not(rule: bytes, status: Status) -> None:
    host = DEBIAN12.having({"/etc/modules-load.d/x.conf": b"tls\n", A: rule})
    assert statuses(host.judged())["linux.module.persistence"] is status


def test_who_may_have_it_loaded_is_said_where_it_matters() -> None:
    bare = finding(by_hand(unloaded(DEBIAN12)).judged(), "linux.module.autoload")
    assert "CAP_NET_ADMIN" in bare.reason
    assert "ENOENT" in bare.reason
    assert bare.evidence["this_process_may"] is False
    root = unloaded(DEBIAN12).but(ulp=Answers(Capability.DROPPED, ACCEPTED, refused("ENOENT")))
    assert finding(root.judged(), "linux.module.autoload").evidence["this_process_may"] is True
    elsewhere = root.but(own={"net": 10, "user": 99, "pid": 12})
    assert finding(elsewhere.judged(), "linux.module.autoload").evidence["this_process_may"] is False


def test_an_alias_that_depmod_never_indexed_stops_the_autoload() -> None:
    host = unloaded(DEBIAN12).having({"/lib/modules/6.1.0-53-amd64/modules.alias": b""})
    check = finding(host.judged(), "linux.module.autoload")
    assert (check.status, commands(check)) == (Status.WARNING, ["depmod"])


# --- the matrix -----------------------------------------------------------------------------------------------------


def test_every_refusal_is_explained_by_its_own_cause() -> None:
    report = DEBIAN12.judged()
    missing = cell(report, TLS12, "ARIA-128-GCM", TX)
    combination = cell(report, TLS13, "ARIA-128-GCM", TX)
    assert (missing.errno, combination.errno) == ("ENOENT", "EINVAL")
    assert "CONFIG_CRYPTO_ARIA not set" in missing.reason
    assert combination.reason == "the kernel takes ARIA-128-GCM with TLSv1.2 only, not with TLSv1.3"


def test_a_cipher_that_the_kernel_never_heard_of_is_told_from_a_combination() -> None:
    given = answers()
    for version in TlsVersion:
        given = with_cell(given, version, "SM4-GCM", None, refused("EINVAL"))
    reason = cell(DEBIAN12.but(ulp=given).judged(), TLS12, "SM4-GCM", TX).reason
    assert "does not know SM4-GCM" in reason


def test_an_algorithm_that_is_built_and_still_missing_is_a_module_kept_out() -> None:
    given = with_cell(answers(), TLS12, "CHACHA20-POLY1305", None, refused("ENOENT"))
    reason = cell(DEBIAN12.but(ulp=given).judged(), TLS12, "CHACHA20-POLY1305", TX).reason
    assert "CONFIG_CRYPTO_CHACHA20POLY1305 is a module that is not installed or is kept out" in reason


def test_in_fips_mode_the_reason_is_fips() -> None:
    given = with_cell(answers(), TLS12, "CHACHA20-POLY1305", None, refused("ENOENT"))
    report = DEBIAN13.but(ulp=given).having({"/proc/sys/crypto/fips_enabled": b"1\n"}).judged()
    assert "FIPS" in cell(report, TLS12, "CHACHA20-POLY1305", TX).reason
    assert finding(report, "linux.kernel.fips").summary == "the kernel is in FIPS mode"


@pytest.mark.parametrize(
    ("tried", "status"),
    [
        (refused("EPERM"), Status.UNKNOWN),
        (refused("ENOMEM"), Status.UNKNOWN),
        (refused("EWHATEVER"), Status.UNKNOWN),
        (Tried(), Status.UNKNOWN),
        (refused("ENOPROTOOPT"), Status.SKIP),
    ],
)
def test_what_is_no_answer_about_the_cipher_is_unknown_with_a_reason(tried: Tried, status: Status) -> None:
    given = with_cell(answers(), TLS13, "SM4-GCM", RX, tried)
    found = cell(DEBIAN12.but(ulp=given).judged(), TLS13, "SM4-GCM", RX)
    assert (found.status, bool(found.reason)) == (status, True)


@pytest.mark.parametrize("control", [ACCEPTED, refused("ENOPROTOOPT"), Tried()])
def test_when_a_cipher_that_no_kernel_knows_is_not_refused_nothing_is_believed(control: Tried) -> None:
    report = DEBIAN12.but(ulp=answers(control=control)).judged()
    assert {row.kernel.status for row in report.rows if row.kernel} == {Status.UNKNOWN}
    assert statuses(report)["linux.kernel.matrix"] is Status.UNKNOWN
    assert statuses(report)["linux.kernel.rekey"] is Status.UNKNOWN


def test_a_probe_that_gave_no_answer_says_why() -> None:
    late: Attempt[Any] = Attempt(Outcome.TIMEOUT, reason="no answer within 30 s")
    report = DEBIAN12.but(ulp=late).judged()
    assert "no answer within 30 s" in finding(report, "linux.kernel.matrix").reason
    assert statuses(report)["linux.module.tls"] is Status.OK  # the counters are there


def test_loopback_that_is_down_is_named_with_its_command() -> None:
    down = Answers(Capability.DROPPED, refused("EADDRNOTAVAIL"), refused("ENOTCONN"))
    report = DEBIAN12.but(ulp=down).judged()
    check = finding(report, "linux.kernel.matrix")
    assert (check.status, commands(check)) == (Status.UNKNOWN, ["ip link set lo up"])
    assert statuses(report)["linux.module.tls"] is Status.OK


@pytest.mark.parametrize("changes", [{"echo": refused("EBADMSG")}, {"echo_equal": False}])
def test_a_record_that_does_not_come_back_is_critical(changes: dict[str, Any]) -> None:
    assert first_broken(DEBIAN12.but(ulp=answers(**changes)).judged()) == "linux.kernel.matrix"


def test_a_kernel_without_aes_gcm_works_in_part() -> None:
    given = with_cell(answers(), TLS13, "AES-256-GCM", RX, refused("ENOPROTOOPT"))
    check = finding(DEBIAN12.but(ulp=given).judged(), "linux.kernel.matrix")
    assert check.status is Status.WARNING
    assert "AES-256-GCM with TLSv1.3 RX" in check.summary


def test_a_kernel_that_takes_no_cipher_is_broken_at_the_cipher() -> None:
    given = answers()
    for each in given.cells:
        given = with_cell(given, each.version, each.cipher, each.direction, refused("ENOENT"))
    report = DEBIAN12.but(ulp=given).judged()
    assert first_broken(report) == "linux.kernel.matrix"
    check = finding(report, "linux.kernel.matrix")
    assert any(option in check.remedy[0].text for option in CRYPTO_OPTIONS)


def test_modules_that_the_kernel_loaded_for_the_probe_are_told() -> None:
    report = DEBIAN12.but(ulp=answers(pulled=("ccm", "gcm"))).judged()
    assert finding(report, "linux.kernel.matrix").evidence["modules_pulled"] == ("ccm", "gcm")


def test_a_socket_that_can_be_disconnected_proves_its_advisory() -> None:
    assert DEBIAN12.judged().proved == frozenset()
    assert DEBIAN12.but(ulp=answers(disconnect=ACCEPTED)).judged().proved == {"CVE-2025-37756"}


@pytest.mark.parametrize(
    ("second", "supported", "status"),
    [
        (ACCEPTED, True, Status.OK),
        (refused("EBUSY"), False, Status.OK),
        (refused("EINVAL"), None, Status.UNKNOWN),
        (Tried(), None, Status.SKIP),
    ],
)
def test_rekey_is_what_the_second_key_met(second: Tried, supported: bool | None, status: Status) -> None:
    check = finding(DEBIAN12.but(ulp=replace(answers(), rekey=second)).judged(), "linux.kernel.rekey")
    assert (check.evidence["supported"], check.status) == (supported, status)


# --- crypto, counters, namespaces, interfaces -----------------------------------------------------------------------

_GCM = "name         : gcm(aes)\ndriver       : {}\nmodule       : m\npriority     : 100\n\n"


@pytest.mark.parametrize(
    ("driver", "slow"),
    [
        ("gcm_base(ctr(aes-generic),ghash-clmulni)", True),
        ("generic-gcm-aesni", False),
        ("gcm_base(ctr(aes-lib),ghash-lib)", False),
    ],
)
def test_aes_in_plain_c_is_a_note_and_no_fault(driver: str, slow: bool) -> None:
    check = finding(DEBIAN12.having({"/proc/crypto": _GCM.format(driver).encode()}).judged(), "linux.kernel.crypto")
    assert check.status is Status.OK
    assert ("slower" in check.reason) is slow


@pytest.mark.parametrize("name", ["TlsDecryptError", "TlsRxNoPadViolation", "TlsRxRekeyError", "TlsTxRekeyError"])
def test_an_error_counter_is_a_warning_with_its_meaning(name: str) -> None:
    report = DEBIAN12.having({"/proc/net/tls_stat": f"{name} 3\n".encode()}).judged()
    check = finding(report, "linux.stats")
    assert check.status is Status.WARNING
    assert f"{name} = 3: " in check.reason
    assert check.evidence == {name: 3}


@pytest.mark.parametrize("name", ["TlsTxSw", "TlsDecryptRetry", "TlsRxDeviceResync", "TlsNew", "TlsRxRekeyReceived"])
def test_counters_that_are_no_errors_are_reported_and_not_judged(name: str) -> None:
    report = DEBIAN12.having({"/proc/net/tls_stat": f"{name} 3\n".encode()}).judged()
    assert report.counters == {name: 3}
    assert statuses(report)["linux.stats"] is Status.OK


def test_counters_that_may_not_be_read_are_unknown() -> None:
    assert statuses(DEBIAN12.having({"/proc/net/tls_stat": DENIED}).judged())["linux.stats"] is Status.UNKNOWN


def test_counters_of_another_network_namespace_say_whose_they_are() -> None:
    host = DEBIAN12.lacking("/proc/sys/net/ipv4/tcp_available_ulp")
    report = host.judged()
    assert "this network namespace only" in finding(report, "linux.stats").reason
    assert "network namespace" in finding(report, "linux.namespace").reason
    assert statuses(report)["linux.namespace"] is Status.OK
    assert report.counters["TlsTxSw"] == int(TLS_STAT.split()[3])


def test_a_container_and_a_user_namespace_are_noticed() -> None:
    assert finding(CONTAINER.judged(), "linux.namespace").summary == "seen from inside a container"
    user = DEBIAN12.but(own={"net": 10, "user": 99, "pid": 0xEFFFFFFC})
    assert "user namespace" in finding(user.judged(), "linux.namespace").summary


def test_interfaces_that_offer_nothing_are_the_usual_case() -> None:
    check = finding(DEBIAN12.judged(), "linux.nic")
    assert check.status is Status.SKIP
    assert check.evidence["lo"] == tuple(f"tls-hw-{n}: off [fixed]" for n in ("tx-offload", "rx-offload", "record"))


def test_an_interface_that_could_is_named_with_the_command() -> None:
    host = DEBIAN12.but(interfaces={"lo": FIXED_OFF, "eth 0": [[0b0010, 0, 0, 0]]})
    check = finding(host.judged(), "linux.nic")
    assert (check.status, check.evidence["eth 0"]) == (
        Status.OK,
        ("tls-hw-tx-offload: off", "tls-hw-rx-offload: off [fixed]", "tls-hw-record: off [fixed]"),
    )
    assert commands(check) == ["ethtool -K 'eth 0' tls-hw-tx-offload on"]


def test_an_interface_that_does_needs_no_command() -> None:
    check = finding(DEBIAN12.but(interfaces={"eth0": [[0b0010, 0b0010, 0b0010, 0]]}).judged(), "linux.nic")
    assert (check.status, commands(check)) == (Status.OK, [])


# --- gathering ------------------------------------------------------------------------------------------------------


class Ordered:
    """A host that keeps the order in which it was asked."""

    def __init__(self, inner: Host) -> None:
        self._inner = inner
        self.asked: list[str] = []

    def __getattr__(self, door: str) -> Any:
        found = getattr(self._inner, door)
        if not callable(found):
            return found

        def ask(*arguments: Any, **named: Any) -> Any:
            self.asked.append(f"{door} {arguments[0]}")
            return found(*arguments, **named)

        return ask


def test_the_counters_are_read_before_the_probe_makes_them_count() -> None:
    host = Ordered(DEBIAN12.capture())
    linux.gather(host, load=False)
    assert host.asked.index("read /proc/net/tls_stat") < host.asked.index("begin ktlsctl.facts.ulp:probe")


def test_what_the_probe_may_change_by_loading_is_read_after_it() -> None:
    host = Ordered(DEBIAN12.capture(load=True))
    linux.gather(host, load=True)
    probe = host.asked.index("begin ktlsctl.facts.ulp:probe")
    for path in ("/proc/net/tls_stat", "/proc/modules", "/sys/module/tls/initstate", "/proc/crypto"):
        assert probe < host.asked.index(f"read {path}")


def test_algorithms_are_looked_up_last_because_they_appear_with_their_use() -> None:
    host = Ordered(DEBIAN12.capture())
    linux.gather(host, load=False)
    assert host.asked[-2:] == ["read /proc/crypto", "read /proc/sys/crypto/fips_enabled"]


@pytest.mark.skipif(sys.platform != "linux", reason="asks this machine")
def test_this_machine_recorded_is_judged_as_this_machine() -> None:
    host = RecordingHost(LiveHost())
    live = linux.judge(linux.gather(host, load=False), host.about)
    replay = CapturedHost.parse(json.dumps(host.document("2026-01-01T00:00:00Z")).encode())
    assert linux.judge(linux.gather(replay, load=False), replay.about) == live


@pytest.mark.skipif(sys.platform != "linux", reason="asks this machine")
def test_this_machine_s_sysctls_can_be_read() -> None:
    """A sysctl answers a read with too large a buffer with ENOMEM."""
    assert LiveHost().read("/proc/sys/kernel/ostype").value == b"Linux\n"
