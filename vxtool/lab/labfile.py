"""A lab written down: YAML in, LabSpec out.

Knows the file's keys (docs/labs.md) and on which line each stands; what is left out is filled in by lab/spec.py, as it is for options.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import fields, replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any, TypeVar

from vxtool.errors import ExpectationError, UsageError
from vxtool.expect.shapes import At
from vxtool.expect.yamltree import parse_yaml
from vxtool.lab.spec import EndpointWish, LabSpec, NetworkWish, Options, complete, network_wish, spread
from vxtool.lab.topology import (
    MTU_LIMITS,
    End,
    Impairment,
    Link,
    Machine,
    MachineKind,
    Route,
    Topology,
    check,
    declared,
    link_name,
    parse_delay,
    parse_loss,
    parse_rate,
    parse_route,
)
from vxtool.lab.topos import load
from vxtool.model import DATA_PATH_PORT, Engine, Subnet

__all__ = ["KEYS", "SCHEMA", "parse", "read"]

T = TypeVar("T")

SCHEMA = "vxtool-lab@1"

KEYS: Mapping[str, frozenset[str]] = {
    kind: frozenset(keys.split())
    for kind, keys in {
        "lab": "schema name topology nodes routers switches links networks endpoints data_path_port options",
        "node": "name address gateway routes labels cpus memory generic",
        "router": "name gateway routes",
        "link": "between addresses mtu rate delay loss queue down",
        "network": "name id vni subnet gateway subnets mtu encrypted internal",
        "subnet": "subnet gateway",
        "endpoint": "name node network address networks service mac",
        "options": " ".join(option.name for option in fields(Options)),
    }.items()
}
"""Every key that each kind of object may have; docs/labs.md explains them."""


def read(path: str | Path, *, name: str | None = None, data_path_port: int | None = None, options: Options | None = None) -> LabSpec:
    """The lab of a file; what is given besides counts more, options are added to the file's. UsageError with the line of what is wrong."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"{path}: this is no text in UTF-8") from None
    except OSError as error:
        raise UsageError(f"{path}: {(error.strerror or str(error)).lower()}") from error
    return parse(text, str(path), name=name, data_path_port=data_path_port, options=options)


def parse(text: str, source: str, *, name: str | None = None, data_path_port: int | None = None, options: Options | None = None) -> LabSpec:
    """The lab of a text; `source` begins every error."""
    try:
        document = parse_yaml(text, source)
        document.only(KEYS["lab"])
        schema = document.get("schema")
        if schema.text() not in (None, SCHEMA):
            schema.wrong(f"{SCHEMA!r}, the only version there is,")
        topology = _topology(document)
        networks = [_network(item) for item in document.get("networks").items()] if document.has("networks") else [NetworkWish("web")]
        port = document.get("data_path_port").integer(0, 65535)
        chosen, given = options or Options(), _options(document.get("options"))
        return _saying(
            document,
            lambda: complete(
                name or document.get("name").text() or "lab",
                topology,
                networks,
                _endpoints(document.get("endpoints"), topology, [network.name for network in networks]),
                port if data_path_port is None and port is not None else data_path_port or DATA_PATH_PORT,
                _both(chosen, given),
            ),
        )
    except ExpectationError as error:
        raise UsageError(str(error)) from error


def _options(item: At) -> Options:
    item.only(KEYS["options"])
    flags = {option.name: item.get(option.name).flag() for option in fields(Options) if option.name != "engine"}
    return Options(**flags, engine=item.get("engine").choice(Engine) or Engine.V19_03)


def _both(chosen: Options, given: Options) -> Options:
    """Of each option what is not as it always is."""
    default = Options()
    wanted = {option.name: getattr(chosen, option.name) for option in fields(Options)}
    return replace(given, **{name: value for name, value in wanted.items() if value != getattr(default, name)})


def _saying(item: At, make: Callable[[], T]) -> T:
    """What `make` gives; a UsageError of it is told with the place of the item."""
    try:
        return make()
    except UsageError as error:
        line = f", line {item.line}" if item.path and item.line is not None else ""
        raise UsageError(f"{item.source}{line}: {error}") from error


def _one_of(item: At, names: Collection[str], what: str) -> str:
    name = item.name()
    if name not in names:
        item.wrong(f"the name of {what} ({', '.join(names) or 'there is none'})")
    return name


# --------------------------------------------------------------------------------------------------------------------
# The underlay
# --------------------------------------------------------------------------------------------------------------------


