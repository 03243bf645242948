# SPDX-License-Identifier: BSD-2-Clause
"""Which TLS implementation a file holds: real libraries, renamed ones, programs that have one linked in, and damage."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktlsctl.facts import elf, tlsfiles
from ktlsctl.facts.tlsfiles import Content, Family, Implementation, NotElf, Window
from ktlsctl.model import Tri
from tests.elsewhere import linux_only
from tests.libssls import SYSTEM, compiled, from_wheel


def examined(path: str | Path) -> Content:
    fd = os.open(path, os.O_RDONLY)
    try:
        window = Window(lambda size, at: os.pread(fd, size, at), os.fstat(fd).st_size)
        return tlsfiles.examine(window, time.monotonic() + 60)
    finally:
        os.close(fd)


def only(path: str | Path) -> Implementation:
    (found,) = examined(path).implementations
    return found


@linux_only
def test_the_systems_libssl_was_built_with_ktls_and_its_build_id_is_readelfs() -> None:
    found = examined(SYSTEM)
    assert [(x.family, x.static, x.ktls) for x in found.implementations] == [(Family.OPENSSL, False, Tri.YES)]
    said = subprocess.run(["readelf", "-n", SYSTEM], capture_output=True, text=True, check=True).stdout
    assert f"Build ID: {found.build_id}\n" in said
    assert found.soname == "libssl.so.3"


@linux_only
@pytest.mark.parametrize("wheel", ["psycopg2-binary", "mysql-connector-python"])
def test_a_wheels_private_libssl_was_built_without(wheel: str) -> None:
    found = only(from_wheel(wheel))
    assert (found.family, found.static, found.ktls) == (Family.OPENSSL, False, Tri.NO)
    assert "sendfile" in found.proof


@linux_only
def test_a_libcrypto_tells_the_version_and_is_no_tls_library() -> None:
    (path,) = Path(from_wheel("psycopg2-binary")).parent.glob("libcrypto*")
    found = examined(path)
    assert found.implementations == ()
    assert found.crypto_version.startswith("OpenSSL 3.")


@linux_only
def test_openssl_linked_into_a_module_is_found_by_its_strings() -> None:
    from cryptography.hazmat.bindings import _rust

    found = only(str(_rust.__file__))
    assert (found.family, found.static, found.ktls) == (Family.OPENSSL, True, Tri.NO)
    assert found.version.startswith("OpenSSL ")


@pytest.mark.parametrize(
    ("symbols", "family"),
    [
        ("SSL_CTX_new", Family.OPENSSL),
        ("SSL_CTX_new SSL_CTX_load_verify_mem", Family.LIBRESSL),
        ("SSL_CTX_new SSL_CTX_set_custom_verify", Family.BORINGSSL),
        ("SSL_CTX_new SSL_CTX_set_custom_verify SSL_from_bytes", Family.AWS_LC),
        ("gnutls_handshake", Family.GNUTLS),
        ("wolfSSL_connect", Family.WOLFSSL),
        ("SSL_ImportFD", Family.NSS),
        ("mbedtls_ssl_handshake", Family.MBEDTLS),
        ("s2n_negotiate", Family.S2N),
    ],
)
def test_a_library_is_known_by_what_it_defines_whatever_its_name(symbols: str, family: Family, tmp_path: Path) -> None:
    source = "".join(f"void {name}(void) {{}}\n" for name in symbols.split())
    assert only(compiled(tmp_path, source, name="libharmless.so.1")).family is family


def test_a_name_that_only_ends_like_one_of_openssl_does_not_make_it_openssl(tmp_path: Path) -> None:
    assert examined(compiled(tmp_path, "void my_SSL_CTX_new(void) {}")).implementations == ()


def test_a_symbol_that_shares_the_tail_of_another_is_seen(tmp_path: Path) -> None:
    # linkers store "SSL_CTX_new" as the end of "my_SSL_CTX_new"
    source = "void my_SSL_CTX_new(void) {}\nvoid SSL_CTX_new(void) {}\n"
    assert only(compiled(tmp_path, source, "-Wl,-O2")).family is Family.OPENSSL


def test_a_user_of_a_library_has_none_itself(tmp_path: Path) -> None:
    source = "extern void SSL_CTX_new(void); void f(void) { SSL_CTX_new(); }"
    assert examined(compiled(tmp_path, source)).implementations == ()


@pytest.mark.parametrize("call", ["sendfile", "sendfile64"])
def test_importing_sendfile_shows_that_gnutls_was_built_with_ktls(call: str, tmp_path: Path) -> None:
    source = f"extern long {call}(void); long gnutls_handshake(void) {{ return {call}(); }}"
    assert only(compiled(tmp_path, source)).ktls is Tri.YES
    assert only(compiled(tmp_path, "void gnutls_handshake(void) {}")).ktls is Tri.NO


def program(folder: Path, *strings: str, more: str = "", options: tuple[str, ...] = ()) -> Path:
    """An executable with these texts among its constants."""
    target = folder / "program"
    listed = ", ".join(f'"{text}"' for text in strings)
    main = "int main(int n, char **v) { return texts[n] == v[0]; }"
    (folder / "program.c").write_text(f"{more}\nconst char *const texts[] = {{ {listed} }};\n{main}\n")
    subprocess.run(["cc", "-o", target, folder / "program.c", *options], check=True)
    return target


OPENSSL30, OPENSSL35 = "OpenSSL 3.0.19 27 Jan 2026", "OpenSSL 3.5.8 25 Aug 2026"


@pytest.mark.parametrize(
    ("strings", "expected"),
    [
        (("../ssl/ssl_lib.c", OPENSSL30), (Family.OPENSSL, OPENSSL30, Tri.UNKNOWN)),
        (("../ssl/ssl_lib.c", OPENSSL35), (Family.OPENSSL, OPENSSL35, Tri.NO)),
        (("ssl/ssl_lib.c", OPENSSL35, "ssl/record/methods/ktls_meth.c"), (Family.OPENSSL, OPENSSL35, Tri.YES)),
        (("ssl/ssl_lib.c", "LibreSSL 3.8.2"), (Family.LIBRESSL, "LibreSSL 3.8.2", Tri.NO)),
        (("third_party/boringssl/src/ssl/ssl_lib.cc",), (Family.BORINGSSL, "", Tri.NO)),
        (("aws-lc/ssl/ssl_lib.cc", "AWS-LC 1.30.1"), (Family.AWS_LC, "AWS-LC 1.30.1", Tri.NO)),
        (("/root/.cargo/registry/src/x/rustls-0.23.12/src/conn.rs",), (Family.RUSTLS, "rustls 0.23.12", Tri.NO)),
        (("x/rustls-0.23.12/src/a.rs", "x/ktls-6.0.0/src/lib.rs"), (Family.RUSTLS, "rustls 0.23.12", Tri.YES)),
        (("Mbed TLS 3.6.0",), (Family.MBEDTLS, "Mbed TLS 3.6.0", Tri.NO)),
        (("s2n_negotiate",), (Family.S2N, "", Tri.UNKNOWN)),
    ],
    ids=lambda value: " ".join(map(str, value))[:50],
)
def test_what_is_linked_into_a_program_is_known_by_its_strings(
    strings: tuple[str, ...], expected: tuple[Family, str, Tri], tmp_path: Path
) -> None:
    found = only(program(tmp_path, *strings))
    assert found.static
    assert (found.family, found.version, found.ktls) == expected


def test_a_program_that_only_names_the_version_it_was_built_against_carries_none(tmp_path: Path) -> None:
    assert examined(program(tmp_path, f"built with {OPENSSL35}")).implementations == ()


def test_a_go_program_with_crypto_tls_is_known_by_its_build_information(tmp_path: Path) -> None:
    info = r'__attribute__((section(".go.buildinfo"), used, aligned(16))) char info[] ='
    info += r' "\xff Go buildinf:" "\x08\x02" "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0" "\x08" "go1.22.1";'
    found = only(program(tmp_path, "crypto/tls.(*Conn).Handshake", more=info))
    assert (found.family, found.version, found.ktls) == (Family.GO, "go1.22.1", Tri.NO)


def test_a_statically_linked_program_is_said_to_be_one(tmp_path: Path) -> None:
    found = examined(program(tmp_path, "x", options=("-static",)))
    assert (found.program, found.alone, found.implementations) == (True, True, ())
    assert not examined(program(tmp_path, "x")).alone


def test_a_text_on_the_border_of_two_pieces_is_seen(tmp_path: Path) -> None:
    text = b"Version: OpenSSL 3.5.8 25 Aug 2026"
    whole = program(tmp_path, "../ssl/ssl_lib.c", "x" * (2 << 20)).read_bytes()
    start, _ = max(elf.layout(whole).readable, key=lambda place: place[1])
    for before in range(len(text) + 1):
        at = start + (1 << 20) - before
        (found,) = tlsfiles.examine(whole[:at] + text + whole[at + len(text) :], time.monotonic() + 60).implementations
        assert found.version == OPENSSL35


def test_a_search_that_takes_too_long_says_so() -> None:
    content = Path(SYSTEM).read_bytes()
    found = tlsfiles.examine(content, time.monotonic() - 1)
    assert "too long" in found.unsearched
    assert [x.family for x in found.implementations] == [Family.OPENSSL]


@linux_only
def test_no_file_is_read_as_a_whole() -> None:
    largest = 0

    def read(size: int, at: int) -> bytes:
        nonlocal largest
        largest = max(largest, size)
        return os.pread(fd, size, at)

    (path,) = Path(from_wheel("psycopg2-binary")).parent.glob("libcrypto*")
    fd = os.open(path, os.O_RDONLY)
    try:
        tlsfiles.examine(Window(read, os.fstat(fd).st_size), time.monotonic() + 60)
    finally:
        os.close(fd)
    assert 0 < largest <= (1 << 20) + 256 < path.stat().st_size


@given(st.binary(max_size=400))
def test_any_bytes_are_examined_or_refused(content: bytes) -> None:
    for candidate in (content, b"\x7fELF\x02\x01" + content, b"\x7fELF\x01\x02" + content):
        with contextlib.suppress(NotElf):
            tlsfiles.examine(candidate, time.monotonic() + 60)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    source = 'const char *SSL_CTX_new(void) { return "OpenSSL 3.5.8 25 Aug 2026"; }'
    return Path(compiled(tmp_path_factory.mktemp("small"), source)).read_bytes()


@given(st.data())
def test_a_library_with_any_damage_is_examined_or_refused(small: bytes, data: st.DataObject) -> None:
    damaged = bytearray(small)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, 1500) | st.integers(0, len(damaged) - 1))
        patch = data.draw(st.binary(min_size=1, max_size=8) | st.just(b"\xff" * 8))
        damaged[at : at + len(patch)] = patch
    with contextlib.suppress(NotElf):
        tlsfiles.examine(bytes(damaged[: data.draw(st.integers(0, len(damaged)))]), time.monotonic() + 60)
    with contextlib.suppress(elf.ElfError):
        elf.layout(bytes(damaged)).offers(("SSL_CTX_new",))
