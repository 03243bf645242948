# SPDX-License-Identifier: BSD-2-Clause
"""Where an openssl.cnf writes KTLS, and why such a line has no effect.

This only explains: whether kTLS is on is asked of the library itself (libsslprobe.py).  Format: config(5ssl); semantics
as crypto/conf/conf_def.c, conf_api.c and ssl/ssl_conf.c have them, each measured with a real library.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from ktlsctl.facts.conflines import (
    Assignment,
    Damage,
    Header,
    Include,
    Pragma,
    Statement,
    Unexpandable,
    expand,
    logical_lines,
    references,
    statement,
)
from ktlsctl.host import Filter, NameFilter
from ktlsctl.model import Attempt, Outcome

#: The section of what stands before the first header.
DEFAULT_SECTION = "default"

#: No configuration nests deeper; a file that includes itself would never end.
_DEEPEST = 8

#: A file that includes itself twice would make as many as this, and so would variables made of variables.
_MOST_FILES = 256
_MOST_CHARACTERS = 8 * 1024 * 1024

#: How a value begins that only the environment of the reading program knows.
ENVIRONMENT = "$ENV::"

#: What the filter writes for a line that OpenSSL cannot parse.
_DAMAGE = "?"

#: Names that lead to kTLS: their values are section names or switches, never secrets.
_WAY = frozenset({"openssl_conf", "system_default", "config_diagnostics"})

#: What may stand in the section that openssl_conf names, in the order in which a name is looked for: its begin is
#: enough (conf_mod.c: module_find).  Of anything else comes an error, and what follows is not read.
_MODULES = ("oid_section", "stbl_section", "engines", "alg_section", "ssl_conf", "providers", "random")

#: ssl/ssl_conf.c, ssl_option_single and tls_option tables of 3.0 to 4.0; lower case, as they are compared.
_OPTION_NAMES = """
    sessionticket emptyfragments bugs compression serverpreference noresumptiononrenegotiation dhsingle ecdhsingle
    unsafelegacyrenegotiation unsafelegacyserverconnect clientrenegotiation encryptthenmac norenegotiation allownodhekex
    prefernodhekex prioritizechacha middleboxcompat antireplay extendedmastersecret canames ktls strictcertcheck
    txcertificatecompression rxcertificatecompression ktlstxzerocopysendfile ignoreunexpectedeof
"""
_KNOWN_OPTIONS = frozenset(_OPTION_NAMES.split())
#: For a client, or a release before 3.2, these are unknown and end a list.
_SPARSE_NAMES = """
    serverpreference noresumptiononrenegotiation dhsingle ecdhsingle
    txcertificatecompression rxcertificatecompression ktlstxzerocopysendfile
