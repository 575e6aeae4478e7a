"""A check as JUnit XML, which continuous integration systems show test by test."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from xml.etree import ElementTree

from throughtime.gradcheck import Point, Report, TensorReport, table
from throughtime.storage import replace

# What XML 1.0 cannot hold, in a parameter's name or a message, even escaped.
ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_junit(report: Report, path: str | os.PathLike[str]) -> None:
    """Writes a test case for each tensor at each point.

    A tensor that disagrees is a failure. One that is unresolved is skipped, with the remedy as the
    reason, so that a tool that knows only pass and fail shows neither as passed.
    """
    replace(path, ElementTree.tostring(as_junit(report), encoding="utf-8", xml_declaration=True))


def as_junit(report: Report) -> ElementTree.Element:
    """The `<testsuites>` element."""
    cases = [_case(point, name, tensor) for point, name, tensor in _tensors(report)]
    counts = {
        "tests": str(len(cases)),
        "failures": str(sum(case.find("failure") is not None for case in cases)),
        "errors": "0",
        "skipped": str(sum(case.find("skipped") is not None for case in cases)),
        "time": f"{report.seconds:.3f}",
    }
    suites = ElementTree.Element("testsuites", {"name": "throughtime", **counts})
    suite = ElementTree.SubElement(suites, "testsuite", {"name": "gradient check", **counts})
    suite.append(_properties(report))
    suite.extend(cases)
    ElementTree.SubElement(suite, "system-out").text = _legal(str(report))
    ElementTree.indent(suites)
    return suites


def _tensors(report: Report) -> Iterator[tuple[Point, str, TensorReport]]:
    for point in report.points:
        for name, tensor in point.tensors.items():
            yield point, name, tensor


def _properties(report: Report) -> ElementTree.Element:
    """The headline in words and numbers, and the circumstances of the check."""
    point, found = report.decisive, ElementTree.Element("properties")
    told = {
        "headline": report.headline(),
        "verdict": report.verdict,
        "point": point.name,
        "discrepancy": point.discrepancy,
        "floor": point.floor,
        "smallest_error": report.smallest_error,
        "evaluations": report.evaluations,
        "effort": report.effort,
    }
    for name, value in told.items():
        ElementTree.SubElement(found, "property", {"name": name, "value": _legal(str(value))})
    return found


def _case(point: Point, name: str, tensor: TensorReport) -> ElementTree.Element:
    where = {"classname": _legal(f"gradient.{point.name}"), "name": _legal(name)}
    case = ElementTree.Element("testcase", where)
    numbers = f"d = {tensor.discrepancy:.3g}, error bars alone would give {tensor.floor:.2g}"
    if tensor.verdict == "disagree":
        message = _legal(f"{name}, {point.name}: {numbers}")
        kind = {"type": "disagree", "message": message}
        problem = ElementTree.SubElement(case, "failure", kind)
        problem.text = _legal("\n".join(table({name: tensor})))
    elif tensor.verdict == "unresolved":
        reason = f"unresolved: {numbers}" + (f"; {tensor.remedy}" if tensor.remedy else "")
        ElementTree.SubElement(case, "skipped", {"message": _legal(reason)})
    return case


def _legal(text: str) -> str:
    return ILLEGAL.sub("\ufffd", text)
