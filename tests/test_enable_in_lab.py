# SPDX-License-Identifier: BSD-2-Clause
"""enable, disable and undo on real kernels: from a bare one to kernel TLS now and after a second boot, and back.

One story a host, told once in two guests; each test looks at what was seen on the way.
"""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field
from typing import Any

import jsonschema
import pytest

from ktlsctl.configure.edits import BLOCK_DROP_IN, LOAD_DROP_IN
from ktlsctl.configure.linux import BLOCK_FILE, LOAD_FILE
from ktlsctl.schema import report_schema
from tests.lab import DEBIAN12, SID, Guest, LabHost, boot
from tests.lab.fixtures import EVERY_HOST, need

pytestmark = pytest.mark.lab

OPENSSL_CNF = "/etc/ssl/openssl.cnf"

#: Everything below /etc: kind, permissions, owner, link target, content.
TREE = (
    "cd /etc; { find . -printf '%p %y %m %U:%G %l\\n' | sort; find . -type f -print0 | sort -z | xargs -0 sha256sum; }"
)

#: A program that never heard of kernel TLS; prints what ss shows of its connection and what the counters did.
PROGRAM = r"""
import socket, ssl, subprocess, threading

def counters():
    with open("/proc/net/tls_stat") as file:
        return {name: int(value) for name, value in (line.split() for line in file)}

subprocess.run("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout /tmp/key -out /tmp/cert"
               " -subj /CN=x -days 1", shell=True, check=True, capture_output=True)
server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
server.load_cert_chain("/tmp/cert", "/tmp/key")
client = ssl.create_default_context(cafile="/tmp/cert")
client.check_hostname = False
listener = socket.create_server(("127.0.0.1", 0))
before = counters()

def serve():
    with server.wrap_socket(listener.accept()[0], server_side=True) as sock:
        sock.sendall(sock.recv(100)[::-1])
        sock.recv(1)

threading.Thread(target=serve, daemon=True).start()
with client.wrap_socket(socket.create_connection(listener.getsockname())) as sock:
    sock.sendall(b"olleh")
    assert sock.recv(100) == b"hello"
    print(subprocess.run(["ss", "-tienH"], capture_output=True, text=True).stdout)
after = counters()
print("opened", after["TlsTxSw"] - before["TlsTxSw"])
"""

#: As root, who may have the module loaded by asking for it.
ASK = """python3 -c "
import socket
s = socket.create_server(('127.0.0.1', 0)); c = socket.create_connection(s.getsockname())
try: c.setsockopt(6, 31, b'tls'); print('accepted')
except OSError as error: print(error.errno)
" """


@dataclass
class Seen:
    """What one host said and did, by step."""

    host: LabHost
    documents: dict[str, tuple[int, Any]] = field(default_factory=dict)
    said: dict[str, str] = field(default_factory=dict)
    trees: dict[str, str] = field(default_factory=dict)

    @property
    def sound(self) -> bool:
        """Whether this library may be switched as a whole: Debian 12's 3.0 repeats writes from a wrong buffer."""
        return self.host != DEBIAN12


class Teller:
    def __init__(self, guest: Guest, seen: Seen) -> None:
        self._guest = guest
        self._seen = seen
        self.executable = guest.ktlsctl

    def ktlsctl(self, step: str, *arguments: str, user: str | None = None) -> Any:
        result = self._guest.run(f"{self._guest.ktlsctl} {shlex.join(arguments)} --json", timeout=300, user=user)
        document = json.loads(result.out)
        jsonschema.validate(document, json.loads(report_schema()))
        self._seen.documents[step] = (result.status, document)
        return document

    def run(self, step: str, command: str) -> str:
        result = self._guest.run(command, timeout=180)
        self._seen.said[step] = result.out + result.err
        return result.out

    def tree(self, step: str) -> None:
        self._seen.trees[step] = self._guest.run(TREE).check().out


#: What systemd runs at every boot.
MODULES_LOAD = "/lib/systemd/systemd-modules-load"

