# SPDX-License-Identifier: BSD-2-Clause
"""Known defects of kernel TLS and of the libraries that use it: one table, and what of it concerns a host.

A version only suggests (`possibly affected`): distributions bring fixes back.  `proved` is what a probe saw.  A
version range is a list of half-open spans: the first affected version and the first fixed one of each stable branch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

from ktlsctl.model import About, AdvisoryNotice, Certainty, Check, Library, Link, Os, Remedy, Status, Tri

#: The id of the corruption after a write that is repeated from another buffer.
MOVING_BUFFER = "openssl.moving-write-buffer"

#: major, minor, patch; a patch level of FreeBSD (`14.3-RELEASE-p5`) is the third number.  The last one orders release
#: candidates before their release.
Version = tuple[int, int, int, int]

_FINAL = 1 << 30


class Subject(StrEnum):
    """Whose version an advisory speaks of."""

    LINUX = "Linux kernel"
    FREEBSD = "FreeBSD"
    OPENSSL = "OpenSSL"


@dataclass(frozen=True, slots=True)
class Span:
    """Affected versions: from `first` up to, not including, `fixed`; None: no fix is known."""

    first: str
    fixed: str | None

    def holds(self, version: Version) -> bool:
        return parse(self.first) <= version and (self.fixed is None or version < parse(self.fixed))

    @property
    def empty(self) -> bool:
        """A branch that began with the fix: it only tells where the fix is."""
        return self.fixed is not None and parse(self.first) >= parse(self.fixed)

    def __str__(self) -> str:
        return f"{self.first} and later" if self.fixed is None else f"{self.first} to before {self.fixed}"


@dataclass(frozen=True, slots=True)
class Advisory:
    """One known defect.

    `debian`: the first Debian kernel that has the fix, where upstream names none for that branch.  `proof`: the
    behaviour that proves it, empty when none is known.  `grave`: data corruption, or reachable by a remote peer.
    `system`: set when a library's defect shows on one system only.  `alarm`: False for what is worth knowing,
    and no alarm even where it was proved.
    """

    id: str
    subject: Subject
    what: str
    spans: tuple[Span, ...]
    reference: str
    remedy: Remedy
    proof: str = ""
    grave: bool = False
    debian: tuple[str, ...] = ()
    system: Os | None = None
    alarm: bool = True

    @property
    def affected(self) -> str:
        return ", ".join(str(span) for span in self.spans if not span.empty)

    @property
    def fixed(self) -> str:
        named = [span.fixed for span in self.spans if span.fixed is not None]
        named += [f"{version} (Debian)" for version in self.debian if version not in named]
        return ", ".join(named) or "no fix known"

    def concerns(self, version: Version, debian: bool = False) -> bool:
        """Whether a version is affected; `debian`: it is the version of a Debian kernel package."""
        if debian and any(branch(fix) == version[:2] and version >= fix for fix in map(parse, self.debian)):
            return False
        return any(span.holds(version) for span in self.spans)


@cache
def parse(text: str) -> Version:
    """`6.1`, `6.1.149`, `7.0-rc2`, `14.3-p16`, `3.5.7` as a version.  Raises ValueError for anything else."""
    match = re.fullmatch(r"(\d{1,6})\.(\d{1,6})(?:\.(\d{1,6}))?(?:-(rc|p)(\d{1,6}))?", text, re.ASCII)
    if not match or (match[3] and match[4] == "p"):
        raise ValueError(f"{text!r} is no version")
    major, minor, patch = int(match[1]), int(match[2]), int(match[3] or 0)
    if match[4] == "p":
        return major, minor, int(match[5]), _FINAL
    return major, minor, patch, int(match[5]) if match[4] else _FINAL


def branch(version: Version) -> tuple[int, int]:
    """What a stable branch is called: `6.1`."""
    return version[:2]


def _spans(first: str, *fixes: str) -> tuple[Span, ...]:
    """From where it began to the fix of each stable branch; a branch between two fixed ones was never fixed."""
    found = []
    for fix in fixes:
        found.append(Span(first, fix))
        major, minor = branch(parse(fix))
        first = f"{major}.{minor + 1}"
    return tuple(found)


_UPDATE_LINUX = Remedy(
    "install the distribution's latest kernel and reboot; until then, do not let tls load on its own"
)
_UPDATE_FREEBSD = Remedy(
    "bring the system to its branch's latest patch level and reboot", "freebsd-update fetch install"
)
_NO_KTLS = "or leave kernel TLS off for the programs concerned (no 'Options = KTLS')"


def _cve(
    number: str,
    what: str,
    *spans: Span,
    debian: tuple[str, ...] = (),
    grave: bool = False,
    proof: str = "",
    remedy: Remedy = _UPDATE_LINUX,
) -> Advisory:
    return Advisory(number, Subject.LINUX, what, spans, number, remedy, proof, grave, debian)


_NO_SOCKMAP = Remedy(
    "install the distribution's latest kernel; until then, put no kernel TLS socket into a BPF sockmap"
)
_NO_OFFLOAD = Remedy("install the distribution's latest kernel; until then, leave TLS offload of the NIC off")

#: Source: the CVE records' first fixed stable releases; Debian's kernel changelog.  Where only the changelog names a
#: fix, only the branches that it names are judged.  An unknown beginning is kernel TLS's own: 4.13.
_LINUX = (
    _cve(
        "CVE-2025-39682",
        "a zero-length record makes the receiver use a wrong record type or freed memory",
        *_spans("6.0", "6.1.149", "6.6.103", "6.12.44", "6.16.4", "6.17"),
        grave=True,
    ),
    _cve(
        "CVE-2025-39946",
        "a bogus record header overruns the receive parser's buffer",
        *_spans("6.0", "6.1.154", "6.6.108", "6.12.49", "6.16.9", "6.17"),
        grave=True,
    ),
    _cve(
        "CVE-2025-38616",
        "received data vanishes when something else reads the TCP socket below kernel TLS",
        *_spans("6.0", "6.6.103", "6.12.43", "6.15.11", "6.16.2", "6.17"),
        debian=("6.1.185",),
    ),
    _cve(
        "CVE-2025-38471",
        "stale receive-queue pointers: freed memory is used",
        *_spans("6.0.6", "6.1.147", "6.6.100", "6.12.40", "6.15.8", "6.16"),
        grave=True,
    ),
    _cve(
        "CVE-2025-37756",
        "a kernel TLS socket can be disconnected and used again",
        *_spans("4.13", "5.10.237", "5.15.181", "6.1.135", "6.6.88", "6.12.24", "6.13.12", "6.14.3", "6.15"),
        proof="connect(AF_UNSPEC) on a kernel TLS socket succeeds instead of failing with EOPNOTSUPP",
    ),
    _cve(
        "CVE-2024-26582",
        "freed memory is used by partial reads with asynchronous decryption",
        *_spans("6.0", "6.1.79", "6.6.18", "6.7.6", "6.8"),
    ),
    _cve(
        "CVE-2024-26583",
        "asynchronous completion races closing the socket",
        *_spans("5.7", "6.1.79", "6.6.18", "6.7.6", "6.8"),
    ),
    _cve(
        "CVE-2024-26584",
        "a busy crypto queue is taken for an error",
        *_spans("4.16", "6.6.18", "6.7.6", "6.8"),
        debian=("6.1.84",),
    ),
    _cve(
        "CVE-2024-26585",
        "scheduling of transmit work races closing the socket",
        *_spans("4.20", "6.6.18", "6.7.6", "6.8"),
        debian=("6.1.84",),
    ),
    _cve(
        "CVE-2024-26800",
        "freed memory is used after a busy crypto queue (brought by the fix of CVE-2024-26584)",
        Span("6.6.18", "6.6.21"),
        Span("6.7.6", "6.7.9"),
    ),
    _cve(
        "CVE-2024-58240",
        "the state of asynchronous decryption is mixed up",
        *_spans("4.13", "6.1.149", "6.6.21", "6.7.9", "6.8"),
    ),
    _cve(
        "CVE-2023-28466",
        "getsockopt without a lock races the set-up: freed or NULL memory is used",
        *_spans("4.13", "6.1.20", "6.2.7", "6.3"),
    ),
    _cve(
        "CVE-2026-23240",
        "cancelling transmit work races closing the socket",
        *_spans("5.3", "6.12.75", "6.18.16", "6.19.6"),
        Span("7.0-rc1", "7.0-rc2"),
        grave=True,
    ),
    _cve(
        "CVE-2026-23414",
        "buffers of asynchronous decryption leak (brought by a fix in the stable branches)",
        Span("6.1.158", "6.1.168"),
        Span("6.6.114", "6.6.131"),
        Span("6.12.55", "6.12.80"),
        Span("6.17.5", "6.18"),
        Span("6.18", "6.18.21"),
        Span("6.19", "6.19.11"),
        grave=True,
    ),
    _cve(
        "CVE-2026-64025",
        "a BPF sockmap's verdict races kernel TLS receive",
        *_spans("5.10", "6.6.142", "6.12.92", "6.18.34", "7.0.11", "7.1"),
        debian=("6.1.191",),
        grave=True,
        remedy=_NO_SOCKMAP,
    ),
    _cve(
        "CVE-2026-74611",
        "wrong buffer position when a TLS 1.3 record is decrypted again (zero-copy receive)",
        *_spans("6.0", "6.18.45", "7.1.9", "7.2"),
        debian=("6.1.191",),
        remedy=Remedy("install the distribution's latest kernel; until then, do not set TLS_RX_EXPECT_NO_PAD"),
    ),
    _cve(
        "CVE-2026-93824",
        "a BPF sockmap accepts a kernel TLS socket, which must be refused",
        *_spans("4.13", "6.12.111", "6.18.53", "7.2"),
        debian=("6.1.189",),
        remedy=_NO_SOCKMAP,
    ),
    _cve(
        "CVE-2026-52974",
        "setting up device receive leaks memory",
        Span("6.1", "6.1.175"),
        Span("6.12", "6.12.91"),
        remedy=_NO_OFFLOAD,
    ),
    _cve(
        "CVE-2026-98967",
        "wrong locking in Chelsio's kernel TLS driver (ch_ktls)",
        Span("6.1", "6.1.191"),
        Span("7.2", "7.2.11"),
        remedy=_NO_OFFLOAD,
    ),
    _cve(
        "CVE-2025-40149",
        "the network device behind a socket may be gone while device offload is set up",
        Span("6.1", "6.1.161"),
        Span("6.12", "6.12.66"),
        remedy=_NO_OFFLOAD,
    ),
    _cve(
        "CVE-2024-53091",
        "receive through a BPF sockmap and kernel TLS together goes wrong",
        Span("6.1", "6.1.191"),
        remedy=_NO_SOCKMAP,
    ),
)


def _fix(name: str, what: str, *spans: Span, grave: bool = False, proof: str = "") -> Advisory:
    return Advisory(
        f"linux.{name}", Subject.LINUX, what, spans, "changelog of Debian's linux package", _UPDATE_LINUX, proof, grave
    )


#: Correctness fixes without a CVE, from Debian's kernel changelog; only the branches that it names are judged.
_LINUX_FIXES = (
    _fix(
        "ccm-aad",
        "AES-CCM records carry a wrong authentication tag",
        *_spans("5.2", "5.4.164", "5.10.84", "5.15.7", "5.16"),
        grave=True,
        proof="an AES-CCM record of the kernel fails with EBADMSG on the other side",
    ),
    _fix("splice-full-pipe", "data is lost when splice(2) meets a full pipe", Span("6.1", "6.1.189"), grave=True),
    _fix(
        "send-interrupted",
        "a send that a signal interrupts aborts the connection",
        Span("6.1", "6.1.183"),
        Span("6.12", "6.12.104"),
    ),
    _fix(
        "splice-after-failure",
        "splice(2) reads on after asynchronous decryption failed",
        Span("6.1", "6.1.184"),
        Span("6.12", "6.12.105"),
        grave=True,
    ),
    _fix("empty-record", "empty records confuse in-kernel readers (NFS, NVMe)", Span("6.12", "6.12.97")),
)


#: No public report: seen by running it.
_MEASURED = "measured with OpenSSL 3.0.22, 3.5.7, 3.6.5 and 4.0.3 on Linux 6.1, 6.12 and 7.2"

#: Limits of the kernel that are no one release's mistake.
_LINUX_LIMITS = (
    Advisory(
        "linux.rekey-poll-stall",
        Subject.LINUX,
        "poll stays silent after data and a TLS 1.3 KeyUpdate in a row, though the next read gives what follows",
        (Span("6.14", None),),
        _MEASURED,
        Remedy(
            "let event loops read until EAGAIN before they poll again, or leave kernel TLS off for programs that "
            "read once per event"
        ),
        "poll(2) reports nothing after the first of two reads on loopback, with a KeyUpdate between the two records",
    ),
    Advisory(
        "linux.sendfile-short-buffer",
        Subject.LINUX,
        "a blocking sendfile hangs where the send buffer holds less than TCP holds back for a full segment",
        # The first is the oldest that was measured; 6.5 sends files to sockets in another way (2dc334f1a63a).
        (Span("6.1", "6.5"),),
        "measured with Linux 6.1.192, which hangs in sk_stream_wait_memory, and 6.12 and 7.2, which do not",
        Remedy("give sockets that send files a send buffer of 64 KiB or more, or make them non-blocking"),
        "a blocking SSL_sendfile with SO_SNDBUF 2304 on loopback sends no more after the first record",
    ),
)


def _openssl(
    name: str,
    what: str,
    reference: str,
    remedy: Remedy,
    *spans: Span,
    proof: str = "",
    grave: bool = False,
    system: Os | None = None,
    alarm: bool = True,
) -> Advisory:
    return Advisory(f"openssl.{name}", Subject.OPENSSL, what, spans, reference, remedy, proof, grave, (), system, alarm)


_OPENSSL = (
    _openssl(
        "moving-write-buffer",
        "wrong data is sent after WANT_WRITE by programs that move their write buffer (every Python ssl program)",
        "https://github.com/openssl/openssl/issues/21202",
        Remedy(f"install OpenSSL 3.5.7, 3.6.3, 4.0.1 or later, {_NO_KTLS}"),
        Span("3.0.0", "3.5.7"),
        Span("3.6.0", "3.6.3"),
        Span("4.0.0", "4.0.1"),
        proof="bytes differ after SSL_write was repeated from another buffer on a full socket",
        grave=True,
    ),
    _openssl(
        "moving-write-buffer-late",
        "wrong data is sent after WANT_WRITE by programs that allow moving write buffers only after the handshake",
        _MEASURED,
        Remedy(f"set SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER before the handshake, {_NO_KTLS}"),
        # Before, it is the defect above, whenever the mode is set.
        Span("3.5.7", None),
        proof="bytes differ after SSL_write was repeated from another buffer, the mode set after the handshake",
        alarm=False,
    ),
    _openssl(
        "eof-without-close-notify",
        "a peer that ends without close_notify is reported as 'packet length too long'",
        "https://github.com/openssl/openssl/pull/28861",
        Remedy(f"let both sides send close_notify, {_NO_KTLS}"),
        Span("4.0.0", None),
        proof="SSL_read after an abrupt end on loopback reports 'packet length too long'",
    ),
    _openssl(
        "rx-data-length",
        "kernel receive fails with 'data length too long'",
        "https://github.com/openssl/openssl/issues/23169",
        Remedy(f"install OpenSSL 3.2.1 or later, {_NO_KTLS}"),
        Span("3.2.0", "3.2.1"),
        proof="SSL_read of a full record on loopback reports 'data length too long'",
    ),
    _openssl(
        "keyupdate-wrong-key",
        "a TLS 1.3 KeyUpdate leaves the old key in the kernel: the peer ends the connection",
        _MEASURED,
        Remedy(f"install OpenSSL 3.2 or later with a kernel that can rekey (Linux 6.14), {_NO_KTLS}"),
        Span("3.0.0", "3.2.0"),
        proof="the peer reports bad_record_mac after a KeyUpdate on loopback",
    ),
    _openssl(
        "keyupdate-fatal",
        "a TLS 1.3 KeyUpdate is fatal where the kernel cannot rekey (Linux before 6.14)",
        _MEASURED,
        Remedy(f"run a kernel that can rekey, {_NO_KTLS}"),
        Span("3.2.0", None),
        proof="SSL_key_update on loopback fails with 'no suitable record layer'",
    ),
    _openssl(
        "alert-after-bad-record",
        "after a damaged record no alert reaches the peer, which sees a close or a timeout (by design)",
        _MEASURED,
        Remedy("read a sudden close of a kernel TLS connection as a possible bad_record_mac"),
        Span("3.0.0", None),
        alarm=False,
    ),
    _openssl(
        "read-above-16384",
        "SSL_read may return more than 16384 bytes at once when the kernel receives",
        _MEASURED,
        Remedy("let programs take what SSL_read returns, without asserting 16384 as its limit"),
        Span("3.2.0", None),
        proof="SSL_read into a larger buffer returns more than 16384",
        alarm=False,
    ),
    _openssl(
        "padding-ignored",
        "TLS block padding that a program asked for is silently left out",
        _MEASURED,
        Remedy(f"install OpenSSL 3.2 or later, {_NO_KTLS}, if a program relies on padding"),
        Span("3.0.0", "3.2.0"),
    ),
    _openssl(
        "lying-bio",
        "a program whose own BIO claims kernel TLS without doing it cannot connect, or sends plaintext (PostgreSQL and "
        "libpq up to 17)",
        "measured with PostgreSQL 15 and libpq 15 and 17; libpq 18 answers no",
        Remedy("turn kernel TLS on per service, never for the whole library, where such a program uses it"),
        Span("3.0.0", None),
        proof="a session over a BIO that answers BIO_CTRL_SET_KTLS with 1 fails or carries plaintext",
        alarm=False,
    ),
    _openssl(
        "freebsd-build",
        "OpenSSL 4.0.2 with kernel TLS does not build on FreeBSD",
        "OpenSSL 4.0.2, ktls_send_ctrl_message in include/internal/ktls.h",
        Remedy("build a later release than 4.0.2"),
        Span("4.0.2", "4.0.3"),
        system=Os.FREEBSD,
    ),
    _openssl(
        "sporadic-rx",
        "kernel receive fails now and then (still open)",
        "https://github.com/openssl/openssl/issues/18276",
        Remedy("if reads fail without cause, leave kernel TLS off for that program and add the case to the issue"),
        Span("3.0.0", None),
    ),
    _openssl(
        "sendfile-retry",
        "SSL_sendfile leaves a stale retry state behind on a socket that does not block",
        "https://github.com/openssl/openssl/issues/29742",
        Remedy(f"install the latest release of the OpenSSL branch, {_NO_KTLS}"),
        # Mended in 2026; which releases have it is not known.
        Span("3.0.0", None),
    ),
    _openssl(
        "fips-boundary",
        "with kernel TLS, records are processed by the kernel, outside OpenSSL's FIPS provider",
        "https://github.com/openssl/openssl/issues/14799",
        Remedy("where FIPS validation is required, leave kernel TLS off"),
        Span("3.0.0", None),
        alarm=False,
    ),
)


def _freebsd(
    name: str,
    what: str,
    *spans: Span,
    reference: str = "",
    remedy: Remedy = _UPDATE_FREEBSD,
    proof: str = "",
    grave: bool = False,
) -> Advisory:
    return Advisory(name, Subject.FREEBSD, what, spans, reference or name, remedy, proof, grave)


#: Releases of FreeBSD's two lines are fixed independently: one list of spans for each.
_FREEBSD = (
    _freebsd(
        "FreeBSD-SA-26:26.ktls",
        "receive decrypts in place: ciphertext sent by sendfile over loopback overwrites the file's cached pages",
        # The advisory's own list is not at hand.  SA-26:46 is younger, so whoever has that fix has this one.
        *_spans("13.0", "14.3-p16", "14.4-p7"),
        *_spans("15.0", "15.0-p11", "15.1-p1"),
        reference="https://www.freebsd.org/security/patches/SA-26:26/ktls.patch",
        proof="ciphertext from sendfile over loopback is decrypted instead of refused with EBADMSG",
        grave=True,
    ),
    _freebsd(
        "FreeBSD-SA-26:46.ktls",
        "a remote peer can crash the system through TLS 1.2 AES-CBC receive",
        *_spans("14.0", "14.3-p16", "14.4-p7"),
        *_spans("15.0", "15.0-p11", "15.1-p1"),
        reference="CVE-2026-49423",
        remedy=Remedy(f"{_UPDATE_FREEBSD.text}; until then, refuse AES-CBC", "sysctl kern.ipc.tls.cbc_enable=0"),
        grave=True,
    ),
    _freebsd(
        "FreeBSD-SA-26:67.ktls",
        "a remote peer can crash the system through TLS 1.3 receive",
        *_spans("14.0", "14.4-p10", "14.5-p1"),
        *_spans("15.0", "15.0-p14", "15.1-p4"),
        reference="CVE-2026-101302",
        grave=True,
    ),
    _freebsd(
        "FreeBSD-EN-26:17.rpcsec_tls",
        "a failed handshake of NFS over TLS can panic the system",
        *_spans("15.0", "15.0-p11", "15.1-p1"),
    ),
    _freebsd(
        "FreeBSD-EN-23:17.ossl",
        "with the ossl driver loaded, AES-GCM can give wrong results",
        # The errata notice of 5 December 2023 speaks of 14.0; 14.1 was released after it.
        Span("14.0", "14.1"),
        reference="https://www.freebsd.org/security/advisories/FreeBSD-EN-23:17.ossl.asc",
        remedy=Remedy(f"{_UPDATE_FREEBSD.text}; until then, unload the driver", "kldunload ossl"),
        grave=True,
    ),
    _freebsd(
        "freebsd.sendfile-replay",
        "bodies over 64 KiB are corrupted when a non-blocking sendfile ends short and its bytes are sent again",
        Span("15.0", None),
        reference="https://github.com/opnsense/src/issues/301",
        remedy=Remedy(
            'switch kernel TLS off in the server (lighttpd: ssl.openssl.ssl-conf-cmd += ("Options" => "-KTLS")), or '
            "for the whole system",
            "sysctl kern.ipc.tls.enable=0",
        ),
        proof="a file larger than 64 KiB arrives damaged over a non-blocking kernel TLS socket",
        grave=True,
    ),
    _freebsd(
        "freebsd.sendfile-shutdown",
        "SSL_shutdown fails with EAGAIN and sent files are corrupted, with the base OpenSSL 3.0.12",
        Span("14.0", "14.1"),
        reference="https://github.com/openssl/openssl/issues/23824",
        remedy=Remedy("bring the system to a newer release, or switch kernel TLS off in the server"),
        grave=True,
    ),
)

TABLE: tuple[Advisory, ...] = (*_LINUX, *_LINUX_FIXES, *_LINUX_LIMITS, *_OPENSSL, *_FREEBSD)

_BY_ID = {advisory.id: advisory for advisory in TABLE}


@dataclass(frozen=True, slots=True)
class Level:
    """How exactly a kernel's upstream version is known.  `exact` is False when only the branch is."""

    version: Version
    exact: bool
    debian: bool = False


