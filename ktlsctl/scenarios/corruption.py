# SPDX-License-Identifier: BSD-2-Clause
"""corruption: records damaged on their way are refused with the right error, and nothing of them is delivered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from ktlsctl.model import Status, TlsVersion
from ktlsctl.scenarios.ending import BAD_RECORD_MAC, TOO_LONG, Ending
from ktlsctl.scenarios.judgement import Judgement, fine, known, unexplained
from ktlsctl.sessionfacts import Carried


class Damage(StrEnum):
    """What happens to a record, or to the order of records."""

    TYPE = "type flipped"
    VERSION = "version flipped"
    LENGTH = "length flipped"
    NONCE = "explicit nonce flipped"
    BODY = "body flipped"
    TAG = "tag flipped"
    SHORTENED = "shortened"
    STUB = "shorter than a tag"
    CUT = "bytes lost"
    OVERSIZED = "oversized"
    REORDERED = "reordered"
    REPLAYED = "replayed"
    SWALLOWED = "swallowed"
    FOREIGN = "plaintext between records"


@dataclass(frozen=True, slots=True)
class Case:
    """`kernel`: whether the receiver's records were the kernel's to decrypt.  `delivered`: exactly the records before
    the damage, `accepted`: all that was sent, as if there were no damage.  `more`: bytes that came after the error.

    `errors`: by how much TlsDecryptError rose, None where it could not be asked.  `alert`: what the sender got to know
    while the receiver kept its socket open.
    """

    damage: Damage
    kernel: bool
    delivered: bool
    accepted: bool
    more: int
    ending: Ending
    errors: int | None
    alert: Ending


@dataclass(frozen=True, slots=True)
class Facts:
    carried: Carried
    version: TlsVersion
    cases: tuple[Case, ...]


_VERSION = "wrong version number"
#: What the parser refuses by the header alone, before the crypto (tls_rx_msg_size in net/tls/tls_sw.c): EINVAL,
#: EMSGSIZE and EBADMSG, which OpenSSL's ktls_read_n translates.  That is no TlsDecryptError, and an alert can be sent.
_BY_HEADER = {
    Damage.VERSION: _VERSION,
    Damage.FOREIGN: _VERSION,
    Damage.OVERSIZED: TOO_LONG,
    Damage.STUB: BAD_RECORD_MAC,
}
#: The words of OpenSSL's own record layer where they are not those of a failed authentication, in any version.
_USER_SPACE = {
    Damage.TYPE: (BAD_RECORD_MAC, "bad record type"),
    Damage.VERSION: (_VERSION,),
    Damage.FOREIGN: (_VERSION, "bad record type"),
    Damage.OVERSIZED: (TOO_LONG, "encrypted length too long"),
    Damage.STUB: (BAD_RECORD_MAC, "length too short", "internal error"),
}

NO_ALERT = "openssl.alert-after-bad-record"


def _harmless(case: Case, version: TlsVersion) -> bool:
    """In TLS 1.3 the type that counts is the one inside; the kernel does not look at the outer one, and authenticates
    what it must be instead (tls_make_aad in net/tls/tls.h)."""
    return case.kernel and case.damage is Damage.TYPE and version is TlsVersion.TLS13 and case.accepted


def _problems(case: Case) -> Iterator[str]:
    where = "the kernel" if case.kernel else "user space"
    if not case.delivered:
        yield "what was delivered is not what preceded it"
    if case.more:
        yield f"{case.more} bytes were delivered after the error"
    expected = (_BY_HEADER.get(case.damage, BAD_RECORD_MAC),) if case.kernel else _words(case.damage)
    if not case.ending.says(*expected):
        yield f"{where} should say '{expected[0]}', and SSL_read says '{case.ending}'"
    counted = int(case.kernel and case.damage not in _BY_HEADER)
    if case.errors is not None and case.errors != counted:
        yield f"TlsDecryptError rose by {case.errors} instead of {counted}"
    if not case.alert and counted == 0:
        yield "no alert told the sender"


def _words(damage: Damage) -> tuple[str, ...]:
    return _USER_SPACE.get(damage, (BAD_RECORD_MAC,))


def _name(case: Case) -> str:
    return f"{'kernel' if case.kernel else 'user space'}, {case.damage}"


def judge(facts: Facts) -> Judgement:
    evidence = {_name(case): str(case.ending) for case in facts.cases}
    for case in facts.cases:
        if _harmless(case, facts.version):
            evidence[_name(case)] = "accepted: the type that counts is inside"
            continue
        problems = "; ".join(_problems(case))
        if problems:
            where = "by the kernel" if case.kernel else "in user space"
            return unexplained(
                f"a damaged record ({case.damage}) is not refused as it should be",
                f"received {where}: {problems}",
                facts.carried,
                evidence=evidence,
            )
    refused = [case for case in facts.cases if not _harmless(case, facts.version)]
    kernel = [case for case in refused if case.kernel]
    summary = f"{len(refused)} kinds of damage refused, nothing of them delivered"
    if kernel:
        summary = f"{len(kernel)} kinds of damage refused by the kernel and in user space, nothing of them delivered"
    if any(not case.alert for case in kernel):
        return known(
            Status.OK,
            summary,
            "no alert reaches the peer of a kernel that refused a record: it sees a close, or waits",
            (NO_ALERT,),
            facts.carried,
            evidence=evidence,
        )
    return fine(summary, facts.carried, evidence=evidence)
