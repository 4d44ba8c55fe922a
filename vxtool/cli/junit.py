"""Verdicts as JUnit XML: one test case a verdict, for continuous integration."""

from __future__ import annotations

from xml.etree import ElementTree

from vxtool.decode.render import printable
from vxtool.verification import Verification
from vxtool.verify.check import CHECKS
from vxtool.verify.verdicts import Result, Severity, Verdict

__all__ = ["render"]


def render(result: Verification) -> str:
    """The document. An error fails its case; a warning or information does not, and is told in system-out; unknown is a skipped case."""
    suites = ElementTree.Element("testsuites", name="vxtool verify")
    for family in dict.fromkeys(CHECKS[verdict.check].family for verdict in result.verdicts):
        mine = [verdict for verdict in result.verdicts if CHECKS[verdict.check].family == family]
        suite = ElementTree.SubElement(
            suites,
            "testsuite",
            name=family,
            tests=str(len(mine)),
            failures=str(sum(_is_failure(verdict) for verdict in mine)),
            skipped=str(sum(verdict.result is Result.UNKNOWN for verdict in mine)),
            errors="0",
        )
        for verdict in mine:
            suite.append(_case(verdict, family))
    ElementTree.indent(suites)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(suites, encoding="unicode") + "\n"


def _is_failure(verdict: Verdict) -> bool:
    return verdict.result is Result.FAIL and verdict.severity is Severity.ERROR


def _case(verdict: Verdict, family: str) -> ElementTree.Element:
    name = f"{verdict.check} {CHECKS[verdict.check].title}" + (f" [{verdict.subject}]" if verdict.subject else "")
    case = ElementTree.Element("testcase", classname=f"vxtool.{family}", name=printable(name))
    if verdict.result is Result.UNKNOWN:
        ElementTree.SubElement(case, "skipped", message=printable(f"{verdict.message}. {verdict.hint}"))
    elif verdict.result is Result.FAIL:
        tag = "failure" if _is_failure(verdict) else "system-out"
        element = ElementTree.SubElement(case, tag)
        if tag == "failure":
            element.set("message", printable(verdict.message))
            element.set("type", str(verdict.severity))
        element.text = "\n".join(map(printable, _body(verdict).split("\n")))
    return case


def _body(verdict: Verdict) -> str:
    frames = ", ".join(f"{item.capture}:{item.frame}" for item in verdict.evidence)
    facts = {
        "severity": str(verdict.severity),
        "message": verdict.message,
        "nodes": ", ".join(verdict.nodes),
        "expected": verdict.expected,
        "seen": verdict.seen,
        "frames": frames,
        "cause": verdict.hint,
        "confirm": verdict.command,
        "invariants": ", ".join(verdict.invariants),
    }
    return "\n".join(f"{name}: {text}" for name, text in facts.items() if text)
