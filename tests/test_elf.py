# SPDX-License-Identifier: BSD-2-Clause
"""The ELF reader: what real files say, and that no bytes make it raise anything but ElfError."""

from __future__ import annotations

import contextlib
import re
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktlsctl.facts import elf


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A small shared object with a SONAME, linked with libc."""
    folder = tmp_path_factory.mktemp("elf")
    source, target = folder / "a.c", folder / "liba.so"
    source.write_text('#include <stdio.h>\nvoid f(void) { puts("x"); }\n')
    subprocess.run(["cc", "-shared", "-fPIC", "-Wl,-soname,liba.so.7", "-o", target, source], check=True)
    return target.read_bytes()


def test_a_shared_object_says_its_kind_soname_and_needs(library: bytes) -> None:
    found = elf.parse(library)
    assert (found.kind, found.soname) == (elf.ET_DYN, "liba.so.7")
    assert any(name.startswith("libc.so.") for name in found.needed)
    assert found.bits == struct.calcsize("P") * 8


def test_what_readelf_says_of_the_systems_libraries_is_what_is_read(library: bytes, tmp_path: Path) -> None:
    file = tmp_path / "liba.so"
    file.write_bytes(library)
    said = subprocess.run(["readelf", "-dh", file], capture_output=True, text=True, check=True).stdout
    found = elf.parse(library)
    assert f"Library soname: [{found.soname}]" in said
    assert re.findall(r"Shared library: \[(.*)\]", said) == list(found.needed)
    assert ("ELF64" in said) == (found.bits == 64)


def test_another_class_order_or_machine_does_not_run_here(library: bytes) -> None:
    here = elf.parse(library)
    other = bytearray(library)
    struct.pack_into("<H", other, 18, 22)
    assert here.runs_where(here)
    assert not elf.parse(bytes(other)).runs_where(here)


#: e_ident, e_type, e_machine … of a 32-bit big-endian PowerPC file without segments
PPC32 = b"\x7fELF\x01\x02\x01" + bytes(9) + struct.pack(">HHIIIIIHHHHHH", 3, 20, 1, 0, 52, 0, 0, 52, 32, 0, 40, 0, 0)


def test_a_32_bit_big_endian_file_is_read() -> None:
    found = elf.parse(PPC32)
    assert (found.bits, found.little, found.machine, found.kind) == (32, False, 20, elf.ET_DYN)
    assert found.architecture == "32-bit PowerPC big-endian"


@pytest.mark.parametrize(
    "content", [b"", b"#!/bin/sh\n", b"\x7fEL", b"\x7fELF", b"\x7fELF\x02\x01", b"\x7fELF\x09\x01" + bytes(99)]
)
def test_what_is_no_elf_file_is_refused(content: bytes) -> None:
    with pytest.raises(elf.ElfError):
        elf.parse(content)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    for candidate in (content, b"\x7fELF" + content, b"\x7fELF\x02\x01" + content, b"\x7fELF\x01\x02" + content):
        with contextlib.suppress(elf.ElfError):
            elf.parse(candidate)


@given(st.data())
def test_a_library_with_any_damage_is_read_or_refused(library: bytes, data: st.DataObject) -> None:
    damaged = bytearray(library)
    # in the header, the program headers and the dynamic section, where offsets and counts stand
    dynamic = library.find(struct.pack("<qQ", 14, 0)[:8], 64)
    places = st.one_of(st.integers(0, 1200), st.integers(max(dynamic - 64, 0), dynamic + 256))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(places) % len(damaged)
        patch = data.draw(st.one_of(st.binary(min_size=1, max_size=8), st.just(b"\xff" * 8)))
        damaged[at : at + len(patch)] = patch
    try:
        found = elf.parse(bytes(damaged[: data.draw(st.integers(0, len(damaged)))]))
    except elf.ElfError:
        return
    assert all(isinstance(name, str) for name in (found.soname, *found.needed))


def test_dynamic_symbols_are_those_that_nm_lists(library: bytes, tmp_path: Path) -> None:
    file = tmp_path / "liba.so"
    file.write_bytes(library)
    said = subprocess.run(["nm", "-D", "--without-symbol-versions", file], capture_output=True, text=True, check=True)
    listed = [line.split() for line in said.stdout.splitlines()]
    defined = {words[-1] for words in listed if len(words) == 3}
    wanted = {words[-1] for words in listed if len(words) == 2}
    found = elf.layout(library)
    assert found.offers(defined | wanted) == defined >= {"f"}
    assert found.imports(defined | wanted) == wanted >= {"puts"}
    assert found.offers(("g",)) == frozenset()


def test_a_file_without_segments_has_no_symbols() -> None:
    found = elf.layout(PPC32)
    assert (found.offers(("f",)), found.readable, found.interpreted, found.build_id) == (frozenset(), (), False, "")
