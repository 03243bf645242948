# SPDX-License-Identifier: BSD-2-Clause
"""`ktlsctl sessions` on real kernels: real programs' sockets, field by field as `ss` has them, and more."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jsonschema
import pytest

from ktlsctl.schema import report_schema
from tests.lab import DEBIAN12, SID, Guest

pytestmark = pytest.mark.lab

DIRECTORY = "/tmp/stage"
SS_VERSIONS = {"1.2": "TLSv1.2", "1.3": "TLSv1.3"}
SS_CIPHERS = {"aes-gcm-128": "AES-128-GCM", "aes-gcm-256": "AES-256-GCM"}
SS_MODES = {"none": "none", "sw": "software", "hw": "nic"}

Ends = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look at the staged sockets gave."""

    guest: Guest
    pids: Any
    ss: dict[Ends, str]
    status: int
    document: Any

    @property
    def sessions(self) -> list[Any]:
        return [s for s in self.document["sessions"] if s["network_namespace"]["own"]]

    def of(self, pid: int) -> list[Any]:
        return [s for s in self.document["sessions"] if pid in [o["pid"] for o in s["owners"]]]


def ends(session: Any) -> Ends:
    def shown(end: Any) -> str:
        return f"[{end['address']}]:{end['port']}" if ":" in end["address"] else f"{end['address']}:{end['port']}"

    return shown(session["local"]), shown(session["remote"])


def listed(guest: Guest, *arguments: str, user: str | None = None) -> tuple[int, Any]:
    result = guest.run(f"{guest.ktlsctl} sessions --json {' '.join(arguments)}", user=user, timeout=120)
    assert result.err == ""
    document = json.loads(result.out)
    jsonschema.validate(document, json.loads(report_schema()))
    return result.status, document


# Before the stage is set: a fixture of the module stays until its end.
def test_without_a_socket_there_is_none_and_looking_loads_no_module(lab_guest: Guest) -> None:
    lab_guest.run("rmmod tls 2>/dev/null; true").check()
    for user in (None, "nobody"):
        status, document = listed(lab_guest, user=user)
        assert (status, document["verdict"]["summary"]) == (0, "no socket has kernel TLS")
    assert lab_guest.run("grep -q '^tls ' /proc/modules").status != 0


@pytest.fixture(scope="module")
def seen(lab_guest: Guest) -> Iterator[Seen]:
    """Programs of all kinds with their sockets open, seen once by ss and once by ktlsctl."""
    nginx = lab_guest.host.program("/usr/sbin/nginx")
    lab_guest.run(f"mkdir -p {DIRECTORY}; modprobe tls").check()
    lab_guest.run(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -days 2 "
        f"-keyout {DIRECTORY}/key.pem -out {DIRECTORY}/cert.pem"
    ).check()
    stage = f"{lab_guest.project}/tests/sessions_stage.py"
    # Its own session: the guest's shell ends before it does.
    started = (
        f"setsid /usr/bin/python3 {stage} '{nginx}' {DIRECTORY} > {DIRECTORY}/out 2> {DIRECTORY}/err & echo $! > "
        f"{DIRECTORY}/pid; for i in $(seq 600); do test -s {DIRECTORY}/out && exit 0; "
        f"kill -0 $(cat {DIRECTORY}/pid) || break; sleep 0.1; done; cat {DIRECTORY}/err* >&2; exit 1"
    )
    lab_guest.run(started, timeout=120).check()
    pids = json.loads(lab_guest.run(f"cat {DIRECTORY}/out").check().out)
    lines = lab_guest.run("ss -tnieO").check().out.splitlines()[1:]
    ss = {(words[3], words[4]): line for line in lines if len(words := line.split()) > 4}
    status, document = listed(lab_guest, "--all-netns")
    yield Seen(lab_guest, pids, ss, status, document)
    kill = f"kill $(cat {DIRECTORY}/nginx.pid {DIRECTORY}/pid) {pids['server']} {pids['raw']} {pids['blue']}"
    lab_guest.run(f"{kill}; sleep 1; ip netns del blue; rmmod tls; rm -rf {DIRECTORY}; true").check()


