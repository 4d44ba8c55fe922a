"""`vxtool lab inspect`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from .choosing import lab_option

if TYPE_CHECKING:
    from vxtool.lab.operations import State
    from vxtool.lab.registry import Running
    from vxtool.lab.topology import Link
    from vxtool.model import Endpoint, Network, Node

__all__ = ["command"]

Document = dict[str, Any]


@click.command("inspect")
@click.argument("what", required=False, metavar="[NODE|NETWORK|ENDPOINT|LINK]")
@click.option("--node", metavar="NODE", help="A network as Docker shows it there: with this node's endpoints only.")
@lab_option
def command(what: str | None, node: str | None, lab: str | None) -> None:
    """Show a lab, or a part of it, as JSON, in Docker's shape where Docker has one.

    \b
    Examples:
      vxtool lab inspect
      vxtool lab inspect web.1
      vxtool lab inspect web --node sathish-vm1 | vxtool expect show -
    """
    from vxtool.errors import UsageError
    from vxtool.lab.client import call
    from vxtool.lab.operations import State
    from vxtool.model.plain import revive

    from .choosing import chosen

    running = chosen(lab)
    state = revive(State, call(running, "state"))
    if node is not None and node not in state.cluster.node_by_name:
        raise UsageError(f"no node is called {node!r} (there are {', '.join(state.cluster.node_by_name)})")
    if node is not None and what not in state.cluster.network_by_name:
        raise UsageError("--node is for a network: as that node knows it")
    document = [_lab(state, running)] if what is None else _found(state, what, node)
    click.echo(json.dumps(document, indent=4))


def _found(state: State, what: str, node: str | None) -> list[Document]:
    """Every part of the lab that is called so: on two nodes there may be endpoints of one name."""
    from difflib import get_close_matches

    from vxtool.errors import UsageError

    cluster, topology = state.cluster, state.topology
    parts: dict[str, list[Callable[[], Document]]] = {}

    def part(name: str | None, document: Callable[[], Document]) -> None:
        if name:
            parts.setdefault(name, []).append(document)

    for member in cluster.nodes:
        for name in (member.name, member.id):
            part(name, lambda member=member: _node(state, member))  # type: ignore[misc]
    for network in cluster.networks:
        for name in (network.name, network.id):
            part(name, lambda network=network: _network(state, network, node))  # type: ignore[misc]
    for (where, sandbox), attachments in _sandboxes(state).items():
        for name in (sandbox, f"{where}:{sandbox}"):
            part(name, lambda attachments=attachments: _sandbox(state, attachments))  # type: ignore[misc]
    for link in topology.links:
        part(link.name, lambda link=link: _link(link))  # type: ignore[misc]
    if what not in parts:
        near = get_close_matches(what, parts, 3)
        raise UsageError(
            f"nothing in this lab is called {what!r}" + (f"; did you mean {' or '.join(near)}?" if near else ": vxtool lab ps lists endpoints")
        )
    return [document() for document in parts[what]]


def _sandboxes(state: State) -> Mapping[tuple[str | None, str], list[Endpoint]]:
    found: dict[tuple[str | None, str], list[Endpoint]] = {}
    for endpoint in state.cluster.endpoints:
        found.setdefault((endpoint.node, endpoint.name), []).append(endpoint)
    return found


# --------------------------------------------------------------------------------------------------------------------
# Documents
# --------------------------------------------------------------------------------------------------------------------


def _lab(state: State, running: Running) -> Document:
    from vxtool.model.plain import plain

    topology, cluster = state.topology, state.cluster
    return {
        "Name": running.name,
        "Topology": topology.name,
        "Leader": running.leader,
        "Folder": str(running.folder),
        "Options": plain(state.spec.options),
        "DataPathPort": cluster.data_path_port,
        "Machines": [
            {
                "Name": machine.name,
                "Kind": str(machine.kind),
                "Addresses": {end.device: str(end.interface) for end in topology.ends(machine.name) if end.interface is not None},
                "Routes": [str(route) for route in machine.routes],
            }
            for machine in topology.machines
        ],
        "Links": [_link(link) for link in topology.links],
        "Networks": [network.name for network in cluster.networks],
        "Endpoints": [f"{node}:{name}" for node, name in _sandboxes(state)],
    }


def _link(link: Link) -> Document:
    from vxtool.model.plain import plain

    ends = [{"Machine": end.machine, "Device": end.device, "Address": str(end.interface) if end.interface else None} for end in link.ends]
    return {"Name": link.name, "Ends": ends, "MTU": link.mtu, "Impairment": plain(link.impairment) if link.impairment else None}


def _node(state: State, node: Node) -> Document:
    """As `docker node inspect`."""
    return {
        "ID": node.id,
        "Spec": {"Labels": dict(node.labels), "Role": str(node.role or "worker"), "Availability": str(node.availability or "active")},
        "Description": {"Hostname": node.name, "Platform": {"OS": "linux"}},
        "Status": {"State": str(node.state or "ready"), "Addr": str(node.advertise)},
    }


def _network(state: State, network: Network, node: str | None) -> Document:
    """As `docker network inspect`, which has the endpoints of the node that is asked; here of all nodes, unless one is named."""
    endpoints = [one for one in state.cluster.endpoints_of_network.get(network.name, ()) if node in (None, one.node)]
    subnets = {subnet.prefix: subnet for subnet in network.subnets}
    peers = [member for member in state.cluster.nodes if network.members is None or member.name in network.members]
    return {
        "Name": network.name,
        "Id": network.id,
        "Scope": "swarm",
        "Driver": network.driver,
        "EnableIPv6": False,
        "IPAM": {
            "Driver": "default",
            "Options": None,
            "Config": [{"Subnet": str(prefix), "Gateway": str(subnet.gateway)} for prefix, subnet in subnets.items()],
        },
        "Internal": network.internal,
        "Attachable": network.attachable,
        "Ingress": network.ingress,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": {
            _container_id(endpoint): {
                "Name": endpoint.name,
                "EndpointID": _endpoint_id(endpoint),
                "MacAddress": str(endpoint.mac),
                "IPv4Address": f"{endpoint.ip}/{_length(network, endpoint)}",
                "IPv6Address": "",
            }
            for endpoint in endpoints
        },
        "Options": {
            "com.docker.network.driver.overlay.vxlanid_list": ",".join(map(str, network.vnis)),
            **({"encrypted": ""} if network.encrypted else {}),
            **({} if network.mtu is None or "mtu" in network.derived else {"com.docker.network.driver.mtu": str(_mtu_option(network))}),
        },
        "Labels": dict(network.labels),
        "Peers": [{"Name": (member.id or member.name)[:12], "IP": str(member.advertise)} for member in peers],
    }


def _sandbox(state: State, attachments: list[Endpoint]) -> Document:
    """As the part of `docker inspect CONTAINER` that is about networks."""
    from vxtool.lab.names import overlay_sandbox

    first = attachments[0]
    networks = {}
    for endpoint in attachments:
        network = state.cluster.network_by_name[endpoint.network]
        gateway = next((subnet.gateway for subnet in network.subnets if endpoint.ip in subnet.prefix), None)
        networks[network.name] = {
            "NetworkID": network.id,
            "EndpointID": _endpoint_id(endpoint),
            "Gateway": "",  # an overlay has none: the way out is docker_gwbridge's
            "SubnetGateway": str(gateway),
            "IPAddress": str(endpoint.ip),
            "IPPrefixLen": _length(network, endpoint),
            "MacAddress": str(endpoint.mac),
            "MTU": network.mtu,
            "Sandbox": f"{endpoint.node}:{overlay_sandbox(network.id or '')}",
        }
    gateway_address = state.gateways.get(f"{first.node}:{first.name}")
    return {
        "Id": _container_id(first),
        "Name": f"/{first.name}",
        "Node": first.node,
        "NetworkSettings": {
            "SandboxKey": f"/run/netns/{first.node}:{first.name}",
            "Networks": networks,
            "GwbridgeIPAddress": None if gateway_address is None else str(gateway_address),
        },
    }


def _container_id(endpoint: Endpoint) -> str:
    from vxtool.swarm.identities import container_id

    return endpoint.container or container_id(endpoint.node or "", endpoint.name)


def _endpoint_id(endpoint: Endpoint) -> str:
    from vxtool.swarm.identities import endpoint_id

    return endpoint.id or endpoint_id(endpoint.network, endpoint.node or "", endpoint.name)


def _length(network: Network, endpoint: Endpoint) -> int:
    return next((subnet.prefix.prefixlen for subnet in network.subnets if endpoint.ip in subnet.prefix), 32)


def _mtu_option(network: Network) -> int:
    """The option that leads to this MTU (model.rules.overlay_mtu the other way round)."""
    from vxtool.model.rules import ENCRYPTION_OVERHEAD, VXLAN_OVERHEAD

    return (network.mtu or 0) + VXLAN_OVERHEAD + (ENCRYPTION_OVERHEAD if network.encrypted else 0)
