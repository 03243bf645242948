# SPDX-License-Identifier: BSD-2-Clause
"""Every FreeBSD number against FreeBSD's own headers, by compiling: a wrong one does not compile.

ziglang (PyPI) carries the headers of FreeBSD 15 and a compiler for it.  No FreeBSD code is run.  On FreeBSD itself the
headers are the system's own.
"""

from __future__ import annotations

import ast
import ctypes
import importlib.util
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from ktlsctl import freebsdabi
from ktlsctl.ciphers import FREEBSD_CIPHERS
from ktlsctl.freebsdabi import CONSTANTS, FUNCTIONS, Constants, Layout

ROOT = Path(__file__).parent.parent
DATAPATH = ROOT / "ktlsctl" / "datapath"


@dataclass(frozen=True)
class Target:
    """`zig`: the compiler's name of it; `pointer`: the size of one in bytes."""

    name: str
    zig: str
    pointer: int


TARGETS: tuple[Target, ...] = (
    Target("amd64", "x86_64-freebsd.14.0", 8),
    Target("arm64", "aarch64-freebsd.14.0", 8),
    Target("i386", "x86-freebsd.14.0", 4),
)
#: On FreeBSD itself the system's own compiler and headers speak, for its own processor.
NATIVE = sys.platform.startswith("freebsd")
if NATIVE:
    HERE = {"amd64": "amd64", "arm64": "arm64", "i386": "i386"}[platform.machine()]
    TARGETS = tuple(replace(target, zig="") for target in TARGETS if target.name == HERE)
each_target = pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)

#: What the headers above need before they can be included.
PREAMBLE = (
    "sys/types.h", "sys/param.h", "sys/socket.h", "sys/socketvar.h", "sys/uio.h", "netinet/in.h", "sys/ktls.h",
    "stddef.h", "stdint.h",
)  # fmt: skip

#: What ifconfig(8) prints are the names of net/if_strings.h.
NAMES = {f"IFCAP_{bit.name}_NAME": bit.name for bit in freebsdabi.IfCapBit}


def compiled(target: Target, source: str, *flags: str) -> subprocess.CompletedProcess[str]:
    """`source` compiled for one target, to an object that nobody needs."""
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "probe.c")
        path.write_text(source)
        return zig(target, *flags, "-c", str(path), "-o", f"{place}/probe.o")


def zig(target: Target, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["cc"] if NATIVE else [sys.executable, "-m", "ziglang", "cc", "-target", target.zig]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, check=False, timeout=300)


def including(*headers: str) -> str:
    return "".join(f"#include <{header}>\n" for header in dict.fromkeys((*PREAMBLE, *headers)))


def claim(condition: str, says: str) -> str:
    return f'_Static_assert({condition}, "{says}");\n'


def of_constants(tables: tuple[Constants, ...]) -> Iterator[str]:
    """Headers of a release before 15 lack some: there a claim is made only of what they have."""
    for table in tables:
        for name, value in table.values.items():
            macro = f"{table.prefix}{name}"
            if NATIVE:
                yield f"#ifdef {macro}\n"
            yield claim(f"(unsigned long long)({macro}) == {value}ull", macro)
            if NATIVE:
                yield "#endif\n"


def of_layout(layout: Layout) -> Iterator[str]:
    kind = f"struct {layout.name}"
    yield claim(f"sizeof({kind}) == {layout.size}", f"sizeof {layout.name}")
    for field in layout.fields:
        member = f"(({kind} *)0)->{field.name}"
        yield claim(f"offsetof({kind}, {field.name}) == {field.offset}", f"offset {layout.name}.{field.name}")
        yield claim(f"sizeof({member}) == {field.size}", f"size {layout.name}.{field.name}")
        if field.code in ("b", "h", "i", "q"):
            yield claim(f"(__typeof__({member}))-1 < 0", f"{layout.name}.{field.name} is signed")
        if field.code in ("B", "H", "I", "Q"):
            yield claim(f"(__typeof__({member}))-1 > 0", f"{layout.name}.{field.name} is unsigned")


