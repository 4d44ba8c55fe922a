"""Impairments on real links: measured from the ends, seen in captures at the nodes, and gone without a trace."""

from __future__ import annotations

import hashlib
import json
import re
import select
import socket
import struct
import threading
import time
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from math import sqrt
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from vxtool.cli import vxtool
from vxtool.lab import impair, underlay
from vxtool.lab.delayer import Delayers
from vxtool.lab.lab import Lab as WholeLab
from vxtool.lab.namespaces import NETNS, inside
from vxtool.lab.spec import Options
from vxtool.lab.topology import End, Impairment, Link, Machine, MachineKind, Route, Topology

PLAIN = Impairment()
ETH_P_ALL, PACKET_OUTGOING = 3, 4


def end(machine: str, device: str, address: str | None = None) -> End:
    return End(machine, device, IPv4Interface(address) if address else None)


SEGMENT = Topology(
    "segment",
    (Machine("vm1", MachineKind.NODE), Machine("vm2", MachineKind.NODE), Machine("s1", MachineKind.SWITCH)),
    (
        Link("vm1-s1", end("vm1", "eth0", "192.168.68.109/24"), end("s1", "s1-eth1")),
        Link("vm2-s1", end("vm2", "eth0", "192.168.68.110/24"), end("s1", "s1-eth2")),
    ),
)


def routes(*texts: str) -> tuple[Route, ...]:
    return tuple(Route(IPv4Network(to), IPv4Address(via)) for to, _, via in map(str.split, texts))


ROUTERS = Topology(
    "routers",
    (
        Machine("vm1", MachineKind.NODE, routes("0.0.0.0/0 via 10.1.0.254")),
        Machine("r1", MachineKind.ROUTER, routes("10.2.0.0/24 via 10.9.0.2")),
        Machine("r2", MachineKind.ROUTER, routes("10.1.0.0/24 via 10.9.0.1")),
        Machine("vm2", MachineKind.NODE, routes("0.0.0.0/0 via 10.2.0.254")),
    ),
    (
        Link("vm1-r1", end("vm1", "eth0", "10.1.0.1/24"), end("r1", "eth0", "10.1.0.254/24")),
        Link("r1-r2", end("r1", "eth1", "10.9.0.1/30"), end("r2", "eth1", "10.9.0.2/30")),
        Link("vm2-r2", end("vm2", "eth0", "10.2.0.1/24"), end("r2", "eth0", "10.2.0.254/24")),
    ),
)


@pytest.fixture(scope="module", autouse=True)
def features() -> impair.Features:
    """Tried once: each test's process inherits what was found."""
    return impair.features()


class Lab:
    """An underlay, and the hands that impair its links, as the supervisor does it."""

    def __init__(self, world: Any, topology: Topology, options: Options | None = None) -> None:
        self.world = world
        self.topology = topology
        self.options = options or Options()
        self.delayers = Delayers()
        self.now: dict[str, Impairment] = {}
        world.kernel.perform(underlay.plan(topology, self.options))

    def impair(self, link: str, after: Impairment) -> dict[str, dict[str, int]]:
        steps = impair.plan(self.topology, link, self.now.get(link, PLAIN), after, impair.features(), wire=self.options.wire)
        self.world.kernel.perform(steps)
        self.now[link] = after
        return self.follow()

    def follow(self) -> dict[str, dict[str, int]]:
        return self.delayers.follow(impair.relays(self.topology, self.now, impair.features()))

    def address(self, node: str) -> str:
        return str(self.topology.address(node))

    def ping(self, count: int, interval: float, *, source: str = "vm1", target: str = "vm2", wait: float = 0.3) -> list[float]:
        """Round-trip times in ms of those that came back, in order."""
        address = self.address(target)
        said = self.world.sh(f"ip netns exec {source} ping -n -c {count} -i {interval} -W {wait} {address} || true")
        assert f"{count} packets transmitted" in said, said
        return [float(found) for found in re.findall(r"time=([\d.]+) ms", said)]

    def dump(self) -> str:
        """Everything that an impairment could leave behind, without what moves by itself."""
        namespaces = sorted({"switches"} | {self.topology.namespace(machine.name) for machine in self.topology.machines})
        ends = [end for link in self.topology.links for end in link.ends]
        text = self.world.sh(
            "; ".join(
                f"ip -n {name} -d link; ip -n {name} addr; ip -n {name} route show table all; tc -n {name} qdisc; bridge -n {name} link;"
                f"ip netns exec {name} nft list ruleset"
                for name in namespaces
            )
            + "".join(f"; ip netns exec {self.topology.namespace(end.machine)} ethtool -k {end.device}" for end in ends)
        )
        text = re.sub(r"(\w*_timer|bridge_id|designated_\w+|port_id|link/ether) +\S+", "", text)  # a bridge is called after a port that came and went
        text = re.sub(r"\d+: tap", "tap", re.sub(r"(qdisc \w+) \w+:", r"\1", text))  # numbers that are given anew each time
        return re.sub(r" state (UP|UNKNOWN|DOWN)|valid_lft \S+", "", text)  # the state follows the flags, a moment later


