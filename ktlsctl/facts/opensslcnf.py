# SPDX-License-Identifier: BSD-2-Clause
"""Where an openssl.cnf writes KTLS, and why such a line has no effect.

This only explains: whether kTLS is on is asked of the library itself (libssl.py).  Format: config(5ssl); semantics as
crypto/conf/conf_def.c, conf_api.c and ssl/ssl_conf.c have them, each measured with a real library.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from ktlsctl.host import Host
from ktlsctl.model import Attempt, Outcome

#: The section of what stands before the first header.
DEFAULT_SECTION = "default"

#: No configuration nests deeper; a file that includes itself would never end.
_DEEPEST = 8

_HEADER = re.compile(r"\s*\[\s*([^\]]*?)\s*\]")
_ASSIGNMENT = re.compile(r"\s*(?:([^\s=:]+)\s*::\s*)?([^\s=]+?)\s*=\s*(.*)$", re.DOTALL)
_INCLUDE = re.compile(r"\s*\.include\b\s*=?\s*(.*)$", re.DOTALL)
_PRAGMA = re.compile(r"\s*\.pragma\b")

#: What the filter writes for a line that OpenSSL cannot parse.
_DAMAGE = "?"

#: Names that lead to kTLS: their values are section names or switches, never secrets.
_WAY = frozenset({"openssl_conf", "ssl_conf", "system_default", "config_diagnostics"})

#: ssl/ssl_conf.c, ssl_option_single and tls_option tables of 3.0 to 4.0; lower case, as they are compared.
_OPTION_NAMES = """
    sessionticket emptyfragments bugs compression serverpreference noresumptiononrenegotiation dhsingle ecdhsingle
    unsafelegacyrenegotiation unsafelegacyserverconnect clientrenegotiation encryptthenmac norenegotiation allownodhekex
    prefernodhekex prioritizechacha middleboxcompat antireplay extendedmastersecret canames ktls strictcertcheck
    txcertificatecompression rxcertificatecompression ktlstxzerocopysendfile ignoreunexpectedeof
"""
_KNOWN_OPTIONS = frozenset(_OPTION_NAMES.split())


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
    logical = tuple(_logical_lines(content))
    sections = {header[1] for _, text in logical if (header := _HEADER.match(text))}
    kept: list[str] = []
    for number, text in logical:
        kept.extend([""] * (number - 1 - len(kept)))
        if header := _HEADER.match(text):
            kept.append(f"[{header[1]}]")
        elif include := _INCLUDE.match(text):
            kept.append(f".include {include[1].strip()}")
        elif found := _ASSIGNMENT.match(text):
            section, name, value = found.groups()
            plain = value.strip()
            telling = name in _WAY or plain in sections or (_commands_options(name) and "ktls" in plain.lower())
            kept.append(f"{section + '::' if section else ''}{name} = {plain if telling else ''}".rstrip())
        elif not _PRAGMA.match(text):
            kept.append(_DAMAGE)
    return "\n".join([*kept, ""]).encode("utf-8", "surrogateescape")


def _logical_lines(content: bytes) -> Iterator[tuple[int, str]]:
    """Number of the first physical line, and the text without comment, continuation lines joined."""
    pending, start = "", 0
    for number, raw in enumerate(content.decode("utf-8", "surrogateescape").split("\n"), 1):
        start = start or number
        line = raw.removesuffix("\r")
        if line.endswith("\\") and not line.endswith("\\\\"):
            pending += line[:-1]
            continue
        text = _without_comment(pending + line)
        if text.strip():
            yield start, text
        pending, start = "", 0
    if pending:
        yield start, _without_comment(pending)


def _without_comment(text: str) -> str:
    """Cut at the first # that is neither quoted nor escaped (conf_def.c: clear_comments)."""
    quote = ""
    skip = False
    for at, char in enumerate(text):
        if skip:
            skip = False
        elif char == "\\":
            skip = True
        elif quote:
            quote = "" if char == quote else quote
        elif char in "\"'`":
            quote = char
        elif char == "#":
            return text[:at]
    return text


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


def read(host: Host, path: str) -> Attempt[Configuration]:
    """The file and its includes through the host door.  The attempt is that of the file itself."""
    content = host.read(path, keep_relevant)
    if content.value is None:
        return Attempt(content.outcome, None, content.reason)
    reader = _Reader(host)
    # lines are shown where an editor shall go: distributions link to /etc/ssl/openssl.cnf
    reader.follow(content.value, host.resolve(path).or_else(path), 1)
    return Attempt.ran(Configuration(path, tuple(reader.lines), tuple(reader.unread), reader.damage))


