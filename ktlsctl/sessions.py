# SPDX-License-Identifier: BSD-2-Clause
"""`ktlsctl sessions`: every TCP socket with kernel TLS, who holds it, and what could not be seen.

`gather` asks the host, `report` judges; both systems' sockets become the same `Session`s.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from ktlsctl.ciphers import FREEBSD_CIPHERS, LINUX_CIPHERS, bulk_cipher, family
from ktlsctl.facts import diagdump, netns, owners, sockdiag, tlsstat
from ktlsctl.facts.diagdump import Sight
from ktlsctl.host import Host, Pending
from ktlsctl.model import (
    About,
    Armed,
    Attempt,
    Check,
    Link,
    Mode,
    NetworkNamespace,
    Os,
    Outcome,
    Owner,
    Remedy,
    Report,
    Session,
    Status,
    TlsVersion,
    Tri,
    Verdict,
)

#: Seconds for the child that looks into one other network namespace; so many work at a time.
NAMESPACE_TIMEOUT = 20.0
AT_ONCE = 8
#: A dump that the kernel calls inconsistent is asked for again so often.
DUMPS = 3

#: What a socket without a direction in the kernel means.
MEANING: Mapping[Armed, str] = {
    Armed.REFUSED: (
        "a key was handed to the kernel and refused, so the records stay in user space: the kernel lacks the "
        "cipher's algorithm, in most cases"
    ),
    Armed.UNKEYED: (
        "the ULP is attached and the kernel took no key: it does not know the cipher for this version, or the key "
        "could not be handed over, or the handshake is not over; older OpenSSL, such as 3.0.13, also attaches it to "
        "every socket that it is given, wanted or not"
    ),
}


@dataclass(frozen=True, slots=True)
class Query:
    """What is listed.  `everything`: established sockets without kernel TLS, too.  `failed`: only those with the ULP
    and no direction in the kernel.  Empty filters let everything through."""

    everything: bool = False
    failed: bool = False
    all_netns: bool = False
    pids: frozenset[int] = frozenset()
    processes: frozenset[str] = frozenset()
    ports: frozenset[int] = frozenset()
    ciphers: frozenset[str] = frozenset()
    tx: Mode | None = None
    rx: Mode | None = None

    @property
    def by_owner(self) -> bool:
        return bool(self.pids or self.processes)

    def of_anybody(self) -> Query:
        """The same without the filters by owner."""
        return replace(self, pids=frozenset(), processes=frozenset())

    def matches(self, session: Session, programs: Mapping[int, str] | None = None) -> bool:
        """Whether it is listed.  A session whose owners are not known is not one of anybody's.

        `programs`: the name of the file that each process runs, by its id.
        """
        armed = session.armed
        if self.failed:
            if armed is not Armed.REFUSED and armed is not Armed.UNKEYED:
                return False
        elif armed is Armed.PLAIN and not self.everything:
            return False
        if self.by_owner:
            holders = session.owners or ()
            if self.pids and not any(o.pid in self.pids for o in holders):
                return False
            if self.processes and not any(self._called(o, (programs or {}).get(o.pid)) for o in holders):
                return False
        return (
            (not self.ports or session.local_port in self.ports or session.remote_port in self.ports)
            and (not self.ciphers or self._of_cipher(session.cipher))
            and (self.tx is None or session.tx is self.tx)
            and (self.rx is None or session.rx is self.rx)
        )

    def _called(self, owner: Owner, program: str | None) -> bool:
        if program in self.processes or owner.name in self.processes:
            return True
        return owner.name is not None and any(owners.is_cut(owner.name, name) for name in self.processes)

    def _of_cipher(self, cipher: str | None) -> bool:
        """A family stands for its members, and one that FreeBSD lists may be any of them."""
        if cipher is None:
            return False
        return bool({cipher, family(cipher)} & self.ciphers) or any(cipher == family(name) for name in self.ciphers)


class UnknownCipher(ValueError):
    """A name that no cipher of either kernel has; the message names those that there are."""


def cipher_named(text: str) -> str:
    """The cipher as the tables write it, from that name in any case or from OpenSSL's name of a suite."""
    names = (*(each.name for each in LINUX_CIPHERS), *(each.name for each in FREEBSD_CIPHERS))
    known = dict.fromkeys((*names, *(family(each.name) for each in FREEBSD_CIPHERS)))
    for name in (text.upper(), bulk_cipher(text.upper())):
        if name in known:
            return name
    raise UnknownCipher(f"no kernel has a cipher {text!r}; there are {', '.join(known)}")