# -- captures ----------------------------------------------------------------------------------------------------------


class Tap:
    """A capture of ICMP at a node."""

    def __init__(self, node: str) -> None:
        with inside(NETNS / node):
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
            self.socket.bind(("eth0", ETH_P_ALL))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)

    def icmp(self) -> dict[tuple[int, bool], list[int]]:
        """(ICMP type, whether it was sent from here) -> sequence numbers, of everything that was captured so far."""
        seen: dict[tuple[int, bool], list[int]] = {}
        while select.select([self.socket], [], [], 0)[0]:
            frame, (_, _, kind, *_) = self.socket.recvfrom(65535)
            if frame[12:14] == b"\x08\x00" and frame[23] == 1:
                (sequence,) = struct.unpack_from("!H", frame, 40)
                seen.setdefault((frame[34], kind == PACKET_OUTGOING), []).append(sequence)
        return seen


REQUEST, REPLY = 8, 0


def likely(lost: int, of: int, share: float) -> bool:
    """Within five standard deviations of a binomial distribution: one run in two million is not."""
    return abs(lost - of * share) <= 5 * sqrt(of * share * (1 - share))


@pytest.mark.parametrize("delay_ms", [0, 1], ids=["not delayed", "delayed"])
def test_frames_are_lost_after_the_sender_s_capture_and_before_the_receiver_s(world: Any, delay_ms: float) -> None:
    lab = Lab(world, SEGMENT)
    lab.impair("vm1-s1", Impairment(loss=20, delay_ms=delay_ms))
    world.sh("ip -n vm1 neigh replace 192.168.68.110 lladdr $(ip -n vm2 -br link show eth0 | awk '{print $3}') dev eth0 nud permanent")
    world.sh("ip -n vm2 neigh replace 192.168.68.109 lladdr $(ip -n vm1 -br link show eth0 | awk '{print $3}') dev eth0 nud permanent")
    near, far = Tap("vm1"), Tap("vm2")
    came_back = len(lab.ping(300, 0.002))
    here, there = near.icmp(), far.icmp()
    assert here[REQUEST, True] == list(range(1, 301))  # all that it sent, the lost ones too
    assert there[REPLY, True] == there[REQUEST, False]  # vm2's own link loses nothing
    assert set(there[REQUEST, False]) < set(here[REQUEST, True])
    assert len(here[REPLY, False]) == came_back  # nothing that was lost on its way here
    assert set(here[REPLY, False]) < set(there[REPLY, True])
    assert likely(300 - len(there[REQUEST, False]), 300, 0.2)
    assert likely(len(there[REPLY, True]) - came_back, len(there[REPLY, True]), 0.2)


def test_between_two_routers_frames_are_lost_both_ways(world: Any) -> None:
    lab = Lab(world, ROUTERS)
    assert len(lab.ping(3, 0.01)) == 3
    lab.impair("r1-r2", Impairment(loss=30))
    far = Tap("vm2")
    came_back = len(lab.ping(300, 0.002))
    seen = far.icmp()
    arrived = len(seen[REQUEST, False])
    assert likely(300 - arrived, 300, 0.3)
    assert likely(arrived - came_back, arrived, 0.3)


