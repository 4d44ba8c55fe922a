"""Locating nodes: which of several addresses is which node, told by where their endpoints' frames come from.

`docker service ps` and `network inspect` name nodes but not their addresses. A capture has addresses but no names; what both have is the MAC
addresses of the endpoints. Knows counts, not frames.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from .addresses import Address, Mac
from .cluster import Cluster, Endpoint, Node

__all__ = ["locate"]

SHARE = 0.8
"""Part of a node's frames that must agree: a stale or wrong entry somewhere must neither decide nor prevent the rest from deciding."""


def locate(cluster: Cluster, seen: Mapping[tuple[int, Mac], Mapping[Address, int]]) -> Cluster:
    """The cluster with addresses for nodes that had none, from (VNI, inner source MAC) -> outer source -> frames.

    A node gets the address from which at least four fifths of its endpoints' frames came, when it is no other node's and, where the addresses
    of the members are known, one of them. What was so inferred is in the node's `derived` and in `notes`. Nothing known is changed.
    """
    homeless = [node for node in cluster.nodes if node.vtep is None]
    if not homeless:
        return cluster
    taken = set(cluster.node_by_address) - {node.advertise for node in cluster.nodes if _bare(node)}
    claims: list[tuple[int, Address, Node]] = []
    for node in homeless:
        counts: Counter[Address] = Counter()
        for endpoint in cluster.endpoints_of_node.get(node.name, ()):
            for key in _keys(cluster, endpoint):
                counts.update(seen.get(key, {}))
        usual = counts.most_common(1)
        if usual and usual[0][1] >= SHARE * counts.total() and usual[0][0] not in taken:
            claims.append((usual[0][1], usual[0][0], node))
    found: dict[str, Address] = {}
    for _, address, node in sorted(claims, key=lambda claim: (-claim[0], claim[2].name)):
        if address not in found.values() and (not cluster.unassigned or address in cluster.vteps):
            found[node.name] = address
    if not found:
        return cluster
    # A node that only its address named is the node that has just got that address.
    renamed = {node.name: owner for owner, address in found.items() for node in cluster.nodes if _bare(node) and node.vtep == address}
    nodes = tuple(_placed(node, found.get(node.name)) for node in cluster.nodes if node.name not in renamed)
    told = tuple(f"node {name} is at {address}: most frames of its endpoints come from there" for name, address in sorted(found.items()))
    return replace(
        cluster,
        nodes=nodes,
        networks=tuple(
            replace(
                network,
                members=None if network.members is None else frozenset(renamed.get(name, name) for name in network.members),
                complete_nodes=frozenset(renamed.get(name, name) for name in network.complete_nodes),
            )
            for network in cluster.networks
        ),
        endpoints=tuple(replace(e, node=renamed.get(e.node, e.node)) if e.node is not None else e for e in cluster.endpoints),
        tasks=tuple(replace(t, node=renamed.get(t.node, t.node)) if t.node is not None else t for t in cluster.tasks),
        unassigned=cluster.unassigned - set(found.values()),
        missing=tuple(line for line in cluster.missing if not any(line.startswith(f"address of node {name}:") for name in found)),
        notes=(*cluster.notes, *told),
    )


def _keys(cluster: Cluster, endpoint: Endpoint) -> list[tuple[int, Mac]]:
    mac = cluster.mac_on_wire(endpoint)
    network = cluster.network_by_name.get(endpoint.network)
    return [] if mac is None or network is None else [(vni, mac) for vni in network.vnis]


def _bare(node: Node) -> bool:
    """Known by nothing but its address."""
    return node.id is None and node.hostname is None and node.name == str(node.vtep)


def _placed(node: Node, address: Address | None) -> Node:
    return node if address is None else replace(node, data_path=address, derived=node.derived | {"data_path"})
