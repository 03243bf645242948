# SPDX-License-Identifier: BSD-2-Clause
"""schema: it describes what is printed, closes every enumeration, and rejects what breaks the contract."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from enum import StrEnum
from typing import Any

import jsonschema
import pytest

from ktlsctl.model import (
    SCHEMA_VERSION,
    Certainty,
    Direction,
    Link,
    Os,
    Reach,
    Statistic,
    StatisticKind,
    Status,
    TlsProcess,
    TlsVersion,
    Tri,
)
from ktlsctl.render.jsondoc import error_document, render
from ktlsctl.schema import report_schema
from tests import reports

SCHEMA = json.loads(report_schema())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
DEFS = SCHEMA["$defs"]


def ok() -> Any:
    return json.loads(render(reports.ok()))


def subschemas(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for item in value.values():
            yield from subschemas(item)
    elif isinstance(value, list):
        for item in value:
            yield from subschemas(item)


def values(schema: dict[str, Any]) -> set[str]:
    return {each["const"] for each in schema["oneOf"]}


def test_it_is_a_schema_of_draft_2020_12_named_by_its_major_version() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert SCHEMA["$id"].endswith(f"report-{SCHEMA_VERSION.partition('.')[0]}")


def test_every_enumeration_describes_each_of_its_values() -> None:
    enumerations = [schema["oneOf"] for schema in subschemas(SCHEMA) if "oneOf" in schema]
    assert len(enumerations) >= 10
    assert all(each.keys() == {"const", "description"} for values in enumerations for each in values)


@pytest.mark.parametrize(
    ("schema", "enum"),
    [
        (DEFS["status"], Status),
        (DEFS["check"]["properties"]["link"], Link),
        (DEFS["tls_version"], TlsVersion),
        (DEFS["direction"], Direction),
        (DEFS["tri"], Tri),
        (DEFS["process"]["properties"]["ktls"], Reach),
        (DEFS["statistic"]["properties"]["kind"], StatisticKind),
        (DEFS["advisory"]["properties"]["certainty"], Certainty),
    ],
)
def test_the_enumerations_are_those_of_the_model(schema: dict[str, Any], enum: type[StrEnum]) -> None:
    assert values(schema) == {member.value for member in enum}


def test_a_host_may_also_be_unknown_and_a_verdict_never_skip() -> None:
    assert values(DEFS["host"]["properties"]["os"]) == {*(os.value for os in Os), "unknown"}
    assert values(DEFS["verdict"]["properties"]["status"]) == {status.value for status in Status} - {"skip"}


def test_every_member_that_is_printed_is_described_and_required() -> None:
    document = ok()

    def exactly(schema: dict[str, Any], value: dict[str, Any]) -> None:
        assert set(schema["required"]) == set(schema["properties"]) == set(value)

    assert set(SCHEMA["properties"]) == {
        *SCHEMA["required"],
        *("results", "snippets", "plan", "changes", "obstacles", "runs", "sessions", "processes", "statistics"),
    }
    assert set(SCHEMA["required"]) == set(document)
    result = json.loads(render(reports.selftest_ok()))["results"][0]
    scenario = json.loads(render(reports.selftest_scenarios()))["results"][-1]
    assert set(DEFS["result"]["required"]) == set(result)
    assert set(DEFS["result"]["properties"]) == set(scenario)
    assert set(DEFS["result"]["dependentRequired"]["finding"]) | {"finding"} == set(scenario) - set(result)
    exactly(DEFS["direction_result"], result["tx"])
    for name, value in (
        ("host", document["host"]),
        ("verdict", document["verdict"]),
        ("check", document["checks"][0]),
        ("remedy", document["checks"][2]["remedy"][0]),
        ("row", document["matrix"][0]),
        ("cell", document["matrix"][0]["kernel"]),
        ("session_cell", document["matrix"][0]["kernel"]),
        ("library", document["libraries"][0]),
        ("advisory", document["advisories"][0]),
    ):
        exactly(DEFS[name], value)
    exactly(DEFS["library"]["properties"]["cells"]["items"], document["libraries"][0]["cells"][0])


@pytest.mark.parametrize("name", reports.ALL)
def test_members_that_a_later_minor_version_adds_are_accepted_everywhere(name: str) -> None:
    def grown(value: Any) -> Any:
        if isinstance(value, dict):
            return {**{key: grown(item) for key, item in value.items()}, "added_later": 1}
        return [grown(item) for item in value] if isinstance(value, list) else value

    document = grown(json.loads(render(reports.ALL[name]())))
    VALIDATOR.validate({**document, "schema_version": "1.12"})


def paths(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every member of every object, first items of lists only; names inside open objects left out."""
    if isinstance(value, dict):
        for key, item in value.items():
            if at[-1:] not in (("evidence",), ("counters",)):
                yield (*at, key)
                yield from paths(item, (*at, key))
    elif isinstance(value, list) and value:
        yield from paths(value[0], (*at, 0))


