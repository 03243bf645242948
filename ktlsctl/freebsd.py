# SPDX-License-Identifier: BSD-2-Clause
"""FreeBSD: what its kernel says of kernel TLS, and what that means.

`gather` asks the host, `judge` is pure.  Abilities are found by asking the kernel; a release number appears only where
a default is explained.  Source: sys/kern/uipc_ktls.c, sys/opencrypto/ktls_ocf.c, sys/netinet/tcp_usrreq.c.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ktlsctl import sysctl
from ktlsctl.ciphers import FREEBSD_CIPHERS
from ktlsctl.codec import DecodeError, decode
from ktlsctl.facts import conftxt, ifcaps, kld, ktlsgauges, loaderconf, rcconf, tlsenable
from ktlsctl.facts.tlsenable import Errno, Mode
from ktlsctl.host import Host
from ktlsctl.model import (
    About,
    Attempt,
    Cell,
    Check,
    Direction,
    Evidence,
    KernelReport,
    Link,
    MatrixRow,
    Outcome,
    Remedy,
    Status,
    TlsVersion,
)
from ktlsctl.sysctl import ConfFile

MODULE = "ktls_ocf"
MODULE_FILE = f"{MODULE}.ko"

MB_USE_EXT_PGS = "kern.ipc.mb_use_ext_pgs"
JAILED = "security.jail.jailed"
MACHINE_ARCH = "hw.machine_arch"

#: Crypto drivers under the OpenCrypto Framework, by the device they attach as.
ACCELERATORS = ("aesni", "armv8crypto", "ossl")
SOFTWARE_CRYPTO = "cryptosoft"

#: Without a direct map of physical memory there is no kernel TLS (PMAP_HAS_DMAP).
WITHOUT_DIRECT_MAP = frozenset(("i386", "arm", "armv6", "armv7", "powerpc", "powerpcspe"))

#: What the TCP_*TLS_MODE options answer, in words.
_MODE_WORDS: Mapping[int, str] = {Mode.NONE: "none", Mode.SW: "software", Mode.IFNET: "NIC", Mode.TOE: "TOE"}

_PROBE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Facts:
    """What one FreeBSD host said.  `kernel_config` was asked only when the kern.ipc.tls node is missing."""

    sysctls: Attempt[Mapping[str, str]]
    answers: Attempt[tlsenable.Answers]
    kernel_config: Attempt[bool] | None
    files: Attempt[tuple[str, ...]]
    load: Attempt[bool] | None
    interfaces: Attempt[tuple[ifcaps.Interface, ...]]
    sysctl_conf: tuple[ConfFile, ...]
    loader_conf: tuple[ConfFile, ...]
    rc_conf: tuple[ConfFile, ...]


def gather(host: Host, *, load: bool) -> Facts:
    """Ask everything.  Changes nothing unless `load`: then a missing software backend is loaded (needs root)."""
    # Before the probe: its own attempts count in kern.ipc.tls.stats.
    sysctls = _sysctls(host)
    loading = None
    if load and _has_node(sysctls) and not _has_backend(sysctls):
        loading = kld.load(host, MODULE)
        sysctls = _sysctls(host)
    probe = host.begin(tlsenable.PROBE, None, _PROBE_SECONDS)
    return Facts(
        sysctls=sysctls,
        kernel_config=conftxt.names_kern_tls(host) if sysctls.present and not _has_node(sysctls) else None,
        files=kld.loaded(host),
        load=loading,
        interfaces=ifcaps.read(host),
        sysctl_conf=sysctl.persisted(host, _is_ours),
        loader_conf=loaderconf.read(host, _is_ours),
        rc_conf=rcconf.read(host),
        answers=_decoded(probe.answer()),
    )


def _sysctls(host: Host) -> Attempt[Mapping[str, str]]:
    devices = (f"dev.{driver}.0.%desc" for driver in (*ACCELERATORS, SOFTWARE_CRYPTO))
    return sysctl.tree(host, MACHINE_ARCH, JAILED, MB_USE_EXT_PGS, ktlsgauges.ROOT, *devices)


def _is_ours(name: str) -> bool:
    return name in (MB_USE_EXT_PGS, f"{MODULE}_load", "tls_load") or name.startswith(f"{ktlsgauges.ROOT}.")


def _decoded(answer: Attempt[object]) -> Attempt[tlsenable.Answers]:
    if not answer.present:
        return Attempt(answer.outcome, reason=answer.reason)
    try:
        return Attempt.ran(decode(tlsenable.Answers, answer.value))
    except DecodeError as error:
        return Attempt(Outcome.FAILED, reason=f"the probe's answer is damaged: {error}")


def _has_node(sysctls: Attempt[Mapping[str, str]]) -> bool:
    return ktlsgauges.ENABLE in sysctls.or_else({})


def _has_backend(sysctls: Attempt[Mapping[str, str]]) -> bool:
    return any(name.startswith(f"{ktlsgauges.OCF}.") for name in sysctls.or_else({}))


def judge(facts: Facts, about: About) -> KernelReport:
    """Findings, the kernel's column and the counters of one host.  Pure."""
    seen = _Seen(facts, about)
    checks: tuple[Check, ...] = (
        _jail(seen),
        _option(seen),
        _enable(seen),
        _rx_enable(seen),
        _cbc_enable(seen),
        _ext_pgs(seen),
        _module(seen),
        _providers(seen),
        _matrix(seen),
        _stats(seen),
        _persistence(seen),
        _nic(seen),
    )
    if seen.jailed:
        checks = tuple(_from_inside_a_jail(check) for check in checks)
    return KernelReport(
        checks=checks,
        rows=tuple(MatrixRow(t.version, t.cipher, t.direction, _cell(t, seen)) for t in seen.tries),
        counters=ktlsgauges.counters(seen.values),
        # The fix for this one brought the setting with it.
        refuted=frozenset(("FreeBSD-SA-26:67.ktls",)) if ktlsgauges.RX_ENABLE in seen.values else frozenset(),
    )


