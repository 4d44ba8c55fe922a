"""What `vxtool trace` does: captures in, one flow through all of them out.

The rim of the program: files, streams and words. How a packet is found again is in vxtool.verify.trace.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any

from vxtool.capture import open_capture
from vxtool.capture.merging import distinguish
from vxtool.decode.batch import Batch
from vxtool.decode.names import IP_PROTOCOLS
from vxtool.decode.render import printable
from vxtool.decode.text import icmp_words
from vxtool.decode.walk import DEFAULT, Options, walk
from vxtool.errors import UsageError
from vxtool.model import Address, Cluster, Timeline
from vxtool.verify import trace
from vxtool.verify.case import Case, Settings
from vxtool.verify.table import load
from vxtool.verify.trace import Flow, Packet, Trace

__all__ = ["run"]

SCHEMA = "vxtool-trace@1"
TOP = 20
MOST = 4
"""Captures of a flow that the list names."""
WIDTH = 100
EXTRA = ("frame", "icmp_code", "tcp_window", "inner_frag", "inner_frag_more")
PROTOCOLS = {number: name.upper() for name, number in IP_PROTOCOLS.items()}
FLAGS = ((2, "S"), (1, "F"), (4, "R"), (8, "P"), (32, "U"), (64, "E"), (128, "W"), (16, "."))


def run(
    *,
    captures: Sequence[str],
    flow: str | None,
    frame: str | None,
    expect: Sequence[str],
    port: int | None,
    limit: int,
    missing: bool,
    as_json: bool,
    color: str,
) -> int:
    """Reads, follows, writes, and returns the exit code."""
    if flow is not None and frame is not None:
        raise UsageError("--flow and --frame both name a flow: give one of them")
    if list(captures).count("-") + sum(spec.split("@")[0] == "-" for spec in expect) > 1:
        raise UsageError("standard input (-) can be read once only")
    wanted = _flow(flow) if flow is not None else None
    timeline = _timeline(expect, port)
    case, damage = _read([_source(argument) for argument in captures], timeline, port)
    names = _names(case)
    if frame is not None:
        wanted = _flow_of_frame(case, names, frame)
    if wanted is None:
        listed = list(trace.flows(case)) or list(trace.flows(case, tunnelled=False))
        _write(_flows_document(listed, names) if as_json else _flows_text(listed, names))
    else:
        followed = trace.follow(case, wanted)
        if followed is None:
            raise UsageError(f"no capture has a packet of {flow or frame}; without --flow the flows there are get listed")
        packets = [packet for packet in followed.packets if not missing or _unseen(packet, followed)]
        painted = color == "always" or (color == "auto" and sys.stdout.isatty() and not os.environ.get("NO_COLOR"))
        if as_json:
            _write(_document(case, followed, packets[:limit], names))
        else:
            _write(_text(case, followed, packets, names, limit, painted))
    for place in damage:
        sys.stderr.write(f"{printable(str(place))}\n")
    return 1 if damage else 0


# -- in ------------------------------------------------------------------------------------------------------------------------


def _source(argument: str) -> tuple[str | None, str]:
    """FILE or NODE=FILE; a file whose own name has a "=" is taken as it is."""
    name, equals, path = argument.partition("=")
    if not equals or not name or not path or "/" in name or os.path.exists(argument):
        return None, argument
    return name, path


def _timeline(expect: Sequence[str], port: int | None) -> Timeline:
    if not expect:
        return Timeline.of(Cluster())
    from vxtool.expect import load as load_expectation

    return load_expectation(expect, port=port)


def _read(sources: Sequence[tuple[str | None, str]], timeline: Timeline, port: int | None) -> tuple[Case, list[object]]:
    ports = DEFAULT.vxlan_ports | ({port} if port else set()) | {cluster.data_path_port for cluster in timeline.clusters if cluster.data_path_port}
    options = Options(ports, DEFAULT.gpe_ports - ports, DEFAULT.geneve_ports - ports)
    opened = [open_capture(path, vantage=vantage) for vantage, path in sources]
    try:
        distinguish(opened)
        tables = [
            (capture.vantage, vantage, (Batch(frames, walk(frames, options)) for frames in capture))
            for (vantage, _), capture in zip(sources, opened, strict=True)
        ]
        table = load(tables, (*trace.COLUMNS, *EXTRA), with_dns=False)
        return Case(table, timeline, Settings()), [place for capture in opened for place in capture.damage]
    finally:
        for capture in opened:
            capture.close()


def _names(case: Case) -> list[str]:
    """What each capture is called in the head of its column."""
    return [printable(capture.vantage or capture.name) for capture in case.table.captures]


def _flow(text: str) -> Flow:
    """'10.0.1.3:33000 > 10.0.1.4:80', '[fd00::3]:33000 -> [fd00::4]:80' or '10.0.1.3 > 10.0.1.4'."""
    sides = re.split(r"\s*-?>\s*", text.strip())
    if len(sides) != 2:
        raise UsageError(f"--flow {text!r}: write it as '10.0.1.3:33000 > 10.0.1.4:80'")
    (src, sport), (dst, dport) = (_side(text, side) for side in sides)
    return Flow(-1, src, sport, dst, dport)


def _side(text: str, side: str) -> tuple[Address, int]:
    bare = side.strip()
    match = re.fullmatch(r"\[(.+)\](?::(\d{1,5}))?", bare) or (re.fullmatch(r"([^:]+)(?::(\d{1,5}))?", bare) or re.fullmatch(r"(.+)()", bare))
    try:
        if match is None:
            raise ValueError
        port = int(match[2] or 0)
        if port > 65535:
            raise ValueError
        return ip_address(match[1]), port
    except ValueError:
        raise UsageError(f"--flow {text!r}: {bare!r} is no address with a port; write it as '10.0.1.3:33000 > 10.0.1.4:80'") from None


def _flow_of_frame(case: Case, names: Sequence[str], text: str) -> Flow:
    name, colon, number = text.rpartition(":")
    if not colon or not number.isdecimal():
        raise UsageError(f"--frame {text!r}: write it as NAME:N, for example {names[0]}:1")
    fits = [position for position, called in enumerate(names) if name in (called, case.vantages[position].node, f"{called}.pcap", f"{called}.pcapng")]
    fits = fits or [position for position, called in enumerate(names) if os.path.basename(name).split(".")[0] == called]
    if not fits:
        raise UsageError(f"--frame {text!r}: there is no capture {name!r}; there are {', '.join(names)}")
    table = case.table
    rows = case.rows_of_capture(fits[0])
    row = next((int(row) for row in rows if int(table["frame"][row]) == int(number)), None)
    if row is None:
        raise UsageError(f"--frame {text!r}: {names[fits[0]]} has {len(rows):,} frames")
    src, dst = case.address("inner_ip_src", row), case.address("inner_ip_dst", row)
    if src is None or dst is None:
        raise UsageError(f"--frame {text!r}: this frame has no IP packet that could be followed")
    if table.have("icmp_echo")[row]:
        sport = dport = int(table["icmp_id"][row])
    else:
        sport, dport = int(table["inner_sport"][row]), int(table["inner_dport"][row])
    return Flow(int(table["inner_proto"][row]), src, sport, dst, dport)


# -- out: flows ----------------------------------------------------------------------------------------------------------------


def _write(lines: Iterator[str] | dict[str, Any]) -> None:
    if isinstance(lines, dict):
        sys.stdout.write(json.dumps(lines, indent=2) + "\n")
    else:
        sys.stdout.writelines(f"{line.rstrip()}\n" for line in lines)


def _protocol(proto: int) -> str:
    return PROTOCOLS.get(proto, f"proto {proto}") if proto >= 0 else "any"


def _flows_text(found: Sequence[Flow], names: Sequence[str]) -> Iterator[str]:
    if not found:
        yield "no flow of IP packets in these captures"
        return
    more = f"the first {TOP} of {len(found):,}" if len(found) > TOP else f"{len(found):,}"
    yield f"{more} flows, those in most captures first; --flow '...' follows one of them"
    yield ""
    head = max(len(str(flow)) for flow in found[:TOP])
    yield f"{'protocol':<9}{'VNI':>8}  {'flow':<{head}}  {'frames':>7}  captures"
    for flow in found[:TOP]:
        vni = str(flow.vni) if flow.vni >= 0 else "-"
        seen = ", ".join(names[position] for position in flow.captures[:MOST])
        seen += f" and {len(flow.captures) - MOST} more" if len(flow.captures) > MOST else ""
        yield f"{_protocol(flow.proto):<9}{vni:>8}  {flow!s:<{head}}  {flow.frames:>7,}  {seen}"


def _flows_document(found: Sequence[Flow], names: Sequence[str]) -> dict[str, Any]:
    return {"schema": SCHEMA, "flow": None, "flows": [_flow_document(flow, names) for flow in found[:TOP]], "flows_in_all": len(found)}


def _flow_document(flow: Flow, names: Sequence[str]) -> dict[str, Any]:
    return {
        "flow": str(flow),
        "proto": flow.proto if flow.proto >= 0 else None,
        "vni": flow.vni if flow.vni >= 0 else None,
        "frames": flow.frames,
        "captures": [names[position] for position in flow.captures],
    }


# -- out: one flow -------------------------------------------------------------------------------------------------------------


def _unseen(packet: Packet, followed: Trace) -> list[int]:
    """Captures that ran and have nothing of a packet."""
    return [capture for capture in followed.columns if capture not in packet.rows and capture not in packet.parts and capture in packet.running]


def _text(case: Case, followed: Trace, packets: Sequence[Packet], names: Sequence[str], limit: int, color: bool) -> Iterator[str]:
    columns = followed.columns
    frame = case.table["frame"]
    yield f"{followed.flow}, {len(followed.packets):,} packets through {len(columns)} captures"
    for capture in columns:
        yield f"  {_about(case, capture, names)}{_clock(followed.clock_ns[capture])}"
    unseen = {capture: sum(capture in _unseen(packet, followed) for packet in followed.packets) for capture in columns}
    for capture, count in unseen.items():
        if count:
            yield f"  {names[capture]} ran and has not seen {count:,} of them"
    yield ""
    start = followed.packets[0].at_ns
    cells = [
        [_cell(case, followed, packet, capture, int(frame[packet.rows[capture]]) if capture in packet.rows else 0) for capture in columns]
        for packet in packets[:limit]
    ]
    widths = [max(len(names[capture]), *(len(line[i]) for line in cells), 4) for i, capture in enumerate(columns)] if cells else []
    what = max(WIDTH - 12 - sum(width + 2 for width in widths), 28)
    if cells:
        yield f"{'seconds':>10}  {'packet':<{what}}" + "".join(f"  {names[capture]:>{width}}" for capture, width in zip(columns, widths, strict=True))
    bases: dict[tuple[object, ...], int] = {}
    for packet, line in zip(packets, cells, strict=False):
        text = _what(case, packet, bases)
        shown = f"{(packet.at_ns - start) / 1e9:>10.6f}  {'>' if packet.forward else '<'} {text[: what - 2]:<{what - 2}}"
        for cell, width in zip(line, widths, strict=True):
            shown += "  " + (f"\x1b[31;1m{cell:>{width}}\x1b[0m" if color and cell == "-" else f"{cell:>{width}}")
        yield shown
    if len(packets) > limit:
        yield f"{len(packets) - limit:,} more packets (--limit)"
    if not cells:
        yield "every packet was seen in every capture that ran"
    elif any("-" in line or "(off)" in line or any(cell.startswith("~") for cell in line) for line in cells):
        yield ""
        yield "NUMBER +ms: frame, and how long after the first sighting; -: not seen; ~N: its bytes are in frame N (offload); (off): no capture then"


def _about(case: Case, capture: int, names: Sequence[str]) -> str:
    vantage = case.vantages[capture]
    where = {
        "node": f"underlay of {vantage.node}",
        "endpoint": f"sandbox of {vantage.endpoint.name if vantage.endpoint else '?'} on {vantage.node or '?'}",
    }.get(vantage.kind, "place not known")
    return printable(f"{names[capture]}: {where}")


def _clock(ahead_ns: int) -> str:
    if abs(ahead_ns) < 1_000_000:
        return ""
    return f", its clock {abs(ahead_ns) / 1e9:.3f} s {'ahead' if ahead_ns > 0 else 'behind'} (taken out)"


def _cell(case: Case, followed: Trace, packet: Packet, capture: int, frame: int) -> str:
    if capture in packet.rows:
        delay = int(case.table["ts"][packet.rows[capture]]) - followed.clock_ns[capture] - packet.at_ns
        return f"{frame} +{delay / 1e6:.3f}"
    if capture in packet.parts:
        rows = packet.parts[capture]
        first, last = int(case.table["frame"][rows[0]]), int(case.table["frame"][rows[-1]])
        return f"~{first}" if first == last else f"~{first}..{last}"
    return "-" if capture in packet.running else "(off)"


def _what(case: Case, packet: Packet, bases: dict[tuple[object, ...], int]) -> str:
    """A packet in a few words; TCP sequence numbers count from the first one shown of each direction."""
    table = case.table
    row = next(iter(packet.rows.values()))
    size = int(table["payload_len"][row])
    if int(table["inner_frag"][row]):
        piece = f"fragment at {int(table['inner_frag_offset'][row]):,}"
        return f"{_protocol(int(table['inner_proto'][row]))} {piece}, {int(table['inner_ip_len'][row]):,} bytes, id {int(table['inner_ip_id'][row])}"
    if table["have"][row] and bool(table.have("tcp")[row]):
        flags = int(table["tcp_flags"][row])
        letters = "".join(letter for bit, letter in FLAGS if flags & bit) or "none"
        sequence, acknowledged = int(table["tcp_seq"][row]), int(table["tcp_ack"][row])
        ports = (int(table["inner_sport"][row]), int(table["inner_dport"][row]))
        base = bases.setdefault((packet.forward, ports), sequence)
        far = (
            bases.setdefault((not packet.forward, ports[::-1]), (acknowledged - 1) & 0xFFFFFFFF if flags & 16 and flags & 2 else acknowledged)
            if flags & 16
            else 0
        )
        span = f" {(sequence - base) & 0xFFFFFFFF}:{(sequence - base + size) & 0xFFFFFFFF}" if size else ""
        return f"TCP {letters}{span}" + (f" ack {(acknowledged - far) & 0xFFFFFFFF}" if flags & 16 else "")
    if bool(table.have("icmp")[row]):
        version = int(table["inner_ip_version"][row])
        words = icmp_words(version, int(table["icmp_type"][row]), int(table["icmp_code"][row]))
        return f"ICMP {words}" + (f" seq {int(table['icmp_seq'][row])}" if bool(table.have("icmp_echo")[row]) else "") + f" len {size}"
    return f"{_protocol(int(table['inner_proto'][row]))} len {size}"


def _document(case: Case, followed: Trace, packets: Sequence[Packet], names: Sequence[str]) -> dict[str, Any]:
    frame, ts = case.table["frame"], case.table["ts"]
    bases: dict[tuple[object, ...], int] = {}
    return {
        "schema": SCHEMA,
        "flow": str(followed.flow),
        "packets_in_all": len(followed.packets),
        "captures": [
            {
                "capture": names[capture],
                "vantage": case.vantages[capture].kind,
                "node": case.vantages[capture].node,
                "clock_ahead_ns": followed.clock_ns[capture],
                "not_seen": sum(capture in _unseen(packet, followed) for packet in followed.packets),
            }
            for capture in followed.columns
        ],
        "packets": [
            {
                "ts": packet.at_ns,
                "time": datetime.fromtimestamp(packet.at_ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{packet.at_ns % 10**9:09d}Z",
                "forward": packet.forward,
                "what": _what(case, packet, bases),
                "seen": {
                    names[capture]: {"frame": int(frame[row]), "after_ns": int(ts[row]) - followed.clock_ns[capture] - packet.at_ns}
                    for capture, row in packet.rows.items()
                },
                "parts": {names[capture]: [int(frame[row]) for row in rows] for capture, rows in packet.parts.items()},
                "not_seen": [names[capture] for capture in _unseen(packet, followed)],
            }
            for packet in packets
        ],
    }
