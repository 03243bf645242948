# SPDX-License-Identifier: BSD-2-Clause
"""Scenarios as a whole: which run with what, what they do to the verdict and the advisories, how they are shown."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from ktlsctl import advisories, selftest
from ktlsctl.cli import cli
from ktlsctl.codec import decode, encode
from ktlsctl.completions import __file__ as completions
from ktlsctl.model import (
    About,
    Attempt,
    Certainty,
    Finding,
    Os,
    Outcome,
    ScenarioResult,
    Status,
    TlsVersion,
    Verdict,
)
from ktlsctl.policy import Policy
from ktlsctl.render import selftest_text
from ktlsctl.scenarios import bulk, catalogue
from ktlsctl.sessionfacts import Carried, Order, Trial, TrialFacts, TrialsFacts, TrialsOrder, Way
from ktlsctl.trials import run as trials_run
from tests import reports
from tests.scenario_outcomes import OUTCOMES

GCM12, GCM13 = "ECDHE-ECDSA-AES128-GCM-SHA256", "TLS_AES_128_GCM_SHA256"
ORDER = Order("/lib/libssl.so.3", tuple(TlsVersion), (), Way.AUTO, 1, 1, 20.0, 1)
AGREED = ((TlsVersion.TLS12, "AES-128-GCM"), (TlsVersion.TLS12, "AES-256-GCM"), (TlsVersion.TLS13, "AES-128-GCM"))
ABOUT = About(Os.LINUX, "6.12.117", "x86_64", True)


def trials(names: tuple[str, ...], **changes: Any) -> list[tuple[str, str]]:
    order = replace(ORDER, **changes)
    return [(t.scenario, t.suite) for t in selftest.trials_of(order, reports.SYSTEM, catalogue.Wanted(False, names))]


def facts(scenario: str = "bulk", seen: Any = None, **members: Any) -> TrialFacts:
    text = "" if seen is None else json.dumps(encode(seen))
    return TrialFacts(scenario, TlsVersion.TLS12, GCM12, "io_uring", seen=text, **members)


def answer(*all_trials: TrialFacts, ring_reason: str = "") -> Attempt[TrialsFacts]:
    return Attempt.ran(TrialsFacts("OpenSSL 3.5.7", "/lib/libssl.so.3", ring_reason, "", all_trials))


IN_KERNEL = bulk.Facts(Carried(True, True, True, True), bulk.SIZE, (1,), True, True)


def found(status: Status, finding: Finding, known: tuple[str, ...] = (), **members: Any) -> ScenarioResult:
    return reports.scenario("bulk", status, finding, "what was seen", "why", known=known, **members)


OK = Verdict(Status.OK, "sessions fine")


# ---- which


def test_without_a_name_the_sessions_and_the_quick_scenarios_run() -> None:
    wanted = catalogue.wanted(())
    assert wanted.sessions
    assert wanted.scenarios == tuple(s.name for s in catalogue.CATALOGUE if s.quick)
    assert wanted.scenarios


def test_on_freebsd_only_what_was_named_runs_beside_the_sessions() -> None:
    assert catalogue.wanted((), Os.FREEBSD) == catalogue.Wanted(True, ())
    assert catalogue.wanted(("bulk",), Os.FREEBSD) == catalogue.Wanted(False, ("bulk",))


def test_a_named_scenario_runs_alone_and_all_runs_everything() -> None:
    assert catalogue.wanted(("bulk",)) == catalogue.Wanted(False, ("bulk",))
    assert catalogue.wanted(("session",)) == catalogue.Wanted(True, ())
    assert catalogue.wanted(("all",)) == catalogue.Wanted(True, tuple(catalogue.BY_NAME))


def test_a_scenario_per_cipher_runs_with_one_suite_of_each_promised_cipher() -> None:
    assert trials(("bulk",), promised=AGREED) == [
        ("bulk", GCM12),
        ("bulk", "ECDHE-ECDSA-AES256-GCM-SHA384"),
        ("bulk", GCM13),
    ]


def test_the_others_run_with_one_suite_of_each_version() -> None:
    assert trials(("limits",), promised=AGREED) == [("limits", GCM12), ("limits", GCM13)]


def test_where_nothing_is_promised_one_suite_of_each_version_shows_user_space() -> None:
    assert trials(("bulk",)) == [("bulk", GCM12), ("bulk", GCM13)]


def test_suites_that_were_named_are_those_of_every_scenario() -> None:
    named = ("ECDHE-RSA-AES256-GCM-SHA384", "TLS_AES_256_GCM_SHA384")
    assert trials(("limits",), suites=named, promised=AGREED) == [("limits", named[0]), ("limits", named[1])]


def test_a_scenario_of_one_version_leaves_the_other_out() -> None:
    assert {suite for _, suite in trials(("many",), promised=AGREED)} == {GCM12}
    assert trials(("many",), versions=(TlsVersion.TLS13,), promised=AGREED) == []


def test_every_defect_that_a_scenario_proves_can_be_accepted_and_is_an_advisory() -> None:
    proved = {identity for _, _, known in OUTCOMES.values() for identity in known}
    assert proved <= set(catalogue.DEFECTS)
    assert all(advisories.by_id(identity) for identity in catalogue.DEFECTS)


def test_the_manual_names_the_patience_of_every_scenario() -> None:
    manual = (Path(__file__).parent.parent / "man/ktlsctl-selftest.8").read_text()
    text = " ".join(manual.partition("has a patience of its own")[2].partition(".It Fl")[0].split())
    usual, *others = sorted({scenario.patience for scenario in catalogue.CATALOGUE})
    assert f"{usual:g} seconds" in text
    for scenario in catalogue.CATALOGUE:
        assert scenario.patience == usual or f"{scenario.patience:g} for .Cm {scenario.name} ," in text
    assert others


def test_every_scenario_has_a_module_that_runs_it() -> None:
    from importlib import import_module

    for name in catalogue.BY_NAME:
        assert callable(import_module(f"ktlsctl.trials.{name.replace('-', '_')}").run)


# ---- the verdict


def test_what_is_fine_leaves_the_sessions_verdict() -> None:
    verdict = selftest.pronounce_scenarios([found(Status.OK, Finding.FINE)], OK)
    assert (verdict.status, verdict.summary) == (Status.OK, "sessions fine; 1 scenario runs fine")


@pytest.mark.parametrize("status", [Status.CRITICAL, Status.WARNING, Status.UNKNOWN])
def test_the_worst_scenario_is_the_verdict(status: Status) -> None:
    results = [found(Status.OK, Finding.FINE), found(Status.SKIP, Finding.NOT_RUN), found(status, Finding.KNOWN)]
    verdict = selftest.pronounce_scenarios(results, OK)
    assert verdict.status is status
    assert verdict.summary == f"bulk, TLSv1.2 {GCM12}: what was seen"


def test_a_session_that_failed_outweighs_every_scenario() -> None:
    broken = Verdict(Status.CRITICAL, "broken", "selftest.sessions")
    assert selftest.pronounce_scenarios([found(Status.CRITICAL, Finding.KNOWN)], broken) is broken


def test_a_known_defect_names_its_remedy_and_what_is_not_known_asks_for_a_report() -> None:
    known = found(Status.CRITICAL, Finding.KNOWN, ("openssl.moving-write-buffer",))
    (remedy,) = selftest.pronounce_scenarios([known], OK).remedy
    assert "3.5.7" in remedy.text
    (remedy,) = selftest.pronounce_scenarios([found(Status.CRITICAL, Finding.UNEXPLAINED)], OK).remedy
    assert "report it" in remedy.text


def test_an_accepted_defect_is_shown_and_does_not_weigh() -> None:
    lost = bulk.Facts(Carried(True, True, True, True), bulk.SIZE, (1,), False, True)
    fine = selftest.report(reports.ok(), None, answer(facts(seen=IN_KERNEL)), Policy(), Way.AUTO)
    bad = selftest.report(reports.ok(), None, answer(facts(seen=lost)), Policy(accepted=frozenset({"x"})), Way.AUTO)
    assert fine.verdict.status is Status.OK
    # what is not known cannot be accepted
    assert (bad.verdict.status, bad.scenarios[0].accepted) == (Status.CRITICAL, False)
    accepted = replace(found(Status.CRITICAL, Finding.KNOWN, ("openssl.moving-write-buffer",)), accepted=True)
    assert selftest.pronounce_scenarios([accepted], OK).status is Status.OK


# ---- the document


def test_scenarios_alone_are_ok_only_if_something_was_in_the_kernel_or_promised() -> None:
    user = bulk.Facts(Carried(), bulk.SIZE, (1,), True, True)
    promised = selftest.report(reports.ok(), None, answer(facts(seen=user)), Policy(), Way.AUTO)
    assert promised.verdict.status is Status.OK
    nothing = selftest.report(reports.broken_module(), None, answer(facts(seen=user)), Policy(), Way.AUTO)
    assert nothing.verdict.status is Status.CRITICAL
    assert nothing.verdict.first_broken == reports.broken_module().verdict.first_broken
    assert nothing.scenarios[0].status is Status.OK


def test_a_trial_that_died_is_unexplained_and_one_that_means_nothing_is_skipped() -> None:
    died, absent = facts(failure="the library died of SIGSEGV"), facts(absent="no such function")
    report = selftest.report(reports.ok(), None, answer(died, absent), Policy(), Way.AUTO)
    assert [(r.status, r.finding) for r in report.scenarios] == [
        (Status.CRITICAL, Finding.UNEXPLAINED),
        (Status.SKIP, Finding.NOT_RUN),
    ]
    assert report.scenarios[0].reason == "the library died of SIGSEGV"


def test_a_child_without_an_answer_is_unknown() -> None:
    report = selftest.report(reports.ok(), None, Attempt(Outcome.TIMEOUT, reason="it hung"), Policy(), Way.AUTO)
    assert report.verdict.status is Status.UNKNOWN
    assert "it hung" in report.verdict.summary


def test_io_uring_that_was_asked_for_and_is_not_there_is_unknown() -> None:
    report = selftest.report(reports.ok(), None, answer(facts(), ring_reason="forbidden"), Policy(), Way.IO_URING)
    assert (report.verdict.status, report.scenarios) == (Status.UNKNOWN, ())


def test_without_the_io_uring_that_was_asked_for_nothing_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = SimpleNamespace(
        libssl=SimpleNamespace(version="v", path="p"), ring_reason="forbidden", alone="", contexts=(None, None)
    )
    monkeypatch.setattr(trials_run, "prepare", lambda *_: prepared)
    monkeypatch.setattr(trials_run, "offered", lambda *_: ((TlsVersion.TLS12, GCM12, "AES-128-GCM"),))
    monkeypatch.setattr(trials_run, "in_children", lambda *_: pytest.fail("a trial was run"))
    order = TrialsOrder("p", Way.IO_URING, 20.0, 1, (Trial("bulk", TlsVersion.TLS12, GCM12),))
    assert decode(TrialsFacts, trials_run.probe(encode(order))) == TrialsFacts("v", "p", "forbidden", "", ())


def test_where_nothing_could_be_run_the_verdict_is_unknown_and_says_why() -> None:
    absent = facts(absent="splice is Linux's")
    for checked in (reports.ok(), reports.broken_module()):
        report = selftest.report(checked, None, answer(absent, absent), Policy(), Way.AUTO)
        assert (report.verdict.status, report.verdict.summary) == (
            Status.UNKNOWN, "no scenario could be run: splice is Linux's"
        )  # fmt: skip


def test_what_was_not_run_is_not_counted_as_fine() -> None:
    results = [found(Status.OK, Finding.FINE), found(Status.OK, Finding.KNOWN), found(Status.SKIP, Finding.NOT_RUN)]
    assert selftest.pronounce_scenarios(results, OK).summary == "sessions fine; 2 scenario runs fine, 1 not run"


def test_a_trial_that_this_host_did_not_let_be_tried_is_unknown_and_not_unexplained() -> None:
    report = selftest.report(reports.ok(), None, answer(facts(untried="Too many open files")), Policy(), Way.AUTO)
    (result,) = report.scenarios
    assert (result.status, result.finding) == (Status.UNKNOWN, Finding.NOT_RUN)
    assert "Too many open files" in report.verdict.summary
    assert not report.verdict.remedy


def test_a_report_of_scenarios_alone_names_library_datapath_and_what_is_missing() -> None:
    said = TrialsFacts("OpenSSL 3.5.7", "/lib/libssl.so.3", "io_uring_setup: EPERM", "user namespaces: EPERM", ())
    some = Attempt.ran(replace(said, trials=(replace(facts(seen=IN_KERNEL), datapath="socket"),)))
    text = selftest_text.render(selftest.report(reports.ok(), None, some, Policy(), Way.AUTO))
    assert "Library:  OpenSSL 3.5.7 /lib/libssl.so.3\n" in text
    assert "Datapath: socket, not io_uring: io_uring_setup: EPERM\n" in text
    assert "no network namespace of our own: user namespaces: EPERM" in " ".join(text.split())


def test_no_trial_at_all_is_never_ok() -> None:
    report = selftest.report(reports.ok(), None, answer(), Policy(), Way.AUTO)
    assert report.verdict.status is Status.UNKNOWN


# ---- advisories


def notice(identity: str, certainty: Certainty, subject: str) -> Any:
    return next(
        replace(n, certainty=certainty, subject=subject)
        for n in advisories.confirmed((), frozenset({identity}), frozenset(), ABOUT, reports.SYSTEM)
    )


def test_what_a_scenario_proved_is_certain_and_what_it_refuted_of_this_library_is_gone() -> None:
    subject = f"{reports.SYSTEM.version} {reports.SYSTEM.path}"
    suspected = notice("openssl.moving-write-buffer", Certainty.POSSIBLE, subject)
    (proved,) = advisories.confirmed(
        (suspected,), frozenset({suspected.id}), frozenset(), ABOUT, reports.SYSTEM
    )  # fmt: skip
    assert (proved.certainty, proved.subject) == (Certainty.PROVED, subject)
    assert advisories.confirmed((suspected,), frozenset(), frozenset({suspected.id}), ABOUT, reports.SYSTEM) == ()


def test_another_library_keeps_its_suspicion_when_this_one_is_cleared() -> None:
    other = notice("openssl.moving-write-buffer", Certainty.POSSIBLE, "OpenSSL 3.0.22 /opt/libssl.so.3")
    assert advisories.confirmed((other,), frozenset(), frozenset({other.id}), ABOUT, reports.SYSTEM) == (other,)


def test_what_is_only_worth_knowing_is_no_alarm_when_it_was_proved() -> None:
    proved = notice("openssl.lying-bio", Certainty.PROVED, "x")
    assert advisories.check((proved,)).status is Status.OK


# ---- the command


def test_the_list_says_what_each_scenario_proves() -> None:
    done = CliRunner().invoke(cli, ["selftest", "--list-scenarios"])
    assert done.exit_code == 0
    for scenario in catalogue.CATALOGUE:
        assert f"\n{scenario.name} " in done.output
    assert max(map(len, done.output.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--scenario", "nonsense"], "no scenario is called 'nonsense'; name one of session, all, bulk"),
        (
            ["--accept", "nonsense"],
            "no scenario proves a defect called 'nonsense'; name one of openssl.moving-write-buffer,",
        ),
        (["--accept", "openssl.rx-data-length"], "no scenario proves"),
        (["--list-scenarios", "--json"], "--list-scenarios is text only"),
        (["--list-scenarios", "--format", "tap"], "--list-scenarios is text only"),
        (["--libssl", ""], "--libssl names no file"),
        (["--tls1.2", "--require", "tls1.3:tx"], "add --tls1.3"),
        (["--scenario", "bulk", "--require", "tls1.2:tx"], "add --scenario session"),
    ],
)
def test_nonsense_is_refused_in_one_sentence(arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(cli, ["selftest", *arguments])
    assert done.exit_code != 0
    assert said in done.output


def test_the_completions_offer_every_scenario() -> None:
    for name in ("ktlsctl.bash", "ktlsctl.zsh", "ktlsctl.fish"):
        text = (Path(completions).parent / name).read_text()
        words = text.replace("'", " ").replace("(", " ").replace(")", " ").split()
        assert {"session", "all", *catalogue.BY_NAME} <= set(words), name


def test_each_finding_is_said_once_worst_first() -> None:
    text = selftest_text.render(reports.selftest_scenarios())
    assert (
        text.index("CRITICAL  moving-write-buffer") < text.index("WARNING   key-update") < text.index("OK        bulk")
    )
    assert "known as: keyupdate-fatal (accepted)" in text
    assert "not a known defect" in text
    quiet = selftest_text.render(reports.selftest_scenarios(), quiet=True)
    assert "moving-write-buffer" in quiet
    assert "16777216 bytes" not in quiet