class _Reader:
    """Follows includes as text: a section stays open into the included file and out of it again."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._section = DEFAULT_SECTION
        self.lines: list[Line] = []
        self.unread: list[str] = []
        self.damage = ""

    def follow(self, content: bytes, file: str, depth: int) -> None:
        for number, text in _logical_lines(content):
            if header := _HEADER.match(text):
                self._section = header[1]
            elif include := _INCLUDE.match(text):
                self._include(_unquoted(include[1]), depth)
            elif found := _ASSIGNMENT.match(text):
                self.lines.append(Line(file, number, found[1] or self._section, found[2], _unquoted(found[3])))
            elif not _PRAGMA.match(text):
                self.damage = self.damage or f"{file}:{number}"

    def _include(self, path: str, depth: int) -> None:
        if not path.startswith("/") or depth >= _DEEPEST:
            # relative to the current directory or to OPENSSL_CONF_INCLUDE of whatever program reads it
            self.unread.append(path)
            return
        for file in self._files(path):
            content = self._host.read(file, keep_relevant)
            if content.value is not None:
                self.follow(content.value, file, depth + 1)
            elif content.outcome is not Outcome.ABSENT:
                self.unread.append(file)

    def _files(self, path: str) -> list[str]:
        """A directory stands for its *.cnf and *.conf (conf_def.c: get_next_file); anything else for itself."""
        listing = self._host.names(path)
        if listing.value is None:
            return [path]
        return [f"{path.rstrip('/')}/{name}" for name in listing.value if name.endswith((".cnf", ".conf"))]


def _unquoted(value: str) -> str:
    value = value.strip()
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'`":
        return value[1:-1]
    return value


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
    """Every line that names KTLS, and whether `system_default` ends with it on (None: nothing says)."""

    lines: tuple[KtlsLine, ...]
    on: bool | None


def explain(configuration: Configuration) -> Reading:
    """Follow openssl_conf → ssl_conf → system_default, and say of every line that names KTLS what becomes of it."""
    lines = configuration.lines
    section, gap = _system_default(lines)
    if configuration.damage:
        section, gap = None, f"{configuration.damage} cannot be parsed, so nothing of the configuration is used"
    counting = _counting(lines, section)
    on: bool | None = None
    found: list[KtlsLine] = []
    for line in lines:
        if not _commands_options(line.name) or "ktls" not in {name for _, name in _items(line.value)}:
            continue
        if line not in counting:
            found.append(KtlsLine(line, *_why_idle(line, lines, section, gap)))
            continue
        state, stopper = _switch(line.value)
        if state is None:
            why = f"{stopper or 'an empty item'} before it is no option, and the rest of the list is skipped"
            found.append(KtlsLine(line, Effect.STOPPED, why))
            continue
        on = state
        found.append(KtlsLine(line, Effect.ON if state else Effect.OFF))
    return Reading(tuple(found), on)


def _system_default(lines: Sequence[Line]) -> tuple[str | None, str]:
    """The section that every new context reads, or None and the link of the way that is missing."""
    where = DEFAULT_SECTION
    for name in ("openssl_conf", "ssl_conf", "system_default"):
        step = _last(lines, where, name)
        if step is None:
            place = "before the first section" if where == DEFAULT_SECTION else f"in [{where}]"
            return None, f"there is no `{name} =` line {place}"
        if not any(line.section == step.value for line in lines):
            return None, f"{name} names the section [{step.value}], which is empty or missing"
        where = step.value
    return where, ""


def _last(lines: Sequence[Line], section: str, name: str) -> Line | None:
    """Of two lines of one name in a section the last counts (conf_api.c: _CONF_add_string)."""
    return next((x for x in reversed(lines) if x.section == section and x.name == name), None)


def _commands_options(name: str) -> bool:
    """Up to its first dot a name is a free label (conf_ssl.c); the command itself is compared without case."""
    _, dot, rest = name.partition(".")
    return (rest if dot else name).lower() == "options"


def _counting(lines: Sequence[Line], section: str | None) -> list[Line]:
    """The Options lines of the section that are not replaced by a later one of the very same name."""
    last = {line.name: line for line in lines if line.section == section and _commands_options(line.name)}
    return list(last.values())


def _why_idle(line: Line, lines: Sequence[Line], section: str | None, gap: str) -> tuple[Effect, str]:
    if line.section == section:
        return Effect.REPLACED, f"a later `{line.name} =` line in [{section}] replaces it"
    applications = _applications(lines)
    if line.section in applications:
        return Effect.APPLICATION, f"only a program that asks for `{applications[line.section]}` reads [{line.section}]"
    if section is None:
        return Effect.UNREACHED, gap
    return Effect.UNREACHED, f"it stands in [{line.section}], and programs read [{section}]"


def _applications(lines: Sequence[Line]) -> dict[str, str]:
    """Section by section which application name of the ssl_conf section leads to it."""
    start = _last(lines, DEFAULT_SECTION, "openssl_conf")
    module = _last(lines, start.value, "ssl_conf") if start else None
    if module is None:
        return {}
    return {x.value: x.name for x in lines if x.section == module.value and x.name != "system_default" and x.value}


def _items(value: str) -> list[tuple[bool, str]]:
    """(on, option name in lower case) of a comma list."""
    names = [item.strip().lower() for item in value.split(",")]
    return [(not name.startswith("-"), name[1:] if name[:1] in ("+", "-") else name) for name in names]


def _switch(value: str) -> tuple[bool | None, str]:
    """What the list makes of KTLS, or None and the unknown option that ends the list before it."""
    state: bool | None = None
    for on, name in _items(value):
        if name not in _KNOWN_OPTIONS:
            return state, name
        if name == "ktls":
            state = on
    return state, ""
