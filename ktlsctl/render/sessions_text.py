# SPDX-License-Identifier: BSD-2-Clause
"""`ktlsctl sessions` for people: sockets below what they have in common, what the odd ones mean, the verdict last.

80 columns; only addresses run over, because one that was cut cannot be copied.  Ten thousand sockets are an ordinary
list: their lines are made by hand, a table library takes as long for them as the kernel and the rest together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from ktlsctl.model import Armed, Mode, NetworkNamespace, Owner, Report, Session, Status
from ktlsctl.render.blocks import errors, findings, joined, verdict
from ktlsctl.render.layout import Paint, wrapped
from ktlsctl.render.strings import each_string, plain
from ktlsctl.sessions import MEANING

#: The bytes that a record carries unless the program set another limit (RFC 8446).
_FULL_RECORD = 16384

_WORDS = {Armed.REFUSED: "refused", Armed.UNKEYED: "never keyed", Armed.PLAIN: "no kernel TLS"}


def render(report: Report, *, color: bool = False) -> str:
    """The list; ends with a newline."""
    sessions = report.sessions or ()
    report = each_string(replace(report, sessions=None), plain)
    paint = Paint(color)
    told = [check for check in report.checks if check.status is not Status.OK]
    return joined(
        (
            *_groups(sessions),
            _legend(sessions),
            findings(told, paint, quiet=False, verbose=False),
            errors(report),
            verdict(report, paint),
        )
    )


#: So many members of a Session stand before `local`: what many sockets have in common.
IN_COMMON: Final = 13

_Holder = tuple[tuple[Owner, ...] | None, str | None, NetworkNamespace | None]
_Kind = tuple[Armed, str | None, str | None, str | None, Mode, Mode, bool | None, bool | None, int | None, str | None]


def _groups(sessions: Sequence[Session]) -> Iterator[Iterator[str]]:
    """A block for each process, sockets with kernel TLS first."""
    alike: dict[tuple[object, ...], list[Session]] = {}
    for s in sessions:
        alike.setdefault(s[:IN_COMMON], []).append(s)
    blocks: dict[_Holder, dict[_Kind, list[Session]]] = {}
    for group in alike.values():
        s = group[0]
        kind = (
            s.armed, s.version, s.cipher, s.suite, s.tx, s.rx, s.zerocopy_tx, s.no_pad_rx, s.tx_max_payload,
            s.tcp_state,
        )  # fmt: skip
        blocks.setdefault((s.owners, s.service, s.namespace), {})[kind] = group
    for holder, kinds in blocks.items():
        yield _block(holder, kinds)


def _block(holder: _Holder, kinds: dict[_Kind, list[Session]]) -> Iterator[str]:
    yield from wrapped(_named(*holder), "", "  ")
    for kind in sorted(kinds, key=lambda kind: list(Armed).index(kind[0])):
        yield from wrapped(_described(*kind), "  ", "      ")
        yield from map(_line, kinds[kind])


def _named(owners: tuple[Owner, ...] | None, service: str | None, namespace: NetworkNamespace | None) -> str:
    if owners is None:
        who = "process unknown"
    elif not owners:
        who = "no process (the kernel's own, or of another PID namespace)"
    else:
        names: dict[str, list[str]] = {}
        for owner in owners:
            names.setdefault("(ended)" if owner.name is None else plain(owner.name), []).append(str(owner.pid))
        who = "; ".join(f"{name}, pid {', '.join(pids)}" for name, pids in names.items())
    parts = [who, plain(service)] if service else [who]
    if namespace is not None and not namespace.own:
        parts.append(f"network namespace {plain(namespace.name) or f'net:[{namespace.inode}]'}")
    return ", ".join(parts)


def _described(
    armed: Armed,
    version: str | None,
    cipher: str | None,
    suite: str | None,
    tx: Mode,
    rx: Mode,
    zerocopy_tx: bool | None,
    no_pad_rx: bool | None,
    tx_max_payload: int | None,
    tcp_state: str | None,
) -> str:
    parts = [] if armed is Armed.KERNEL else [_WORDS[armed]]
    if version or cipher:
        parts.append(f"{version or 'version unknown'} {suite or cipher or 'cipher unknown'}")
    if armed is not Armed.PLAIN:
        parts += [f"TX {tx}", f"RX {rx}"]
    if zerocopy_tx:
        parts.append("zero-copy TX")
    if no_pad_rx:
        parts.append("RX expects no padding")
    if tx_max_payload is not None and tx_max_payload != _FULL_RECORD and armed is Armed.KERNEL:
        parts.append(f"TX records of at most {tx_max_payload} bytes")
    if tcp_state not in (None, "ESTABLISHED"):
        parts.append(str(tcp_state))
    return plain(", ".join(parts))


def _line(s: Session) -> str:
    local = f"[{s.local}]:{s.local_port}" if ":" in s.local else f"{s.local}:{s.local_port}"
    remote = f"[{s.remote}]:{s.remote_port}" if ":" in s.remote else f"{s.remote}:{s.remote_port}"
    if s.bytes_acked is None or s.bytes_received is None:
        return f"    {local:<21}  {remote}"
    return f"    {local:<21}  {remote:<21}  sent {size(s.bytes_acked):>7}  received {size(s.bytes_received):>7}"


def size(count: float) -> str:
    """Bytes in at most 7 columns: 999 B, 1.0 kB, 12.3 MB."""
    if count < 1000:
        return f"{count:.0f} B"
    for unit in ("kB", "MB", "GB", "TB", "PB"):
        count /= 1000
        if count < 999.95:
            return f"{count:.1f} {unit}" if count < 99.95 else f"{count:.0f} {unit}"
    return f"{count / 1000:.0f} EB"


def _legend(sessions: Sequence[Session]) -> Iterator[str]:
    # What `refused` means stands in its finding.
    if any(s.armed is Armed.UNKEYED for s in sessions):
        yield from wrapped(MEANING[Armed.UNKEYED], f"{_WORDS[Armed.UNKEYED]}: ", "  ")