def build_text(version: bytes) -> bytes:
    """What a level is read from in /proc/version: from the build number on.  Before it stand the builder and host."""
    at = version.find(b" #")
    return b"" if at < 0 else version[at:]


def linux_level(release: str, version_text: str = "") -> Level | None:
    """The upstream level of a Linux kernel, by `uname -r` and whatever the kernel says of its own build.

    Debian's /proc/version ends in its package version (`Debian 6.1.192-1`), Ubuntu's /proc/version_signature in the
    upstream one.  A release like `5.14.0-503.el9` or `6.8.0-45-generic` carries a package number where the stable
    level would be: only its branch is known.  None when it is no version at all.
    """
    # Only behind the build number: before it stands the compiler, with a Debian version of its own.
    if match := re.search(r" #\d+ .*\bDebian (\d{1,6}\.\d{1,6}\.\d{1,6})-\S", version_text, re.ASCII):
        return Level(parse(match[1]), exact=True, debian=True)
    if match := re.match(r"Ubuntu \S+ (\d{1,6}\.\d{1,6}\.\d{1,6})\s*$", version_text, re.ASCII):
        return Level(parse(match[1]), exact=True)
    match = re.match(r"(\d{1,6}\.\d{1,6})(\.\d{1,6})?(-rc\d{1,6})?(?!\d)(.*)", release, re.ASCII | re.DOTALL)
    if not match:
        return None
    version = parse(match[1] + (match[2] or "") + (match[3] or ""))
    package_number = version[2] == 0 and match[3] is None and re.match(r"-\d", match[4]) is not None
    return Level(version, exact=not package_number, debian="+deb" in match[4])


