"""The option --lab, and what every verb of the lab does first."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from vxtool.lab.registry import Running

__all__ = ["chosen", "complete", "lab_option", "swept"]

F = TypeVar("F", bound=Callable[..., Any])


def complete(ctx: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Names of running labs that begin so, for the shell; none where that cannot be known."""
    from click.shell_completion import CompletionItem

    from vxtool.errors import VxtoolError
    from vxtool.lab.registry import running

    try:
        return [CompletionItem(lab.name) for lab in running() if lab.name.startswith(begun)]
    except (VxtoolError, OSError):
        return []


def lab_option(function: F) -> F:
    """`--lab NAME`, handed to the command as `lab`: a name or None."""
    return click.option(
        "--lab", metavar="NAME", shell_complete=complete, help="Which lab; not needed when there is one, or when $VXTOOL_LAB names it."
    )(function)


def swept() -> None:
    """Checks that labs are possible here, and removes what dead ones have left."""
    from vxtool.lab.registry import need_root, sweep

    need_root()
    sweep()


def chosen(lab: str | None) -> Running:
    """The lab that a verb is about, after the sweep that every verb begins with."""
    from vxtool.lab.registry import find

    swept()
    return find(lab)
