"""TCP connections, read from SYNs, answers and resets, each capture by itself.

Knows sequence numbers and flags; refuses to know what a connection is for. A retransmitted SYN is the same connection, a new initial sequence
number on the same ports is another.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vxtool.model import Address, from_halves

if TYPE_CHECKING:
    from vxtool.verify.case import Case

__all__ = ["COLUMNS", "Connection", "connections"]

COLUMNS = (
    "vni",
    "outer_have",
    "outer_ip_src_hi",
    "outer_ip_src_lo",
    "outer_ip_dst_hi",
    "outer_ip_dst_lo",
    "inner_have",
    "inner_ip_src_hi",
    "inner_ip_src_lo",
    "inner_ip_dst_hi",
    "inner_ip_dst_lo",
    "inner_sport",
    "inner_dport",
    "tcp_flags",
    "tcp_seq",
    "tcp_ack",
    "payload_len",
    "inner_frag",
    "sll_type",
)
"""Columns a check needs when it uses `Case.connections`."""

FIN, SYN, RST, ACK = 1, 2, 4, 16

Mask = npt.NDArray[np.bool_]
Positions = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Connection:
    """One TCP connection as one capture saw it. Rows are positions in the table; -1 where there was no such frame."""

    capture: int
    vni: int  # -1 outside a tunnel
    client: Address  # who sent the SYN; without one, the side with the higher port
    client_port: int
    server: Address
    server_port: int
    begun: bool  # its SYN was captured
    syns: int  # SYN frames of the client, retransmissions included
    syn: int  # row of the first
    syn_ack: int  # row of the first answer
    rst: int  # row of the first reset
    rst_by_server: bool
    fin: bool
    frames: int
    to_server: int  # bytes of payload
    to_client: int
    first: int  # rows of the first and the last frame
    last: int
    last_ns: int
    first_ns: int
    longest_idle_ns: int  # the longest time without a frame
    after_idle: int  # row of the frame that ended that silence
    outer_src: Address | None  # of the first frame sent by the client
    outer_dst: Address | None
    outer_src_back: Address | None  # of the first frame sent by the server
    outer_dst_back: Address | None
    rows: tuple[int, ...]  # the first few


def connections(case: Case) -> tuple[Connection, ...]:
    """All connections of a case, by capture, then in the order of their first frames."""
    table = case.table
    rows = np.flatnonzero(table.have("tcp"))
    if len(rows) == 0:
        return ()
    tunnelled = table["tunnel"] != 0
    vni = np.where(tunnelled, table["vni"].astype(np.int64), -1)
    groups = case.group(rows, table["capture"], vni, *_sides(case))
    # From here on every array has one entry per TCP frame, in the order of the groups.
    rows = np.concatenate([groups.members(g) for g in range(len(groups))])
    counts = groups.counts
    group = np.repeat(np.arange(len(groups)), counts)
    flags, sequence, times = table["tcp_flags"][rows], table["tcp_seq"][rows], table["ts"][rows]
    kind = flags & (SYN | ACK | RST)
    syn, syn_ack, reset = kind == SYN, kind == SYN | ACK, (flags & RST) != 0
    begins = np.concatenate(([True], group[1:] != group[:-1]))
    at = np.flatnonzero(syn)
    fresh = np.ones(len(at), bool)  # the first SYN of a group, or one with another initial sequence number, begins a connection
    fresh[1:] = (group[at[1:]] != group[at[:-1]]) | (sequence[at[1:]] != sequence[at[:-1]])
    begins[at[fresh]] = True
    starts = np.flatnonzero(begins)
    sizes = np.diff(np.append(starts, len(rows)))
    owner = np.repeat(np.arange(len(starts)), sizes)
    none = len(rows)

    def first(mask: Mask) -> Positions:
        """For each connection the first entry that the mask marks, `none` where there is none."""
        return np.minimum.reduceat(np.where(mask, np.arange(none), none), starts)

    def total(values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return np.add.reduceat(values, starts)

    first_syn, first_syn_ack = first(syn), first(syn_ack)
    sport, dport = table["inner_sport"][rows], table["inner_dport"][rows]
    guide = np.where(first_syn < none, first_syn, np.where(first_syn_ack < none, first_syn_ack, starts))
    # Without a SYN the answer to one, and without both the lower port, tells the server.
    swap = (first_syn == none) & ((first_syn_ack < none) | (sport[starts] < dport[starts]))
    source_hi, source_lo = table["inner_ip_src_hi"][rows], table["inner_ip_src_lo"][rows]
    target_hi, target_lo = table["inner_ip_dst_hi"][rows], table["inner_ip_dst_lo"][rows]
    client_hi, server_hi = np.where(swap, target_hi[guide], source_hi[guide]), np.where(swap, source_hi[guide], target_hi[guide])
    client_lo, server_lo = np.where(swap, target_lo[guide], source_lo[guide]), np.where(swap, source_lo[guide], target_lo[guide])
    client_port, server_port = np.where(swap, dport[guide], sport[guide]), np.where(swap, sport[guide], dport[guide])
    by_client = (sport == client_port[owner]) & (source_lo == client_lo[owner]) & (source_hi == client_hi[owner])
    payload = table["payload_len"][rows].astype(np.int64)
    gaps = np.diff(times, prepend=times[:1])
    gaps[starts] = 0
    widest = np.maximum.reduceat(gaps, starts)
    after = first((gaps == widest[owner]) & (gaps > 0))
    there, back = first(by_client), first(~by_client)
    ends = starts + sizes - 1
    padded = np.append(rows, -1)  # so that `none` becomes -1

    def outer(entries: Positions, side: str) -> list[Address | None]:
        """An outer address for each connection, None where it has no such frame or no tunnel."""
        high, low = table[f"outer_ip_{side}_hi"], table[f"outer_ip_{side}_lo"]
        positions = padded[entries]
        known = (positions >= 0) & tunnelled[positions]
        return [_address(int(h), int(lo)) if ok else None for h, lo, ok in zip(high[positions], low[positions], known, strict=True)]

    columns: dict[str, list[Any] | npt.NDArray[Any]] = {
        "capture": table["capture"][rows[starts]],
        "vni": vni[rows[starts]],
        "client": [_address(int(h), int(lo)) for h, lo in zip(client_hi, client_lo, strict=True)],
        "client_port": client_port,
        "server": [_address(int(h), int(lo)) for h, lo in zip(server_hi, server_lo, strict=True)],
        "server_port": server_port,
        "begun": first_syn < none,
        "syns": total((syn & by_client).astype(np.int64)),
        "syn": padded[first_syn],
        "syn_ack": padded[first(syn_ack & ~by_client)],
        "rst": padded[first(reset)],
        "rst_by_server": total((reset & ~by_client).astype(np.int64)) > 0,
        "fin": total(((flags & FIN) != 0).astype(np.int64)) > 0,
        "frames": sizes,
        "to_server": total(np.where(by_client, payload, 0)),
        "to_client": total(np.where(by_client, 0, payload)),
        "first": rows[starts],
        "last": rows[ends],
        "first_ns": times[starts],
        "last_ns": times[ends],
        "longest_idle_ns": widest,
        "after_idle": padded[after],
        "outer_src": outer(there, "src"),
        "outer_dst": outer(there, "dst"),
        "outer_src_back": outer(back, "src"),
        "outer_dst_back": outer(back, "dst"),
        "rows": [tuple(rows[start : start + min(size, 5)].tolist()) for start, size in zip(starts.tolist(), sizes.tolist(), strict=True)],
    }
    lists = [values if isinstance(values, list) else values.tolist() for values in columns.values()]
    found = [Connection(**dict(zip(columns, values, strict=True))) for values in zip(*lists, strict=True)]
    found.sort(key=lambda connection: (connection.capture, connection.first))
    return tuple(found)


@lru_cache(maxsize=65536)
def _address(high: int, low: int) -> Address:
    return from_halves(high, low)


def _sides(case: Case) -> list[npt.NDArray[np.generic]]:
    """Six columns that are the same for both directions of a connection: the lower (address, port) first."""
    table = case.table
    source = [table["inner_ip_src_hi"], table["inner_ip_src_lo"], table["inner_sport"]]
    target = [table["inner_ip_dst_hi"], table["inner_ip_dst_lo"], table["inner_dport"]]
    forward = source[2] <= target[2]
    for a, b in ((source[1], target[1]), (source[0], target[0])):
        forward = (a < b) | ((a == b) & forward)
    low = [np.where(forward, a, b) for a, b in zip(source, target, strict=True)]
    high = [np.where(forward, b, a) for a, b in zip(source, target, strict=True)]
    return [*low, *high]
