# SPDX-License-Identifier: BSD-2-Clause
"""`ktlsctl top`: what each process has in the kernel, and how fast, out of two lists of sessions in a row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

from ktlsctl.model import Armed, Mode, Session


@dataclass(frozen=True, slots=True)
class Sample:
    """The sessions at one time.  `at` in seconds of a clock that only goes forward."""

    at: float
    sessions: tuple[Session, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One process (or several that share the same sockets).

    `tx_rate`, `rx_rate` in bytes per second on the wire, of the sessions that both samples have; None where that is
    none of them, and where the system does not count.
    """

    process: str
    pids: tuple[int, ...]
    service: str | None
    sessions: int
    tx: Mapping[Mode, int]
    rx: Mapping[Mode, int]
    refused: int
    ciphers: tuple[str, ...]
    tx_rate: float | None
    rx_rate: float | None


def rows(now: Sample, before: Sample | None) -> tuple[Row, ...]:
    """The busiest process first, then the one with the most sessions."""
    last = None if before is None else {_key(s): s for s in before.sessions}
    seconds = 0.0 if before is None else now.at - before.at
    groups: dict[tuple[tuple[int, ...] | None, str | None], list[Session]] = {}
    for s in now.sessions:
        pids = None if s.owners is None else tuple(o.pid for o in s.owners)
        groups.setdefault((pids, s.service), []).append(s)
    found = [_row(group, last, seconds) for group in groups.values()]
    return tuple(sorted(found, key=lambda r: (-(r.tx_rate or 0) - (r.rx_rate or 0), -r.sessions, r.process, r.pids)))


def _key(s: Session) -> tuple[int, int]:
    # Kernels before 5.10 number the sockets of each network namespace by themselves.
    return (s.namespace.inode if s.namespace is not None else 0, s.identity)


_Last = Mapping[tuple[int, int], Session] | None


def _row(group: Sequence[Session], last: _Last, seconds: float) -> Row:
    first = group[0]
    held = [s for s in group if s.armed is Armed.KERNEL]
    if first.owners is None:
        name = "(unknown)"
    elif not first.owners:
        name = "(no process)"
    else:
        name = first.owners[0].name or "(ended)"
    ciphers: dict[str, int] = {}
    for s in held:
        if s.cipher is not None:
            ciphers[s.cipher] = ciphers.get(s.cipher, 0) + 1
    return Row(
        name,
        tuple(o.pid for o in first.owners or ()),
        first.service,
        len(held),
        {mode: sum(s.tx is mode for s in held) for mode in Mode},
        {mode: sum(s.rx is mode for s in held) for mode in Mode},
        sum(s.armed is Armed.REFUSED for s in group),
        tuple(sorted(ciphers, key=lambda cipher: (-ciphers[cipher], cipher))),
        _rate(held, last, seconds, attrgetter("bytes_acked")),
        _rate(held, last, seconds, attrgetter("bytes_received")),
    )


def _rate(
    held: Sequence[Session], last: _Last, seconds: float, counter: Callable[[Session], int | None]
) -> float | None:
    """One that only this sample has may be new, with bytes from before its first key (STARTTLS), or may not have been
    seen in the last one: how many of its bytes are of this interval is not known."""
    if last is None or seconds <= 0:
        return None
    grown = None
    for s in held:
        now = counter(s)
        if now is None:
            return None
        before = last.get(_key(s))
        then = None if before is None else counter(before)
        if then is not None:
            grown = (grown or 0) + max(0, now - then)
    return None if grown is None else grown / seconds
