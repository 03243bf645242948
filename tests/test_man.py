# SPDX-License-Identifier: BSD-2-Clause
"""man/: the pages are clean mdoc, and say what the command line knows, no less and no more."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import click
import pytest

from ktlsctl.cli import cli
from ktlsctl.commands.output import ExitStatus
from ktlsctl.schema import report_schema

MAN = Path(__file__).parent.parent / "man"
PAGES = sorted(MAN.iterdir())

#: mandoc looks manuals up on the machine that it runs on: what it misses there is no fault of the page.
NOT_OURS = re.compile(r"mandoc: outdated mandoc\.db|STYLE: referenced manual not found: Xr ")

#: click's own, not listed among the parameters of a command.
HELP = {"-h", "--help"}


def lint(page: Path) -> list[str]:
    """What mandoc finds; a missing mandoc is a FileNotFoundError, not a skip."""
    done = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "style", str(page)], capture_output=True, text=True, check=False
    )
    lines = (done.stdout + done.stderr).splitlines()
    return [line for line in lines if not NOT_OURS.search(line)]


def plain(page: Path) -> str:
    """The page as a reader sees it, without overstriking."""
    done = subprocess.run(["mandoc", "-T", "ascii", str(page)], capture_output=True, text=True, check=True)
    return re.sub(".\b", "", done.stdout)


def source_of(name: str) -> str:
    """The page that describes a command."""
    return (own_page(name) or MAN / "ktlsctl.8").read_text()


#: Two commands that one page describes: what the page is called after, by the other one.
TOGETHER = {"disable": "enable", "history": "undo"}


def own_page(name: str) -> Path | None:
    page = MAN / f"ktlsctl-{TOGETHER.get(name, name)}.8"
    return page if page.exists() else None


def on_the_page_of(name: str) -> set[str]:
    """Options of every command that is described on the same page."""
    first = TOGETHER.get(name, name)
    return set().union(*(options_of(cli.commands[n]) for n in cli.commands if TOGETHER.get(n, n) == first))


def part(source: str, title: str) -> str:
    return source.partition(f".Sh {title}\n")[2].partition(".Sh ")[0]


def synopsis_of(name: str) -> str:
    return part(source_of(name), "SYNOPSIS").partition(f".Cm {name}\n")[2].partition(".Nm\n")[0]


def sections() -> dict[str, str]:
    """The description of each command, from ktlsctl.8 or a page of its own; "" for what stands before the first."""
    description = part((MAN / "ktlsctl.8").read_text(), "DESCRIPTION")
    names = "|".join(cli.commands)
    parts = re.split(rf"^\.It Cm ({names})$\n", description, flags=re.M)
    found = dict(zip(parts[1::2], parts[2::2], strict=True))
    own = {name: part(source_of(name), "DESCRIPTION") for name in found if own_page(name)}
    return {"": parts[0], **found, **own}


def options_in(text: str) -> set[str]:
    """Options that are list items: `.It Fl q , -quiet`, `.It Fl -format Ar format`."""
    found = set()
    for item in re.findall(r"^\.It Fl (.+)$", text, re.M):
        found |= {f"-{word}" for word in re.split(r" (?:Op )?Ar ", item)[0].split(" , ")}
    return found


def options_of(command: click.Command) -> set[str]:
    return {option for p in command.params if isinstance(p, click.Option) for option in (*p.opts, *p.secondary_opts)}


def test_all_pages_are_there() -> None:
    sections = ("enable.8", "libraries.8", "report.5", "selftest.8", "sessions.8", "snippet.8", "stats.8", "top.8")
    assert [page.name for page in PAGES] == [*(f"ktlsctl-{name}" for name in (*sections, "undo.8")), "ktlsctl.8"]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_mandoc_finds_nothing(page: Path) -> None:
    assert lint(page) == []


def test_mandoc_would_find_something(tmp_path: Path) -> None:
    bad = tmp_path / "ktlsctl.8"
    bad.write_text((MAN / "ktlsctl.8").read_text().replace(".Sh AUTHORS", ".Sh AUTHOR\n.Xx"))
    assert len(lint(bad)) >= 2


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_a_reference_to_a_page_of_this_project_leads_somewhere(page: Path) -> None:
    ours = re.findall(r"^\.Xr (ktlsctl\S*) (\d)", page.read_text(), re.M)
    assert ours
    assert all((MAN / f"{name}.{section}").exists() for name, section in ours)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_a_page_is_readable_in_80_columns(page: Path) -> None:
    assert [line for line in plain(page).splitlines() if len(line) > 80] == []


def test_the_page_has_its_sections_in_order() -> None:
    source = (MAN / "ktlsctl.8").read_text()
    assert re.findall(r"^\.Sh (.+)$", source, re.M) == [
        "NAME", "SYNOPSIS", "DESCRIPTION", "ENVIRONMENT", "FILES", "EXIT STATUS", "EXAMPLES", "DIAGNOSTICS", "SEE ALSO",
        "STANDARDS", "HISTORY", "AUTHORS", "CAVEATS", "SECURITY CONSIDERATIONS",
    ]  # fmt: skip


def test_the_page_has_every_command_and_no_other() -> None:
    source = (MAN / "ktlsctl.8").read_text()
    synopsis = source.partition(".Sh SYNOPSIS\n")[2].partition(".Sh ")[0]
    assert set(re.findall(r"^\.Cm (\S+)$", synopsis, re.M)) == set(cli.commands)
    assert set(sections()) == {"", *cli.commands}


@pytest.mark.parametrize("name", ["", *cli.commands])
def test_the_page_has_every_option_of_a_command_and_no_other(name: str) -> None:
    wanted = on_the_page_of(name) if name else options_of(cli) | HELP
    assert options_in(sections()[name]) == wanted


@pytest.mark.parametrize("name", [*cli.commands])
def test_the_synopsis_has_every_option_of_a_command(name: str) -> None:
    shown = set()
    for spelled in re.findall(r"\bFl (\S+(?: \| \S+)?)", synopsis_of(name)):
        shown |= {f"-{word}" for word in spelled.split(" | ")}
    # One spelling of each option is enough here.
    for parameter in cli.commands[name].params:
        if isinstance(parameter, click.Option):
            assert shown & set(parameter.opts), parameter.name
    assert shown <= options_of(cli.commands[name])


@pytest.mark.parametrize("name", [*cli.commands])
def test_the_page_has_every_value_that_an_option_or_argument_can_have(name: str) -> None:
    words = set(re.findall(r"\w+", sections()[name]))
    for parameter in cli.commands[name].params:
        if isinstance(parameter.type, click.Choice):
            assert {str(choice) for choice in parameter.type.choices} <= words


@pytest.mark.parametrize("name", ["", "selftest", "enable", "undo", "sessions", "top", "libraries", "stats"])
def test_the_page_has_every_exit_status_and_no_other(name: str) -> None:
    section = part(source_of(name), "EXIT STATUS")
    assert [int(number) for number in re.findall(r"^\.It (\d+)$", section, re.M)] == [s.value for s in ExitStatus]


def test_a_page_of_its_own_is_referred_to_where_its_command_is_listed() -> None:
    source = (MAN / "ktlsctl.8").read_text()
    for page in MAN.glob("ktlsctl-*.8"):
        name = page.stem.removeprefix("ktlsctl-")
        listed = part(source, "DESCRIPTION").partition(f".It Cm {name}\n")[2].partition("\n.It ")[0]
        assert f".Xr {page.stem} 8" in listed
        assert f".Xr {page.stem} 8" in part(source, "SEE ALSO")


def test_the_self_tests_page_has_every_state_of_a_direction_and_its_word_in_the_text() -> None:
    schema = json.loads(report_schema())["$defs"]["direction_result"]["properties"]["status"]
    states = part(source_of("selftest"), "DESCRIPTION").partition(".Ss What each state means\n")[2]
    assert re.findall(r"^\.It Sy (\w+)$", states, re.M) == [each["const"] for each in schema["oneOf"]]
    for word in ("kernel", "user space", "not asked", "FAILED", "unclear"):
        assert f"Sq {word}" in states


def test_the_page_has_every_environment_variable_that_the_command_line_reads() -> None:
    source = (MAN / "ktlsctl.8").read_text()
    read = re.findall(r'environ\.get\("(\w+)"', (MAN.parent / "ktlsctl" / "commands" / "output.py").read_text())
    assert read
    assert all(re.search(rf"^\.It Ev .*\b{name}\b", source, re.M) for name in read)


def test_the_report_page_has_every_member_and_every_value_of_the_schema() -> None:
    schema = json.loads(report_schema())
    page = plain(MAN / "ktlsctl-report.5")
    members: set[str] = set(schema["properties"])
    values: set[str] = set()
    for definition in (schema["properties"]["tool"], *schema["$defs"].values()):
        members |= set(definition.get("properties", {}))
        for part in (definition, *definition.get("properties", {}).values()):
            values |= {each["const"] for each in part.get("oneOf", ())}
    assert {name for name in members if not re.search(rf"\b{name}\b", page)} == set()
    assert {value for value in values if not re.search(rf"\b{re.escape(value)}\b", page)} == set()
