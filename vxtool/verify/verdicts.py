"""What a check says: verdicts, with the frames that prove them.

Knows no protocol and no check. A verdict is about one subject (a node, a pair, a name); a check that finds nothing wrong says so once, with how
much it looked at, and one that cannot be decided says what it would need. Silence is not a verdict.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

__all__ = ["SCHEMA", "Evidence", "Finding", "Result", "Severity", "Verdict", "failed", "passed", "unknown"]

SCHEMA = "vxtool-verdicts@1"


class Result(StrEnum):
    PASS = "pass"
    FAIL = "fail"
    UNKNOWN = "unknown"


class Severity(StrEnum):
    """How bad it is when the check fails. A failing check of severity error makes the exit code 1."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True, slots=True, order=True)
class Evidence:
    """One frame, by the capture it is in and its 1-based number there."""

    capture: str
    frame: int


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found about one subject. `rows` are positions in the table; the engine turns them into evidence."""

    result: Result
    message: str  # one sentence
    subject: str = ""
    nodes: tuple[str, ...] = ()
    rows: tuple[int, ...] = ()
    expected: str = ""
    seen: str = ""
    hint: str = ""  # the likely cause
    command: str = ""  # what would confirm or mend it
    severity: Severity | None = None  # where this finding is milder or graver than its check
    invariants: tuple[str, ...] | None = None  # where it stands for fewer invariants than its check


def passed(message: str, *, subject: str = "", nodes: tuple[str, ...] = ()) -> Finding:
    return Finding(Result.PASS, message, subject, nodes)


def unknown(message: str, *, needs: str, subject: str = "", nodes: tuple[str, ...] = ()) -> Finding:
    """`needs`: what would decide it, as the end of "it would need ..."."""
    return Finding(Result.UNKNOWN, message, subject, nodes, hint=f"It would need {needs}.")


def failed(
    message: str,
    *,
    subject: str,
    nodes: tuple[str, ...] = (),
    rows: tuple[int, ...] = (),
    expected: str = "",
    seen: str = "",
    hint: str = "",
    command: str = "",
    severity: Severity | None = None,
    invariants: tuple[str, ...] | None = None,
) -> Finding:
    return Finding(Result.FAIL, message, subject, nodes, rows, expected, seen, hint, command, severity, invariants)


@dataclass(frozen=True, slots=True)
class Verdict:
    """One line of the report."""

    check: str
    result: Result
    severity: Severity
    invariants: tuple[str, ...]
    nodes: tuple[str, ...]
    subject: str
    message: str
    hint: str = ""
    evidence: tuple[Evidence, ...] = ()
    expected: str = ""
    seen: str = ""
    command: str = ""
    rows: tuple[int, ...] = field(default=(), compare=False, repr=False)  # positions in the table, for reports that show the frames

    def as_json(self) -> dict[str, object]:
        """The verdict in the words of the documented schema."""
        return {
            "check": self.check,
            "result": str(self.result),
            "severity": str(self.severity),
            "invariants": list(self.invariants),
            "nodes": list(self.nodes),
            "subject": self.subject,
            "message": self.message,
            "hint": self.hint,
            "expected": self.expected,
            "seen": self.seen,
            "command": self.command,
            "evidence": [{"capture": item.capture, "frame": item.frame} for item in self.evidence],
        }
