"""Who is who: the nodes behind everything that documents of Docker say is on one.

No document tells all of a node: `node inspect` has its id, name and address, `service ps` its name, `network inspect` neither (it lists the
endpoints of whichever node was asked), and `network inspect -v` the tunnel address of each task. So a node is an equivalence class of everything that
must be on one node (ids, names, addresses, the documents asked of it, the tasks and containers in them), and documents join classes. Joins are
made in the order in which sources deserve belief; one that would give a node two ids or two addresses is refused and told.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

from vxtool.model import Address, Node, NodeState

from .docker import Facts, NetworkFact, NodeFact

__all__ = ["Identities", "Token", "words"]

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

    def tokens(self) -> list[Token]:
        return list(self._parent)

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


class Identities:
    """The classes of one moment's facts, and the nodes they are."""

    def __init__(self, facts: Facts, networks: Mapping[str, list[NetworkFact]]) -> None:
        self.facts = facts
        self.networks = networks
        self.notes: list[str] = []
        self.contradictions: list[str] = []
        self.same = _Sameness()
        self.node_of: dict[Token, str] = {}  # root token -> node name
        self.unassigned: frozenset[Address] = frozenset()
        self.task_ids = _prefixes(self._full_task_ids())
        self._join_all()
        self.nodes = self._nodes()

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
                join(here, self.task(container.task), container.source)
            for _, _, attachment in container.attachments:
                if attachment.endpoint:
                    join(here, ("ep", attachment.endpoint), container.source)
        for task in facts.tasks:
            if task.node_id:
                join(("id", task.node_id), self.task(task.id), task.source)
            if task.container:
                join(self.task(task.id), ("ctr", task.container), task.source)
        documents = [fact for group in self.networks.values() for fact in group]
        documents.sort(key=lambda fact: fact.serial)
        for fact in documents:
            self._join_document(fact)
        for task in facts.tasks:
            if task.hostname and (task.hostname not in hosts or hosts[task.hostname]):
                join(("host", task.hostname), self.task(task.id), task.source)
        self._join_backends(documents)
        for token in list(self.same.classes()):
            vtep = self.same.get(token, "vtep")
            # A node whose tunnels end where another address is advertised is rare; equal addresses are never two nodes.
            if vtep is not None and ("adv", vtep) in self.same:
                join(("vtep", vtep), ("adv", vtep), "the addresses")
        containers = _prefixes(str(value) for kind, value in self.same.tokens() if kind == "ctr")
        for group in facts.together:
            for short in group.containers:
                join(("ps", group.serial), ("ctr", containers.get(short, short)), group.source)
            for identity in group.tasks:
                join(("ps", group.serial), self.task(identity), group.source)
        self._join_hints(documents)
        for fact in documents:
            for peer in fact.peers or ():
                self.same.find(("adv", peer))
                if ("vtep", peer) in self.same:
                    join(("vtep", peer), ("adv", peer), fact.source)
        self._join_the_last()

    def _join(self, one: Token, other: Token, source: str) -> None:
        refused = self.same.join(one, other)
        if refused:
            self.contradictions.append(
                f"{source}: {_show(other)} would be on the node of {_show(one)}, but that has another {refused}: believed the earlier source"
            )

    def task(self, identity: str) -> Token:
        """Tables cut ids to twelve characters unless told --no-trunc."""
        return ("task", identity if len(identity) == 25 else self.task_ids.get(identity, identity))

    def _full_task_ids(self) -> Iterable[str]:
        for documents in self.networks.values():
            for fact in documents:
                owners = [attachment.owner for attachment in fact.attachments]
                owners += [backend.owner for load in fact.loads or () for backend in load.backends]
                yield from (owner.task for owner in owners if owner.task)
        yield from (task.id for task in self.facts.tasks if len(task.id) == 25)
        yield from (container.task for container in self.facts.containers if container.task)

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

    def _join_document(self, fact: NetworkFact) -> None:
        doc: Token = ("doc", fact.serial)
        self.same.find(doc)
        for attachment in fact.attachments:
            if attachment.container:
                self._join(doc, ("ctr", attachment.container), fact.source)
            if attachment.endpoint:
                self._join(doc, ("ep", attachment.endpoint), fact.source)
            if attachment.owner.task:
                self._join(doc, self.task(attachment.owner.task), fact.source)
            if attachment.owner.node_id:
                self._join(doc, ("id", attachment.owner.node_id), fact.source)

    def _join_backends(self, documents: list[NetworkFact]) -> None:
        """What the gossip says of tasks: where most tasks of a node are said to be is its address, and one stale record does not change it."""
        told: list[tuple[Token, Address, str]] = []
        for fact in documents:
            for load in fact.loads or ():
                for backend in load.backends:
                    tokens: list[Token] = []
                    if backend.endpoint:
                        tokens.append(("ep", backend.endpoint))
                    if backend.owner.task:
                        tokens.append(self.task(backend.owner.task))
                    if backend.owner.node_id:
                        tokens.append(("id", backend.owner.node_id))
                    for token in tokens[1:]:
                        self._join(tokens[0], token, fact.source)
                    if tokens and backend.vtep is not None:
                        told.append((tokens[0], backend.vtep, fact.source))
        votes = Counter((self.same.find(token), vtep) for token, vtep, _ in told)
        order = {key: place for place, (key, _) in enumerate(votes.most_common())}
        for token, vtep, source in sorted(told, key=lambda one: order[self.same.find(one[0]), one[1]]):
            self._join(token, ("vtep", vtep), source)

    def _join_hints(self, documents: list[NetworkFact]) -> None:
        """A file's name is believed last, and silently not when it contradicts what documents say."""
        hostnames = {str(value) for kind, value in self.same.tokens() if kind == "host"} | {n.hostname for n in self.facts.nodes if n.hostname}
        tells = _distinctive(hostnames)
        names = {part for group in self.networks.values() for part in words(group[-1].name)}
        self.hinted: dict[str, str] = {}  # hint -> what it was taken for

        def token(hint: str) -> Token | None:
            named = {tells[word] for word in words(hint) if word in tells}
            if len(named) == 1:
                return ("host", named.pop())
            if hostnames:
                return None
            stem = words(hint.rsplit("/", 1)[-1])
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
            self.unassigned = frozenset(
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

    def node(self, *tokens: Token) -> str | None:
        for token in tokens:
            if token in self.same:
                name = self.node_of.get(self.same.find(token))
                if name is not None:
                    return name
        return None


_FILE_WORDS = frozenset({"inspect", "inspectv", "v", "verbose", "network", "networks", "net", "docker", "json", "ps", "node"})


def words(text: str) -> list[str]:
    return [word for word in re.split(r"[^0-9A-Za-z]+", text.lower()) if word]


def _distinctive(hostnames: Iterable[str]) -> dict[str, str]:
    """Words of host names that occur in one of them only: vm1 of sathish-vm1 and sathish-vm2."""
    holders: dict[str, set[str]] = {}
    for hostname in hostnames:
        for word in words(hostname):
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
