# SPDX-License-Identifier: BSD-2-Clause
"""limits: what a program may set or ask for that keeps kernel TLS off, silently, and what kernel TLS itself forbids."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ktlsctl.model import Status
from ktlsctl.scenarios.judgement import Judgement, fine, known, unexplained
from ktlsctl.sessionfacts import Carried


class Setting(StrEnum):
    """What was set before the handshake."""

    PLAIN = "nothing"
    MAX_SEND_FRAGMENT = "max_send_fragment 4096"
    MAX_FRAGMENT_LENGTH = "max fragment length extension"
    PADDING_CALLBACK = "record padding callback"
    BLOCK_PADDING = "block padding"
    COMPRESSION = "compression"
    ENCRYPT_THEN_MAC = "encrypt-then-MAC (CBC)"


PADDING_IGNORED = "openssl.padding-ignored"

#: Directions that the kernel must not have with this set.  Which ones max_send_fragment costs depends on the version.
MUST_BE_OFF = {
    Setting.MAX_FRAGMENT_LENGTH: ("tx", "rx"),
    Setting.PADDING_CALLBACK: ("tx",),
    Setting.BLOCK_PADDING: ("tx",),
    Setting.COMPRESSION: ("tx", "rx"),
    Setting.ENCRYPT_THEN_MAC: ("tx", "rx"),
}
#: What only records of TLS 1.3 have (RFC 8446 section 5.4): in TLS 1.2 setting it means nothing.
PADDING = (Setting.PADDING_CALLBACK, Setting.BLOCK_PADDING)


@dataclass(frozen=True, slots=True)
class Session:
    """One session with one setting.  `absent`: why this library does not have it; `failure`: why there was none."""

    setting: Setting
    carried: Carried
    intact: bool
    absent: str = ""
    failure: str = ""

    @property
    def shown(self) -> str:
        if self.absent:
            return f"not had here: {self.absent}"
        if self.failure:
            return f"failed: {self.failure}"
        on = [name.upper() for name in ("tx", "rx") if getattr(self.carried, name)]
        return f"{'+'.join(on)} in the kernel" if on else "in user space"


@dataclass(frozen=True, slots=True)
class Facts:
    """`padding`: whether records of this version can be padded.  `renegotiation`: what SSL_renegotiate on the plain
    session said, empty when it was accepted; None where there is none (TLS 1.3)."""

    sessions: tuple[Session, ...]
    renegotiation: str | None
    padding: bool


def judge(facts: Facts) -> Judgement:
    plain = facts.sessions[0]
    evidence = {session.setting.value: session.shown for session in facts.sessions}
    if facts.renegotiation is not None:
        evidence["SSL_renegotiate"] = facts.renegotiation or "accepted"
    broken = [s for s in facts.sessions if not s.absent and (s.failure or not s.intact)]
    if broken:
        return unexplained(
            f"a session with {broken[0].setting} fails",
            broken[0].failure or "the bytes that arrived are not those that were sent",
            plain.carried,
            evidence=evidence,
            intact=False if not broken[0].failure else None,
        )
    if not plain.carried:
        return fine("every setting leaves the bytes intact, in user space", plain.carried, evidence=evidence)
    return _judge_carried(facts, plain.carried, evidence)


def _judge_carried(facts: Facts, carried: Carried, evidence: dict[str, str]) -> Judgement:
    void = () if facts.padding else PADDING
    on = [
        (session, [name for name in MUST_BE_OFF.get(session.setting, ()) if getattr(session.carried, name)])
        for session in facts.sessions
        if not session.absent and session.setting not in void
    ]
    ignored = [session for session, names in on if names and session.setting is Setting.BLOCK_PADDING]
    others = [session for session, names in on if names and session.setting is not Setting.BLOCK_PADDING]
    if others:
        return unexplained(
            f"kernel TLS is on with {others[0].setting}",
            "the kernel knows nothing of it, so it cannot be honoured",
            carried,
            evidence=evidence,
        )
    if facts.renegotiation == "":
        return unexplained(
            "renegotiation is accepted with kernel TLS on",
            "the kernel would keep the old keys",
            carried,
            evidence=evidence,
        )
    off = [session.setting.value for session, _ in on if _less(session.carried, carried)]
    said = f"kept out of the kernel, as they must be: {', '.join(off)}" if off else "no setting costs anything"
    if ignored:
        return known(
            Status.WARNING,
            "block padding that a program asks for is silently left out",
            f"kernel TLS stays on and the kernel pads nothing; {said}",
            (PADDING_IGNORED,),
            carried,
            evidence=evidence,
        )
    tried = [session for session, _ in on if session.setting is Setting.BLOCK_PADDING]
    return fine(said, carried, refuted=(PADDING_IGNORED,) if tried else (), evidence=evidence)


def _less(one: Carried, other: Carried) -> bool:
    return (other.tx and not one.tx) or (other.rx and not one.rx)