def test_a_link_that_loses_everything_loses_everything(world: Any) -> None:
    lab = Lab(world, SEGMENT)
    lab.impair("vm1-s1", Impairment(loss=100))
    assert lab.ping(5, 0.01, wait=0.1) == []


# -- delay -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delay_ms", [1, 20])
def test_a_round_trip_takes_both_delays_and_little_more(world: Any, delay_ms: float) -> None:
    lab = Lab(world, SEGMENT)
    lab.impair("vm1-s1", Impairment(delay_ms=delay_ms))
    times = lab.ping(20, 0.01, wait=1)
    assert len(times) == 20
    assert 2 * delay_ms <= min(times)
    assert sorted(times)[10] < 2 * delay_ms + 30
    lab.impair("vm1-s1", Impairment(delay_ms=3 * delay_ms))  # adjusted, nothing is taken apart
    assert min(lab.ping(5, 0.01, wait=1)) >= 6 * delay_ms


def test_delays_of_several_links_add_up(world: Any) -> None:
    lab = Lab(world, SEGMENT)
    lab.impair("vm1-s1", Impairment(delay_ms=10))
    carried = lab.impair("vm2-s1", Impairment(delay_ms=5))
    assert list(carried) == ["vm1-s1"]  # what was there before
    assert min(lab.ping(5, 0.01, wait=1)) >= 30
    lab.impair("vm1-s1", PLAIN)
    assert 10 <= min(lab.ping(5, 0.01, wait=1)) < 30


def test_a_full_queue_drops_and_counts(world: Any) -> None:
    lab = Lab(world, SEGMENT)
    lab.impair("vm1-s1", Impairment(delay_ms=100, queue=10))
    lab.ping(1, 0.1, wait=1)
    with inside(NETNS / "vm1"), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(50):
            sender.sendto(b"x", (lab.address("vm2"), 9))
    time.sleep(0.3)
    carried = lab.follow()["vm1-s1"]
    assert carried["dropped"] == 40


def test_order_is_kept_when_a_delay_becomes_shorter(world: Any) -> None:
    lab = Lab(world, SEGMENT)
    lab.impair("vm1-s1", Impairment(delay_ms=200))
    lab.ping(1, 0.1, wait=1)
    with inside(NETNS / "vm2"):
        receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        receiver.bind(("", 7000))
        receiver.settimeout(2)
    with inside(NETNS / "vm1"):
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for number in range(10):
        sender.sendto(bytes([number]), (lab.address("vm2"), 7000))
        if number == 4:
            lab.impair("vm1-s1", Impairment(delay_ms=1))
    assert [receiver.recv(10)[0] for _ in range(10)] == list(range(10))


def test_a_vlan_tag_stays_on_a_delayed_frame(world: Any) -> None:
    """The kernel takes a tag off what it gives to a packet socket (packet(7), PACKET_AUXDATA)."""
    lab = Lab(world, SEGMENT)
    lab.impair("vm1-s1", Impairment(delay_ms=5))
    with inside(NETNS / "vm2"):
        receiver = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        receiver.setsockopt(263, 8, 1)
        receiver.settimeout(2)
    with inside(NETNS / "vm1"), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
        sender.bind(("eth0", 0))
        sender.send(bytes.fromhex("ffffffffffff 0242c0a8446d 8100 6005 88b5") + b"five".ljust(50))
    frame = b""
    while not frame.endswith(b"five".ljust(50)):
        frame, notes, _, _ = receiver.recvmsg(2000, 64)
    assert frame[12:18] == b"\x88\xb5five"
    assert struct.unpack("=IIIHHHH", notes[0][2])[5] == 0x6005


def test_a_dead_delayer_is_missed_and_started_again(world: Any) -> None:
    lab = Lab(world, SEGMENT)
    lab.impair("vm1-s1", Impairment(delay_ms=5))
    assert select.select([lab.delayers], [], [], 0)[0] == []
    assert lab.delayers._child is not None
    lab.delayers._child.kill()
    assert select.select([lab.delayers], [], [], 5)[0] == [lab.delayers]
    lab.follow()
    assert min(lab.ping(3, 0.01, wait=1)) >= 10