def freebsd_level(release: str) -> Level | None:
    """The level of `uname -r`: exact for `14.3-RELEASE-p5`; -STABLE, -CURRENT and betas tell only their branch."""
    match = re.match(r"(\d{1,6}\.\d{1,6})-(RELEASE)?(?:-p(\d{1,6}))?", release, re.ASCII)
    if not match:
        return None
    return Level(parse(f"{match[1]}-p{match[3] or 0}"), exact=match[2] is not None)


def openssl_version(text: str) -> Version | None:
    """The version in `OpenSSL 3.0.22 7 Jul 2026` or `3.5.7`; None for another library or none."""
    match = re.match(r"(?:OpenSSL )?(\d{1,6}\.\d{1,6}\.\d{1,6})(?![\d.])", text, re.ASCII)
    return parse(match[1]) if match else None


def named(identity: str) -> Advisory:
    """The entry of this id.  Raises KeyError."""
    found = next((advisory for advisory in TABLE if advisory.id == identity), None)
    if found is None:
        raise KeyError(identity)
    return found


def concerning(
    about: About,
    libraries: Sequence[Library],
    proved: frozenset[str],
    version_text: str = "",
    refuted: frozenset[str] = frozenset(),
) -> tuple[AdvisoryNotice, ...]:
    """What of the table concerns this host, proved first.

    `proved` and `refuted`: ids whose behaviour, or whose fix, a probe saw; either outweighs a version.
    `version_text`: what the kernel says of its own build, where that tells more than its release.
    """
    found = [
        *_kernel_notices(about, proved, version_text, refuted),
        *_library_notices(about, libraries, proved, refuted),
    ]
    return tuple(sorted(found, key=lambda notice: notice.certainty is not Certainty.PROVED))


