"""`vxtool doctor`: what this machine can do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vxtool.lab.doctor import Findings

__all__ = ["command"]

MARKS = {"ok": ("ok", "green"), "missing": ("missing", "yellow"), "not tried": ("not tried", "blue")}


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="One JSON document (schema vxtool-doctor@1).")
@click.option("--all", "everything", is_flag=True, help="Also what is there: by default only its names are listed.")
def doctor(as_json: bool, everything: bool) -> int:
    """Tell what this machine can do, what will be missing because of it, and how to get it.

    \b
    Examples:
      sudo vxtool doctor
      sudo vxtool doctor --all
      vxtool doctor --json | jq '.features[] | select(.state == "missing")'

    Features of the kernel are tried for real, in namespaces that end with the attempt; the machine's own network is not touched. Only root can try
    them: without it, libraries, tools and limits are looked at.

    Exit codes: 0 a lab can be built here; 1 it cannot, or not by this user.
    """
    import json

    from vxtool.lab.doctor import as_document, examine

    findings = examine()
    if as_json:
        click.echo(json.dumps(as_document(findings), indent=1))
    else:
        for line in _text(findings, everything):
            click.echo(line)
    return 0 if findings.lab else 1


def _text(findings: Findings, everything: bool) -> Iterator[str]:
    """A section for each group: what is there in one line, then what is not, each with its consequence and its remedy."""
    from vxtool.lab.doctor import GROUPS, State

    for group in GROUPS:
        of_group = [finding for finding in findings if finding.feature.group == group]
        yield click.style(group, bold=True)
        there = [finding for finding in of_group if finding.state is State.OK]
        if everything:
            for finding in there:
                yield f"  {click.style('ok', fg='green')}         {finding.feature.title}{f': {finding.detail}' if finding.detail else ''}"
        elif there:
            telling = [group in ("limits", "processes") or finding.feature.id == "balancing" for finding in there]  # by whom services are balanced
            names = [f"{finding.feature.title}{f' ({finding.detail})' if tells else ''}" for finding, tells in zip(there, telling, strict=True)]
            yield from _wrapped(f"  {click.style('ok', fg='green')}         ", ", ".join(names))
        for finding in of_group:
            if finding.state is not State.OK:
                word, color = MARKS[finding.state]
                yield f"  {click.style(word, fg=color)}{' ' * (11 - len(word))}{click.style(finding.feature.title, bold=True)}: {finding.detail}"
                yield from _wrapped(" " * 13, f"without it: {finding.feature.without}")
                yield f"{' ' * 13}to have it: {finding.feature.get}"
    yield ""
    yield from _wrapped("", findings.conclusion)


def _wrapped(indent: str, text: str) -> list[str]:
    import textwrap

    lines = textwrap.wrap(text, 100 - len(click.unstyle(indent)), break_long_words=False, break_on_hyphens=False)
    return [(indent if number == 0 else " " * len(click.unstyle(indent))) + line for number, line in enumerate(lines)]


command = doctor