def of_functions() -> Iterator[str]:
    """A second declaration that differs from the header's is an error."""
    for function in FUNCTIONS:
        yield f"{function.result} {function.name}({', '.join(function.arguments)});\n"
    yield claim(f"sizeof(off_t) == {freebsdabi.OFF_T}", "off_t")
    yield claim("sizeof(size_t) == sizeof(void *) && sizeof(int) == 4", "size_t, int")


def of_names(names: dict[str, str]) -> Iterator[str]:
    for macro, name in names.items():
        said = claim(f'!__builtin_strcmp({macro}, "{name}")', macro)
        yield f"#ifdef {macro}\n{said}#endif\n" if NATIVE else said


def layouts_of(target: Target) -> tuple[Layout, ...]:
    """Those that the headers have: the list of sessions came with FreeBSD 15."""
    found = freebsdabi.layouts(target.pointer)
    if NATIVE and "xktls_session" not in Path("/usr/include/sys/ktls.h").read_text():
        return tuple(layout for layout in found if not layout.name.startswith("xktls"))
    return found


def whole(target: Target) -> str:
    layouts = layouts_of(target)
    headers = (*(t.header for t in CONSTANTS), *(s.header for s in layouts), *(f.header for f in FUNCTIONS))
    claims = (
        *of_constants(CONSTANTS),
        *(line for layout in layouts for line in of_layout(layout)),
        *of_functions(),
        *of_names(NAMES),
    )
    return including(*headers, "net/if_strings.h") + "".join(claims)


@each_target
def test_every_number_is_the_headers(target: Target) -> None:
    done = compiled(target, whole(target))
    assert done.returncode == 0, done.stderr


def test_a_wrong_number_of_any_entry_does_not_compile() -> None:
    """Every entry spoilt at once: each must be complained of by its name."""
    tables = tuple(replace(t, values={name: value + 1 for name, value in t.values.items()}) for t in CONSTANTS)
    layouts = tuple(
        replace(s, size=s.size + 1, fields=tuple(replace(f, offset=f.offset + 1) for f in s.fields))
        for s in layouts_of(TARGETS[0])
    )
    claims = (
        *of_constants(tables),
        *(line for layout in layouts for line in of_layout(layout)),
        *of_names(dict.fromkeys(NAMES, "WRONG")),
    )
    headers = (*(t.header for t in CONSTANTS), *(s.header for s in layouts), "net/if_strings.h")
    said = compiled(TARGETS[0], including(*headers) + "".join(claims), "-ferror-limit=0").stderr
    spoilt = [f"{t.prefix}{name}" for t in CONSTANTS for name in t.values]
    spoilt += [f"sizeof {s.name}" for s in layouts]
    spoilt += [f"offset {s.name}.{field.name}" for s in layouts for field in s.fields]
    spoilt += list(NAMES)
    assert len(spoilt) > 140
    if NATIVE:  # what these headers lack is complained of nowhere
        spoilt = [words for words in spoilt if words in whole(TARGETS[0]) and f": {words}\n" in said]
        assert len(spoilt) > 80
    assert [words for words in spoilt if f": {words}\n" not in said] == []


def test_a_wrong_signature_and_a_wrong_sign_do_not_compile() -> None:
    source = including("sys/socket.h") + "int sendfile(int, int, off_t, size_t, struct sf_hdtr *, int *, int);\n"
    assert "conflicting types" in compiled(TARGETS[0], source).stderr
    layout = freebsdabi.TLS_ENABLE[8]
    flags = next(field for field in layout.fields if field.name == "flags")
    source = including("sys/ktls.h") + "".join(of_layout(replace(layout, fields=(replace(flags, code="I"),))))
    assert "is unsigned" in compiled(TARGETS[0], source).stderr


def exported(name: str) -> bool:
    """Whether FreeBSD's libraries export a function: this process's own there, elsewhere by the compiler's list."""
    if NATIVE:
        return hasattr(ctypes.CDLL(None), name)
    compiler = importlib.util.find_spec("ziglang")
    assert compiler is not None
    assert compiler.submodule_search_locations is not None
    listed = Path(compiler.submodule_search_locations[0], "lib", "libc", "freebsd", "abilists").read_bytes()
    return re.search(rb"(?<!\w)" + name.encode() + rb"\0", listed) is not None


