# SPDX-License-Identifier: BSD-2-Clause
"""What each number under FreeBSD's kern.ipc.tls is: a setting, a gauge that falls again, a counter since boot.

Source: sys/kern/uipc_ktls.c and sys/opencrypto/ktls_ocf.c.  The set of names is open (it differs per release): a
number that is not named here is kept, as a counter below `stats`, as a gauge elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum

ROOT = "kern.ipc.tls"
STATS = f"{ROOT}.stats"
#: The software backend's own statistics: there exactly while the backend is.
OCF = f"{STATS}.ocf"

ENABLE = f"{ROOT}.enable"
RX_ENABLE = f"{ROOT}.rx_enable"
CBC_ENABLE = f"{ROOT}.cbc_enable"
IFNET_PERMITTED = f"{ROOT}.ifnet.permitted"
MAXLEN = f"{ROOT}.maxlen"
#: first in 13.1
SW_CHACHA20 = f"{ROOT}.sw.chacha20"
#: first in 14.0
MAX_RECLAIM = f"{ROOT}.max_reclaim"

#: requests that passed the gate, and how many of them were granted
ENABLE_CALLS = f"{STATS}.enable_calls"
OFFLOAD_TOTAL = f"{STATS}.offload_total"

#: Settings that only the loader can make (CTLFLAG_RDTUN), in every release that has them.
LOADER_ONLY = frozenset(f"{ROOT}.{leaf}" for leaf in ("bind_threads", "sw_buffer_cache", "allow_unload"))

_SETTINGS = LOADER_ONLY | {
    ENABLE,
    RX_ENABLE,
    CBC_ENABLE,
    IFNET_PERMITTED,
    MAXLEN,
    MAX_RECLAIM,
    f"{ROOT}.max_alloc",
    f"{ROOT}.ifnet_max_rexmit_pct",
}
_STATS_GAUGES = frozenset(
    f"{STATS}.{leaf}" for leaf in ("threads", "sw_tx_inqueue", "sw_tx_pending", "sw_rx_inqueue", "active")
)
_COUNTERS = re.compile(rf"{re.escape(ROOT)}\.(?:ifnet\.reset\w*|domain\d+\.(?:reclaims|wakeups))")

#: Counters that should stay at 0, and what a rise means.
TROUBLE: Mapping[str, str] = {
    f"{STATS}.failed_crypto": "records whose encryption or decryption failed (a wrong authentication tag counts)",
    f"{STATS}.corrupted_records": "received records with a malformed header; each ended its connection",
    f"{STATS}.switch_failed": "moves of a sending session between software and NIC that failed",
    f"{STATS}.ifnet_disable_failed": "moves from NIC to software after too many retransmits that failed",
    f"{ROOT}.ifnet.reset_failed": "NIC sessions that could not be set up again after a route change",
    f"{ROOT}.ifnet.reset_dropped": "connections dropped because their NIC session was lost",
}


#: What the other numbers are; what stands in neither table explains itself by its name, or is new.
MEANING: Mapping[str, str] = {
    **{
        f"{ROOT}.{node}.{cipher}": f"open sessions {where}, each direction counted"
        for node, where in (("sw", "in software"), ("ifnet", "on a NIC"), ("toe", "on a TCP offload engine"))
        for cipher in ("cbc", "gcm", "chacha20")
    },
    f"{STATS}.active": "open sessions, each direction counted",
    f"{STATS}.threads": "crypto threads of the kernel",
    f"{STATS}.sw_tx_inqueue": "records that wait for encryption",
    f"{STATS}.sw_tx_pending": "TLS 1.0 records that wait for the one before",
    f"{STATS}.sw_rx_inqueue": "sockets that wait for decryption",
    f"{STATS}.offload_total": "sessions given to the kernel, each direction counted",
    f"{STATS}.enable_calls": "requests for a session that passed kern.ipc.tls.enable",
    f"{STATS}.switch_to_ifnet": "sessions moved to a NIC",
    f"{STATS}.switch_to_sw": "sessions moved from a NIC to software",
    f"{STATS}.ifnet_disable_ok": "sessions moved from a NIC to software because of retransmits",
    f"{ROOT}.ifnet.reset": "NIC sessions set up again after a route change",
    **TROUBLE,
}


class Kind(StrEnum):
    SETTING = "setting"
    GAUGE = "gauge"
    COUNTER = "counter"


def kind(name: str) -> Kind:
    """What the leaf `name` (full sysctl name) is."""
    if name in _SETTINGS:
        return Kind.SETTING
    if name in _STATS_GAUGES:
        return Kind.GAUGE
    if name.startswith(f"{STATS}.") or _COUNTERS.fullmatch(name):
        return Kind.COUNTER
    return Kind.GAUGE


def counters(values: Mapping[str, str]) -> Mapping[str, int]:
    """Every gauge and counter of a `sysctl kern.ipc.tls` answer by its full name; what is no number is left out."""
    return {
        name: int(value)
        for name, value in values.items()
        if name.startswith(f"{ROOT}.") and kind(name) is not Kind.SETTING and re.fullmatch(r"\d{1,20}", value, re.ASCII)
    }
