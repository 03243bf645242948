# SPDX-License-Identifier: BSD-2-Clause
"""corruption: what its facts mean, and the trial on this kernel."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ktlsctl import advisories
from ktlsctl.model import Finding, Status, TlsVersion
from ktlsctl.scenarios.corruption import Case, Damage, Facts, judge
from ktlsctl.scenarios.ending import NOTHING, Ending
from ktlsctl.sessionfacts import Carried, Way
from tests.trials import WAYS, judged_here

BAD_MAC = Ending(1, 74, "decryption failed or bad record mac, record layer failure, Bad message")
ALERT = Ending(1, 0, "ssl/tls alert bad record mac")
KERNEL = Case(Damage.BODY, True, True, False, 0, BAD_MAC, 1, NOTHING)
USER = Case(Damage.BODY, False, True, False, 0, BAD_MAC, 0, ALERT)
NO_ALERT = "openssl.alert-after-bad-record"


def of(*cases: Case) -> Facts:
    return Facts(Carried(server_rx=any(case.kernel for case in cases)), TlsVersion.TLS12, cases)


def changed(case: Case, which: str, value: Any) -> Facts:
    change: dict[str, Any] = {which: value}
    return of(replace(case, **change))


def test_damage_refused_in_user_space_is_fine() -> None:
    found = judge(of(USER))
    assert (found.status, found.finding, found.known) == (Status.OK, Finding.FINE, ())
    assert found.evidence == {"user space, body flipped": str(BAD_MAC)}


def test_damage_refused_by_the_kernel_without_an_alert_is_a_known_limit_and_no_alarm() -> None:
    found = judge(of(KERNEL, USER))
    assert (found.status, found.finding, found.known) == (Status.OK, Finding.KNOWN, (NO_ALERT,))
    assert advisories.by_id(NO_ALERT) is not None


def test_damage_refused_by_the_kernel_with_an_alert_is_fine() -> None:
    assert judge(of(replace(KERNEL, alert=ALERT))).finding is Finding.FINE


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (Damage.VERSION, "wrong version number"),
        (Damage.FOREIGN, "wrong version number"),
        (Damage.OVERSIZED, "packet length too long"),
        (Damage.STUB, "decryption failed or bad record mac"),
    ],
)
def test_what_the_header_gives_away_is_not_counted_by_the_kernel(damage: Damage, reason: str) -> None:
    refused = Case(damage, True, True, False, 0, Ending(1, 0, reason), 0, ALERT)
    assert judge(of(refused)).finding is Finding.FINE
    assert "TlsDecryptError rose by 1 instead of 0" in judge(of(replace(refused, errors=1))).reason
    assert "no alert told the sender" in judge(of(replace(refused, alert=NOTHING))).reason


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (Damage.TYPE, "bad record type"),
        (Damage.VERSION, "wrong version number"),
        (Damage.FOREIGN, "wrong version number"),
        (Damage.FOREIGN, "bad record type"),
        (Damage.OVERSIZED, "encrypted length too long"),
        (Damage.OVERSIZED, "packet length too long"),
        (Damage.STUB, "invalid aad, internal error"),
        (Damage.STUB, "invalid data, internal error, record layer failure"),
        (Damage.TAG, "cipher operation failed, decryption failed or bad record mac"),
    ],
)
def test_each_librarys_own_words_for_a_damage_are_right_in_user_space(damage: Damage, reason: str) -> None:
    assert judge(of(Case(damage, False, True, False, 0, Ending(1, 0, reason), 0, ALERT))).finding is Finding.FINE


@pytest.mark.parametrize("case", [KERNEL, USER], ids=["kernel", "user space"])
@pytest.mark.parametrize(
    ("which", "value", "said"),
    [
        ("delivered", False, "not what preceded it"),
        ("more", 17, "17 bytes were delivered after the error"),
        ("ending", Ending(1, 0, "unexpected message"), "SSL_read says 'unexpected message'"),
        ("ending", Ending(6), "SSL_read says 'close_notify'"),
        ("errors", 2, "TlsDecryptError rose by 2"),
    ],
)
def test_anything_else_is_unexplained(case: Case, which: str, value: Any, said: str) -> None:
    found = judge(changed(case, which, value))
    assert (found.status, found.finding) == (Status.CRITICAL, Finding.UNEXPLAINED)
    assert said in found.reason


def test_the_kernel_may_look_past_the_outer_type_of_tls_1_3_and_only_there() -> None:
    accepted = Case(Damage.TYPE, True, False, True, 0, NOTHING, 0, NOTHING)
    found = judge(replace(of(accepted), version=TlsVersion.TLS13))
    assert found.finding is Finding.FINE
    assert found.evidence == {"kernel, type flipped": "accepted: the type that counts is inside"}
    assert judge(of(accepted)).finding is Finding.UNEXPLAINED
    for other in (
        replace(accepted, accepted=False),
        replace(accepted, kernel=False),
        replace(accepted, damage=Damage.TAG),
    ):
        assert judge(replace(of(other), version=TlsVersion.TLS13)).finding is Finding.UNEXPLAINED


def test_a_sender_that_user_space_did_not_tell_is_unexplained() -> None:
    assert "no alert told the sender" in judge(changed(USER, "alert", NOTHING)).reason


def test_a_counter_that_cannot_be_read_is_not_judged() -> None:
    assert judge(changed(USER, "errors", None)).finding is Finding.FINE


@pytest.mark.parametrize("way", WAYS)
def test_this_kernels_sessions_refuse_every_damage(way: Way) -> None:
    tls12, tls13 = judged_here("corruption", way)
    assert (tls12.finding, tls13.finding) == (Finding.FINE, Finding.FINE), (tls12, tls13)
    assert set(tls12.evidence) == {f"user space, {damage}" for damage in Damage}
    assert set(tls13.evidence) == {f"user space, {damage}" for damage in Damage if damage is not Damage.NONCE}
