"""The mutation suite: a healthy capture or its expectation, changed the way a fault would change it; exactly the intended checks fail, at the right nodes.

`python -m tests.verify.test_faults` writes the table of faults and checks into docs/faults.md; a test holds the file against the suite.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from vxtool.model import Cluster
from vxtool.verify.case import Settings
from vxtool.verify.check import CHECKS
from vxtool.verify.verdicts import Result, Severity

from .build import Frame, Packet, Scene, failing, healthy, phases

DOCUMENT = Path(__file__).parents[2] / "docs" / "faults.md"

VM = {"vm1": "192.168.68.109", "vm2": "192.168.68.110", "vm3": "192.168.68.111"}
WEB5, WEB2 = "10.0.0.9", "10.0.0.6"  # backends on vm1 (ingress)
WEB1 = "10.0.0.11"  # a backend on vm3
LB3 = "10.0.0.4"  # load balancer of vm3
VIP = "10.0.0.5"


@dataclass(frozen=True, slots=True)
class Fault:
    """What is changed, which checks must fail for it and which others may not, and where."""

    name: str
    told: str
    change: Callable[[Scene], Scene]
    checks: frozenset[str]
    nodes: frozenset[str]  # each must be named by a failing check
    folder: str = "swarm-phases/steady"
    captures: tuple[str, ...] = ("vm1", "vm2", "vm3")


FAULTS: list[Fault] = []


def fault(told: str, *checks: str, at: str = "", folder: str = "swarm-phases/steady", captures: tuple[str, ...] = ("vm1", "vm2", "vm3")) -> Callable[
    [Callable[[Scene], Scene]], Callable[[Scene], Scene]
]:
    def enter(change: Callable[[Scene], Scene]) -> Callable[[Scene], Scene]:
        nodes = frozenset(f"sathish-{name}" if name.startswith("vm") else name for name in at.split())
        FAULTS.append(Fault(change.__name__, told, change, frozenset(checks), nodes, folder, captures))
        return change

    return enter


def from_node(packet: Packet, name: str) -> bool:
    return packet.tunnelled and packet.outer_src == VM[name]


def each(scene: Scene, when: Callable[[Packet], bool], **values: str | int) -> Scene:
    """The values set in every packet that `when` chooses."""
    return scene.edit(lambda packet: packet.set(**values) if when(packet) else None)


def without(scene: Scene, when: Callable[[Packet], bool]) -> Scene:
    return scene.edit(lambda packet: False if when(packet) else None)


def bytes_of(scene: Scene, when: Callable[[Packet], bool], change: Callable[[Packet], bytes]) -> Scene:
    """Bytes changed as they are, nothing filled in."""

    def shot_of(name: str) -> tuple[Frame, ...]:
        return tuple(replace(p.frame, data=change(p), wirelen=None) if when(p) else p.frame for p in scene.packets(name))

    return replace(scene, shots=tuple(replace(shot, frames=shot_of(shot.name)) for shot in scene.shots))


def with_length(packet: Packet, inner: bytes) -> bytes:
    """The packet's outer headers around another inner frame, lengths right, no UDP checksum."""
    start = int(packet.row["tunnel_offset"]) + 8
    ip, udp = int(packet.row["outer_ip_offset"]), int(packet.row["outer_l4_offset"])
    data = bytearray(packet.data[:start] + inner)
    struct.pack_into(">H", data, ip + 2, len(data) - ip)
    struct.pack_into(">HH", data, udp + 4, len(data) - udp, 0)
    data[ip + 10 : ip + 12] = b"\0\0"
    total = sum(struct.unpack(">10H", data[ip : ip + 20]))
    total = (total & 0xFFFF) + (total >> 16)
    struct.pack_into(">H", data, ip + 10, ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF)
    return bytes(data)


# -- encapsulation -------------------------------------------------------------------------------------------------------------


@fault("the I flag is not set by one node", "VX-FLAG", at="vm1")
def no_i_flag(scene: Scene) -> Scene:
    return each(scene, lambda p: from_node(p, "vm1"), vxlan_flags=0)


@fault("one node sets a reserved flag", "VX-RESERVED", at="vm2")
def reserved_flag(scene: Scene) -> Scene:
    return each(scene, lambda p: from_node(p, "vm2"), vxlan_flags=0x48)


