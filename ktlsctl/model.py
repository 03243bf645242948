# SPDX-License-Identifier: BSD-2-Clause
"""The nouns: what a host is asked, what it may answer, and what a report is made of.

Frozen dataclasses and StrEnums only; this module imports nothing of the project.  Two families live here and
never mix: *facts* (an `Attempt` of something the machine said) and *findings* (a `Check`, a `Verdict`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, NamedTuple, TypeVar

SCHEMA_VERSION = "1.0"

T = TypeVar("T")

#: A value that evidence may hold: JSON without nesting, so that every renderer can print it.
Evidence = Mapping[str, "str | int | bool | None | tuple[str, ...]"]


class Status(StrEnum):
    """What is thought of one thing.  `UNKNOWN` and `SKIP` always carry a reason."""

    OK = "ok"
    WARNING = "warning"
    CRITICAL = "critical"
    UNKNOWN = "unknown"
    SKIP = "skip"


class Os(StrEnum):
    LINUX = "linux"
    FREEBSD = "freebsd"


class Direction(StrEnum):
    """Seen from the socket's owner: TX encrypts what it sends, RX decrypts what it receives."""

    TX = "tx"
    RX = "rx"


class TlsVersion(StrEnum):
    """Protocol versions that a kernel can take, written as OpenSSL writes them."""

    TLS12 = "TLSv1.2"
    TLS13 = "TLSv1.3"

    @property
    def wire(self) -> int:
        """The version as both kernels' structures and the record header know it (0x0303, 0x0304)."""
        return 0x0303 if self is TlsVersion.TLS12 else 0x0304


class Link(StrEnum):
    """The chain, in the order in which a broken link hides all later ones."""

    KERNEL = "kernel"
    MODULE = "module"
    CIPHER = "cipher"
    LIBRARY = "library"
    CONFIGURATION = "configuration"
    SESSION = "session"
    BYTES = "bytes"
    NIC = "nic"


#: Position of each link in the chain, 0 first.
CHAIN_ORDER: Mapping[Link, int] = {link: position for position, link in enumerate(Link)}


class Outcome(StrEnum):
    """How an attempt to learn something ended.  Only `ABSENT` means that the thing is not there."""

    RAN = "ran"
    ABSENT = "absent"
    DENIED = "denied"
    FAILED = "failed"
    TIMEOUT = "timeout"
    UNRECORDED = "unrecorded"


@dataclass(frozen=True, slots=True)
class Attempt(Generic[T]):
    """One question to the machine.  `value` is set exactly when `outcome` is `RAN`; otherwise `reason` says why not."""

    outcome: Outcome
    value: T | None = None
    reason: str = ""

    @staticmethod
    def ran(value: T) -> Attempt[T]:
        return Attempt(Outcome.RAN, value)

    @property
    def present(self) -> bool:
        return self.outcome is Outcome.RAN

    @property
    def absent(self) -> bool:
        return self.outcome is Outcome.ABSENT

    def or_else(self, default: T) -> T:
        return default if self.value is None else self.value


@dataclass(frozen=True, slots=True)
class About:
    """The host a report is about.  No name and no address: a report is made to be shown to others."""

    os: Os
    release: str
    machine: str
    privileged: bool
    distribution: str = ""


@dataclass(frozen=True, slots=True)
class Remedy:
    """What mends a finding: a sentence, and where there is one the exact command to type."""

    text: str
    command: str | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """A finding.  `reason` is required for every status but `OK`; `link` places it in the chain."""

    id: str
    link: Link
    status: Status
    summary: str
    reason: str = ""
    evidence: Evidence = field(default_factory=dict)
    remedy: tuple[Remedy, ...] = ()

    def __post_init__(self) -> None:
        if self.status is not Status.OK and not self.reason:
            raise ValueError(f"check {self.id}: status {self.status} needs a reason")


@dataclass(frozen=True, slots=True)
class Cell:
    """One witness's word on one version, cipher and direction.  `OK` yes, `SKIP` no (reason), `UNKNOWN` not seen."""

    status: Status
    reason: str = ""
    errno: str | None = None


@dataclass(frozen=True, slots=True)
class MatrixRow:
    """Three independent witnesses side by side.  `None`: that witness was not called in this run."""

    version: TlsVersion
    cipher: str
    direction: Direction
    kernel: Cell | None = None
    library: Cell | None = None
    session: Cell | None = None


class Tri(StrEnum):
    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class LibraryCell:
    """What one library did for one suite: whether it asked for the kernel in each direction."""

    version: TlsVersion
    suite: str
    cipher: str
    tx: Cell
    rx: Cell


