# SPDX-License-Identifier: BSD-2-Clause
"""render/sessions_text: a list for people; render/jsondoc: the same as a document that its schema describes."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktlsctl import sessions
from ktlsctl.facts.owners import Holders
from ktlsctl.model import Armed, Mode, NetworkNamespace, Owner, Report, Session
from ktlsctl.render import jsondoc, sessions_text
from ktlsctl.schema import report_schema
from ktlsctl.sessions import Query
from tests.hosts import LINUX
from tests.live import BLIND, CHACHA, GCM, REFUSED, UNKEYED, host, sock

SCHEMA = json.loads(report_schema())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def listed(query: Query | None = None, **given: Any) -> Report:
    query = query or Query()
    return sessions.report(LINUX, sessions.gather(host(**given), query), query)


def text(report: Report) -> str:
    return sessions_text.render(report)


def document(report: Report) -> Any:
    found = json.loads(jsondoc.render(report))
    VALIDATOR.validate(found)
    assert json.loads(jsondoc.render_line(report)) == found
    return found


V4 = [sock(1, GCM, acked=12_345_678, received=1234), sock(2, CHACHA, port=8443), sock(3, REFUSED), sock(5)]
HOLDERS = Holders({1: (10, 11), 2: (10, 11), 3: (20,)})
SESSION = (listed(v4=V4, holders=HOLDERS).sessions or ())[0]


def of(*found: Session) -> Report:
    return replace(listed(), sessions=found)


def test_sockets_stand_below_the_process_that_holds_them() -> None:
    lines = text(listed(v4=V4, holders=HOLDERS)).splitlines()
    assert lines == [
        "nginx, pid 10, 11, nginx.service",
        "  TLSv1.3 TLS_AES_256_GCM_SHA384, TX software, RX none",
        "    192.0.2.1:443          198.51.100.9:50000     sent 12.3 MB  received  1.2 kB",
        "  TLSv1.2 CHACHA20-POLY1305, TX software, RX software",
        "    192.0.2.1:8443         198.51.100.9:50000     sent     0 B  received     0 B",
        "",
        "python3, pid 20",
        "  refused, TLSv1.2 SM4-GCM, TX none, RX none",
        "    192.0.2.1:443          198.51.100.9:50000     sent     0 B  received     0 B",
        "",
        "WARNING   sessions.refused  the kernel refused 1 socket",
        "          a key was handed to the kernel and refused, so the records stay in",
        "          user space: the kernel lacks the cipher's algorithm, in most cases",
        "          fix: see which ciphers this kernel takes, and why not the others",
        "               ktlsctl check",
        "",
        "Verdict: WARNING - 2 sessions in the kernel, of 2 processes; 1 socket refused",
        "First broken link: cipher (sessions.refused)",
        "Next: ktlsctl check",
    ]


def test_what_sockets_have_in_common_ends_before_their_addresses() -> None:
    assert Session._fields[sessions_text.IN_COMMON] == "local"


def test_what_could_not_be_seen_is_said_before_the_verdict() -> None:
    shown = text(listed(sight=BLIND))
    assert "Verdict: UNKNOWN - unknown (needs CAP_NET_ADMIN)" in shown
    assert "TlsCurrTxSw 2" in shown


def test_a_socket_that_was_never_keyed_is_explained() -> None:
    shown = text(listed(v4=[sock(1, UNKEYED)]))
    assert "  never keyed, TX none, RX none\n" in shown
    assert "never keyed: the ULP is attached and the kernel took no key" in shown


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ({"owners": None}, "process unknown"),
        ({"owners": ()}, "no process"),
        ({"owners": (Owner(5, None),)}, "(ended), pid 5"),
        ({"owners": (Owner(5, "a"), Owner(6, "b"))}, "a, pid 5; b, pid 6"),
        ({"namespace": NetworkNamespace(77, "blue")}, "network namespace blue"),
        ({"namespace": NetworkNamespace(77)}, "network namespace net:[77]"),
        ({"zerocopy_tx": True}, "zero-copy TX"),
        ({"no_pad_rx": True}, "RX expects no padding"),
        ({"tx_max_payload": 512}, "TX records of at most 512 bytes"),
        ({"tcp_state": "CLOSE_WAIT"}, "RX none, CLOSE_WAIT"),
        ({"version": None}, "version unknown TLS_AES_256_GCM_SHA384"),
        ({"tx": Mode.NIC}, "TX nic"),
        ({"local": "2001:db8::1"}, "[2001:db8::1]:443"),
        ({"armed": Armed.PLAIN, "version": None, "cipher": None, "suite": None}, "  no kernel TLS\n"),
    ],
)
def test_each_fact_is_shown(change: dict[str, Any], shown: str) -> None:
    whole = text(of(SESSION._replace(**change)))
    assert max(map(len, whole.splitlines())) <= 80
    assert shown in re.sub(r"\n {6}(?=\S)", " ", whole)


def test_the_ordinary_record_size_and_unknown_bytes_take_no_place() -> None:
    shown = text(of(SESSION._replace(tx_max_payload=16384, bytes_acked=None)))
    assert "records" not in shown
    assert "sent" not in shown


def test_names_from_the_machine_cannot_command_the_terminal() -> None:
    nasty = SESSION._replace(owners=(Owner(1, "a\x1b[2J\nb\udcff"),), service="x\u202ey.service")
    shown = text(of(nasty))
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert shown.splitlines()[0].startswith("a\\x1b[2J b")
    (s,) = document(of(nasty))["sessions"]
    assert s["owners"] == [{"pid": 1, "name": "a\x1b[2J\nb\\udcff"}]


@given(st.integers(0, 2**64 - 1))
def test_any_number_of_bytes_takes_at_most_seven_columns(count: int) -> None:
    assert len(sessions_text.size(count)) <= 8 if count >= 10**18 else len(sessions_text.size(count)) <= 7


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (99_949, "99.9 kB"),
        (99_951, "100 kB"),
        (999_949, "1000 kB"),
        (1_000_000, "1.0 MB"),
        (2**64 - 1, "18 EB"),
    ],
)
def test_bytes_are_shown_as_people_read_them(count: int, shown: str) -> None:
    assert sessions_text.size(count) == shown


# ---- JSON


def test_the_document_has_every_member_that_its_schema_describes() -> None:
    found = document(listed(v4=V4, holders=HOLDERS))
    first, _, refused = found["sessions"]
    schema = SCHEMA["$defs"]["session"]
    assert set(schema["properties"]) == set(schema["required"]) == set(first)
    assert (refused["state"], bool(refused["meaning"]), first["meaning"]) == ("refused", True, None)
    assert first["local"] == {"address": "192.0.2.1", "port": 443}
    assert first["owners"] == [{"pid": 10, "name": "nginx"}, {"pid": 11, "name": "nginx"}]
    assert first["network_namespace"] == {"inode": 4026531833, "name": None, "own": True}
    assert found["counters"]["TlsCurrTxSw"] == 2


def test_an_empty_list_is_a_document_with_an_empty_list() -> None:
    assert document(listed())["sessions"] == []
    assert document(listed(sight=BLIND))["verdict"]["status"] == "unknown"


def test_the_enumerations_are_those_of_the_model() -> None:
    def words(schema: Any) -> set[str]:
        return {each["const"] for each in schema["oneOf"]}

    assert words(SCHEMA["$defs"]["mode"]) == {mode.value for mode in Mode}
    assert words(SCHEMA["$defs"]["session"]["properties"]["state"]) == {armed.value for armed in Armed}


@pytest.mark.parametrize("member", SCHEMA["$defs"]["session"]["required"])
def test_a_session_that_lacks_a_member_or_gives_it_another_type_is_rejected(member: str) -> None:
    whole = document(of(SESSION))
    for change in ("missing", "other"):
        broken = json.loads(json.dumps(whole))
        if change == "missing":
            del broken["sessions"][0][member]
        else:
            broken["sessions"][0][member] = 1.5
        assert not VALIDATOR.is_valid(broken)


TEXT = st.text(min_size=1)
SESSIONS = st.builds(
    Session,
    armed=st.sampled_from(Armed), local=st.just("::1"), local_port=st.integers(0, 65535), remote=st.just("127.0.0.1"),
    remote_port=st.integers(0, 65535), tcp_state=st.none() | st.just("ESTABLISHED"), version=st.none() | TEXT,
    cipher=st.none() | TEXT, suite=st.none() | TEXT, tx=st.sampled_from(Mode), rx=st.sampled_from(Mode),
    zerocopy_tx=st.none() | st.booleans(), no_pad_rx=st.none() | st.booleans(),
    tx_max_payload=st.none() | st.integers(0, 65535), bytes_acked=st.none() | st.integers(0, 2**64 - 1),
    bytes_received=st.none() | st.integers(0, 2**64 - 1), uid=st.none() | st.integers(0, 2**32 - 1),
    inode=st.none() | st.integers(0, 2**32 - 1),
    owners=st.none() | st.lists(st.builds(Owner, st.integers(1, 2**22), st.none() | TEXT), max_size=3).map(tuple),
    service=st.none() | TEXT,
    namespace=st.none() | st.builds(NetworkNamespace, st.integers(1, 2**32), st.text(), st.booleans()),
    identity=st.integers(0, 2**64 - 1),
)  # fmt: skip


@given(st.lists(SESSIONS, max_size=4))
def test_any_sessions_are_text_of_printable_lines_and_a_valid_document(found: list[Session]) -> None:
    report = of(*found)
    assert all(line.isprintable() for line in text(report).split("\n"))
    assert len(document(report)["sessions"]) == len(found)
