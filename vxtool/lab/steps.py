"""Steps: one change of the kernel's state each, as data, each with its inverse.

Knows what `ip`, `bridge`, `tc` and `nft` call a change, and which change takes it back; touches nothing. Planners (underlay, overlay, gateway) make
lists of steps, `lab/kernel.py` performs them, `lab up --dry-run` prints `step.commands()`: a person who types those lines has made the same lab.

A namespace is named as in /run/netns of the lab: `vm1` a node, `vm1:1-jnz278zgn1` the overlay sandbox of a network on it, `vm1:web.1` the sandbox of
an endpoint, `switches` where the underlay's bridges are. Nothing here is ever done in the machine's own network namespace.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from shlex import quote

from vxtool.model import Mac

__all__ = [
    "AddAddress",
    "AddBridge",
    "AddFdb",
    "AddNamespace",
    "AddNeighbour",
    "AddRoute",
    "AddRules",
    "AddTap",
    "AddVeth",
    "AddVxlan",
    "AddXfrmPolicy",
    "AddXfrmState",
    "DeleteAddress",
    "DeleteFdb",
    "DeleteLink",
    "DeleteNamespace",
    "DeleteNeighbour",
    "DeleteRoute",
    "DeleteRules",
    "DeleteXfrmPolicy",
    "DeleteXfrmState",
    "ForgetFlows",
    "ForgetMac",
    "MoveLink",
    "ReplaceRules",
    "SetBackends",
    "SetDown",
    "SetMaster",
    "SetMtu",
    "SetNoMaster",
    "SetOffload",
    "SetQdisc",
    "SetSysctl",
    "SetUp",
    "Step",
    "UnsetQdisc",
    "commands",
    "inverses",
]


def _ip(namespace: str, words: str) -> str:
    return f"ip -n {quote(namespace)} {words}"


@dataclass(frozen=True, slots=True)
class AddNamespace:
    """A network namespace, with `lo` up and IPv6 off before any other link exists (else each new link sends multicast to a whole bridge)."""

    namespace: str

    def inverse(self) -> Step:
        return DeleteNamespace(self.namespace)

    def commands(self) -> list[str]:
        inside = f"ip netns exec {quote(self.namespace)} sysctl -qw"
        return [
            f"ip netns add {quote(self.namespace)}",
            f"{inside} net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1",
            _ip(self.namespace, "link set lo up"),
        ]


@dataclass(frozen=True, slots=True)
class DeleteNamespace:
    """The name goes; the kernel frees the namespace, and every link in it, when nobody is in it any more."""

    namespace: str

    def inverse(self) -> Step:
        return AddNamespace(self.namespace)

    def commands(self) -> list[str]:
        return [f"ip netns del {quote(self.namespace)}"]


@dataclass(frozen=True, slots=True)
class SetSysctl:
    """`key` with dots, as sysctl(8) writes it (an interface name with a dot in it is written with a slash, as sysctl does)."""

    namespace: str
    key: str
    value: str
    before: str  # the kernel's default, so that the inverse needs no look at the machine
    optional: bool = False  # a kernel that has no such key (its module is not loaded) needs nothing done

    def inverse(self) -> Step:
        return SetSysctl(self.namespace, self.key, self.before, self.value, self.optional)

    def commands(self) -> list[str]:
        flags = "-eqw" if self.optional else "-qw"
        return [f"ip netns exec {quote(self.namespace)} sysctl {flags} {quote(f'{self.key}={self.value}')}"]


@dataclass(frozen=True, slots=True)
class AddVeth:
    """A veth pair, each end made in its own namespace under its final name. `mac` and `peer_mac` None: the kernel draws one.

    `queue`: transmit queue length, which only a queueing discipline looks at; `ip` and the kernel give 1000, libnetwork leaves 0.
    """

    namespace: str
    name: str
    peer_namespace: str
    peer: str
    mtu: int = 1500
    mac: Mac | None = None
    peer_mac: Mac | None = None
    queue: int = 1000

    def inverse(self) -> Step:
        return DeleteLink(self.namespace, self.name, self)

    def commands(self) -> list[str]:
        queue = "" if self.queue == 1000 else f" txqueuelen {self.queue}"
        near = f"link add {self.name} mtu {self.mtu}{queue}" + (f" address {self.mac}" if self.mac else "")
        far = f"peer name {self.peer} mtu {self.mtu}{queue}" + (f" address {self.peer_mac}" if self.peer_mac else "")
        return [_ip(self.namespace, f"{near} type veth {far} netns {quote(self.peer_namespace)}")]


@dataclass(frozen=True, slots=True)
class AddBridge:
    """A bridge. `default_pvid` None: the kernel's own (1); a kernel without VLAN filtering ignores it silently, in netlink as in `ip`. `queue`: as of
    a veth."""

    namespace: str
    name: str
    mac: Mac | None = None
    mtu: int | None = None
    default_pvid: int | None = None
    queue: int = 1000

    def inverse(self) -> Step:
        return DeleteLink(self.namespace, self.name, self)

    def commands(self) -> list[str]:
        words = f"link add {self.name}" + (f" mtu {self.mtu}" if self.mtu else "") + (f" address {self.mac}" if self.mac else "")
        words += "" if self.queue == 1000 else f" txqueuelen {self.queue}"
        pvid = "" if self.default_pvid is None else f" vlan_default_pvid {self.default_pvid}"
        return [_ip(self.namespace, f"{words} type bridge{pvid}")]


@dataclass(frozen=True, slots=True)
class AddTap:
    """A persistent TAP device, down: Ethernet whose other side is a process of the lab (the delayer)."""

    namespace: str
    name: str
    mtu: int = 1500

    def inverse(self) -> Step:
        return DeleteLink(self.namespace, self.name, self)

    def commands(self) -> list[str]:
        return [_ip(self.namespace, f"tuntap add {self.name} mode tap"), _ip(self.namespace, f"link set {self.name} mtu {self.mtu}")]


@dataclass(frozen=True, slots=True)
class AddVxlan:
    """A VXLAN device as the overlay driver makes it: learning, proxy, l2miss, l3miss, no remote, no group, transmit queue length 0 (libnetwork
    drivers/overlay/ov_utils.go createVxlan).

    `underlay` is the namespace its UDP socket stays in. When it is another one than `namespace`, the device is asked for there and made here: the
    same end state as making it there and moving it, without the 18 ms a move costs.
    """

    namespace: str
    name: str
    vni: int
    port: int  # UDP destination port
    mtu: int
    underlay: str

    def inverse(self) -> Step:
        return DeleteLink(self.namespace, self.name, self)

    def commands(self) -> list[str]:
        here = "" if self.namespace == self.underlay else f" netns {quote(self.namespace)}"
        words = f"type vxlan id {self.vni} dstport {self.port} learning proxy l2miss l3miss"
        return [_ip(self.underlay, f"link add {self.name} mtu {self.mtu} txqueuelen 0{here} {words}")]


@dataclass(frozen=True, slots=True)
class DeleteLink:
    """`made`: the step that would make it again; None when whoever deletes does not know (such a step has no inverse)."""

    namespace: str
    name: str
    made: AddVeth | AddBridge | AddVxlan | AddTap | None = None

    def inverse(self) -> Step | None:
        return self.made

    def commands(self) -> list[str]:
        return [_ip(self.namespace, f"link del {self.name}")]


@dataclass(frozen=True, slots=True)
class MoveLink:
    """Moves a link (which must be down) to another namespace or name, the way Docker does it: `up --like-docker`."""

    namespace: str
    name: str
    to: str
    new_name: str

    def inverse(self) -> Step:
        return MoveLink(self.to, self.new_name, self.namespace, self.name)

    def commands(self) -> list[str]:
        moved = [_ip(self.namespace, f"link set {self.name} netns {quote(self.to)}")] if self.to != self.namespace else []
        renamed = [_ip(self.to, f"link set {self.name} name {self.new_name}")] if self.new_name != self.name else []
        return moved + renamed


@dataclass(frozen=True, slots=True)
class SetMaster:
    namespace: str
    name: str
    master: str

    def inverse(self) -> Step:
        return SetNoMaster(self.namespace, self.name, self.master)

    def commands(self) -> list[str]:
        return [_ip(self.namespace, f"link set {self.name} master {self.master}")]


@dataclass(frozen=True, slots=True)
class SetNoMaster:
    namespace: str
    name: str
    master: str  # whom it leaves

    def inverse(self) -> Step:
        return SetMaster(self.namespace, self.name, self.master)

    def commands(self) -> list[str]:
        return [_ip(self.namespace, f"link set {self.name} nomaster")]


@dataclass(frozen=True, slots=True)
class SetUp:
    namespace: str
    name: str

    def inverse(self) -> Step:
        return SetDown(self.namespace, self.name)

    def commands(self) -> list[str]:
        return [_ip(self.namespace, f"link set {self.name} up")]


@dataclass(frozen=True, slots=True)
class SetDown:
    namespace: str
    name: str

    def inverse(self) -> Step:
        return SetUp(self.namespace, self.name)

    def commands(self) -> list[str]:
        return [_ip(self.namespace, f"link set {self.name} down")]


@dataclass(frozen=True, slots=True)
class SetMtu:
    namespace: str
    name: str
    mtu: int
    before: int

    def inverse(self) -> Step:
        return SetMtu(self.namespace, self.name, self.before, self.mtu)

    def commands(self) -> list[str]:
        return [_ip(self.namespace, f"link set {self.name} mtu {self.mtu}")]


@dataclass(frozen=True, slots=True)
class SetOffload:
    """Checksum and segmentation offload of a link (ethtool features), all on or all off. Without `tx` no frame leaves unfinished.

    `gro` is not among them unless named: a veth has it off from the start, and the inverse would turn it on.
    """

    namespace: str
    name: str
    on: bool
    features: tuple[str, ...] = ("tx", "rx", "tso", "gso")

    def inverse(self) -> Step:
        return SetOffload(self.namespace, self.name, not self.on, self.features)

    def commands(self) -> list[str]:
        words = " ".join(f"{feature} {'on' if self.on else 'off'}" for feature in self.features)
        return [f"ip netns exec {quote(self.namespace)} ethtool -K {self.name} {words}"]


@dataclass(frozen=True, slots=True)
class AddAddress:
    """`broadcast`: with the subnet's broadcast address, as libnetwork sets it; a /32 alias has none."""

    namespace: str
    device: str
    interface: IPv4Interface
    broadcast: bool = True

    def inverse(self) -> Step:
        return DeleteAddress(self.namespace, self.device, self.interface, self.broadcast)

    def commands(self) -> list[str]:
        return [_ip(self.namespace, f"addr add {self.interface}{' brd +' if self.broadcast else ''} dev {self.device}")]


