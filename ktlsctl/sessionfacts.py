# SPDX-License-Identifier: BSD-2-Clause
"""What a self-test child is told and what it answers: facts only.

Gathered in session.py and trials/, judged in selftest.py and scenarios/.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from ktlsctl.model import Direction, TlsVersion


class Way(StrEnum):
    """How record bytes move: the custom BIO over io_uring, or OpenSSL's own socket BIO."""

    AUTO = "auto"
    IO_URING = "io_uring"
    SOCKET = "socket"


@dataclass(frozen=True, slots=True)
class Order:
    """What a self-test child shall do.  `size` is payload bytes each way, `timeout` seconds per session.

    `suites`: OpenSSL's names; empty: every suite that the library offers.  `promised`: (version, cipher) that kernel
    and library both promise in some direction; their suites also run against the witness, with `witness_size` bytes
    each way.
    """

    libssl: str
    versions: tuple[TlsVersion, ...]
    suites: tuple[str, ...]
    datapath: Way
    size: int
    witness_size: int
    timeout: float
    seed: int
    promised: tuple[tuple[TlsVersion, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Trial:
    """One run of a scenario: its name, and with what."""

    scenario: str
    version: TlsVersion
    suite: str


@dataclass(frozen=True, slots=True)
class TrialsOrder:
    """What a child that runs scenarios shall do.  `timeout`: seconds that a trial may take unless its scenario is
    known to take longer; `seed` makes the payloads; `named`: suites that the user named, all of which must be there."""

    libssl: str
    datapath: Way
    timeout: float
    seed: int
    trials: tuple[Trial, ...]
    named: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Carried:
    """Which directions of which end the kernel carried, by its own word (getsockopt) and by the library's alike."""

    server_tx: bool = False
    server_rx: bool = False
    client_tx: bool = False
    client_rx: bool = False

    @property
    def tx(self) -> bool:
        return self.server_tx or self.client_tx

    @property
    def rx(self) -> bool:
        return self.server_rx or self.client_rx

    def __bool__(self) -> bool:
        return self.tx or self.rx

    @staticmethod
    def of_all(sessions: Iterable[Carried]) -> Carried:
        """What was carried in any of several sessions."""
        each = list(sessions)
        return Carried(
            any(one.server_tx for one in each),
            any(one.server_rx for one in each),
            any(one.client_tx for one in each),
            any(one.client_rx for one in each),
        )


@dataclass(frozen=True, slots=True)
class TrialFacts:
    """One trial.  `seen` holds the scenario's own facts as JSON (its module in scenarios/ has their type), unless there
    is a `failure`, why it did not come to its end, `absent`, why it means nothing here, or `untried`, what on this host
    kept it from being tried."""

    scenario: str
    version: TlsVersion
    suite: str
    datapath: str
    failure: str = ""
    absent: str = ""
    seen: str = ""
    seconds: float = 0.0
    untried: str = ""


@dataclass(frozen=True, slots=True)
class TrialsFacts:
    """Everything one child of scenarios found out; the reasons as in `SelftestFacts`.

    `not_offered`: suites that were named and that the library does not offer; then nothing was run.
    """

    library_version: str
    library_path: str
    ring_reason: str
    namespace_reason: str
    trials: tuple[TrialFacts, ...]
    not_offered: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Handover:
    """One BIO_CTRL_SET_KTLS as the custom BIO saw it: which call refused, with which errno."""

    step: str
    accepted: bool
    errno: int = 0
    leftover: int = 0


@dataclass(frozen=True, slots=True)
class EndWords:
    """What each witness says of one direction of one end.  None: that witness could not be asked (`silent` says why).

    `library`: BIO_get_ktls_send/recv.  `kernel`: getsockopt's version and cipher numbers, (0, 0) where not armed.
    `sequence`: the kernel's record sequence number before and after the transfer; `records` those that the transfer
    was made of.  `diag`: sock_diag's TLS_CONF_*.
    """

    library: bool
    kernel: tuple[int, int] | None
    armed: bool | None
    sequence: tuple[int, int] | None
    records: int
    diag: int | None
    handover: Handover | None
    silent: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """One session.  `failure`: why it did not come to its end, `untried`: what on this host kept it from being tried;
    both empty for one that did.

    `counters`: what each line of /proc/net/tls_stat, or each counter of kern.ipc.tls, rose by; only the session's own
    if `own_namespace`.
    """

    version: TlsVersion
    suite: str
    datapath: str
    failure: str = ""
    agreed: str = ""
    server_tx: EndWords | None = None
    server_rx: EndWords | None = None
    client_tx: EndWords | None = None
    client_rx: EndWords | None = None
    bytes_each_way: int = 0
    sha256_ok: bool | None = None
    clean_close: bool = False
    own_namespace: bool = False
    namespace_reason: str = ""
    counters: dict[str, int] = field(default_factory=dict)
    enters: int = 0
    untried: str = ""

    def words(self, direction: Direction) -> tuple[EndWords, ...]:
        """Both ends' words on one direction; empty when the session did not get that far."""
        ends = (self.server_tx, self.client_tx) if direction is Direction.TX else (self.server_rx, self.client_rx)
        return tuple(end for end in ends if end is not None)


@dataclass(frozen=True, slots=True)
class WitnessFacts:
    """One session against the witness: TLS in user space with another OpenSSL, its records seen as they crossed.

    `to_witness_ok`: what the subject (the kernel, where TX is there) encrypted, the witness decrypted, hash equal;
    `from_witness_ok` the other way round.  `leaked`: a piece of the payload was seen on the wire.
    """

    version: TlsVersion
    suite: str
    witness: str
    failure: str = ""
    unavailable: str = ""
    bytes_each_way: int = 0
    to_witness_ok: bool | None = None
    from_witness_ok: bool | None = None
    framing_ok: bool = False
    leaked: bool = False
    records: int = 0
    tx_armed: bool | None = None
    rx_armed: bool | None = None


@dataclass(frozen=True, slots=True)
class SelftestFacts:
    """Everything one child found out.  `ring_reason`: why there is no io_uring; empty where there is.

    `namespace_reason`: why the sessions had no network namespace of their own; empty where they had.
    """

    library_version: str
    library_path: str
    libcrypto: str
    ring_reason: str
    namespace_reason: str
    sessions: tuple[SessionFacts, ...]
    witnesses: tuple[WitnessFacts, ...]
