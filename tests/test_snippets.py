# SPDX-License-Identifier: BSD-2-Clause
"""Snippets: what is printed is what the real programs take, and what is said of this host is true."""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktlsctl import advisories
from ktlsctl.cli import cli
from ktlsctl.endangered import inventory
from ktlsctl.host import CapturedHost
from ktlsctl.model import About, Attempt, Os, Outcome
from ktlsctl.render import snippet_text
from ktlsctl.schema import report_schema
from ktlsctl.snippets import BY_NAME, SNIPPETS, Found, Snippet, Standing, look
from tests.datapath.tls import certificate
from tests.lab import DEBIAN12
from tests.lab.fixtures import need
from tests.libssls import compiled
from tests.test_cli import ktlsctl
from tests.test_endangered import library

LINUX = About(Os.LINUX, "6.12", "x86_64", True)


def host(answers: dict[tuple[str, ...], str], *, stderr: bool = False) -> CapturedHost:
    stream, other = ("stderr", "stdout") if stderr else ("stdout", "stderr")
    said = {
        ("run", json.dumps(argv)): Attempt.ran({"status": 0, stream: text, other: ""}) for argv, text in answers.items()
    }
    return CapturedHost(LINUX, said, Outcome.ABSENT)


PYTHON = BY_NAME["python"].version[0]
STUNNEL = (
    "Initializing inetd mode configuration\nstunnel 5.68 on x86_64-pc-linux-gnu platform\n"
    "Compiled with OpenSSL 3.0.9 30 May 2023\nRunning  with OpenSSL 3.0.19 27 Jan 2026\n"
)

#: What programs of several distributions say of themselves.
ANSWERS: list[tuple[str, tuple[str, ...], str, Standing, str]] = [
    ("nginx", ("nginx", "-v"), "nginx version: nginx/1.22.1\n", Standing.READY, "1.22.1"),
    ("nginx", ("nginx", "-v"), "nginx version: nginx/1.18.0 (Ubuntu)\n", Standing.TOO_OLD, "1.18.0"),
    ("nginx", ("nginx", "-v"), "nginx version: openresty/1.21.4.1\n", Standing.READY, "1.21.4"),
    ("haproxy", ("haproxy", "-v"), "HAProxy version 2.6.12-1+deb12u4 2026/10/17\n", Standing.TOO_OLD, "2.6.12"),
    ("haproxy", ("haproxy", "-v"), "HAProxy version 3.4.7-1 2026/09/01\n", Standing.READY, "3.4.7"),
    ("haproxy", ("haproxy", "-v"), "HA-Proxy version 2.2.9-2+deb11u7 2026/02/13\n", Standing.TOO_OLD, "2.2.9"),
    ("apache", ("apache2", "-v"), "Server version: Apache/2.4.71 (Debian)\n", Standing.NEVER, "2.4.71"),
    ("apache", ("httpd", "-v"), "Server version: Apache/2.4.62 (Rocky)\n", Standing.NEVER, "2.4.62"),
    ("lighttpd", ("lighttpd", "-v"), "lighttpd/1.4.69 (ssl) - a light server\n", Standing.READY, "1.4.69"),
    ("stunnel", ("stunnel", "-version"), STUNNEL, Standing.HARMFUL, "5.68"),
    ("stunnel", ("stunnel4", "-version"), STUNNEL.replace("3.0.19", "3.5.7"), Standing.READY, "5.68"),
    ("stunnel", ("stunnel", "-version"), "stunnel 5.7\nCompiled/running with OpenSSL 3.6.1\n", Standing.TOO_OLD, "5.7"),
    ("stunnel", ("stunnel", "-version"), "stunnel 5.72\nCompiled/running with OpenSSL 3.6.1", Standing.HARMFUL, "5.72"),
    ("stunnel", ("stunnel", "-version"), "stunnel 5.56 on x\n", Standing.TOO_OLD, "5.56"),
    ("stunnel", ("stunnel", "-version"), STUNNEL.replace("3.0.19", "1.1.1w"), Standing.TOO_OLD, "5.68"),
    ("python", PYTHON, "3.9.2 OpenSSL 1.1.1w  11 Sep 2023\n", Standing.TOO_OLD, "3.9.2"),
    ("python", PYTHON, "3.12.1 LibreSSL 3.8.2\n", Standing.NEVER, "3.12.1"),
    ("python", PYTHON, "3.11.2 OpenSSL 3.0.19 27 Jan 2026\n", Standing.HARMFUL, "3.11.2"),
    ("python", PYTHON, "3.13.5 OpenSSL 3.5.7 9 Jun 2026\n", Standing.READY, "3.13.5"),
    ("python", PYTHON, "3.14.0rc2 OpenSSL 4.0.1 9 Jun 2026\n", Standing.READY, "3.14.0"),
    ("gnutls", ("gnutls-cli", "--version"), "gnutls-cli 3.7.9\n", Standing.UNKNOWN, "3.7.9"),
    ("postgresql", ("psql", "--version"), "psql (PostgreSQL) 15.18 (Debian 15.18-1)\n", Standing.NEVER, "15.18"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "argv", "text", "standing", "release"), ANSWERS)
