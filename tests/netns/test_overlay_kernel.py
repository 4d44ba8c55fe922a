"""The plan of an overlay, performed: kernels know what the Cluster says, endpoints reach whom it says, and nodes look like Docker's."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.lab.overlays import KEYS, endpoint, network, topology
from vxtool.lab import underlay
from vxtool.lab.overlay import Plan
from vxtool.lab.spec import Options
from vxtool.lab.steps import SetDown, inverses
from vxtool.model import Cluster, EndpointKind, Network

WEB = replace(network("web", 4097), id="jnz278zgn13ktpvbv5w8v0cxa")


class Laid:
    """An underlay with nodes, and the plan of what is on it."""

    def __init__(self, world: Any, *networks: Network, nodes: tuple[str, ...] = ("vm1", "vm2", "vm3"), options: Options | None = None) -> None:
        self.world = world
        self.topology = topology(nodes)
        self.plan = Plan(self.topology, options or Options(), keys=KEYS)
        world.kernel.perform(underlay.plan(self.topology, Options()))
        for each in networks:
            self.plan.add_network(each)

    def attach(self, name: str, node: str, **networks: str) -> None:
        self.world.kernel.perform(self.plan.attach([endpoint(name, node, each, ip) for each, ip in networks.items()]))

    def detach(self, node: str, name: str) -> None:
        self.world.kernel.perform(self.plan.detach(node, name))

    def matrix(self, sandboxes: Iterable[str], addresses: Iterable[str]) -> dict[str, set[str]]:
        """Sandbox -> which of the addresses answer a ping from there, within a second."""
        asked, answered = list(sandboxes), {}
        with TemporaryDirectory() as folder:
            pings = "".join(f"(ping -c1 -W1 -q {address} >/dev/null 2>&1 && echo {address}) & " for address in addresses)
            self.world.sh("".join(f"ip netns exec {sandbox} sh -c '{pings} wait' > '{folder}/{sandbox}' & " for sandbox in asked) + "wait")
            for sandbox in asked:
                answered[sandbox] = set((Path(folder) / sandbox).read_text().split())
        return answered

    def reaches(self, sandbox: str, *addresses: str) -> set[str]:
        return self.matrix([sandbox], addresses)[sandbox]


# -- any history, in the kernel ---------------------------------------------------------------------------------------------

TWIN = network("twin", 4098, internal=True)
WIDE = network("wide", 4200, "10.1.0.0/24", "10.1.1.0/24")


def known(world: Any) -> dict[str, Any]:
    """Of each overlay sandbox there is: its neighbours and forwarding entries, by VNI."""
    told = {}
    for name in sorted(entry.name for entry in Path("/run/netns").iterdir() if ":1-" in entry.name):
        links = world.json(f"ip -d -j -n {name} link show type vxlan")
        vnis = {link["ifname"]: link["linkinfo"]["info_data"]["id"] for link in links}
        neighbours = world.json(f"ip -j -n {name} neigh show nud permanent")
        fdb = [entry for entry in world.json(f"bridge -j -n {name} fdb show") if "dst" in entry and "self" in entry.get("flags", [])]
        told[name] = (
            {(vnis[entry["dev"]], entry["dst"], entry["lladdr"]) for entry in neighbours},
            {(vnis[entry["ifname"]], entry["mac"], entry["dst"]) for entry in fdb if entry["state"] == "permanent"},
        )
    return told


def expected(cluster: Cluster) -> dict[str, Any]:
    """The same from the Cluster, in which no address is there twice in a network."""
    told = {}
    for each in cluster.networks:
        own = [one for one in cluster.endpoints if one.network == each.name]
        for node in {one.node for one in own}:
            remote = [(next(v for v, s in zip(each.vnis, each.subnets, strict=True) if one.ip in s.prefix), one) for one in own if one.node != node]
            told[f"{node}:1-{(each.id or '')[:10]}"] = (
                {(vni, str(one.ip), str(one.mac)) for vni, one in remote},
                {(vni, str(one.mac), str(cluster.vtep_of(one))) for vni, one in remote},
            )
    return told


def reachable(cluster: Cluster) -> dict[str, set[str]]:
    """Sandbox -> addresses: a network's endpoints reach one another, over all its subnets, and nobody else."""
    told: dict[str, set[str]] = {}
    for one in cluster.endpoints:
        told.setdefault(f"{one.node}:{one.name}", set()).update(str(other.ip) for other in cluster.endpoints if other.network == one.network)
    return told


