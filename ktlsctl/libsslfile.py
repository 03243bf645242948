# SPDX-License-Identifier: BSD-2-Clause
"""A libssl as a file: whether it can be loaded here at all, and what stands in it.

Like libssl.py it starts fast: no dataclass, enum, typing or re at run time.
"""

from __future__ import annotations

import os
import sys

from ktlsctl.facts import elf
from ktlsctl.servant import ProbeError

#: How the files' names begin; cryptography's own module is called libcryptography_rust.so.
SSL_NAMES, CRYPTO_NAMES = ("libssl.", "libssl-"), ("libcrypto.", "libcrypto-")


class Unusable(ProbeError):
    """This file cannot be asked.  `fault` is a value of answers.Fault, `detail` what the system said of it."""

    def __init__(self, fault: str, detail: str = "") -> None:
        said = fault.replace("_", " ") + (f" ({detail})" if detail else "")
        super().__init__(f"this TLS library cannot be used for the test: {said}")
        self.fault = fault
        self.detail = detail


def examine(path: str) -> elf.Elf:
    """Look at the file without loading it.  Raises Unusable unless it is a shared object for this interpreter."""
    found = _header(path)
    own = _own_header()
    if own is not None and not found.runs_where(own):
        raise Unusable("foreign", f"{found.architecture}, this Python is {own.architecture}")
    if found.kind != elf.ET_DYN:
        raise Unusable("not_shared")
    return found


def _header(path: str) -> elf.Elf:
    import mmap
    import stat

    try:
        # O_NONBLOCK: a FIFO must not hang us.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise Unusable("missing") from None
    except PermissionError:
        raise Unusable("denied") from None
    except OSError as error:
        raise Unusable("unreadable", error.strerror or str(error)) from None
    try:
        about = os.fstat(fd)
        if stat.S_ISDIR(about.st_mode):
            raise Unusable("directory")
        if not stat.S_ISREG(about.st_mode):
            raise Unusable("unreadable", "not a regular file")
        if about.st_size == 0:
            raise Unusable("empty")
        with mmap.mmap(fd, 0, prot=mmap.PROT_READ) as content:
            if content[:4] != b"\x7fELF":
                raise Unusable("text" if _is_text(content[:512]) else "not_elf")
            return elf.parse(content)
    except elf.ElfError as error:
        raise Unusable("damaged", str(error)) from None
    finally:
        os.close(fd)


def _is_text(head: bytes) -> bool:
    return all(byte >= 0x20 or byte in b"\t\n\r\f" for byte in head)


def _own_header() -> elf.Elf | None:
    """The interpreter's own; None when it cannot be had (then the dynamic linker will say what is wrong)."""
    try:
        return _header(sys.executable)
    except Unusable:
        return None


def signs(file: str) -> tuple[str, bool]:
    """Version of an OpenSSL linked into `file`, and whether the file names the kTLS record layer of 3.2 and later."""
    version, named, overlap = "", False, 64
    with open(file, "rb") as stream:
        tail = b""
        # In pieces: a whole wheel mapped at once would count as this process's memory.
        while piece := stream.read(1 << 20):
            content = tail + piece
            version = version or _version_in(content)
            named = named or _names_record_layer(content)
            tail = content[-overlap:]
    return version, named


def _names_record_layer(content: bytes) -> bool:
    """One pass for what both names share: these files have tens of megabytes."""
    at = content.find(b"ktls_")
    while at >= 0:
        if content.startswith((b"ktls_meth.c", b"ktls_read_n"), at):
            return True
        at = content.find(b"ktls_", at + 1)
    return False


def _version_in(content: bytes) -> str:
    """`OpenSSL 4.0.3 1 Sep 2026`, as OPENSSL_VERSION_TEXT is written."""
    at = content.find(b"OpenSSL ")
    while at >= 0:
        text, closed, _ = content[at : at + 48].partition(b"\0")
        words = text.split()
        if closed and len(words) == 5 and words[1][:1].isdigit() and words[1].count(b".") == 2 and words[4].isdigit():
            return text.decode("ascii", "replace")
        at = content.find(b"OpenSSL ", at + 1)
    return ""
