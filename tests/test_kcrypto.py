# SPDX-License-Identifier: BSD-2-Clause
"""Of the kernel's crypto the implementation is named that the kernel itself takes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ktlsctl.facts import kcrypto
from ktlsctl.facts.kcrypto import Driver
from ktlsctl.model import Outcome
from tests.linux_hosts import LinuxHost


def block(name: str, driver: str, priority: int, *more: str) -> bytes:
    fields = [
        f"{'name':<13}: {name}",
        f"{'driver':<13}: {driver}",
        f"{'module':<13}: m",
        f"{'priority':<13}: {priority}",
    ]
    return "\n".join([*fields, *more]).encode() + b"\n\n"


def test_the_highest_priority_is_the_one_in_use() -> None:
    content = block("gcm(aes)", "generic-gcm-aesni", 400, "async        : yes") + block("gcm(aes)", "gcm_base(x)", 100)
    assert kcrypto.parse(content) == (Driver("gcm(aes)", "generic-gcm-aesni", "m", 400, True),)


def test_internal_parts_and_other_algorithms_are_left_out() -> None:
    content = block("gcm(aes)", "inner", 900, "internal     : yes") + block("__gcm(aes)", "cryptd(x)", 450)
    assert kcrypto.parse(content) == ()


def test_an_algorithm_that_is_not_listed_is_not_reported_as_missing() -> None:
    crypto = kcrypto.read(LinuxHost("6.1", {"/proc/crypto": b""}).capture())
    assert crypto.drivers.value == ()
    assert crypto.fips.outcome is Outcome.ABSENT


def test_fips_mode_is_read() -> None:
    assert kcrypto.read(LinuxHost("6.1", {"/proc/sys/crypto/fips_enabled": b"1\n"}).capture()).fips.value == 1


PIECES = st.sampled_from(
    [
        b"name         : gcm(aes)",
        b"driver       : d",
        b"priority     : 1",
        b"priority     : \xd9\xa1",
        b"\n",
        b"\n\n",
        b":",
    ]
)


@given(st.binary() | st.lists(PIECES | st.binary(max_size=3)).map(b"".join))
def test_arbitrary_bytes_break_nothing_and_the_kept_part_says_no_more(content: bytes) -> None:
    whole = {driver.algorithm: driver.priority for driver in kcrypto.parse(content)}
    for driver in kcrypto.parse(kcrypto.only_aead(content)):
        assert driver.priority <= whole[driver.algorithm]
