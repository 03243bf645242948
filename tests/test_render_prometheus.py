# SPDX-License-Identifier: BSD-2-Clause
"""render/prometheus: what the reference parser reads back is what the report said."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from ktlsctl import __version__
from ktlsctl.model import Direction, MatrixRow, Report, Status, TlsVersion
from ktlsctl.render.prometheus import render
from tests import reports

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def families(report: Report) -> dict[str, Metric]:
    """By name as written; a family that stands twice is a failure."""
    text = render(report)
    assert text.endswith("\n")
    found = list(text_string_to_metric_families(text))
    assert len({family.name for family in found}) == len(found)
    assert len(re.findall(r"^# HELP ", text, re.M)) == len(re.findall(r"^# TYPE ", text, re.M)) == len(found)
    return {family.name: family for family in found}


def samples(report: Report) -> Samples:
    """Name and labels to value; the same labels twice are a failure, as they are to Prometheus."""
    found: Samples = {}
    for family in families(report).values():
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


def value(report: Report, metric: str, /, **labels: str) -> float | None:
    return samples(report).get((metric, frozenset(labels.items())))


@pytest.mark.parametrize("name", reports.ALL)
def test_every_report_is_read_back_with_help_before_type_and_the_prefix(name: str) -> None:
    report = reports.ALL[name]()
    found = families(report)
    assert all(family.startswith("ktls_") for family in found)
    assert all(family.documentation for family in found.values())
    for family in re.findall(r"^# HELP (\S+) ", render(report), re.M):
        assert re.search(
            rf"^# HELP {family} .+\n# TYPE {family} (gauge|counter|untyped)\n{family}[ {{]", render(report), re.M
        )


def test_counters_end_in_total_and_nothing_else_does() -> None:
    for line in re.findall(r"^# TYPE (.+)$", render(reports.ok()) + render(reports.freebsd()), re.M):
        name, kind = line.split()
        assert name.endswith("_total") == (kind == "counter")


def test_a_check_has_one_sample_for_each_state_and_only_one_is_1() -> None:
    found = {
        dict(labels)["status"]: number
        for (name, labels), number in samples(reports.broken_module()).items()
        if name == "ktls_check_status" and ("check", "linux.module.tls") in labels
    }
    assert found == {status.value: float(status is Status.CRITICAL) for status in Status}


def test_the_verdict_is_a_state_set() -> None:
    assert value(reports.warning(), "ktls_verdict", status="warning") == 1
    assert value(reports.warning(), "ktls_verdict", status="ok") == 0
    assert value(reports.warning(), "ktls_verdict", status="skip") is None


def test_the_matrix_is_1_or_0_for_each_witness_and_absent_where_it_was_not_seen() -> None:
    def cell(report: Report, direction: str, witness: str) -> float | None:
        labels = {"version": "TLSv1.3", "cipher": "AES-128-GCM", "direction": direction, "witness": witness}
        return value(report, "ktls_matrix", **labels)

    assert cell(reports.ok(), "tx", "kernel") == 1
    assert cell(reports.ok(), "rx", "library") == 0
    assert cell(reports.ok(), "rx", "session") is None
    assert cell(reports.broken_module(), "tx", "kernel") is None
    assert cell(reports.broken_module(), "tx", "library") == 1


def test_linux_counters_have_names_of_a_kind() -> None:
    report = reports.ok()
    assert value(report, "ktls_sessions", direction="tx", mode="sw") == 412
    assert value(report, "ktls_sessions", direction="rx", mode="nic") == 0
    assert value(report, "ktls_sessions_opened_total", direction="tx", mode="sw") == 90210
    assert value(report, "ktls_decrypt_errors_total") == 0
    assert value(report, "ktls_decrypt_retries_total") == 3


def test_linux_rekey_counters_carry_direction_and_result() -> None:
    names = ("TlsRxRekeyOk", "TlsRxRekeyError", "TlsTxRekeyOk", "TlsTxRekeyError", "TlsRxRekeyReceived")
    report = replace(reports.ok(), counters={name: 10 + i for i, name in enumerate(names)})
    assert value(report, "ktls_rekeys_total", direction="rx", result="error") == 11
    assert value(report, "ktls_rekeys_total", direction="tx", result="ok") == 12
    assert value(report, "ktls_rekeys_received_total") == 14


def test_freebsd_gauges_and_counters_have_the_same_names_and_say_what_they_count() -> None:
    report = reports.freebsd()
    assert value(report, "ktls_sessions", direction="any", mode="sw", cipher="gcm") == 2
    assert value(report, "ktls_sessions", direction="any", mode="nic", cipher="chacha20") == 0
    assert value(report, "ktls_sessions_opened_total", direction="any", mode="any") == 7
    assert value(report, "ktls_crypto_errors_total") == 1


def test_a_counter_that_is_not_known_is_kept_under_its_own_name_and_untyped() -> None:
    report = replace(reports.ok(), counters={"TlsBrandNew": 5})
    assert value(report, "ktls_counter", name="TlsBrandNew") == 5
    assert "# TYPE ktls_counter untyped\n" in render(report)


@pytest.mark.parametrize("name", reports.REALISTIC)
def test_no_counter_of_the_kernel_is_lost(name: str) -> None:
    report = reports.ALL[name]()
    kernels = [n for (n, _), _ in samples(report).items() if not re.match("ktls_(build|last|verdict|check|matrix)", n)]
    assert len(kernels) == len(report.counters)


def test_version_and_time_of_the_run_are_there() -> None:
    assert value(reports.ok(), "ktls_build_info", version=__version__) == 1
    assert value(reports.ok(), "ktls_last_run_timestamp_seconds") == 1795237200


@pytest.mark.parametrize("when", ["", "yesterday", "2026-11-21T05:00:00"])
def test_a_time_that_cannot_be_read_gives_no_time_rather_than_a_wrong_one(when: str) -> None:
    assert value(replace(reports.ok(), generated_at=when), "ktls_last_run_timestamp_seconds") is None


def test_the_same_row_or_check_twice_gives_one_sample() -> None:
    row = MatrixRow(TlsVersion.TLS12, "AES-128-GCM", Direction.TX, reports.YES)
    samples(replace(reports.ok(), matrix=(row, row), checks=(reports.LOADED, reports.NOT_LOADED_CHECK)))


@settings(max_examples=100, deadline=None)
@given(reports.ANY_REPORT)
def test_any_text_in_any_member_is_read_back(report: Report) -> None:
    found = samples(report)
    assert found["ktls_verdict", frozenset({("status", report.verdict.status.value)})] == 1
    assert {dict(labels)["check"] for (name, labels) in found if name == "ktls_check_status"} == {
        check.id for check in report.checks
    }