def test_the_next_supervisor_finds_the_delayer_of_the_last(world: Any) -> None:
    lab = Lab(world, SEGMENT)
    lab.impair("vm1-s1", Impairment(delay_ms=5))
    lab.ping(1, 0.1)
    before, lab.delayers = lab.delayers, Delayers()
    assert lab.follow()["vm1-s1"]["frames"] > 0
    assert lab.delayers._child is None
    assert before._connection is not None
    before._connection.close()  # the last one's end is nothing to it
    assert min(lab.ping(3, 0.01, wait=1)) >= 10
    assert before._child is not None
    lab.impair("vm1-s1", PLAIN)
    assert before._child.wait(5) == 0  # and with the last link it ends


# -- streams -----------------------------------------------------------------------------------------------------------


def stream(source: str, target: str, address: str, seconds: float, size: int | None = None) -> tuple[float, bool]:
    """One TCP connection: Mbit/s at the receiver after the first tenth of the time, and whether all arrived as it was sent."""
    with inside(NETNS / target):
        listener = socket.create_server(("", 5001))
    with inside(NETNS / source):
        sender = socket.create_connection((address, 5001), timeout=5)
    receiver, _ = listener.accept()
    listener.close()
    block = bytes(range(256)) * 256
    sent, got = hashlib.blake2b(), hashlib.blake2b()
    over = time.monotonic() + seconds

    def send() -> None:
        total = 0
        while (size is None and time.monotonic() < over) or (size is not None and total < size):
            sender.sendall(block)
            sent.update(block)
            total += len(block)
        sender.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=send)
    thread.start()
    begun = time.monotonic()
    first, counted = None, 0  # when the measurement began, and what came after that
    while data := receiver.recv(1 << 18):
        got.update(data)
        last = time.monotonic()
        if first is not None:
            counted += len(data)
        elif last > begun + seconds / 10:
            first = last
    thread.join()
    sender.close()
    receiver.close()
    return counted * 8 / (last - (first or begun)) / 1e6, sent.digest() == got.digest()


@pytest.mark.parametrize(("source", "target"), [("vm1", "vm2"), ("vm2", "vm1")], ids=["out", "in"])
def test_a_rate_is_the_rate_of_a_tcp_stream_with_segmentation_offload(world: Any, source: str, target: str) -> None:
    lab = Lab(world, SEGMENT)
    lab.impair("vm1-s1", Impairment(rate=50_000_000))
    rate, whole = stream(source, target, lab.address(target), 0.6)
    assert whole
    assert 40 < rate * 1514 / 1448 < 55  # of payload, with its headers


def test_a_slow_late_and_lossy_link_is_all_of_it(world: Any) -> None:
    lab = Lab(world, SEGMENT)
    lab.impair("vm1-s1", Impairment(rate=20_000_000, delay_ms=5, loss=0.1))
    rate, whole = stream("vm1", "vm2", lab.address("vm2"), 0.6)
    assert whole
    assert rate < 21
    assert min(lab.ping(5, 0.01, wait=1)) >= 10


@pytest.mark.parametrize("wire", [False, True], ids=["offload", "wire"])
def test_superframes_cross_a_delayed_link_whole(world: Any, wire: bool) -> None:
    """Also those of VXLAN, which a packet socket could not tell from malformed frames; both directions, and with offload off everywhere."""
    lab = Lab(world, SEGMENT, Options(wire=wire))
    for node, other, inner in (("vm1", "vm2", "10.0.1.1/24"), ("vm2", "vm1", "10.0.1.2/24")):
        world.sh(
            f"ip -n {node} link add vx type vxlan id 4097 dstport 4789 remote {lab.address(other)} dev eth0;"
            f"ip -n {node} addr add {inner} dev vx; ip -n {node} link set vx mtu 1450 up"
        )
    lab.impair("vm1-s1", Impairment(delay_ms=1))
    for source, target, address in (("vm1", "vm2", "10.0.1.2"), ("vm2", "vm1", "10.0.1.1"), ("vm1", "vm2", lab.address("vm2"))):
        rate, whole = stream(source, target, address, 0, 20 << 20)
        assert whole
        assert rate > 20  # retransmitted piece by piece it would be 1
    assert lab.follow()["vm1-s1"]["dropped"] == 0


