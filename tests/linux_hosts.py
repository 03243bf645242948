# SPDX-License-Identifier: BSD-2-Clause
"""Linux hosts to judge without being on them: captures built from the files, probe answers and calls that matter."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ktlsctl import linux
from ktlsctl.ciphers import LINUX_CIPHERS
from ktlsctl.codec import encode
from ktlsctl.facts import namespaces, ulp, uring
from ktlsctl.facts.capability import Capability
from ktlsctl.facts.ulp import Answers, Tried, TriedCell
from ktlsctl.facts.uring import Nop
from ktlsctl.host import CapturedHost
from ktlsctl.model import About, Attempt, Check, Direction, KernelReport, Os, Outcome, TlsVersion

ACCEPTED = Tried(True)
DENIED: Attempt[Any] = Attempt(Outcome.DENIED, reason="Permission denied")


def refused(symbol: str) -> Tried:
    return Tried(True, symbol)


#: What Debian's kernels say: SM4 and ARIA are not built, ARIA goes with TLS 1.2 only (measured on 6.1, 6.12, 7.2).
def debian_cell(version: TlsVersion, cipher: str) -> Tried:
    if cipher.startswith("ARIA") and version is TlsVersion.TLS13:
        return refused("EINVAL")
    return refused("ENOENT") if cipher.startswith(("SM4", "ARIA")) else ACCEPTED


def answers(*, rekey: bool = True, capability: Capability = Capability.DROPPED, **changes: Any) -> Answers:
    """A kernel with the module, as Debian builds it."""
    given = Answers(
        capability=capability,
        pair=ACCEPTED,
        attach=ACCEPTED,
        control=refused("EINVAL"),
        cells=tuple(
            TriedCell(version, cipher.name, direction, debian_cell(version, cipher.name))
            for cipher in LINUX_CIPHERS
            for version in TlsVersion
            for direction in Direction
        ),
        rekey=ACCEPTED if rekey else refused("EBUSY"),
        disconnect=refused("EOPNOTSUPP"),
        max_payload=refused("ENOPROTOOPT"),
        expect_no_pad=ACCEPTED,
        echo=ACCEPTED,
        echo_equal=True,
    )
    return replace(given, **changes)


def with_cell(given: Answers, version: TlsVersion, cipher: str, direction: Direction | None, tried: Tried) -> Answers:
    """The answers with one cell (or both directions of it) changed."""
    return replace(
        given,
        cells=tuple(
            replace(cell, tried=tried)
            if (cell.version, cell.cipher) == (version, cipher) and direction in (None, cell.direction)
            else cell
            for cell in given.cells
        ),
    )


#: A kernel whose module is not loaded, asked by somebody without the right to have it loaded.
UNLOADED = Answers(Capability.NOT_HELD, ACCEPTED, refused("ENOENT"))

FEATURE_NAMES = ["tx-scatter-gather", "tls-hw-tx-offload", "tls-hw-rx-offload", "tls-hw-record"]
FIXED_OFF = [[0b0001, 0b0001, 0b0001, 0]]

TLS_STAT = (
    b"TlsCurrTxSw                     \t0\nTlsTxSw                         \t7\nTlsDecryptError                 \t0\n"
)

CONFIG_DEBIAN = b"""CONFIG_INET=y
CONFIG_MODULES=y
CONFIG_TLS=m
CONFIG_TLS_DEVICE=y
CONFIG_CRYPTO_GCM=m
CONFIG_CRYPTO_CCM=m
CONFIG_CRYPTO_CHACHA20POLY1305=m
# CONFIG_CRYPTO_ARIA is not set
# CONFIG_CRYPTO_SM4_GENERIC is not set
# CONFIG_MLX5_EN_TLS is not set
CONFIG_NFP=m
"""

NOP_WORKS = Nop("", None, 0x1FFF)

CONFIG_WITHOUT_TLS = b"CONFIG_INET=y\nCONFIG_MODULES=y\n# CONFIG_TLS is not set\n"


@dataclass(frozen=True)
class LinuxHost:
    """What a host would say.  `files`: content by path; directories are made from them and from `directories`."""

    release: str
    files: Mapping[str, bytes | Attempt[bytes]]
    distribution: str = "Debian GNU/Linux 12 (bookworm)"
    privileged: bool = True
    ulp: Answers | Attempt[Any] = field(default_factory=answers)
    uring: Nop | Attempt[Any] = NOP_WORKS
    own: Mapping[str, int] = field(
        default_factory=lambda: {"net": 10, "user": namespaces.FIRST_USER, "pid": namespaces.FIRST_PID}
    )
    first: Mapping[str, int] | None = None
    interfaces: Mapping[str, list[list[int]]] = field(default_factory=lambda: {"lo": FIXED_OFF})
    directories: Mapping[str, Attempt[tuple[str, ...]]] = field(default_factory=dict)

    def but(self, **changes: Any) -> LinuxHost:
        return replace(self, **changes)

    def having(self, files: Mapping[str, bytes | Attempt[bytes]]) -> LinuxHost:
        """With these files too, or instead."""
        return replace(self, files={**self.files, **files})

    def lacking(self, *paths: str) -> LinuxHost:
        return replace(self, files={p: c for p, c in self.files.items() if p not in paths})

    def capture(self, *, load: bool = False) -> CapturedHost:
        recorded: dict[tuple[str, str], Attempt[Any]] = {}
        listed: dict[str, set[str]] = {"/sys/class/net": set(self.interfaces)}
        for path, content in self.files.items():
            recorded["read", path] = content if isinstance(content, Attempt) else Attempt.ran(content)
            recorded["resolve", path] = Attempt.ran(path)
            parent, _, name = path.rpartition("/")
            while parent:
                listed.setdefault(parent, set()).add(name)
                parent, _, name = parent.rpartition("/")
        for directory, names in listed.items():
            recorded["names", directory] = Attempt.ran(sorted(names))
        for directory, attempt in self.directories.items():
            recorded["names", directory] = attempt
        recorded["ask", "namespaces self"] = Attempt.ran(dict(self.own))
        recorded["ask", "namespaces 1"] = Attempt.ran(dict(self.first)) if self.first else DENIED
        recorded["ask", "ethtool names"] = Attempt.ran(FEATURE_NAMES)
        for name, words in self.interfaces.items():
            recorded["ask", f"ethtool features {name}"] = Attempt.ran(words)
        _answer(recorded, _key(ulp, load), self.ulp)
        _answer(recorded, f"{uring.TARGET} {{}}", self.uring)
        about = About(Os.LINUX, self.release, "x86_64", self.privileged, self.distribution)
        return CapturedHost(about, recorded, otherwise=Outcome.ABSENT)

    def judged(self, *, load: bool = False) -> KernelReport:
        host = self.capture(load=load)
        return linux.judge(linux.gather(host, load=load), host.about)


def _key(module: Any, load: bool) -> str:
    return f'{module.TARGET} {{"load": {str(load).lower()}, "seconds": {module.BUDGET}}}'


def _answer(recorded: dict[tuple[str, str], Attempt[Any]], key: str, answer: Any) -> None:
    recorded["probe", key] = answer if isinstance(answer, Attempt) else Attempt.ran(encode(answer))


def finding(report: KernelReport, identity: str) -> Check:
    (found,) = [check for check in report.checks if check.id == identity]
    return found


def commands(check: Check) -> list[str]:
    return [remedy.command for remedy in check.remedy if remedy.command]


# --- the hosts ------------------------------------------------------------------------------------------------------


def _tree(release: str, module: str = "kernel/net/tls/tls.ko") -> dict[str, bytes | Attempt[bytes]]:
    directory = f"/lib/modules/{release}"
    return {
        f"{directory}/modules.dep": f"{module}:\nkernel/drivers/net/bonding/bonding.ko: {module}\n".encode(),
        f"{directory}/modules.alias": b"alias tcp-ulp-tls tls\nalias tls tls\n",
        f"{directory}/modules.builtin": b"kernel/net/ipv4/tcp_cubic.ko\n",
        f"{directory}/{module}": b"\x7fELF",
    }


_LOADED: dict[str, bytes | Attempt[bytes]] = {
    "/proc/modules": b"tls 135168 0 - Live 0x0000000000000000\n",
    "/sys/module/tls/initstate": b"live\n",
    "/sys/module/tls/refcnt": b"0\n",
    "/proc/net/tls_stat": TLS_STAT,
    "/proc/sys/net/ipv4/tcp_available_ulp": b"mptcp tls\n",
}


def _debian(release: str, number: int, config: str, **changes: Any) -> LinuxHost:
    return LinuxHost(
        release=release,
        distribution=f"Debian GNU/Linux {number}",
        files={
            config: CONFIG_DEBIAN,
            **_tree(release, "kernel/net/tls/tls.ko" if number == 12 else "kernel/net/tls/tls.ko.xz"),
            **_LOADED,
            "/proc/sys/kernel/modules_disabled": b"0\n",
            "/proc/sys/kernel/modprobe": b"/sbin/modprobe\n",
            "/proc/cmdline": b"BOOT_IMAGE=/vmlinuz root=/dev/vda1 ro quiet\n",
            "/proc/self/uid_map": b"         0          0 4294967295\n",
            "/proc/self/status": b"Name:\tpython3\nSeccomp:\t0\n",
            "/lib/modprobe.d/aliases.conf": b"alias net-pf-1 unix\n",
            "/lib/modprobe.d/systemd.conf": b"options bonding max_bonds=0\n",
        },
        **changes,
    )


DEBIAN12 = _debian("6.1.0-53-amd64", 12, "/boot/config-6.1.0-53-amd64", ulp=answers(rekey=False))
DEBIAN13 = _debian("6.12.107+deb13-amd64", 13, "/boot/config-6.12.107+deb13-amd64", ulp=answers(rekey=False))
SID = _debian("7.2.13-amd64", 14, "/usr/lib/modules/7.2.13-amd64/config")


def unloaded(host: LinuxHost) -> LinuxHost:
    """The host before anybody loaded tls."""
    before = host.lacking(*_LOADED)
    return before.having(
        {"/proc/modules": b"", "/proc/sys/net/ipv4/tcp_available_ulp": b"mptcp\n"},
    ).but(ulp=UNLOADED)


def by_hand(host: LinuxHost) -> LinuxHost:
    """The host as an ordinary user sees it."""
    return host.but(privileged=False)


#: Its configuration comes from the kernel itself, packed.
ARCH = LinuxHost(
    release="6.17.1-arch1-1",
    distribution="Arch Linux",
    files={
        "/proc/config.gz": gzip.compress(
            CONFIG_DEBIAN.replace(b"# CONFIG_CRYPTO_ARIA is not set", b"CONFIG_CRYPTO_ARIA=m")
        ),
        **_tree("6.17.1-arch1-1", "kernel/net/tls/tls.ko.zst"),
        **_LOADED,
    },
)

#: Nothing on disk and the kernel says why: it was built without.
WITHOUT_TLS = LinuxHost(
    release="6.6.0-custom",
    distribution="Debian GNU/Linux 12 (bookworm)",
    files={
        "/proc/config.gz": gzip.compress(CONFIG_WITHOUT_TLS),
        "/proc/modules": b"",
        "/proc/sys/net/ipv4/tcp_available_ulp": b"mptcp\n",
    },
    ulp=UNLOADED,
)

#: A container: the host's kernel, an image's files, namespaces of its own.
CONTAINER = LinuxHost(
    release="6.1.0-53-amd64",
    files={
        "/.dockerenv": b"",
        "/proc/modules": b"",
        "/proc/self/uid_map": b"         0          0 4294967295\n",
        "/proc/self/status": b"Seccomp:\t2\n",
    },
    ulp=UNLOADED,
    own={"net": 11, "user": namespaces.FIRST_USER, "pid": 12},
)
