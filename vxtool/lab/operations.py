"""What can be asked of a running lab, and what each operation means: a change of the plan, and the steps that make it so.

Knows requests (what a person says: "attach web.7 to web, on vm1"), operations (the same with every address, id and VNI decided, as the journal keeps
it) and the lab as it is planned. Performs nothing, reads no clock, and draws nothing but keys. The same operations in the same order always give the
same plan and steps; so a new supervisor knows what the last one had built without looking at a single link.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from vxtool.errors import LabError, UsageError
from vxtool.lab import impair, underlay
from vxtool.lab.encryption import Key, Keyring
from vxtool.lab.impair import Features, Relay
from vxtool.lab.overlay import Plan
from vxtool.lab.spec import EndpointWish, LabSpec, NetworkWish, complete
from vxtool.lab.steps import Step
from vxtool.lab.topology import Impairment, Topology
from vxtool.model import DATA_PATH_PORT, Address, Cluster, Endpoint, EndpointKind, Mac, Network, Subnet
from vxtool.model.plain import plain, revive

__all__ = ["OPERATIONS", "REQUESTS", "Build", "Impair", "Operation", "State", "World", "recorded", "requested", "written"]

LONGEST_IMPAIRMENT = 365 * 86_400.0

# --------------------------------------------------------------------------------------------------------------------
# Operations: decided, and written down
# --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Build:
    """The whole lab, from nothing. `keys`: of what may come to be encrypted."""

    spec: LabSpec
    keys: Keyring


@dataclass(frozen=True, slots=True)
class AddNetwork:
    network: Network


@dataclass(frozen=True, slots=True)
class RemoveNetwork:
    name: str


@dataclass(frozen=True, slots=True)
class Attach:
    """All attachments of one new sandbox."""

    endpoints: tuple[Endpoint, ...]


@dataclass(frozen=True, slots=True)
class Detach:
    node: str
    name: str


@dataclass(frozen=True, slots=True)
class Move:
    name: str
    node: str  # from
    to: str


@dataclass(frozen=True, slots=True)
class Impair:
    """`until`, in seconds since the epoch: the link then becomes like `then` again."""

    link: str
    impairment: Impairment
    until: float | None = None
    then: Impairment | None = None


@dataclass(frozen=True, slots=True)
class RotateKeys:
    """The next key of the encrypted networks is used, the oldest forgotten, `new` kept for later."""

    new: Key


Operation = Build | AddNetwork | RemoveNetwork | Attach | Detach | Move | Impair | RotateKeys

OPERATIONS: Mapping[str, Callable[..., Operation]] = {
    "build": Build,
    "network_add": AddNetwork,
    "network_remove": RemoveNetwork,
    "attach": Attach,
    "detach": Detach,
    "move": Move,
    "impair": Impair,
    "rotate_keys": RotateKeys,
}
"""By the words in which they are asked for and written down."""

_WORDS = {kind: do for do, kind in OPERATIONS.items()}


def written(operation: Operation) -> tuple[str, Any]:
    """For the journal: its word, and JSON values."""
    return _WORDS[type(operation)], plain(operation)


def recorded(do: str, arguments: Any) -> Operation:
    """What `written` wrote."""
    return revive(OPERATIONS[do], arguments)


# --------------------------------------------------------------------------------------------------------------------
# The lab as it is planned
# --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class State:
    """What a lab is at one moment."""

    spec: LabSpec  # what it was asked to be
    topology: Topology  # each link with the impairment it has now
    cluster: Cluster
    impairments: Mapping[str, Impairment]  # of the links that have one
    until: Mapping[str, float]  # links that are so only for a while -> when that ends, in seconds since the epoch
    gateways: Mapping[str, IPv4Address]  # NODE:SANDBOX -> its address on the node's docker_gwbridge


class World:
    """The plan of a lab, changed by one operation after the other. `features` is asked when the first link is to be impaired."""

    def __init__(self, features: Callable[[], Features]) -> None:
        self._features = features
        self._spec: LabSpec | None = None
        self._plan: Plan | None = None
        self._impaired: dict[str, Impair] = {}

    def apply(self, operation: Operation) -> list[Step]:
        """Changes the plan, and says which steps make it so. Raises UsageError and MissingFeature: `restore` it then."""
        match operation:
            case Build(spec, keys):
                return self._build(spec, keys)
            case AddNetwork(network):
                return self.plan.add_network(network)
            case RemoveNetwork(name):
                return self.plan.remove_network(name)
            case Attach(endpoints):
                return self.plan.attach(endpoints)
            case Detach(node, name):
                return self.plan.detach(node, name)
            case Move(name, node, to):
                return self.plan.move(name, to, node)
            case RotateKeys(new):
                return self.plan.rotate(new)
            case Impair():
                return self._impair(operation)

    @property
    def spec(self) -> LabSpec:
        if self._spec is None:
            raise LabError("the lab is still being built; wait for vxtool lab up to end")
        return self._spec

    @property
    def plan(self) -> Plan:
        if self._plan is None:
            raise LabError("the lab is still being built; wait for vxtool lab up to end")
        return self._plan

    @property
    def impairments(self) -> dict[str, Impairment]:
        """Of the links that have one."""
        return {link: operation.impairment for link, operation in self._impaired.items() if operation.impairment}

    def relays(self) -> tuple[Relay, ...]:
        """The links that the delayer has to carry."""
        impairments = self.impairments
        return impair.relays(self.spec.topology, impairments, self._features()) if impairments else ()

    def expired(self, now: float) -> list[Impair]:
        """What makes links as they were whose impairment was only for a while."""
        over = [operation for operation in self._impaired.values() if operation.until is not None and operation.until <= now]
        return [Impair(operation.link, operation.then or Impairment()) for operation in over]

    def lasting(self, link: str) -> Impairment:
        """What the link is like when nothing on it is only for a while."""
        operation = self._impaired.get(link)
        return Impairment() if operation is None else operation.impairment if operation.until is None else operation.then or Impairment()

    def stays(self, link: str) -> None:
        """What was to end on this link does not."""
        self._impaired[link] = replace(self._impaired[link], until=None, then=None)

    def next_expiry(self) -> float | None:
        return min((operation.until for operation in self._impaired.values() if operation.until is not None), default=None)

    def state(self) -> State:
        impairments = self.impairments
        until = {link: operation.until for link, operation in self._impaired.items() if operation.until is not None}
        links = tuple(replace(link, impairment=impairments.get(link.name, Impairment())) for link in self.spec.topology.links)
        gateways = {f"{node}:{name}": address for (node, name), address in self.plan.gateways.items()}
        return State(self.spec, replace(self.spec.topology, links=links), self.plan.cluster, impairments, until, gateways)

    def snapshot(self) -> Any:
        return self._spec, self._plan, None if self._plan is None else self._plan.snapshot(), dict(self._impaired)

    def restore(self, snapshot: Any) -> None:
        self._spec, self._plan, inner, self._impaired = snapshot
        if self._plan is not None:
            self._plan.restore(inner)

    def _build(self, spec: LabSpec, keys: Keyring) -> list[Step]:
        if self._spec is not None:
            raise UsageError(f"lab {spec.name} is built already")
        self._spec = spec
        self._plan = Plan(spec.topology, spec.options, spec.cluster.data_path_port or DATA_PATH_PORT, keys)
        steps = [*underlay.plan(spec.topology, spec.options), *self._plan.build(spec.cluster)]
        for link in spec.topology.links:
            if link.impairment:
                steps += self._impair(Impair(link.name, link.impairment))
        return steps

    def _impair(self, operation: Impair) -> list[Step]:
        before = self._impaired.get(operation.link)
        self._impaired[operation.link] = operation
        was = before.impairment if before else Impairment()
        return impair.plan(self.spec.topology, operation.link, was, operation.impairment, self._features(), wire=self.spec.options.wire)


# --------------------------------------------------------------------------------------------------------------------
# Requests: what a person says, checked and decided
# --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BuildRequest:
    spec: LabSpec


@dataclass(frozen=True, slots=True)
class AddNetworkRequest:
    """`subnets` (): the next free one of swarm's pool. `vni` None: the next free one. `mtu` (inner) None: as Docker derives it."""

    name: str
    subnets: tuple[IPv4Network, ...] = ()
    vni: int | None = None
    mtu: int | None = None
    internal: bool = False
    encrypted: bool = False


