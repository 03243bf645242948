# SPDX-License-Identifier: BSD-2-Clause
"""The smallest edit of an openssl.cnf that makes every new context want kTLS, or want it no more.

Pure functions over bytes.  Only whole lines are added and taken away, each with a mark; every other byte stays.  An
edit is given out only when the reader (facts/opensslcnf.py) finds its effect, and every other setting as it was.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from ktlsctl.facts.conflines import open_ended
from ktlsctl.facts.opensslcnf import (
    DEFAULT_SECTION,
    ENVIRONMENT,
    Configuration,
    Effect,
    Files,
    KtlsLine,
    Reading,
    configuration,
    explain,
)
from ktlsctl.host import Filter, NameFilter
from ktlsctl.model import Attempt, Outcome

#: Ends every line that is added, so that it can be told from the administrator's.
MARK = "# by ktlsctl"

#: Up to its first dot a name is a label: this line adds to the other `Options` lines instead of replacing them.
OPTION = "ktlsctl.Options = KTLS"

#: Sections for the part of the way that a file lacks; never one that lies unused in the file, whose other lines would
#: come to life.
_INIT, _SSL, _DEFAULT = "ktlsctl_init", "ktlsctl_ssl", "ktlsctl_default"


class Obstacle(StrEnum):
    """Why an edit is not safe."""

    #: OpenSSL takes nothing from the file as it is
    UNPARSABLE = "unparsable"
    #: what it includes or takes from the environment depends on the program that reads it
    UNSEEN = "unseen"
    #: no added line would have the effect
    NO_PLACE = "no place"
    #: a line of the administrator's own has the effect
    OWN_LINE = "own line"


@dataclass(frozen=True, slots=True)
class Edited:
    """The bytes after the edit, the same when nothing was to be done; `notes` are sentences for who decides on it."""

    content: bytes
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """`why` and `proposal` are sentences without full stop; `where` is FILE:LINE or FILE."""

    obstacle: Obstacle
    why: str
    where: str
    proposal: str


class _Nothing:
    """A host without files."""

    def read(self, path: str, keep: Filter | None = None) -> Attempt[bytes]:
        return Attempt(Outcome.ABSENT, reason="No such file or directory")

    def names(self, path: str, keep: NameFilter | None = None) -> Attempt[tuple[str, ...]]:
        return Attempt(Outcome.ABSENT, reason="No such file or directory")

    def resolve(self, path: str) -> Attempt[str]:
        return Attempt(Outcome.ABSENT, reason="No such file or directory")


NO_FILES: Files = _Nothing()


def enable_ktls(content: bytes | None, path: str, files: Files = NO_FILES) -> Edited | Refused:
    """Make `Options = KTLS` effective in what `system_default` leads to.  `content` None: there is no such file.

    `path` is the file's name in notes and refusals; `files` is asked for what it includes, never for the file itself.
    """
    text = _Text.of(content or b"")
    before = configuration(text.content, path, files, whole=True)
    reading = explain(before)
    refused = _unclear(text, before)
    if refused is not None:
        return refused
    if reading.on and reading.everywhere:
        return Edited(text.content)
    for edit in _additions(text, before, reading):
        after = configuration(edit, path, files, whole=True)
        found = explain(after)
        if found.on and found.everywhere and _others(after) == _others(before):
            return Edited(edit, _notes(before, reading))
    last = f"{path}:{len(text.lines)}"
    if open_ended(text.content) or text.content.endswith(b"\r"):
        return Refused(Obstacle.NO_PLACE, "its last line is not complete, nothing can follow it", last, "complete it")
    why = reading.way.gap or f"a line in [{reading.way.section}] has no effect"
    return Refused(Obstacle.NO_PLACE, why, path, "mend that, or let each service ask for kTLS itself")


def disable_ktls(content: bytes | None, path: str, files: Files = NO_FILES) -> Edited | Refused:
    """Take away what `enable_ktls` added, or say which line of the administrator's switches kTLS on.

    Of what `enable_ktls` changed it makes the bytes that were there before; of no file an empty one.
    """
    text = _Text.of(content or b"")
    before = configuration(text.content, path, files, whole=True)
    reading = explain(before)
    marked = {number for number, line in text.numbered() if line.rstrip(b"\r").endswith(MARK.encode())}
    labelled = {x.line.number for x in reading.lines if _labelled(x, path)}
    # the way out stays open where what is included cannot be seen, or somebody damaged the file
    unseen = tuple(f"whether {x}, which it includes, switches kTLS on cannot be seen from here" for x in before.unread)
    if not marked and not reading.on:
        return Edited(text.content, unseen)
    if b"\0" in text.content:
        return _ended(text, path)
    # the sections that were added may hold lines of the administrator's by now: then only the option goes
    for numbers in (marked, marked | labelled, marked & labelled, labelled):
        edit = text.without(numbers)
        after = configuration(edit, path, files, whole=True)
        same = _others(after) == _others(before) and bool(after.damage) == bool(before.damage)
        if same and not explain(after).on:
            return Edited(edit, unseen)
    on = [x.line for x in explain(configuration(text.without(labelled), path, files, whole=True)).lines]
    return _own_line(reading, path) if on else Refused(Obstacle.NO_PLACE, reading.way.gap, path, "edit it by hand")


def _ended(text: _Text, path: str) -> Refused:
    number = text.content[: text.content.index(b"\0")].count(b"\n") + 1
    return Refused(Obstacle.UNPARSABLE, "it holds a NUL byte, at which OpenSSL ends", f"{path}:{number}", "remove it")


def _unclear(text: _Text, found: Configuration) -> Refused | None:
    """Why it cannot be said what the file does."""
    if b"\0" in text.content:
        return _ended(text, found.path)
    if found.damage:
        why = "OpenSSL cannot parse this line and uses nothing of its configuration"
        return Refused(Obstacle.UNPARSABLE, why, found.damage, "correct it; config(5ssl) describes the format")
    if found.unread:
        why = f"it includes {found.unread[0]}, which cannot be followed from here"
        return Refused(Obstacle.UNSEEN, why, found.path, "name it with its full path and let this user read it")
    for line in found.lines:
        if ENVIRONMENT in line.value and (line.name in ("openssl_conf", "system_default") or "ssl_conf" in line.name):
            why = f"`{line.name} =` depends on the environment of the program that reads it"
            return Refused(Obstacle.UNSEEN, why, f"{line.file}:{line.number}", "write its value instead")
    return None


def _additions(text: _Text, found: Configuration, reading: Reading) -> Iterator[bytes]:
    """Edits that may do, the one that reads best first."""
    way = reading.way
    if text.content.endswith(b"\r") or open_ended(text.content):
        return
    default = (f"[{_DEFAULT}]", OPTION)
    ssl = (f"[{_SSL}]", f"system_default = {_DEFAULT}", *default)
    # what the file lacks: the line that leads on, and what it leads to
    links: dict[str, tuple[str, tuple[str, ...]]] = {
        "Options": (OPTION, ()),
        "system_default": (f"system_default = {_DEFAULT}", default),
        "ssl_conf": (f"ssl_conf = {_SSL}", ssl),
        "openssl_conf": (f"openssl_conf = {_INIT}", (f"[{_INIT}]", f"ssl_conf = {_SSL}", *ssl)),
    }
    section, missing = (way.section, "Options") if way.section else (way.at, way.missing)
    if missing not in links:
        return
    inserted, behind = links[missing]
    places = [place for place in found.places if place.section == section and place.sure]
    if missing == "ssl_conf":
        # in front of the others: one that fails would end the loading
        places = [place for place in places if place.header][:1]
    number = places[-1].number if places else 0 if section == DEFAULT_SECTION else None
    if number is not None:
        yield text.with_lines(number, inserted, behind)
    end = found.places[-1].section if found.places and found.places[-1].sure else None
    header = () if end == section else (f"[{section}]",)
    yield text.with_lines(None, None, (*header, inserted, *behind))


def _others(found: Configuration) -> list[tuple[str, str, str]]:
    """Every setting but those of the edit, in order."""
    ours = {("openssl_conf", _INIT), ("ssl_conf", _SSL), ("system_default", _DEFAULT)}
    lines = [(x.section, x.name, x.value) for x in found.lines]
    return [x for x in lines if (x[1], x[2]) not in ours and f"{x[1]} = {x[2]}" != OPTION]


def _labelled(entry: KtlsLine, path: str) -> bool:
    return entry.line.file == path and f"{entry.line.name} = {entry.line.value}" == OPTION


def _notes(found: Configuration, reading: Reading) -> tuple[str, ...]:
    notes = [
        f"it overrides `{x.line.name} = {x.line.value}` at {x.line.file}:{x.line.number}, which switches kTLS off"
        for x in reading.lines
        if x.effect is Effect.OFF
    ]
    section = reading.way.section
    elsewhere = {line.file for line in found.lines if line.section == section and line.file != found.path}
    notes += [f"[{section}] stands in {file} too, which is not touched" for file in sorted(elsewhere) if section]
    return tuple(notes)


def _own_line(reading: Reading, path: str) -> Refused:
    line = next(x.line for x in reversed(reading.lines) if x.effect is Effect.ON and not _labelled(x, path))
    why = f"`{line.name} = {line.value}` in [{line.section}] switches kTLS on, and it is not of ktlsctl's making"
    return Refused(Obstacle.OWN_LINE, why, f"{line.file}:{line.number}", "take KTLS out of that line")


@dataclass(frozen=True, slots=True)
class _Text:
    """The bytes of a file as physical lines without their newline; the last is what follows the last newline."""

    bom: bytes
    lines: tuple[bytes, ...]

    @staticmethod
    def of(content: bytes) -> _Text:
        bom = codecs.BOM_UTF8 if content.startswith(codecs.BOM_UTF8) else b""
        return _Text(bom, tuple(content.removeprefix(bom).split(b"\n")))

    @property
    def content(self) -> bytes:
        return self.bom + b"\n".join(self.lines)

    def numbered(self) -> Iterator[tuple[int, bytes]]:
        return enumerate(self.lines, 1)

    def with_lines(self, number: int | None, inserted: str | None, behind: tuple[str, ...]) -> bytes:
        """`inserted` after physical line `number`, where given, and `behind` at the end; each with its mark."""
        carriage = b"\r" if self.lines[0].endswith(b"\r") else b""
        lines = list(self.lines)
        unfinished = bool(lines[-1])
        if unfinished:
            # no newline at the end before, none afterwards: disable finds the same bytes again
            lines[-1] += carriage
            lines.append(b"")
        lines[-1:-1] = [_marked(line) + carriage for line in behind]
        if number is not None and inserted is not None:
            lines.insert(number, _marked(inserted) + carriage)
        if unfinished:
            lines.pop()
            lines[-1] = lines[-1].removesuffix(carriage)
        return self.bom + b"\n".join(lines)

    def without(self, numbers: set[int]) -> bytes:
        lines = [line for number, line in self.numbered() if number not in numbers]
        if len(self.lines) in numbers and lines:
            lines[-1] = lines[-1].removesuffix(b"\r")
        return self.bom + b"\n".join(lines)


def _marked(line: str) -> bytes:
    return f"{line}  {MARK}".encode("utf-8", "surrogateescape")