@dataclass(frozen=True, slots=True)
class _Seen:
    """The facts as the judging functions ask for them."""

    facts: Facts
    about: About

    @property
    def values(self) -> Mapping[str, str]:
        return self.facts.sysctls.or_else({})

    def flag(self, name: str) -> bool | None:
        """A boolean sysctl, whether the kernel keeps it in one byte or four; None when this kernel has no such name."""
        value = self.values.get(name)
        return None if value is None else value != "0"

    @property
    def node(self) -> bool:
        return _has_node(self.facts.sysctls)

    @property
    def backend(self) -> bool:
        return _has_backend(self.facts.sysctls)

    @property
    def module_loaded(self) -> bool:
        return MODULE_FILE in self.facts.files.or_else(())

    @property
    def jailed(self) -> bool:
        return self.flag(JAILED) is True

    @property
    def machine(self) -> str:
        return self.values.get(MACHINE_ARCH, self.about.machine)

    @property
    def answers(self) -> tlsenable.Answers | None:
        return self.facts.answers.value

    @property
    def tries(self) -> tuple[tlsenable.Try, ...]:
        return self.answers.tries if self.answers is not None else ()

    def taken(self, direction: Direction) -> bool:
        return any(t.errno == 0 for t in self.tries if t.direction is direction)

    def at_boot(self, name: str) -> tuple[str, str] | None:
        """The value that boot files give a sysctl, and the file that does.

        A jail's own files set nothing of the kernel.  13.0 does not take `enable` from the loader: its CTLFLAG_RWTUN
        came with 13.1, as did the gauge of ChaCha20 sessions.
        """
        if self.jailed:
            return None
        deaf = name == ktlsgauges.ENABLE and self.is_13_0
        return sysctl.last((*(() if deaf else self.facts.loader_conf), *self.facts.sysctl_conf), name)

    @property
    def is_13_0(self) -> bool:
        return self.node and ktlsgauges.SW_CHACHA20 not in self.values

    @property
    def is_14_or_later(self) -> bool:
        return ktlsgauges.MAX_RECLAIM in self.values

    def control(self, direction: Direction) -> int | None:
        """The errno of the negative control, None when there was none."""
        controls = self.answers.controls if self.answers is not None else ()
        return next((c.errno for c in controls if c.direction is direction), None)

    def trusted(self, direction: Direction) -> bool:
        """The negative control held: refused, and for its cipher wherever the kernel takes any at all.

        Gates that are checked before the cipher (enable, rx_enable, mb_use_ext_pgs) refuse it with their own errno.
        """
        errno = self.control(direction)
        return errno == Errno.EINVAL or (errno not in (None, 0) and not self.taken(direction))


