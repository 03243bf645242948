# SPDX-License-Identifier: BSD-2-Clause
"""`ktlsctl libraries` and `ktlsctl stats` on real kernels, with sessions that are really in the kernel."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from ktlsctl.schema import report_schema
from tests.lab import DEBIAN12, DEBIAN13, PROJECT, Guest
from tests.libssls import WHEELS

pytestmark = pytest.mark.lab

VALIDATOR = jsonschema.Draft202012Validator(json.loads(report_schema()))

#: For what no kernel does in its own way.
on_one_host = pytest.mark.parametrize("lab_guest", [pytest.param(DEBIAN13, id="debian13")], indirect=True)

#: A session over loopback, with itself, that stays open; OP_ENABLE_KTLS is 8.
SERVER = """
import socket, ssl, subprocess, tempfile, threading, time
folder = tempfile.mkdtemp()
subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
                "/CN=x", "-keyout", folder + "/key", "-out", folder + "/cert"], check=True, stderr=subprocess.DEVNULL)
server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl._create_unverified_context()
server.load_cert_chain(folder + "/cert", folder + "/key")
server.options |= 8
server.maximum_version = ssl.TLSVersion.TLSv1_2
listener = socket.create_server(("127.0.0.1", 0))
held = []
def serve():
    held.append(accepted := server.wrap_socket(listener.accept()[0], server_side=True))
    accepted.sendall(b"x")
threading.Thread(target=serve).start()
held.append(connected := client.wrap_socket(socket.create_connection(listener.getsockname())))
assert connected.recv(1) == b"x"
"""

#: The system's libssl under another name, deleted, and another file in its place; then one that is there in a mount
#: namespace of the process's own only, as in a container.
REPLACED = """
import ctypes, os, shutil, subprocess
libssl = os.path.realpath("/usr/lib/x86_64-linux-gnu/libssl.so.3")
shutil.copy(libssl, "/tmp/lab-harmless.so")
ctypes.CDLL("/tmp/lab-harmless.so")
os.unlink("/tmp/lab-harmless.so")
open("/tmp/lab-harmless.so", "w").write("another file")
assert ctypes.CDLL(None).unshare(0x20000) == 0
os.mkdir("/tmp/lab-inside")
for command in ("mount --make-rprivate /", "mount -t tmpfs none /tmp/lab-inside"):
    subprocess.run(command.split(), check=True)
shutil.copy(libssl, "/tmp/lab-inside/libssl.so.3")
ctypes.CDLL("/tmp/lab-inside/libssl.so.3")
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """What was said while three processes ran: `server` has a session in the kernel, `replaced` a deleted libssl,
    `wheel` psycopg2 with its private one (0 where no interpreter fits it)."""

    server: int
    replaced: int
    wheel: int
    status: int
    libraries: Any
    before: dict[str, int]
    stats: Any
    file: str
    prometheus: str


def document(text: str) -> Any:
    found = json.loads(text)
    VALIDATOR.validate(found)
    return found


@pytest.fixture(scope="module")
def seen(lab_guest: Guest) -> Iterator[Seen]:
    guest = lab_guest
    guest.run("modprobe tls").check()

    def numbers() -> dict[str, int]:
        return dict(document(guest.run(f"{guest.ktlsctl} stats --json").check().out)["counters"])

    def begin(python: str, code: str) -> int:
        """A background process that has done `code`, and waits."""
        guest.run("cat > /tmp/lab-code.py", input=code.encode() + b"\nopen('/tmp/lab-done', 'w')\ntime.sleep(900)\n")
        guest.run(
            "rm -f /tmp/lab-done\n"
            f"(exec {python} /tmp/lab-code.py </dev/null >/tmp/lab-log 2>&1) & echo $! >/tmp/lab-pid\n"
            "for i in $(seq 120); do test -e /tmp/lab-done && exit; sleep 0.5; done; cat /tmp/lab-log >&2; exit 1",
            timeout=240,
        ).check()
        return int(guest.run("cat /tmp/lab-pid").out)

    before = numbers()
    server = begin("/usr/bin/python3", f"import time\n{SERVER}")
    replaced = begin("/usr/bin/python3", f"import time\n{REPLACED}")
    wheel = 0
    if guest.host is DEBIAN12:
        # the wheel is for the interpreter that runs the tests
        path = f"{guest.project}/{os.path.relpath(WHEELS, PROJECT)}/psycopg2-binary"
        wheel = begin(shlex.quote(sys.executable), f"import sys, time\nsys.path.insert(0, {path!r})\nimport psycopg2")
    try:
        said = guest.run(f"{guest.ktlsctl} libraries --json", timeout=180)
        stats = guest.run(f"{guest.ktlsctl} stats --json").check().out
        yield Seen(
            server,
            replaced,
            wheel,
            said.status,
            document(said.out),
            before,
            document(stats),
            guest.run("cat /proc/net/tls_stat").out,
            guest.run(f"{guest.ktlsctl} stats --format prometheus").check().out,
        )
    finally:
        pids = " ".join(str(pid) for pid in (server, replaced, wheel) if pid)
        guest.run(f"kill {pids}; rm -rf /tmp/lab-*; sleep 1; rmmod tls")


