# SPDX-License-Identifier: BSD-2-Clause
"""What the custom BIO costs: throughput against OpenSSL's socket BIO, memory against two memory BIOs.

    python3 -m bench.datapath [--libssl PATH] [--mib 256] [--runs 7] [--connections 1000] [--check]

Throughput: 16 KiB records, AES-128-GCM, user-space TLS, both ends in one thread and one process; the ways take turns
run by run, so a change of the machine's load meets all of them.  Once with a single record under way, which is about
latency, and once with four, a stream, which the target is judged by: in bytes per second of CPU time, the throughput
of this one thread on an idle machine, whatever else a busy one does.

Memory: bytes that malloc holds (mallinfo2) for idle connections after 32 KiB each way, per end, with
SSL_MODE_RELEASE_BUFFERS.  TLS 1.3 twice: two session tickets, OpenSSL's default, cost a client some 17 kB of copied
SSL_SESSIONs whatever the BIO, so the target is judged without them.

`--check` exits 1 when a target is missed: 0.95 of the socket BIO's throughput, 20 kB per end.
"""

from __future__ import annotations

import argparse
import ctypes as C
import ctypes.util
import gc
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ktlsctl.datapath import Datapath, Library, NoRing, open_ring
from tests.datapath.tls import MODE_RELEASE, TLS12, TLS13, End, Ossl, Session, certificate, tcp_pair

SUITES = ((TLS13, "TLS_AES_128_GCM_SHA256"), (TLS12, "ECDHE-ECDSA-AES128-GCM-SHA256"))
RECORD = 16384
STREAM = 4


class Pump(C.Structure):
    _fields_ = (
        *((n, C.c_void_p) for n in ("write", "read", "source", "sink", "out", "in_")),
        ("record", C.c_int),
        ("window", C.c_int),
        ("written", C.c_longlong),
        ("read_bytes", C.c_longlong),
    )


def build_pump(directory: str) -> Any:
    target = Path(directory) / "pump.so"
    source = Path(__file__).with_name("pump.c")
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", target, source], check=True)
    return C.CDLL(str(target))


def throughput(
    ossl: Ossl, library: Library, pem: Path, pump: Any, mib: int, runs: int, window: int
) -> dict[str, float]:
    """Prints a table; the ratios custom-over-ring / socket BIO by suite."""
    ratios = {}
    ring = open_ring()
    for version, suite in SUITES:
        paths: dict[str, Datapath | None] = {"socket BIO": None, "custom, plain calls": Datapath(library)}
        if isinstance(ring, NoRing):
            print(f"no ring: {ring}")
        else:
            paths["custom, io_uring"] = Datapath(library, ring)
        sessions = {name: Session(ossl, version, suite, pem, path, ktls=False) for name, path in paths.items()}
        out, into = C.create_string_buffer(os.urandom(RECORD), RECORD), C.create_string_buffer(RECORD)
        speed: dict[str, list[float]] = {name: [] for name in paths}
        cpu: dict[str, list[float]] = {name: [] for name in paths}
        calls: dict[str, float] = {}
        for s in sessions.values():
            s.handshake()
            s.transfer(s.client, s.server, bytes(4 * RECORD))
            s.transfer(s.server, s.client, bytes(4 * RECORD))
        for _ in range(runs + 1):  # the first is a warm-up
            for name, s in sessions.items():
                p = Pump(
                    C.cast(ossl.dll.SSL_write, C.c_void_p).value,
                    C.cast(ossl.dll.SSL_read, C.c_void_p).value,
                    s.server.ssl,
                    s.client.ssl,
                    C.addressof(out),
                    C.addressof(into),
                    RECORD,
                    window,
                )
                path = paths[name]
                before = path.stats() if path else None
                wall, used = time.perf_counter(), time.process_time()
                if pump.pump_run(C.byref(p), C.c_longlong(mib << 20)):
                    raise RuntimeError(f"{name}: stuck")
                wall, used = time.perf_counter() - wall, time.process_time() - used
                speed[name].append(mib / wall * 1.048576)
                cpu[name].append(used * 1e9 / (mib << 20))
                if path and before:
                    after = path.stats()
                    calls[name] = (after.enters + after.calls - before.enters - before.calls) / (mib << 6)
        base = statistics.median(speed["socket BIO"][1:])
        base_cpu = statistics.median(cpu["socket BIO"][1:])
        print(f"\n{suite}, {mib} MiB, median of {runs}, {window} records under way")
        for name in paths:
            median = statistics.median(speed[name][1:])
            pairwise = statistics.median(a / b for a, b in zip(speed[name][1:], speed["socket BIO"][1:], strict=True))
            print(
                f"  {name:22} {median:7.0f} MB/s  ratio {median / base:5.3f}  pairwise {pairwise:5.3f}"
                f"  cpu {(used := statistics.median(cpu[name][1:])):5.3f} ns/B, ratio {base_cpu / used:5.3f}"
                + (f"  {calls[name]:.2f} calls/record" if name in calls else "")
            )
        judged = cpu.get("custom, io_uring", cpu["custom, plain calls"])
        ratios[suite] = statistics.median(a / b for a, b in zip(cpu["socket BIO"][1:], judged[1:], strict=True))
        for name, s in sessions.items():
            s.__exit__()
            if path := paths[name]:
                path.close()
    if not isinstance(ring, NoRing):
        ring.close()
    return ratios