def test_every_function_is_in_freebsds_libc() -> None:
    assert [function.name for function in FUNCTIONS if not exported(function.name)] == []
    assert not exported("kldnext_")
    assert not exported("no_such_function")


def test_the_probe_is_no_empty_claim() -> None:
    source = whole(TARGETS[0])
    numbers = sum(len(table.values) for table in CONSTANTS)
    assert source.count("_Static_assert") > numbers + 2 * len(freebsdabi.TLS_ENABLE[8].fields)
    assert "TCP_RXTLS_MODE" in source
    assert "xktls_session, snd" in source


@pytest.mark.parametrize("layout", [s for p in (8, 4) for s in freebsdabi.layouts(p)], ids=lambda s: s.name)
def test_a_layouts_format_has_its_size_and_no_fields_overlap(layout: Layout) -> None:
    import struct

    assert struct.calcsize(layout.format) == layout.size
    ends = [0, *(field.offset + field.size for field in layout.fields)]
    assert all(end <= field.offset for end, field in zip(ends, layout.fields, strict=False))


def test_the_ciphers_have_the_lengths_that_the_headers_name() -> None:
    tls = freebsdabi.Tls
    for cipher in FREEBSD_CIPHERS:
        if cipher.algorithm == freebsdabi.Crypto.AES_NIST_GCM_16:
            assert (cipher.iv12, cipher.iv13) == (tls.AEAD_GCM_LEN, tls.CHACHA20_IV_LEN)
        elif cipher.algorithm == freebsdabi.Crypto.CHACHA20_POLY1305:
            assert (cipher.iv12, cipher.iv13) == (tls.CHACHA20_IV_LEN, tls.CHACHA20_IV_LEN)
        else:
            assert cipher.iv12 == tls.CBC_IMPLICIT_IV_LEN


# --- the C half, which cannot import Python ---

KTLS_CLAIMS = """
_Static_assert(TCP_TXTLS_ENABLE_ == TCP_TXTLS_ENABLE, "TCP_TXTLS_ENABLE_");
_Static_assert(TCP_RXTLS_ENABLE_ == TCP_RXTLS_ENABLE, "TCP_RXTLS_ENABLE_");
_Static_assert(TLS_SET_RECORD_TYPE_ == TLS_SET_RECORD_TYPE, "TLS_SET_RECORD_TYPE_");
_Static_assert(TLS_GET_RECORD_ == TLS_GET_RECORD, "TLS_GET_RECORD_");
_Static_assert(sizeof(struct tls_enable_) == sizeof(struct tls_enable), "sizeof tls_enable_");
#define SAME(member) _Static_assert(offsetof(struct tls_enable_, member) == offsetof(struct tls_enable, member) \\
    && __builtin_types_compatible_p(__typeof__(((struct tls_enable_ *)0)->member), \\
                                    __typeof__(((struct tls_enable *)0)->member)), #member)
SAME(cipher_key); SAME(iv); SAME(auth_key); SAME(cipher_algorithm); SAME(cipher_key_len); SAME(iv_len);
SAME(auth_algorithm); SAME(auth_key_len); SAME(flags); SAME(tls_vmajor); SAME(tls_vminor); SAME(rec_seq);
_Static_assert(KTLS_CMSG_SPACE >= CMSG_SPACE(sizeof(struct tls_get_record)), "KTLS_CMSG_SPACE");
_Static_assert(offsetof(struct tls_get_record, tls_type) == 0, "the type is the first byte");
"""


def ktls_c() -> str:
    headers = "".join(f"#include <{h}>\n" for h in ("sys/param.h", "stddef.h", "netinet/tcp.h", "sys/ktls.h"))
    return f'{headers}#include "{DATAPATH / "ktls.c"}"\n{KTLS_CLAIMS}'


