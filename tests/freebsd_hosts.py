# SPDX-License-Identifier: BSD-2-Clause
"""FreeBSD hosts for the tests: what kernels of several releases answer, as recorded facts have it.

No FreeBSD machine was at hand: the kernel's answers are those of tests/freebsd_kernel.py.
`python -m tests.freebsd_hosts` writes tests/captures/freebsd-*.json anew.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

from ktlsctl.ciphers import SUITES, Suite
from ktlsctl.codec import encode
from ktlsctl.facts import conftxt, ifcaps, kld, lighttpd, recordproof, tlsenable
from ktlsctl.facts.answers import Answer, Asked, PythonAnswer, SuiteAnswer
from ktlsctl.facts.recordproof import Proof
from ktlsctl.host import CAPTURE_VERSION, CapturedHost, Ran
from ktlsctl.model import About, Attempt, Os, Outcome, TlsVersion
from tests import freebsd_kernel
from tests.freebsd_kernel import ROOT, Running

CAPTURES = Path(__file__).parent / "captures"


@dataclass(frozen=True)
class Kernel(freebsd_kernel.Kernel):
    """A modelled kernel and the host around it: machine, boot files, drivers, interfaces, programs."""

    conftxt: bool = True
    machine: str = "amd64"
    release: str = ""
    jailed: bool = False
    files: Mapping[str, str] = field(default_factory=dict)
    devices: tuple[str, ...] = ("aesni", "cryptosoft")
    interfaces: str = "em0: flags=1008843<UP,BROADCAST,RUNNING> metric 0 mtu 1500\n\toptions=3<RXCSUM,TXCSUM>\n"
    privileged: bool = True
    lighttpd: str = ""  #: its release, where it is installed
    replay: int = 0  #: see freebsd_kernel.Running

    def sysctls(self) -> dict[str, str]:
        descriptions = {
            "aesni": "AES-CBC,AES-CCM,AES-GCM,AES-ICM,AES-XTS",
            "armv8crypto": "AES-CBC,AES-XTS,AES-GCM",
            "ossl": "OpenSSL crypto",
            "cryptosoft": "software crypto",
        }
        here = {"hw.machine_arch": self.machine, "security.jail.jailed": str(int(self.jailed))}
        here |= {f"dev.{driver}.0.%desc": descriptions[driver] for driver in self.devices}
        return here | super().sysctls()

    def proof(self) -> Proof:
        """What records over this kernel's loopback are seen to do."""
        own = (f.name for f in fields(freebsd_kernel.Kernel) if f.name != "counters")
        return _proof(tuple(getattr(self, name) for name in own), self.replay)

    def sysctl_answer(self) -> str:
        return "".join(f"{name}={value}\n" for name, value in self.sysctls().items())

    @property
    def about(self) -> About:
        release = self.release or f"{self.line[0]}.{self.line[1]}-RELEASE"
        machine = {"aarch64": "arm64"}.get(self.machine, self.machine)
        return About(Os.FREEBSD, release, machine, self.privileged, f"FreeBSD {release}")

    def said(self) -> dict[tuple[str, str], Attempt[Any]]:
        """Every question that a check asks of this host, with its answer; other files and commands do not exist."""
        drivers = ("aesni", "armv8crypto", "ossl", "cryptosoft")
        asked = ("hw.machine_arch", "security.jail.jailed", "kern.ipc.mb_use_ext_pgs", ROOT)
        devices = tuple(f"dev.{driver}.0.%desc" for driver in drivers)
        option = "options\tINCLUDE_CONFIG_FILE\n" + ("options\tKERN_TLS\n" if self.kern_tls else "")
        said = {
            _run("sysctl", "-ie", "kern.osreldate", *asked, *devices): Ran(0, self.sysctl_answer(), ""),
            _run("sh", "-c", ifcaps._COMMAND): Ran(0, self.interfaces, ""),
            _run("sh", "-c", conftxt._COMMAND): Ran(0, option, "") if self.conftxt else Ran(1, "", ""),
        }
        found: dict[tuple[str, str], Attempt[Any]] = {key: Attempt.ran(encode(ran)) for key, ran in said.items()}
        found[("ask", kld.QUESTION)] = Attempt.ran(list(self.modules()))
        found[("probe", f"{tlsenable.PROBE} null")] = Attempt.ran(encode(self.answers()))
        found[("probe", f"{recordproof.PROBE} null")] = Attempt.ran(encode(self.proof()))
        if self.lighttpd:
            found[("resolve", lighttpd.PROGRAM)] = Attempt.ran(lighttpd.PROGRAM)
            banner = f"lighttpd/{self.lighttpd} (ssl) - a light and fast webserver\n"
            found[_run("lighttpd", "-v")] = Attempt.ran(encode(Ran(0, banner, "")))
        found |= {("read", path): Attempt.ran(text.encode()) for path, text in self.files.items()}
        found |= base_openssl(self.line, self.machine)
        drop_ins = sorted(p.rpartition("/")[2] for p in self.files if p.startswith("/boot/loader.conf.d/"))
        if drop_ins:
            found[("names", "/boot/loader.conf.d")] = Attempt.ran(drop_ins)
        return found

    def host(self, **other: Attempt[Any]) -> CapturedHost:
        """The host; `other` replaces answers by the first word of their key (`sysctl`, `kldstat`, `probe`)."""
        said = self.said()
        for (door, key), _ in list(said.items()):
            # the probe of keys; that of records is named "proof"
            name = "proof" if key.startswith(recordproof.PROBE) else "probe"
            word = name if door == "probe" else json.loads(key)[0] if door == "run" else key if door == "ask" else ""
            if word in other:
                said[door, key] = other[word]
        return CapturedHost(self.about, said, otherwise=Outcome.ABSENT)


