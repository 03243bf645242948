# SPDX-License-Identifier: BSD-2-Clause
"""Trap 9: io_uring forbidden by seccomp, from the start or in the middle; each case in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

FORBID = """
import ctypes, errno, struct, sys
from ktlsctl.datapath import *
from tests.datapath.tls import *

def forbid(number, error=errno.EPERM):
    # load the system call's number; is it this one: answer with the error; else allow (linux/seccomp.h, filter.h)
    code = struct.pack("=HBBI", 0x20, 0, 0, 0) + struct.pack("=HBBI", 0x15, 0, 1, number)
    code += struct.pack("=HBBI", 0x06, 0, 0, 0x00050000 | error) + struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF0000)
    buffer = ctypes.create_string_buffer(code)
    program = struct.pack("@HP", 4, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    assert libc.prctl(22, 2, program, 0, 0) == 0, ctypes.get_errno()

SETUP, ENTER = 425, 426  # the same on every architecture
GCM = (TLS13, "TLS_AES_128_GCM_SHA256")
"""


def run(script: str, pem: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORBID + textwrap.dedent(script), str(pem)],
        cwd=ROOT,
        timeout=60,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("call", "error", "stage"),
    [
        ("SETUP", "errno.EPERM", "io_uring_setup"),
        ("SETUP", "errno.ENOSYS", "io_uring_setup"),
        ("ENTER", "errno.EPERM", "io_uring_enter"),
    ],
)
def test_forbidden_from_the_start(pem: Path, call: str, error: str, stage: str) -> None:
    """A reason instead of a ring, and the same session over plain calls."""
    run(
        f"""
        forbid({call}, {error})
        none = open_ring()
        assert isinstance(none, NoRing), none
        assert (none.reason, none.stage, none.errno) == (Reason.SECCOMP, "{stage}", {error}), none
        ossl = Ossl()
        with Library(ossl.addresses()) as library, Datapath(library) as path:
            with Session(ossl, *GCM, Path(sys.argv[1]), path) as s:
                s.handshake()
                data = bytes(range(256)) * 400
                assert s.transfer(s.client, s.server, data) == data
                s.shutdown()
        """,
        pem,
    )


def test_forbidden_in_the_middle(pem: Path) -> None:
    """An orderly error of SSL_read; close does not hang, though nothing in flight can be taken back."""
    run(
        """
        import time
        ossl = Ossl()
        ring = open_ring()
        library = Library(ossl.addresses())
        path = Datapath(library, ring)
        s = Session(ossl, *GCM, Path(sys.argv[1]), path)
        s.handshake()
        while s.client.read() is not None: pass
        path.wait([(s.client.bio, True, False)], 0.01)  # a poll in flight
        block = (ctypes.c_char * 16384)()
        while s.server.write(block, 0, 16384): pass      # and a send
        assert s.server.bio.stats().in_flight == 1
        forbid(ENTER)
        try:
            s.client.read()
        except TlsError as error:
            assert (error.code, error.errno) == (SYSCALL, errno.EPERM), error
        else:
            raise AssertionError
        begin = time.monotonic()
        for end in (s.server, s.client):
            end.free()
        assert time.monotonic() - begin < 5
        stats = path.stats()
        assert (stats.bios, stats.buffers_live, stats.buffers_leaked) == (0, 0, 1), stats
        path.close(); ring.close(); library.close()
        """,
        pem,
    )
