# SPDX-License-Identifier: BSD-2-Clause
"""/proc/net/tls_stat: the kernel's own counters of the caller's network namespace (net/tls/tls_proc.c)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ktlsctl.facts import kconfig, kmod
from ktlsctl.facts.attempts import mapped
from ktlsctl.host import Host
from ktlsctl.model import Attempt, Tri

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


#: What every line counts that this ktlsctl knows (net/tls/tls_proc.c; rekeys since 6.14).
MEANING: Mapping[str, str] = {
    "TlsCurrTxSw": "open sockets that send through the kernel",
    "TlsCurrRxSw": "open sockets that receive through the kernel",
    "TlsCurrTxDevice": "open sockets whose sending a NIC does",
    "TlsCurrRxDevice": "open sockets whose receiving a NIC does",
    "TlsTxSw": "sockets given to the kernel for sending",
    "TlsRxSw": "sockets given to the kernel for receiving",
    "TlsTxDevice": "sockets given to a NIC for sending",
    "TlsRxDevice": "sockets given to a NIC for receiving",
    "TlsRxDeviceResync": "times that a NIC lost the records' borders and asked for them",
    "TlsDecryptRetry": "TLS 1.3 records decrypted twice because they held padding or no data",
    "TlsRxRekeyOk": "new keys taken for receiving",
    "TlsTxRekeyOk": "new keys taken for sending",
    "TlsRxRekeyReceived": "KeyUpdate messages received",
    **ERRORS,
}


def of_process(pid: int) -> str:
    """The file of the network namespace that a process lives in."""
    return f"/proc/{pid}/net/tls_stat"


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


def read(host: Host, path: str = PATH) -> Attempt[Mapping[str, int]]:
    """ABSENT as long as the kernel has no tls.  Readable by everybody."""
    return mapped(host.read(path), parse)


@dataclass(frozen=True, slots=True)
class Absence:
    """What it means that there are no counters.  `loaded`: whether the kernel has kernel TLS now, without which there
    is no session; `lacking`: it was built without, so that no module can bring it."""

    loaded: Tri
    lacking: bool


def absence(host: Host) -> Absence:
    """Ask only where `read` found no file."""
    running = kmod.read_running(host)
    listing, ulps = running.listing.value, running.ulps.value
    if (listing is not None and listing.line is not None) or kmod.MODULE in (ulps or ()):
        return Absence(Tri.YES, False)
    config = kconfig.read(host, host.about.release).value
    lacking = config is not None and config.exact and config.built("CONFIG_TLS") is kconfig.Built.NO
    return Absence(Tri.NO if listing is not None or ulps is not None else Tri.UNKNOWN, lacking)
