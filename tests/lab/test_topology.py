"""Topologies: what a Mininet Topo becomes, what is refused and in which words, and that our own files are what mn expects."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from mininet.topo import LinearTopo, SingleSwitchTopo, Topo
from mininet.util import splitArgs

from vxtool.errors import UsageError
from vxtool.lab.topology import (
    SWITCHES,
    Impairment,
    MachineKind,
    Topology,
    parse_delay,
    parse_loss,
    parse_rate,
    parse_route,
)
from vxtool.lab.topos import FOLDER, _build, from_topo, load, names


def drawn(build: Callable[[Topo], Any]) -> Topology:
    topo = Topo()
    build(topo)
    return from_topo(topo, "drawn")


def addresses(topology: Topology) -> dict[str, str]:
    return {f"{end.machine} {end.device}": str(end.interface) for link in topology.links for end in link.ends if end.interface}


# -- the ones that come with vxtool ------------------------------------------------------------------------------------


def test_the_topologies_that_come_with_vxtool() -> None:
    assert names() == ["leaf_spine", "one_segment", "single", "two_racks", "wide_area"]


@pytest.mark.parametrize("name", names())
def test_a_file_imports_nothing_but_mininet_and_python(name: str) -> None:
    """mn runs it where nothing of vxtool can be imported."""
    tree = ast.parse((FOLDER / f"{name}.py").read_text())
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    modules |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    tops = {(module or "").partition(".")[0] for module in modules}
    assert tops <= sys.stdlib_module_names | {"mininet"}


@pytest.mark.parametrize("name", names())
def test_a_file_defines_nothing_that_mn_would_take_for_its_own(name: str) -> None:
    """Every name at the top of a --custom file replaces mn's global of that name."""
    defined = {node.id for node in ast.walk(ast.parse((FOLDER / f"{name}.py").read_text())) if isinstance(node, ast.Name)}
    assert "topos" in defined
    assert not defined & {"switches", "hosts", "controllers", "links", "tests", "validate", "CLI", "info", "cleanup"}


@pytest.mark.parametrize("name", names())
def test_every_node_has_an_eth0_with_its_address(name: str) -> None:
    topology = load(name)
    for node in topology.nodes:
        first = topology.ends(node.name)[0]
        assert first.device == "eth0"
        assert first.interface is not None
        assert topology.address(node.name) == first.interface.ip


def test_one_segment_is_the_article() -> None:
    topology = load("one_segment")
    assert addresses(topology) == {"sathish-vm1 eth0": "192.168.68.109/24", "sathish-vm2 eth0": "192.168.68.110/24"}
    assert [link.name for link in topology.links] == ["sathish-vm1-s1", "sathish-vm2-s1"]
    assert topology.namespace("s1") == SWITCHES
    assert topology.namespace("sathish-vm1") == "sathish-vm1"


@pytest.mark.parametrize(
    ("text", "nodes"),
    [
        ("one_segment,n=3", {"sathish-vm1": "192.168.68.109", "sathish-vm2": "192.168.68.110", "sathish-vm3": "192.168.68.111"}),
        ("one_segment,3,name=n", {"n1": "192.168.68.109", "n2": "192.168.68.110", "n3": "192.168.68.111"}),
        ("one_segment,nodes=a@10.1.0.1/16+b@10.1.0.9/16", {"a": "10.1.0.1", "b": "10.1.0.9"}),
        ("two_racks", {"vm1": "192.168.68.109", "vm2": "192.168.69.109"}),
        ("two_racks,n=3", {"vm1": "192.168.68.109", "vm2": "192.168.68.110", "vm3": "192.168.69.109"}),
        ("two_racks,nodes=a+b,subnet1=10.1.0.0/28,subnet2=10.2.0.0/28", {"a": "10.1.0.2", "b": "10.2.0.2"}),
        ("leaf_spine,racks=3,n=3", {"vm1": "10.10.1.11", "vm2": "10.10.2.11", "vm3": "10.10.3.11"}),
        ("wide_area,n=3", {"vm1": "10.20.1.11", "vm2": "10.20.2.11", "vm3": "10.20.2.12"}),
        ("single,node=m,address=10.0.0.1/8", {"m": "10.0.0.1"}),
    ],
)
def test_parameters_are_given_as_mininet_has_them(text: str, nodes: dict[str, str]) -> None:
    topology = load(text)
    assert {node.name: str(topology.address(node.name)) for node in topology.nodes} == nodes