def confirmed(
    notices: Sequence[AdvisoryNotice],
    proved: frozenset[str],
    refuted: frozenset[str],
    about: About,
    library: Library | None,
) -> tuple[AdvisoryNotice, ...]:
    """The notices after a self-test with `library`: what it proved is certain, what it refuted of that library gone.

    Another library that a version suggests may still have the defect: its notice stays.
    """
    tested = "" if library is None else _named([library])
    kept = [
        n for n in notices if n.id not in proved and not (n.id in refuted and n.subject in (tested, _kernel(about)))
    ]  # fmt: skip
    seen = [
        _notice(a, Certainty.PROVED, tested if a.subject is Subject.OPENSSL else _kernel(about))
        for a in TABLE
        if a.id in proved
    ]
    return (*seen, *kept)


def by_id(identity: str) -> Advisory | None:
    return _BY_ID.get(identity)


def of_kernel(system: Os) -> frozenset[str]:
    """The ids of every advisory about this system's kernel."""
    kind = Subject.LINUX if system is Os.LINUX else Subject.FREEBSD
    return frozenset(advisory.id for advisory in TABLE if advisory.subject is kind)


def _kernel_notices(
    about: About, proved: frozenset[str], version_text: str, refuted: frozenset[str]
) -> Iterator[AdvisoryNotice]:
    kind = Subject.LINUX if about.os is Os.LINUX else Subject.FREEBSD
    subject = _kernel(about)
    level = linux_level(about.release, version_text) if about.os is Os.LINUX else freebsd_level(about.release)
    in_doubt = []
    for advisory in TABLE:
        if advisory.subject is not kind or advisory.id in refuted - proved:
            continue
        if advisory.id in proved:
            yield _notice(advisory, Certainty.PROVED, subject)
        elif level is not None and level.exact:
            if advisory.concerns(level.version, level.debian):
                yield _notice(advisory, Certainty.POSSIBLE, subject)
        elif level is None or _reaches(advisory, branch(level.version)):
            in_doubt.append(advisory)
    if in_doubt:
        yield _hint(kind, subject, in_doubt)


