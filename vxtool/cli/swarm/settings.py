"""What `swarm init` and `swarm update` can both say of a swarm, and Docker's options for what no lab has.

Knows the options and the Settings they become; neither verb.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import click

from vxtool.cli.swarming import Parsed
from vxtool.errors import UsageError

if TYPE_CHECKING:
    from vxtool.swarm.objects import Settings

__all__ = ["changed", "settings_options"]

F = TypeVar("F", bound=Callable[..., Any])

_WITHOUT_EFFECT = {
    "cert_expiry": "the lab has no certificates",
    "max_snapshots": "the lab has no Raft log",
    "snapshot_interval": "the lab has no Raft log",
}
"""Accepted, so that a script that says them goes on; said on stderr."""

_REFUSED = {
    "autolock": "the lab's manager writes nothing down that could be locked",
    "external_ca": "the lab has no certificates that somebody could sign",
    "force_new_cluster": "the lab has one manager, which never loses its quorum",
}
"""What would promise something that is not kept."""

_OPTIONS = (
    click.option("--task-history-limit", type=Parsed("integer", "integer"), help="Tasks that are kept of a slot.  [default: 5]"),
    click.option("--dispatcher-heartbeat", type=Parsed("duration"), help="How often nodes report; three misses, and one is down.  [default: 5s]"),
    click.option("--autolock/--no-autolock", default=False, hidden=True),
    click.option("--cert-expiry", type=Parsed("duration"), hidden=True),
    click.option("--external-ca", multiple=True, hidden=True),
    click.option("--max-snapshots", type=Parsed("number"), hidden=True),
    click.option("--snapshot-interval", type=Parsed("number"), hidden=True),
)


def settings_options(function: F) -> F:
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def changed(settings: Settings, given: Mapping[str, Any]) -> Settings:
    """`settings` with what the options say. UsageError for what a lab cannot do; what makes no difference in one is said on stderr."""
    for name, reason in _REFUSED.items():
        if given.get(name):
            raise UsageError(f"{_flag(name)}: {reason}")
    if given["dispatcher_heartbeat"] is not None and given["dispatcher_heartbeat"] < 0:
        raise UsageError("heartbeat time period cannot be a negative duration")
    for name, reason in _WITHOUT_EFFECT.items():
        if given[name] is not None:
            click.echo(f"{_flag(name)} has no effect: {reason}", err=True)
    history, heartbeat = given["task_history_limit"], given["dispatcher_heartbeat"]
    return replace(
        settings,
        history_limit=settings.history_limit if history is None else history,
        heartbeat=heartbeat or settings.heartbeat,  # 0, as in Docker: as it was
    )


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
