# SPDX-License-Identifier: BSD-2-Clause
"""The kernel's column: what each errno means, and what all of them amount to."""

from __future__ import annotations

from collections.abc import Mapping

from ktlsctl.ciphers import FREEBSD_CIPHERS
from ktlsctl.facts import ktlsgauges, tlsenable
from ktlsctl.freebsd_findings.situation import MB_USE_EXT_PGS, MODULE_FILE, Seen, unknown
from ktlsctl.freebsdabi import Errno, Mode, errno_name
from ktlsctl.model import Cell, Check, Direction, Evidence, Link, Remedy, Status, TlsVersion

#: What the TCP_*TLS_MODE options answer, in words.
_MODE_WORDS: Mapping[int, str] = {Mode.NONE: "none", Mode.SW: "software", Mode.IFNET: "NIC", Mode.TOE: "TOE"}


def cell(tried: tlsenable.Try, seen: Seen) -> Cell:
    """The kernel's answer to one cipher, version and direction."""
    if not seen.trusted(tried.direction):
        return Cell(Status.UNKNOWN, _untrusted(tried.direction, seen))
    if tried.errno:
        return Cell(Status.SKIP, _why_refused(tried, seen), errno_name(tried.errno))
    if tried.mode == Mode.NONE:
        return Cell(Status.UNKNOWN, "the kernel took the keys and then reported no session")
    return Cell(Status.OK)


def _untrusted(direction: Direction, seen: Seen) -> str:
    errno = seen.control(direction)
    if errno is None:
        return "the probe did not try a cipher that must be refused"
    got = f"refused with {errno_name(errno)}, not EINVAL" if errno else "taken"
    return f"a cipher that no kernel knows was {got}: these answers prove nothing"


def _why_refused(tried: tlsenable.Try, seen: Seen) -> str:
    """What an errno means here: one number has several causes, told apart by what else the host said.

    The order is that of the checks in ktls_enable_tx() and ktls_enable_rx().
    """
    cbc = any(c.name == tried.cipher and c.auth_algorithm for c in FREEBSD_CIPHERS)
    receives = tried.direction is Direction.RX
    match tried.errno:
        case Errno.ENOPROTOOPT:
            return "the kernel is built without KERN_TLS"
        case Errno.EOPNOTSUPP:
            if seen.flag(ktlsgauges.ENABLE) is False:
                return f"{ktlsgauges.ENABLE} is 0"
            if receives and seen.flag(ktlsgauges.RX_ENABLE) is False:
                return f"{ktlsgauges.RX_ENABLE} is 0"
            if cbc and seen.flag(ktlsgauges.CBC_ENABLE) is False:
                return f"{ktlsgauges.CBC_ENABLE} is 0"
            if seen.facts.sysctls.present and not seen.backend:
                return f"no software backend: {MODULE_FILE} is not loaded"
            if receives and (cbc or tried.version is TlsVersion.TLS13):
                return "this kernel does not receive it (TLS 1.3 and AES-CBC receive need FreeBSD 14.0)"
            return "no backend of this kernel accepts it"
        case Errno.ENXIO:
            if not receives and seen.flag(MB_USE_EXT_PGS) is False:
                return f"{MB_USE_EXT_PGS} is 0"
            return "the kernel could not start its crypto threads; a reboot may help"
        case Errno.EPROTONOSUPPORT:
            return "legal TLS that the software backend does not do in this direction"
        case Errno.EINVAL:
            return "the kernel does not know this cipher for this version"
        case Errno.ENOMEM | Errno.ENOBUFS:
            return "the kernel had no memory for the session"
        case Errno.EPERM | Errno.EACCES:
            return "a security policy refused the socket option"
        case Errno.ECONNRESET | Errno.ENOTCONN | Errno.EALREADY | Errno.EFAULT:
            return "the probe's own socket was not as it should be; run it again"
    return "the session could not be set up by the crypto driver"


def matrix(seen: Seen) -> Check:
    """freebsd.kernel.matrix: what the kernel takes at all."""
    identity, link = "freebsd.kernel.matrix", Link.CIPHER
    if not seen.tries:
        why = seen.facts.answers.reason or "the probe tried nothing"
        return unknown(identity, link, "which ciphers the kernel takes", why)
    cells = [(t, cell(t, seen)) for t in seen.tries]
    taken = [t for t, said in cells if said.status is Status.OK]
    refused = [(t, said) for t, said in cells if said.status is Status.SKIP]
    evidence: Evidence = {
        "taken": f"{len(taken)} of {len(cells)}",
        "control": tuple(f"{d}: {_outcome(seen.control(d))}" for d in Direction),
        "modes": tuple(sorted({_mode_words(t.mode) for t in taken})),
        "refused": tuple(f"{t.version} {t.cipher} {t.direction}: {said.errno}" for t, said in refused),
        "connected": seen.answers is not None and seen.answers.connected,
    }
    if doubt := next((said.reason for _, said in cells if said.status is Status.UNKNOWN), None):
        return Check(identity, link, Status.UNKNOWN, "the kernel's answers cannot be trusted", doubt, evidence)
    reasons = tuple(dict.fromkeys(said.reason for _, said in refused))
    remedy = _remedies(tuple(t for t, _ in refused), seen)
    if not taken:
        return Check(
            identity, link, Status.CRITICAL, "the kernel takes no cipher in any direction", "; ".join(reasons),
            evidence, remedy,
        )  # fmt: skip
    shut = [d for d in Direction if not seen.taken(d)]
    if shut:
        return Check(
            identity,
            link,
            Status.WARNING,
            f"the kernel takes ciphers, but none for {shut[0].upper()}",
            "; ".join(dict.fromkeys(said.reason for t, said in refused if t.direction in shut)),
            evidence,
            remedy,
        )
    return Check(
        identity,
        link,
        Status.OK,
        f"the kernel takes {len(taken)} of {len(cells)} combinations",
        "refused: " + "; ".join(reasons) if reasons else "",
        evidence,
        remedy,
    )


def _remedies(refused: tuple[tlsenable.Try, ...], seen: Seen) -> tuple[Remedy, ...]:
    """What mends a refusal that no setting and no module stands behind: those carry their own."""
    found = []
    threads = any(t.errno == Errno.ENXIO for t in refused if t.direction is Direction.RX)
    threads = threads or (seen.flag(MB_USE_EXT_PGS) is True and any(t.errno == Errno.ENXIO for t in refused))
    if threads:
        found.append(Remedy("reboot: the kernel starts its crypto threads with the first session", "shutdown -r now"))
    tls13 = any(t.direction is Direction.RX and t.version is TlsVersion.TLS13 for t in refused)
    if tls13 and seen.backend and seen.taken(Direction.RX) and not seen.is_14_or_later:
        found.append(Remedy("to receive TLS 1.3 in the kernel run FreeBSD 14 or later, or keep to TLS 1.2"))
    return tuple(found)


def _outcome(errno: int | None) -> str:
    return "not tried" if errno is None else errno_name(errno) if errno else "taken"


def _mode_words(mode: int | None) -> str:
    return "not told" if mode is None else _MODE_WORDS.get(mode, f"mode {mode}")