@dataclass(frozen=True, slots=True)
class RemoveNetworkRequest:
    name: str


@dataclass(frozen=True, slots=True)
class AttachRequest:
    """`networks`: NETWORK, or NETWORK=ADDRESS. `duplicate`: the address may be one that another endpoint has, a fault to look into."""

    name: str
    node: str
    networks: tuple[str, ...]
    mac: Mac | None = None
    duplicate: bool = False


@dataclass(frozen=True, slots=True)
class DetachRequest:
    name: str  # `web.1`, or `vm1:web.1` when two nodes have one of that name


@dataclass(frozen=True, slots=True)
class MoveRequest:
    name: str
    node: str


@dataclass(frozen=True, slots=True)
class ImpairRequest:
    """The link becomes like `impairment`, whatever it was; for so many seconds, or until the next request."""

    link: str
    impairment: Impairment
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class RotateKeysRequest:
    pass


def requested(world: World, do: str, arguments: Mapping[str, Any], now: float) -> Operation:
    """The operation that a request comes to in this lab. UsageError when there is no such request, or it makes no sense here."""
    if do not in REQUESTS:
        from difflib import get_close_matches  # 5 ms that only a mistake costs

        near = get_close_matches(do, REQUESTS, 1)
        raise UsageError(f"{do!r} is nothing a lab can do{f'; did you mean {near[0]}?' if near else ''} (there are state, {', '.join(REQUESTS)})")
    kind, decide = REQUESTS[do]
    try:
        request = revive(kind, dict(arguments))
    except UsageError as error:
        raise UsageError(f"{do}: {str(error).removeprefix(kind.__name__.lower()).lstrip('.: ')}") from None
    return decide(world, request, now)


