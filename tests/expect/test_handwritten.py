"""vxtool-expect@1: what people write, and that writing and reading are inverse."""

import json
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vxtool.errors import ExpectationError
from vxtool.expect import load_cluster, parse_text, to_tree, to_yaml
from vxtool.expect.handwritten import KEYS
from vxtool.model import (
    Availability,
    Cluster,
    Endpoint,
    EndpointKind,
    EndpointMode,
    Forwarding,
    Mac,
    Network,
    Node,
    NodeState,
    Orchestrator,
    Port,
    PublishMode,
    Role,
    Service,
    ServiceMode,
    Subnet,
    Task,
    TaskState,
    Vip,
)

ROOT = Path(__file__).parents[2]
CAPTURES = ROOT / "captures"
FOLDERS = [CAPTURES / "swarm-steady", *(CAPTURES / "swarm-phases").glob("*ed"), CAPTURES / "swarm-no-ipvs", CAPTURES / "swarm-after-drain"]

MINIMAL = """\
schema: vxtool-expect@1
nodes:
  - {name: vm1, advertise: 192.168.68.109}
  - {name: vm2, advertise: 192.168.68.110}
networks:
  - name: web
    vni: 4097
    subnets: [10.0.1.0/24]
    complete: true
endpoints:
  - {network: web, ip: 10.0.1.3, node: vm1, name: web.1}
  - {network: web, ip: 10.0.1.4, node: vm2, name: web.2}
  - {network: web, ip: 10.0.1.9, node: vm1, name: web-endpoint}
services:
  - {name: web, mode: replicated, replicas: 2, endpoint_mode: vip, vips: {web: 10.0.1.2}, ports: ["8080:80"]}
"""


def test_a_dozen_lines_are_a_cluster() -> None:
    cluster = parse_text(MINIMAL)
    first, second, balancer = cluster.endpoints
    assert (str(first.mac), first.derived, first.kind, first.service) == ("02:42:0a:00:01:03", {"mac"}, EndpointKind.TASK, "web")
    assert balancer.kind is EndpointKind.LOAD_BALANCER
    assert str(cluster.vtep_of(second)) == "192.168.68.110"
    assert (cluster.networks[0].mtu, cluster.networks[0].derived) == (1450, {"mtu"})
    assert cluster.service_by_port["tcp", 8080][0].name == "web"
    assert cluster.backends("web", "web").complete


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_real_swarm_written_down_reads_back_the_same(folder: Path) -> None:
    cluster = load_cluster(str(folder))
    assert parse_text(to_yaml(cluster)) == cluster
    assert parse_text(json.dumps(to_tree(cluster))) == cluster


def test_what_we_write_any_reader_of_yaml_reads_alike() -> None:
    yaml = pytest.importorskip("yaml")
    cluster = load_cluster(str(CAPTURES / "swarm-phases/drained"))
    assert yaml.safe_load(to_yaml(cluster)) == to_tree(cluster)


