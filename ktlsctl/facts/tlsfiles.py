# SPDX-License-Identifier: BSD-2-Clause
"""Which TLS implementation a file holds, told by its content: dynamic symbols, SONAME, and strings in its constants.

A file's name proves nothing: copies are renamed, bundled, linked into programs.  Nothing is run or loaded here, so a
file that nobody vouches for may be looked at.  No file is in memory as a whole.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from ktlsctl.facts import elf
from ktlsctl.model import Tri

#: Bytes of a file's constants that are searched; the largest programs known (browsers) have a third of it.
MOST_SEARCHED = 256 << 20

_PIECE = 1 << 20
#: Longer than any text that is looked for, so that one on the border of two pieces is seen.
_OVERLAP = 256


class Family(StrEnum):
    """An implementation of TLS."""

    OPENSSL = "OpenSSL"
    LIBRESSL = "LibreSSL"
    BORINGSSL = "BoringSSL"
    AWS_LC = "AWS-LC"
    GNUTLS = "GnuTLS"
    WOLFSSL = "wolfSSL"
    NSS = "NSS"
    MBEDTLS = "Mbed TLS"
    S2N = "s2n-tls"
    RUSTLS = "rustls"
    GO = "Go crypto/tls"


@dataclass(frozen=True, slots=True)
class Implementation:
    """One in a file.  `static`: linked into it, where no dynamic symbol shows it.

    `ktls`: whether its kTLS code was built in; `proof` says how that is known.  `version` may be empty.
    """

    family: Family
    static: bool
    version: str = ""
    ktls: Tri = Tri.UNKNOWN
    proof: str = ""


@dataclass(frozen=True, slots=True)
class Content:
    """What a file turned out to be.

    `program`: an executable; `alone`: one without a dynamic linker.  `crypto_version`: that of a libcrypto, whose
    libssl does not carry its own.  `unsearched`: why not all of it was searched, or empty.
    """

    soname: str = ""
    build_id: str = ""
    program: bool = False
    alone: bool = False
    crypto_version: str = ""
    implementations: tuple[Implementation, ...] = ()
    unsearched: str = ""


class NotElf(Exception):
    """The file is no ELF file, or a damaged one; the message says which."""


class Window:
    """A file of `size` bytes that is read where it is sliced: `read(size, offset)` as os.pread has it."""

    def __init__(self, read: Callable[[int, int], bytes], size: int) -> None:
        self._read = read
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, key: slice, /) -> bytes:
        start, stop, _ = key.indices(self._size)
        return self._read(stop - start, start) if stop > start else b""


#: A symbol that only this family's library defines; those of OpenSSL's relatives come before OpenSSL's own.
_DEFINES = (
    ("gnutls_handshake", Family.GNUTLS),
    ("wolfSSL_connect", Family.WOLFSSL),
    ("SSL_ImportFD", Family.NSS),
    ("mbedtls_ssl_handshake", Family.MBEDTLS),
    ("s2n_negotiate", Family.S2N),
    ("SSL_from_bytes", Family.AWS_LC),
    ("SSL_CTX_set_custom_verify", Family.BORINGSSL),
    ("SSL_CTX_load_verify_mem", Family.LIBRESSL),
    ("SSL_CTX_new", Family.OPENSSL),
)
_OPENSSL_LIKE = (Family.OPENSSL, Family.LIBRESSL, Family.BORINGSSL, Family.AWS_LC)
_OF_CRYPTO = ("OpenSSL_version_num", "EVP_EncryptInit_ex")
#: ssl/ssl_lib.c (SSL_sendfile) and GnuTLS's lib/system/ktls.c call it, and nothing else in either library does
_SENDFILE = ("sendfile", "sendfile64")

#: Anchors: what is looked for first, each in one fast pass; the pattern then reads what stands around it.
_ANCHORS = (
    b"ssl_lib.c",
    b"OpenSSL ",
    b"LibreSSL ",
    b"AWS-LC",
    b"ktls",
    b"rustls-",
    b"crypto/tls.(",
    b"bed TLS ",
    b"s2n_negotiate",
    b"NSS ",
)
#: Before a bare version number; too frequent to be looked for in every file.
_BARE = {Family.GNUTLS: b"\x003.", Family.WOLFSSL: b"\x005."}
_PATTERN = re.compile(
    rb"(?P<openssl>OpenSSL [0-9]\.[0-9]{1,2}\.[0-9a-z]{1,4}(?:-[a-z0-9+.-]{1,20})? "
    rb" ?[0-9]{1,2} [A-Z][a-z]{2} [0-9]{4})"
    rb"|(?P<libressl>LibreSSL [0-9]\.[0-9]{1,2}\.[0-9]{1,2})"
    rb"|(?P<aws_version>AWS-LC (?:FIPS )?[0-9][0-9.]{2,12})"
    rb"|(?P<aws>AWS-LC)"
    rb"|(?P<boring>ssl_lib\.cc)"
    rb"|(?P<plain>ssl_lib\.c)\x00"
    rb"|(?P<layer>ktls_meth\.c|ktls_read_n)"
    rb"|(?P<crate>/ktls(?:-core)?-[0-9]+\.[0-9]+\.[0-9]+)"
    rb"|(?P<rustls>rustls-[0-9]{1,3}\.[0-9]{1,4}\.[0-9]{1,4})"
    rb"|(?P<go_tls>crypto/tls\.\(\*Conn\))"
    rb"|(?P<mbed>[Mm]bed TLS [0-9]\.[0-9]{1,3}\.[0-9]{1,3})"
    rb"|(?P<s2n>s2n_negotiate)"
    rb"|(?P<nss>Version: NSS [0-9][0-9.]{1,10})"
    rb"|\x00(?P<number>[35]\.[0-9]{1,2}\.[0-9]{1,3})(?=\x00)"
)
#: debug/buildinfo: at the head of a section of its own in the data segment
_GO_MAGIC = b"\xff Go buildinf:"


def examine(content: elf.Content, deadline: float) -> Content:
    """What the file holds.  The search of its constants ends at `deadline` (time.monotonic).  Raises NotElf."""
    try:
        found = elf.layout(content)
    except elf.ElfError as error:
        raise NotElf(str(error)) from None
    program = found.interpreted or found.elf.kind != elf.ET_DYN
    defined = found.offers([*(name for name, _ in _DEFINES), *_OF_CRYPTO])
    family = next((family for name, family in _DEFINES if name in defined), None)
    crypto = family is None and set(_OF_CRYPTO) <= defined
    anchors = (*_ANCHORS, _BARE[family]) if family in _BARE else _ANCHORS
    words, unsearched = _search(content, found.readable, anchors, deadline)
    listed: list[Implementation] = []
    if family is not None:
        listed.append(_offered(family, found, words, program=program))
    listed += (each for each in _linked(words, found) if family is None or each.family not in _related(family))
    if "go_tls" in words:
        listed.append(Implementation(Family.GO, True, _go_version(content, found), Tri.NO, _HAS_NONE[Family.GO]))
    return Content(
        soname=found.elf.soname,
        build_id=found.build_id,
        program=program,
        alone=program and not found.interpreted and "go_tls" not in words,
        crypto_version=_first(words, "libressl", "openssl", "aws_version") if crypto else "",
        implementations=tuple(listed),
        unsearched=unsearched,
    )


#: Why a family's own code never uses the kernel (facts §6.1).
_HAS_NONE = {
    Family.LIBRESSL: "LibreSSL has no kTLS",
    Family.BORINGSSL: "BoringSSL has no kTLS of its own",
    Family.AWS_LC: "AWS-LC has no kTLS of its own",
    Family.WOLFSSL: "wolfSSL has no kTLS of its own",
    Family.NSS: "NSS has no kTLS",
    Family.MBEDTLS: "Mbed TLS has no kTLS",
    Family.RUSTLS: "rustls has no kTLS of its own, and no crate that adds it was seen in the file",
    Family.GO: "Go's crypto/tls has no kTLS",
}


def _related(family: Family) -> tuple[Family, ...]:
    return _OPENSSL_LIKE if family in _OPENSSL_LIKE else (family,)


def _offered(family: Family, found: elf.Layout, words: dict[str, str], *, program: bool) -> Implementation:
    """The library that shows itself in the dynamic symbols."""
    version = {
        Family.OPENSSL: _first(words, "openssl"),
        Family.LIBRESSL: _first(words, "libressl"),
        Family.AWS_LC: _first(words, "aws_version"),
        Family.GNUTLS: _numbered("GnuTLS", words),
        Family.WOLFSSL: _numbered("wolfSSL", words),
        Family.NSS: _first(words, "nss").removeprefix("Version: "),
        Family.MBEDTLS: _first(words, "mbed"),
    }.get(family, "")
    if family in _HAS_NONE:
        return Implementation(family, program, version, Tri.NO, _HAS_NONE[family])
    if family is Family.S2N:
        has = bool(found.offers(("s2n_connection_ktls_enable_send",)))
        return Implementation(
            family, program, version, Tri.YES if has else Tri.NO,
            f"it {'has' if has else 'lacks'} s2n_connection_ktls_enable_send",
        )  # fmt: skip
    if "layer" in words:
        return Implementation(family, program, version, Tri.YES, _LAYER)
    # only in a library of its own: a program may call sendfile for reasons of its own
    separate = family is Family.GNUTLS or any(name.startswith("libcrypto") for name in found.elf.needed)
    if program or not separate:
        said = Implementation(family, program, version)
        return _by_version(said) if "plain" in words else said
    if found.imports(_SENDFILE):
        return Implementation(family, False, version, Tri.YES, "it imports sendfile, as only one built with kTLS does")
    return Implementation(family, False, version, Tri.NO, "it does not import sendfile, as one built with kTLS does")


_LAYER = "it names the source file of the kTLS record layer"


def _by_version(said: Implementation) -> Implementation:
    """An OpenSSL that names its source files, but not that of the kTLS record layer: from 3.2 on it has none."""
    number = re.match(r"OpenSSL ([0-9])\.([0-9]{1,2})\.", said.version)
    if number is None or (int(number[1]), int(number[2])) < (3, 2):
        return said
    return Implementation(
        said.family, said.static, said.version, Tri.NO, "it does not name the source file of the kTLS record layer"
    )


def _linked(words: dict[str, str], found: elf.Layout) -> Iterator[Implementation]:
    """What strings in the constants give away."""
    if "boring" in words:
        family = Family.AWS_LC if "aws" in words or "aws_version" in words else Family.BORINGSSL
        yield Implementation(family, True, _first(words, "aws_version"), Tri.NO, _HAS_NONE[family])
    if "plain" in words and not any(name.startswith("libssl") for name in found.elf.needed):
        if "libressl" in words:
            yield Implementation(Family.LIBRESSL, True, words["libressl"], Tri.NO, _HAS_NONE[Family.LIBRESSL])
        elif "layer" in words:
            yield Implementation(Family.OPENSSL, True, _first(words, "openssl"), Tri.YES, _LAYER)
        else:
            yield _by_version(Implementation(Family.OPENSSL, True, _first(words, "openssl")))
    if "rustls" in words:
        version = f"rustls {words['rustls'].removeprefix('rustls-')}"
        if "crate" in words:
            crate = words["crate"].removeprefix("/")
            yield Implementation(Family.RUSTLS, True, version, Tri.YES, f"the crate {crate} is in the file, too")
        else:
            yield Implementation(Family.RUSTLS, True, version, Tri.NO, _HAS_NONE[Family.RUSTLS])
    if "mbed" in words:
        yield Implementation(Family.MBEDTLS, True, words["mbed"], Tri.NO, _HAS_NONE[Family.MBEDTLS])
    if "s2n" in words:
        yield Implementation(Family.S2N, True)


def _first(words: dict[str, str], *names: str) -> str:
    return next((words[name] for name in names if name in words), "")


def _numbered(name: str, words: dict[str, str]) -> str:
    return f"{name} {words['number']}" if "number" in words else ""


def _search(
    content: elf.Content, ranges: tuple[tuple[int, int], ...], anchors: tuple[bytes, ...], deadline: float
) -> tuple[dict[str, str], str]:
    """The first text of each kind, and why the search ended early, or an empty string."""
    words: dict[str, str] = {}
    left = MOST_SEARCHED
    for start, size in ranges:
        end = min(start + size, len(content))
        at = start
        while at < end:
            if left <= 0:
                return words, f"only its first {MOST_SEARCHED >> 20} MiB of constants were searched"
            if time.monotonic() > deadline:
                return words, "the search of its constants took too long"
            piece = content[at : min(at + _PIECE + _OVERLAP, end)]
            _note(piece, anchors, words)
            at += _PIECE
            left -= _PIECE
    return words, ""


def _note(piece: bytes, anchors: tuple[bytes, ...], words: dict[str, str]) -> None:
    for anchor in anchors:
        at = piece.find(anchor)
        while at >= 0:
            # the anchor stands in the middle of "Mbed TLS", "Version: NSS", "/ktls-core-"
            for match in _PATTERN.finditer(piece, max(0, at - 10), at + 64):
                kind = match.lastgroup
                if kind is not None:
                    words.setdefault(kind, match[kind].decode("ascii", "replace"))
            at = piece.find(anchor, at + len(anchor))


def _go_version(content: elf.Content, found: elf.Layout) -> str:
    """`go1.22.1` as the linker left it, or an empty string."""
    for start, size in found.writable:
        head = content[start : start + min(size, 1 << 16)]
        at = head.find(_GO_MAGIC)
        if at >= 0 and len(head) > at + 33 and head[at + 15] & 2:
            # since Go 1.18: one byte of length, then the text (a version has fewer than 128 bytes)
            text = head[at + 33 : at + 33 + head[at + 32]]
            if re.fullmatch(rb"[ -~]{1,100}", text):
                return text.decode("ascii")
    return ""
