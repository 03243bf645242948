# SPDX-License-Identifier: BSD-2-Clause
"""A self-test as JUnit XML, the dialect that CI servers read: one test case for each suite and direction
and for each scenario.

skipped: rightly in user space; failure: promised and not met, or wrong bytes; error: the witnesses disagree or could
not be asked.  What no test case shows, such as a policy that was not met, is the test case `verdict`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ktlsctl.model import Report, Status
from ktlsctl.render.points import Point, needs_verdict, points
from ktlsctl.render.strings import each_string, plain

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_ELEMENTS: Mapping[Status, str] = {
    Status.SKIP: "skipped",
    Status.CRITICAL: "failure",
    Status.WARNING: "failure",
    Status.UNKNOWN: "error",
}


def render(report: Report) -> str:
    """The document; ends with a newline.  There are no times: what is measured here is not speed.

    `plain` leaves nothing that XML 1.0 forbids (section 2.2, Char): controls, surrogates, U+FFFE and U+FFFF do not
    print, so that they are written as escapes.
    """
    from xml.etree import ElementTree

    report = each_string(report, plain)
    suites = ElementTree.Element("testsuites", name="ktlsctl selftest")
    suite = ElementTree.SubElement(suites, "testsuite", name="ktlsctl.selftest", timestamp=report.generated_at)
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in _properties(report):
        ElementTree.SubElement(properties, "property", name=name, value=value)
    for each in points(report):
        suite.append(_case(each))
    if needs_verdict(report):
        suite.append(_verdict(report))
    for element in (suites, suite):
        element.set("tests", str(len(suite.findall("testcase"))))
        for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            element.set(attribute, str(len(suite.findall(f"testcase/{tag}"))))
    ElementTree.indent(suites)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(suites, encoding="unicode")}\n'


def _properties(report: Report) -> list[tuple[str, str]]:
    found = points(report)
    libraries = dict.fromkeys(each.library for each in found)
    datapaths = dict.fromkeys(each.datapath for each in found)
    return [
        ("kernel", f"{report.about.os} {report.about.release}"),
        *(("library", library) for library in libraries),
        *(("datapath", datapath) for datapath in datapaths),
        ("verdict", report.verdict.status.value),
        ("summary", report.verdict.summary),
    ]


def _case(each: Point) -> Element:
    # A dot separates packages: "TLSv1.2" would be two of them.
    case = _empty(f"ktlsctl.{each.version.replace('.', '_')}", each.what)
    evidence = "\n".join(f"{name}: {value}" for name, value in each.evidence.items())
    # A skipped case is the only one that can tell of a failure without being one.
    _add_outcome(case, Status.SKIP if each.accepted else each.status, each.reason, evidence)
    if evidence:
        _add(case, "system-out", {}, evidence)
    return case


def _verdict(report: Report) -> Element:
    case = _empty("ktlsctl", "verdict")
    # No verdict vouches for a run that failed or tested nothing.
    sure = not report.errors and points(report) and report.verdict.status is not Status.OK
    status = report.verdict.status if sure else Status.UNKNOWN
    message = report.errors[0] if report.errors else report.verdict.summary
    _add_outcome(case, status, message, "\n".join((report.verdict.summary, *report.errors)))
    return case


def _empty(classname: str, name: str) -> Element:
    from xml.etree.ElementTree import Element

    return Element("testcase", classname=classname, name=name)


def _add_outcome(case: Element, status: Status, message: str, details: str) -> None:
    if status is Status.OK:
        return
    attributes = {"message": message} if status is Status.SKIP else {"message": message, "type": status.value}
    _add(case, _ELEMENTS[status], attributes, "" if status is Status.SKIP else details)


def _add(case: Element, tag: str, attributes: Mapping[str, str], text: str) -> None:
    from xml.etree.ElementTree import SubElement

    SubElement(case, tag, dict(attributes)).text = text or None
