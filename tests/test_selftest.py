# SPDX-License-Identifier: BSD-2-Clause
"""selftest: what a session's witnesses prove together; every judgement over facts made by hand."""

from __future__ import annotations

import errno
import json
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktlsctl import selftest, stage
from ktlsctl.codec import decode, encode
from ktlsctl.facts import ktlsgauges
from ktlsctl.libssl import TlsError
from ktlsctl.model import (
    About,
    Attempt,
    Cell,
    Direction,
    DirectionResult,
    MatrixRow,
    Os,
    Outcome,
    Remedy,
    Report,
    Status,
    TlsVersion,
    Verdict,
)
from ktlsctl.policy import Policy, PolicyError, Requirement
from ktlsctl.sessionfacts import EndWords, Handover, SelftestFacts, SessionFacts, Way, WitnessFacts
from ktlsctl.witness import drive_against_wire

TX, RX = Direction
TLS12, TLS13 = TlsVersion
GCM12, GCM13 = "ECDHE-ECDSA-AES128-GCM-SHA256", "TLS_AES_128_GCM_SHA256"
CHACHA12 = "ECDHE-ECDSA-CHACHA20-POLY1305"
YES, NO = Cell(Status.OK), Cell(Status.SKIP, "no key was offered")
HEALTHY = Verdict(Status.OK, "kernel TLS is usable")
BROKEN = Verdict(Status.CRITICAL, "built without kernel TLS", "linux.kernel.config", (Remedy("boot another"),))

ACCEPTED = Handover("accepted", True)
IN_KERNEL = EndWords(True, (0x0303, 51), True, (1, 13), 12, 2, ACCEPTED)
IN_USER_SPACE = EndWords(False, (0, 0), False, None, 12, None, None, ("sock_diag: no ULP shown",))
PLAIN = EndWords(False, (0, 0), False, (0, 0), 12, 1, Handover("key", False, errno.EBUSY))


def session(server: EndWords = IN_KERNEL, client: EndWords | None = None, **changed: Any) -> SessionFacts:
    """A session that came to its end, both directions alike."""
    client = server if client is None else client
    opened = sum(bool(end.armed) for end in (server, client))
    base = SessionFacts(
        TLS12, GCM12, "io_uring", "", f"TLSv1.2 {GCM12}", server, server, client, client,
        bytes_each_way=131072, sha256_ok=True, clean_close=True, own_namespace=True,
        counters={"TlsTxSw": opened, "TlsRxSw": opened},
    )  # fmt: skip
    return replace(base, **changed)


def failed(reason: str, suite: str = GCM12) -> SessionFacts:
    return SessionFacts(TLS12, suite, "io_uring", failure=reason)


def witness(**changed: Any) -> WitnessFacts:
    base = WitnessFacts(
        TLS12, GCM12, "OpenSSL 9.9.9", bytes_each_way=1 << 20, to_witness_ok=True, from_witness_ok=True,
        framing_ok=True, records=99, tx_armed=True, rx_armed=True,
    )  # fmt: skip
    return replace(base, **changed)


def facts(*sessions: SessionFacts, witnesses: Sequence[WitnessFacts] = (), ring: str = "") -> SelftestFacts:
    return SelftestFacts("OpenSSL 3.5.6", "/lib/libssl.so.3", "", ring, "", sessions, tuple(witnesses))


def rows(kernel: Cell | None = YES, library: Cell | None = YES) -> tuple[MatrixRow, ...]:
    ciphers = ("AES-128-GCM", "CHACHA20-POLY1305")
    return tuple(MatrixRow(v, c, d, kernel, library) for v in TlsVersion for c in ciphers for d in Direction)


def judged(
    one: SessionFacts, promised: bool = True, against: WitnessFacts | None = None, system: Os = Os.LINUX
) -> DirectionResult:
    """TX of one session."""
    (result,) = selftest.judge(
        facts(one, witnesses=[against] if against else []), rows() if promised else rows(library=NO), Policy(), system
    )
    return result.tx


# ---- one direction: proved, skipped, promised and not met