@pytest.mark.parametrize("text", ["n=4", "4", "delay=20ms,loss=0.5", "bw=1e3", "name=7up", "nodes=a@10.0.0.1/8+b", "x=a=b", "-3,n=-4", "n= 5", "n="])
def test_parameters_are_numbers_where_mininet_takes_them_for_numbers(text: str) -> None:
    taken: list[Any] = []

    def topo(*positional: Any, **named: Any) -> Topo:
        taken.extend((list(positional), named))
        return SingleSwitchTopo(2)

    _build(topo, text.split(","), text)
    assert ["topo", *taken] == list(splitArgs(f"topo,{text}"))


@pytest.mark.parametrize(("nodes", "prefix"), [(2, 24), (146, 24), (147, 23), (402, 23), (403, 22), (914, 22), (915, 20)])
def test_a_segment_is_as_wide_as_its_nodes_need(nodes: int, prefix: int) -> None:
    topology = load(f"one_segment,n={nodes}")
    last = topology.ends(topology.nodes[-1].name)[0].interface
    assert last is not None
    assert last.network.prefixlen == prefix
    assert last.ip == IPv4Address("192.168.68.109") + nodes - 1
    assert IPv4Address("192.168.68.109") in last.network


def test_the_links_of_a_wide_area_are_impaired_at_a_switch() -> None:
    topology = load("wide_area,delay=80ms,loss=0.5,bw=20,mtu=1300")
    impaired = [link for link in topology.links if link.impairment]
    assert [link.name for link in impaired] == ["r1-wan1", "r2-wan1"]
    assert {link.impairment for link in impaired} == {Impairment(rate=20_000_000, delay_ms=80.0, loss=0.5)}
    assert {link.mtu for link in impaired} == {1300}
    assert topology.mtu("r1") == 1300
    assert topology.mtu("vm1") == 1500


def test_both_directions_between_two_racks_take_the_same_spine() -> None:
    topology = load("leaf_spine,racks=4,spines=3,n=4")
    owner = {end.interface.ip: end.machine for link in topology.links for end in link.ends if end.interface}
    way = {}
    for leaf in range(1, 5):
        machine = topology.of(f"leaf{leaf}")
        assert machine is not None
        for route in machine.routes:
            if route.destination.network_address.packed[1] == 10:
                way[leaf, route.destination.network_address.packed[2]] = owner[route.via]
    assert all(way[a, b] == way[b, a] for a, b in way)
    assert set(way.values()) == {"spine1", "spine2", "spine3"}


# -- any Mininet Topo --------------------------------------------------------------------------------------------------


def test_a_topo_without_addresses_gets_the_articles() -> None:
    topology = from_topo(SingleSwitchTopo(3), "single")
    assert addresses(topology) == {"h1 eth0": "192.168.68.109/24", "h2 eth0": "192.168.68.110/24", "h3 eth0": "192.168.68.111/24"}
    assert {end.device for link in topology.links for end in link.ends if end.machine == "s1"} == {"s1-eth1", "s1-eth2", "s1-eth3"}


def test_switches_may_be_joined_with_one_another() -> None:
    topology = from_topo(LinearTopo(3), "linear")
    assert [link.name for link in topology.links] == ["s1-s2", "h1-s1", "s2-s3", "h2-s2", "h3-s3"]


def test_the_order_in_which_the_ends_of_a_link_are_named_does_not_matter() -> None:
    def build(switch_first: bool) -> Callable[[Topo], None]:
        def built(topo: Topo) -> None:
            topo.addHost("vm1", ip="10.1.0.1/24", defaultRoute="via 10.1.0.254")
            topo.addSwitch("s1")
            topo.addLink(*("s1", "vm1") if switch_first else ("vm1", "s1"), bw=10)

        return built

    assert drawn(build(True)) == drawn(build(False))