def test_comments_do_not_change_what_is_read() -> None:
    cluster = parse_text(MINIMAL)
    text = to_yaml(cluster, {"": "head: [\n- x", "nodes": "two\nlines"})
    assert text.startswith("# head: [\n# - x\n")
    assert "\n# two\n# lines\nnodes:" in text
    assert parse_text(text) == cluster


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("vni: 4097", "vni: 16777216", "line 7: networks[0].vni is 16777216, but a whole number from 0 to 16777215"),
        ("vni: 4097", "vin: 4097", "line 7: networks[0].vin: no such key; known here: attachable, complete"),
        ("ip: 10.0.1.4", "ip: 10.0.1.444", "line 12: endpoints[1].ip is '10.0.1.444', but an IP address"),
        ("node: vm2", "node: vm3", "line 12: endpoints[1].node is 'vm3', but the name of a node of this file (vm1, vm2)"),
        ("{network: web, ip: 10.0.1.9", "{network: wbe, ip: 10.0.1.9", "line 13: endpoints[2].network is 'wbe'"),
        ("[10.0.1.0/24]", "[10.0.1.1/24]", "line 8: networks[0].subnets[0] is '10.0.1.1/24', but a subnet"),
        ("complete: true", "complete: yes", "line 9: networks[0].complete is 'yes', but true or false"),
        ("name: vm2", "name: vm1", "line 4: nodes[1].name: 'vm1' stands here twice"),
        ('"8080:80"', '"8080:80:80"', "line 15: services[0].ports[0] is '8080:80:80', but a port like 8080:80/tcp"),
        ('"8080:80"', '"0:80"', "but a port like 8080:80/tcp"),
        ("vips: {web:", "vips: {wab:", "line 15: services[0].vips.wab: no network is called so"),
        ("schema: vxtool-expect@1", "schema: vxtool-expect@2", "line 1: schema is 'vxtool-expect@2', but 'vxtool-expect@1'"),
        ("mode: replicated", "mode: replicate", "line 15: services[0].mode is 'replicate', but one of replicated, global"),
        ("nodes:\n", "nodes: &all\n", "line 2: an anchor or a tag"),
        ("services:\n", "services: *all\n", "this is not YAML: found undefined alias|an alias"),
        ("vni: 4097", "vni: !!python/object/apply:os.system [ls]", "line 7: an anchor or a tag"),
        ("    vni: 4097", "    vni: 4097\n    vni: 4098", "line 8: the key 'vni' stands here twice"),
        ("nodes:", "nodes: [", "this is not YAML"),
        ("nodes:", "? [a]\n: b\nnodes:", "a key must be a text"),
        ("services:", f"notes: {'[' * 40}{']' * 40}\nservices:", "nested deeper than 32"),
    ],
    ids=lambda value: None,
)
def test_a_mistake_is_told_with_its_line(old: str, new: str, said: str) -> None:
    assert old in MINIMAL
    with pytest.raises(ExpectationError) as caught:
        parse_text(MINIMAL.replace(old, new, 1), "mine.yaml")
    assert any(part in str(caught.value) for part in said.split("|"))
    assert str(caught.value).startswith("mine.yaml")


def test_a_few_lines_of_aliases_do_not_unfold_to_gigabytes() -> None:
    bomb = "schema: vxtool-expect@1\nnotes:\n- &a [x]\n" + "".join(f"- &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]\n" for i in range(20))
    with pytest.raises(ExpectationError, match=r"line 3: an anchor"):
        parse_text(bomb)


def test_endless_nesting_is_refused_without_following_it() -> None:
    with pytest.raises(ExpectationError, match="nested deeper"):
        parse_text("schema: vxtool-expect@1\nnotes: " + "[" * 200_000)


def test_an_unquoted_mac_of_digits_is_a_mac_and_not_a_number_in_base_60() -> None:
    text = MINIMAL.replace("ip: 10.0.1.3,", "ip: 10.0.1.3, mac: 02:42:10:00:01:03,")
    assert str(parse_text(text).endpoints[0].mac) == "02:42:10:00:01:03"
    assert parse_text(text).endpoints[0].derived == frozenset()


def test_null_means_not_known_where_a_rule_would_say() -> None:
    text = MINIMAL.replace("ip: 10.0.1.3,", "ip: 10.0.1.3, mac: null,").replace("vni: 4097", "vni: 4097\n    mtu: null")
    cluster = parse_text(text)
    assert (cluster.endpoints[0].mac, cluster.networks[0].mtu) == (None, None)
    assert parse_text(to_yaml(cluster)) == cluster


def test_the_examples_of_the_documentation_are_read() -> None:
    text = (ROOT / "docs/expectations.md").read_text()
    examples = [block.split("```")[0] for block in text.split("```yaml\n")[1:]]
    assert len(examples) >= 2
    for example in examples:
        assert parse_text(example, "docs/expectations.md").networks


