# SPDX-License-Identifier: BSD-2-Clause
"""`ktlsctl sessions` from the command line: arguments, exit statuses, watching until interrupted, closed pipes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from typing import Any

import jsonschema
import pytest

from ktlsctl import cli, host, sessions
from ktlsctl.model import Mode
from ktlsctl.schema import report_schema
from tests import live
from tests.live import BLIND, GCM, REFUSED, sock

SCHEMA = json.loads(report_schema())

#: ktlsctl on a captured host with one session, as a process of its own
PROGRAM = """
import signal, sys
from ktlsctl import cli, host
from tests import live
# a test run in the background ignores it, and so would its children
signal.signal(signal.SIGINT, signal.default_int_handler)
host.LiveHost = lambda: live.host(v4=[live.sock(1, live.GCM)])
sys.exit(cli.run(sys.argv[1:]))
"""


def asks(monkeypatch: pytest.MonkeyPatch, **given: Any) -> None:
    monkeypatch.setattr(host, "LiveHost", lambda: live.host(**given))


@pytest.mark.parametrize(
    ("given", "arguments", "status"),
    [
        ({"v4": [sock(1, GCM)]}, [], 0),
        ({}, [], 0),
        ({"v4": [sock(1, REFUSED)]}, [], 1),
        ({"v4": [sock(1, REFUSED)]}, ["--failed"], 1),
        ({"v4": [sock(1, GCM), sock(2, REFUSED)]}, ["--tx", "software"], 0),
        ({"sight": BLIND}, [], 3),
        ({"sight": BLIND}, ["--summary"], 0),
        ({"files": {"/proc/modules": b""}}, ["--summary"], 0),
        ({"files": {}}, ["--summary"], 3),
        ({"v4": [sock(1, GCM)], "extra": {("ask", "process 77"): False}}, ["--pid", "77"], 3),
    ],
)
def test_the_exit_status_says_what_was_seen(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], given: Any, arguments: list[str], status: int
) -> None:
    asks(monkeypatch, **given)
    assert cli.run(["sessions", *arguments]) == status
    assert cli.run(["sessions", "--json", *arguments]) == status
    out, err = capfd.readouterr()
    assert err == ""
    jsonschema.validate(json.loads(out[out.index("{") :]), SCHEMA)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--pid", "0"],
        ["--pid", "x"],
        ["--port", "65536"],
        ["--cipher", "rot13"],
        ["--tx", "hardware"],
        ["--watch", "0"],
        ["--watch", "soon"],
        ["--all", "--failed"],
        ["--summary", "--pid", "1"],
        ["--summary", "--all-netns"],
        ["--format", "xml"],
        ["surplus"],
    ],
)
def test_nonsense_is_a_sentence_and_a_document_where_one_was_asked_for(
    capfd: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert cli.run(["sessions", *arguments]) == 3
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("ktlsctl: ")
    assert "Traceback" not in err
    assert cli.run(["sessions", "--json", *arguments]) == 3
    jsonschema.validate(json.loads(capfd.readouterr().out), SCHEMA)


def test_filters_are_taken_as_they_are_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def gather(_: object, query: sessions.Query) -> sessions.Facts:
        asked.append(query)
        return sessions.Facts(())

    monkeypatch.setattr(sessions, "gather", gather)
    line = "--pid 1 --pid 2 --process nginx --port 443 --cipher aes-128-gcm --tx nic --rx none --all-netns --all"
    assert cli.run(["sessions", *line.split()]) == 0
    assert asked == [
        sessions.Query(
            everything=True, all_netns=True, pids=frozenset({1, 2}), processes=frozenset({"nginx"}),
            ports=frozenset({443}), ciphers=frozenset({"AES-128-GCM"}), tx=Mode.NIC, rx=Mode.NONE,
        )
    ]  # fmt: skip


def test_top_without_a_terminal_names_what_to_use_instead() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "top"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert "sessions --watch" in done.stderr


# ---- watching


def watching(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "sessions", "--watch", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def lines_of(child: subprocess.Popen[str], count: int) -> list[str]:
    assert child.stdout is not None
    timer = threading.Timer(60, child.kill)  # a hanging test ends
    timer.start()
    lines = [child.stdout.readline() for _ in range(count)]
    timer.cancel()
    return lines


def test_a_watch_prints_one_document_a_line_until_it_is_interrupted() -> None:
    with watching("0.1", "--json") as child:
        documents = [json.loads(line) for line in lines_of(child, 3)]
        child.send_signal(signal.SIGINT)
        assert child.wait(60) == 0
        assert child.stderr is not None
        assert child.stderr.read() == ""
    for document in documents:
        jsonschema.validate(document, SCHEMA)
        assert len(document["sessions"]) == 1


def test_a_watch_of_the_summary_is_one_line_each_with_its_time() -> None:
    with watching("0.1", "--summary") as child:
        lines = lines_of(child, 2)
        child.send_signal(signal.SIGINT)
        assert child.wait(60) == 0
    assert all("Z  TX 2 software 0 nic  RX 0 software 0 nic  opened 9" in line for line in lines)
    assert lines[1].rstrip().endswith("opened 9 (+0)  errors 0 (+0)")


def test_a_watch_in_text_is_blocks_with_their_time() -> None:
    with watching("--color", "never") as child:  # the seconds may be left out
        lines = lines_of(child, 3)
        child.send_signal(signal.SIGINT)
        assert child.wait(60) == 0
    assert lines[0].endswith("Z\n")
    assert lines[1:] == ["\n", "no process (the kernel's own, or of another PID namespace)\n"]


def test_a_watch_ends_when_nobody_reads_it_any_more() -> None:
    with watching("0.1", "--json") as child:
        lines_of(child, 1)
        assert child.stdout is not None
        child.stdout.close()
        assert child.wait(60) == 0
        assert child.stderr is not None
        assert child.stderr.read() == ""


def test_an_interrupt_before_the_first_list_is_an_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> sessions.Facts:
        raise KeyboardInterrupt

    monkeypatch.setattr(sessions, "gather", interrupted)
    assert cli.run(["sessions"]) == 130


def test_listing_loads_no_tls_library_and_none_of_the_check() -> None:
    program = (
        f"{PROGRAM.replace('sys.exit', '')}\n"
        "loaded = {m for m in sys.modules if m in ('ssl', '_ssl', 'cffi', 'OpenSSL', 'psutil', 'tabulate')"
        " or m in ('ktlsctl.probe', 'ktlsctl.openssl', 'ktlsctl.advisories')}\n"
        "print(*loaded, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "sessions"], capture_output=True, text=True, check=True, env={**os.environ}
    )
    assert done.stderr == "\n"