@pytest.mark.parametrize("stderr", [False, True])
def test_what_a_program_says_of_itself_is_understood(
    name: str, argv: tuple[str, ...], text: str, standing: Standing, release: str, stderr: bool
) -> None:
    found = look(host({argv: text}, stderr=stderr), BY_NAME[name])
    assert (found.standing, found.release) == (standing, release)
    assert bool(found.reason) is (standing is not Standing.READY)


def test_what_is_not_there_is_absent_and_what_does_not_answer_is_unknown() -> None:
    assert look(host({}), BY_NAME["nginx"]).standing is Standing.ABSENT
    assert look(host({("nginx", "-v"): "hello\n"}), BY_NAME["nginx"]) == Found(
        Standing.UNKNOWN, reason="nginx did not say its version"
    )
    slow: Attempt[Any] = Attempt(Outcome.TIMEOUT, reason="no answer within 5 s")
    hanging = CapturedHost(LINUX, {("run", json.dumps(("nginx", "-v"))): slow}, Outcome.ABSENT)
    assert look(hanging, BY_NAME["nginx"]) == Found(Standing.UNKNOWN, reason="no answer within 5 s")


@given(st.sampled_from(SNIPPETS), st.text(max_size=80) | st.sampled_from([text for _, _, text, _, _ in ANSWERS]))
def test_any_answer_of_a_program_is_taken(snippet: Snippet, text: str) -> None:
    found = look(host({snippet.version[0]: text}), snippet)
    assert found.standing is not Standing.ABSENT
    assert snippet_text.render(snippet, found)


def test_every_program_that_is_told_how_has_its_lines_and_a_way_back() -> None:
    for snippet in SNIPPETS:
        assert bool(snippet.lines) is bool(snippet.off) is bool(snippet.where) is (snippet.since is not None)
        assert all(step.command and step.shows for step in snippet.verify)
        assert snippet.verify


def test_whoever_runs_on_freebsd_too_is_told_of_its_counters_and_of_no_tool_of_linux_alone() -> None:
    for snippet in SNIPPETS:
        commands = " ".join(step.command for step in snippet.verify)
        linux_alone = "on Linux" in snippet.needs
        assert ("/proc/net/tls_stat" in commands) is ("kern.ipc.tls.stats" in commands) or linux_alone, snippet.name
        assert not re.search(r"systemctl|/usr/lib/\*/|/etc/(lighttpd|stunnel)", commands), snippet.name
    (note,) = (note for note in BY_NAME["lighttpd"].notes if "FreeBSD" in note)
    named = {a.id for a in advisories.TABLE if a.id.startswith("freebsd.sendfile-")}
    assert named
    assert all(identity in note for identity in named)


def test_the_command_line_offers_what_there_is() -> None:
    (argument,) = (p for p in cli.commands["snippet"].params if p.name == "application")
    assert list(argument.type.choices) == list(BY_NAME)  # type: ignore[attr-defined]


