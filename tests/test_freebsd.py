# SPDX-License-Identifier: BSD-2-Clause
"""freebsd: captured hosts of several releases are judged right, and each parser takes whatever it is given."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ktlsctl import freebsd
from ktlsctl.ciphers import FREEBSD_CIPHERS
from ktlsctl.codec import encode
from ktlsctl.facts import conftxt, ifcaps, kld, ktlsgauges, lighttpd, loaderconf, rcconf, recordproof, tlsenable
from ktlsctl.facts.tlsenable import Answers, Control
from ktlsctl.freebsdabi import Errno, errno_name
from ktlsctl.host import CapturedHost, Host, Ran
from ktlsctl.model import (
    CHAIN_ORDER,
    Attempt,
    Check,
    Direction,
    KernelReport,
    MatrixRow,
    Outcome,
    Status,
    TlsVersion,
)
from ktlsctl.servant import ProbeError
from tests import freebsd_hosts
from tests.freebsd_hosts import F13_2, F14_3, F15_1, HOSTS, MELLANOX, ON, Kernel

CHECK_IDS = (
    "freebsd.jail",
    "freebsd.kernel.option",
    "freebsd.sysctl.enable",
    "freebsd.sysctl.rx_enable",
    "freebsd.sysctl.cbc_enable",
    "freebsd.sysctl.mb_use_ext_pgs",
    "freebsd.module.ktls_ocf",
    "freebsd.crypto.providers",
    "freebsd.kernel.matrix",
    "freebsd.records",
    "freebsd.stats",
    "freebsd.persistence",
    "freebsd.program.lighttpd",
    "freebsd.program.nfs_tls",
    "freebsd.nic",
)


def judged(host: Host, load: bool = False) -> KernelReport:
    return freebsd.judge(freebsd.gather(host, load=load), host.about)


def found(report: KernelReport, identity: str) -> Check:
    return next(check for check in report.checks if check.id == identity)


def of(kernel: Kernel, identity: str) -> Check:
    return found(judged(kernel.host()), identity)


def commands(check: Check) -> list[str | None]:
    return [remedy.command for remedy in check.remedy]


def first_at(report: KernelReport, status: Status) -> str | None:
    """As probe.pronounce finds it: in the order of the chain, then of the checks."""
    chain = sorted(report.checks, key=lambda check: CHAIN_ORDER[check.link])
    return next((check.id for check in chain if check.status is status), None)


# --- the captured hosts ---


@pytest.mark.parametrize("name", HOSTS)
def test_a_capture_is_what_its_builder_writes(name: str) -> None:
    path = freebsd_hosts.path_of(name)
    assert path.read_text() == freebsd_hosts.document(HOSTS[name]), "run: python -m tests.freebsd_hosts"


def test_no_capture_is_left_without_a_builder() -> None:
    assert set(freebsd_hosts.CAPTURES.glob("freebsd-*.json")) == {freebsd_hosts.path_of(name) for name in HOSTS}


@pytest.mark.parametrize(
    ("name", "critical", "warning"),
    [
        ("13.0", "freebsd.module.ktls_ocf", None),
        ("13.2", "freebsd.module.ktls_ocf", None),
        ("13.2-ktls_ocf", None, None),
        ("14.3", "freebsd.sysctl.enable", None),
        ("14.3-on", None, None),
        ("14.3-custom-kernel", "freebsd.kernel.option", None),
        ("14.3-i386", "freebsd.kernel.option", None),
        ("14.3-no-ext-pgs", None, "freebsd.sysctl.mb_use_ext_pgs"),
        ("15.0", None, None),
        ("15.0-jail", None, None),
        ("15.1-lighttpd", None, "freebsd.program.lighttpd"),
        ("15.1-lighttpd-without", None, None),
        ("15.1-damaged-sendfile", "freebsd.records", None),
        ("15.1-unpatched", None, None),
        ("14.3-nfs", "freebsd.sysctl.enable", "freebsd.program.nfs_tls"),
        ("15.0-arm64-nic", None, None),
        ("15.1-p4", None, None),
        ("15.1-p4-no-rx", None, "freebsd.sysctl.rx_enable"),
    ],
)
def test_the_first_broken_link_of_each_host_is_named(name: str, critical: str | None, warning: str | None) -> None:
    host = CapturedHost.parse(freebsd_hosts.path_of(name).read_bytes())
    report = judged(host)
    assert (first_at(report, Status.CRITICAL), first_at(report, Status.WARNING)) == (critical, warning)
    assert tuple(check.id for check in report.checks) == CHECK_IDS
    assert not [check.id for check in report.checks if check.status is Status.UNKNOWN]


@pytest.mark.parametrize("name", HOSTS)
def test_a_broken_or_weak_link_comes_with_a_next_step_and_a_short_summary(name: str) -> None:
    for check in judged(HOSTS[name].host()).checks:
        assert len(check.summary) <= 90, check.id
        # The matrix sums up: the setting or module that shuts it carries the remedy.
        if check.status in (Status.CRITICAL, Status.WARNING) and check.id != "freebsd.kernel.matrix":
            assert check.remedy, check.id


def test_14_3_is_turned_on_now_and_at_every_boot() -> None:
    check = of(F14_3, "freebsd.sysctl.enable")
    assert commands(check) == ["sysctl kern.ipc.tls.enable=1", "echo 'kern.ipc.tls.enable=1' >> /etc/sysctl.conf"]
    assert "FreeBSD 14 is 0" in check.reason
    assert "1.1.1" in check.reason, "who else will use it once it is on"


def test_a_boot_file_that_turns_it_off_is_changed_where_it_stands() -> None:
    kernel = replace(F14_3, files={"/etc/sysctl.conf.local": "kern.ipc.tls.enable=0\n"})
    command = commands(of(kernel, "freebsd.sysctl.enable"))[1]
    assert command is not None
    assert command.startswith("sed -i '' ")
    assert command.endswith(" /etc/sysctl.conf.local")


def test_a_boot_file_that_turned_it_on_is_not_asked_for_again() -> None:
    check = of(replace(F14_3, files=ON), "freebsd.sysctl.enable")
    assert commands(check) == ["sysctl kern.ipc.tls.enable=1"]
    assert "something turned it off after boot" in check.reason


def test_13_x_without_its_module_is_mended_by_loading_it_now_and_at_boot() -> None:
    check = of(F13_2, "freebsd.module.ktls_ocf")
    assert commands(check) == ["kldload ktls_ocf", 'sysrc kld_list+=" ktls_ocf"']
    assert 'ktls_ocf_load="YES"' in check.remedy[1].text
    assert "EOPNOTSUPP" in check.reason


def test_with_the_gate_shut_the_missing_module_is_the_second_broken_link() -> None:
    report = judged(replace(F13_2, enable=False).host())
    assert first_at(report, Status.CRITICAL) == "freebsd.sysctl.enable"
    assert found(report, "freebsd.module.ktls_ocf").status is Status.CRITICAL


def test_a_module_that_did_not_register_is_not_asked_to_be_loaded_again() -> None:
    host = F13_2.host(kldstat=Attempt.ran(["kernel", "ktls_ocf.ko"]))
    check = found(judged(host), "freebsd.module.ktls_ocf")
    assert check.status is Status.CRITICAL
    assert "kldload ktls_ocf" not in commands(check)


def test_a_kernel_that_takes_sessions_needs_no_module_whatever_its_release() -> None:
    working = replace(F13_2, module_loaded=True)
    host = F13_2.host(probe=Attempt.ran(encode(working.answers())))
    assert found(judged(host), "freebsd.module.ktls_ocf").status is Status.OK


def test_both_directions_shut_is_a_broken_chain() -> None:
    report = judged(replace(F15_1, rx_enable=False, ext_pgs=False).host())
    assert first_at(report, Status.CRITICAL) == "freebsd.sysctl.rx_enable"
    assert found(report, "freebsd.sysctl.mb_use_ext_pgs").status is Status.CRITICAL


def test_no_cbc_is_a_choice_and_not_a_fault() -> None:
    report = judged(replace(F15_1, cbc_enable=False).host())
    assert found(report, "freebsd.sysctl.cbc_enable").status is Status.OK
    refused = [row for row in report.rows if row.kernel is not None and row.kernel.status is Status.SKIP]
    assert {row.cipher for row in refused} == {c.name for c in FREEBSD_CIPHERS if c.auth_algorithm}
    assert {row.kernel.reason for row in refused if row.kernel} == {"kern.ipc.tls.cbc_enable is 0"}


def test_rx_enable_tells_a_fixed_kernel_and_its_absence_is_only_a_hint() -> None:
    assert "FreeBSD-SA-26:67.ktls" in judged(F15_1.host()).refuted
    older = judged(HOSTS["15.0"].host())
    check = found(older, "freebsd.sysctl.rx_enable")
    assert "FreeBSD-SA-26:67.ktls" not in older.refuted
    assert check.status is Status.OK
    assert commands(check) == ["freebsd-update fetch install"]


def test_13_x_has_no_rx_enable_to_miss() -> None:
    assert of(F13_2, "freebsd.sysctl.rx_enable").remedy == ()


def test_four_byte_and_one_byte_settings_read_alike() -> None:
    answer = F15_1.sysctl_answer().replace("kern.ipc.mb_use_ext_pgs=1", "kern.ipc.mb_use_ext_pgs=16777216")
    host = F15_1.host(sysctl=Attempt.ran(encode(Ran(0, answer, ""))))
    assert found(judged(host), "freebsd.sysctl.mb_use_ext_pgs").status is Status.OK


# --- the kernel's column ---


def cells(report: KernelReport, status: Status) -> set[tuple[str, str, str]]:
    return {
        (r.version, r.cipher, r.direction) for r in report.rows if r.kernel is not None and r.kernel.status is status
    }


AEAD = ("AES-128-GCM", "AES-256-GCM", "CHACHA20-POLY1305")
CBC = ("AES-128-CBC-SHA1", "AES-256-CBC-SHA1", "AES-128-CBC-SHA256", "AES-256-CBC-SHA384")


def test_13_2_takes_every_cipher_to_send_and_aead_of_tls_1_2_to_receive() -> None:
    taken = cells(judged(HOSTS["13.2-ktls_ocf"].host()), Status.OK)
    both = {(v, c, "tx") for v in ("TLSv1.2", "TLSv1.3") for c in AEAD}
    assert taken == both | {("TLSv1.2", c, "tx") for c in CBC} | {("TLSv1.2", c, "rx") for c in AEAD}


def test_13_0_has_no_chacha20() -> None:
    taken = cells(judged(replace(HOSTS["13.0"], module_loaded=True).host()), Status.OK)
    assert taken
    assert not [cell for cell in taken if cell[1] == "CHACHA20-POLY1305"]


@pytest.mark.parametrize("name", ["14.3-on", "15.0", "15.1-p4"])
def test_14_and_later_take_everything_in_both_directions(name: str) -> None:
    report = judged(HOSTS[name].host())
    assert cells(report, Status.OK) == {
        (v, c, d) for d in ("tx", "rx") for v, names in (("TLSv1.2", AEAD + CBC), ("TLSv1.3", AEAD)) for c in names
    }


def row(report: KernelReport, version: TlsVersion, cipher: str, direction: Direction) -> MatrixRow:
    return next(r for r in report.rows if (r.version, r.cipher, r.direction) == (version, cipher, direction))


@pytest.mark.parametrize(
    ("kernel", "direction", "name", "word"),
    [
        (F14_3, Direction.TX, "EOPNOTSUPP", "kern.ipc.tls.enable is 0"),
        (replace(F15_1, rx_enable=False), Direction.RX, "EOPNOTSUPP", "kern.ipc.tls.rx_enable is 0"),
        (replace(F15_1, ext_pgs=False), Direction.TX, "ENXIO", "kern.ipc.mb_use_ext_pgs is 0"),
        (F13_2, Direction.TX, "EOPNOTSUPP", "ktls_ocf.ko is not loaded"),
        (replace(F13_2, module_loaded=True), Direction.RX, "EOPNOTSUPP", "TLS 1.3"),
        (replace(F14_3, kern_tls=False), Direction.RX, "ENOPROTOOPT", "without KERN_TLS"),
    ],
)
def test_one_errno_is_explained_by_what_else_the_host_said(
    kernel: Kernel, direction: Direction, name: str, word: str
) -> None:
    cell = row(judged(kernel.host()), TlsVersion.TLS13, "AES-128-GCM", direction).kernel
    assert cell is not None
    assert (cell.status, cell.errno) == (Status.SKIP, name)
    assert word in cell.reason


def with_answers(kernel: Kernel, change: Callable[[Answers], Answers]) -> CapturedHost:
    return kernel.host(probe=Attempt.ran(encode(change(kernel.answers()))))


@pytest.mark.parametrize("number", [0, Errno.EOPNOTSUPP, Errno.ENOMEM])
def test_a_kernel_that_does_not_refuse_a_bogus_cipher_for_its_cipher_proves_nothing(number: int) -> None:
    host = with_answers(F15_1, lambda a: replace(a, controls=tuple(Control(d, number) for d in Direction)))
    report = judged(host)
    assert found(report, "freebsd.kernel.matrix").status is Status.UNKNOWN
    assert cells(report, Status.UNKNOWN) == {(r.version, r.cipher, r.direction) for r in report.rows}


def test_a_probe_without_negative_control_proves_nothing() -> None:
    report = judged(with_answers(F15_1, lambda a: replace(a, controls=())))
    assert not cells(report, Status.OK)


def test_a_gate_that_is_checked_before_the_cipher_does_not_spoil_the_control() -> None:
    assert {c.errno for c in F14_3.answers().controls} == {Errno.EOPNOTSUPP}
    assert found(judged(F14_3.host()), "freebsd.kernel.matrix").status is Status.CRITICAL


def test_keys_taken_without_a_session_are_not_a_yes() -> None:
    host = with_answers(F15_1, lambda a: replace(a, tries=tuple(replace(t, mode=0) for t in a.tries)))
    report = judged(host)
    assert not cells(report, Status.OK)


def test_the_modes_that_the_kernel_reports_are_evidence() -> None:
    host = with_answers(F15_1, lambda a: replace(a, tries=tuple(replace(t, mode=2) for t in a.tries)))
    assert found(judged(host), "freebsd.kernel.matrix").evidence["modes"] == ("NIC",)


@pytest.mark.parametrize(
    "answer",
    [
        Attempt(Outcome.TIMEOUT, reason="no answer within 5 s"),
        Attempt(Outcome.FAILED, reason="the probing process died of SIGSYS"),
        Attempt.ran({"tries": 5}),
        Attempt.ran(None),
    ],
)
def test_a_probe_that_failed_is_unknown_and_the_sysctls_are_still_judged(answer: Attempt[Any]) -> None:
    report = judged(F14_3.host(probe=answer))
    matrix = found(report, "freebsd.kernel.matrix")
    assert matrix.status is Status.UNKNOWN
    assert matrix.reason
    assert first_at(report, Status.CRITICAL) == "freebsd.sysctl.enable"
    assert report.rows == ()


def test_without_sysctl_the_socket_still_proves_the_kernel() -> None:
    report = judged(F15_1.host(sysctl=Attempt(Outcome.DENIED, reason="Operation not permitted")))
    assert found(report, "freebsd.kernel.option").status is Status.OK
    enable = found(report, "freebsd.sysctl.enable")
    assert (enable.status, enable.reason) == (Status.UNKNOWN, "Operation not permitted")
    assert len(cells(report, Status.OK)) == 20


def test_with_neither_sysctl_nor_socket_nothing_is_called_missing() -> None:
    nothing: Attempt[Any] = Attempt(Outcome.TIMEOUT, reason="gave no answer")
    report = judged(F15_1.host(sysctl=nothing, probe=nothing, kldstat=nothing, sh=nothing))
    assert not {check.status for check in report.checks} & {Status.CRITICAL, Status.WARNING}
    assert found(report, "freebsd.kernel.option").status is Status.UNKNOWN
    assert found(report, "freebsd.nic").status is Status.UNKNOWN


@given(st.recursive(st.none() | st.integers() | st.text(), lambda s: st.lists(s) | st.dictionaries(st.text(), s)))
def test_any_answer_of_a_probe_is_judged(value: Any) -> None:
    judged(F15_1.host(probe=Attempt.ran(value)))


SYSCTL_NAMES = st.sampled_from(sorted(F15_1.sysctls()))
SYSCTL_LINES = st.tuples(SYSCTL_NAMES, st.text(alphabet="01-9x= ,", max_size=30)).map("=".join)


@given(st.text() | st.text(alphabet=" \n\r\t\x0b\x0c\x1c\x85\u2028") | st.lists(SYSCTL_LINES).map("\n".join))
@example(" ")
def test_any_output_of_the_system_commands_is_judged(text: str) -> None:
    ran: Attempt[Any] = Attempt.ran(encode(Ran(0, text, text)))
    judged(F15_1.host(sysctl=ran, sh=ran))
    working: Attempt[Any] = Attempt.ran(encode(Ran(0, f"kern.osreldate=1500097\n{text}", "")))
    judged(F15_1.host(sysctl=working))


@given(st.integers(0, 200), st.sampled_from(list(Direction)))
def test_every_errno_has_a_reason(number: int, direction: Direction) -> None:
    host = with_answers(
        F15_1, lambda a: replace(a, tries=tuple(replace(t, errno=number or 1, mode=None) for t in a.tries))
    )
    for each in judged(host).rows:
        assert each.kernel is not None
        assert each.kernel.reason
        assert each.kernel.errno


# --- records ---


def with_proof(kernel: Kernel, **changes: Any) -> Check:
    answer = Attempt.ran(encode(replace(kernel.proof(), **changes)))
    return found(judged(kernel.host(proof=answer)), "freebsd.records")


def test_records_that_come_through_unchanged_prove_the_bytes() -> None:
    check = of(F15_1, "freebsd.records")
    assert (check.status, check.evidence["encrypted on the wire"]) == (Status.OK, True)
    assert check.evidence["enable_calls, offload_total"] == "+3, +3"
    assert cast(int, check.evidence["sendfile stopped"]) > 1, "a file that fits into the socket proves little"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"encrypted": False}, "plaintext"),
        ({"stream_equal": False}, "not those that were sent"),
        ({"largest": 16385}, "16385 bytes"),
        ({"control_kind": 23}, "arrived as type 23"),
        ({"file_equal": False}, "sendfile arrived damaged"),
        ({"counted": (3, 0)}, "counted fewer"),
        ({"failure": "receiving failed: EBADMSG"}, "EBADMSG"),
    ],
)
def test_wrong_records_are_a_broken_link_that_says_what_to_do(changes: dict[str, Any], words: str) -> None:
    check = with_proof(F15_1, **changes)
    assert check.status is Status.CRITICAL
    assert words in f"{check.summary} {check.reason}"
    assert commands(check) == ["sysctl kern.ipc.tls.enable=0"]


def test_records_that_were_late_prove_nothing_against_the_kernel() -> None:
    assert with_proof(F15_1, failure="the records did not arrive in time", late=True).status is Status.UNKNOWN


def test_a_kernel_that_refuses_sendfile_over_loopback_is_not_called_broken() -> None:
    failed = {"failure": "receiving failed: EBADMSG", "errno": int(Errno.EBADMSG)}
    assert with_proof(F15_1, failed_at=recordproof.Step.FILE, **failed).status is Status.UNKNOWN
    assert with_proof(F15_1, failed_at=recordproof.Step.STREAM, **failed).status is Status.CRITICAL


def test_without_a_session_there_are_no_records_to_judge() -> None:
    check = of(F14_3, "freebsd.records")
    assert check.status is Status.SKIP
    assert "EOPNOTSUPP" in check.reason


def test_uncounted_sessions_are_no_fault() -> None:
    assert with_proof(F15_1, counted=None).status is Status.OK


# --- programs ---


def test_lighttpd_with_the_gate_open_is_warned_of_and_told_apart_from_the_rest() -> None:
    check = of(HOSTS["15.1-lighttpd"], "freebsd.program.lighttpd")
    assert commands(check) == ["service lighttpd restart", "sysctl kern.ipc.tls.enable=0"]
    assert "errno:35" in check.reason


@pytest.mark.parametrize(
    "kernel",
    [
        replace(F15_1, lighttpd="1.4.67"),
        replace(F14_3, lighttpd="1.4.85"),
        replace(F15_1, lighttpd="1.4.85", ext_pgs=False),
        replace(HOSTS["15.1-lighttpd"], files={
            "/var/etc/lighty-webConfigurator.conf": 'ssl.openssl.ssl-conf-cmd = ("Options" => "-SessionTicket,-KTLS")\n'
        }),
    ],
)  # fmt: skip
def test_a_lighttpd_that_cannot_be_hurt_is_left_alone(kernel: Kernel) -> None:
    assert of(kernel, "freebsd.program.lighttpd").status is Status.OK


@pytest.mark.parametrize(
    "line",
    ['# ssl.openssl.ssl-conf-cmd += ("Options" => "-KTLS")', 'ssl.openssl.ssl-conf-cmd += ("Options" => "KTLS")'],
)
def test_a_line_that_does_not_keep_kernel_tls_out_is_not_taken_for_one(line: str) -> None:
    kernel = replace(HOSTS["15.1-lighttpd"], files={f"{lighttpd.DIRECTORY}/lighttpd.conf": f"{line}\n"})
    assert of(kernel, "freebsd.program.lighttpd").status is Status.WARNING


def test_an_unreadable_configuration_of_lighttpd_is_unknown() -> None:
    said = HOSTS["15.1-lighttpd"].said()
    said["read", f"{lighttpd.DIRECTORY}/lighttpd.conf"] = Attempt(Outcome.DENIED, reason="Permission denied")
    check = found(judged(CapturedHost(F15_1.about, said, Outcome.ABSENT)), "freebsd.program.lighttpd")
    assert (check.status, check.remedy != ()) == (Status.UNKNOWN, True)


def test_only_what_concerns_kernel_tls_is_kept_of_lighttpds_configuration() -> None:
    text = b'ssl.privkey = "/secret/key.pem"\nserver.name = "www"\nssl.openssl.ssl-conf-cmd += ("Options" => "-KTLS")\n'
    kept = lighttpd._keep(text)
    assert kept == b'ssl.openssl.ssl-conf-cmd += ("Options" => "-KTLS")\n'
    assert lighttpd.keeps_out(kept)


@pytest.mark.parametrize(
    ("kernel", "status", "words"),
    [
        (HOSTS["14.3-nfs"], Status.WARNING, "enable is off"),
        (replace(HOSTS["14.3-nfs"], enable=True, ext_pgs=False), Status.WARNING, "mb_use_ext_pgs is off"),
        (replace(HOSTS["14.3-nfs"], kern_tls=False), Status.WARNING, "enable is missing"),
        (replace(HOSTS["14.3-nfs"], enable=True), Status.OK, "rpc.tlsservd"),
        (F14_3, Status.SKIP, "not switched on"),
    ],
)
def test_nfs_over_tls_is_told_what_it_lacks(kernel: Kernel, status: Status, words: str) -> None:
    check = of(kernel, "freebsd.program.nfs_tls")
    assert check.status is status
    assert words in check.summary


def test_nfs_over_tls_on_13_is_told_of_tls_1_2() -> None:
    kernel = replace(HOSTS["13.2-ktls_ocf"], files={**ON, "/etc/rc.conf": "tlsclntd_enable=yes\n"})
    assert "option -2" in of(kernel, "freebsd.program.nfs_tls").reason


# --- what only an upgrade or a reboot mends ---


def test_13_x_is_told_how_tls_1_3_is_received() -> None:
    assert "FreeBSD 14" in of(HOSTS["13.2-ktls_ocf"], "freebsd.kernel.matrix").remedy[0].text


def test_threads_that_did_not_start_are_mended_by_a_reboot() -> None:
    assert commands(of(replace(F15_1, threads_start=False), "freebsd.kernel.matrix")) == ["shutdown -r now"]


def test_aes_gcm_of_the_ossl_driver_concerns_only_a_host_that_has_the_driver() -> None:
    assert "FreeBSD-EN-23:17.ossl" in judged(F14_3.host()).refuted
    assert "FreeBSD-EN-23:17.ossl" not in judged(replace(F14_3, devices=("aesni", "ossl")).host()).refuted


# --- kernel option, jail, crypto, counters ---


def test_a_kernel_without_the_option_shows_its_configuration_as_evidence() -> None:
    check = of(HOSTS["14.3-custom-kernel"], "freebsd.kernel.option")
    assert check.evidence["kern.conftxt names KERN_TLS"] is False
    assert check.evidence["TCP_TXTLS_MODE"] == "ENOPROTOOPT"
    assert commands(check) == ["make -C /usr/src kernel KERNCONF=GENERIC"]


def test_a_kernel_that_carries_no_configuration_is_still_judged() -> None:
    check = of(replace(HOSTS["14.3-custom-kernel"], conftxt=False), "freebsd.kernel.option")
    assert check.status is Status.CRITICAL
    assert "kern.conftxt names KERN_TLS" not in check.evidence


def test_the_configuration_is_asked_only_when_the_node_is_missing() -> None:
    assert freebsd.gather(F15_1.host(), load=False).kernel_config is None


@pytest.mark.parametrize("machine", ["i386", "armv7", "powerpc"])
def test_no_kernel_is_built_for_an_architecture_that_cannot_have_it(machine: str) -> None:
    check = of(replace(HOSTS["14.3-i386"], machine=machine), "freebsd.kernel.option")
    assert machine in check.summary
    assert commands(check) == [None]


def test_in_a_jail_every_remedy_points_at_its_host() -> None:
    report = judged(replace(F14_3, jailed=True).host())
    remedies = [remedy.text for check in report.checks for remedy in check.remedy]
    assert remedies
    assert all(text.startswith("on the jail's host: ") for text in remedies)
    assert found(report, "freebsd.persistence").status is Status.SKIP


def test_a_jails_own_boot_files_are_not_taken_for_the_kernels() -> None:
    check = of(replace(F14_3, jailed=True, files=ON), "freebsd.sysctl.enable")
    assert "turned it off after boot" not in check.reason


def test_software_crypto_alone_is_enough_and_slow() -> None:
    check = of(replace(F15_1, devices=("cryptosoft",)), "freebsd.crypto.providers")
    assert check.status is Status.OK
    assert commands(check) == ["kldload aesni"]


def test_invisible_crypto_is_no_fault_where_the_kernel_encrypts_and_unknown_where_not() -> None:
    assert of(replace(F15_1, devices=()), "freebsd.crypto.providers").status is Status.OK
    assert of(replace(F14_3, devices=()), "freebsd.crypto.providers").status is Status.UNKNOWN


@pytest.mark.parametrize("leaf", [name.removeprefix("kern.ipc.tls.") for name in ktlsgauges.TROUBLE])
def test_an_error_counter_that_moved_is_a_warning_that_names_it(leaf: str) -> None:
    check = of(replace(F15_1, counters={leaf: 7}), "freebsd.stats")
    assert check.status is Status.WARNING
    assert f"{leaf} 7" in check.reason
    assert commands(check) == [f"sysctl kern.ipc.tls.{leaf}"]


def test_every_number_of_the_node_is_reported_by_its_full_name_and_no_setting() -> None:
    kernel = replace(F15_1, counters={"domain0.reclaims": 4, "stats.some_day": 5, "stats.active": 2})
    counters = judged(kernel.host()).counters
    assert counters["kern.ipc.tls.domain0.reclaims"] == 4
    assert counters["kern.ipc.tls.stats.some_day"] == 5
    assert counters["kern.ipc.tls.stats.ocf.tls13_gcm_encrypts"] == 0
    assert not [name for name in counters if ktlsgauges.kind(name) is ktlsgauges.Kind.SETTING]
    assert "kern.ipc.tls.enable" not in counters


@pytest.mark.parametrize(
    ("leaf", "kind"),
    [
        ("enable", "setting"),
        ("maxlen", "setting"),
        ("sw.gcm", "gauge"),
        ("toe.chacha20", "gauge"),
        ("tasks_active", "gauge"),
        ("domain1.running", "gauge"),
        ("stats.active", "gauge"),
        ("stats.threads", "gauge"),
        ("stats.enable_calls", "counter"),
        ("stats.ocf.retries", "counter"),
        ("ifnet.reset_dropped", "counter"),
        ("domain1.wakeups", "counter"),
    ],
)
def test_gauges_fall_and_counters_do_not(leaf: str, kind: str) -> None:
    assert ktlsgauges.kind(f"kern.ipc.tls.{leaf}") == kind


# --- boot files ---


def test_off_at_the_next_boot_is_said_today() -> None:
    kernel = replace(F14_3, enable=True, files={"/etc/sysctl.conf": "kern.ipc.tls.enable=0\n"})
    check = of(kernel, "freebsd.persistence")
    assert check.status is Status.WARNING
    assert "/etc/sysctl.conf sets kern.ipc.tls.enable=0" in check.reason
    assert check.remedy


def test_sysctl_conf_is_applied_after_the_loader() -> None:
    kernel = replace(F14_3, enable=True, files={**ON, "/boot/loader.conf": 'kern.ipc.tls.enable="0"\n'})
    assert of(kernel, "freebsd.persistence").status is Status.OK


KEEP = ["echo 'kern.ipc.tls.enable=1' >> /etc/sysctl.conf"]


@pytest.mark.parametrize(
    ("release", "status", "said", "advice"),
    [
        ("13.5-RELEASE", Status.WARNING, "FreeBSD 13 is 0", KEEP),
        ("14.3-RELEASE", Status.WARNING, "FreeBSD 14 is 0", KEEP),
        ("15.0-RELEASE", Status.OK, "FreeBSD 15 is 1", []),
        ("main", Status.UNKNOWN, "0 on FreeBSD 13 and 14", KEEP),
    ],
)
def test_left_to_the_default_it_is_lost_where_that_is_off(
    release: str, status: Status, said: str, advice: list[str]
) -> None:
    check = of(replace(F14_3, enable=True, release=release), "freebsd.persistence")
    assert check.status is status
    assert commands(check) == advice
    assert said in check.reason


def test_a_boot_file_that_may_not_be_read_may_keep_it_on() -> None:
    said = replace(F14_3, enable=True).said()
    said["read", "/etc/sysctl.conf"] = Attempt(Outcome.DENIED, reason="Permission denied")
    check = found(judged(CapturedHost(F14_3.about, said, Outcome.ABSENT)), "freebsd.persistence")
    assert check.status is Status.UNKNOWN


def test_13_0_does_not_take_enable_from_the_loader_and_13_1_does() -> None:
    files = {"/boot/loader.conf": 'ktls_ocf_load="YES"\nkern.ipc.tls.enable=1\n'}
    old = of(Kernel((13, 0), enable=True, module_loaded=True, files=files), "freebsd.persistence")
    new = of(Kernel((13, 1), enable=True, module_loaded=True, files=files), "freebsd.persistence")
    assert (old.status, new.status) == (Status.WARNING, Status.OK)
    assert "13.0" in old.reason
    assert commands(old) == ["echo 'kern.ipc.tls.enable=1' >> /etc/sysctl.conf"]


@pytest.mark.parametrize(
    "files",
    [
        {"/boot/loader.conf": 'ktls_ocf_load="YES" # kTLS\n'},
        {"/boot/loader.conf.d/ktls.conf": 'ktls_ocf_load="yes"\n'},
        {"/boot/loader.conf.local": 'ktls_ocf_load="YES"\n'},
        {"/etc/rc.conf": 'kld_list="fusefs ktls_ocf"\n'},
        {"/etc/rc.conf": "kld_list='fusefs'\nkld_list=\"${kld_list} \\\n  ktls_ocf.ko\"\n"},
        {"/etc/rc.conf": 'kld_list="fusefs"\n', "/etc/rc.conf.local": 'kld_list="$kld_list ktls_ocf"\n'},
        {"/etc/rc.conf.d/kld": "kld_list=ktls_ocf\n"},
    ],
)
def test_a_module_that_any_boot_file_loads_is_not_loaded_by_hand(files: dict[str, str]) -> None:
    kernel = replace(F13_2, module_loaded=True, files={**ON, **files})
    assert of(kernel, "freebsd.persistence").status is Status.OK


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"/boot/loader.conf": '#ktls_ocf_load="YES"\n'},
        {"/boot/loader.conf": 'ktls_ocf_load="YES"\n', "/boot/loader.conf.local": 'ktls_ocf_load="NO"\n'},
        {"/boot/loader.conf.d/ktls.conf.off": 'ktls_ocf_load="YES"\n'},
        {"/etc/rc.conf": 'kld_list="ktls_ocf"\nkld_list="fusefs"\n'},
        {"/etc/rc.conf": "# kld_list=ktls_ocf\n"},
    ],
)
def test_a_module_loaded_by_hand_is_lost_at_the_next_boot(files: dict[str, str]) -> None:
    check = of(replace(F13_2, module_loaded=True, files={**ON, **files}), "freebsd.persistence")
    assert check.status is Status.WARNING
    assert commands(check) == ['sysrc kld_list+=" ktls_ocf"']


@pytest.mark.parametrize(
    ("kernel", "line", "ignored"),
    [
        (F14_3, "kern.ipc.tls.bind_threads=1", True),
        (F14_3, "kern.ipc.tls.sw_buffer_cache=0", True),
        (F14_3, "kern.ipc.tls.maxlen=8192", True),
        (F13_2, "kern.ipc.tls.maxlen=8192", False),
        (F13_2, "kern.ipc.tls.allow_unload=1", True),
        (F14_3, "kern.ipc.tls.max_reclaim=512", False),
    ],
)
def test_a_loader_tunable_in_sysctl_conf_is_said_to_do_nothing(kernel: Kernel, line: str, ignored: bool) -> None:
    check = of(replace(kernel, files={"/etc/sysctl.conf": f"{line}\n"}), "freebsd.persistence")
    assert ("the line does nothing" in check.reason) is ignored
    assert (f"sysrc -f /boot/loader.conf {line}" in commands(check)) is ignored


@pytest.mark.parametrize(
    ("files", "command"),
    [
        ({"/boot/loader.conf": 'ktls_ocf_load="YES"\n'}, "sysrc -f /boot/loader.conf -x ktls_ocf_load"),
        ({"/etc/rc.conf": 'kld_list="ktls_ocf"\n'}, 'sysrc -f /etc/rc.conf kld_list-=" ktls_ocf"'),
        ({"/boot/loader.conf": 'tls_load="YES"\n'}, "sysrc -f /boot/loader.conf -x tls_load"),
        ({"/etc/rc.conf": 'kld_list="tls"\n'}, 'sysrc -f /etc/rc.conf kld_list-=" tls"'),
    ],
)
def test_a_line_that_loads_what_14_does_not_have_is_stale(files: dict[str, str], command: str) -> None:
    check = of(replace(HOSTS["14.3-on"], files={**ON, **files}), "freebsd.persistence")
    assert check.status is Status.OK, "harmless"
    assert command in commands(check)


@pytest.mark.parametrize(
    ("door", "path"),
    [
        ("read", "/boot/loader.conf"),
        ("names", "/boot/loader.conf.d"),
        ("read", "/etc/rc.conf"),
        ("read", "/etc/sysctl.conf"),
    ],
)
def test_an_unreadable_boot_file_is_unknown_and_not_missing(door: str, path: str) -> None:
    said = HOSTS["14.3-on"].said()
    said[door, path] = Attempt(Outcome.DENIED, reason="Permission denied")
    check = found(judged(CapturedHost(F14_3.about, said, Outcome.ABSENT)), "freebsd.persistence")
    assert check.status is Status.UNKNOWN
    assert f"{path}: Permission denied" in check.reason


# --- NIC ---


@pytest.mark.parametrize(
    ("enabled", "words", "off"),
    [
        ("", "txtls rxtls", "TXTLS4, TXTLS6, RXTLS4, RXTLS6 off"),
        (",TXTLS4,TXTLS6", "rxtls", "RXTLS4, RXTLS6 off"),
        (",TXTLS4,TXTLS6,RXTLS4,RXTLS6", None, None),
    ],
)
def test_a_nic_that_can_is_told_from_one_that_does(enabled: str, words: str | None, off: str | None) -> None:
    text = MELLANOX.replace("TXRTLMT,MEXTPG>\n\tcap", f"TXRTLMT,MEXTPG{enabled}>\n\tcap")
    check = of(replace(F15_1, interfaces=text), "freebsd.nic")
    assert check.status is Status.OK
    assert commands(check) == ([f"ifconfig mce0 {words}"] if words else [])
    assert (off or "") in check.reason
    assert "ifnet.permitted is 0" in check.reason


def test_tx_offload_without_unmapped_mbufs_is_noted() -> None:
    text = MELLANOX.replace("5020003<RXCSUM,TXCSUM,NV,TXRTLMT,MEXTPG>", "3<RXCSUM,TXTLS4,TXTLS6,RXTLS4,RXTLS6>")
    check = of(replace(F15_1, interfaces=text), "freebsd.nic")
    assert commands(check) == ["ifconfig mce0 mextpg"]


def test_a_capability_that_ifconfig_has_no_name_for_is_read_from_the_mask() -> None:
    text = "mce0: flags=8843<UP> metric 0\n\toptions=4000001<RXCSUM>\n\tcapabilities=318000001<RXCSUM,TXTLS4>\n"
    (interface,) = ifcaps.parse(text)
    assert interface.enabled == ("RXCSUM", "MEXTPG")
    assert interface.tls == ("TXTLS4", "TXTLS6", "RXTLS4", "RXTLS6")


def test_options_of_ipv6_are_not_the_interfaces() -> None:
    text = "em0: flags=8843<UP> metric 0\n\toptions=1<RXCSUM>\n\tnd6 options=29<TXTLS4>\n"
    assert ifcaps.parse(text) == (ifcaps.Interface("em0", (), ("RXCSUM",)),)


def test_addresses_do_not_pass_the_pipe() -> None:
    text = (
        "em0: flags=8843<UP> metric 0 mtu 1500\n\tdescription: uplink\n\toptions=1<RXCSUM>\n\tether 02:00:00:00:00:01\n"
    )
    text += "\tinet 192.0.2.1 netmask 0xffffff00\n\tnd6 options=29<AUTO_LINKLOCAL>\n\tcapabilities=1<RXCSUM>\n"
    kept = piped(ifcaps._COMMAND, text)
    assert "192.0.2.1" not in kept
    assert "uplink" not in kept
    assert "02:00" not in kept
    assert ifcaps.parse(kept) == ifcaps.parse(text) != ()


def test_only_the_one_option_of_a_kernel_configuration_passes_the_pipe() -> None:
    text = "options\tCONFIG_AUTOGENERATED\nident\tSECRET\noptions\tKERN_TLS_NOT\noptions\tKERN_TLS\n"
    assert piped(conftxt._COMMAND, text) == "options\tKERN_TLS\n"


def piped(command: str, text: str) -> str:
    """What the rest of a pipeline makes of this text."""
    done = subprocess.run(
        ["sh", "-c", command.partition("| ")[2]], input=text, capture_output=True, text=True, check=True
    )
    return done.stdout


# --- parsers ---


@given(st.text())
def test_any_text_is_taken_by_the_parsers_of_commands(text: str) -> None:
    ifcaps.parse(text)
    conftxt.parse(text)
    lighttpd.parse_version(text)


@given(st.binary())
def test_any_bytes_are_taken_by_the_parsers_of_files(content: bytes) -> None:
    loaderconf.parse(content)
    rcconf.parse(content)
    assert lighttpd.keeps_out(lighttpd._keep(content)) == lighttpd.keeps_out(content)


SHELL = st.text(alphabet="kld_list=a b\"'\\$#{};\n", max_size=40)


@given(SHELL)
def test_what_is_kept_of_rc_conf_means_what_the_file_meant(text: str) -> None:
    def lists(content: bytes) -> list[str]:
        # Variables of other names do not pass the filter; kld_list is built upon itself only.
        return [a.raw for a in rcconf.parse(content) if a.setting.name == "kld_list"]

    content = ("x=1\n" + text).encode()
    assert lists(rcconf._keep(content)) == lists(content)


@pytest.mark.parametrize(
    "text",
    [
        "kld_list=fusefs",
        'kld_list="a b"',
        "kld_list='a  b'\n",
        'kld_list="a \\\n b"',
        "kld_list=a\\ b",
        "kld_list=a\"b c\"'d e'f",
        'kld_list="a" # "b"',
        "kld_list=a#b",
        'kld_list="a"; kld_list="${kld_list} b"',
        'kld_list="a"\nkld_list="$kld_list b"\n',
        "kld_list='a'\nkld_list=\"x${kld_list}y\"",
        'kld_list="\\$kld_list \\"q\\" \\n"',
        'kld_list=""',
        "# kld_list=no\nkld_list=yes",
        'other="kld_list=no"\nkld_list=yes',
        'kld_list="unset:$nothing:"',
        "kld_list='$kld_list'",
        'if true; then\n  kld_list="a"\nfi',
        'kld_list="it\'s"',
    ],
)
def test_rc_conf_is_read_as_sh_reads_it(text: str) -> None:
    sh = subprocess.run(
        ["sh", "-c", f'{text}\nprintf %s "$kld_list"'], capture_output=True, text=True, check=True, env={}
    )
    values = [a.setting.value for a in rcconf.parse(text.encode()) if a.setting.name == "kld_list"]
    assert values[-1] == sh.stdout


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ('ktls_ocf_load="YES"', "YES"),
        ('  ktls_ocf_load = "YES"  # comment', "YES"),
        ("ktls_ocf_load=YES", "YES"),
        ('ktls_ocf_load="A # B"', "A # B"),
        ('ktls_ocf_load="YES" trailing', None),
        ('# ktls_ocf_load="YES"', None),
        ('ktls_ocf_load="YES', None),
    ],
)
def test_loader_conf_takes_one_assignment_a_line(line: str, value: str | None) -> None:
    found_values = [s.value for s in loaderconf.parse(line.encode())]
    assert found_values == ([] if value is None else [value])


@pytest.mark.parametrize("answer", [[], "kernel", [5], {}])
def test_what_is_no_list_of_files_is_unknown(answer: Any) -> None:
    found_files = kld.loaded(F15_1.host(kldstat=Attempt.ran(answer)))
    assert not found_files.present
    assert found_files.reason


# --- the probe ---


class FakeEnd:
    """A socket of the modelled kernel, as far as the probe uses one."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.taken = 0

    def setsockopt(self, level: int, option: int, value: bytes) -> None:
        assert not self.taken, "each direction is tried on a fresh socket"
        self.kernel.setsockopt(level, option, value)
        self.taken = 1

    def getsockopt(self, level: int, option: int) -> int:
        if not self.kernel.kern_tls:
            raise OSError(Errno.ENOPROTOOPT, "no such option")
        return self.taken