def test_what_a_topo_says_is_what_the_topology_has() -> None:
    def build(topo: Topo) -> None:
        topo.addHost("r1", router=True, ip="10.1.0.254/24", routes=["10.9.0.0/16 via 10.2.0.1"])
        topo.addHost("vm1", ip="10.1.0.1/24", defaultRoute="dev eth0 via 10.1.0.254", mac="02:00:00:00:00:07")
        topo.addHost("vm2", ip="10.2.0.1/24", defaultRoute="via 10.2.0.254")
        topo.addLink("vm1", "r1", bw=1.5, delay="20ms", loss=0.5, max_queue_size=50, mtu=1400)
        topo.addLink("r1", "vm2", params1={"ip": "10.2.0.254/24"}, intfName1="up0", max_queue_size=50)

    topology = drawn(build)
    assert [machine.kind for machine in topology.machines] == [MachineKind.ROUTER, MachineKind.NODE, MachineKind.NODE]
    assert addresses(topology) == {"r1 eth0": "10.1.0.254/24", "vm1 eth0": "10.1.0.1/24", "r1 up0": "10.2.0.254/24", "vm2 eth0": "10.2.0.1/24"}
    assert {machine.name: list(map(str, machine.routes)) for machine in topology.machines} == {
        "r1": ["10.9.0.0/16 via 10.2.0.1"],
        "vm1": ["default via 10.1.0.254"],
        "vm2": ["default via 10.2.0.254"],
    }
    slow, plain = topology.links
    assert slow.impairment == Impairment(rate=1_500_000, delay_ms=20.0, loss=0.5, queue=50)
    assert slow.mtu == 1400
    assert [str(end.mac) for end in slow.ends] == ["None", "02:00:00:00:00:07"]
    assert not plain.impairment, "where nothing waits a queue is nothing"


def test_two_links_between_two_machines_have_two_names() -> None:
    def build(topo: Topo) -> None:
        topo.addHost("vm1", ip="10.1.0.1/24")
        topo.addHost("r1", router=True, ip="10.1.0.2/24")
        topo.addLink("vm1", "r1")
        topo.addLink("vm1", "r1", params1={"ip": "10.2.0.1/24"}, params2={"ip": "10.2.0.2/24"})

    topology = drawn(build)
    assert [link.name for link in topology.links] == ["vm1-r1", "vm1-r1-2"]
    assert [end.device for end in topology.ends("vm1")] == ["eth0", "eth1"]


def host(name: str = "vm1", switch: str = "s1", **link: Any) -> Callable[..., Callable[[Topo], None]]:
    def with_parameters(**parameters: Any) -> Callable[[Topo], None]:
        def build(topo: Topo) -> None:
            topo.addHost("vm0", ip="10.1.0.1/24")
            topo.addHost(name, **{"ip": "10.1.0.9/24", **parameters})
            topo.addSwitch(switch)
            topo.addLink("vm0", switch)
            topo.addLink(name, switch, **link)

        return build

    return with_parameters


def two_bridges_twice(topo: Topo) -> None:
    host()()(topo)
    topo.addSwitch("s2")
    topo.addLink("s1", "s2")
    topo.addLink("s2", "s1")


def nobody(topo: Topo) -> None:
    topo.addSwitch("s1")


def alone(topo: Topo) -> None:
    host()()(topo)
    topo.addHost("vm9", ip="10.1.0.77/24")


def routers_without_addresses(topo: Topo) -> None:
    topo.addHost("vm1")
    topo.addHost("r1", router=True)
    topo.addLink("vm1", "r1")


