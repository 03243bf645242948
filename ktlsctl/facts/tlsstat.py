# SPDX-License-Identifier: BSD-2-Clause
"""/proc/net/tls_stat: the kernel's own counters of the caller's network namespace (net/tls/tls_proc.c)."""

from __future__ import annotations

from collections.abc import Mapping

from ktlsctl.facts.attempts import mapped
from ktlsctl.host import Host
from ktlsctl.model import Attempt

PATH = "/proc/net/tls_stat"

#: Gauges: sockets open now.  Every other line counts up since boot, or since the namespace was made.
GAUGES = frozenset({"TlsCurrTxSw", "TlsCurrRxSw", "TlsCurrTxDevice", "TlsCurrRxDevice"})

#: Counters that stand at 0 on a healthy host, and what each means (facts §3.1).
ERRORS: Mapping[str, str] = {
    "TlsDecryptError": "records failed authentication: damaged or forged bytes, or keys that do not match; "
    "each ends its connection with EBADMSG",
    "TlsRxNoPadViolation": "peers padded TLS 1.3 records although a program set TLS_RX_EXPECT_NO_PAD; "
    "each of them was decrypted twice",
    "TlsRxRekeyError": "the kernel refused a new key for receiving (TLS 1.2, or another cipher than before)",
    "TlsTxRekeyError": "the kernel refused a new key for sending (TLS 1.2, or another cipher than before)",
}


class NotCounters(ValueError):
    """The file is no list of counters."""


def parse(content: bytes) -> Mapping[str, int]:
    """`Name<white space>number` per line; unknown names are kept.  Raises NotCounters for anything else."""
    counters: dict[str, int] = {}
    for line in content.decode("utf-8", "replace").splitlines():
        words = line.split()
        if not words:
            continue
        # an unsigned long has at most 20 digits
        if len(words) != 2 or not (words[1].isascii() and words[1].isdigit()) or len(words[1]) > 20:
            raise NotCounters("a line is not a name with a number")
        counters[words[0]] = int(words[1])
    return counters


def read(host: Host) -> Attempt[Mapping[str, int]]:
    """ABSENT as long as the kernel has no tls.  Readable by everybody."""
    return mapped(host.read(PATH), parse)
