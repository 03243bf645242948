# SPDX-License-Identifier: BSD-2-Clause
"""lying-bio: see scenarios/lying_bio.py.  In memory, without a socket: no kernel has a part in it."""

from __future__ import annotations

from typing import Any

from ktlsctl.libssl import (
    BIO_CTRL_GET_KTLS_RECV,
    BIO_CTRL_GET_KTLS_SEND,
    BIO_CTRL_SET_KTLS,
    Libssl,
    TlsError,
    ffi,
)
from ktlsctl.scenarios.lying_bio import Facts
from ktlsctl.trials.ground import Ground
from ktlsctl.watcher import MESSAGES, End, Watcher, exchange


class Liar(Watcher):
    """A BIO that says yes when it is given a key, keeps saying so, and moves bytes as before."""

    def __init__(self, libssl: Libssl) -> None:
        super().__init__(libssl)
        self._claimed: set[tuple[int, str]] = set()
        #: whether it was given plaintext to send
        self.leaked = False

    def _on_write(self, bio: Any, data: Any, size: int) -> int:
        self.leaked = self.leaked or bytes(ffi.buffer(data, size)) in MESSAGES
        return super()._on_write(bio, data, size)

    def _on_ctrl(self, bio: Any, command: int, number: int, pointer: Any) -> int:
        key = self._key(bio)
        if command == BIO_CTRL_SET_KTLS:
            self._claimed.add((key, "tx" if number else "rx"))
            super()._on_ctrl(bio, command, number, pointer)
            return 1
        if command in (BIO_CTRL_GET_KTLS_SEND, BIO_CTRL_GET_KTLS_RECV):
            return int((key, "tx" if command == BIO_CTRL_GET_KTLS_SEND else "rx") in self._claimed)
        return super()._on_ctrl(bio, command, number, pointer)


def run(ground: Ground) -> Facts:
    honest_failure, _ = _outcome(ground, Watcher(ground.libssl))
    liar = Liar(ground.libssl)
    failure, asked = _outcome(ground, liar)
    return Facts(asked, failure, honest_failure, liar.leaked)


def _outcome(ground: Ground, watcher: Watcher) -> tuple[str, int]:
    """What a session over this BIO died of, and how often it was asked."""
    ends = End(), End()
    failure = ""
    try:
        exchange(*ground.contexts, watcher, ends, ground.version, ground.suite)
    except TlsError as error:
        failure = str(error)
    return failure, sum(end.asked["tx"] + end.asked["rx"] for end in ends)
