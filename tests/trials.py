# SPDX-License-Identifier: BSD-2-Clause
"""Trials run for real on this machine: in a child, as the self-test does, judged by the same code."""

from __future__ import annotations

from ktlsctl.codec import decode, encode
from ktlsctl.host import LiveHost
from ktlsctl.model import ScenarioResult, TlsVersion
from ktlsctl.scenarios import catalogue
from ktlsctl.sessionfacts import Trial, TrialsFacts, TrialsOrder, Way
from tests.libssls import SYSTEM

WAYS = (Way.IO_URING, Way.SOCKET)
SUITES = {TlsVersion.TLS12: "ECDHE-ECDSA-AES128-GCM-SHA256", TlsVersion.TLS13: "TLS_AES_128_GCM_SHA256"}


def judged_here(name: str, way: Way, libssl: str = SYSTEM) -> tuple[ScenarioResult, ...]:
    """One scenario with one suite of each of its versions, over this datapath."""
    trials = tuple(Trial(name, version, SUITES[version]) for version in catalogue.BY_NAME[name].versions)
    order = TrialsOrder(libssl, way, 20.0, 1, trials)
    answer = LiveHost().begin("ktlsctl.trials.run:probe", encode(order), 120.0).answer()
    assert answer.present, answer.reason
    facts = decode(TrialsFacts, answer.value)
    assert {trial.datapath for trial in facts.trials} == {way.value}
    return tuple(catalogue.judged(trial, facts.library_version) for trial in facts.trials)