class Mallinfo2(C.Structure):
    _fields_ = (
        *((f"ignored{n}", C.c_size_t) for n in range(4)),
        ("hblkhd", C.c_size_t),  # bytes in mmapped blocks
        ("usmblks", C.c_size_t),
        ("fsmblks", C.c_size_t),
        ("uordblks", C.c_size_t),  # bytes in use
        ("fordblks", C.c_size_t),
        ("keepcost", C.c_size_t),
    )


def allocated() -> int:
    libc = C.CDLL(None)
    libc.mallinfo2.restype = Mallinfo2
    info = libc.mallinfo2()
    return int(info.uordblks + info.hblkhd)


class MemoryEnd:
    """The layout of many asynchronous programs: two memory BIOs, the caller moves the bytes."""

    def __init__(self, ossl: Ossl, ctx: int, server: bool) -> None:
        self.ossl = ossl
        self.ssl = ossl.SSL_new(ctx)
        d = ossl.dll
        d.BIO_s_mem.restype = C.c_void_p
        d.BIO_new.restype, d.BIO_new.argtypes = C.c_void_p, (C.c_void_p,)
        d.SSL_set_bio.argtypes = (C.c_void_p,) * 3
        self.rbio, self.wbio = d.BIO_new(d.BIO_s_mem()), d.BIO_new(d.BIO_s_mem())
        d.SSL_set_bio(self.ssl, self.rbio, self.wbio)
        (ossl.SSL_set_accept_state if server else ossl.SSL_set_connect_state)(self.ssl)

    def move_to(self, other: MemoryEnd, scratch: C.Array[Any]) -> bool:
        moved = False
        while (n := self.ossl.BIO_read(self.wbio, scratch, len(scratch))) > 0:
            self.ossl.BIO_write(other.rbio, scratch, n)
            moved = True
        return moved


def memory_pair(ossl: Ossl, cctx: int, sctx: int, scratch: C.Array[Any], data: C.Array[Any]) -> tuple[Any, ...]:
    a, b = MemoryEnd(ossl, cctx, False), MemoryEnd(ossl, sctx, True)
    moved = True
    while moved:
        for end in (a, b):
            ossl.SSL_do_handshake(end.ssl)
        moved = a.move_to(b, scratch) | b.move_to(a, scratch)
    for source, sink in ((a, b), (b, a)):
        for _ in range(2):
            assert ossl.SSL_write(source.ssl, data, RECORD) == RECORD
        got = 0
        while got < 2 * RECORD:
            source.move_to(sink, scratch)
            got += max(0, ossl.SSL_read(sink.ssl, scratch, RECORD))
        ossl.SSL_read(sink.ssl, scratch, RECORD)
    return a, b