@cache
def _proof(kernel: tuple[Any, ...], replay: int) -> Proof:
    running = Running(freebsd_kernel.Kernel(*kernel), replay=replay)
    with tempfile.TemporaryFile() as file:
        content = os.urandom(recordproof.FILE)
        file.write(content)
        file.flush()
        pairs = iter(running.pair, None)
        deadline = time.monotonic() + 120.0  # a busy machine is no failure
        return recordproof.prove(pairs, running, file.fileno(), content, deadline)


def base_openssl(line: tuple[int, int], machine: str) -> dict[tuple[str, str], Attempt[Any]]:
    """The base system's libssl and what a probe of it answers.

    13: 1.1.1 with FreeBSD's own kTLS, which tries unless told not to; built with it from 13.1 on.  14: 3.0 with TLS 1.3
    receive backported, no ChaCha20.  15: 3.5.  Only where the kernel has a direct map (src.opts.mk).  Encrypt-then-MAC
    is negotiated for CBC, which keeps that in user space.
    """
    number, version = {13: ("111", "OpenSSL 1.1.1t-freebsd  7 Feb 2023"), 14: ("30", "OpenSSL 3.0.16 11 Feb 2025")}.get(
        line[0], ("35", "OpenSSL 3.5.4 30 Sep 2025")
    )
    built = machine in ("amd64", "aarch64") and line >= (13, 1)

    def asked(suite: Suite) -> Asked:
        gcm, chacha = suite.cipher in ("AES-128-GCM", "AES-256-GCM"), suite.cipher == "CHACHA20-POLY1305"
        offloaded = built and (gcm or (chacha and line >= (15, 0)))
        receives = offloaded and (suite.version is TlsVersion.TLS12 or line >= (14, 0))
        return Asked(int(offloaded), int(receives))

    suites = tuple(
        SuiteAnswer(s.version, s.name, True, "", asked(s), asked(s))
        if not s.name.endswith(("CCM8", "CCM_8_SHA256"))
        else SuiteAnswer(s.version, s.name, False, "no ciphers available", Asked(0, 0), Asked(0, 0))
        for s in SUITES
    )
    path = f"/usr/lib/libssl.so.{number}"
    answer = Answer(
        version=version,
        libcrypto=f"/lib/libcrypto.so.{number}",
        directory="/etc/ssl",
        config_file="/etc/ssl/openssl.cnf",
        unprompted=built and line < (14, 0),
        suites=suites,
    )
    found: dict[tuple[str, str], Attempt[Any]] = {
        ("resolve", "/lib"): Attempt.ran("/lib"),
        ("resolve", "/usr/lib"): Attempt.ran("/usr/lib"),
        ("names", "/lib"): Attempt.ran([]),
        ("names", "/usr/lib"): Attempt.ran(["libssl.so", f"libssl.so.{number}"]),
        ("probe", "ktlsctl.libsslprobe:python {}"): Attempt.ran(encode(PythonAnswer(absent="no Python was recorded"))),
        ("probe", f'ktlsctl.libsslprobe:probe {{"path": "{path}"}}'): Attempt.ran(encode(answer)),
    }
    found |= {("resolve", f"/usr/lib/{name}"): Attempt.ran(path) for name in ("libssl.so", f"libssl.so.{number}")}
    return found