def holder(document: Any, path: tuple[Any, ...]) -> Any:
    for step in path[:-1]:
        document = document[step]
    return document


@pytest.mark.parametrize(
    "path", list(paths(json.loads(render(reports.warning())))), ids=lambda p: ".".join(map(str, p))
)
def test_a_document_that_lacks_a_member_or_gives_it_another_type_is_rejected(path: tuple[Any, ...]) -> None:
    document = json.loads(render(reports.warning()))
    VALIDATOR.validate(document)
    for change in ("missing", "number", "object"):
        broken = copy.deepcopy(document)
        if change == "missing":
            del holder(broken, path)[path[-1]]
        else:
            holder(broken, path)[path[-1]] = 1.5 if change == "number" else [{"x": {}}]
        assert not VALIDATOR.is_valid(broken), change


@pytest.mark.parametrize(
    "path", list(paths(json.loads(render(reports.selftest_failed()))["results"])), ids=lambda p: ".".join(map(str, p))
)
def test_a_result_that_lacks_a_member_or_gives_it_another_type_is_rejected(path: tuple[Any, ...]) -> None:
    document = json.loads(render(reports.selftest_failed()))
    VALIDATOR.validate(document)
    for change in ("missing", "number", "object"):
        broken = copy.deepcopy(document)
        if change == "missing":
            del holder(broken["results"], path)[path[-1]]
        else:
            holder(broken["results"], path)[path[-1]] = 1.5 if change == "number" else [{"x": {}}]
        assert not VALIDATOR.is_valid(broken), change


def put(*path: Any, to: Any) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        holder(document, path)[path[-1]] = to

    return change


@pytest.mark.parametrize(
    "change",
    [
        put("schema_version", to="2.0"),
        put("schema_version", to="1"),
        put("tool", "name", to="other"),
        put("host", "os", to="netbsd"),
        put("host", "release", to=None),
        put("host", "release", to=""),
        put("host", "privileged", to=None),
        put("host", "os", to="unknown"),
        put("source", to="none"),
        put("source", to="livewire"),
        put("source", to=""),
        put("generated_at", to="2026-11-21 05:00:00"),
        put("generated_at", to="2026-11-21T05:00:00+01:00"),
        put("verdict", "status", to="skip"),
        put("verdict", "status", to="OK"),
        put("verdict", "status", to="critical"),
        put("verdict", "first_broken", to="not an id"),
        put("verdict", "summary", to=""),
        put("checks", 0, "status", to="fine"),
        put("checks", 0, "status", to="critical"),
        put("checks", 0, "status", to="warning"),
        put("checks", 0, "status", to="unknown"),
        put("checks", 0, "status", to="skip"),
        put("checks", 0, "reason", to=""),
        put("checks", 0, "link", to="chain"),
        put("checks", 0, "id", to="undotted"),
        put("checks", 0, "id", to="with space.x"),
        put("checks", 0, "evidence", "nested", to={"a": 1}),
        put("checks", 0, "evidence", "list", to=[1]),
        put("checks", 0, "evidence", "fraction", to=0.5),
        put("checks", 2, "remedy", 0, "command", to=""),
        put("matrix", 0, "version", to="TLSv1.1"),
        put("matrix", 0, "direction", to="both"),
        put("matrix", 0, "kernel", "status", to="skip"),
        put("matrix", 0, "kernel", "status", to="unknown"),
        put("matrix", 0, "kernel", to={"status": "critical", "reason": "x", "errno": None}),
        put("matrix", 0, "session", to={"status": "critical", "reason": None, "errno": None}),
        put("matrix", 0, "session", to={"status": "warning", "reason": "x", "errno": None}),
        put("libraries", 0, "status", to="unknown"),
        put("libraries", 0, "built_with_ktls", to=True),
        put("libraries", 0, "version", to=""),
        put("advisories", 0, "certainty", to="certain"),
        put("counters", "TlsTxSw", to="1"),
        put("counters", "TlsTxSw", to=None),
        put("errors", to=["the verdict is ok all the same"]),
        put("errors", to=[""]),
    ],
)
def test_a_document_that_breaks_the_contract_is_rejected(change: Callable[[Any], None]) -> None:
    document = ok()
    VALIDATOR.validate(document)
    change(document)
    assert not VALIDATOR.is_valid(document)