@pytest.mark.parametrize("seed", [1, 2])
def test_after_any_history_kernels_and_pings_agree_with_the_cluster(world: Any, seed: int) -> None:
    draw = random.Random(seed)
    lab = Laid(world, WEB, TWIN, WIDE, nodes=tuple(f"vm{number}" for number in range(10)), options=Options(like_docker=seed == 2))
    nodes = [machine.name for machine in lab.topology.nodes]
    free = {"web": [f"10.0.1.{n}" for n in range(3, 60)], "twin": [f"10.0.1.{n}" for n in range(103, 160)]}
    free["wide"] = [f"10.1.{n % 2}.{n}" for n in range(3, 60)]
    for number in range(20):
        there = sorted({(one.node or "", one.name) for one in lab.plan.cluster.endpoints})
        what = draw.choice(["attach", "attach", "move", "detach"]) if len(there) > 2 else "attach"
        if len(there) > 9:
            what = draw.choice(["move", "detach"])
        if what == "attach":
            chosen = draw.choice([["web"], ["twin"], ["wide"], ["web", "wide"], ["twin", "wide"]])
            lab.attach(f"c{number}", draw.choice(nodes), **{each: free[each].pop(0) for each in chosen})
        elif what == "detach":
            lab.detach(*draw.choice(there))
        else:
            world.kernel.perform(lab.plan.move(draw.choice(there)[1], draw.choice(nodes)))
        assert known(world) == expected(lab.plan.cluster), f"after step {number}, {what}"
        if number in (9, 19):
            everybody = [str(one.ip) for one in lab.plan.cluster.endpoints]
            wanted = reachable(lab.plan.cluster)
            seen = lab.matrix(wanted, everybody)
            odd = {sandbox: (seen[sandbox] - wanted[sandbox], wanted[sandbox] - seen[sandbox]) for sandbox in wanted}
            assert not any(map(any, odd.values())), f"after step {number}: too much, too little: {odd}"
    for node, name in sorted({(one.node or "", one.name) for one in lab.plan.cluster.endpoints}):
        lab.detach(node, name)
    assert sorted(entry.name for entry in Path("/run/netns").iterdir()) == ["switches", *nodes]


