"""Every topology that comes with vxtool, built for real: each node reaches each, routers are crossed where they should be, and nothing is left."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.netns.conftest import World
from vxtool.errors import LabError
from vxtool.lab.lab import Lab
from vxtool.lab.mininet import Net, net
from vxtool.lab.namespaces import NETNS
from vxtool.lab.spec import Options, from_options
from vxtool.lab.topology import SWITCHES, Topology
from vxtool.lab.topos import load
from vxtool.lab.underlay import plan

# Routers between the first node and the last one.
TOPOLOGIES = {"one_segment,n=4": 0, "two_racks,n=4": 1, "leaf_spine,racks=3,n=4": 3, "wide_area,sites=3,n=4": 2, "single": 0}


def unreachable(world: World, topology: Topology) -> list[str]:
    """Pairs of nodes of which the first cannot ping the second; all of a node's pings at once."""
    addresses = {node.name: topology.address(node.name) for node in topology.nodes}
    lost = []
    for name in addresses:
        pings = " ".join(f"(ping -c1 -W2 -q {address} >/dev/null || echo {other}) &" for other, address in addresses.items())
        lost += [f"{name} -> {other}" for other in world.sh(f"ip netns exec {name} sh -c '{pings} wait'").split()]
    return lost


@pytest.mark.parametrize(("text", "routers"), TOPOLOGIES.items())
def test_every_node_reaches_every_node_through_as_many_routers_as_there_are(world: World, text: str, routers: int) -> None:
    topology = load(text)
    steps = plan(topology, Options())
    world.kernel.perform(steps)
    assert unreachable(world, topology) == []
    first, last = topology.nodes[0].name, topology.address(topology.nodes[-1].name)
    if routers:
        assert "Time to live exceeded" in world.sh(f"ip netns exec {first} ping -c1 -W2 -t {routers} {last} || true")
    world.sh(f"ip netns exec {first} ping -c1 -W2 -t {routers + 1} {last}")
    world.kernel.undo(steps)
    assert os.listdir(NETNS) == [SWITCHES]
    assert [link["ifname"] for link in world.json("ip -j link")] == ["lo"]


def test_a_packet_crosses_the_leaves_and_the_spine_of_the_plan(world: World) -> None:
    topology = load("leaf_spine,racks=3,n=3")
    world.kernel.perform(plan(topology, Options()))
    owner = {str(end.interface.ip): end.machine for link in topology.links for end in link.ends if end.interface is not None}
    # rack 1 to rack 3: spine (1 + 3) mod 2 + 1
    refusals = (world.sh(f"ip netns exec vm1 ping -c1 -W2 -t {ttl} 10.10.3.11 || true") for ttl in (1, 2, 3))
    way = [owner[text.partition("From ")[2].split()[0]] for text in refusals]
    assert way == ["leaf1", "spine1", "leaf3"]


def test_a_small_mtu_on_the_way_is_told_to_the_sender(world: World) -> None:
    world.kernel.perform(plan(load("wide_area,mtu=1400"), Options()))
    ping = "ip netns exec vm1 ping -c1 -W2 -M do -s {} 10.20.2.11"
    world.sh(ping.format(1400 - 28))
    assert "Frag needed and DF set (mtu = 1400)" in world.sh(f"{ping.format(1401 - 28)} || true")


@pytest.mark.parametrize("wire", [False, True])
def test_with_wire_no_link_has_offload(world: World, wire: bool) -> None:
    topology = load("two_racks")
    world.kernel.perform(plan(topology, Options(wire=wire)))
    for link in topology.links:
        for end in link.ends:
            shown = world.sh(f"ip netns exec {topology.namespace(end.machine)} ethtool -k {end.device}")
            on = {line.partition(":")[0].strip() for line in shown.splitlines() if line.endswith((": on", ": on [requested on]"))}
            some = on & {"tx-checksumming", "rx-checksumming", "tcp-segmentation-offload", "generic-segmentation-offload"}
            assert some == (set() if wire else {"tx-checksumming", "rx-checksumming", "tcp-segmentation-offload", "generic-segmentation-offload"})


def test_settings_are_where_they_belong(world: World) -> None:
    world.kernel.perform(plan(load("two_racks"), Options()))
    assert world.sh("ip netns exec r1 sysctl -n net.ipv4.ip_forward").strip() == "1"
    for name in ("vm1", "r1", SWITCHES):
        assert world.sh(f"ip netns exec {name} sysctl -n net.ipv6.conf.all.disable_ipv6 net.ipv6.conf.default.disable_ipv6").split() == ["1", "1"]
    told = world.sh(f"ip netns exec {SWITCHES} sysctl -e -n net.bridge.bridge-nf-call-iptables").split()
    assert told in (["0"], []), "a kernel without br_netfilter has no such setting"


# -- Mininet's API on what is there ------------------------------------------------------------------------------------


def test_mininets_hosts_are_the_labs_namespaces_and_leave_them_as_they_are(world: World) -> None:
    spec = from_options("two_racks")
    world.kernel.perform(plan(spec.topology, Options()))
    looking = f"cd {NETNS}; for name in *; do echo $name; ip -n $name -o addr; ip -n $name route; done"
    before = world.sh(looking)
    with Net(spec.topology, spec.cluster, lambda namespace: ["nsenter", f"--net={NETNS}/{namespace}"]) as lab:
        assert [host.shell for host in lab.hosts] == [None, None, None], "no shell before it is wanted"
        assert "1 received" in lab["vm1"].cmd("ping -c1 -W2", lab["vm2"].IP())
        assert [host.name for host in lab.hosts if host.shell] == ["vm1"]
        assert lab["vm2"].popen("ip -br addr show eth0").communicate()[0].split()[2] == b"192.168.69.109/24"
        assert lab["vm1"].pexec("sh", "-c", "exit 7")[2] == 7
        assert lab["vm1"].intf().MAC() == world.json("ip -j -n vm1 link show eth0")[0]["address"]
        assert [interface.name for interface in lab["s1"].intfList()] == ["s1-eth1", "s1-eth2"]
        assert "s1-eth1" in lab["s1"].cmd("bridge link")
        assert len(lab.linksBetween(lab["vm1"], lab["s1"])) == 1
        assert lab.pingAll() == 0.0
        with pytest.raises(LabError, match="no command can be run in"):
            lab["web.1"].cmd("true")
    assert "mininet:" not in world.sh("ps -e -o args")
    assert world.sh(looking) == before


@pytest.fixture
def own_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that labs of this machine are neither seen nor swept."""
    if os.geteuid() != 0:
        pytest.fail("this test builds a lab: run it as root", pytrace=False)
    monkeypatch.setenv("VXTOOL_RUN", str(tmp_path / "run"))
    monkeypatch.delenv("VXTOOL_LAB", raising=False)


@pytest.mark.usefixtures("own_registry")
def test_a_running_lab_is_a_mininet() -> None:
    with Lab() as lab, net(lab.running) as mininet:
        assert [host.name for host in mininet.endpoints] == [f"web.{slot}" for slot in range(1, 7)]
        assert "1 received" in mininet["web.1"].cmd("ping -c1 -W2", mininet["web.2"].IP())
        assert mininet["sathish-vm1:web.1"].cmd("ip -br -4 addr show eth0").split()[2] == "10.0.1.3/24"
        assert mininet["sathish-vm1"].cmd("pwd").strip() == os.getcwd()
        assert mininet.pingAll() == 0.0
