"""Running the checks: which ones, on which columns, and their findings as verdicts.

Knows the table of checks; refuses to know what any of them looks for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from difflib import get_close_matches

from vxtool.decode.batch import Batch
from vxtool.errors import UsageError
from vxtool.model import Cluster, Timeline
from vxtool.verify import families
from vxtool.verify.case import TALK_COLUMNS, Case, Settings
from vxtool.verify.causes import explained
from vxtool.verify.check import CHECKS, PROFILES, Check, severity_in
from vxtool.verify.table import Table, load
from vxtool.verify.verdicts import Evidence, Finding, Result, Verdict

__all__ = ["build", "chosen", "find_check", "judge"]

families.load_all()

MOST = 20
"""Failing findings of one check that are told one by one."""


def chosen(profile: str, only: Sequence[str] = (), without: Sequence[str] = ()) -> tuple[Check, ...]:
    """The checks of a profile, or those named; UsageError for a name that does not exist."""
    if profile not in PROFILES:
        raise UsageError(f"there is no profile {profile!r}; there are {', '.join(PROFILES)}")
    kept, dropped = ({find_check(name).id for name in names} for names in (only, without))
    return tuple(one for one in CHECKS.values() if severity_in(one, profile) is not None and (not kept or one.id in kept) and one.id not in dropped)


def find_check(name: str) -> Check:
    """The check of this id, in any case; UsageError for one that does not exist."""
    found = CHECKS.get(name.upper())
    if found is None:
        near = get_close_matches(name.upper(), CHECKS, 1)
        raise UsageError(f"there is no check {name!r}" + (f"; did you mean {near[0]}?" if near else "; `vxtool checks` lists them"))
    return found


def build(
    captures: Sequence[tuple[str, str | None, Iterable[Batch]]],
    expectation: Timeline | Cluster,
    settings: Settings | None = None,
    checks: Sequence[Check] | None = None,
) -> Case:
    """Read the captures, each (name, vantage or None, batches), into a case with the columns the checks declare."""
    settings = settings or Settings()
    checks = chosen(settings.profile) if checks is None else checks
    timeline = expectation if isinstance(expectation, Timeline) else Timeline.of(expectation)
    columns = {column for one in checks for column in one.columns} | set(TALK_COLUMNS)
    return Case(load(captures, columns), timeline, settings)


def judge(case: Case, checks: Sequence[Check] | None = None) -> tuple[Verdict, ...]:
    """Every check's verdicts, in the order of the checks; those that another one explains are information."""
    checks = chosen(case.settings.profile) if checks is None else checks
    return explained(_verdict(case, one, finding) for one in checks for finding in _at_most(MOST, one.run(case)))


def _at_most(most: int, findings: Iterable[Finding]) -> Iterator[Finding]:
    """The findings, of those that fail the first few; the rest are one that names their nodes and subjects."""
    rest: list[Finding] = []
    count = 0
    for finding in findings:
        count += finding.result is Result.FAIL
        if finding.result is Result.FAIL and count > most:
            rest.append(finding)
        else:
            yield finding
    if rest:
        subjects = list(dict.fromkeys(finding.subject for finding in rest))
        told = ", ".join(subjects[:5]) + (f" and {len(subjects) - 5:,} others" if len(subjects) > 5 else "")
        yield replace(
            rest[0],
            message=f"and {len(rest):,} more of this kind, about {told}",
            subject=f"{len(rest):,} more",
            nodes=tuple(dict.fromkeys(node for finding in rest for node in finding.nodes)),
        )


def _frame(table: Table, row: int) -> Evidence:
    capture = table.captures[int(table["capture"][row])]
    return Evidence(capture.file or capture.name, int(table["frame"][row]))


def _verdict(case: Case, one: Check, finding: Finding) -> Verdict:
    severity = severity_in(one, case.settings.profile) or one.severity
    if finding.severity is not None and finding.result is Result.FAIL:
        severity = finding.severity
    table = case.table
    return Verdict(
        check=one.id,
        result=finding.result,
        severity=severity,
        invariants=one.invariants if finding.invariants is None else finding.invariants,
        nodes=finding.nodes,
        subject=finding.subject,
        message=finding.message,
        hint=finding.hint,
        evidence=tuple(_frame(table, row) for row in finding.rows if row >= 0),
        expected=finding.expected,
        seen=finding.seen,
        command=finding.command,
        rows=tuple(row for row in finding.rows if row >= 0),
    )
