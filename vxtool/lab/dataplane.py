"""The data plane of one node, as its agent keeps it: sandboxes of its own tasks and load balancers, entries for the peers it has heard of.

Knows networks of the control plane by id, the node's plan and what gossip says; the plan makes steps, the kernel performs them, `Made` remembers what
stands. Decides nothing: who is attached where is the worker's affair, who is told of it gossip's.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from typing import Any

from vxtool.dns.resolvconf import ResolvConf
from vxtool.errors import LabError, VxtoolError
from vxtool.lab import ingress, ipvs, names
from vxtool.lab import steps as kinds
from vxtool.lab.driver import Peer
from vxtool.lab.encryption import Key, Keyring
from vxtool.lab.ingress import Backend, Balancer, Ipvs, Mesh, Nftables, Port
from vxtool.lab.kernel import Kernel
from vxtool.lab.naming import Naming, Served
from vxtool.lab.overlay import Plan
from vxtool.lab.saying import say
from vxtool.lab.spec import Options
from vxtool.lab.steps import AddNamespace, AddVxlan, Step
from vxtool.lab.topology import Topology
from vxtool.model import Endpoint, EndpointKind, Mac, overlay_mac
from vxtool.model.plain import plain, revive
from vxtool.swarm.clusters import load_balancer_name, network
from vxtool.swarm.gossip import Gossip, Record, RecordGone, RecordSet
from vxtool.swarm.objects import Network, TaskNetwork

__all__ = ["DataPlane", "Made"]

PEERS, ENDPOINTS = "peer", "endpoint"
LONGEST_REST = 0.5  # seconds between two changes of the backends, however much time one has taken
AGAIN = 1.0  # seconds until backends that the kernel has refused are tried again


class Made:
    """What stands in the kernel because of this node's agent, written down before it is made: the next agent takes exactly that away.

    Only what does not go with something else: namespaces, and what is in the node's own. A line each: {"made": N, "kind": ..., "step": ...}, and
    {"gone": N}.
    """

    def __init__(self, path: Path, node: str) -> None:
        self._node = node
        self._path = path
        self._standing: dict[Step, int] = {}
        self._inverses: dict[Step, Step] = {}
        self._next = 0
        self._file = None if not path.exists() else path.open("a")

    @classmethod
    def left(cls, path: Path) -> list[Step]:
        """What a former agent has left, in the order of its making. A line that was cut off had not been acted on."""
        standing: dict[int, Step] = {}
        try:
            lines = path.read_text().splitlines()
        except FileNotFoundError:
            return []
        for text in lines:
            try:
                told = json.loads(text)
            except ValueError:
                continue
            if "gone" in told:
                standing.pop(told["gone"], None)
            else:
                standing[told["made"]] = revive(getattr(kinds, told["kind"]), told["step"])
        return list(standing.values())

    def begin(self) -> None:
        """Nothing stands any more."""
        if self._file is not None:
            self._file.close()
        self._file = self._path.open("w")
        self._standing, self._inverses = {}, {}

    def intend(self, steps: Sequence[Step]) -> list[Step]:
        """Writes down which of the steps will have to be taken away; those."""
        ours = [step for step in steps if self._counts(step)]
        lines = []
        for step in ours:
            inverse = step.inverse()
            assert inverse is not None
            self._standing[step] = self._next
            self._inverses[inverse] = step
            lines.append({"made": self._next, "kind": type(step).__name__, "step": plain(step)})
            self._next += 1
        self._write(lines)
        return ours

    def gone(self, steps: Sequence[Step]) -> None:
        """These were taken away, or were never made."""
        self._write([{"gone": number} for step in steps if (number := self._standing.pop(step, None)) is not None])

    def performed(self, steps: Sequence[Step]) -> None:
        """What among them took something away does not stand any more."""
        self.gone([made for step in steps if (made := self._inverses.pop(step, None)) is not None])

    def standing(self) -> list[Step]:
        return list(self._standing)

    def _counts(self, step: Step) -> bool:
        if isinstance(step, AddNamespace) or (isinstance(step, AddVxlan) and step.underlay == self._node):
            return True  # until a VXLAN device has gone, its node cannot have another of that VNI
        return step.namespace == self._node and step.inverse() is not None and not isinstance(step, _TAKING_AWAY)

    def _write(self, lines: Sequence[Mapping[str, Any]]) -> None:
        if lines:
            assert self._file is not None
            self._file.write("".join(json.dumps(one) + "\n" for one in lines))
            self._file.flush()


_TAKING_AWAY = (
    kinds.DeleteNamespace,
    kinds.DeleteLink,
    kinds.DeleteAddress,
    kinds.DeleteRoute,
    kinds.DeleteNeighbour,
    kinds.DeleteFdb,
    kinds.DeleteRules,
    kinds.ReplaceRules,  # goes with its table
    kinds.DeleteXfrmPolicy,
    kinds.DeleteXfrmState,
    kinds.SetDown,
    kinds.SetNoMaster,
)


@dataclass(frozen=True, slots=True)
class _Own:
    """An attachment of this node that the others have been told of."""

    network: str  # id
    key: str
    endpoint: Mapping[str, Any]  # its record in ENDPOINTS while it is active; {}: it has no names


class DataPlane:
    """One node's. `join` begins it when the manager has said which port and keys there are."""

    def __init__(self, node: str, topology: Topology, options: Options, made: Made, gossip: Gossip, naming: Naming, port: int, keys: Any) -> None:
        self._node = node
        self._vtep = topology.address(node)
        self._kernel = Kernel()
        self._made = made
        self._gossip = gossip
        self._naming = naming
        self._plan = Plan(topology, options, port, _keyring(keys))
        mtus = (topology.mtu(machine.name) for machine in topology.nodes)
        self._underlay_mtu = min(mtus, default=None) if options.mtu_from_underlay else None
        self._networks: dict[str, Network] = {}  # as the manager has told
        self._planned: dict[str, str] = {}  # name -> id of the networks that the plan knows
        self._users: dict[str, int] = {}  # network id -> attachments here
        self._told: dict[str, list[_Own]] = {}  # sandbox -> what gossip was told of it
        self._peers: dict[tuple[str, str], tuple[Peer, str]] = {}  # (network id, key) -> peer, name of the network
        self._balancers: dict[str, TaskNetwork] = {}  # network id -> the node's load balancer there
        self._mesh = Mesh(node, Ipvs() if ipvs.works() else Nftables())
        self._rest = 0.0  # until then backends are not changed again
        self._refused = False  # the last change of them

    # -- what the manager says -------------------------------------------------------------------------------------------

    def learn(self, networks: Sequence[Network]) -> None:
        self._networks.update((one.id, one) for one in networks)

    def balance(self, attachments: Sequence[TaskNetwork]) -> bool:
        """The load balancers that the node is to have; others go. False when the kernel refuses one: it is to be tried again."""
        wanted = {one.network: one for one in attachments if one.network in self._networks}
        done = True
        for id, had in list(self._balancers.items()):
            if wanted.get(id) != had:
                done &= self._attempt(lambda id=id: self._drop_balancer(id))  # type: ignore[misc]
        for id, one in wanted.items():
            if id not in self._balancers:
                done &= self._attempt(lambda one=one: self._add_balancer(one))  # type: ignore[misc]
        return done

    def _add_balancer(self, one: TaskNetwork) -> None:
        known = self._network(one.network)
        name = load_balancer_name(known.spec.name)
        self._attach(name, [one], EndpointKind.LOAD_BALANCER, f"lb-{one.network}", {})
        self._balancers[one.network] = one
        assert one.address is not None
        sandbox = names.INGRESS_SANDBOX if known.spec.ingress else names.load_balancer_sandbox(one.network)
        subnets = tuple(subnet.prefix for subnet in known.subnets)
        self._mesh.place(one.network, Balancer(self.namespace(sandbox), one.address.ip, subnets, self._plan.gateways.get((self._node, name))))

    def _drop_balancer(self, id: str) -> None:
        del self._balancers[id]
        self._mesh.displace(id)
        self.detach(load_balancer_name(self._networks[id].spec.name))

    # -- sandboxes of this node ------------------------------------------------------------------------------------------

    def attach(self, name: str, networks: Sequence[TaskNetwork], key: str, service: str | None, told: Mapping[str, Any]) -> None:
        """A task's sandbox with all its networks, known to the others from then on. LabError when the kernel refuses: nothing of it is there then."""
        kind = EndpointKind.TASK if service is not None else EndpointKind.CONTAINER
        self._attach(name, networks, kind, key, told, service)

    def bare(self, name: str) -> None:
        """A sandbox without any network but its own loopback."""
        self._perform([AddNamespace(self.namespace(name))])

    def _attach(
        self,
        name: str,
        networks: Sequence[TaskNetwork],
        kind: EndpointKind,
        key: str,
        told: Mapping[str, Any],
        service: str | None = None,
    ) -> None:
        endpoints = []
        for one in networks:
            known = self._plan_network(one.network)
            assert one.address is not None
            endpoints.append(Endpoint(known.spec.name, one.address.ip, name, overlay_mac(one.address.ip), self._node, kind, service))
        for one in networks:
            self._use(one.network)
        before = self._plan.snapshot()
        try:
            self._perform([*self._plan.attach(endpoints), *self._plan.protect_heard(), *self._exposed(name, networks, told)])
        except BaseException:
            self._plan.restore(before)
            for one in networks:
                self._leave(one.network)
            raise
        self._told[name] = []
        for one in networks:
            self._announce(name, one, key, told)

    def detach(self, name: str) -> None:
        """The sandbox goes; first the others hear that it has."""
        own = self._told.pop(name, [])
        self._mesh.release(name)
        self._naming.close(name)
        for one in own:
            self._gossip.drop(one.network, PEERS, one.key)
            self._tell(one, None)
        try:
            self._perform([*self._plan.detach(self._node, name), *self._plan.protect_heard()])
        finally:
            for one in own:
                self._leave(one.network)

    def is_ingress(self, id: str) -> bool:
        return id in self._networks and self._networks[id].spec.ingress

    def networks(self, name: str) -> list[str]:
        """The ids of the networks that a sandbox has."""
        return [one.network for one in self._told.get(name, ())]

    def remove_bare(self, name: str) -> None:
        self._perform([kinds.DeleteNamespace(self.namespace(name))])

    def connect(self, name: str, one: TaskNetwork, key: str, told: Mapping[str, Any]) -> None:
        """A further network for a sandbox that runs."""
        known = self._plan_network(one.network)
        assert one.address is not None
        endpoint = Endpoint(known.spec.name, one.address.ip, name, overlay_mac(one.address.ip), self._node, EndpointKind.CONTAINER)
        self._use(one.network)
        before = self._plan.snapshot()
        try:
            self._perform([*self._plan.connect(endpoint), *self._plan.protect_heard()])
        except BaseException:
            self._plan.restore(before)
            self._leave(one.network)
            raise
        self._announce(name, one, key, told)
        self._naming.attached(name, *self._searched(name))

    def disconnect(self, name: str, id: str) -> None:
        own = [one for one in self._told[name] if one.network == id]
        for one in own:
            self._told[name].remove(one)
            self._gossip.drop(one.network, PEERS, one.key)
            self._tell(one, None)
        self._naming.attached(name, *self._searched(name))
        self._perform([*self._plan.disconnect(self._node, name, self._networks[id].spec.name), *self._plan.protect_heard()])
        self._leave(id)

    def namespace(self, name: str) -> str:
        return f"{self._node}:{name}"

    def resolve(self, name: str, conf: ResolvConf) -> None:
        """The sandbox's own resolver answers from now on. LabError when the kernel refuses it."""
        networks, external = self._searched(name)
        self._naming.serve(name, self.namespace(name), Served(networks, conf.servers, conf.ndots_set, external))

    def _searched(self, name: str) -> tuple[tuple[str, ...], bool]:
        """The networks that know names for a sandbox, in the order of its interfaces, and whether it has a way out."""
        specs = [self._networks[one.network].spec for one in self._told[name]]
        ordered = sorted((spec for spec in specs if not spec.ingress), key=lambda spec: (spec.internal, spec.name))
        return tuple(spec.name for spec in ordered), not all(spec.internal for spec in specs)

    def activate(self, name: str) -> None:
        """The names of a task that runs, and is healthy if it has a check, are known everywhere from now on."""
        for one in self._told.get(name, ()):
            if one.endpoint:
                self._tell(one, one.endpoint)
        self._bind(name)

    def withdraw(self, name: str) -> bool:
        """The names of a task that is about to stop vanish everywhere before it does; its addresses are still reached.

        Its record stays, disabled, until its sandbox goes: the service's virtual address has a name as long as there is one (libnetwork's
        ServiceDisabled). So it is with the balancers: they begin no connection with it any more. Whether there was anything to withdraw.
        """
        withdrawn = [one for one in self._told.get(name, ()) if one.endpoint]
        for one in withdrawn:
            self._tell(one, {**one.endpoint, "disabled": True})
        return bool(withdrawn)

    def _tell(self, own: _Own, value: Mapping[str, Any] | None) -> None:
        """The record of an endpoint of this node is another, or (None) gone: for the others, and for the balancers here."""
        if value is None:
            self._gossip.drop(own.network, ENDPOINTS, own.key)
            self._mesh.drop(own.network, own.key)
            self._naming.drop(own.network, own.key)
        else:
            self._gossip.put(own.network, ENDPOINTS, own.key, value)
            self._named(own.network, own.key, value)
            self._mesh.set(own.network, own.key, Backend.of(own.network, self._networks[own.network].spec.ingress, value))

    def _announce(self, name: str, one: TaskNetwork, key: str, told: Mapping[str, Any]) -> None:
        assert one.address is not None
        mac = str(overlay_mac(one.address.ip))
        value = {"address": str(one.address), "mac": mac, "vtep": str(self._vtep), "node": self._node, "name": name}
        endpoint = {**told, "address": str(one.address.ip), "aliases": list(one.aliases)} if told else {}
        self._told[name].append(_Own(one.network, key, endpoint))
        self._gossip.put(one.network, PEERS, key, value)

    # -- balancing -------------------------------------------------------------------------------------------------------

    def _exposed(self, name: str, networks: Sequence[TaskNetwork], told: Mapping[str, Any]) -> list[Step]:
        """What makes a task's published ports lead to its target ports."""
        ports = [port for port in self._ports(told) if not port.host]
        addresses = [one.address.ip for one in networks if one.address is not None and self._networks[one.network].spec.ingress]
        return [step for address in addresses for step in ingress.expose(self.namespace(name), address, ports)]

    @staticmethod
    def _ports(told: Mapping[str, Any]) -> list[Port]:
        return [ingress.port_of(one) for one in told.get("ports", ())]

    def _bind(self, name: str) -> None:
        """The host-mode ports of a task that runs, on this node."""
        way_in = self._plan.gateways.get((self._node, name))
        told = next((one.endpoint for one in self._told.get(name, ())), {})
        if way_in is not None:
            self._mesh.bind(name, way_in, [port for port in self._ports(told) if port.host])

    @property
    def rebalance_due(self) -> float | None:
        """When `rebalance` has something to do."""
        return None if not self._mesh.changed else 0.0 if self._mesh.urgent and not self._refused else self._rest

    def rebalance(self, now: float) -> None:
        """Tells the kernel what has changed among the backends. At most a tenth of a processor is spent here: when many come at once, they are told
        together. Who is about to go is not waited with."""
        due = self.rebalance_due
        if due is None or now < due:
            return
        begin = time.process_time()
        try:
            self._perform(self._mesh.steps())
            self._mesh.done()
            self._refused = False
        except VxtoolError as error:
            self._refused = True
            self._say(f"the balancers cannot be told: {error}")
            self._rest = now + AGAIN
            return
        self._rest = time.monotonic() + min(9 * (time.process_time() - begin), LONGEST_REST)

    # -- networks --------------------------------------------------------------------------------------------------------

    def _network(self, id: str) -> Network:
        known = self._networks.get(id)
        if known is None or not known.subnets:
            raise LabError(f"network {id} not found")
        return known

    def _plan_network(self, id: str) -> Network:
        """The network, known to the plan. One that has its name and is no more gives way."""
        known = self._network(id)
        name = known.spec.name
        other = self._planned.get(name)
        if other == id:
            return known
        if other is not None:
            if self._users.get(other):
                raise LabError(f"network {name} is there in a former version, and still in use on {self._node}")
            self._plan.remove_network(name)
        self._plan.add_network(network(known, self._underlay_mtu))
        self._planned[name] = id
        return known

    def _use(self, id: str) -> None:
        self._users[id] = self._users.get(id, 0) + 1
        if self._users[id] == 1:
            self._gossip.enter(id)

    def _leave(self, id: str) -> None:
        """One attachment less; after the last one nothing is heard of the network any more."""
        self._users[id] -= 1
        if self._users[id]:
            return
        del self._users[id]
        self._gossip.leave(id)
        self._mesh.forget(id)
        self._naming.forget(id)
        for (where, key), (peer, name) in list(self._peers.items()):
            if where == id:
                del self._peers[where, key]
                self._plan.unhear(name, peer)  # no sandbox is left that would have had an entry

    # -- what the others say ---------------------------------------------------------------------------------------------

    def hear(self, events: Sequence[object]) -> None:
        """Peers and backends that came and went. What the kernel refuses is said; the rest is done all the same."""
        steps: list[Step] = []
        for event in events:
            if isinstance(event, RecordSet | RecordGone):
                try:
                    if event.record.table == PEERS:
                        steps += self._heard(event)
                    elif event.record.table == ENDPOINTS:
                        self._heard_endpoint(event)
                except (VxtoolError, KeyError, TypeError, ValueError) as error:
                    self._say(f"what {event.record.owner} says of {event.record.key} makes no sense: {error}")
        steps += self._plan.protect_heard()
        try:
            self._perform(steps)
        except VxtoolError:
            for step in steps:  # one that is refused is not to keep the others away
                self._attempt(lambda step=step: self._perform([step]))  # type: ignore[misc]

    def _heard(self, event: RecordSet | RecordGone) -> list[Step]:
        record = event.record
        id, key = record.network, (record.network, f"{record.owner}/{record.key}")
        if id not in self._users:
            return []
        steps: list[Step] = []
        if key in self._peers:
            peer, name = self._peers.pop(key)
            steps += self._plan.unhear(name, peer)
        if isinstance(event, RecordSet):
            known = self._network(id)
            peer = self._peer(record, known)
            if peer.vtep != self._vtep:
                self._peers[key] = peer, known.spec.name
                steps += self._plan.hear(known.spec.name, peer)
        return steps

    def _named(self, network: str, key: str, value: Mapping[str, Any]) -> None:
        spec = self._network(network).spec
        if not spec.ingress:  # nobody is found by name there
            self._naming.set(network, spec.name, key, value)

    def _heard_endpoint(self, event: RecordSet | RecordGone) -> None:
        record = event.record
        key = f"{record.owner}/{record.key}"
        if isinstance(event, RecordGone):
            self._mesh.drop(record.network, key)
            self._naming.drop(record.network, key)
        elif record.network in self._users:
            self._named(record.network, key, record.value)
            self._mesh.set(record.network, key, Backend.of(record.network, self._network(record.network).spec.ingress, record.value))

    @staticmethod
    def _peer(record: Record, known: Network) -> Peer:
        value = record.value
        address = IPv4Interface(value["address"]).ip
        subnet = next((number for number, subnet in enumerate(known.subnets) if address in subnet.prefix), None)
        if subnet is None:
            raise ValueError(f"{address} is in no subnet of network {known.spec.name}")
        return Peer(str(value["node"]), str(value["name"]), address, Mac.parse(value["mac"]), IPv4Address(value["vtep"]), subnet)

    # -- the kernel ------------------------------------------------------------------------------------------------------

    def _perform(self, steps: Sequence[Step]) -> None:
        if not steps:
            return
        intended = self._made.intend(steps)
        try:
            self._kernel.perform(steps)
        except BaseException:
            self._made.gone(intended)
            raise
        self._made.performed(steps)

    def _attempt(self, work: Callable[[], None]) -> bool:
        """Whether it could be done; else why not is in the log."""
        try:
            work()
        except VxtoolError as error:
            self._say(str(error))
            return False
        return True

    def _say(self, text: str) -> None:
        say(f"agent of {self._node}", text)


def _keyring(keys: Any) -> Keyring:
    return revive(Keyring, keys) if keys else Keyring(*(Key(0, bytes(16)) for _ in range(3)))