# --- facts ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class View:
    """What was seen of one network namespace.  `sight` is asked for only where no socket with kernel TLS was shown.
    `interrupted`: even the last dump was inconsistent."""

    namespace: NetworkNamespace | None
    sockets: Attempt[tuple[sockdiag.TcpSocket, ...]]
    sight: Attempt[Sight] | None = None
    interrupted: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """`sessions`: all that were seen, before any filter.  `namespaces_unseen`: processes whose namespace this user may
    not look up.  `gauges`: the kernel's own count of open sessions by its own names.

    `gone`: processes that were asked for and are not there.  `programs`: the name of the file that each process runs,
    by its id; asked only for a filter by name.  `listed`, `connections` of FreeBSD: how the kernel's list, and the
    connections with and without kernel TLS, were got.
    """

    sessions: tuple[Session, ...]
    views: tuple[View, ...] = ()
    holders: Attempt[str] = field(default_factory=lambda: Attempt.ran(""))
    namespaces_unseen: int = 0
    gauges: Attempt[Mapping[str, int]] = field(default_factory=lambda: Attempt(Outcome.UNRECORDED))
    listed: Attempt[None] = field(default_factory=lambda: Attempt(Outcome.UNRECORDED))
    connections: Attempt[None] = field(default_factory=lambda: Attempt(Outcome.UNRECORDED))
    gone: tuple[int, ...] = ()
    programs: Mapping[int, str] = field(default_factory=dict)


def gather(host: Host, query: Query) -> Facts:
    """Ask the host.  No attempt raises; nothing on the host is changed."""
    gone = tuple(pid for pid in sorted(query.pids) if owners.ended(host, pid))
    if host.about.os is Os.FREEBSD:
        from ktlsctl import freebsd_sessions

        there = freebsd_sessions.gather(host, everything=query.everything)
        failed = next((a for a in (there.connections, there.names) if not a.present), None)
        return Facts(
            there.sessions,
            holders=Attempt.ran("processes of other users or jails are hidden, or the socket was just closed")
            if failed is None
            else Attempt(failed.outcome, None, failed.reason),
            gauges=there.gauges,
            listed=there.listed,
            connections=there.connections,
            gone=gone,
        )
    states = sockdiag.CONNECTED
    found = netns.own(host)
    views = [_view(host, found.value, states)]
    unseen = 0
    if query.all_netns:
        others = netns.read(host)
        unseen = others.value.unseen if others.value is not None else 1
        views += _other_views(host, others, states)
    shown = [
        (view.namespace, s)
        for view in views
        for s in view.sockets.or_else(())
        if _is_tls(s) or (query.everything and s.state == sockdiag.TCP_ESTABLISHED)
    ]
    holders = owners.read(host, {s.inode for _, s in shown}) if shown else Attempt.ran(owners.Holders({}))
    found_sessions = tuple(_sessions(host, shown, holders))
    return Facts(
        found_sessions,
        tuple(views),
        Attempt.ran(holders.value.unseen)
        if holders.value is not None
        else Attempt(holders.outcome, None, holders.reason),
        unseen,
        tlsstat.read(host),
        gone=gone,
        programs=_programs(host, found_sessions) if query.processes else {},
    )


def _programs(host: Host, sessions: Sequence[Session]) -> Mapping[int, str]:
    named = ((pid, owners.program(host, pid)) for pid in {o.pid for s in sessions for o in s.owners or ()})
    return {pid: name for pid, name in named if name is not None}