@fault("one node uses another UDP port", "VX-PORT", at="vm2")
def wrong_port(scene: Scene) -> Scene:
    return each(scene, lambda p: from_node(p, "vm2"), outer_dport=8472)


@fault("one node takes a new source port for each packet", "VX-ENTROPY", at="vm1")
def restless_ports(scene: Scene) -> Scene:
    return scene.edit(lambda p: p.set(outer_sport=40000 + int(p.row["outer_ip_id"]) % 20000) if from_node(p, "vm1") else None)


@fault("one node sends everything from one source port", "VX-ENTROPY", at="vm1")
def one_port(scene: Scene) -> Scene:
    return each(scene, lambda p: from_node(p, "vm1"), outer_sport=40000)


@fault("one node's card writes wrong outer checksums", "VX-CHECKSUM", at="vm3")
def bad_checksum(scene: Scene) -> Scene:
    def spoil(packet: Packet) -> bytes:
        udp = int(packet.row["outer_l4_offset"])
        return bytes(packet.data[: udp + 6]) + b"\x12\x34" + bytes(packet.data[udp + 8 :])

    return bytes_of(scene, lambda p: from_node(p, "vm3"), spoil)


@fault("an unfinished checksum crosses a physical underlay", "VX-CHECKSUM", at="vm1 vm2 vm3")
def unfinished_checksum(scene: Scene) -> Scene:
    return replace(scene, settings=Settings(physical=True))


@fault("one node's inner checksums are wrong", "VX-INNER-CHECKSUM", at="vm2")
def bad_inner_checksum(scene: Scene) -> Scene:
    def spoil(packet: Packet) -> bytes:
        at = int(packet.row["inner_l4_offset"]) + 16
        return with_length(packet, bytes(packet.data[50:at]) + b"\x12\x34" + bytes(packet.data[at + 2 :]))

    return bytes_of(scene, lambda p: from_node(p, "vm2") and p.tcp, spoil)


@fault("one node cuts its datagrams into fragments", "VX-FRAGMENT", at="vm1")
def fragments(scene: Scene) -> Scene:
    def piece(packet: Packet) -> bytes:
        data = bytearray(packet.data)
        data[20:22] = b"\x20\x00"
        return bytes(data)

    return bytes_of(scene, lambda p: from_node(p, "vm1") and p.tcp and len(p.data) > 200, piece)


@fault("large packets between two nodes are never answered", "VX-MTU", "VX-LOSS", at="vm1 vm2")
def black_hole(scene: Scene) -> Scene:
    # Of the large echo requests only those of vm1 toward vm2 leave a trace: at vm1.
    def large(packet: Packet) -> bool:
        pair = {packet.outer_src, packet.outer_dst} == {VM["vm1"], VM["vm2"]}
        return packet.tunnelled and pair and not packet.tcp and int(packet.row["inner_ip_len"]) > 1000

    return without(scene, lambda p: large(p) and (p.capture == "vm2" or p.outer_src == VM["vm2"]))


@fault("a device rewrites the outer UDP length", "VX-LENGTH", at="vm2")
def wrong_length(scene: Scene) -> Scene:
    def shorten(packet: Packet) -> bytes:
        udp = int(packet.row["outer_l4_offset"])
        data = bytearray(packet.data)
        struct.pack_into(">HH", data, udp + 4, int(packet.row["outer_udp_len"]) - 2, 0)
        return bytes(data)

    return bytes_of(scene, lambda p: from_node(p, "vm2") and p.tcp and not p.syn and not p.syn_ack and int(p.row["payload_len"]) > 50, shorten)


@fault("one node encapsulates the frame check sequence", "VX-LENGTH", at="vm3")
def captured_fcs(scene: Scene) -> Scene:
    return bytes_of(scene, lambda p: from_node(p, "vm3"), lambda p: with_length(p, bytes(p.data[50:]) + b"\xde\xad\xbe\xef"))


@fault("one node sends inner VLAN tags", "VX-VLAN", at="vm1")
def inner_vlan(scene: Scene) -> Scene:
    return bytes_of(scene, lambda p: from_node(p, "vm1"), lambda p: with_length(p, bytes(p.data[50:62]) + b"\x81\x00\x00\x05" + bytes(p.data[62:])))


@fault("one node sends a tunnel inside the tunnel", "VX-NESTING", at="vm2")
def nested(scene: Scene) -> Scene:
    return bytes_of(
        scene,
        lambda p: from_node(p, "vm2") and p.frame.data[50:] != b"" and p.tcp and not (p.syn or p.syn_ack) and int(p.row["payload_len"]) == 0,
        lambda p: with_length(p, bytes(p.data)),
    )