@dataclass(frozen=True, slots=True)
class DeleteAddress:
    namespace: str
    device: str
    interface: IPv4Interface
    broadcast: bool = True

    def inverse(self) -> Step:
        return AddAddress(self.namespace, self.device, self.interface, self.broadcast)

    def commands(self) -> list[str]:
        return [_ip(self.namespace, f"addr del {self.interface} dev {self.device}")]


@dataclass(frozen=True, slots=True)
class AddRoute:
    """`destination` 0.0.0.0/0 is the default route. `device` None: the kernel finds it from `via`."""

    namespace: str
    destination: IPv4Network
    via: IPv4Address | None = None
    device: str | None = None

    def inverse(self) -> Step:
        return DeleteRoute(self.namespace, self.destination, self.via, self.device)

    def commands(self) -> list[str]:
        return [_ip(self.namespace, f"route add {_route(self)}")]


@dataclass(frozen=True, slots=True)
class DeleteRoute:
    namespace: str
    destination: IPv4Network
    via: IPv4Address | None = None
    device: str | None = None

    def inverse(self) -> Step:
        return AddRoute(self.namespace, self.destination, self.via, self.device)

    def commands(self) -> list[str]:
        return [_ip(self.namespace, f"route del {_route(self)}")]


def _route(step: AddRoute | DeleteRoute) -> str:
    words = ["default" if step.destination.prefixlen == 0 else str(step.destination)]
    words += ["via", str(step.via)] if step.via else []
    words += ["dev", step.device] if step.device else []
    return " ".join(words)