def test_the_json_schema_knows_the_keys_that_the_reader_knows() -> None:
    schema = json.loads((ROOT / "vxtool/expect/schema.json").read_text())
    assert set(schema["properties"]) == KEYS["cluster"]
    assert {kind: set(schema["$defs"][kind]["properties"]) for kind in KEYS if kind != "cluster"} == {
        kind: set(keys) for kind, keys in KEYS.items() if kind != "cluster"
    }
    for kind in KEYS:
        assert (schema if kind == "cluster" else schema["$defs"][kind])["additionalProperties"] is False


# --------------------------------------------------------------------------------------------------------------------
# Round trip of any cluster
# --------------------------------------------------------------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
names = st.one_of(
    st.sampled_from(["web", "vm1", "web.1", "web-endpoint", "yes", "null", "1", "a: b", "- x", "#", "@", "web.3.nauu0ml3kuhpj6qbnm54jnjt9"]), texts
)
optional_names = st.none() | names
addresses = st.ip_addresses()
ports = st.integers(1, 65535)
published = st.builds(Port, ports, st.none() | ports, st.sampled_from([None, "tcp", "udp", "sctp", "other"]), st.sampled_from(PublishMode))
labels = st.dictionaries(names, st.text(st.characters(exclude_categories=["Cs"]), max_size=8), max_size=2)
derived = st.frozensets(st.sampled_from(["mac", "mtu", "data_path", "endpoint_mode", "subnets"]), max_size=3)
unique_names = st.lists(names, max_size=3, unique=True)


def prefixes(draw: st.DrawFn) -> Subnet:
    if draw(st.booleans()):
        prefix = IPv4Network((draw(st.integers(0, 2**32 - 1)) >> 8 << 8, 24))
    else:
        prefix = IPv6Network((draw(st.integers(0, 2**128 - 1)) >> 64 << 64, 64))  # type: ignore[assignment]
    return Subnet(prefix, draw(st.none() | addresses))


def placed(draw: st.DrawFn, networks: list[str]) -> list[tuple[str, object]]:
    """Pairs grouped by network, as the file keeps them."""
    chosen = draw(st.lists(st.sampled_from(networks), max_size=2, unique=True)) if networks else []
    return [(network, address) for network in chosen for address in draw(st.lists(addresses, min_size=1, max_size=2))]


