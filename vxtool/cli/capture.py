"""`vxtool capture`: its options. What they do is in capturing.py, which loads NumPy."""

from __future__ import annotations

import click

from vxtool.cli.lab.choosing import lab_option
from vxtool.cli.units import DURATION, SIZE

__all__ = ["command"]


class _WithFilter(click.Command):
    """What stands behind ` -- ` is a filter, in words, as for tcpdump."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args:
            at = args.index("--")
            args, words = args[:at], args[at + 1 :]
            ctx.meta["filter words"] = " ".join(words)
        return super().parse_args(ctx, args)


@click.command("capture", cls=_WithFilter)
@click.argument("places", metavar="PLACE... [-- FILTER]", nargs=-1, required=True)
@click.option(
    "-w", "--write", "to", metavar="FILE", help="Write a pcapng file (pcap if FILE ends in .pcap); - is stdout. Without it: one line a frame."
)
@click.option("--split", is_flag=True, help="A file for each place: FILE is a folder, or has {place} in its name.")
@click.option("--print", "show", is_flag=True, help="With -w FILE: show the frames too.")
@click.option("-f", "--filter", "filter", metavar="TEXT", help="Capture only what matches, in tcpdump's language (pcap-filter(7)).")
@click.option("--device", metavar="NAME", help="Another device of each place; any: all that are up, lo among them.")
@click.option("--for", "seconds", metavar="TIME", type=DURATION, help="End after this time: 10s, 500ms, 2m.")
@click.option("--until-idle", "idle", metavar="TIME", type=DURATION, help="End when there was no frame for this time.")
@click.option("--count", metavar="N", type=click.IntRange(min=1), help="End after N frames.")
@click.option("--snaplen", metavar="BYTES", type=click.IntRange(min=1, max=262144), help="Keep so many bytes of each frame; all without.")
@click.option("--buffer", metavar="SIZE", type=SIZE, help="Memory in which frames of each device wait to be written; 32MB, with many devices less.")
@lab_option
@click.pass_context
def capture(ctx: click.Context, /, **given: object) -> int:
    """Capture at nodes, endpoints and links of a lab into one file.

    PLACE is a node or router (vm1: its underlay devices), a device of one (vm1:eth0), an endpoint (web.1, or vm1:web.1), a link (vm1-s1: its end at
    the node; vm1-s1:s1: the other end), or the overlay sandbox of a network on a node (web@vm1).

    \b
    vxtool capture vm1 vm2 -w lab.pcapng                both nodes' underlay, until Ctrl-C
    vxtool capture vm1 web.1 -w lab.pcapng --for 10s -- udp port 4789 or icmp
    vxtool capture vm1 vm2 web.1 --split -w captures/   vm1.pcapng, vm2.pcapng, web.1.pcapng
    vxtool capture vm1                                  a line a frame
    vxtool capture vm1 -w - | wireshark -k -i -
    vxtool lab expect | vxtool verify lab.pcapng --expect -

    The file says of each frame where it was captured, so that `vxtool verify` and `vxtool trace` know without being told. It has an interface for
    each device (vm1/eth0), with the offloads that were on and how many frames were dropped. When "capturing at ..." appears, no frame is missed from
    then on; at the end (Ctrl-C, SIGTERM) what is on its way is written first; a second Ctrl-C ends at once. Outside of a lab use tcpdump or dumpcap.

    Exit codes: 0 fine; 1 frames were dropped for want of room; 2 nothing could be done.
    """
    from vxtool.cli.capturing import run

    return run(words=ctx.meta.get("filter words"), **given)  # type: ignore[arg-type]


command = capture