def test_a_direction_is_proved_when_every_witness_on_both_ends_agrees() -> None:
    found = judged(session(), against=witness())
    assert (found.status, found.reason) == (Status.OK, "")
    kinds = ("library", "kernel", "sequence", "sock_diag", "bio")
    assert set(found.evidence) == {f"{end}.{kind}" for end in ("server", "client") for kind in kinds} | {
        "counters",
        "witness",
    }


DISSENT: dict[str, dict[str, Any]] = {
    "library": {"library": False},
    "kernel": {"armed": False, "kernel": (0, 0)},
    "another version": {"kernel": (0x0304, 51)},
    "another cipher": {"kernel": (0x0303, 52)},
    "standstill": {"sequence": (1, 1)},
    "another count": {"sequence": (1, 12)},
    "sock_diag": {"diag": 1},
    "bio": {"handover": Handover("key", False, errno.ENOENT)},
}


@pytest.mark.parametrize("role", ["server", "client"])
@pytest.mark.parametrize("dissent", DISSENT)
@pytest.mark.parametrize("promised", [True, False])
def test_one_dissenting_witness_of_one_end_is_a_disagreement_that_shows_them_all(
    role: str, dissent: str, promised: bool
) -> None:
    other = replace(IN_KERNEL, **DISSENT[dissent])
    one = session(**{f"{role}_tx": other})
    found = judged(one, promised)
    assert found.status is Status.UNKNOWN
    assert found.reason.startswith("the witnesses disagree: ")
    # every witness in the reason, exactly one of them against
    said = found.reason.removeprefix("the witnesses disagree: ").split(", ")
    assert len(said) == 11
    against = [word for word in said if word.endswith(" in user space")]
    assert len(against) == 1
    assert against[0].startswith(f"{role}.")
    assert len(found.evidence) == 11
    # the other direction has nothing to do with it
    (result,) = selftest.judge(facts(one), rows(), Policy(), Os.LINUX)
    assert result.rx.status is Status.OK


@pytest.mark.parametrize("opened", [1, 3, 4])
def test_the_counters_must_have_risen_by_both_ends(opened: int) -> None:
    found = judged(session(counters={"TlsTxSw": opened, "TlsRxSw": 2}))
    assert found.status is Status.UNKNOWN
    assert "counters in user space" in found.reason
    assert found.evidence["counters"] == f"TlsTxSw and TlsTxDevice rose by {opened}"


def test_one_counted_end_contradicts_a_session_in_user_space() -> None:
    assert judged(session(IN_USER_SPACE, counters={"TlsTxSw": 1})).status is Status.UNKNOWN


def test_offloaded_ends_are_counted_as_devices() -> None:
    assert judged(session(counters={"TlsTxSw": 1, "TlsTxDevice": 1})).status is Status.OK


def test_counters_that_others_move_are_no_witness() -> None:
    found = judged(session(own_namespace=False, counters={"TlsTxSw": 17}))
    assert found.status is Status.OK
    assert "counters" not in found.evidence


def test_freebsds_counters_are_shown_and_vote_for_nothing() -> None:
    counters = {ktlsgauges.OFFLOAD_TOTAL: 4, "kern.ipc.tls.stats.failed_crypto": 0}
    found = judged(session(own_namespace=False, counters=counters))
    assert found.evidence["counters"] == "of the whole system: kern.ipc.tls.stats.offload_total +4"
    assert found.status is judged(session(own_namespace=False, counters={})).status


def test_a_silent_witness_is_not_held_against_anybody_and_is_named() -> None:
    quiet = replace(IN_KERNEL, sequence=None, diag=None, handover=None, silent=("sock_diag: no ULP shown",))
    found = judged(session(quiet))
    assert found.status is Status.OK
    assert found.evidence["server.not_asked"] == ("sock_diag: no ULP shown",)


def test_freebsd_tells_no_version_and_is_believed_without() -> None:
    mode_only = replace(IN_KERNEL, kernel=(0, 0), sequence=None, diag=None)
    assert judged(session(mode_only, counters={}), system=Os.FREEBSD).status is Status.OK
    assert judged(session(mode_only, counters={}), system=Os.LINUX).status is Status.UNKNOWN


