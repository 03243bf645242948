# SPDX-License-Identifier: BSD-2-Clause
"""Tell a wrong kernel from a wrong tool, on a machine where kernel TLS is switched on.  Usage: judge.py REPORT...

A REPORT is what `ktlsctl check --json` printed.  FreeBSD 15 damages files over 64 KiB in sendfile(2), for which there
is no fix yet (freebsd.sendfile-replay): that may be critical.  Whatever else is, or is not known, exits 1.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def complaints(report: dict[str, Any]) -> list[str]:
    """One line each, without what the kernel alone is to blame for."""
    found = [
        f"{check['id']}: {check['summary']}: {check['reason']}"
        for check in report["checks"]
        if check["status"] == "critical" and not _of_the_kernel(check)
    ]
    unknown = [f"unknown: {report['verdict']['summary']}"] if report["verdict"]["status"] == "unknown" else []
    return [*report["errors"], *unknown, *found]


def _of_the_kernel(check: dict[str, Any]) -> bool:
    if check["id"] == "advisories.known":
        return bool(check["evidence"]["proved"] == ["freebsd.sendfile-replay"])
    # several faults would stand in a row, with a semicolon
    alone = check["reason"].endswith(": a file sent by sendfile arrived damaged")
    return check["id"] == "freebsd.records" and bool(alone)


if __name__ == "__main__":
    lines = [f"{path}: {line}" for path in sys.argv[1:] for line in complaints(json.loads(Path(path).read_bytes()))]
    sys.exit("\n".join(lines) or 0)