@pytest.mark.parametrize(
    "change",
    [
        put("results", to=None),
        put("results", 0, "version", to="TLSv1.1"),
        put("results", 0, "suite", to=""),
        put("results", 0, "scenario", to=""),
        put("results", 0, "datapath", to="auto"),
        put("results", 0, "library", to=None),
        put("results", 0, "tx", "status", to="warning"),
        put("results", 0, "tx", "status", to="critical"),
        put("results", 0, "tx", "status", to="skip"),
        put("results", 0, "rx", "status", to="unknown"),
        put("results", 0, "rx", "reason", to=""),
        put("results", 0, "rx", "evidence", "nested", to={"a": 1}),
        put("results", 0, "bytes", to=-1),
        put("results", 0, "bytes", to="1"),
        put("results", 0, "sha256_ok", to="yes"),
        put("results", 0, "sha256_ok", to=False),
        put("results", 0, "reason", to=""),
    ],
)
def test_a_result_that_breaks_the_contract_is_rejected(change: Callable[[Any], None]) -> None:
    document = json.loads(render(reports.selftest_ok()))
    VALIDATOR.validate(document)
    change(document)
    assert not VALIDATOR.is_valid(document)


def test_a_failed_run_without_a_reason_is_rejected() -> None:
    document = json.loads(error_document("boom"))
    VALIDATOR.validate(document)
    document["errors"] = []
    assert not VALIDATOR.is_valid(document)


def test_a_session_cell_may_be_critical_with_a_reason() -> None:
    document = ok()
    document["matrix"][0]["session"] = {"status": "critical", "reason": "promised and not met", "errno": None}
    VALIDATOR.validate(document)


def test_what_libraries_and_stats_print_is_described_and_required() -> None:
    process = TlsProcess(1, "nginx", "/usr/sbin/nginx", Reach.NOW, "1 socket with kernel TLS", 1, (0,))
    statistic = Statistic("TlsTxSw", StatisticKind.COUNTER, 1, rate=0.5)
    document = json.loads(render(replace(reports.ok(), processes=(process,), statistics=(statistic,))))
    VALIDATOR.validate(document)
    for name, value in (("process", document["processes"][0]), ("statistic", document["statistics"][0])):
        assert set(DEFS[name]["required"]) == set(DEFS[name]["properties"]) == set(value)
    for member, wrong in (("ktls", "maybe"), ("libraries", []), ("reason", ""), ("sockets", -1)):
        broken = copy.deepcopy(document)
        broken["processes"][0][member] = wrong
        assert not VALIDATOR.is_valid(broken), member
    for member, wrong in (("kind", "setting"), ("rate", -1), ("meaning", "")):
        broken = copy.deepcopy(document)
        broken["statistics"][0][member] = wrong
        assert not VALIDATOR.is_valid(broken), member
