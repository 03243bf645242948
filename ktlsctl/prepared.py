# SPDX-License-Identifier: BSD-2-Clause
"""What a self-test's child makes once, before it forks: the library, its contexts, what there is to stand on."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

from ktlsctl.ciphers import bulk_cipher
from ktlsctl.facts import capability
from ktlsctl.forks import namespace_trial
from ktlsctl.libssl import SSL_OP_ENABLE_KTLS, Context, Libssl
from ktlsctl.model import TlsVersion
from ktlsctl.sessionfacts import Way
from ktlsctl.stage import Road


@dataclass(frozen=True, slots=True)
class Prepared:
    """`contexts`: server and client.  `ring_reason`: why there is no io_uring, `alone`: why there is no network
    namespace of one's own; empty where there is."""

    libssl: Libssl
    contexts: tuple[Context, Context]
    road_name: str
    ring_reason: str
    alone: str

    @property
    def width(self) -> int:
        """Sessions at a time: side by side where each has its counters to itself, else one after the other."""
        return 1 if self.alone else max(1, len(os.sched_getaffinity(0)))


def contexts_of(libssl: Libssl) -> tuple[Context, Context]:
    """Server and client contexts with kTLS on, every suite offered, an ECDSA and an RSA certificate made in memory."""
    both = libssl.context(server=True), libssl.context(server=False)
    for context in both:
        context.lift_limits()
    both[0].certify()
    both[0].certify(rsa=True)
    for context in both:
        context.offer_all()
        context.set_options(SSL_OP_ENABLE_KTLS)
    return both


def offered(context: Context, versions: tuple[TlsVersion, ...]) -> tuple[tuple[TlsVersion, str, str], ...]:
    """Every suite of these versions that this library offers and that needs no more than a certificate: version,
    OpenSSL's name, bulk cipher."""
    return tuple(
        (TlsVersion(version), name, bulk_cipher(name)) for version, name in context.suites() if version in set(versions)
    )


def prepare(path: str, way: Way) -> Prepared:
    """Open the library and try what the sessions will need.  Raises Unusable."""
    if sys.platform == "linux":
        capability.drop_net_admin()  # attaching the ULP must not load the module
    libssl = Libssl(path)
    libssl.start()
    contexts = contexts_of(libssl)
    road = Road.open(libssl, way)
    road.close()
    return Prepared(libssl, contexts, road.name, road.reason, namespace_trial())
