"""What `vxtool verify` does: captures and expectations in, a report out.

The rim of the program: files, streams and exit codes. What is right is decided in vxtool.verify.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from vxtool.errors import CaptureError, UsageError
from vxtool.verification import Verification, verification
from vxtool.verify.case import Settings
from vxtool.verify.engine import chosen
from vxtool.verify.verdicts import SCHEMA, Result, Severity

__all__ = ["run"]


def run(
    *,
    captures: Sequence[str],
    named: Sequence[str],
    expect: Sequence[str],
    profile: str,
    port: int | None,
    vni: int | None,
    underlay: str,
    underlay_mtu: int | None,
    settle: float,
    alpha: float,
    only: Sequence[str],
    without: Sequence[str],
    strict: bool,
    verbose: bool,
    as_json: bool,
    junit: str | None,
    html: str | None,
    color: str,
) -> int:
    """Verifies, writes, and returns the exit code."""
    sources = [*(_named(argument) for argument in named), *((None, path) for path in captures)]
    if not sources:
        raise UsageError("no capture was given: vxtool verify FILE... --expect FOLDER")
    if not expect:
        raise UsageError("no expectation was given: --expect FILE, FOLDER or - (vxtool expect init CAPTURE drafts one)")
    if [path for _, path in sources].count("-") + sum(spec.split("@")[0] == "-" for spec in expect) > 1:
        raise UsageError("standard input (-) can be read once only")
    settings = Settings(profile, port, underlay == "physical", underlay_mtu, alpha)
    checks = chosen(profile, only, without)  # a wrong name is told before the work
    from vxtool.expect import load

    timeline = load(expect, settling_ns=int(settle * 1e9), vni=vni, port=port)
    result = verification(sources, timeline, settings=settings, checks=checks)
    if as_json:
        sys.stdout.write(json.dumps(document(result), indent=2) + "\n")
    else:
        from vxtool.cli.verdict_text import show

        show(result, verbose=verbose, color=_color(color))
    _write(junit, "junit", result)
    _write(html, "html", result)
    return 1 if result.damage or result.fails(strict) else 0


def document(result: Verification) -> dict[str, Any]:
    """The report as JSON values (schema vxtool-verdicts@1)."""
    counts = {str(kind): sum(verdict.result is kind for verdict in result.verdicts) for kind in Result}
    failing = {str(level): sum(v.result is Result.FAIL and v.severity is level for v in result.verdicts) for level in Severity}
    case = result.case
    return {
        "schema": SCHEMA,
        "profile": case.settings.profile,
        "captures": [
            {
                "capture": capture.name,
                "frames": capture.frames,
                "vantage": vantage.kind,
                "node": vantage.node,
                "endpoint": vantage.endpoint.name if vantage.endpoint else None,
                "inferred": vantage.inferred,
                "note": vantage.note,
            }
            for capture, vantage in zip(case.table.captures, case.vantages, strict=True)
        ],
        "summary": {**counts, "failing": failing},
        "verdicts": [verdict.as_json() for verdict in result.verdicts],
        "missing": [sentence for cluster in case.clusters for sentence in cluster.missing],
        "notes": list(result.notes),
        "damage": [str(place) for place in result.damage],
    }


def _named(argument: str) -> tuple[str, str]:
    name, equals, path = argument.partition("=")
    if not equals or not name or not path:
        raise UsageError(f"--capture {argument!r}: write it as NODE=FILE")
    return name, path


def _color(choice: str) -> bool:
    return choice == "always" or (choice == "auto" and sys.stdout.isatty() and not os.environ.get("NO_COLOR"))


def _write(path: str | None, form: str, result: Verification) -> None:
    if path is None:
        return
    render = import_module(f"vxtool.cli.{form}").render
    try:
        with open(path, "w", encoding="utf-8") as out:
            out.write(render(result))
    except OSError as error:
        raise CaptureError(f"--{form} {path}: {error.strerror or error}; give a file that can be written") from error
    click.echo(f"wrote {path}", err=True)
