# SPDX-License-Identifier: BSD-2-Clause
"""The child that runs trials: one forked process each, its network namespace its own where that is allowed."""

from __future__ import annotations

import json
import time
from functools import partial
from importlib import import_module
from typing import Any

from ktlsctl.codec import decode, encode
from ktlsctl.forks import enter_own_namespace, in_children
from ktlsctl.libssl import TlsError
from ktlsctl.model import TlsVersion
from ktlsctl.prepared import Prepared, offered, prepare
from ktlsctl.scenarios.catalogue import patience
from ktlsctl.sessionfacts import Trial, TrialFacts, TrialsFacts, TrialsOrder, Way
from ktlsctl.stage import hosts_trouble
from ktlsctl.trials.ground import Ground, NotHere


def trial(prepared: Prepared, order: TrialsOrder, what: Trial, seconds: float) -> TrialFacts:
    """Run one in this process.  What the library or the kernel refuses is a failure, not an error.

    Raises what says nothing of them (`hosts_trouble`, Unusable, an error of the trial's own).
    """
    if not prepared.alone:
        enter_own_namespace()
    started = time.monotonic()
    module = import_module(f"ktlsctl.trials.{what.scenario.replace('-', '_')}")
    name = prepared.road_name
    seen, failure, absent = "", "", ""
    try:
        with Ground(
            prepared.libssl,
            prepared.contexts,
            order.datapath,
            what.version,
            what.suite,
            seconds=seconds,
            seed=order.seed,
            alone=not prepared.alone,
        ) as ground:
            name = ground.road.name
            seen = json.dumps(encode(module.run(ground)))
    except (TlsError, OSError) as error:
        if hosts_trouble(error):
            raise
        failure = str(error)
    except NotHere as reason:
        absent = str(reason)
    seconds = round(time.monotonic() - started, 3)
    return TrialFacts(what.scenario, what.version, what.suite, name, failure, absent, seen, seconds)


def left_out(prepared: Prepared, order: TrialsOrder, what: Trial, seconds: float) -> TrialFacts:
    """What stands for a trial of a version that no session of this library can have."""
    why = f"this library's configuration leaves {what.version} out"
    return TrialFacts(what.scenario, what.version, what.suite, prepared.road_name, absent=why)


def probe(argument: Any) -> Any:
    """A `TrialsOrder` in, `TrialsFacts` out, both as JSON."""
    order = decode(TrialsOrder, argument)
    prepared = prepare(order.libssl, order.datapath)
    about = prepared.libssl.version, prepared.libssl.path, prepared.ring_reason, prepared.alone
    there = offered(prepared.contexts[0], tuple(TlsVersion))
    missing = tuple(name for name in order.named if name not in {suite for _, suite, _ in there})
    if missing or (order.datapath is Way.IO_URING and prepared.ring_reason):
        return encode(TrialsFacts(*about, (), missing))
    given = [patience(what.scenario, order.timeout) for what in order.trials]
    versions = {version for version, _, _ in there}
    works = [
        partial(trial if what.version in versions else left_out, prepared, order, what, seconds)
        for what, seconds in zip(order.trials, given, strict=True)
    ]
    # A trial has its own deadline, which names what it was doing; this one is for a library that hangs.
    answers = in_children(works, [seconds + 5.0 for seconds in given], prepared.width)
    trials = tuple(
        decode(TrialFacts, ended.value)
        if ended.value is not None
        else TrialFacts(
            what.scenario, what.version, what.suite, prepared.road_name, ended.failure, untried=ended.untried
        )
        for what, ended in zip(order.trials, answers, strict=True)
    )
    return encode(TrialsFacts(*about, trials))
