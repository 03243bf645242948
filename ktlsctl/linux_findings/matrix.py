# SPDX-License-Identifier: BSD-2-Clause
"""The cipher link: which version, cipher and direction this kernel takes, and why not the others."""

from __future__ import annotations

from ktlsctl.ciphers import LINUX_CIPHERS, LinuxCipher
from ktlsctl.facts.kconfig import Built
from ktlsctl.facts.ulp import Answers, Tried, TriedCell
from ktlsctl.linux_findings.module import why
from ktlsctl.linux_findings.situation import Facts, Situation, holds
from ktlsctl.model import Cell, Check, Direction, Evidence, Link, MatrixRow, Outcome, Remedy, Status, TlsVersion, Tri

_BY_NAME = {cipher.name: cipher for cipher in LINUX_CIPHERS}

#: The cipher that every kernel with kernel TLS takes: CONFIG_TLS selects its algorithm.
_SELECTED = "gcm(aes)"


def _asked(facts: Facts) -> Answers | None:
    """The child's answers, if its negative control held."""
    answers = facts.ulp.value
    if answers is None or not answers.attach.accepted or answers.control.errno != "EINVAL":
        return None
    return answers


def _unasked(facts: Facts, now: Situation) -> Cell:
    """What every cell is when the kernel could not be asked, or not be believed."""
    if now.lacking or now.no_ulp:
        return Cell(Status.SKIP, "this kernel has no kernel TLS")
    answers = facts.ulp.value
    if answers is not None and answers.attach.accepted:
        how = f"was answered with {answers.control.errno}" if answers.control.errno else "was accepted"
        return Cell(Status.UNKNOWN, f"a cipher that no kernel knows {how}: what this kernel accepts proves nothing")
    if now.registered is Tri.NO:
        return Cell(Status.UNKNOWN, "the tls module is not loaded, so the kernel could not be asked")
    return Cell(Status.UNKNOWN, f"the kernel could not be asked: {why(facts)}")


def rows(facts: Facts, now: Situation) -> tuple[MatrixRow, ...]:
    """The kernel's column: a row for every cipher of linux/tls.h, version and direction."""
    answers = _asked(facts)
    tried = {(c.version, c.cipher, c.direction): c for c in answers.cells} if answers is not None else {}
    return tuple(
        MatrixRow(version, cipher.name, direction, _cell(facts, now, tried.get((version, cipher.name, direction))))
        for version in TlsVersion
        for cipher in LINUX_CIPHERS
        for direction in Direction
    )


def _cell(facts: Facts, now: Situation, cell: TriedCell | None) -> Cell:
    if cell is None:
        return _unasked(facts, now)
    tried, cipher = cell.tried, _BY_NAME[cell.cipher]
    if not tried.made:
        return Cell(Status.UNKNOWN, "no answer in time: the kernel was still looking for the algorithm")
    if tried.accepted:
        return Cell(Status.OK)
    if tried.errno == "ENOENT":
        return Cell(Status.SKIP, _missing(facts, now, cipher), tried.errno)
    if tried.errno == "EINVAL":
        return Cell(Status.SKIP, _refused(facts, cell), tried.errno)
    if tried.errno == "ENOPROTOOPT":
        option = f"TLS_{cell.direction.upper()}"
        return Cell(Status.SKIP, f"this kernel does not know {option} (RX came with Linux 4.17)", tried.errno)
    if tried.errno in ("EPERM", "EACCES"):
        return Cell(Status.UNKNOWN, "refused by a sandbox (seccomp, a security module, a BPF program)", tried.errno)
    if tried.errno in ("ENOMEM", "ENOBUFS"):
        return Cell(Status.UNKNOWN, "the kernel had no memory for it", tried.errno)
    return Cell(Status.UNKNOWN, f"an answer that no Linux gives here: {tried.errno}", tried.errno)


def _missing(facts: Facts, now: Situation, cipher: LinuxCipher) -> str:
    """ENOENT: crypto_alloc_aead found no such algorithm."""
    text = f"the kernel's crypto has no {cipher.algorithm}"
    if facts.crypto.fips.value == 1:
        return f"{text} in FIPS mode, or was built without it"
    config = facts.config.value
    if config is None or not holds(config, container=now.container):
        return f"{text} (it needs {' and '.join(cipher.kconfig)})"
    unset = [option for option in cipher.kconfig if config.built(option) is Built.NO]
    if unset:
        return f"{text}: {' and '.join(unset)} not set in this kernel"
    modules = [option for option in cipher.kconfig if config.built(option) is Built.MODULE]
    if modules:
        return f"{text}: {' and '.join(modules)} is a module that is not installed or is kept out"
    return text


def _refused(facts: Facts, cell: TriedCell) -> str:
    """EINVAL: the kernel knows no such cipher, or not with this version.  Which of the two, the other version tells."""
    answers = _asked(facts)
    others = [c for c in answers.cells if c.cipher == cell.cipher and c.version is not cell.version] if answers else []
    if any(c.tried.accepted or c.tried.errno == "ENOENT" for c in others):
        other = others[0].version
        return f"the kernel takes {cell.cipher} with {other} only, not with {cell.version}"
    return f"this kernel does not know {cell.cipher}: it is older than the cipher, or was changed"