def _unknown(identity: str, link: Link, what: str, why: str, *remedy: Remedy) -> Check:
    return Check(identity, link, Status.UNKNOWN, f"{what} could not be read", why, remedy=remedy)


def _needs_kernel(identity: str, link: Link, what: str, seen: _Seen) -> Check:
    """For a finding that has nothing to look at: the node is missing, or nothing was readable."""
    if not seen.facts.sysctls.present:
        return _unknown(identity, link, what, seen.facts.sysctls.reason)
    return Check(identity, link, Status.SKIP, f"{what}: this kernel has none", "the kernel is built without KERN_TLS")


# --- the kernel ---


def _option(seen: _Seen) -> Check:
    identity, link = "freebsd.kernel.option", Link.KERNEL
    fresh = None if seen.answers is None else seen.answers.mode_errno
    evidence: dict[str, str | int | bool | None] = {
        "kern.ipc.tls": seen.node if seen.facts.sysctls.present else None,
        "TCP_TXTLS_MODE": None if fresh is None else tlsenable.errno_name(fresh) if fresh else "ok",
        "machine": seen.machine,
    }
    config = seen.facts.kernel_config
    if config is not None and config.present:
        evidence["kern.conftxt names KERN_TLS"] = config.or_else(False)
    # Two witnesses: the sysctl node and the socket option are compiled with the same option.
    if seen.node or fresh == 0:
        return Check(identity, link, Status.OK, "the kernel is built with KERN_TLS", evidence=evidence)
    if not seen.facts.sysctls.present and fresh != Errno.ENOPROTOOPT:
        why = "; ".join(a.reason for a in (seen.facts.sysctls, seen.facts.answers) if a.reason)
        return _unknown(identity, link, "whether the kernel has KERN_TLS", why or "neither sysctl nor socket answered")
    if seen.machine in WITHOUT_DIRECT_MAP:
        return Check(
            identity,
            link,
            Status.CRITICAL,
            f"no FreeBSD kernel has kernel TLS on {seen.machine}",
            "kernel TLS needs the direct map of physical memory, which this architecture has not",
            evidence,
            (Remedy("run FreeBSD for amd64 or arm64 (aarch64) on a 64-bit machine; no setting changes this"),),
        )
    return Check(
        identity,
        link,
        Status.CRITICAL,
        "the kernel is built without KERN_TLS",
        "there is no kern.ipc.tls, which every kernel built with options KERN_TLS has",
        evidence,
        (
            Remedy(
                "add 'options KERN_TLS' to the kernel's configuration file, or build and install GENERIC, which has it "
                "on amd64 and arm64, then reboot",
                "make -C /usr/src kernel KERNCONF=GENERIC",
            ),
        ),
    )


def _setting(name: str, value: str, seen: _Seen) -> tuple[Remedy, ...]:
    """Set it now, and at every boot: a contrary line is changed where it stands, a right one is left alone."""
    now = Remedy(f"set it to {value} now", f"sysctl {name}={value}")
    standing = seen.at_boot(name)
    if standing is None:
        line = sysctl.Setting(name, value).line
        return now, Remedy("and at every boot", f"echo '{line}' >> {sysctl.FREEBSD_CONF[0]}")
    if standing[0] == value:
        return (now,)
    pattern = name.replace(".", r"\.")
    change = rf"sed -i '' 's/^[[:space:]]*{pattern}[[:space:]]*=.*/{name}={value}/' {standing[1]}"
    return now, Remedy(f"and at every boot: {standing[1]} sets it to {standing[0]}", change)


