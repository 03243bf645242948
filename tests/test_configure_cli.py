# SPDX-License-Identifier: BSD-2-Clause
"""enable, disable, undo, history, check --fix as a user meets them: who is asked, what is printed, how it exits."""

from __future__ import annotations

import errno
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum
from pathlib import Path

import pytest

from ktlsctl import host
from ktlsctl.changes import (
    Change,
    FileEdit,
    Kind,
    Made,
    Obstacle,
    Outcome,
    Plan,
    RunStanding,
    Scope,
    Standing,
    State,
    proposed,
    verdict,
)
from ktlsctl.model import Remedy, Status
from ktlsctl.render import plan_text
from ktlsctl.schema import report_schema
from tests.commands import run_cli, run_json
from tests.linux_hosts import DEBIAN13, LinuxHost, unloaded
from tests.stepping import killed_at

BARE = unloaded(DEBIAN13)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    root = tmp_path / "image"
    (root / "etc/modprobe.d").mkdir(parents=True)
    (root / "etc/os-release").write_text('PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\n')
    return root


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Callable[[LinuxHost], None]:
    """Makes the tool believe that it runs on this host.  Nothing may be carried out there."""

    def choose(chosen: LinuxHost) -> None:
        monkeypatch.setattr(host, "LiveHost", chosen.capture)

    return choose


def test_without_a_terminal_it_shows_the_plan_and_exits_1_and_changes_nothing(
    on: Callable[[LinuxHost], None],
) -> None:
    on(BARE)
    status, out, err = run_cli("enable")
    assert status == 1
    assert "WOULD     load the tls module" in out
    assert "/etc/modules-load.d/ktlsctl.conf (new file)" in out
    assert err == "Nothing was changed. To carry it out: ktlsctl enable --yes\n"


def test_as_wanted_exits_0_whoever_asks(on: Callable[[LinuxHost], None]) -> None:
    ready = DEBIAN13.having({"/etc/modules-load.d/x.conf": b"tls\n"})
    for privileged in (True, False):
        on(ready.but(privileged=privileged))
        status, out, err = run_cli("enable", "--yes")
        assert (status, err) == (0, "")
        assert "everything is as wanted already" in out


def test_without_privilege_it_shows_the_plan_and_the_exact_command_and_exits_3(
    on: Callable[[LinuxHost], None],
) -> None:
    on(BARE.but(privileged=False))
    status, out, err = run_cli("enable", "--now", "--yes", "--diff")
    assert status == 3
    assert "load the tls module" in out
    assert "as root, type: ktlsctl enable --now --yes" in err
    assert "sudo" not in out + err


def test_without_privilege_the_document_says_so_too(on: Callable[[LinuxHost], None]) -> None:
    on(BARE.but(privileged=False))
    status, document = run_json("disable", "--persist")
    assert status == 3
    assert document["verdict"]["status"] == "unknown"
    assert "ktlsctl disable --persist --yes" in document["errors"][0]
    assert [c["state"] for c in document["changes"]] == ["wanted"]


def test_the_document_keeps_now_and_boot_apart(on: Callable[[LinuxHost], None]) -> None:
    on(DEBIAN13)
    status, document = run_json("enable")
    plan = document["plan"]
    assert (status, plan["now"], plan["boot"], plan["library"]) == (1, "as_wanted", "to_change", "not_asked")
    on(BARE.having({"/etc/modules": b"tls\n"}))
    plan = run_json("enable")[1]["plan"]
    assert (plan["now"], plan["boot"]) == ("to_change", "as_wanted")
    on(BARE.having({"/etc/modprobe.d/x.conf": b"install tls /bin/false\n", "/etc/modules": b"tls\n"}))
    status, document = run_json("enable")
    assert (status, document["plan"]["now"], document["plan"]["boot"]) == (2, "blocked", "blocked")
    assert {o["blocking"] for o in document["obstacles"]} == {True}


def test_json_never_asks_and_tells_before_and_after(image: Path) -> None:
    status, document = run_json("enable", "--root", str(image), "--yes")
    (change,) = document["changes"]
    assert (status, document["plan"]["run"], document["plan"]["boot"]) == (0, 1, "changed")
    assert (change["before"], change["state"], change["kind"]) == ("no file", "done", "file")
    assert change["diff"].endswith("+tls")
    status, document = run_json("history", "--root", str(image))
    assert [(r["id"], r["command"], r["state"]) for r in document["runs"]] == [(1, "enable", "done")]
    status, document = run_json("undo", "--root", str(image))
    assert (status, document["plan"]["command"], document["plan"]["boot"]) == (1, "undo 1", "to_change")
    assert run_json("undo", "--root", str(image), "--yes")[0] == 0


