# SPDX-License-Identifier: BSD-2-Clause
"""Network interfaces: which of the kernel's TLS offload features each one has (what `ethtool -k` shows)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ktlsctl.facts.attempts import mapped
from ktlsctl.host import Host
from ktlsctl.model import Attempt

if TYPE_CHECKING:
    from array import array

#: net/ethtool/common.c netdev_features_strings
FEATURES = ("tls-hw-tx-offload", "tls-hw-rx-offload", "tls-hw-record")

#: More are not asked: a host of containers has thousands, and none of those offloads.
LIMIT = 64

# include/uapi/linux/sockios.h, include/uapi/linux/ethtool.h
_SIOCETHTOOL = 0x8946
_GSTRINGS, _GSSET_INFO, _GFEATURES = 0x1B, 0x37, 0x3A
_ETH_SS_FEATURES = 4
_STRING = 32


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature of one interface.  `fixed`: nobody can change it; `requested` differs from `active` while the
    driver waits for something else."""

    name: str
    active: bool
    requested: bool
    fixed: bool

    def __str__(self) -> str:
        """As ethtool prints it."""
        word = "on" if self.active else "off"
        if self.fixed:
            return f"{word} [fixed]"
        if self.active != self.requested:
            return f"{word} [requested {'on' if self.requested else 'off'}]"
        return word


@dataclass(frozen=True, slots=True)
class Interface:
    """`features`: those of FEATURES that this kernel knows."""

    name: str
    features: Attempt[tuple[Feature, ...]]

    @property
    def offers(self) -> bool:
        return any(feature.active or not feature.fixed for feature in self.features.or_else(()))


@dataclass(frozen=True, slots=True)
class Interfaces:
    """`left_out`: how many more there were than LIMIT."""

    asked: Attempt[tuple[Interface, ...]]
    left_out: int = 0


def parse(names: Any, words: Any) -> tuple[Feature, ...]:
    """Features from the kernel's list of names and an interface's bit words: [available, requested, active,
    never_changed] for each 32 features.  Raises ValueError when either has another shape."""
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("the names of the features are no list of strings")
    if not isinstance(words, list) or not all(
        isinstance(word, list) and len(word) == 4 and all(isinstance(bits, int) and bits >= 0 for bits in word)
        for word in words
    ):
        raise ValueError("the features are no list of four words each")
    found = []
    for position, name in enumerate(names):
        if name in FEATURES and position // 32 < len(words):
            available, requested, active, never_changed = (
                bits >> position % 32 & 1 == 1 for bits in words[position // 32]
            )
            found.append(Feature(name, active, requested, not available or never_changed))
    return tuple(found)


def read(host: Host) -> Interfaces:
    """Every interface of this network namespace; needs no privilege."""
    listed = host.names("/sys/class/net")
    if listed.value is None:
        return Interfaces(Attempt(listed.outcome, None, listed.reason))
    # not an interface: the bonding driver's control file
    interfaces = tuple(name for name in listed.value if name != "bonding_masters")
    chosen = interfaces[:LIMIT]
    if not chosen:
        return Interfaces(Attempt.ran(()))
    # the same for every interface: they are the kernel's, not the driver's
    names = host.ask("ethtool names", lambda: _ask_names(chosen))
    return Interfaces(
        Attempt.ran(tuple(_interface(host, name, names) for name in chosen)), len(interfaces) - len(chosen)
    )


def _interface(host: Host, name: str, names: Attempt[Any]) -> Interface:
    if not names.present:
        return Interface(name, Attempt(names.outcome, None, names.reason))
    words = host.ask(f"ethtool features {name}", lambda: _ask_features(name, len(names.value or ())))
    return Interface(name, mapped(words, lambda value: parse(names.value, value)))


def _command(interface: str, command: array[int]) -> None:
    """SIOCETHTOOL: `struct ifreq` points at the command, which the kernel fills in.  Raises OSError."""
    import fcntl
    import socket
    import struct

    address, _ = command.buffer_info()
    request = struct.pack("16sP16x", interface.encode()[:15], address)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, _SIOCETHTOOL, request)


def _ask_names(interfaces: Sequence[str]) -> list[str]:
    """From the first interface that answers.  Raises OSError of the last one when none does."""
    for interface in interfaces[:-1]:
        try:
            return _names_of(interface)
        except OSError:
            continue
    return _names_of(interfaces[-1])


def _names_of(interface: str) -> list[str]:
    from array import array

    # ethtool_sset_info: cmd, reserved, mask of sets (64 bits), then one count per set
    info = array("I", [_GSSET_INFO, 0, 0, 0, 0])
    _set_mask(info)
    _command(interface, info)
    count = info[4]
    strings = array("I", [_GSTRINGS, _ETH_SS_FEATURES, count] + [0] * (count * _STRING // 4))
    _command(interface, strings)
    raw = strings.tobytes()[12:]
    return [raw[at : at + _STRING].partition(b"\0")[0].decode("utf-8", "replace") for at in range(0, len(raw), _STRING)]


def _set_mask(info: array[int]) -> None:
    """The 64-bit mask in native order, in two words of 32 bits."""
    import struct

    info[2], info[3] = struct.unpack("=II", struct.pack("=Q", 1 << _ETH_SS_FEATURES))


def _ask_features(interface: str, count: int) -> list[list[int]]:
    from array import array

    size = (count + 31) // 32
    command = array("I", [_GFEATURES, size] + [0] * (4 * size))
    _command(interface, command)
    return [list(command[2 + 4 * i : 6 + 4 * i]) for i in range(size)]
