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


def test_a_fifo_is_written_into_and_stays_one(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_whole(str(fifo), b"content")
        assert os.read(reader, 100) == b"content"
    finally:
        os.close(reader)
    assert fifo.is_fifo()
    assert [p.name for p in tmp_path.iterdir()] == ["fifo"]


def test_a_pipe_by_its_name_in_dev_fd_is_written_into() -> None:
    """As /dev/stdout is in a pipeline: what the link reads as is no path."""
    source, sink = os.pipe()
    try:
        write_whole(f"/dev/fd/{sink}", b"content")
        assert os.read(source, 100) == b"content"
    finally:
        os.close(source)
        os.close(sink)


@pytest.mark.parametrize("refused", [False, True])
def test_a_replaced_file_keeps_its_owner_where_that_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: bool
) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    given: list[tuple[int, int]] = []

    def fchown(fd: int, owner: int, group: int) -> None:
        given.append((owner, group))
        if refused:
            raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", fchown)
    write_whole(str(target), b"new")
    about = target.stat()
    assert given == [(about.st_uid, about.st_gid)]
    assert target.read_text() == "new"
