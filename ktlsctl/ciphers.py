# SPDX-License-Identifier: BSD-2-Clause
"""The tables: every bulk cipher that a kernel can take, and every TLS suite that a library is asked about.

Linux numbers: include/uapi/linux/tls.h.  FreeBSD's algorithm numbers: freebsdabi.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ktlsctl.freebsdabi import Crypto
from ktlsctl.model import TlsVersion


@dataclass(frozen=True, slots=True)
class LinuxCipher:
    """One `TLS_CIPHER_*` of linux/tls.h.

    Lengths are bytes of the members of `struct tls12_crypto_info_*`; `algorithm` is the AEAD that the kernel's crypto
    layer must have (its name in /proc/crypto), `kconfig` the options that bring it.
    """

    name: str
    id: int
    iv: int
    key: int
    salt: int
    algorithm: str
    kconfig: tuple[str, ...]

    #: length of rec_seq, the same for all
    REC_SEQ = 8

    @property
    def struct_size(self) -> int:
        """sizeof the crypto-info struct: header (version, cipher type: 4 bytes), iv, key, salt, rec_seq."""
        return 4 + self.iv + self.key + self.salt + self.REC_SEQ


LINUX_CIPHERS: tuple[LinuxCipher, ...] = (
    LinuxCipher("AES-128-GCM", 51, 8, 16, 4, "gcm(aes)", ("CONFIG_CRYPTO_GCM",)),
    LinuxCipher("AES-256-GCM", 52, 8, 32, 4, "gcm(aes)", ("CONFIG_CRYPTO_GCM",)),
    LinuxCipher("AES-128-CCM", 53, 8, 16, 4, "ccm(aes)", ("CONFIG_CRYPTO_CCM",)),
    LinuxCipher("CHACHA20-POLY1305", 54, 12, 32, 0, "rfc7539(chacha20,poly1305)", ("CONFIG_CRYPTO_CHACHA20POLY1305",)),
    LinuxCipher("SM4-GCM", 55, 8, 16, 4, "gcm(sm4)", ("CONFIG_CRYPTO_SM4_GENERIC", "CONFIG_CRYPTO_GCM")),
    LinuxCipher("SM4-CCM", 56, 8, 16, 4, "ccm(sm4)", ("CONFIG_CRYPTO_SM4_GENERIC", "CONFIG_CRYPTO_CCM")),
    LinuxCipher("ARIA-128-GCM", 57, 8, 16, 4, "gcm(aria)", ("CONFIG_CRYPTO_ARIA", "CONFIG_CRYPTO_GCM")),
    LinuxCipher("ARIA-256-GCM", 58, 8, 32, 4, "gcm(aria)", ("CONFIG_CRYPTO_ARIA", "CONFIG_CRYPTO_GCM")),
)

#: A cipher type that no kernel knows: the negative control of every probe.
BOGUS_CIPHER_ID = 0x7FFF


@dataclass(frozen=True, slots=True)
class FreebsdCipher:
    """One legal filling of `struct tls_enable` for TLS 1.2 and 1.3.  Lengths in bytes; 0 and "" where not used."""

    name: str
    algorithm: int
    key: int
    iv12: int
    iv13: int
    auth_algorithm: int = 0
    auth_key: int = 0
    #: the per-cipher leaf of the gauges kern.ipc.tls.{sw,ifnet,toe}.<leaf>
    gauge: str = "gcm"

    def versions(self) -> tuple[TlsVersion, ...]:
        """CBC ended with TLS 1.2."""
        return (TlsVersion.TLS12,) if self.auth_algorithm else (TlsVersion.TLS12, TlsVersion.TLS13)


FREEBSD_CIPHERS: tuple[FreebsdCipher, ...] = (
    FreebsdCipher("AES-128-GCM", Crypto.AES_NIST_GCM_16, 16, 4, 12),
    FreebsdCipher("AES-256-GCM", Crypto.AES_NIST_GCM_16, 32, 4, 12),
    FreebsdCipher("CHACHA20-POLY1305", Crypto.CHACHA20_POLY1305, 32, 12, 12, gauge="chacha20"),
    FreebsdCipher("AES-128-CBC-SHA1", Crypto.AES_CBC, 16, 16, 0, Crypto.SHA1_HMAC, 20, "cbc"),
    FreebsdCipher("AES-256-CBC-SHA1", Crypto.AES_CBC, 32, 16, 0, Crypto.SHA1_HMAC, 20, "cbc"),
    FreebsdCipher("AES-128-CBC-SHA256", Crypto.AES_CBC, 16, 16, 0, Crypto.SHA2_256_HMAC, 32, "cbc"),
    FreebsdCipher("AES-256-CBC-SHA384", Crypto.AES_CBC, 32, 16, 0, Crypto.SHA2_384_HMAC, 48, "cbc"),
)


@dataclass(frozen=True, slots=True)
class Suite:
    """A TLS suite under OpenSSL's own name, and the bulk cipher it runs on."""

    name: str
    version: TlsVersion
    cipher: str


