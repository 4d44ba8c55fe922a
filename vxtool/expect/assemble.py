"""Facts become a Cluster: which source is believed about what, and what remains unknown.

Who is who is found out in identity.py; here networks, endpoints, services and tasks are put together from documents that overlap. A node's own word
about its endpoints counts more than the gossip's, newer more than older. Disagreements and gaps are told, never bridged by invention.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_network

from vxtool.model import (
    Address,
    Cluster,
    Endpoint,
    EndpointKind,
    EndpointMode,
    Mac,
    Network,
    Node,
    Orchestrator,
    Owner,
    Port,
    Service,
    Subnet,
    Task,
    TaskState,
    Vip,
    overlay_mac,
    overlay_mtu,
)

from .docker import Attachment, Backend, Facts, NetworkFact, ServiceFact
from .identity import Identities, Token, words

__all__ = ["assemble"]


@dataclass(slots=True)
class _Draft:
    """An endpoint while documents add to it."""

    network: str
    ip: Address
    name: str
    owner: Owner
    mac: Mac | None = None
    ipv6: Address | None = None
    endpoint: str | None = None
    container: str | None = None
    tokens: list[Token] = field(default_factory=list)


def assemble(facts: Facts, notes: Iterable[str] = ()) -> Cluster:
    """The cluster that the facts describe. Never raises: what does not fit together is told in `contradictions`."""
    return _Assembly(facts, list(notes)).cluster()


class _Assembly:
    def __init__(self, facts: Facts, notes: list[str]) -> None:
        self.facts = facts
        self.notes = [*notes, *facts.notes]
        self.contradictions: list[str] = []
        self.missing: list[str] = []
        self.networks = self._networks()
        self.who = Identities(facts, self.networks)
        self.ingress = {documents[-1].name for documents in self.networks.values() if documents[-1].ingress}

    def cluster(self) -> Cluster:
        nodes = self.who.nodes
        drafts = self._endpoints()
        networks = self._describe_networks(nodes, drafts)
        services = self._services(drafts, networks)
        tasks = self._tasks(drafts, services)
        endpoints = tuple(sorted((self._finish(draft, networks) for draft in drafts), key=lambda e: (e.network, int(e.ip), e.name)))
        self._tell_missing(nodes, networks, services, tasks)
        return Cluster(
            orchestrator=Orchestrator.SWARM,
            nodes=nodes,
            networks=tuple(sorted(networks.values(), key=lambda n: (n.vnis or (1 << 24,), n.name))),
            endpoints=endpoints,
            services=services,
            tasks=tasks,
            data_path_port=self.facts.data_path_port,
            unassigned=self.who.unassigned,
            missing=_unique(self.missing),
            contradictions=_unique([*self.who.contradictions, *self.contradictions]),
            notes=_unique([*self.notes, *self.who.notes]),
        )

    # -- networks: one id per name, one document per network and node --------------------------------------------------

    def _networks(self) -> dict[str, list[NetworkFact]]:
        """Documents by network id, oldest first. A network that was removed and made anew under its name counts only as the newer one."""
        by_id: dict[str, list[NetworkFact]] = {}
        for fact in self.facts.networks:
            by_id.setdefault(fact.id, []).append(fact)
        by_name: dict[str, list[str]] = {}
        for identity, documents in by_id.items():
            by_name.setdefault(documents[-1].name, []).append(identity)
        for name, identities in by_name.items():
            newest = max(identities, key=lambda identity: by_id[identity][-1].created)
            for identity in set(identities) - {newest}:
                self.contradictions.append(
                    f"network {name} has two ids, {identity} ({by_id[identity][-1].source}) and {newest} ({by_id[newest][-1].source}): "
                    "believed the one created later, passed over what tells of the other"
                )
                del by_id[identity]
        return by_id

    # -- nodes ---------------------------------------------------------------------------------------------------------

    # -- endpoints -----------------------------------------------------------------------------------------------------

    def _effective(self, documents: list[NetworkFact]) -> dict[Token, NetworkFact]:
        """Per node the newest document of one network; of the same age the verbose one, which sorts behind."""
        newest: dict[Token, NetworkFact] = {}
        for fact in sorted(documents, key=lambda fact: fact.serial):
            root = self.who.same.find(("doc", fact.serial))
            older = newest.get(root)
            if older is not None and {_key(a) for a in older.attachments} != {_key(a) for a in fact.attachments}:
                node = self.who.node_of.get(root, "one node")
                self.contradictions.append(
                    f"endpoints of network {fact.name} on {node}: {older.source} and {fact.source} differ: believed the latter, the newer"
                )
            newest[root] = fact
        return newest

    def _endpoints(self) -> list[_Draft]:
        drafts: list[_Draft] = []
        self.complete: dict[str, set[str]] = {}
        for identity, documents in self.networks.items():
            name = documents[-1].name
            complete = self.complete.setdefault(name, set())
            own: dict[str, _Draft] = {}
            effective = self._effective(documents)
            for root, fact in effective.items():
                if root in self.who.node_of:
                    complete.add(self.who.node_of[root])
                for attachment in fact.attachments:
                    draft = _from_attachment(attachment, name, ("doc", fact.serial))
                    own[_key(attachment)] = draft
            for absent in self.facts.absent:
                token = self.who.hint_token(absent.hint) if absent.hint else None
                node = self.who.node(token) if token else None
                if node is not None and set(words(name)) <= set(words(absent.hint)) and node not in complete:
                    complete.add(node)
                    self.notes.append(f"{absent.source}: empty: node {node} does not have network {name}")
            self._add_containers(own, identity, name)
            self._add_backends(own, documents, name, complete)
            drafts += own.values()
        self._add_task_addresses(drafts)
        return drafts

    def _add_containers(self, own: dict[str, _Draft], identity: str, network: str) -> None:
        for container in self.facts.containers:
            for name, network_id, attachment in container.attachments:
                if (network_id == identity or name == network) and _key(attachment) not in own:
                    owner = attachment.owner
                    if container.task and container.service and owner.task is None:
                        owner = replace(owner, kind=EndpointKind.TASK, service=container.service, task=container.task)
                    own[_key(attachment)] = _from_attachment(replace(attachment, owner=owner), network, ("ctr", container.id))

    def _add_backends(self, own: dict[str, _Draft], documents: list[NetworkFact], network: str, complete: set[str]) -> None:
        by_address = {(draft.name, draft.ip): draft for draft in own.values()}
        believed: tuple[str, frozenset[str]] | None = None
        for fact in sorted(documents, key=lambda fact: -fact.serial):
            if fact.loads is None:
                continue
            for load in fact.loads:
                for backend in load.backends:
                    key = backend.endpoint or f"{backend.name} {backend.ip}"
                    known = own.get(key) or by_address.get((backend.name, backend.ip))
                    node = self.who.node(*_backend_tokens(backend))
                    if known is not None:
                        if known.ip != backend.ip:
                            self.contradictions.append(
                                f"{fact.source}: {backend.name} has address {backend.ip}, its node says {known.ip}: believed the node"
                            )
                        continue
                    if node in complete:
                        self.contradictions.append(
                            f"{fact.source}: {backend.name} ({backend.ip}) of network {network} is told to be on {node}, "
                            "but that node's own inspect does not have it: believed the node"
                        )
                        continue
                    draft = _Draft(network, backend.ip, backend.name, backend.owner, endpoint=backend.endpoint, tokens=_backend_tokens(backend))
                    own[key] = by_address[(backend.name, backend.ip)] = draft
            view = frozenset(backend.endpoint or backend.name for load in fact.loads for backend in load.backends)
            node = self.who.node(("doc", fact.serial)) or fact.source
            if believed is not None and believed[1] != view:
                counts = f"{len(view)} and {len(believed[1])}"
                self.contradictions.append(f"tasks of network {network}: {node} and {believed[0]} list different ones ({counts}): all are taken")
            believed = believed or (node, view)

    def _add_task_addresses(self, drafts: list[_Draft]) -> None:
        known = {(draft.network, draft.owner.task) for draft in drafts if draft.owner.task}
        names = {identity: documents[-1].name for identity, documents in self.networks.items()}
        services = self._service_names()
        for task in self.facts.tasks:
            if task.observed not in (TaskState.RUNNING, TaskState.STARTING, None) or task.desired not in (TaskState.RUNNING, TaskState.READY, None):
                continue
            for network_id, address in task.addresses:
                network = names.get(network_id)
                token = self.who.task(task.id)
                if network is None or (network, token[1]) in known:
                    continue
                if self.who.node(token) in self.complete.get(network, ()):
                    continue
                known.add((network, task.id))
                service = task.service or services.get(task.service_id or "")
                place = task.slot if task.slot is not None else task.node_id
                name = f"{service}.{place}.{task.id}" if service and place is not None else ""
                owner = Owner(EndpointKind.TASK, service, task.slot, task.node_id, task.id)
                drafts.append(_Draft(network, address, name, owner, container=task.container, tokens=[token]))

    def _finish(self, draft: _Draft, networks: Mapping[str, Network]) -> Endpoint:
        mac = draft.mac
        derived: frozenset[str] = frozenset()
        if mac is None and networks[draft.network].driver == "overlay":
            mac = overlay_mac(draft.ip)
            derived = frozenset({"mac"} if mac is not None else ())
        container = draft.container
        return Endpoint(
            network=draft.network,
            ip=draft.ip,
            name=draft.name,
            mac=mac,
            node=self.who.node(*draft.tokens),
            kind=draft.owner.kind,
            service=draft.owner.service,
            task=draft.owner.task,
            container=container,
            id=draft.endpoint,
            ipv6=draft.ipv6,
            derived=derived,
        )

    # -- describing ----------------------------------------------------------------------------------------------------

    def _describe_networks(self, nodes: tuple[Node, ...], drafts: list[_Draft]) -> dict[str, Network]:
        networks: dict[str, Network] = {}
        everyone = frozenset(node.name for node in nodes)
        occupied: dict[str, set[str]] = {}
        for draft in drafts:
            node = self.who.node(*draft.tokens)
            if node is not None:
                occupied.setdefault(draft.network, set()).add(node)
        for identity, documents in self.networks.items():
            fact = documents[-1]
            for older in documents[:-1]:
                for attribute in ("vnis", "subnets", "encrypted", "mtu", "internal", "ingress"):
                    if getattr(older, attribute) != getattr(fact, attribute):
                        self.contradictions.append(
                            f"{attribute} of network {fact.name}: {older.source} and {fact.source} differ: believed the latter, the newer"
                        )
            peers = frozenset[Address]().union(*(document.peers for document in documents if document.peers))
            mapped = {self.who.node(("adv", peer)) for peer in peers}
            members = frozenset(name for name in mapped if name is not None) if peers and None not in mapped else None
            complete = frozenset(self.complete.get(fact.name, ()))
            here = complete & occupied.get(fact.name, set())
            if members is not None:
                whole = members <= complete
            elif peers:
                # Which peer is which node is not known, but as many nodes as there are peers have shown all they have.
                whole = len(here) == len(peers)
            else:
                whole = self.facts.all_nodes and bool(everyone) and everyone <= complete
            derived = frozenset({"mtu"} if fact.driver == "overlay" and fact.mtu is None else ())
            networks[fact.name] = Network(
                name=fact.name,
                id=identity,
                driver=fact.driver,
                vnis=fact.vnis,
                subnets=fact.subnets,
                mtu=overlay_mtu(fact.encrypted, fact.mtu) if fact.driver == "overlay" else fact.mtu,
                encrypted=fact.encrypted,
                internal=fact.internal,
                attachable=fact.attachable,
                ingress=fact.ingress,
                options=fact.options,
                labels=fact.labels,
                members=members,
                complete_nodes=complete,
                complete=whole,
                tasks_complete=whole or any(document.loads is not None for document in documents),
                derived=derived,
            )
        self._networks_only_named(networks)
        return networks

    def _networks_only_named(self, networks: dict[str, Network]) -> None:
        """Networks of which only a service's specification or virtual address tells: a name or id, perhaps the subnet."""
        known = {network.id for network in networks.values()} | set(networks)
        for service in self.facts.services:
            targets = {target for target, _ in service.targets or ()}
            for network, interface in service.vips:
                if network in known:
                    continue
                mesh = service.targets is not None and network not in targets and not self.ingress
                name = "ingress" if mesh and "ingress" not in networks else network
                subnet = ip_network(interface.network)
                derived = frozenset({"subnets", "mtu"} | ({"ingress", "name"} if mesh else set()))
                networks[name] = Network(name, id=network, subnets=(Subnet(subnet),), ingress=mesh, mtu=overlay_mtu(False), derived=derived)
                if mesh:
                    self.ingress.add(name)
                known.add(network)
            for target in targets - known:
                networks[target] = Network(target, id=target)
                known.add(target)

    def _service_names(self) -> dict[str, str]:
        return {service.id: service.name for service in self.facts.services if service.id is not None}

    def _services(self, drafts: list[_Draft], networks: Mapping[str, Network]) -> tuple[Service, ...]:
        named = {network.id: network.name for network in networks.values() if network.id is not None}
        facts: dict[str, list[ServiceFact]] = {}
        for fact in self.facts.services:
            facts.setdefault(fact.name, []).append(fact)
        loads: dict[str, list[tuple[str, Address | None, tuple[Port, ...]]]] = {}
        for documents in self.networks.values():
            for document in documents:
                for load in document.loads or ():
                    if load.name:
                        loads.setdefault(load.name, []).append((document.name, load.vip, load.ports))
        names = set(facts) | set(loads) | {draft.owner.service for draft in drafts if draft.owner.service}
        names |= {task.service for task in self.facts.tasks if task.service}
        inside: dict[str, set[str]] = {}
        for draft in drafts:
            if draft.owner.service:
                inside.setdefault(draft.owner.service, set()).add(draft.network)
        return tuple(
            self._service(name, facts.get(name, []), loads.get(name, []), named, inside.get(name, set()))
            for name in sorted(name for name in names if name)
        )

    def _service(
        self,
        name: str,
        facts: list[ServiceFact],
        loads: list[tuple[str, Address | None, tuple[Port, ...]]],
        named: Mapping[str, str],
        inside: set[str],
    ) -> Service:
        best = max(facts, key=lambda fact: fact.version, default=None)
        for fact in facts:
            if best is not None and fact.replicas is not None and best.replicas is not None and fact.replicas != best.replicas:
                self.contradictions.append(
                    f"service {name}: {fact.source} wants {fact.replicas} tasks, {best.source} {best.replicas}: believed the latter, it is newer"
                )
        vips = {named.get(network, network): interface.ip for network, interface in (best.vips if best else ())}
        for network, vip, _ in loads:
            if vip is not None and vips.setdefault(network, vip) != vip:
                self.contradictions.append(
                    f"service {name}: virtual address in network {network} is {vips[network]}, a network inspect says {vip}: believed the former"
                )
        ports = best.ports if best is not None else None
        if ports is None:
            ports = tuple(dict.fromkeys(port for _, _, found in loads for port in found))
        mode = best.endpoint_mode if best is not None else None
        derived: frozenset[str] = frozenset()
        if mode is None and (vips or loads):
            mode, derived = (EndpointMode.VIP if vips else EndpointMode.DNSRR), derived | {"endpoint_mode"}
        aliases: tuple[tuple[str, str], ...] = ()
        placed = [network for network, _, _ in loads if network not in self.ingress]
        placed += sorted(network for network in inside if network not in self.ingress)
        if best is not None and best.targets is not None:
            placed = [named.get(target, target) for target, _ in best.targets]
            aliases = tuple((named.get(target, target), alias) for target, given in best.targets for alias in given)
        return Service(
            name=name,
            id=best.id if best is not None else None,
            mode=best.mode if best is not None else None,
            replicas=best.replicas if best is not None else None,
            endpoint_mode=mode,
            vips=tuple(Vip(network, address) for network, address in sorted(vips.items())),
            ports=tuple(ports),
            networks=tuple(dict.fromkeys(placed)),
            aliases=aliases,
            derived=derived,
        )

    def _tasks(self, drafts: list[_Draft], services: tuple[Service, ...]) -> tuple[Task, ...]:
        names = self._service_names()
        found: dict[str, Task] = {}
        for fact in self.facts.tasks:
            identity = str(self.who.task(fact.id)[1])
            task = Task(
                id=identity,
                service=fact.service or names.get(fact.service_id or ""),
                slot=fact.slot,
                node=self.who.node(("task", identity)),
                desired=fact.desired,
                observed=fact.observed,
                container=fact.container,
                error=fact.error,
            )
            known = found.get(identity)
            found[identity] = task if known is None else _merged(known, task)
        for draft in drafts:
            if draft.owner.task is None:
                continue
            known = found.get(draft.owner.task) or Task(draft.owner.task, node=self.who.node(*draft.tokens))
            found[draft.owner.task] = replace(
                known,
                service=known.service or draft.owner.service,
                slot=known.slot if known.slot is not None else draft.owner.slot,
                container=known.container or draft.container,
                addresses=tuple(sorted({*known.addresses, (draft.network, draft.ip)}, key=lambda pair: (pair[0], int(pair[1])))),
            )
        return tuple(sorted(found.values(), key=lambda task: (task.service or "", task.slot or 0, task.id)))

    # -- saying what is missing ----------------------------------------------------------------------------------------

    def _tell_missing(self, nodes: tuple[Node, ...], networks: Mapping[str, Network], services: tuple[Service, ...], tasks: tuple[Task, ...]) -> None:
        tell = self.missing.append
        if not self.facts.all_nodes and not any(node.id for node in nodes):
            tell("the list of nodes: neither `docker node inspect` nor `docker node ls` was given")
        for node in nodes:
            if node.vtep is None:
                among = f"; perhaps one of {', '.join(sorted(map(str, self.who.unassigned)))}" if self.who.unassigned else ""
                tell(f"address of node {node.name}: no `docker node inspect` of it was given{among}")
        seen = {documents[-1].name for documents in self.networks.values()}
        for name, network in sorted(networks.items()):
            if name not in seen:
                tell(f"network {name}: no inspect of it was given, so its VNI and endpoints are not known")
                continue
            if network.complete:
                continue
            what = "endpoints" if not network.tasks_complete else "load-balancer endpoint and standalone containers"
            joined = network.members if network.members is not None else frozenset(node.name for node in nodes)
            absent = sorted(joined - network.complete_nodes)
            for node_name in absent:
                tell(f"{what} of network {name} on node {node_name}: no inspect of that node was given")
            if not absent:
                tell(f"{what} of network {name} on further nodes: which nodes have it is not known")
        inspected = {fact.name for fact in self.facts.services if fact.version >= 0}
        for service in services:
            if service.name not in inspected:
                tell(f"ports and wanted replicas of service {service.name}: no `docker service inspect` of it was given")
        scheduled = {task.service for task in tasks if task.desired is not None}
        for service in services:
            if service.name not in scheduled:
                tell(f"desired state of the tasks of service {service.name}: no `docker service ps` of it was given")
        if self.facts.data_path_port is None:
            tell("the data-path port: only `docker info` of a manager tells it; 4789 is the default")


