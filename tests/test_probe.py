# SPDX-License-Identifier: BSD-2-Clause
"""probe: the matrix stands side by side, and the verdict names the first broken link."""

from __future__ import annotations

from ktlsctl.model import (
    Cell,
    Check,
    Direction,
    Library,
    LibraryCell,
    Link,
    MatrixRow,
    Os,
    Remedy,
    Status,
    TlsVersion,
    Tri,
)
from ktlsctl.probe import pronounce, side_by_side, usable

YES = Cell(Status.OK)
NO = Cell(Status.SKIP, "refused", "ENOENT")
UNSEEN = Cell(Status.UNKNOWN, "not tried")


def library(*cells: LibraryCell) -> Library:
    return Library(
        "/usr/lib/libssl.so.3", "OpenSSL 3.0.22", "distribution", ("system",), Status.OK, "", Tri.YES, "handshake",
        Tri.NO, cells=cells,
    )  # fmt: skip


def suite(version: TlsVersion, cipher: str, tx: Cell, rx: Cell) -> LibraryCell:
    return LibraryCell(version, f"suite of {cipher}", cipher, tx, rx)


def kernel_rows(cell: Cell, *ciphers: str) -> tuple[MatrixRow, ...]:
    return tuple(MatrixRow(v, c, d, kernel=cell) for v in TlsVersion for c in ciphers for d in Direction)


def finding(identity: str, link: Link, status: Status, command: str = "mend it") -> Check:
    return Check(identity, link, status, f"{identity} is {status}", "because", remedy=(Remedy("do", command),))


PROOF = Check("matrix.usable", Link.LIBRARY, Status.OK, "kernel and library agree on TLSv1.2 TX")


def test_each_row_carries_both_witnesses_for_the_same_cell() -> None:
    subject = library(suite(TlsVersion.TLS13, "AES-128-GCM", YES, NO))
    rows = side_by_side(Os.LINUX, kernel_rows(YES, "AES-128-GCM"), subject)
    by_cell = {(r.version, r.direction): r.library for r in rows}
    assert by_cell[TlsVersion.TLS13, Direction.TX] == YES
    assert by_cell[TlsVersion.TLS13, Direction.RX] == NO
    tls12 = by_cell[TlsVersion.TLS12, Direction.TX]
    assert tls12 is not None
    assert tls12.status is Status.SKIP


def test_a_cipher_that_only_the_library_knows_gets_a_row_where_the_kernel_says_no() -> None:
    subject = library(suite(TlsVersion.TLS12, "AES-256-CCM", NO, NO))
    rows = side_by_side(Os.LINUX, kernel_rows(YES, "AES-128-GCM"), subject)
    extra = [r for r in rows if r.cipher == "AES-256-CCM"]
    assert [(r.version, r.direction) for r in extra] == [
        (TlsVersion.TLS12, Direction.TX),
        (TlsVersion.TLS12, Direction.RX),
    ]
    assert all(r.kernel is not None and r.kernel.reason == "Linux kernels have no AES-256-CCM" for r in extra)


def test_without_a_library_its_column_is_empty_and_not_a_no() -> None:
    assert all(r.library is None for r in side_by_side(Os.LINUX, kernel_rows(YES, "AES-128-GCM"), None))


def test_usable_names_versions_and_directions_that_both_promise() -> None:
    subject = library(suite(TlsVersion.TLS12, "AES-128-GCM", YES, YES), suite(TlsVersion.TLS13, "AES-128-GCM", YES, NO))
    check = usable(side_by_side(Os.LINUX, kernel_rows(YES, "AES-128-GCM"), subject), subject)
    assert check.status is Status.OK
    assert check.summary == "kernel and library agree on TLSv1.2 TX and RX, TLSv1.3 TX"


def test_kernel_and_library_that_do_not_meet_are_critical() -> None:
    subject = library(suite(TlsVersion.TLS12, "AES-128-GCM", NO, NO), suite(TlsVersion.TLS12, "AES-128-CCM", YES, YES))
    rows = (*kernel_rows(YES, "AES-128-GCM"), *kernel_rows(NO, "AES-128-CCM"))
    assert usable(side_by_side(Os.LINUX, rows, subject), subject).status is Status.CRITICAL