LOADED = "grep -q '^tls ' /proc/modules && echo loaded || echo absent"


def first_boot(tell: Teller, seen: Seen) -> None:
    tell.tree("bare")
    tell.ktlsctl("check bare", "check")
    tell.ktlsctl("nobody", "enable", "--now", user="nobody")
    if seen.host == SID:  # check --fix is the same plan, and judges the host once more: one host speaks for it
        tell.ktlsctl("enable", "check", "--fix", "--yes")
        seen.documents["check enabled"] = seen.documents["enable"]
    else:
        tell.ktlsctl("enable", "enable", "--now", "--persist", "--yes")
        tell.ktlsctl("check enabled", "check")
    tell.run("loaded by enable", LOADED)
    tell.tree("enabled")
    refused = tell.ktlsctl("library", "enable", "--library", "--yes")
    tell.tree("refused")
    if seen.sound:
        names = re.findall(r"--despite (\S+)", " ".join(refused["plan"]["refusals"]).replace(",", " "))
        if names:
            tell.ktlsctl("library accepted", "enable", "--library", "--yes", *(f"--despite={name}" for name in names))
        tell.run("program", f"cat > /tmp/program.py <<'END'\n{PROGRAM}\nEND\npython3 /tmp/program.py")
    tell.run("files", f"cat {LOAD_FILE}")
    tell.run("openssl.cnf", f"cat {OPENSSL_CNF}")
    tell.run("bonding", "modprobe bonding; echo status $?")
    tell.ktlsctl("disable", "disable", "--now", "--persist", *(["--library"] if seen.sound else []), "--yes")
    tell.run("bonding gone", "rmmod bonding; echo status $?")
    tell.ktlsctl("disable now", "disable", "--now", "--yes")
    tell.run("loaded after disable", LOADED)
    tell.run("asked after disable", ASK)
    tell.run("block", f"cat {BLOCK_FILE}; ls /etc/modules-load.d")
    tell.run("bonding after disable", "modprobe bonding && modprobe -r bonding; modprobe -r tls; echo status $?")
    history = tell.ktlsctl("history", "history")
    for run in reversed(history["runs"]):
        tell.ktlsctl(f"undo {run['id']}", "undo", "--yes")
    tell.run("loaded after undo", LOADED)
    tell.tree("undone")
    tell.run("history undone", f"{tell.executable} history")


def second_boot(tell: Teller, seen: Seen) -> None:
    files = {LOAD_FILE: seen.said["files"]} | ({OPENSSL_CNF: seen.said["openssl.cnf"]} if seen.sound else {})
    tell.run("directories", "mkdir -p /etc/modules-load.d /etc/ssl")
    for path, content in files.items():
        tell.run(f"write {path}", f"cat > {path} <<'END'\n{content.removesuffix(chr(10))}\nEND")
    tell.run("loaded at boot", f"{seen.host.program(MODULES_LOAD)} 2>&1; {LOADED}")
    tell.ktlsctl("enable after boot", "enable", "--now", "--persist")
    if seen.sound:
        tell.run("program after boot", f"cat > /tmp/program.py <<'END'\n{PROGRAM}\nEND\npython3 /tmp/program.py")


@pytest.fixture(scope="module", params=EVERY_HOST)
def seen(request: pytest.FixtureRequest) -> Seen:
    found = Seen(need(request.param))
    with boot(found.host) as guest:
        first_boot(Teller(guest, found), found)
    with boot(found.host) as guest:
        second_boot(Teller(guest, found), found)
    return found


def test_enable_turns_a_bare_kernel_from_critical_to_ok(seen: Seen) -> None:
    status, report = seen.documents["check bare"]
    assert (status, report["verdict"]["first_broken"]) == (2, "linux.module.tls")
    status, document = seen.documents["enable"]
    assert (status, document["plan"]["now"], document["plan"]["boot"]) == (0, "changed", "changed")
    assert [c["id"] for c in document["changes"]] == ["now.module.tls", "boot.modules-load"]
    assert seen.said["loaded by enable"] == "loaded\n"
    assert seen.said["files"].encode() == LOAD_DROP_IN
    status, report = seen.documents["check enabled"]
    assert (status, report["verdict"]["status"]) == (0, "ok")