def _major(release: str) -> int | None:
    """For explanations only: what a release's defaults are cannot be asked of a kernel whose settings were changed."""
    major = release.partition(".")[0]
    return int(major) if re.fullmatch(r"\d{1,4}", major, re.ASCII) else None


def _default_of_enable(release: str) -> str:
    major = _major(release)
    if major is None:
        return "its default is 0 on FreeBSD 13 and 14, 1 from 15 on"
    return f"its default on FreeBSD {major} is {int(major >= 15)}"


def _keep_enabled(seen: _Seen) -> tuple[Remedy, ...]:
    """Advice where the default will not keep it on."""
    major = _major(seen.about.release)
    if major is not None and major >= 15:
        return ()
    line = sysctl.Setting(ktlsgauges.ENABLE, "1").line
    return (Remedy("keep it on after a reboot", f"echo '{line}' >> {sysctl.FREEBSD_CONF[0]}"),)


def _enable(seen: _Seen) -> Check:
    identity, link, name = "freebsd.sysctl.enable", Link.KERNEL, ktlsgauges.ENABLE
    value = seen.flag(name)
    if value is None:
        return _needs_kernel(identity, link, name, seen)
    evidence: Evidence = {name: seen.values[name]}
    if value:
        return Check(identity, link, Status.OK, f"{name} is on", evidence=evidence)
    default = _default_of_enable(seen.about.release)
    reason = f"the kernel refuses every new session with EOPNOTSUPP and counts nothing; {default}"
    standing = seen.at_boot(name)
    if standing is not None and standing[0] != "0":
        reason += f"; {standing[1]} sets it to {standing[0]}, so something turned it off after boot"
    reason += (
        ". Once it is on, programs that ask their TLS library for kernel TLS get it; with the base OpenSSL of 13.x "
        "(1.1.1) every program does, unless it opts out"
    )
    return Check(identity, link, Status.CRITICAL, f"{name} is off", reason, evidence, _setting(name, "1", seen))


def _rx_enable(seen: _Seen) -> Check:
    identity, link, name = "freebsd.sysctl.rx_enable", Link.KERNEL, ktlsgauges.RX_ENABLE
    value = seen.flag(name)
    if not seen.node:
        return _needs_kernel(identity, link, name, seen)
    if value is None and not seen.is_14_or_later:
        return Check(identity, link, Status.OK, "receive has no switch of its own on FreeBSD 13")
    if value is None:
        return Check(
            identity,
            link,
            Status.OK,
            "receive has no switch of its own on this kernel",
            f"{name} came with the fix for FreeBSD-SA-26:67.ktls: a hint that this kernel is older than that fix",
            remedy=(Remedy("bring the system to its branch's latest patch level", "freebsd-update fetch install"),),
        )
    evidence: Evidence = {name: seen.values[name]}
    if value:
        return Check(identity, link, Status.OK, f"{name} is on", evidence=evidence)
    return Check(
        identity,
        link,
        _partly(seen.flag(MB_USE_EXT_PGS) is False),
        f"{name} is off: no receive direction",
        "the kernel refuses every new receive session with EOPNOTSUPP; sending is not concerned",
        evidence,
        _setting(name, "1", seen),
    )


def _partly(other_direction_is_shut: bool) -> Status:
    """One direction shut is a loss; both shut is a broken chain."""
    return Status.CRITICAL if other_direction_is_shut else Status.WARNING


