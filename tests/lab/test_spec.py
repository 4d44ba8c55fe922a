"""The spec of a lab: what is filled in when little is said, what cannot be said, and that YAML and options say the same."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vxtool.errors import UsageError
from vxtool.lab import labfile
from vxtool.lab.labfile import KEYS, parse
from vxtool.lab.spec import EndpointWish, LabSpec, NetworkWish, Options, complete, from_options
from vxtool.lab.topology import End, Impairment, Link, Machine, MachineKind, Route, Topology
from vxtool.lab.topos import load
from vxtool.model import EndpointKind, Engine, Mac, Subnet, overlay_mac
from vxtool.model.plain import plain, revive


def where(spec: LabSpec) -> dict[str, str]:
    return {f"{endpoint.name}@{endpoint.node} {endpoint.network}": str(endpoint.ip) for endpoint in spec.cluster.endpoints}


# -- what is filled in -------------------------------------------------------------------------------------------------


def test_with_nothing_said_the_lab_is_the_articles() -> None:
    spec = from_options()
    cluster = spec.cluster
    assert [(node.name, str(node.vtep)) for node in cluster.nodes] == [("sathish-vm1", "192.168.68.109"), ("sathish-vm2", "192.168.68.110")]
    (web,) = cluster.networks
    assert (web.name, web.vnis, web.subnets, web.mtu) == ("web", (4097,), (Subnet(IPv4Network("10.0.1.0/24"), IPv4Address("10.0.1.1")),), 1450)
    assert where(spec) == {
        "web.1@sathish-vm1 web": "10.0.1.3",
        "web.2@sathish-vm2 web": "10.0.1.4",
        "web.3@sathish-vm1 web": "10.0.1.5",
        "web.4@sathish-vm2 web": "10.0.1.6",
        "web.5@sathish-vm1 web": "10.0.1.7",
        "web.6@sathish-vm2 web": "10.0.1.8",
    }
    assert {str(endpoint.mac) for endpoint in cluster.endpoints} == {f"02:42:0a:00:01:{last:02x}" for last in range(3, 9)}
    assert {(endpoint.kind, endpoint.service) for endpoint in cluster.endpoints} == {(EndpointKind.TASK, "web")}
    assert cluster.data_path_port == 4789
    assert cluster.vteps_complete
    assert web.complete


def test_ids_are_the_same_each_time_and_others_in_another_lab() -> None:
    first, again, other = from_options(), from_options(), from_options(name="other")
    assert first == again
    assert first.cluster.networks[0].id != other.cluster.networks[0].id
    assert len(first.cluster.networks[0].id or "") == 25
    assert {len(node.id or "") for node in first.cluster.nodes} == {25}


def test_networks_get_subnets_and_vnis_in_swarms_order_around_what_was_given() -> None:
    wishes = [
        NetworkWish("a"),
        NetworkWish("b", (Subnet(IPv4Network("10.0.2.0/23")),), (4098,)),
        NetworkWish("c"),
        NetworkWish("d", (Subnet(IPv4Network("10.9.0.0/24")), Subnet(IPv4Network("10.9.1.0/24"), IPv4Address("10.9.1.254")))),
        NetworkWish("e", (Subnet(IPv4Network("10.9.0.0/24")),), mtu=1400),
    ]
    networks = {network.name: network for network in complete("lab", load("single"), wishes, []).cluster.networks}
    assert {name: network.vnis for name, network in networks.items()} == {"a": (4097,), "b": (4098,), "c": (4099,), "d": (4100, 4101), "e": (4102,)}
    assert {name: [str(subnet.prefix) for subnet in network.subnets] for name, network in networks.items()} == {
        "a": ["10.0.1.0/24"],
        "b": ["10.0.2.0/23"],
        "c": ["10.0.4.0/24"],
        "d": ["10.9.0.0/24", "10.9.1.0/24"],
        "e": ["10.9.0.0/24"],
    }
    assert [str(subnet.gateway) for subnet in networks["d"].subnets] == ["10.9.0.1", "10.9.1.254"]
    assert len({network.id for network in networks.values()}) == 5


@pytest.mark.parametrize(
    ("encrypted", "own", "from_underlay", "topology", "mtu", "by_rule"),
    [
        (False, None, False, "wide_area", 1450, True),
        (True, None, False, "wide_area", 1424, True),
        (False, None, True, "wide_area", 1350, False),
        (True, None, True, "wide_area", 1324, False),
        (False, None, True, "one_segment,mtu=9000", 8950, False),
        (False, 1200, True, "wide_area", 1200, False),
        (True, 1200, False, "wide_area", 1200, False),
    ],
)
def test_the_mtu_of_a_network(encrypted: bool, own: int | None, from_underlay: bool, topology: str, mtu: int, by_rule: bool) -> None:
    spec = from_options(topology, encrypted=encrypted, mtu=own, options=Options(mtu_from_underlay=from_underlay))
    assert spec.cluster.networks[0].mtu == mtu
    assert ("mtu" in spec.cluster.networks[0].derived) is by_rule


def test_addresses_are_handed_out_serially_around_what_was_given() -> None:
    networks = [NetworkWish("web", (Subnet(IPv4Network("10.0.1.0/29"), IPv4Address("10.0.1.3")), Subnet(IPv4Network("10.0.2.0/29"))))]
    wishes = [EndpointWish(f"c{i}", "vm1", {"web": IPv4Address("10.0.1.4") if i == 3 else None}) for i in range(6)]
    spec = complete("lab", load("single"), networks, wishes)
    # .1 is the first free one, which a service's VIP would get; .3 the gateway
    assert [str(endpoint.ip) for endpoint in spec.cluster.endpoints] == ["10.0.1.2", "10.0.1.5", "10.0.1.6", "10.0.1.4", "10.0.2.2", "10.0.2.3"]


def test_a_sandbox_in_two_networks_is_two_endpoints_of_one_name() -> None:
    spec = complete("lab", load("single"), [NetworkWish("a"), NetworkWish("b")], [EndpointWish("c", "vm1", {"b": None, "a": None})])
    assert where(spec) == {"c@vm1 b": "10.0.2.3", "c@vm1 a": "10.0.1.3"}
    assert {endpoint.kind for endpoint in spec.cluster.endpoints} == {EndpointKind.CONTAINER}


def test_endpoints_are_counted_in_each_network() -> None:
    spec = from_options("one_segment", nodes=3, networks=["a", "b=10.7.0.0/16"], endpoints=4)
    assert where(spec) == {
        **{f"a.{i + 1}@sathish-vm{i % 3 + 1} a": f"10.0.1.{3 + i}" for i in range(4)},
        **{f"b.{i + 1}@sathish-vm{i % 3 + 1} b": f"10.7.0.{3 + i}" for i in range(4)},
    }


def test_two_networks_may_have_one_subnet() -> None:
    spec = from_options(networks=["a=10.0.1.0/24", "b=10.0.1.0/24"], endpoints=1)
    assert where(spec) == {"a.1@sathish-vm1 a": "10.0.1.3", "b.1@sathish-vm1 b": "10.0.1.3"}


# -- what cannot be ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"name": "../x"}, "'../x' is no name for a lab: up to 63 letters, digits, '.', '-' and '_' are, beginning with a letter or digit"),
        ({"nodes": 0}, "a lab of 0 nodes cannot be; one is the least"),
        ({"topology": "one_segment,n=3", "nodes": 4}, "the number of nodes stands twice: one_segment,n=3 and 4"),
        ({"topology": "single", "nodes": 4}, "single,n=4: n is no parameter of it (there are node, address, mtu)"),
        ({"endpoints": -1}, "-1 endpoints cannot be"),
        ({"endpoints": 253}, "the network web (10.0.1.0/24) has no address left for web.253"),
        ({"networks": ["web=10.0.1.1/24"]}, "'10.0.1.1/24' is not a subnet of the network web: one like web=10.0.1.0/24 is wanted"),
        ({"networks": ["web="]}, "'' is not a subnet of the network web: one like web=10.0.1.0/24 is wanted"),
        ({"networks": ["web", "web"]}, "two networks are called web"),
        ({"networks": ["a b"]}, "'a b' is no name for a network: letters, digits, '.', '-' and '_' are, beginning with a letter or digit"),
        ({"networks": ["web=10.0.1.0/31"]}, "the network web cannot have the subnet 10.0.1.0/31: there is no room for endpoints in it"),
        (
            {"networks": ["web=10.0.0.0/8", "b"]},
            "there is no subnet left for the network b in 10.0.0.0/8: say one, as b=192.168.0.0/24",
        ),
        ({"data_path_port": 80}, "VXLAN UDP port number is not in valid range (1024-49151): 80"),
        ({"mtu": 20}, "the network web cannot have an MTU of 20: from 68 to 65,485 are possible"),
        (
            {"topology": "wide_area,mtu=100", "options": Options(mtu_from_underlay=True)},
            "the underlay's smallest MTU, 100, leaves 50 bytes for the network web; IPv4 needs 68",
        ),
        ({"topology": "none.yaml", "nodes": 3}, "nodes cannot be given beside none.yaml, which says it itself"),
        ({"topology": "none.yaml", "endpoints": 0}, "endpoints cannot be given beside none.yaml, which says it itself"),
        ({"topology": "none.yaml"}, "none.yaml: no such file or directory"),
        ({"networks": [NetworkWish("a", vnis=(7,)), NetworkWish("b", vnis=(7,))]}, "the networks a and b both have the VNI 7"),
        ({"networks": [NetworkWish("a", vnis=(1 << 24,))]}, "the network a cannot have the VNI 16777216: 24 bits hold numbers up to 16,777,215"),
        ({"networks": [NetworkWish("a", vnis=(7, 8))]}, "the network a has 1 subnets and 2 VNIs: each subnet has its own"),
        ({"networks": [NetworkWish("a", id="x")]}, "'x' is no id of the network a: 25 digits and small letters are"),
        (
            {"networks": [NetworkWish("a", id="0123456789" + "a" * 15), NetworkWish("b", id="0123456789" + "b" * 15)]},
            "the ids of the networks a and b begin alike: their first ten characters must differ",
        ),
        (
            {"networks": [NetworkWish("a", (Subnet(IPv4Network("10.1.0.0/24"), IPv4Address("10.1.1.1")),))]},
            "the network a cannot have the gateway 10.1.1.1: it is no address for hosts of 10.1.0.0/24",
        ),
        (
            {"endpoints": 100_000_000},
            "100,000,000 endpoints in a network are too many: a node takes 1,022, because a Linux bridge has at most 1,023 ports",
        ),
        ({"endpoints": [EndpointWish("c", "vm9", {"web": None})]}, "the endpoint c is on vm9, which is no node (there are sathish-vm1, sathish-vm2)"),
        ({"endpoints": [EndpointWish("c", "sathish-vm1", {"db": None})]}, "the endpoint c is in db, which is no network (there are web)"),
        ({"endpoints": [EndpointWish("c", "sathish-vm1", {})]}, "the endpoint c is in no network"),
        ({"endpoints": [EndpointWish("c", "sathish-vm1", {"web": None})] * 2}, "two endpoints on sathish-vm1 are called c"),
        (
            {"endpoints": [EndpointWish(":", "sathish-vm1", {"web": None})]},
            "':' is no name for an endpoint: letters, digits, '.', '-' and '_' are, beginning with a letter or digit",
        ),
        (
            {"endpoints": [EndpointWish("c" * 244, "sathish-vm1", {"web": None})]},
            f"the name of the endpoint {'c' * 244} is too long: with its node's it has at most 246 characters",
        ),
        (
            {"endpoints": [EndpointWish("c", "sathish-vm1", {"web": IPv4Address("10.0.2.3")})]},
            "the endpoint c cannot have 10.0.2.3 in web: that is 10.0.1.0/24",
        ),
        (
            {"endpoints": [EndpointWish("c", "sathish-vm1", {"web": IPv4Address("10.0.1.1")})]},
            "the endpoint c cannot have 10.0.1.1 in web: it is the gateway's, or no host's",
        ),
        (
            {"endpoints": [EndpointWish(name, "sathish-vm1", {"web": IPv4Address("10.0.1.9")}) for name in "cd"]},
            "the endpoints c and d both have 10.0.1.9 in web",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(UsageError) as refused:
        from_options(**options)  # type: ignore[arg-type]
    assert str(refused.value) == sentence


# -- YAML --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("{}", {}),
        ("schema: vxtool-lab@1", {}),
        ("nodes: [sathish-vm1@192.168.68.109/24, sathish-vm2@192.168.68.110/24]", {}),
        ("topology: two_racks,n=4", {"topology": "two_racks,n=4"}),
        ("networks: [a, b=10.7.0.0/16]", {"networks": ["a", "b=10.7.0.0/16"]}),
        ("endpoints: 3", {"endpoints": 3}),
        ("endpoints: 0", {"endpoints": 0}),
        ("endpoints: []", {"endpoints": 0}),
        ("data_path_port: 7789", {"data_path_port": 7789}),
        ("name: x\noptions: {wire: true, mtu_from_underlay: true}", {"name": "x", "options": Options(wire=True, mtu_from_underlay=True)}),
        ("options: {engine: today}", {"options": Options(engine=Engine.TODAY)}),
        ("networks: [{name: web, encrypted: true, mtu: 1300}]", {"mtu": 1300, "encrypted": True}),
    ],
)
def test_a_file_and_options_say_the_same(text: str, options: dict[str, object]) -> None:
    written, asked = parse(text, "article.yaml"), from_options(**options)  # type: ignore[arg-type]
    assert written.cluster == asked.cluster
    assert written.options == asked.options
    assert written.topology.links == asked.topology.links
    assert set(written.topology.machines) == set(asked.topology.machines)


WHOLE = """\
name: two-sites
nodes:
  - {name: vm1, address: 192.168.68.109/24, gateway: 192.168.68.1}
  - {name: vm2, address: 192.168.69.109/24, routes: [192.168.68.0/24 via 192.168.69.1]}