def _is_tls(s: sockdiag.TcpSocket) -> bool:
    return s.ulp is not None and s.ulp.name == "tls"


def _view(host: Host, namespace: NetworkNamespace | None, states: int) -> View:
    """This process's own network namespace."""
    for _ in range(DUMPS):
        dumps = [diagdump.read(host, family, states) for family in diagdump.FAMILIES]
        sockets, interrupted = _decoded(dumps)
        if not interrupted:
            break
    blind = not any(map(_is_tls, sockets.or_else(())))
    return View(namespace, sockets, diagdump.read_sight(host) if blind else None, interrupted)


def _decoded(dumps: Sequence[Attempt[Sequence[bytes]]]) -> tuple[Attempt[tuple[sockdiag.TcpSocket, ...]], bool]:
    """The sockets of all dumps, and whether one of them was inconsistent."""
    sockets: list[sockdiag.TcpSocket] = []
    interrupted = False
    for dump in dumps:
        if dump.value is None:
            return Attempt(dump.outcome, None, dump.reason), interrupted
        done = False
        try:
            for datagram in dump.value:
                part = sockdiag.decode(datagram)
                sockets += part.sockets
                interrupted |= part.interrupted
                done |= part.done
        except sockdiag.SockDiagError as error:
            reason = f"{error}: {os.strerror(error.errno)}" if error.errno else str(error)
            return Attempt(Outcome.FAILED, None, reason), interrupted
        if not done:
            return Attempt(Outcome.FAILED, None, "the dump was cut off"), interrupted
    return Attempt.ran(tuple(sockets)), interrupted


def _other_views(host: Host, found: Attempt[netns.Found], states: int) -> Iterator[View]:
    """Each other namespace by a child that enters it, a few at a time."""
    others = [(space, path) for space, path in (found.value.namespaces if found.value else ()) if not space.own]
    for start in range(0, len(others), AT_ONCE):
        begun = [(space, _begin(host, space, path, states)) for space, path in others[start : start + AT_ONCE]]
        yield from (view for space, pending in begun if (view := _other_view(space, pending)) is not None)


def _begin(host: Host, space: NetworkNamespace, path: str, states: int) -> Pending:
    argument = {"inode": space.inode, "path": path, "families": [int(f) for f in diagdump.FAMILIES], "states": states}
    return host.begin(diagdump.TARGET, argument, NAMESPACE_TIMEOUT)


def _other_view(namespace: NetworkNamespace, pending: Pending) -> View | None:
    """None: the namespace ended meanwhile."""
    answer = pending.answer()
    if answer.value is None:
        return View(namespace, Attempt(answer.outcome, None, answer.reason))
    if answer.value == {"gone": True}:
        return None
    try:
        dumps, sight = _read_answer(answer.value)
    except (ValueError, TypeError, KeyError, AttributeError):
        return View(namespace, Attempt(Outcome.FAILED, None, "the child's answer was damaged"))
    sockets, interrupted = _decoded(dumps)
    return View(namespace, sockets, Attempt.ran(sight), interrupted)


def _read_answer(value: Any) -> tuple[list[Attempt[Sequence[bytes]]], Sight]:
    import binascii

    families: Mapping[str, list[str]] = value["families"]
    dumps: list[Attempt[Sequence[bytes]]] = [
        Attempt.ran([binascii.a2b_base64(text) for text in texts]) for texts in families.values()
    ]
    registered, capable, own = value["sight"]
    return dumps, Sight(Tri(registered), Tri(capable), Tri(own))


