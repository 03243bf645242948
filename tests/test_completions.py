# SPDX-License-Identifier: BSD-2-Clause
"""completions/: each shell is asked what it would offer, and offers what the command line knows, no less and no more.

The shells must be there (`scripts/setup test` installs them): a missing one is a failure.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import click
import pytest

from ktlsctl.cli import cli

DIRECTORY = Path(__file__).parent.parent / "ktlsctl" / "completions"
COMMANDS = list(cli.commands)
HELP = {"-h", "--help"}


def run(*argv: str, cwd: Path | None = None) -> list[str]:
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=cwd, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def bash(*words: str, cwd: Path | None = None) -> set[str]:
    """What bash offers for the last of `words`; `=` is a word of its own, as readline has it."""
    script = (
        f"source {shlex.quote(str(DIRECTORY / 'ktlsctl.bash'))}\n"
        f"COMP_WORDS=({shlex.join(words)}) COMP_CWORD={len(words) - 1}\n"
        '_ktlsctl; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    return {line for line in run("bash", "--norc", "-c", script, cwd=cwd) if line}


def fish(line: str, cwd: Path | None = None) -> set[str]:
    script = f"source {shlex.quote(str(DIRECTORY / 'ktlsctl.fish'))}; complete -C {shlex.quote(line)}"
    return {offer.partition("\t")[0].replace("\\ ", " ") for offer in run("fish", "--no-config", "-c", script, cwd=cwd)}


def zsh(*words: str) -> list[str]:
    """The specifications that the zsh function of a command (or of ktlsctl itself) hands to _arguments."""
    name = "_".join(("_ktlsctl", *words))
    script = (
        "compdef() { }; _describe() { }\n"
        f"source {shlex.quote(str(DIRECTORY / 'ktlsctl.zsh'))}\n"
        f'_arguments() {{ print -rl -- "$@" }}\n{name}'
    )
    return run("zsh", "-f", "-c", script)


def zsh_options(*words: str) -> set[str]:
    # '(-q --quiet)--quiet[text]', '*--libssl=[text]:library:_files'
    found = (re.match(r"\*?(?:\([^)]*\))?(--?[a-z][a-z0-9.-]*)=?\[", spec) for spec in zsh(*words))
    return {match[1] for match in found if match}


def options(command: click.Command) -> set[str]:
    return {option for p in command.params if isinstance(p, click.Option) for option in p.opts} | HELP


def choices(command: click.Command) -> dict[str, set[str]]:
    """Option or argument that takes one of several words, by its longest spelling."""
    return {
        max(p.opts, key=len): {str(c) for c in p.type.choices}
        for p in command.params
        if isinstance(p.type, click.Choice)
    }


def test_the_commands_are_offered() -> None:
    assert bash("ktlsctl", "") == fish("ktlsctl ") == set(COMMANDS)
    listed = set(re.findall(r"^    '([a-z]+):", (DIRECTORY / "ktlsctl.zsh").read_text(), re.M))
    assert listed == set(COMMANDS)


def test_the_options_of_ktlsctl_itself_are_offered() -> None:
    mine = options(cli)
    assert bash("ktlsctl", "-") == mine
    assert zsh_options() == mine
    assert fish("ktlsctl -") == mine


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_a_command_is_offered_and_no_other(name: str) -> None:
    mine = options(cli.commands[name])
    assert bash("ktlsctl", name, "-") == mine
    assert zsh_options(name) == mine
    assert {offer for offer in fish(f"ktlsctl {name} -") if offer.startswith("-")} == mine


@pytest.mark.parametrize("name", COMMANDS)
def test_every_value_of_a_choice_is_offered_and_no_other(name: str) -> None:
    for option, words in choices(cli.commands[name]).items():
        if option.startswith("-"):
            assert bash("ktlsctl", name, option, "") == words
            assert bash("ktlsctl", name, option, "=", "") == words
            assert fish(f"ktlsctl {name} {option} ") == words
            (spec,) = (s for s in zsh(name) if s.startswith(f"{option}=["))
        else:
            assert bash("ktlsctl", name, "") == words
            assert fish(f"ktlsctl {name} ") == words
            (spec,) = (s for s in zsh(name) if s.startswith("1:"))
        offered = re.search(r":\((.+)\)$", spec)
        assert offered is not None
        assert set(offered[1].split()) == words


def file_options(command: click.Command) -> set[str]:
    found = {p.opts[0] for p in command.params if isinstance(p, click.Option) and p.metavar in ("PATH", "FILE")}
    return found | {"1" for p in command.params if isinstance(p, click.Argument) and p.name == "file"}


@pytest.mark.parametrize("name", COMMANDS)
def test_files_are_offered_where_a_file_is_wanted(name: str, tmp_path: Path) -> None:
    (tmp_path / "some file").touch()
    wanted = file_options(cli.commands[name])
    for option in wanted - {"1"}:
        assert bash("ktlsctl", name, option, "so", cwd=tmp_path) == {"some file"}
        assert fish(f"ktlsctl {name} {option} so", cwd=tmp_path) == {"some file"}
    if "1" in wanted:
        assert bash("ktlsctl", name, "so", cwd=tmp_path) == {"some file"}
        assert fish(f"ktlsctl {name} so", cwd=tmp_path) == {"some file"}
    found = {re.match(r"\*?(--[a-z-]+|1)", spec) for spec in zsh(name) if spec.endswith(":_files")}
    assert {match[1] for match in found if match} == wanted


def test_a_word_that_is_begun_narrows_the_offer() -> None:
    assert bash("ktlsctl", "check", "--lo") == {"--load"}
    assert bash("ktlsctl", "ca") == {"capture"}
    assert bash("ktlsctl", "check", "--format", "=", "pro") == {"prometheus"}


def test_completing_starts_no_ktlsctl(tmp_path: Path) -> None:
    trap = tmp_path / "ktlsctl"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    trap.chmod(0o755)
    for shell, line in (
        ("bash", "COMP_WORDS=(ktlsctl check -) COMP_CWORD=2; _ktlsctl"),
        ("fish", "complete -C 'ktlsctl check -'"),
    ):
        run(shell, "-c", f"export PATH={tmp_path}:$PATH; source {DIRECTORY}/ktlsctl.{shell}; {line}")
    assert not (tmp_path / "started").exists()


def test_bash_completion_passes_shellcheck() -> None:
    assert run("shellcheck", "-s", "bash", str(DIRECTORY / "ktlsctl.bash")) == []
