"""`vxtool network`: a swarm's networks in Docker's tables and words."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result

from tests.swarm.local import LocalSwarm
from vxtool.cli import swarming
from vxtool.swarm.objects import Network, NetworkSpec, ServiceSpec, SubnetSpec, TaskNetwork, TaskSpec

Invoke = Callable[..., Result]


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch) -> LocalSwarm:
    local = LocalSwarm()
    monkeypatch.setattr(swarming, "swarm", lambda _: local.client)
    monkeypatch.delenv("VXTOOL_NODE", raising=False)
    return local


def _network(local: LocalSwarm, name: str) -> Network:
    return local.client.view().network(name)


def _serve(local: LocalSwarm, name: str, network: str, replicas: int = 2) -> None:
    local.client.create_service(ServiceSpec(name, TaskSpec("httpd", networks=(TaskNetwork(network),)), replicas=replicas))
    local.run(5)


def _inspected(done: Result) -> dict[str, Any]:
    assert done.exit_code == 0, done.output
    (document,) = json.loads(done.stdout)
    return dict(document)


# -- ls --------------------------------------------------------------------------------------------------------------------


def test_ls_is_what_a_docker_host_shows_sorted_by_name(local: LocalSwarm, invoke: Invoke) -> None:
    invoke("network", "create", "web")
    lines = [line.split() for line in invoke("network", "ls").stdout.splitlines()]
    assert lines[0] == ["NETWORK", "ID", "NAME", "DRIVER", "SCOPE"]
    assert [line[1:] for line in lines[1:]] == [
        ["bridge", "bridge", "local"],
        ["docker_gwbridge", "bridge", "local"],
        ["host", "host", "local"],
        ["ingress", "overlay", "swarm"],
        ["none", "null", "local"],
        ["web", "overlay", "swarm"],
    ]
    assert {len(line[0]) for line in lines[1:]} == {12}


def test_ids_of_a_node_s_own_networks_stay_the_same_and_differ_between_nodes(local: LocalSwarm, invoke: Invoke) -> None:
    ls = ("network", "ls", "--filter", "scope=local", "--no-trunc", "-q")
    own = invoke(*ls).stdout.split()
    assert own == invoke(*ls).stdout.split()
    assert {len(id) for id in own} == {64}
    assert not set(own) & set(invoke(*ls, "--node", "vm2").stdout.split())


def test_a_worker_lists_only_networks_in_which_it_has_something(local: LocalSwarm, invoke: Invoke) -> None:
    invoke("network", "create", "web")
    ls = ("network", "ls", "--filter", "driver=overlay", "--format", "{{.Name}}", "--node")
    assert invoke(*ls, "vm2").stdout.split() == ["ingress"]
    _serve(local, "web", "web", replicas=3)
    assert invoke(*ls, "vm2").stdout.split() == ["ingress", "web"]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (["driver=overlay"], ["db", "ingress", "web"]),
        (["driver=null", "driver=host"], ["host", "none"]),
        (["name=e"], ["bridge", "docker_gwbridge", "ingress", "none", "web"]),
        (["name=^web$"], ["web"]),
        (["name=*"], []),
        (["label=tier"], ["db", "web"]),
        (["label=tier=front"], ["web"]),
        (["type=custom"], ["db", "docker_gwbridge", "ingress", "web"]),
        (["type=builtin", "scope=swarm"], []),
        (["dangling=true", "scope=swarm"], ["db", "ingress"]),
        (["dangling=false", "scope=swarm"], ["web"]),
    ],
)
def test_ls_filters_as_docker_does(local: LocalSwarm, invoke: Invoke, filters: list[str], expected: list[str]) -> None:
    invoke("network", "create", "--label", "tier=front", "web")
    invoke("network", "create", "--label", "tier=back", "db")
    _serve(local, "web", "web")
    options = [word for text in filters for word in ("--filter", text)]
    assert invoke("network", "ls", "--format", "{{.Name}}", *options).stdout.split() == expected


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("type=mine", "invalid filter: 'type'='mine'"),
        ("dangling=maybe", 'invalid value for filter \'dangling\', must be "true" (or "1"), or "false" (or "0")'),
        ("color=red", "invalid filter 'color'"),
    ],
)
def test_ls_refuses_filters_that_make_no_sense(local: LocalSwarm, invoke: Invoke, text: str, sentence: str) -> None:
    done = invoke("network", "ls", "--filter", text)
    assert (done.exit_code, sentence in done.stderr) == (2, True)


def test_ls_as_json_and_by_template_has_docker_s_fields(local: LocalSwarm, invoke: Invoke) -> None:
    invoke("network", "create", "--label", "com.example.tier=front", "--internal", "web")
    told = json.loads(invoke("network", "ls", "--filter", "name=web", "--format", "json").stdout)
    assert list(told) == ["CreatedAt", "Driver", "ID", "IPv4", "IPv6", "Internal", "Labels", "Name", "Scope"]
    assert (told["Internal"], told["Labels"], told["CreatedAt"]) == ("true", "com.example.tier=front", "2023-11-14 22:13:20 +0000 UTC")
    shown = invoke("network", "ls", "--filter", "name=web", "--format", 'table {{.Name}}\t{{.Label "com.example.tier"}}').stdout
    assert [line.split() for line in shown.splitlines()] == [["NAME", "tier"], ["web", "front"]]


# -- create ----------------------------------------------------------------------------------------------------------------


def test_create_prints_the_id_and_takes_the_next_subnet_and_vni(local: LocalSwarm, invoke: Invoke) -> None:
    done = invoke("network", "create", "web")
    network = _network(local, "web")
    assert (done.exit_code, done.stdout) == (0, f"{network.id}\n")
    assert [(str(subnet.prefix), str(subnet.gateway), subnet.vni) for subnet in network.subnets] == [("10.0.1.0/24", "10.0.1.1", 4097)]


def test_create_puts_each_address_into_its_subnet(local: LocalSwarm, invoke: Invoke) -> None:
    options = ["-d", "overlay", "--subnet", "10.9.0.0/24,10.9.1.0/24", "--gateway", "10.9.1.254", "--ip-range", "10.9.0.128/25"]
    options += ["--aux-address", "router=10.9.0.2", "--aux-address", "printer=10.9.1.2", "--scope", "swarm", "--attachable", "--internal"]
    options += ["--opt", "encrypted", "-o", "com.docker.network.driver.mtu=1400", "--label", "a=b", "--label", "c"]
    assert invoke("network", "create", *options, "web").exit_code == 0
    assert _network(local, "web").spec == NetworkSpec(
        "web",
        "overlay",
        (
            SubnetSpec("10.9.0.0/24", "", "10.9.0.128/25", {"router": "10.9.0.2"}),
            SubnetSpec("10.9.1.0/24", "10.9.1.254", "", {"printer": "10.9.1.2"}),
        ),
        internal=True,
        attachable=True,
        options={"encrypted": "", "com.docker.network.driver.mtu": "1400"},
        labels={"a": "b", "c": ""},
    )


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["-d", "bridge", "web"], "--driver bridge: the lab builds overlay networks only; leave it out"),
        (["-d", "weave", "web"], 'could not find plugin weave in v1 plugin registry: plugin "weave" not found'),
        (["bridge"], "network with name bridge already exists"),
        (["ingress"], "network with name ingress already exists"),
        (["docker_gwbridge"], "network with name docker_gwbridge already exists"),
        (["there"], "network with name there already exists"),
        (["-web"], "no such option"),
        (["a b"], "name must be valid as a DNS name component"),
        (["--ingress", "mesh"], ") is already present"),
        (["--ipv6", "web"], "--ipv6: the lab does not build IPv6 overlays"),
        (["--ipv4=false", "web"], "--ipv4=false: the lab does not build overlays without IPv4"),
        (["--subnet", "2001:db8::/64", "web"], "--subnet 2001:db8::/64: the lab does not build IPv6 overlays"),
        (["--config-only", "web"], "--config-only: the lab has no configuration-only networks"),
        (["--config-from", "x", "web"], "--config-from: the lab has no configuration-only networks"),
        (["--scope", "local", "web"], "--scope local: an overlay network is the whole swarm's"),
        (["--ipam-driver", "dhcp", "web"], "--ipam-driver dhcp: the lab has Docker's default one only"),
        (["--ipam-opt", "a=b", "web"], "--ipam-opt: the lab's IPAM takes no options"),
        (["--subnet", "10.9.0.0", "web"], "invalid subnet: invalid CIDR address: 10.9.0.0"),
        (["--subnet", "nonsense/24", "web"], "invalid subnet: invalid CIDR address: nonsense/24"),
        (["--subnet", "10.9.0.0/24", "--subnet", "10.9.0.128/25", "web"], "multiple overlapping subnet configuration is not supported"),
        (["--subnet", "10.9.0.0/24", "--subnet", "10.9.0.0/24", "web"], "multiple overlapping subnet configuration is not supported"),
        (["--gateway", "10.9.0.1", "web"], "every ip-range or gateway must have a corresponding subnet"),
        (["--subnet", "10.9.0.0/24", "--gateway", "10.8.0.1", "web"], "no matching subnet for gateway 10.8.0.1"),
        (["--subnet", "10.9.0.0/24", "--gateway", "first", "web"], 'invalid argument "first" for "--gateway" flag: failed to parse IP: "first"'),
        (["--subnet", "10.9.0.0/24", "--ip-range", "10.8.0.0/25", "web"], "no matching subnet for range 10.8.0.0/25"),
        (
            ["--subnet", "10.9.0.0/24", "--ip-range", "x", "web"],
            'invalid argument "x" for "--ip-range" flag: invalid string being converted to CIDR: x',
        ),
        (["--subnet", "10.9.0.0/24", "--aux-address", "a=10.8.0.1", "web"], "no matching subnet for aux-address 10.8.0.1"),
        (
            ["--subnet", "10.9.0.0/24", "--subnet", "10.8.0.0/24", "--gateway", "10.9.0.1", "--gateway", "10.9.0.2", "web"],
            "cannot configure multiple gateways (10.9.0.2, 10.9.0.1) for the same subnet (10.9.0.0/24)",
        ),
        (
            ["--subnet", "10.9.0.0/24", "--subnet", "10.8.0.0/24", "--ip-range", "10.9.0.0/25", "--ip-range", "10.9.0.128/25", "web"],
            "cannot configure multiple ranges (10.9.0.128/25, 10.9.0.0/25) on the same subnet (10.9.0.0/24)",
        ),
        (["--label", "=x", "web"], "invalid label '=x': empty name"),
    ],
)
def test_create_refuses_in_docker_s_words_or_says_what_the_lab_lacks(local: LocalSwarm, invoke: Invoke, options: list[str], sentence: str) -> None:
    invoke("network", "create", "there")
    done = invoke("network", "create", *options)
    assert (done.exit_code, done.stdout) == (2, "")
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
    assert len(local.client.view().networks) == 2


def test_subnets_of_two_networks_do_not_overlap(local: LocalSwarm, invoke: Invoke) -> None:
    invoke("network", "create", "--subnet", "10.9.0.0/16", "web")
    done = invoke("network", "create", "--subnet", "10.9.7.0/24", "db")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "Pool overlaps with other one on this address space" in done.stderr


# -- inspect ---------------------------------------------------------------------------------------------------------------


def test_inspect_shows_what_the_asked_node_has(local: LocalSwarm, invoke: Invoke) -> None:
    invoke("network", "create", "web")
    _serve(local, "web", "web", replicas=3)
    here, there = (_inspected(invoke("network", "inspect", "--node", node, "web")) for node in ("vm1", "vm2"))
    assert here["Id"] == there["Id"] == _network(local, "web").id
    assert here["IPAM"]["Config"] == [{"Subnet": "10.0.1.0/24", "Gateway": "10.0.1.1"}]
    assert here == _inspected(invoke("network", "inspect", "web"))
    names = [{one["Name"].split(".")[0] for one in document["Containers"].values()} for document in (here, there)]
    assert names == [{"web", "web-endpoint"}] * 2
    assert not here["Containers"].keys() - {"lb-web"} & there["Containers"].keys()
    assert "Services" not in here


def test_verbose_inspect_knows_the_tasks_of_all_nodes(local: LocalSwarm, invoke: Invoke) -> None:
    invoke("network", "create", "web")
    _serve(local, "web", "web", replicas=3)
    service = _inspected(invoke("network", "inspect", "-v", "web"))["Services"]["web"]
    assert service["VIP"] == "10.0.1.2"
    assert {task["Info"]["Host IP"] for task in service["Tasks"]} == {"192.0.2.1", "192.0.2.2", "192.0.2.3"}


def test_inspect_takes_ids_their_beginnings_templates_and_local_networks(local: LocalSwarm, invoke: Invoke) -> None:
    id = invoke("network", "create", "web").stdout.strip()
    template = ("--format", "{{.Name}} {{.Scope}}{{range .IPAM.Config}} {{.Subnet}}{{end}}")
    bridge = invoke("network", "ls", "-q", "--filter", "name=^bridge$").stdout.strip()
    shown = invoke("network", "inspect", *template, id, id[:6], "docker_gwbridge", bridge, "none").stdout
    assert shown.splitlines() == [
        "web swarm 10.0.1.0/24",
        "web swarm 10.0.1.0/24",
        "docker_gwbridge local 172.18.0.0/16",
        "bridge local 172.17.0.0/16",
        "none local",
    ]


def test_inspect_says_what_is_not_there_and_shows_the_rest(local: LocalSwarm, invoke: Invoke) -> None:
    done = invoke("network", "inspect", "nowhere", "ingress")
    assert (done.exit_code, done.stderr) == (1, "network nowhere not found\n")
    assert [document["Name"] for document in json.loads(done.stdout)] == ["ingress"]


# -- rm, prune -------------------------------------------------------------------------------------------------------------


def test_rm_removes_what_it_can_and_says_why_not_the_rest(local: LocalSwarm, invoke: Invoke) -> None:
    for name in ("web", "db"):
        invoke("network", "create", name)
    _serve(local, "web", "web")
    done = invoke("network", "rm", "web", "db", "bridge", "docker_gwbridge", "nowhere")
    assert (done.exit_code, done.stdout) == (1, "db\n")
    service = local.client.view().service("web")
    assert done.stderr.splitlines() == [
        f"network {_network(local, 'web').id} is in use by service {service.id}",
        "bridge is a pre-defined network and cannot be removed",
        "error while removing network: network docker_gwbridge has active endpoints",
        "network nowhere not found",
    ]
    assert invoke("network", "rm", "--force", "nowhere").exit_code == 0


def test_rm_asks_before_it_removes_the_routing_mesh(local: LocalSwarm, invoke: Invoke) -> None:
    asked = invoke("network", "rm", "ingress")
    assert (asked.exit_code, "Before removing the routing-mesh network" in asked.stdout) == (0, True)
    assert _network(local, "ingress")
    assert invoke("network", "rm", "ingress", stdin=b"y\n").stdout.endswith("[y/N] ingress\n")
    assert invoke("network", "create", "--ingress", "ingress").exit_code == 0
    assert _network(local, "ingress").spec.ingress


def test_prune_removes_what_nothing_uses_and_never_the_mesh(local: LocalSwarm, invoke: Invoke) -> None:
    for name, label in (("web", "a"), ("db", "b"), ("old", "keep")):
        invoke("network", "create", "--label", label, name)
    _serve(local, "web", "web")
    cancelled = invoke("network", "prune")
    assert (cancelled.exit_code, "network prune has been cancelled" in cancelled.stderr) == (2, True)
    assert invoke("network", "prune", "-f", "--filter", "until=1h").stdout == ""
    assert invoke("network", "prune", "-f", "--filter", "label!=keep").stdout == "Deleted Networks:\ndb\n\n"
    assert invoke("network", "prune", stdin=b"y\n").stdout.endswith("[y/N] Deleted Networks:\nold\n\n")
    assert [network.spec.name for network in local.client.view().networks.values()] == ["ingress", "web"]


# -- connect, disconnect ---------------------------------------------------------------------------------------------------


@pytest.fixture
def container(local: LocalSwarm, invoke: Invoke) -> str:
    """A standalone container in the network `first`."""
    invoke("network", "create", "--attachable", "first")
    spec = TaskSpec("httpd", container="client1", networks=(TaskNetwork("first"),))
    from vxtool.model.plain import plain

    local.ask("container.run", spec=plain(spec), node="vm1")
    local.run(2)
    return "client1"


def _attached(local: LocalSwarm, container: str) -> dict[str, str]:
    view = local.client.view()
    return {view.networks[one.network].spec.name: str(one.address) for one in view.task(container).networks}


def test_a_container_is_connected_with_the_address_and_aliases_it_asks_for(local: LocalSwarm, invoke: Invoke, container: str) -> None:
    invoke("network", "create", "--attachable", "--subnet", "10.9.0.0/24", "web")
    done = invoke("network", "connect", "--ip", "10.9.0.77", "--alias", "db", "--alias", "store", "web", container)
    assert (done.exit_code, done.output) == (0, "")
    assert _attached(local, container) == {"first": "10.0.1.2/24", "web": "10.9.0.77/24"}
    wanted = local.client.view().task(container).spec.networks[-1]
    assert wanted.aliases == ("db", "store")
    assert invoke("network", "disconnect", "first", container).exit_code == 0
    assert _attached(local, container) == {"web": "10.9.0.77/24"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["web", "client1"], "network web not manually attachable"),
        (["first", "client1"], "endpoint with name client1 already exists in network first"),
        (["bridge", "client1"], "bridge is each node's own: only attachable overlay networks can be connected to"),
        (["nowhere", "client1"], "network nowhere not found"),
        (["open", "nobody"], "No such container: nobody"),
        (["--ip", "10.99.0.1", "open", "client1"], "It does not belong to any of this network's subnets"),
        (["--ip", "there", "open", "client1"], 'invalid argument "there" for "--ip" flag: failed to parse IP: "there"'),
        (["--mac-address", "02:42:00:00:00:01", "open", "client1"], "--mac-address: an overlay endpoint's MAC address follows from its IP address"),
        (["--ip6", "2001:db8::1", "open", "client1"], "--ip6: the lab builds no IPv6 overlays"),
    ],
)
def test_connect_refuses_in_docker_s_words(local: LocalSwarm, invoke: Invoke, container: str, arguments: list[str], sentence: str) -> None:
    invoke("network", "create", "web")
    invoke("network", "create", "--attachable", "open")
    before = _attached(local, container)
    done = invoke("network", "connect", *arguments)
    assert (done.exit_code, sentence in done.stderr) == (2, True), done.stderr
    assert _attached(local, container) == before


def test_a_task_of_a_service_gets_its_networks_from_the_service(local: LocalSwarm, invoke: Invoke) -> None:
    invoke("network", "create", "--attachable", "web")
    _serve(local, "api", "web", replicas=1)
    view = local.client.view()
    task = view.task_name(next(iter(view.tasks.values())))
    assert "service update --network-add" in invoke("network", "connect", "web", task).stderr


def test_disconnect_by_force_does_not_mind_what_is_not_connected(local: LocalSwarm, invoke: Invoke, container: str) -> None:
    invoke("network", "create", "--attachable", "web")
    assert "is not connected to network web" in invoke("network", "disconnect", "web", container).stderr
    assert invoke("network", "disconnect", "--force", "web", container).exit_code == 0
    assert invoke("network", "disconnect", "--force", "web", "nobody").exit_code == 0