def _topology(document: At) -> Topology:
    told = [key for key in ("nodes", "routers", "switches", "links") if document.has(key)]
    known = document.get("topology")
    if document.has("topology"):
        if told:
            document.get(told[0]).refuse(f"the file names a topology on line {known.line}: it brings its own {told[0]}")
        path, comma, rest = known.name().partition(",")
        if path.endswith(".py"):  # beside the file that names it
            path = str(Path(document.source).parent / path)
        return _saying(known, lambda: load(f"{path}{comma}{rest}"))
    if not told:
        return load("one_segment")
    if not document.has("nodes"):
        document.refuse("there are no nodes in it")
    return _Underlay(document).topology


class _Underlay:
    """nodes, routers, switches and links of a file, as a Topology."""

    def __init__(self, document: At) -> None:
        self.machines: dict[str, Machine] = {}
        self.address: dict[str, IPv4Interface] = {}  # of a node: it goes to its first link
        self.ports: dict[str, int] = {}
        self.taken: set[str] = set()
        for item in document.get("nodes").items():
            self._node(item)
        for item in document.get("routers").items():
            self._add(item, self._named(item, "router"), MachineKind.ROUTER)
        for item in document.get("switches").items():
            self._add(item, item.name(), MachineKind.SWITCH)
        if document.has("links"):
            links = tuple(self._link(item) for item in document.get("links").items())
        elif len(self.machines) == sum(1 for _ in document.get("nodes").items()):
            links = tuple(self._joined(name, "s1") for name in tuple(self.machines))
        else:
            document.refuse("there are routers or switches in it, but no links that join them")
        topology = Topology(Path(document.source).stem, tuple(self.machines.values()), links)
        self.topology = check(topology, document.source)

    def _node(self, item: At) -> None:
        """`vm1@192.168.68.109/24`, or an object."""
        if isinstance(item.value, str):
            name, _, address = item.name().partition("@")
            interface = _saying(item, lambda: _interface(address))
        else:
            name, address_item = self._named(item, "node"), item.get("address")
            interface = _saying(address_item, lambda: _interface(address_item.text()))
        self._add(item, name, MachineKind.NODE)
        if interface is not None:
            self.address[name] = interface

    def _named(self, item: At, kind: str) -> str:
        if isinstance(item.value, str):
            return item.name()
        item.only(KEYS[kind])
        return item.get("name").name()

    def _add(self, item: At, name: str, kind: MachineKind) -> None:
        if name in self.machines:
            item.refuse(f"two machines are called {name}")
        routes: list[Route] = []
        said: dict[str, Any] = {}
        if isinstance(item.value, dict):
            given = item.value
            if kind is MachineKind.NODE:
                said = _saying(item, lambda: declared(**{key: given.get(key) for key in ("labels", "cpus", "memory", "generic")}))
            gateway = item.get("gateway")
            if gateway.value is not None:
                routes.append(_saying(gateway, lambda: parse_route(f"via {gateway.text()}")))
            routes += [_saying(route, lambda route=route: parse_route(route.name())) for route in item.get("routes").items()]  # type: ignore[misc]
        self.machines[name] = Machine(name, kind, tuple(routes), **said)

    def _link(self, item: At) -> Link:
        """`[vm1, s1]`, or an object with those under `between`."""
        if isinstance(item.value, list):
            item = At({"between": item.value}, item.source, item.path, {**item.lines, (*item.path, "between"): item.line or 1})
        item.only(KEYS["link"])
        between = list(item.get("between").items())
        if len(between) != 2:
            item.get("between").wrong("two machines, like [vm1, s1],")
        one, other = (_one_of(At(end.value, end.source, item.path, end.lines), self.machines, "a machine of this file") for end in between)
        addresses: dict[str, IPv4Interface | None] = {}
        for machine, address in item.get("addresses").members().items():
            if machine not in (one, other):
                address.refuse(f"{machine} is no end of this link ({one}, {other})")
            addresses[machine] = _saying(address, lambda address=address: _interface(address.text()))  # type: ignore[misc]
        mtu = item.get("mtu").integer(*MTU_LIMITS)
        return replace(self._joined(one, other, addresses), mtu=mtu or 1500, impairment=_impairment(item))

    def _joined(self, one: str, other: str, addresses: Mapping[str, IPv4Interface | None] | None = None) -> Link:
        if other not in self.machines:  # the one switch of a file that names none
            self.machines[other] = Machine(other, MachineKind.SWITCH)
        if self.machines[one].kind is MachineKind.SWITCH:
            one, other = other, one
        return Link(link_name(one, other, self.taken), self._end(one, addresses or {}), self._end(other, addresses or {}))

    def _end(self, machine: str, addresses: Mapping[str, IPv4Interface | None]) -> End:
        switch = self.machines[machine].kind is MachineKind.SWITCH
        port = self.ports[machine] = self.ports.get(machine, 0 if switch else -1) + 1
        own = self.address.pop(machine, None) if machine not in addresses else None
        return End(machine, f"{machine}-eth{port}" if switch else f"eth{port}", addresses.get(machine, own))