"""
_SPARSE_OPTIONS = frozenset(_SPARSE_NAMES.split())


class Files(Protocol):
    """What is asked for files: any `Host`."""

    def read(self, path: str, keep: Filter | None = None) -> Attempt[bytes]: ...

    def names(self, path: str, keep: NameFilter | None = None) -> Attempt[tuple[str, ...]]: ...

    def resolve(self, path: str) -> Attempt[str]: ...


@dataclass(frozen=True, slots=True)
class Line:
    """One assignment: in which file and line (from 1), in which section, name and value as written."""

    file: str
    number: int
    section: str
    name: str
    value: str


def keep_relevant(content: bytes) -> bytes:
    """A filter for `Host.read`: sections, includes, names, and the few values that lead to kTLS.

    Every other value is withheld, since PINs and passwords stand in such files; line numbers stay what they are.
    """
    found = [(line.first, statement(line.text)) for line in logical_lines(content)]
    sections = {said.name for _, said in found if isinstance(said, Header)}
    assignments = [said for _, said in found if isinstance(said, Assignment)]
    telling = {said for said in assignments if _telling(said, sections)}
    # and the variables that such a value is put together from
    wanted = {name for said in telling for name in references(said.value)}
    for said in reversed(assignments):
        if said.name in wanted:
            telling.add(said)
            wanted.update(references(said.value))
    kept: list[str] = []
    for number, what in found:
        kept.extend([""] * (number - 1 - len(kept)))
        kept.append(_kept(what, telling))
    return "\n".join([*kept, ""]).encode("utf-8", "surrogateescape")


def _telling(said: Assignment, sections: set[str]) -> bool:
    if said.name in _WAY or _loads_ssl_conf(said.name) or said.value in sections:
        return True
    # what is quoted or put together may spell it as well
    return _commands_options(said.name) and ("ktls" in said.value.lower() or any(c in said.value for c in "$'\"`\\"))


def _kept(said: Statement, telling: set[Assignment]) -> str:
    match said:
        case Header(name):
            return f"[{name}]"
        case Include(path):
            return f".include = {path}".rstrip()
        case Pragma(keyword, value):
            return f".pragma = {keyword}:{value}"
        case Assignment(section, name, value):
            return f"{section + '::' if section else ''}{name} = {value if said in telling else ''}".rstrip()
        case Damage():
            return _DAMAGE


@dataclass(frozen=True, slots=True)
class Place:
    """A statement of a file: its last physical line, and which section is open behind it.

    `sure`: the file itself says so, no file that it includes may have opened another since.
    """

    number: int
    section: str
    header: bool
    sure: bool


@dataclass(frozen=True, slots=True)
class Configuration:
    """A configuration file with what it includes: its lines in the order in which they count.

    `unread`: includes that could not be followed.  `damage`: FILE:LINE of the first line that OpenSSL cannot parse; it
    then takes nothing from any of these files.
    """

    path: str
    lines: tuple[Line, ...]
    unread: tuple[str, ...] = ()
    damage: str = ""
    #: those with a header of their own but no line as well
    sections: frozenset[str] = frozenset()
    #: the statements of the file itself, without those that it includes
    places: tuple[Place, ...] = ()


def read(host: Files, path: str) -> Attempt[Configuration]:
    """The file and its includes through the host door.  The attempt is that of the file itself."""
    content = host.read(path, keep_relevant)
    if content.value is None:
        return Attempt(content.outcome, None, content.reason)
    # lines are shown where an editor shall go: distributions link to /etc/ssl/openssl.cnf
    return Attempt.ran(configuration(content.value, path, host, host.resolve(path).or_else(path)))


def configuration(content: bytes, path: str, files: Files, shown: str = "", *, whole: bool = False) -> Configuration:
    """What OpenSSL makes of these bytes, were they in `path`; `files` has what they include.

    `whole`: nothing is withheld, so that a variable without a value is noticed anywhere.  `shown`: the path to name.
    """
    reader = _Reader(files, whole)
    reader.follow(content, shown or path, 1)
    return Configuration(
        path,
        tuple(reader.lines),
        tuple(reader.unread),
        reader.damage,
        frozenset(reader.sections),
        tuple(reader.places),
    )


class _Reader:
    """Follows includes as text: a section stays open into the included file and out of it again."""

    def __init__(self, files: Files, whole: bool) -> None:
        self._files = files
        self._whole = whole
        self._values: dict[tuple[str, str], str] = {}
        self._dollarid = False
        self._directory = ""
        self._followed = 0
        self._expanded_characters = 0
        self._section = DEFAULT_SECTION
        self.sections = {DEFAULT_SECTION}
        self.places: list[Place] = []
        self.lines: list[Line] = []
        self.unread: list[str] = []
        self.damage = ""

    def follow(self, content: bytes, file: str, depth: int) -> None:
        for line in logical_lines(content if self._whole else keep_relevant(content)):
            said = statement(line.text, self._dollarid)
            try:
                self._take(said, file, line.first, depth)
            except Unexpandable:
                self.damage = self.damage or f"{file}:{line.first}"
            if depth == 1:
                header = isinstance(said, Header)
                sure = header or (not isinstance(said, Include) and (not self.places or self.places[-1].sure))
                self.places.append(Place(line.last, self._section, header, sure))

    def _take(self, said: Statement, file: str, number: int, depth: int) -> None:
        match said:
            case Header(name):
                # variables of a header are looked for among those before the first one
                self._section = self._expanded(name, DEFAULT_SECTION)
                self.sections.add(self._section)
            case Include(path):
                self._include(self._expanded(path, self._section), depth)
            case Pragma("dollarid", value):
                self._dollarid = value.lower() in ("on", "true")
            case Pragma("includedir", value):
                self._directory = value
            case Assignment(section, name, raw):
                section = section or self._section
                value = self._expanded(raw, section)
                self.sections.add(section)
                self._values[section, name] = value
                self.lines.append(Line(file, number, section, name, value))
            case Damage():
                self.damage = self.damage or f"{file}:{number}"

    def _expanded(self, value: str, section: str) -> str:
        found = expand(value, section, self._variable, self._dollarid)
        self._expanded_characters += len(found)
        if self._expanded_characters > _MOST_CHARACTERS:
            raise Unexpandable("the configuration becomes larger than any")
        return found

    def _variable(self, section: str, name: str) -> str | None:
        found = self._values.get((section, name), self._values.get((DEFAULT_SECTION, name)))
        if found is None and section == "ENV":
            # it is that of the program that reads the file
            return f"{ENVIRONMENT}{name}"
        return found

    def _include(self, path: str, depth: int) -> None:
        if self._directory and not path.startswith("/"):
            path = f"{self._directory.rstrip('/')}/{path}"
        if not path:
            return
        if not path.startswith("/") or "\0" in path or depth >= _DEEPEST or self._followed >= _MOST_FILES:
            # relative to the current directory or to OPENSSL_CONF_INCLUDE of whatever program reads it
            self.unread.append(path)
            return
        for file in self._listed(path):
            self._followed += 1
            content = self._files.read(file, None if self._whole else keep_relevant)
            if content.value is not None:
                self.follow(content.value, file, depth + 1)
            elif content.outcome is not Outcome.ABSENT:
                self.unread.append(file)

    def _listed(self, path: str) -> list[str]:
        """A directory stands for its *.cnf and *.conf (conf_def.c: get_next_file); anything else for itself."""
        listing = self._files.names(path)
        if listing.value is None:
            return [path]
        return [f"{path.rstrip('/')}/{name}" for name in listing.value if name.lower().endswith((".cnf", ".conf"))]


class Effect(StrEnum):
    """What becomes of a line that names KTLS."""

    ON = "on"
    OFF = "off"
    REPLACED = "replaced"
    UNREACHED = "unreached"
    STOPPED = "stopped"
    #: for one application, which asks for its own section by name (SSL_CTX_config)
    APPLICATION = "application"


@dataclass(frozen=True, slots=True)
class KtlsLine:
    """A line that names KTLS, what becomes of it, and why when it has no effect."""

    line: Line
    effect: Effect
    why: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """Every line that names KTLS, and whether `system_default` ends with it on (None: nothing says).

    `everywhere`: the same for clients and for releases that know the fewest options.  `way`: where it ends or breaks.
    """

    lines: tuple[KtlsLine, ...]
    on: bool | None
    everywhere: bool | None
    way: Way


@dataclass(frozen=True, slots=True)
class Way:
    """openssl_conf → ssl_conf → system_default.  `section`: what every new context reads, "" when the way breaks.

    Then `gap` says why, and `at` is the section in which the name `missing` is wanted; "" when adding it does not help.
    """

    section: str
    gap: str = ""
    at: str = ""
    missing: str = ""


def explain(configuration: Configuration) -> Reading:
    """Follow openssl_conf → ssl_conf → system_default, and say of every line that names KTLS what becomes of it."""
    lines = configuration.lines
    way = _way(configuration)
    counting = _counting(lines, way.section)
    on: bool | None = None
    everywhere: bool | None = None
    found: list[KtlsLine] = []
    for line in lines:
        if not _commands_options(line.name) or "ktls" not in {name for _, name in _items(line.value)}:
            continue
        if line not in counting:
            found.append(KtlsLine(line, *_why_idle(line, lines, way)))
            continue
        least, _ = _switch(line.value, _KNOWN_OPTIONS - _SPARSE_OPTIONS)
        everywhere = everywhere if least is None else least
        state, stopper = _switch(line.value, _KNOWN_OPTIONS)
        if state is None:
            why = f"{stopper or 'an empty item'} before it is no option, and the rest of the list is skipped"
            found.append(KtlsLine(line, Effect.STOPPED, why))
            continue
        on = state
        found.append(KtlsLine(line, Effect.ON if state else Effect.OFF))
    return Reading(tuple(found), on, everywhere, way)


def _way(configuration: Configuration) -> Way:
    """As CONF_modules_load (conf_mod.c) and ssl_module_init (conf_ssl.c) follow it."""
    lines = configuration.lines
    if configuration.damage:
        return Way("", f"{configuration.damage} cannot be parsed, so nothing of the configuration is used")
    start = _last(lines, DEFAULT_SECTION, "openssl_conf")
    if start is None:
        gap = "there is no `openssl_conf =` line before the first section"
        return Way("", gap, DEFAULT_SECTION, "openssl_conf")
    entries = _entries(lines, start.value)
    if not entries:
        gap = f"openssl_conf names the section [{start.value}], which is empty or missing"
        return Way("", gap, start.value, "ssl_conf")
    if not any(_loads_ssl_conf(entry.name) for entry in entries):
        return Way("", f"there is no `ssl_conf =` line in [{start.value}]", start.value, "ssl_conf")
    module: Line | None = None
    for entry in entries:
        if _loads_ssl_conf(entry.name):
            broken = _broken(lines, entry)
            if broken is not None:
                return broken
            module = entry
        elif not _is_module(entry.name):
            break
    if module is None:
        first = next(entry for entry in entries if not _is_module(entry.name))
        return Way("", f"`{first.name} =` at {first.file}:{first.number} is no module, and what follows is not read")
    found = _last(lines, module.value, "system_default")
    if found is None:
        return Way("", f"there is no `system_default =` line in [{module.value}]", module.value, "system_default")
    return Way(found.value)


def _broken(lines: Sequence[Line], module: Line) -> Way | None:
    """An ssl_conf section of which one entry leads nowhere is dropped as a whole."""
    entries = _entries(lines, module.value)
    if not entries:
        gap = f"ssl_conf names the section [{module.value}], which is empty or missing"
        return Way("", gap, module.value, "system_default")
    for entry in entries:
        if not _entries(lines, entry.value):
            gap = f"{entry.name} names the section [{entry.value}], which is empty or missing"
            mendable = entry.name == "system_default" and all(_entries(lines, x.value) for x in entries if x != entry)
            return Way("", gap, entry.value if mendable else "", "Options" if mendable else "")
    return None


def _entries(lines: Sequence[Line], section: str) -> list[Line]:
    """The lines of a section that are not replaced by a later one of the same name (conf_api.c: _CONF_add_string)."""
    last = {line.name: line for line in lines if line.section == section}
    return [line for line in lines if line.section == section and last[line.name] is line]


def _last(lines: Sequence[Line], section: str, name: str) -> Line | None:
    return next((x for x in reversed(lines) if x.section == section and x.name == name), None)


def _module(name: str) -> str:
    """Of `ssl_conf.1` the begin, up to its last dot."""
    begin, dot, _ = name.rpartition(".")
    return begin if dot else name


def _is_module(name: str) -> bool:
    return any(module.startswith(_module(name)) for module in _MODULES)


def _loads_ssl_conf(name: str) -> bool:
    return next((module for module in _MODULES if module.startswith(_module(name))), "") == "ssl_conf"


def _commands_options(name: str) -> bool:
    """Up to its first dot a name is a free label (conf_ssl.c); the command itself is compared without case."""
    _, dot, rest = name.partition(".")
    return (rest if dot else name).translate(_LOWER) == "options"


def _counting(lines: Sequence[Line], section: str) -> list[Line]:
    """The Options lines of the section that are not replaced by a later one of the very same name."""
    return [line for line in _entries(lines, section) if _commands_options(line.name)] if section else []


def _why_idle(line: Line, lines: Sequence[Line], way: Way) -> tuple[Effect, str]:
    if way.section and line.section == way.section:
        return Effect.REPLACED, f"a later `{line.name} =` line in [{way.section}] replaces it"
    applications = _applications(lines)
    if line.section in applications:
        return Effect.APPLICATION, f"only a program that asks for `{applications[line.section]}` reads [{line.section}]"
    if not way.section:
        return Effect.UNREACHED, way.gap
    return Effect.UNREACHED, f"it stands in [{line.section}], and programs read [{way.section}]"


def _applications(lines: Sequence[Line]) -> dict[str, str]:
    """Section by section which application name of the ssl_conf section leads to it."""
    start = _last(lines, DEFAULT_SECTION, "openssl_conf")
    module = _last(lines, start.value, "ssl_conf") if start else None
    if module is None:
        return {}
    return {x.value: x.name for x in lines if x.section == module.value and x.name != "system_default" and x.value}


def _items(value: str) -> list[tuple[bool, str]]:
    """(on, option name in lower case) of a comma list."""
    # ASCII only, as C compares: str.lower would take the Kelvin sign for a k
    names = [item.strip(" \t\n\v\f\r").translate(_LOWER) for item in value.split(",")]
    return [(not name.startswith("-"), name[1:] if name[:1] in ("+", "-") else name) for name in names]


_LOWER = {ord("A") + i: ord("a") + i for i in range(26)}


def _switch(value: str, known: frozenset[str]) -> tuple[bool | None, str]:
    """What the list makes of KTLS, or None and the unknown option that ends the list before it."""
    state: bool | None = None
    for on, name in _items(value):
        if name not in known:
            return state, name
        if name == "ktls":
            state = on
    return state, ""
