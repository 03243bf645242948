# SPDX-License-Identifier: BSD-2-Clause
"""The kernel's counters under names that mean the same on Linux and FreeBSD; for Prometheus and Nagios.

Linux: net/tls/tls_proc.c (TlsCurr* are gauges, the rest only grows).  FreeBSD: the leaves of kern.ipc.tls in
sys/kern/uipc_ktls.c.  A kernel that is newer than this table has names that it does not know: they are kept as they
are, of unknown type.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

#: (name, value) pairs in the order in which they are written
Labels = tuple[tuple[str, str], ...]


class Kind(StrEnum):
    """Metric types of the Prometheus text format."""

    GAUGE = "gauge"
    COUNTER = "counter"
    UNTYPED = "untyped"


@dataclass(frozen=True, slots=True)
class Family:
    """Samples of one meaning; a counter's `name` ends in `_total`."""

    name: str
    kind: Kind
    help: str


@dataclass(frozen=True, slots=True)
class Sample:
    """One number."""

    family: Family
    labels: Labels
    value: int


def _gauge(name: str, text: str) -> Family:
    return Family(f"ktls_{name}", Kind.GAUGE, text)


def _counter(name: str, text: str) -> Family:
    return Family(f"ktls_{name}_total", Kind.COUNTER, text)


SESSIONS = _gauge("sessions", "Open sessions whose records the kernel (sw) or a NIC (nic, toe) processes.")
OPENED = _counter("sessions_opened", "Sessions handed to the kernel so far; each direction counts.")
DECRYPT_ERRORS = _counter("decrypt_errors", "Records that failed authentication.")
DECRYPT_RETRIES = _counter("decrypt_retries", "TLS 1.3 records decrypted twice because they held padding or no data.")
NO_PAD = _counter("no_pad_violations", "Padded records on sockets that had promised none.")
RESYNCS = _counter("nic_resyncs", "Times that a NIC lost the record boundaries and asked for them.")
REKEYS = _counter("rekeys", "Keys replaced in the kernel after a TLS 1.3 KeyUpdate.")
REKEYS_RECEIVED = _counter("rekeys_received", "TLS 1.3 KeyUpdate messages received.")
ENABLE_CALLS = _counter("enable_calls", "Requests to enable kernel TLS that passed the enable sysctl.")
CRYPTO_ERRORS = _counter("crypto_errors", "Records whose encryption or decryption failed, authentication included.")
CORRUPTED = _counter("corrupted_records", "Received records with a malformed header.")
SWITCHES = _counter("mode_switches", "Sending sessions moved between software and NIC.")
FALLBACKS = _counter("nic_fallbacks", "Sessions moved from NIC to software because of retransmissions.")
RESETS = _counter("nic_resets", "NIC send tags allocated anew after a route change.")
QUEUED_RECORDS = _gauge("queued_records", "Records waiting for software encryption.")
PENDING_RECORDS = _gauge("pending_records", "TLS 1.0 records waiting for their predecessor.")
QUEUED_SOCKETS = _gauge("queued_sockets", "Sockets waiting for software decryption.")
ACTIVE = _gauge("active_sessions", "Open sessions, each direction counted.")
THREADS = _gauge("threads", "Crypto threads of the kernel.")
OTHER = Family("ktls_counter", Kind.UNTYPED, "A kernel statistic under its own name.")


def _linux() -> Iterator[tuple[str, Family, Labels]]:
    for direction in ("tx", "rx"):
        for word, mode in (("Sw", "sw"), ("Device", "nic")):
            labels = (("direction", direction), ("mode", mode))
            yield f"TlsCurr{direction.title()}{word}", SESSIONS, labels
            yield f"Tls{direction.title()}{word}", OPENED, labels
        for word, result in (("Ok", "ok"), ("Error", "error")):
            yield f"Tls{direction.title()}Rekey{word}", REKEYS, (("direction", direction), ("result", result))
    yield "TlsRxRekeyReceived", REKEYS_RECEIVED, ()
    yield "TlsDecryptError", DECRYPT_ERRORS, ()
    yield "TlsDecryptRetry", DECRYPT_RETRIES, ()
    yield "TlsRxNoPadViolation", NO_PAD, ()
    yield "TlsRxDeviceResync", RESYNCS, ()


def _freebsd() -> Iterator[tuple[str, Family, Labels]]:
    # The gauges count both directions together, by cipher; `any` keeps the label set the same as on Linux.
    for node, mode in (("sw", "sw"), ("ifnet", "nic"), ("toe", "toe")):
        for cipher in ("cbc", "gcm", "chacha20"):
            yield f"{node}.{cipher}", SESSIONS, (("direction", "any"), ("mode", mode), ("cipher", cipher))
    yield "stats.offload_total", OPENED, (("direction", "any"), ("mode", "any"))
    yield "stats.enable_calls", ENABLE_CALLS, ()
    yield "stats.failed_crypto", CRYPTO_ERRORS, ()
    yield "stats.corrupted_records", CORRUPTED, ()
    yield "stats.switch_to_ifnet", SWITCHES, (("result", "to_nic"),)
    yield "stats.switch_to_sw", SWITCHES, (("result", "to_sw"),)
    yield "stats.switch_failed", SWITCHES, (("result", "failed"),)
    yield "stats.ifnet_disable_ok", FALLBACKS, (("result", "ok"),)
    yield "stats.ifnet_disable_failed", FALLBACKS, (("result", "failed"),)
    yield "ifnet.reset", RESETS, (("result", "ok"),)
    yield "ifnet.reset_dropped", RESETS, (("result", "dropped"),)
    yield "ifnet.reset_failed", RESETS, (("result", "failed"),)
    yield "stats.sw_tx_inqueue", QUEUED_RECORDS, ()
    yield "stats.sw_tx_pending", PENDING_RECORDS, ()
    yield "stats.sw_rx_inqueue", QUEUED_SOCKETS, ()
    yield "stats.active", ACTIVE, ()
    yield "stats.threads", THREADS, ()


_KNOWN: Mapping[str, tuple[Family, Labels]] = {
    **{name: (family, labels) for name, family, labels in _linux()},
    **{f"kern.ipc.tls.{leaf}": (family, labels) for leaf, family, labels in _freebsd()},
}


def samples(counters: Mapping[str, int]) -> tuple[Sample, ...]:
    """Every counter as a sample, in the order in which the kernel listed them; none is dropped."""
    found = []
    for name, value in counters.items():
        family, labels = _KNOWN.get(name, (OTHER, (("name", name),)))
        found.append(Sample(family, labels, value))
    return tuple(found)