def test_in_the_kernel_without_a_promise_is_a_question() -> None:
    found = judged(session(), promised=False)
    assert (found.status, NO.reason in found.reason) == (Status.UNKNOWN, True)


@pytest.mark.parametrize(
    ("step", "number"), [("TCP_ULP", errno.ENOENT), ("key", errno.EBUSY), ("key", errno.ENOENT), ("key", errno.EINVAL)]
)
def test_a_promise_that_was_not_met_names_the_call_and_its_errno(step: str, number: int) -> None:
    found = judged(session(replace(PLAIN, handover=Handover(step, False, number))))
    assert found.status is Status.CRITICAL
    assert found.reason.endswith(f"failed at {step}: {os.strerror(number)}")
    assert found.evidence["client.bio"] == f"{step}: {os.strerror(number)}"


def test_a_refusal_for_bytes_read_ahead_tells_how_many() -> None:
    found = judged(session(replace(PLAIN, handover=Handover("refused: bytes read ahead", False, 0, 77))))
    assert (found.status, found.reason.endswith("read ahead: 77 bytes")) == (Status.CRITICAL, True)


def test_a_promise_that_was_not_met_without_a_trace_says_so() -> None:
    found = judged(session(IN_USER_SPACE))
    assert (found.status, "nothing said why" in found.reason) == (Status.CRITICAL, True)


@pytest.mark.parametrize("end", [IN_USER_SPACE, PLAIN])
def test_user_space_that_nobody_promised_otherwise_is_skipped_with_the_reason(end: EndWords) -> None:
    found = judged(session(end), promised=False)
    assert (found.status, found.reason) == (Status.SKIP, f"library: {NO.reason}")


@pytest.mark.parametrize(
    ("kernel", "library", "said"),
    [
        (NO, YES, "kernel: no key was offered"),
        (None, YES, "the kernel could not be asked"),
        (Cell(Status.UNKNOWN, "no right"), YES, "the kernel could not be asked: no right"),
        (YES, None, "the library could not be asked"),
    ],
)
def test_a_promise_needs_kernel_and_library(kernel: Cell | None, library: Cell | None, said: str) -> None:
    (result,) = selftest.judge(facts(session(IN_USER_SPACE)), rows(kernel, library), Policy(), Os.LINUX)
    assert (result.rx.status, result.rx.reason) == (Status.SKIP, said)


def test_a_cipher_outside_the_matrix_is_promised_by_nobody() -> None:
    (result,) = selftest.judge(facts(session(IN_USER_SPACE)), (), Policy(), Os.LINUX)
    assert (result.tx.status, "neither kernel nor library" in result.tx.reason) == (Status.SKIP, True)


@pytest.mark.parametrize("promised", [True, False])
@pytest.mark.parametrize("end", [IN_KERNEL, IN_USER_SPACE])
def test_wrong_bytes_are_critical_wherever_the_records_were_made(end: EndWords, promised: bool) -> None:
    found = judged(session(end, sha256_ok=False), promised)
    assert (found.status, "not those that were sent" in found.reason) == (Status.CRITICAL, True)


@pytest.mark.parametrize("why", ["the library died of SIGSEGV", "no answer within 25 s", "deadline passed"])
def test_a_session_that_failed_is_critical_and_the_others_are_judged(why: str) -> None:
    chacha = replace(IN_KERNEL, kernel=(0x0303, 54))
    found = selftest.judge(facts(failed(why), session(chacha, suite=CHACHA12)), rows(), Policy(), Os.LINUX)
    assert [(r.suite, r.tx.status, r.rx.status) for r in found] == [
        (GCM12, Status.CRITICAL, Status.CRITICAL),
        (CHACHA12, Status.OK, Status.OK),
    ]
    assert found[0].reason == why
    assert why in found[0].tx.reason


