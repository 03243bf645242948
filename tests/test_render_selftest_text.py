# SPDX-License-Identifier: BSD-2-Clause
"""render/selftest_text: what failed and why at the top, a line a suite in 80 columns, the verdict at the end."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings

from ktlsctl.model import DirectionResult, Report, Status
from ktlsctl.render import text
from ktlsctl.render.selftest_text import render
from tests import reports

MODES = [{}, {"quiet": True}, {"verbose": True}]
COLOUR = re.compile(r"\x1b\[[0-9;]+m")
WORDS = "kernel|user space|FAILED|unclear|not asked"
ROW = re.compile(rf"^(TLSv1\.[23])  (\S+) +({WORDS})  +({WORDS})  +(ok|WRONG|-)$", re.M)


def rows(output: str) -> list[tuple[str, ...]]:
    return ROW.findall(output)


def unwrapped(output: str) -> str:
    return " ".join(output.split())


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("name", reports.SELFTESTS)
def test_no_line_is_longer_than_80_columns(name: str, mode: dict[str, bool]) -> None:
    lines = render(reports.SELFTESTS[name](), **mode).splitlines()
    assert [line for line in lines if len(line) > 80] == []
    assert [line for line in lines if line != line.rstrip()] == []


def test_the_longest_suite_of_openssl_fits_with_the_longest_words() -> None:
    report = reports.selftest_without_module()
    assert report.results is not None
    long = replace(report.results[0], suite="ECDHE-ECDSA-CAMELLIA256-SHA384")
    output = render(replace(report, results=(long,)))
    assert rows(output) == [("TLSv1.2", long.suite, "user space", "user space", "ok")]
    assert max(map(len, output.splitlines())) <= 80


def test_every_suite_is_a_line_worst_first_and_then_as_tested() -> None:
    found = rows(render(reports.selftest_failed()))
    assert found[:5] == [
        ("TLSv1.2", "ECDHE-ECDSA-AES256-GCM-SHA384", "FAILED", "kernel", "ok"),
        ("TLSv1.2", "ECDHE-ECDSA-CHACHA20-POLY1305", "FAILED", "FAILED", "-"),
        ("TLSv1.2", "ECDHE-ECDSA-AES128-CCM", "FAILED", "FAILED", "WRONG"),
        ("TLSv1.2", "ECDHE-ECDSA-AES128-GCM-SHA256", "kernel", "kernel", "ok"),
        ("TLSv1.3", "TLS_AES_128_GCM_SHA256", "kernel", "user space", "ok"),
    ]
    assert len(found) == 10
    first = rows(render(reports.selftest_disagreement()))[0]
    assert first[1:4] == ("ECDHE-ECDSA-AES128-GCM-SHA256", "kernel", "unclear")


def test_the_head_says_library_and_datapath_and_nothing_that_goes_without_saying() -> None:
    lines = render(reports.selftest_ok()).splitlines()
    assert lines[2:5] == [f"Library:  {reports.SYSTEM.version} {reports.SYSTEM.path}", "Datapath: io_uring", ""]


def test_the_head_says_why_there_is_no_io_uring_and_whose_counters_were_read() -> None:
    output = unwrapped(render(reports.selftest_no_rx13()))
    assert f"Datapath: socket, not io_uring: {reports.RING} Counters: " in output
    assert f"no network namespace of our own: {reports.NO_NAMESPACE} version" in output


def test_what_failed_stands_above_the_suites_with_reason_and_evidence() -> None:
    output = render(reports.selftest_failed())
    above = output.partition("\nversion ")[0]
    assert re.findall(r"^(FAILED|unclear)  +(.+)$", above, re.M) == [
        ("FAILED", "TLSv1.2 TX: ECDHE-ECDSA-AES256-GCM-SHA384"),
        ("FAILED", "TLSv1.2 TX+RX: ECDHE-ECDSA-CHACHA20-POLY1305"),
        ("FAILED", "TLSv1.2 TX+RX: ECDHE-ECDSA-AES128-CCM"),
    ]
    assert "handing over failed at TLS_TX: Device or resource busy" in unwrapped(above)
    assert "the library died of SIGSEGV" in above
    assert "\n            server.bio: TLS_TX: Device or resource busy\n" in above
    assert "\n          evidence of TLSv1.2 ECDHE-ECDSA-AES128-CCM TX:\n" in above


def test_witnesses_that_disagree_are_shown_one_by_one() -> None:
    above = render(reports.selftest_disagreement()).partition("\nversion ")[0]
    assert "unclear   TLSv1.2 RX: ECDHE-ECDSA-AES128-GCM-SHA256\n" in above
    assert "  server.library: BIO_get_ktls says yes\n            server.kernel: no key\n" in above


def test_each_reason_for_user_space_stands_once_with_the_suites_that_it_holds_for() -> None:
    output = unwrapped(render(reports.selftest_no_rx13()))
    assert output.count(reports.NO_RX13.reason) == 1
    assert (
        f"user space library: {reports.NO_RX13.reason} (TLSv1.3 RX: TLS_AES_128_GCM_SHA256, "
        "TLS_AES_256_GCM_SHA384, TLS_CHACHA20_POLY1305_SHA256)"
    ) in output


def test_a_reason_that_holds_for_all_says_so_instead_of_naming_them() -> None:
    output = unwrapped(render(reports.selftest_without_module()))
    assert "(TLSv1.2 TX+RX: every suite; TLSv1.3 TX+RX: every suite)" in output


def test_a_lone_suite_is_named() -> None:
    report = reports.selftest_without_module()
    assert report.results is not None
    output = render(replace(report, results=report.results[:1]))
    assert f"(TLSv1.2 TX+RX: {report.results[0].suite})" in output


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_the_finding_that_is_the_self_test_itself_is_not_repeated(mode: dict[str, bool]) -> None:
    above = render(reports.selftest_policy(), **mode).rpartition("\n\n")[0]
    assert "selftest.sessions" not in above


def test_a_direction_that_was_not_asked_for_is_not_said_to_be_in_user_space() -> None:
    found = rows(render(reports.selftest_policy()))
    assert {row[3] for row in found} == {"not asked"}
    assert {row[2] for row in found} == {"kernel", "user space"}


def test_the_broken_link_of_the_check_is_named_with_its_remedy() -> None:
    output = render(reports.selftest_without_module())
    assert "\nCRITICAL  linux.module.tls " in output
    assert "fix: load the module now\n               modprobe tls\n" in output
    assert "linux.kernel.config" not in output
    assert "linux.kernel.config" in render(reports.selftest_without_module(), verbose=True)


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("name", reports.SELFTESTS)
def test_the_end_is_the_same_as_that_of_the_checks_text(name: str, mode: dict[str, bool]) -> None:
    report = reports.SELFTESTS[name]()
    end = text.render(report, **mode).rpartition("\n\n")[2]
    assert end.startswith("Verdict: ")
    assert render(report, **mode).rpartition("\n\n")[2] == end


def test_quiet_keeps_what_failed_and_the_verdict_and_drops_the_rest() -> None:
    output = render(reports.selftest_failed(), quiet=True)
    assert output.startswith("FAILED    TLSv1.2 TX: ")
    assert rows(output) == []
    assert "user space  " not in output
    assert render(reports.selftest_ok(), quiet=True).startswith("Verdict: OK - ")
    assert "linux.module.tls" in render(reports.selftest_without_module(), quiet=True)


def test_verbose_shows_the_evidence_of_every_direction() -> None:
    assert "counters: TlsTxSw" not in render(reports.selftest_ok())
    output = render(reports.selftest_ok(), verbose=True)
    assert output.count("  counters: TlsTxSw and TlsTxDevice rose by 2\n") == 14
    assert "\nTLSv1.2 ECDHE-ECDSA-AES256-CCM RX: user space\n  server.library: BIO_get_ktls says no\n" in output


def test_an_error_is_said_before_the_verdict() -> None:
    assert "\nError: /tmp/libssl.so.3 is not a TLS library: not an ELF file\n\nVerdict: UNKNOWN" in (
        render(reports.selftest_error())
    )


@pytest.mark.parametrize("name", [*reports.SELFTESTS, "nasty"])
def test_colour_adds_nothing_but_colour(name: str) -> None:
    report = reports.ALL[name]()
    coloured = render(report, color=True, verbose=True)
    assert COLOUR.search(coloured)
    assert COLOUR.sub("", coloured) == render(report, verbose=True)


def test_failures_are_coloured_as_failures() -> None:
    coloured = render(reports.selftest_failed(), color=True)
    assert coloured.count("\x1b[1;31mFAILED\x1b[0m") == 3 + 5
    assert "\x1b[1;31mWRONG\x1b[0m" in coloured


def test_a_newline_from_the_machine_cannot_forge_a_suite_or_a_verdict() -> None:
    forged = "x\nTLSv1.2  X  kernel  kernel  ok\nVerdict: OK - all is well"
    report = reports.selftest_failed()
    assert report.results is not None
    side = DirectionResult(Status.CRITICAL, {forged: forged}, forged)
    report = replace(report, results=(replace(report.results[0], suite=forged, tx=side),))
    for mode in MODES:
        lines = render(report, **mode).splitlines()
        assert len([line for line in lines if line.startswith("Verdict:")]) == 1
        assert not [line for line in lines if line.startswith("TLSv1.2  X")]


@settings(max_examples=60, deadline=None)
@given(reports.ANY_REPORT)
def test_any_text_in_any_member_gives_printable_lines_and_a_verdict(report: Report) -> None:
    for mode in MODES:
        output = render(report, **mode)
        assert output.endswith("\n")
        assert all(c.isprintable() for c in output.replace("\n", ""))
        assert f"Verdict: {report.verdict.status.upper()}" in output
