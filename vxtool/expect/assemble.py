"""Facts become a Cluster: who is who, which source is believed, and what remains unknown.

The hard part is that no document of Docker tells all of a node: `node inspect` has its id, name and address, `service ps` its name, `network inspect`
neither (it lists the endpoints of whichever node was asked), and `network inspect -v` the tunnel address of each task. So a node is an equivalence
class of everything that must be on one node (ids, names, addresses, the documents asked of it, the tasks and containers in them), and documents
join classes. Joins are made in the order in which sources deserve belief; one that would give a node two ids or two addresses is refused and told.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address, ip_network

from vxtool.model import (
    Address,
    Cluster,
    Endpoint,
    EndpointKind,
    EndpointMode,
    Network,
    Node,
    NodeState,
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

from .docker import Attachment, Backend, Facts, NetworkFact, NodeFact, ServiceFact

__all__ = ["assemble"]

Token = tuple[str, object]
"""(kind, value). Kinds: id, host, adv, vtep, hint, doc (position of a network inspect), ps, ctr, ep, task."""

_ONE_PER_NODE = ("id", "host", "adv", "vtep")
_MEANING = {"id": "node id", "host": "host name", "adv": "advertised address", "vtep": "data-path address"}


class _Sameness:
    """Union-find over tokens; a class never has two values of a kind that a node has once."""

    def __init__(self) -> None:
        self._parent: dict[Token, Token] = {}
        self._unique: dict[Token, dict[str, object]] = {}

    def find(self, token: Token) -> Token:
        parent = self._parent
        if token not in parent:
            parent[token] = token
            self._unique[token] = {token[0]: token[1]} if token[0] in _ONE_PER_NODE else {}
            return token
        while parent[token] != token:
            parent[token] = token = parent[parent[token]]
        return token

    def __contains__(self, token: Token) -> bool:
        return token in self._parent

    def get(self, token: Token, kind: str) -> object | None:
        return self._unique[self.find(token)].get(kind)

    def join(self, one: Token, other: Token) -> str | None:
        """None when joined (or already one); else why not: the two values that exclude each other."""
        a, b = self.find(one), self.find(other)
        if a == b:
            return None
        of_a, of_b = self._unique[a], self._unique[b]
        for kind, value in of_b.items():
            if of_a.get(kind, value) != value:
                return f"{_MEANING[kind]} {of_a[kind]} against {value}"
        self._parent[b] = a
        of_a.update(of_b)
        return None

    def classes(self) -> dict[Token, list[Token]]:
        found: dict[Token, list[Token]] = {}
        for token in self._parent:
            found.setdefault(self.find(token), []).append(token)
        return found


@dataclass(slots=True)
class _Draft:
    """An endpoint while documents add to it."""

    network: str
    ip: Address
    name: str
    owner: Owner
    mac: object = None
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
        self.same = _Sameness()
        self.node_of: dict[Token, str] = {}  # root token -> node name
        self.addresses_only: frozenset[Address] = frozenset()
        self.networks = self._networks()
        self.task_ids = _prefixes(task for task in self._full_task_ids())

    def cluster(self) -> Cluster:
        self._join_all()
        nodes = self._nodes()
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
            unassigned=self.addresses_only,
            missing=_unique(self.missing),
            contradictions=_unique(self.contradictions),
            notes=_unique(self.notes),
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

    def _full_task_ids(self) -> Iterable[str]:
        for documents in self.networks.values():
            for fact in documents:
                owners = [attachment.owner for attachment in fact.attachments]
                owners += [backend.owner for load in fact.loads or () for backend in load.backends]
                yield from (owner.task for owner in owners if owner.task)
        yield from (task.id for task in self.facts.tasks if len(task.id) == 25)
        yield from (container.task for container in self.facts.containers if container.task)

    def _task(self, identity: str) -> Token:
        """Tables cut ids to twelve characters unless told --no-trunc."""
        return ("task", identity if len(identity) == 25 else self.task_ids.get(identity, identity))

    def _join(self, one: Token, other: Token, source: str) -> None:
        refused = self.same.join(one, other)
        if refused:
            self.contradictions.append(
                f"{source}: {_show(other)} would be on the node of {_show(one)}, but that has another {refused}: believed the earlier source"
            )

    def _join_all(self) -> None:
        facts, join = self.facts, self._join
        hosts = self._hosts()
        for node in facts.nodes:
            if node.id is not None:
                self.same.find(("id", node.id))
                if node.advertise is not None:
                    join(("id", node.id), ("adv", node.advertise), node.source)
                if node.hostname is not None and hosts.get(node.hostname) == node.id:
                    join(("id", node.id), ("host", node.hostname), node.source)
        for container in facts.containers:
            here: Token = ("ctr", container.id)
            if container.node_id:
                join(("id", container.node_id), here, container.source)
            if container.task:
                join(here, self._task(container.task), container.source)
            for _, _, attachment in container.attachments:
                if attachment.endpoint:
                    join(here, ("ep", attachment.endpoint), container.source)
        for task in facts.tasks:
            if task.node_id:
                join(("id", task.node_id), self._task(task.id), task.source)
            if task.container:
                join(self._task(task.id), ("ctr", task.container), task.source)
        documents = [fact for group in self.networks.values() for fact in group]
        documents.sort(key=lambda fact: fact.serial)
        for fact in documents:
            self._join_document(fact)
        for fact in documents:
            for load in fact.loads or ():
                for backend in load.backends:
                    self._join_backend(backend, fact.source)
        for token in list(self.same.classes()):
            vtep = self.same.get(token, "vtep")
            # A node whose tunnels end where another address is advertised is rare; equal addresses are never two nodes.
            if vtep is not None and ("adv", vtep) in self.same:
                join(("vtep", vtep), ("adv", vtep), "the addresses")
        for task in facts.tasks:
            if task.hostname and (task.hostname not in hosts or hosts[task.hostname]):
                join(("host", task.hostname), self._task(task.id), task.source)
        for group in facts.together:
            for container_id in group.containers:
                full = self._container(container_id)
                join(("ps", group.serial), ("ctr", full), group.source)
            for identity in group.tasks:
                join(("ps", group.serial), self._task(identity), group.source)
        self._join_hints(documents)
        for fact in documents:
            for peer in fact.peers or ():
                self.same.find(("adv", peer))
                if ("vtep", peer) in self.same:
                    join(("vtep", peer), ("adv", peer), fact.source)
        self._join_the_last()

    def _hosts(self) -> dict[str, str | None]:
        """Host name -> id; None when several nodes that are up share a name, so that it tells nothing."""
        ids: dict[str, dict[str, NodeState | None]] = {}
        for node in self.facts.nodes:
            if node.id is not None and node.hostname is not None:
                states = ids.setdefault(node.hostname, {})
                states[node.id] = node.state if node.state is not None else states.get(node.id)
        found: dict[str, str | None] = {}
        for hostname, states in ids.items():
            # A machine that left and joined again stands in the list twice, its old self down.
            up = [identity for identity, state in states.items() if state is not NodeState.DOWN] or list(states)
            found[hostname] = up[0] if len(up) == 1 else None
            if len(up) > 1:
                self.notes.append(f"{len(up)} nodes are called {hostname}: tasks of which only that name is told have no known node")
        return found

    def _container(self, identity: str) -> str:
        if len(identity) == 64:
            return identity
        return next((str(value) for kind, value in self.same._parent if kind == "ctr" and str(value).startswith(identity)), identity)

    def _join_document(self, fact: NetworkFact) -> None:
        doc: Token = ("doc", fact.serial)
        self.same.find(doc)
        for attachment in fact.attachments:
            if attachment.container:
                self._join(doc, ("ctr", attachment.container), fact.source)
            if attachment.endpoint:
                self._join(doc, ("ep", attachment.endpoint), fact.source)
            if attachment.owner.task:
                self._join(doc, self._task(attachment.owner.task), fact.source)
            if attachment.owner.node_id:
                self._join(doc, ("id", attachment.owner.node_id), fact.source)

    def _join_backend(self, backend: Backend, source: str) -> None:
        tokens: list[Token] = []
        if backend.endpoint:
            tokens.append(("ep", backend.endpoint))
        if backend.owner.task:
            tokens.append(self._task(backend.owner.task))
        if backend.owner.node_id:
            tokens.append(("id", backend.owner.node_id))
        if backend.vtep is not None:
            tokens.append(("vtep", backend.vtep))
        for token in tokens[1:]:
            self._join(tokens[0], token, source)

    def _join_hints(self, documents: list[NetworkFact]) -> None:
        """A file's name is believed last, and silently not when it contradicts what documents say."""
        hostnames = {str(value) for kind, value in self.same._parent if kind == "host"} | {n.hostname for n in self.facts.nodes if n.hostname}
        tells = _distinctive(hostnames)
        names = {part for group in self.networks.values() for part in _words(group[-1].name)}
        self.hinted: dict[str, str] = {}  # hint -> what it was taken for

        def token(hint: str) -> Token | None:
            words = _words(hint)
            named = {tells[word] for word in words if word in tells}
            if len(named) == 1:
                return ("host", named.pop())
            if hostnames:
                return None
            stem = _words(hint.rsplit("/", 1)[-1])
            left = [word for word in stem if word not in names and word not in _FILE_WORDS]
            return ("hint", "-".join(left)) if left and len(left) < len(stem) else None

        self.hint_token = token
        for fact in documents:
            hint = token(fact.hint) if fact.hint else None
            if hint is None or self.same.find(hint) == self.same.find(("doc", fact.serial)):
                continue
            if self.same.join(("doc", fact.serial), hint) is None:
                self.notes.append(f"{fact.source}: taken for the inspect of node {hint[1]}, from the file's name")
            else:
                self.notes.append(
                    f"{fact.source}: not believed to be of node {hint[1]}, although its file's name says so: its contents are on another"
                )
        for group in self.facts.together:
            hint = token(group.hint) if group.hint else None
            if hint is not None:
                self.same.join(("ps", group.serial), hint)
        for absent in self.facts.absent:
            hint = token(absent.hint) if absent.hint else None
            if hint is not None:
                self.same.find(hint)

    def _join_the_last(self) -> None:
        """One node without an address and one address without a node belong together, when all nodes are known."""
        if not self.facts.all_nodes:
            return
        classes = self.same.classes()
        kinds = {root: {kind for kind, _ in tokens} for root, tokens in classes.items()}
        nameless = [root for root, has in kinds.items() if has & {"adv", "vtep"} and not has & {"id", "host"}]
        homeless = [root for root, has in kinds.items() if has & {"id", "host"} and not has & {"adv", "vtep"}]
        if len(nameless) == len(homeless) == 1 and self.same.join(homeless[0], nameless[0]) is None:
            self.notes.append("one node without an address and one address without a node were left: taken for each other's")

    def _nodes(self) -> tuple[Node, ...]:
        told = self.facts.nodes
        classes = self.same.classes()
        named: list[tuple[str, Token, dict[str, list[object]]]] = []
        peers: list[tuple[Token, dict[str, list[object]]]] = []
        for root, tokens in classes.items():
            kinds: dict[str, list[object]] = {}
            for kind, value in tokens:
                kinds.setdefault(kind, []).append(value)
            if kinds.keys() & {"id", "host", "hint"} or (kinds.keys() & {"ep", "ctr"} and kinds.keys() & {"doc", "ps", "vtep"}):
                named.append(("", root, kinds))
            elif kinds.keys() & {"adv", "vtep"}:
                peers.append((root, kinds))
        without = sum(not (kinds.keys() & {"adv", "vtep"}) for _, _, kinds in named)
        if without == 0:
            named += [("", root, kinds) for root, kinds in peers]
        else:
            self.addresses_only = frozenset(
                value
                for _, kinds in peers
                for value in (*kinds.get("adv", ()), *kinds.get("vtep", ()))
                if isinstance(value, (IPv4Address, IPv6Address))
            )
        nodes: list[Node] = []
        taken: Counter[str] = Counter()
        unnamed = 0
        by_hostname = Counter(node.hostname for node in _latest_nodes(told).values() if node.hostname)
        latest = _latest_nodes(told)
        for _, root, kinds in sorted(named, key=lambda entry: _rank(entry[2])):
            identity = _only(kinds, "id")
            fact = latest.get(identity) if identity else None
            hostname = fact.hostname if fact else _only(kinds, "host")
            address = _address(*kinds.get("vtep", ()), *kinds.get("adv", ()))
            name = hostname if hostname and by_hostname[hostname] <= 1 else None
            name = name or _only(kinds, "hint") or identity or (str(address) if address else None)
            if name is None:
                unnamed += 1
                name = f"unnamed-{unnamed}"
            taken[name] += 1
            if taken[name] > 1:
                name = f"{name}#{taken[name]}"
            advertise = _address(*kinds.get("adv", ()))
            vtep = _address(*kinds.get("vtep", ()))
            derived = frozenset({"data_path"} if vtep is None and advertise is not None else ())
            nodes.append(
                Node(
                    name=name,
                    id=identity,
                    hostname=hostname,
                    advertise=advertise,
                    data_path=vtep or advertise,
                    role=fact.role if fact else None,
                    availability=fact.availability if fact else None,
                    state=fact.state if fact else None,
                    labels=fact.labels if fact else {},
                    derived=derived,
                )
            )
            self.node_of[root] = name
        return tuple(sorted(nodes, key=lambda node: node.name))

    def _node(self, *tokens: Token) -> str | None:
        for token in tokens:
            if token in self.same:
                name = self.node_of.get(self.same.find(token))
                if name is not None:
                    return name
        return None

    # -- endpoints -----------------------------------------------------------------------------------------------------

    def _effective(self, documents: list[NetworkFact]) -> dict[Token, NetworkFact]:
        """Per node the newest document of one network; of the same age the verbose one, which sorts behind."""
        newest: dict[Token, NetworkFact] = {}
        for fact in sorted(documents, key=lambda fact: fact.serial):
            root = self.same.find(("doc", fact.serial))
            older = newest.get(root)
            if older is not None and {_key(a) for a in older.attachments} != {_key(a) for a in fact.attachments}:
                node = self.node_of.get(root, "one node")
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
                if root in self.node_of:
                    complete.add(self.node_of[root])
                for attachment in fact.attachments:
                    draft = _from_attachment(attachment, name, ("doc", fact.serial))
                    own[_key(attachment)] = draft
            for absent in self.facts.absent:
                token = self.hint_token(absent.hint) if absent.hint else None
                node = self._node(token) if token else None
                if node is not None and set(_words(name)) <= set(_words(absent.hint)) and node not in complete:
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
        believed: dict[str, frozenset[str]] = {}
        for fact in sorted(documents, key=lambda fact: -fact.serial):
            if fact.loads is None:
                continue
            for load in fact.loads:
                for backend in load.backends:
                    key = backend.endpoint or f"{backend.name} {backend.ip}"
                    known = own.get(key) or by_address.get((backend.name, backend.ip))
                    node = self._node(*_backend_tokens(backend, self._task))
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
                    draft = _Draft(
                        network, backend.ip, backend.name, backend.owner, endpoint=backend.endpoint, tokens=_backend_tokens(backend, self._task)
                    )
                    own[key] = by_address[(backend.name, backend.ip)] = draft
            view = frozenset(backend.endpoint or backend.name for load in fact.loads for backend in load.backends)
            node = self._node(("doc", fact.serial)) or fact.source
            for other, seen in believed.items():
                if seen != view:
                    self.contradictions.append(
                        f"tasks of network {network}: {node} and {other} list different ones ({len(view)} and {len(seen)}): all of them are taken"
                    )
                    break
            believed.setdefault(node, view)

    def _add_task_addresses(self, drafts: list[_Draft]) -> None:
        known = {(draft.network, draft.owner.task) for draft in drafts if draft.owner.task}
        names = {identity: documents[-1].name for identity, documents in self.networks.items()}
        services = self._service_names()
        for task in self.facts.tasks:
            if task.observed not in (TaskState.RUNNING, TaskState.STARTING, None) or task.desired not in (TaskState.RUNNING, TaskState.READY, None):
                continue
            for network_id, address in task.addresses:
                network = names.get(network_id)
                token = self._task(task.id)
                if network is None or (network, token[1]) in known:
                    continue
                if self._node(token) in self.complete.get(network, ()):
                    continue
                known.add((network, task.id))
                service = task.service or services.get(task.service_id or "")
                place = task.slot if task.slot is not None else task.node_id
                name = f"{service}.{place}.{task.id}" if service and place is not None else ""
                owner = Owner(EndpointKind.TASK, service, task.slot, task.node_id, task.id)
                drafts.append(_Draft(network, address, name, owner, container=task.container, tokens=[token]))

    def _finish(self, draft: _Draft, networks: Mapping[str, Network]) -> Endpoint:
        from vxtool.model import Mac

        mac = draft.mac if isinstance(draft.mac, Mac) else None
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
            node=self._node(*draft.tokens),
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
            node = self._node(*draft.tokens)
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
            mapped = {self._node(("adv", peer)) for peer in peers}
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
        self.stubs: dict[str, str] = {}
        for service in self.facts.services:
            targets = {target for target, _ in service.targets or ()}
            for network, interface in service.vips:
                if network in known:
                    continue
                mesh = service.targets is not None and network not in targets and not any(n.ingress for n in networks.values())
                name = "ingress" if mesh and "ingress" not in networks else network
                subnet = ip_network(interface.network)
                derived = frozenset({"subnets", "mtu"} | ({"ingress", "name"} if mesh else set()))
                networks[name] = Network(name, id=network, subnets=(Subnet(subnet),), ingress=mesh, mtu=overlay_mtu(False), derived=derived)
                self.stubs[network] = name
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
        return tuple(self._service(name, facts.get(name, []), loads.get(name, []), named, drafts) for name in sorted(name for name in names if name))

    def _service(
        self,
        name: str,
        facts: list[ServiceFact],
        loads: list[tuple[str, Address | None, tuple[Port, ...]]],
        named: Mapping[str, str],
        drafts: list[_Draft],
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
        placed = [network for network, _, _ in loads if not self._is_ingress(network)]
        placed += sorted({draft.network for draft in drafts if draft.owner.service == name and not self._is_ingress(draft.network)})
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

    def _is_ingress(self, network: str) -> bool:
        return any(documents[-1].ingress for documents in self.networks.values() if documents[-1].name == network)

    def _tasks(self, drafts: list[_Draft], services: tuple[Service, ...]) -> tuple[Task, ...]:
        names = self._service_names()
        found: dict[str, Task] = {}
        for fact in self.facts.tasks:
            identity = str(self._task(fact.id)[1])
            task = Task(
                id=identity,
                service=fact.service or names.get(fact.service_id or ""),
                slot=fact.slot,
                node=self._node(("task", identity)),
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
            known = found.get(draft.owner.task) or Task(draft.owner.task, node=self._node(*draft.tokens))
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
                among = f"; perhaps one of {', '.join(sorted(map(str, self.addresses_only)))}" if self.addresses_only else ""
                tell(f"address of node {node.name}: no `docker node inspect` of it was given{among}")
        for name, network in sorted(networks.items()):
            if name not in {documents[-1].name for documents in self.networks.values()}:
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
        for service in services:
            if not any(task.service == service.name and task.desired is not None for task in tasks):
                tell(f"desired state of the tasks of service {service.name}: no `docker service ps` of it was given")
        if self.facts.data_path_port is None:
            tell("the data-path port: only `docker info` of a manager tells it; 4789 is the default")


_FILE_WORDS = frozenset({"inspect", "inspectv", "v", "verbose", "network", "networks", "net", "docker", "json", "ps", "node"})


def _words(text: str) -> list[str]:
    return [word for word in re.split(r"[^0-9A-Za-z]+", text.lower()) if word]


def _distinctive(hostnames: Iterable[str]) -> dict[str, str]:
    """Words of host names that occur in one of them only: vm1 of sathish-vm1 and sathish-vm2."""
    holders: dict[str, set[str]] = {}
    for hostname in hostnames:
        for word in _words(hostname):
            holders.setdefault(word, set()).add(hostname)
    return {word: next(iter(names)) for word, names in holders.items() if len(names) == 1}


def _prefixes(identities: Iterable[str]) -> dict[str, str]:
    """The first twelve characters of each id, where they tell it."""
    found: dict[str, str] = {}
    twice: set[str] = set()
    for identity in identities:
        short = identity[:12]
        if found.setdefault(short, identity) != identity:
            twice.add(short)
    return {short: identity for short, identity in found.items() if short not in twice}


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


def _backend_tokens(backend: Backend, task: object) -> list[Token]:
    tokens: list[Token] = []
    if backend.endpoint:
        tokens.append(("ep", backend.endpoint))
    if backend.owner.task:
        tokens.append(("task", backend.owner.task))
    if backend.vtep is not None:
        tokens.append(("vtep", backend.vtep))
    return tokens


def _latest_nodes(facts: list[NodeFact]) -> dict[str, NodeFact]:
    """One fact per node id; `node inspect` tells more than `node ls`, so gaps of a later fact are filled from earlier ones."""
    found: dict[str, NodeFact] = {}
    for fact in facts:
        identity = fact.id
        if identity is None:
            continue
        known = found.get(identity)
        if known is not None:
            fact = replace(
                fact,
                hostname=fact.hostname or known.hostname,
                advertise=fact.advertise or known.advertise,
                role=fact.role or known.role,
                availability=fact.availability or known.availability,
                state=fact.state or known.state,
                labels=fact.labels or known.labels,
            )
        found[identity] = fact
    return found


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


def _only(kinds: Mapping[str, list[object]], kind: str) -> str | None:
    values = kinds.get(kind)
    return str(values[0]) if values else None


def _address(*values: object) -> Address | None:
    return next((value for value in values if isinstance(value, (IPv4Address, IPv6Address))), None)


def _rank(kinds: Mapping[str, list[object]]) -> tuple[str, str, str, str]:
    return (_only(kinds, "host") or "~", _only(kinds, "hint") or "~", _only(kinds, "id") or "~", min(map(str, kinds.get("ep", ["~"]))))


def _show(token: Token) -> str:
    kind, value = token
    return f"{_MEANING.get(kind, {'ctr': 'container', 'ep': 'endpoint', 'doc': 'document', 'ps': '`docker ps`'}.get(kind, kind))} {str(value)[:25]}"


def _unique(sentences: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(sentences))
