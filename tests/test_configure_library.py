# SPDX-License-Identifier: BSD-2-Clause
"""configure/library.py: what the plan says of a library's configuration, and when it refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from ktlsctl import endangered, openssl
from ktlsctl.changes import Change, Obstacle, Scope, Wishes
from ktlsctl.configure import library
from ktlsctl.configure.library import Facts
from ktlsctl.endangered import Endangered, Inventory
from ktlsctl.host import CapturedHost
from ktlsctl.model import About, Attempt, Certainty, Direction, Library, LibraryReport, Os, Outcome, Remedy, Status, Tri
from ktlsctl.opensslcnf_edit import Edited, Refused, disable_ktls, enable_ktls
from ktlsctl.opensslcnf_edit import Obstacle as WhyNot

ON = Wishes(on=True, now=False, persist=False, library="")
OFF = replace(ON, on=False)
CONF = "/etc/ssl/openssl.cnf"
LIBRARY = Library(
    path="/usr/lib/libssl.so.3", version="OpenSSL 3.5.7", origin="distribution", roles=("system",), status=Status.OK,
    reason="", built_with_ktls=Tri.YES, proof="", enabled_by_default=Tri.NO, config_file=CONF,
)  # fmt: skip
PYTHON = Endangered(
    name="python", title="Python's ssl", why="it moves its buffer", harm="it sends wrong bytes",
    certainty=Certainty.POSSIBLE, reference="", way_out=Remedy("update"), installed=("/usr/bin/python3",), running=(),
)  # fmt: skip


def facts(content: bytes | None = b"# mine\n", inventory: Inventory | None = None, *, on: bool = True) -> Facts:
    edit = (enable_ktls if on else disable_ktls)(content, CONF)
    read: Attempt[bytes] = Attempt(Outcome.ABSENT) if content is None else Attempt.ran(content)
    return Facts(LIBRARY, "", read, edit, inventory)


def changes(facts: Facts, wishes: Wishes = ON) -> list[Change]:
    return [item for item in library.plan(facts, wishes) if isinstance(item, Change)]


def obstacles(facts: Facts, wishes: Wishes = ON) -> str:
    found = [item for item in library.plan(facts, wishes) if isinstance(item, Obstacle)]
    return "\n".join(f"{item.blocking} {item.summary} {item.remedy}" for item in found)


def test_the_file_that_the_library_reads_is_edited_and_a_second_time_there_is_nothing_to_do() -> None:
    (change,) = changes(facts())
    assert (change.scope, change.target) == (Scope.LIBRARY, CONF)
    after = change.edit.after
    assert isinstance(after, bytes)
    assert b"KTLS" in after
    assert changes(facts(after)) == []
    (back,) = changes(facts(after, on=False), OFF)
    assert back.edit.after == b"# mine\n"


def test_a_file_that_is_not_there_is_made() -> None:
    (change,) = changes(facts(None))
    assert change.edit.before is None


def test_each_endangered_program_is_named_and_has_to_be_accepted() -> None:
    hurt = facts(inventory=Inventory((PYTHON, replace(PYTHON, name="libpq", title="libpq up to 17"))))
    said = obstacles(hurt)
    assert "Python's ssl (/usr/bin/python3): it moves its buffer; it sends wrong bytes" in said
    assert "ktlsctl snippet nginx" in said
    (refusal,) = library.refusals(hurt, ON)
    assert "--despite python --despite libpq" in refusal
    (refusal,) = library.refusals(hurt, replace(ON, despite=frozenset({"python"})))
    assert "--despite libpq" in refusal
    assert "python" not in refusal
    assert list(library.refusals(hurt, replace(ON, despite=frozenset({"python", "libpq"})))) == []


def test_what_is_on_already_needs_no_acceptance() -> None:
    on = enable_ktls(b"", CONF)
    assert isinstance(on, Edited)
    assert list(library.refusals(facts(on.content, Inventory((PYTHON,))), ON)) == []


def test_programs_of_which_nothing_is_known_are_a_note() -> None:
    known = facts(inventory=Inventory((), ("curious",), ("a place",)))
    assert "False of these programs nothing is known, and they use it, too: curious" in obstacles(known)
    assert "a place" in obstacles(known)
    assert list(library.refusals(known, ON)) == []


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (replace(facts(), library=replace(LIBRARY, built_with_ktls=Tri.NO)), "built without kernel TLS"),
        (replace(facts(), edit=None, content=Attempt(Outcome.DENIED, reason="Permission denied")), "Permission denied"),
        (replace(facts(), edit=Refused(WhyNot.UNPARSABLE, "cannot be parsed", f"{CONF}:3", "mend it")), f"{CONF}:3"),
        (replace(facts(), library=None, why="it was not found"), "it was not found"),
    ],
)
def test_what_cannot_be_had_blocks_and_says_why(what: Facts, said: str) -> None:
    assert changes(what) == []
    assert said in obstacles(what)
    assert obstacles(what).startswith("True")


def test_a_name_that_leads_to_no_library_is_refused_and_not_taken_for_another() -> None:
    host = CapturedHost(About(Os.LINUX, "6.1", "x86_64", True), {}, otherwise=Outcome.ABSENT)
    wishes = replace(ON, library="/no/such")
    found = library.gather(host, wishes)
    assert found.library is None
    (refusal,) = library.refusals(found, wishes)
    assert "/no/such" in refusal


def test_every_library_that_reads_the_same_file_is_asked_who_is_hurt(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = replace(LIBRARY, path="/opt/libssl.so.3", roles=("named",), config_file="/opt/openssl.cnf")
    other = replace(LIBRARY, path="/other/libssl.so.3", config_file="/other/openssl.cnf")
    report = LibraryReport((), (LIBRARY, mine, other), 1)
    monkeypatch.setattr(openssl, "begin", lambda *_: SimpleNamespace(facts=lambda: None))
    monkeypatch.setattr(openssl, "judge", lambda *_: report)
    hurt = {LIBRARY.path: (PYTHON,), other.path: (replace(PYTHON, name="libpq"),)}
    monkeypatch.setattr(endangered, "inventory", lambda _, one: Inventory(hurt.get(one.path, ())))
    # the configuration of the library at PATH is a link to the system's
    answers: dict[tuple[str, str], Attempt[Any]] = {("resolve", p): Attempt.ran(CONF) for p in (CONF, mine.config_file)}
    answers["resolve", other.config_file] = Attempt.ran(other.config_file)
    host = CapturedHost(About(Os.LINUX, "6.1", "x86_64", True), answers, otherwise=Outcome.ABSENT)
    found = library.gather(host, replace(ON, library=mine.path))
    assert found.inventory == Inventory((PYTHON,))
    (change,) = changes(found, replace(ON, library=mine.path))
    assert change.summary.endswith(f"that uses {mine.path} or {LIBRARY.path}")


@pytest.mark.parametrize("wishes", [ON, OFF], ids=["on", "off"])
def test_one_direction_is_not_to_be_had_of_an_openssl_cnf(wishes: Wishes) -> None:
    one = replace(wishes, only=Direction.RX)
    assert changes(facts(on=wishes.on), one) == []
    assert "True openssl.cnf has no switch for one direction" in obstacles(facts(on=wishes.on), one)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Attempt.ran({"server": True, "client": True, "fault": None, "detail": ""}), ""),
        (Attempt.ran({"server": False, "client": False, "fault": None, "detail": ""}), "does not turn kernel TLS on"),
        (Attempt(Outcome.TIMEOUT, reason="no answer"), "no answer"),
        (Attempt.ran("junk"), "does not turn kernel TLS on"),
    ],
)
def test_after_the_change_the_library_itself_is_asked(answer: Attempt[Any], said: str) -> None:
    class Pending:
        def answer(self) -> Attempt[Any]:
            return answer

    class Host(CapturedHost):
        def begin(self, target: str, argument: Any, timeout: float) -> Any:
            assert (target, argument["config"]) == ("ktlsctl.libsslprobe:wants", CONF)
            return Pending()

    host = Host(About(Os.LINUX, "6.1", "x86_64", True), {})
    look: Callable[[Change], str] = library.look(host, facts(), ON)
    (change,) = changes(facts())
    assert said in look(change)
    assert bool(look(change)) == bool(said)
    assert look(replace(change, scope=Scope.BOOT)) == ""