# ---- against the witness


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"to_witness_ok": False}, "do not have the same bytes"),
        ({"to_witness_ok": None}, "do not have the same bytes"),
        ({"leaked": True}, "plaintext was seen on the wire"),
        ({"framing_ok": False}, "not whole TLS records"),
        ({"failure": "it could not decrypt"}, "it could not decrypt"),
    ],
)
def test_what_the_witness_has_against_a_direction_is_critical(changed: dict[str, Any], reason: str) -> None:
    found = judged(session(), against=witness(**changed))
    assert (found.status, reason in found.reason) == (Status.CRITICAL, True)
    assert "witness" in found.evidence


def test_bytes_that_differ_one_way_condemn_that_direction_alone() -> None:
    one = facts(session(), witnesses=[witness(from_witness_ok=False)])
    (result,) = selftest.judge(one, rows(), Policy(), Os.LINUX)
    assert (result.tx.status, result.rx.status) == (Status.OK, Status.CRITICAL)


def test_a_witness_that_could_not_be_had_is_named_and_not_held_against_the_session() -> None:
    found = judged(session(), against=witness(unavailable="no pyOpenSSL", to_witness_ok=None, tx_armed=None))
    assert (found.status, found.evidence["witness"]) == (Status.OK, "not run: no pyOpenSSL")


def test_a_subject_in_user_space_against_the_witness_contradicts_the_proof() -> None:
    found = judged(session(), against=witness(tx_armed=False))
    assert (found.status, "witness in user space" in found.reason) == (Status.UNKNOWN, True)


def test_a_witness_of_another_suite_is_not_heard() -> None:
    assert judged(session(), against=witness(suite=CHACHA12, leaked=True)).status is Status.OK


# ---- what could not be tried

UNTRIED = SessionFacts(TLS12, GCM12, "io_uring", untried="Too many open files")


def test_what_this_host_did_not_let_be_tried_is_unknown_and_not_a_failure() -> None:
    found = judged(UNTRIED)
    assert (found.status, found.reason) == (
        Status.UNKNOWN, "the session could not be tried: Too many open files"
    )  # fmt: skip


@pytest.mark.parametrize("others", [(), (session(IN_USER_SPACE, suite="ECDHE-RSA-AES128-GCM-SHA256", counters={}),)])
def test_where_the_proof_may_be_missing_for_what_was_not_tried_the_verdict_is_unknown(
    others: tuple[SessionFacts, ...],
) -> None:
    results = selftest.judge(facts(UNTRIED, *others), rows(library=NO), Policy(), Os.LINUX)
    verdict = selftest.pronounce(results, Policy(), HEALTHY)
    assert (verdict.status, "Too many open files" in verdict.summary) == (Status.UNKNOWN, True)


def test_a_requirement_that_was_not_tried_is_unknown_though_another_direction_was_proved() -> None:
    tried = session(version=TLS13, suite=GCM13, server=replace(IN_KERNEL, kernel=(0x0304, 51)))
    policy = Policy(required=(Requirement.parse("tls1.2:tx"),))
    results = selftest.judge(facts(UNTRIED, tried), rows(), policy, Os.LINUX)
    assert results[1].tx.status is Status.OK
    assert selftest.pronounce(results, policy, HEALTHY).status is Status.UNKNOWN


# ---- the deadline and the payload


def moving() -> Iterator[bool]:
    yield from [False] * 1000
    raise AssertionError("it went on past its deadline")


def test_the_deadline_ends_what_still_moves() -> None:
    steps, others = moving(), moving()
    with pytest.raises(TlsError, match="deadline passed while moving data"):
        stage.drive((), None, stage.Deadline(0.0), "moving data", lambda: next(steps))
    with pytest.raises(TlsError, match="deadline passed while moving data"):
        drive_against_wire(cast(Any, None), cast(Any, None), stage.Deadline(0.0), "moving data", lambda: next(others))


def test_a_payload_is_made_in_pieces_that_every_python_can_make() -> None:
    class Counted(random.Random):
        sizes: tuple[int, ...] = ()

        def randbytes(self, n: int) -> bytes:
            self.sizes += (n,)
            return bytes(n)

    source = Counted()
    size = 2 * stage._PIECE + 5
    assert len(stage.noise(source, size)) == size
    assert sum(source.sizes) == size
    # getrandbits takes an int of C up to CPython 3.11
    assert max(source.sizes) * 8 < 1 << 31


