"""`vxtool events`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from vxtool.cli.printable import printable
from vxtool.cli.swarming import lab_option

if TYPE_CHECKING:
    from vxtool.swarm.client import SwarmClient
    from vxtool.swarm.events import Event

__all__ = ["command"]

_TYPES = ("container", "network", "node", "service", "task")
_FILTERS = (*_TYPES, "event", "image", "label", "scope", "type")
_PATIENCE = 10.0  # seconds of one long poll: a lab that ends meanwhile is noticed after as many


@click.command("events")
@click.option("--since", metavar="TIME", help="Also what has happened since then: 2026-11-28T20:13:55, 1796000000, or 10m for ten minutes ago.")
@click.option("--until", metavar="TIME", help="Until then.  [default: until it is interrupted]")
@click.option("-f", "--filter", "asked", multiple=True, metavar="KEY=VALUE", help=f"{', '.join(_FILTERS)}; of several values one must fit.")
@click.option("--format", metavar="FORMAT", help="json, or a Go template.")
@lab_option
def command(since: str | None, until: str | None, asked: tuple[str, ...], format: str | None, lab: str | None) -> None:
    """Tell what happens in the swarm, as it happens: one line an event, as `docker events` does.

    Beside nodes, networks and services, which an engine of a swarm tells of, it tells of every task, and of the containers of all nodes.

    \b
    Examples:
      vxtool events
      vxtool events --since 10m --filter type=service --filter type=node
      vxtool events --since 1h --until 0s --filter container=web.1 --format '{{.Action}} {{.Actor.Attributes.exitCode}}'
    """
    from vxtool.cli import swarming
    from vxtool.cli.docker_tables import filters
    from vxtool.cli.moments import moment

    wanted = filters(asked, _FILTERS)
    line = _written(format)
    client = swarming.swarm(lab)
    now = client.view().now
    end = moment(until, now) if until is not None else None
    for event in _happening(client, moment(since, now) if since is not None else now, end):
        if _is_wanted(event, wanted):
            click.echo(line(event))


def _happening(client: SwarmClient, since: float, until: float | None) -> Iterator[Event]:
    """Events from one moment to another, as they come. An event's number tells its moment, in nanoseconds."""
    after = round(since * 1e9) - 1
    last = round(until * 1e9) if until is not None else None
    while True:
        now = client.view().now
        for event in client.events(after):
            if last is not None and event.number > last:
                return
            after = event.number
            yield event
        if until is not None and now >= until:
            return
        client.wait(_PATIENCE if until is None else min(_PATIENCE, until - now))


def _is_wanted(event: Event, wanted: dict[str, list[str]]) -> bool:
    """As moby's daemon/events/filter.go: names and ids by how they begin, the rest exactly."""
    from vxtool.cli.docker_tables import has_labels

    for kind in _TYPES:
        if kind in wanted and not (event.type == kind and any(name.startswith(tuple(wanted[kind])) for name in _names(event))):
            return False
    image = event.attributes.get("image", "")
    exactly = {"event": (event.action,), "type": (event.type,), "scope": (_scope(event),), "image": (image, image.partition(":")[0])}
    if any(key in wanted and not set(values) & set(wanted[key]) for key, values in exactly.items()):
        return False
    return has_labels(event.attributes, wanted.get("label", ()))


def _names(event: Event) -> tuple[str, ...]:
    return event.id, event.attributes.get("name", "")


def _scope(event: Event) -> str:
    """What an engine tells of itself is local, what managers tell is the swarm's."""
    return "local" if event.type == "container" or event.action in ("connect", "disconnect") else "swarm"


# --------------------------------------------------------------------------------------------------------------------
# Lines
# --------------------------------------------------------------------------------------------------------------------


def _written(format: str | None) -> Callable[[Event], str]:
    """A function (event) -> its line. UsageError for a template that cannot be."""
    if not format:
        return _line
    if "".join(format.split()) in ("json", "{{json.}}"):
        return _json
    from vxtool.cli.go_template import Template
    from vxtool.swarm.events import Event

    template = Template(format.replace("\\t", "\t").replace("\\n", "\n"))

    def written(event: Event) -> str:
        text = template.render(_fields(event), "can't evaluate field {} in type *events.Message", lambda parent, field: parent == "Attributes")
        return printable(text, "\t\n")

    written(Event(0, "", "", ""))  # a field that no event has is refused before the first one happens
    return written


def _line(event: Event) -> str:
    attributes = ", ".join(f"{key}={value}" for key, value in sorted(event.attributes.items()))
    text = f"{_time(event)} {event.type} {event.action} {event.id}{f' ({attributes})' if attributes else ''}"
    return printable(text)


def _time(event: Event) -> str:
    """RFC 3339 in the zone of whoever looks, with nine digits, as Docker writes it."""
    seconds, nanoseconds = divmod(event.number, 1_000_000_000)
    moment = datetime.fromtimestamp(seconds).astimezone()
    zone = f"{moment:%z}"
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}{'Z' if zone == '+0000' else f'{zone[:3]}:{zone[3:]}'}"


def _json(event: Event) -> str:
    """As the engine's API has it: a container's event also with the names of old."""
    old = {"status": event.action, "id": event.id, "from": event.attributes.get("image", "")} if event.type == "container" else {}
    actor = {"ID": event.id, "Attributes": dict(sorted(event.attributes.items()))}
    told = {**old, "Type": event.type, "Action": event.action, "Actor": actor, "scope": _scope(event)}
    return json.dumps({**told, "time": event.number // 1_000_000_000, "timeNano": event.number}, separators=(",", ":"))


def _fields(event: Event) -> dict[str, Any]:
    """As a template sees it: the names of Go."""
    of_container = event.type == "container"
    return {
        "Status": event.action if of_container else "",
        "ID": event.id if of_container else "",
        "From": event.attributes.get("image", "") if of_container else "",
        "Type": event.type,
        "Action": event.action,
        "Actor": {"ID": event.id, "Attributes": dict(event.attributes)},
        "Scope": _scope(event),
        "Time": event.number // 1_000_000_000,
        "TimeNano": event.number,
    }
