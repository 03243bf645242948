# SPDX-License-Identifier: BSD-2-Clause
"""render/nagios: one line that a monitoring system parses, and details that cannot break it."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings

from ktlsctl.model import Remedy, Report, Status, Verdict
from ktlsctl.render.nagios import render
from tests import reports

#: label=value[UOM] without quotes: no space, quote or equals sign in a label (guidelines, section 2.6).
PERFORMANCE = re.compile(r"[A-Za-z0-9_]+=-?[0-9]+c?")


def parsed(output: str) -> tuple[str, dict[str, str], list[str]]:
    """Text, performance data, details; fails on what a monitoring system would misread."""
    assert output.endswith("\n")
    first, *details = output[:-1].split("\n")
    assert output.count("|") == 1
    text, performance = first.split(" | ")
    assert len(text) <= 80
    values = performance.split(" ")
    assert all(PERFORMANCE.fullmatch(value) for value in values)
    assert len({value.partition("=")[0] for value in values}) == len(values)
    return text, dict(value.split("=") for value in values), details


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("ok", "KTLS OK - kernel TLS is usable: "),
        ("broken_module", "KTLS CRITICAL - kernel TLS is not usable: the tls module is not loaded"),
        ("warning", "KTLS WARNING - kernel TLS is usable, but 17 records failed authentication..."),
        ("unknown", "KTLS UNKNOWN - /tmp/libssl.so.3 is not a TLS library"),
        ("empty", "KTLS UNKNOWN - could not find out"),
        ("freebsd", "KTLS CRITICAL - kernel TLS is not usable: kern.ipc.tls.enable is 0"),
        ("nasty", "KTLS UNKNOWN - x"),
    ],
)
def test_the_first_line_says_the_state_and_the_verdict(name: str, head: str) -> None:
    assert parsed(render(reports.ALL[name]()))[0].startswith(head)


def test_a_long_verdict_is_cut_at_a_word_and_says_so() -> None:
    text = parsed(render(reports.ok()))[0]
    assert text == "KTLS OK - kernel TLS is usable: kernel and library agree on TLSv1.2 TX and..."


def test_gauges_are_plain_and_counters_have_the_unit_c() -> None:
    values = parsed(render(reports.ok()))[1]
    assert values["sessions_tx_sw"] == "412"
    assert values["sessions_opened_rx_sw"] == "88001c"
    assert values["decrypt_errors"] == "0c"
    assert values["checks_ok"] == "7"
    assert values["checks_critical"] == "0"


def test_a_self_test_counts_its_directions_and_a_check_does_not() -> None:
    values = parsed(render(reports.selftest_failed()))[1]
    counts = {name: int(value) for name, value in values.items() if name.startswith("selftest_")}
    assert counts == {"selftest_proved": 6, "selftest_failed": 5, "selftest_skipped": 9, "selftest_unknown": 0}
    assert parsed(render(reports.selftest_disagreement()))[1]["selftest_unknown"] == "1"
    assert parsed(render(reports.selftest_of_nothing()))[1]["selftest_proved"] == "0"
    assert not any(name.startswith("selftest_") for name in parsed(render(reports.ok()))[1])


def test_freebsd_counters_have_labels_of_the_same_kind_and_unknown_ones_are_left_out() -> None:
    values = parsed(render(reports.freebsd()))[1]
    assert values["sessions_any_sw_gcm"] == "2"
    assert values["crypto_errors"] == "1c"
    assert not any("ocf" in label for label in values)


def test_the_details_are_what_is_wrong_worst_first_with_the_next_command() -> None:
    details = parsed(render(reports.broken_module()))[2]
    assert [line.split()[0] for line in details] == ["CRITICAL", "UNKNOWN"]
    assert details[0].startswith("CRITICAL linux.module.tls: the tls module is not loaded (")
    assert details[0].endswith("; next: modprobe tls")
    assert parsed(render(reports.ok()))[2] == []
    assert parsed(render(reports.unknown()))[2] == ["ERROR: /tmp/libssl.so.3 is not a TLS library: not an ELF file"]


def test_a_command_with_a_pipe_is_said_in_words_rather_than_changed() -> None:
    remedy = Remedy("write the file", "echo tls | tee /etc/modules-load.d/ktls.conf")
    check = replace(reports.NOT_LOADED_CHECK, remedy=(remedy,))
    details = parsed(render(replace(reports.broken_module(), checks=(check,))))[2]
    assert details[0].endswith("; next: write the file")


@settings(max_examples=100, deadline=None)
@given(reports.ANY_REPORT)
def test_no_text_can_inject_a_line_or_performance_data(report: Report) -> None:
    text, _, details = parsed(render(report))
    assert text.startswith(f"KTLS {report.verdict.status.upper()} - ")
    wrong = [check for check in report.checks if check.status not in (Status.OK, Status.SKIP)]
    assert len(details) == len(wrong) + len(report.errors)
    assert all(c.isprintable() for line in (text, *details) for c in line)


def test_a_verdict_of_one_endless_word_is_cut_within_80_columns() -> None:
    report = replace(reports.empty(), verdict=Verdict(Status.UNKNOWN, "x" * 200))
    assert len(parsed(render(report))[0]) <= 80