def matrix(facts: Facts, now: Situation, column: tuple[MatrixRow, ...]) -> Check:
    """linux.kernel.matrix: the kernel's column in one sentence."""
    answers = _asked(facts)
    cells = [row.kernel for row in column if row.kernel is not None]
    taken = [row for row in column if row.kernel is not None and row.kernel.status is Status.OK]
    refused = [row for row in column if row.kernel is not None and row.kernel.status is Status.SKIP]
    evidence: Evidence = {
        "taken": len(taken) if answers else None,
        "of": len(column),
        "refused": tuple(f"{r.version} {r.cipher} {r.direction}: {r.kernel.errno}" for r in refused if r.kernel)
        if answers
        else (),
        "echo": _word(answers.echo) if answers else None,
        "control": _word(facts.ulp.value.control) if facts.ulp.value else None,
        "disconnect": _word(answers.disconnect) if answers else None,
        "max_payload_len": _word(answers.max_payload) if answers else None,
        "expect_no_pad": _word(answers.expect_no_pad) if answers else None,
        "modules_pulled": answers.pulled if answers else (),
    }

    def say(status: Status, summary: str, reason: str = "", *remedy: Remedy) -> Check:
        return Check("linux.kernel.matrix", Link.CIPHER, status, summary, reason, evidence, remedy)

    if answers is None:
        cell = _unasked(facts, now)
        return say(cell.status, "the kernel was not asked for ciphers", cell.reason, *_how_to_ask(facts, now))
    if answers.echo.errno is not None or not answers.echo_equal:
        how = f"ended with {answers.echo.errno}" if answers.echo.errno else "came back changed"
        return say(
            Status.CRITICAL,
            "the kernel does not decrypt what it encrypted",
            f"one record sent and received over loopback with TLSv1.2 AES-128-GCM {how}",
            Remedy("see what the kernel said", "dmesg | grep -i -e tls -e crypto"),
        )
    if not taken:
        unseen = [cell for cell in cells if cell.status is Status.UNKNOWN]
        if unseen:
            return say(Status.UNKNOWN, "no answer of the kernel about a cipher counts", unseen[0].reason)
        return say(Status.CRITICAL, "the kernel takes no cipher at all", cells[0].reason, *_crypto_remedy(facts))
    lacking = [
        row
        for row in column
        if _BY_NAME[row.cipher].algorithm == _SELECTED and row.kernel not in [r.kernel for r in taken]
    ]
    if lacking:
        first = lacking[0]
        reason = first.kernel.reason if first.kernel else ""
        return say(
            Status.WARNING,
            f"the kernel does not take {first.cipher} with {first.version} {first.direction.upper()}",
            reason or "no reason was given",
            *_crypto_remedy(facts),
        )
    note = f"refused: {', '.join(dict.fromkeys(row.cipher for row in refused))}" if refused else ""
    return say(Status.OK, f"the kernel takes {len(taken)} of {len(column)} combinations", note)


def _word(tried: Tried) -> str:
    return "not asked" if not tried.made else tried.errno or "accepted"


def _how_to_ask(facts: Facts, now: Situation) -> tuple[Remedy, ...]:
    answers = facts.ulp.value
    if now.lacking or now.no_ulp:
        return ()
    if now.registered is Tri.NO:
        return (Remedy("load the module, or as root let ktlsctl do it", "ktlsctl check --load"),)
    if answers is not None and answers.pair.errno is not None:
        return (Remedy("bring loopback up in this network namespace", "ip link set lo up"),)
    if facts.ulp.outcome is Outcome.TIMEOUT:
        return (Remedy("ask again when the machine is less busy", "ktlsctl check"),)
    return (Remedy("run ktlsctl outside the sandbox"),) if answers is not None else ()


def rekey(facts: Facts, now: Situation) -> Check:
    """linux.kernel.rekey: whether a TLS 1.3 session survives a KeyUpdate, found by setting a second key."""
    answers = _asked(facts)
    supported: bool | None = None
    if answers is not None and answers.rekey.made and answers.rekey.errno in (None, "EBUSY"):
        supported = answers.rekey.accepted
    evidence: Evidence = {"supported": supported, "second_key": _word(answers.rekey) if answers else None}

    def say(status: Status, summary: str, reason: str = "", *remedy: Remedy) -> Check:
        return Check("linux.kernel.rekey", Link.CIPHER, status, summary, reason, evidence, remedy)

    if answers is None:
        cell = _unasked(facts, now)
        return say(cell.status, "the kernel was not asked for a second key", cell.reason)
    if not answers.rekey.made:
        return say(Status.SKIP, "no second key without a first", "this kernel takes no TLS 1.3 key")
    if supported:
        return say(Status.OK, "a TLS 1.3 session can change its keys")
    if supported is False:
        return say(
            Status.OK,
            "a TLS 1.3 session cannot change its keys",
            "a second key is refused with EBUSY (mainline takes it since 6.14): a KeyUpdate ends a kernel session",
            Remedy("for sessions that last long or carry very much, use TLS 1.2, or a kernel that takes a second key"),
        )
    return say(Status.UNKNOWN, "whether keys can change is not known", f"a second key ended with {answers.rekey.errno}")