def test_a_column_that_was_not_seen_makes_usable_unknown_and_says_which() -> None:
    subject = library(suite(TlsVersion.TLS12, "AES-128-GCM", YES, YES))
    check = usable(side_by_side(Os.LINUX, kernel_rows(UNSEEN, "AES-128-GCM"), subject), subject)
    assert check.status is Status.UNKNOWN
    assert "kernel column" in check.reason
    check = usable(side_by_side(Os.LINUX, kernel_rows(YES, "AES-128-GCM"), None), None)
    assert check.status is Status.UNKNOWN
    assert "library column" in check.reason


def test_the_first_broken_link_is_the_first_in_the_chain_not_in_the_list() -> None:
    verdict = pronounce(
        (
            finding("openssl.build", Link.LIBRARY, Status.CRITICAL),
            finding("linux.module.tls", Link.MODULE, Status.CRITICAL, "modprobe tls"),
            finding("linux.stats", Link.SESSION, Status.WARNING),
        ),
        (),
    )
    assert verdict.status is Status.CRITICAL
    assert verdict.first_broken == "linux.module.tls"
    assert [r.command for r in verdict.remedy] == ["modprobe tls"]


def test_a_cause_is_named_rather_than_its_summing_up() -> None:
    verdict = pronounce(
        (
            Check("matrix.usable", Link.LIBRARY, Status.CRITICAL, "no cell", "none"),
            finding("openssl.build", Link.LIBRARY, Status.CRITICAL),
        ),
        (),
    )
    assert verdict.first_broken == "openssl.build"


def test_a_warning_beside_a_proof_is_a_warning() -> None:
    verdict = pronounce((PROOF, finding("linux.stats", Link.SESSION, Status.WARNING)), ())
    assert (verdict.status, verdict.first_broken) == (Status.WARNING, "linux.stats")
    assert verdict.summary.startswith("kernel TLS is usable, but")


def test_what_could_not_be_seen_beside_a_proof_is_not_a_fault() -> None:
    verdict = pronounce((PROOF, finding("linux.module.policy", Link.MODULE, Status.UNKNOWN)), ())
    assert (verdict.status, verdict.first_broken) == (Status.OK, None)


def test_without_a_proof_what_could_not_be_seen_is_the_verdict() -> None:
    verdict = pronounce((finding("linux.kernel.matrix", Link.CIPHER, Status.UNKNOWN),), ())
    assert verdict.status is Status.UNKNOWN
    assert "linux.kernel.matrix" in verdict.summary


def test_a_run_that_tested_nothing_is_never_ok() -> None:
    assert pronounce((), ()).status is Status.UNKNOWN


def test_an_argument_that_could_not_be_used_is_unknown_and_keeps_the_first_broken_link() -> None:
    verdict = pronounce((finding("linux.kernel.config", Link.KERNEL, Status.CRITICAL),), ("x is not a library",))
    assert (verdict.status, verdict.first_broken) == (Status.UNKNOWN, "linux.kernel.config")
    assert verdict.summary == "x is not a library; the rest of the report stands"


def test_a_critical_finding_beside_a_proof_does_not_claim_that_ktls_is_unusable() -> None:
    verdict = pronounce((PROOF, finding("openssl.programs", Link.CONFIGURATION, Status.CRITICAL)), ())
    assert verdict.status is Status.CRITICAL
    assert verdict.summary.startswith("kernel TLS is usable, but")


def test_a_kernel_that_was_not_asked_is_unknown_though_the_library_knows_more_ciphers() -> None:
    subject = library(suite(TlsVersion.TLS12, "AES-128-GCM", YES, YES), suite(TlsVersion.TLS12, "AES-256-CCM", NO, NO))
    check = usable(side_by_side(Os.LINUX, kernel_rows(UNSEEN, "AES-128-GCM"), subject), subject)
    assert check.status is Status.UNKNOWN
    assert "kernel column" in check.reason