# -- segments ------------------------------------------------------------------------------------------------------------------


@fault("one node numbers a network differently", "VX-VNI", at="vm2")
def wrong_vni(scene: Scene) -> Scene:
    return each(scene, lambda p: from_node(p, "vm2") and p.vni == 4096, vni=4999)


@fault("one node sends from an address that is not its advertised one", "VX-VTEP", at="vm3")
def other_source(scene: Scene) -> Scene:
    return each(scene, lambda p: from_node(p, "vm3"), outer_src="192.168.68.211")


@fault("one node forwards an endpoint to an address that is no node", "VX-VTEP", at="vm2")
def no_such_node(scene: Scene) -> Scene:
    return each(scene, lambda p: from_node(p, "vm2") and p.dst == WEB1, outer_dst="192.168.68.250")


@fault("two nodes use one inner address", "VX-DUPLICATE", at="vm2 vm3")
def duplicate(scene: Scene) -> Scene:
    copies = []
    for packet in scene.packets("vm2"):
        if packet.tunnelled and packet.src == WEB1 and packet.syn_ack:
            packet.set(outer_src=VM["vm2"], outer_dst=VM["vm1"])
            copies.append(replace(packet.result(), ts=packet.ts + 5))
    return scene.with_frames("vm2", copies)


@fault("an endpoint is heard from another node than the one it lives on", "VX-SOURCE", at="vm2 vm3")
def wrong_source(scene: Scene) -> Scene:
    return each(scene, lambda p: p.tunnelled and p.src == WEB1 and p.outer_dst == VM["vm1"], outer_src=VM["vm2"])


@fault("one node's forwarding entry for an endpoint is stale", "VX-FDB", at="vm1")
def stale_fdb(scene: Scene) -> Scene:
    return each(scene, lambda p: from_node(p, "vm1") and p.dst == WEB1, outer_dst=VM["vm2"])


@fault("one node's neighbour entry for an endpoint is wrong", "VX-NEIGHBOUR", at="vm1")
def wrong_neighbour(scene: Scene) -> Scene:
    return each(scene, lambda p: from_node(p, "vm1") and p.dst == WEB1, eth_dst="02:42:0a:00:00:99")


@fault("a hand-made interface speaks in the overlay", "VX-ENDPOINT", at="vm2")
def stranger(scene: Scene) -> Scene:
    extra = []
    for packet in scene.packets("vm2"):
        if packet.tunnelled and packet.outer_src == VM["vm2"] and packet.src == "10.0.0.3" and packet.flags == 16:
            packet.set(src="10.0.0.77", eth_src="0a:58:00:00:00:01")
            extra.append(packet.result())
    return scene.with_frames("vm2", extra[:5])


@fault("a virtual address is sent over the underlay", "VX-VIP", at="vm3")
def vip_on_the_wire(scene: Scene) -> Scene:
    extra = []
    for packet in scene.packets("vm3"):
        if packet.tunnelled and packet.outer_src == VM["vm3"] and packet.src == LB3 and packet.flags == 16:
            packet.set(dst=VIP)
            extra.append(packet.result())
    return scene.with_frames("vm3", extra[:5])


@fault("one node puts a network's frames into another segment", "VX-SEGMENT", at="vm2")
def crossed(scene: Scene) -> Scene:
    return each(scene, lambda p: from_node(p, "vm2") and p.vni == 4096, vni=4097)


@fault("one node floods broadcasts", "VX-FLOOD", at="vm1")
def flood(scene: Scene) -> Scene:
    extra = []
    for packet in scene.packets("vm1"):
        if packet.tunnelled and packet.outer_src == VM["vm1"] and packet.flags == 16:
            packet.set(eth_dst="ff:ff:ff:ff:ff:ff", dst="10.0.0.255")
            extra.append(packet.result())
    return scene.with_frames("vm1", extra[:5])


@fault("a network that should be encrypted travels in clear text", "VX-CLEAR", at="vm1 vm2 vm3")
def clear_text(scene: Scene) -> Scene:
    def encrypt(cluster: Cluster) -> Cluster:
        return replace(cluster, networks=tuple(replace(net, encrypted=True, mtu=None) if net.name == "web" else net for net in cluster.networks))

    return scene.expecting(encrypt)