def _sessions(
    host: Host, shown: Sequence[tuple[NetworkNamespace | None, sockdiag.TcpSocket]], holders: Attempt[owners.Holders]
) -> Iterator[Session]:
    known = holders.value
    # One object for each set of holders: most processes hold many sockets.
    sets: dict[tuple[int, ...], tuple[tuple[Owner, ...], str | None]] = {}
    nobody: tuple[Owner, ...] | None = () if known is not None and not known.unseen else None
    for namespace, s in shown:
        pids = known.pids.get(s.inode, ()) if known is not None else ()
        if pids and pids not in sets:
            units = [owners.unit(host, pid) for pid in pids]
            named = tuple(Owner(pid, owners.name(host, pid)) for pid in pids)
            sets[pids] = (named, next((unit for unit in units if unit is not None), None))
        who, service = sets[pids] if pids else (nobody, None)
        armed, version, cipher, suite, tx, rx = _state(s.ulp)
        yield Session(
            armed,
            tcp_state(s.state),
            version,
            cipher,
            suite,
            tx,
            rx,
            None if s.ulp is None else s.ulp.zerocopy_tx,
            None if s.ulp is None else s.ulp.no_pad_rx,
            None if s.ulp is None else s.ulp.tx_max_payload,
            who,
            service,
            namespace,
            s.source,
            s.source_port,
            s.destination,
            s.destination_port,
            s.bytes_acked,
            s.bytes_received,
            s.uid,
            s.inode,
            s.cookie,
        )


def tcp_state(number: int) -> str:
    return sockdiag.TCP_STATES[number] if number < len(sockdiag.TCP_STATES) else f"state {number}"


_MODES: Mapping[int, Mode] = {
    sockdiag.TlsConf.BASE: Mode.NONE,
    sockdiag.TlsConf.SW: Mode.SOFTWARE,
    sockdiag.TlsConf.HW: Mode.NIC,
    sockdiag.TlsConf.HW_RECORD: Mode.NIC,
}
_VERSIONS = {version.wire: version.value for version in TlsVersion}
_CIPHERS = {cipher.id: cipher.name for cipher in LINUX_CIPHERS}
#: TLS 1.3 suites by bulk cipher (RFC 8446, RFC 8998): there the cipher alone tells the suite.
SUITES = {
    "AES-128-GCM": "TLS_AES_128_GCM_SHA256",
    "AES-256-GCM": "TLS_AES_256_GCM_SHA384",
    "CHACHA20-POLY1305": "TLS_CHACHA20_POLY1305_SHA256",
    "AES-128-CCM": "TLS_AES_128_CCM_SHA256",
    "SM4-GCM": "TLS_SM4_GCM_SM3",
    "SM4-CCM": "TLS_SM4_CCM_SM3",
}


@lru_cache(maxsize=256)
def _state(ulp: sockdiag.Ulp | None) -> tuple[Armed, str | None, str | None, str | None, Mode, Mode]:
    """How far, version, cipher, suite, TX, RX."""
    if ulp is None or ulp.name != "tls":
        return Armed.PLAIN, None, None, None, Mode.NONE, Mode.NONE
    version = _VERSIONS.get(ulp.version, f"{ulp.version:#06x}") if ulp.version else None
    cipher = _CIPHERS.get(ulp.cipher, f"cipher {ulp.cipher}") if ulp.cipher else None
    suite = SUITES.get(cipher) if cipher is not None and version == TlsVersion.TLS13 else None
    if sockdiag.armed(ulp.tx) or sockdiag.armed(ulp.rx):
        armed = Armed.KERNEL
    else:
        # The kernel notes version and cipher once the cipher is one of its own, before it asks for the algorithm
        # (net/tls/tls_sw.c, init_prot_info): what is refused later leaves them behind.
        armed = Armed.UNKEYED if version is None and cipher is None else Armed.REFUSED
    return armed, version, cipher, suite, _mode(ulp.tx), _mode(ulp.rx)


def _mode(conf: int | None) -> Mode:
    return Mode.UNKNOWN if conf is None else _MODES.get(conf, Mode.UNKNOWN)


# --- findings -------------------------------------------------------------------------------------------------------


