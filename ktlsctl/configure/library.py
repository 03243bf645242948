# SPDX-License-Identifier: BSD-2-Clause
"""`Options = KTLS` in the openssl.cnf that a library really reads, after naming who would be hurt by it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ktlsctl import endangered, openssl, opensslcnf_edit
from ktlsctl.changes import Change, FileEdit, Kind, Obstacle, Scope, Wishes
from ktlsctl.endangered import Inventory
from ktlsctl.host import Host
from ktlsctl.model import Attempt, Library, Outcome, Remedy, Tri
from ktlsctl.opensslcnf_edit import Edited, Refused

#: A context with the configuration, in a child.
_PATIENCE = 20.0


@dataclass(frozen=True, slots=True)
class Facts:
    """`library`: the one that is meant, None when it was not found, with `why`.  `content`: its configuration file.
    `inventory`: None where nobody has to be warned.  `sharing`: paths of all libraries that read that file.
    `redirected`: OPENSSL_CONF names a file for this process alone."""

    library: Library | None
    why: str
    content: Attempt[bytes]
    edit: Edited | Refused | None
    inventory: Inventory | None
    sharing: tuple[str, ...] = ()
    redirected: bool = False


def gather(host: Host, wishes: Wishes) -> Facts:
    """Ask the library which file it reads and whether it turns kernel TLS on; look for programs that break."""
    # a library would name that file as its own (crypto/conf/conf_mod.c: CONF_get1_default_config_file)
    redirected = host.ask("OPENSSL_CONF is set", lambda: "OPENSSL_CONF" in os.environ).or_else(False) is True
    if redirected:
        return Facts(None, "", Attempt(Outcome.UNRECORDED), None, None, redirected=True)
    named = (wishes.library,) if wishes.library else ()
    found = openssl.judge(openssl.begin(host, named).facts(), host.about)
    # one that was named and cannot be used must not make another one the subject
    library = None if found.subject is None or found.errors else found.libraries[found.subject]
    if library is None or not library.config_file:
        why = found.errors[0] if found.errors else "" if library is None else library.reason
        return Facts(library, why or "it was not found", Attempt(Outcome.UNRECORDED), None, None)
    content = host.read(library.config_file)
    edit: Edited | Refused | None = None
    if content.present or content.absent:
        change = opensslcnf_edit.enable_ktls if wishes.on else opensslcnf_edit.disable_ktls
        edit = change(content.value, library.config_file, host)
    sharing = _sharing(host, library, found.libraries)
    inventory = None
    if wishes.on:
        inventory = endangered.merged(endangered.inventory(host, each) for each in sharing)
    return Facts(library, "", content, edit, inventory, tuple(each.path for each in sharing))


def _sharing(host: Host, library: Library, libraries: tuple[Library, ...]) -> tuple[Library, ...]:
    """The library, and the others that read the same configuration file."""

    def real(path: str) -> str:
        return host.resolve(path).or_else(path)

    own = real(library.config_file)
    others = (x for x in libraries if x is not library and x.config_file and real(x.config_file) == own)
    return (library, *others)


Item = Change | Obstacle


def refusals(facts: Facts, wishes: Wishes) -> Iterator[str]:
    """Why the whole plan is not carried out: a name that leads to no library; endangered programs, each of which has to
    be accepted by name."""
    if facts.redirected:
        yield "OPENSSL_CONF is set here, and names another file than the one other programs read: unset it"
        return
    if facts.library is None and wishes.library:
        yield facts.why
    if facts.inventory is None or not any(isinstance(item, Change) for item in plan(facts, wishes)):
        return
    hurt = [program for program in facts.inventory.endangered if program.name not in wishes.despite]
    if hurt:
        accepting = " ".join(f"--despite {program.name}" for program in hurt)
        yield (
            f"{', '.join(program.title for program in hurt)} would be hurt: accept that with {accepting}, or leave "
            "--library out"
        )


def plan(facts: Facts, wishes: Wishes) -> Iterator[Item]:
    """Changes and obstacles for the library; pure."""
    library = facts.library

    def blocked(summary: str, *remedy: Remedy) -> Obstacle:
        return Obstacle(Scope.LIBRARY, summary, True, remedy)

    if wishes.only is not None:
        yield blocked(
            "openssl.cnf has no switch for one direction of kernel TLS",
            Remedy("leave --tx-only and --rx-only out, or --library"),
        )
        return
    if library is None:
        if not wishes.library and not facts.redirected:
            yield blocked(f"no TLS library could be asked: {facts.why}", Remedy("name it: --library=PATH"))
        return
    if wishes.on and library.built_with_ktls is Tri.NO:
        yield blocked(
            f"{library.path} was built without kernel TLS: no configuration turns it on",
            Remedy("use a library that has it: ktlsctl check -v lists those that are here"),
        )
        return
    if facts.edit is None:
        why = facts.content.reason if library.config_file else "it names no configuration file"
        yield blocked(
            f"the configuration of {library.path} could not be read: {library.config_file or facts.why} ({why})",
            Remedy("run this as root, or mend that first"),
        )
        return
    if isinstance(facts.edit, Refused):
        yield blocked(f"{facts.edit.where}: {facts.edit.why}", Remedy(facts.edit.proposal))
        return
    before = facts.content.value
    after = facts.edit.content
    if after == (before or b""):
        return
    if facts.inventory is not None:
        yield from _warnings(facts.inventory)
    yield Change(
        "library.openssl-cnf",
        Scope.LIBRARY,
        Kind.FILE,
        f"{'turn kernel TLS on' if wishes.on else 'take the Options line away'} for every program that uses "
        f"{' or '.join(facts.sharing or (library.path,))}",
        FileEdit(library.config_file, before, after),
        "; ".join(("running programs see it when they are started anew", *facts.edit.notes)),
    )


def look(host: Host, facts: Facts, wishes: Wishes) -> Callable[[Change], str]:
    """Whether a library obeys its file only the library knows: asked after the change, in a child."""

    def obeyed(change: Change) -> str:
        if change.scope is not Scope.LIBRARY or not wishes.on or facts.library is None:
            return ""
        asked = {"path": facts.library.path, "config": change.target}
        attempt = host.begin("ktlsctl.libsslprobe:wants", asked, _PATIENCE).answer()
        answer = attempt.value if isinstance(attempt.value, dict) else {}
        if answer.get("server") is True:
            return ""
        why = attempt.reason or answer.get("detail") or answer.get("fault") or "its new contexts do not ask for it"
        return f"{facts.library.path} was asked with {change.target} and does not turn kernel TLS on: {why}"

    return obeyed


def _warnings(inventory: Inventory) -> Iterator[Obstacle]:
    for program in inventory.endangered:
        places = (*program.running, *program.installed)
        where = f" ({', '.join(places[:3])}{', ...' if len(places) > 3 else ''})" if places else ""
        yield Obstacle(
            Scope.LIBRARY, f"{program.title}{where}: {program.why}; {program.harm}", False, (program.way_out,)
        )
    if inventory.endangered:
        yield Obstacle(
            Scope.LIBRARY,
            "kernel TLS for one service alone hurts nobody else",
            False,
            (Remedy("see what to write into its configuration, for example", "ktlsctl snippet nginx"),),
        )
    if inventory.unjudged:
        what = ", ".join(inventory.unjudged[:5])
        yield Obstacle(Scope.LIBRARY, f"of these programs nothing is known, and they use it, too: {what}", False, ())
    if inventory.unseen:
        what = "; ".join(inventory.unseen[:3])
        yield Obstacle(Scope.LIBRARY, f"not everything could be looked at: {what}", False, ())
