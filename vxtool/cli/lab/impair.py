"""`vxtool lab impair`."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any

import click

from .choosing import lab_option

if TYPE_CHECKING:
    from vxtool.lab.topology import Impairment, Topology

__all__ = ["command"]

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


@click.command("impair")
@click.argument("links", nargs=-1, metavar="[LINK]...")
@click.option("--all", "every", is_flag=True, help="Every link of the lab.")
@click.option("--rate", metavar="RATE", help="Bits per second in each direction, as 10mbit, 500kbit, 1gbit; none: as fast as the machine.")
@click.option("--delay", metavar="TIME", help="One way, as 20ms, 300us, 1.5s: a round trip takes twice that; none: at once.")
@click.option("--loss", metavar="SHARE", help="Share of the frames that are lost in each direction, as 1% or 0.1%; none: nothing is lost.")
@click.option("--down/--up", "down", default=None, help="Pull the cable: the node's end loses its carrier and keeps its addresses. Put it back.")
@click.option("--for", "seconds", metavar="TIME", help="Only for so long, as 30s, 5m, 2h; then the link is again as it was.")
@click.option("--clear", is_flag=True, help="Nothing else is wrong with the link: what is not said here is taken away.")
@click.option("--show", is_flag=True, help="Show the links and what is wrong with them, changed or not.")
@click.option("--json", "as_json", is_flag=True, help="Show it as one JSON document (schema vxtool-impairments@1).")
@lab_option
def command(
    links: tuple[str, ...],
    every: bool,
    rate: str | None,
    delay: str | None,
    loss: str | None,
    down: bool | None,
    seconds: str | None,
    clear: bool,
    show: bool,
    as_json: bool,
    lab: str | None,
) -> None:
    """Make links slow, late, lossy or dead, for a while or until told otherwise.

    What is not said stays as it is; --clear alone gives a plain link. With nothing to change, the links are shown.

    \b
    Examples:
      vxtool lab impair                                                 every link and what is wrong with it
      vxtool lab impair sathish-vm1-s1 --loss 1% --delay 20ms --rate 10mbit
      vxtool lab impair sathish-vm1-s1 --down --for 30s                 pull the cable for half a minute
      vxtool lab impair sathish-vm1-s1 sathish-vm2-s1 --delay none
      vxtool lab impair --all --clear

    A capture at a node shows every frame the node sent, lost later or not, and none that was lost on its way to it. The lab itself keeps the time of
    --for: this terminal may be closed.
    """
    from vxtool.errors import UsageError
    from vxtool.lab.client import call
    from vxtool.lab.impair import link_of
    from vxtool.lab.topology import Impairment, Topology
    from vxtool.model.plain import plain, revive

    from .choosing import chosen

    changes = _changes(rate, delay, loss, down)
    changing = bool(changes) or clear
    lasting = None if seconds is None else _seconds(seconds)
    if every and links:
        raise UsageError("--all is every link: name links, or say --all")
    if lasting is not None and not changing:
        raise UsageError("--for wants to know what is to be wrong for so long: --rate, --delay, --loss, --down, --up or --clear")
    if changing and not links and not every:
        raise UsageError("which link? name one or more, or say --all (vxtool lab impair shows them)")
    running = chosen(lab)
    topology = revive(Topology, call(running, "state")["topology"])
    # Every name is looked at before the first link is changed.
    picked = [link_of(topology, name) for name in dict.fromkeys(links)] or list(topology.links)
    if changing:
        for link in picked:
            after = _merged(Impairment() if clear else link.impairment, changes)
            call(running, "impair", link=link.name, impairment=plain(after), seconds=lasting)
    state = call(running, "state")
    told = _told(revive(Topology, state["topology"]), {link.name for link in picked}, state["until"], time.time())
    if as_json:
        click.echo(json.dumps({"schema": "vxtool-impairments@1", "lab": running.name, "links": told}, indent=2))
    elif show or not changing:
        click.echo(_table(told), nl=False)
    else:
        click.echo("".join(_line(one) for one in told), nl=False)


def _changes(rate: str | None, delay: str | None, loss: str | None, down: bool | None) -> dict[str, Any]:
    """Fields of an Impairment, of the options that were given."""
    from vxtool.lab.topology import Impairment, parse_delay, parse_loss, parse_rate

    plain = Impairment()
    parsers: tuple[tuple[str, str | None, Any], ...] = (("rate", rate, parse_rate), ("delay_ms", delay, parse_delay), ("loss", loss, parse_loss))
    changes = {field: getattr(plain, field) if text.lower() in ("none", "0") else parse(text) for field, text, parse in parsers if text is not None}
    return changes if down is None else changes | {"down": down}


def _merged(before: Impairment, changes: dict[str, Any]) -> Impairment:
    from dataclasses import replace

    after = replace(before, **changes)
    # A queue is one of frames that wait for their turn: without rate and delay none do.
    return after if after.rate is not None or after.delay_ms else replace(after, queue=None)


def _seconds(text: str) -> float:
    from vxtool.errors import UsageError

    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)\s*(ms|s|m|min|h)?", text.strip().lower())
    seconds = float(match[1]) * _SECONDS[match[2] or "s"] if match else 0.0
    if not seconds:
        raise UsageError(f"--for {text!r} is not a time: one like 30s, 5m or 2h is wanted")
    return seconds


def _told(topology: Topology, names: set[str], until: dict[str, float], now: float) -> list[dict[str, Any]]:
    """What there is to say of each link, for people and programs."""
    return [
        {
            "link": link.name,
            "ends": [f"{end.machine}:{end.device}" for end in link.ends],
            "rate_bps": link.impairment.rate,
            "delay_ms": link.impairment.delay_ms,
            "loss_percent": link.impairment.loss,
            "queue_frames": link.impairment.queue,
            "down": link.impairment.down,
            "seconds_left": round(max(0.0, until[link.name] - now), 1) if link.name in until else None,
        }
        for link in topology.links
        if link.name in names
    ]


def _table(told: list[dict[str, Any]]) -> str:
    from vxtool.lab.impair import delay_text, rate_text

    from .listing import columns

    rows = [
        (
            one["link"],
            " ".join(one["ends"]),
            rate_text(one["rate_bps"]) if one["rate_bps"] is not None else None,
            delay_text(one["delay_ms"]) if one["delay_ms"] else None,
            f"{one['loss_percent']:g}%" if one["loss_percent"] else None,
            "down" if one["down"] else "up",
            _left(one["seconds_left"]),
        )
        for one in told
    ]
    return columns(("LINK", "ENDS", "RATE", "DELAY", "LOSS", "STATE", "FOR"), rows)


def _line(one: dict[str, Any]) -> str:
    from vxtool.lab.impair import as_words
    from vxtool.lab.topology import Impairment

    from .listing import shown

    words = as_words(Impairment(one["rate_bps"], one["delay_ms"], one["loss_percent"], one["down"]))
    return f"{shown(one['link'])}: {words}" + (f", for {_left(one['seconds_left'])}" if one["seconds_left"] is not None else "") + "\n"


def _left(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    whole = max(1, round(seconds))
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    parts = [f"{number} {unit}" for number, unit in ((hours, "h"), (minutes, "min"), (rest, "s")) if number]
    return " ".join(parts)