@dataclass(frozen=True, slots=True)
class AddNeighbour:
    """A permanent neighbour entry: who asks for `address` on this device is answered by the proxy (libnetwork osl/neigh_linux.go)."""

    namespace: str
    device: str
    address: IPv4Address
    mac: Mac

    def inverse(self) -> Step:
        return DeleteNeighbour(self.namespace, self.device, self.address, self.mac)

    def commands(self) -> list[str]:
        return [_ip(self.namespace, f"neigh add {self.address} lladdr {self.mac} dev {self.device} nud permanent")]


@dataclass(frozen=True, slots=True)
class DeleteNeighbour:
    namespace: str
    device: str
    address: IPv4Address
    mac: Mac

    def inverse(self) -> Step:
        return AddNeighbour(self.namespace, self.device, self.address, self.mac)

    def commands(self) -> list[str]:
        return [_ip(self.namespace, f"neigh del {self.address} dev {self.device}")]


@dataclass(frozen=True, slots=True)
class AddFdb:
    """A permanent entry of the VXLAN device's forwarding database: frames to `mac` go to the node `vtep`."""

    namespace: str
    device: str
    mac: Mac
    vtep: IPv4Address

    def inverse(self) -> Step:
        return DeleteFdb(self.namespace, self.device, self.mac, self.vtep)

    def commands(self) -> list[str]:
        return [f"bridge -n {quote(self.namespace)} fdb add {self.mac} dev {self.device} dst {self.vtep} self permanent"]


