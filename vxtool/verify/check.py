"""What a check is: one function, one entry in its family's table.

    @check(
        "VX-FLAGS", "the I flag is set",
        about="Without the I flag the VNI means nothing; a receiver drops the frame.",
        source="RFC 7348 section 5", problem="...", invariants=("C1",), severity=ERROR,
        columns=("vxlan_word",),
    )
    def flags(case: Case) -> Iterator[Finding]: ...

A check yields findings: `failed(...)` for each thing wrong, else one `passed(...)` with how much was looked at, or `unknown(..., needs=...)`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from vxtool.verify.case import Case
from vxtool.verify.verdicts import Finding, Severity

__all__ = ["CHECKS", "PROFILES", "Check", "check", "severity_in"]

Function = Callable[[Case], Iterator[Finding]]

PROFILES: Mapping[str, str] = MappingProxyType(
    {
        "docker-swarm": "Docker Engine in swarm mode: everything is judged",
        "rfc7348": "any VXLAN: the RFC's own rules, SHOULDs as warnings; nothing of Docker",
        "flannel": "Kubernetes with flannel: one VNI, port 8472, routed pods",
        "calico": "Kubernetes with Calico's VXLAN mode: one VNI, port 4789, routed pods",
        "evpn": "a fabric with EVPN or flood-and-learn: ARP, broadcast and multicast between VTEPs are normal",
    }
)


@dataclass(frozen=True, slots=True)
class Check:
    """One invariant, or a few that one look decides."""

    id: str  # stable; "VX-" and a word
    title: str  # what holds when it passes
    family: str  # encapsulation, segments, mesh, names or vantages
    about: str  # what it means, one sentence
    source: str  # which document or source file says so
    problem: str  # the trouble users had when it did not hold
    invariants: tuple[str, ...]  # C1-C30, D1-D5, B1-B20
    severity: Severity  # in profile docker-swarm, and where `profiles` says nothing else
    columns: tuple[str, ...]  # storage columns it reads
    run: Function
    profiles: Mapping[str, Severity | None] = field(default_factory=dict)  # another severity in a profile; None: not judged there


CHECKS: dict[str, Check] = {}
"""All checks by id, in the order of the reports. Filled when the families are imported (vxtool.verify.families)."""


def check(
    id: str,
    title: str,
    *,
    family: str,
    about: str,
    source: str,
    problem: str,
    invariants: tuple[str, ...],
    severity: Severity,
    columns: tuple[str, ...],
    profiles: Mapping[str, Severity | None] | None = None,
) -> Callable[[Function], Function]:
    """Enter a function into CHECKS. Raises ValueError for an id that is taken or a profile that does not exist."""

    def enter(run: Function) -> Function:
        unknown_profiles = set(profiles or {}) - set(PROFILES)
        if id in CHECKS or unknown_profiles:
            raise ValueError(f"check {id} is entered twice, or names unknown profiles {sorted(unknown_profiles)}")
        CHECKS[id] = Check(id, title, family, about, source, problem, invariants, severity, columns, run, dict(profiles or {}))
        return run

    return enter


def severity_in(one: Check, profile: str) -> Severity | None:
    """How bad a failure is in a profile; None: the profile does not judge it."""
    return one.profiles.get(profile, one.severity)
