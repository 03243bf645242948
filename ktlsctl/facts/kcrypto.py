# SPDX-License-Identifier: BSD-2-Clause
"""The kernel's crypto layer: the implementation it prefers for each cipher, and FIPS mode."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ktlsctl.ciphers import LINUX_CIPHERS
from ktlsctl.facts.attempts import mapped, read_number
from ktlsctl.host import Host
from ktlsctl.model import Attempt

ALGORITHMS = tuple(dict.fromkeys(cipher.algorithm for cipher in LINUX_CIPHERS))


@dataclass(frozen=True, slots=True)
class Driver:
    """One implementation; of several for an algorithm the kernel takes the one with the highest priority."""

    algorithm: str
    name: str
    module: str
    priority: int
    asynchronous: bool


@dataclass(frozen=True, slots=True)
class Crypto:
    """`drivers`: the preferred one of each algorithm that is instantiated now.  An algorithm appears there only after
    its first use, so that one which is missing proves nothing.  `fips`: 1 in FIPS mode, absent without CRYPTO_FIPS."""

    drivers: Attempt[tuple[Driver, ...]]
    fips: Attempt[int]


def only_aead(content: bytes) -> bytes:
    """The blocks of /proc/crypto about ALGORITHMS."""
    names = {b"name         : " + name.encode() for name in ALGORITHMS}
    return b"\n\n".join(block for block in content.split(b"\n\n") if block.lstrip(b"\n").split(b"\n", 1)[0] in names)


def parse(content: bytes) -> tuple[Driver, ...]:
    """The preferred driver of each of ALGORITHMS, in that order.  Blocks that lack a field are ignored."""
    best: dict[str, Driver] = {}
    for block in content.decode("utf-8", "replace").split("\n\n"):
        driver = _driver(block)
        if driver is not None and (driver.algorithm not in best or best[driver.algorithm].priority < driver.priority):
            best[driver.algorithm] = driver
    return tuple(best[name] for name in ALGORITHMS if name in best)


def _driver(block: str) -> Driver | None:
    fields: Mapping[str, str] = {
        key.strip(): value.strip() for key, colon, value in (line.partition(":") for line in block.split("\n")) if colon
    }
    priority = fields.get("priority", "")
    # internal ones are parts of others and never chosen
    if fields.get("name") not in ALGORITHMS or fields.get("internal") == "yes" or "driver" not in fields:
        return None
    if not (priority.isascii() and priority.isdigit() and len(priority) < 12):
        return None
    return Driver(
        fields["name"], fields["driver"], fields.get("module", ""), int(priority), fields.get("async") == "yes"
    )


def read(host: Host) -> Crypto:
    """Best after the matrix was probed: then each algorithm was used once.  Needs no privilege."""
    return Crypto(
        drivers=mapped(host.read("/proc/crypto", keep=only_aead), parse),
        fips=read_number(host, "/proc/sys/crypto/fips_enabled"),
    )
