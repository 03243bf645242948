# SPDX-License-Identifier: BSD-2-Clause
"""What an ELF file says of itself without being loaded: its kind, its machine, and what it wants linked to it.

Layouts: elf(5), the System V gABI.  Runs in the probe child, which must start fast, so it imports nothing but struct:
hence a plain class where the rest of the project has dataclasses.
"""

from __future__ import annotations

import struct

# typing.TYPE_CHECKING, whose import would cost more than this module
TYPE_CHECKING = False
if TYPE_CHECKING:
    import mmap

ET_DYN = 3  # a shared object

_PT_LOAD, _PT_DYNAMIC = 1, 2
_DT_NULL, _DT_NEEDED, _DT_STRTAB, _DT_SONAME = 0, 1, 5, 14

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


def parse(content: bytes | mmap.mmap) -> Elf:
    """Read header and dynamic section.  Raises ElfError on anything else than a well-formed ELF file."""
    if content[:4] != b"\x7fELF":
        raise ElfError("not an ELF file")
    try:
        return _parse(content)
    except struct.error:
        raise ElfError("an ELF file that ends too early") from None


def _parse(content: bytes | mmap.mmap) -> Elf:
    bits, order = {1: 32, 2: 64}.get(content[4:5][0] if len(content) > 4 else 0), content[5:6]
    if bits is None or order not in (b"\x01", b"\x02"):
        raise ElfError("an ELF file of unknown class or byte order")
    end = "<" if order == b"\x01" else ">"
    kind, machine = struct.unpack_from(end + "HH", content, 16)
    if bits == 64:
        (table,) = struct.unpack_from(end + "Q", content, 32)
        size, count = struct.unpack_from(end + "HH", content, 54)
    else:
        (table,) = struct.unpack_from(end + "I", content, 28)
        size, count = struct.unpack_from(end + "HH", content, 42)
    segments = [_segment(content, end, bits, table + i * size) for i in range(min(count, _MOST_ENTRIES))]
    soname, needed = _dynamic(content, end, bits, segments)
    return Elf(bits, end == "<", kind, machine, soname, needed)


def _segment(content: bytes | mmap.mmap, end: str, bits: int, at: int) -> tuple[int, int, int, int]:
    """One program header: type, file offset, virtual address, size in the file."""
    if bits == 64:
        kind, _, offset, address, _, size = struct.unpack_from(end + "IIQQQQ", content, _in(content, at))
    else:
        kind, offset, address, _, size = struct.unpack_from(end + "IIIII", content, _in(content, at))
    return kind, offset, address, size


def _in(content: bytes | mmap.mmap, at: int) -> int:
    """`at`, when it lies in the file: struct takes no offset beyond ssize_t."""
    if at >= len(content):
        raise ElfError("an ELF file that ends too early")
    return at


def _dynamic(
    content: bytes | mmap.mmap, end: str, bits: int, segments: list[tuple[int, int, int, int]]
) -> tuple[str, tuple[str, ...]]:
    entry, width = (end + "qQ", 16) if bits == 64 else (end + "iI", 8)
    strings = 0
    wanted: list[tuple[int, int]] = []
    for kind, offset, _, size in segments:
        if kind != _PT_DYNAMIC:
            continue
        for i in range(min(size // width, _MOST_ENTRIES)):
            tag, value = struct.unpack_from(entry, content, _in(content, offset + i * width))
            if tag == _DT_NULL:
                break
            if tag == _DT_STRTAB:
                strings = _file_offset(segments, value)
            elif tag in (_DT_NEEDED, _DT_SONAME):
                wanted.append((tag, value))
    names = [(tag, _string(content, strings + value)) for tag, value in wanted]
    soname = next((name for tag, name in names if tag == _DT_SONAME), "")
    return soname, tuple(name for tag, name in names if tag == _DT_NEEDED)


def _file_offset(segments: list[tuple[int, int, int, int]], address: int) -> int:
    """Where in the file a virtual address lies: the dynamic section speaks in addresses."""
    for kind, offset, start, size in segments:
        if kind == _PT_LOAD and start <= address < start + size:
            return address - start + offset
    raise ElfError("an ELF file whose string table is not in it")


def _string(content: bytes | mmap.mmap, at: int) -> str:
    """A C string of at most 255 bytes."""
    at = _in(content, at)
    return content[at : at + 255].partition(b"\0")[0].decode("utf-8", "replace")
