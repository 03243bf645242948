# SPDX-License-Identifier: BSD-2-Clause
"""Linux: gather what a host says of its kernel TLS, and judge it.  The same surface as freebsd.py."""

from __future__ import annotations

from ktlsctl.facts import kconfig, kcrypto, kmod, modprobe, namespaces, netdev, tlsstat, ulp, uring
from ktlsctl.host import Host
from ktlsctl.linux_findings import kernel, matrix, module, surroundings
from ktlsctl.linux_findings.situation import Facts, Situation, situation
from ktlsctl.model import About, KernelReport

__all__ = ["Facts", "Situation", "gather", "judge"]


def gather(host: Host, *, load: bool) -> Facts:
    """Ask everything; no attempt raises.  Without `load` the tls module stays as it is, loaded or not.

    Takes as long as the slower probe child, at most their timeouts.
    """
    ulp_probe = ulp.begin(host, load=True) if load else None
    if ulp_probe is not None:
        ulp_probe.answer()  # what is read below shall see the module that this one had loaded
    # Otherwise the counters come first: they shall not count the probe's own sockets.
    running, stats = kmod.read_running(host), tlsstat.read(host)
    ulp_probe = ulp_probe or ulp.begin(host, load=False)
    uring_probe = uring.begin(host)
    release = host.about.release
    config = kconfig.read(host, release)
    tree = kmod.read_tree(host, release)
    configured = modprobe.read_configured(host)
    at_boot = modprobe.read_at_boot(host)
    locks = modprobe.read_locks(host)
    seen_from = namespaces.read(host)
    interfaces = netdev.read(host)
    ring = uring.read(host, uring_probe)
    return Facts(
        load=load,
        config=config,
        running=running,
        tree=tree,
        configured=configured,
        at_boot=at_boot,
        locks=locks,
        stats=stats,
        ulp=ulp.collect(ulp_probe),
        # last: algorithms are listed there once the matrix has used them
        crypto=kcrypto.read(host),
        namespaces=seen_from,
        uring=ring,
        interfaces=interfaces,
    )


def judge(facts: Facts, about: About) -> KernelReport:
    """Pure: the same facts give the same findings on any machine."""
    now = situation(facts)
    rows = matrix.rows(facts, now)
    return KernelReport(
        checks=(
            kernel.config(facts, now),
            surroundings.namespace(facts),
            module.tls(facts, now, about),
            module.policy(facts, now),
            module.persistence(facts, now),
            module.autoload(facts, now),
            matrix.matrix(facts, now, rows),
            matrix.rekey(facts, now),
            matrix.crypto(facts, now),
            matrix.fips(facts),
            surroundings.stats(facts, now),
            surroundings.io_uring(facts),
            kernel.device(facts, now),
            surroundings.nic(facts),
        ),
        rows=rows,
        counters=facts.stats.or_else({}),
        proved=matrix.proved(facts),
        refuted=matrix.refuted(facts),
        lacking=now.lacking or now.no_ulp,
    )
