# SPDX-License-Identifier: BSD-2-Clause
"""atomic: a file is written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ktlsctl.atomic import write_whole


def test_a_new_file_has_the_content_and_the_mode(tmp_path: Path) -> None:
    write_whole(str(tmp_path / "new"), b"content", 0o640)
    assert (tmp_path / "new").read_bytes() == b"content"
    assert (tmp_path / "new").stat().st_mode & 0o7777 == 0o640


def test_a_replaced_file_keeps_its_mode(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    target.chmod(0o604)
    write_whole(str(target), b"new")
    assert target.read_text() == "new"
    assert target.stat().st_mode & 0o7777 == 0o604


def test_a_symbolic_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    (tmp_path / "link").symlink_to("file")
    write_whole(str(tmp_path / "link"), b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text() == "new"


def test_a_failure_leaves_the_old_content_and_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("old")

    def no_space(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space"):
        write_whole(str(tmp_path / "file"), b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "old"
