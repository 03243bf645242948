# SPDX-License-Identifier: BSD-2-Clause
"""The bytes: what went through the kernel's records came out the same, and was not readable in between."""

from __future__ import annotations

from ktlsctl.facts import ktlsgauges
from ktlsctl.facts.recordproof import CONTROL_KIND, Proof, Step
from ktlsctl.freebsd_findings.situation import Seen, unknown
from ktlsctl.freebsdabi import Errno, Tls, errno_name
from ktlsctl.model import Check, Evidence, Link, Remedy, Status

_LEAVE_OFF = Remedy(
    "leave kernel TLS off until the system is updated: what it sends or receives is wrong",
    f"sysctl {ktlsgauges.ENABLE}=0",
)


_HOW = "seen over loopback with the kernel at both ends and keys of the probe's own"


def records(seen: Seen) -> Check:
    """freebsd.records: TLS 1.2 AES-128-GCM over loopback, kernel at both ends."""
    identity, link = "freebsd.records", Link.BYTES
    proof = seen.facts.proof.value
    if proof is None:
        why = seen.facts.proof.reason or "the probe gave no answer"
        return unknown(identity, link, "whether records arrive unchanged", why)
    if proof.refused:
        return Check(
            identity, link, Status.SKIP, "no records to look at: the kernel takes no session",
            f"AES-128-GCM of TLS 1.2 is refused with {errno_name(proof.refused)}; the checks above say why",
        )  # fmt: skip
    evidence = _evidence(proof)
    if wrong := _wrong(proof):
        return Check(
            identity,
            link,
            Status.CRITICAL,
            f"records are wrong: {wrong[0]}",
            f"{_HOW}: {'; '.join(wrong)}",
            evidence,
            (_LEAVE_OFF,),
        )
    if proof.late:
        return Check(
            identity, link, Status.UNKNOWN, "the records took too long", proof.failure, evidence,
            (Remedy("run the check again when the machine is less busy"),),
        )  # fmt: skip
    if proof.failed_at is Step.FILE and proof.errno == Errno.EBADMSG:
        # The fix of FreeBSD-SA-26:26 refuses ciphertext in a file's pages.  Whether it takes these for such is unknown.
        return Check(
            identity, link, Status.UNKNOWN, "the kernel refused what sendfile sent over loopback", proof.failure,
            evidence, (Remedy("to prove sendfile, fetch a file over 64 KiB from this host by another and compare"),),
        )  # fmt: skip
    if proof.failure:
        return Check(
            identity, link, Status.CRITICAL, "records did not come through",
            f"{proof.failed_at}: {proof.failure}", evidence, (_LEAVE_OFF,),
        )  # fmt: skip
    return Check(
        identity,
        link,
        Status.OK,
        f"{proof.records} records and a file sent by sendfile arrived unchanged",
        "",
        evidence,
    )


def _evidence(proof: Proof) -> Evidence:
    return {
        "encrypted on the wire": proof.encrypted,
        "records": proof.records,
        "read in pieces": proof.pieces,
        "largest record": proof.largest,
        "file": proof.file_equal,
        "sendfile stopped": proof.sendfile_stops,
        "enable_calls, offload_total": None if proof.counted is None else "+{}, +{}".format(*proof.counted),
    }


def _wrong(proof: Proof) -> tuple[str, ...]:
    """What was seen and must not be; what was not seen is no fault here."""
    found = []
    if proof.encrypted is False:
        found.append("plaintext, or no TLS record, was on the wire")
    if proof.stream_equal is False:
        found.append("the bytes that arrived are not those that were sent")
    if proof.largest > Tls.MAX_MSG_SIZE_V10_2:
        found.append(f"a record holds {proof.largest} bytes")
    if proof.control_kind not in (None, CONTROL_KIND):
        found.append(f"a record of type {CONTROL_KIND} arrived as type {proof.control_kind}")
    if proof.file_equal is False:
        found.append("a file sent by sendfile arrived damaged")
    if proof.counted is not None and (proof.counted[0] < 3 or proof.counted[1] < 3):
        found.append("the kernel counted fewer sessions than it took")
    return tuple(found)
