# SPDX-License-Identifier: BSD-2-Clause
"""How a connection ended, in the library's words: what several scenarios provoke and compare."""

from __future__ import annotations

import os
from dataclasses import dataclass

#: SSL_ERROR_ZERO_RETURN of openssl/ssl.h
_ZERO_RETURN = 6

#: Reasons as OpenSSL gives them, in lower case: unchanged from 1.1.1 to 4.0.
BAD_RECORD_MAC = "decryption failed or bad record mac"
UNEXPECTED_EOF = "unexpected eof while reading"
TOO_LONG = "packet length too long"
NO_RECORD_LAYER = "no suitable record layer"


@dataclass(frozen=True, slots=True)
class Ending:
    """`kind`: SSL_ERROR_*, 0 while nothing has ended; `errno` what the call left, `reason` the library's own words."""

    kind: int = 0
    errno: int = 0
    reason: str = ""

    def __bool__(self) -> bool:
        return self.kind != 0 or self.reason != ""

    @property
    def orderly(self) -> bool:
        """By the peer's close_notify."""
        return self.kind == _ZERO_RETURN

    def says(self, *words: str) -> bool:
        """Whether its reason has one of these in it."""
        return any(word in self.reason.lower() for word in words)

    def __str__(self) -> str:
        if not self:
            return "nothing"
        if self.orderly:
            return "close_notify"
        name = os.strerror(self.errno) if self.errno else ""
        return self.reason if name.lower() in self.reason.lower() else f"{self.reason} ({name})"


#: While a connection goes on.
NOTHING = Ending()
