# SPDX-License-Identifier: BSD-2-Clause
"""What does the work: the software backend and the crypto drivers under it."""

from __future__ import annotations

from ktlsctl.facts import ktlsgauges
from ktlsctl.freebsd_findings.remedies import load_at_boot
from ktlsctl.freebsd_findings.situation import (
    ACCELERATORS,
    MODULE,
    MODULE_FILE,
    SOFTWARE_CRYPTO,
    Seen,
    needs_kernel,
    unknown,
)
from ktlsctl.model import Check, Direction, Evidence, Link, Remedy, Status


def module(seen: Seen) -> Check:
    """freebsd.module.ktls_ocf: the software backend, a module on 13, part of the kernel since."""
    identity, link = "freebsd.module.ktls_ocf", Link.MODULE
    if not seen.node:
        return needs_kernel(identity, link, "the software backend", seen)
    evidence: dict[str, str | int | bool | None] = {
        ktlsgauges.OCF: seen.backend,
        MODULE_FILE: seen.module_loaded if seen.facts.files.present else None,
    }
    if seen.facts.load is not None:
        evidence["kldload"] = seen.facts.load.reason or "done"
    if seen.backend:
        where = f"in {MODULE_FILE}" if seen.module_loaded else "in the kernel"
        return Check(identity, link, Status.OK, f"the software backend is there, {where}", evidence=evidence)
    if any(seen.taken(direction) for direction in Direction):
        return Check(
            identity,
            link,
            Status.OK,
            "the kernel takes sessions",
            f"{ktlsgauges.OCF} is missing, so the software backend is not the one that takes them",
            evidence,
        )
    if seen.module_loaded:
        return Check(
            identity,
            link,
            Status.CRITICAL,
            f"{MODULE_FILE} is loaded, but no software backend answers",
            "the module did not register: it was built for another kernel (KTLS: API version mismatch)",
            evidence,
            (Remedy("see what the kernel said of it, then install kernel and modules together", "dmesg | grep KTLS"),),
        )
    reason = f"this kernel keeps its software backend in {MODULE_FILE}: without it {ktlsgauges.OCF} is missing"
    if seen.tries and seen.flag(ktlsgauges.ENABLE):
        reason += " and every cipher is refused with EOPNOTSUPP"
    if seen.facts.load is not None and not seen.facts.load.present:
        reason += f"; loading it failed: {seen.facts.load.reason}"
    return Check(
        identity,
        link,
        Status.CRITICAL,
        f"{MODULE_FILE}, the software backend, is not loaded",
        reason,
        evidence,
        (Remedy("load it now", f"kldload {MODULE}"), *load_at_boot(seen)),
    )


def providers(seen: Seen) -> Check:
    """freebsd.crypto.providers: what computes under the backend."""
    identity, link = "freebsd.crypto.providers", Link.CIPHER
    if not seen.facts.sysctls.present:
        return unknown(identity, link, "the kernel's crypto drivers", seen.facts.sysctls.reason)
    found = {
        driver: seen.values[f"dev.{driver}.0.%desc"]
        for driver in (*ACCELERATORS, SOFTWARE_CRYPTO)
        if f"dev.{driver}.0.%desc" in seen.values
    }
    evidence: Evidence = {f"dev.{driver}.0.%desc": text for driver, text in found.items()}
    if any(driver in found for driver in ACCELERATORS):
        fast = " and ".join(driver for driver in ACCELERATORS if driver in found)
        return Check(identity, link, Status.OK, f"record crypto is accelerated by {fast}", evidence=evidence)
    accelerator = {"amd64": "aesni", "arm64": "armv8crypto", "aarch64": "armv8crypto"}.get(seen.machine)
    remedy = (
        () if accelerator is None else (Remedy("if the processor has it, load its driver", f"kldload {accelerator}"),)
    )
    if SOFTWARE_CRYPTO in found:
        return Check(
            identity,
            link,
            Status.OK,
            f"record crypto is done by {SOFTWARE_CRYPTO} alone",
            "every cipher works in portable C code, slowly: no accelerating driver is attached",
            evidence,
            remedy,
        )
    if any(seen.taken(direction) for direction in Direction):
        return Check(
            identity, link, Status.OK, "record crypto works", "its driver is not visible from here", evidence, remedy
        )
    return Check(
        identity,
        link,
        Status.UNKNOWN,
        "no crypto driver is visible",
        "neither an accelerating driver nor cryptosoft is attached as unit 0; kldstat -v lists what the kernel has",
        evidence,
        (Remedy("load the portable driver", f"kldload {SOFTWARE_CRYPTO}"),),
    )
