# SPDX-License-Identifier: BSD-2-Clause
"""The facts of one FreeBSD host, and the questions that the findings ask of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ktlsctl import sysctl
from ktlsctl.facts import ifcaps, ktlsgauges, lighttpd, recordproof, tlsenable
from ktlsctl.freebsdabi import Errno
from ktlsctl.model import About, Attempt, Check, Direction, Link, Remedy, Status
from ktlsctl.sysctl import ConfFile

MODULE = "ktls_ocf"
MODULE_FILE = f"{MODULE}.ko"

MB_USE_EXT_PGS = "kern.ipc.mb_use_ext_pgs"
JAILED = "security.jail.jailed"
MACHINE_ARCH = "hw.machine_arch"

#: Crypto drivers under the OpenCrypto Framework, by the device they attach as.
ACCELERATORS = ("aesni", "armv8crypto", "ossl")
SOFTWARE_CRYPTO = "cryptosoft"


@dataclass(frozen=True, slots=True)
class Facts:
    """What one FreeBSD host said.  `kernel_config` was asked only when the kern.ipc.tls node is missing."""

    sysctls: Attempt[Mapping[str, str]]
    answers: Attempt[tlsenable.Answers]
    proof: Attempt[recordproof.Proof]
    kernel_config: Attempt[bool] | None
    files: Attempt[tuple[str, ...]]
    load: Attempt[bool] | None
    interfaces: Attempt[tuple[ifcaps.Interface, ...]]
    sysctl_conf: tuple[ConfFile, ...]
    loader_conf: tuple[ConfFile, ...]
    rc_conf: tuple[ConfFile, ...]
    lighttpd: lighttpd.Lighttpd | None


def has_node(sysctls: Attempt[Mapping[str, str]]) -> bool:
    """Whether the kernel has kern.ipc.tls."""
    return ktlsgauges.ENABLE in sysctls.or_else({})


def has_backend(sysctls: Attempt[Mapping[str, str]]) -> bool:
    """Whether the software backend keeps its statistics there."""
    return any(name.startswith(f"{ktlsgauges.OCF}.") for name in sysctls.or_else({}))


@dataclass(frozen=True, slots=True)
class Seen:
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
        return has_node(self.facts.sysctls)

    @property
    def backend(self) -> bool:
        return has_backend(self.facts.sysctls)

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


def unknown(identity: str, link: Link, what: str, why: str, *remedy: Remedy) -> Check:
    """A finding about what could not be read, and why."""
    return Check(identity, link, Status.UNKNOWN, f"{what} could not be read", why, remedy=remedy)


def needs_kernel(identity: str, link: Link, what: str, seen: Seen) -> Check:
    """For a finding that has nothing to look at: the node is missing, or nothing was readable."""
    if not seen.facts.sysctls.present:
        return unknown(identity, link, what, seen.facts.sysctls.reason)
    return Check(identity, link, Status.SKIP, f"{what}: this kernel has none", "the kernel is built without KERN_TLS")