@fault("UDP 4789 is dropped on its way into one node", "VX-ONEWAY", at="vm2")
def dropped_inbound(scene: Scene) -> Scene:
    # Requests arrive and nothing comes back; its own requests are answered, and it asks again.
    return without(scene, lambda p: from_node(p, "vm2") and (p.syn_ack or not (p.syn or p.tcp)) or (from_node(p, "vm2") and p.tcp and not p.syn) or (
        p.tunnelled and p.outer_dst == VM["vm2"] and p.tcp and not p.syn
    ))


@fault("one node lost its forwarding entry for one endpoint", "VX-SILENT", at="vm1")
def missing_entry(scene: Scene) -> Scene:
    lost = "10.0.1.3"  # web.2's partner in the pings
    target = next(p.src for p in scene.packets("vm1") if p.tunnelled and p.vni == 4097 and p.outer_src == VM["vm2"])
    del lost
    return without(scene, lambda p: p.tunnelled and p.vni == 4097 and p.src == target)


# -- expectations --------------------------------------------------------------------------------------------------------------


@fault("the expectation has a task on another node", "VX-SOURCE", "VX-FDB", at="vm3")
def moved_in_the_expectation(scene: Scene) -> Scene:
    def move(cluster: Cluster) -> Cluster:
        return replace(
            cluster,
            endpoints=tuple(replace(end, node="sathish-vm2") if str(end.ip) == WEB1 else end for end in cluster.endpoints),
        )

    return scene.expecting(move)


# -- the suite -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", FAULTS, ids=lambda case: case.name)
def test_exactly_the_intended_checks_fail_and_name_the_right_nodes(case: Fault) -> None:
    verdicts = case.change(healthy(case.folder, case.captures)).judge()
    shown = "\n".join(f"{v.check} {v.severity} {v.nodes} {v.message}" for v in verdicts if v.result is Result.FAIL)
    assert failing(verdicts) == case.checks, shown
    named = {node for v in verdicts if v.result is Result.FAIL and v.severity is not Severity.INFO for node in v.nodes}
    assert case.nodes <= named, shown


HEALTHY = {
    "swarm-steady": lambda: healthy("swarm-steady", ("vm1", "vm2", "vm3", "container")),
    "swarm-after-drain": lambda: healthy("swarm-after-drain"),
    "steady": lambda: healthy("swarm-phases/steady", ("vm1", "vm2", "vm3", "container")),
    "scaled": lambda: healthy("swarm-phases/scaled", ("vm1", "vm2", "vm3", "container")),
    "drained": lambda: healthy("swarm-phases/drained", ("vm1", "vm2", "vm3", "container")),
    "three phases as one run": lambda: phases(("vm1", "vm2", "vm3", "container")),
    "one capture of three": lambda: healthy("swarm-phases/steady", ("vm2",)),
    "only a sandbox": lambda: healthy("swarm-phases/steady", ("container",)),
    "nobody said where": lambda: healthy("swarm-phases/steady").unnamed(),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_no_check_cries_on_a_healthy_swarm(name: str) -> None:
    verdicts = HEALTHY[name]().judge()
    assert failing(verdicts) == set(), [(v.check, v.nodes, v.message) for v in verdicts if v.result is Result.FAIL]


@pytest.mark.parametrize("name", ["swarm-steady", "steady"])
def test_every_check_says_something(name: str) -> None:
    verdicts = HEALTHY[name]().judge()
    assert {verdict.check for verdict in verdicts} == set(CHECKS)


def table() -> str:
    """docs/faults.md."""
    lines = [
        "# Faults and the checks that find them",
        "",
        "A healthy capture of a real swarm, or its expectation, changed the way the fault would; exactly these checks fail (severity error or warning), and name",
        "these nodes. Made by `python -m tests.verify.test_faults`; a test holds it against the suite.",
        "",
        "| fault | checks that fail | nodes named |",
        "|---|---|---|",
    ]
    lines += [f"| {one.told} | {', '.join(f'`{check}`' for check in sorted(one.checks))} | {', '.join(sorted(one.nodes))} |" for one in FAULTS]
    return "\n".join(lines) + "\n"


def test_the_table_in_docs_is_of_today() -> None:
    assert DOCUMENT.read_text() == table(), "run: python -m tests.verify.test_faults"


if __name__ == "__main__":
    DOCUMENT.write_text(table())
