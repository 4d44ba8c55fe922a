"""The mutation suite: a healthy capture or its expectation, changed as a fault would; exactly the intended checks fail, at the right nodes.

`python -m tests.verify.test_faults` writes the table of faults and checks into docs/faults.md; a test holds the file against the suite.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from vxtool.cli.checklist import describe
from vxtool.model import Cluster, Orchestrator
from vxtool.verify.case import Settings
from vxtool.verify.check import CHECKS
from vxtool.verify.choices import mesh_of
from vxtool.verify.verdicts import Result, Severity

from . import test_mesh as mesh
from . import test_names as names
from .build import ACK, RST, Frame, Packet, Scene, failing, healthy, phases, seconds

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
    information: frozenset[str] = frozenset()  # checks that must tell it as information


FAULTS: list[Fault] = []


def fault(
    told: str,
    *checks: str,
    at: str = "",
    folder: str = "swarm-phases/steady",
    captures: tuple[str, ...] = ("vm1", "vm2", "vm3"),
    information: tuple[str, ...] = (),
) -> Callable[[Callable[[Scene], Scene]], Callable[[Scene], Scene]]:
    def enter(change: Callable[[Scene], Scene]) -> Callable[[Scene], Scene]:
        nodes = frozenset(f"sathish-{name}" if name.startswith("vm") else name for name in at.split())
        FAULTS.append(Fault(change.__name__, told, change, frozenset(checks), nodes, folder, captures, frozenset(information)))
        return change

    return enter


def from_node(packet: Packet, name: str) -> bool:
    return packet.tunnelled and bool(packet.outer_src == VM[name])


def each(scene: Scene, when: Callable[[Packet], bool], **values: str | int) -> Scene:
    """The values set in every packet that `when` chooses."""
    return scene.edit(lambda packet: packet.set(**values) if when(packet) else None)


def without(scene: Scene, when: Callable[[Packet], bool]) -> Scene:
    return scene.edit(lambda packet: False if when(packet) else None)


def copies(scene: Scene, when: Callable[[Packet], bool], change: Callable[[Packet], object], most: int = 5) -> Scene:
    """More frames, made of a few of those that `when` chooses, in the captures of both nodes between which they go."""
    found: list[Packet] = []
    for packet in scene.packets():
        if len(found) < most and packet.tunnelled and packet.outer_src == VM.get(packet.capture) and when(packet):
            change(packet)
            found.append(packet)
    for name, address in VM.items():
        mine = [replace(packet.result(), ts=packet.ts + 5_000) for packet in found if address in (packet.outer_src, packet.outer_dst)]
        scene = scene.with_frames(name, mine)
    return scene


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


@fault("large packets between two nodes are never answered", "VX-MTU", at="vm1 vm2")
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


@fault("one node speaks another version of VXLAN-GPE", "VX-GPE", at="vm2")
def gpe_of_tomorrow(scene: Scene) -> Scene:
    return bytes_of(scene, lambda p: from_node(p, "vm2") and p.tcp, lambda p: as_tunnel(p, 4790, b"\x1c\0\0\x03" + vni_of(p)))


@fault("one node speaks another version of Geneve", "VX-GENEVE", at="vm2")
def geneve_of_tomorrow(scene: Scene) -> Scene:
    return bytes_of(scene, lambda p: from_node(p, "vm2") and p.tcp, lambda p: as_tunnel(p, 6081, b"\x40\0\x65\x58" + vni_of(p)))


def vni_of(packet: Packet) -> bytes:
    return (packet.vni << 8).to_bytes(4, "big")


def as_tunnel(packet: Packet, port: int, header: bytes) -> bytes:
    """The packet with another tunnel header of eight bytes."""
    udp = int(packet.row["outer_l4_offset"])
    data = bytearray(packet.data)
    struct.pack_into(">H", data, udp + 2, port)
    struct.pack_into(">H", data, udp + 6, 0)
    data[udp + 8 : udp + 16] = header
    return bytes(data)


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
    # What vm3 sends to vm1, vm2 sends as well, a moment later.
    return copies(scene, lambda p: from_node(p, "vm3") and p.src == WEB1 and p.outer_dst == VM["vm1"], lambda p: p.set(outer_src=VM["vm2"]))


@fault("an endpoint is heard from another node than the one it lives on", "VX-SOURCE", at="vm2 vm3")
def wrong_source(scene: Scene) -> Scene:
    return each(scene, lambda p: p.tunnelled and p.src == WEB1 and p.outer_dst == VM["vm1"], outer_src=VM["vm2"])


@fault("one node's forwarding entry for an endpoint is stale", "VX-FDB", at="vm1")
def stale_fdb(scene: Scene) -> Scene:
    return each(scene, lambda p: from_node(p, "vm1") and p.dst == WEB1, outer_dst=VM["vm2"])


@fault("a node learns from a frame whose D bit forbids it", "VX-FDB", "VX-RESERVED", at="vm1 vm2", information=("VX-LEARN",))
def learned_all_the_same(scene: Scene) -> Scene:
    begun: list[int] = []

    def in_the_name_of_web1(packet: Packet) -> None:
        begun.append(packet.ts)
        packet.set(src=WEB1, eth_src="02:42:0a:00:00:0b", vxlan_flags=0x88)
        packet.data[int(packet.row["tunnel_offset"]) + 1] = 0x40

    scene = copies(scene, lambda p: from_node(p, "vm2") and p.outer_dst == VM["vm1"] and p.flags == ACK, in_the_name_of_web1, most=1)
    return each(scene, lambda p: from_node(p, "vm1") and p.dst == WEB1 and p.ts > begun[0] + seconds(0.1), outer_dst=VM["vm2"])


@fault("one node's neighbour entry for an endpoint is wrong", "VX-NEIGHBOUR", at="vm1")
def wrong_neighbour(scene: Scene) -> Scene:
    return each(scene, lambda p: from_node(p, "vm1") and p.dst == WEB1, eth_dst="02:42:0a:00:00:99")


@fault("a hand-made interface speaks in the overlay", "VX-ENDPOINT", at="vm2")
def stranger(scene: Scene) -> Scene:
    return copies(
        scene,
        lambda p: from_node(p, "vm2") and p.src == "10.0.0.3" and p.flags == ACK,
        lambda p: p.set(src="10.0.0.77", eth_src="0a:58:00:00:00:01"),
    )


@fault("a virtual address is sent over the underlay", "VX-VIP", at="vm3")
def vip_on_the_wire(scene: Scene) -> Scene:
    return copies(scene, lambda p: from_node(p, "vm3") and p.src == LB3 and p.flags == ACK, lambda p: p.set(dst=VIP))


@fault("one node puts a network's frames into another segment", "VX-SEGMENT", at="vm2")
def crossed(scene: Scene) -> Scene:
    return each(scene, lambda p: from_node(p, "vm2") and p.vni == 4096, vni=4097)


@fault("one node floods broadcasts", "VX-FLOOD", at="vm1")
def flood(scene: Scene) -> Scene:
    return copies(scene, lambda p: from_node(p, "vm1") and p.flags == ACK, lambda p: p.set(eth_dst="ff:ff:ff:ff:ff:ff", dst="10.0.0.255"))


@fault("a network that should be encrypted travels in clear text", "VX-CLEAR", at="vm1 vm2 vm3")
def clear_text(scene: Scene) -> Scene:
    def encrypt(cluster: Cluster) -> Cluster:
        return replace(cluster, networks=tuple(replace(net, encrypted=True, mtu=None) if net.name == "web" else net for net in cluster.networks))

    return scene.expecting(encrypt)


@fault("UDP 4789 is dropped on its way into one node", "VX-ONEWAY", at="vm2")
def dropped_inbound(scene: Scene) -> Scene:
    # Requests arrive and nothing comes back; its own requests are answered, and it asks again.
    def gone(packet: Packet) -> bool:
        later = packet.tunnelled and packet.outer_dst == VM["vm2"] and packet.tcp
        return (from_node(packet, "vm2") or later) and not packet.syn

    return without(scene, gone)


@fault("one node lost its forwarding entry for one endpoint", "VX-SILENT", at="vm1")
def missing_entry(scene: Scene) -> Scene:
    # Requests of that endpoint arrive at vm1, which answers other endpoints; nothing that vm1 sends to it is on the wire.
    client = "10.0.0.3"  # the load balancer of vm2
    return without(scene, lambda p: from_node(p, "vm1") and p.dst == client)


@fault("a tunnel end answers ARP with a foreign MAC", "VX-ARP", at="vm1", captures=("vm1", "container"), folder="swarm-steady")
def lying_proxy(scene: Scene) -> Scene:
    from scapy.layers.l2 import ARP, Ether

    packet = next(scene.packets("container"))
    frame = Ether(src="02:42:0a:00:01:63") / ARP(op=2, hwsrc="02:42:0a:00:01:63", psrc="10.0.1.3", hwdst="02:42:0a:00:01:04", pdst="10.0.1.4")
    return scene.with_frames("container", [Frame(packet.ts, bytes(frame))])


@fault("answers come from another address than the node was asked at, and nobody knows who lives where", "VX-SYMMETRY", at="vm1 vm2")
def other_way_back(scene: Scene) -> Scene:
    scene = scene.expecting(lambda cluster: replace(cluster, networks=(), endpoints=(), services=()))
    return each(scene, lambda p: from_node(p, "vm2"), outer_src="192.168.68.210")


def between_tasks(packet: Packet) -> None:
    """A packet of the mesh between vm1 and vm2, made one of network web between tasks on these nodes."""
    ends = {VM["vm1"]: "10.0.1.3", VM["vm2"]: "10.0.1.7"}
    for way, outer in (("src", packet.outer_src), ("dst", packet.outer_dst)):
        address = ends[str(outer)]
        packet.set(**{way: address, f"eth_{way}": f"02:42:0a:00:01:0{address[-1]}"}, vni=4097)


def asks_vm2(packet: Packet) -> bool:
    """A connection from vm1 to a backend on vm2: its SYN or the answer to it."""
    ends = {packet.outer_src, packet.outer_dst}
    asks = packet.syn and packet.outer_src == VM["vm1"]
    return packet.tunnelled and ends == {VM["vm1"], VM["vm2"]} and (asks or (packet.syn_ack and packet.outer_src == VM["vm2"]))


@fault("a program in a running task has ended", "VX-REFUSED", at="vm2")
def nobody_listens(scene: Scene) -> Scene:
    def change(packet: Packet) -> None:
        between_tasks(packet)
        if packet.outer_src == VM["vm2"]:
            packet.set(flags=RST | ACK)

    return copies(scene, asks_vm2, change, 1000)


@fault("a task pings, and accepts no connection", "VX-SILENT", at="vm2")
def drops_syns(scene: Scene) -> Scene:
    return copies(scene, lambda p: asks_vm2(p) and p.syn, between_tasks, 1000)


@fault("first packets of connections are lost", "VX-RETRY", at="vm1 vm2")
def late_answers(scene: Scene) -> Scene:
    def late(packet: Packet) -> None:
        between_tasks(packet)
        packet.ts += seconds(7) * packet.syn_ack

    def again(packet: Packet) -> None:
        between_tasks(packet)
        packet.ts += seconds(3)

    return copies(copies(scene, asks_vm2, late, 1000), lambda p: asks_vm2(p) and p.syn and p.vni != 4097, again, 1000)


@fault("gossip is blocked at one node", "VX-GOSSIP", at="vm3")
def no_gossip(scene: Scene) -> Scene:
    from scapy.layers.inet import IP, TCP
    from scapy.layers.l2 import Ether

    begin = next(scene.packets("vm1")).ts
    syns = [Ether() / IP(src=VM["vm1"], dst=VM["vm3"]) / TCP(sport=40000 + n, dport=7946, flags="S", seq=n) for n in range(5)]
    calls = without(scene, lambda p: not p.tunnelled and p.tcp and VM["vm3"] in (p.src, p.dst) and 7946 in (p.sport, p.dport) and not p.syn)
    return calls.with_frames("vm1", [Frame(begin + seconds(n), bytes(syn)) for n, syn in enumerate(syns)])


# -- the mesh ------------------------------------------------------------------------------------------------------------------


MESH = "swarm-steady"


@fault("one balancer passes over a backend every second time", "VX-MESH-BALANCE", at="vm1", folder=MESH)
def passed_over(scene: Scene) -> Scene:
    mine = [r for r in mesh_of(scene.case()).requests if r.node == mesh.VM1 and r.choice is not None and str(r.choice.backend) == mesh.WEB3]
    ports = {port for r in mine[::2] if r.choice is not None for port in (r.client_port, r.choice.source_port)}
    return scene.edit(lambda p: not (p.tcp and {p.sport, p.dport} & ports and {p.src, p.dst} & {mesh.CLIENT, mesh.LB1}))


@fault("one balancer lacks a backend", "VX-MESH-UNUSED", at="vm1 vm2", folder=MESH)
def backend_left_out(scene: Scene) -> Scene:
    return mesh.without(scene, mesh.VM1, {mesh.WEB3})


@fault("a random balancer prefers one backend", folder=MESH, information=("VX-MESH-SHARE",))
def weighted(scene: Scene) -> Scene:
    def kubernetes(cluster: Cluster) -> Cluster:
        return replace(cluster, orchestrator=Orchestrator.KUBERNETES)

    scene = replace(scene, settings=Settings(profile="flannel", data_path_port=4789)).expecting(kubernetes)
    return mesh.without(scene, mesh.VM1, {mesh.WEB3})


@fault("a backend hangs", "VX-MESH-DEAD", at="vm2", folder=MESH)
def hanging_backend(scene: Scene) -> Scene:
    return scene.edit(mesh.silent(mesh.WEB3))


@fault("a balancer keeps a task that was removed", "VX-MESH-REMOVED", at="vm1 vm3", folder=MESH)
def removed_backend(scene: Scene) -> Scene:
    return scene.then(mesh.forget(mesh.WEB3), scene.shots[0].frames[0].ts + seconds(200))


@fault("a node swallows connections to a published port", "VX-MESH-ENTRY", at="vm1", folder=MESH)
def closed_entry(scene: Scene) -> Scene:
    return scene.edit(lambda p: mesh.dying_at_vm1(p) is None and not (p.src == mesh.NODE1 and p.dst == mesh.CLIENT))


@fault("a node answers in another's name", "VX-MESH-BYPASS", at="vm1 vm2", folder=MESH)
def around_the_balancer(scene: Scene) -> Scene:
    def around(packet: Packet) -> None:
        if not packet.tunnelled and packet.syn_ack and packet.src == mesh.NODE1 and packet.dst == mesh.CLIENT:
            packet.set(src=mesh.NODE2)

    return scene.edit(around)


@fault("a balancer does not hide the client's address", "VX-MESH-SNAT", at="vm1", folder=MESH)
def no_source_nat(scene: Scene) -> Scene:
    def bare(packet: Packet) -> bool | None:
        if packet.vni == mesh.INGRESS and packet.src == mesh.LB1:
            packet.set(src=mesh.CLIENT)
        return not (packet.vni == mesh.INGRESS and packet.dst == mesh.LB1)

    return scene.edit(bare)


# -- names ---------------------------------------------------------------------------------------------------------------------


def of_names(told: str, change: Callable[[Packet], bool | None], *checks: str, information: tuple[str, ...] = ()) -> None:
    """A fault of the resolver, which shows in a task's sandbox."""
    name = re.sub(r"\W+", "_", told)
    FAULTS.append(
        Fault(
            name, told, lambda scene: scene.edit(change), frozenset(checks), frozenset({"sathish-vm1"}), MESH, ("container",), frozenset(information)
        )
    )