def _interface(text: str | None) -> IPv4Interface | None:
    if not text:
        return None
    try:
        if "/" not in text:
            raise ValueError
        return IPv4Interface(text)
    except ValueError:
        raise UsageError(f"{text!r} is not an IPv4 address with its prefix length, like 192.168.68.109/24") from None


def _impairment(item: At) -> Impairment:
    def measure(key: str, parser: Callable[[str], T], nothing: T) -> T:
        value = item.get(key)
        text = str(value.value) if isinstance(value.value, int) and not isinstance(value.value, bool) else value.text()
        return nothing if text is None else _saying(value, lambda: parser(text))

    return Impairment(
        rate=measure("rate", lambda text: parse_rate(text), None),
        delay_ms=measure("delay", parse_delay, 0.0),
        loss=measure("loss", parse_loss, 0.0),
        down=item.get("down").flag(),
        queue=item.get("queue").integer(1, 1_000_000),
    )


# --------------------------------------------------------------------------------------------------------------------
# The overlay
# --------------------------------------------------------------------------------------------------------------------


def _network(item: At) -> NetworkWish:
    """`web`, `web=10.0.1.0/24`, or an object."""
    if isinstance(item.value, str):
        return _saying(item, lambda: network_wish(item.name()))
    item.only(KEYS["network"])
    vni = item.get("vni")
    vnis = [vni] if isinstance(vni.value, int) else list(vni.items())
    if item.has("subnet") and item.has("subnets"):
        item.get("subnets").refuse("this network has a subnet already")
    if item.has("gateway") and not item.has("subnet"):
        item.get("gateway").refuse("a gateway belongs to a subnet: give both")
    subnets = [item] if item.has("subnet") else list(item.get("subnets").items())
    return NetworkWish(
        item.get("name").name(),
        tuple(_subnet(subnet) for subnet in subnets),
        tuple(_number(one) for one in vnis),
        id=item.get("id").text(),
        mtu=item.get("mtu").integer(68, 65535),
        encrypted=item.get("encrypted").flag(),
        internal=item.get("internal").flag(),
    )


def _number(item: At) -> int:
    number = item.integer(0, (1 << 24) - 1)
    return number if number is not None else item.wrong("a VNI")


def _subnet(item: At) -> Subnet:
    prefix = item if isinstance(item.value, str) else item.get("subnet")
    found = prefix.prefix()
    if not isinstance(found, IPv4Network):
        prefix.wrong("an IPv4 subnet like 10.0.1.0/24")
    return Subnet(found, None if prefix is item else _ipv4(item.get("gateway")))


def _ipv4(item: At) -> IPv4Address | None:
    address = item.address()
    if address is not None and not isinstance(address, IPv4Address):
        item.wrong("an IPv4 address")
    return address


def _endpoints(item: At, topology: Topology, networks: list[str]) -> list[EndpointWish]:
    """A number of them in each network, or each by itself."""
    if item.value is None or isinstance(item.value, int):
        count = item.integer(0, 1 << 16)
        return list(spread(networks, topology, 6 if count is None else count))
    return [_endpoint(one, [machine.name for machine in topology.nodes], networks) for one in item.items()]


def _endpoint(item: At, nodes: list[str], networks: list[str]) -> EndpointWish:
    item.only(KEYS["endpoint"])
    attached: dict[str, IPv4Address | None] = {}
    several = item.get("networks")
    if item.has("network"):
        if item.has("networks"):
            several.refuse("this endpoint has a network already")
        attached[_one_of(item.get("network"), networks, "a network of this file")] = _ipv4(item.get("address"))
    elif item.has("address"):
        item.get("address").refuse("of which network? {network: NAME, address: ...} or {networks: {NAME: ...}} says it")
    elif isinstance(several.value, dict):
        for name, address in several.members().items():
            attached[_one_of(At(name, address.source, address.path, address.lines), networks, "a network of this file")] = _ipv4(address)
    else:
        attached = dict.fromkeys(_one_of(one, networks, "a network of this file") for one in several.items())
    mac = item.get("mac")
    if mac.value is not None and len(attached) > 1:
        mac.refuse("an endpoint in several networks has a MAC in each: Docker's are made of the addresses")
    return EndpointWish(
        item.get("name").name(), _one_of(item.get("node"), nodes, "a node"), attached, service=item.get("service").text(), mac=mac.mac()
    )