# -- down, and plain again -------------------------------------------------------------------------------------------------


def test_a_cable_that_is_pulled_takes_the_carrier_and_leaves_the_routes(world: Any) -> None:
    lab = Lab(world, SEGMENT)
    world.sh("ip -n vm1 route add 10.77.0.0/16 via 192.168.68.110")
    before = world.sh("ip -n vm1 route")
    lab.impair("vm1-s1", Impairment(down=True))
    (link,) = world.json("ip -n vm1 -j link show eth0")
    assert (link["operstate"], "NO-CARRIER" in link["flags"], "UP" in link["flags"]) == ("DOWN", True, True)
    assert lab.ping(2, 0.01, wait=0.1) == []
    lab.impair("vm1-s1", PLAIN)
    assert world.sh("ip -n vm1 route") == before
    assert len(lab.ping(2, 0.01, wait=1)) == 2


def test_a_router_is_as_it_was_when_its_link_is_up_again(world: Any) -> None:
    lab = Lab(world, ROUTERS)
    before = lab.dump()
    lab.impair("r1-r2", Impairment(down=True))
    (link,) = world.json("ip -n r2 -j link show eth1")
    assert link["operstate"] == "DOWN"
    assert lab.ping(2, 0.01, wait=0.1) == []
    lab.impair("r1-r2", PLAIN)
    assert lab.dump() == before
    assert len(lab.ping(2, 0.01, wait=1)) == 2


WAY = [
    Impairment(rate=10**7),
    Impairment(rate=10**7, loss=3),
    Impairment(rate=10**6, loss=3, delay_ms=20),
    Impairment(loss=3, delay_ms=20),
    Impairment(loss=3, delay_ms=20, down=True),
    Impairment(delay_ms=20, down=True),
    Impairment(down=True),
    Impairment(rate=10**9, delay_ms=1, loss=100, down=True),
    Impairment(delay_ms=7),
    Impairment(loss=0.0001),
]


@pytest.mark.parametrize("wire", [False, True], ids=["offload", "wire"])
def test_whatever_was_wrong_with_a_link_a_plain_link_is_what_it_was_before(world: Any, wire: bool) -> None:
    lab = Lab(world, SEGMENT, Options(wire=wire))
    before = lab.dump()
    each_alone = [step for impairment in WAY for step in (impairment, PLAIN)]
    for impairment in [*WAY, PLAIN, *each_alone]:
        lab.impair("vm1-s1", impairment)
    assert lab.dump() == before
    assert len(lab.ping(2, 0.01, wait=1)) == 2


def test_a_change_that_was_broken_off_anywhere_can_be_taken_back(world: Any) -> None:
    """What a new supervisor does with an impairment that the last one died over."""
    lab = Lab(world, SEGMENT)
    before = lab.dump()
    first, second = Impairment(rate=10**6, loss=3, delay_ms=20), Impairment(rate=10**7, loss=5, down=True)
    for was, will in ((PLAIN, first), (first, second), (second, first), (second, PLAIN)):
        lab.impair("vm1-s1", was)
        there = lab.dump()
        steps = impair.plan(SEGMENT, "vm1-s1", was, will, impair.features())
        for done in range(len(steps) + 1):
            world.kernel.perform(steps[:done])
            world.kernel.undo(steps)
        lab.follow()  # its TAP device is another one now
        assert lab.dump() == there
    lab.impair("vm1-s1", PLAIN)
    assert lab.dump() == before


def test_what_was_tried_is_what_this_machine_has(world: Any) -> None:
    found = impair.features()
    for name, script in {
        "tbf": "tc qdisc add dev lo root tbf rate 1mbit burst 3000 limit 9000",
        "netem": "tc qdisc replace dev lo root netem delay 1ms",
        "tap": "ip tuntap add t mode tap",
    }.items():
        assert world.sh(f"if {script} 2>/dev/null; then echo true; else echo false; fi").strip() == json.dumps(getattr(found, name)), name


