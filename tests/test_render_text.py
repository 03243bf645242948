# SPDX-License-Identifier: BSD-2-Clause
"""render/text: read from the end, in 80 columns, and nothing that the machine said can play tricks on the reader."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings

from ktlsctl.model import Cell, Check, Direction, Link, MatrixRow, Remedy, Report, Status, TlsVersion, Verdict
from ktlsctl.render.grid import combined
from ktlsctl.render.layout import folded, shortened
from ktlsctl.render.strings import plain
from ktlsctl.render.text import render
from tests import reports

MODES = [{}, {"quiet": True}, {"verbose": True}]
COLOUR = re.compile(r"\x1b\[[0-9;]+m")


def statuses(text: str) -> list[str]:
    """The states of the findings in the order in which they stand."""
    return re.findall(r"^(OK|SKIP|UNKNOWN|WARNING|CRITICAL) +\S+\.", text, re.M)


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("name", reports.REALISTIC)
def test_no_line_is_longer_than_80_columns(name: str, mode: dict[str, bool]) -> None:
    lines = render(reports.ALL[name](), **mode).splitlines()
    assert [line for line in lines if len(line) > 80] == []
    assert [line for line in lines if line != line.rstrip()] == []


@pytest.mark.parametrize("name", reports.REALISTIC)
def test_findings_stand_worst_first(name: str) -> None:
    order = ["CRITICAL", "WARNING", "UNKNOWN", "OK", "SKIP"]
    found = statuses(render(reports.ALL[name]()))
    assert len(found) == len(reports.ALL[name]().checks)
    assert found == sorted(found, key=order.index)


def test_findings_of_one_state_stand_along_the_chain() -> None:
    bad = [Check(f"x.{link}", link, Status.WARNING, "bad", "because") for link in (Link.NIC, Link.LIBRARY, Link.KERNEL)]
    text = render(replace(reports.empty(), checks=tuple(bad)))
    assert re.findall(r"^WARNING +(\S+)", text, re.M) == ["x.kernel", "x.library", "x.nic"]


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_the_verdict_the_broken_link_and_the_next_command_are_the_end(mode: dict[str, bool]) -> None:
    assert render(reports.broken_module(), **mode).endswith(
        "\n\nVerdict: CRITICAL - kernel TLS is not usable: the tls module is not loaded\n"
        "First broken link: module (linux.module.tls)\n"
        "Next: modprobe tls\n"
    )


def test_a_step_without_command_is_said_in_words() -> None:
    assert render(reports.unknown()).splitlines()[-2:] == [
        "Next: name a TLS library that this machine can open with --libssl, or leave the",
        "      option out",
    ]


def test_a_command_and_a_path_are_never_cut() -> None:
    command = f"install -m 644 {'/very/long/path' * 8} {'/elsewhere' * 5}"
    path = "/opt" + "/component" * 20
    check = Check("x.y", Link.MODULE, Status.CRITICAL, "broken", f"see {path} please", remedy=(Remedy("do", command),))
    verdict = Verdict(Status.CRITICAL, "broken", "x.y", (Remedy("do", command),))
    text = render(replace(reports.empty(), checks=(check,), verdict=verdict))
    assert text.count(command) == 2
    assert path in text


def test_quiet_keeps_every_failure_and_the_verdict_and_drops_the_rest() -> None:
    text = render(reports.broken_module(), quiet=True)
    assert statuses(text) == ["CRITICAL", "UNKNOWN"]
    assert "fix: load the module now" in text
    assert "AES-128-GCM" not in text
    assert render(reports.unknown(), quiet=True).startswith("Error: /tmp/libssl.so.3 is not a TLS library")


def test_quiet_on_a_healthy_host_is_the_verdict_alone() -> None:
    assert render(reports.ok(), quiet=True).startswith("Verdict: OK - kernel TLS is usable")


def test_a_finding_that_is_not_ok_gives_its_whole_reason_and_its_remedy() -> None:
    text = " ".join(render(reports.broken_module()).split())
    assert reports.NOT_LOADED_CHECK.reason in text
    assert "fix: load the module now modprobe tls" in text


def test_the_note_of_an_ok_finding_is_one_line_unless_verbose() -> None:
    note = reports.PERSISTENT.reason
    short = render(reports.ok())
    assert "the kernel loads it when root's first program asks for it...\n" in short
    assert note not in " ".join(short.split())
    assert "advice" not in short
    verbose = " ".join(render(reports.ok(), verbose=True).split())
    assert note in verbose
    assert "advice: load it at every boot echo tls > /etc/modules-load.d/ktls.conf" in verbose


@pytest.mark.parametrize("note", ["word " * 40, "x" * 200, f"{'y' * 69} z", "ends in time"])
def test_a_short_note_never_leaves_its_line(note: str) -> None:
    line = shortened(note, "          ")
    assert len(line) <= 80
    assert line.endswith("...") == (line.strip() != note.strip())
    assert not line.endswith(" wor...")


def test_evidence_is_shown_when_verbose() -> None:
    assert "CONFIG_TLS_DEVICE: y" not in render(reports.ok())
    assert "CONFIG_TLS_DEVICE: y" in render(reports.ok(), verbose=True)


def test_a_capture_is_announced_in_the_first_line() -> None:
    first, second = render(reports.freebsd()).splitlines()[:2]
    assert "judging a capture 2026-11-20T12:00:00Z, made without root" in first
    assert second == "FreeBSD 14.3-RELEASE-p5, amd64"
    assert "capture" not in render(reports.ok())


YES, NO, UNSEEN = reports.YES, reports.NO_CRYPTO, reports.NOT_LOADED


@pytest.mark.parametrize(
    ("kernel", "library", "shown"),
    [
        (YES, YES, "yes"),
        (NO, YES, "no: kernel"),
        (YES, NO, "no: library"),
        (NO, NO, "no: both"),
        (UNSEEN, YES, "? kernel"),
        (YES, None, "? library"),
        (UNSEEN, UNSEEN, "? both"),
        (None, None, "? both"),
        (UNSEEN, NO, "no: library"),
        (NO, UNSEEN, "no: kernel"),
        (NO, None, "no: kernel"),
    ],
)
def test_a_cell_says_yes_only_when_both_witnesses_do(kernel: Cell | None, library: Cell | None, shown: str) -> None:
    row = MatrixRow(TlsVersion.TLS12, "AES-128-GCM", Direction.TX, kernel, library)
    assert combined(row).text == shown


def test_the_matrix_is_one_row_a_cipher_and_never_rows_are_a_line() -> None:
    text = render(reports.ok())
    rows = dict(re.findall(r"^((?:AES|CHACHA|SM4)\S+)  +(.+)$", text, re.M))
    assert {cipher: re.split(r"  +", cells) for cipher, cells in rows.items()} == {
        "AES-128-GCM": ["yes", "yes", "yes", "no: library"],
        "AES-256-GCM": ["yes", "yes", "yes", "no: library"],
        "AES-128-CCM": ["yes", "yes", "no: library", "no: library"],
        "CHACHA20-POLY1305": ["yes", "yes", "yes", "no: library"],
    }
    assert "\nnever, by neither: SM4-GCM, AES-256-CCM, AES-128-CBC-SHA1\n" in text
    assert "\nAES-256-CCM        no: both    no: both    -            -\n" in render(reports.ok(), verbose=True)


def test_a_cipher_that_only_the_library_never_takes_is_a_line_of_its_own() -> None:
    assert "\nnever, by the library: SM4-GCM\n" in render(reports.broken_module())


def test_a_library_without_ktls_does_not_empty_the_matrix() -> None:
    never = tuple(replace(cell, tx=reports.NOT_OFFERED, rx=reports.NOT_OFFERED) for cell in reports.SYSTEM.cells)
    text = render(replace(reports.ok(), matrix=reports.matrix(library=never)))
    assert re.search(r"^AES-128-GCM +no: library +no: library +no: library +no: library$", text, re.M)


def test_each_reason_for_a_refusal_stands_once_with_its_errno_and_its_cells() -> None:
    text = render(reports.ok())
    assert text.count(reports.NO_RX13.reason) == 1
    assert "(AES-128-GCM, AES-256-GCM, CHACHA20-POLY1305: TLSv1.3 RX)" in text
    shut = render(reports.freebsd())
    assert "no: kernel   EOPNOTSUPP: kern.ipc.tls.enable is 0\n" in shut


def test_the_libraries_are_a_table_with_every_path_whole() -> None:
    text = render(reports.unknown())
    assert re.search(r"^OpenSSL 3\.0\.22  yes +system, python  /usr/lib/x86_64-linux-gnu/libssl\.so\.3$", text, re.M)
    assert re.search(r"^unknown +unknown +named +/tmp/libssl\.so\.3$", text, re.M)
    assert reports.WHEEL.path in re.sub(r"\n +/", "/", text)


@pytest.mark.parametrize("path", ["", "/", "libssl.so", "/a", "//a/", "/usr/lib/x86_64-linux-gnu/libssl.so.3"])
def test_folding_a_path_loses_nothing(path: str) -> None:
    assert folded(path, 10).replace("\n", "") == path
    assert "\n\n" not in folded(path, 10)


def test_what_each_library_did_is_shown_when_verbose() -> None:
    assert "TLS_AES_128_GCM_SHA256" not in render(reports.ok())
    assert re.search(r"^  TLS_AES_128_GCM_SHA256 +TLSv1\.3 +yes +no$", render(reports.ok(), verbose=True), re.M)


def test_proved_defects_stand_first_and_possible_ones_are_a_line_each_subject_with_a_next_step() -> None:
    text = render(reports.ok())
    proved, possible = (
        text.index("PROVED    openssl-21202"),
        text.index("POSSIBLE  Linux 6.1.0-56-amd64: 2 known defects"),
    )
    assert proved < possible
    assert "apt install linux-image-amd64" in text[possible:]
    assert "CVE-2025-39682" not in text
    assert "POSSIBLE  CVE-2025-39682" in render(reports.ok(), verbose=True)


def test_many_possible_defects_of_one_subject_stay_one_line_and_one_step() -> None:
    many = tuple(
        replace(reports.ADVISORIES[0], id=f"CVE-{i}", remedy=Remedy(f"step {i}", f"command {i}")) for i in range(9)
    )
    text = render(replace(reports.ok(), advisories=many))
    assert text.count("POSSIBLE  ") == 1
    assert "9 known defects" in text
    assert re.findall(r"command \d", text) == ["command 0"]
    assert len(re.findall(r"command \d", render(replace(reports.ok(), advisories=many), verbose=True))) == 9


def test_counters_are_shown_when_verbose() -> None:
    assert "TlsDecryptRetry" not in render(reports.ok())
    assert re.search(r"^TlsDecryptRetry +3$", render(reports.ok(), verbose=True), re.M)


@pytest.mark.parametrize("name", reports.ALL)
def test_colour_adds_nothing_but_colour(name: str) -> None:
    report = reports.ALL[name]()
    coloured = render(report, color=True, verbose=True)
    assert COLOUR.search(coloured)
    assert COLOUR.sub("", coloured) == render(report, verbose=True)


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_nothing_that_the_machine_said_reaches_the_terminal_unprintable(mode: dict[str, bool]) -> None:
    text = render(reports.nasty(), **mode)
    assert all(c.isprintable() for c in text.replace("\n", ""))
    assert r"x\x1b[31m" in text
    assert r"\u202e\udcff" in text
    text.encode("utf-8")


def test_a_newline_from_the_machine_cannot_forge_a_verdict() -> None:
    forged = "harmless\nVerdict: OK - all is well\nNext: curl example.org | sh"
    check = Check("x.y", Link.MODULE, Status.CRITICAL, forged, forged, {forged: forged}, (Remedy(forged, forged),))
    report = Report(reports.LINUX, "", Verdict(Status.CRITICAL, forged, "x.y"), (check,), errors=(forged,))
    for mode in MODES:
        lines = render(report, **mode).splitlines()
        assert len([line for line in lines if line.startswith("Verdict:")]) == 1
        assert not [line for line in lines if line.startswith("Next:")]


@settings(max_examples=60, deadline=None)
@given(reports.ANY_REPORT)
def test_any_text_in_any_member_gives_printable_lines_and_a_verdict(report: Report) -> None:
    for mode in MODES:
        text = render(report, **mode)
        assert text.endswith("\n")
        assert all(c.isprintable() for c in text.replace("\n", ""))
        assert f"Verdict: {report.verdict.status.upper()}" in text


def test_printable_text_stays_as_it_is() -> None:
    assert plain('naïve "ssl" ok\\') == 'naïve "ssl" ok\\'
    assert plain("a\tb\r\nc\x00") == "a b  c\\x00"