of_names("a resolver answers with a removed task", names.replies("tasks.web", names.answer(*names.TASKS_WEB, names.NOBODY)), "VX-DNS-ANSWER")
of_names("a resolver does not know a service", names.replies("api", names.LOST["NXDOMAIN"]), "VX-DNS-NAME")
of_names("a resolver sends a service's name upstream", names.forwarded("api"), "VX-DNS-NAME", "VX-DNS-LEAK")
of_names("an IPv6 question hides an IPv4 name", names.replies("web", names.LOST["NXDOMAIN"], "AAAA"), "VX-DNS-EMPTY")
of_names("records live 30 seconds", names.replies("web", names.answer(names.WEB_VIP, ttl=30)), "VX-DNS-TTL")
of_names(
    "an address has the name of another task",
    names.replies("3.1.0.10.in-addr.arpa", names.answer("web.9.zzzzzzzzzzzzzzzzzzzzzzzzz.web.", kind="PTR"), "PTR"),
    "VX-DNS-PTR",
)
of_names("addresses come in one order", names.replies("tasks.web", names.answer(*names.TASKS_WEB)), information=("VX-DNS-SHUFFLE",))
of_names("answers are authoritative", names.replies("api", names.flag(0x0400)), information=("VX-DNS-FLAGS",))
of_names("the resolver is silent", lambda p: None if names.message_of(p) is None and not p.tcp else p.dst == "127.0.0.11", "VX-DNS-SILENT")


