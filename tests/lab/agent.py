# SPDX-License-Identifier: BSD-2-Clause
"""The lab's hand in a guest: runs what comes through the virtio port, one command at a time, and reports.

Runs with the guest's own Python and its standard library alone.  When the other side goes, so does the guest.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import signal
import stat
import struct
import subprocess
import sys
import tempfile
import time
from typing import Any

PORT = "ktlsctl.lab"
HEADER = struct.Struct(">II")
HOME = "/run/lab/agent"
CGROUPS = "/sys/fs/cgroup"


class Gone(Exception):
    """The other side has closed the channel."""


def open_port() -> int:
    # by its name in sysfs: the links in /dev/virtio-ports are udev's, and a guest may lack it
    for _ in range(500):
        for path in glob.glob("/sys/class/virtio-ports/*/name"):
            with open(path, encoding="ascii") as file:
                if file.read().strip() == PORT:
                    return os.open("/dev/" + path.split("/")[-2], os.O_RDWR | os.O_CLOEXEC)
        time.sleep(0.02)
    sys.exit("no port " + PORT)


def read_exactly(port: int, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        chunk = os.read(port, min(size - len(data), 1 << 16))
        if not chunk:
            raise Gone
        data += chunk
    return bytes(data)


def write_all(port: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(port, view[: 1 << 16]) :]


def receive(port: int) -> tuple[dict[str, Any], bytes]:
    header, payload = HEADER.unpack(read_exactly(port, HEADER.size))
    return json.loads(read_exactly(port, header)), read_exactly(port, payload)


def send(port: int, header: dict[str, Any], payload: bytes = b"") -> None:
    data = json.dumps(header).encode()
    write_all(port, HEADER.pack(len(data), len(payload)) + data + payload)


def expose(path: str) -> None:
    """Let everyone through every directory on the way to `path` and to what it links to: a throw-away chmod."""
    for _ in range(40):
        parent = os.path.dirname(path)
        walked = "/"
        for part in [p for p in parent.split("/") if p]:
            walked = os.path.join(walked, part)
            mode = stat.S_IMODE(os.stat(walked).st_mode)
            if mode & 0o005 == 0o005:
                continue
            try:
                os.chmod(walked, mode | 0o055)
            except OSError:  # read-only here: put a layer of memory over it
                overlay(walked)
                os.chmod(walked, mode | 0o055)
        if not os.path.islink(path):
            return
        path = os.path.normpath(os.path.join(parent, os.readlink(path)))


def overlay(directory: str) -> None:
    layers = tempfile.mkdtemp(dir="/run/tmp" if os.path.isdir("/run/tmp") else "/run")
    os.mkdir(layers + "/upper")
    os.mkdir(layers + "/work")
    options = f"xino=off,lowerdir={directory},upperdir={layers}/upper,workdir={layers}/work"
    subprocess.run(["mount", "-t", "overlay", "-o", options, "lab", directory], check=True)


def prepare(order: dict[str, Any]) -> dict[str, Any]:
    os.makedirs(HOME, mode=0o700, exist_ok=True)
    # vng points these at ports of its own, which are not a command's outputs
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        with contextlib.suppress(FileNotFoundError):
            os.unlink("/dev/" + name)
        os.symlink(f"/proc/self/fd/{number}", "/dev/" + name)
    with contextlib.suppress(OSError):  # read by nobody, as on an installed system
        os.chmod("/dev/kmsg", 0o644)
    problems = []
    for path in order.get("expose", []):
        try:
            if os.path.lexists(path):
                expose(path)
        except (OSError, subprocess.SubprocessError) as error:
            problems.append(f"{path}: {error}")
    return {"release": os.uname().release, "python": sys.version.split()[0], "problems": problems}


def join(cgroup: str) -> None:
    with contextlib.suppress(OSError), open(cgroup + "/cgroup.procs", "w", encoding="ascii") as file:
        file.write("0")


def kill(process: subprocess.Popen[bytes], cgroup: str) -> None:
    """The command and all it started, whatever session they are in."""
    with contextlib.suppress(OSError), open(cgroup + "/cgroup.kill", "w", encoding="ascii") as file:
        file.write("1")
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def execute(number: int, order: dict[str, Any], given: bytes) -> tuple[dict[str, Any], bytes]:
    import pwd

    user = pwd.getpwnam(order["user"] or "root")
    environment = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": user.pw_dir,
        "USER": user.pw_name,
        "LOGNAME": user.pw_name,
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
        **order["env"],
    }
    cgroup = f"{CGROUPS}/lab-{number}"
    with contextlib.suppress(OSError):
        os.mkdir(cgroup)
    # Files, not pipes: a process left in the background may hold an output open without holding us up.
    with contextlib.ExitStack() as stack:
        stdin, stdout, stderr = (stack.enter_context(tempfile.TemporaryFile(dir=HOME)) for _ in range(3))
        stdin.write(given)
        stdin.seek(0)
        for file in (stdin, stdout, stderr):  # it may open /dev/stdout anew
            os.fchown(file.fileno(), user.pw_uid, user.pw_gid)
        process = subprocess.Popen(
            ["/bin/bash", "-c", order["command"]],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            cwd="/",
            env=environment,
            start_new_session=True,
            user=user.pw_uid,
            group=user.pw_gid,
            extra_groups=[],
            preexec_fn=lambda: join(cgroup),  # noqa: PLW1509 there are no threads here
        )
        status: int | None
        try:
            status = process.wait(order["timeout"])
        except subprocess.TimeoutExpired:
            kill(process, cgroup)
            process.wait()
            status = None
        else:
            status = status if status >= 0 else 128 - status
        with contextlib.suppress(OSError):  # busy: something is left in the background
            os.rmdir(cgroup)
        outputs = []
        for file in (stdout, stderr):
            file.seek(0)
            outputs.append(file.read())
    return {"status": status, "stdout": len(outputs[0]), "stderr": len(outputs[1])}, b"".join(outputs)


def main() -> None:
    port = open_port()
    with contextlib.suppress(Gone, OSError):
        send(port, prepare(receive(port)[0]))
        number = 0
        while True:
            order, given = receive(port)
            number += 1
            try:
                reply, payload = execute(number, order, given)
            except (OSError, KeyError, subprocess.SubprocessError) as error:
                reply, payload = {"error": f"{type(error).__name__}: {error}"}, b""
            send(port, reply, payload)
    with open("/proc/sysrq-trigger", "w", encoding="ascii") as file:
        file.write("o")


if __name__ == "__main__":
    main()
