"""Docker's question before something is removed that many may need."""

from __future__ import annotations

import sys

import click

__all__ = ["sure"]


def sure(warning: str) -> bool:
    """No answer is No."""
    click.echo(f"{warning} [y/N] ", nl=False)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