@dataclass(frozen=True, slots=True)
class Library:
    """One TLS library and what is known of it.

    `origin`: distribution, ports, local, wheel, named, static.  `roles`: who uses it here (system, python,
    pyopenssl, named).  `built_with_ktls` is proved by a handshake unless `proof` says otherwise.
    `enabled_by_default`: whether its effective configuration turns kTLS on in a fresh context.

    What only running processes tell, and else is not known: `family`, the implementation; `build_id`; `static`, it is
    linked into the program or module `path`; `deleted`, what is mapped is not what has this name on disk any more.
    """

    path: str
    version: str
    origin: str
    roles: tuple[str, ...]
    status: Status
    reason: str
    built_with_ktls: Tri
    proof: str
    enabled_by_default: Tri
    config_file: str = ""
    package: str = ""
    libcrypto: str = ""
    cells: tuple[LibraryCell, ...] = ()
    family: str = ""
    build_id: str = ""
    static: bool | None = None
    deleted: bool | None = None


class Reach(StrEnum):
    """Whether sessions of a running process are in the kernel, or can get there through the libraries it carries."""

    NOW = "now"
    COULD = "could"
    NEVER = "never"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class TlsProcess:
    """A running process with a TLS library.  `libraries`: indices in `Report.libraries`.

    `sockets`: those with kernel TLS in any direction now, None when that was not seen.
    """

    pid: int
    name: str
    program: str
    ktls: Reach
    reason: str
    sockets: int | None
    libraries: tuple[int, ...]


class StatisticKind(StrEnum):
    """`UNKNOWN`: this ktlsctl does not know the name."""

    GAUGE = "gauge"
    COUNTER = "counter"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Statistic:
    """One number of the kernel.  `rate`: its change per second since the sample before, None where there is none.

    `error`: it counts what ought not to happen.  `meaning` may be empty.
    """

    name: str
    kind: StatisticKind
    value: int
    error: bool = False
    meaning: str = ""
    rate: float | None = None


class Certainty(StrEnum):
    """Why an advisory is shown: its behaviour was seen here, or only a version suggests it."""

    PROVED = "proved"
    POSSIBLE = "possibly affected"


@dataclass(frozen=True, slots=True)
class AdvisoryNotice:
    """A known defect that concerns this host.  `subject` is the kernel or the library it was matched against."""

    id: str
    certainty: Certainty
    subject: str
    summary: str
    affected: str
    fixed: str
    reference: str
    remedy: Remedy


@dataclass(frozen=True, slots=True)
class Verdict:
    """The worst of the chain in one sentence.  `first_broken` is the id of the check at the first broken link."""

    status: Status
    summary: str
    first_broken: str | None = None
    remedy: tuple[Remedy, ...] = ()


@dataclass(frozen=True, slots=True)
class DirectionResult:
    """One direction of one self-tested suite: `ok` proved to be in the kernel, `skip` rightly in user space,
    `critical` promised and not met or wrong bytes, `unknown` the witnesses disagree or could not be asked."""

    status: Status
    evidence: Evidence = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True, slots=True)
class SelftestResult:
    """One suite in one scenario.  `bytes` are payload bytes each way; `sha256_ok` None: nothing arrived to compare."""

    version: TlsVersion
    suite: str
    scenario: str
    datapath: str
    library: str
    tx: DirectionResult
    rx: DirectionResult
    bytes: int
    sha256_ok: bool | None
    reason: str = ""

    def direction(self, direction: Direction) -> DirectionResult:
        return self.tx if direction is Direction.TX else self.rx


class Finding(StrEnum):
    """What a scenario amounts to."""

    #: the host is fine
    FINE = "fine"
    #: the host has a known defect or limit, named in the table of advisories
    KNOWN = "known"
    #: something is wrong that is not known
    UNEXPLAINED = "unexplained"
    #: it could not be run, or means nothing here
    NOT_RUN = "not run"


@dataclass(frozen=True, slots=True)
class ScenarioResult:
    """One scenario with one suite.  `reason` is required for every status but `OK`.

    `known`: ids of advisories whose behaviour was seen here, `accepted` when the user wants no alarm for them;
    `refuted`: those whose fix was seen.  `bytes` and `sha256_ok` as in SelftestResult, 0 and None where a
    scenario moves no payload.
    """

    scenario: str
    version: TlsVersion
    suite: str
    datapath: str
    library: str
    status: Status
    finding: Finding
    summary: str
    tx: DirectionResult
    rx: DirectionResult
    reason: str = ""
    known: tuple[str, ...] = ()
    accepted: bool = False
    refuted: tuple[str, ...] = ()
    evidence: Evidence = field(default_factory=dict)
    bytes: int = 0
    sha256_ok: bool | None = None

    def __post_init__(self) -> None:
        if self.status is not Status.OK and not self.reason:
            raise ValueError(f"scenario {self.scenario}: status {self.status} needs a reason")

    def direction(self, direction: Direction) -> DirectionResult:
        return self.tx if direction is Direction.TX else self.rx


