# SPDX-License-Identifier: BSD-2-Clause
"""configure/edits.py: one assignment changes, everything else stays byte for byte."""

from __future__ import annotations

import difflib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktlsctl.configure import edits
from ktlsctl.configure.edits import LOADER_CONF, SYSCTL_CONF, Syntax
from ktlsctl.facts import loaderconf
from ktlsctl.sysctl import parse_conf

NAME = "kern.ipc.tls.enable"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", b"kern.ipc.tls.enable=1\n"),
        (b"# nothing\n", b"# nothing\nkern.ipc.tls.enable=1\n"),
        (b"a=1", b"a=1\nkern.ipc.tls.enable=1"),
        (b"a=1\r\n", b"a=1\r\nkern.ipc.tls.enable=1\r\n"),
        (b"a=1\r\nb=2", b"a=1\r\nb=2\r\nkern.ipc.tls.enable=1"),
        (b"kern.ipc.tls.enable=0\n", b"kern.ipc.tls.enable=1\n"),
        (b"  kern.ipc.tls.enable = 0  # why\nb=2\n", b"  kern.ipc.tls.enable = 1  # why\nb=2\n"),
        (b"kern.ipc.tls.enable=0\r\nb=2\r\n", b"kern.ipc.tls.enable=1\r\nb=2\r\n"),
        (b'kern.ipc.tls.enable="0"', b'kern.ipc.tls.enable="1"'),
        (b"kern.ipc.tls.enable=1\nkern.ipc.tls.enable=0\n", b"kern.ipc.tls.enable=1\nkern.ipc.tls.enable=1\n"),
        (b"#kern.ipc.tls.enable=0\n", b"#kern.ipc.tls.enable=0\nkern.ipc.tls.enable=1\n"),
        (b"kern.ipc.tls.enable_more=0\n", b"kern.ipc.tls.enable_more=0\nkern.ipc.tls.enable=1\n"),
        (b"kernXipc.tls.enable=0\n", b"kernXipc.tls.enable=0\nkern.ipc.tls.enable=1\n"),
        (b"\xff\xfe junk\n", b"\xff\xfe junk\nkern.ipc.tls.enable=1\n"),
    ],
)
def test_sysctl_conf_gets_the_smallest_edit(before: bytes, after: bytes) -> None:
    assert edits.assign(before, NAME, "1", SYSCTL_CONF) == after
    assert edits.assign(after, NAME, "1", SYSCTL_CONF) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", b'ktls_ocf_load="YES"\n'),
        (b'ktls_ocf_load="NO" # not now\n', b'ktls_ocf_load="YES" # not now\n'),
        (b"ktls_ocf_load=NO\n", b'ktls_ocf_load="YES"\n'),
        (b"autoboot_delay=3", b'autoboot_delay=3\nktls_ocf_load="YES"'),
        # the loader passes over a malformed line, so it is no assignment
        (b'ktls_ocf_load="NO" junk\n', b'ktls_ocf_load="NO" junk\nktls_ocf_load="YES"\n'),
    ],
)
def test_loader_conf_gets_the_smallest_edit(before: bytes, after: bytes) -> None:
    assert edits.assign(before, "ktls_ocf_load", "YES", LOADER_CONF) == after


lines = st.lists(
    st.one_of(
        st.sampled_from([b"kern.ipc.tls.enable=0", b' kern.ipc.tls.enable = "0" # x', b"# c", b"", b"a=1"]),
        st.binary(max_size=12).map(lambda b: b.replace(b"\n", b"")),
    ),
    max_size=6,
)
files = st.builds(lambda parts, end, last: end.join(parts) + last, lines, st.sampled_from([b"\n", b"\r\n"]),
                  st.sampled_from([b"", b"\n", b"\r\n"]))  # fmt: skip


def _changed(before: bytes, after: bytes) -> int:
    """How many lines of `before` are not in `after` as they were."""
    matcher = difflib.SequenceMatcher(None, before.split(b"\n"), after.split(b"\n"), autojunk=False)
    return sum(b - a for tag, a, b, _, _ in matcher.get_opcodes() if tag != "equal")


@given(files, st.sampled_from([SYSCTL_CONF, LOADER_CONF]))
def test_after_any_edit_the_parser_reads_the_wanted_value_and_one_line_at_most_changed(
    before: bytes, syntax: Syntax
) -> None:
    after = edits.assign(before, NAME, "1", syntax)
    parse = parse_conf if syntax is SYSCTL_CONF else loaderconf.parse
    assert [s.value for s in parse(after) if s.name == NAME][-1] == "1"
    assert edits.assign(after, NAME, "1", syntax) == after
    assert _changed(before, after) <= 1
    assert before.endswith(b"\n") == after.endswith(b"\n") or not before


@given(files)
def test_removing_no_line_changes_nothing(content: bytes) -> None:
    assert edits.without_lines(content, frozenset()) == content


def test_removing_the_block_keeps_what_an_administrator_added_to_the_file() -> None:
    assert edits.without_block(edits.BLOCK_DROP_IN, frozenset({3})) is None
    mine = edits.BLOCK_DROP_IN + b"options bonding mode=1\n"
    left = edits.without_block(mine, frozenset({3}))
    assert left is not None
    assert left.endswith(b"options bonding mode=1\n")
    assert b"alias" not in left
