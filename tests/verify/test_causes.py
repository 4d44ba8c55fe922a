"""Causes: a verdict that another explains is information, at the same node and only there."""

from __future__ import annotations

import pytest

from vxtool.verify.causes import CAUSES, explained
from vxtool.verify.check import CHECKS
from vxtool.verify.verdicts import Result, Severity, Verdict


def verdict(check: str, *nodes: str, severity: Severity = Severity.ERROR, result: Result = Result.FAIL, subject: str = "") -> Verdict:
    return Verdict(check, result, severity, ("B1",), nodes, subject, f"{check} fails", hint="Look there.")


def test_every_cause_and_every_consequence_is_a_check() -> None:
    assert set(CAUSES) | {cause for causes in CAUSES.values() for cause in causes} <= set(CHECKS)


@pytest.mark.parametrize(
    ("cause", "consequence", "severity"),
    [
        (verdict("VX-VNI", "vm2"), verdict("VX-MESH-DEAD", "vm2"), Severity.INFO),
        (verdict("VX-VNI", "vm2"), verdict("VX-MESH-DEAD", "vm1", "vm2"), Severity.INFO),
        (verdict("VX-VNI", "vm2"), verdict("VX-MESH-DEAD", "vm1"), Severity.ERROR),
        (verdict("VX-VNI", "vm2", result=Result.PASS), verdict("VX-MESH-DEAD", "vm2"), Severity.ERROR),
        (verdict("VX-VNI", "vm2", severity=Severity.INFO), verdict("VX-MESH-DEAD", "vm2"), Severity.ERROR),
        (verdict("VX-DNS-TTL", "vm2"), verdict("VX-MESH-DEAD", "vm2"), Severity.ERROR),
        (verdict("VX-VTEP", "vm2", subject="192.0.2.9"), verdict("VX-CHECKSUM", "192.0.2.9"), Severity.INFO),
        (verdict("VX-GOSSIP", "vm3"), verdict("VX-SILENT", "vm3", "vm1"), Severity.INFO),
    ],
)
def test_a_consequence_is_information_where_its_cause_is_a_fault(cause: Verdict, consequence: Verdict, severity: Severity) -> None:
    for order in ((cause, consequence), (consequence, cause)):
        judged = {one.check: one for one in explained(order)}
        assert judged[cause.check] == cause
        assert judged[consequence.check].severity is severity
        assert (cause.check in judged[consequence.check].hint) is (severity is Severity.INFO)