def bio_pair(ossl: Ossl, cctx: int, sctx: int, path: Datapath | None) -> Session:
    s = Session.__new__(Session)
    s.path, s.turns, s.deadline = path, 0, time.monotonic() + 600
    a, b = tcp_pair()
    s.client, s.server = End(ossl, cctx, a, False, path), End(ossl, sctx, b, True, path)
    s.ends = (s.client, s.server)
    s.handshake()
    for source, sink in ((s.client, s.server), (s.server, s.client)):
        s.transfer(source, sink, bytes(2 * RECORD))
        sink.read()
    s.client.read()
    s.server.read()
    return s


def memory(
    ossl: Ossl, library: Library, pem: Path, connections: int, suite: tuple[int, str], tickets: bool
) -> dict[str, float]:
    """Prints and returns bytes per end."""
    ring = open_ring()
    scratch, data = C.create_string_buffer(65536), C.create_string_buffer(RECORD)
    result: dict[str, float] = {}
    with (
        ossl.context(*suite, ktls=False, mode=MODE_RELEASE) as cctx,
        ossl.context(*suite, pem, ktls=False, mode=MODE_RELEASE) as sctx,
    ):
        if not tickets:
            ossl.SSL_CTX_set_num_tickets(sctx, 0)
        path = Datapath(library, None if isinstance(ring, NoRing) else ring)
        ways: dict[str, Any] = {
            "two memory BIOs": lambda: memory_pair(ossl, cctx, sctx, scratch, data),
            f"custom BIO, {path.kind}": lambda: bio_pair(ossl, cctx, sctx, path),
            "socket BIO": lambda: bio_pair(ossl, cctx, sctx, None),
        }
        print(f"\nidle after 32 KiB each way, {connections} connections, {suite[1]}{', 2 tickets' if tickets else ''}")
        for name, make in ways.items():
            warm = [make() for _ in range(4)]
            gc.collect()
            before = allocated()
            live = [make() for _ in range(connections)]
            gc.collect()
            result[name] = (allocated() - before) / connections / 2
            held = path.stats().buffers_live
            print(f"  {name:22} {result[name]:9.0f} bytes per end, {held} buffers held")
            for pair in (*live, *warm):
                if isinstance(pair, Session):
                    pair.__exit__()
                else:
                    for end in pair:
                        ossl.SSL_free(end.ssl)
        path.close()
    if not isinstance(ring, NoRing):
        ring.close()
    return result


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--libssl", default=ctypes.util.find_library("ssl"))
    options.add_argument("--mib", type=int, default=256)
    options.add_argument("--runs", type=int, default=7)
    options.add_argument("--connections", type=int, default=1000)
    options.add_argument("--check", action="store_true")
    args = options.parse_args()
    ossl = Ossl(args.libssl)
    print(f"kernel {platform.release()}, {ossl.version}")
    with tempfile.TemporaryDirectory() as directory, Library(ossl.addresses()) as library:
        pem = certificate(Path(directory))
        pump = build_pump(directory)
        throughput(ossl, library, pem, pump, args.mib, args.runs, 1)
        ratios = throughput(ossl, library, pem, pump, args.mib, args.runs, STREAM)
        judged = [memory(ossl, library, pem, args.connections, suite, False) for suite in SUITES]
        memory(ossl, library, pem, args.connections, SUITES[0], True)
    custom = max(v for sizes in judged for k, v in sizes.items() if k.startswith("custom"))
    met = min(ratios.values()) >= 0.95 and custom <= 20_000
    print(f"\ntargets {'met' if met else 'MISSED'}: {min(ratios.values()):.3f} >= 0.95, {custom:.0f} <= 20000 bytes")
    return 0 if met or not args.check else 1


if __name__ == "__main__":
    sys.exit(main())
