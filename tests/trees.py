# SPDX-License-Identifier: BSD-2-Clause
"""A directory tree as a value: what each thing in it is, its content, permissions and owner."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path

JOURNALS = ("var/lib/ktlsctl", "var/db/ktlsctl")


def tree(root: Path) -> Mapping[str, tuple[str, int, int, int]]:
    """Path below `root` to (content hash, link target or kind; mode; uid; gid).  The journal stays out: it is kept."""
    found = {}
    for directory, directories, files in os.walk(root):
        for name in (*directories, *files):
            path = Path(directory, name)
            below = str(path.relative_to(root))
            if below.startswith(JOURNALS):
                continue
            seen = path.lstat()
            if stat.S_ISLNK(seen.st_mode):
                what = f"-> {os.readlink(path)}"
            elif stat.S_ISDIR(seen.st_mode):
                what = "directory"
            else:
                what = hashlib.sha256(path.read_bytes()).hexdigest()
            found[below] = (what, seen.st_mode, seen.st_uid, seen.st_gid)
    return found
