"""What every verb of the swarm does first: find the lab, and ask its manager.

Knows how a lab is asked, how an option's text becomes a value, and what a list of names is completed with; not what is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from vxtool.errors import UsageError

from .lab.choosing import lab_option
from .printable import told

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from vxtool.swarm.client import SwarmClient
    from vxtool.swarm.view import View

__all__ = ["NETWORK", "NODE", "SERVICE", "TASK", "Parsed", "completing", "each", "lab_option", "swarm"]


def swarm(lab: str | None) -> SwarmClient:
    """The swarm of a lab, or of the only one. Tests put another swarm here."""
    from vxtool.lab import client

    from .lab.choosing import chosen

    return client.swarm(chosen(lab))


class Parsed(click.ParamType):  # type: ignore[type-arg]  # generic only in newer versions
    """An option whose text `parse` makes a value of; what is wrong with the text is said as Docker says it.

    `parse` is named by where it lives, `vxtool.swarm.parsing`, and fetched when there is something to parse: `Parsed("duration")`.
    """

    def __init__(self, parse: str, word: str | None = None) -> None:
        self.name = word or parse
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        from vxtool.swarm import parsing

        try:
            parsed = getattr(parsing, self._parse)(value)
            return value if isinstance(parsed, str) else parsed  # a text that is fine stays what the user wrote
        except UsageError as error:
            flag = ", ".join(sorted(param.opts, key=len)) if param is not None else self.name
            raise UsageError(f'invalid argument "{value}" for "{flag}" flag: {error}') from None


def each(names: tuple[str, ...], act: Callable[[str], object]) -> int:
    """Does it for every name, as Docker does: what cannot be done is said on stderr, the others are done all the same. The exit code."""
    failed = False
    for name in names:
        try:
            act(name)
        except UsageError as error:
            failed = True
            click.echo(told(str(error)), err=True)
    return 1 if failed else 0


Completion: TypeAlias = "Callable[[click.Context, click.Parameter, str], list[CompletionItem]]"


def completing(names: Callable[[View], list[str]]) -> Completion:
    """For the shell: names of a swarm's things that begin so; none where that cannot be known."""

    def complete(ctx: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        from vxtool.errors import VxtoolError

        try:
            view = swarm(ctx.params.get("lab")).view()
        except (VxtoolError, OSError):
            return []
        return [CompletionItem(name) for name in sorted(names(view)) if name.startswith(begun)]

    return complete


SERVICE = completing(lambda view: [service.spec.name for service in view.services.values()])
NODE = completing(lambda view: [node.hostname or node.id for node in view.nodes.values()])
NETWORK = completing(lambda view: [network.spec.name for network in view.networks.values()])
TASK = completing(lambda view: [view.task_name(task) for task in view.tasks.values()])