def test_a_failure_in_the_middle_leaves_kernel_and_plan_as_they_were(world: Any) -> None:
    lab = Laid(world, WEB, WIDE)
    for number, node in enumerate(("vm1", "vm2", "vm3", "vm1")):
        lab.attach(f"c{number}", node, web=f"10.0.1.{number + 3}", wide=f"10.1.{number % 2}.{number + 3}")
    before, snapshot = _everything(world), lab.plan.snapshot()
    steps = lab.plan.move("c1", "vm3")
    world.kernel.perform(steps[: len(steps) * 2 // 3])
    world.kernel.undo(steps[: len(steps) * 2 // 3])
    lab.plan.restore(snapshot)
    assert _everything(world) == before
    lab.detach("vm2", "c1")
    assert known(world) == expected(lab.plan.cluster)


def _everything(world: Any) -> dict[str, list[str]]:
    """Every namespace's links, addresses, routes, neighbours, entries and rules, without what Linux draws anew."""
    told = {}
    for name in sorted(entry.name for entry in Path("/run/netns").iterdir()):
        inside = "ip addr; ip route; ip neigh show nud permanent; bridge fdb show | grep permanent; nft list ruleset"
        text = world.sh(f"ip netns exec {name} sh -c '{inside}'")
        drawn = re.sub(r"(?m)^\d+: |@\S+|<\S+>|state \S+|link-netns(id)? \S+|(?!02:42)[0-9a-f]{2}(:[0-9a-f]{2}){5}", "", text)
        told[name] = sorted(line.strip() for line in drawn.splitlines())
    return told


def test_an_endpoint_that_moves_here_is_found_although_the_bridge_knew_it_elsewhere(world: Any) -> None:
    lab = Laid(world, WEB)
    lab.attach("a", "vm1", web="10.0.1.3")
    lab.attach("b", "vm2", web="10.0.1.4")
    assert lab.reaches("vm1:a", "10.0.1.4") == {"10.0.1.4"}, "vm1's br0 has learned b at vxlan0"
    assert "02:42:0a:00:01:04" in [entry["mac"] for entry in world.json("bridge -j -n vm1:1-jnz278zgn1 fdb show br br0") if "master" in entry]
    world.kernel.perform(lab.plan.move("b", "vm1"))
    assert lab.reaches("vm1:a", "10.0.1.4") == {"10.0.1.4"}


def test_of_two_endpoints_with_one_address_the_first_answers_until_it_goes(world: Any) -> None:
    lab = Laid(world, WEB)
    lab.attach("w", "vm3", web="10.0.1.9")
    lab.attach("a", "vm1", web="10.0.1.3")
    lab.attach("b", "vm2", web="10.0.1.3")
    sent = "cat /sys/class/net/eth0/statistics/rx_packets"

    def answered(sandbox: str) -> int:
        before = int(world.sh(f"ip netns exec {sandbox} {sent}"))
        assert lab.reaches("vm3:w", "10.0.1.3") == {"10.0.1.3"}
        return int(world.sh(f"ip netns exec {sandbox} {sent}")) - before

    assert answered("vm1:a") > 0
    lab.detach("vm1", "a")
    assert answered("vm2:b") > 0


# -- the way out -----------------------------------------------------------------------------------------------------------


def test_the_way_out_leads_to_other_nodes_masqueraded_and_not_to_neighbours(world: Any) -> None:
    lab = Laid(world, WEB, TWIN)
    lab.attach("a", "vm1", web="10.0.1.3")
    lab.attach("b", "vm1", web="10.0.1.4")
    lab.attach("quiet", "vm1", twin="10.0.1.5")
    ways_out = {name: str(address) for (_, name), address in lab.plan.gateways.items()}
    assert ways_out == {"a": "172.18.0.2", "b": "172.18.0.3"}
    assert lab.reaches("vm1:a", "172.18.0.1", "192.168.68.110") == {"172.18.0.1", "192.168.68.110"}
    assert lab.reaches("vm1:a", "172.18.0.3") == set(), "inter-container communication is off"
    assert lab.reaches("vm1", "172.18.0.3") == {"172.18.0.3"}
    assert lab.reaches("vm1:quiet", "172.18.0.1", "192.168.68.110") == set()
    assert world.sh("ip -n vm1:quiet route").split("\n")[:-1] == ["10.0.1.0/24 dev eth0 proto kernel scope link src 10.0.1.5 "]


# -- as Docker makes it ----------------------------------------------------------------------------------------------------
# Dumps of the real driver, shortened to what it decides: `ip -d link`, addr, route, neigh and `bridge fdb` of its overlay sandbox.

DRIVER_19_03 = """
2: br0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1450 qdisc noqueue state UP mode DEFAULT group default
    link/ether 4e:fe:fb:9a:7a:64 brd ff:ff:ff:ff:ff:ff promiscuity 0  allmulti 0 minmtu 68 maxmtu 65535
    bridge forward_delay 1500 hello_time 200 max_age 2000 ageing_time 30000 stp_state 0 priority 32768 vlan_filtering 0
3: vxlan0@if3: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1450 qdisc noqueue master br0 state UNKNOWN mode DEFAULT group default
    link/ether 4e:fe:fb:9a:7a:64 brd ff:ff:ff:ff:ff:ff link-netnsid 0 promiscuity 1  allmulti 1 minmtu 68 maxmtu 65535
    vxlan id 4097 srcport 0 0 dstport 4789 proxy l2miss l3miss ttl auto ageing 300 udpcsum noudp6zerocsumtx noudp6zerocsumrx
    bridge_slave state forwarding priority 32 cost 100 hairpin off guard off root_block off fastleave off learning on flood on port_id 0x8001
5: veth0@if4: <NO-CARRIER,BROADCAST,MULTICAST,UP> mtu 1450 qdisc noqueue master br0 state LOWERLAYERDOWN mode DEFAULT group default
    link/ether 9e:88:34:9d:db:7b brd ff:ff:ff:ff:ff:ff link-netnsid 0 promiscuity 1  allmulti 1 minmtu 68 maxmtu 65535
    veth
    bridge_slave state disabled priority 32 cost 2 hairpin off guard off root_block off fastleave off learning on flood on port_id 0x8002
7: veth1@if6: <NO-CARRIER,BROADCAST,MULTICAST,UP> mtu 1450 qdisc noqueue master br0 state LOWERLAYERDOWN mode DEFAULT group default
    link/ether ae:03:bb:fd:ef:1c brd ff:ff:ff:ff:ff:ff link-netnsid 0 promiscuity 1  allmulti 1 minmtu 68 maxmtu 65535
    veth
    bridge_slave state disabled priority 32 cost 2 hairpin off guard off root_block off fastleave off learning on flood on port_id 0x8003
inet 10.0.1.1/24 brd 10.0.1.255 scope global br0
10.0.1.0/24 dev br0 proto kernel scope link src 10.0.1.1
02:42:0a:00:01:04 dev vxlan0 dst 192.168.68.110 link-netnsid 0 self permanent
10.0.1.4 dev vxlan0 lladdr 02:42:0a:00:01:04 PERMANENT
net.ipv6.conf.all.disable_ipv6 = 1
net.ipv4.ip_forward = 1
"""

CONTAINER_20_10 = """
20: eth0@if21: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1450 qdisc noqueue state UP mode DEFAULT group default
    link/ether 02:42:0a:00:00:06 brd ff:ff:ff:ff:ff:ff link-netnsid 0 promiscuity 0  allmulti 0 minmtu 68 maxmtu 65535
22: eth2@if23: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue state UP mode DEFAULT group default
    link/ether 02:42:ac:12:00:03 brd ff:ff:ff:ff:ff:ff link-netns dk-h1 promiscuity 0  allmulti 0 minmtu 68 maxmtu 65535
24: eth1@if25: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1450 qdisc noqueue state UP mode DEFAULT group default
    link/ether 02:42:0a:00:01:03 brd ff:ff:ff:ff:ff:ff link-netnsid 1 promiscuity 0  allmulti 0 minmtu 68 maxmtu 65535
inet 10.0.0.6/24 brd 10.0.0.255 scope global eth0
inet 172.18.0.3/16 brd 172.18.255.255 scope global eth2
inet 10.0.1.3/24 brd 10.0.1.255 scope global eth1
default via 172.18.0.1 dev eth2
10.0.0.0/24 dev eth0 proto kernel scope link src 10.0.0.6
10.0.1.0/24 dev eth1 proto kernel scope link src 10.0.1.3
172.18.0.0/16 dev eth2 proto kernel scope link src 172.18.0.3
"""

NODE_20_10 = """
8: docker_gwbridge: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue state UP mode DEFAULT group default
    link/ether 02:42:5a:10:b0:bd brd ff:ff:ff:ff:ff:ff promiscuity 0  allmulti 0 minmtu 68 maxmtu 65535
    bridge forward_delay 1500 hello_time 200 max_age 2000 ageing_time 30000 stp_state 0 priority 32768 vlan_filtering 0
10: veth35439aa@if9: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue master docker_gwbridge state UP mode DEFAULT group default
    link/ether 32:2a:e2:be:8c:f5 brd ff:ff:ff:ff:ff:ff link-netnsid 2 promiscuity 1  allmulti 1 minmtu 68 maxmtu 65535
    bridge_slave state forwarding priority 32 cost 2 hairpin off guard off root_block off fastleave off learning on flood on port_id 0x8001
23: veth52e5074@if22: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue master docker_gwbridge state UP mode DEFAULT group default
    link/ether 0e:a2:c2:5d:3d:4b brd ff:ff:ff:ff:ff:ff link-netnsid 9 promiscuity 1  allmulti 1 minmtu 68 maxmtu 65535
    bridge_slave state forwarding priority 32 cost 2 hairpin off guard off root_block off fastleave off learning on flood on port_id 0x8002
inet 172.18.0.1/16 brd 172.18.255.255 scope global docker_gwbridge
172.18.0.0/16 dev docker_gwbridge proto kernel scope link src 172.18.0.1
"""

FIELDS = re.compile(
    r"<\S+>|qlen \d+|mtu \d+|qdisc \S+|master \S+|state \S+|promiscuity \d|allmulti \d|vxlan id .*rx\b|"
    r"(?:forward_delay|hello_time|max_age|ageing_time|stp_state|priority|vlan_filtering|(?<!_)cost) \w+|"
    r"(?:hairpin|guard|root_block|fastleave|learning|flood|port_id) \w+"
)
RANDOM_MAC = re.compile(r"(?!02:42:0a|02:42:ac|ff:|33:|01:)[0-9a-f]{2}(:[0-9a-f]{2}){5}")


def _facts(text: str) -> set[tuple[str, ...]]:
    """What a dump says, one tuple a fact; ids, generated names and what Linux draws are left out."""
    facts: set[tuple[str, ...]] = set()
    link = ""
    for line in text.splitlines():
        if header := re.match(r"\d+: ([^:@]+)", line):
            link = re.sub(r"^veth[0-9a-f]{7}$", "veth", header[1])
        if header or line.startswith("    "):
            # Whether a pair whose other end is down is DOWN or LOWERLAYERDOWN hangs on a coincidence of interface indexes (net/core/link_watch.c).
            told = re.sub("veth[0-9a-f]{7}", "veth", line).replace("LOWERLAYERDOWN", "DOWN")
            facts |= {(link, field) for field in FIELDS.findall(told)}
            facts |= {(link, mac) for mac in re.findall(r"link/ether (02:42:\S+)", line) if not RANDOM_MAC.match(mac)}
        elif line.strip():
            facts.add(("", re.sub(r"link-netns(id)? \S+ ", "", line.strip())))
    return facts


def _dumped(world: Any, namespace: str, links: str = "", tables: str = "addr|route|neigh|fdb") -> set[tuple[str, ...]]:
    """The same of a namespace here."""
    listed = "".join(world.sh(f"ip -d -n {namespace} link show {link}") for link in links.split())
    rest = {
        "addr": f"ip -n {namespace} -4 addr | grep -o 'inet .*' | grep -v ' lo$'",
        "route": f"ip -n {namespace} route",
        "neigh": f"ip -n {namespace} neigh",
        "fdb": f"bridge -n {namespace} fdb | grep ' dst '",
    }
    text = "".join(world.sh(f"{rest[table]} || true") for table in tables.split("|"))
    return _facts(listed + text)


def test_an_overlay_sandbox_is_the_19_03_drivers_field_by_field(world: Any) -> None:
    lab = Laid(world, WEB)
    for name, node, ip in (("ep0", "vm1", "10.0.1.3"), ("ep1", "vm1", "10.0.1.5"), ("remote", "vm2", "10.0.1.4")):
        lab.attach(name, node, web=ip)
    # The dump's containers were never started: the other ends of their pairs are down.
    world.kernel.perform([SetDown(f"vm1:{name}", "eth0") for name in ("ep0", "ep1")])
    sandbox = "vm1:1-jnz278zgn1"
    sysctls = _facts(world.sh(f"ip netns exec {sandbox} sysctl net.ipv6.conf.all.disable_ipv6 net.ipv4.ip_forward"))
    expected = _facts(DRIVER_19_03)
    assert _settled(lambda: _dumped(world, sandbox, "br0 vxlan0 veth0 veth1") | sysctls, expected) == expected


def test_a_task_with_a_published_port_and_its_node_are_those_of_a_20_10_swarm(world: Any) -> None:
    ingress = network("ingress", 4096, "10.0.0.0/24", ingress=True)
    lab = Laid(world, WEB, ingress)
    balancer = replace(endpoint("ingress-endpoint", "vm1", "ingress", "10.0.0.2"), kind=EndpointKind.LOAD_BALANCER)
    world.kernel.perform(lab.plan.attach([balancer]))
    lab.attach("web.1", "vm1", web="10.0.1.3", ingress="10.0.0.6")
    ports = " ".join(link["ifname"] for link in world.json("ip -j -n vm1 link show master docker_gwbridge"))

    def node() -> set[tuple[str, ...]]:
        return {fact for fact in _dumped(world, "vm1", f"docker_gwbridge {ports}", "addr|route") if "192.168" not in fact[1]}

    assert _settled(lambda: _dumped(world, "vm1:web.1", "eth0 eth1 eth2", "addr|route"), _facts(CONTAINER_20_10)) == _facts(CONTAINER_20_10)
    assert _settled(node, _facts(NODE_20_10)) == _facts(NODE_20_10)


@pytest.mark.vm
def test_the_bridge_of_a_subnet_has_no_default_vlan(world: Any) -> None:
    """As in the 20.10 dump; this machine's kernel may not know VLANs on bridges."""
    lab = Laid(world, WEB)
    lab.attach("a", "vm1", web="10.0.1.3")
    (bridge,) = world.json("ip -d -j -n vm1:1-jnz278zgn1 link show br0")
    assert bridge["linkinfo"]["info_data"]["vlan_default_pvid"] == 0
    assert world.json("bridge -j -n vm1:1-jnz278zgn1 vlan show") in (None, [])


def _settled(look: Callable[[], set[tuple[str, ...]]], expected: set[tuple[str, ...]]) -> set[tuple[str, ...]]:
    """What is seen when it is as expected, at the latest after five seconds: the kernel's link watch tells once a second (net/core/link_watch.c)."""
    end = time.monotonic() + 5
    while (seen := look()) != expected and time.monotonic() < end:
        time.sleep(0.05)
    return seen


# -- a whole cluster -------------------------------------------------------------------------------------------------------


def test_a_cluster_is_built_in_one_go_and_undone_in_one_go(world: Any) -> None:
    lab = Laid(world, nodes=("vm1", "vm2", "vm3"))
    before = _everything(world)
    endpoints = tuple(
        endpoint(f"c{number}", f"vm{number % 3 + 1}", name, f"{prefix}.{number + 3}")
        for number in range(9)
        for name, prefix in (("web", "10.0.1"), ("wide", f"10.1.{number % 2}"))
    )
    steps = lab.plan.build(Cluster(networks=(WEB, WIDE), endpoints=endpoints))
    world.kernel.perform(steps)
    assert known(world) == expected(lab.plan.cluster)
    addresses = [str(one.ip) for one in endpoints]
    assert lab.matrix(["vm1:c0", "vm2:c4"], addresses) == {"vm1:c0": set(addresses), "vm2:c4": set(addresses)}
    world.kernel.perform(inverses(steps))
    assert _everything(world) == before


# -- encrypted -------------------------------------------------------------------------------------------------------------


@pytest.mark.vm
def test_between_two_nodes_an_encrypted_network_is_esp_and_clear_text_is_refused(world: Any) -> None:
    sec = network("sec", 4099, "10.0.3.0/24", encrypted=True)
    lab = Laid(world, sec, WEB)
    for number, node in enumerate(("vm1", "vm2", "vm3")):
        lab.attach(f"s{number}", node, sec=f"10.0.3.{number + 3}", web=f"10.0.1.{number + 3}")
    xfrm = world.sh("ip -n vm1 xfrm state; ip -n vm1 xfrm policy")
    assert (xfrm.count("aead rfc4106(gcm(aes))"), xfrm.count("dir out priority 0")) == (8, 2), "as in the dump of a 20.10 swarm of three nodes"
    seen = Seen(world, "vm1")
    assert lab.reaches("vm1:s0", "10.0.3.4", "10.0.3.5") == {"10.0.3.4", "10.0.3.5"}
    assert seen.protocols() == {"esp"}, "nothing of the network's frames is in the clear"
    assert lab.reaches("vm1:s0", "10.0.1.4") == {"10.0.1.4"}
    assert "vxlan" in seen.protocols(), "another network of the same nodes is not encrypted"
    for tag in (13, 14):
        world.kernel.perform(lab.plan.rotate(type(KEYS.next)(tag, bytes([tag]) * 16)))
        assert lab.reaches("vm1:s0", "10.0.3.4", "10.0.3.5") == {"10.0.3.4", "10.0.3.5"}
    world.sh("ip netns exec vm1 nft delete table ip encrypted-001003")  # vm1 no longer marks: it sends in the clear
    assert lab.reaches("vm1:s0", "10.0.3.4") == set()
    world.sh("ip netns exec vm1 nft add table ip encrypted-001003")
    for number, node in enumerate(("vm1", "vm2", "vm3")):
        lab.detach(node, f"s{number}")
        assert world.sh(f"ip -n {node} xfrm state; ip -n {node} xfrm policy") == ""


class Seen:
    """Which protocols a node has sent and received, by nftables' counters on its underlay interface."""

    def __init__(self, world: Any, node: str) -> None:
        self.world, self.node = world, node
        rules = 'ip protocol esp counter comment "esp"; udp dport 4789 counter comment "vxlan";'
        world.sh(f"ip netns exec {node} nft 'table netdev seen {{ chain in {{ type filter hook ingress device eth0 priority 0; {rules} }}; }}'")

    def protocols(self) -> set[str]:
        listed = self.world.sh(f"ip netns exec {self.node} nft list table netdev seen")
        return {name for packets, name in re.findall(r'packets (\d+) bytes \d+ comment "(\w+)"', listed) if int(packets)}
