# SPDX-License-Identifier: BSD-2-Clause
"""`ktlsctl stats`: every number with what it is, rates between two samples, and what it means that there are none."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from ktlsctl import stats
from ktlsctl.cli import cli, run
from ktlsctl.facts import ktlsgauges, tlsstat
from ktlsctl.host import CapturedHost
from ktlsctl.model import Attempt, Outcome, Report, StatisticKind, Status
from ktlsctl.render import jsondoc, prometheus, stats_text
from ktlsctl.schema import report_schema
from tests import hosts, reports

VALIDATOR = jsonschema.Draft202012Validator(json.loads(report_schema()))

FILE = "".join(f"{name:<32}\t{value}\n" for name, value in {**reports.COUNTERS, "TlsNew": 5}.items())
ULPS = "/proc/sys/net/ipv4/tcp_available_ulp"
CONFIG = f"/boot/config-{hosts.LINUX.release}"


def report(host: CapturedHost, pid: int | None = None, before: stats.Facts | None = None) -> Report:
    found = stats.report(host.about, stats.gather(host, pid), before)
    VALIDATOR.validate(json.loads(jsondoc.render(found)))
    return found


def linux(files: dict[str, bytes] | None = None) -> CapturedHost:
    return hosts.captured({tlsstat.PATH: FILE.encode()} if files is None else files)


def freebsd(values: str) -> CapturedHost:
    command = json.dumps(("sysctl", "-ie", "kern.osreldate", "kern.ipc.tls"))
    ran = {"status": 0, "stdout": f"kern.osreldate=1500068\n{values}", "stderr": ""}
    return hosts.captured(answers={("run", command): ran}, about=hosts.FREEBSD)


def test_every_line_is_there_in_its_order_with_what_it_is() -> None:
    found = report(linux())
    assert found.statistics is not None
    assert {each.name: each.value for each in found.statistics} == {**reports.COUNTERS, "TlsNew": 5} == found.counters
    assert {e.name for e in found.statistics if e.kind is StatisticKind.GAUGE} == tlsstat.GAUGES
    assert [e.name for e in found.statistics if e.kind is StatisticKind.UNKNOWN] == ["TlsNew"]
    assert {e.name for e in found.statistics if e.error} == {"TlsDecryptError", "TlsRxNoPadViolation"}
    assert all(e.meaning for e in found.statistics if e.name != "TlsNew")
    assert all(e.rate is None for e in found.statistics)
    assert found.verdict.status is Status.OK
    assert "810 directions" in found.verdict.summary


def test_an_error_counter_that_is_not_zero_is_a_warning_with_its_meaning() -> None:
    found = report(linux({tlsstat.PATH: b"TlsDecryptError 17\n"}))
    assert (found.verdict.status, found.verdict.first_broken) == (Status.WARNING, "stats.counters")
    assert "TlsDecryptError = 17: records failed authentication" in found.checks[0].reason


def test_counters_have_rates_between_two_samples_and_gauges_have_none() -> None:
    def at(when: float, **values: int) -> stats.Facts:
        return stats.Facts(when, tlsstat.PATH, Attempt.ran(values))

    before = at(10.0, TlsTxSw=100, TlsCurrTxSw=5, TlsNew=1, TlsRxSw=9)
    now = at(12.5, TlsTxSw=150, TlsCurrTxSw=9, TlsNew=1, TlsRxSw=4, TlsTxDevice=1)
    found = stats.report(hosts.LINUX, now, before)
    # a number that fell was reset with the module; one that was not there before has no rate yet
    assert {e.name: e.rate for e in found.statistics or ()} == {
        "TlsTxSw": 20.0, "TlsCurrTxSw": None, "TlsNew": 0.0, "TlsRxSw": None, "TlsTxDevice": None,
    }  # fmt: skip
    assert "+20/s" in stats_text.render(found)
    assert all(e.rate is None for e in stats.report(hosts.LINUX, before, replace(before)).statistics or ())


@given(
    st.dictionaries(st.sampled_from((*reports.COUNTERS, "TlsNew")), st.integers(0, 2**64 - 1)),
    st.dictionaries(st.sampled_from((*reports.COUNTERS, "TlsNew")), st.integers(0, 2**64 - 1)),
    st.floats(0, 1e9),
    st.floats(0, 1e9),
)
def test_any_two_samples_make_a_report(first: dict[str, int], second: dict[str, int], one: float, other: float) -> None:
    before = stats.Facts(one, tlsstat.PATH, Attempt.ran(first))
    found = stats.report(hosts.LINUX, stats.Facts(other, tlsstat.PATH, Attempt.ran(second)), before)
    assert all(e.rate is None or e.rate >= 0 for e in found.statistics or ())
    VALIDATOR.validate(json.loads(jsondoc.render_line(found)))
    stats_text.render(found)
    prometheus.render_counters(found)


def test_the_namespace_of_a_process_is_read_through_it() -> None:
    host = linux({"/proc/77/net/tls_stat": b"TlsTxSw 3\n"})
    found = report(host, 77)
    assert found.counters == {"TlsTxSw": 3}
    assert "process 77" in found.checks[0].reason
    gone = report(host, 78)
    assert (gone.errors, gone.verdict.status) == (
        ("there is no process 78; ps -e lists those that there are",),
        Status.UNKNOWN,
    )


def test_a_process_that_waits_for_its_parent_is_gone() -> None:
    # /proc/78 is there, its network is not
    host = hosts.captured({"/proc/modules": b"tls 1 0 - Live 0x0\n"}, {("resolve", "/proc/78"): "/proc/78"})
    assert report(host, 78).errors == ("there is no process 78; ps -e lists those that there are",)
    there = hosts.captured({"/proc/modules": b""}, {("resolve", "/proc/78/net/dev"): "/proc/78/net/dev"})
    assert report(there, 78).errors == ()


def test_a_process_that_is_not_there_leaves_the_last_good_metrics_where_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ktlsctl.host.LiveHost", hosts.captured)
    file = tmp_path / "ktls.prom"
    file.write_text("good")
    arguments = ["stats", "--format", "prometheus", "--pid", "78"]
    assert [run([*arguments, *more]) for more in ([], ["--output", str(file)])] == [3, 3]
    assert file.read_text() == "good"
    assert capfd.readouterr().err.count("ktlsctl: there is no process 78") == 2


# ---- no numbers are not zeros


@pytest.mark.parametrize(
    ("files", "status", "words"),
    [
        ({"/proc/modules": b"ext4 1 0 - Live 0x0\n"}, Status.CRITICAL, "the tls module is not loaded"),
        ({"/proc/modules": b"tls 1 0 - Live 0x0\n"}, Status.UNKNOWN, "keeps no counters"),
        ({"/proc/modules": b"", ULPS: b"espintcp tls\n"}, Status.UNKNOWN, "keeps no counters"),
        ({"/proc/modules": b"", CONFIG: b"# CONFIG_TLS is not set\n"}, Status.CRITICAL, "built without kernel TLS"),
        ({"/proc/modules": b"", CONFIG: b"CONFIG_TLS=m\n"}, Status.CRITICAL, "the tls module is not loaded"),
        ({}, Status.UNKNOWN, "there are no counters"),
        ({tlsstat.PATH: b"garbage"}, Status.UNKNOWN, "not seen"),
    ],
)
def test_without_the_file_the_reason_is_said_and_nothing_is_zero(
    files: dict[str, bytes], status: Status, words: str
) -> None:
    found = report(linux(files))
    assert (found.verdict.status, found.counters, found.statistics) == (status, {}, ())
    assert words in found.verdict.summary
    assert not re.search(r"\b0$", stats_text.render(found), re.M)
    if "not loaded" in words:
        assert [r.command for r in found.verdict.remedy] == ["modprobe tls"]


def test_a_file_that_may_not_be_read_is_unknown() -> None:
    denied: Attempt[Any] = Attempt(Outcome.DENIED, reason="Permission denied")
    found = report(hosts.captured(answers={("read", tlsstat.PATH): denied}))
    assert (found.verdict.status, found.verdict.first_broken) == (Status.UNKNOWN, None)
    assert "Permission denied" in found.checks[0].reason


# ---- FreeBSD


VALUES = """kern.ipc.tls.enable=1
kern.ipc.tls.sw.gcm=2
kern.ipc.tls.ifnet.reset=4
kern.ipc.tls.stats.active=2
kern.ipc.tls.stats.offload_total=7
kern.ipc.tls.stats.failed_crypto=1
kern.ipc.tls.stats.brand_new=3
"""


def test_freebsds_sysctls_are_told_apart_and_settings_are_none_of_them() -> None:
    found = report(freebsd(VALUES))
    assert {e.name.removeprefix("kern.ipc.tls."): (e.kind, e.value, e.error) for e in found.statistics or ()} == {
        "sw.gcm": (StatisticKind.GAUGE, 2, False),
        "ifnet.reset": (StatisticKind.COUNTER, 4, False),
        "stats.active": (StatisticKind.GAUGE, 2, False),
        "stats.offload_total": (StatisticKind.COUNTER, 7, False),
        "stats.failed_crypto": (StatisticKind.COUNTER, 1, True),
        "stats.brand_new": (StatisticKind.COUNTER, 3, False),
    }
    assert found.verdict.status is Status.WARNING
    assert ktlsgauges.TROUBLE["kern.ipc.tls.stats.failed_crypto"] in found.checks[0].reason


def test_a_freebsd_kernel_without_kernel_tls_has_no_numbers() -> None:
    found = report(freebsd(""))
    assert (found.verdict.status, found.counters) == (Status.CRITICAL, {})


def test_a_sysctl_that_does_not_answer_is_unknown() -> None:
    assert report(hosts.captured(about=hosts.FREEBSD)).verdict.status is Status.UNKNOWN


# ---- output


def test_prometheus_has_the_numbers_under_the_names_that_check_prints() -> None:
    found = report(linux())
    families = {f.name: f for f in text_string_to_metric_families(prometheus.render_counters(found))}
    whole = prometheus.render(replace(reports.ok(), counters=found.counters))
    names = {s.name for f in text_string_to_metric_families(whole) for s in f.samples}
    assert {s.name for f in families.values() for s in f.samples} <= names
    values = {
        (s.name, s.labels.get("mode"), s.labels.get("direction")): s.value for s in families["ktls_sessions"].samples
    }
    assert values["ktls_sessions", "sw", "tx"] == reports.COUNTERS["TlsCurrTxSw"]
    assert families["ktls_sessions_opened"].type == "counter"
    assert "ktls_verdict" not in families


def test_without_numbers_prometheus_still_tells_the_state() -> None:
    text = prometheus.render_counters(report(linux({"/proc/modules": b""})))
    assert 'ktls_check_status{check="stats.counters",status="critical"} 1' in text
    assert "ktls_sessions" not in text


@pytest.mark.parametrize("mode", [{}, {"quiet": True}, {"verbose": True}], ids=str)
def test_the_text_fits_80_columns(mode: dict[str, bool]) -> None:
    for found in (report(linux()), report(linux({tlsstat.PATH: b"TlsDecryptError 17\n"})), report(freebsd(VALUES))):
        lines = stats_text.render(found, **mode).splitlines()
        assert [line for line in lines if len(line) > 80 or line != line.rstrip()] == []


def test_gauges_stand_apart_from_counters_and_errors_are_marked() -> None:
    text = stats_text.render(report(linux({tlsstat.PATH: b"TlsCurrTxSw 2\nTlsDecryptError 17\nTlsNew 1\n"})))
    assert re.search(r"^Now\n  TlsCurrTxSw +2 ", text, re.M)
    assert re.search(r"^Counted since boot.*\n  TlsDecryptError  17  ERROR: records failed", text, re.M)
    assert re.search(r"^New to this ktlsctl\n  TlsNew  1$", text, re.M)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--watch", "--format", "prometheus"],
        ["--watch", "1", "--output", "x"],
        ["--watch", "0"],
        ["--pid", "0"],
        ["-q", "-v"],
    ],
    ids=" ".join,
)
def test_nonsense_is_refused(arguments: list[str]) -> None:
    result = CliRunner().invoke(cli, ["stats", *arguments])
    assert result.exit_code == 2
    assert "Error: " in result.output
