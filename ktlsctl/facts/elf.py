# SPDX-License-Identifier: BSD-2-Clause
"""What an ELF file says of itself without being loaded: its kind, its machine, what it wants linked to it and offers.

Layouts: elf(5), the System V gABI.  Runs in the probe child, which must start fast, so it imports nothing but struct:
hence plain classes where the rest of the project has dataclasses.  A file is anything that can be sliced like bytes
(`Content`), so that one of hundreds of megabytes need not be in memory.
"""

from __future__ import annotations

import struct

# typing.TYPE_CHECKING, whose import would cost more than this module
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Protocol

    class Content(Protocol):
        """A file: bytes, an mmap, or a window that reads what is asked for."""

        def __len__(self) -> int: ...

        def __getitem__(self, key: slice, /) -> bytes: ...


ET_DYN = 3  # a shared object

_PT_LOAD, _PT_DYNAMIC, _PT_INTERP, _PT_NOTE = 1, 2, 3, 4
_PF_X, _PF_W = 1, 2
_DT_NULL, _DT_NEEDED, _DT_STRTAB, _DT_SYMTAB, _DT_STRSZ, _DT_SONAME = 0, 1, 5, 6, 10, 14
_NT_GNU_BUILD_ID = 3

#: e_machine of the architectures that people mix up, for the sentence only.
_MACHINES = {
    2: "SPARC",
    3: "x86",
    8: "MIPS",
    20: "PowerPC",
    21: "PowerPC 64",
    22: "S/390",
    40: "ARM",
    43: "SPARC V9",
    62: "x86-64",
    183: "AArch64",
    243: "RISC-V",
    258: "LoongArch",
}

#: No library needs more; a damaged file may claim 2**64.
_MOST_ENTRIES = 4096
#: Bytes of a symbol table and of its names: a browser's have a tenth of that.
_MOST_SYMBOLS, _MOST_NAMES = 1 << 24, 1 << 25


class ElfError(ValueError):
    """Not an ELF file, or a damaged one; the message says which."""


class Elf:
    """One ELF file: `bits` 32 or 64, `kind` e_type, `soname` and `needed` as the dynamic section names them."""

    __slots__ = ("bits", "kind", "little", "machine", "needed", "soname")

    def __init__(self, bits: int, little: bool, kind: int, machine: int, soname: str, needed: tuple[str, ...]) -> None:
        self.bits = bits
        self.little = little
        self.kind = kind
        self.machine = machine
        self.soname = soname
        self.needed = needed

    @property
    def architecture(self) -> str:
        """For people: `64-bit x86-64`."""
        name = _MACHINES.get(self.machine, f"machine {self.machine}")
        return f"{self.bits}-bit {name}" + ("" if self.little or self.machine in (2, 22, 43) else " big-endian")

    def runs_where(self, other: Elf) -> bool:
        """Whether both can live in one process: same class, byte order and machine."""
        return (self.bits, self.little, self.machine) == (other.bits, other.little, other.machine)


class Layout:
    """What a program loader and a linker see in a file, beyond `Elf`.

    `readable`: (offset, size) of the segments that are loaded and never written, without the code where that stands
    apart; `writable`: of those with its data.  `interpreted`: it asks for a dynamic linker, as programs do and
    libraries do not (but for libc).
    """

    __slots__ = ("_imports", "_names", "_offers", "build_id", "elf", "interpreted", "readable", "writable")

    def __init__(
        self,
        elf: Elf,
        readable: tuple[tuple[int, int], ...],
        writable: tuple[tuple[int, int], ...],
        interpreted: bool,
        build_id: str,
        names: bytes,
        offers: frozenset[int],
        imports: frozenset[int],
    ) -> None:
        self.elf = elf
        self.readable = readable
        self.writable = writable
        self.interpreted = interpreted
        self.build_id = build_id
        self._names = names
        self._offers = offers
        self._imports = imports

    def offers(self, wanted: Iterable[str]) -> frozenset[str]:
        """Which of these dynamic symbols the file defines."""
        return frozenset(name for name in wanted if self._has(name, self._offers))

    def imports(self, wanted: Iterable[str]) -> frozenset[str]:
        """Which of these it wants from others."""
        return frozenset(name for name in wanted if self._has(name, self._imports))

    def _has(self, name: str, offsets: frozenset[int]) -> bool:
        # every occurrence: linkers let SSL_new be the tail of wolfSSL_new
        text = name.encode() + b"\0"
        at = self._names.find(text)
        while at >= 0:
            if at in offsets:
                return True
            at = self._names.find(text, at + 1)
        return False


