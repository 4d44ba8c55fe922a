"""`vxtool lab dump`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .choosing import lab_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vxtool.lab.dump import Namespace
    from vxtool.lab.operations import State

__all__ = ["command"]


@click.command("dump")
@click.argument("places", nargs=-1, metavar="[PLACE...]")
@click.option("-o", "--output", metavar="FILE|-", help="Where to; else NAME-dump-DATE-TIME.tar.gz here. - is standard output.")
@click.option("--keys", is_flag=True, help="Also the keys of encrypted networks, which are otherwise left out.")
@lab_option
def command(places: tuple[str, ...], output: str | None, keys: bool, lab: str | None) -> int:
    """Write the kernel state of every namespace into one archive: links, addresses, routes, neighbours, forwarding, rules, sockets.

    Processes, mounts, the log and what the lab says of itself are in it too; its README.txt says where what is.

    \b
    Examples:
      vxtool lab dump
      vxtool lab dump sathish-vm1 -o vm1.tar.gz     a node and every sandbox on it
      vxtool lab dump web.1 -o - | tar -xzO --wildcards '*/state-*.txt'

    A PLACE is a node, an endpoint, NETWORK@NODE, or a namespace by its name. The text is what `ip`, `bridge`, `ss` and `nft` print; the same is
    beside it as JSON. `vxtool lab compare` reads such an archive.

    Exit codes: 0 written; 2 nothing could be done.
    """
    import os
    import sys
    import time

    from vxtool.errors import LabError, UsageError
    from vxtool.lab.client import call
    from vxtool.lab.dump import archive, of_lab, read
    from vxtool.lab.operations import State
    from vxtool.model.plain import revive

    from .choosing import chosen

    running = chosen(lab)
    notes = []
    answer = None
    try:
        answer = call(running, "state")
    except LabError as error:
        # A lab whose supervisor is in trouble is the one that is worth a dump.
        if places:
            raise
        notes.append(f"lab.json: {error}")
    wanted = of_lab(running)
    if places and answer is not None:
        wanted = _chosen(wanted, revive(State, answer), places)
    if output is None:
        output = f"{running.name}-dump-{time.strftime('%Y%m%d-%H%M%S')}.tar.gz"
    if output == "-" and sys.stdout.isatty():
        raise UsageError("an archive is not for the terminal: give -o FILE, or pipe it into tar")
    begun = time.monotonic()
    states = read(wanted, keys=keys)
    seconds = time.monotonic() - begun
    if output == "-":
        archive(sys.stdout.buffer, running, states, described=answer, seconds=seconds, notes=notes)
        return 0
    with open(output, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
        archive(file, running, states, described=answer, seconds=seconds, notes=notes)
    nodes = {state.namespace.node for state in states}
    size = os.stat(output).st_size / 1000
    click.echo(f"{output}: {len(states)} namespaces of {len(nodes)} machines, {size:,.0f} kB; read in {seconds:.1f} s")
    return 0


def _chosen(namespaces: Sequence[Namespace], state: State, places: Sequence[str]) -> list[Namespace]:
    """Those that were asked for: of a node all that is on it. UsageError, with names that come near, for a place there is not."""
    from vxtool.lab.places import PlaceKind, locate

    names = {namespace.full_name for namespace in namespaces}
    found: set[str] = set()
    for text in places:
        if text in names and ":" in text:
            found.add(text)
            continue
        place = locate(state.topology, state.cluster, text)
        whole = place.kind in (PlaceKind.NODE, PlaceKind.ROUTER) and place.device is None
        found |= {namespace.full_name for namespace in namespaces if namespace.node == place.machine} if whole else {place.namespace}
    return [namespace for namespace in namespaces if namespace.full_name in found]
