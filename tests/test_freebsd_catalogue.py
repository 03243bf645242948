# SPDX-License-Identifier: BSD-2-Clause
"""The catalogue of what goes wrong with kernel TLS on FreeBSD: each failure is a check with its reason and its remedy,
or it stands here why a machine cannot see it."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import jsonschema
import pytest

from ktlsctl import probe
from ktlsctl.advisories import TABLE, Subject
from ktlsctl.host import CapturedHost
from ktlsctl.model import Certainty, Check, Report, Status
from ktlsctl.render import jsondoc
from ktlsctl.schema import report_schema
from tests import freebsd_hosts
from tests.freebsd_hosts import F13_2, F14_3, F15_1, HOSTS, ON, Kernel

VALIDATOR = jsonschema.Draft202012Validator(json.loads(report_schema()))


def report(kernel: Kernel) -> Report:
    """What `check --from` makes of this host; as a document it keeps the schema."""
    found = probe.check(CapturedHost.parse(freebsd_hosts.document(kernel).encode()), probe.Options())
    VALIDATOR.validate(json.loads(jsondoc.render(found)))
    return found


@dataclass(frozen=True)
class Row:
    """One failure.  `words`: what its check says on this host; `mends`: a piece of a remedy, empty where none is."""

    symptom: str
    kernel: Kernel
    check: str
    words: str
    mends: str = ""
    status: Status | None = None


ROWS = (
    Row(
        "unknown oid kern.ipc.tls.enable: a kernel without KERN_TLS",
        HOSTS["14.3-custom-kernel"], "freebsd.kernel.option", "without KERN_TLS", "KERNCONF=GENERIC", Status.CRITICAL,
    ),
    Row(
        "unknown oid kern.ipc.tls.enable: an architecture without a direct map",
        HOSTS["14.3-i386"], "freebsd.kernel.option", "i386", "amd64 or arm64", Status.CRITICAL,
    ),
    Row(
        "programs silently stay in user space on 13 and 14",
        F14_3, "freebsd.sysctl.enable", "FreeBSD 14 is 0", "sysctl kern.ipc.tls.enable=1", Status.CRITICAL,
    ),
    Row(
        "13.x: EOPNOTSUPP for every cipher, no stats.ocf",
        HOSTS["13.0"], "freebsd.module.ktls_ocf", "EOPNOTSUPP", "kldload ktls_ocf", Status.CRITICAL,
    ),
    Row(
        "kldload tls fails: Linux's name",
        replace(HOSTS["14.3-on"], files={**ON, "/boot/loader.conf": 'tls_load="YES"\n'}),
        "freebsd.persistence", "Linux's module", "-x tls_load", Status.OK,
    ),
    Row(
        "kldload ktls_ocf fails on 14 and later",
        replace(HOSTS["14.3-on"], files={**ON, "/boot/loader.conf": 'ktls_ocf_load="YES"\n'}),
        "freebsd.persistence", "part of this kernel since 14.0", "-x ktls_ocf_load", Status.OK,
    ),
    Row(
        "TX fails with ENXIO: no unmapped mbufs",
        HOSTS["14.3-no-ext-pgs"], "freebsd.sysctl.mb_use_ext_pgs", "ENXIO", "sysctl kern.ipc.mb_use_ext_pgs=1",
        Status.WARNING,
    ),
    Row(
        "ENXIO in both directions: threads that did not start",
        replace(F15_1, threads_start=False), "freebsd.kernel.matrix", "crypto threads", "reboot", Status.CRITICAL,
    ),
    Row(
        "RX falls back while TX is in the kernel: TLS 1.3 on 13.x",
        HOSTS["13.2-ktls_ocf"], "freebsd.kernel.matrix", "TLS 1.3", "FreeBSD 14 or later", Status.OK,
    ),
    Row(
        "RX falls back while TX is in the kernel: a library without TLS 1.3 receive",
        HOSTS["13.2-ktls_ocf"], "openssl.matrix", "TLS 1.3 receiving stays in user space", "", Status.OK,
    ),
    Row(
        "lighttpd: bodies over 64 KiB are damaged, ssl_err:5 ret:-1 errno:35",
        HOSTS["15.1-lighttpd"], "freebsd.program.lighttpd", "errno:35", "service lighttpd restart", Status.WARNING,
    ),
    Row(
        "the same, seen in the kernel's own bytes",
        HOSTS["15.1-damaged-sendfile"], "freebsd.records", "sendfile arrived damaged", "kern.ipc.tls.enable=0",
        Status.CRITICAL,
    ),
    Row(
        "SSL errors after moving to 13: the 1.1.1 of the base system tries without being told to",
        F13_2, "openssl.config", "without being told to", "", Status.OK,
    ),
    Row(
        "SSL_sendfile does not work: kernel TLS is not active for sending",
        HOSTS["14.3-no-ext-pgs"], "matrix.usable", "RX", "", Status.OK,
    ),
    Row(
        "slower than user space: software alone, no NIC that offloads",
        F15_1, "freebsd.nic", "slower than user space", "", Status.SKIP,
    ),
    Row(
        "the daemons of NFS over TLS end: Kernel TLS not enabled",
        HOSTS["14.3-nfs"], "freebsd.program.nfs_tls", "Kernel TLS not enabled", "sysctl kern.ipc.tls.enable=1",
        Status.WARNING,
    ),
)  # fmt: skip

#: Failures that are known defects of a version: their advisory, and a host that it is told of.
ADVISORIES = {
    "wrong AES-GCM results with ossl loaded on 14.0": (
        "FreeBSD-EN-23:17.ossl", Kernel((14, 0), enable=True, devices=("ossl", "cryptosoft")),
    ),
    "SSL_shutdown fails with EAGAIN and images are damaged, base OpenSSL 3.0.12": (
        "freebsd.sendfile-shutdown", Kernel((14, 0), enable=True),
    ),
    "files are damaged by a replay after a short sendfile, 15.0 and later": (
        "freebsd.sendfile-replay", HOSTS["15.1-unpatched"],
    ),
    "SSL_sendfile's retry flag is stuck or missing": ("openssl.sendfile-retry", HOSTS["15.1-unpatched"]),
    "receive decrypts into shared pages": ("FreeBSD-SA-26:26.ktls", HOSTS["15.1-unpatched"]),
    "remote crash through TLS 1.2 CBC receive": ("FreeBSD-SA-26:46.ktls", HOSTS["15.1-unpatched"]),
    "remote crash through TLS 1.3 receive": ("FreeBSD-SA-26:67.ktls", HOSTS["15.1-unpatched"]),
    "panic after a failed handshake of NFS over TLS": ("FreeBSD-EN-26:17.rpcsec_tls", HOSTS["15.1-unpatched"]),
}  # fmt: skip

NOT_FOR_A_MACHINE = {
    "duplicated data around sendfile because EBUSY, EINTR and ENOBUFS lost their counts": (
        "mended before OpenSSL 3.0 was released, so that no version tells it; ktlsctl's own sendfile keeps the count, "
        "and freebsd.records would see repeated bytes"
    ),
}


def found(of: Report, identity: str) -> Check:
    return next(check for check in of.checks if check.id == identity)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.symptom)
def test_a_failure_of_the_catalogue_is_a_check_with_reason_and_remedy(row: Row) -> None:
    check = found(report(row.kernel), row.check)
    assert check.status is row.status
    assert row.words in f"{check.summary} {check.reason}"
    told = " ".join(f"{remedy.text} {remedy.command or ''}" for remedy in check.remedy)
    assert row.mends in told


@pytest.mark.parametrize("symptom", ADVISORIES)
def test_a_known_defect_of_a_version_is_told_with_a_remedy(symptom: str) -> None:
    identity, kernel = ADVISORIES[symptom]
    notice = next(n for n in report(kernel).advisories if n.id == identity)
    assert notice.certainty is Certainty.POSSIBLE
    assert notice.remedy.text
    assert notice.reference


def test_every_advisory_about_freebsd_is_in_the_catalogue() -> None:
    known = {identity for identity, _ in ADVISORIES.values()}
    assert {advisory.id for advisory in TABLE if advisory.subject is Subject.FREEBSD} <= known


def test_a_damaged_file_proves_its_advisory() -> None:
    notices = {n.id: n.certainty for n in report(HOSTS["15.1-damaged-sendfile"]).advisories}
    assert notices["freebsd.sendfile-replay"] is Certainty.PROVED


@pytest.mark.parametrize(
    ("name", "identity", "told"),
    [
        ("15.1-unpatched", "FreeBSD-SA-26:67.ktls", True),
        ("15.1-p4", "FreeBSD-SA-26:67.ktls", False),
        ("15.1-unpatched", "FreeBSD-SA-26:46.ktls", True),
        ("15.1-p4", "FreeBSD-SA-26:46.ktls", False),
    ],
)
def test_a_patched_kernel_is_told_from_an_unpatched_one(name: str, identity: str, told: bool) -> None:
    assert (identity in {n.id for n in report(HOSTS[name]).advisories}) is told


def test_what_no_machine_can_see_stands_with_its_reason() -> None:
    assert all(len(why) > 40 for why in NOT_FOR_A_MACHINE.values())


@pytest.mark.parametrize(
    ("name", "status", "says"),
    [
        ("13.0", Status.CRITICAL, "ktls_ocf.ko, the software backend, is not loaded"),
        ("13.2-ktls_ocf", Status.OK, "kernel and library agree"),
        ("14.3", Status.CRITICAL, "kern.ipc.tls.enable is off"),
        ("15.1-lighttpd", Status.WARNING, "lighttpd 1.4.85 uses kernel TLS"),
        ("15.1-damaged-sendfile", Status.CRITICAL, "a file sent by sendfile arrived damaged"),
        ("15.1-p4", Status.OK, "kernel and library agree"),
        ("15.1-unpatched", Status.OK, "kernel and library agree"),
        ("14.3-i386", Status.CRITICAL, "no FreeBSD kernel has kernel TLS on i386"),
        ("14.3-custom-kernel", Status.CRITICAL, "built without KERN_TLS"),
        ("15.0-jail", Status.OK, "kernel and library agree"),
    ],
)
def test_the_verdict_over_each_captured_host(name: str, status: Status, says: str) -> None:
    host = CapturedHost.parse(freebsd_hosts.path_of(name).read_bytes())
    verdict = probe.check(host, probe.Options()).verdict
    assert (verdict.status, says in verdict.summary) == (status, True), verdict