def _build(_world: World, request: BuildRequest, _now: float) -> Build:
    return Build(request.spec, Keyring(*(_new_key() for _ in fields(Keyring))))


def _add_network(world: World, request: AddNetworkRequest, _now: float) -> AddNetwork:
    subnets = tuple(Subnet(subnet) for subnet in request.subnets)
    vnis = () if request.vni is None else (request.vni,)
    wish = NetworkWish(request.name, subnets, vnis, mtu=request.mtu, encrypted=request.encrypted, internal=request.internal)
    return AddNetwork(_completed(world, [wish], []).networks[-1])


def _remove_network(_world: World, request: RemoveNetworkRequest, _now: float) -> RemoveNetwork:
    return RemoveNetwork(request.name)


def _attach(world: World, request: AttachRequest, _now: float) -> Attach:
    networks: dict[str, IPv4Address | None] = {}
    for text in request.networks:
        name, given, address = text.partition("=")
        if name in networks:
            raise UsageError(f"the endpoint {request.name} cannot be in {name} twice")
        try:
            networks[name] = IPv4Address(address) if given else None
        except ValueError:
            raise UsageError(f"{address!r} is not an address in the network {name}: one like {name}=10.0.1.9 is wanted") from None
    cluster = world.plan.cluster
    others: dict[tuple[str, str], dict[str, IPv4Address | None]] = {}
    taken: set[tuple[str, Address]] = set()
    for endpoint in cluster.endpoints:
        place = (endpoint.network, endpoint.ip)
        # Of those who share an address, a fault that was asked for, one stands for all; with `duplicate` the new one does.
        if endpoint.node is not None and place not in taken and not (request.duplicate and networks.get(endpoint.network) == endpoint.ip):
            taken.add(place)
            others.setdefault((endpoint.node, endpoint.name), {})[endpoint.network] = IPv4Address(endpoint.ip)
    wishes = [EndpointWish(name, node, attached) for (node, name), attached in others.items()]
    wish = EndpointWish(request.name, request.node, networks, mac=request.mac)
    return Attach(_completed(world, [], [*wishes, wish]).endpoints[-len(networks) :])


def _detach(world: World, request: DetachRequest, _now: float) -> Detach:
    return Detach(*_sandbox(world.plan.cluster, request.name))


def _move(world: World, request: MoveRequest, _now: float) -> Move:
    node, name = _sandbox(world.plan.cluster, request.name)
    if request.node == node:
        raise UsageError(f"the endpoint {name} is on {node} already")
    return Move(name, node, request.node)


def _impair(world: World, request: ImpairRequest, now: float) -> Impair:
    if request.seconds is None:
        return Impair(request.link, request.impairment)
    if not 0 < request.seconds < LONGEST_IMPAIRMENT:
        raise UsageError(f"a link cannot be impaired for {request.seconds} s: more than none and less than a year is wanted")
    return Impair(request.link, request.impairment, now + request.seconds, world.lasting(request.link))


def _rotate_keys(_world: World, _request: RotateKeysRequest, _now: float) -> RotateKeys:
    return RotateKeys(_new_key())


REQUESTS: Mapping[str, tuple[type[Any], Callable[[World, Any, float], Operation]]] = {
    "build": (BuildRequest, _build),
    "network_add": (AddNetworkRequest, _add_network),
    "network_remove": (RemoveNetworkRequest, _remove_network),
    "attach": (AttachRequest, _attach),
    "detach": (DetachRequest, _detach),
    "move": (MoveRequest, _move),
    "impair": (ImpairRequest, _impair),
    "rotate_keys": (RotateKeysRequest, _rotate_keys),
}
"""What may be asked, and how it is decided."""


def _new_key() -> Key:
    return Key(int.from_bytes(os.urandom(4)), os.urandom(16))


def _completed(world: World, networks: list[NetworkWish], endpoints: list[EndpointWish]) -> Cluster:
    """What is wished for beside what is there, filled in and refused by the rules by which the lab itself was."""
    spec, cluster = world.spec, world.plan.cluster
    known = [NetworkWish(n.name, n.subnets, n.vnis, n.id, n.mtu, n.encrypted, n.internal) for n in cluster.networks]
    return complete(spec.name, spec.topology, [*known, *networks], endpoints, cluster.data_path_port or DATA_PATH_PORT, spec.options).cluster


def _sandbox(cluster: Cluster, text: str) -> tuple[str, str]:
    """Node and name of the endpoint that is called so."""
    sandboxes = {
        (endpoint.node, endpoint.name): None
        for endpoint in cluster.endpoints
        if endpoint.node is not None and endpoint.kind in (EndpointKind.TASK, EndpointKind.CONTAINER)
    }
    found = [(node, name) for node, name in sandboxes if text in (name, f"{node}:{name}")]
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"{text} is on several nodes: write {' or '.join(f'{node}:{name}' for node, name in found)}")
    from difflib import get_close_matches

    names = [name for _, name in sandboxes]
    near = get_close_matches(text, names, 3) or names[:8]
    raise UsageError(f"no endpoint is called {text!r} (there are {', '.join(near) or 'none'}{', ...' if len(near) < len(names) else ''})")