def test_nginxs_lines_repeat_no_directive_of_a_distributions_http_block() -> None:
    """nginx refuses a second one: Debian's and Fedora's nginx.conf have these, and conf.d stands in the same block."""
    stock = {"sendfile", "tcp_nopush", "tcp_nodelay", "keepalive_timeout", "types_hash_max_size", "ssl_protocols"}
    assert stock.isdisjoint(line.split()[0] for line in BY_NAME["nginx"].lines.splitlines())


# ---- what is printed


@pytest.mark.parametrize("name", ["", *BY_NAME])
def test_the_text_is_readable_in_80_columns_and_holds_the_lines_as_they_are(name: str) -> None:
    done = ktlsctl("snippet", *([name] if name else []))
    assert (done.returncode, done.stderr) == (0, "")
    assert [line for line in done.stdout.splitlines() if len(line) > 80] == []
    if name:
        assert all(f"    {line}".rstrip() in done.stdout for line in BY_NAME[name].lines.splitlines())
    else:
        assert all(other in done.stdout for other in BY_NAME)


@pytest.mark.parametrize("name", ["", "nginx", "python", "apache"])
def test_the_document_is_valid_and_has_everything(name: str) -> None:
    done = ktlsctl("snippet", *([name] if name else []), "--json")
    document = json.loads(done.stdout)
    schema = json.loads(report_schema())
    jsonschema.validate(document, schema)
    assert [each["name"] for each in document["snippets"]] == ([name] if name else list(BY_NAME))
    described = schema["$defs"]["snippet"]
    for each in document["snippets"]:
        assert set(each) == set(described["required"]) == set(described["properties"])
        assert each["lines"] == (BY_NAME[each["name"]].lines or None)
    assert {value["const"] for value in described["properties"]["standing"]["oneOf"]} == set(Standing)


def test_the_lines_alone_can_go_into_a_file() -> None:
    assert ktlsctl("snippet", "nginx", "--format", "lines").stdout == BY_NAME["nginx"].lines
    nothing = ktlsctl("snippet", "apache", "--format", "lines")
    assert (nothing.returncode, nothing.stdout) == (3, "")
    assert "nothing to write for Apache" in nothing.stderr
    assert ktlsctl("snippet", "--format", "lines").returncode == 3
    assert ktlsctl("snippet", "iis").returncode == 3


def test_who_is_hurt_by_kernel_tls_is_warned_of_it() -> None:
    hurt = {"python", "stunnel", "lighttpd"}
    packages = "".join(f"{name} 1.0\n" for name in ("lighttpd", "stunnel4", "redis"))
    answers = {("read", "/var/lib/dpkg/status"): Attempt.ran(packages.encode())}
    found = inventory(CapturedHost(LINUX, answers, Outcome.ABSENT), library()).endangered
    assert {x.name for x in found} - {"redis"} <= hurt
    for snippet in SNIPPETS:
        assert any("send wrong data" in note for note in snippet.notes) is (snippet.name in hurt)


# ---- real programs


