# SPDX-License-Identifier: BSD-2-Clause
"""Sessions on a kernel with TLS, one JSON document on stdout: run as root in a guest of the lab.

    python3 -m tests.datapath.ktls_driver [--libssl PATH] [--quick] [--guest]

Per suite and datapath: what the BIO's events say, what the kernel says of the socket (4-byte getsockopt: version and
cipher, no key), what OpenSSL says of its BIO, 200 kB each way compared by SHA-256, close_notify both ways.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import hashlib
import json
import os
import platform
import random
import socket
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ktlsctl.datapath import Datapath, Library, NoRing, Policy, open_ring
from tests.datapath.tls import MODE_MOVING, TLS12, TLS13, End, Ossl, Session, TlsError, certificate

SOL_TLS, TLS_TX, TLS_RX = 282, 1, 2
SUITES = (
    (TLS12, "ECDHE-ECDSA-AES128-GCM-SHA256"),
    (TLS12, "ECDHE-ECDSA-AES256-GCM-SHA384"),
    (TLS12, "ECDHE-ECDSA-CHACHA20-POLY1305"),
    (TLS12, "ECDHE-ECDSA-AES128-CCM"),
    (TLS12, "ECDHE-ECDSA-AES256-CCM"),
    (TLS12, "ECDHE-ECDSA-AES128-SHA256"),
    (TLS13, "TLS_AES_128_GCM_SHA256"),
    (TLS13, "TLS_AES_256_GCM_SHA384"),
    (TLS13, "TLS_CHACHA20_POLY1305_SHA256"),
    (TLS13, "TLS_AES_128_CCM_SHA256"),
)


def kernel(sock: socket.socket, direction: int) -> str:
    try:
        version, cipher = struct.unpack("=HH", sock.getsockopt(SOL_TLS, direction, 4))
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return f"{version:#06x}/{cipher}"


def side(end: End) -> dict[str, Any]:
    tx, rx = end.ktls()
    said: dict[str, Any] = {
        "openssl": [tx, rx],
        "kernel": [kernel(end.sock, TLS_TX), kernel(end.sock, TLS_RX)],
    }
    if end.bio:
        s = end.bio.stats()
        said["events"] = [
            f"{e.direction} {e.step}" + (f" {errno.errorcode[e.errno]}" if e.errno else "") for e in end.bio.events()
        ]
        said["records"] = {"sent": dict(s.records_sent), "received": dict(s.records_received)}
        said["left"] = [s.backlog, s.read_ahead, s.in_flight]
    return said


def tls_stat() -> dict[str, int]:
    try:
        lines = Path("/proc/net/tls_stat").read_text().split("\n")
    except OSError:
        return {}
    return {k: int(v) for k, v in (line.split() for line in lines if line)}


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def session(ossl: Ossl, pem: Path, path: Datapath | None, version: int, suite: str, **how: Any) -> dict[str, Any]:
    data = random.Random(7).randbytes(200_000)
    before = tls_stat()
    try:
        with Session(ossl, version, suite, pem, path, timeout=60, **how) as s:
            s.handshake()
            same = [
                digest(s.transfer(a, b, data, chunk)) == digest(data)
                for a, b, chunk in ((s.client, s.server, 16384), (s.server, s.client, 16384), (s.client, s.server, 999))
            ]
            s.shutdown()
            sides = {"client": side(s.client), "server": side(s.server)}
            after = tls_stat()
            counted = {k: v - before.get(k, 0) for k, v in after.items() if v != before.get(k, 0)}
            return {"sha256_ok": same, "close_notify": True, **sides, "tls_stat": counted, "waits": s.turns}
    except (TlsError, AssertionError, OSError) as error:
        return {"error": f"{type(error).__name__}: {error}"}


def key_update(ossl: Ossl, pem: Path, path: Datapath | None) -> dict[str, Any]:
    """Known to be fatal before Linux 6.14; the point is that it ends, and says how."""
    data = bytes(50_000)
    try:
        with Session(ossl, TLS13, "TLS_AES_128_GCM_SHA256", pem, path, timeout=15) as s:
            s.handshake()
            s.transfer(s.client, s.server, data)
            s.transfer(s.server, s.client, data)
            ossl.SSL_key_update(s.client.ssl, 1)
            same = s.transfer(s.client, s.server, data) == data and s.transfer(s.server, s.client, data) == data
            return {"same": same, "client": side(s.client), "server": side(s.server)}
    except (TlsError, AssertionError) as error:
        return {"error": f"{type(error).__name__}: {error}"}


def sendfile(ossl: Ossl, pem: Path, path: Datapath | None, directory: str) -> dict[str, Any]:
    """SSL_sendfile: the kernel writes past the BIO, so a flush must have emptied it.

    With SO_SNDBUF 2304 it stalls on Linux 6.1 under emulation, with OpenSSL's own socket BIO just the same."""
    data = random.Random(8).randbytes(300_000)
    file = Path(directory) / "file"
    file.write_bytes(data)
    head = b"h" * 5000
    held = (ctypes.c_char * len(head)).from_buffer_copy(head)
    try:
        with (
            Session(ossl, TLS12, SUITES[0][1], pem, path, timeout=30, sndbuf=16384) as s,
            file.open("rb") as f,
        ):
            s.handshake()
            got, sent, written = bytearray(), 0, False
            while len(got) < len(head) + len(data):
                moved = False
                if not written:
                    written = bool(s.server.write(held, 0, len(head)))
                if written and sent < len(data):
                    offset = sent
                    n = s.server.attempt(
                        lambda: ossl.SSL_sendfile(s.server.ssl, f.fileno(), offset, len(data) - offset, 0)  # noqa: B023
                    )
                    sent += n or 0
                    moved = bool(n)
                while piece := s.client.read():
                    got += piece
                    moved = True
                if not moved:
                    s.client.wants = (True, False)
                    s.wait([s.client, s.server] if sent < len(data) else [s.client])
            return {"same": bytes(got) == head + data, "client": side(s.client), "server": side(s.server)}
    except (TlsError, AssertionError) as error:
        return {"error": f"{type(error).__name__}: {error}"}


