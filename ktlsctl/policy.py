# SPDX-License-Identifier: BSD-2-Clause
"""What a self-test must prove beyond what kernel and library promise: requirements, and how they are written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ktlsctl.ciphers import FREEBSD_CIPHERS, LINUX_CIPHERS, bulk_cipher
from ktlsctl.model import Direction, SelftestResult, Status, TlsVersion

_CIPHERS = tuple(dict.fromkeys((*(c.name for c in LINUX_CIPHERS), *(c.name for c in FREEBSD_CIPHERS))))


class PolicyError(ValueError):
    """A requirement that cannot be read; the message is one sentence."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """A policy: in this version at least one suite (or one with this cipher) must have these directions proved."""

    version: TlsVersion
    directions: tuple[Direction, ...]
    cipher: str = ""

    @staticmethod
    def parse(text: str) -> Requirement:
        """`tls1.2:tx,rx` or `tls1.3:aes-128-gcm:tx`.  Raises PolicyError."""
        parts = text.strip().lower().split(":")
        versions = {"tls1.2": TlsVersion.TLS12, "tlsv1.2": TlsVersion.TLS12} | {
            "tls1.3": TlsVersion.TLS13, "tlsv1.3": TlsVersion.TLS13,
        }  # fmt: skip
        example = "write it like tls1.2:tx,rx or tls1.3:aes-128-gcm:tx"
        if len(parts) not in (2, 3) or parts[0] not in versions:
            raise PolicyError(f"cannot read the requirement {text!r}; {example}")
        cipher = parts[1].upper() if len(parts) == 3 else ""
        if cipher and cipher not in _CIPHERS:
            raise PolicyError(f"no kernel knows the cipher {cipher!r}; one of {', '.join(_CIPHERS)}")
        try:
            directions = tuple(sorted({Direction(d.strip()) for d in parts[-1].split(",")}, reverse=True))
        except ValueError:
            raise PolicyError(f"cannot read the directions of {text!r}; {example}") from None
        return Requirement(versions[parts[0]], directions, cipher)

    def __str__(self) -> str:
        cipher = f" {self.cipher}" if self.cipher else ""
        return f"{self.version}{cipher} {' and '.join(d.upper() for d in self.directions)}"

    def met(self, results: Iterable[SelftestResult]) -> bool:
        return any(
            result.version is self.version
            and (not self.cipher or bulk_cipher(result.suite) == self.cipher)
            and all(result.direction(d).status is Status.OK for d in self.directions)
            for result in results
        )


@dataclass(frozen=True, slots=True)
class Policy:
    """`directions`: those that are judged at all.  `required`: beyond what kernel and library promise.  `accepted`: ids
    of known defects that a scenario may prove without a word in the verdict.  `versions`: those that are tested.

    Raises PolicyError for a requirement on a direction or version that is left out: it could never be met.
    """

    directions: tuple[Direction, ...] = tuple(Direction)
    required: tuple[Requirement, ...] = ()
    accepted: frozenset[str] = frozenset()
    versions: tuple[TlsVersion, ...] = tuple(TlsVersion)

    def __post_init__(self) -> None:
        for requirement in self.required:
            if not set(requirement.directions) <= set(self.directions):
                raise PolicyError(f"{requirement} is required, but --direction leaves that out")
            if requirement.version not in self.versions:
                option = "--" + requirement.version.lower().replace("v", "")
                raise PolicyError(f"{requirement} is required, but its version is not tested; add {option}")
