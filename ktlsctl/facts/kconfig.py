# SPDX-License-Identifier: BSD-2-Clause
"""The kernel's build configuration: where distributions leave it, and the options that matter to kernel TLS."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from ktlsctl.ciphers import LINUX_CIPHERS
from ktlsctl.facts.attempts import mapped
from ktlsctl.host import READ_LIMIT, Host
from ktlsctl.model import Attempt, Outcome

#: Options of NIC drivers that implement `tlsdev_ops` (drivers/net of 7.2).
DRIVER_OPTIONS = ("CONFIG_MLX5_EN_TLS", "CONFIG_CHELSIO_TLS_DEVICE", "CONFIG_NFP", "CONFIG_FUN_ETH")

#: Options of the kernel's own crypto that some cipher needs, each once.
CRYPTO_OPTIONS = tuple(dict.fromkeys(option for cipher in LINUX_CIPHERS for option in cipher.kconfig))

#: Nothing else of the file enters memory, a report or a capture.
OPTIONS = (
    "CONFIG_INET",
    "CONFIG_MODULES",
    "CONFIG_MODULE_SIG_FORCE",
    "CONFIG_MODPROBE_PATH",
    "CONFIG_STATIC_USERMODEHELPER",
    "CONFIG_IKCONFIG",
    "CONFIG_IKCONFIG_PROC",
    "CONFIG_TLS",
    "CONFIG_TLS_DEVICE",
    "CONFIG_TLS_TOE",
    "CONFIG_NET_HANDSHAKE",
    "CONFIG_INET_DIAG",
    "CONFIG_INET_TCP_DIAG",
    "CONFIG_IO_URING",
    "CONFIG_CRYPTO_AES_NI_INTEL",
    *CRYPTO_OPTIONS,
    *DRIVER_OPTIONS,
)

_LINE = re.compile(
    rb"^(?:(?P<set>%(names)s)=(?P<value>[^\r\n]*)|\# (?P<unset>%(names)s) is not set)[ \t\r]*$"
    % {b"names": b"|".join(re.escape(option.encode()) for option in OPTIONS)},
    re.MULTILINE,
)


class NotAConfig(ValueError):
    """The file holds no kernel configuration."""


class Built(StrEnum):
    """How an option was built; `NO` also for one that the file leaves out (its dependencies were not met)."""

    IN = "y"
    MODULE = "m"
    NO = "n"


@dataclass(frozen=True, slots=True)
class KernelConfig:
    """What one file says.  `exact`: it is named after the running release or comes from the kernel itself."""

    path: str
    exact: bool
    options: Mapping[str, str]

    def built(self, option: str) -> Built:
        value = self.options.get(option, "n")
        return Built.IN if value not in ("m", "n") else Built(value)

    @property
    def from_kernel(self) -> bool:
        """Whether the running kernel itself told: only this one holds inside a container too."""
        return self.path == "/proc/config.gz"


def wanted(content: bytes) -> bytes:
    """The lines about OPTIONS only, unpacked when `content` is gzip; empty when it is damaged."""
    try:
        return b"".join(match[0].strip() + b"\n" for match in _LINE.finditer(_unpacked(content)))
    except NotAConfig:
        return b""


def parse(content: bytes) -> Mapping[str, str]:
    """Options and their values ("y", "m", "n", or a string without its quotes), packed or not.

    Raises NotAConfig when not one known option stands there: every kernel's configuration has CONFIG_MODULES.
    """
    found: dict[str, str] = {}
    for match in _LINE.finditer(_unpacked(content)):
        if match["unset"] is not None:
            found[match["unset"].decode()] = "n"
        else:
            found[match["set"].decode()] = match["value"].decode("utf-8", "replace").strip().strip('"')
    if not found:
        raise NotAConfig("no kernel configuration stands there")
    return found


def _unpacked(content: bytes) -> bytes:
    if not content.startswith(b"\x1f\x8b"):
        return content
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(content, READ_LIMIT)
    except zlib.error as error:
        raise NotAConfig(f"damaged gzip data ({error})") from None


def places(host: Host, release: str) -> Iterator[tuple[str, bool]]:
    """Where to look, in this order, and whether a hit is surely of this release (facts §1.2)."""
    yield "/proc/config.gz", True
    yield f"/boot/config-{release}", True
    yield f"/usr/lib/modules/{release}/config", True
    yield f"/lib/modules/{release}/config", True
    yield f"/usr/lib/ostree-boot/config-{release}", True
    for deployment in host.names("/boot/ostree").or_else(()):
        yield f"/boot/ostree/{deployment}/config-{release}", True
    yield f"/lib/modules/{release}/build/.config", True
    yield f"/lib/modules/{release}/kernel/.config", True
    yield "/usr/src/linux/.config", False
    yield "/boot/config", False


def read(host: Host, release: str) -> Attempt[KernelConfig]:
    """The first configuration found.  Without one: what kept the first existing file from being read, or ABSENT."""
    obstacle: Attempt[KernelConfig] = Attempt(Outcome.ABSENT, reason="no file in any of the usual places")
    for path, exact in places(host, release):
        options = mapped(host.read(path, keep=wanted), parse)
        if options.value is not None:
            return Attempt.ran(KernelConfig(path, exact, options.value))
        if not options.absent and obstacle.absent:
            obstacle = Attempt(options.outcome, reason=f"{path}: {options.reason}")
    return obstacle
