# SPDX-License-Identifier: BSD-2-Clause
"""How fast `ktlsctl sessions` lists 10,000 kernel TLS sockets with their owners, beside `ss -tiep` on the same host.

Run by hand as root where the tls module is loaded, for example in a guest of the lab:

    .venv/bin/python -m tests.lab debian13 \\
        'modprobe tls; python3 /run/lab/project/bench/sessions.py --in-memory $ktlsctl'

Prints the medians of interleaved runs and their ratio, the peak memory, and what the one-line summary at 1 Hz takes of
a core.  Output goes to a file, as the list of ten thousand sockets would.

--in-memory: first move both programs and Python's modules to a file system in memory.  A guest of the lab has its root
over 9p, where opening a file costs a round trip to another machine's kernel; no host that serves anything has that.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time

SOCKETS = 10_000
TARGET_RATIO, TARGET_MB, TARGET_SHARE = 1.5, 100, 2.0


def hold(count: int) -> list[socket.socket]:
    """Loopback pairs, each end with a throw-away key for sending."""
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (count + 100, max(count + 100, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    )
    held = []
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        for _ in range(count // 2):
            ours = socket.create_connection(listener.getsockname())
            theirs, _ = listener.accept()
            for end in (ours, theirs):
                end.setsockopt(socket.IPPROTO_TCP, 31, b"tls")
                end.setsockopt(282, 1, struct.pack("=HH", 0x304, 51) + os.urandom(36))
            held += [ours, theirs]
    return held


def into_memory(tool: str) -> None:
    """Bind-mounts copies in a tmpfs over the places where they are; until the guest ends."""
    with open(tool, encoding="utf-8") as file:
        interpreter = file.readline().removeprefix("#!").strip()
    program = (
        "import os, shutil, sys, sysconfig; print(sysconfig.get_path('stdlib'), sys.prefix, "
        "*(p for p in sys.path if 'dist-packages' in p), os.path.realpath(sys.executable), "
        "shutil.which('ss'), sep='\\n')"
    )
    places = subprocess.run([interpreter, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    for number, place in enumerate(dict.fromkeys(filter(os.path.exists, map(os.path.realpath, places)))):
        copy = f"/dev/shm/bench-{number}"
        subprocess.run(["cp", "-a", place, copy], check=True)
        subprocess.run(["mount", "--bind", copy, place], check=True)


def run(command: list[str], file: str) -> tuple[float, float]:
    """Seconds, and peak resident memory in MB."""
    with open(file, "wb") as output:
        begun = time.perf_counter()
        child = subprocess.Popen(command, stdout=output, close_fds=True)
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - begun
    if status != 0:
        raise SystemExit(f"{command[0]}: status {status}")
    return seconds, usage.ru_maxrss / 1024


def cpu_seconds(pid: int) -> float:
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def share(command: list[str], settle: float, seconds: float) -> float:
    """Percent of a core, once it has started."""
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    time.sleep(settle)
    before, begun = cpu_seconds(child.pid), time.perf_counter()
    time.sleep(seconds)
    used = (cpu_seconds(child.pid) - before) / (time.perf_counter() - begun)
    child.send_signal(signal.SIGINT)
    child.wait(30)
    return used * 100


def main() -> None:
    arguments = [word for word in sys.argv[1:] if word != "--in-memory"]
    tool = arguments[0] if arguments else str(shutil.which("ktlsctl"))
    rounds = int(arguments[1]) if len(arguments) > 1 else 7
    if "--in-memory" in sys.argv:
        into_memory(tool)
    held = hold(SOCKETS)
    commands = {
        "ss -tiep": ["ss", "-tiep"],
        "ktlsctl sessions": [tool, "sessions"],
        "ktlsctl sessions --json": [tool, "sessions", "--json"],
        "ktlsctl --version": [tool, "--version"],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    peaks: dict[str, float] = dict.fromkeys(commands, 0.0)
    with tempfile.TemporaryDirectory() as directory:
        for number in range(rounds + 1):  # the first round warms the caches and is not counted
            for name, command in commands.items():
                seconds, peak = run(command, f"{directory}/{name.replace(' ', '_')}")
                if number:
                    times[name].append(seconds)
                    peaks[name] = max(peaks[name], peak)
        with open(f"{directory}/ktlsctl_sessions", encoding="utf-8") as file:
            last = [line for line in file if line.startswith("Verdict")][-1].strip()
    floor = statistics.median(times["ss -tiep"])
    print(f"kernel {os.uname().release}, {len(held)} sockets, {rounds} interleaved rounds, medians; {last}")
    for name, values in times.items():
        median = statistics.median(values)
        print(f"{name:26} {median * 1000:8.1f} ms  {median / floor:5.2f}x  {peaks[name]:6.1f} MB")
    print(f"{'target for sessions':26} {'':11}  {TARGET_RATIO:5.2f}x  {TARGET_MB:6.1f} MB")
    used = share([tool, "sessions", "--summary", "--watch", "1"], 10, 20)
    print(f"sessions --summary --watch 1: {used:.2f} % of a core (target at most {TARGET_SHARE} %)")


if __name__ == "__main__":
    main()