@each_target
def test_the_numbers_of_the_c_datapath_are_the_headers(target: Target) -> None:
    done = compiled(target, ktls_c(), f"-I{DATAPATH}", "-std=gnu11")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("good", "bad", "says"),
    [
        ("TCP_RXTLS_ENABLE_ 41", "TCP_RXTLS_ENABLE_ 42", "TCP_RXTLS_ENABLE_"),
        ("TLS_GET_RECORD_ 2", "TLS_GET_RECORD_ 1", "TLS_GET_RECORD_"),
        ("cipher_algorithm, cipher_key_len", "cipher_key_len, cipher_algorithm", "cipher_algorithm"),
    ],
)
def test_a_wrong_number_in_the_c_datapath_does_not_compile(good: str, bad: str, says: str) -> None:
    text = (DATAPATH / "ktls.c").read_text()
    assert good in text
    source = ktls_c().replace(f'#include "{DATAPATH / "ktls.c"}"', text.replace(good, bad))
    assert f": {says}" in compiled(TARGETS[0], source, f"-I{DATAPATH}", "-std=gnu11").stderr


@each_target
@pytest.mark.parametrize("name", sorted(path.name for path in DATAPATH.glob("*.c") if not path.name.startswith("_")))
def test_the_c_datapath_compiles_for_freebsd_without_a_warning(target: Target, name: str, tmp_path: Path) -> None:
    flags = ("-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", f"-I{DATAPATH}")
    done = zig(target, *flags, "-c", str(DATAPATH / name), "-o", str(tmp_path / "out.o"))
    assert done.returncode == 0, done.stderr
    machine = {"amd64": 62, "arm64": 183, "i386": 3}[target.name]
    assert int.from_bytes((tmp_path / "out.o").read_bytes()[18:20], "little") == machine, "an object for that processor"


# --- one place for a number ---

PACKAGE = ROOT / "ktlsctl"
#: Modules that speak to FreeBSD's kernel or judge what it said.
SPEAKERS = sorted(
    path
    for path in PACKAGE.rglob("*.py")
    if path.name != "freebsdabi.py"
    and (
        "freebsd" in str(path.relative_to(PACKAGE))
        or "freebsdabi" in path.read_text()
        or "FreeBSD" in (ast.get_docstring(ast.parse(path.read_text())) or "")
    )
)


def test_no_macro_of_the_headers_is_given_a_number_in_a_second_module() -> None:
    names = {f"{table.prefix}{name}" for table in CONSTANTS for name in table.values}
    # a number of the Internet's, not of FreeBSD's
    names -= {"IPPROTO_TCP"}
    for path in PACKAGE.rglob("*.py"):
        if path.name == "freebsdabi.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Constant):
                continue
            given = {target.id.lstrip("_") for target in node.targets if isinstance(target, ast.Name)}
            assert not (given & names and isinstance(node.value.value, int)), f"{path}:{node.lineno}"


def test_the_modules_that_speak_to_freebsd_hold_none_of_its_numbers() -> None:
    assert {"freebsdkernel.py", "tlsenable.py", "evidence.py", "ciphers.py", "ifcaps.py"} <= {p.name for p in SPEAKERS}
    # small ones are everybody's; 32 and 48 are lengths of keys, 1024 a buffer's
    distinctive = {v for table in CONSTANTS for v in table.values.values() if v > 24} - {32, 33, 48, 64, 1024}
    for layout in (*freebsdabi.layouts(8), *freebsdabi.layouts(4)):
        distinctive |= {field.offset for field in layout.fields if field.offset > 100} | {layout.size} - {6, 48, 64}
    for path in SPEAKERS:
        # ciphers.py holds Linux's numbers as well, and lengths
        tree = ast.parse(path.read_text())
        literals = [(n.value, n.lineno) for n in ast.walk(tree) if isinstance(n, ast.Constant) and type(n.value) is int]
        linux = {"ciphers.py": set(range(51, 59)), "evidence.py": {31}}.get(path.name, set())
        found = [(value, line) for value, line in literals if value in distinctive - linux]
        assert not found, f"{path}: {found}: take them from freebsdabi.py"
