# SPDX-License-Identifier: BSD-2-Clause
"""TLS record protection in user space: what seals and opens the records that a modelled kernel handles.

RFC 2246, 4346, 5246 (CBC with explicit or implicit IV), 5288 (AES-GCM), 7905 (ChaCha20-Poly1305), 8446.
"""

from __future__ import annotations

import hmac
import os
from dataclasses import dataclass, field
from enum import IntEnum

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from ktlsctl.freebsdabi import Crypto

DIGESTS = {Crypto.SHA1_HMAC: "sha1", Crypto.SHA2_256_HMAC: "sha256", Crypto.SHA2_384_HMAC: "sha384"}
MAC_SIZES = {Crypto.SHA1_HMAC: 20, Crypto.SHA2_256_HMAC: 32, Crypto.SHA2_384_HMAC: 48}
MAX_PLAINTEXT = 16384
HEADER = 5


class Fault(IntEnum):
    """What is wrong with a record."""

    HEADER = 1  #: version or outer type
    LENGTH = 2
    CRYPTO = 3  #: tag, MAC or padding


class BadRecord(Exception):
    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.name)
        self.fault = fault


@dataclass
class Protection:
    """One direction: parameters as struct tls_enable has them, and the running sequence number."""

    version: int  # on the wire: 0x0301 to 0x0304
    algorithm: int
    key: bytes
    iv: bytes
    auth_algorithm: int = 0
    auth_key: bytes = b""
    sequence: int = 0
    _chain: bytes = field(init=False)

    def __post_init__(self) -> None:
        self._chain = self.iv

    @property
    def tls13(self) -> bool:
        return self.version == 0x0304

    @property
    def outer_version(self) -> int:
        return 0x0303 if self.tls13 else self.version

    @property
    def cbc(self) -> bool:
        return self.algorithm == Crypto.AES_CBC

    @property
    def explicit(self) -> int:
        """Bytes between the header and the ciphertext."""
        if self.cbc:
            return 16 if self.version >= 0x0302 else 0
        return 8 if self.algorithm == Crypto.AES_NIST_GCM_16 and not self.tls13 else 0

    @property
    def shortest(self) -> int:
        """Of a record's body."""
        if self.cbc:
            return self.explicit + (MAC_SIZES[Crypto(self.auth_algorithm)] // 16 + 1) * 16
        return self.explicit + 16 + int(self.tls13)

    @property
    def longest(self) -> int:
        if self.tls13:
            return MAX_PLAINTEXT + 1 + 16 + 239
        return MAX_PLAINTEXT + self.explicit + (16 if not self.cbc else 48 + 256)

    def _aead(self) -> AESGCM | ChaCha20Poly1305:
        return AESGCM(self.key) if self.algorithm == Crypto.AES_NIST_GCM_16 else ChaCha20Poly1305(self.key)

    def _nonce(self, explicit: bytes) -> bytes:
        if len(self.iv) == 4:
            return self.iv + explicit
        return bytes(a ^ b for a, b in zip(self.iv, self.sequence.to_bytes(12, "big"), strict=True))

    def _pseudo_header(self, kind: int, length: int) -> bytes:
        return (
            self.sequence.to_bytes(8, "big")
            + bytes([kind])
            + self.version.to_bytes(2, "big")
            + length.to_bytes(2, "big")
        )

    def _mac(self, kind: int, data: bytes) -> bytes:
        digest = DIGESTS[Crypto(self.auth_algorithm)]
        return hmac.new(self.auth_key, self._pseudo_header(kind, len(data)) + data, digest).digest()

    def seal(self, kind: int, data: bytes, padding: int = 0) -> bytes:
        """One record; `padding`: zeroes behind TLS 1.3's type, or whole blocks more of CBC padding."""
        if self.cbc:
            body = self._seal_cbc(kind, data, padding)
        elif self.tls13:
            inner = data + bytes([kind]) + bytes(padding)
            length = len(inner) + 16
            head = bytes([23]) + self.outer_version.to_bytes(2, "big") + length.to_bytes(2, "big")
            body = self._aead().encrypt(self._nonce(b""), inner, head)
        else:
            explicit = self.sequence.to_bytes(8, "big") if self.explicit else b""
            sealed = self._aead().encrypt(self._nonce(explicit), data, self._pseudo_header(kind, len(data)))
            body = explicit + sealed
        self.sequence += 1
        outer = 23 if self.tls13 else kind
        return bytes([outer]) + self.outer_version.to_bytes(2, "big") + len(body).to_bytes(2, "big") + body

    def _seal_cbc(self, kind: int, data: bytes, padding: int) -> bytes:
        plain = data + self._mac(kind, data)
        fill = 15 - len(plain) % 16 + 16 * padding
        plain += bytes([fill]) * (fill + 1)
        iv = os.urandom(16) if self.explicit else self._chain
        encryptor = Cipher(algorithms.AES(self.key), modes.CBC(iv)).encryptor()
        sealed = encryptor.update(plain) + encryptor.finalize()
        self._chain = sealed[-16:]
        return (iv if self.explicit else b"") + sealed

    def check(self, head: bytes) -> int:
        """The length of the body that this header announces.  Raises BadRecord."""
        length = int.from_bytes(head[3:5], "big")
        if int.from_bytes(head[1:3], "big") != self.outer_version or (self.tls13 and head[0] != 23):
            raise BadRecord(Fault.HEADER)
        if not self.shortest <= length <= self.longest or (self.cbc and length % 16):
            raise BadRecord(Fault.LENGTH)
        return length

    def open(self, record: bytes) -> tuple[int, bytes]:
        """Content type and plaintext.  Raises BadRecord; the sequence number goes on either way."""
        try:
            self.check(record[:HEADER])
            return self._open(record[0], record[:HEADER], record[HEADER:])
        finally:
            self.sequence += 1

    def _open(self, kind: int, head: bytes, body: bytes) -> tuple[int, bytes]:
        if self.cbc:
            return kind, self._open_cbc(kind, body)
        explicit, sealed = body[: self.explicit], body[self.explicit :]
        try:
            if not self.tls13:
                header = self._pseudo_header(kind, len(sealed) - 16)
                return kind, self._aead().decrypt(self._nonce(explicit), sealed, header)
            inner = self._aead().decrypt(self._nonce(b""), sealed, head).rstrip(b"\0")
        except InvalidTag:
            raise BadRecord(Fault.CRYPTO) from None
        if not inner:
            raise BadRecord(Fault.CRYPTO)
        return inner[-1], inner[:-1]

    def _open_cbc(self, kind: int, body: bytes) -> bytes:
        iv, sealed = (body[:16], body[16:]) if self.explicit else (self._chain, body)
        decryptor = Cipher(algorithms.AES(self.key), modes.CBC(iv)).decryptor()
        plain = decryptor.update(sealed) + decryptor.finalize()
        self._chain = sealed[-16:]
        size = MAC_SIZES[Crypto(self.auth_algorithm)]
        fill = plain[-1]
        if fill + 1 + size > len(plain) or plain[-fill - 1 :] != bytes([fill]) * (fill + 1):
            raise BadRecord(Fault.CRYPTO)
        content, mac = plain[: -fill - 1 - size], plain[-fill - 1 - size : -fill - 1]
        if mac != self._mac(kind, content):
            raise BadRecord(Fault.CRYPTO)
        return content
