"""Healthy captures, and faults put into them: what the tests of every family of checks start from.

    scene = healthy("swarm-phases/steady")
    scene = scene.edit(lambda p: p.set(vni=4099) if p.tunnelled and p.vni == 4097 else None, captures=["vm2"])
    scene = scene.expecting(lambda cluster: replace(cluster, nodes=...))
    assert failing(scene.judge()) == {"VX-VNI"}

Frames stay bytes; an edit goes to the place that the walk found, and lengths and checksums of an edited frame are filled in anew.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from ipaddress import IPv4Address
from pathlib import Path

import numpy as np

from vxtool.capture import open_capture
from vxtool.capture.frames import INDEX, Frames
from vxtool.decode.batch import Batch
from vxtool.decode.columns import HAVE, HEADER_HAVE
from vxtool.decode.walk import Options, walk
from vxtool.expect.load import load as load_expectation
from vxtool.model import Cluster, Moment, Timeline
from vxtool.verify import engine
from vxtool.verify.case import Case, Settings
from vxtool.verify.check import CHECKS, Check
from vxtool.verify.verdicts import Result, Severity, Verdict

CAPTURES = Path(__file__).parents[2] / "captures"
CHECKSUMS = Options(checksums=True, guess=True)

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16


@dataclass(frozen=True, slots=True)
class Shot:
    """One capture in memory."""

    name: str  # as evidence names it
    vantage: str | None
    frames: tuple[Frame, ...]


@dataclass(frozen=True, slots=True)
class Frame:
    ts: int  # nanoseconds since 1970
    data: bytes
    linktype: int = 1
    wirelen: int | None = None  # None: all of it was captured


class Packet:
    """A frame to look at and to change: inner addresses and ports (those of the frame itself outside a tunnel), outer addresses, VNI."""

    def __init__(self, frame: Frame, row: np.void, capture: str, number: int) -> None:
        self.frame = frame
        self.row = row
        self.capture = capture  # name of the shot
        self.number = number  # 1-based, before any edit
        self.data = bytearray(frame.data)
        self.ts = frame.ts
        self.changed = False

    # -- looking -----------------------------------------------------------------------------------------------------------

    def _has(self, side: str, bit: str) -> bool:
        return bool(int(self.row[f"{side}_have"]) & HEADER_HAVE[bit])

    @property
    def tunnelled(self) -> bool:
        return bool(self.row["tunnel"])

    @property
    def vni(self) -> int:
        return int(self.row["vni"]) if self.tunnelled else -1

    @property
    def tcp(self) -> bool:
        return bool(int(self.row["have"]) & HAVE["tcp"])

    @property
    def udp(self) -> bool:
        return self._has("inner", "udp")

    @property
    def src(self) -> str | None:
        return self._ip("inner", 12)

    @property
    def dst(self) -> str | None:
        return self._ip("inner", 16)

    @property
    def outer_src(self) -> str | None:
        return self._ip("outer", 12)

    @property
    def outer_dst(self) -> str | None:
        return self._ip("outer", 16)

    @property
    def sport(self) -> int:
        return int(self.row["inner_sport"])

    @property
    def dport(self) -> int:
        return int(self.row["inner_dport"])

    @property
    def flags(self) -> int:
        return int(self.row["tcp_flags"]) if self.tcp else 0

    @property
    def syn(self) -> bool:
        return self.flags & (SYN | ACK | RST) == SYN

    @property
    def syn_ack(self) -> bool:
        return self.flags & (SYN | ACK | RST) == SYN | ACK

    def _ip(self, side: str, at: int) -> str | None:
        if not self._has(side, "ipv4"):
            return None
        start = int(self.row[f"{side}_ip_offset"]) + at
        return str(IPv4Address(bytes(self.data[start : start + 4])))

    # -- changing ----------------------------------------------------------------------------------------------------------

    def set(self, **values: str | int | bytes) -> None:
        """src, dst, sport, dport, flags, seq, ack, ttl, eth_src, eth_dst: of the inner headers; the same with outer_ before; vni; vxlan_flags."""
        for name, value in values.items():
            side, plain = ("outer", name.removeprefix("outer_")) if name.startswith("outer_") else ("inner", name)
            start, form = self._place(side, plain)
            if isinstance(value, str):
                value = bytes.fromhex(value.replace(":", "")) if ":" in value else IPv4Address(value).packed
            if isinstance(value, int):
                value = struct.pack(form, value)[-3:] if plain == "vni" else struct.pack(form, value)
            self.data[start : start + len(value)] = value
        self.changed = True

    def _place(self, side: str, name: str) -> tuple[int, str]:
        tunnel = int(self.row["tunnel_offset"])
        if name == "vni":
            return tunnel + 4, ">I"
        if name == "vxlan_flags":
            return tunnel, ">B"
        base = {"eth": "eth_offset", "ip": "ip_offset", "l4": "l4_offset"}
        part, at, form = {
            "eth_dst": ("eth", 0, ""),
            "eth_src": ("eth", 6, ""),
            "ttl": ("ip", 8, ">B"),
            "src": ("ip", 12, ""),
            "dst": ("ip", 16, ""),
            "sport": ("l4", 0, ">H"),
            "dport": ("l4", 2, ">H"),
            "seq": ("l4", 4, ">I"),
            "ack": ("l4", 8, ">I"),
            "flags": ("l4", 13, ">B"),
        }[name]
        return int(self.row[f"{side}_{base[part]}"]) + at, form

    def result(self) -> Frame:
        if not self.changed:
            return self.frame if self.ts == self.frame.ts else replace(self.frame, ts=self.ts)
        whole = self.frame.wirelen is None or self.frame.wirelen <= len(self.data)
        if self._has("inner", "ipv4"):
            self._finish("inner", whole)
        if self.tunnelled and self._has("outer", "ipv4"):
            self._finish("outer", whole)
        return replace(self.frame, ts=self.ts, data=bytes(self.data))

    def _finish(self, side: str, whole: bool) -> None:
        """Fill in the checksums of one set of headers, innermost first."""
        data, ip = self.data, int(self.row[f"{side}_ip_offset"])
        header = (data[ip] & 15) * 4
        data[ip + 10 : ip + 12] = b"\0\0"
        data[ip + 10 : ip + 12] = struct.pack(">H", checksum(bytes(data[ip : ip + header])))
        udp = self._has(side, "udp")
        if not whole or int(self.row[f"{side}_frag"]) or not (udp or (side == "inner" and self.tcp)):
            return
        start, total = ip + header, struct.unpack_from(">H", data, ip + 2)[0]
        end = ip + total
        at = start + (6 if udp else 16)
        if udp and data[at : at + 2] == b"\0\0":
            return
        data[at : at + 2] = b"\0\0"
        pseudo = bytes(data[ip + 12 : ip + 20]) + struct.pack(">BBH", 0, data[ip + 9], end - start)
        data[at : at + 2] = struct.pack(">H", checksum(pseudo + bytes(data[start:end])) or (0xFFFF if udp else 0))


def checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data[: len(data) & ~1])) + (data[-1] << 8 if len(data) & 1 else 0)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


Edit = Callable[[Packet], "bool | None"]


@dataclass(frozen=True)
class Scene:
    """Captures and what the cluster should be."""

    shots: tuple[Shot, ...]
    timeline: Timeline
    settings: Settings = field(default_factory=Settings)

    def edit(self, function: Edit, captures: Sequence[str] | None = None) -> Scene:
        """Every frame as `function` leaves it: it may change the packet (`set`, `ts`) and drops it by returning False."""
        shots = tuple(_edited(shot, function) if captures is None or shot.name in captures else shot for shot in self.shots)
        return replace(self, shots=shots)

    def with_frames(self, capture: str, frames: Iterable[Frame]) -> Scene:
        """The same with more frames in one capture, in the order of their times."""
        more = list(frames)
        shots = (
            replace(shot, frames=tuple(sorted((*shot.frames, *more), key=lambda frame: frame.ts))) if shot.name == capture else shot
            for shot in self.shots
        )
        return replace(self, shots=tuple(shots))

    def only(self, *captures: str) -> Scene:
        return replace(self, shots=tuple(shot for shot in self.shots if shot.name in captures))

    def unnamed(self) -> Scene:
        """Nobody said where the captures were taken."""
        return replace(self, shots=tuple(replace(shot, vantage=None) for shot in self.shots))

    def expecting(self, function: Callable[[Cluster], Cluster]) -> Scene:
        """Every cluster of the timeline changed."""
        moments = tuple(replace(moment, cluster=function(moment.cluster)) for moment in self.timeline.moments)
        return replace(self, timeline=replace(self.timeline, moments=moments))

    def then(self, function: Callable[[Cluster], Cluster], at_ns: int) -> Scene:
        """One more moment: the last cluster changed, from a time on."""
        moment = Moment(function(self.timeline.clusters[-1]), at_ns)
        return replace(self, timeline=replace(self.timeline, moments=(*self.timeline.moments, moment)))

    def packets(self, capture: str | None = None) -> Iterator[Packet]:
        for shot in self.shots:
            if capture in (None, shot.name):
                yield from _packets(shot)

    def case(self, checks: Sequence[Check] | None = None) -> Case:
        checks = engine.chosen(self.settings.profile) if checks is None else checks
        return engine.build([(shot.name, shot.vantage, _batches(shot)) for shot in self.shots], self.timeline, self.settings, checks)

    def judge(self, *ids: str) -> tuple[Verdict, ...]:
        """The verdicts of the checks named, or of all."""
        checks = engine.chosen(self.settings.profile, ids)
        return engine.judge(self.case(checks), checks)


def healthy(folder: str, captures: Sequence[str] = ("vm1", "vm2", "vm3"), expect: Sequence[str] | None = None) -> Scene:
    """A folder of captures/ ("swarm-steady", "swarm-phases/scaled", ...): its captures by name, and its expectation (or those of other paths)."""
    shots = tuple(_shot(folder, name) for name in captures if (CAPTURES / folder / f"{name}.pcap").exists())
    return Scene(shots, _expectation(tuple(expect) if expect is not None else (str(CAPTURES / folder),)))


def phases(captures: Sequence[str] = ("vm1", "vm2", "vm3")) -> Scene:
    """The three phases of swarm-phases as one run, each with its own snapshot from its beginning on."""
    folder = CAPTURES / "swarm-phases"
    names = ("steady", "scaled", "drained")
    times = (folder / "times.txt").read_text().split()
    shots = tuple(replace(shot, name=f"{phase}/{shot.name}") for phase in names for shot in healthy(f"swarm-phases/{phase}", captures, ()).shots)
    return Scene(shots, _expectation(tuple(f"{folder / phase}@{time}" for phase, time in zip(names, times, strict=True))))


@lru_cache(maxsize=32)
def _expectation(specs: tuple[str, ...]) -> Timeline:
    return load_expectation(list(specs)) if specs else Timeline.of(Cluster())


@lru_cache(maxsize=64)
def _shot(folder: str, name: str) -> Shot:
    frames: list[Frame] = []
    with open_capture(str(CAPTURES / folder / f"{name}.pcap")) as capture:
        for batch in capture:
            for position, entry in enumerate(batch.index):
                frames.append(Frame(int(entry["ts"]), batch.bytes_of(position), int(entry["linktype"]), int(entry["wirelen"])))
    return Shot(name, name, tuple(frames))


def _batches(shot: Shot) -> Iterator[Batch]:
    frames = _frames(shot)
    if len(frames):
        yield Batch(frames, walk(frames, CHECKSUMS))


def _frames(shot: Shot) -> Frames:
    index = np.zeros(len(shot.frames), INDEX)
    sizes = np.array([len(frame.data) for frame in shot.frames], np.int64)
    index["frame"] = np.arange(1, len(shot.frames) + 1)
    index["ts"] = [frame.ts for frame in shot.frames]
    index["caplen"] = sizes
    index["offset"] = np.cumsum(sizes) - sizes
    index["wirelen"] = [len(frame.data) if frame.wirelen is None else max(frame.wirelen, len(frame.data)) for frame in shot.frames]
    index["linktype"] = [frame.linktype for frame in shot.frames]
    return Frames(np.frombuffer(b"".join(frame.data for frame in shot.frames), np.uint8), index)


def _packets(shot: Shot) -> Iterator[Packet]:
    for batch in _batches(shot):
        for number, (frame, row) in enumerate(zip(shot.frames, batch.rows, strict=True), 1):
            yield Packet(frame, row, shot.name, number)


def _edited(shot: Shot, function: Edit) -> Shot:
    kept = [packet.result() for packet in _packets(shot) if function(packet) is not False]
    kept.sort(key=lambda frame: frame.ts)
    return replace(shot, frames=tuple(kept))


def failing(verdicts: Iterable[Verdict], *severities: Severity) -> set[str]:
    """Ids of the checks that fail (with a severity; without one named: error or warning)."""
    wanted = severities or (Severity.ERROR, Severity.WARNING)
    return {verdict.check for verdict in verdicts if verdict.result is Result.FAIL and verdict.severity in wanted}


def failures(verdicts: Iterable[Verdict], check: str | None = None) -> list[Verdict]:
    return [verdict for verdict in verdicts if verdict.result is Result.FAIL and check in (None, verdict.check)]


def results(verdicts: Iterable[Verdict]) -> Mapping[str, set[Result]]:
    """Check id -> the results it gave."""
    out: dict[str, set[Result]] = {}
    for verdict in verdicts:
        out.setdefault(verdict.check, set()).add(verdict.result)
    return out


def of_family(family: str) -> tuple[str, ...]:
    """Ids of a family's checks."""
    return tuple(one.id for one in CHECKS.values() if one.family == family)


def seconds(count: float) -> int:
    """In nanoseconds."""
    return int(count * 1_000_000_000)
