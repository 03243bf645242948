# SPDX-License-Identifier: BSD-2-Clause
"""enable, disable, undo, history: show a plan, ask, carry it out."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from ktlsctl.commands.options import Command, color_option, debug_option, together
from ktlsctl.commands.output import ExitStatus, Failure, progress, put, wants_color

if TYPE_CHECKING:
    from ktlsctl.changes import Outcome, Wishes
    from ktlsctl.configure.journal import Journal
    from ktlsctl.configure.roots import Root
    from ktlsctl.host import Host
    from ktlsctl.model import About


@dataclass(frozen=True)
class Manner:
    """How a plan is shown, and whether it is carried out without asking."""

    yes: bool
    diff: bool
    as_json: bool
    color: bool
    root: str = "/"


_manner_options = together(
    click.option("--diff", is_flag=True, help="Show a unified diff of every file."),
    click.option("-y", "--yes", is_flag=True, help="Carry the plan out without asking."),
    click.option("--json", "as_json", is_flag=True, help="Print one JSON document; never asks."),
    color_option,
)


def _root_option(command: Command) -> Command:
    return click.option(
        "--root",
        metavar="DIR",
        default="/",
        help="Work on the system below DIR instead of this one: on its files, which its next boot reads.",
    )(command)


def _wish_options(verb: str) -> Callable[[Command], Command]:
    """What enable and disable take."""
    return together(
        click.option("--now", is_flag=True, help=f"Switch it {verb} in the running kernel."),
        click.option("--persist", is_flag=True, help=f"Have it {verb} after every boot."),
        click.option(
            "--library",
            metavar="[PATH]",
            is_flag=False,
            flag_value="",
            default=None,
            help=f"Switch it {verb} in the openssl.cnf of the system's TLS library, or of the one at PATH: for every "
            "program that uses it.",
        ),
        click.option("--tx-only", is_flag=True, help="Sending alone, where the system can."),
        click.option("--rx-only", is_flag=True, help="Receiving alone, where the system can."),
        click.option(
            "--offload",
            metavar="IFACE",
            multiple=True,
            help=f"Linux: also switch this network interface's TLS offload {verb}, until the next boot. May be "
            "repeated.",
        ),
        _root_option,
    )


@click.command(short_help="Switch kernel TLS on: now, after boot, for a TLS library.")
@_wish_options("on")
@click.option(
    "--despite",
    metavar="NAME",
    multiple=True,
    help="Accept that this program, which --library is known to hurt, may break. May be repeated.",
)
@_manner_options
@debug_option
def enable(despite: tuple[str, ...], **given: Any) -> int:
    """Switch kernel TLS on: now, after every boot, for a TLS library.

    Without any of --now, --persist and --library: --now --persist. Shows the plan and asks; without a terminal it only
    shows the plan, and exits 1 if anything would change, 0 if nothing would. What it changes is put back by 'ktlsctl
    undo'. Lines that others wrote are named, never edited.
    """
    return _configure(True, frozenset(despite), **given)


@click.command()
@_wish_options("off")
@_manner_options
@debug_option
def disable(**given: Any) -> int:
    """Switch kernel TLS off: now, at every boot, for a TLS library.

    Without any of --now, --persist and --library: --now --persist. Works like 'ktlsctl enable'. What is in use is not
    torn away: then it says who holds it.
    """
    return _configure(False, frozenset(), **given)


def _configure(
    on: bool,
    despite: frozenset[str],
    *,
    now: bool,
    persist: bool,
    library: str | None,
    tx_only: bool,
    rx_only: bool,
    offload: tuple[str, ...],
    root: str,
    **manner: Any,
) -> int:
    from ktlsctl.changes import Wishes
    from ktlsctl.model import Direction

    if tx_only and rx_only:
        raise click.UsageError("--tx-only and --rx-only exclude each other")
    root = _chosen(root)
    elsewhere = root != "/"
    if elsewhere and (now or offload or library is not None):
        raise click.UsageError("--root writes what holds after boot: it excludes --now, --library and --offload")
    if not (now or persist or library is not None):
        now, persist = not elsewhere, True
    wishes = Wishes(
        on,
        now=now,
        persist=persist,
        only=Direction.TX if tx_only else Direction.RX if rx_only else None,
        library=library,
        offload=offload,
        despite=despite,
        root=root,
    )
    settled = with_plan(wishes, _manner(wishes.root, **manner), show_outcome)
    return outcome_status(settled)


def _chosen(root: str) -> str:
    """The root that is meant, with its full path; "/" for this system's own, by whatever name.

    Compared by what it is: /proc/PID/root of a container is a link that reads back as "/".
    """
    try:
        if os.path.samestat(os.stat(root), os.stat("/")):
            return "/"
    except OSError:
        pass  # opening it says why
    return os.path.abspath(root)


def _manner(root: str, *, yes: bool, diff: bool, as_json: bool, color: str) -> Manner:
    return Manner(yes, diff, as_json, not as_json and wants_color(color, None), root)


def outcome_status(settled: tuple[Outcome, tuple[str, ...]]) -> ExitStatus:
    from ktlsctl.changes import verdict

    outcome, errors = settled
    return ExitStatus.UNKNOWN if errors else ExitStatus[verdict(outcome).status.upper()]


@contextlib.contextmanager
def _configurable(root: str) -> Iterator[tuple[Host, Root, Journal]]:
    """The host, its files and its journal.  What goes wrong with them ends the command with a sentence."""
    from ktlsctl.configure.apply import Changed
    from ktlsctl.configure.files import FileProblem
    from ktlsctl.configure.journal import Journal, JournalError
    from ktlsctl.configure.plan import NoSystem, about_root
    from ktlsctl.configure.roots import Root, RootHost
    from ktlsctl.host import LiveHost, UnsupportedSystem

    try:
        place = Root(root)
    except OSError as error:
        raise Failure(f"cannot use {root}: {error.strerror}; name the root directory of a system.") from None
    try:
        host = LiveHost() if root == "/" else RootHost(place, about_root(place))
        yield host, place, Journal(place, host.about.os)
    except (NoSystem, UnsupportedSystem, Changed, JournalError, FileProblem) as error:
        raise Failure(f"{error}.") from None
    finally:
        place.close()


#: What shows a plan or its outcome; the errors say why it was not carried out.
_Show = Callable[["About", "Outcome", tuple[str, ...], Manner], None]


def with_plan(wishes: Wishes, manner: Manner, show: _Show) -> tuple[Outcome, tuple[str, ...]]:
    """Make the plan, show it, carry it out if it may be; the outcome, and why it was not carried out."""
    from ktlsctl.changes import proposed
    from ktlsctl.configure.apply import apply, interruption
    from ktlsctl.configure.plan import make

    with _configurable(wishes.root) as (host, root, journal):
        with progress("looking at this host ..."):
            prepared = make(host, wishes)
        notices = tuple(interruption(run, root) for run in journal.interrupted())
        return _settled(
            proposed(prepared.plan, notices),
            lambda: apply(prepared.plan, wishes.command, host, root, journal, prepared.look),
            host.about,
            manner,
            show,
        )


def _settled(
    outcome: Outcome, carry_out: Callable[[], Outcome], about: About, manner: Manner, show: _Show
) -> tuple[Outcome, tuple[str, ...]]:
    """The rules of asking.  Nothing to change: say so.  No privilege: the command to type.  No terminal: show only."""
    plan = outcome.plan
    if plan.refusals or not plan.changes:
        show(about, outcome, (), manner)
        return outcome, plan.refusals
    if manner.root == "/" and not about.privileged:
        errors = (f"only root may change this; as root, type: {_retyped()}",)
        show(about, outcome, errors, manner)
        if not manner.as_json:
            click.echo(f"ktlsctl: {errors[0]}", err=True)
        return outcome, errors
    if not manner.yes:
        show(about, outcome, (), manner)
        if manner.as_json or not (sys.stdin.isatty() and sys.stdout.isatty()):
            if not manner.as_json:
                click.echo(f"Nothing was changed. To carry it out: {_retyped()}", err=True)
            return outcome, ()
        if not click.confirm("Make these changes?"):
            click.echo("Nothing was changed.", err=True)
            return outcome, ()
    outcome = carry_out()
    show(about, outcome, (), manner)
    return outcome, ()


def _retyped() -> str:
    """The command line that carries out what the present one showed."""
    import shlex

    context = click.get_current_context()
    words = [*context.command_path.split()]
    for parameter in context.command.params:
        value = context.params.get(str(parameter.name))
        option = max(parameter.opts, key=len)
        if value in (None, False, (), parameter.default) or option in (
            "--json",
            "--color",
            "--diff",
            "--yes",
        ):
            continue
        if isinstance(parameter, click.Argument):
            words.append(str(value))
        elif value is True or value == "":
            words.append(option)
        else:
            for each in value if isinstance(value, tuple) else (value,):
                words.append(f"{option}={each}")
    return shlex.join([*words, "--yes"])


def show_outcome(about: About, outcome: Outcome, errors: tuple[str, ...], manner: Manner) -> None:
    if manner.as_json:
        from ktlsctl.render import jsondoc

        put(jsondoc.render_outcome(about, outcome, errors))
    else:
        from ktlsctl.render import plan_text

        terminal = sys.stdout.isatty()
        put(plan_text.render(outcome, root=manner.root, diff=manner.diff, color=manner.color, terminal=terminal))


@click.command(short_help="Put back what a run of enable or disable changed.")
@click.argument("run", required=False, type=click.IntRange(1))
@_root_option
@_manner_options
@debug_option
def undo(run: int | None, root: str, **given: Any) -> int:
    """Put back what a run of enable or disable changed: the last one, or the one with this number.

    Files get their content, mode and owner back, new ones go. What somebody else changed since is left alone and shown.
    Asks like 'ktlsctl enable'. 'ktlsctl history' lists the runs.
    """
    from ktlsctl.changes import Plan, proposed
    from ktlsctl.configure import undo as planner
    from ktlsctl.configure.apply import interruption
    from ktlsctl.configure.apply import undo as put_back
    from ktlsctl.configure.journal import RunState

    root = _chosen(root)
    manner = _manner(root, **given)
    with _configurable(root) as (host, place, journal):
        runs = journal.runs()
        chosen = planner.newest(runs) if run is None else next((r for r in runs if r.id == run), None)
        if chosen is None and run is not None:
            raise Failure(f"the journal has no run {run}; 'ktlsctl history' lists those that it has.")
        if chosen is None or chosen.state is RunState.UNDONE:
            outcome = proposed(Plan(f"undo {run}" if run else "undo", ()))
            show_outcome(host.about, outcome, (), manner)
            return outcome_status((outcome, ()))
        undoing = planner.plan(chosen, runs, host, place)
        notices = tuple(interruption(r, place) for r in journal.interrupted() if r.id != chosen.id)
        if not undoing.steps and (manner.yes or sys.stdin.isatty()):
            # nothing to put back, but the run has to be closed, and what it left half-written to go
            outcome = put_back(undoing, host, place, journal)
            show_outcome(host.about, outcome, (), manner)
            return outcome_status((outcome, ()))
        return outcome_status(
            _settled(
                proposed(undoing.plan, notices),
                lambda: put_back(undoing, host, place, journal),
                host.about,
                manner,
                show_outcome,
            )
        )


@click.command(short_help="List what enable and disable did, newest first.")
@_root_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@debug_option
def history(root: str, as_json: bool) -> int:
    """List the runs of enable and disable that the journal knows, newest first."""
    from ktlsctl.configure.past import past_runs

    root = _chosen(root)
    with _configurable(root) as (host, _, journal):
        runs = past_runs(journal)
        if as_json:
            from ktlsctl.render import jsondoc

            put(jsondoc.render_history(host.about, runs))
        else:
            from ktlsctl.render import plan_text

            put(plan_text.history(runs, root))
    return ExitStatus.OK