def _cbc_enable(seen: _Seen) -> Check:
    identity, link, name = "freebsd.sysctl.cbc_enable", Link.KERNEL, ktlsgauges.CBC_ENABLE
    value = seen.flag(name)
    if not seen.node:
        return _needs_kernel(identity, link, name, seen)
    if value is None:
        return _unknown(identity, link, name, "this kernel has kern.ipc.tls without it, unlike every known release")
    evidence: Evidence = {name: seen.values[name]}
    if value:
        return Check(identity, link, Status.OK, f"{name} is on", evidence=evidence)
    # Advised by FreeBSD-SA-26:46.ktls, and AES-CBC is TLS's past: an administrator's choice, not a fault.
    return Check(
        identity,
        link,
        Status.OK,
        f"{name} is off: AES-CBC suites stay in user space",
        "the kernel refuses AES-CBC with EOPNOTSUPP; AES-GCM and ChaCha20-Poly1305 are not concerned",
        evidence,
        _setting(name, "1", seen),
    )


def _ext_pgs(seen: _Seen) -> Check:
    identity, link, name = "freebsd.sysctl.mb_use_ext_pgs", Link.KERNEL, MB_USE_EXT_PGS
    value = seen.flag(name)
    if value is None:
        why = seen.facts.sysctls.reason or "this kernel has no such setting, unlike every release with kernel TLS"
        return _unknown(identity, link, name, why)
    evidence: Evidence = {name: seen.values[name]}
    if value:
        return Check(identity, link, Status.OK, f"{name} is on", evidence=evidence)
    if not seen.node:
        return _needs_kernel(identity, link, name, seen)
    return Check(
        identity,
        link,
        _partly(seen.flag(ktlsgauges.RX_ENABLE) is False),
        f"{name} is off: no send direction",
        "kernel TLS sends from unmapped mbufs: every new send session fails with ENXIO; receiving is not concerned",
        evidence,
        _setting(name, "1", seen),
    )


# --- the backend ---


def _module(seen: _Seen) -> Check:
    identity, link = "freebsd.module.ktls_ocf", Link.MODULE
    if not seen.node:
        return _needs_kernel(identity, link, "the software backend", seen)
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
        (Remedy("load it now", f"kldload {MODULE}"), *_load_at_boot(seen)),
    )


def _load_at_boot(seen: _Seen) -> tuple[Remedy, ...]:
    if _persisted_by(seen) is not None:
        return ()
    text = f'and at every boot; {MODULE}_load="YES" in {loaderconf.MAIN} does the same earlier'
    return (Remedy(text, f'sysrc {rcconf.KLD_LIST}+=" {MODULE}"'),)


def _persisted_by(seen: _Seen) -> str | None:
    """The file that loads the module at boot."""
    return loaderconf.loads(seen.facts.loader_conf, MODULE) or rcconf.loads(seen.facts.rc_conf, MODULE)


def _providers(seen: _Seen) -> Check:
    identity, link = "freebsd.crypto.providers", Link.CIPHER
    if not seen.facts.sysctls.present:
        return _unknown(identity, link, "the kernel's crypto drivers", seen.facts.sysctls.reason)
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


# --- the matrix ---


def _cell(tried: tlsenable.Try, seen: _Seen) -> Cell:
    if not seen.trusted(tried.direction):
        return Cell(Status.UNKNOWN, _untrusted(tried.direction, seen))
    if tried.errno:
        return Cell(Status.SKIP, _why_refused(tried, seen), tlsenable.errno_name(tried.errno))
    if tried.mode == Mode.NONE:
        return Cell(Status.UNKNOWN, "the kernel took the keys and then reported no session")
    return Cell(Status.OK)


def _untrusted(direction: Direction, seen: _Seen) -> str:
    errno = seen.control(direction)
    if errno is None:
        return "the probe did not try a cipher that must be refused"
    got = f"refused with {tlsenable.errno_name(errno)}, not EINVAL" if errno else "taken"
    return f"a cipher that no kernel knows was {got}: these answers prove nothing"


def _why_refused(tried: tlsenable.Try, seen: _Seen) -> str:
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


