"""Each entry of the table of differences is shown by a frame of its own: the two do differ there, and the entry is what explains it."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import pytest
from scapy.layers.dns import DNS
from scapy.layers.l2 import Ether
from scapy.layers.vxlan import VXLAN

from tests.decode.frames import Made, differences
from tests.witness import tshark
from tests.witness.differences import TABLE, Case, Clock, Difference
from tests.witness.test_captures import EVERYTHING, beside_dpkt, beside_tshark, frames_of
from vxtool.decode import reference


def capture_of(example: Made | Clock | bytes, folder: Path) -> Path:
    """A file that holds the example."""
    path = folder / "example.pcap"
    if isinstance(example, bytes):
        path.write_bytes(example)
        return path
    made, seconds, fraction = (Made(b"\0" * 14), *example) if isinstance(example, Clock) else (example, 1, 0)
    header = struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, made.linktype)
    record = struct.pack("<IIII", seconds, fraction, len(made.data), len(made.data) if made.wirelen is None else made.wirelen)
    path.write_bytes(header + record + made.data)
    return path


def scapy_alone(data: bytes) -> dict[str, object]:
    """What scapy says when it also chooses the headers."""
    packet = Ether(data)
    tunnels = [layer for layer in packet.iterpayloads() if isinstance(layer, VXLAN)]
    message = packet.getlayer(DNS)
    return {
        "depth": len(tunnels),
        "vni": tunnels[0].vni if tunnels else None,
        "inner_eth_src": ([packet, *(tunnel.payload for tunnel in tunnels)][-1]).fields.get("src"),
        "dns_id": message.id if message else None,
        "dns_qname": message.qd[0].qname.decode().rstrip(".") if message and message.qd else None,
    }


def cases(difference: Difference, path: Path) -> list[Case]:
    """Everything that the witness sees differently in the example."""
    *_, frame = frames_of(path)  # the frames before it are what the witness remembers
    seen: Mapping[str, object]
    protocols: tuple[str, ...] = ()
    if difference.witness == "tshark":
        said = tshark.said_of(path) or []
        frame, seen = beside_tshark(frame, said[-1])
        protocols = said[-1].protocols
    elif difference.witness == "dpkt":
        seen = beside_dpkt(frame)
    else:
        seen = scapy_alone(frame.data)
    different = differences(frame.row, dict(seen))
    return [Case(column, mine, other, frame.row, frame.data, protocols) for column, (mine, other) in different.items()]


@pytest.mark.parametrize("difference", TABLE, ids=lambda difference: difference.id)
def test_the_difference_is_there_and_the_entry_explains_it(difference: Difference, tmp_path: Path) -> None:
    if difference.witness == "tshark" and not tshark.available():
        pytest.skip("tshark is not installed")
    found = cases(difference, capture_of(difference.example, tmp_path))
    assert [case for case in found if difference.explains(case)], f"nothing to explain: {[case[:3] for case in found]}"


@pytest.mark.parametrize("difference", [entry for entry in TABLE if isinstance(entry.example, Made)], ids=lambda difference: difference.id)
def test_where_a_witness_differs_the_walk_and_the_reference_agree(difference: Difference, tmp_path: Path) -> None:
    (frame,) = frames_of(capture_of(difference.example, tmp_path))
    assert not differences(frame.row, reference.read(frame.data, frame.linktype, EVERYTHING, wirelen=frame.wirelen))


def test_every_entry_has_an_id_of_its_own() -> None:
    assert len({difference.id for difference in TABLE}) == len(TABLE)
