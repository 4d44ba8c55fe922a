"""Who gets which address: networks their subnets and VNIs, services their VIPs and ports, tasks and load balancers their addresses.

The order is swarmkit's (manager/allocator/network.go), so that the addresses are. A task goes from NEW to PENDING here. What cannot be had now is
tried again when something was given back.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from vxtool.errors import UsageError
from vxtool.model import EndpointMode, Engine, PublishMode, TaskState
from vxtool.swarm.ipam import Addresses, DefaultPool, Scope, Vnis
from vxtool.swarm.objects import Network, NetworkSubnet, ServiceSpec, Settings, SubnetSpec, Task, TaskNetwork
from vxtool.swarm.ports import Ports
from vxtool.swarm.store import Changes, Store, Transaction
from vxtool.swarm.timers import Timers

__all__ = ["Allocator", "holders", "needs_ingress"]

PENDING = "pending task scheduling"
VNI_OPTION = "com.docker.network.driver.overlay.vxlanid_list"

_RUNNING = TaskState.RUNNING
_NEW = TaskState.NEW


def needs_ingress(spec: ServiceSpec) -> bool:
    """Whether its tasks are attached to the ingress network (IsIngressNetworkNeeded)."""
    endpoint = spec.endpoint
    return endpoint.mode is EndpointMode.VIP and any(port.mode is PublishMode.INGRESS for port in endpoint.ports)


def dead(task: Task) -> bool:
    """Whether a task needs its addresses no more: it has stopped, and is not meant to run (taskDead)."""
    return task.desired > _RUNNING and task.state > _RUNNING


def holders(store: Store, network: Network) -> dict[IPv4Address, str]:
    """Every address of a network that is not to be had, and whose it is."""
    held = {subnet.gateway: "gateway" for subnet in network.subnets}
    for subnet in network.subnets:
        held[subnet.prefix.network_address] = held[subnet.prefix.broadcast_address] = "subnet"
    for asked in network.spec.subnets:
        held |= {IPv4Address(address): name for name, address in asked.reserved.items()}
    for service in store.services.values():
        held |= {address.ip: service.id for id, address in service.vips if id == network.id}
    for node in store.nodes.values():
        held |= {one.address.ip: node.id for one in node.attachments if one.network == network.id and one.address is not None}
    for task in store.in_network(network.id):
        if not dead(task):
            held |= {one.address.ip: task.id for one in task.networks if one.network == network.id and one.address is not None}
    return held


class Allocator:
    def __init__(self, store: Store, timers: Timers, settings: Settings, engine: Engine = Engine.V19_03) -> None:
        pools = [DefaultPool(IPv4Network(base), size) for base, size in settings.pools] or None
        self._store = store
        self._timers = timers
        self._addresses = Addresses(Scope.GLOBAL, pools, engine)
        self._vnis = Vnis()
        self._ports = Ports()
        self._ingress: str | None = None
        self._held: dict[str, tuple[TaskNetwork, ...]] = {}  # addresses of tasks
        self._placed: dict[str, str] = {}  # of those, the ones assigned to a node
        self._users: dict[str, dict[str, int]] = {}  # node -> network -> its tasks that hold an address there
        # To be looked at, by id; dicts keep their order.
        self._networks: dict[str, None] = {}
        self._services: dict[str, None] = {}
        self._nodes: dict[str, None] = {}
        self._tasks: dict[str, None] = {}
        # Refused, to be tried again when something was given back.
        self._waiting_networks: dict[str, None] = {}
        self._waiting_services: dict[str, str] = {}  # id -> why
        self._waiting_nodes: dict[str, None] = {}
        self._waiting_tasks: dict[str, None] = {}
        self._freed = False

    def load(self) -> None:
        """Takes what the objects of the store hold already."""
        store = self._store
        for network in store.networks.values():
            if network.subnets:
                self._vnis.take(len(network.subnets), [subnet.vni for subnet in network.subnets])
                for number, subnet in enumerate(network.subnets):
                    pool = _pool(network.id, number)
                    asked = network.spec.subnets[number] if network.spec.subnets else SubnetSpec()
                    self._addresses.pool(pool, str(subnet.prefix), asked.range)
                    self._reserve(pool, subnet.gateway, asked)
            if network.spec.ingress:
                self._ingress = network.id
        for service in store.services.values():
            self._ports.take(service.ports)
            for id, address in service.vips:
                self._hold(id, address)
        for node in store.nodes.values():
            for attachment in node.attachments:
                self._hold(attachment.network, attachment.address)
        for task in store.tasks.values():
            if task.networks and not dead(task):
                for attachment in task.networks:
                    self._hold(attachment.network, attachment.address)
                self._held[task.id] = task.networks
                if task.state >= TaskState.ASSIGNED:
                    self._assigned(task)
            if not task.service and _NEW < task.state <= _RUNNING and len(task.networks) != len(task.spec.networks):
                self._tasks[task.id] = None
        self._nodes.clear()

    def see(self, changes: Changes) -> None:
        for old_network, network in changes.networks:
            if network is not None and old_network is None and not network.subnets:
                self._networks[network.id] = None
            elif network is None and old_network is not None:
                self._network_gone(old_network)
        for old_service, service in changes.services:
            if service is None:
                assert old_service is not None
                self._ports.free(old_service.ports)
                for id, address in old_service.vips:
                    self._give_back(id, address)
            elif old_service is None or old_service.spec is not service.spec:
                self._services[service.id] = None
        for old_node, node in changes.nodes:
            if node is None:
                assert old_node is not None
                for attachment in old_node.attachments:
                    self._give_back(attachment.network, attachment.address)
            elif old_node is None:
                self._nodes[node.id] = None
        held = self._held
        for old, task in changes.tasks:
            if task is None:
                assert old is not None
                if old.id in held:
                    self._release(old.id)
            elif task.state is _NEW:
                if old is None or task.desired != old.desired:
                    self._tasks[task.id] = None
            elif not task.service and old is not None and old.spec is not task.spec:
                self._tasks[task.id] = None  # a container was given a network, or lost one
            elif task.networks and task.id in held:
                if dead(task):
                    self._release(task.id)
                elif task.state >= TaskState.ASSIGNED and task.id not in self._placed:
                    self._assigned(task)

    def move(self) -> bool:
        """Allocates what waits, in the order networks, services, nodes, tasks; whether anything has changed."""
        if self._freed:
            self._freed = False
            self._networks.update(self._waiting_networks)
            self._services.update(dict.fromkeys(self._waiting_services))
            self._nodes.update(self._waiting_nodes)
            self._tasks.update(self._waiting_tasks)
        if not (self._networks or self._services or self._nodes or self._tasks):
            return False
        before = self._store.version
        with self._store.transaction() as change:
            # Each is taken when its turn comes: a network may concern the nodes after it, a task nodes that have had their turn.
            networks, self._networks = self._networks, {}
            for network_id in networks:
                self._network(change, network_id)
            services, self._services = self._services, {}
            for service_id in services:
                self._service(change, service_id)
            nodes, self._nodes = self._nodes, {}
            for node_id in nodes:
                self._node(change, node_id)
            tasks, self._tasks = self._tasks, {}
            for task_id in tasks:
                self._task(change, task_id)
        return self._store.version != before or bool(self._nodes)

    # -- networks ------------------------------------------------------------------------------------------------------

    def _network(self, change: Transaction, id: str) -> None:
        self._waiting_networks.pop(id, None)
        network = self._store.networks.get(id)
        if network is None or network.subnets:
            return
        wanted = network.spec.subnets or (SubnetSpec(),)
        prefixes: list[tuple[IPv4Network, IPv4Address]] = []
        pools: list[str] = []
        try:
            # Pools before VNIs, as swarmkit asks IPAM before the driver: both are serial, and what fails has used up what came before it.
            for number, asked in enumerate(wanted):
                prefix = self._addresses.pool(_pool(id, number), asked.subnet, asked.range)
                pools.append(_pool(id, number))
                gateway = self._reserve(pools[-1], IPv4Address(asked.gateway) if asked.gateway else None, asked)
                prefixes.append((prefix, gateway.ip))
            texts = network.spec.options.get(VNI_OPTION, "")
            vnis = self._vnis.take(len(wanted), [int(text) for text in texts.split(",") if text])
        except (UsageError, ValueError) as error:
            for pool in pools:
                self._addresses.free_pool(pool)
            self._waiting_networks[id] = None
            if network.error != str(error):
                change.network(network, replace(network, error=str(error)))
            return
        if network.spec.ingress:
            self._ingress = id
            self._nodes.update(dict.fromkeys(self._store.nodes))
        subnets = tuple(NetworkSubnet(prefix, gateway, vni) for (prefix, gateway), vni in zip(prefixes, vnis, strict=True))
        change.network(network, replace(network, subnets=subnets, error=""))
        self._freed = True  # who has waited for this network

    def _reserve(self, pool: str, gateway: IPv4Address | None, asked: SubnetSpec) -> IPv4Interface:
        """The gateway's address, after those that the user keeps back for hosts of his own."""
        reserved = [IPv4Address(address) for address in asked.reserved.values()]
        for address in reserved:
            if address != gateway:
                self._addresses.address(pool, address)
        return self._addresses.address(pool, gateway)

    def _network_gone(self, network: Network) -> None:
        self._networks.pop(network.id, None)
        self._waiting_networks.pop(network.id, None)
        for number in range(len(network.subnets)):
            self._addresses.free_pool(_pool(network.id, number))
        self._vnis.free(subnet.vni for subnet in network.subnets)
        if self._ingress == network.id:
            self._ingress = None
        for node in self._store.nodes.values():
            if any(attachment.network == network.id for attachment in node.attachments):
                self._nodes[node.id] = None
        self._freed = True

    # -- services ------------------------------------------------------------------------------------------------------

    def _service(self, change: Transaction, id: str) -> None:
        self._waiting_services.pop(id, None)
        service = self._store.services.get(id)
        if service is None:
            return
        spec = service.spec
        wanted: list[str] = []
        if spec.endpoint.mode is EndpointMode.VIP:
            if needs_ingress(spec) and self._ingress is not None:
                wanted.append(self._ingress)
            wanted += [network.network for network in spec.task.networks if network.network not in wanted]
        vips = {network: address for network, address in service.vips if network in wanted}
        for network, address in service.vips:
            if network not in vips:
                self._give_back(network, address)
        ports = service.ports
        try:
            for network in wanted:
                if network not in vips:
                    vips[network] = self._take(network)
            ports = self._ports.allocate(spec.endpoint.ports, service.ports)
        except UsageError as error:
            self._waiting_services[id] = str(error)
        allocated = tuple((network, vips[network]) for network in wanted if network in vips)
        if allocated != service.vips or ports != service.ports:
            change.service(service, replace(service, vips=allocated, ports=ports))

    # -- nodes ---------------------------------------------------------------------------------------------------------

    def _node(self, change: Transaction, id: str) -> None:
        """The node's load balancers: in the ingress network always, elsewhere while a task on it needs one."""
        self._waiting_nodes.pop(id, None)
        node = self._store.nodes.get(id)
        if node is None:
            return
        wanted = dict.fromkeys(self._users.get(id, ()))
        if self._ingress is not None:
            wanted = {self._ingress: None, **wanted}
        attached: list[TaskNetwork] = []
        for attachment in node.attachments:
            if attachment.network in wanted:
                del wanted[attachment.network]
                attached.append(attachment)
            else:
                self._give_back(attachment.network, attachment.address)
        for network in wanted:
            try:
                attached.append(TaskNetwork(network, (), self._take(network)))
            except UsageError:
                self._waiting_nodes[id] = None
        if len(attached) != len(node.attachments) or any(ours is not theirs for ours, theirs in zip(attached, node.attachments, strict=True)):
            change.node(node, replace(node, attachments=tuple(attached)))

    def _assigned(self, task: Task) -> None:
        self._placed[task.id] = task.node
        users = self._users.setdefault(task.node, {})
        for network in self._held[task.id]:
            if network.network not in users:
                self._nodes[task.node] = None
            users[network.network] = users.get(network.network, 0) + 1

    # -- tasks ---------------------------------------------------------------------------------------------------------

    def _task(self, change: Transaction, id: str) -> None:
        self._waiting_tasks.pop(id, None)
        task = self._store.tasks.get(id)
        if task is None or task.desired > TaskState.COMPLETE:
            return
        if task.state is not _NEW:
            if not task.service and task.state <= _RUNNING:
                self._rewire(change, task)
            return
        networks: tuple[TaskNetwork, ...] = ()
        if task.spec.networks or task.endpoint.ports:
            try:
                networks = self._attach(task)
            except UsageError as error:
                self._waiting_tasks[id] = None
                if task.error != str(error):
                    change.task(task, replace(task, error=str(error)))
                return
        change.task(task, task.told(TaskState.PENDING, PENDING, self._timers.now, networks=networks))

    def _attach(self, task: Task) -> tuple[TaskNetwork, ...]:
        """An address in each network of the task: in ingress first, when its service publishes there. Takes none when one cannot be had."""
        if (why := self._waiting_services.get(task.service)) is not None:
            raise UsageError(why)
        wanted = task.spec.networks
        service = self._store.services.get(task.service)
        if service is not None and self._ingress is not None and needs_ingress(service.spec):
            wanted = (TaskNetwork(self._ingress), *wanted)
        attached: list[TaskNetwork] = []
        try:
            for network in wanted:
                address = self._take(network.network, network.address)
                attached.append(TaskNetwork(network.network, network.aliases, address))
        except UsageError:
            for network in attached:
                self._give_back(network.network, network.address)
            raise
        if attached:
            self._held[task.id] = tuple(attached)
        return tuple(attached)

    def _rewire(self, change: Transaction, task: Task) -> None:
        """A container that runs gets what it now asks for, and gives back what it does not ask for any more."""
        held = {one.network: one for one in task.networks}
        wanted = {one.network: one for one in task.spec.networks}
        users = self._users.setdefault(task.node, {}) if task.id in self._placed else None
        for id, one in held.items():
            if id not in wanted:
                self._give_back(id, one.address)
                if users is not None:
                    self._left(task.node, users, id)
        error = ""
        attached: list[TaskNetwork] = []
        for id, one in wanted.items():
            if id in held:
                attached.append(held[id])
                continue
            try:
                attached.append(replace(one, address=self._take(id, one.address)))
            except UsageError as refused:
                error = str(refused)
                self._waiting_tasks[task.id] = None
                continue
            if users is not None:
                self._nodes[task.node] = None
                users[id] = users.get(id, 0) + 1
        now = tuple(attached)
        if now:
            self._held[task.id] = now
        else:
            self._held.pop(task.id, None)
            self._placed.pop(task.id, None)
        if users is None and now and task.state >= TaskState.ASSIGNED:
            self._assigned(task)
        if now != task.networks or error != task.error:
            change.task(task, replace(task, networks=now, error=error))

    def _left(self, node: str, users: dict[str, int], network: str) -> None:
        users[network] -= 1
        if not users[network]:
            del users[network]
            self._nodes[node] = None

    def _release(self, id: str) -> None:
        """The addresses of a task that is dead or gone; its node's load balancers go when nobody else there needs them."""
        networks = self._held.pop(id)
        node = self._placed.pop(id, None)
        for network in networks:
            self._give_back(network.network, network.address)
            if node is not None:
                self._left(node, self._users[node], network.network)

    # -- addresses -----------------------------------------------------------------------------------------------------

    def _take(self, network: str, wanted: IPv4Interface | None = None) -> IPv4Interface:
        """The next address of a network, of its first subnet that has one; or the wanted one."""
        known = self._store.networks.get(network)
        if known is None or not known.subnets:
            raise UsageError(f"network {known.spec.name if known is not None else network} is not allocated")
        for number, subnet in enumerate(known.subnets):
            if wanted is not None and wanted.ip not in subnet.prefix:
                continue
            try:
                return self._addresses.address(_pool(network, number), wanted.ip if wanted is not None else None)
            except UsageError:
                if wanted is not None or number == len(known.subnets) - 1:
                    raise
        raise UsageError(f"{wanted} is in no subnet of the network {known.spec.name}")

    def _hold(self, network: str, address: IPv4Interface | None) -> None:
        """What an object has been given before. A task that is only to be stopped yet may have outlived its network."""
        if network in self._store.networks:
            self._take(network, address)

    def _give_back(self, network: str, address: IPv4Interface | None) -> None:
        known = self._store.networks.get(network)
        if known is None or address is None:
            return  # the network went, and its addresses with it
        for number, subnet in enumerate(known.subnets):
            if address.ip in subnet.prefix:
                self._addresses.free(_pool(network, number), address.ip)
                self._freed = True


def _pool(network: str, number: int) -> str:
    return f"{network}/{number}"
