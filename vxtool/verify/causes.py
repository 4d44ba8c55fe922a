"""Which fault explains which other: so that one wrong VNI is one error and not a page of them.

Knows the checks by their names only. A verdict that another one explains, at one of the same nodes, is kept and becomes information: it was
seen, and it is expected to go when its cause does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType

from vxtool.verify.verdicts import Result, Severity, Verdict

__all__ = ["CAUSES", "explained"]

# Frames of a node that the others do not take in, or that do not go where they should.
ASTRAY = ("VX-FLAG", "VX-PORT", "VX-CHECKSUM", "VX-VNI", "VX-VTEP", "VX-DUPLICATE", "VX-SOURCE", "VX-FDB", "VX-NEIGHBOUR", "VX-SEGMENT", "VX-ONEWAY")

CAUSES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "VX-CHECKSUM": ("VX-VTEP",),  # a NAT that rewrites the outer source rewrites the checksum by halves
        "VX-SEGMENT": ("VX-MESH-SNAT",),  # the client's own address in the ingress network
        "VX-ENDPOINT": ("VX-VTEP",),  # what a foreign tunnel end brings in
        "VX-FLOOD": ("VX-VTEP",),
        "VX-SILENT": ("VX-GOSSIP",),  # a node that hears no gossip is declared dead, and its endpoints' entries are taken away
        "VX-RETRY": ("VX-MTU", "VX-CHECKSUM", "VX-ONEWAY", "VX-LOSS"),
        "VX-LOSS": (*ASTRAY, "VX-MTU", "VX-FRAGMENT", "VX-LENGTH", "VX-RESERVED"),
        "VX-MESH-BALANCE": ASTRAY,
        "VX-MESH-UNUSED": ASTRAY,
        "VX-MESH-SHARE": (*ASTRAY, "VX-SILENT"),
        "VX-MESH-DEAD": (*ASTRAY, "VX-CLEAR", "VX-SILENT"),
        "VX-MESH-REMOVED": (*ASTRAY, "VX-VIP", "VX-FLOOD", "VX-ENDPOINT"),
        "VX-MESH-ENTRY": ASTRAY,
        "VX-MESH-BYPASS": ("VX-SEGMENT", "VX-VIP"),
    }
)
"""Check -> the checks whose failure at one of the same nodes, or about an address that is no node's, explains its own."""


def explained(verdicts: Iterable[Verdict]) -> tuple[Verdict, ...]:
    """The verdicts, those that another one explains as information that names it."""
    everything = tuple(verdicts)
    blamed: dict[str, set[str]] = {}
    for verdict in everything:
        if verdict.result is Result.FAIL and verdict.severity is not Severity.INFO:
            blamed.setdefault(verdict.check, set()).update((*verdict.nodes, verdict.subject))
    return tuple(_in_light_of(verdict, blamed) for verdict in everything)


def _in_light_of(verdict: Verdict, blamed: Mapping[str, set[str]]) -> Verdict:
    if verdict.result is not Result.FAIL or verdict.severity is Severity.INFO:
        return verdict
    causes = [cause for cause in CAUSES.get(verdict.check, ()) if blamed.get(cause, set()) & set(verdict.nodes)]
    if not causes:
        return verdict
    return replace(verdict, severity=Severity.INFO, hint=f"Probably a consequence of {' and '.join(causes)}: mend that first. {verdict.hint}".strip())
