# SPDX-License-Identifier: BSD-2-Clause
"""Factories of reports for the renderers' tests: what a host of each state says, and what no host should."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from ktlsctl.model import (
    About,
    AdvisoryNotice,
    Cell,
    Certainty,
    Check,
    Direction,
    DirectionResult,
    Finding,
    Library,
    LibraryCell,
    Link,
    MatrixRow,
    Os,
    Reach,
    Remedy,
    Report,
    ScenarioResult,
    SelftestResult,
    Statistic,
    StatisticKind,
    Status,
    TlsProcess,
    TlsVersion,
    Tri,
    Verdict,
)

YES = Cell(Status.OK)
NO_SUITE = Cell(Status.SKIP, "no TLS suite of this library uses it")
NOT_OFFERED = Cell(Status.SKIP, "the library did not offer its keys for this suite")
NO_RX13 = Cell(Status.SKIP, "OpenSSL 3.0 does not offer TLS 1.3 receive keys")
NO_CRYPTO = Cell(Status.SKIP, "the kernel's crypto layer has no such algorithm", "ENOENT")
NOT_LOADED = Cell(Status.UNKNOWN, "the tls module is not loaded, and it was not to be loaded")

LINUX = About(Os.LINUX, "6.1.0-56-amd64", "x86_64", True, "Debian GNU/Linux 12 (bookworm)")

COUNTERS = {
    "TlsCurrTxSw": 412,
    "TlsCurrRxSw": 398,
    "TlsCurrTxDevice": 0,
    "TlsCurrRxDevice": 0,
    "TlsTxSw": 90210,
    "TlsRxSw": 88001,
    "TlsTxDevice": 0,
    "TlsRxDevice": 0,
    "TlsDecryptError": 0,
    "TlsRxDeviceResync": 0,
    "TlsDecryptRetry": 3,
    "TlsRxNoPadViolation": 0,
}


def cells(tls13_rx: Cell = NO_RX13) -> tuple[LibraryCell, ...]:
    """What a Debian OpenSSL says; 3.0 offers no TLS 1.3 receive keys."""
    return (
        LibraryCell(TlsVersion.TLS12, "ECDHE-ECDSA-AES128-GCM-SHA256", "AES-128-GCM", YES, YES),
        LibraryCell(TlsVersion.TLS12, "ECDHE-ECDSA-AES256-GCM-SHA384", "AES-256-GCM", YES, YES),
        LibraryCell(TlsVersion.TLS12, "ECDHE-ECDSA-CHACHA20-POLY1305", "CHACHA20-POLY1305", YES, YES),
        LibraryCell(TlsVersion.TLS12, "ECDHE-ECDSA-AES128-CCM", "AES-128-CCM", YES, YES),
        LibraryCell(TlsVersion.TLS12, "ECDHE-ECDSA-AES256-CCM", "AES-256-CCM", NOT_OFFERED, NOT_OFFERED),
        LibraryCell(TlsVersion.TLS12, "ECDHE-ECDSA-AES128-SHA", "AES-128-CBC-SHA1", NOT_OFFERED, NOT_OFFERED),
        LibraryCell(TlsVersion.TLS13, "TLS_AES_128_GCM_SHA256", "AES-128-GCM", YES, tls13_rx),
        LibraryCell(TlsVersion.TLS13, "TLS_AES_256_GCM_SHA384", "AES-256-GCM", YES, tls13_rx),
        LibraryCell(TlsVersion.TLS13, "TLS_CHACHA20_POLY1305_SHA256", "CHACHA20-POLY1305", YES, tls13_rx),
        LibraryCell(TlsVersion.TLS13, "TLS_AES_128_CCM_SHA256", "AES-128-CCM", NOT_OFFERED, NOT_OFFERED),
    )


SYSTEM = Library(
    "/usr/lib/x86_64-linux-gnu/libssl.so.3",
    "OpenSSL 3.0.22 2 Jun 2026",
    "distribution",
    ("system", "python"),
    Status.OK,
    "",
    Tri.YES,
    "handshake",
    Tri.NO,
    "/usr/lib/ssl/openssl.cnf",
    "libssl3",
    "/usr/lib/x86_64-linux-gnu/libcrypto.so.3",
    cells(),
)
WHEEL = Library(
    "/usr/lib/python3/dist-packages/cryptography/hazmat/bindings/_rust.abi3.so",
    "OpenSSL 4.0.3",
    "static",
    ("pyopenssl",),
    Status.SKIP,
    "linked into a Python module, so that no handshake can be run through it",
    Tri.NO,
    "known of this wheel",
    Tri.UNKNOWN,
)
NO_LIBRARY = Library(
    "/tmp/libssl.so.3", "", "named", ("named",), Status.UNKNOWN, "not an ELF file", Tri.UNKNOWN, "", Tri.UNKNOWN
)


def matrix(kernel: Cell = YES, library: tuple[LibraryCell, ...] | None = SYSTEM.cells) -> tuple[MatrixRow, ...]:
    """The matrix of a Debian kernel: `kernel` is its word on the ciphers that it has."""
    said = {(c.version, c.cipher): c for c in library or ()}
    rows = []
    for version in TlsVersion:
        for cipher in ("AES-128-GCM", "AES-256-GCM", "AES-128-CCM", "CHACHA20-POLY1305", "SM4-GCM"):
            for direction in Direction:
                word = said.get((version, cipher))
                cell = (word.tx if direction is Direction.TX else word.rx) if word is not None else NO_SUITE
                own = NO_CRYPTO if cipher == "SM4-GCM" and kernel is YES else kernel
                rows.append(MatrixRow(version, cipher, direction, own, cell if library is not None else None))
    for cipher in ("AES-256-CCM", "AES-128-CBC-SHA1"):
        nobody = Cell(Status.SKIP, f"Linux kernels have no {cipher}")
        rows.extend(
            MatrixRow(TlsVersion.TLS12, cipher, direction, nobody, NOT_OFFERED if library is not None else None)
            for direction in Direction
        )
    return tuple(rows)


CONFIG = Check(
    "linux.kernel.config",
    Link.KERNEL,
    Status.OK,
    "the kernel was built with CONFIG_TLS=m",
    evidence={"file": "/boot/config-6.1.0-56-amd64", "CONFIG_TLS": "m", "CONFIG_TLS_DEVICE": "y"},
)
LOADED = Check("linux.module.tls", Link.MODULE, Status.OK, "the tls module is loaded")
PERSISTENT = Check(
    "linux.module.persistence",
    Link.MODULE,
    Status.OK,
    "nothing loads the tls module at boot",
    "the kernel loads it when root's first program asks for it; unprivileged programs have to wait for that",
    remedy=(Remedy("load it at every boot", "echo tls > /etc/modules-load.d/ktls.conf"),),
)
NOT_LOADED_CHECK = Check(
    "linux.module.tls",
    Link.MODULE,
    Status.CRITICAL,
    "the tls module is not loaded",
    "it is there and nothing blocks it, but nothing has asked for it since boot; a program without CAP_NET_ADMIN "
    "cannot make the kernel load it",
    {"state": "loadable", "file": "/lib/modules/6.1.0-56-amd64/kernel/net/tls/tls.ko"},
    (Remedy("load the module now", "modprobe tls"),),
)
MATRIX_OK = Check("linux.kernel.matrix", Link.CIPHER, Status.OK, "the kernel takes 16 of 32 cells")
MATRIX_UNKNOWN = Check(
    "linux.kernel.matrix",
    Link.CIPHER,
    Status.UNKNOWN,
    "the kernel was not asked about any cipher",
    "the tls module is not loaded, and check loads nothing unless --load is given",
)
BUILD = Check(
    "openssl.build",
    Link.LIBRARY,
    Status.OK,
    "OpenSSL 3.0.22 was built with kernel TLS",
    evidence={"path": SYSTEM.path, "proof": "BIO_CTRL_SET_KTLS arrived", "suites": ("TLS_AES_128_GCM_SHA256", "…")},
)
CONFIGURED = Check(
    "openssl.config",
    Link.CONFIGURATION,
    Status.OK,
    "kernel TLS is not switched on host-wide",
    "each service asks for it by itself, which is the safe way",
)
NIC = Check("linux.nic.offload", Link.NIC, Status.SKIP, "no interface can take TLS over", "lo, eth0: fixed off")
USABLE = Check("matrix.usable", Link.LIBRARY, Status.OK, "kernel and library agree on TLSv1.2 TX and RX, TLSv1.3 TX")

ADVISORIES = (
    AdvisoryNotice(
        "CVE-2025-39682",
        Certainty.POSSIBLE,
        "Linux 6.1.0-56-amd64",
        "a zero-length record can lead to a use after free",
        "6.0 and later",
        "6.1.149, 6.6.103, 6.12.44",
        "CVE-2025-39682",
        Remedy("install the distribution's current kernel and reboot", "apt install linux-image-amd64"),
    ),
    AdvisoryNotice(
        "CVE-2025-39946",
        Certainty.POSSIBLE,
        "Linux 6.1.0-56-amd64",
        "a bogus record header overruns a buffer",
        "6.0 and later",
        "6.1.154, 6.6.108, 6.12.49",
        "CVE-2025-39946",
        Remedy("install the distribution's current kernel and reboot", "apt install linux-image-amd64"),
    ),
    AdvisoryNotice(
        "openssl-21202",
        Certainty.PROVED,
        f"OpenSSL 3.0.22 {SYSTEM.path}",
        "wrong data is sent after a write that had to wait, from a moved buffer",
        "3.0.0 to 3.0.22",
        "3.5.7, 3.6.3, 4.0.1",
        "https://github.com/openssl/openssl/issues/21202",
        Remedy("keep Options = KTLS out of the host-wide openssl.cnf; Python programs are the ones that are hurt"),
    ),
)


def _report(verdict: Verdict, **members: Any) -> Report:
    return Report(LINUX, "2026-11-21T05:00:00Z", verdict, **members)


def ok() -> Report:
    return _report(
        Verdict(Status.OK, f"kernel TLS is usable: {USABLE.summary}"),
        checks=(CONFIG, LOADED, PERSISTENT, MATRIX_OK, BUILD, CONFIGURED, USABLE, NIC),
        matrix=matrix(),
        libraries=(SYSTEM, WHEEL),
        advisories=ADVISORIES,
        counters=COUNTERS,
    )


def broken_module() -> Report:
    """Critical: built with kernel TLS, and the module is not loaded."""
    return _report(
        Verdict(
            Status.CRITICAL,
            f"kernel TLS is not usable: {NOT_LOADED_CHECK.summary}",
            NOT_LOADED_CHECK.id,
            NOT_LOADED_CHECK.remedy,
        ),
        checks=(CONFIG, NOT_LOADED_CHECK, PERSISTENT, MATRIX_UNKNOWN, BUILD, CONFIGURED, NIC),
        matrix=matrix(NOT_LOADED),
        libraries=(SYSTEM, WHEEL),
        advisories=ADVISORIES[:2],
    )


def warning() -> Report:
    check = Check(
        "linux.stats.errors",
        Link.SESSION,
        Status.WARNING,
        "17 records failed authentication since boot",
        "TlsDecryptError counts them: a peer, a NIC or a middlebox alters records",
        remedy=(Remedy("see whether it grows", "grep TlsDecryptError /proc/net/tls_stat"),),
    )
    return replace(
        ok(),
        verdict=Verdict(Status.WARNING, f"kernel TLS is usable, but {check.summary}", check.id, check.remedy),
        checks=(*ok().checks, check),
        counters={**COUNTERS, "TlsDecryptError": 17},
    )


def unknown() -> Report:
    """A library was named that is none: the verdict is unknown and the rest stands."""
    return replace(
        ok(),
        verdict=Verdict(
            Status.UNKNOWN,
            "/tmp/libssl.so.3 is not a TLS library: not an ELF file; the rest of the report stands",
            None,
            (Remedy("name a TLS library that this machine can open with --libssl, or leave the option out"),),
        ),
        libraries=(NO_LIBRARY, SYSTEM, WHEEL),
        errors=("/tmp/libssl.so.3 is not a TLS library: not an ELF file",),
    )


def empty() -> Report:
    return _report(Verdict(Status.UNKNOWN, "could not find out whether kernel TLS is usable: nothing could be tested"))


def freebsd() -> Report:
    """A FreeBSD 14.3 capture where the gate is shut."""
    gate = Check(
        "freebsd.sysctl.enable",
        Link.MODULE,
        Status.CRITICAL,
        "kern.ipc.tls.enable is 0",
        "14.x ships with the gate shut: every setsockopt fails with EOPNOTSUPP",
        {"kern.ipc.tls.enable": 0},
        (
            Remedy("open it now", "sysctl kern.ipc.tls.enable=1"),
            Remedy("and at every boot", "echo kern.ipc.tls.enable=1 >> /etc/sysctl.conf"),
        ),
    )
    shut = Cell(Status.SKIP, "kern.ipc.tls.enable is 0", "EOPNOTSUPP")
    rows = [
        MatrixRow(version, cipher, direction, shut, YES)
        for version in TlsVersion
        for cipher in ("AES-128-GCM", "AES-256-GCM", "CHACHA20-POLY1305")
        for direction in Direction
    ]
    rows.extend(
        MatrixRow(TlsVersion.TLS12, "AES-128-CBC-SHA1", direction, shut, NOT_OFFERED) for direction in Direction
    )
    return Report(
        About(Os.FREEBSD, "14.3-RELEASE-p5", "amd64", False, "FreeBSD 14.3-RELEASE-p5"),
        "2026-11-21T05:00:00Z",
        Verdict(Status.CRITICAL, f"kernel TLS is not usable: {gate.summary}", gate.id, gate.remedy),
        checks=(gate, BUILD),
        matrix=tuple(rows),
        libraries=(replace(SYSTEM, path="/usr/lib/libssl.so.30", version="OpenSSL 3.0.16"),),
        counters={
            "kern.ipc.tls.sw.gcm": 2,
            "kern.ipc.tls.ifnet.chacha20": 0,
            "kern.ipc.tls.stats.offload_total": 7,
            "kern.ipc.tls.stats.failed_crypto": 1,
            "kern.ipc.tls.stats.ocf.tls13_gcm_encrypts": 12,
            "kern.ipc.tls.stats.threads": 4,
        },
        source="capture 2026-11-20T12:00:00Z",
    )


RING = "io_uring_setup: Operation not permitted; kernel.io_uring_disabled is 2"
NO_NAMESPACE = "Operation not permitted"
PROVED = DirectionResult(
    Status.OK,
    {
        "server.library": "BIO_get_ktls says yes",
        "server.kernel": "TLSv1.2 AES-128-GCM",
        "server.sequence": "2 to 69 for 67 records",
        "server.sock_diag": "software",
        "server.bio": "TLS_TX",
        "client.library": "BIO_get_ktls says yes",
        "counters": "TlsTxSw and TlsTxDevice rose by 2",
        "witness": "OpenSSL 4.0.3 9 Jun 2026: kernel encrypts, witness decrypts, 1048576 bytes equal",
    },
)
NOT_ASKED = DirectionResult(Status.SKIP, {}, "this direction was not asked for")
LIBRARY_UNDER_TEST = f"{SYSTEM.version} ({SYSTEM.path})"


def in_user_space(reason: str) -> DirectionResult:
    """Rightly so: kernel or library never promised it."""
    words: dict[str, str | tuple[str, ...]] = {
        "server.library": "BIO_get_ktls says no", "server.kernel": "no key", "server.not_asked": ("sock_diag: x",),
    }  # fmt: skip
    return DirectionResult(Status.SKIP, words, reason)


def result(version: TlsVersion, suite: str, tx: DirectionResult, rx: DirectionResult, **members: Any) -> SelftestResult:
    usual: dict[str, Any] = {
        "scenario": "session", "datapath": "io_uring", "library": LIBRARY_UNDER_TEST, "bytes": 1 << 20,
        "sha256_ok": True,
    }  # fmt: skip
    return SelftestResult(version, suite, tx=tx, rx=rx, **{**usual, **members})


def _from(word: Cell) -> DirectionResult:
    return PROVED if word.status is Status.OK else in_user_space(f"library: {word.reason}")


def _results(said: tuple[LibraryCell, ...]) -> tuple[SelftestResult, ...]:
    return tuple(result(c.version, c.suite, _from(c.tx), _from(c.rx)) for c in said)


def _selftest(verdict: Verdict, results: tuple[SelftestResult, ...] | None, **evidence: str) -> Report:
    words: dict[str, Any] = {
        "library": f"{SYSTEM.version} {SYSTEM.path}", "suites": len(results or ()), "io_uring": "used",
        "own_network_namespace": "yes", **evidence,
    }  # fmt: skip
    reason = "" if verdict.status is Status.OK else verdict.summary
    check = Check("selftest.sessions", Link.SESSION, verdict.status, verdict.summary[:90], reason, words)
    return replace(ok(), verdict=verdict, checks=(*ok().checks, check), results=results)


def selftest_ok() -> Report:
    """OpenSSL 3.5: every suite that it offers proved in both directions, the others rightly in user space."""
    return _selftest(
        Verdict(Status.OK, "14 directions of 7 suites proved to be in the kernel, 10 suites tested"),
        _results(cells(YES)),
    )


def selftest_no_rx13() -> Report:
    """OpenSSL 3.0 offers no TLS 1.3 receive keys; no io_uring and no network namespace here."""
    results = tuple(replace(each, datapath="socket") for each in _results(cells()))
    return _selftest(
        Verdict(Status.OK, "11 directions of 7 suites proved to be in the kernel, 10 suites tested"),
        results,
        io_uring=RING,
        own_network_namespace=NO_NAMESPACE,
    )


def selftest_failed() -> Report:
    """One refused switch, one crash, one session with wrong bytes."""
    refused = DirectionResult(
        Status.CRITICAL,
        {"server.library": "BIO_get_ktls says no", "server.bio": "TLS_TX: Device or resource busy"},
        "promised by kernel and library, but handing over failed at TLS_TX: Device or resource busy",
    )
    crash = DirectionResult(Status.CRITICAL, {}, "the session failed: the library died of SIGSEGV")
    wrong = replace(PROVED, status=Status.CRITICAL, reason="the bytes that arrived are not those that were sent")
    first, second, third, *rest = _results(cells())
    return _selftest(
        Verdict(
            Status.CRITICAL,
            f"{second.version} {second.suite} TX: {refused.reason}",
            "selftest.sessions",
            (Remedy("look at the kernel's messages", "dmesg | tail"),),
        ),
        (
            first,
            replace(second, tx=refused),
            replace(third, tx=crash, rx=crash, bytes=0, sha256_ok=None, reason="the library died of SIGSEGV"),
            replace(rest[0], tx=wrong, rx=wrong, sha256_ok=False),
            *rest[1:],
        ),
    )


def selftest_disagreement() -> Report:
    split = DirectionResult(
        Status.UNKNOWN,
        {"server.library": "BIO_get_ktls says yes", "server.kernel": "no key"},
        "the witnesses disagree: server.library in the kernel, server.kernel in user space",
    )
    first, *rest = _results(cells())
    return _selftest(
        Verdict(
            Status.UNKNOWN,
            f"{first.version} {first.suite} RX: {split.reason}",
            None,
            (Remedy("compare the witnesses in the evidence of this cell (--verbose or --format json)"),),
        ),
        (*rest, replace(first, rx=split)),
    )


def selftest_policy() -> Report:
    """Every direction is as it should be; what the caller wants is more."""
    return _selftest(
        Verdict(Status.CRITICAL, "required and not proved: TLSv1.3 TX and RX", "selftest.sessions"),
        tuple(replace(each, rx=NOT_ASKED) for each in _results(cells())),
    )


def selftest_without_module() -> Report:
    """Nothing promised, every session in user space: the check names the broken link."""
    broken = broken_module()
    reason = f"kernel: {NOT_LOADED_CHECK.summary}"
    user = in_user_space(reason)
    report = _selftest(
        replace(broken.verdict, summary=f"no session got kernel TLS; {broken.verdict.summary}"),
        tuple(replace(each, tx=user, rx=user) for each in _results(cells())),
    )
    return replace(report, checks=(*broken.checks, report.checks[-1]), matrix=broken.matrix, counters={})


def selftest_of_nothing() -> Report:
    return _selftest(
        Verdict(Status.UNKNOWN, "no suite was tested", None, (Remedy("ask for a suite that the library offers"),)), ()
    )


def scenario(
    name: str, status: Status, finding: Finding, summary: str, reason: str = "", **members: Any
) -> ScenarioResult:
    usual: dict[str, Any] = {
        "version": TlsVersion.TLS12, "suite": "ECDHE-ECDSA-AES128-GCM-SHA256", "datapath": "io_uring",
        "library": LIBRARY_UNDER_TEST, "tx": DirectionResult(Status.OK), "rx": DirectionResult(Status.OK),
    }  # fmt: skip
    return ScenarioResult(
        scenario=name, status=status, finding=finding, summary=summary, reason=reason, **{**usual, **members}
    )


def selftest_scenarios() -> Report:
    """Every way in which a scenario may end, after sessions that are fine."""
    failed = DirectionResult(Status.CRITICAL, {}, "in the kernel, and the scenario failed")
    user = DirectionResult(Status.SKIP, {}, "in user space in this scenario")
    tls13: dict[str, Any] = {"version": TlsVersion.TLS13, "suite": "TLS_AES_128_GCM_SHA256"}
    sixteen = "16777216 bytes each way intact"
    results = (
        scenario("bulk", Status.OK, Finding.FINE, sixteen, bytes=1 << 24, sha256_ok=True, evidence={"writes": 4000}),
        scenario("bulk", Status.OK, Finding.FINE, sixteen, bytes=1 << 24, sha256_ok=True, rx=user, **tls13),
        scenario(
            "moving-write-buffer", Status.CRITICAL, Finding.KNOWN, "data is corrupted silently",
            "5 of 12 records carried stale memory; every program of Python's ssl sends like this", tx=failed,
            known=("moving-write-buffer",), sha256_ok=False, bytes=1 << 18, evidence={"wrong_records": 5},
        ),
        scenario(
            "key-update", Status.WARNING, Finding.KNOWN, "a KeyUpdate ends the connection",
            "this kernel takes no second key", known=("keyupdate-fatal",), accepted=True, **tls13,
        ),
        scenario("corruption", Status.CRITICAL, Finding.UNEXPLAINED, "a bad record was delivered", "flipped tag"),
        scenario("reset", Status.UNKNOWN, Finding.NOT_RUN, "could not be asked", "no answer within 20 s"),
        scenario("lying-bio", Status.SKIP, Finding.NOT_RUN, "means nothing here", "no kernel TLS", tx=user, rx=user),
    )  # fmt: skip
    report = _selftest(
        Verdict(
            Status.CRITICAL,
            "moving-write-buffer, TLSv1.2 ECDHE-ECDSA-AES128-GCM-SHA256: data is corrupted silently",
            "selftest.scenarios",
            (Remedy("install OpenSSL 3.5.7, 3.6.3, 4.0.1 or later"),),
        ),
        _results(cells(YES)),
    )
    check = Check(
        "selftest.scenarios", Link.BYTES, Status.CRITICAL, "2 fine, 2 known, 1 unexplained, 2 not run",
        "moving-write-buffer: data is corrupted silently; corruption: a bad record was delivered",
        {"known": ("moving-write-buffer", "keyupdate-fatal")},
    )  # fmt: skip
    return replace(report, checks=(*report.checks, check), scenarios=results)


def selftest_error() -> Report:
    """The library that was named is none; nothing ran."""
    return replace(unknown(), results=())


#: Everything that a file name, a kernel line or a hostile capture may try.
NASTY = "x\x1b[31m|\n\r\t\x00\x07\x9b2J\"\\'<&>\u2028\u202e\udcff{}#;,=$(reboot)`\N{PILE OF POO}é"


def nasty() -> Report:
    """The worst strings in every member that takes one; ids, times and sources keep the shape of the contract."""
    bad = Remedy(NASTY, NASTY)
    no = Cell(Status.SKIP, NASTY, NASTY)
    unseen = Cell(Status.UNKNOWN, NASTY, NASTY)
    check = Check("nasty.check", Link.MODULE, Status.CRITICAL, NASTY, NASTY, {NASTY: NASTY, "t": (NASTY,)}, (bad, bad))
    library_cells = (LibraryCell(TlsVersion.TLS12, NASTY, NASTY, no, unseen),)
    bad_side = DirectionResult(Status.CRITICAL, {NASTY: NASTY, "t": (NASTY,)}, NASTY)
    return Report(
        About(Os.LINUX, NASTY, NASTY, False, NASTY),
        "2026-11-21T05:00:00Z",
        Verdict(Status.UNKNOWN, NASTY, "nasty.check", (bad,)),
        checks=(check, replace(check, status=Status.OK), replace(check, status=Status.SKIP)),
        matrix=(
            MatrixRow(TlsVersion.TLS12, NASTY, Direction.TX, no, YES, unseen),
            MatrixRow(TlsVersion.TLS13, NASTY, Direction.RX, unseen, no, None),
        ),
        libraries=(
            Library(
                NASTY, NASTY, NASTY, (NASTY,), Status.UNKNOWN, NASTY, Tri.NO, NASTY, Tri.NO, NASTY, NASTY, NASTY,
                library_cells,
            ),
        ),
        advisories=tuple(
            AdvisoryNotice(NASTY, certainty, NASTY, NASTY, NASTY, NASTY, NASTY, bad) for certainty in Certainty
        ),
        counters={NASTY: 2**63, "TlsTxSw": 1},
        errors=(NASTY,),
        source=f"capture {NASTY}",
        results=(
            SelftestResult(TlsVersion.TLS12, NASTY, NASTY, "socket", NASTY, bad_side, bad_side, 1, False, NASTY),
            SelftestResult(
                TlsVersion.TLS13, NASTY, "session", "io_uring", NASTY, replace(bad_side, status=Status.SKIP),
                replace(bad_side, status=Status.OK), 1, None, NASTY,
            ),
        ),
        scenarios=tuple(
            ScenarioResult(
                NASTY, TlsVersion.TLS12, NASTY, "socket", NASTY, status, finding, NASTY, bad_side, bad_side, NASTY,
                (NASTY,), False, (NASTY,), {NASTY: NASTY}, 1, False,
            )
            for status, finding in zip((*Status, Status.OK), (*Finding, *Finding), strict=False)
        ),
    )  # fmt: skip


#: What `selftest` may have to print.
SELFTESTS = {
    "selftest_ok": selftest_ok,
    "selftest_no_rx13": selftest_no_rx13,
    "selftest_failed": selftest_failed,
    "selftest_disagreement": selftest_disagreement,
    "selftest_policy": selftest_policy,
    "selftest_without_module": selftest_without_module,
    "selftest_of_nothing": selftest_of_nothing,
    "selftest_scenarios": selftest_scenarios,
    "selftest_error": selftest_error,
}

ALL = {
    "ok": ok,
    "broken_module": broken_module,
    "warning": warning,
    "unknown": unknown,
    "empty": empty,
    "freebsd": freebsd,
    "nasty": nasty,
    **SELFTESTS,
}

#: Reports as real hosts give them, for what is about layout.
REALISTIC = {name: factory for name, factory in ALL.items() if name != "nasty"}


# Any text at all, lone surrogates and controls included; `said` is what the contract wants not to be empty.
_any = st.text(st.characters(), max_size=60) | st.sampled_from(("", " ", NASTY, "|", "\n"))
_said = _any.map(lambda text: text or "?")
_id = st.from_regex(r"[a-z]{1,9}(\.[a-z_-]{1,12}){1,3}", fullmatch=True)
_remedies = st.builds(Remedy, _said, st.none() | _said)
_evidence: st.SearchStrategy[Mapping[str, Any]] = st.dictionaries(
    _any, _any | st.integers() | st.booleans() | st.none() | st.tuples(_any, _any), max_size=3
)
_cells = st.builds(Cell, st.sampled_from((Status.OK, Status.SKIP, Status.UNKNOWN)), _said, st.none() | _said)
_checks = st.builds(
    Check, _id, st.sampled_from(Link), st.sampled_from(Status), _said, _said, _evidence,
    st.lists(_remedies, max_size=2).map(tuple),
)  # fmt: skip
_rows = st.builds(
    MatrixRow, st.sampled_from(TlsVersion), _said, st.sampled_from(Direction), st.none() | _cells, st.none() | _cells,
    st.none() | _cells,
)  # fmt: skip
_library_cells = st.builds(LibraryCell, st.sampled_from(TlsVersion), _said, _said, _cells, _cells)
_libraries = st.builds(
    Library, _said, _any, _any, st.lists(_said, max_size=2).map(tuple), st.sampled_from(Status), _said,
    st.sampled_from(Tri), _any, st.sampled_from(Tri), _any, _any, _any, st.lists(_library_cells, max_size=2).map(tuple),
)  # fmt: skip
_advisories = st.builds(AdvisoryNotice, _said, st.sampled_from(Certainty), _said, _said, _any, _any, _any, _remedies)
_verdicts = st.builds(
    Verdict, st.sampled_from((Status.OK, Status.WARNING, Status.CRITICAL, Status.UNKNOWN)), _said, _id,
    st.lists(_remedies, max_size=2).map(tuple),
)  # fmt: skip


_directions = st.builds(
    DirectionResult, st.sampled_from((Status.OK, Status.SKIP, Status.CRITICAL, Status.UNKNOWN)), _evidence, _said
)
_selftests = st.builds(
    SelftestResult, st.sampled_from(TlsVersion), _said, st.just("session") | _said,
    st.sampled_from(("io_uring", "socket")), _said, _directions, _directions, st.integers(0), st.none() | st.just(True),
    _any,
)  # fmt: skip


_scenarios = st.builds(
    ScenarioResult, _said, st.sampled_from(TlsVersion), _said, st.sampled_from(("io_uring", "socket")), _said,
    st.sampled_from(Status), st.sampled_from(Finding), _said, _directions, _directions, _said,
    st.lists(_said, max_size=2, unique=True).map(tuple), st.booleans(),
    st.lists(_said, max_size=2, unique=True).map(tuple), _evidence, st.integers(0), st.none() | st.just(True),
)  # fmt: skip
_processes = st.builds(
    TlsProcess, st.integers(0), _any, _any, st.sampled_from(Reach), _said, st.none() | st.integers(0),
    st.lists(st.integers(0, 9), min_size=1, max_size=2).map(tuple),
)  # fmt: skip
_statistics = st.builds(
    Statistic, _said, st.sampled_from(StatisticKind), st.integers(), st.booleans(), _any, st.none() | st.floats(0, 1e20)
)


def _consistent(report: Report) -> Report:
    """An error makes the verdict unknown, as probe.pronounce does; scenarios are a self-test's."""
    if report.results is None:
        report = replace(report, scenarios=())
    return replace(report, verdict=replace(report.verdict, status=Status.UNKNOWN)) if report.errors else report


#: Any report that the contract allows, with arbitrary text wherever text stands.
ANY_REPORT: st.SearchStrategy[Report] = st.builds(
    Report,
    st.builds(About, st.sampled_from(Os), _said, _said, st.booleans(), _any),
    st.just("2026-11-21T05:00:00Z"),
    _verdicts,
    st.lists(_checks, max_size=3).map(tuple),
    st.lists(_rows, max_size=4).map(tuple),
    st.lists(_libraries, max_size=2).map(tuple),
    st.lists(_advisories, max_size=3).map(tuple),
    st.dictionaries(
        _any | st.sampled_from(("TlsTxSw", "TlsCurrTxSw", "kern.ipc.tls.sw.gcm")), st.integers(), max_size=3
    ),
    st.lists(_said, max_size=2).map(tuple),
    st.just("live") | _any.map(lambda text: f"capture {text}"),
    st.none() | st.lists(_selftests, max_size=3).map(tuple),
    st.lists(_scenarios, max_size=3).map(tuple),
    processes=st.none() | st.lists(_processes, max_size=2).map(tuple),
    statistics=st.none() | st.lists(_statistics, max_size=2).map(tuple),
).map(_consistent)