REFUSED: list[tuple[Callable[[Topo], Any], str]] = [
    (host()(ip="10.1.0.1/24"), "vm0 (eth0) and vm1 (eth0) both have the address 10.1.0.1"),
    (host()(ip="10.1.0.9"), "vm1: '10.1.0.9' has no prefix length: one like 192.168.68.109/24 is wanted"),
    (host()(ip="10.1.0.900/24"), "vm1: '10.1.0.900/24' is not an IPv4 address like 192.168.68.109/24"),
    (host()(ip="fd00::1/64"), "vm1: 'fd00::1/64' is not an IPv4 address like 192.168.68.109/24"),
    (host()(ip="10.1.0.0/24"), "vm1 cannot have the address 10.1.0.0/24: it is the subnet's own or its broadcast address"),
    (host()(ip="224.0.0.5/24"), "vm1 cannot have the address 224.0.0.5"),
    (host()(ip=None), "the node vm1 has no address"),
    (alone, "the node vm9 has no address, and no link"),
    (nobody, "there is no node in it"),
    (routers_without_addresses, "the node vm1 has no address"),
    (host("switches")(), "a machine cannot be called 'switches': that is where the lab keeps its bridges"),
    (host("vm:1")(), "'vm:1' is no name for a machine: letters, digits, '.', '-' and '_' are, beginning with a letter or digit"),
    (host("../x")(), "'../x' is no name for a machine: letters, digits, '.', '-' and '_' are, beginning with a letter or digit"),
    (host("v" * 65)(), f"the name {'v' * 65} has 65 characters, a host name has at most 64"),
    (host(switch="s" * 16)(), f"the device {'s' * 16} in switches has a name of 16 characters, the kernel takes at most 15"),
    (host(switch="all")(), "'all' is no name for a device in switches"),
    (host(intfName1="lo")(), "'lo' is no name for a device in vm1"),
    (host(intfName2="s1-eth1")(), "two devices in switches are called s1-eth1"),
    (host(intfName1="a/b")(), "'a/b' is no name for a device in vm1"),
    (host(mtu=60)(), "the link vm1-s1 has an MTU of 60: a whole number from 68 to 65535 is wanted"),
    (host(mtu="big")(), "the link vm1-s1 has an MTU of 'big': a whole number from 68 to 65535 is wanted"),
    (host(bw="fast")(), "the link vm1-s1: could not convert string to float: 'fast'"),
    (host(bw=-3)(), "the link vm1-s1: a bandwidth of -3 Mbit/s makes no sense"),
    (host(delay=20)(), "the link vm1-s1: '20' is not a delay: one like 20ms, 300us or 1.5s is wanted, at most 60s"),
    (host(loss=101)(), "the link vm1-s1: '101' is not a share of frames to lose: one like 1% or 0.1% is wanted, at most 100%"),
    (host(delay="1ms", max_queue_size=-1)(), "the link vm1-s1: a queue of -1 frames makes no sense"),
    (host(jitter="5ms")(), "the link vm1-s1 has jitter=5ms, which is not possible here: a link delays every frame alike"),
    (host(params1={"loss": 3})(), "loss stands at one end of vm1-s1: give it to the link, for both ways"),
    (host()(mac="02:42"), "vm1: '02:42' is not a MAC address: six bytes like 02:42:0a:00:01:03 are wanted"),
    (host()(defaultRoute="via 10.2.0.1"), "vm1: the route default via 10.2.0.1 goes through none of its subnets (10.1.0.0/24)"),
    (
        host()(defaultRoute="dev eth0"),
        "vm1: 'dev eth0' is not a route: one like '10.1.0.0/16 via 10.0.0.1' or 'default via 10.0.0.1' is wanted",
    ),
    (host()(routes=["10.9.0.0/16 via 10.1.0.2", "10.9.0.0/16 via 10.1.0.3"]), "vm1 has 2 routes to 10.9.0.0/16"),
    (
        two_bridges_twice,
        "the link s1-s2-2 closes a loop of switches, in which frames would circle for ever: the lab's bridges run no spanning tree",
    ),
]


@pytest.mark.parametrize(("build", "sentence"), REFUSED, ids=[sentence[:50] for _, sentence in REFUSED])
def test_what_cannot_be_built_is_refused_in_one_sentence(build: Callable[[Topo], Any], sentence: str) -> None:
    with pytest.raises(UsageError) as refused:
        drawn(build)
    assert str(refused.value) == f"topology drawn: {sentence}"


def test_a_bridge_has_as_many_ports_as_the_kernel_gives_it() -> None:
    assert len(load("one_segment,n=1023").nodes) == 1023
    with pytest.raises(UsageError, match=r"the switch s1 has 1,024 links, a Linux bridge has at most 1,023 ports"):
        load("one_segment,n=1024")


# -- files and names ---------------------------------------------------------------------------------------------------

THERE_ARE = "(there are leaf_spine, one_segment, single, two_racks, wide_area; a file ends in .py or .yaml)"

TWO = """
from mininet.topo import SingleSwitchTopo, LinearTopo
topos = {"star": SingleSwitchTopo, "chain": LinearTopo, "pair": lambda: SingleSwitchTopo(2)}
"""


