# SPDX-License-Identifier: BSD-2-Clause
"""Give up CAP_NET_ADMIN, so that nothing this process does can make the kernel load the tls module (Linux)."""

from __future__ import annotations

import struct
from enum import StrEnum

# include/uapi/linux/capability.h
_CAP_NET_ADMIN = 12
_CAPABILITY_VERSION_3 = 0x20080522


class Capability(StrEnum):
    """What became of CAP_NET_ADMIN, with which touching TCP_ULP loads the module."""

    DROPPED = "dropped"
    NOT_HELD = "not held"
    KEPT = "kept"
    STUCK = "could not be dropped"


def drop_net_admin() -> Capability:
    """For good: this process only probes.  The kernel loads a ULP's module for CAP_NET_ADMIN alone (tcp_ulp.c)."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    header = ctypes.create_string_buffer(struct.pack("=Ii", _CAPABILITY_VERSION_3, 0), 8)
    data = ctypes.create_string_buffer(24)
    try:
        if libc.capget(header, data):
            return Capability.STUCK
        # two words each of effective, permitted, inheritable: capabilities 0-31 first
        words = list(struct.unpack("=6I", data.raw))
        if not (words[0] | words[1]) >> _CAP_NET_ADMIN & 1:
            return Capability.NOT_HELD
        for index in (0, 1, 2):
            words[index] &= ~(1 << _CAP_NET_ADMIN)
        if libc.capset(header, ctypes.create_string_buffer(struct.pack("=6I", *words), 24)):
            return Capability.STUCK
    except AttributeError:  # a C library without the calls
        return Capability.STUCK
    return Capability.DROPPED