def _matrix(seen: _Seen) -> Check:
    identity, link = "freebsd.kernel.matrix", Link.CIPHER
    if not seen.tries:
        why = seen.facts.answers.reason or "the probe tried nothing"
        return _unknown(identity, link, "which ciphers the kernel takes", why)
    cells = [(t, _cell(t, seen)) for t in seen.tries]
    taken = [t for t, cell in cells if cell.status is Status.OK]
    refused = [(t, cell) for t, cell in cells if cell.status is Status.SKIP]
    evidence: Evidence = {
        "taken": f"{len(taken)} of {len(cells)}",
        "control": tuple(f"{d}: {_outcome(seen.control(d))}" for d in Direction),
        "modes": tuple(sorted({_mode_words(t.mode) for t in taken})),
        "refused": tuple(f"{t.version} {t.cipher} {t.direction}: {cell.errno}" for t, cell in refused),
        "connected": seen.answers is not None and seen.answers.connected,
    }
    if doubt := next((cell.reason for _, cell in cells if cell.status is Status.UNKNOWN), None):
        return Check(identity, link, Status.UNKNOWN, "the kernel's answers cannot be trusted", doubt, evidence)
    reasons = tuple(dict.fromkeys(cell.reason for _, cell in refused))
    if not taken:
        return Check(
            identity, link, Status.CRITICAL, "the kernel takes no cipher in any direction", "; ".join(reasons), evidence
        )
    shut = [d for d in Direction if not seen.taken(d)]
    if shut:
        return Check(
            identity,
            link,
            Status.WARNING,
            f"the kernel takes ciphers, but none for {shut[0].upper()}",
            "; ".join(dict.fromkeys(cell.reason for t, cell in refused if t.direction in shut)),
            evidence,
        )
    return Check(
        identity,
        link,
        Status.OK,
        f"the kernel takes {len(taken)} of {len(cells)} combinations",
        "refused: " + "; ".join(reasons) if reasons else "",
        evidence,
    )


def _outcome(errno: int | None) -> str:
    return "not tried" if errno is None else tlsenable.errno_name(errno) if errno else "taken"


def _mode_words(mode: int | None) -> str:
    return "not told" if mode is None else _MODE_WORDS.get(mode, f"mode {mode}")


# --- counters, boot, surroundings ---


def _stats(seen: _Seen) -> Check:
    identity, link = "freebsd.stats", Link.BYTES
    if not seen.node:
        return _needs_kernel(identity, link, "counters", seen)
    counters = ktlsgauges.counters(seen.values)
    trouble = {name: what for name, what in ktlsgauges.TROUBLE.items() if counters.get(name)}
    told = (f"{ktlsgauges.STATS}.{leaf}" for leaf in ("enable_calls", "offload_total", "active"))
    evidence: Evidence = {name: counters[name] for name in (*told, *ktlsgauges.TROUBLE) if name in counters}
    if not trouble:
        return Check(
            identity, link, Status.OK, "no error counter of kernel TLS has moved since boot", evidence=evidence
        )
    reason = "; ".join(
        f"{name.removeprefix(ktlsgauges.ROOT + '.')} {counters[name]}: {what}" for name, what in trouble.items()
    )
    return Check(
        identity,
        link,
        Status.WARNING,
        f"{len(trouble)} error counter{'s' * (len(trouble) > 1)} of kernel TLS moved since boot",
        reason,
        evidence,
        (
            Remedy(
                "see whether they still grow: a peer or a test that sends damaged records counts here as well",
                f"sysctl {' '.join(trouble)}",
            ),
        ),
    )