@dataclass(frozen=True, slots=True)
class DeleteFdb:
    namespace: str
    device: str
    mac: Mac
    vtep: IPv4Address

    def inverse(self) -> Step:
        return AddFdb(self.namespace, self.device, self.mac, self.vtep)

    def commands(self) -> list[str]:
        return [f"bridge -n {quote(self.namespace)} fdb del {self.mac} dev {self.device} dst {self.vtep} self"]


@dataclass(frozen=True, slots=True)
class ForgetMac:
    """What the bridge has learned of `mac` at this port goes (libnetwork osl/neigh_linux.go DeleteNeighbor); having learned nothing is no failure.

    Else frames to an endpoint that has moved here are sent to its old node until it speaks. Learned entries are the kernel's own: no inverse.
    """

    namespace: str
    device: str
    mac: Mac

    def inverse(self) -> None:
        return None

    def commands(self) -> list[str]:
        return [f"bridge -n {quote(self.namespace)} fdb del {self.mac} dev {self.device} master 2>/dev/null || true"]


@dataclass(frozen=True, slots=True)
class AddRules:
    """One nftables table, whole: `family` and `table` name it, `body` is what stands between its braces (nft(8) syntax). Loading it is atomic."""

    namespace: str
    family: str  # ip, inet, bridge, netdev
    table: str
    body: str

    def inverse(self) -> Step:
        return DeleteRules(self.namespace, self.family, self.table, self.body)

    def commands(self) -> list[str]:
        return [f"ip netns exec {quote(self.namespace)} nft {quote(f'table {self.family} {self.table} {{ {self.body} }}')}"]


@dataclass(frozen=True, slots=True)
class DeleteRules:
    namespace: str
    family: str
    table: str
    body: str

    def inverse(self) -> Step:
        return AddRules(self.namespace, self.family, self.table, self.body)

    def commands(self) -> list[str]:
        return [f"ip netns exec {quote(self.namespace)} nft delete table {self.family} {self.table}"]


