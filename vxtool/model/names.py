"""Names: what Docker's embedded resolver should answer, as it follows from a Cluster.

The records are those of libnetwork (network.go addSvcRecords, service_common.go addEndpointNameResolution; spec of the swarm, section 3.2). Knows no
DNS message: a name goes in, addresses come out. All of it is derived; nothing here was printed by an engine.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from .addresses import Address
from .cluster import Cluster, EndpointKind, EndpointMode

__all__ = ["Name", "NameKind", "Names"]


class NameKind(StrEnum):
    SERVICE = "service"
    ALIAS = "alias"
    TASKS = "tasks"  # tasks.<service>
    TASK = "task"  # <service>.<slot>.<task id>
    CONTAINER = "container"  # a standalone container's name
    CONTAINER_ID = "container-id"  # the first 12 characters


@dataclass(frozen=True, slots=True)
class Name:
    """A name in one network. An answer with one of `addresses` is right; one with all of them is whole.

    `complete` is False when there may be further right addresses that nobody told us: an answer with more is then not wrong.
    """

    name: str  # lower case: record names are case-insensitive
    network: str
    kind: NameKind
    addresses: frozenset[Address]
    complete: bool
    service: str | None = None


class Names:
    """The resolver's tables for one cluster, built per network on first use."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._tables: dict[str, Mapping[str, Name]] = {}
        attached: dict[str, set[str]] = {}
        for service in cluster.services:
            attached.setdefault(service.name, set()).update(service.networks, (vip.network for vip in service.vips))
        for endpoint in cluster.endpoints:
            if endpoint.service is not None:
                attached.setdefault(endpoint.service, set()).add(endpoint.network)
        self._attached = attached

    def of(self, network: str) -> Mapping[str, Name]:
        """Every name the network knows, lower case and without the network's name behind it. The ingress network knows none."""
        table = self._tables.get(network)
        if table is None:
            table = self._tables[network] = MappingProxyType(self._build(network))
        return table

    def resolve(self, qname: str, networks: Iterable[str]) -> Name | None:
        """What a container attached to `networks` (in its order of search) gets for a name; None: it is forwarded to an upstream server.

        a.b.c is looked for as a whole in every network, then as a.b in network c, then as a in network b.c. Record names are
        case-insensitive, names of networks are not; the first network that knows the name wins. A final dot changes nothing.
        """
        attached = tuple(networks)
        labels = qname.rstrip(".").split(".")
        for cut in range(len(labels), 0, -1):
            wanted, within = ".".join(labels[:cut]).lower(), ".".join(labels[cut:])
            for network in attached:
                if not within or within == network:
                    found = self.of(network).get(wanted)
                    if found is not None:
                        return found
        return None

    def pointer(self, address: Address, networks: Iterable[str]) -> str | None:
        """The name a PTR query for an address gets: `<container or task name>.<network>`. Virtual addresses and aliases have none."""
        for network in networks:
            for endpoint in self.cluster.endpoints_of_network.get(network, ()):
                if address in endpoint.addresses and endpoint.name and endpoint.kind in _OWN_NAME:
                    return f"{endpoint.name}.{network}"
        return None

    def _build(self, network: str) -> dict[str, Name]:
        cluster = self.cluster
        declared = cluster.network_by_name.get(network)
        if declared is None or declared.ingress:
            return {}
        table: dict[str, Name] = {}

        def add(name: str, kind: NameKind, addresses: Iterable[Address], complete: bool, service: str | None) -> None:
            key = name.lower()
            known = table.get(key)
            # An alias equal to another service's name yields the addresses of both.
            merged = frozenset(addresses) | (known.addresses if known else frozenset())
            if merged or not complete:
                table[key] = Name(key, network, known.kind if known else kind, merged, complete and (known is None or known.complete), service)

        for service in cluster.services:
            if network not in self._attached[service.name]:
                continue
            backends = cluster.backends(service.name, network)
            tasks = [address for endpoint in backends.endpoints for address in endpoint.addresses]
            vip = cluster.vip_of(service.name, network)
            aliases = ((alias, NameKind.ALIAS) for where, alias in service.aliases if where == network)
            for name, kind in ((service.name, NameKind.SERVICE), *aliases):
                if vip is not None:
                    add(name, kind, [vip], True, service.name)
                elif service.endpoint_mode is EndpointMode.DNSRR:
                    add(name, kind, tasks, backends.complete, service.name)
                else:  # a VIP that nobody told us
                    add(name, kind, [], False, service.name)
                add(f"tasks.{name}", NameKind.TASKS, tasks, backends.complete, service.name)
        for endpoint in cluster.endpoints_of_network.get(network, ()):
            own = _OWN_NAME.get(endpoint.kind)
            if own is not None and endpoint.name:
                add(endpoint.name, own, endpoint.addresses, True, endpoint.service)
            if own is not None and endpoint.container:
                add(endpoint.container[:12], NameKind.CONTAINER_ID, endpoint.addresses, True, endpoint.service)
        return table


_OWN_NAME = {EndpointKind.TASK: NameKind.TASK, EndpointKind.CONTAINER: NameKind.CONTAINER}