def _kernel(about: About) -> str:
    return f"kernel {about.release}"


def _reaches(advisory: Advisory, line: tuple[int, int]) -> bool:
    """Whether some version of a branch is affected: a branch that began with every fix is out of the question."""
    return any(
        branch(parse(span.first)) <= line and (span.fixed is None or (*line, 0, _FINAL) < parse(span.fixed))
        for span in advisory.spans
    )


def _hint(kind: Subject, subject: str, advisories: Sequence[Advisory]) -> AdvisoryNotice:
    """One notice for all that cannot be compared: a distribution's kernel without a known level is no alarm."""
    if kind is Subject.LINUX:
        identity, reference = "linux.level-unknown", "the distribution's security tracker"
        remedy = Remedy("keep the distribution's kernel current; its security tracker says which of these it has fixed")
    else:
        identity, reference = "freebsd.level-unknown", "the security advisories of the FreeBSD project"
        remedy = Remedy("compare the build's date with the advisories, and build from the branch's present head")
    return AdvisoryNotice(
        id=identity,
        certainty=Certainty.POSSIBLE,
        subject=subject,
        summary=f"{len(advisories)} known defects cannot be compared: the release does not tell the patch level",
        affected=", ".join(advisory.id for advisory in advisories),
        fixed="as the distribution says" if kind is Subject.LINUX else "as the advisories say",
        reference=reference,
        remedy=remedy,
    )