# -- in a whole lab --------------------------------------------------------------------------------------------------------


def test_links_of_a_lab_are_impaired_by_name_and_restored_by_the_lab_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VXTOOL_RUN", str(tmp_path / "run"))

    def vxtool_lab_impair(*arguments: str) -> str:
        done = CliRunner().invoke(vxtool, ["lab", "impair", *arguments], catch_exceptions=False)
        assert done.exit_code == 0, done.stderr
        return done.stdout

    def row(link: str) -> list[str]:
        return next(line.split() for line in vxtool_lab_impair(link).splitlines() if line.startswith(link + " "))

    with WholeLab("wide_area", name="impaired") as lab:
        lines = vxtool_lab_impair().splitlines()
        assert lines[0].split() == ["LINK", "ENDS", "RATE", "DELAY", "LOSS", "STATE", "FOR"]
        assert len(lines) == 1 + len(lab.topology.links)
        far = next(link for link in lab.topology.links if link.impairment.delay_ms)  # up has made it so
        near = next(link for link in lab.topology.links if link.a.machine == lab.topology.nodes[0].name)
        round_trip = 2 * sum(link.impairment.delay_ms for link in lab.topology.links)
        ping = ["ping", "-c", "2", "-i", "0.2", "-W", "2", str(lab.topology.address(lab.topology.nodes[1].name))]

        def times() -> list[float]:
            said = lab.exec(lab.topology.nodes[0].name, ping).stdout
            return [float(found) for found in re.findall(r"time=([\d.]+) ms", said)]

        assert min(times()) >= round_trip
        # What is not named stays: one thing after the other, then for a while, then all but one gone.
        assert vxtool_lab_impair(near.name, "--rate", "50mbit") == f"{near.name}: rate 50mbit\n"
        assert vxtool_lab_impair(near.name, "--delay", "10ms") == f"{near.name}: rate 50mbit delay 10ms\n"
        assert min(times()) >= round_trip + 20
        assert vxtool_lab_impair(near.name, "--down", "--rate", "none", "--for", "1s") == f"{near.name}: delay 10ms down, for 1 s\n"
        assert row(near.name)[-6:] == ["-", "10ms", "-", "down", "1", "s"]
        (told,) = json.loads(vxtool_lab_impair(near.name, "--json"))["links"]
        assert (told["down"], 0 < told["seconds_left"] <= 1) == (True, True)
        deadline = time.monotonic() + 10
        while row(near.name)[-2] == "down" or row(near.name)[-1] == "s":
            assert time.monotonic() < deadline
        assert row(near.name)[-5:] == ["50mbit", "10ms", "-", "up", "-"]
        assert vxtool_lab_impair(near.name, "--clear", "--loss", "100%") == f"{near.name}: loss 100%\n"
        assert vxtool_lab_impair(near.name, far.name, "--clear", "--show").count(" up ") == 2
        assert min(times()) < round_trip


# -- with netem (make test-vm) ---------------------------------------------------------------------------------------------


@pytest.mark.vm
def test_where_the_kernel_has_netem_it_delays_and_no_delayer_runs(world: Any) -> None:
    assert impair.features().netem
    lab = Lab(world, SEGMENT)
    before = lab.dump()
    assert lab.impair("vm1-s1", Impairment(delay_ms=20, rate=20_000_000)) == {}
    assert lab.delayers.fileno() == -1
    assert min(lab.ping(5, 0.1, wait=2)) >= 40
    rate, whole = stream("vm1", "vm2", lab.address("vm2"), 1.0)
    assert whole
    assert rate < 21
    lab.impair("vm1-s1", Impairment(delay_ms=20, loss=100))
    assert lab.ping(3, 0.1, wait=0.2) == []
    lab.impair("vm1-s1", PLAIN)
    assert lab.dump() == before


@pytest.mark.vm
def test_where_the_kernel_has_netem_two_routers_can_be_apart(world: Any) -> None:
    lab = Lab(world, ROUTERS)
    lab.impair("r1-r2", Impairment(delay_ms=20))
    assert min(lab.ping(3, 0.1, wait=2)) >= 40
