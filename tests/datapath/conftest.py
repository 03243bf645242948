# SPDX-License-Identifier: BSD-2-Clause
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ktlsctl.datapath import Datapath, Library, NoRing, open_ring
from tests.datapath.tls import Ossl, certificate


@pytest.fixture(scope="session")
def ossl() -> Ossl:
    return Ossl()


@pytest.fixture(scope="session")
def library(ossl: Ossl) -> Iterator[Library]:
    with Library(ossl.addresses()) as bound:
        yield bound


@pytest.fixture(scope="session")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(params=["io_uring", "socket"])
def path(request: pytest.FixtureRequest, library: Library) -> Iterator[Datapath]:
    """A datapath of either kind; afterwards nothing may be left on it."""
    ring = open_ring() if request.param == "io_uring" else None
    assert not isinstance(ring, NoRing), f"these tests need io_uring: {ring}"
    with Datapath(library, ring) as datapath:
        yield datapath
        stats = datapath.stats()
        assert (stats.bios, stats.buffers_live, stats.buffers_leaked) == (0, 0, 0)
    if ring:
        ring.close()


@pytest.fixture
def ring_path(library: Library) -> Iterator[Datapath]:
    ring = open_ring()
    assert not isinstance(ring, NoRing), f"these tests need io_uring: {ring}"
    with ring, Datapath(library, ring) as datapath:
        yield datapath