def _persistence(seen: _Seen) -> Check:
    identity, link = "freebsd.persistence", Link.MODULE
    if not seen.node:
        return _needs_kernel(identity, link, "what is set at boot", seen)
    if seen.jailed:
        why = "the boot files that count are those of the jail's host"
        return Check(identity, link, Status.SKIP, "what is set at boot is not visible from inside a jail", why)
    facts = seen.facts
    files = (*facts.sysctl_conf, *facts.loader_conf, *facts.rc_conf)
    evidence: Evidence = {
        file.path: tuple(setting.line for setting in file.settings.or_else(())) for file in files if file.settings.value
    }
    lost = (*_settings_that_turn(seen), *_enable_is_lost(seen), *_module_is_lost(seen))
    notes = (*lost, *_ignored_lines(seen), *_stale_lines(seen))
    reason = "; ".join(note.text for note in notes)
    remedy = tuple(r for note in notes for r in note.remedy)
    if lost:
        return Check(identity, link, Status.WARNING, "a reboot will take away what works now", reason, evidence, remedy)
    hidden = [f for f in files if f.settings.outcome not in (Outcome.RAN, Outcome.ABSENT)]
    if hidden:
        why = "; ".join(f"{f.path}: {f.settings.reason}" for f in hidden)
        return Check(
            identity, link, Status.UNKNOWN, "what is set at boot could not be read", why, evidence,
            (Remedy("run the check as root"),),
        )  # fmt: skip
    if seen.flag(ktlsgauges.ENABLE) and seen.at_boot(ktlsgauges.ENABLE) is None:
        reason = "; ".join(filter(None, (f"no boot file sets it; {_default_of_enable(seen.about.release)}", reason)))
        return Check(
            identity, link, Status.OK, f"{ktlsgauges.ENABLE} is left to the release's default", reason, evidence,
            (*_keep_enabled(seen), *remedy),
        )  # fmt: skip
    return Check(identity, link, Status.OK, "boot files do not contradict what is set now", reason, evidence, remedy)


@dataclass(frozen=True, slots=True)
class _Note:
    text: str
    remedy: tuple[Remedy, ...] = ()


def _settings_that_turn(seen: _Seen) -> tuple[_Note, ...]:
    """Settings that are on now and that a boot file will turn off."""
    found = []
    for name in (ktlsgauges.ENABLE, ktlsgauges.RX_ENABLE, MB_USE_EXT_PGS):
        standing = seen.at_boot(name)
        if seen.flag(name) and standing is not None and standing[0] == "0":
            found.append(_Note(f"{standing[1]} sets {name}=0, which is 1 now", _setting(name, "1", seen)[1:]))
    return tuple(found)


def _enable_is_lost(seen: _Seen) -> tuple[_Note, ...]:
    """13.0 only: `enable` is set in the loader's file and nowhere else."""
    name = ktlsgauges.ENABLE
    loader = sysctl.last(seen.facts.loader_conf, name)
    if not (seen.is_13_0 and seen.flag(name) and loader is not None and seen.at_boot(name) is None):
        return ()
    text = f"{loader[1]} sets {name}, which a 13.0 kernel does not take from the loader"
    return (_Note(text, _setting(name, "1", seen)[1:]),)


def _module_is_lost(seen: _Seen) -> tuple[_Note, ...]:
    if not (seen.module_loaded and seen.backend) or _persisted_by(seen) is not None:
        return ()
    return (_Note(f"{MODULE_FILE} was loaded by hand: no boot file names it", _load_at_boot(seen)),)


def _ignored_lines(seen: _Seen) -> tuple[_Note, ...]:
    """Lines in sysctl.conf that the kernel takes from the loader only (CTLFLAG_RDTUN)."""
    only_loader = ktlsgauges.LOADER_ONLY
    if seen.is_14_or_later:
        only_loader = only_loader | {ktlsgauges.MAXLEN}  # RWTUN on 13.x, RDTUN from 14.0 on
    return tuple(
        _Note(
            f"{file.path} sets {setting.name}, which only the loader can set: the line does nothing",
            (Remedy(f"move the line to {loaderconf.MAIN}", f"sysrc -f {loaderconf.MAIN} {setting.line}"),),
        )
        for file in seen.facts.sysctl_conf
        for setting in file.settings.or_else(())
        if setting.name in only_loader
    )


