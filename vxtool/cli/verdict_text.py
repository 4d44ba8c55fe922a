"""Verdicts for people: a table first, then for each failing one what was expected, what was seen, which frames prove it, and what to do.

Plain text with a few colours and no library: this is what is read at night over a slow line. Knows nothing of checks but their titles.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator

from vxtool.decode.render import printable
from vxtool.verification import Verification
from vxtool.verify.check import CHECKS
from vxtool.verify.verdicts import Result, Severity, Verdict

__all__ = ["lines", "show"]

WIDTH = 100
LABEL = len("stands for") + 1
_COLORS = {"error": "31;1", "warning": "33;1", "info": "36", "pass": "32", "unknown": "2", "title": "1"}
_ORDER = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.INFO: 2}


def show(result: Verification, *, verbose: bool, color: bool) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines(result, verbose=verbose, color=color)))


def lines(result: Verification, *, verbose: bool = False, color: bool = False) -> Iterator[str]:
    """The report. Text from captures and expectations is escaped."""

    def paint(kind: str, text: str) -> str:
        return f"\x1b[{_COLORS[kind]}m{text}\x1b[0m" if color else text

    yield from _captures(result)
    yield ""
    by_check: dict[str, list[Verdict]] = {}
    for verdict in result.verdicts:
        by_check.setdefault(verdict.check, []).append(verdict)
    shown = [(check, verdicts) for check, verdicts in by_check.items() if verbose or any(v.result is Result.FAIL for v in verdicts)]
    quiet = len(by_check) - len(shown)
    for check, verdicts in shown:
        kind = _kind(verdicts)
        count = sum(v.result is Result.FAIL for v in verdicts)
        yield f"{paint(kind, f'{kind:<8}')} {check:<18} {CHECKS[check].title}" + (f" ({count} findings)" if count > 1 else "")
        if verbose and kind in ("pass", "unknown"):
            for verdict in verdicts:
                yield from _wrapped("", f"{verdict.message}. {verdict.hint}" if verdict.result is Result.UNKNOWN else verdict.message)
    if quiet:
        passing = sum(all(v.result is Result.PASS for v in verdicts) for verdicts in by_check.values())
        undecided = sum(any(v.result is Result.UNKNOWN for v in verdicts) and _kind(verdicts) == "unknown" for verdicts in by_check.values())
        rest = f"{paint('pass', 'pass')}     {passing} checks" if not verbose else ""
        if undecided and not verbose:
            rest += f"; {paint('unknown', 'unknown')} {undecided} (-v tells what each would need)"
        yield rest
    failing = sorted((v for v in result.verdicts if v.result is Result.FAIL), key=lambda v: _ORDER[v.severity])
    for verdict in failing:
        yield ""
        yield from _failure(verdict, paint(str(verdict.severity), str(verdict.severity)), result)
    yield ""
    yield from _closing(result)


def _kind(verdicts: list[Verdict]) -> str:
    fails = [v.severity for v in verdicts if v.result is Result.FAIL]
    if fails:
        return str(min(fails, key=lambda level: _ORDER[level]))
    return "unknown" if all(v.result is Result.UNKNOWN for v in verdicts) else "pass"


def _captures(result: Verification) -> Iterator[str]:
    case = result.case
    width = max((len(capture.name) for capture in case.table.captures), default=0)
    for capture, vantage in zip(case.table.captures, case.vantages, strict=True):
        where = {
            "node": f"underlay of {vantage.node}",
            "endpoint": f"sandbox of {vantage.endpoint.name if vantage.endpoint else '?'} on {vantage.node or '?'}",
            "segment": "a wire that several nodes share",
            "unknown": "an unknown place" if vantage.inferred else vantage.note,
        }[vantage.kind]
        how = f" (inferred: {vantage.note})" if vantage.inferred and vantage.note else ""
        yield from _wrapped("", printable(f"{capture.name:<{width}}  {capture.frames:>9,} frames, {where}{how}"), indent="", hang=" " * (width + 2))


def _failure(verdict: Verdict, level: str, result: Verification) -> Iterator[str]:
    yield f"{level} {verdict.check} at {printable(', '.join(verdict.nodes)) or 'an unknown node'}" + (
        f": {printable(verdict.subject)}" if verdict.subject else ""
    )
    yield from _wrapped("", printable(verdict.message))
    yield from _wrapped("expected", printable(verdict.expected))
    yield from _wrapped("seen", printable(verdict.seen))
    yield from _frames(verdict, result)
    yield from _wrapped("cause", printable(verdict.hint))
    if verdict.command:
        yield f"  {'confirm':<{LABEL}}{printable(verdict.command)}"
    yield from _wrapped("stands for", ", ".join(verdict.invariants))


def _frames(verdict: Verdict, result: Verification) -> Iterator[str]:
    """The evidence, each capture named once."""
    lines = dict(zip(verdict.evidence, result.frames(verdict), strict=True))
    width = len(str(max((item.frame for item in lines), default=0)))
    label = "frames"
    for capture in dict.fromkeys(item.capture for item in lines):
        yield f"  {label:<{LABEL}}{printable(capture)}"
        label = ""
        for item, line in lines.items():
            if item.capture == capture:
                yield f"  {'':<{LABEL}}{item.frame:>{width + 1}}  {line}".rstrip()


def _wrapped(name: str, text: str, indent: str = "  ", hang: str | None = None) -> Iterator[str]:
    if not text:
        return
    label = f"{name:<{LABEL}}" if name else ""
    follow = hang if hang is not None else indent + " " * len(label)
    yield from textwrap.wrap(text, WIDTH, initial_indent=indent + label, subsequent_indent=follow, break_long_words=False, break_on_hyphens=False)


def _closing(result: Verification) -> Iterator[str]:
    counts = {level: sum(v.result is Result.FAIL and v.severity is level for v in result.verdicts) for level in Severity}
    told = ", ".join(f"{count} {level}{'s' if count != 1 and level is not Severity.INFO else ''}" for level, count in counts.items() if count)
    undecided = sum(v.result is Result.UNKNOWN for v in result.verdicts)
    yield f"{told or 'nothing wrong'}; {undecided} undecided" if undecided else told or "nothing wrong"
    missing = [sentence for cluster in result.case.clusters for sentence in cluster.missing]
    for sentence in [*dict.fromkeys(missing)][:8]:
        yield from _wrapped("missing", printable(sentence))
    for sentence in result.notes:
        yield from _wrapped("note", printable(sentence))
    for place in result.damage[:8]:
        yield from _wrapped("damage", printable(str(place)))