def report(about: About, facts: Facts, query: Query) -> Report:
    """The sessions that were asked for, and what is thought of the looking."""
    sessions = tuple(s for s in facts.sessions if query.matches(s, facts.programs))
    checks = tuple(_freebsd_checks(about, facts, query, sessions) if about.os is Os.FREEBSD else _checks(facts, about))
    checks = (*checks, *_owners(facts, query, sessions), *_refused(sessions))
    errors = tuple(f"there is no process {pid}; ps -e lists those that there are" for pid in facts.gone)
    return Report(
        about=about,
        generated_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        verdict=Verdict(Status.UNKNOWN, errors[0]) if errors else verdict(sessions, checks, query),
        checks=checks,
        counters=facts.gauges.or_else({}),
        errors=errors,
        sessions=sessions,
    )


def _freebsd_checks(about: About, facts: Facts, query: Query, sessions: Sequence[Session]) -> Iterator[Check]:
    from ktlsctl import freebsd_sessions

    hidden = freebsd_sessions.hidden(facts.sessions, facts.gauges, privileged=about.privileged)
    yield from freebsd_sessions.checks(facts.listed, facts.gauges, failed=query.failed, hidden=hidden)
    yield from freebsd_sessions.unfiltered(sessions, query.ciphers)
    if query.everything:
        yield from freebsd_sessions.unlisted(facts.connections)


def in_words(sessions: Sequence[Session]) -> str:
    """ "3 sessions in the kernel, of 2 processes; 1 socket refused" """
    count = dict.fromkeys(Armed, 0)
    holders: set[int] = set()
    last = None
    for s in sessions:
        count[s.armed] += 1
        # Those of one process share one object.
        if s.owners is not last and s.armed is Armed.KERNEL:
            last = s.owners
            holders.update(o.pid for o in s.owners or ())
    parts = []
    if count[Armed.KERNEL]:
        whose = f", of {_many(len(holders), 'process', 'processes')}" if holders else ""
        parts.append(f"{_many(count[Armed.KERNEL], 'session')} in the kernel{whose}")
    for armed, what in (
        (Armed.REFUSED, "refused"),
        (Armed.UNKEYED, "never keyed"),
        (Armed.PLAIN, "without kernel TLS"),
    ):
        if count[armed]:
            parts.append(f"{_many(count[armed], 'socket')} {what}")
    return "; ".join(parts)


def _many(count: int, one: str, more: str = "") -> str:
    return f"{count} {one if count == 1 else more or one + 's'}"


def verdict(sessions: Sequence[Session], checks: Sequence[Check], query: Query) -> Verdict:
    """What was not seen makes it unknown; a key that the kernel refused is a warning."""
    seen = in_words(sessions)
    blind = next((c for c in checks if c.status is Status.UNKNOWN), None)
    if blind is not None:
        head = f"{seen}, but not everything was seen: " if seen else ""
        return Verdict(Status.UNKNOWN, f"{head}{blind.summary}", blind.id, blind.remedy)
    if not seen:
        filtered = query != Query(all_netns=query.all_netns)
        return Verdict(Status.OK, "no such socket" if filtered else "no socket has kernel TLS")
    refused = next((c for c in checks if c.status is Status.WARNING), None)
    if refused is not None:
        return Verdict(Status.WARNING, seen, refused.id, refused.remedy)
    return Verdict(Status.OK, seen)


def _refused(sessions: Sequence[Session]) -> Iterator[Check]:
    count = sum(s.armed is Armed.REFUSED for s in sessions)
    if count:
        yield Check(
            "sessions.refused",
            Link.CIPHER,
            Status.WARNING,
            f"the kernel refused {_many(count, 'socket')}",
            MEANING[Armed.REFUSED],
            remedy=(Remedy("see which ciphers this kernel takes, and why not the others", "ktlsctl check"),),
        )


#: How the reason of every blind view ends, so that a reader finds it by these words.
NEEDS = "unknown (needs CAP_NET_ADMIN)"

_AS_ROOT = Remedy("run it with the capability, as root outside a container has it", "sudo ktlsctl sessions")


