# SPDX-License-Identifier: BSD-2-Clause
"""docs/freebsd.md: its numbers are the tables', and each test that it names exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from ktlsctl import freebsdabi
from ktlsctl.freebsdabi import CONSTANTS, FUNCTIONS
from tests import freebsd_docs
from tests.freebsd_docs import PAGE

TEXT = PAGE.read_text()
ROOT = PAGE.parent.parent


def test_the_numbers_are_those_of_the_tables() -> None:
    assert freebsd_docs.page(TEXT) == TEXT, "run: python -m tests.freebsd_docs"


def test_a_changed_number_would_be_seen() -> None:
    assert freebsd_docs.page(TEXT.replace("TCP_TXTLS_ENABLE 39", "TCP_TXTLS_ENABLE 38")) == TEXT
    with pytest.raises(ValueError, match="no place"):
        freebsd_docs.page("nothing")


def test_every_table_is_on_the_page() -> None:
    for table in CONSTANTS:
        for name in table.values:
            assert f"{table.prefix}{name} " in TEXT
    for function in FUNCTIONS:
        assert f" {function.name}(" in TEXT


def test_no_module_has_a_format_of_its_own_for_a_structure_of_the_tables() -> None:
    layouts = {name for name, value in vars(freebsdabi).items() if isinstance(value, freebsdabi.Layout | dict)}
    users = set()
    for path in (ROOT / "ktlsctl").rglob("*.py"):
        imports = {
            (node.module if isinstance(node, ast.ImportFrom) else "", alias.name)
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        if any(module == "ktlsctl.freebsdabi" and name in layouts for module, name in imports):
            users.add(path.stem)
            assert ("", "struct") not in imports, path
    assert {"ktlslist", "freebsdkernel"} <= users


def rows() -> list[list[str]]:
    part = TEXT.partition("## Behaviour")[2].partition("## Numbers")[0]
    found = [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in part.split("\n") if line.startswith("|")
    ]
    return found[2:]


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0][:50])
def test_a_fact_has_a_source_and_a_test_that_exists(row: list[str]) -> None:
    assert len(row) == 3
    assert row[1]
    named = re.findall(r"`(test_\w+)`", row[2])
    assert named, "how is it checked?"
    for name in named:
        assert name in TESTS, name


TESTS = {
    node.name
    for path in Path(__file__).parent.glob("test_*.py")
    for node in ast.walk(ast.parse(path.read_text()))
    if isinstance(node, ast.FunctionDef)
}


def test_files_that_the_page_names_exist() -> None:
    for name in re.findall(r"`((?:tests|ktlsctl|\.github)/[\w./-]+)`", TEXT):
        assert (ROOT / name).exists(), name
