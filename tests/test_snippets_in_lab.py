# SPDX-License-Identifier: BSD-2-Clause
"""Snippets on real kernels: nginx and Python do what they are told, and the kernel's counters say so."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from typing import Any

import pytest

from ktlsctl.snippets import BY_NAME
from tests.lab import DEBIAN13, Guest
from tests.test_check_in_lab import RESET

pytestmark = pytest.mark.lab

#: Runs in a guest: nginx with and without its snippet, then Python with its own, each seen in /proc/net/tls_stat.
SCRIPT = """
import json, os, socket, ssl, subprocess, sys, time

order = json.loads(sys.argv[1])
here = "/tmp/snippets"
os.makedirs(here, exist_ok=True)
subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
    "-keyout", f"{here}/key", "-out", f"{here}/cert", "-subj", "/CN=x"], check=True, capture_output=True)

def counted():
    with open("/proc/net/tls_stat") as file:
        return {line.split()[0]: int(line.split()[1]) for line in file}

def connect(context):
    for _ in range(400):
        try:
            return context.wrap_socket(socket.create_connection(("127.0.0.1", 8443), timeout=30))
        except ConnectionRefusedError:
            time.sleep(0.05)
    raise SystemExit("nginx does not listen")

def direction(sock, number):
    try:
        return len(sock.getsockopt(282, number, 4)) == 4
    except OSError:
        return False

def session(lines, prepare=""):
    temporary = "".join(f"{n}_temp_path {here}/{n};" for n in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    with open(f"{here}/nginx.conf", "w") as file:
        file.write(f"daemon off; master_process off; pid {here}/pid; error_log {here}/log; events {{ }}\\n"
            f"http {{ access_log off; {temporary}\\n{lines}\\nserver {{ listen 127.0.0.1:8443 ssl; root {here};\\n"
            f"ssl_certificate {here}/cert; ssl_certificate_key {here}/key; }} }}\\n")
    server = subprocess.Popen([*order["nginx"].split(), "-c", f"{here}/nginx.conf"])
    try:
        names = {}
        exec(prepare or "import ssl; context = ssl.create_default_context()", names)
        context = names["context"]
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        before = counted()
        with connect(context) as sock:
            sock.sendall(b"GET /cert HTTP/1.0\\r\\n\\r\\n")
            answer = sock.recv(15)
            client = direction(sock, 1)
        after = counted()
        return {"answer": answer.decode(), "client": client, "sent": after["TlsTxSw"] - before["TlsTxSw"]}
    finally:
        server.terminate()
        server.wait()

print(json.dumps({
    "on": session(order["on"]),
    "off": session(order["off"]),
    "python": session("", order["python"]),
    "openssl": ssl.OPENSSL_VERSION_INFO,
}))
"""


@pytest.fixture
def ready(lab_guest: Guest) -> Iterator[Guest]:
    lab_guest.run("modprobe tls").check()
    yield lab_guest
    lab_guest.run(RESET)


@pytest.mark.parametrize("lab_guest", [pytest.param(DEBIAN13, id="debian13")], indirect=True)
def test_nginx_and_python_get_what_their_snippets_ask_for(ready: Guest) -> None:
    order = {
        "nginx": ready.host.program("/usr/sbin/nginx"),
        # as in the http block of a distribution's nginx.conf
        "on": f"sendfile on;\n{BY_NAME['nginx'].lines}",
        "off": BY_NAME["nginx"].off,
        "python": BY_NAME["python"].lines,
    }
    command = f"python3 - {shlex.quote(json.dumps(order))} <<'END'\n{SCRIPT}\nEND"
    found: Any = json.loads(ready.run(command, timeout=120).check().out)
    assert found["on"] == {"answer": "HTTP/1.1 200 OK", "client": False, "sent": 1}
    assert found["off"] == {"answer": "HTTP/1.1 200 OK", "client": False, "sent": 0}
    major, minor, _, patch, _ = found["openssl"]
    sound = (major, minor, patch) >= {(3, 5): (3, 5, 7), (3, 6): (3, 6, 3)}.get((major, minor), (4, 0, 1))
    assert found["python"] == {"answer": "HTTP/1.1 200 OK", "client": sound, "sent": int(sound)}