def test_every_socket_is_field_by_field_what_ss_says(seen: Seen) -> None:
    mine = {ends(s): s for s in seen.sessions}
    theirs = {at: line for at, line in seen.ss.items() if "tcp-ulp-tls" in line}
    assert set(mine) == set(theirs)
    assert len(mine) >= 9
    for at, line in theirs.items():
        s = mine[at]
        fields = dict(re.findall(r"(\w+): ?(\S+)", line))
        assert SS_MODES[fields["txconf"]] == s["tx"]
        assert SS_MODES[fields["rxconf"]] == s["rx"]
        assert SS_VERSIONS.get(fields.get("version", "")) == s["version"]
        # it knows two ciphers of ten
        assert fields.get("cipher") is None or SS_CIPHERS[fields["cipher"]] == s["cipher"]
        assert int(fields.get("bytes_acked", 0)) == s["bytes_acked"]
        assert int(fields.get("bytes_received", 0)) == s["bytes_received"]
        assert int(fields["ino"]) == s["inode"]
        assert int(fields.get("uid", 0)) == s["uid"]
        assert ("no_pad_rx" in line, "zc_ro_tx" in line) == (s["no_pad_rx"], s["zerocopy_tx"])
        assert line.split()[0] == {"ESTABLISHED": "ESTAB"}[s["tcp_state"]]
        # since 6.19, keyed or not
        assert (s["tx_max_payload"] == 16384) == (seen.guest.host is SID)


def test_nginx_with_sendfile_is_listed_with_its_suites_and_directions(seen: Seen) -> None:
    found = [s for s in seen.sessions if s["local"]["port"] == 8443]
    assert {o["name"] for s in found for o in s["owners"]} == {"nginx"}
    rx13 = "none" if seen.guest.host is DEBIAN12 else "software"
    assert sorted((s["version"], s["cipher"], s["suite"], s["tx"], s["rx"], s["local"]["address"]) for s in found) == [
        ("TLSv1.2", "AES-128-GCM", None, "software", "software", "127.0.0.1"),
        ("TLSv1.2", "CHACHA20-POLY1305", None, "software", "software", "127.0.0.1"),
        ("TLSv1.3", "AES-256-GCM", "TLS_AES_256_GCM_SHA384", "software", rx13, "::1"),
    ]
    assert all(s["bytes_acked"] > 1 << 18 for s in found)


def test_a_python_server_is_listed_with_ciphers_that_ss_leaves_blank(seen: Seen) -> None:
    found = seen.of(seen.pids["server"])
    assert {o["name"] for s in found for o in s["owners"]} == {"python3"}
    assert sorted((s["cipher"], s["tx"], s["rx"]) for s in found) == [
        ("AES-128-CCM", "software", "software"),
        ("AES-256-GCM", "software", "software"),
        ("CHACHA20-POLY1305", "software", "software"),
    ]
    blank = [s for s in found if "cipher:" not in seen.ss[ends(s)]]
    assert {s["cipher"] for s in blank} == {"AES-128-CCM", "CHACHA20-POLY1305"}


def test_a_refused_attempt_is_recognised_and_a_warning(seen: Seen) -> None:
    found = seen.of(seen.pids["raw"])
    assert sorted((s["state"], s["cipher"], s["tx"], s["rx"]) for s in found if s["state"] != "kernel") == [
        ("refused", "SM4-GCM", "none", "none"),
        ("unkeyed", None, "none", "none"),
    ]
    assert all(s["meaning"] for s in found if s["state"] != "kernel")
    assert (seen.status, seen.document["verdict"]["first_broken"]) == (1, "sessions.refused")


def test_sockets_of_another_network_namespace_are_listed_with_its_name(seen: Seen) -> None:
    spaces = {(s["network_namespace"]["name"], s["network_namespace"]["own"]) for s in seen.document["sessions"]}
    assert spaces == {(None, True), ("blue", False)}
    blue = [s for s in seen.document["sessions"] if not s["network_namespace"]["own"]]
    assert blue == seen.of(seen.pids["blue"])
    assert sorted(s["state"] for s in blue) == ["kernel", "refused", "unkeyed"]


def test_an_ordinary_user_sees_the_same_sockets_or_that_they_are_unknown(seen: Seen) -> None:
    status, document = listed(seen.guest, user="nobody")
    if seen.guest.host is SID:  # since 6.15
        assert sorted(map(ends, document["sessions"])) == sorted(map(ends, seen.sessions))
        assert {s["owners"] is None for s in document["sessions"]} == {True}
        assert status == 1
        return
    assert (status, document["verdict"]["status"]) == (3, "unknown")
    assert document["verdict"]["summary"] == "unknown (needs CAP_NET_ADMIN)"
    assert document["sessions"] == []
    # the counters are everybody's, and say that there are some
    assert "TlsCurrTxSw" in document["checks"][0]["reason"]


def test_the_summary_needs_no_privilege_and_counts_what_the_list_has(seen: Seen) -> None:
    result = seen.guest.run(f"{seen.guest.ktlsctl} sessions --summary", user="nobody").check()
    tx, rx = (sum(s[way] == "software" for s in seen.sessions) for way in ("tx", "rx"))
    assert result.out.startswith(f"TX {tx} software 0 nic  RX {rx} software 0 nic  opened ")