# --- the kernel's crypto --------------------------------------------------------------------------------------------


def _missing_algorithms(facts: Facts) -> tuple[str, ...]:
    answers = _asked(facts)
    cells = answers.cells if answers is not None else ()
    return tuple(dict.fromkeys(_BY_NAME[c.cipher].algorithm for c in cells if c.tried.errno == "ENOENT"))


def _crypto_remedy(facts: Facts) -> tuple[Remedy, ...]:
    missing = _missing_algorithms(facts)
    options = dict.fromkeys(o for c in LINUX_CIPHERS if c.algorithm in missing for o in c.kconfig)
    config = facts.config.value
    if config is not None:
        options = dict.fromkeys(o for o in options if config.built(o) is Built.NO) or options
    if missing:
        return (Remedy(f"where these ciphers are wanted: a kernel built with {', '.join(options)}"),)
    return (Remedy("boot a newer kernel"),)


def crypto(facts: Facts, now: Situation) -> Check:
    """linux.kernel.crypto: the algorithms behind the ciphers, and whether AES is the slow one."""
    drivers = facts.crypto.drivers.or_else(())
    missing = _missing_algorithms(facts)
    evidence: Evidence = {
        **{driver.algorithm: f"{driver.name} ({driver.module})" for driver in drivers},
        "missing": missing,
    }

    def say(status: Status, summary: str, reason: str = "", *remedy: Remedy) -> Check:
        return Check("linux.kernel.crypto", Link.CIPHER, status, summary, reason, evidence, remedy)

    if now.lacking or now.no_ulp:
        return say(Status.SKIP, "nothing uses the kernel's crypto for TLS", "this kernel has no kernel TLS")
    if _asked(facts) is None:
        return say(
            Status.SKIP,
            "the kernel's crypto was not asked for",
            "algorithms appear with their first use: one that is not listed yet proves nothing",
        )
    notes = []
    if missing:
        notes.append(f"this kernel has no {', '.join(missing)}")
    slow = next((d for d in drivers if d.algorithm == _SELECTED and _is_slow(d.name)), None)
    remedy: tuple[Remedy, ...] = ()
    if slow is not None:
        notes.append(f"AES is plain C ({slow.name}): slower than the library's own")
        remedy = (Remedy("on a CPU with AES instructions, load the driver that uses them", "modprobe aesni_intel"),)
    if not facts.crypto.drivers.present:
        notes.append(f"/proc/crypto could not be read: {facts.crypto.drivers.reason}")
    if _SELECTED in missing:
        return say(
            Status.WARNING, "the kernel's crypto lacks AES-GCM", "; ".join(notes), *_crypto_remedy(facts), *remedy
        )
    summary = "the kernel's crypto has what the usual ciphers need"
    return say(Status.OK, summary, "; ".join(notes), *(_crypto_remedy(facts) if missing else ()), *remedy)


def _is_slow(driver: str) -> bool:
    """aes-generic and aes-fixed-time are C; generic-gcm-aesni is not: its "generic" is the mode without RFC 4106."""
    return "aes-generic" in driver or "aes-fixed-time" in driver


def fips(facts: Facts) -> Check:
    """linux.kernel.fips: in FIPS mode the kernel refuses algorithms that it has."""
    mode = facts.crypto.fips

    def say(status: Status, summary: str, reason: str = "", *remedy: Remedy) -> Check:
        return Check("linux.kernel.fips", Link.CIPHER, status, summary, reason, {"fips_enabled": mode.value}, remedy)

    if mode.value:
        return say(
            Status.OK,
            "the kernel is in FIPS mode",
            "ChaCha20-Poly1305 stays in user space: its algorithm is refused",
            Remedy("prefer AES-GCM suites"),
        )
    if mode.present or mode.absent:
        return say(Status.OK, "the kernel is not in FIPS mode")
    return say(Status.UNKNOWN, "whether the kernel is in FIPS mode is not known", f"not readable: {mode.reason}")


def proved(facts: Facts) -> frozenset[str]:
    """Advisories whose behaviour was seen: connect(AF_UNSPEC) must be refused on a socket with the ULP."""
    answers = _asked(facts)
    return frozenset({"CVE-2025-37756"}) if answers is not None and answers.disconnect.accepted else frozenset()


def refuted(facts: Facts) -> frozenset[str]:
    """Advisories whose fix was seen: that refusal, and a second key taken (what KeyUpdate needs)."""
    answers = _asked(facts)
    if answers is None:
        return frozenset()
    fixed = {"CVE-2025-37756"} if answers.disconnect.errno == "EOPNOTSUPP" else set()
    if answers.rekey.accepted:
        fixed.add("openssl.keyupdate-fatal")
    return frozenset(fixed)