def _checks(facts: Facts, about: About) -> Iterator[Check]:
    blind = [view for view in facts.views if _blind(view)]
    for view in blind:
        yield _blindness(view, facts, about)
    if facts.namespaces_unseen:
        yield Check(
            "sessions.namespaces",
            Link.SESSION,
            Status.UNKNOWN,
            "some network namespaces were not found",
            f"{_many(facts.namespaces_unseen, 'process keeps its', 'processes keep their')} network namespace from "
            "this user (needs CAP_SYS_PTRACE)",
            remedy=(replace(_AS_ROOT, command="sudo ktlsctl sessions --all-netns"),),
        )
    for view in facts.views:
        if view.interrupted:
            yield Check(
                "sessions.consistent",
                Link.SESSION,
                Status.UNKNOWN,
                f"sockets may be missing{_place(view)}",
                f"the kernel's table changed during each of {DUMPS} dumps",
                remedy=(Remedy("ask again"),),
            )
    if not blind:
        yield Check("sessions.visible", Link.SESSION, Status.OK, "sockets with kernel TLS are shown to this user")


def _place(view: View) -> str:
    space = view.namespace
    if space is None or space.own:
        return ""
    return f" in the network namespace {space.name or f'net:[{space.inode}]'}"


def _blind(view: View) -> bool:
    if not view.sockets.present:
        return True
    if any(map(_is_tls, view.sockets.or_else(()))):
        return False
    return view.sight is None or view.sight.value is None or view.sight.value.shown is not Tri.YES


def _blindness(view: View, facts: Facts, about: About) -> Check:
    place = _place(view)
    own = view.namespace is None or view.namespace.own
    said = ""
    if own and facts.gauges.value:
        open_now = {name: count for name, count in facts.gauges.value.items() if name in tlsstat.GAUGES and count}
        counted = ", ".join(f"{name} {count}" for name, count in open_now.items()) or "no session with a key"
        said = f"; the kernel counts {counted} in this network namespace (/proc/net/tls_stat)"

    def say(summary: str, reason: str, *remedy: Remedy) -> Check:
        return Check("sessions.visible", Link.SESSION, Status.UNKNOWN, summary, reason + said, remedy=remedy)

    if not view.sockets.present:
        why = view.sockets.reason or "no answer"
        if not own:
            return say(f"unknown{place}: {why}", "it could not be entered and asked (needs CAP_SYS_ADMIN)", _AS_ROOT)
        return say(
            f"unknown: sock_diag did not answer: {why}",
            "the modules inet_diag and tcp_diag answer it",
            Remedy("load them", "modprobe -a inet_diag tcp_diag"),
        )
    sight = view.sight.value if view.sight is not None else None
    if sight is not None and sight.capable is Tri.YES:
        return say(
            f"unknown{place}: this kernel does not show which sockets have kernel TLS",
            "sock_diag tells it since Linux 5.4",
        )
    return say(
        f"{NEEDS}{place}",
        f"Linux {about.release} does not show this user which sockets have kernel TLS; kernels before 6.15 show it "
        "to who may administrate the network namespace only",
        _AS_ROOT,
    )


def _owners(facts: Facts, query: Query, sessions: Sequence[Session]) -> Iterator[Check]:
    """Only where it matters: a session without an owner, or a filter that could not be applied."""
    rest = query.of_anybody()
    meant = [s for s in facts.sessions if rest.matches(s)] if query.by_owner else sessions
    # Where the processes could be asked, one without a name has ended.
    named = facts.holders.present or not query.processes
    hidden = [s for s in meant if s.owners is None or not (named or all(o.name is not None for o in s.owners))]
    if not hidden:
        return
    reason = facts.holders.value or facts.holders.reason or "the processes could not be asked"
    if query.by_owner:
        yield Check(
            "sessions.owners",
            Link.SESSION,
            Status.UNKNOWN,
            f"the process of {_many(len(hidden), 'socket')} is unknown: one of them may be meant",
            reason,
            remedy=(_AS_ROOT,),
        )
        return
    yield Check(
        "sessions.owners",
        Link.SESSION,
        Status.SKIP,
        f"the process of {_many(len(hidden), 'socket')} is unknown",
        reason,
        remedy=(_AS_ROOT,),
    )
