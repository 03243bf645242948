# SPDX-License-Identifier: BSD-2-Clause
"""`ktlsctl stats`: the kernel's own numbers about kernel TLS, each with what it is, and how fast it grows.

`gather` takes one sample, `report` judges it, against the sample before where there is one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from ktlsctl import sysctl
from ktlsctl.facts import ktlsgauges, namespaces, tlsstat
from ktlsctl.host import Host
from ktlsctl.model import (
    About,
    Attempt,
    Check,
    Link,
    Os,
    Outcome,
    Remedy,
    Report,
    Statistic,
    StatisticKind,
    Status,
    Tri,
    Verdict,
)

IDENTITY = "stats.counters"


@dataclass(frozen=True, slots=True)
class Facts:
    """One sample.  `at`: time.monotonic() in seconds.  `numbers`: by the kernel's own names, in the kernel's order.

    `where`: the file they were read from, or the root of the sysctls.  The rest is asked only when there are none, or
    on the first sample: `pid` is None for the caller's own network namespace; `gone`: there is no such process, or it
    has ended and waits for its parent.
    """

    at: float
    where: str
    numbers: Attempt[Mapping[str, int]]
    pid: int | None = None
    gone: bool = False
    loaded: Tri = Tri.UNKNOWN
    lacking: bool = False
    first_namespace: Tri = Tri.UNKNOWN


def gather(host: Host, pid: int | None = None) -> Facts:
    """Ask the host; no attempt raises.  `pid`: a process whose network namespace is meant (Linux)."""
    if host.about.os is Os.FREEBSD:
        values = sysctl.tree(host, ktlsgauges.ROOT)
        numbers = {} if values.value is None else ktlsgauges.counters(values.value)
        if values.value is None:
            return Facts(time.monotonic(), ktlsgauges.ROOT, Attempt(values.outcome, None, values.reason))
        absent: Attempt[Mapping[str, int]] = Attempt(Outcome.ABSENT, reason="this kernel has no kern.ipc.tls")
        return Facts(time.monotonic(), ktlsgauges.ROOT, Attempt.ran(numbers) if numbers else absent)
    path = tlsstat.PATH if pid is None else tlsstat.of_process(pid)
    numbers_there = tlsstat.read(host, path)
    at = time.monotonic()
    if not numbers_there.absent:
        own = namespaces.read(host).in_first_network if pid is None else Tri.UNKNOWN
        return Facts(at, path, numbers_there, pid, first_namespace=own)
    why = tlsstat.absence(host)
    # Every network namespace has this file, but a zombie has none any more (fs/proc/proc_net.c, get_proc_task_net).
    gone = pid is not None and host.resolve(f"/proc/{pid}/net/dev").absent
    return Facts(at, path, numbers_there, pid, gone, why.loaded, why.lacking)


def report(about: About, facts: Facts, before: Facts | None = None) -> Report:
    """Judge one sample; with `before`, counters have rates.  Pure but for the clock."""
    statistics = tuple(_statistics(about, facts, before))
    check = _check(about, facts, statistics)
    errors = (f"there is no process {facts.pid}; ps -e lists those that there are",) if facts.gone else ()
    if errors:
        verdict = Verdict(Status.UNKNOWN, errors[0])
    elif check.status is Status.OK:
        verdict = Verdict(Status.OK, check.summary)
    else:
        broken = None if check.status is Status.UNKNOWN else check.id
        verdict = Verdict(check.status, check.summary, broken, check.remedy)
    return Report(
        about=about,
        generated_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        verdict=verdict,
        checks=() if errors else (check,),
        counters=facts.numbers.or_else({}),
        errors=errors,
        statistics=statistics,
    )


def _statistics(about: About, facts: Facts, before: Facts | None) -> Iterator[Statistic]:
    earlier = before.numbers.or_else({}) if before is not None else {}
    elapsed = facts.at - before.at if before is not None else 0.0
    for name, value in facts.numbers.or_else({}).items():
        kind, error, meaning = _known(about.os, name)
        rate = None
        # a number that fell was reset with its module: there is no rate across that
        if kind is not StatisticKind.GAUGE and name in earlier and value >= earlier[name] and elapsed > 0:
            rate = (value - earlier[name]) / elapsed
        yield Statistic(name, kind, value, error, meaning, rate)


def _known(system: Os, name: str) -> tuple[StatisticKind, bool, str]:
    if system is Os.FREEBSD:
        kind = StatisticKind.COUNTER if ktlsgauges.kind(name) is ktlsgauges.Kind.COUNTER else StatisticKind.GAUGE
        return kind, name in ktlsgauges.TROUBLE, ktlsgauges.MEANING.get(name, "")
    if name in tlsstat.GAUGES:
        return StatisticKind.GAUGE, False, tlsstat.MEANING[name]
    kind = StatisticKind.COUNTER if name in tlsstat.MEANING else StatisticKind.UNKNOWN
    return kind, name in tlsstat.ERRORS, tlsstat.MEANING.get(name, "")


def _check(about: About, facts: Facts, statistics: tuple[Statistic, ...]) -> Check:
    if facts.numbers.absent:
        return _absent(about, facts)
    if not facts.numbers.present:
        return Check(
            IDENTITY,
            Link.SESSION,
            Status.UNKNOWN,
            "the kernel's numbers were not seen",
            f"{facts.where}: {facts.numbers.reason}",
        )
    wrong = [each for each in statistics if each.error and each.value]
    whose = ""
    if facts.first_namespace is Tri.NO:
        whose = "they are those of this network namespace only"
    elif facts.pid is not None:
        whose = f"they are those of the network namespace of process {facts.pid}"
    if wrong:
        meaning = "; ".join(f"{each.name} = {each.value}: {each.meaning}" for each in wrong)
        return Check(
            IDENTITY,
            Link.SESSION,
            Status.WARNING,
            "the kernel counted errors in TLS records or keys",
            "; ".join(filter(None, (meaning, whose))),
            {each.name: each.value for each in wrong},
            (Remedy("see whether they still grow: they count since boot", "ktlsctl stats --watch"),),
        )
    return Check(IDENTITY, Link.SESSION, Status.OK, f"the kernel counted no errors; {_open(statistics)}", whose)


def _open(statistics: tuple[Statistic, ...]) -> str:
    """How many sessions are open, where the names say so; each direction counts."""
    names = tlsstat.GAUGES | {f"{ktlsgauges.STATS}.active"}
    count = sum(each.value for each in statistics if each.name in names)
    return f"{count} direction{'' if count == 1 else 's'} of sockets {'is' if count == 1 else 'are'} in the kernel now"


def _absent(about: About, facts: Facts) -> Check:
    """No numbers: no zeros either."""

    def say(status: Status, summary: str, reason: str, *remedy: Remedy) -> Check:
        return Check(IDENTITY, Link.MODULE, status, summary, reason, remedy=remedy)

    if about.os is Os.FREEBSD:
        return say(
            Status.CRITICAL,
            "there are no counters: this kernel has no kernel TLS",
            f"{facts.numbers.reason}: it is built without KERN_TLS",
            Remedy("see what this host can do", "ktlsctl check"),
        )
    if facts.lacking:
        return say(
            Status.CRITICAL,
            "there are no counters: this kernel was built without kernel TLS",
            f"{facts.where} is not there, and CONFIG_TLS is not set",
            Remedy("boot a kernel that was built with CONFIG_TLS"),
        )
    if facts.loaded is Tri.YES:
        return say(
            Status.UNKNOWN,
            "this kernel keeps no counters",
            f"{facts.where} is not there although the tls module is: it came with Linux 5.5",
        )
    if facts.loaded is Tri.NO:
        return say(
            Status.CRITICAL,
            "there are no counters: the tls module is not loaded",
            f"{facts.where} appears with it; without it no session is in the kernel",
            Remedy("load the module", "modprobe tls"),
        )
    return say(Status.UNKNOWN, "there are no counters", f"{facts.where} is not there, and the modules were not seen")
