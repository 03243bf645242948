# SPDX-License-Identifier: BSD-2-Clause
"""The counters are read by name, and a name nobody knows is kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktlsctl.facts import tlsstat
from ktlsctl.facts.tlsstat import NotCounters
from ktlsctl.model import Outcome
from tests.linux_hosts import TLS_STAT, LinuxHost


def test_counters_are_read_by_name_and_unknown_ones_are_kept() -> None:
    content = TLS_STAT + b"TlsFromTheFuture                \t18446744073709551615\n"
    assert tlsstat.parse(content) == {
        "TlsCurrTxSw": 0,
        "TlsTxSw": 7,
        "TlsDecryptError": 0,
        "TlsFromTheFuture": 18446744073709551615,
    }


@pytest.mark.parametrize("content", [b"TlsTxSw\n", b"TlsTxSw seven\n", b"TlsTxSw 1 2\n", b"TlsTxSw -1\n", b"\xff\n"])
def test_another_file_is_refused(content: bytes) -> None:
    with pytest.raises(NotCounters):
        tlsstat.parse(content)


def test_what_is_not_there_and_what_is_no_list_are_told_apart() -> None:
    assert tlsstat.read(LinuxHost("6.1", {}).capture()).outcome is Outcome.ABSENT
    assert tlsstat.read(LinuxHost("6.1", {tlsstat.PATH: b"?"}).capture()).outcome is Outcome.FAILED


@given(st.binary() | st.lists(st.sampled_from([b"TlsTxSw", b"\t", b" ", b"1", b"\n", b"\xd9\xa1"])).map(b"".join))
def test_arbitrary_bytes_are_counters_or_refused(content: bytes) -> None:
    try:
        counters = tlsstat.parse(content)
    except NotCounters:
        return
    assert all(value >= 0 for value in counters.values())
