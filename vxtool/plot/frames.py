"""Frames as the pictures need them, from a Case or from a DataFrame.

The one place that knows both; refuses to draw.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vxtool.decode.columns import CHECKSUM_CLASSES, HEADER_HAVE, TUNNELS
from vxtool.plot.style import COLORS
from vxtool.verify.case import Case
from vxtool.verify.choices import spans

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["CONTROL", "ESP", "OTHER_VNIS", "OUTSIDE", "Frames", "colors_of", "frames_of", "network_names", "places"]

CONTROL = "swarm control"
ESP = "encrypted (ESP)"
OTHER_VNIS = "other VNIs"
OUTSIDE = "no tunnel"
_BESIDES = (OTHER_VNIS, ESP, CONTROL, OUTSIDE)
_SHADES = {OTHER_VNIS: "#7f7f7f", ESP: "#B9A40C", CONTROL: "#a8a8a8", OUTSIDE: "#cfcfcf"}


@dataclass(frozen=True)
class Frames:
    """Columns of one length, a frame each, and the words that their numbers stand for."""

    places: tuple[str, ...]  # where it was captured
    place: npt.NDArray[np.intp]
    ts: npt.NDArray[np.int64]  # nanoseconds since 1970
    kinds: tuple[str, ...]  # networks by their frames, the busiest first; then ESP, control, other
    kind: npt.NDArray[np.intp]
    inner_size: npt.NDArray[np.int64]  # bytes of the inner IP packet, as its header says; -1 without one
    tunnelled: npt.NDArray[np.bool_]
    sender: npt.NDArray[np.bool_]  # sent by the node of its capture; false: came from afar, or the node is not known
    placed: npt.NDArray[np.bool_]  # the node of its capture is known
    outer_class: npt.NDArray[np.intp]  # in columns.CHECKSUM_CLASSES
    inner_class: npt.NDArray[np.intp]


def colors_of(kinds: tuple[str, ...]) -> dict[str, str]:
    """A colour for each kind; the same kind has the same colour in every picture of the same frames."""
    networks = [kind for kind in kinds if kind not in _SHADES]
    return {**{kind: COLORS[i % len(COLORS)] for i, kind in enumerate(networks)}, **_SHADES}


def frames_of(source: Case | DataFrame, most: int = 4) -> Frames:
    """Frames of a Case, or of a DataFrame of vxtool.decode. most: networks told apart, the busiest."""
    return _of_case(source, most) if isinstance(source, Case) else _of_table(source, most)


def network_names(case: Case) -> dict[int, str]:
    """VNI -> what it is called in pictures."""
    return {vni: f"{network.name} (VNI {vni})" for cluster in case.clusters for vni, network in cluster.network_by_vni.items()}


def places(case: Case) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Where the captures were taken, in words shorter than their paths, and for each capture the position of its place.

    Captures of one place that follow each other share it; those that ran at the same time are numbered.
    """
    running = spans(case)
    words: list[str] = []
    taken: list[list[tuple[int, int]]] = []
    of_capture = []
    for position, (capture, vantage) in enumerate(zip(case.table.captures, case.vantages, strict=True)):
        inside = vantage.endpoint.name.rsplit(".", 1)[0] if vantage.kind == "endpoint" and vantage.endpoint else None
        name = inside or (vantage.node if vantage.kind == "node" else None) or capture.name.rsplit("/", 1)[-1]
        span = running.get(position)
        number = 1
        while True:
            word = name if number == 1 else f"{name} ({number})"
            if word not in words:
                words.append(word)
                taken.append([])
            place = words.index(word)
            if span is None or all(span[1] < first or last < span[0] for first, last in taken[place]):
                break
            number += 1
        taken[place] += [span] if span is not None else []
        of_capture.append(place)
    return tuple(words), tuple(of_capture)


def _of_case(case: Case, most: int) -> Frames:
    table = case.table
    rows = len(table)
    tunnelled = np.asarray(table["tunnel"] != 0)
    kinds, kind = _kinds(np.where(tunnelled, table["vni"].astype(np.int64), -1), table.have("esp"), table["control"] != 0, network_names(case), most)
    has_size = "inner_ip_len" in table.columns
    ip = (table["inner_have"] & HEADER_HAVE["ip"]) != 0
    sender, placed = np.zeros(rows, np.bool_), np.zeros(rows, np.bool_)
    for position, vantage in enumerate(case.vantages):
        if vantage.vtep is not None:
            high, low = case.stored(vantage.vtep)
            mine = table["capture"] == position
            placed |= mine
            sender |= mine & (table["outer_ip_src_hi"] == high) & (table["outer_ip_src_lo"] == low)
    words, of_capture = places(case)
    return Frames(
        places=words,
        place=np.array(of_capture, np.intp)[table["capture"].astype(np.intp)],
        ts=table["ts"],
        kinds=kinds,
        kind=kind,
        inner_size=np.where(ip, table["inner_ip_len"].astype(np.int64), -1) if has_size else np.full(rows, -1),
        tunnelled=tunnelled,
        sender=sender,
        placed=placed,
        outer_class=_classes(case, "outer_checksum_class"),
        inner_class=_classes(case, "inner_checksum_class"),
    )


def _classes(case: Case, name: str) -> npt.NDArray[np.intp]:
    return case.table[name].astype(np.intp) if name in case.table.columns else np.zeros(len(case.table), np.intp)


def _of_table(frames: DataFrame, most: int) -> Frames:
    def numbers(name: str) -> npt.NDArray[np.int64]:
        return frames[name].to_numpy(dtype="int64", na_value=-1)

    def positions(name: str, words: tuple[str, ...]) -> npt.NDArray[np.intp]:
        place = {word: i for i, word in enumerate(words)}
        return np.array([place.get(word, 0) for word in frames[name]], np.intp)

    names = tuple(str(name) for name in dict.fromkeys(frames["vantage"].dropna()))
    tunnelled = positions("tunnel", TUNNELS) != 0
    kinds, kind = _kinds(
        np.where(tunnelled, numbers("vni"), -1), frames["esp_spi"].notna().to_numpy(), frames["control"].notna().to_numpy(), {}, most
    )
    nobody = np.zeros(len(frames), np.bool_)
    return Frames(
        places=names or ("capture",),
        place=positions("vantage", names),
        ts=np.asarray(frames["ts"].astype("int64"), np.int64),
        kinds=kinds,
        kind=kind,
        inner_size=numbers("inner_ip_len"),
        tunnelled=tunnelled,
        sender=nobody,
        placed=nobody,
        outer_class=positions("outer_checksum_class", CHECKSUM_CLASSES),
        inner_class=positions("inner_checksum_class", CHECKSUM_CLASSES),
    )


def _kinds(
    vni: npt.NDArray[np.int64], esp: npt.NDArray[np.bool_], control: npt.NDArray[np.bool_], names: dict[int, str], most: int
) -> tuple[tuple[str, ...], npt.NDArray[np.intp]]:
    """What each frame belongs to."""
    present, counts = np.unique(vni[vni >= 0], return_counts=True)
    busiest = [int(present[i]) for i in np.argsort(-counts, kind="stable")[:most]]
    kinds = (*(names.get(one, f"VNI {one}") for one in busiest), *_BESIDES)
    base = len(busiest)
    kind = np.full(len(vni), base + _BESIDES.index(OUTSIDE), np.intp)
    kind[control] = base + _BESIDES.index(CONTROL)
    kind[esp] = base + _BESIDES.index(ESP)
    kind[vni >= 0] = base + _BESIDES.index(OTHER_VNIS)
    for position, one in enumerate(busiest):
        kind[vni == one] = position
    return kinds, kind