def pairs(kernel: Kernel) -> Iterator[tlsenable.Ends]:
    while True:
        yield tlsenable.Ends(cast(Any, FakeEnd(kernel)), cast(Any, FakeEnd(kernel)), True)


@pytest.mark.parametrize("name", HOSTS)
def test_the_probe_brings_home_what_the_kernel_answers(name: str) -> None:
    assert tlsenable.attempts(pairs(HOSTS[name])) == HOSTS[name].answers()


def test_a_real_loopback_gives_fresh_connected_pairs() -> None:
    ends = tlsenable.loopback_pairs()
    first = next(ends)
    first.sender.sendall(b"x")
    assert first.receiver.recv(1) == b"x"
    second = next(ends)
    assert first.sender.fileno() == -1, "closed when the next is asked for"
    assert second.connected
    cast(Any, ends).close()
    assert second.receiver.fileno() == -1


def test_the_probe_says_on_another_system_that_it_belongs_to_freebsd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    with pytest.raises(ProbeError, match="FreeBSD"):
        tlsenable.probe(None)


def test_no_key_is_in_the_probes_answer() -> None:
    numbers = str(encode(tlsenable.attempts(pairs(F15_1))))
    assert len(numbers) < 6000
    assert "key" not in numbers


def test_freebsds_errno_names_do_not_follow_the_machine_that_judges() -> None:
    assert errno_name(45) == "EOPNOTSUPP"
    assert errno_name(37) == "EALREADY"
    assert errno_name(4242) == "errno 4242"