def slow_answer(packet: Packet) -> None:
    message = names.message_of(packet)
    if message is not None and packet.src == "127.0.0.11" and message.question[0].name.to_text() == "api.":
        packet.ts += seconds(2)


of_names("a name of the cluster takes two seconds", slow_answer, "VX-DNS-LATENCY")


# -- captures of several nodes -------------------------------------------------------------------------------------------------


@fault("the underlay loses a part of what goes to one node", "VX-LOSS", at="vm2")
def lossy(scene: Scene) -> Scene:
    # Every second ping: the request is in the sender's capture only, and nothing answers it.
    def lost(packet: Packet) -> bool:
        ping = packet.vni == 4097 and {packet.outer_src, packet.outer_dst} == {VM["vm1"], VM["vm2"]} and not packet.tcp
        return ping and bool(packet.data[int(packet.row["inner_l4_offset"]) + 7] % 2) and (packet.capture == "vm2" or packet.outer_src == VM["vm2"])

    return without(scene, lost)


@fault("the clock of one node is five seconds ahead", at="vm2", information=("VX-DELAY",))
def clock_ahead(scene: Scene) -> Scene:
    def ahead(packet: Packet) -> None:
        packet.ts += seconds(5)

    return scene.edit(ahead, ["vm2"])


@fault("packets of one flow take several paths", "VX-ORDER", at="vm1 vm2")
def overtaking(scene: Scene) -> Scene:
    def held_up(packet: Packet) -> None:
        if from_node(packet, "vm1") and packet.flags == ACK and int(packet.row["payload_len"]) == 0:
            packet.ts += seconds(0.002)

    return scene.edit(held_up, ["vm2"])


