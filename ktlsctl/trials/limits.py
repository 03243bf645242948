# SPDX-License-Identifier: BSD-2-Clause
"""limits: see scenarios/limits.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ktlsctl.libssl import SSL_OP_NO_COMPRESSION, Connection, TlsError, ffi
from ktlsctl.libsslfile import Unusable
from ktlsctl.model import TlsVersion
from ktlsctl.scenarios.limits import Facts, Session, Setting
from ktlsctl.sessionfacts import Carried
from ktlsctl.stage import End, transfer
from ktlsctl.trials.ground import Ground, NotHere

_SSL_CTRL_SET_MAX_SEND_FRAGMENT = 52
_TLSEXT_MAX_FRAGMENT_LENGTH_2048 = 3
_CBC_SUITE = "ECDHE-ECDSA-AES128-SHA256"
_SIZE = 70_000  # several records, the last one short

#: Callbacks that a library may still call.
_HELD: list[Any] = []


def run(ground: Ground) -> Facts:
    plain, renegotiation = _plain(ground)
    others = [
        _session(ground, Setting.MAX_SEND_FRAGMENT, _max_send_fragment),
        _session(ground, Setting.MAX_FRAGMENT_LENGTH, _max_fragment_length),
        _session(ground, Setting.PADDING_CALLBACK, _padding_callback),
        _session(ground, Setting.BLOCK_PADDING, _block_padding),
        _session(ground, Setting.COMPRESSION, _compression, _compressed),
    ]
    if ground.version is TlsVersion.TLS12:
        others.append(_session(ground, Setting.ENCRYPT_THEN_MAC, _cbc))
    return Facts((plain, *others), renegotiation, ground.version is TlsVersion.TLS13)


def _plain(ground: Ground) -> tuple[Session, str | None]:
    ends = ground.session()
    said = _exchanged(ground, Setting.PLAIN, ends)
    if ground.version is TlsVersion.TLS13 or not ground.libssl.has("SSL_renegotiate"):
        return said, None
    server = ends[0].session
    if server.libssl.lib.SSL_renegotiate(server.raw) == 1:
        return said, ""
    return said, server.libssl.complaint() or "refused"


def _session(
    ground: Ground,
    setting: Setting,
    prepare: Callable[[End, End], None],
    confirm: Callable[[Connection], str] = lambda _: "",
) -> Session:
    """One session with `prepare` called before the handshake; `confirm`: why it did not come about after all."""
    try:
        ends = ground.ends()
        prepare(*ends)
        ground.handshake(ends)
        transfer(ends, ground.path, ground.deadline, b"?", b"!")
        missing = confirm(ends[0].session)
        if missing:
            return Session(setting, Carried(), True, absent=missing)
        return _exchanged(ground, setting, ends)
    except NotHere as reason:
        return Session(setting, Carried(), True, absent=str(reason))
    except TlsError as error:
        return Session(setting, Carried(), False, failure=str(error))


def _exchanged(ground: Ground, setting: Setting, ends: tuple[End, End]) -> Session:
    up, down = transfer(ends, ground.path, ground.deadline, ground.noise(_SIZE), ground.noise(_SIZE))
    return Session(setting, ground.carried(ends), up.intact and down.intact)


def _need(end: End, function: str) -> Any:
    if not end.session.libssl.has(function):
        raise NotHere(f"this library has no {function}")
    return end.session.libssl.lib


def _max_send_fragment(server: End, client: End) -> None:
    for end in (server, client):
        lib = end.session.libssl.lib
        if lib.SSL_ctrl(end.session.raw, _SSL_CTRL_SET_MAX_SEND_FRAGMENT, 4096, ffi.NULL) != 1:
            raise NotHere("refused")


def _max_fragment_length(server: End, client: End) -> None:
    lib = _need(client, "SSL_set_tlsext_max_fragment_length")
    if lib.SSL_set_tlsext_max_fragment_length(client.session.raw, _TLSEXT_MAX_FRAGMENT_LENGTH_2048) != 1:
        raise NotHere("refused")


def _padding_callback(server: End, client: End) -> None:
    callback = ffi.callback("size_t(SSL *, int, size_t, void *)", lambda *_: 16)
    _HELD.append(callback)
    for end in (server, client):
        _need(end, "SSL_set_record_padding_callback").SSL_set_record_padding_callback(end.session.raw, callback)


def _block_padding(server: End, client: End) -> None:
    for end in (server, client):
        if _need(end, "SSL_set_block_padding").SSL_set_block_padding(end.session.raw, 512) != 1:
            raise NotHere("refused")


def _compression(server: End, client: End) -> None:
    for end in (server, client):
        _need(end, "SSL_clear_options").SSL_clear_options(end.session.raw, SSL_OP_NO_COMPRESSION)


def _compressed(session: Connection) -> str:
    if session.libssl.lib.SSL_get_current_compression(session.raw) == ffi.NULL:
        return "this library negotiates none"
    return ""


def _cbc(server: End, client: End) -> None:
    try:
        for end in (server, client):
            end.force(TlsVersion.TLS12, _CBC_SUITE)
    except Unusable as reason:
        raise NotHere(str(reason)) from None