#: What the library is asked about: every suite that some library offloads, and one of each kind that none does on
#: Linux, so that the report also says which can never be.  ECDSA: the throw-away certificate is P-256.
SUITES: tuple[Suite, ...] = (
    Suite("ECDHE-ECDSA-AES128-GCM-SHA256", TlsVersion.TLS12, "AES-128-GCM"),
    Suite("ECDHE-ECDSA-AES256-GCM-SHA384", TlsVersion.TLS12, "AES-256-GCM"),
    Suite("ECDHE-ECDSA-CHACHA20-POLY1305", TlsVersion.TLS12, "CHACHA20-POLY1305"),
    Suite("ECDHE-ECDSA-AES128-CCM", TlsVersion.TLS12, "AES-128-CCM"),
    Suite("ECDHE-ECDSA-AES256-CCM", TlsVersion.TLS12, "AES-256-CCM"),
    Suite("ECDHE-ECDSA-AES128-CCM8", TlsVersion.TLS12, "AES-128-CCM-8"),
    Suite("ECDHE-ECDSA-AES128-SHA", TlsVersion.TLS12, "AES-128-CBC-SHA1"),
    Suite("ECDHE-ECDSA-AES256-SHA", TlsVersion.TLS12, "AES-256-CBC-SHA1"),
    Suite("ECDHE-ECDSA-AES128-SHA256", TlsVersion.TLS12, "AES-128-CBC-SHA256"),
    Suite("ECDHE-ECDSA-AES256-SHA384", TlsVersion.TLS12, "AES-256-CBC-SHA384"),
    Suite("ECDHE-ECDSA-ARIA128-GCM-SHA256", TlsVersion.TLS12, "ARIA-128-GCM"),
    Suite("ECDHE-ECDSA-ARIA256-GCM-SHA384", TlsVersion.TLS12, "ARIA-256-GCM"),
    Suite("TLS_AES_128_GCM_SHA256", TlsVersion.TLS13, "AES-128-GCM"),
    Suite("TLS_AES_256_GCM_SHA384", TlsVersion.TLS13, "AES-256-GCM"),
    Suite("TLS_CHACHA20_POLY1305_SHA256", TlsVersion.TLS13, "CHACHA20-POLY1305"),
    Suite("TLS_AES_128_CCM_SHA256", TlsVersion.TLS13, "AES-128-CCM"),
    Suite("TLS_AES_128_CCM_8_SHA256", TlsVersion.TLS13, "AES-128-CCM-8"),
)


def family(cipher: str) -> str:
    """What FreeBSD's list tells of a cipher: no key length, and of CBC no digest; the cipher itself for the others."""
    return re.sub(r"\AAES-(?:128|256)-(GCM|CBC)(?:-SHA\d+)?\Z", r"AES-\1", cipher)


def bulk_cipher(suite: str) -> str:
    """The bulk cipher of a suite under OpenSSL's name, as the tables above write it; the suite itself if unknown."""
    if "CHACHA20" in suite:
        return "CHACHA20-POLY1305"
    aead = re.search(r"(AES|ARIA|SM4)[-_]?(128|256)?[-_](GCM|CCM)[-_]?(8)?(?=[-_]|$)", suite)
    if aead is not None:
        return "-".join(part for part in aead.groups() if part)
    cbc = re.search(r"(AES|CAMELLIA)(128|256)-(SHA|SHA256|SHA384)$", suite)
    if cbc is not None:
        family, bits, digest = cbc.groups()
        return f"{family}-{bits}-CBC-{'SHA1' if digest == 'SHA' else digest}"
    return suite
