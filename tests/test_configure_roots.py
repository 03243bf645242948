# SPDX-License-Identifier: BSD-2-Clause
"""configure/roots.py: every link is followed inside the root, and none leads out of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktlsctl.configure.roots import FileState, Root, RootHost
from ktlsctl.model import About, Os, Outcome


@pytest.fixture
def below(tmp_path: Path) -> Path:
    """A root with a secret beside it."""
    (tmp_path / "secret").write_text("outside")
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc" / "real").write_text("inside")
    return root


def content(root: Path, path: str) -> bytes | None:
    opened = Root(str(root))
    try:
        found = opened.read(path)
        return None if found is None else found.content
    finally:
        opened.close()


@pytest.mark.parametrize(
    "target", ["real", "/etc/real", "../etc/real", "../../../../etc/real", "/../etc/./real", "//etc//real"]
)
def test_a_link_inside_the_root_is_followed_as_if_the_root_were_everything(below: Path, target: str) -> None:
    (below / "etc" / "link").symlink_to(target)
    assert content(below, "/etc/link") == b"inside"


@pytest.mark.parametrize("up", [1, 2, 5, 30])
def test_a_link_that_climbs_out_stays_in(below: Path, up: int) -> None:
    (below / "etc" / "link").symlink_to("../" * up + "secret")
    assert content(below, "/etc/link") is None
    (below / "secret").write_text("the root's own")
    assert content(below, "/etc/link") == b"the root's own"


def test_an_absolute_link_and_a_linked_directory_that_lead_out_stay_in(below: Path) -> None:
    outside = below.parent / "secret"
    (below / "etc" / "link").symlink_to(outside)
    (below / "etc" / "directory").symlink_to(below.parent)
    assert content(below, "/etc/link") is None
    assert content(below, "/etc/directory/secret") is None
    assert content(below, "/../secret") is None


def test_a_chain_of_links_that_never_ends_is_an_error(below: Path) -> None:
    (below / "etc" / "a").symlink_to("b")
    (below / "etc" / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links"):
        content(below, "/etc/a")


@pytest.mark.parametrize("kind", ["fifo", "directory"])
def test_what_is_no_ordinary_file_is_an_error_and_does_not_hang(below: Path, kind: str) -> None:
    path = below / "etc" / "thing"
    if kind == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(OSError, match=r"ordinary file|directory"):
        content(below, "/etc/thing")


def test_what_is_missing_is_named_outermost_first(below: Path) -> None:
    (below / "etc" / "link").symlink_to("/var/lib")
    root = Root(str(below))
    with root.place("/etc/link/a/b/file") as place:
        assert place.path == "/var/lib/a/b/file"
        assert place.parents == ("/var", "/var/lib", "/var/lib/a", "/var/lib/a/b")
        assert place.read() is None
    root.close()


def test_the_files_of_a_root_answer_like_those_of_a_host(below: Path) -> None:
    (below / "etc" / "link").symlink_to("/etc/real")
    root = Root(str(below))
    host = RootHost(root, About(Os.LINUX, "unknown", "unknown", True))
    assert host.read("/etc/link").value == b"inside"
    assert host.read("/etc/link", keep=lambda content: content[:2]).value == b"in"
    assert host.read("/etc/none").outcome is Outcome.ABSENT
    assert host.read("/etc/none/deeper").outcome is Outcome.ABSENT
    assert host.names("/etc").value == ("link", "real")
    assert host.names("/none").outcome is Outcome.ABSENT
    assert host.resolve("/etc/link").value == "/etc/real"
    assert host.run("true").value is None
    assert not host.begin("x:y", {}, 1.0).answer().present
    root.close()


def test_no_descriptor_is_left_open(below: Path) -> None:
    before = os.listdir("/dev/fd")
    root = Root(str(below))
    for path in ("/etc/real", "/etc/none/x", "/..", "/etc"):
        try:
            root.read(path)
        except OSError:
            continue
    root.close()
    assert os.listdir("/dev/fd") == before


parts = st.lists(st.sampled_from(["a", "b", "..", ".", "", "c"]), max_size=6).map("/".join)


@given(links=st.lists(st.tuples(parts, st.booleans()), max_size=4), path=parts)
def test_whatever_links_there_are_nothing_outside_is_ever_read(
    tmp_path_factory: pytest.TempPathFactory, links: list[tuple[str, bool]], path: str
) -> None:
    base = tmp_path_factory.mktemp("links")
    for name in ("a", "b", "c"):
        (base / name).write_text("outside")
    root = base / "root"
    (root / "a").mkdir(parents=True)
    for (target, absolute), name in zip(links, ("a/a", "a/b", "b", "c"), strict=False):
        os.symlink(("/" if absolute else "") + target or ".", root / name)
    opened = Root(str(root))
    try:
        found = opened.read("/" + path)
        assert found is None or found.content != b"outside"
    except OSError:
        pass
    finally:
        opened.close()


@given(st.binary(max_size=200), st.integers(0, 0o7777), st.binary(max_size=20))
def test_a_files_state_survives_the_journal(content: bytes, mode: int, attribute: bytes) -> None:
    state = FileState.of(content, mode, 1, 2, {"user.x": attribute})
    assert (state.content, state.mode, state.uid, state.gid) == (content, mode, 1, 2)