@pytest.mark.parametrize(
    ("body", "given", "nodes"),
    [
        ("from mininet.topo import SingleSwitchTopo\ntopos = {'star': SingleSwitchTopo}", "", 2),
        ("from mininet.topo import SingleSwitchTopo\ntopos = {'star': SingleSwitchTopo}", ",k=4", 4),
        ("from mininet.topo import SingleSwitchTopo\ntopos = {'star': SingleSwitchTopo}", ",4", 4),
        ("from mininet.topo import SingleSwitchTopo\ntopos = {'star': SingleSwitchTopo}", ",star,4", 4),
        (TWO, ",star,k=3", 3),
        (TWO, ",chain,3", 3),
        (TWO, ",pair", 2),
    ],
)
def test_a_users_own_file_is_read_as_mn_reads_it(tmp_path: Path, body: str, given: str, nodes: int) -> None:
    (tmp_path / "my.py").write_text(body)
    assert len(load(f"{tmp_path}/my.py{given}").nodes) == nodes


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("two_rack", f"no topology is called 'two_rack'; did you mean two_racks? {THERE_ARE}"),
        ("zzz", f"no topology is called 'zzz' {THERE_ARE}"),
        ("__init__", f"no topology is called '__init__' {THERE_ARE}"),
        ("none.py", "none.py: there is no such file"),
        ("single,n=3", "single,n=3: n is no parameter of it (there are node, address, mtu)"),
        ("two_racks,n=600", "two_racks,n=600: 192.168.68.0/24 has no room for 300 nodes"),
        ("two_racks,subnet1=x", "two_racks,subnet1=x: Expected 4 octets in 'x'"),
        ("leaf_spine,racks=0", "leaf_spine,racks=0: from 1 to 250 racks and from 1 to 60 spines are possible"),
        ("wide_area,sites=2,n=999", "wide_area,sites=2,n=999: 999 nodes do not fit at 2 sites of at most 240"),
        ("one_segment,n=1.5", "one_segment,n=1.5: n is a whole number, not 1.5"),
    ],
)
def test_a_name_or_parameter_that_is_none_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(UsageError) as refused:
        load(text)
    assert str(refused.value) == sentence


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("x = 1", "has no topologies: at its end, topos = {'NAME': CLASS} is wanted, as mn --custom wants it"),
        ("topos = {'a': 3}", "has no topologies: at its end, topos = {'NAME': CLASS} is wanted, as mn --custom wants it"),
        ("topos = ", "cannot be run: SyntaxError: invalid syntax (my.py, line 1)"),
        ("1 / 0", "cannot be run: ZeroDivisionError: division by zero"),
        ("import nothing_like_it", ": No module named 'nothing_like_it'"),
        (TWO, "has 3 topologies: say which, as"),
    ],
)
def test_a_file_that_has_no_topology_is_refused(tmp_path: Path, body: str, sentence: str) -> None:
    (tmp_path / "my.py").write_text(body)
    with pytest.raises(UsageError) as refused:
        load(f"{tmp_path}/my.py")
    assert str(refused.value).startswith(f"{tmp_path}/my.py")
    assert sentence in str(refused.value)


# -- how people write measures -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "rate"),
    [("10mbit", 10_000_000), ("1.5 Gbit", 1_500_000_000), ("800kbit", 800_000), ("64bit", 64), ("10Mbit/s", 10_000_000), ("10mbps", None)]
    + [(text, None) for text in ("10", "", "fast", "-1mbit", "0mbit", "10mbyte", "9999999gbit", "1e3mbit")],
)
def test_rates(text: str, rate: int | None) -> None:
    if rate is None:
        with pytest.raises(UsageError, match="is not a rate"):
            parse_rate(text)
    else:
        assert parse_rate(text) == rate


@pytest.mark.parametrize(
    ("text", "delay"),
    [("20ms", 20.0), ("1.5s", 1500.0), ("300us", 0.3), ("0ms", 0.0), ("60s", 60_000.0)] + [(text, None) for text in ("20", "", "61s", "-1ms", "1m")],
)
def test_delays(text: str, delay: float | None) -> None:
    if delay is None:
        with pytest.raises(UsageError, match="is not a delay"):
            parse_delay(text)
    else:
        assert parse_delay(text) == delay


@pytest.mark.parametrize(
    ("text", "loss"), [("1%", 1.0), ("0.1", 0.1), ("100%", 100.0), ("0", 0.0)] + [(text, None) for text in ("101%", "-1", "", "1%%", "half")]
)
def test_losses(text: str, loss: float | None) -> None:
    if loss is None:
        with pytest.raises(UsageError, match="is not a share"):
            parse_loss(text)
    else:
        assert parse_loss(text) == loss


@pytest.mark.parametrize(
    ("text", "route"),
    [
        ("10.1.0.0/16 via 10.0.0.1", "10.1.0.0/16 via 10.0.0.1"),
        ("default via 10.0.0.1", "default via 10.0.0.1"),
        ("via 10.0.0.1", "default via 10.0.0.1"),
        ("dev h1-eth0 via 10.0.0.1", "default via 10.0.0.1"),
        ("default via 10.0.0.1 dev eth0", "default via 10.0.0.1"),
        ("0.0.0.0/0 via 10.0.0.1", "default via 10.0.0.1"),
    ]
    + [
        (text, None)
        for text in ("", "default", "default dev eth0", "10.1.0.1/16 via 10.0.0.1", "10.1.0.0/16 10.0.0.1", "x via y", "::/0 via fd00::1")
    ],
)
def test_routes(text: str, route: str | None) -> None:
    if route is None:
        with pytest.raises(UsageError, match="is not a route"):
            parse_route(text)
    else:
        assert str(parse_route(text)) == route