def _run(*argv: str) -> tuple[str, str]:
    return "run", json.dumps(argv)


ON = {"/etc/sysctl.conf": "kern.ipc.tls.enable=1\n"}
F14_3 = Kernel((14, 3))
F15_1 = Kernel((15, 1), enable=True, rx_enable=True, release="15.1-RELEASE-p4")
F13_2 = Kernel((13, 2), enable=True, files=ON)
MELLANOX = (
    "mce0: flags=1008843<UP,BROADCAST,RUNNING> metric 0 mtu 1500\n"
    "\toptions=5020003<RXCSUM,TXCSUM,NV,TXRTLMT,MEXTPG>\n"
    "\tcapabilities=39d020003<RXCSUM,TXCSUM,NV,TXRTLMT,MEXTPG,TXTLS4,TXTLS6,TXTLS_RTLMT,RXTLS4,RXTLS6>\n"
    "lo0: flags=1008049<UP,LOOPBACK,RUNNING> metric 0 mtu 16384\n"
    "\toptions=680003<RXCSUM,TXCSUM,LINKSTATE,RXCSUM_IPV6,TXCSUM_IPV6>\n"
)

#: The captured hosts by the name of their file.
HOSTS: Mapping[str, Kernel] = {
    "13.0": Kernel((13, 0), enable=True, files=ON),
    "13.2": F13_2,
    "13.2-ktls_ocf": replace(F13_2, module_loaded=True, files={**ON, "/boot/loader.conf": 'ktls_ocf_load="YES"\n'}),
    "14.3": F14_3,
    "14.3-on": replace(F14_3, enable=True, files=ON),
    "14.3-custom-kernel": replace(F14_3, kern_tls=False),
    "14.3-i386": replace(F14_3, kern_tls=False, ext_pgs=False, machine="i386", devices=("cryptosoft",)),
    "14.3-no-ext-pgs": replace(
        F14_3, enable=True, ext_pgs=False, files={**ON, "/boot/loader.conf": 'kern.ipc.mb_use_ext_pgs="0"\n'}
    ),
    "15.0": Kernel((15, 0), enable=True, release="15.0-RELEASE-p9"),
    "15.1-lighttpd": Kernel((15, 1), enable=True, release="15.1-RELEASE-p1", lighttpd="1.4.85"),
    "15.1-lighttpd-without": Kernel(
        (15, 1),
        enable=True,
        release="15.1-RELEASE-p1",
        lighttpd="1.4.85",
        files={f"{lighttpd.DIRECTORY}/lighttpd.conf": 'ssl.openssl.ssl-conf-cmd += ("Options" => "-KTLS")\n'},
    ),
    "15.1-damaged-sendfile": Kernel((15, 1), enable=True, release="15.1-RELEASE-p1", replay=16158),
    "15.1-unpatched": Kernel((15, 1), enable=True),
    "14.3-nfs": replace(F14_3, files={"/etc/rc.conf": 'tlsservd_enable="YES"\n'}),
    "15.0-jail": Kernel((15, 0), enable=True, jailed=True, release="15.0-RELEASE-p9"),
    "15.0-arm64-nic": Kernel(
        (15, 0), enable=True, machine="aarch64", devices=("armv8crypto", "cryptosoft"), interfaces=MELLANOX
    ),
    "15.1-p4": F15_1,
    "15.1-p4-no-rx": replace(F15_1, rx_enable=False, files={"/etc/sysctl.conf": "kern.ipc.tls.rx_enable=0\n"}),
}


def document(kernel: Kernel) -> str:
    """A host as a capture file."""

    def entry(door: str, key: str, answer: Attempt[Any]) -> dict[str, Any]:
        content = {"text": bytes(answer.or_else(b"")).decode()} if door == "read" else {"value": answer.value}
        return {"door": door, "key": key, "outcome": answer.outcome.value, **content}

    capture = {
        "ktlsctl_capture": CAPTURE_VERSION,
        "about": encode(kernel.about),
        "otherwise": Outcome.ABSENT.value,
        "answers": [entry(door, key, answer) for (door, key), answer in kernel.said().items()],
    }
    return json.dumps(capture, indent=1) + "\n"


def path_of(name: str) -> Path:
    return CAPTURES / f"freebsd-{name}.json"


if __name__ == "__main__":
    for name, kernel in HOSTS.items():
        path_of(name).write_text(document(kernel))
