# SPDX-License-Identifier: BSD-2-Clause
"""How tests/captures/sockdiag-*.hex were made: run in a guest as root, with the tls module loaded and the Python of
ktlsctl there; prints one line of hexadecimal digits for each datagram of a dump of the sockets that it holds.

The keys are zeros and protect nothing.  A dump has no keys in it.
"""

from __future__ import annotations

import contextlib
import socket
import struct

from ktlsctl.facts import diagdump, sockdiag

SIZES = {51: 36, 52: 52, 53: 36, 54: 52, 55: 36}


def pair(family: int, address: str) -> tuple[socket.socket, socket.socket]:
    with socket.create_server((address, 0), family=family) as listener:
        a = socket.create_connection(listener.getsockname()[:2])
        return a, listener.accept()[0]


def key(sock: socket.socket, way: int, version: int, cipher: int) -> None:
    sock.setsockopt(282, way, struct.pack("=HH", version, cipher) + bytes(SIZES[cipher]))


def main() -> None:
    held = []
    for family, address, version, cipher in (
        (socket.AF_INET, "127.0.0.1", 0x303, 51),
        (socket.AF_INET, "127.0.0.1", 0x304, 52),
        (socket.AF_INET, "127.0.0.1", 0x304, 53),
        (socket.AF_INET6, "::1", 0x303, 54),
    ):
        a, b = pair(family, address)
        for end in (a, b):
            end.setsockopt(6, 31, b"tls")
        key(a, 1, version, cipher)
        key(b, 2, version, cipher)
        if cipher == 52:  # both directions of both ends, and every option
            key(a, 2, version, cipher)
            key(b, 1, version, cipher)
            b.setsockopt(282, 4, 1)
            with contextlib.suppress(OSError):  # since 6.19
                a.setsockopt(282, 5, struct.pack("=H", 512))
        a.sendall(b"x" * 1000)
        assert len(b.recv(1000)) == 1000
        held += [a, b]
    for refused in (55, None):
        a, b = pair(socket.AF_INET, "127.0.0.1")
        a.setsockopt(6, 31, b"tls")
        if refused is not None:
            with contextlib.suppress(FileNotFoundError):  # no SM4 in Debian's kernels
                key(a, 1, 0x303, refused)
        held += [a, b]
    for family in diagdump.FAMILIES:
        for datagram in diagdump.dump(family, sockdiag.CONNECTED):
            print(datagram.hex())


if __name__ == "__main__":
    main()
