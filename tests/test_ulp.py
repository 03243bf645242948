# SPDX-License-Identifier: BSD-2-Clause
"""The probe of the kernel: what it offers, what it never does, and that its answer survives the way out of the child.

What real kernels answer is in test_check_in_lab.py; here stands what holds on any machine.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import struct
import sys
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktlsctl.ciphers import LINUX_CIPHERS
from ktlsctl.codec import decode, encode
from ktlsctl.facts import ulp
from ktlsctl.facts.capability import Capability, drop_net_admin
from ktlsctl.facts.ulp import Answers, Tried
from ktlsctl.host import LiveHost
from ktlsctl.model import Attempt, Direction, Outcome, TlsVersion
from tests.linux_hosts import LinuxHost, answers, with_cell

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="asks this kernel")

AES = "AES-128-GCM"
TX, RX = Direction


class Kernel:
    """Stands behind setsockopt: answers as a kernel would, and keeps what it was given."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, missing: tuple[str, ...] = (), bogus: int = errno.EINVAL, slow: str = ""
    ) -> None:
        self.missing = missing
        self.bogus = bogus
        self.slow = slow
        self.awake = threading.Event()
        self.keys: list[tuple[int, bytes]] = []
        self.names = {cipher.id: cipher for cipher in LINUX_CIPHERS}
        kernel = self

        class Socket(socket.socket):
            def setsockopt(self, level: int, option: int, value: Any, *rest: Any) -> None:
                kernel.answer(level, option, value)

            def accept(self) -> Any:
                fd, address = self._accept()  # type: ignore[attr-defined]
                return Socket(self.family, self.type, self.proto, fileno=fd), address

        def install(sock: Any, direction: Direction, key: bytes) -> None:
            kernel.answer(282, 1 if direction is TX else 2, key)

        monkeypatch.setattr(socket, "socket", Socket)
        monkeypatch.setattr(ulp, "_install", install)
        monkeypatch.setattr(ulp, "drop_net_admin", lambda: Capability.NOT_HELD)

    def answer(self, level: int, option: int, value: Any) -> None:
        if level != 282 or option not in (1, 2):
            return
        version, number = struct.unpack("=HH", value[:4])
        cipher = self.names.get(number)
        if cipher is None:
            if self.bogus:
                raise OSError(self.bogus, "")
            return
        assert len(value) == cipher.struct_size
        if "ARIA" in cipher.name and version == 0x0304:
            raise OSError(errno.EINVAL, "")
        self.keys.append((number, bytes(value)))
        if cipher.algorithm == self.slow:
            self.awake.wait(30)
        if cipher.algorithm in self.missing:
            raise OSError(errno.ENOENT, "")


def ask(seconds: float = 60.0) -> Answers:
    return decode(Answers, json.loads(json.dumps(ulp.probe({"load": False, "seconds": seconds}))))


def test_every_cipher_version_and_direction_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    Kernel(monkeypatch)
    found = ask()
    assert len(found.cells) == len(LINUX_CIPHERS) * 4 == len({(c.version, c.cipher, c.direction) for c in found.cells})
    assert {c.tried.errno for c in found.cells if c.version is TlsVersion.TLS12} == {None}
    aria13 = [c.tried for c in found.cells if c.cipher.startswith("ARIA") and c.version is TlsVersion.TLS13]
    assert aria13 == [Tried(True, "EINVAL")] * 4


def test_a_missing_algorithm_is_looked_up_once_per_version(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch, missing=("gcm(sm4)", "gcm(aria)"))
    found = ask()
    sm4 = [c for c in found.cells if c.cipher == "SM4-GCM"]
    assert [c.tried.errno for c in sm4] == ["ENOENT"] * 4
    assert [c.shared for c in sm4] == [False, True, False, True]
    # ARIA-256 has the same algorithm as ARIA-128, but what TLS 1.3 says about it is still asked
    aria = [(c.version.wire, c.tried.errno, c.shared) for c in found.cells if c.cipher == "ARIA-256-GCM"]
    assert aria == [(0x0303, "ENOENT", True)] * 2 + [(0x0304, "EINVAL", False)] * 2
    assert [number for number, _ in kernel.keys].count(55) == 2