# --- loading ---


class Door(CapturedHost):
    """A host that keeps what it was told to run, and changes when the module is loaded."""

    def __init__(self, before: Kernel, after: Kernel, load: Ran) -> None:
        super().__init__(before.about, before.said(), Outcome.ABSENT)
        self.ran: list[tuple[str, ...]] = []
        self.after = after
        self.load = load

    def run(self, *argv: str, timeout: float = 5.0) -> Attempt[Ran]:
        self.ran.append(argv)
        if argv[0] == "kldload":
            if self.load.status == 0:
                self._answers = self.after.said()
            return Attempt.ran(self.load)
        return super().run(*argv, timeout=timeout)


LOADED = Ran(0, "", "")


def test_without_load_nothing_is_changed() -> None:
    door = Door(F13_2, replace(F13_2, module_loaded=True), LOADED)
    judged(door)
    assert {argv[0] for argv in door.ran} == {"sysctl", "sh"}
    assert not [argv for argv in door.ran if "=" in " ".join(argv[1:]) and argv[0] == "sysctl"]


def test_with_load_the_module_is_loaded_before_the_kernel_is_probed() -> None:
    door = Door(F13_2, replace(F13_2, module_loaded=True), LOADED)
    report = judged(door, load=True)
    assert ("kldload", "-n", "ktls_ocf") in door.ran
    assert found(report, "freebsd.module.ktls_ocf").status is Status.OK
    assert len(cells(report, Status.OK)) == 13


def test_a_failed_load_is_in_the_reason() -> None:
    said = "kldload: can't load ktls_ocf: Operation not permitted"
    report = judged(Door(F13_2, F13_2, Ran(1, "", f"{said}\n")), load=True)
    check = found(report, "freebsd.module.ktls_ocf")
    assert check.status is Status.CRITICAL
    assert said in check.reason


@pytest.mark.parametrize("name", ["14.3", "15.0", "14.3-custom-kernel", "13.2-ktls_ocf"])
def test_load_loads_nothing_where_no_module_is_missing(name: str) -> None:
    door = Door(HOSTS[name], HOSTS[name], LOADED)
    judged(door, load=True)
    assert "kldload" not in {argv[0] for argv in door.ran}
