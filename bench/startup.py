# SPDX-License-Identifier: BSD-2-Clause
"""How fast ktlsctl starts and checks, as ratios to the floor of any click program, in one interleaved run.

Run by hand:  .venv/bin/python bench/startup.py [ROUNDS]

Prints medians, the ratio of each command's median to that of `python3 -c 'import click'`, and the peak memory of
`check` with its children: the sum of the proportional set sizes (PSS) of the whole process group, sampled; Linux.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

TOOL = str(Path(sys.executable).with_name("ktlsctl"))
FLOOR = "import click"
COMMANDS: dict[str, tuple[list[str], float]] = {
    FLOOR: ([sys.executable, "-c", "import click"], 1.0),
    "--version": ([TOOL, "--version"], 1.5),
    "--help": ([TOOL, "--help"], 1.5),
    "check --format json": ([TOOL, "check", "--format", "json"], 8.0),
}
MEMORY_TARGET_MB = 60


def seconds(command: list[str]) -> float:
    begun = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return time.perf_counter() - begun


def _family(root: int) -> list[int]:
    """The process and all its descendants."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                stat = Path(f"/proc/{name}/stat").read_text()
            except OSError:
                continue
            parents[int(name)] = int(stat.rpartition(")")[2].split()[1])
    family = [root]
    for pid in family:
        family.extend(child for child, parent in parents.items() if parent == pid)
    return family


def _pss_kb(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    except OSError:
        pass
    return 0


def peak_memory_mb(command: list[str]) -> float:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        peak = max(peak, sum(map(_pss_kb, _family(process.pid))))
    return peak / 1024


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(rounds + 1):  # the first round warms the caches and is not counted
        for name, (command, _) in COMMANDS.items():
            times[name].append(seconds(command))
    medians = {name: statistics.median(values[1:]) for name, values in times.items()}
    print(f"kernel {os.uname().release}, Python {sys.version.split()[0]}, {rounds} interleaved rounds, medians")
    for name, (_, target) in COMMANDS.items():
        ratio = medians[name] / medians[FLOOR]
        print(f"{name:22} {medians[name] * 1000:7.1f} ms  {ratio:5.2f}x  (target at most {target}x)")
    peak = statistics.median(peak_memory_mb(COMMANDS["check --format json"][0]) for _ in range(5))
    print(f"{'check, peak PSS':22} {peak:7.1f} MB        (target at most {MEMORY_TARGET_MB} MB)")


if __name__ == "__main__":
    main()