routers:
  - r1
switches: [s1, s2]
links:
  - [vm1, s1]
  - [s2, vm2]
  - {between: [r1, s1], addresses: {r1: 192.168.68.1/24}}
  - {between: [s2, r1], addresses: {r1: 192.168.69.1/24}, delay: 20ms, loss: 1, rate: 10mbit, queue: 30, mtu: 1400}
  - {between: [vm1, vm2], addresses: {vm1: 10.255.0.0/31, vm2: 10.255.0.1/31}, down: true}
networks:
  - {name: web, internal: true}
  - {name: db, subnets: [10.0.9.0/24, {subnet: 10.0.10.0/24, gateway: 10.0.10.254}], vni: [7, 9], encrypted: true}
  - {name: app, subnet: 10.0.9.0/24, gateway: 10.0.9.2, vni: 7000, id: 0123456789abcdefghijklmno}
endpoints:
  - {name: web.1, node: vm1, networks: [web, db]}
  - {name: probe, node: vm2, networks: {web: 10.0.1.77, app: null}, service: probes}
  - {name: x, node: vm2, network: app, address: 10.0.9.9, mac: 02:42:10:00:01:03}
data_path_port: 7789
options: {wire: true}
"""


def test_a_file_can_say_everything() -> None:
    spec = parse(WHOLE, "lab.yaml", options=Options(like_docker=True), data_path_port=4790)
    assert (spec.name, spec.cluster.data_path_port, spec.options) == ("two-sites", 4790, Options(wire=True, like_docker=True))
    assert [(link.name, link.a.device, link.b.device) for link in spec.topology.links] == [
        ("vm1-s1", "eth0", "s1-eth1"),
        ("vm2-s2", "eth0", "s2-eth1"),
        ("r1-s1", "eth0", "s1-eth2"),
        ("r1-s2", "eth1", "s2-eth2"),
        ("vm1-vm2", "eth1", "eth1"),
    ]
    assert [link.impairment for link in spec.topology.links[3:]] == [Impairment(10_000_000, 20.0, 1.0, queue=30), Impairment(down=True)]
    assert [str(route) for machine in spec.topology.machines for route in machine.routes] == [
        "default via 192.168.68.1",
        "192.168.68.0/24 via 192.168.69.1",
    ]
    assert where(spec) == {
        "web.1@vm1 web": "10.0.1.3",
        "web.1@vm1 db": "10.0.9.3",
        "probe@vm2 web": "10.0.1.77",
        "probe@vm2 app": "10.0.9.3",
        "x@vm2 app": "10.0.9.9",
    }
    by_name = {endpoint.name: endpoint for endpoint in spec.cluster.endpoints}
    assert by_name["probe"].service == "probes"
    assert (by_name["x"].mac, by_name["x"].derived) == (Mac.parse("02:42:10:00:01:03"), frozenset())
    assert {network.name: (network.vnis, network.internal, network.mtu) for network in spec.cluster.networks} == {
        "web": ((4097,), True, 1450),
        "db": ((7, 9), False, 1424),
        "app": ((7000,), False, 1450),
    }


def test_what_a_node_says_it_has_is_the_same_in_a_file_and_in_a_mininet_topology(tmp_path: Path) -> None:
    text = "nodes:\n- {name: a, address: 10.0.0.1/8, cpus: 0.5, memory: 4GiB, labels: {zone: x}, generic: {gpu: 2}}"
    from mininet.topo import Topo

    from vxtool.lab.topos import from_topo

    topo = Topo()
    topo.addSwitch("s1")
    topo.addHost("a", ip="10.0.0.1/8", cpus=0.5, memory="4GiB", labels={"zone": "x"}, generic={"gpu": 2})
    topo.addLink("a", "s1")
    told = [labfile.parse(text, str(tmp_path / "lab.yaml")).topology.of("a"), from_topo(topo, "x").of("a")]
    assert told[0] == told[1]
    machine = told[0]
    assert machine is not None
    assert (machine.cpus, machine.memory, machine.labels, machine.generic) == (0.5, 4 << 30, {"zone": "x"}, {"gpu": 2})


@pytest.mark.parametrize(
    ("what", "why"), [("cpus: 0", "above 0"), ("memory: much", "memory"), ("labels: [a]", "texts by name"), ("generic: {a: b}", "whole numbers")]
)
def test_a_node_cannot_have_what_makes_no_sense(what: str, why: str) -> None:
    with pytest.raises(UsageError, match=rf"^lab.yaml, line 2: .*{why}"):
        parse(f"nodes:\n- {{name: a, address: 10.0.0.1/8, {what}}}", "lab.yaml")


def test_every_key_is_in_the_documentation() -> None:
    page = (Path(__file__).parents[2] / "docs" / "labs.md").read_text()
    assert not [f"{kind}: {key}" for kind, keys in KEYS.items() for key in keys if f"`{key}`" not in page]


def examples() -> list[str]:
    page = (Path(__file__).parents[2] / "docs" / "labs.md").read_text()
    return [block.split("```")[0] for block in page.split("```yaml\n")[1:]]


@pytest.mark.parametrize("text", examples())
def test_every_example_of_the_documentation_is_a_lab(text: str, tmp_path: Path) -> None:
    (tmp_path / "my.py").write_text("from mininet.topo import SingleSwitchTopo\ntopos = {'star': SingleSwitchTopo}")
    assert labfile.parse(text, str(tmp_path / "lab.yaml")).cluster.nodes


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("nodes: ]", "lab.yaml, line 1, column 8: this is not YAML: did not find expected node content"),
        ("node: [a]", "lab.yaml, line 1: node: no such key; known here: data_path_port, endpoints, links, name, networks, nodes"),
        ("schema: vxtool-lab@2", "lab.yaml, line 1: schema is 'vxtool-lab@2', but 'vxtool-lab@1', the only version there is, is wanted"),
        ("topology: two_rack", "lab.yaml, line 1: no topology is called 'two_rack'; did you mean two_racks?"),
        ("topology: single\nnodes: [a]", "lab.yaml, line 2: nodes: the file names a topology on line 1: it brings its own nodes"),
        ("switches: [s1]", "lab.yaml, line 1: the document: there are no nodes in it"),
        (
            "nodes: [a@10.0.0.1/24]\nswitches: [s1]",
            "lab.yaml, line 1: the document: there are routers or switches in it, but no links that join them",
        ),
        ("nodes:\n  - a", "lab.yaml: the node a has no address"),
        ("nodes:\n  - a@10.0.0.1", "lab.yaml, line 2: '10.0.0.1' is not an IPv4 address with its prefix length, like 192.168.68.109/24"),
        ("nodes:\n  - {name: a, address: 10.0.0.1}", "lab.yaml, line 2: '10.0.0.1' is not an IPv4 address with its prefix length"),
        (
            "nodes:\n  - {name: a, adress: 10.0.0.1}",
            "lab.yaml, line 2: nodes[0].adress: no such key; known here: address, cpus, gateway, generic, labels, memory, name, routes",
        ),
        ("nodes:\n  - {name: a, address: 10.0.0.1/8, gateway: x}", "lab.yaml, line 2: 'via x' is not a route"),
        ("nodes:\n- a@10.0.0.1/8\n- a@10.0.0.2/8", "lab.yaml, line 3: nodes[1]: two machines are called a"),
        ("nodes: [a@10.0.0.1/8]\nlinks:\n- [a, b]", "lab.yaml, line 3: links[0] is 'b', but the name of a machine of this file (a) is wanted"),
        ("nodes: [a@10.0.0.1/8]\nlinks:\n- [a]", "lab.yaml, line 3: links[0].between is a list, but two machines, like [vm1, s1], is wanted"),
        (
            "nodes: [a@10.0.0.1/8, b@10.0.0.2/8]\nlinks:\n- between: [a, b]\n  addresses: {c: 10.0.0.1/8}",
            "lab.yaml, line 4: links[0].addresses.c: c is no end of this link (a, b)",
        ),
        (
            "nodes: [a@10.0.0.1/8, b@10.0.0.2/8]\nlinks:\n- between: [a, b]\n  delay: 20",
            "lab.yaml, line 4: '20' is not a delay: one like 20ms, 300us or 1.5s is wanted",
        ),
        ("nodes: [a@10.0.0.1/8, b@10.0.0.1/8]", "lab.yaml: a (eth0) and b (eth0) both have the address 10.0.0.1"),
        ("networks: [a, a]", "lab.yaml: two networks are called a"),
        ("networks:\n- {name: a, subnet: fd00::/64}", "lab.yaml, line 2: networks[0].subnet is 'fd00::/64', but an IPv4 subnet like 10.0.1.0/24"),
        ("networks:\n- {name: a, gateway: 10.0.0.1}", "lab.yaml, line 2: networks[0].gateway: a gateway belongs to a subnet: give both"),
        ("networks:\n- {name: a, vni: 99999999}", "lab.yaml, line 2: networks[0].vni is 99999999, but a whole number from 0 to 16777215 is wanted"),
        (
            "endpoints:\n- {name: c, node: vm1, network: web}",
            "lab.yaml, line 2: endpoints[0].node is 'vm1', but the name of a node (sathish-vm1, sathish-vm2) is wanted",
        ),
        (
            "endpoints:\n- {name: c, node: sathish-vm1, networks: {db: null}}",
            "lab.yaml, line 2: endpoints[0].networks.db is 'db', but the name of a network of this file (web) is wanted",
        ),
        ("endpoints:\n- {name: c, node: sathish-vm1, address: 10.0.1.9}", "lab.yaml, line 2: endpoints[0].address: of which network?"),
        ("endpoints: -1", "lab.yaml, line 1: endpoints is -1, but a whole number from 0 to 65536 is wanted"),
        ("options: {fast: true}", "lab.yaml, line 1: options.fast: no such key; known here: engine, like_docker, mtu_from_underlay, wire"),
        ("options: {engine: 18}", "lab.yaml, line 1: options.engine is 18, but a text is wanted"),
        ("options: {engine: new}", "lab.yaml, line 1: options.engine is 'new', but one of 19.03, today is wanted"),
        ("options: {wire: yes}", "lab.yaml, line 1: options.wire is 'yes', but true or false is wanted"),
        ("data_path_port: 80", "lab.yaml: VXLAN UDP port number is not in valid range (1024-49151): 80"),
    ],
)
def test_a_mistake_in_a_file_is_told_with_its_line(text: str, sentence: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse(text, "lab.yaml")
    assert str(refused.value).startswith(sentence)


def test_a_topology_in_a_file_is_looked_for_beside_the_lab(tmp_path: Path) -> None:
    (tmp_path / "my.py").write_text("from mininet.topo import SingleSwitchTopo\ntopos = {'star': SingleSwitchTopo}")
    (tmp_path / "lab.yaml").write_text("topology: my.py,k=3")
    assert len(from_options(tmp_path / "lab.yaml").topology.nodes) == 3


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lab.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match=r"lab\.yaml: this is no text in UTF-8"):
        from_options(str(tmp_path / "lab.yaml"))


# -- written and read back ---------------------------------------------------------------------------------------------

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,8}", fullmatch=True)
ADDRESSES = st.integers(0x0A000001, 0x0AFFFFFE).map(IPv4Address)


@st.composite
def specs(draw: st.DrawFn) -> LabSpec:
    """Labs on one segment, with everything that a spec can hold."""
    nodes = draw(st.lists(NAMES.filter(lambda name: name not in ("s1", "switches")), min_size=1, max_size=4, unique=True))
    addresses = draw(st.lists(ADDRESSES, min_size=len(nodes), max_size=len(nodes), unique=True))
    impairments = st.builds(
        Impairment,
        rate=st.none() | st.integers(8, 10**12),
        delay_ms=st.floats(0, 60_000),
        loss=st.floats(0, 100),
        down=st.booleans(),
        queue=st.none() | st.integers(1, 1000),
    )
    links = tuple(
        Link(
            f"{node}-s1",
            End(node, "eth0", IPv4Interface((address, 8)), draw(st.none() | st.just(Mac(2)))),
            End("s1", f"s1-eth{i}"),
            draw(st.integers(68, 65535)),
            draw(impairments),
        )
        for i, (node, address) in enumerate(zip(nodes, addresses, strict=True), 1)
    )
    routes = draw(st.sampled_from([(), (Route(IPv4Network("0.0.0.0/0"), IPv4Address("10.0.0.1")),)]))
    machines = (*(Machine(node, MachineKind.NODE, routes) for node in nodes), Machine("s1", MachineKind.SWITCH))
    networks = [
        NetworkWish(name, mtu=draw(st.none() | st.integers(68, 65000)), encrypted=draw(st.booleans()), internal=draw(st.booleans()))
        for name in draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    ]
    endpoints = [
        EndpointWish(name, draw(st.sampled_from(nodes)), dict.fromkeys((network.name for network in networks), None), service=draw(st.none() | NAMES))
        for name in draw(st.lists(NAMES.filter(lambda name: name not in nodes), max_size=4, unique=True))
    ]
    options = Options(*(draw(st.booleans()) for _ in range(2)))
    return complete(draw(NAMES), Topology("drawn", machines, links), networks, endpoints, draw(st.integers(1024, 49151)), options)


@settings(max_examples=30)
@given(specs())
def test_a_spec_that_is_stored_and_read_back_is_the_same(spec: LabSpec) -> None:
    assert revive(LabSpec, plain(spec)) == spec


@settings(max_examples=30)
@given(specs())
def test_whatever_is_said_macs_follow_from_addresses_and_no_address_is_given_twice(spec: LabSpec) -> None:
    places = [(endpoint.network, endpoint.ip) for endpoint in spec.cluster.endpoints]
    assert len(places) == len(set(places))
    for endpoint in spec.cluster.endpoints:
        network = spec.cluster.network_by_name[endpoint.network]
        assert endpoint.mac == overlay_mac(endpoint.ip)
        assert network.holds(endpoint.ip)
        assert endpoint.ip not in {subnet.gateway for subnet in network.subnets}


@pytest.mark.parametrize(
    ("endpoint", "why"),
    [
        (EndpointWish("vm1", "vm1", {"web": None}), "called like a node"),
        (EndpointWish("web.1", "vm1", {"web": None}, mac=Mac.parse("01:00:5e:00:00:01")), "a group's, or nobody's"),
        (EndpointWish("web.1", "vm1", {"web": None}, mac=Mac(0)), "a group's, or nobody's"),
    ],
)
def test_an_endpoint_that_could_not_be_told_apart_or_be_sent_to_is_refused(endpoint: EndpointWish, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        from_options("two_racks", name="x", nodes=2, networks=["web"], endpoints=[endpoint])


def test_a_parameter_that_is_no_number_is_told_as_such() -> None:
    with pytest.raises(UsageError, match="n is a whole number, not 'abc'"):
        from_options("one_segment,n=abc", name="x")
