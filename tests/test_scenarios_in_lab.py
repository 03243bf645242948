# SPDX-License-Identifier: BSD-2-Clause
"""Scenarios on real kernels: what each host's kernel and library are known to do, and nothing else."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from ktlsctl import advisories
from ktlsctl.scenarios import catalogue
from ktlsctl.schema import report_schema
from tests.lab import DEBIAN12, DEBIAN13, HOSTS, Guest
from tests.scenario_outcomes import OUTCOMES, Outcome

pytestmark = pytest.mark.lab

on_one_host = pytest.mark.parametrize("lab_guest", [pytest.param(DEBIAN13, id="debian13")], indirect=True)
on_two_hosts = pytest.mark.parametrize(
    "lab_guest", [pytest.param(host, id=host.name) for host in (DEBIAN12, DEBIAN13)], indirect=True
)
FEW = ("--suite", "ECDHE-ECDSA-AES128-GCM-SHA256", "--suite", "TLS_AES_128_GCM_SHA256")


def scenarios(guest: Guest, *arguments: str, wrap: str = "") -> tuple[int, Any]:
    """Exit status and document of one run."""
    command = f"{wrap} {guest.ktlsctl} selftest --json {shlex.join(arguments)}"
    result = guest.run(command, timeout=600)
    assert result.err == ""
    report = json.loads(result.out)
    jsonschema.validate(report, json.loads(report_schema()))
    return result.status, report


def seen(report: Any) -> dict[tuple[str, str], set[Outcome]]:
    """(scenario, version) -> what was found, over every suite."""
    found: dict[tuple[str, str], set[Outcome]] = {}
    for result in report["results"]:
        if result["scenario"] != catalogue.SESSION:
            outcome = result["status"], result["finding"], tuple(result["known"])
            found.setdefault((result["scenario"], result["version"]), set()).add(outcome)
    return found


@pytest.fixture
def ready(lab_guest: Guest) -> Iterator[Guest]:
    """A guest with the tls module loaded."""
    lab_guest.run("modprobe tls").check()
    yield lab_guest
    lab_guest.run("modprobe -r tls")


@pytest.mark.parametrize(
    ("lab_guest", "way"),
    [pytest.param(host, way, id=f"{host.name}-{way}") for host in HOSTS for way in ("io_uring", "socket")],
    indirect=["lab_guest"],
)
def test_every_scenario_ends_as_this_host_is_known_to(ready: Guest, way: str) -> None:
    # Every promised cipher over io_uring on one host; one cipher of each version otherwise.
    every_cipher = way == "io_uring" and ready.host is DEBIAN13
    # A thousand sessions on one ring are one ring's; over sockets they run with the other tests, on this machine.
    chosen = [name for name in catalogue.BY_NAME if way == "io_uring" or name != "many"]
    names = [a for name in chosen for a in ("--scenario", name)]
    status, report = scenarios(ready, "--datapath", way, *names, *(() if every_cipher else FEW))
    expected = {
        (name, version): {outcome}
        for (name, version, host), outcome in OUTCOMES.items()
        if host == ready.host.name and name in chosen
    }
    found = seen(report)
    differing = {
        key: [r for r in report["results"] if (r["scenario"], r["version"]) == key]
        for key in found.keys() | expected.keys()
        if found.get(key) != expected.get(key)
    }
    assert not differing, json.dumps({" ".join(key): results for key, results in differing.items()}, indent=1)
    assert {r["datapath"] for r in report["results"]} == {way}
    worst = {outcome[0] for outcomes in found.values() for outcome in outcomes}
    assert status == (2 if "critical" in worst else 1 if "warning" in worst else 0)
    # Wrong bytes are never called anything else.
    assert all(r["status"] == "critical" for r in report["results"] if r["sha256_ok"] is False)
    # What was proved stands among the advisories as proved, with what to do.
    certain = {notice["id"]: notice for notice in report["advisories"] if notice["certainty"] == "proved"}
    known = {identity for r in report["results"] for identity in r["known"]}
    assert known <= certain.keys()
    assert all(certain[identity]["remedy"]["text"] for identity in known)
    assert all(advisories.by_id(identity) for r in report["results"] for identity in (*r["known"], *r["refuted"]))


@on_two_hosts
def test_a_quick_run_tells_of_the_corruption_where_there_is_one(ready: Guest) -> None:
    corrupting = ready.host is DEBIAN12
    # Accepting another defect changes nothing.
    status, report = scenarios(ready, *FEW, "--accept", "openssl.padding-ignored")
    assert {r["scenario"] for r in report["results"]} == {"session", *catalogue.wanted(()).scenarios}
    assert status == (2 if corrupting else 0), report["verdict"]
    moving = [r for r in report["results"] if r["scenario"] == "moving-write-buffer" and r["status"] == "critical"]
    assert len(moving) == (2 if corrupting else 0)
    if corrupting:
        assert all("Python" in result["reason"] for result in moving)
        assert "moving-write-buffer" in report["verdict"]["summary"]
        assert report["verdict"]["remedy"]


@on_one_host
def test_a_program_past_openssl_makes_as_many_system_calls_as_are_told(ready: Guest) -> None:
    """strace counts what the scenario counts itself: io_uring_enter of its own ring, or send, splice and recvmsg."""
    one = ("--suite", "ECDHE-ECDSA-AES128-GCM-SHA256", "--scenario", "handover", "--datapath", "socket")
    _, report = scenarios(ready, *one, wrap="strace -f -qq -e trace=splice -o /tmp/strace.txt")
    counted = ready.run("grep -v unfinished /tmp/strace.txt | grep -c splice").out.strip()
    ready.run("rm /tmp/strace.txt")
    (result,) = report["results"]
    per_mib = float(result["evidence"]["splice"].partition("per MiB ")[2].partition(" ")[0])
    assert int(counted) == round(per_mib * (result["bytes"] >> 20))