def parse(content: Content) -> Elf:
    """Read header and dynamic section.  Raises ElfError on anything else than a well-formed ELF file."""
    return _opened(content)[0]


def layout(content: Content) -> Layout:
    """Read what `parse` reads, the segments, the build id and the dynamic symbols.  Raises ElfError as `parse` does."""
    elf, end, segments, dynamic = _opened(content)
    try:
        read_only = [s for s in segments if s.kind == _PT_LOAD and not s.flags & _PF_W]
        data = [s for s in read_only if not s.flags & _PF_X]
        # linkers before 2018, and -z noseparate-code, put constants beside the code
        readable = data if sum(s.size for s in data) >= 1 << 16 else read_only
        names, offers, imports = _symbols(content, elf, end, segments, dynamic)
        return Layout(
            elf,
            tuple((s.offset, s.size) for s in readable),
            tuple((s.offset, s.size) for s in segments if s.kind == _PT_LOAD and s.flags & _PF_W),
            any(s.kind == _PT_INTERP for s in segments),
            next((found for s in segments if s.kind == _PT_NOTE and (found := _build_id(content, end, s))), ""),
            names,
            offers,
            imports,
        )
    except struct.error:
        raise ElfError("an ELF file that ends too early") from None


class _Segment:
    """One program header: type, flags, file offset, virtual address, size in the file."""

    __slots__ = ("address", "flags", "kind", "offset", "size")

    def __init__(self, kind: int, flags: int, offset: int, address: int, size: int) -> None:
        self.kind = kind
        self.flags = flags
        self.offset = offset
        self.address = address
        self.size = size


def _opened(content: Content) -> tuple[Elf, str, list[_Segment], list[tuple[int, int]]]:
    """The file's own words, byte order as struct has it, program headers, entries of the dynamic section."""
    if content[:4] != b"\x7fELF":
        raise ElfError("not an ELF file")
    try:
        return _parse(content)
    except struct.error:
        raise ElfError("an ELF file that ends too early") from None


def _unpack(form: str, content: Content, at: int) -> tuple[int, ...]:
    """Numbers at an offset, which a damaged file may claim to be beyond its end or what a slice takes."""
    if at >= len(content):
        raise ElfError("an ELF file that ends too early")
    return struct.unpack(form, content[at : at + struct.calcsize(form)])


def _parse(content: Content) -> tuple[Elf, str, list[_Segment], list[tuple[int, int]]]:
    head = content[:6]
    bits, order = {1: 32, 2: 64}.get(head[4] if len(head) > 4 else 0), head[5:6]
    if bits is None or order not in (b"\x01", b"\x02"):
        raise ElfError("an ELF file of unknown class or byte order")
    end = "<" if order == b"\x01" else ">"
    kind, machine = _unpack(end + "HH", content, 16)
    if bits == 64:
        (table,) = _unpack(end + "Q", content, 32)
        size, count = _unpack(end + "HH", content, 54)
    else:
        (table,) = _unpack(end + "I", content, 28)
        size, count = _unpack(end + "HH", content, 42)
    segments = [_segment(content, end, bits, table + i * size) for i in range(min(count, _MOST_ENTRIES))]
    dynamic = _dynamic(content, end, bits, segments)
    strings = _file_offset(segments, _last(dynamic, _DT_STRTAB)) if _DT_STRTAB in dict(dynamic) else 0
    named = [(tag, _string(content, strings + v)) for tag, v in dynamic if tag in (_DT_NEEDED, _DT_SONAME)]
    soname = next((name for tag, name in named if tag == _DT_SONAME), "")
    needed = tuple(name for tag, name in named if tag == _DT_NEEDED)
    return Elf(bits, end == "<", kind, machine, soname, needed), end, segments, dynamic