# ---- requirements


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tls1.2:tx,rx", Requirement(TLS12, (TX, RX))),
        (" TLSv1.3:rx , tx ", Requirement(TLS13, (TX, RX))),
        ("tls1.3:aes-128-gcm:tx", Requirement(TLS13, (TX,), "AES-128-GCM")),
        ("tls1.2:aes-128-cbc-sha1:rx,rx", Requirement(TLS12, (RX,), "AES-128-CBC-SHA1")),
    ],
)
def test_a_requirement_is_read(text: str, expected: Requirement) -> None:
    found = Requirement.parse(text)
    assert (found.version, set(found.directions), found.cipher) == (
        expected.version, set(expected.directions), expected.cipher
    )  # fmt: skip
    assert len(found.directions) == len(expected.directions)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "tls1.1:tx",
        "tls1.2",
        "tls1.2:",
        "tls1.2:up",
        "tls1.2:tx,",
        "tls1.2:des:tx",
        "tls1.2:foocbc:tx",
        "a:b:c:d",
    ],
)
def test_what_is_no_requirement_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(PolicyError) as caught:
        Requirement.parse(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) > 20


PIECES = st.lists(st.sampled_from(["tls1.2", "TLSv1.3", ":", ",", "tx", "rx", "aes-128-gcm", "cbc", " ", "x"]))


@given(st.text() | PIECES.map("".join))
def test_any_text_is_a_requirement_or_refused(text: str) -> None:
    try:
        found = Requirement.parse(text)
    except PolicyError:
        return
    assert found.directions
    assert str(found).startswith(found.version)


def spoken(*sessions: SessionFacts, policy: Policy, checked: Verdict = HEALTHY) -> Verdict:
    return selftest.pronounce(selftest.judge(facts(*sessions), rows(), policy, Os.LINUX), policy, checked)


def test_a_requirement_that_was_proved_lets_the_verdict_be_ok() -> None:
    required = tuple(map(Requirement.parse, ("tls1.2:tx,rx", "tls1.2:aes-128-gcm:rx")))
    found = spoken(session(), policy=Policy(required=required))
    assert (found.status, found.first_broken) == (Status.OK, None)


@pytest.mark.parametrize("text", ["tls1.3:tx", "tls1.2:chacha20-poly1305:tx"])
def test_a_requirement_that_was_not_proved_is_critical_and_named(text: str) -> None:
    found = spoken(session(), policy=Policy(required=(Requirement.parse(text),)))
    assert found.status is Status.CRITICAL
    assert found.summary == f"required and not proved: {Requirement.parse(text)}"


def test_a_requirement_of_both_directions_is_not_met_by_two_suites_with_one_each() -> None:
    half = replace(session(), server_rx=IN_USER_SPACE, client_rx=IN_USER_SPACE, counters={"TlsTxSw": 2})
    other = replace(
        session(), suite="ECDHE-RSA-AES128-GCM-SHA256", server_tx=IN_USER_SPACE, client_tx=IN_USER_SPACE,
        counters={"TlsRxSw": 2},
    )  # fmt: skip
    results = selftest.judge(facts(half, other), rows(), Policy(), Os.LINUX)
    assert Requirement(TLS12, (TX,)).met(results)
    assert Requirement(TLS12, (RX,)).met(results)
    assert not Requirement(TLS12, (TX, RX)).met(results)


# ---- the verdict and the report


@pytest.mark.parametrize("required", [(), (Requirement(TLS12, (TX,)),)])
@pytest.mark.parametrize("checked", [HEALTHY, BROKEN])
def test_nothing_tested_is_never_ok(required: tuple[Requirement, ...], checked: Verdict) -> None:
    assert spoken(policy=Policy(required=required), checked=checked).status is Status.UNKNOWN


def test_nothing_promised_is_critical_with_the_link_that_the_check_found() -> None:
    results = selftest.judge(facts(session(IN_USER_SPACE)), rows(kernel=NO), Policy(), Os.LINUX)
    found = selftest.pronounce(results, Policy(), BROKEN)
    assert (found.status, found.first_broken, found.remedy) == (Status.CRITICAL, BROKEN.first_broken, BROKEN.remedy)
    assert BROKEN.summary in found.summary


