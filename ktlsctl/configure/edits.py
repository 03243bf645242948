# SPDX-License-Identifier: BSD-2-Clause
"""Text in, text out: the smallest edits of sysctl.conf, loader.conf and the tool's own drop-ins.

Everything that is not the one assignment stays byte for byte: comments, order, CR LF, a last line without an end.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

#: name, `=`, a value in quotes or up to white space or a comment.
_SYSCTL = rb"(?P<head>[ \t]*%s[ \t]*=[ \t]*)(?P<value>\"[^\"\n]*\"|'[^'\n]*'|[^\s#]*)(?P<tail>.*)"
#: As facts/loaderconf.py reads it: nothing but a comment may follow.
_LOADER = rb"(?P<head>[ \t]*%s[ \t]*=[ \t]*)(?P<value>\"[^\"\n]*\"|[^\s#\"]+)(?P<tail>[ \t]*(?:#.*)?)"


@dataclass(frozen=True, slots=True)
class Syntax:
    """How a file writes an assignment."""

    pattern: bytes
    quote: bytes


SYSCTL_CONF = Syntax(_SYSCTL, b"")
LOADER_CONF = Syntax(_LOADER, b'"')


def assign(content: bytes, name: str, value: str, syntax: Syntax) -> bytes:
    """`content` with `name` set to `value`: in the last line that sets it, or in a new last line."""
    pattern = re.compile(syntax.pattern % re.escape(name.encode()), re.DOTALL)
    lines = content.split(b"\n")
    for at in range(len(lines) - 1, -1, -1):
        line, end = _without_cr(lines[at])
        found = pattern.fullmatch(line)
        if found is not None:
            quote = _quote_of(found["value"]) or syntax.quote
            lines[at] = found["head"] + quote + value.encode() + quote + found["tail"] + end
            return b"\n".join(lines)
    return append(content, name.encode() + b"=" + syntax.quote + value.encode() + syntax.quote)


def append(content: bytes, line: bytes) -> bytes:
    """One more line, with the line end that the file has; a last line without an end is followed by one without."""
    end = b"\r\n" if b"\r\n" in content else b"\n"
    if not content:
        return line + end
    return content + line + end if content.endswith(b"\n") else content + end + line


def _without_cr(line: bytes) -> tuple[bytes, bytes]:
    return (line[:-1], b"\r") if line.endswith(b"\r") else (line, b"")


def _quote_of(value: bytes) -> bytes:
    return value[:1] if len(value) >= 2 and value[:1] in b"\"'" else b""


def without_lines(content: bytes, numbers: frozenset[int]) -> bytes:
    """Without these lines (from 1); all others stay as they are."""
    lines = re.findall(rb"[^\n]*\n|[^\n]+", content)
    return b"".join(line for number, line in enumerate(lines, 1) if number not in numbers)


#: What the tool's own drop-ins hold.
LOAD_DROP_IN = b"# Written by ktlsctl enable(8): have kernel TLS at every boot.\ntls\n"
BLOCK_DROP_IN = (
    b"# Written by ktlsctl disable(8): no program's request for kernel TLS loads the module.\n"
    b"# Not `install tls`, which would stop the modules that need it, such as bonding.\n"
    b"alias tcp-ulp-tls off\n"
)


def without_block(content: bytes, numbers: frozenset[int]) -> bytes | None:
    """The drop-in without its blocking lines; None when only the tool's own comment would be left."""
    left = without_lines(content, numbers)
    ours = {line for line in BLOCK_DROP_IN.split(b"\n") if line.startswith(b"#")}
    return None if all(not line.strip() or line in ours for line in left.split(b"\n")) else left
