# SPDX-License-Identifier: BSD-2-Clause
"""What an interface offers is what ethtool shows."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktlsctl.facts import netdev
from ktlsctl.host import COMMAND_PATH, LiveHost
from tests.linux_hosts import FEATURE_NAMES, FIXED_OFF, LinuxHost

TX = 0b0010


@pytest.mark.parametrize(
    ("available", "requested", "active", "never_changed", "shown"),
    [
        (0, 0, 0, 0, "off [fixed]"),
        (TX, 0, 0, 0, "off"),
        (TX, TX, TX, 0, "on"),
        (TX, TX, 0, 0, "off [requested on]"),
        (TX, TX, TX, TX, "on [fixed]"),
    ],
)
def test_the_bits_read_as_ethtool_prints_them(
    available: int, requested: int, active: int, never_changed: int, shown: str
) -> None:
    feature = netdev.parse(FEATURE_NAMES, [[available, requested, active, never_changed]])[0]
    assert (feature.name, str(feature)) == ("tls-hw-tx-offload", shown)


def test_a_feature_beyond_the_first_word_is_found() -> None:
    names = ["x"] * 40 + ["tls-hw-record"]
    assert [str(f) for f in netdev.parse(names, [[0, 0, 0, 0], [1 << 8, 0, 1 << 8, 0]])] == ["on [requested off]"]


def test_an_interface_that_vanished_does_not_hide_the_others() -> None:
    found = netdev.read(LinuxHost("6.1", {}, interfaces={"eth0": FIXED_OFF, "eth1": FIXED_OFF}).capture())
    host = LinuxHost("6.1", {"/sys/class/net/gone/address": b""}, interfaces={"eth0": FIXED_OFF})
    with_gone = {each.name: each.features.present for each in netdev.read(host.capture()).asked.value or ()}
    assert [each.name for each in found.asked.value or ()] == ["eth0", "eth1"]
    assert with_gone == {"eth0": True, "gone": False}


def test_thousands_of_interfaces_are_not_all_asked() -> None:
    found = netdev.read(LinuxHost("6.1", {}, interfaces={f"veth{n}": FIXED_OFF for n in range(100)}).capture())
    assert (len(found.asked.value or ()), found.left_out) == (netdev.LIMIT, 100 - netdev.LIMIT)


@pytest.mark.skipif(shutil.which("ethtool", path=COMMAND_PATH) is None, reason="ethtool is not installed")
def test_this_machine_s_interfaces_read_as_ethtool_reads_them() -> None:
    for interface in netdev.read(LiveHost()).asked.value or ():
        done = subprocess.run(
            ["ethtool", "-k", interface.name], capture_output=True, text=True, check=True, env={"PATH": COMMAND_PATH}
        )
        theirs = {line.strip() for line in done.stdout.splitlines() if "tls-hw-" in line}
        assert {f"{feature.name}: {feature}" for feature in interface.features.value or ()} == theirs


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda s: st.lists(s) | st.dictionaries(st.text(), s),
)
NAMES = st.lists(st.sampled_from(FEATURE_NAMES), max_size=70)
WORDS = st.lists(st.lists(st.integers(), min_size=3, max_size=5), max_size=4)


@given(JSON | NAMES, JSON | WORDS)
def test_an_arbitrary_captured_answer_is_features_or_refused(names: Any, words: Any) -> None:
    try:
        features = netdev.parse(names, words)
    except ValueError:
        return
    assert {feature.name for feature in features} <= set(netdev.FEATURES)