def disabled() -> str:
    """What open_ring says with kernel.io_uring_disabled=2; guests only: the sysctl is put back."""
    sysctl = Path("/proc/sys/kernel/io_uring_disabled")
    if not sysctl.exists():
        return "no such sysctl"
    before = sysctl.read_text()
    sysctl.write_text("2")
    try:
        return str(open_ring())
    finally:
        sysctl.write_text(before)


def main() -> int:
    options = argparse.ArgumentParser()
    options.add_argument("--libssl")
    options.add_argument("--quick", action="store_true")
    options.add_argument("--guest", action="store_true", help="may change sysctls")
    args = options.parse_args()
    subprocess.run(["modprobe", "tls"], check=False, capture_output=True)
    for module in ("chacha20poly1305", "ccm", "gcm"):
        subprocess.run(["modprobe", module], check=False, capture_output=True)
    ossl = Ossl(args.libssl)
    ring = open_ring()
    document: dict[str, Any] = {
        "kernel": platform.release(),
        "openssl": ossl.version,
        "ring": str(ring) if isinstance(ring, NoRing) else "open",
        "sessions": [],
    }
    with tempfile.TemporaryDirectory() as directory, Library(ossl.addresses()) as library:
        pem = certificate(Path(directory))
        paths: dict[str, Datapath | None] = {"openssl socket BIO": None, "socket": Datapath(library)}
        if not isinstance(ring, NoRing):
            paths["io_uring"] = Datapath(library, ring)
        suites = SUITES[:1] + SUITES[6:7] if args.quick else SUITES
        for version, suite in suites:
            for name, path in paths.items():
                result = session(ossl, pem, path, version, suite)
                document["sessions"].append({"version": version, "suite": suite, "datapath": name, **result})
        extra: dict[str, Any] = document.setdefault("extra", {})
        for name, path in paths.items():
            if path is None:
                continue
            gcm12, gcm13 = SUITES[0], SUITES[6]
            extra[f"{name}: tiny SO_SNDBUF 1.2"] = session(ossl, pem, path, *gcm12, sndbuf=2304)
            extra[f"{name}: tiny SO_SNDBUF 1.3"] = session(ossl, pem, path, *gcm13, sndbuf=2304)
            refused = {"rx": Policy.REFUSE}
            extra[f"{name}: client TX only 1.2"] = session(ossl, pem, path, *gcm12, client=refused)
            extra[f"{name}: observed"] = session(
                ossl, pem, path, *gcm12, client={"tx": Policy.OBSERVE, "rx": Policy.OBSERVE}
            )
            extra[f"{name}: moving buffer"] = session(ossl, pem, path, *gcm13, mode=MODE_MOVING)
            extra[f"{name}: key update"] = key_update(ossl, pem, path)
        for name, path in paths.items():
            extra[f"{name}: sendfile"] = sendfile(ossl, pem, path, directory)
        if args.guest:
            document["io_uring_disabled=2"] = disabled()
        extra["openssl socket BIO: key update"] = key_update(ossl, pem, None)
        document["stats"] = {n: str(p.stats()) for n, p in paths.items() if p}
        for path in paths.values():
            if path:
                path.close()
    if not isinstance(ring, NoRing):
        ring.close()
    json.dump(document, sys.stdout, indent=1)
    print()
    return 0 if all(s.get("close_notify") and all(s["sha256_ok"]) for s in document["sessions"]) else 1


if __name__ == "__main__":
    os.environ.pop("OPENSSL_CONF", None)
    sys.exit(main())
