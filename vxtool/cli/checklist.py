"""The table of checks as text, Markdown and JSON. One source: vxtool.verify.check.CHECKS."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable

from vxtool.errors import UsageError
from vxtool.verify.check import CHECKS, PROFILES, Check, severity_in
from vxtool.verify.engine import find_check

__all__ = ["describe"]


def describe(name: str | None, *, as_json: bool, markdown: bool) -> str:
    """What is printed. UsageError for a check that does not exist, or for two forms at once."""
    if as_json and markdown:
        raise UsageError("--json and --markdown exclude each other")
    chosen = [find_check(name)] if name else list(CHECKS.values())
    if as_json:
        return json.dumps([_as_json(one) for one in chosen], indent=2) + "\n"
    if markdown:
        return _markdown(chosen)
    return _one(chosen[0]) if name else _list(chosen)


def _as_json(one: Check) -> dict[str, object]:
    return {
        "check": one.id,
        "title": one.title,
        "family": one.family,
        "about": one.about,
        "source": one.source,
        "problem": one.problem,
        "invariants": list(one.invariants),
        "severity": {profile: str(level) if (level := severity_in(one, profile)) is not None else None for profile in PROFILES},
    }


def _list(chosen: Iterable[Check]) -> str:
    lines: list[str] = []
    family = ""
    for one in chosen:
        if one.family != family:
            family = one.family
            lines.append(f"\n{family}" if lines else family)
        lines.append(f"  {one.id:<18} {one.severity:<8} {one.title}")
    return "\n".join(lines) + "\n"


def _one(one: Check) -> str:
    facts = {
        "holds when": one.title,
        "means": one.about,
        "source": one.source,
        "trouble": one.problem,
        "invariants": ", ".join(one.invariants),
        "severity": ", ".join(f"{profile}: {severity_in(one, profile) or 'not judged'}" for profile in PROFILES),
    }
    body = "\n".join(textwrap.fill(text, 98, initial_indent=f"  {name:<12}", subsequent_indent=" " * 14) for name, text in facts.items())
    return f"{one.id} ({one.family})\n{body}\n"


def _markdown(chosen: Iterable[Check]) -> str:
    lines = [
        "# Checks",
        "",
        "What `vxtool verify` looks for. Made by `vxtool checks --markdown`; do not edit.",
        "",
        "Severities are those of the profile docker-swarm; where another profile differs, it is named.",
        "",
        "| check | holds when | severity | invariants | means | trouble when it does not hold | source |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in chosen:
        other = ", ".join(f"{profile}: {level or 'not judged'}" for profile, level in one.profiles.items())
        cells = (
            f"`{one.id}`",
            one.title,
            f"{one.severity}" + (f" ({other})" if other else ""),
            ", ".join(one.invariants),
            one.about,
            one.problem,
            one.source,
        )
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"
