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
from ktlsctl.prepared import Prepared, prepare
from ktlsctl.scenarios.catalogue import patience
from ktlsctl.sessionfacts import Trial, TrialFacts, TrialsFacts, TrialsOrder
from ktlsctl.trials.ground import Ground, NotHere


def trial(prepared: Prepared, order: TrialsOrder, what: Trial, seconds: float) -> TrialFacts:
    """Run one in this process.  What the library or the system refuses is a failure, not an error."""
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
        failure = str(error)
    except NotHere as reason:
        absent = str(reason)
    seconds = round(time.monotonic() - started, 3)
    return TrialFacts(what.scenario, what.version, what.suite, name, failure, absent, seen, seconds)


def probe(argument: Any) -> Any:
    """A `TrialsOrder` in, `TrialsFacts` out, both as JSON."""
    order = decode(TrialsOrder, argument)
    prepared = prepare(order.libssl, order.datapath)
    given = [patience(what.scenario, order.timeout) for what in order.trials]
    works = [partial(trial, prepared, order, what, seconds) for what, seconds in zip(order.trials, given, strict=True)]
    # A trial has its own deadline, which names what it was doing; this one is for a library that hangs.
    answers = in_children(works, [seconds + 5.0 for seconds in given], prepared.width)
    trials = tuple(
        TrialFacts(what.scenario, what.version, what.suite, prepared.road_name, failure=why)
        if why
        else decode(TrialFacts, value)
        for what, (value, why) in zip(order.trials, answers, strict=True)
    )
    about = prepared.libssl.version, prepared.libssl.path, prepared.ring_reason, prepared.alone
    return encode(TrialsFacts(*about, trials))
