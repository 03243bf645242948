# SPDX-License-Identifier: BSD-2-Clause
"""`ktlsctl sessions --summary`: one line out of the kernel's own numbers, and none made up."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from ktlsctl import summary
from ktlsctl.model import Attempt, Mode, Os, Outcome, Status
from ktlsctl.render import jsondoc
from ktlsctl.schema import report_schema
from tests.hosts import FREEBSD, LINUX, captured
from tests.test_freebsd_sessions import SYSCTL, ran

CONFIG = f"/boot/config-{LINUX.release}"
ULPS = "/proc/sys/net/ipv4/tcp_available_ulp"

STAT = {
    "TlsCurrTxSw": 5000,
    "TlsCurrRxSw": 4000,
    "TlsCurrTxDevice": 2,
    "TlsCurrRxDevice": 1,
    "TlsTxSw": 9000,
    "TlsRxSw": 8000,
    "TlsTxDevice": 20,
    "TlsRxDevice": 10,
    "TlsDecryptError": 3,
    "TlsTxRekeyOk": 77,
}


def test_the_numbers_of_linux_are_added_up_by_direction() -> None:
    found = summary.count(Os.LINUX, STAT)
    assert found.tx == {Mode.SOFTWARE: 5000, Mode.NIC: 2}
    assert found.rx == {Mode.SOFTWARE: 4000, Mode.NIC: 1}
    assert (found.opened, found.errors) == (17030, 3)


def test_the_line_says_what_was_opened_and_went_wrong_since_the_last_one() -> None:
    first = summary.report(LINUX, Attempt.ran(STAT), None)
    assert first.verdict.summary == "TX 5000 software 2 nic  RX 4000 software 1 nic  opened 17030  errors 3"
    later = {**STAT, "TlsTxSw": 9012, "TlsDecryptError": 4}
    second = summary.report(LINUX, Attempt.ran(later), STAT)
    assert second.verdict.summary.endswith("opened 17042 (+12)  errors 4 (+1)")


def test_counters_that_start_anew_are_no_negative_growth() -> None:
    assert "opened 0 (+0)" in summary.report(LINUX, Attempt.ran({}), STAT).verdict.summary


def test_the_largest_counters_are_added_without_loss() -> None:
    largest = dict.fromkeys(STAT, 2**64 - 1)
    assert summary.count(Os.LINUX, largest).opened == 4 * (2**64 - 1)


def test_freebsd_counts_directions_and_does_not_tell_which() -> None:
    answer = ran(
        "kern.osreldate=1500068\nkern.ipc.tls.sw.gcm=4\nkern.ipc.tls.sw.chacha20=1\nkern.ipc.tls.ifnet.gcm=2\n"
        "kern.ipc.tls.stats.offload_total=30\nkern.ipc.tls.stats.failed_crypto=1\n"
    )
    numbers = summary.read(captured({}, {SYSCTL: answer}, FREEBSD))
    said = summary.report(FREEBSD, numbers, None).verdict
    assert said.summary == "TX+RX 5 software 2 nic  opened 30  errors 1"


@pytest.mark.parametrize("about", [LINUX, FREEBSD], ids=lambda a: a.os.value)
def test_without_kernel_tls_there_is_no_session(about: Any) -> None:
    said = summary.report(about, Attempt(Outcome.ABSENT, reason="No such file or directory"), None).verdict
    assert said.status is Status.OK
    assert said.summary.startswith("no session: ")


@pytest.mark.parametrize(
    ("files", "status", "words"),
    [
        ({"/proc/modules": b"ext4 1 0 - Live 0x0\n"}, Status.OK, "no session: the tls module is not loaded"),
        ({"/proc/modules": b"", CONFIG: b"# CONFIG_TLS is not set\n"}, Status.OK, "built without kernel TLS"),
        ({"/proc/modules": b"tls 1 0 - Live 0x0\n"}, Status.UNKNOWN, "this kernel keeps no counters"),
        # compiled in
        ({"/proc/modules": b"", ULPS: b"espintcp mptcp tls\n"}, Status.UNKNOWN, "this kernel keeps no counters"),
        ({}, Status.UNKNOWN, "the modules were not seen"),
    ],
)
def test_missing_counters_are_no_session_only_where_there_can_be_none(
    files: dict[str, bytes], status: Status, words: str
) -> None:
    said = summary.report(LINUX, summary.read(captured(files)), None).verdict
    assert said.status is status
    assert words in said.summary


def test_numbers_that_were_not_seen_are_unknown() -> None:
    said = summary.report(LINUX, Attempt(Outcome.DENIED, reason="Permission denied"), None).verdict
    assert (said.status, said.summary) == (Status.UNKNOWN, "unknown: Permission denied")


def test_the_document_has_the_kernels_own_names_and_no_list() -> None:
    document = json.loads(jsondoc.render(summary.report(LINUX, Attempt.ran(STAT), None)))
    jsonschema.validate(document, json.loads(report_schema()))
    assert document["counters"] == STAT
    assert "sessions" not in document
