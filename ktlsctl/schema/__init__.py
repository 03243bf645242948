# SPDX-License-Identifier: BSD-2-Clause
"""The JSON schemas of every document this tool prints."""

from __future__ import annotations


def report_schema() -> str:
    """The text of the schema (JSON Schema 2020-12) that every report of schema version 1.x meets."""
    from importlib.resources import files

    return (files(__name__) / "report-1.json").read_text("utf-8")
