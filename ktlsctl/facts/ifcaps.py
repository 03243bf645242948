# SPDX-License-Identifier: BSD-2-Clause
"""What FreeBSD's network interfaces offer for TLS, as ifconfig(8) prints it: a mask, and names (net/if_strings.h)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ktlsctl.freebsdabi import IfCapBit
from ktlsctl.host import Host
from ktlsctl.model import Attempt, Outcome

#: The NIC encrypts or decrypts records itself.  RXTLS stands in the second capability word, which only
#: SIOCGIFCAPNV reports: ifconfig's text is the one source that has all four.
TLS = tuple(bit.name for bit in (IfCapBit.TXTLS4, IfCapBit.TXTLS6, IfCapBit.RXTLS4, IfCapBit.RXTLS6))
#: Unmapped mbufs: TX offload needs it.
MEXTPG = IfCapBit.MEXTPG.name

_HEADER = re.compile(r"(\S+): flags=")
_LIST = re.compile(r"\s+(options|capabilities)=([0-9a-fA-F]*)<([\w,/-]*)>.*", re.ASCII)

#: Addresses and descriptions are nobody's business: they never leave this pipe.
_COMMAND = "ifconfig -a -m | grep -E '^[^[:space:]]+: flags=|^[[:space:]]+(options|capabilities)='"


@dataclass(frozen=True, slots=True)
class Interface:
    """One interface; names of capabilities it has at all, and of those switched on."""

    name: str
    supported: tuple[str, ...] = ()
    enabled: tuple[str, ...] = ()

    @property
    def tls(self) -> tuple[str, ...]:
        """The TLS capabilities it has; without `-m` text only the enabled ones are known."""
        return tuple(name for name in TLS if name in self.supported or name in self.enabled)


def parse(text: str) -> tuple[Interface, ...]:
    """The interfaces of `ifconfig -m` output, in its order; lines it does not know are passed over."""
    found: list[Interface] = []
    for line in text.split("\n"):
        if header := _HEADER.match(line):
            found.append(Interface(header[1]))
        elif found and (match := _LIST.fullmatch(line.rstrip("\r"))):
            names = _names(match[2], match[3])
            last = found[-1]
            found[-1] = (
                Interface(last.name, last.supported, names)
                if match[1] == "options"
                else Interface(last.name, names, last.enabled)
            )
    return tuple(found)


def _names(mask: str, listed: str) -> tuple[str, ...]:
    """The names, and those of set bits that an older ifconfig(8) has no name for."""
    names = tuple(name for name in listed.split(",") if name)
    # two capability words are all there are
    bits = int(mask, 16) if 0 < len(mask) <= 16 else 0
    return (*names, *(bit.name for bit in IfCapBit if bits >> bit & 1 and bit.name not in names))


def read(host: Host) -> Attempt[tuple[Interface, ...]]:
    ran = host.run("sh", "-c", _COMMAND)
    if ran.value is None:
        return Attempt(Outcome.FAILED if ran.absent else ran.outcome, reason=ran.reason)
    interfaces = parse(ran.value.stdout)
    said = ran.value.stderr.strip().splitlines()
    if said and not interfaces:
        return Attempt(Outcome.FAILED, reason=said[0])
    return Attempt.ran(interfaces)
