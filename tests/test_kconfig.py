# SPDX-License-Identifier: BSD-2-Clause
"""The kernel configuration is found where it is, and nothing that stands there breaks the reader."""

from __future__ import annotations

import gzip
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktlsctl.facts import kconfig
from ktlsctl.facts.kconfig import Built, NotAConfig
from ktlsctl.model import Outcome
from tests.linux_hosts import CONFIG_DEBIAN, DENIED, LinuxHost

RELEASE = "6.1.0"
PLACES = [
    "/proc/config.gz",
    f"/boot/config-{RELEASE}",
    f"/usr/lib/modules/{RELEASE}/config",
    f"/lib/modules/{RELEASE}/config",
    f"/usr/lib/ostree-boot/config-{RELEASE}",
    f"/boot/ostree/fedora-0123/config-{RELEASE}",
    f"/lib/modules/{RELEASE}/build/.config",
    f"/lib/modules/{RELEASE}/kernel/.config",
    "/usr/src/linux/.config",
    "/boot/config",
]


def read(files):
    return kconfig.read(LinuxHost(RELEASE, files).capture(), RELEASE)


@pytest.mark.parametrize("path", PLACES)
def test_it_is_found_in_every_place(path) -> None:
    assert read({path: CONFIG_DEBIAN}).value.path == path


@pytest.mark.parametrize(("first", "later"), list(pairwise(PLACES)))
def test_the_first_place_wins(first, later) -> None:
    assert read({first: CONFIG_DEBIAN, later: b"CONFIG_TLS=y\n"}).value.path == first


def test_only_a_file_of_this_release_is_exact() -> None:
    exact = {path: read({path: CONFIG_DEBIAN}).value.exact for path in PLACES}
    assert [path for path, sure in exact.items() if not sure] == ["/usr/src/linux/.config", "/boot/config"]


def test_a_file_that_may_not_be_read_is_not_an_absent_one() -> None:
    found = read({f"/boot/config-{RELEASE}": DENIED})
    assert found.outcome is Outcome.DENIED
    assert "/boot/config-6.1.0" in found.reason


def test_behind_a_file_that_may_not_be_read_the_next_is_found() -> None:
    assert read({f"/boot/config-{RELEASE}": DENIED, "/boot/config": CONFIG_DEBIAN}).value.path == "/boot/config"


def test_none_at_all_is_absent() -> None:
    assert read({}).outcome is Outcome.ABSENT


def test_a_file_that_is_no_configuration_is_passed_over_and_named_when_it_is_the_only_one() -> None:
    assert read({"/proc/config.gz": b"\x1f\x8bnonsense", "/boot/config": CONFIG_DEBIAN}).value.path == "/boot/config"
    alone = read({"/proc/config.gz": b"\x1f\x8bnonsense"})
    assert alone.outcome is Outcome.FAILED
    assert "/proc/config.gz" in alone.reason


def test_values_are_told_apart() -> None:
    config = read({"/proc/config.gz": gzip.compress(CONFIG_DEBIAN + b'CONFIG_MODPROBE_PATH="/sbin/modprobe"\n')}).value
    assert config.built("CONFIG_TLS") is Built.MODULE
    assert config.built("CONFIG_TLS_DEVICE") is Built.IN
    assert config.built("CONFIG_CRYPTO_ARIA") is Built.NO
    assert config.built("CONFIG_NET_HANDSHAKE") is Built.NO  # left out: its dependencies were not met
    assert config.options["CONFIG_MODPROBE_PATH"] == "/sbin/modprobe"


def test_a_longer_name_is_another_option() -> None:
    assert kconfig.parse(b"CONFIG_TLS_DEVICE=y\nCONFIG_TLSX=y\n") == {"CONFIG_TLS_DEVICE": "y"}


def test_what_is_kept_reads_like_the_whole_and_holds_nothing_else() -> None:
    whole = b'CONFIG_DEFAULT_HOSTNAME="secret"\n' + CONFIG_DEBIAN
    assert kconfig.parse(kconfig.wanted(gzip.compress(whole))) == kconfig.parse(whole)
    assert b"secret" not in kconfig.wanted(gzip.compress(whole))


LINE = st.builds(
    lambda template, option: template % option.encode(),
    st.sampled_from([b"%s=y", b"# %s is not set", b"%s=m\r", b'%s="a\xff"', b" %s=y", b"%s"]),
    st.sampled_from([*kconfig.OPTIONS, "CONFIG_OTHER"]),
)


@given(st.binary() | st.lists(LINE | st.binary(max_size=20)).map(b"\n".join))
def test_arbitrary_bytes_are_a_configuration_or_refused(content) -> None:
    for form in (content, gzip.compress(content), b"\x1f\x8b" + content):
        try:
            found = kconfig.parse(form)
        except NotAConfig:
            assert kconfig.wanted(form) == b""
        else:
            assert set(found) <= set(kconfig.OPTIONS)
            assert kconfig.parse(kconfig.wanted(form)) == found