class Mode(StrEnum):
    """Who does the records of one direction of a socket; `UNKNOWN` is a word of a newer kernel."""

    SOFTWARE = "software"
    NIC = "nic"
    NONE = "none"
    UNKNOWN = "unknown"


class Armed(StrEnum):
    """How far a TCP socket got with kernel TLS."""

    KERNEL = "kernel"
    REFUSED = "refused"
    UNKEYED = "unkeyed"
    PLAIN = "plain"


@dataclass(frozen=True, slots=True)
class Owner:
    """A process that holds a socket; `name` None: it ended before it could be asked."""

    pid: int
    name: str | None


@dataclass(frozen=True, slots=True)
class NetworkNamespace:
    """By the inode of its nsfs file; `name` where ip-netns(8) gave it one; `own`: the one this process runs in."""

    inode: int
    name: str = ""
    own: bool = False


class Session(NamedTuple):  # made by the ten thousand: seven times as fast as a frozen dataclass
    """One TCP socket, and what the kernel does for it.

    None is what the system does not tell: `version` and `cipher` before any key was handed over, `bytes_*` (what
    crossed the wire, acknowledged and received, records' overhead included), `owners` where processes may be hidden
    from this user (an empty tuple: no process holds it).  `identity` is never used twice on one host.
    """

    armed: Armed
    tcp_state: str | None
    version: str | None
    cipher: str | None
    suite: str | None
    tx: Mode
    rx: Mode
    zerocopy_tx: bool | None
    no_pad_rx: bool | None
    tx_max_payload: int | None
    owners: tuple[Owner, ...] | None
    service: str | None
    namespace: NetworkNamespace | None
    local: str
    local_port: int
    remote: str
    remote_port: int
    bytes_acked: int | None
    bytes_received: int | None
    uid: int | None
    inode: int | None
    identity: int


@dataclass(frozen=True, slots=True)
class Report:
    """Everything one run has to say.  `generated_at` is RFC 3339 in UTC."""

    about: About
    generated_at: str
    verdict: Verdict
    checks: tuple[Check, ...] = ()
    matrix: tuple[MatrixRow, ...] = ()
    libraries: tuple[Library, ...] = ()
    advisories: tuple[AdvisoryNotice, ...] = ()
    counters: Mapping[str, int] = field(default_factory=dict)
    errors: tuple[str, ...] = ()
    source: str = "live"
    #: what the self-test found; None in a report that ran none
    results: tuple[SelftestResult, ...] | None = None
    #: what the self-test's scenarios found, the plain sessions of `results` not among them
    scenarios: tuple[ScenarioResult, ...] = ()
    #: index in `libraries` of the one that the verdict is about
    subject: int | None = None
    #: running processes with a TLS library; None in a report that did not look for them
    processes: tuple[TlsProcess, ...] | None = None
    #: `counters` with what is known of each; None in a report that is not about them
    statistics: tuple[Statistic, ...] | None = None
    #: the sockets that were listed; None in a report that listed none
    sessions: tuple[Session, ...] | None = None


@dataclass(frozen=True, slots=True)
class KernelReport:
    """What one platform module concludes: findings, the kernel column of the matrix, counters by their own names."""

    checks: tuple[Check, ...]
    rows: tuple[MatrixRow, ...]
    counters: Mapping[str, int] = field(default_factory=dict)
    #: ids of advisories whose behaviour was seen here (see advisories.py)
    proved: frozenset[str] = frozenset()
    #: ids of advisories whose fix was seen here: no version may suggest them any more
    refuted: frozenset[str] = frozenset()
    #: this kernel has no kernel TLS at all: none of its defects can concern the host
    lacking: bool = False


@dataclass(frozen=True, slots=True)
class LibraryReport:
    """What openssl.py concludes.  `subject` is the index in `libraries` of the one the verdict is about."""

    checks: tuple[Check, ...]
    libraries: tuple[Library, ...]
    subject: int | None = None
    errors: tuple[str, ...] = ()
    proved: frozenset[str] = frozenset()