def _library_notices(
    about: About, libraries: Sequence[Library], proved: frozenset[str], refuted: frozenset[str]
) -> Iterator[AdvisoryNotice]:
    # What was built without kTLS has none of its defects.
    candidates = [
        (library, version)
        for library in libraries
        if library.built_with_ktls is not Tri.NO and (version := openssl_version(library.version)) is not None
    ]
    for advisory in TABLE:
        if advisory.subject is not Subject.OPENSSL or advisory.system not in (None, about.os):
            continue
        concerned = [library for library, version in candidates if advisory.concerns(version)]
        if advisory.id in proved:
            yield _notice(advisory, Certainty.PROVED, _named(concerned or [library for library, _ in candidates]))
        elif concerned and advisory.id not in refuted:
            yield _notice(advisory, Certainty.POSSIBLE, _named(concerned))


def _named(libraries: Sequence[Library]) -> str:
    return ", ".join(f"{library.version} {library.path}" for library in libraries) or "OpenSSL"


def _notice(advisory: Advisory, certainty: Certainty, subject: str) -> AdvisoryNotice:
    return AdvisoryNotice(
        id=advisory.id,
        certainty=certainty,
        subject=subject,
        summary=advisory.what,
        affected=advisory.affected,
        fixed=advisory.fixed,
        reference=advisory.reference,
        remedy=advisory.remedy,
    )


