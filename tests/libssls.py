# SPDX-License-Identifier: BSD-2-Clause
"""The libraries that the tests of openssl.py open, what libraries of other hosts answer, and small probes."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ktlsctl.ciphers import SUITES
from ktlsctl.codec import encode
from ktlsctl.facts.answers import Answer, Asked, SuiteAnswer
from ktlsctl.model import Attempt, TlsVersion

if TYPE_CHECKING:
    from ktlsctl.libssl import Libssl

ROOT = Path(__file__).parent.parent

#: Where scripts/test-wheels unpacked the wheels.
WHEELS = Path(os.environ.get("KTLSCTL_TEST_WHEELS", ROOT / ".lab" / "wheels"))


def _system() -> str:
    """The file that the dynamic linker gives for libssl.so.3, by its own account; on FreeBSD the base system's."""
    if sys.platform.startswith("freebsd"):
        return str(max(Path("/usr/lib").glob("libssl.so.[0-9]*"), key=lambda p: int(p.name.rpartition(".")[2])))
    said = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    line = next(x for x in said.splitlines() if x.strip().startswith("libssl.so.3 "))
    return os.path.realpath(line.rpartition("=> ")[2])


SYSTEM = _system()


def from_wheel(wheel: str) -> str:
    """The private libssl of a wheel.  Its absence is a failure, not a skip: scripts/test-wheels fetches it."""
    found = [str(p) for p in (WHEELS / wheel).rglob("libssl*.so*")]
    assert found, f"{wheel} is not unpacked in {WHEELS}: run scripts/test-wheels"
    return found[0]


def compiled(folder: Path, source: str, *options: str, name: str = "libssl.so.3") -> str:
    """A small shared object of our own."""
    file, target = folder / f"{name}.c", folder / name
    file.write_text(source)
    subprocess.run(["cc", "-shared", "-fPIC", *options, "-o", target, file], check=True)
    return str(target)


# ---- recorded answers


#: What OpenSSL hands to a Linux kernel for TLS 1.2.
TLS12 = {"AES-128-GCM", "AES-256-GCM", "CHACHA20-POLY1305", "AES-128-CCM"}


def table(release: tuple[int, int]) -> dict[tuple[str, str], tuple[bool, bool]]:
    """What OpenSSL built with kTLS asks for on Linux, TX and RX, by version and cipher: measured, cell by cell."""
    modern = release >= (3, 2)
    expected = {}
    for suite in SUITES:
        if suite.version is TlsVersion.TLS12:
            both = suite.cipher in TLS12
            expected[suite.version.value, suite.cipher] = (both, both)
        else:
            tx = suite.cipher in TLS12 and (modern or suite.cipher != "AES-128-CCM")
            expected[suite.version.value, suite.cipher] = (tx, tx and modern)
    return expected


def suites(release: tuple[int, int] | None) -> tuple[SuiteAnswer, ...]:
    """The answers of a library of this release on Linux; None: built without kTLS."""
    return _answers(table(release) if release else {})


def freebsd_suites(line: tuple[int, int]) -> tuple[SuiteAnswer, ...]:
    """The answers of the base system's library of a FreeBSD release: GCM and CBC, from 15 on ChaCha20 too."""
    offloaded = {"AES-128-GCM", "AES-256-GCM"} | {s.cipher for s in SUITES if "-CBC-" in s.cipher}
    offloaded |= {"CHACHA20-POLY1305"} if line >= (15, 0) else set()
    # 13's backport in 1.1.1 has no TLS 1.3 receive; 14 got it before upstream's 3.2
    return _answers(
        {
            (s.version.value, s.cipher): (True, s.version is TlsVersion.TLS12 or line >= (14, 0))
            for s in SUITES
            if s.cipher in offloaded
        }
    )


def _answers(expected: Mapping[tuple[str, str], tuple[bool, bool]]) -> tuple[SuiteAnswer, ...]:
    found = []
    for s in SUITES:
        tx, rx = expected.get((s.version.value, s.cipher), (False, False))
        asked = Asked(int(tx), int(rx))
        agreed = not s.cipher.endswith("-8")
        found.append(SuiteAnswer(s.version, s.name, agreed, "" if agreed else "no ciphers available", asked, asked))
    return tuple(found)


def freebsd_system(line: tuple[int, int], *, ktls: bool = True) -> dict[tuple[str, str], Attempt[Any]]:
    """What a captured FreeBSD host answers about its base libssl and a Python that uses it."""
    name, version = {
        13: ("libssl.so.111", "OpenSSL 1.1.1t-freebsd  7 Feb 2023"),
        14: ("libssl.so.30", "OpenSSL 3.0.16 11 Feb 2025"),
        15: ("libssl.so.35", "OpenSSL 3.5.4 30 Sep 2025"),
    }[line[0]]
    path = f"/usr/lib/{name}"
    said = Answer(
        version=version,
        libcrypto=f"/lib/{name.replace('ssl', 'crypto')}",
        directory="/etc/ssl",
        config_file="/etc/ssl/openssl.cnf",
        unprompted=ktls and line < (14, 0),
        suites=freebsd_suites(line) if ktls else suites(None),
    )
    module = {"file": "/usr/local/lib/python3.11/_ssl.so", "libssl": path, "version": "", "strings": False}
    return {
        ("resolve", "/usr/lib"): Attempt.ran("/usr/lib"),
        ("names", "/usr/lib"): Attempt.ran([name]),
        ("resolve", path): Attempt.ran(path),
        ("probe", f"ktlsctl.libsslprobe:probe {json.dumps({'path': path})}"): Attempt.ran(encode(said)),
        ("probe", "ktlsctl.libsslprobe:python {}"): Attempt.ran({"ssl": module}),
    }


# ---- probes: called in a child as `tests.libssls:NAME`


def option(path: str) -> bool:
    """Whether the effective configuration sets SSL_OP_ENABLE_KTLS in a fresh context."""
    from ktlsctl.libssl import Libssl

    libssl = Libssl(path)
    libssl.start()
    return libssl.context(server=True).wants_ktls()


def _wants(libssl: Libssl, file: str) -> int:
    """Two bits each, server's in front: 0 no context, 1 off, 2 on."""
    from ktlsctl.libsslfile import Unusable

    os.environ["OPENSSL_CONF"] = file
    try:
        libssl.start()
        server, client = (1 + libssl.context(server=server).wants_ktls() for server in (True, False))
    except Unusable:
        return 0
    return server << 2 | client


def serve_options(path: str) -> None:
    """Answer for each file named on stdin, in a process forked before the library has read any configuration."""
    from ktlsctl.libssl import Libssl

    libssl = Libssl(path)
    for line in sys.stdin:
        child = os.fork()
        if not child:
            os._exit(_wants(libssl, line.rstrip("\n")))
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(status, flush=True)


class Oracle:
    """A real libssl, asked what contexts it makes under a configuration file, a few milliseconds a question."""

    def __init__(self, path: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", "import sys; from tests.libssls import serve_options as s; s(sys.argv[1])", path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def __enter__(self) -> Oracle:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def wants(self, file: Path) -> tuple[bool | None, bool | None]:
        """Whether server and client contexts have SSL_OP_ENABLE_KTLS; None: there is no context to be had."""
        source, sink = self._process.stdin, self._process.stdout
        assert source is not None
        assert sink is not None
        print(file, file=source, flush=True)
        ready, _, _ = select.select([sink], [], [], 60)
        assert ready, f"no answer about {file}"
        status = int(sink.readline())
        said = {0: None, 1: False, 2: True}
        return said[status >> 2], said[status & 3]
