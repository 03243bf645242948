# SPDX-License-Identifier: BSD-2-Clause
"""limits: what the facts of sessions with odd settings amount to, and such sessions on this machine."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ktlsctl.model import Finding, Status
from ktlsctl.scenarios.limits import MUST_BE_OFF, Facts, Session, Setting, judge
from ktlsctl.sessionfacts import Carried, Way
from tests.trials import WAYS, judged_here

BOTH = Carried(True, True, True, True)
TX, RX, NONE = Carried(server_tx=True, client_tx=True), Carried(server_rx=True, client_rx=True), Carried()


def carried_with(setting: Setting) -> Carried:
    off = MUST_BE_OFF.get(setting, ())
    return {(): BOTH, ("tx",): RX, ("tx", "rx"): NONE}[tuple(off)]


def facts(*changed: Session, renegotiation: str | None = "no renegotiation") -> Facts:
    """Kernel TLS on, every setting honoured but in those sessions that are given."""
    given = {session.setting: session for session in changed}
    sessions = [given.get(s, Session(s, carried_with(s), True)) for s in Setting]
    return Facts(tuple(sessions), renegotiation, padding=True)


def test_what_keeps_kernel_tls_off_is_named() -> None:
    found = judge(facts())
    assert (found.status, found.finding) == (Status.OK, Finding.FINE)
    assert "max fragment length extension" in found.summary
    assert found.evidence["block padding"] == "RX in the kernel"
    assert found.evidence["SSL_renegotiate"] == "no renegotiation"
    assert found.refuted == ("openssl.padding-ignored",)


def test_block_padding_that_is_left_out_is_a_known_defect() -> None:
    found = judge(facts(Session(Setting.BLOCK_PADDING, BOTH, True)))
    assert (found.status, found.known) == (Status.WARNING, ("openssl.padding-ignored",))


def test_padding_that_tls_12_does_not_have_proves_and_refutes_nothing() -> None:
    padded = [Session(s, BOTH, True) for s in (Setting.PADDING_CALLBACK, Setting.BLOCK_PADDING)]
    found = judge(replace(facts(*padded), padding=False))
    assert (found.status, found.known, found.refuted) == (Status.OK, (), ())


@pytest.mark.parametrize("setting", sorted(set(MUST_BE_OFF) - {Setting.BLOCK_PADDING}))
def test_any_other_setting_that_the_kernel_cannot_honour_is_not_known(setting: Setting) -> None:
    found = judge(facts(Session(setting, BOTH, True)))
    assert (found.status, found.finding) == (Status.CRITICAL, Finding.UNEXPLAINED)
    assert str(setting) in found.summary


def test_renegotiation_that_is_accepted_with_kernel_tls_on_is_not_known() -> None:
    assert judge(facts(renegotiation="")).finding is Finding.UNEXPLAINED


@pytest.mark.parametrize("broken", [{"intact": False}, {"failure": "bad record mac", "intact": False}])
def test_a_session_that_fails_or_has_wrong_bytes_is_not_known(broken: dict[str, object]) -> None:
    session = replace(Session(Setting.MAX_SEND_FRAGMENT, BOTH, True), **broken)  # type: ignore[arg-type]
    found = judge(facts(session))
    assert (found.status, found.finding) == (Status.CRITICAL, Finding.UNEXPLAINED)
    assert "max_send_fragment" in found.summary


def test_a_setting_that_the_library_does_not_have_is_said_and_proves_nothing() -> None:
    found = judge(facts(Session(Setting.BLOCK_PADDING, NONE, True, absent="no such function")))
    assert found.status is Status.OK
    assert found.refuted == ()
    assert found.evidence["block padding"] == "not had here: no such function"


def test_in_user_space_everything_may_be_set_and_renegotiated() -> None:
    plain = Facts(tuple(Session(s, NONE, True) for s in Setting), "", padding=False)
    assert (judge(plain).status, judge(plain).refuted) == (Status.OK, ())


@pytest.mark.parametrize("way", WAYS)
def test_every_setting_leaves_the_bytes_intact_here(way: Way) -> None:
    for result in judged_here("limits", way):
        assert result.status is Status.OK, result
        assert len(result.evidence) >= 6