def test_a_root_that_only_reads_back_as_slash_is_not_taken_for_this_host(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As /proc/PID/root of a container does."""
    run_cli("enable", "--root", str(image), "--yes")
    monkeypatch.setattr(os.path, "realpath", lambda path, **_: "/")
    assert [r["id"] for r in run_json("history", "--root", str(image))[1]["runs"]] == [1]
    assert run_json("undo", "--root", str(image))[1]["plan"]["command"] == "undo 1"
    assert run_cli("enable", "--root", str(image), "--now")[0] == 3


def test_this_hosts_own_root_by_another_name_is_this_host(on: Callable[[LinuxHost], None], tmp_path: Path) -> None:
    on(BARE)
    (tmp_path / "here").symlink_to("/")
    assert "load the tls module" in run_cli("enable", "--root", str(tmp_path / "here"), "--now")[1]


def test_commands_for_another_root_name_it(image: Path) -> None:
    run_cli("enable", "--root", str(image), "--yes")
    run_cli("disable", "--root", str(image), "--yes")
    (obstacle, *_) = run_json("undo", "1", "--root", str(image))[1]["obstacles"]
    assert obstacle["remedy"][0]["command"] == f"ktlsctl undo 2 --root={image}"


@pytest.mark.parametrize("command", ["enable", "disable"])
def test_a_configuration_that_only_this_environment_names_is_not_edited(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENSSL_CONF", str(tmp_path / "mine.cnf"))
    status, document = run_json(command, "--library")
    assert (status, document["changes"]) == (3, [])
    assert "OPENSSL_CONF is set here" in document["errors"][0]


@pytest.mark.parametrize(
    "arguments",
    [
        ["enable", "--tx-only", "--rx-only"],
        ["enable", "--root", "/tmp", "--now"],
        ["enable", "--root", "/tmp", "--library"],
        ["enable", "--root", "/tmp", "--offload", "eth0"],
        ["enable", "--root", "/no/such/directory"],
        ["enable", "--root", "/etc/passwd"],
        ["disable", "--despite", "x"],
        ["undo", "0"],
        ["undo", "x"],
        ["undo", "999999"],
        ["check", "--yes"],
        ["check", "--diff"],
        ["check", "--fix", "--from", "x"],
        ["check", "--fix", "--output", "x"],
        ["check", "--fix", "--format", "nagios"],
    ],
)
def test_nonsense_is_one_sentence_and_exits_3(arguments: list[str]) -> None:
    status, out, err = run_cli(*arguments)
    assert (status, out) == (3, "")
    assert err.count("\n") == 1
    assert err.startswith("ktlsctl: ")


def test_nothing_to_undo_is_fine(image: Path) -> None:
    status, out, _ = run_cli("undo", "--root", str(image))
    assert status == 0
    assert "nothing to put back" in out
    assert run_cli("history", "--root", str(image))[1].startswith("The journal is empty")


def test_undo_of_a_hand_edited_file_shows_the_diff_and_exits_2(image: Path) -> None:
    run_cli("enable", "--root", str(image), "--yes")
    file = image / "etc/modules-load.d/ktlsctl.conf"
    file.write_text(file.read_text() + "loop\n")
    status, out, _ = run_cli("undo", "--root", str(image), "--yes")
    assert status == 2
    assert "\n+loop\n" in out
    assert file.read_text().endswith("tls\nloop\n")


def test_an_undone_run_is_not_undone_twice(image: Path) -> None:
    run_cli("enable", "--root", str(image), "--yes")
    run_cli("undo", "--root", str(image), "--yes")
    run_cli("enable", "--root", str(image), "--yes")
    assert run_cli("undo", "1", "--root", str(image), "--yes")[0] == 0
    assert (image / "etc/modules-load.d/ktlsctl.conf").exists()


def test_a_full_disk_is_one_sentence_and_a_document(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    status, out, err = run_cli("enable", "--root", str(image), "--yes")
    assert (status, out) == (3, "")
    assert "no space left on the device" in err
    assert err.count("\n") == 1
    status, document = run_json("enable", "--root", str(image), "--yes")
    assert status == 3
    assert "no space left" in document["errors"][0]


# --- at a terminal --------------------------------------------------------------------------------------------------


def at_a_terminal(answer: str, *arguments: str) -> tuple[int, str]:
    """Exit status and what the terminal showed."""
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.executable, [sys.executable, "-m", "ktlsctl", *arguments])
    os.write(terminal, f"{answer}\n".encode())
    shown = b""
    try:
        while piece := os.read(terminal, 4096):
            shown += piece
    except OSError:  # Linux: the other end is closed
        pass
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), shown.decode()


@pytest.mark.parametrize(("answer", "status"), [("y", 0), ("n", 1), ("", 1)])
def test_at_a_terminal_it_asks(image: Path, answer: str, status: int) -> None:
    got, shown = at_a_terminal(answer, "enable", "--root", str(image))
    assert "Make these changes?" in shown
    assert got == status
    assert (image / "etc/modules-load.d/ktlsctl.conf").exists() == (answer == "y")


def test_at_a_terminal_yes_and_json_do_not_ask(image: Path) -> None:
    assert "Make these changes" not in at_a_terminal("y", "enable", "--root", str(image), "--json")[1]
    assert not (image / "etc/modules-load.d/ktlsctl.conf").exists()
    assert "Make these changes" not in at_a_terminal("", "enable", "--root", str(image), "--yes")[1]
    assert (image / "etc/modules-load.d/ktlsctl.conf").exists()


def test_a_reader_that_goes_away_does_not_keep_the_plan_from_being_carried_out(image: Path) -> None:
    command = f"{sys.executable} -m ktlsctl enable --root {image} --yes | true"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (image / "etc/modules-load.d/ktlsctl.conf").exists()


# --- what is printed ------------------------------------------------------------------------------------------------

EDIT = Change("boot.x", Scope.BOOT, Kind.FILE, "edit x", FileEdit("/etc/x", b"a\nb", b"a\nc"))


def test_a_diff_is_one_that_patch_takes(tmp_path: Path) -> None:
    before, after = b"1\n2\n3\n4\n5\n6\n", b"1\n2\n3\n4\nfive\n6"
    text = plan_text.render(
        proposed(Plan("enable", (Scope.BOOT,), (replace(EDIT, edit=FileEdit("/f", before, after)),))), diff=True
    )
    (tmp_path / "f").write_bytes(before)
    diff = text[text.index("--- a/f") : text.index("Result")].rstrip() + "\n"
    subprocess.run(["patch", "-p1"], cwd=tmp_path, input=diff, text=True, check=True, capture_output=True)
    assert (tmp_path / "f").read_bytes() == after


def test_a_diff_keeps_the_white_space_that_patch_compares(tmp_path: Path) -> None:
    before, after = b"a\tb\r\nc\td\r\n", b"a\tb\r\nc\te\r\n"
    wanted = proposed(Plan("enable", (Scope.BOOT,), (replace(EDIT, edit=FileEdit("/f", before, after)),)))
    text = plan_text.render(wanted, diff=True)
    (tmp_path / "f").write_bytes(before)
    diff = text[text.index("--- a/f") : text.index("\n\nResult")] + "\n"
    subprocess.run(["patch", "-p1", "--binary"], cwd=tmp_path, input=diff.encode(), check=True, capture_output=True)
    assert (tmp_path / "f").read_bytes() == after
    assert "\r" not in plan_text.render(wanted, diff=True, terminal=True)


def test_a_password_beside_the_changed_line_of_an_openssl_cnf_is_not_shown() -> None:
    edit = FileEdit("/etc/ssl/openssl.cnf", b"input_password = secret\n[s]\n", b"input_password = secret\nx = 1\n[s]\n")
    change = Change("library.x", Scope.LIBRARY, Kind.FILE, "edit", edit)
    assert "secret" not in plan_text.render(proposed(Plan("enable", (Scope.LIBRARY,), (change,))), diff=True)


def test_escape_sequences_of_a_file_do_not_reach_the_terminal() -> None:
    change = replace(EDIT, edit=FileEdit("/etc/x", None, b"\x1b[2J\n"))
    assert "\x1b" not in plan_text.render(proposed(Plan("enable", (Scope.BOOT,), (change,))), diff=True)


BLOCK = Obstacle(Scope.NOW, "in the way", True, (Remedy("move it", "mv"),))
DONE, FAILED = Made(EDIT, State.DONE), Made(EDIT, State.FAILED, "why")


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (Outcome(Plan("enable", ()), ()), Status.OK),
        (Outcome(Plan("enable", (Scope.BOOT,), (EDIT,)), (DONE,), 1), Status.OK),
        (proposed(Plan("enable", (Scope.BOOT,), (EDIT,))), Status.WARNING),
        (Outcome(Plan("enable", (Scope.BOOT,), (EDIT,), (BLOCK,)), (DONE,), 1), Status.WARNING),
        (Outcome(Plan("enable", (Scope.NOW,), (), (BLOCK,)), ()), Status.CRITICAL),
        (Outcome(Plan("undo 1", (Scope.BOOT,), (EDIT,), (BLOCK,)), (DONE,), 1), Status.CRITICAL),
        (Outcome(Plan("enable", (Scope.BOOT,), (EDIT,)), (FAILED,), 1), Status.CRITICAL),
        (Outcome(Plan("enable", (Scope.BOOT,), (EDIT,), (), ("no",)), (), None), Status.UNKNOWN),
        (Outcome(Plan("enable", (Scope.NOW,), (), (replace(BLOCK, blocking=False),)), ()), Status.OK),
    ],
)
def test_the_result_follows_from_what_became_of_each_change(outcome: Outcome, status: Status) -> None:
    assert verdict(outcome).status is status
    assert status.upper() in plan_text.render(outcome) or outcome.plan.refusals


def test_each_scope_has_its_own_standing() -> None:
    outcome = Outcome(Plan("enable", (Scope.NOW, Scope.BOOT), (EDIT,), (BLOCK,)), (DONE,), 1)
    assert [outcome.standing(s) for s in Scope] == [Standing.BLOCKED, Standing.CHANGED, Standing.NOT_ASKED]


# --- check --fix ----------------------------------------------------------------------------------------------------


def test_check_fix_shows_the_plan_for_what_was_found_and_changes_nothing_without_yes(
    on: Callable[[LinuxHost], None],
) -> None:
    on(BARE)
    status, out, _ = run_cli("check", "--fix")
    assert status == 2 or "unknown" in out
    assert out.index("Verdict:") < out.index("WOULD     load the tls module")
    status, document = run_json("check", "--fix")
    assert document["checks"]
    assert [c["id"] for c in document["changes"]] == ["now.module.tls", "boot.modules-load"]
    assert json.dumps(document["plan"]["notices"]) == "[]"


def test_check_fix_says_in_its_document_why_nothing_was_carried_out(on: Callable[[LinuxHost], None]) -> None:
    on(BARE.but(privileged=False))
    status, document = run_json("check", "--fix", "--yes")
    assert status == 3
    assert "ktlsctl check --fix --yes" in document["errors"][0]


def test_check_fix_honours_fail_on(on: Callable[[LinuxHost], None]) -> None:
    on(BARE)
    assert run_json("check", "--fix")[0] != 0
    assert run_json("check", "--fix", "--fail-on", "never")[0] == 0


# --- the contract ---------------------------------------------------------------------------------------------------


def test_every_member_of_these_documents_is_described_and_required(image: Path) -> None:
    defs = json.loads(report_schema())["$defs"]
    run_cli("enable", "--root", str(image), "--yes")
    (image / "etc/modules-load.d/ktlsctl.conf").write_text("mine\n")
    undone = run_json("undo", "--root", str(image))[1]
    wanted = run_json("disable", "--root", str(image))[1]
    past = run_json("history", "--root", str(image))[1]
    for name, value in (
        ("plan", undone["plan"]),
        ("obstacle", undone["obstacles"][0]),
        ("change", wanted["changes"][0]),
        ("run", past["runs"][0]),
    ):
        assert set(value) == set(defs[name]["properties"]) == set(defs[name]["required"]), name
    for schema, enum in _ENUMS:
        found = defs
        for step in schema.split("."):
            found = found[step]
        assert {each["const"] for each in found["oneOf"]} == {member.value for member in enum}


_ENUMS: tuple[tuple[str, type[StrEnum]], ...] = (
    ("scope", Scope),
    ("standing", Standing),
    ("change.properties.kind", Kind),
    ("change.properties.state", State),
    ("run.properties.state", RunStanding),
)


def test_an_interrupted_run_is_told_by_every_command_and_cleared_by_undo(image: Path) -> None:
    assert killed_at(30, lambda: run_cli("enable", "--root", str(image), "--yes"))
    _, out, _ = run_cli("history", "--root", str(image))
    assert f"Run 1 was interrupted: ktlsctl undo 1 --root={image} puts back what was." in out
    for command in ("enable", "disable"):
        notices = "".join(run_json(command, "--root", str(image))[1]["plan"]["notices"])
        assert "run 1 (ktlsctl enable" in notices
        assert f"ktlsctl undo 1 --root={image} puts back" in notices
    assert run_json("history", "--root", str(image))[1]["runs"][0]["state"] == "interrupted"
    assert run_cli("undo", "--root", str(image), "--yes")[0] == 0
    assert not (image / "etc/modules-load.d").exists()
    assert run_json("history", "--root", str(image))[1]["runs"][0]["state"] == "undone"