@pytest.mark.parametrize("bogus", [0, errno.ENOPROTOOPT])
def test_when_the_negative_control_fails_nothing_more_is_asked(monkeypatch: pytest.MonkeyPatch, bogus: int) -> None:
    kernel = Kernel(monkeypatch, bogus=bogus)
    found = ask()
    assert found.cells == ()
    assert found.control == Tried(True, errno.errorcode[bogus] if bogus else None)
    assert kernel.keys == []


def test_keys_are_random_and_never_leave_the_child(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch)
    document = json.dumps(ulp.probe({"load": False, "seconds": 60.0}))
    secrets = [value[4:-8] for _, value in kernel.keys]
    # the two ends of the echo share one
    assert len(set(secrets)) == len(secrets) - 1
    for secret in secrets:
        assert secret.hex() not in document
        assert str(list(secret)) not in document


def test_an_algorithm_over_which_the_kernel_takes_long_loses_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch, slow="gcm(sm4)")
    found = ask(seconds=0.5)
    kernel.awake.set()
    assert {c.cipher for c in found.cells if not c.tried.made} == {"SM4-GCM"}
    assert len(found.cells) == len(LINUX_CIPHERS) * 4


def test_a_capability_that_cannot_be_dropped_leaves_the_ulp_untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    Kernel(monkeypatch)
    monkeypatch.setattr(ulp, "drop_net_admin", lambda: Capability.STUCK)
    monkeypatch.setattr(os.path, "exists", lambda path: False)
    found = ask()
    assert (found.capability, found.attach.made, found.cells) == (Capability.STUCK, False, ())


def test_without_loopback_the_ulp_is_asked_on_an_unconnected_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ulp, "drop_net_admin", lambda: Capability.NOT_HELD)

    def down() -> socket.socket:
        raise OSError(errno.EADDRNOTAVAIL, "")

    monkeypatch.setattr(ulp, "_listen", down)
    found = ask()
    assert found.pair.errno == "EADDRNOTAVAIL"
    assert found.attach.made
    assert found.cells == ()


@linux_only
def test_the_child_holds_no_right_to_load_the_module() -> None:
    """After the drop, nothing brings CAP_NET_ADMIN back: it is gone from every set of the process."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:  # pragma: no cover
        drop_net_admin()
        with open("/proc/self/status", "rb") as status:
            os.write(write, b"".join(line for line in status if line.startswith((b"CapInh", b"CapPrm", b"CapEff"))))
        os._exit(0)
    os.close(write)
    with open(read, "rb") as pipe:
        lines = pipe.read().splitlines()
    os.waitpid(pid, 0)
    assert len(lines) == 3
    for line in lines:
        assert not int(line.split()[1], 16) >> 12 & 1


@linux_only
def test_this_machine_answers_in_a_child() -> None:
    found = ulp.collect(ulp.begin(LiveHost(), load=False))
    assert found.value is not None, found.reason
    assert found.value.capability in (Capability.DROPPED, Capability.NOT_HELD)
    assert found.value.attach.made


def test_answers_survive_the_way_out_of_the_child() -> None:
    given_answers = with_cell(answers(), TlsVersion.TLS13, AES, RX, Tried(True, "ENOMEM"))
    assert decode(Answers, json.loads(json.dumps(encode(given_answers)))) == given_answers


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda s: st.lists(s) | st.dictionaries(st.sampled_from(["capability", "pair", "cells", "made", "errno"]), s),
)


@given(JSON)
def test_an_arbitrary_captured_answer_is_refused_as_damaged(value: Any) -> None:
    found = ulp.collect_answer(Attempt.ran(value))
    assert found.outcome in (Outcome.RAN, Outcome.FAILED)
    assert LinuxHost("6.1", {}, ulp=Attempt.ran(value)).judged().rows