@dataclass(frozen=True, slots=True)
class ReplaceRules:
    """Some chains of a table that is there, all at once: `chains` and `before` are (name, what stands between its braces).

    A chain in `before` alone goes, one in `chains` alone is new. Chains that are in neither are not touched, and neither is where a balancer among
    them has got to (numgen counts per rule, and begins anew with the rule).
    """

    namespace: str
    family: str
    table: str
    chains: tuple[tuple[str, str], ...]
    before: tuple[tuple[str, str], ...]

    def inverse(self) -> Step:
        return ReplaceRules(self.namespace, self.family, self.table, self.before, self.chains)

    def text(self) -> str:
        """What nft(8) is given. First the names, so that a rule may jump to a chain that comes later; last what nobody jumps to any more."""
        wanted = dict(self.chains)
        table = f"{self.family} {self.table}"
        names = "".join(f" chain {name} {{ }};" for name in wanted)
        bodies = "".join(f" chain {name} {{ {body} }};" for name, body in self.chains)
        flushed = [f"flush chain {table} {name}" for name, _ in self.before]
        gone = [f"delete chain {table} {name}" for name, _ in self.before if name not in wanted]
        return "\n".join([f"table {table} {{{names} }}", *flushed, f"table {table} {{{bodies} }}", *gone])

    def commands(self) -> list[str]:
        return [f"ip netns exec {quote(self.namespace)} nft {quote(self.text())}"]


@dataclass(frozen=True, slots=True)
class SetBackends:
    """The backends of an IPVS service for a firewall mark, (address, weight) each; None: there is no such service.

    Round robin and masquerading, as libnetwork has it (service_linux.go addLBBackend). Only what differs from `before` is told the kernel, so that
    the turn goes on where it was.
    """

    namespace: str
    mark: int
    backends: tuple[tuple[IPv4Address, int], ...] | None
    before: tuple[tuple[IPv4Address, int], ...] | None

    def inverse(self) -> Step:
        return SetBackends(self.namespace, self.mark, self.before, self.backends)

    def commands(self) -> list[str]:
        inside = f"ip netns exec {quote(self.namespace)} ipvsadm"
        if self.backends is None:
            return [f"{inside} -D -f {self.mark}"]
        had, wanted = dict(self.before or ()), dict(self.backends)
        lines = [f"{inside} -A -f {self.mark} -s rr"] if self.before is None else []
        for address, weight in self.backends:
            if had.get(address) != weight:
                lines.append(f"{inside} {'-e' if address in had else '-a'} -f {self.mark} -r {address} -m -w {weight}")
        return lines + [f"{inside} -d -f {self.mark} -r {address}" for address in had if address not in wanted]


@dataclass(frozen=True, slots=True)
class ForgetFlows:
    """What connection tracking knows of flows goes: of those led to one of `backends`, and of those of UDP to one of `ports` that were led nowhere.

    Datagrams to a backend that has gone would keep their entry alive for ever, and so would those that came before their port was published. Flows
    are the kernel's own: no inverse.
    """

    namespace: str
    backends: tuple[IPv4Address, ...] = ()
    ports: tuple[int, ...] = ()

    def inverse(self) -> None:
        return None

    def commands(self) -> list[str]:
        inside = f"ip netns exec {quote(self.namespace)} conntrack -D"
        lines = [f"{inside} -r {address}" for address in self.backends] + [f"{inside} -p udp --orig-port-dst {port}" for port in self.ports]
        return [f"{line} 2>/dev/null || true" for line in lines]


@dataclass(frozen=True, slots=True)
class SetQdisc:
    """The device's root queueing discipline, as tc(8) writes it: `tbf rate 10000000bit burst 32768 latency 50ms`, `netem delay 20ms loss 1%`."""

    namespace: str
    device: str
    words: str

    def inverse(self) -> Step:
        return UnsetQdisc(self.namespace, self.device, self.words)

    def commands(self) -> list[str]:
        return [f"tc -n {quote(self.namespace)} qdisc add dev {self.device} root {self.words}"]


@dataclass(frozen=True, slots=True)
class UnsetQdisc:
    namespace: str
    device: str
    words: str

    def inverse(self) -> Step:
        return SetQdisc(self.namespace, self.device, self.words)

    def commands(self) -> list[str]:
        return [f"tc -n {quote(self.namespace)} qdisc del dev {self.device} root"]