@st.composite
def clusters(draw: st.DrawFn) -> Cluster:
    node_names, network_names, service_names = draw(unique_names), draw(unique_names), draw(unique_names)
    in_nodes = st.frozensets(st.sampled_from(node_names)) if node_names else st.just(frozenset())
    one_node = st.none() | st.sampled_from(node_names) if node_names else st.none()
    nodes = tuple(
        Node(
            name,
            draw(optional_names),
            draw(optional_names),
            draw(st.none() | addresses),
            draw(st.none() | addresses),
            draw(st.none() | st.sampled_from(Role)),
            draw(st.none() | st.sampled_from(Availability)),
            draw(st.none() | st.sampled_from(NodeState)),
            draw(labels),
            draw(derived),
        )
        for name in node_names
    )
    networks = tuple(
        Network(
            name=name,
            id=draw(optional_names),
            driver=draw(st.sampled_from(["overlay", "flannel"])),
            vnis=tuple(draw(st.lists(st.integers(0, 2**24 - 1), max_size=2))),
            subnets=tuple(prefixes(draw) for _ in range(draw(st.integers(0, 2)))),
            mtu=draw(st.none() | st.integers(68, 65535) | st.sampled_from([1450, 1424])),
            encrypted=draw(st.booleans()),
            internal=draw(st.booleans()),
            attachable=draw(st.booleans()),
            ingress=draw(st.booleans()),
            forwarding=draw(st.sampled_from(Forwarding)),
            options=draw(labels),
            labels=draw(labels),
            members=draw(st.none() | in_nodes),
            complete_nodes=draw(in_nodes),
            complete=draw(st.booleans()),
            tasks_complete=draw(st.booleans()),
            derived=draw(derived),
        )
        for name in network_names
    )
    endpoints = tuple(
        Endpoint(
            network=draw(st.sampled_from(network_names)),
            ip=draw(addresses | st.just(IPv4Address("10.0.1.3"))),
            name=draw(st.just("") | names),
            mac=draw(st.none() | st.builds(Mac, st.integers(0, 2**48 - 1)) | st.just(Mac(0x02420A000103))),
            node=draw(one_node),
            kind=draw(st.sampled_from(EndpointKind)),
            service=draw(optional_names),
            task=draw(optional_names),
            container=draw(optional_names),
            id=draw(optional_names),
            ipv6=draw(st.none() | st.ip_addresses(v=6)),
            derived=draw(derived),
        )
        for _ in range(draw(st.integers(0, 3)) if network_names else 0)
    )
    services = tuple(
        Service(
            name=name,
            id=draw(optional_names),
            mode=draw(st.none() | st.sampled_from(ServiceMode)),
            replicas=draw(st.none() | st.integers(0, 99)),
            endpoint_mode=draw(st.none() | st.sampled_from(EndpointMode)),
            vips=tuple(Vip(network, address) for network, address in placed(draw, network_names)),  # type: ignore[arg-type]
            ports=tuple(draw(st.lists(published, max_size=2))),
            networks=tuple(draw(unique_names)),
            aliases=tuple((network, alias) for network in draw(unique_names) for alias in draw(st.lists(names, min_size=1, max_size=2))),
            backends=draw(st.none() | st.lists(addresses, max_size=2).map(tuple)),
            derived=draw(derived),
        )
        for name in service_names
    )
    tasks = tuple(
        Task(
            draw(names),
            draw(optional_names),
            draw(st.none() | st.integers(0, 99)),
            draw(one_node),
            draw(st.none() | st.sampled_from(TaskState)),
            draw(st.none() | st.sampled_from(TaskState)),
            draw(optional_names),
            tuple(placed(draw, network_names)),  # type: ignore[arg-type]
            draw(optional_names),
        )
        for _ in range(draw(st.integers(0, 2)))
    )
    return Cluster(
        draw(st.sampled_from(Orchestrator)),
        nodes,
        networks,
        endpoints,
        services,
        tasks,
        draw(st.none() | ports),
        draw(st.frozensets(addresses, max_size=2)),
        *(tuple(draw(st.lists(texts, max_size=2))) for _ in range(3)),  # type: ignore[arg-type]
    )


@given(clusters())
@settings(max_examples=80, deadline=None)
def test_any_cluster_written_as_yaml_reads_back_the_same(cluster: Cluster) -> None:
    text = to_yaml(cluster)
    assert parse_text(text) == cluster, text


@given(clusters())
@settings(max_examples=30, deadline=None)
def test_any_cluster_written_as_json_reads_back_the_same(cluster: Cluster) -> None:
    assert parse_text(json.dumps(to_tree(cluster))) == cluster


@given(st.text(max_size=300) | st.binary(max_size=300).map(lambda data: data.decode("latin-1")))
@settings(max_examples=200, deadline=None)
def test_any_text_after_the_schema_gives_a_cluster_or_one_sentence(text: str) -> None:
    try:
        parse_text(f"schema: vxtool-expect@1\n{text}", "x.yaml")
        said = "x.yaml"
    except ExpectationError as error:
        said = str(error)
    assert said.startswith("x.yaml")


def test_addresses_of_either_version_are_addresses() -> None:
    cluster = parse_text(MINIMAL.replace("ip: 10.0.1.3,", "ip: 10.0.1.3, ipv6: fd00::3,"))
    assert cluster.endpoints_by_ip[4097, ip_address("fd00::3")] == (cluster.endpoints[0],)