def _segment(content: Content, end: str, bits: int, at: int) -> _Segment:
    if bits == 64:
        kind, flags, offset, address, _, size = _unpack(end + "IIQQQQ", content, at)
    else:
        kind, offset, address, _, size, _, flags = _unpack(end + "IIIIIII", content, at)
    return _Segment(kind, flags, offset, address, size)


def _dynamic(content: Content, end: str, bits: int, segments: list[_Segment]) -> list[tuple[int, int]]:
    """Tag and value of each entry."""
    entry, width = (end + "qQ", 16) if bits == 64 else (end + "iI", 8)
    found: list[tuple[int, int]] = []
    for segment in segments:
        if segment.kind != _PT_DYNAMIC:
            continue
        for i in range(min(segment.size // width, _MOST_ENTRIES)):
            tag, value = _unpack(entry, content, segment.offset + i * width)
            if tag == _DT_NULL:
                break
            found.append((tag, value))
    return found


def _last(dynamic: list[tuple[int, int]], wanted: int) -> int:
    return next((value for tag, value in reversed(dynamic) if tag == wanted), 0)


def _file_offset(segments: list[_Segment], address: int) -> int:
    """Where in the file a virtual address lies: the dynamic section speaks in addresses."""
    for s in segments:
        if s.kind == _PT_LOAD and s.address <= address < s.address + s.size:
            return address - s.address + s.offset
    raise ElfError("an ELF file whose string table is not in it")


def _string(content: Content, at: int) -> str:
    """A C string of at most 255 bytes."""
    if at >= len(content):
        raise ElfError("an ELF file that ends too early")
    return content[at : at + 255].partition(b"\0")[0].decode("utf-8", "replace")


def _symbols(
    content: Content, elf: Elf, end: str, segments: list[_Segment], dynamic: list[tuple[int, int]]
) -> tuple[bytes, frozenset[int], frozenset[int]]:
    """The names' table, and the offsets in it of what is defined and of what is wanted.

    The dynamic section gives no count: linkers put the names right behind the symbols, and where they did not the
    walk ends with the table's segment.
    """
    tags = dict(dynamic)
    if not {_DT_STRTAB, _DT_SYMTAB, _DT_STRSZ} <= tags.keys():
        return b"", frozenset(), frozenset()
    strings, table = _file_offset(segments, tags[_DT_STRTAB]), _file_offset(segments, tags[_DT_SYMTAB])
    names = content[strings : strings + min(tags[_DT_STRSZ], _MOST_NAMES)]
    stop = next(s.offset + s.size for s in segments if s.kind == _PT_LOAD and s.offset <= table < s.offset + s.size)
    if strings > table:
        stop = min(stop, strings)
    # st_name and st_shndx stand apart from each other in the two classes
    form = struct.Struct(end + ("IBBHQQ" if elf.bits == 64 else "IIIBBH"))
    section = 3 if elf.bits == 64 else 5
    block = content[table : min(stop, table + _MOST_SYMBOLS)]
    offers: set[int] = set()
    imports: set[int] = set()
    for symbol in form.iter_unpack(block[: len(block) // form.size * form.size]):
        (offers if symbol[section] else imports).add(symbol[0])
    return names, frozenset(offers), frozenset(imports)


def _build_id(content: Content, end: str, segment: _Segment) -> str:
    """Of a note segment, as hexadecimal digits; empty when it is not there."""
    if segment.offset >= len(content):
        return ""
    notes = content[segment.offset : segment.offset + min(segment.size, 4096)]
    at = 0
    while at + 12 <= len(notes):
        name, size, kind = struct.unpack_from(end + "III", notes, at)
        start = at + 12 + (name + 3 & ~3)
        if kind == _NT_GNU_BUILD_ID and notes[at + 12 : at + 16] == b"GNU\0":
            return notes[start : start + min(size, 64)].hex()
        at = start + (size + 3 & ~3)
    return ""
