"""`vxtool decode`: its options and their help. What they do is in cli/decoding.py, which loads NumPy and is only imported to run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

__all__ = ["command"]

SECTIONS: Mapping[str, Sequence[str]] = {
    "Which frames (several options must all hold; values of one, separated by commas, are alternatives)": (
        "vni",
        "vtep",
        "ip",
        "mac",
        "proto",
        "inner_port",
        "start",
        "end",
        "where",
        "limit",
    ),
    "How they are read": ("port", "guess", "checksums", "reassemble"),
    "What is written (one of these; text without any)": ("verbose", "summary", "json", "ndjson", "csv", "parquet", "write"),
    "How it is written": ("columns", "decap", "time", "color"),
}


class _Sectioned(click.Command):
    """A command with so many options that its help needs headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        records = {param.name: record for param in self.get_params(ctx) if isinstance(param, click.Option) and (record := param.get_help_record(ctx))}
        for heading, names in SECTIONS.items():
            with formatter.section(heading):
                formatter.write_dl([records.pop(name) for name in names])
        with formatter.section("Help"):
            formatter.write_dl(list(records.values()))


@click.command("decode", cls=_Sectioned)
@click.argument("captures", metavar="[NAME=]FILE...", nargs=-1, required=True, type=click.Path())
# ---- which frames ----
@click.option("--vni", metavar="N", multiple=True, help="Outermost or innermost network identifier: 4097, or 4097,4098.")
@click.option("--vtep", metavar="ADDR[/LEN]", multiple=True, help="Outer source or destination of a tunnel frame.")
@click.option("--ip", metavar="ADDR[/LEN]", multiple=True, help="Any outer, inner or ARP address.")
@click.option("--mac", metavar="MAC", multiple=True, help="Any outer or inner MAC, or how it begins: 02:42.")
@click.option("--proto", metavar="NAME", multiple=True, help="Innermost protocol (tcp, udp, icmp, arp, dns, esp, 132, ...), tunnel, or gossip.")
@click.option("--inner-port", metavar="N", multiple=True, help="Inner source or destination port.")
@click.option(
    "--from", "start", metavar="TIME", help="Not before: 2026-01-31T12:00:00 (UTC, or with a zone), seconds since 1970, +5s after the first."
)
@click.option("--to", "end", metavar="TIME", help="Before this time.")
@click.option("--where", metavar="EXPR", help='An expression over the columns: "vni == 4097 and inner_tcp_flags & 2".')
@click.option("--limit", metavar="N", type=click.IntRange(min=0), help="Stop after N frames that match.")
# ---- how they are read ----
@click.option("--port", metavar="[+]PORT", multiple=True, help="UDP port that carries VXLAN, instead of 4789 and 8472; +PORT: besides them.")
@click.option("--guess", is_flag=True, help="Recognise VXLAN by its shape on other ports too; such frames are marked.")
@click.option("--checksums", is_flag=True, help="Check checksums: zero, good, partial, lco (left to an offload) or bad.")
@click.option("--reassemble", is_flag=True, help="Put IP fragments together, outer and inner.")
# ---- what is written ----
@click.option("-v", "--verbose", count=True, help="A tree of headers for each frame; -vv: and its bytes.")
@click.option("--summary", is_flag=True, help="Tables instead of frames; with --json as one JSON document.")
@click.option("--json", is_flag=True, help="One JSON document.")
@click.option("--ndjson", is_flag=True, help="One JSON object a line.")
@click.option("--csv", is_flag=True, help="Comma-separated values with a line of names.")
@click.option("--parquet", metavar="OUT", type=click.Path(), help="A Parquet file.")
@click.option("-w", "--write", metavar="OUT", type=click.Path(), help="The matching frames as a capture, pcapng if OUT ends so; - is stdout.")
# ---- how it is written ----
@click.option("--columns", metavar="LIST", help="Only these columns, in this order: frame,ts,vni (see `vxtool columns`).")
@click.option("--decap", is_flag=True, help="With -w: the inner frames alone, as an Ethernet capture.")
@click.option(
    "--time",
    type=click.Choice(["relative", "absolute", "delta"]),
    help="Seconds since the first frame shown (default), date and time in UTC (default of -v), or seconds since the frame shown before it.",
)
@click.option("--color", type=click.Choice(["auto", "always", "never"]), default="auto", help="Text: auto is on a terminal, unless NO_COLOR is set.")
def command(**options: Any) -> int:
    """Show what captures hold: outer headers, tunnels, inner headers, names.

    FILE is a pcap or pcapng file, also compressed (gzip, zstd, xz); - is standard input. Several are merged by time, and the column `vantage` tells
    them apart: the NAME given, else the file's name.

    \b
    vxtool decode node1.pcap
    vxtool decode --vni 4097 --proto tcp --inner-port 80 node1.pcap
    vxtool decode --summary vm1=a.pcap vm2=b.pcap.gz
    vxtool decode -vv --where "inner_ip_dst in '10.0.1.0/24' and stop is not none" node1.pcap
    vxtool decode --csv --columns frame,ts,vni,inner_ip_src,inner_ip_dst node1.pcap > frames.csv
    vxtool decode --vni 4097 -w inner.pcap --decap node1.pcap
    ssh node1 tcpdump -i eth0 -U -w - udp port 4789 | vxtool decode -

    Exit codes: 0 fine; 1 damage in a file, or frames that are truncated or malformed (cut by the snap length is neither); 2 nothing could be done.
    """
    from vxtool.cli.decoding import run

    filters = {name: options.pop(name) for name in ("vni", "vtep", "ip", "mac", "proto", "inner_port", "where", "start", "end")}
    return run(filters=filters, **options)
