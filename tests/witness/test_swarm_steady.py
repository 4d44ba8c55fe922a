"""A healthy swarm of three nodes, counted twice: what vxtool says of its captures, and what tshark counts in them with filters of its own."""

from __future__ import annotations

import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.witness import tshark
from tests.witness.conftest import REPOSITORY
from tests.witness.test_captures import Frame, frames_of

CAPTURES = sorted((REPOSITORY / "captures" / "swarm-steady").glob("*.pcap"))

pytestmark = pytest.mark.skipif(not tshark.available(), reason="tshark is not installed")


def counted(path: Path, display: str, *fields: str) -> Counter[tuple[str, ...]]:
    """How often tshark sees each combination of values in the frames that its display filter lets through: the first and the last of each field."""
    command = ["tshark", "-n", "-r", str(path), "-Y", display, "-T", "fields", "-E", "occurrence=a"]
    command += [word for option in tshark.OPTIONS for word in ("-o", option)] + [word for field in fields for word in ("-e", field)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return Counter(tuple(word for text in line.split("\t") for word in _ends(text)) for line in done.stdout.splitlines())


def _ends(text: str) -> tuple[str, str]:
    words = text.split(",")
    return words[0], words[-1]


@pytest.fixture(scope="module", params=CAPTURES, ids=lambda path: path.name)
def path(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


@pytest.fixture(scope="module")
def frames(path: Path) -> list[Frame]:
    return list(frames_of(path))


def test_vxlan_frames_per_vni(path: Path, frames: list[Frame]) -> None:
    mine = Counter((str(frame.row["vni"]),) * 2 for frame in frames if frame.row["tunnel"] == "vxlan")
    assert mine == counted(path, "vxlan && !(icmp.type == 3)", "vxlan.vni")


def test_vtep_pairs(path: Path, frames: list[Frame]) -> None:
    mine = Counter((frame.row["outer_ip_src"], frame.row["outer_ip_dst"]) for frame in frames if frame.row["tunnel"] == "vxlan")
    theirs: Counter[tuple[object, object]] = Counter()
    for (source, _, destination, _), count in counted(path, "vxlan", "ip.src", "ip.dst").items():
        theirs[source, destination] += count
    assert mine == theirs


def test_connection_attempts_per_backend(path: Path, frames: list[Frame]) -> None:
    """SYNs without ACK, by where they go inside: what round-robin over backends is judged by."""
    mine: Counter[tuple[object, str]] = Counter()
    for frame in frames:
        flags = frame.row["inner_tcp_flags"]
        if isinstance(flags, int) and flags & 0x12 == 0x02:
            mine[frame.row["inner_ip_dst"], str(frame.row["inner_dport"])] += 1
    theirs: Counter[tuple[object, str]] = Counter()
    for (_, destination, _, port), count in counted(path, "tcp.flags.syn == 1 && tcp.flags.ack == 0 && !icmp", "ip.dst", "tcp.dstport").items():
        theirs[destination, port] += count
    assert mine == theirs
    assert mine
