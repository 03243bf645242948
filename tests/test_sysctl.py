# SPDX-License-Identifier: BSD-2-Clause
"""sysctl: the same question on both systems, and what boot files set."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktlsctl import sysctl
from ktlsctl.codec import encode
from ktlsctl.host import CapturedHost, Ran
from ktlsctl.model import About, Attempt, Os, Outcome

LINUX = About(Os.LINUX, "6.1.0-56-amd64", "x86_64", False)
FREEBSD = About(Os.FREEBSD, "14.3-RELEASE", "amd64", False)

NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,8}(\.[a-z0-9_%-]{1,8}){0,4}", fullmatch=True)


def linux(files: Mapping[str, Attempt[bytes]]) -> CapturedHost:
    return CapturedHost(LINUX, {("read", p): a for p, a in files.items()}, Outcome.ABSENT)


def freebsd(*names: str, answer: Attempt[Any]) -> CapturedHost:
    key = json.dumps(("sysctl", "-ie", "kern.osreldate", *names))
    return CapturedHost(FREEBSD, {("run", key): answer}, Outcome.ABSENT)


def ran(stdout: str, status: int = 0, stderr: str = "") -> Attempt[Any]:
    return Attempt.ran(encode(Ran(status, stdout, stderr)))


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("kernel.io_uring_disabled", "/proc/sys/kernel/io_uring_disabled"),
        ("net.ipv4.tcp_available_ulp", "/proc/sys/net/ipv4/tcp_available_ulp"),
        ("net/ipv4/conf/eth0.100/forwarding", "/proc/sys/net/ipv4/conf/eth0.100/forwarding"),
        ("net.ipv4.conf.eth0/100.forwarding", "/proc/sys/net/ipv4/conf/eth0.100/forwarding"),
        ("plain", "/proc/sys/plain"),
    ],
)
def test_a_linux_sysctl_is_a_file_whose_dots_are_slashes(name: str, path: str) -> None:
    assert sysctl.proc_path(name) == path


def test_a_linux_value_comes_without_its_newline() -> None:
    host = linux({"/proc/sys/kernel/io_uring_disabled": Attempt.ran(b"0\n")})
    assert sysctl.read(host, "kernel.io_uring_disabled") == Attempt.ran("0")


def test_a_refused_linux_sysctl_is_denied_and_a_missing_one_absent() -> None:
    host = linux({"/proc/sys/kernel/secret": Attempt(Outcome.DENIED, reason="Permission denied")})
    assert sysctl.read(host, "kernel.secret").outcome is Outcome.DENIED
    assert sysctl.read(host, "kernel.other").outcome is Outcome.ABSENT


def test_a_freebsd_name_that_the_kernel_does_not_answer_is_absent() -> None:
    host = freebsd("kern.ipc.tls.rx_enable", answer=ran("kern.osreldate=1403000\n"))
    found = sysctl.read(host, "kern.ipc.tls.rx_enable")
    assert found.outcome is Outcome.ABSENT
    assert "kern.ipc.tls.rx_enable" in found.reason


def test_a_freebsd_value_is_found_by_name_in_any_order() -> None:
    answer = ran("kern.ipc.tls.stats.active=3\nkern.ipc.tls.enable=1\nkern.osreldate=1403000\n")
    found = sysctl.tree(freebsd("kern.ipc.tls", answer=answer), "kern.ipc.tls").or_else({})
    assert found["kern.ipc.tls.enable"] == "1"
    assert found["kern.ipc.tls.stats.active"] == "3"


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (ran("", 1, "sysctl: sysctl name -1 4 1: Operation not permitted\n"), Outcome.FAILED),
        (ran(""), Outcome.FAILED),
        (Attempt(Outcome.ABSENT, reason="sysctl is not installed"), Outcome.FAILED),
        (Attempt(Outcome.DENIED, reason="Permission denied"), Outcome.DENIED),
        (Attempt(Outcome.TIMEOUT, reason="no answer"), Outcome.TIMEOUT),
    ],
)
def test_a_sysctl_command_that_does_not_work_is_never_a_missing_sysctl(answer: Attempt[Any], outcome: Outcome) -> None:
    found = sysctl.read(freebsd("kern.ipc.tls.enable", answer=answer), "kern.ipc.tls.enable")
    assert found.outcome is outcome
    assert found.reason


def test_lines_of_a_long_string_that_look_like_sysctls_are_left_out() -> None:
    text = "kern.version=FreeBSD 14.3\nhw.fake=1\nkern.ipc.tlsx=1\nkern.ipc.tls.enable=1\n"
    found = sysctl.parse_answer(text, ("kern.ipc.tls", "kern.version"))
    assert found == {"kern.version": "FreeBSD 14.3", "kern.ipc.tls.enable": "1"}


@given(st.text())
def test_any_answer_is_read_without_an_exception_and_only_for_what_was_asked(text: str) -> None:
    assert all(name == "kern" or name.startswith("kern.") for name in sysctl.parse_answer(text, ("kern",)))


@given(st.dictionaries(NAMES, st.integers(0, 2**64 - 1)))
def test_every_asked_value_is_found_again(values: dict[str, int]) -> None:
    text = "".join(f"{name}={value}\n" for name, value in values.items())
    assert sysctl.parse_answer(text, values) == {name: str(value) for name, value in values.items()}


@given(st.binary())
def test_any_bytes_are_read_as_a_configuration_without_an_exception(content: bytes) -> None:
    sysctl.parse_conf(content)


def test_comments_blanks_and_quotes_of_sysctl_conf_are_understood() -> None:
    content = b"# kern.ipc.tls.enable=0\n  kern.ipc.tls.enable = \"1\" # on\nnonsense\nkern.a=\nkern.b='x y'\n"
    found = [(s.name, s.value) for s in sysctl.parse_conf(content)]
    assert found == [("kern.ipc.tls.enable", "1"), ("kern.a", ""), ("kern.b", "x y")]


@given(st.binary())
def test_what_is_kept_of_a_file_reads_as_the_file_did(content: bytes) -> None:
    host = KeepingHost(content)
    (first, _) = sysctl.persisted(host, lambda name: True)
    assert first.settings.or_else(()) == sysctl.parse_conf(content)


class KeepingHost(CapturedHost):
    """Applies `keep` as a live host does."""

    def __init__(self, content: bytes) -> None:
        super().__init__(FREEBSD, {}, Outcome.ABSENT)
        self.content = content

    def read(self, path: str, keep: Any = None) -> Attempt[bytes]:
        return Attempt.ran(keep(self.content) if keep is not None else self.content)


def test_nothing_but_wanted_settings_leaves_the_host_door() -> None:
    kept: list[bytes] = []

    class Spy(KeepingHost):
        def read(self, path: str, keep: Any = None) -> Attempt[bytes]:
            found = super().read(path, keep)
            kept.append(found.or_else(b""))
            return found

    host = Spy(b"net.secret=hunter2\nkern.ipc.tls.enable=1\n")
    sysctl.persisted(host, lambda name: name.startswith("kern.ipc.tls."))
    assert kept == [b"kern.ipc.tls.enable=1\n"] * 2


def test_the_last_file_that_sets_a_name_stands() -> None:
    files = tuple(
        sysctl.ConfFile(path, Attempt.ran((sysctl.Setting("a", value),))) for path, value in (("x", "0"), ("y", "1"))
    )
    assert sysctl.last(files, "a") == ("1", "y")
    assert sysctl.last(files, "b") is None
