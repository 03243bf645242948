# SPDX-License-Identifier: BSD-2-Clause
"""The module's signs in /proc, /sys and on disk."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktlsctl.facts import kmod
from ktlsctl.facts.kmod import Listing, Loaded
from ktlsctl.model import Outcome
from tests.linux_hosts import DEBIAN12, LinuxHost, unloaded


def test_the_line_of_the_module_tells_who_holds_it() -> None:
    content = b"aesni_intel 4 0 - Live 0x0\ntls 135168 2 bonding,cxgb4, Live 0xffffffffc0a00000 (E)\n"
    assert kmod.parse_proc_modules(content) == Listing(Loaded(2, ("bonding", "cxgb4"), "Live"))


def test_a_kernel_that_cannot_unload_has_no_count() -> None:
    assert kmod.parse_proc_modules(b"tls 1 - - Live 0x0\n") == Listing(Loaded(-1, (), "Live"))


def test_another_module_of_a_like_name_is_not_it() -> None:
    assert kmod.parse_proc_modules(b"tls_device 1 0 - Live 0x0\n") == Listing(None)


def test_no_load_address_is_kept() -> None:
    kept = kmod.only_tls(b"x 1 0 - Live 0xffffffffc0000000\ntls 1 0 - Live 0xffffffffc0a00000 (E)\n")
    assert b"0xff" not in kept
    assert kmod.parse_proc_modules(kept) == Listing(Loaded(0, (), "Live"))


@pytest.mark.parametrize("suffix", ["", ".gz", ".xz", ".zst"])
def test_it_is_found_on_disk_however_it_is_packed(suffix) -> None:
    found = kmod.parse_dep(f"kernel/net/tls/tls.ko{suffix}:\nupdates/a-b.ko: kernel/net/tls/tls.ko{suffix}\n".encode())
    assert found.file == f"kernel/net/tls/tls.ko{suffix}"
    assert found.dependants == ("a_b",)


def test_a_module_whose_name_ends_alike_is_not_it() -> None:
    assert kmod.parse_dep(b"kernel/net/xtls.ko:\nkernel/net/tls.kox:\n").file == ""
    assert not kmod.parse_builtin(b"kernel/net/xtls.ko\n")


def test_the_module_that_brings_the_configuration_is_noticed() -> None:
    assert kmod.parse_dep(b"kernel/kernel/configs.ko.gz:\n").configs


def test_the_alias_of_the_ulp_is_what_an_autoload_needs() -> None:
    assert kmod.parse_alias(b"alias tcp-ulp-tls tls\n")
    assert not kmod.parse_alias(b"alias tls tls\nalias tcp-ulp-tls\n")


def test_a_module_directory_of_this_release_is_found_where_a_distribution_has_it() -> None:
    release = "6.12.1"
    files = {f"/run/booted-system/kernel-modules/lib/modules/{release}/modules.dep": b"kernel/net/tls/tls.ko.xz:\n"}
    tree = kmod.read_tree(LinuxHost(release, files).capture(), release)
    assert tree.dep.value is not None
    assert tree.dep.value.file == "kernel/net/tls/tls.ko.xz"
    assert tree.file.outcome is Outcome.ABSENT  # named, but not there


def test_a_directory_that_an_upgrade_took_away_leaves_its_successor() -> None:
    tree = kmod.read_tree(LinuxHost("6.1", {"/lib/modules/6.2/modules.dep": b""}).capture(), "6.1")
    assert tree.siblings == ("6.2",)
    assert tree.dep.absent


def test_the_running_kernel_is_read_with_and_without_the_module() -> None:
    loaded = kmod.read_running(DEBIAN12.capture())
    assert loaded.listing.value is not None
    assert loaded.listing.value.line is not None
    assert loaded.listing.value.line.state == "Live"
    assert loaded.ulps.value == ("mptcp", "tls")
    bare = kmod.read_running(unloaded(DEBIAN12).capture())
    assert bare.listing.value is not None
    assert bare.listing.value.line is None
    assert bare.initstate.absent


WORDS = st.sampled_from(
    [b"tls", b"alias", b"tcp-ulp-tls", b"kernel/net/tls/tls.ko", b":", b" ", b"\n", b"0", b"-", b"Live"]
)


@given(st.binary() | st.lists(WORDS | st.binary(max_size=3)).map(b"".join))
def test_arbitrary_bytes_break_no_parser(content) -> None:
    listing = kmod.parse_proc_modules(content)
    assert listing.line is None or listing.line.references >= -1
    kept = kmod.parse_proc_modules(kmod.only_tls(content))
    assert kept.line is None or kept.line.references >= -1
    found = kmod.parse_dep(content)
    assert kmod.parse_dep(kmod.keep_dep(content)) == found
    assert kmod.parse_builtin(kmod.keep_builtin(content)) == kmod.parse_builtin(content)
    assert isinstance(kmod.parse_alias(kmod.keep_alias(content)), bool)
    assert isinstance(kmod.parse_alias(content), bool)
