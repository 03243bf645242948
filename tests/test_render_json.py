# SPDX-License-Identifier: BSD-2-Clause
"""render/jsondoc: exactly one document, always valid, whatever the machine said and whatever went wrong."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ktlsctl import __version__
from ktlsctl.model import Report
from ktlsctl.render.jsondoc import error_document, render
from ktlsctl.schema import report_schema
from tests import reports

VALIDATOR = jsonschema.Draft202012Validator(json.loads(report_schema()))


def no_constant(name: str) -> Any:
    raise AssertionError(f"{name} is not JSON")


def document(text: str) -> Any:
    """The document; RFC 8259 has no NaN, and no names twice."""
    assert text.endswith("}\n")

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len({name for name, _ in pairs}) == len(pairs)
        return dict(pairs)

    return json.loads(text, parse_constant=no_constant, object_pairs_hook=once)


def strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [*value, *(text for item in value.values() for text in strings(item))]
    if isinstance(value, list):
        return [text for item in value for text in strings(item)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize("name", reports.ALL)
def test_every_report_meets_the_schema(name: str) -> None:
    VALIDATOR.validate(document(render(reports.ALL[name]())))


@settings(max_examples=100, deadline=None)
@given(reports.ANY_REPORT)
def test_any_text_in_any_member_gives_a_document_that_meets_the_schema(report: Report) -> None:
    text = render(report)
    value = document(text)
    VALIDATOR.validate(value)
    assert text.isascii()
    assert all(not 0xD800 <= ord(c) <= 0xDFFF for string in strings(value) for c in string)
    assert len(value["checks"]) == len(report.checks)


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(), max_size=80))
def test_any_failure_gives_a_document_that_meets_the_schema(message: str) -> None:
    VALIDATOR.validate(document(error_document(message)))


def test_the_members_stand_in_the_order_of_the_contract() -> None:
    value = document(render(reports.ok()))
    assert list(value) == [
        "schema_version", "tool", "host", "generated_at", "source", "verdict", "checks", "matrix", "libraries",
        "advisories", "counters", "errors",
    ]  # fmt: skip
    assert list(value["verdict"]) == ["status", "summary", "first_broken", "remedy"]
    assert list(value["checks"][0]) == ["id", "link", "status", "summary", "reason", "evidence", "remedy"]


def test_a_finding_is_written_member_by_member() -> None:
    check = document(render(reports.broken_module()))["checks"][1]
    assert check == {
        "id": "linux.module.tls",
        "link": "module",
        "status": "critical",
        "summary": "the tls module is not loaded",
        "reason": reports.NOT_LOADED_CHECK.reason,
        "evidence": {"state": "loadable", "file": "/lib/modules/6.1.0-56-amd64/kernel/net/tls/tls.ko"},
        "remedy": [{"text": "load the module now", "command": "modprobe tls"}],
    }


def test_a_cell_that_was_not_asked_is_null_and_a_refusal_has_errno_and_reason() -> None:
    value = document(render(reports.ok()))
    row = next(r for r in value["matrix"] if r["cipher"] == "SM4-GCM")
    assert row == {
        "version": "TLSv1.2",
        "cipher": "SM4-GCM",
        "direction": "tx",
        "kernel": {"status": "skip", "reason": reports.NO_CRYPTO.reason, "errno": "ENOENT"},
        "library": {"status": "skip", "reason": reports.NO_SUITE.reason, "errno": None},
        "session": None,
    }


def test_what_is_not_known_is_null_and_never_an_empty_string() -> None:
    value = document(render(reports.unknown()))
    assert "" not in strings(value)
    named = value["libraries"][0]
    assert (named["version"], named["package"], named["libcrypto"]) == (None, None, None)


def test_only_a_self_test_has_results_and_one_that_tested_nothing_has_none_in_them() -> None:
    assert "results" not in document(render(reports.ok()))
    assert document(render(reports.selftest_of_nothing()))["results"] == []
    assert len(document(render(reports.selftest_ok()))["results"]) == 10


def test_a_result_is_written_member_by_member() -> None:
    results = document(render(reports.selftest_failed()))["results"]
    crash = {"status": "critical", "reason": "the session failed: the library died of SIGSEGV", "evidence": {}}
    assert results[2] == {
        "version": "TLSv1.2",
        "suite": "ECDHE-ECDSA-CHACHA20-POLY1305",
        "scenario": "session",
        "datapath": "io_uring",
        "library": reports.LIBRARY_UNDER_TEST,
        "tx": crash,
        "rx": crash,
        "bytes": 0,
        "sha256_ok": None,
        "reason": "the library died of SIGSEGV",
    }
    proved = results[0]["tx"]
    assert (proved["status"], proved["reason"]) == ("ok", None)
    assert proved["evidence"] == reports.PROVED.evidence
    assert results[3]["sha256_ok"] is False


def test_counters_are_integers_under_the_kernels_own_names() -> None:
    assert document(render(reports.ok()))["counters"] == reports.COUNTERS


def test_a_run_that_failed_is_a_whole_document() -> None:
    assert document(error_document("no such option", generated_at="2026-11-21T05:00:00Z")) == {
        "schema_version": "1.0",
        "tool": {"name": "ktlsctl", "version": __version__},
        "host": {"os": "unknown", "release": None, "machine": None, "privileged": None, "distribution": None},
        "generated_at": "2026-11-21T05:00:00Z",
        "source": "none",
        "verdict": {"status": "unknown", "summary": "no such option", "first_broken": None, "remedy": []},
        "checks": [],
        "matrix": [],
        "libraries": [],
        "advisories": [],
        "counters": {},
        "errors": ["no such option"],
    }


def test_a_run_that_failed_after_it_knew_the_host_says_which() -> None:
    value = document(error_document("", reports.LINUX))
    assert value["host"]["release"] == "6.1.0-56-amd64"
    VALIDATOR.validate(value)


def test_a_file_name_that_is_not_utf8_stays_recognisable() -> None:
    assert "\\udcff" in document(error_document("cannot open /tmp/\udcff"))["errors"][0]