def test_an_ordinary_user_gets_the_plan_and_the_command_for_root(seen: Seen) -> None:
    status, document = seen.documents["nobody"]
    assert (status, document["plan"]["now"]) == (3, "to_change")
    assert "ktlsctl enable --now --yes" in document["errors"][0]


def test_the_library_is_refused_where_it_would_send_wrong_data_or_break_what_is_installed(seen: Seen) -> None:
    status, document = seen.documents["library"]
    said = json.dumps(document["obstacles"])
    if seen.sound and not document["plan"]["refusals"]:
        assert (status, document["plan"]["library"]) == (0, "changed")
        return
    assert status == 3
    assert document["plan"]["library"] == "to_change"
    assert seen.trees["refused"] == seen.trees["enabled"]
    if not seen.sound:
        assert "--despite python" in " ".join(document["plan"]["refusals"])
        assert "SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER" in said
        assert "seen here just now" in said
    assert "ktlsctl snippet" in said


def test_a_default_python_program_gets_kernel_tls_where_the_library_is_sound(seen: Seen) -> None:
    if not seen.sound:
        assert "program" not in seen.said
        return
    accepted = seen.documents.get("library accepted", seen.documents["library"])
    assert (accepted[0], accepted[1]["plan"]["library"]) == (0, "changed")
    for said in (seen.said["program"], seen.said["program after boot"]):
        assert len(re.findall(r"tcp-ulp-tls .*txconf: sw", said)) == 2, said
        assert "opened 2" in said


def test_a_second_boot_with_the_written_files_keeps_it_and_nothing_is_left_to_change(seen: Seen) -> None:
    assert seen.said["loaded at boot"].endswith("loaded\n"), seen.said["loaded at boot"]
    status, document = seen.documents["enable after boot"]
    assert (status, document["changes"], document["plan"]["run"]) == (0, [], None)
    assert (document["plan"]["now"], document["plan"]["boot"]) == ("as_wanted", "as_wanted")


def test_what_holds_the_module_is_named_and_it_is_not_torn_away_while_the_rest_is_done(seen: Seen) -> None:
    assert seen.said["bonding"].endswith("status 0\n")
    status, document = seen.documents["disable"]
    assert (status, document["plan"]["now"], document["plan"]["boot"]) == (1, "blocked", "changed")
    assert any("bonding needs it" in obstacle["summary"] for obstacle in document["obstacles"])
    assert seen.said["bonding gone"] == "status 0\n"


def test_disable_takes_it_away_and_leaves_bonding_alone(seen: Seen) -> None:
    status, document = seen.documents["disable now"]
    assert (status, document["plan"]["now"], document["plan"]["boot"]) == (0, "changed", "not_asked")
    assert seen.said["loaded after disable"] == "absent\n"
    assert seen.said["asked after disable"] == "2\n"  # ENOENT, although root asked
    block = seen.said["block"].encode()
    assert block.startswith(BLOCK_DROP_IN)
    assert b"ktlsctl.conf" not in block[len(BLOCK_DROP_IN) :]
    assert seen.said["bonding after disable"].endswith("status 0\n")


def test_undo_restores_every_byte_of_etc_and_the_kernel(seen: Seen) -> None:
    undone = {step: status for step, (status, _) in seen.documents.items() if step.startswith("undo ")}
    assert undone
    assert set(undone.values()) == {0}, undone
    assert seen.trees["undone"] == seen.trees["bare"]
    assert seen.trees["enabled"] != seen.trees["bare"]
    assert seen.said["loaded after undo"] == "absent\n"
    lines = seen.said["history undone"].splitlines()
    assert len([line for line in lines if " undone " in line]) == len(undone)