def check(notices: Sequence[AdvisoryNotice]) -> Check:
    """What the notices amount to: a version alone is never an alarm, a proved defect is."""
    identity, link = "advisories.known", Link.BYTES
    proved = [notice for notice in notices if notice.certainty is Certainty.PROVED]
    possible = [notice for notice in notices if notice.certainty is not Certainty.PROVED]
    evidence = {"proved": tuple(n.id for n in proved), "possible": tuple(n.id for n in possible)}
    alarming = [n for n in proved if n.id not in _BY_ID or _BY_ID[n.id].alarm]
    if alarming:
        grave = any(notice.id in _BY_ID and _BY_ID[notice.id].grave for notice in alarming)
        return Check(
            identity,
            link,
            Status.CRITICAL if grave else Status.WARNING,
            f"{_count(alarming)} proved here: {', '.join(n.id for n in alarming[:2])}{', …' * (len(alarming) > 2)}",
            "; ".join(f"{n.summary} ({n.subject})" for n in alarming),
            evidence,
            tuple(dict.fromkeys(n.remedy for n in alarming)),
        )
    if proved:
        names = ", ".join(notice.id for notice in proved)
        summary = f"{_count(proved)} proved here, worth knowing only: {names}"
        return Check(identity, link, Status.OK, summary, evidence=evidence)
    if possible:
        return Check(
            identity,
            link,
            Status.OK,
            f"{_count(possible)} may concern this host, none proved",
            "versions only suggest: distributions bring fixes back without changing the upstream version",
            evidence,
        )
    return Check(identity, link, Status.OK, "no known defect concerns this host", evidence=evidence)


def _count(notices: Sequence[AdvisoryNotice]) -> str:
    return f"{len(notices)} known defect{'s' * (len(notices) != 1)}"