def _key(attachment: Attachment) -> str:
    return attachment.endpoint or f"{attachment.name} {attachment.ip}"


def _from_attachment(attachment: Attachment, network: str, token: Token) -> _Draft:
    return _Draft(
        network=network,
        ip=attachment.ip,
        name=attachment.name,
        owner=attachment.owner,
        mac=attachment.mac,
        ipv6=attachment.ipv6,
        endpoint=attachment.endpoint,
        container=attachment.container,
        tokens=[token],
    )


def _backend_tokens(backend: Backend) -> list[Token]:
    tokens: list[Token] = []
    if backend.endpoint:
        tokens.append(("ep", backend.endpoint))
    if backend.owner.task:
        tokens.append(("task", backend.owner.task))
    if backend.vtep is not None:
        tokens.append(("vtep", backend.vtep))
    return tokens


def _merged(one: Task, other: Task) -> Task:
    return Task(
        id=one.id,
        service=other.service or one.service,
        slot=other.slot if other.slot is not None else one.slot,
        node=other.node or one.node,
        desired=other.desired if other.desired is not None else one.desired,
        observed=other.observed if other.observed is not None else one.observed,
        container=other.container or one.container,
        addresses=other.addresses or one.addresses,
        error=other.error or one.error,
    )


def _unique(sentences: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(sentences))
