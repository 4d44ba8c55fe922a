"""What a capture holds, in numbers: who talks to whom, in which network, and what is odd.

Knows rows; keeps counts only, so that a capture of any size needs the same few megabytes. How the numbers are shown is cli/tables.py's business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from vxtool.decode.batch import Batch
from vxtool.decode.columns import CHECKSUM_CLASSES, CONTROL, FRAGMENTS, HAVE, HEADER_HAVE, LAYERS, STOPS, TUNNELS
from vxtool.decode.dns import parse
from vxtool.decode.groups import MOST_KEYS, Groups
from vxtool.decode.names import ETHERTYPES, IP_PROTOCOLS, RCODES
from vxtool.decode.render import ip_text, names_of

__all__ = ["SCHEMA", "Pair", "Summary"]

SCHEMA = "vxtool-summary@1"

Rows: TypeAlias = npt.NDArray[np.void]
Mask: TypeAlias = npt.NDArray[np.bool_]

_BROADCAST = 0xFFFFFFFFFFFF
_GROUP_BIT = 1 << 40  # the first bit of a MAC on the wire: group address (IEEE 802)
_NO_VNI = 1 << 32  # more than any VNI: the frame has no tunnel


@dataclass(frozen=True, slots=True)
class Pair:
    """Two ends, and what each sent to the other."""

    a: str
    b: str
    a_to_b: tuple[int, int]  # frames, bytes
    b_to_a: tuple[int, int]

    @property
    def frames(self) -> int:
        return self.a_to_b[0] + self.b_to_a[0]

    @property
    def bytes(self) -> int:
        return self.a_to_b[1] + self.b_to_a[1]

    @property
    def one_way(self) -> bool:
        """Only one end was heard, and the other could have answered: it is no group address."""
        return 0 in (self.a_to_b[0], self.b_to_a[0]) and not (_is_group(self.a) or _is_group(self.b))

    def as_json(self) -> dict[str, Any]:
        return {
            "a": self.a,
            "b": self.b,
            "a_to_b": {"frames": self.a_to_b[0], "bytes": self.a_to_b[1]},
            "b_to_a": {"frames": self.b_to_a[0], "bytes": self.b_to_a[1]},
            "one_way": self.one_way,
        }


class Summary:
    """Counts batch after batch; every number is of frames that passed the filters."""

    def __init__(self, most: int = MOST_KEYS) -> None:
        self.frames = 0
        self.wire_bytes = 0
        self.captured_bytes = 0
        self.snapped = 0
        self.first_ts: int | None = None
        self.last_ts: int | None = None
        self.sources: dict[tuple[str, str | None, int], list[int]] = {}  # (vantage, interface, link type) -> [frames, bytes, first ns, last ns]
        self.casts = dict.fromkeys(("unicast", "multicast", "broadcast"), 0)
        self.casts_in_tunnels = dict(self.casts)
        self.arp = dict.fromkeys(("request", "reply", "other"), 0)
        self.reassembled = 0
        self.stops: dict[tuple[str, str], int] = {}
        self.fragments: dict[str, dict[str, int]] = {level: {} for level in ("outer", "inner")}
        self.checksums: dict[str, dict[str, int]] = {level: {} for level in ("outer", "inner", "outer_ip", "inner_ip")}
        self.dns = _DnsCounts(most)
        # Keys, in the order in which they are read back below:
        self._tunnels = Groups(6, most)  # kind, VNI, outer source (2), outer destination (2)
        self._talkers = Groups(5, most)  # innermost VNI, inner source (2), inner destination (2)
        self._protocols = Groups(1, most)  # see _protocol_keys
        self._esp = Groups(5, most)  # source (2), destination (2), SPI
        self._control = Groups(5, most)  # kind, source (2), destination (2)
        self._guessed = Groups(2, most)  # kind, UDP destination port
        self._vtep_checksums = Groups(3, most)  # outer source (2), class

    # ---- counting ----

    def add(self, batch: Batch) -> None:
        """Counts the rows of one batch."""
        rows = batch.rows
        if not len(rows):
            return
        sizes = rows["wirelen"]
        have = rows["have"]
        tunnelled = rows["depth"] != 0
        self.frames += len(rows)
        self.wire_bytes += int(sizes.sum(dtype=np.int64))
        self.captured_bytes += int(rows["caplen"].sum(dtype=np.int64))
        self.snapped += int(np.count_nonzero(rows["caplen"] < sizes))
        self.reassembled += int(np.count_nonzero(rows["reassembled"]))
        self._add_sources(batch)
        self._add_groups(rows, sizes, have, tunnelled)
        self._add_casts(rows, tunnelled)
        self._add_arp(rows["arp_op"][_has(have, "arp")])
        self._add_stops(rows)
        for level in ("outer", "inner"):
            _count_words(self.fragments[level], rows[f"{level}_frag"], FRAGMENTS)
            # Without a tunnel there is one set of headers, which fills both: it is counted as the inner one.
            which = tunnelled if level == "outer" else slice(None)
            _count_words(self.checksums[level], rows[f"{level}_checksum_class"][which], CHECKSUM_CLASSES)
            _count_words(self.checksums[f"{level}_ip"], rows[f"{level}_ip_checksum_class"][which], CHECKSUM_CLASSES)
        self.dns.add(batch, np.flatnonzero(_has(have, "dns")))

    def _add_sources(self, batch: Batch) -> None:
        rows, frames = batch.rows, batch.frames
        keys = rows["vantage"].astype(np.uint64) << np.uint64(48) | rows["linktype"].astype(np.uint64) << np.uint64(32) | rows["interface"]
        interfaces = names_of(frames, "interface")
        # Most batches come from one interface of one file.
        distinct = keys[:1] if (keys == keys[0]).all() else np.unique(keys)
        for key in distinct.tolist():
            vantage, linktype, interface = key >> 48, key >> 32 & 0xFFFF, key & 0xFFFFFFFF
            these = slice(None) if len(distinct) == 1 else keys == key
            ts, sizes = rows["ts"][these], rows["wirelen"][these]
            low, high = int(ts.min()), int(ts.max())
            self.first_ts = low if self.first_ts is None else min(self.first_ts, low)
            self.last_ts = high if self.last_ts is None else max(self.last_ts, high)
            source = (frames.vantages[vantage], interfaces[interface] if interface < len(interfaces) else None, linktype)
            if source not in self.sources and len(self.sources) >= MOST_KEYS:
                source = ("", "(more)", linktype)
            counts = self.sources.setdefault(source, [0, 0, low, high])
            counts[0] += len(ts)
            counts[1] += int(sizes.sum(dtype=np.int64))
            counts[2], counts[3] = min(counts[2], low), max(counts[3], high)

    def _add_groups(self, rows: Rows, sizes: npt.NDArray[np.uint32], have: npt.NDArray[np.uint64], tunnelled: Mask) -> None:
        def count(groups: Groups, which: Mask, *columns: str) -> None:
            if which.any():
                # One gather per column: a row has five hundred bytes, a table needs forty of them.
                at = np.flatnonzero(which)
                groups.add([rows[column][at] for column in columns], sizes[at])

        count(self._tunnels, tunnelled, "tunnel", "vni", *_ADDRESSES["outer"])
        count(self._esp, _has(have, "esp"), *_ADDRESSES["inner"], "esp_spi")
        count(self._control, rows["control"] != 0, "control", *_ADDRESSES["inner"])
        count(self._guessed, rows["guessed"] != 0, "tunnel", "outer_dport")
        count(self._vtep_checksums, tunnelled & (rows["outer_checksum_class"] != 0), *_ADDRESSES["outer"][:2], "outer_checksum_class")
        talking = np.flatnonzero(rows["inner_have"] & HEADER_HAVE["ip"] != 0)
        vni = np.where(rows["depth"][talking] != 0, rows["inner_vni"][talking].astype(np.uint64), np.uint64(_NO_VNI))
        self._talkers.add([vni, *(rows[column][talking] for column in _ADDRESSES["inner"])], sizes[talking])
        self._protocols.add([_protocol_keys(rows, have, tunnelled)], sizes)

    def _add_casts(self, rows: Rows, tunnelled: Mask) -> None:
        known = rows["inner_have"] & HEADER_HAVE["eth_dst"] != 0
        destination = rows["inner_eth_dst"]
        broadcast = known & (destination == _BROADCAST)
        multicast = known & (destination & _GROUP_BIT != 0) & ~broadcast
        unicast = known & (destination & _GROUP_BIT == 0)
        for name, which in (("unicast", unicast), ("multicast", multicast), ("broadcast", broadcast)):
            self.casts[name] += int(np.count_nonzero(which))
            self.casts_in_tunnels[name] += int(np.count_nonzero(which & tunnelled))

    def _add_arp(self, operations: npt.NDArray[np.uint16]) -> None:
        requests, replies = int(np.count_nonzero(operations == 1)), int(np.count_nonzero(operations == 2))
        self.arp["request"] += requests
        self.arp["reply"] += replies
        self.arp["other"] += len(operations) - requests - replies

    def _add_stops(self, rows: Rows) -> None:
        stopped = rows["stop"] != 0
        if stopped.any():
            packed = rows["stop"][stopped].astype(np.intp) << 8 | rows["stop_layer"][stopped]
            for key, count in enumerate(np.bincount(packed).tolist()):
                if count:
                    name = (STOPS[key >> 8], LAYERS[key & 0xFF])
                    self.stops[name] = self.stops.get(name, 0) + count

    # ---- reading ----

    @property
    def duration_ns(self) -> int:
        return 0 if self.first_ts is None or self.last_ts is None else self.last_ts - self.first_ts

    @property
    def approximate(self) -> list[str]:
        """The tables that met more different keys than they keep; their counts are right, but some keys are missing."""
        tables = {
            "tunnels": self._tunnels,
            "talkers": self._talkers,
            "esp": self._esp,
            "control": self._control,
            "guessed": self._guessed,
            "checksums by VTEP": self._vtep_checksums,
        }
        return [name for name, groups in tables.items() if groups.other_frames] + (["dns names"] if self.dns.other else [])

    def networks(self) -> list[dict[str, Any]]:
        """One entry for each tunnel kind and VNI, the largest first."""
        found: dict[tuple[int, int], dict[str, Any]] = {}
        vteps: dict[tuple[int, int], set[tuple[int, int]]] = {}
        for (kind, vni, *ends), frames, size in self._tunnels:
            entry = found.setdefault((kind, vni), {"tunnel": TUNNELS[kind], "vni": vni, "frames": 0, "bytes": 0})
            entry["frames"] += frames
            entry["bytes"] += size
            vteps.setdefault((kind, vni), set()).update({(ends[0], ends[1]), (ends[2], ends[3])})
        hosts: dict[int, set[tuple[int, int]]] = {}
        for (vni, *ends), _, _ in self._talkers:
            hosts.setdefault(vni, set()).add((ends[0], ends[1]))
        for (kind, vni), entry in found.items():
            entry["vteps"] = sum(not _is_group(ip_text(*vtep)) for vtep in vteps[kind, vni])
            entry["inner_hosts"] = len(hosts.get(vni, ()))
        return sorted(found.values(), key=lambda entry: (-entry["frames"], entry["vni"]))

    def vtep_pairs(self) -> list[Pair]:
        """Who sends tunnel frames to whom, all networks together; the largest first."""
        return _pairs((None, ends[2:], frames, size) for ends, frames, size in self._tunnels).get(None, [])

    def vtep_pairs_by_network(self) -> dict[tuple[str, int], list[Pair]]:
        """The same for each (tunnel kind, VNI)."""
        return _pairs(((TUNNELS[ends[0]], ends[1]), ends[2:], frames, size) for ends, frames, size in self._tunnels)

    def talkers(self) -> list[tuple[int | None, Pair]]:
        """(innermost VNI, or None outside of tunnels; pair of inner addresses), the largest first."""
        by_vni = _pairs((vni, ends, frames, size) for (vni, *ends), frames, size in self._talkers)
        found = [(None if vni == _NO_VNI else vni, pair) for vni, pairs in by_vni.items() for pair in pairs]
        return sorted(found, key=lambda entry: (-entry[1].frames, -entry[1].bytes, entry[1].a, entry[1].b))

    def protocols(self) -> list[dict[str, Any]]:
        """Innermost protocols, the largest first: frames, bytes, and how many of the frames came through tunnels."""
        found: dict[str, dict[str, Any]] = {}
        for (key,), frames, size in self._protocols:
            name, tunnelled = _protocol_name(key)
            entry = found.setdefault(name, {"protocol": name, "frames": 0, "bytes": 0, "in_tunnels": 0})
            entry["frames"] += frames
            entry["bytes"] += size
            entry["in_tunnels"] += frames if tunnelled else 0
        return sorted(found.values(), key=lambda entry: (-entry["frames"], entry["protocol"]))

    def esp(self) -> list[dict[str, Any]]:
        """Encrypted packets by direction and SPI (each direction of a security association has its own)."""
        found = [
            {"src": ip_text(*ends[:2]), "dst": ip_text(*ends[2:]), "spi": spi, "frames": frames, "bytes": size}
            for (*ends, spi), frames, size in self._esp
        ]
        return sorted(found, key=lambda entry: (-int(entry["frames"]), entry["src"], entry["dst"]))

    def control(self) -> list[tuple[str, Pair]]:
        """(management or gossip, pair of nodes), the largest first."""
        by_kind = _pairs((kind, ends, frames, size) for (kind, *ends), frames, size in self._control)
        found = [(CONTROL[kind], pair) for kind, pairs in by_kind.items() for pair in pairs]
        return sorted(found, key=lambda entry: (entry[0], -entry[1].frames, entry[1].a))

    def guessed(self) -> list[dict[str, Any]]:
        """UDP ports on which tunnels were recognised by their shape."""
        found = [{"tunnel": TUNNELS[kind], "port": port, "frames": frames, "bytes": size} for (kind, port), frames, size in self._guessed]
        return sorted(found, key=lambda entry: -int(entry["frames"]))

    def vtep_checksums(self) -> dict[str, dict[str, int]]:
        """Outer UDP checksum classes by sending VTEP."""
        found: dict[str, dict[str, int]] = {}
        for (high, low, klass), frames, _ in self._vtep_checksums:
            found.setdefault(ip_text(high, low), {})[CHECKSUM_CLASSES[klass]] = frames
        return dict(sorted(found.items()))

    def as_json(self, top: int = 100) -> dict[str, Any]:
        """Everything as plain JSON values; long tables are cut after `top` entries, and say how many there are."""

        def cut(entries: Sequence[Any]) -> dict[str, Any]:
            return {"total": len(entries), "entries": list(entries[:top])}

        return {
            "capture": {
                "frames": self.frames,
                "wire_bytes": self.wire_bytes,
                "captured_bytes": self.captured_bytes,
                "snapped_frames": self.snapped,
                "first_ts": self.first_ts,
                "last_ts": self.last_ts,
                "duration_ns": self.duration_ns,
            },
            "sources": [
                {"vantage": vantage, "interface": name, "linktype": linktype, "frames": frames, "bytes": size, "first_ts": first, "last_ts": last}
                for (vantage, name, linktype), (frames, size, first, last) in self.sources.items()
            ],
            "networks": cut(self.networks()),
            "vtep_pairs": cut([pair.as_json() for pair in self.vtep_pairs()]),
            "talkers": cut([{"vni": vni, **pair.as_json()} for vni, pair in self.talkers()]),
            "protocols": self.protocols(),
            "ethernet": {"all": self.casts, "in_tunnels": self.casts_in_tunnels},
            "arp": self.arp,
            "control": cut([{"control": kind, **pair.as_json()} for kind, pair in self.control()]),
            "esp": cut(self.esp()),
            "fragments": {**self.fragments, "reassembled": self.reassembled},
            "checksums": {**self.checksums, "outer_by_vtep": self.vtep_checksums()},
            "dns": self.dns.as_json(top),
            "stops": [{"stop": stop, "layer": layer, "frames": count} for (stop, layer), count in sorted(self.stops.items())],
            "guessed": self.guessed(),
            "approximate": self.approximate,
        }


# --------------------------------------------------------------------------------------------------------------------
# DNS
# --------------------------------------------------------------------------------------------------------------------


class _DnsCounts:
    """Queries, responses and the names they are about."""

    def __init__(self, most: int) -> None:
        self.queries = 0
        self.responses = 0
        self.rcodes = np.zeros(16, np.int64)
        self.other = 0  # messages about names that no longer found room
        self._most = most
        self._names: dict[bytes, list[int]] = {}  # first question as it stands in the message -> [queries, responses, responses with an error]

    def add(self, batch: Batch, at: npt.NDArray[np.intp]) -> None:
        if not len(at):
            return
        rows, frames = batch.rows, batch.frames
        flags = rows["dns_flags"][at]
        response = flags >> 15 != 0
        rcode = flags & 15
        self.responses += int(np.count_nonzero(response))
        self.queries += int(np.count_nonzero(~response))
        self.rcodes += np.bincount(rcode[response], minlength=16)
        starts = (frames.index["offset"][at] + rows["dns_offset"][at]).tolist()
        buffer, names = frames.buffer.data, self._names
        # Which of the three numbers of a name this message adds to: a query, a response, a response with an error (which is a response too).
        kinds = np.where(response, np.where(rcode != 0, 2, 1), 0).tolist()
        for start, size, kind in zip(starts, rows["dns_len"][at].tolist(), kinds, strict=True):
            question = _question(bytes(buffer[start : start + min(size, 12 + 255 + 2)]))
            if question is None:
                continue
            counts = names.get(question)
            if counts is None:
                if len(names) >= self._most:
                    self.other += 1
                    continue
                counts = names[question] = [0, 0, 0]
            counts[kind] += 1

    def names(self) -> list[dict[str, Any]]:
        """Names asked for, upper and lower case together, the most frequent first."""
        found: dict[tuple[str, str], dict[str, Any]] = {}
        for question, (queries, answered, failed) in self._names.items():
            asked = parse(b"\0\0\0\0\0\1\0\0\0\0\0\0" + question + b"\0\1").questions
            if not asked:
                continue
            key = (asked[0].name.lower(), asked[0].type)
            entry = found.setdefault(key, {"name": key[0], "type": key[1], "queries": 0, "responses": 0, "errors": 0})
            entry["queries"] += queries
            entry["responses"] += answered + failed
            entry["errors"] += failed
        return sorted(found.values(), key=lambda entry: (-max(entry["queries"], entry["responses"]), entry["name"], entry["type"]))

    def by_rcode(self) -> dict[str, int]:
        names = {code: name for name, code in RCODES.items()}
        return {names.get(code, f"RCODE{code}"): count for code, count in enumerate(self.rcodes.tolist()) if count}

    def as_json(self, top: int) -> dict[str, Any]:
        names = self.names()
        return {
            "queries": self.queries,
            "responses": self.responses,
            "rcodes": self.by_rcode(),
            "names": {"total": len(names), "entries": names[:top]},
        }


def _question(message: bytes) -> bytes | None:
    """Name and type of the first question as they stand in the message; None where there is none, or it is cut off or compressed."""
    if len(message) < 17 or message[4:6] == b"\0\0":
        return None
    at = 12
    while at < len(message) and (length := message[at]):
        if length > 63:  # RFC 1035 section 4.1.4: a pointer, which the first name of a message has no use for
            return None
        at += length + 1
    return message[12 : at + 3] if at + 3 <= len(message) else None


# --------------------------------------------------------------------------------------------------------------------
# Protocols: a name for each frame, as one number that can be counted
# --------------------------------------------------------------------------------------------------------------------

_ADDRESSES = {level: tuple(f"{level}_ip_{end}_{half}" for end in ("src", "dst") for half in ("hi", "lo")) for level in ("outer", "inner")}

_NO_IP = 1 << 8  # bits 0-7: IP protocol, or this bit and an EtherType above
_DNS_BIT = 1 << 10
_TUNNELLED = 1 << 11
_CONTROL_SHIFT = 12  # two bits
_NO_ETHERTYPE = 1 << 14
_ETHERTYPE_SHIFT = 16


def _protocol_keys(rows: Rows, have: npt.NDArray[np.uint64], tunnelled: Mask) -> npt.NDArray[np.uint64]:
    headers = rows["inner_have"]
    ip = headers & HEADER_HAVE["ip"] != 0
    typed = headers & HEADER_HAVE["ethertype"] != 0
    keys = np.where(ip, rows["inner_proto"].astype(np.uint64), np.uint64(_NO_IP))
    keys |= np.where(_has(have, "dns"), np.uint64(_DNS_BIT), np.uint64(0))
    keys |= np.where(tunnelled, np.uint64(_TUNNELLED), np.uint64(0))
    keys |= rows["control"].astype(np.uint64) << np.uint64(_CONTROL_SHIFT)
    without = np.where(typed, rows["inner_ethertype"].astype(np.uint64) << np.uint64(_ETHERTYPE_SHIFT), np.uint64(_NO_ETHERTYPE))
    keys |= np.where(ip, np.uint64(0), without)
    return np.asarray(keys)


_PROTOCOL_NAMES = {number: name.upper() if len(name) < 5 else name for name, number in IP_PROTOCOLS.items()} | {
    58: "ICMPv6",
    41: "IPv6 in IP",
    4: "IP in IP",
}
_ETHERTYPE_NAMES = {number: name.upper() for name, number in ETHERTYPES.items()} | {0x0800: "IPv4 (cut off)", 0x86DD: "IPv6 (cut off)"}


def _protocol_name(key: int) -> tuple[str, bool]:
    """What a key of _protocol_keys stands for, and whether it came through a tunnel."""
    tunnelled = bool(key & _TUNNELLED)
    if key & _NO_IP:
        if key & _NO_ETHERTYPE:
            return "no EtherType", tunnelled
        ethertype = key >> _ETHERTYPE_SHIFT
        return _ETHERTYPE_NAMES.get(ethertype, f"EtherType 0x{ethertype:04x}"), tunnelled
    proto = key & 0xFF
    name = _PROTOCOL_NAMES.get(proto, f"IP protocol {proto}")
    if key & _DNS_BIT:
        return f"DNS over {name}", tunnelled
    if control := key >> _CONTROL_SHIFT & 3:
        return f"swarm {CONTROL[control]} over {name}", tunnelled
    return name, tunnelled


# --------------------------------------------------------------------------------------------------------------------
# Small things
# --------------------------------------------------------------------------------------------------------------------


def _has(have: npt.NDArray[np.uint64], name: str) -> Mask:
    return np.asarray(have & np.uint64(HAVE[name]) != 0)


def _count_words(into: dict[str, int], values: npt.NDArray[np.uint8], words: Sequence[str]) -> None:
    for value, count in enumerate(np.bincount(values, minlength=1).tolist()):
        if count and words[value]:
            into[words[value]] = into.get(words[value], 0) + count


def _is_group(address: str) -> bool:
    """Multicast (RFC 1112, RFC 4291) or the limited broadcast address."""
    if ":" in address:
        return address.lower().startswith("ff")
    return address == "255.255.255.255" or 224 <= int(address.partition(".")[0]) <= 239


_Counted: TypeAlias = tuple[Any, Sequence[int], int, int]


def _pairs(counted: Iterable[_Counted]) -> dict[Any, list[Pair]]:
    """(group, source and destination as four numbers, frames, bytes) -> for each group the pairs, both directions together."""
    groups: dict[Any, dict[tuple[Sequence[int], Sequence[int]], list[int]]] = {}
    for group, ends, frames, size in counted:
        source, destination = tuple(ends[:2]), tuple(ends[2:])
        forward = source <= destination
        key = (source, destination) if forward else (destination, source)
        counts = groups.setdefault(group, {}).setdefault(key, [0, 0, 0, 0])
        counts[0 if forward else 2] += frames
        counts[1 if forward else 3] += size
    order: Callable[[Pair], Any] = lambda pair: (-pair.frames, -pair.bytes, pair.a, pair.b)  # noqa: E731
    return {
        group: sorted((Pair(ip_text(*a), ip_text(*b), (c[0], c[1]), (c[2], c[3])) for (a, b), c in pairs.items()), key=order)
        for group, pairs in groups.items()
    }