@dataclass(frozen=True, slots=True)
class AddXfrmState:
    """A security association: ESP in transport mode, rfc4106(gcm(aes)) with a 64-bit ICV (libnetwork drivers/overlay/encryption.go)."""

    namespace: str
    source: IPv4Address
    destination: IPv4Address
    spi: int
    reqid: int
    key: bytes  # the AES key and the four bytes of salt

    def inverse(self) -> Step:
        return DeleteXfrmState(self.namespace, self.source, self.destination, self.spi, self.reqid, self.key)

    def commands(self) -> list[str]:
        who = f"src {self.source} dst {self.destination} proto esp spi 0x{self.spi:08x}"
        return [_ip(self.namespace, f"xfrm state add {who} reqid {self.reqid} mode transport aead 'rfc4106(gcm(aes))' 0x{self.key.hex()} 64")]


@dataclass(frozen=True, slots=True)
class DeleteXfrmState:
    namespace: str
    source: IPv4Address
    destination: IPv4Address
    spi: int
    reqid: int
    key: bytes

    def inverse(self) -> Step:
        return AddXfrmState(self.namespace, self.source, self.destination, self.spi, self.reqid, self.key)

    def commands(self) -> list[str]:
        return [_ip(self.namespace, f"xfrm state delete src {self.source} dst {self.destination} proto esp spi 0x{self.spi:08x}")]


@dataclass(frozen=True, slots=True)
class AddXfrmPolicy:
    """Outbound: marked UDP to `port` between the two nodes leaves as ESP with this SPI. With `update` an existing one is replaced (key rotation)."""

    namespace: str
    source: IPv4Address
    destination: IPv4Address
    port: int
    mark: int
    spi: int
    reqid: int
    replaces: int | None = None  # the SPI of the policy it takes the place of

    def inverse(self) -> Step:
        if self.replaces is None:
            return DeleteXfrmPolicy(self.namespace, self.source, self.destination, self.port, self.mark, self.spi, self.reqid)
        return AddXfrmPolicy(self.namespace, self.source, self.destination, self.port, self.mark, self.replaces, self.reqid, self.spi)

    def commands(self) -> list[str]:
        verb = "add" if self.replaces is None else "update"
        template = f"tmpl src {self.source} dst {self.destination} proto esp spi 0x{self.spi:08x} reqid {self.reqid} mode transport"
        return [_ip(self.namespace, f"xfrm policy {verb} {_policy(self)} {template}")]


@dataclass(frozen=True, slots=True)
class DeleteXfrmPolicy:
    namespace: str
    source: IPv4Address
    destination: IPv4Address
    port: int
    mark: int
    spi: int
    reqid: int

    def inverse(self) -> Step:
        return AddXfrmPolicy(self.namespace, self.source, self.destination, self.port, self.mark, self.spi, self.reqid)

    def commands(self) -> list[str]:
        return [_ip(self.namespace, f"xfrm policy delete {_policy(self)}")]


def _policy(step: AddXfrmPolicy | DeleteXfrmPolicy) -> str:
    return f"src {step.source}/32 dst {step.destination}/32 proto udp dport {step.port} dir out mark 0x{step.mark:x} mask 0xffffffff"


Step = (
    AddNamespace
    | DeleteNamespace
    | SetSysctl
    | AddVeth
    | AddBridge
    | AddVxlan
    | AddTap
    | DeleteLink
    | MoveLink
    | SetMaster
    | SetNoMaster
    | SetUp
    | SetDown
    | SetMtu
    | SetOffload
    | AddAddress
    | DeleteAddress
    | AddRoute
    | DeleteRoute
    | AddNeighbour
    | DeleteNeighbour
    | AddFdb
    | DeleteFdb
    | ForgetMac
    | AddRules
    | DeleteRules
    | ReplaceRules
    | SetBackends
    | ForgetFlows
    | SetQdisc
    | UnsetQdisc
    | AddXfrmState
    | DeleteXfrmState
    | AddXfrmPolicy
    | DeleteXfrmPolicy
)


def commands(steps: Iterable[Step]) -> list[str]:
    """What a person would type, in the same order."""
    return [line for step in steps for line in step.commands()]


def inverses(steps: Iterable[Step]) -> list[Step]:
    """The steps that take these back: the inverse of each, last first. A step without an inverse is left out."""
    return [inverse for step in reversed(list(steps)) if (inverse := step.inverse()) is not None]