def process(report: Any, pid: int) -> tuple[Any, list[Any]]:
    """What is said of a process, and its libraries."""
    (found,) = [p for p in report["processes"] if p["pid"] == pid]
    return found, [report["libraries"][index] for index in found["libraries"]]


def test_a_program_with_a_session_in_the_kernel_has_kernel_tls_now_by_the_distributions_libssl(seen: Seen) -> None:
    found, (library,) = process(seen.libraries, seen.server)
    # both ends are its own; the client's end did not ask for it
    assert (found["ktls"], found["sockets"], found["name"]) == ("now", 1, "python3")
    assert Path(library["path"]).name.startswith("libssl.so.3")
    assert (library["built_with_ktls"], library["family"], library["deleted"]) == ("yes", "OpenSSL", False)
    assert library["package"] in ("libssl3:amd64", "libssl3t64:amd64")
    assert library["proof"].startswith("loopback handshakes")


def test_a_renamed_library_that_was_deleted_and_replaced_is_recognised_by_its_content(seen: Seen) -> None:
    found, libraries = process(seen.libraries, seen.replaced)
    (library,) = [x for x in libraries if x["path"] == "/tmp/lab-harmless.so"]
    assert (library["family"], library["deleted"], library["built_with_ktls"]) == ("OpenSSL", True, "yes")
    assert "not run" in library["proof"]
    assert (found["ktls"], found["sockets"]) == ("could", 0)
    assert (seen.status, seen.libraries["verdict"]["status"]) == (1, "warning")
    assert seen.libraries["verdict"]["first_broken"] == "libraries.replaced"


def test_a_library_that_only_a_container_sees_is_read_there_and_not_run(seen: Seen) -> None:
    _, libraries = process(seen.libraries, seen.replaced)
    (library,) = [x for x in libraries if x["path"] == "/tmp/lab-inside/libssl.so.3"]
    assert (library["family"], library["deleted"], library["built_with_ktls"]) == ("OpenSSL", False, "yes")
    assert "not run" in library["proof"]
    assert library["version"].startswith("OpenSSL 3.")


@pytest.mark.parametrize("lab_guest", [pytest.param(DEBIAN12, id="debian12")], indirect=True)
def test_psycopg2s_private_libssl_is_found_in_a_running_program_and_never_can(seen: Seen) -> None:
    _, libraries = process(seen.libraries, seen.wheel)
    (library,) = [x for x in libraries if "psycopg2_binary.libs/libssl" in x["path"]]
    assert (library["built_with_ktls"], library["origin"], library["package"]) == ("no", "wheel", "psycopg2_binary")
    assert library["reason"] == "it was built without kTLS"
    assert library["version"].startswith("OpenSSL 3.")


@on_one_host
def test_an_ordinary_user_learns_what_is_closed_to_him(lab_guest: Guest, seen: Seen) -> None:
    command = f"{lab_guest.ktlsctl} libraries --json --pid {seen.server}"
    said = lab_guest.run(command, user="nobody", timeout=180)
    report = document(said.out)
    assert (said.status, report["verdict"]["status"], report["processes"]) == (3, "unknown", [])
    (check,) = [c for c in report["checks"] if c["id"] == "libraries.seen"]
    assert "not for this user" in check["reason"]


def test_the_numbers_are_the_files_line_by_line_and_a_session_moves_them(seen: Seen) -> None:
    lines = [line.split() for line in seen.file.splitlines()]
    assert [[s["name"], str(s["value"])] for s in seen.stats["statistics"]] == lines
    assert seen.stats["counters"] == {name: int(value) for name, value in lines}
    for name in ("TlsTxSw", "TlsRxSw"):
        assert seen.stats["counters"][name] == seen.before[name] + 1
        gauge = name.replace("Tls", "TlsCurr")
        assert seen.stats["counters"][gauge] == seen.before[gauge] + 1
        assert f'direction="{name[3:5].lower()}",mode="sw"}} {seen.stats["counters"][name]}\n' in seen.prometheus
    kinds = {s["name"]: s["kind"] for s in seen.stats["statistics"]}
    assert "unknown" not in kinds.values()


@on_one_host
def test_another_network_namespace_has_numbers_of_its_own(lab_guest: Guest, seen: Seen) -> None:
    inside = document(lab_guest.run(f"unshare -n {lab_guest.ktlsctl} stats --json").check().out)
    assert set(inside["counters"].values()) == {0}
    assert "this network namespace only" in inside["checks"][0]["reason"]
    command = f"unshare -n {lab_guest.ktlsctl} stats --json --pid {seen.server}"
    assert document(lab_guest.run(command).check().out)["counters"] == seen.stats["counters"]


@on_one_host
def test_a_watch_ends_with_its_reader_and_its_documents_have_rates(lab_guest: Guest, seen: Seen) -> None:
    watched = lab_guest.run(f"{lab_guest.ktlsctl} stats --json --watch 0.2 | head -n 3", timeout=60).check().out
    first, second, third = map(document, watched.splitlines())
    assert first["statistics"][-1]["rate"] is None
    assert {s["rate"] for s in (*second["statistics"], *third["statistics"]) if s["kind"] == "counter"} == {0}
