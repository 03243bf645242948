# SPDX-License-Identifier: BSD-2-Clause
"""advisories: a version only suggests, a proof decides, and every notice has a next step."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktlsctl import advisories
from ktlsctl.advisories import TABLE, Advisory, Span, Subject, concerning, linux_level, parse
from ktlsctl.model import About, AdvisoryNotice, Certainty, Library, Os, Status, Tri

NONE: frozenset[str] = frozenset()
COMPILER = "(gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0, GNU ld (GNU Binutils for Debian) 2.40)"
DEBIAN_12 = f"Linux version 6.1.0-56-amd64 {COMPILER} #1 SMP PREEMPT_DYNAMIC Debian 6.1.192-1 (2026-11-01)"
BY_ID = {advisory.id: advisory for advisory in TABLE}


def linux(release: str) -> About:
    return About(Os.LINUX, release, "x86_64", False)


def bsd(release: str) -> About:
    return About(Os.FREEBSD, release, "amd64", False)


def library(version: str, built: Tri = Tri.YES, path: str = "/usr/lib/libssl.so.3") -> Library:
    return Library(path, version, "distribution", ("system",), Status.OK, "", built, "handshake", Tri.NO)


def ids(notices: tuple[AdvisoryNotice, ...]) -> set[str]:
    return {notice.id for notice in notices}


def of_linux(release: str, text: str = "") -> set[str]:
    return ids(concerning(linux(release), (), NONE, text))


def of_freebsd(release: str) -> set[str]:
    return ids(concerning(bsd(release), (), NONE))


def of_openssl(version: str, built: Tri = Tri.YES, about: About | None = None) -> set[str]:
    notices = concerning(about or linux("7.3.0"), (library(version, built),), NONE)
    return {identity for identity in ids(notices) if identity.startswith("openssl.")}


# --- the table ---


def test_ids_are_unique() -> None:
    assert len(BY_ID) == len(TABLE)


@pytest.mark.parametrize("advisory", TABLE, ids=lambda a: a.id)
def test_every_entry_says_what_where_and_what_to_do(advisory: Advisory) -> None:
    assert advisory.what
    assert advisory.affected
    assert advisory.fixed
    assert advisory.reference
    assert advisory.remedy.text
    assert advisory.spans


def edges() -> list[tuple[Advisory, Span]]:
    return [(advisory, span) for advisory in TABLE for span in advisory.spans]


@pytest.mark.parametrize(("advisory", "span"), edges(), ids=lambda x: x.id if isinstance(x, Advisory) else str(x))
def test_the_first_fixed_version_is_free_and_the_one_below_is_not(advisory: Advisory, span: Span) -> None:
    if not span.empty:
        assert advisory.concerns(parse(span.first))
    if span.fixed is None:
        return
    fixed = parse(span.fixed)
    # A regression may return in the very next branch (6.18): then that branch's own span says so.
    again = any(other.first == span.fixed and not other.empty for other in advisory.spans)
    assert advisory.concerns(fixed) is again
    major, minor, patch, _ = fixed
    if patch and not span.empty:
        assert advisory.concerns((major, minor, patch - 1, fixed[3]))


@pytest.mark.parametrize("advisory", TABLE, ids=lambda a: a.id)
def test_what_came_before_the_first_affected_version_is_free(advisory: Advisory) -> None:
    first = min(parse(span.first) for span in advisory.spans)
    assert not advisory.concerns((first[0], first[1] - 1, 99, first[3]))


@pytest.mark.parametrize(
    ("identity", "affected", "free"),
    [
        ("CVE-2025-39682", ("6.0", "6.1.148", "6.5.13", "6.12.43", "6.13", "6.16.3"), ("5.19.17", "6.1.149", "6.17")),
        ("CVE-2025-39946", ("6.1.153", "6.12.48"), ("6.1.154", "6.6.108", "6.12.49", "6.16.9", "6.18.1")),
        ("CVE-2025-38471", ("6.0.6", "6.1.146", "6.15.7"), ("6.0.5", "6.1.147", "6.16", "7.2.13")),
        ("CVE-2025-37756", ("4.13", "5.10.236", "5.4.290", "6.14.2"), ("4.12", "5.10.237", "6.15")),
        ("CVE-2024-26800", ("6.6.18", "6.6.20", "6.7.8"), ("6.6.17", "6.6.21", "6.7.5", "6.7.9", "6.1.80")),
        ("CVE-2023-28466", ("6.1.19", "6.2.6"), ("6.1.20", "6.2.7", "6.3")),
        ("CVE-2026-23240", ("6.1.192", "6.18.15", "7.0-rc1"), ("5.2", "6.12.75", "7.0-rc2", "7.0")),
        (
            "CVE-2026-23414",
            ("6.1.158", "6.1.167", "6.6.130", "6.12.55", "6.17.5", "6.17.13", "6.18", "6.18.20", "6.19.10"),
            ("6.1.157", "6.1.168", "6.6.113", "6.12.54", "6.12.80", "6.16.12", "6.17.4", "6.18.21", "6.19.11", "7.0"),
        ),
        ("CVE-2026-64025", ("5.10", "6.6.141", "7.0.10"), ("5.9", "6.6.142", "7.0.11", "7.1")),
        ("CVE-2026-98967", ("6.1.190", "7.2.10"), ("6.1.191", "6.12.1", "7.2.11", "7.3")),
        ("linux.ccm-aad", ("5.2", "5.4.163", "5.15.6"), ("5.1.21", "5.4.164", "5.10.84", "5.15.7", "5.16")),
        ("openssl.moving-write-buffer", ("3.0.0", "3.0.22", "3.5.6", "3.6.2", "4.0.0"), ("3.5.7", "3.6.3", "4.0.1")),
        ("openssl.rx-data-length", ("3.2.0",), ("3.1.8", "3.2.1")),
        ("openssl.keyupdate-wrong-key", ("3.0.22", "3.1.0"), ("3.2.0",)),
        ("FreeBSD-SA-26:46.ktls", ("14.0", "14.3-p15", "14.4-p6", "15.0-p10", "15.1"), ("13.5-p9", "14.3-p16", "14.5")),
        (
            "FreeBSD-SA-26:67.ktls",
            ("14.3-p99", "14.4-p9", "14.5", "15.0-p13", "15.1-p3"),
            ("14.5-p1", "14.6", "15.1-p4"),
        ),
        ("FreeBSD-EN-26:17.rpcsec_tls", ("15.0-p10", "15.1"), ("14.3", "15.0-p11", "15.1-p1", "15.2")),
        ("FreeBSD-EN-23:17.ossl", ("14.0", "14.0-p9"), ("13.2", "14.1")),
    ],
)
def test_the_range_of_an_advisory_in_each_branch(
    identity: str, affected: tuple[str, ...], free: tuple[str, ...]
) -> None:
    advisory = BY_ID[identity]
    assert {v for v in (*affected, *free) if advisory.concerns(parse(v))} == set(affected)


def test_debians_own_fix_counts_for_debians_kernel_only() -> None:
    advisory = BY_ID["CVE-2025-38616"]
    assert not advisory.concerns(parse("6.1.185"), debian=True)
    assert advisory.concerns(parse("6.1.184"), debian=True)
    assert advisory.concerns(parse("6.1.185"), debian=False)
    assert advisory.concerns(parse("6.6.102"), debian=True)


def test_the_fixed_versions_are_shown_with_the_mainline_release() -> None:
    assert BY_ID["CVE-2025-39682"].fixed == "6.1.149, 6.6.103, 6.12.44, 6.16.4, 6.17"
    assert BY_ID["CVE-2025-38616"].fixed.endswith("6.17, 6.1.185 (Debian)")
    assert BY_ID["openssl.sporadic-rx"].fixed == "no fix known"
    assert "6.17 to before 6.17" not in BY_ID["CVE-2025-39682"].affected


# --- versions ---


@given(st.text())
def test_a_version_parses_or_raises_value_error(text: str) -> None:
    try:
        found = parse(text)
    except ValueError:
        return
    assert len(found) == 4


@given(st.text(), st.text())
def test_any_release_and_any_text_are_taken(release: str, text: str) -> None:
    linux_level(release, text)
    advisories.freebsd_level(release)
    advisories.openssl_version(text)
    for about in (linux(release), bsd(release)):
        for notice in concerning(about, (library(text),), NONE, text):
            assert notice.certainty is Certainty.POSSIBLE
            assert notice.remedy.text


@given(st.tuples(*[st.integers(0, 999)] * 3), st.tuples(*[st.integers(0, 999)] * 3))
def test_versions_order_as_numbers(one: tuple[int, int, int], other: tuple[int, int, int]) -> None:
    dotted = ["{}.{}.{}".format(*v) for v in (one, other)]
    patched = ["{}.{}-p{}".format(*v) for v in (one, other)]
    assert (parse(dotted[0]) < parse(dotted[1])) is (one < other)
    assert (parse(patched[0]) < parse(patched[1])) is (one < other)


def test_a_candidate_comes_before_its_release() -> None:
    assert parse("7.0-rc1") < parse("7.0-rc2") < parse("7.0") < parse("7.0.1")


@pytest.mark.parametrize(
    ("release", "version", "exact"),
    [
        ("6.12.44", "6.12.44", True),
        ("6.12.107+deb13-amd64", "6.12.107", True),
        ("6.17.8-300.fc43.x86_64", "6.17.8", True),
        ("6.6.96.2-1.azl3", "6.6.96", True),
        ("5.15.167.4-microsoft-standard-WSL2", "5.15.167", True),
        ("7.0.0-rc2", "7.0-rc2", True),
        ("6.17.0", "6.17", True),
        ("6.17.0-mine", "6.17", True),
        ("6.1.0-56-amd64", "6.1", False),
        ("6.8.0-45-generic", "6.8", False),
        ("5.14.0-503.11.1.el9_5.x86_64", "5.14", False),
        ("6.4.0-150600.23.47-default", "6.4", False),
    ],
)
def test_a_package_number_is_not_taken_for_a_stable_level(release: str, version: str, exact: bool) -> None:
    level = linux_level(release)
    assert level is not None
    assert (level.version, level.exact) == (parse(version), exact)


def test_the_kernels_own_word_tells_debians_level() -> None:
    level = linux_level("6.1.0-56-amd64", DEBIAN_12)
    assert level == advisories.Level(parse("6.1.192"), exact=True, debian=True)


def test_the_builders_name_is_not_needed_to_tell_the_level() -> None:
    kept = advisories.build_text(DEBIAN_12.replace("(gcc", "(me@home) (gcc").encode())
    assert b"me@home" not in kept
    assert linux_level("6.1.0-56-amd64", kept.decode()) == linux_level("6.1.0-56-amd64", DEBIAN_12)
    assert advisories.build_text(b"Linux version 6.1 (me@home)") == b""


def test_a_kernel_built_by_oneself_on_debian_is_not_debians() -> None:
    level = linux_level("6.12.44", f"Linux version 6.12.44 {COMPILER} #1 SMP PREEMPT_DYNAMIC Sun Nov 1 2026")
    assert level == advisories.Level(parse("6.12.44"), exact=True)


def test_ubuntus_signature_tells_its_upstream_level() -> None:
    level = linux_level("6.8.0-45-generic", "Ubuntu 6.8.0-45.45-generic 6.8.12\n")
    assert level == advisories.Level(parse("6.8.12"), exact=True)


@pytest.mark.parametrize(
    ("release", "version", "exact"),
    [
        ("14.3-RELEASE", "14.3", True),
        ("14.3-RELEASE-p5", "14.3-p5", True),
        ("15.1-RELEASE-p4", "15.1-p4", True),
        ("14.4-STABLE", "14.4", False),
        ("16.0-CURRENT", "16.0", False),
        ("15.0-BETA2", "15.0", False),
    ],
)
def test_a_freebsd_branch_build_has_no_patch_level(release: str, version: str, exact: bool) -> None:
    level = advisories.freebsd_level(release)
    assert level is not None
    assert (level.version, level.exact) == (parse(version), exact)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("OpenSSL 3.0.22 7 Jul 2026", "3.0.22"),
        ("3.5.7", "3.5.7"),
        ("OpenSSL 4.0.0-beta1", "4.0.0"),
        ("LibreSSL 4.0.0", None),
        ("AWS-LC 1.2.3", None),
        ("", None),
    ],
)
def test_only_openssl_is_compared_with_openssls_defects(text: str, version: str | None) -> None:
    assert advisories.openssl_version(text) == (None if version is None else parse(version))


# --- what concerns a host ---


def test_a_current_debian_12_is_compared_at_its_real_level() -> None:
    assert of_linux("6.1.0-56-amd64", DEBIAN_12) == {"CVE-2026-23240", "linux.sendfile-short-buffer"}


def test_an_old_debian_12_is_possibly_affected() -> None:
    old = DEBIAN_12.replace("6.1.192", "6.1.148")
    assert {"CVE-2025-39682", "CVE-2025-38616", "CVE-2025-39946"} <= of_linux("6.1.0-39-amd64", old)


def test_a_current_kernel_has_no_notice_but_of_the_limit_that_no_version_lifts() -> None:
    assert of_linux("7.2.13-amd64") == {"linux.rekey-poll-stall"}
    assert of_linux("6.13.13") & {"linux.rekey-poll-stall"} == set()


@pytest.mark.parametrize("release", ["5.14.0-503.el9.x86_64", "6.8.0-45-generic", "6.1.0-56-amd64", "weird"])
def test_a_distribution_kernel_without_a_known_level_gets_one_hint(release: str) -> None:
    (notice,) = concerning(linux(release), (), NONE)
    assert notice.id == "linux.level-unknown"
    assert notice.certainty is Certainty.POSSIBLE
    assert advisories.check((notice,)).status is Status.OK


def test_the_hint_leaves_out_what_the_branch_never_had() -> None:
    (notice,) = concerning(linux("6.8.0-45-generic"), (), NONE)
    named = set(notice.affected.split(", "))
    assert "CVE-2025-39682" in named
    assert not named & {"CVE-2024-26582", "CVE-2024-26800", "linux.ccm-aad", "CVE-2026-23414"}


@pytest.mark.parametrize(
    ("release", "expected"),
    [
        ("13.2-RELEASE-p4", {"FreeBSD-SA-26:26.ktls"}),
        ("14.3-RELEASE", {"FreeBSD-SA-26:26.ktls", "FreeBSD-SA-26:46.ktls", "FreeBSD-SA-26:67.ktls"}),
        ("14.4-RELEASE-p10", set()),
        ("15.0-RELEASE-p11", {"FreeBSD-SA-26:67.ktls", "freebsd.sendfile-replay"}),
        ("15.1-RELEASE-p4", {"freebsd.sendfile-replay"}),
        ("14.4-STABLE", {"freebsd.level-unknown"}),
    ],
)
def test_each_freebsd_patch_level_gets_its_own_advisories(release: str, expected: set[str]) -> None:
    assert of_freebsd(release) == expected


def test_a_fix_that_was_seen_outweighs_the_version() -> None:
    refuted = frozenset(("FreeBSD-SA-26:67.ktls", "openssl.keyupdate-fatal"))
    notices = concerning(bsd("15.0-RELEASE"), (library("3.5.4"),), NONE, refuted=refuted)
    assert not ids(notices) & refuted
    (hint,) = concerning(bsd("14.4-STABLE"), (), NONE, refuted=refuted)
    assert "FreeBSD-SA-26:67.ktls" not in hint.affected


def test_what_was_proved_is_shown_whatever_the_version_says_and_first() -> None:
    proved = frozenset(("CVE-2025-37756",))
    notices = concerning(linux("7.2.13"), (library("3.0.22"),), proved)
    assert (notices[0].id, notices[0].certainty) == ("CVE-2025-37756", Certainty.PROVED)
    assert len(notices) > 1
    assert all(notice.certainty is Certainty.POSSIBLE for notice in notices[1:])


def test_proved_and_refuted_together_is_proved() -> None:
    both = frozenset(("CVE-2025-37756",))
    found = {notice.id: notice for notice in concerning(linux("7.2.13"), (), both, refuted=both)}
    assert found["CVE-2025-37756"].certainty is Certainty.PROVED


def test_a_kernels_defects_are_not_looked_for_on_the_other_system() -> None:
    assert not concerning(bsd("15.1-RELEASE-p4"), (), frozenset(("CVE-2025-37756",)))[1:]
    assert not {i for i in of_freebsd("14.0-RELEASE") if i.startswith(("CVE", "linux."))}


def test_one_notice_names_every_library_it_concerns() -> None:
    libraries = (library("3.0.22", path="/a/libssl.so.3"), library("3.5.7"), library("3.0.21", path="/b/libssl.so.3"))
    notices = [n for n in concerning(linux("7.3.0"), libraries, NONE) if n.id == "openssl.moving-write-buffer"]
    assert [n.subject for n in notices] == ["3.0.22 /a/libssl.so.3, 3.0.21 /b/libssl.so.3"]


def test_a_library_built_without_ktls_has_none_of_its_defects() -> None:
    assert of_openssl("3.0.22", Tri.NO) == set()
    assert of_openssl("3.0.22", Tri.UNKNOWN) == of_openssl("3.0.22", Tri.YES) != set()


def test_a_defect_of_one_system_is_not_shown_on_another() -> None:
    assert "openssl.freebsd-build" in of_openssl("4.0.2", about=bsd("15.1-RELEASE-p4"))
    assert "openssl.freebsd-build" not in of_openssl("4.0.2")


# --- the check ---


def notices_of(*proved: str) -> tuple[AdvisoryNotice, ...]:
    return concerning(linux("7.2.13"), (library("3.5.7"),), frozenset(proved))


def test_versions_alone_are_never_an_alarm() -> None:
    check = advisories.check(concerning(linux("6.1.100"), (library("3.0.13"),), NONE))
    assert check.status is Status.OK
    assert check.reason
    assert check.evidence["proved"] == ()


def test_nothing_known_is_ok_without_a_note() -> None:
    check = advisories.check(())
    assert (check.status, check.reason) == (Status.OK, "")


def test_a_proved_defect_is_a_warning_and_a_grave_one_critical() -> None:
    mild = advisories.check(notices_of("CVE-2025-37756"))
    grave = advisories.check(notices_of("CVE-2025-37756", "openssl.moving-write-buffer"))
    assert (mild.status, grave.status) == (Status.WARNING, Status.CRITICAL)
    assert BY_ID["openssl.moving-write-buffer"].remedy in grave.remedy
    assert "CVE-2025-37756" in mild.summary


def test_the_summary_stays_short_however_much_is_proved() -> None:
    check = advisories.check(notices_of(*(a.id for a in TABLE if a.subject is not Subject.FREEBSD)))
    assert len(check.summary) <= 90
    assert len(re.findall("CVE-", check.summary)) <= 2


def test_what_a_probe_can_prove_says_by_which_behaviour() -> None:
    provable = {advisory.id for advisory in TABLE if advisory.proof}
    assert {"CVE-2025-37756", "linux.ccm-aad", "openssl.moving-write-buffer", "FreeBSD-SA-26:26.ktls"} <= provable


def test_every_id_that_a_platform_proves_or_refutes_stands_in_the_table() -> None:
    ids = {advisory.id for advisory in advisories.TABLE}
    assert {"CVE-2025-37756", "openssl.keyupdate-fatal", "FreeBSD-SA-26:67.ktls"} <= ids


def test_a_kernel_without_kernel_tls_has_none_of_its_defects() -> None:
    about = About(Os.LINUX, "6.12.10", "x86_64", False)
    assert advisories.concerning(about, (), frozenset())
    assert not advisories.concerning(about, (), frozenset(), "", advisories.of_kernel(Os.LINUX))


def test_a_proved_defect_that_only_is_worth_knowing_is_named_and_is_no_alarm() -> None:
    quiet = next(advisory for advisory in TABLE if not advisory.alarm and advisory.subject is Subject.OPENSSL)
    notices = concerning(linux("7.3.0"), (library("3.5.4"),), frozenset({quiet.id}))
    found = advisories.check(notices)
    assert found.status is Status.OK
    assert found.summary == f"1 known defect proved here, worth knowing only: {quiet.id}"
    assert found.evidence["proved"] == (quiet.id,)