@fault("a switching loop doubles frames", "VX-COPIES", at="vm1 vm2")
def loop(scene: Scene) -> Scene:
    twice = [replace(p.frame, ts=p.ts + 20_000) for p in scene.packets("vm2") if from_node(p, "vm1")]
    return scene.with_frames("vm2", twice)


# -- expectations --------------------------------------------------------------------------------------------------------------


@fault("the expectation has a task on another node", "VX-SOURCE", at="vm3")
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
    assert case.information <= failing(verdicts, Severity.INFO), shown
    named = {node for v in verdicts if v.result is Result.FAIL and v.check in case.checks | case.information for node in v.nodes}
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


ONLY_TELL = {"VX-SPORT", "VX-OUTER-VLAN", "VX-VNI-RANGE", "VX-SENDER"}
"""Checks that describe what they see and never fail."""

ELSEWHERE = {
    "VX-MESH-IDLE": "needs a connection that is silent for a quarter of an hour: test_mesh",
    "VX-DNS-RCODE": "needs an answer to another question: test_names",
    "VX-DNS-USE": "needs a task that goes away: test_names",
}


def test_every_check_has_its_fault() -> None:
    found = {check for one in FAULTS for check in (*one.checks, *one.information)}
    assert set(CHECKS) - found == ONLY_TELL | set(ELSEWHERE)


def table() -> str:
    """docs/faults.md."""
    lines = [
        "# Faults and the checks that find them",
        "",
        "A healthy capture of a real swarm, or its expectation, changed the way the fault would; exactly these checks fail (severity error or",
        "warning), and name these nodes. Made by `python -m tests.verify.test_faults`; a test holds it against the suite.",
        "",
        "| fault | checks that fail | nodes named |",
        "|---|---|---|",
    ]
    lines += [f"| {one.told} | {_names(one)} | {', '.join(sorted(one.nodes))} |" for one in FAULTS]
    return "\n".join(lines) + "\n"


def _names(one: Fault) -> str:
    return ", ".join([f"`{check}`" for check in sorted(one.checks)] + [f"`{check}` (information)" for check in sorted(one.information)])


def test_the_table_in_docs_is_of_today() -> None:
    assert DOCUMENT.read_text() == table(), "run: python -m tests.verify.test_faults"


def test_the_list_of_checks_in_docs_is_of_today() -> None:
    assert DOCUMENT.with_name("checks.md").read_text() == describe(None, as_json=False, markdown=True), (
        "run: vxtool checks --markdown > docs/checks.md"
    )


if __name__ == "__main__":
    DOCUMENT.write_text(table())
