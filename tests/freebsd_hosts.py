# SPDX-License-Identifier: BSD-2-Clause
"""FreeBSD hosts for the tests: what kernels of several releases answer, as recorded facts have it.

No FreeBSD machine was at hand: sysctl leaves, errno order and support matrix follow sys/kern/uipc_ktls.c of the
releases' sources.  `python -m tests.freebsd_hosts` writes tests/captures/freebsd-*.json anew.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ktlsctl.ciphers import FREEBSD_CIPHERS, SUITES, Suite
from ktlsctl.codec import encode
from ktlsctl.facts import conftxt, ifcaps, tlsenable
from ktlsctl.facts.answers import Answer, Asked, PythonAnswer, SuiteAnswer
from ktlsctl.facts.tlsenable import Answers, Control, Errno, Mode, Try
from ktlsctl.host import CAPTURE_VERSION, CapturedHost, Ran
from ktlsctl.model import About, Attempt, Direction, Os, Outcome, TlsVersion

CAPTURES = Path(__file__).parent / "captures"

AES_CBC, AES_GCM, CHACHA20 = 11, 25, 41
AUTH_KEY = {7: 20, 18: 32, 19: 48}
ROOT = "kern.ipc.tls"


@dataclass(frozen=True)
class Kernel:
    """One kernel's answers.  `line`: the release whose code it runs, as (major, minor)."""

    line: tuple[int, int]
    enable: bool = False
    rx_enable: bool | None = None
    cbc_enable: bool = True
    ext_pgs: bool = True
    module_loaded: bool = False
    kern_tls: bool = True
    conftxt: bool = True
    machine: str = "amd64"
    release: str = ""
    jailed: bool = False
    files: Mapping[str, str] = field(default_factory=dict)
    counters: Mapping[str, int] = field(default_factory=dict)
    devices: tuple[str, ...] = ("aesni", "cryptosoft")
    interfaces: str = "em0: flags=1008843<UP,BROADCAST,RUNNING> metric 0 mtu 1500\n\toptions=48500bb<RXCSUM,TXCSUM>\n"
    privileged: bool = True

    @property
    def backend(self) -> bool:
        return self.line >= (14, 0) or self.module_loaded

    def answer(self, option: int, value: bytes) -> int:
        """The errno of setsockopt on a fresh TCP socket, 0 for success: the order of ktls_enable_tx() and _rx()."""
        if not self.kern_tls:
            return Errno.ENOPROTOOPT
        direction = {39: Direction.TX, 41: Direction.RX}[option]
        if len(value) != 64:
            return Errno.EINVAL
        (_, _, _, algorithm, key, iv, auth, auth_key, flags, major, minor) = struct.unpack("=QQQiiiiiiBB14x", value)
        if not self.enable or (direction is Direction.RX and self.rx_enable is False):
            return Errno.EOPNOTSUPP
        if algorithm == AES_CBC and not self.cbc_enable:
            return Errno.EOPNOTSUPP
        if direction is Direction.TX and not self.ext_pgs:
            return Errno.ENXIO
        if major != 3 or not 1 <= minor <= 4 or flags or not key:
            return Errno.EINVAL
        if not self._legal(algorithm, key, iv, auth, auth_key, minor):
            return Errno.EINVAL
        if self._software_does(direction, algorithm, minor):
            return 0
        return Errno.EPROTONOSUPPORT if self.line >= (14, 0) else Errno.EOPNOTSUPP

    def _legal(self, algorithm: int, key: int, iv: int, auth: int, auth_key: int, minor: int) -> bool:
        if algorithm == AES_GCM:
            return not auth and not auth_key and key in (16, 32) and (minor, iv) in ((3, 4), (4, 12))
        if algorithm == CHACHA20:
            return self.line >= (13, 1) and not auth and key == 32 and iv == 12 and minor in (3, 4)
        if algorithm == AES_CBC:
            return minor <= 3 and AUTH_KEY.get(auth) == auth_key and key in (16, 32) and (auth == 7 or minor == 3)
        return False

    def _software_does(self, direction: Direction, algorithm: int, minor: int) -> bool:
        if not self.backend:
            return False
        if direction is Direction.TX:
            return True
        if algorithm == AES_CBC:
            return self.line >= (14, 0) and minor >= 2
        return minor == 3 or self.line >= (14, 0)

    def setsockopt(self, level: int, option: int, value: bytes) -> None:
        """As a socket's method."""
        assert level == 6
        if errno := self.answer(option, value):
            raise OSError(errno, tlsenable.errno_name(errno))

    def answers(self) -> Answers:
        """What the probe brings home from this kernel."""

        def tried(version: TlsVersion, cipher: str, direction: Direction, what: tlsenable.Filling) -> Try:
            errno = tlsenable.enable(self.setsockopt, direction, what)
            return Try(version, cipher, direction, errno, None if errno else Mode.SW)

        return Answers(
            mode_errno=0 if self.kern_tls else Errno.ENOPROTOOPT,
            controls=tuple(Control(d, tlsenable.enable(self.setsockopt, d, tlsenable.CONTROL)) for d in Direction),
            tries=tuple(
                tried(version, cipher.name, direction, tlsenable.filling(cipher, version))
                for cipher in FREEBSD_CIPHERS
                for version in cipher.versions()
                for direction in Direction
            ),
            connected=True,
        )

    def sysctls(self) -> dict[str, str]:
        """Every leaf that `sysctl kern.ipc.tls` and its neighbours have on this release."""
        major, minor = self.line
        found = {
            "kern.osreldate": f"{major}{minor:02}000" if minor else f"{major}00097",
            "hw.machine_arch": self.machine,
            "security.jail.jailed": str(int(self.jailed)),
            "kern.ipc.mb_use_ext_pgs": str(int(self.ext_pgs)),
        }
        descriptions = {
            "aesni": "AES-CBC,AES-CCM,AES-GCM,AES-ICM,AES-XTS",
            "armv8crypto": "AES-CBC,AES-XTS,AES-GCM",
            "ossl": "OpenSSL crypto",
            "cryptosoft": "software crypto",
        }
        found |= {f"dev.{driver}.0.%desc": descriptions[driver] for driver in self.devices}
        if not self.kern_tls:
            return found
        settings = {"cbc_enable": self.cbc_enable, "enable": self.enable, "maxlen": 16384, "bind_threads": 0}
        if self.rx_enable is not None:
            settings["rx_enable"] = self.rx_enable
        if major == 13:
            settings["allow_unload"] = 0
        else:
            settings |= {"ifnet_max_rexmit_pct": 2, "sw_buffer_cache": 1, "max_reclaim": 1024}
        settings["ifnet.permitted"] = 0
        numbers = dict.fromkeys(("toe.gcm", "toe.cbc", "ifnet.gcm", "ifnet.cbc", "sw.gcm", "sw.cbc", "tasks_active"), 0)
        numbers |= dict.fromkeys(("ifnet.reset", "ifnet.reset_dropped", "ifnet.reset_failed"), 0)
        if self.line >= (13, 1):
            numbers |= dict.fromkeys(("toe.chacha20", "ifnet.chacha20", "sw.chacha20", "stats.sw_tx_pending"), 0)
        stats = "switch_failed switch_to_sw switch_to_ifnet failed_crypto corrupted_records active enable_calls"
        stats += " offload_total sw_rx_inqueue sw_tx_inqueue threads"
        if major >= 14:
            stats += " ifnet_disable_failed ifnet_disable_ok destroy_task"
        numbers |= {f"stats.{leaf}": 0 for leaf in stats.split()}
        numbers["stats.threads"] = 4 if major == 13 else 0
        if self.backend:
            numbers |= {f"stats.ocf.{leaf}": 0 for leaf in self._ocf_leaves()}
        numbers |= self.counters
        return found | {f"{ROOT}.{leaf}": str(int(value)) for leaf, value in (settings | numbers).items()}

    def _ocf_leaves(self) -> tuple[str, ...]:
        if self.line == (13, 0):
            return (
                *("tls10_cbc_crypts", "tls11_cbc_crypts", "tls12_gcm_crypts", "tls13_gcm_crypts"),
                *("inplace", "separate_output", "retries"),
            )
        both = ("tls12_gcm", "tls12_chacha20", "tls13_gcm", "tls13_chacha20")
        return (
            *("tls10_cbc_encrypts", "tls11_cbc_encrypts", "inplace", "separate_output", "retries"),
            *(f"{name}_{way}" for name in both for way in ("decrypts", "encrypts")),
            *(("tls11_cbc_decrypts", "tls12_gcm_recrypts", "tls13_gcm_recrypts") if self.line >= (14, 0) else ()),
        )

    def kldstat(self) -> str:
        head = "Id Refs Address                Size Name\n 1   12 0xffffffff80200000  1d36230 kernel\n"
        return head + (" 2    1 0xffffffff83020000     52a0 ktls_ocf.ko\n" if self.module_loaded else "")

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
            _run("kldstat"): Ran(0, self.kldstat(), ""),
            _run("sh", "-c", ifcaps._COMMAND): Ran(0, self.interfaces, ""),
            _run("sh", "-c", conftxt._COMMAND): Ran(0, option, "") if self.conftxt else Ran(1, "", ""),
        }
        found: dict[tuple[str, str], Attempt[Any]] = {key: Attempt.ran(encode(ran)) for key, ran in said.items()}
        found[("probe", f"{tlsenable.PROBE} null")] = Attempt.ran(encode(self.answers()))
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
            word = "probe" if door == "probe" else json.loads(key)[0] if door == "run" else ""
            if word in other:
                said[door, key] = other[word]
        return CapturedHost(self.about, said, otherwise=Outcome.ABSENT)


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
        ("probe", "ktlsctl.libssl:python {}"): Attempt.ran(encode(PythonAnswer(absent="no Python was recorded"))),
        ("probe", f'ktlsctl.libssl:probe {{"path": "{path}"}}'): Attempt.ran(encode(answer)),
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
    "\toptions=7e8500bb<RXCSUM,TXCSUM,NV,TXRTLMT,MEXTPG>\n"
    "\tcapabilities=3fe8500bb<RXCSUM,TXCSUM,NV,TXRTLMT,MEXTPG,TXTLS4,TXTLS6,TXTLS_RTLMT,RXTLS4,RXTLS6>\n"
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
