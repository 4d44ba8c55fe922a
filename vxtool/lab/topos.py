"""Topologies as Mininet writes them: found by name or in a file, and read into a Topology.

Knows Mininet's `Topo` classes, their parameters and how `mn --custom FILE --topo NAME,n=4` finds them; starts nothing of Mininet. A file is run as
Mininet runs it: it is a program, and its author is trusted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any

from vxtool.errors import MissingFeature, UsageError, VxtoolError
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
    parse_route,
)
from vxtool.model import Mac

__all__ = ["ARTICLE", "FOLDER", "from_topo", "load", "names"]

FOLDER = Path(__file__).parents[2] / "mininet_topos"
"""Beside vxtool/, in a checkout and where pip puts it."""

ARTICLE = IPv4Address("192.168.68.109")
"""Where the addresses of nodes begin when nobody gives them any: the article's sathish-vm1."""


# --------------------------------------------------------------------------------------------------------------------
# Finding them
# --------------------------------------------------------------------------------------------------------------------


def names() -> list[str]:
    """The topologies that come with vxtool; each is the one in the file of its name."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")


def load(text: str) -> Topology:
    """`two_racks`, `two_racks,n=4` (parameters in Mininet's own way), `my.py` (with one topology in it), `my.py,rack,n=4`. UsageError otherwise."""
    name, *given = text.split(",")
    path = Path(name)
    if path.suffix == ".py":
        if not path.is_file():
            raise UsageError(f"{name}: there is no such file")
    elif name in names():
        path = FOLDER / f"{name}.py"
    else:
        from difflib import get_close_matches  # 5 ms that only a mistake costs

        near = get_close_matches(name, names(), 1, 0.5)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UsageError(f"no topology is called {name!r}{hint} (there are {', '.join(names())}; a file ends in .py or .yaml)")
    topos = _topos(path)
    if path.parent == FOLDER:
        chosen = name
    elif given and given[0] in topos:
        chosen = given.pop(0)
    elif len(topos) == 1:
        chosen = next(iter(topos))
    else:
        raise UsageError(f"{name} has {len(topos)} topologies: say which, as {name},{next(iter(topos))} (there are {', '.join(topos)})")
    return from_topo(_build(topos[chosen], given, text), chosen)


def _topos(path: Path) -> Mapping[str, Callable[..., Any]]:
    """The `topos` of a file, which is run as `mn --custom` runs it: by itself, with nothing of ours in reach."""
    found: dict[str, Any] = {"__name__": path.stem, "__file__": str(path)}
    try:
        exec(compile(path.read_bytes(), str(path), "exec"), found)
    except ImportError as error:
        if error.name is not None and error.name.partition(".")[0] in ("mininet", "distutils"):
            raise MissingFeature(f"{path} needs Mininet's classes: pip install 'vxtool[lab]'") from error
        raise UsageError(f"{path}: {error}") from error
    except Exception as error:
        raise UsageError(f"{path} cannot be run: {type(error).__name__}: {error}") from error
    topos = found.get("topos")
    if not isinstance(topos, Mapping) or not topos or not all(isinstance(key, str) and callable(value) for key, value in topos.items()):
        raise UsageError(f"{path} has no topologies: at its end, topos = {{'NAME': CLASS}} is wanted, as mn --custom wants it")
    return topos


def _build(topo: Callable[..., Any], given: Sequence[str], text: str) -> Any:
    """The Topo with its parameters, in the style of `mn --topo NAME,2,n=4`. What a class says against them is told as it says it."""
    from inspect import signature

    positional = [_number(one) for one in given if "=" not in one]
    named = {name: _number(value) for name, _, value in (one.partition("=") for one in given if "=" in one)}
    takes = list(signature(getattr(topo, "build", topo)).parameters.values())
    known = [one.name for one in takes if one.kind is one.POSITIONAL_OR_KEYWORD and one.name != "self"]
    open_ended = any(one.kind in (one.VAR_KEYWORD, one.VAR_POSITIONAL) for one in takes)
    for name in named:
        if name not in known and not open_ended:
            raise UsageError(f"{text}: {name} is no parameter of it (there are {', '.join(known) or 'none'})")
    for one in takes:
        if one.annotation in (int, "int") and not isinstance(named.get(one.name, 0), int):
            raise UsageError(f"{text}: {one.name} is a whole number, not {named[one.name]!r}")
    try:
        return topo(*positional, **named)
    except VxtoolError:
        raise
    except ValueError as error:
        raise UsageError(f"{text}: {error}") from error
    except Exception as error:
        raise UsageError(f"{text}: the topology cannot be made: {type(error).__name__}: {error}") from error


def _number(text: str) -> int | float | str:
    """As mininet.util.makeNumeric reads it."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


# --------------------------------------------------------------------------------------------------------------------
# Reading them
# --------------------------------------------------------------------------------------------------------------------

_SHAPES = ("bw", "delay", "loss", "max_queue_size")
_REFUSED = {
    "jitter": "a link delays every frame alike",
    "enable_ecn": "the lab's links mark no frames",
    "enable_red": "the lab's links drop no frames early",
}


def from_topo(topo: Any, name: str) -> Topology:
    """The Topology of a Mininet `Topo`: what `mn` would build, and what it knows no word for.

    Hosts are nodes of the swarm, unless `router=True` is among their parameters or their class is called a router (as in Mininet's examples); `ip`,
    `defaultRoute`, `mac` mean what they mean to Mininet, `routes` is a list of texts like `10.1.0.0/16 via 10.0.0.1`; `cpus=2`, `memory='4GiB'`,
    `labels={'zone': 'a'}`, `generic={'gpu': 2}` are what a node says it has, for a swarm's scheduler. Links take TCLink's `bw`
    (Mbit/s), `delay` ('20ms'), `loss` (percent), `max_queue_size` (frames), and `mtu`. Devices are called eth0.. by their port, unless
    `intfName1`, `intfName2` say otherwise. Where no host has an address, and all are on one segment, they get the article's. UsageError for the rest.
    """
    reading = _Reading(topo, name)
    topology = Topology(name, reading.machines(), reading.links())
    if all(end.interface is None for link in topology.links for end in link.ends):
        topology = _addressed(topology)
    return check(topology, f"topology {name}")


class _Reading:
    """The Topo's dictionaries, whose values may be anything: whatever is not understood is refused by name."""

    def __init__(self, topo: Any, name: str) -> None:
        self.where = f"topology {name}"
        self.info: dict[str, dict[str, Any]] = {str(machine): topo.nodeInfo(machine) for machine in topo.nodes(sort=False)}
        self.rank = {machine: i for i, machine in enumerate(self.info)}
        self.edges: list[dict[str, Any]] = [info for _, _, info in topo.links(withInfo=True)]
        self.first_port: dict[str, int] = {}
        for edge in self.edges:
            for machine, port in ((edge["node1"], edge["port1"]), (edge["node2"], edge["port2"])):
                self.first_port[machine] = min(port, self.first_port.get(machine, port))

    def machines(self) -> tuple[Machine, ...]:
        return tuple(self._machine(name) for name in self.info)

    def _machine(self, name: str) -> Machine:
        info = self.info[name]
        try:
            said = declared(**{key: info.get(key) for key in ("labels", "cpus", "memory", "generic")})
        except UsageError as error:
            raise UsageError(f"{self.where}: {name}: {error}") from error
        return Machine(name, self._kind(name), self._routes(name), **said)

    def links(self) -> tuple[Link, ...]:
        """Ordered by machine and port; of a link between a switch and another machine, the other is `a`: so a node's first link is its eth0's."""
        drawn = []
        for edge in self.edges:
            ends = [(self._kind(edge[f"node{i}"]) is MachineKind.SWITCH, self.rank[edge[f"node{i}"]], edge[f"port{i}"], i) for i in (1, 2)]
            drawn.append((sorted(ends), edge))
        drawn.sort(key=lambda pair: pair[0][0][1:])
        taken: set[str] = set()
        links = []
        for (near, far), edge in drawn:
            name = link_name(edge[f"node{near[3]}"], edge[f"node{far[3]}"], taken)
            a, b = (self._end(edge, end[3]) for end in (near, far))
            links.append(Link(name, a, b, self._mtu(edge, name), self._impairment(edge, name)))
        return tuple(links)

    def _kind(self, name: str) -> MachineKind:
        info = self.info[name]
        if info.get("isSwitch"):
            return MachineKind.SWITCH
        router = info.get("router", "router" in getattr(info.get("cls"), "__name__", "").lower())
        return MachineKind.ROUTER if router else MachineKind.NODE

    def _routes(self, name: str) -> tuple[Route, ...]:
        info = self.info[name]
        texts = [*([info["defaultRoute"]] if info.get("defaultRoute") else []), *(info.get("routes") or [])]
        try:
            return tuple(parse_route(str(text)) for text in texts)
        except UsageError as error:
            raise UsageError(f"{self.where}: {name}: {error}") from error

    def _end(self, edge: Mapping[str, Any], side: int) -> End:
        machine, port, own = edge[f"node{side}"], edge[f"port{side}"], edge.get(f"params{side}") or {}
        info, first = self.info[machine], port == self.first_port[machine]
        switch = self._kind(machine) is MachineKind.SWITCH
        for key in (*_SHAPES, *_REFUSED, "mtu"):
            if own.get(key) is not None:
                raise UsageError(f"{self.where}: {key} stands at one end of {edge['node1']}-{edge['node2']}: give it to the link, for both ways")
        ip = info["ip"] if first and info.get("ip") and not switch else own.get("ip")
        mac = info["mac"] if first and info.get("mac") and not switch else edge.get(f"addr{side}")
        device = edge.get(f"intfName{side}") or (f"{machine}-eth{port}" if switch else f"eth{port}")
        return End(str(machine), str(device), self._interface(machine, ip), self._mac(machine, mac))

    def _interface(self, machine: str, ip: Any) -> IPv4Interface | None:
        if ip is None:
            return None
        if "/" not in str(ip):
            raise UsageError(f"{self.where}: {machine}: {ip!r} has no prefix length: one like 192.168.68.109/24 is wanted")
        try:
            return IPv4Interface(str(ip))
        except ValueError:
            raise UsageError(f"{self.where}: {machine}: {ip!r} is not an IPv4 address like 192.168.68.109/24") from None

    def _mac(self, machine: str, mac: Any) -> Mac | None:
        try:
            return None if mac is None else Mac.parse(str(mac))
        except ValueError as error:
            raise UsageError(f"{self.where}: {machine}: {error}") from None

    def _mtu(self, edge: Mapping[str, Any], name: str) -> int:
        mtu = edge.get("mtu")
        if mtu is not None and (not isinstance(mtu, int) or not MTU_LIMITS[0] <= mtu <= MTU_LIMITS[1]):
            raise UsageError(f"{self.where}: the link {name} has an MTU of {mtu!r}: a whole number from {MTU_LIMITS[0]} to {MTU_LIMITS[1]} is wanted")
        return mtu or 1500

    def _impairment(self, edge: Mapping[str, Any], name: str) -> Impairment:
        where = f"{self.where}: the link {name}"
        for key, why in _REFUSED.items():
            if edge.get(key):
                raise UsageError(f"{where} has {key}={edge[key]}, which is not possible here: {why}")
        bw, delay, loss, queue = (edge.get(key) for key in _SHAPES)
        try:
            rate = round(float(bw) * 1e6) if bw else None
            if rate is not None and not 8 <= rate <= 10**12:
                raise UsageError(f"a bandwidth of {bw!r} Mbit/s makes no sense")
            late, lost = parse_delay(str(delay)) if delay else 0.0, parse_loss(str(loss)) if loss else 0.0
            waiting = int(queue) if queue and (rate or late) else None  # a queue where nothing waits is none
            if waiting is not None and waiting < 1:
                raise UsageError(f"a queue of {queue!r} frames makes no sense")
        except (UsageError, ValueError, TypeError) as error:
            raise UsageError(f"{where}: {error}") from error
        return Impairment(rate=rate, delay_ms=late, loss=lost, queue=waiting)


def _addressed(topology: Topology) -> Topology:
    """The article's addresses, for nodes that are all on one segment: elsewhere somebody has to say which subnet is where."""
    if any(machine.kind is MachineKind.ROUTER for machine in topology.machines) or any(len(topology.ends(node.name)) != 1 for node in topology.nodes):
        return topology
    subnet = _smallest_subnet(ARTICLE, len(topology.nodes))
    place = {machine.name: IPv4Interface((ARTICLE + i, subnet.prefixlen)) for i, machine in enumerate(topology.nodes)}

    def told(end: End) -> End:
        return End(end.machine, end.device, place.get(end.machine), end.mac)

    links = tuple(Link(link.name, told(link.a), told(link.b), link.mtu, link.impairment) for link in topology.links)
    return Topology(topology.name, topology.machines, links)


def _smallest_subnet(first: IPv4Address, count: int) -> IPv4Network:
    """The smallest subnet, of at most /24, that holds `count` addresses from `first` on and is not filled by them to its last one."""
    wide = (IPv4Network((first, length), strict=False) for length in range(24, 7, -1))
    return next(subnet for subnet in wide if int(first) + count - 1 < int(subnet.broadcast_address))