def wants(openssl: tuple[int, ...]) -> bool:
    """Whether the Python snippet, run by this Python, sets the option under an OpenSSL of this version."""
    code = (
        f"import ssl; ssl.OPENSSL_VERSION_INFO = {openssl!r}\n"
        f"{BY_NAME['python'].lines}\nprint(context.options & 8)\n"
        f"{BY_NAME['python'].off}\nassert not context.options & 8"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout == "8\n"


@pytest.mark.parametrize(
    ("openssl", "sound"),
    [
        ((3, 0, 0, 22, 0), False),
        ((3, 4, 0, 9, 0), False),
        ((3, 5, 0, 6, 0), False),
        ((3, 5, 0, 7, 0), True),
        ((3, 6, 0, 2, 0), False),
        ((3, 6, 0, 3, 0), True),
        ((4, 0, 0, 0, 0), False),
        ((4, 0, 0, 1, 0), True),
        ((4, 1, 0, 0, 0), True),
        ((1, 1, 1, 11, 15), False),
    ],
)
def test_pythons_snippet_asks_for_it_only_where_the_library_is_sound(openssl: tuple[int, ...], sound: bool) -> None:
    assert wants(openssl) is sound


WITNESS = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static char seen[4096];

/* kept at once: nginx empties its environment */
__attribute__((constructor)) static void keep(void) {
    const char *path = getenv("WITNESS");
    if (path != NULL && strlen(path) < sizeof(seen)) strcpy(seen, path);
}

/* SOL_TLS: the library hands a key to the kernel */
int setsockopt(int fd, int level, int name, const void *value, socklen_t size) {
    if (level == 282 && seen[0] != 0) {
        int file = open(seen, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (file >= 0) {
            if (write(file, name == 1 ? "tx " : "rx ", 3) != 3) abort();
            close(file);
        }
    }
    return syscall(SYS_setsockopt, fd, level, name, value, size);
}
"""


@pytest.fixture(scope="module")
def programs() -> Path:
    """nginx of Debian 12, unpacked for the lab."""
    return need(DEBIAN12).directory / "programs"


@pytest.fixture(scope="module")
def witness(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Preloaded into a program, it notes each key that is handed to the kernel, whatever the kernel answers."""
    return compiled(tmp_path_factory.mktemp("witness"), WITNESS, name="witness.so")


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificate(tmp_path_factory.mktemp("certificate"))


def nginx(programs: Path, folder: Path, pem: Path, lines: str) -> tuple[list[str], dict[str, str]]:
    """The command of an nginx whose http block has these lines, and its environment."""
    temporary = "".join(
        f"{name}_temp_path {folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    configuration = folder / "nginx.conf"
    configuration.write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/log;\nevents {{ }}\n"
        f"http {{ access_log off; sendfile on;\n{temporary}{lines}\n"
        f"server {{ listen 127.0.0.1:PORT ssl; root {folder};\n"
        f"ssl_certificate {pem}; ssl_certificate_key {pem}; }} }}\n".replace("PORT", str(free_port()))
    )
    binary = str(programs / "usr" / "sbin" / "nginx")
    libraries = str(programs / "usr" / "lib" / "x86_64-linux-gnu")
    return [binary, "-c", str(configuration)], {**os.environ, "LD_LIBRARY_PATH": libraries}


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
        return port


def answered(port: int, process: subprocess.Popen[bytes]) -> bytes:
    """What the server says over TLS 1.2, once it listens."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    for _ in range(200):
        assert process.poll() is None, "nginx ended"
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=20) as raw, context.wrap_socket(raw) as tls:
                tls.sendall(b"GET /nginx.conf HTTP/1.0\r\n\r\n")
                return tls.recv(1 << 14)
        except ConnectionRefusedError:
            process_wait(process)
    raise AssertionError("nginx does not listen")


def process_wait(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(0.05)
    except subprocess.TimeoutExpired:
        return


@pytest.mark.lab
@pytest.mark.parametrize(("which", "handed"), [("lines", {"tx", "rx"}), ("off", set()), ("", set())])
def test_nginx_takes_its_snippet_and_does_what_it_says(
    which: str, handed: set[str], programs: Path, witness: str, pem: Path, tmp_path: Path
) -> None:
    lines = getattr(BY_NAME["nginx"], which) if which else ""
    command, environment = nginx(programs, tmp_path, pem, lines)
    tested = subprocess.run([*command, "-t"], env=environment, capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stderr
    port = int((tmp_path / "nginx.conf").read_text().partition("127.0.0.1:")[2].partition(" ")[0])
    seen = tmp_path / "seen"
    process = subprocess.Popen(command, env={**environment, "LD_PRELOAD": witness, "WITNESS": str(seen)})
    try:
        assert b"200 OK" in answered(port, process)
    finally:
        process.terminate()
        process.wait(20)
    assert set(seen.read_text().split() if seen.exists() else ()) == handed
