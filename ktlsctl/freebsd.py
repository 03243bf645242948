# SPDX-License-Identifier: BSD-2-Clause
"""FreeBSD: gather what a host says of its kernel TLS, and judge it.  The same surface as linux.py.

Abilities are found by asking the kernel; a release number appears only where a default is explained.  Source:
sys/kern/uipc_ktls.c, sys/opencrypto/ktls_ocf.c, sys/netinet/tcp_usrreq.c; the facts stand in docs/freebsd.md.
"""

from __future__ import annotations

from collections.abc import Mapping

from ktlsctl import sysctl
from ktlsctl.codec import decode
from ktlsctl.facts import conftxt, ifcaps, kld, ktlsgauges, lighttpd, loaderconf, rcconf, recordproof, tlsenable
from ktlsctl.facts.attempts import mapped
from ktlsctl.freebsd_findings import backend, boot, kernel, matrix, programs, records, surroundings
from ktlsctl.freebsd_findings.situation import (
    ACCELERATORS,
    JAILED,
    MACHINE_ARCH,
    MB_USE_EXT_PGS,
    MODULE,
    SOFTWARE_CRYPTO,
    Facts,
    Seen,
    has_backend,
    has_node,
)
from ktlsctl.host import Host
from ktlsctl.model import About, Attempt, Check, KernelReport, MatrixRow

__all__ = ["Facts", "gather", "judge"]

_PROBE_SECONDS = 5.0
_PROOF_SECONDS = recordproof.BUDGET + 4.0


def gather(host: Host, *, load: bool) -> Facts:
    """Ask everything.  Changes nothing unless `load`: then a missing software backend is loaded (needs root)."""
    # Before the probes: their own attempts count in kern.ipc.tls.stats.
    sysctls = _sysctls(host)
    loading = None
    if load and has_node(sysctls) and not has_backend(sysctls):
        loading = kld.load(host, MODULE)
        sysctls = _sysctls(host)
    probe = host.begin(tlsenable.PROBE, None, _PROBE_SECONDS)
    proof = host.begin(recordproof.PROBE, None, _PROOF_SECONDS)
    return Facts(
        sysctls=sysctls,
        kernel_config=conftxt.names_kern_tls(host) if sysctls.present and not has_node(sysctls) else None,
        files=kld.loaded(host),
        load=loading,
        interfaces=ifcaps.read(host),
        sysctl_conf=sysctl.persisted(host, _is_ours),
        loader_conf=loaderconf.read(host, _is_ours),
        rc_conf=rcconf.read(host),
        lighttpd=lighttpd.read(host),
        answers=mapped(probe.answer(), lambda value: decode(tlsenable.Answers, value)),
        proof=mapped(proof.answer(), lambda value: decode(recordproof.Proof, value)),
    )


def _sysctls(host: Host) -> Attempt[Mapping[str, str]]:
    devices = (f"dev.{driver}.0.%desc" for driver in (*ACCELERATORS, SOFTWARE_CRYPTO))
    return sysctl.tree(host, MACHINE_ARCH, JAILED, MB_USE_EXT_PGS, ktlsgauges.ROOT, *devices)


def _is_ours(name: str) -> bool:
    return name in (MB_USE_EXT_PGS, f"{MODULE}_load", "tls_load") or name.startswith(f"{ktlsgauges.ROOT}.")


def judge(facts: Facts, about: About) -> KernelReport:
    """Findings, the kernel's column and the counters of one host.  Pure."""
    seen = Seen(facts, about)
    checks: tuple[Check, ...] = (
        kernel.jail(seen),
        kernel.option(seen),
        kernel.enable(seen),
        kernel.rx_enable(seen),
        kernel.cbc_enable(seen),
        kernel.ext_pgs(seen),
        backend.module(seen),
        backend.providers(seen),
        matrix.matrix(seen),
        records.records(seen),
        surroundings.stats(seen),
        boot.persistence(seen),
        programs.lighttpd(seen),
        programs.nfs(seen),
        surroundings.nic(seen),
    )
    if seen.jailed:
        checks = tuple(kernel.from_inside_a_jail(check) for check in checks)
    return KernelReport(
        checks=checks,
        rows=tuple(MatrixRow(t.version, t.cipher, t.direction, matrix.cell(t, seen)) for t in seen.tries),
        counters=ktlsgauges.counters(seen.values),
        proved=_proved(seen),
        refuted=_refuted(seen),
    )


def _proved(seen: Seen) -> frozenset[str]:
    """Advisories whose behaviour was seen here."""
    proof = seen.facts.proof.value
    return frozenset(("freebsd.sendfile-replay",)) if proof is not None and proof.file_equal is False else frozenset()


def _refuted(seen: Seen) -> frozenset[str]:
    """Advisories that cannot concern this host, whatever its release."""
    found = set()
    # The fix for this one brought the setting with it.
    if ktlsgauges.RX_ENABLE in seen.values:
        found.add("FreeBSD-SA-26:67.ktls")
    # A driver that is not attached and not loaded encrypts nothing.
    files = seen.facts.files
    if seen.values and "dev.ossl.0.%desc" not in seen.values and files.present and "ossl.ko" not in files.or_else(()):
        found.add("FreeBSD-EN-23:17.ossl")
    return frozenset(found)
