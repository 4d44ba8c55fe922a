"""What a client has seen is of one swarm."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

from tests.swarm.local import LocalSwarm
from vxtool.swarm.client import SwarmClient
from vxtool.swarm.clusters import cluster
from vxtool.swarm.objects import NetworkSpec


def test_a_client_that_outlives_its_swarm_sees_nothing_of_it_in_the_next_one() -> None:
    first, second = LocalSwarm(), LocalSwarm(seed=2)
    second.requests.info = replace(second.requests.info, id="another")
    for number in range(3):
        first.client.create_network(NetworkSpec(f"old{number}"))
    for number in range(9):
        second.client.create_network(NetworkSpec(f"new{number}"))
    asked = first
    client = SwarmClient(lambda do, /, **arguments: asked.ask(do, **arguments))
    client.view()
    asked = second
    assert {network.spec.name for network in client.view().networks.values()} == {"ingress", *(f"new{number}" for number in range(9))}


def test_a_node_whose_address_is_none_spoils_the_picture_of_no_other() -> None:
    view = LocalSwarm().client.view()
    nodes = {id: replace(node, address="nowhere" if id == "vm2" else node.address) for id, node in view.nodes.items()}
    told = {node.name: node.advertise for node in cluster(replace(view, nodes=nodes)).nodes}
    assert told == {"vm1": IPv4Address("192.0.2.1"), "vm2": None, "vm3": IPv4Address("192.0.2.3")}
