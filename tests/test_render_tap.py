# SPDX-License-Identifier: BSD-2-Clause
"""render/tap: perl's own parser reads every stream, and `prove` fails exactly when the verdict is not ok.

`prove` and TAP::Parser must be there (Debian package perl): a missing one is a failure, not a skip.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from ktlsctl.model import Report, Status
from ktlsctl.render.points import needs_verdict, points
from ktlsctl.render.strings import plain
from ktlsctl.render.tap import render
from tests import reports

#: Everything that perl's parser understood of the stream on its standard input, as JSON.
PARSER = r"""
use strict; use warnings; use TAP::Parser; use JSON::PP;
binmode(STDIN, ":encoding(UTF-8)"); local $/; my $tap = <STDIN>;
my $parser = TAP::Parser->new({ tap => $tap });
my (@points, @blocks, @unknown, @bailouts);
while (my $result = $parser->next) {
    push @points, { ok => $result->is_ok ? 1 : 0, name => $result->description, directive => $result->directive,
        reason => $result->explanation } if $result->is_test;
    push @blocks, $result->data if $result->is_yaml;
    push @bailouts, $result->explanation if $result->is_bailout;
    push @unknown, $result->as_string if $result->is_unknown;
}
print JSON::PP->new->ascii->encode({ points => \@points, blocks => \@blocks, bailouts => \@bailouts,
    unknown => \@unknown, errors => [$parser->parse_errors], plan => $parser->plan, version => $parser->version });