def _stale_lines(seen: _Seen) -> tuple[_Note, ...]:
    """Lines that load what is not there: harmless, but the boot complains about them."""
    facts = seen.facts
    notes = []
    if seen.backend and not seen.module_loaded and facts.files.present:
        why = f"the backend is part of this kernel since 14.0, {MODULE_FILE} does not exist any more"
        if path := loaderconf.loads(facts.loader_conf, MODULE):
            remedy = Remedy("remove the stale line", f"sysrc -f {path} -x {MODULE}_load")
            notes.append(_Note(f"{path} loads {MODULE}: {why}", (remedy,)))
        if path := rcconf.loads(facts.rc_conf, MODULE):
            remedy = Remedy("remove the stale name", f'sysrc -f {path} {rcconf.KLD_LIST}-=" {MODULE}"')
            notes.append(_Note(f"{path} loads {MODULE}: {why}", (remedy,)))
    if path := loaderconf.loads(facts.loader_conf, "tls"):
        remedy = Remedy("remove the line", f"sysrc -f {path} -x tls_load")
        notes.append(_Note(f"{path} loads tls: that is Linux's module, FreeBSD has none of that name", (remedy,)))
    if path := rcconf.loads(facts.rc_conf, "tls"):
        remedy = Remedy("remove the name", f'sysrc -f {path} {rcconf.KLD_LIST}-=" tls"')
        notes.append(_Note(f"{path} loads tls: that is Linux's module, FreeBSD has none of that name", (remedy,)))
    return tuple(notes)


def _jail(seen: _Seen) -> Check:
    identity, link = "freebsd.jail", Link.KERNEL
    value = seen.flag(JAILED)
    if value is None:
        why = seen.facts.sysctls.reason or f"{JAILED} is missing"
        return _unknown(identity, link, "whether this is a jail", why)
    evidence: Evidence = {JAILED: seen.values[JAILED]}
    if not value:
        return Check(identity, link, Status.OK, "not inside a jail", evidence=evidence)
    return Check(
        identity,
        link,
        Status.OK,
        "inside a jail",
        "the kernel, its settings, modules and boot files belong to the jail's host; ciphers were tried from in here",
        evidence,
    )


def _from_inside_a_jail(check: Check) -> Check:
    return replace(check, remedy=tuple(replace(r, text=f"on the jail's host: {r.text}") for r in check.remedy))


def _nic(seen: _Seen) -> Check:
    identity, link = "freebsd.nic", Link.NIC
    if not seen.facts.interfaces.present:
        return _unknown(identity, link, "what the network interfaces can do", seen.facts.interfaces.reason)
    capable = [interface for interface in seen.facts.interfaces.or_else(()) if interface.tls]
    if not capable:
        return Check(
            identity,
            link,
            Status.SKIP,
            "no network interface offers TLS offload",
            f"none has {', '.join(ifcaps.TLS)}; kernel TLS works in software",
        )
    evidence: dict[str, str | int | bool | None | tuple[str, ...]] = {
        interface.name: tuple(
            f"{name} {'on' if name in interface.enabled else 'off'}" for name in (*interface.tls, ifcaps.MEXTPG)
        )
        for interface in capable
    }
    permitted = seen.flag(ktlsgauges.IFNET_PERMITTED)
    if permitted is not None:
        evidence[ktlsgauges.IFNET_PERMITTED] = permitted
    notes = []
    remedy = []
    for interface in capable:
        off = [name for name in interface.tls if name not in interface.enabled]
        if off:
            notes.append(f"{interface.name}: {', '.join(off)} off")
            words = dict.fromkeys(name.rstrip("46").lower() for name in off)
            remedy.append(Remedy("switch it on", f"ifconfig {interface.name} {' '.join(words)}"))
        elif ifcaps.MEXTPG not in interface.enabled:
            notes.append(f"{interface.name}: {ifcaps.MEXTPG} off, which TX offload needs")
            remedy.append(Remedy("switch it on", f"ifconfig {interface.name} {ifcaps.MEXTPG.lower()}"))
    if permitted is False:
        notes.append(f"{ktlsgauges.IFNET_PERMITTED} is 0: new sessions start in software")
    ready = sum(1 for i in capable if any(name in i.enabled for name in i.tls))
    return Check(
        identity,
        link,
        Status.OK,
        f"{len(capable)} interface{'s' * (len(capable) > 1)} can offload TLS, {ready} switched on",
        "; ".join(notes),
        evidence,
        tuple(remedy),
    )
