# SPDX-License-Identifier: BSD-2-Clause
"""render/junit: a real consumer reads every document, and finds as many failures as there are."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from junitparser import Error, Failure, JUnitXml, Skipped, TestSuite

from ktlsctl.model import Report, Status
from ktlsctl.render.junit import render
from ktlsctl.render.points import needs_verdict, points
from tests import reports

#: XML 1.0, section 2.2: what is no Char, even as a reference.
ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def parsed(document: str) -> TestSuite:
    """The one suite, as a CI server would read it; its numbers must be those of its cases."""
    assert document.startswith('<?xml version="1.0" encoding="UTF-8"?>\n')
    assert document.endswith("</testsuites>\n")
    assert ILLEGAL.search(document) is None
    root = ElementTree.fromstring(document.encode())
    assert root.tag == "testsuites"
    totals = {"tests", "failures", "errors", "skipped"}
    assert {name: root.attrib[name] for name in totals} == {name: root[0].attrib[name] for name in totals}
    xml = JUnitXml.fromstring(document.encode())
    (suite,) = xml
    claimed = (suite.tests, suite.failures, suite.errors, suite.skipped)
    assert (xml.tests, xml.failures, xml.errors, xml.skipped) == claimed
    suite.update_statistics()
    assert (suite.tests, suite.failures, suite.errors, suite.skipped) == claimed
    return suite


def numbers(report: Report) -> tuple[int, int, int, int]:
    """Tests, failures, errors, skipped."""
    suite = parsed(render(report))
    return suite.tests, suite.failures, suite.errors, suite.skipped


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("selftest_ok", (20, 0, 0, 6)),
        ("selftest_no_rx13", (20, 0, 0, 9)),
        ("selftest_failed", (20, 5, 0, 9)),
        ("selftest_disagreement", (20, 0, 1, 9)),
        ("selftest_policy", (21, 1, 0, 13)),
        ("selftest_without_module", (21, 1, 0, 20)),
        ("selftest_of_nothing", (1, 0, 1, 0)),
        ("selftest_error", (1, 0, 1, 0)),
    ],
)
def test_each_direction_is_a_test_case(name: str, expected: tuple[int, int, int, int]) -> None:
    assert numbers(reports.SELFTESTS[name]()) == expected


@pytest.mark.parametrize("name", reports.SELFTESTS)
def test_there_is_a_failure_or_an_error_exactly_when_the_verdict_is_not_ok(name: str) -> None:
    report = reports.SELFTESTS[name]()
    _, failures, errors, _ = numbers(report)
    assert bool(failures + errors) == (report.verdict.status is not Status.OK)


def test_a_case_is_named_by_version_suite_and_direction() -> None:
    cases = list(parsed(render(reports.selftest_ok())))
    assert (cases[1].classname, cases[1].name) == ("ktlsctl.TLSv1_2", "ECDHE-ECDSA-AES128-GCM-SHA256 RX")
    assert (cases[-1].classname, cases[-1].name) == ("ktlsctl.TLSv1_3", "TLS_AES_128_CCM_SHA256 RX")
    assert len({(case.classname, case.name) for case in cases}) == len(cases)
    assert cases[0].time is None


def test_a_failure_has_its_reason_as_message_and_its_evidence_as_text() -> None:
    case = list(parsed(render(reports.selftest_failed())))[2]
    (failure,) = case.result
    assert isinstance(failure, Failure)
    assert failure.type == "critical"
    assert failure.message.startswith("promised by kernel and library, but handing over failed at TLS_TX")
    assert failure.text == "server.library: BIO_get_ktls says no\nserver.bio: TLS_TX: Device or resource busy"
    assert case.system_out == failure.text


def test_a_skip_and_a_disagreement_say_why() -> None:
    skips = [case.result for case in parsed(render(reports.selftest_no_rx13())) if case.is_skipped]
    messages = {each.message for results in skips for each in results if isinstance(each, Skipped)}
    assert messages == {f"library: {cell.reason}" for cell in (reports.NO_RX13, reports.NOT_OFFERED)}
    (error,) = list(parsed(render(reports.selftest_disagreement())))[-1].result
    assert isinstance(error, Error)
    assert error.message.startswith("the witnesses disagree: ")


def test_a_policy_that_was_not_met_is_the_case_verdict() -> None:
    case = list(parsed(render(reports.selftest_policy())))[-1]
    assert (case.classname, case.name) == ("ktlsctl", "verdict")
    assert [each.message for each in case.result] == ["required and not proved: TLSv1.3 TX and RX"]


def test_an_error_beside_results_is_the_case_verdict() -> None:
    verdict = replace(reports.selftest_ok().verdict, status=Status.UNKNOWN)
    case = list(parsed(render(replace(reports.selftest_ok(), verdict=verdict, errors=("cannot open a.so",)))))[-1]
    (error,) = case.result
    assert isinstance(error, Error)
    assert error.message == "cannot open a.so"


def test_the_subject_is_among_the_properties() -> None:
    suite = parsed(render(reports.selftest_no_rx13()))
    properties = {each.name: each.value for each in suite.properties()}
    assert properties["kernel"] == "linux 6.1.0-56-amd64"
    assert properties["library"] == reports.LIBRARY_UNDER_TEST
    assert properties["datapath"] == "socket"
    assert properties["verdict"] == "ok"


def test_the_worst_strings_are_legal_and_stay_recognisable() -> None:
    suite = parsed(render(reports.nasty()))
    assert any(r"x\x1b[31m|" in case.name for case in suite)


@settings(max_examples=100, deadline=None)
@given(reports.ANY_REPORT)
def test_any_text_in_any_member_gives_a_document_with_as_many_cases(report: Report) -> None:
    found = numbers(report)
    said = [Status.SKIP if each.accepted else each.status for each in points(report)]
    extra = needs_verdict(report)
    assert found[0] == len(said) + extra
    assert found[3] == said.count(Status.SKIP)
    assert found[1] + found[2] == len(said) - said.count(Status.OK) - said.count(Status.SKIP) + extra