"""


def parsed(stream: str) -> Any:
    done = subprocess.run(
        ["perl", "-e", PARSER], input=stream, capture_output=True, encoding="utf-8", check=True, timeout=30
    )
    assert done.stderr == ""
    return json.loads(done.stdout)


def prove(stream: str, directory: Path) -> tuple[int, str]:
    """Exit status and output of the consumer that people have."""
    file = directory / "selftest.tap"
    file.write_text(stream, "utf-8")
    done = subprocess.run(
        ["prove", "--exec", "cat", str(file)], capture_output=True, encoding="utf-8", check=False, timeout=30
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("name", reports.SELFTESTS)
def test_prove_passes_exactly_when_the_verdict_is_ok(name: str, tmp_path: Path) -> None:
    report = reports.SELFTESTS[name]()
    status, output = prove(render(report), tmp_path)
    assert (status == 0) == (report.verdict.status is Status.OK), output
    assert "Parse errors" not in output


def test_prove_says_what_failed(tmp_path: Path) -> None:
    status, output = prove(render(reports.selftest_failed()), tmp_path)
    assert status != 0
    assert "Failed tests:  3, 5-8" in output
    assert "Failed 5/20 subtests" in output


@pytest.mark.parametrize("report", [reports.selftest_of_nothing(), reports.selftest_error(), reports.empty()])
def test_a_run_that_tested_nothing_or_has_errors_bails_out_with_the_reason(report: Report, tmp_path: Path) -> None:
    reason = report.errors[0] if report.errors else report.verdict.summary
    assert render(report).splitlines()[-1] == f"Bail out! {reason}"
    status, output = prove(render(report), tmp_path)
    assert status != 0
    assert f"Bailout called.  Further testing stopped:  {reason}" in output
    # For readers that pass over the last line.
    assert [point["ok"] for point in parsed(render(report))["points"]] == [0]


def test_results_beside_an_error_are_shown_before_the_bail_out() -> None:
    report = replace(reports.selftest_ok(), errors=("cannot open a.so",))
    found = parsed(render(report))
    assert (len(found["points"]), found["plan"], found["bailouts"]) == (21, "1..21", ["cannot open a.so"])


def test_the_first_lines_are_version_and_plan_and_a_point_names_suite_direction_and_datapath() -> None:
    lines = render(reports.selftest_no_rx13()).splitlines()
    assert lines[:3] == [
        "TAP version 13",
        "1..20",
        "ok 1 - TLSv1.2 ECDHE-ECDSA-AES128-GCM-SHA256 TX in the kernel (socket)",
    ]
    assert (
        "ok 14 - TLSv1.3 TLS_AES_128_GCM_SHA256 RX in the kernel (socket) "
        "# SKIP library: OpenSSL 3.0 does not offer TLS 1.3 receive keys"
    ) in lines


def test_a_point_keeps_its_name_whatever_comes_of_it() -> None:
    ok, failed = (parsed(render(report)) for report in (reports.selftest_no_rx13(), reports.selftest_failed()))
    names = [[point["name"].replace("(socket)", "(io_uring)") for point in found["points"]] for found in (ok, failed)]
    assert names[0] == names[1]


def test_a_failed_point_has_its_reason_and_evidence_in_a_block() -> None:
    found = parsed(render(reports.selftest_disagreement()))
    assert found["blocks"] == [
        {
            "message": "the witnesses disagree: server.library in the kernel, server.kernel in user space",
            "status": "unknown",
            "evidence": {"server.library": "BIO_get_ktls says yes", "server.kernel": "no key"},
        }
    ]


def test_a_verdict_that_no_point_shows_is_a_last_point() -> None:
    found = parsed(render(reports.selftest_policy()))
    assert found["plan"] == "1..21"
    assert found["points"][-1] == {"ok": 0, "name": "- verdict", "directive": "", "reason": ""}
    assert found["blocks"] == [{"message": "required and not proved: TLSv1.3 TX and RX", "status": "critical"}]
    assert parsed(render(reports.selftest_failed()))["plan"] == "1..20"


def test_the_next_command_is_a_comment() -> None:
    assert render(reports.selftest_failed()).endswith("# next: dmesg | tail\n")


def test_a_hash_in_a_name_cannot_skip_a_failed_point() -> None:
    report = reports.selftest_failed()
    assert report.results is not None
    forged = replace(report, results=(replace(report.results[1], suite="X # SKIP fine\nok 2\\"),))
    found = parsed(render(forged))
    assert [(point["ok"], point["directive"]) for point in found["points"]] == [(0, ""), (1, "")]
    assert found["errors"] == []


def test_a_backslash_is_escaped_as_the_protocol_has_it() -> None:
    report = reports.selftest_ok()
    assert report.results is not None
    stream = render(replace(report, results=(replace(report.results[0], suite="a\\b#c"),)))
    assert "ok 1 - TLSv1.2 a\\\\b\\#c TX in the kernel (io_uring)\n" in stream


def test_a_known_defect_that_was_accepted_does_not_fail_the_stream() -> None:
    found = {point["name"]: point for point in parsed(render(reports.selftest_scenarios()))["points"]}
    accepted = found["- TLSv1.3 TLS_AES_128_GCM_SHA256 key-update (io_uring)"]
    assert (accepted["ok"], accepted["directive"]) == (1, "TODO")
    known = found["- TLSv1.2 ECDHE-ECDSA-AES128-GCM-SHA256 moving-write-buffer (io_uring)"]
    assert (known["ok"], known["directive"]) == (0, "")


@settings(max_examples=40, deadline=None)
@given(reports.ANY_REPORT)
def test_any_text_in_any_member_gives_a_stream_that_perl_reads(report: Report) -> None:
    stream = render(report)
    found = parsed(stream)
    expected = points(report)
    bails = bool(report.errors) or not expected
    extra = needs_verdict(report)
    assert (found["errors"], found["unknown"], found["version"]) == ([], [], "13")
    assert len(found["points"]) == len(expected) + extra
    assert len(found["bailouts"]) == bails
    for point, each in zip(found["points"], expected, strict=False):
        assert point["ok"] == (not each.failed)
        todo = each.accepted and each.status not in (Status.OK, Status.SKIP)
        assert point["directive"] == ("SKIP" if each.status is Status.SKIP else "TODO" if todo else "")
    described = [each for each in expected if each.status not in (Status.OK, Status.SKIP)]
    assert len(found["blocks"]) == len(described) + extra
    for block, each in zip(found["blocks"], described, strict=False):
        assert block["status"] == each.status
        assert len(block.get("evidence", {})) == len({plain(name) for name in each.evidence})
    assert all(c.isprintable() for c in stream.replace("\n", ""))