def test_nothing_promised_on_a_healthy_host_breaks_at_the_sessions() -> None:
    results = selftest.judge(facts(session(IN_USER_SPACE)), rows(library=NO), Policy(), Os.LINUX)
    assert selftest.pronounce(results, Policy(), HEALTHY).first_broken == "selftest.sessions"


@pytest.mark.parametrize("order", [1, -1])
def test_one_failure_outweighs_every_proof(order: int) -> None:
    found = spoken(*[session(), failed("SIGSEGV", CHACHA12)][::order], policy=Policy())
    assert (found.status, CHACHA12 in found.summary) == (Status.CRITICAL, True)


def test_one_disagreement_beside_a_proof_is_unknown() -> None:
    odd = session(replace(IN_KERNEL, kernel=(0x0303, 54), sequence=(1, 1)), suite=CHACHA12)
    assert spoken(session(), odd, policy=Policy()).status is Status.UNKNOWN


def test_a_direction_that_was_not_asked_for_is_not_judged() -> None:
    one = session(server_rx=PLAIN, client_rx=PLAIN, counters={"TlsTxSw": 2})
    assert spoken(one, policy=Policy()).status is Status.CRITICAL
    assert spoken(one, policy=Policy((TX,))).status is Status.OK
    assert spoken(one, policy=Policy((RX,))).status is Status.CRITICAL


CHECKED = Report(About(Os.LINUX, "6.12", "x86_64", False), "2026-01-01T00:00:00Z", HEALTHY, matrix=rows())


def test_io_uring_that_was_asked_for_and_is_not_there_is_unknown() -> None:
    answer = Attempt.ran(facts(ring="io_uring_setup: EPERM"))
    found = selftest.report(CHECKED, answer, None, Policy(), Way.IO_URING)
    assert (found.verdict.status, found.results) == (Status.UNKNOWN, ())
    assert "io_uring_setup: EPERM" in found.verdict.summary


def test_a_missing_io_uring_is_only_told_where_the_socket_did_as_well() -> None:
    answer = Attempt.ran(facts(session(datapath="socket"), ring="io_uring_setup: EPERM"))
    found = selftest.report(CHECKED, answer, None, Policy(), Way.AUTO)
    assert found.verdict.status is Status.OK
    assert found.checks[-1].evidence["io_uring"] == "io_uring_setup: EPERM"


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.TIMEOUT, Outcome.DENIED])
def test_no_answer_is_unknown_with_the_reason(outcome: Outcome) -> None:
    found = selftest.report(CHECKED, Attempt(outcome, reason="it died"), None, Policy(), Way.AUTO)
    assert (found.verdict.status, found.results) == (Status.UNKNOWN, ())
    assert "it died" in found.verdict.summary
    assert found.checks[-1].id == "selftest.sessions"


def test_the_matrix_gets_the_worst_that_a_suite_of_the_cipher_met() -> None:
    same_cipher = failed("SIGSEGV", "ECDHE-RSA-AES128-GCM-SHA256")
    for sessions in ((session(), same_cipher), (same_cipher, session())):
        found = selftest.report(CHECKED, Attempt.ran(facts(*sessions)), None, Policy(), Way.AUTO)
        cells = {(r.version, r.cipher, r.direction): r.session for r in found.matrix}
        assert cells[TLS12, "AES-128-GCM", TX] == Cell(Status.CRITICAL, "the session failed: SIGSEGV")
        assert cells[TLS13, "AES-128-GCM", TX] is None


def test_facts_survive_the_way_out_of_the_child() -> None:
    given_facts = facts(session(), failed("x"), session(IN_USER_SPACE), session(PLAIN), witnesses=[witness()])
    assert decode(SelftestFacts, json.loads(json.dumps(encode(given_facts)))) == given_facts


def test_a_requirement_on_a_direction_that_is_not_judged_is_refused() -> None:
    with pytest.raises(PolicyError, match="leaves that out"):
        Policy((Direction.RX,), (Requirement.parse("tls1.2:tx"),))
