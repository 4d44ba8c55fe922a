"""Address pools, addresses and VNIs, handed out in the order of the real allocators.

Knows libnetwork's default IPAM driver (ipam/allocator.go, ipams/defaultipam) and the overlay manager's VNIs (drivers/overlay/ovmanager), of both
engines where they differ. Pure state machines: who keeps them over a restart keeps the calls, or the state, elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from vxtool.errors import UsageError
from vxtool.model import Engine

__all__ = ["FIRST_VNI", "LAST_VNI", "Addresses", "DefaultPool", "Scope", "Vnis"]

FIRST_VNI = 4096
"""What the first network without a VNI of its own gets: a swarm's ingress (ovmanager.go vxlanIDStart)."""

LAST_VNI = (1 << 24) - 1


class Scope(StrEnum):
    """Whose addresses: the swarm's, or those of one engine (its bridges)."""

    GLOBAL = "global"
    LOCAL = "local"


@dataclass(frozen=True, slots=True)
class DefaultPool:
    """`swarm init --default-addr-pool BASE --default-addr-pool-mask-length SIZE`."""

    base: IPv4Network
    size: int  # prefix length of the networks cut out of it


def _pools(*texts: str) -> tuple[DefaultPool, ...]:
    return tuple(DefaultPool(IPv4Network(base), int(size)) for base, _, size in (text.partition(" ") for text in texts))


DEFAULT_POOLS = {  # ipamutils/utils.go
    Scope.GLOBAL: _pools("10.0.0.0/8 24"),
    Scope.LOCAL: _pools(
        "172.17.0.0/16 16", "172.18.0.0/16 16", "172.19.0.0/16 16", "172.20.0.0/14 16", "172.24.0.0/14 16", "172.28.0.0/14 16", "192.168.0.0/16 20"
    ),
}

_SPACES = {Scope.GLOBAL: "GlobalDefault", Scope.LOCAL: "LocalDefault"}

# The same refusals, in the words of each engine (ipamapi/contract.go; daemon/libnetwork/ipamapi).
_WORDS = {
    Engine.V19_03: {
        "exhausted": "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network",
        "no address": "No available addresses on this pool",
        "out of range": "Requested address is out of range",
        "in use": "Address already in use",
        "overlap": "Pool overlaps with other one on this address space",
        "pool": "Invalid Address Pool",
        "subpool": "Invalid Address SubPool",
    },
    Engine.TODAY: {
        "exhausted": "all predefined address pools have been fully subnetted",
        "no address": "no available addresses on this pool",
        "out of range": "requested address is out of range",
        "in use": "address already in use",
        "overlap": "invalid pool request: Pool overlaps with other one on this address space",
        "pool": "invalid address pool",
        "subpool": "invalid address subpool",
    },
}


class _Bits:
    """Which of `size` numbers are taken, and where the last search ended (libnetwork bitseq.Handle).

    Numbers are kept as a set: a /8 with ten addresses costs ten entries. A search goes on after the last number it gave, or from the lowest
    (`serial` false); at the end it begins anew.
    """

    __slots__ = ("after", "size", "taken")

    def __init__(self, size: int) -> None:
        self.size = size
        self.taken: set[int] = set()
        self.after = 0

    def take(self, number: int) -> bool:
        """False when it was taken already."""
        if number in self.taken:
            return False
        self.taken.add(number)
        return True

    def take_any(self, first: int, last: int, serial: bool) -> int | None:
        begin = self.after if serial and first < self.after <= last else first
        for low, high in ((begin, last), (first, begin - 1)):
            found = next((number for number in range(low, high + 1) if number not in self.taken), None)
            if found is not None:
                self.taken.add(found)
                self.after = found + 1
                return found
        return None


@dataclass(slots=True)
class _Subnet:
    """A pool and its addresses; `users` counts the requests that share it (each with a range of its own)."""

    network: IPv4Network
    bits: _Bits
    users: int = 0


@dataclass(slots=True)
class _Pool:
    """What one request was given: a subnet, of which automatic addresses come from `range` only."""

    subnet: _Subnet
    range: IPv4Network | None
    taken: set[IPv4Address] = field(default_factory=set)


class Addresses:
    """The pools of one scope. Pools are named by whoever asks for them (a network's id); every refusal is a UsageError in the engine's own words."""

    def __init__(self, scope: Scope = Scope.GLOBAL, default: Sequence[DefaultPool] | None = None, engine: Engine = Engine.V19_03) -> None:
        """`default` None: the engine's own pools. Raises UsageError when a pool is smaller than what is to be cut out of it."""
        self._scope = scope
        self._engine = engine
        self._words = _WORDS[engine]
        self._default = tuple(DEFAULT_POOLS[scope] if default is None else default)
        for index, pool in enumerate(self._default):
            if pool.size < pool.base.prefixlen:
                given = f"network at index {index} (&{{{pool.base} {pool.size}}}) has a smaller prefix (/{pool.base.prefixlen})"
                raise UsageError(
                    f"invalid pools size: {pool.size}"
                    if engine is Engine.V19_03
                    else f"could not construct {scope} address space: {given} than the target size of that pool (/{pool.size})"
                )
        self._after: IPv4Network | None = None  # 19.03: the default pool handed out last
        self._subnets: dict[IPv4Network, _Subnet] = {}
        self._pools: dict[str, _Pool] = {}

    def pool(self, name: str, subnet: str = "", range: str = "") -> IPv4Network:
        """Takes a pool: the one asked for (host bits are cut off), or the next of the default ones.

        Raises UsageError when it overlaps with another, cannot be parsed, or no default one is left.
        """
        if name in self._pools:
            raise UsageError(f"the pool {name} exists already")
        if not subnet:
            if range:
                raise UsageError(self._unparsable(subnet, range, "subpool"))
            network, part = self._next(), None
        else:
            network = self._parsed(subnet, subnet, range, "pool")
            part = self._parsed(range, subnet, range, "subpool") if range else None
            if network in self._subnets and (part is None or self._known(network, part)):
                raise UsageError(self._words["overlap"])
            # A pool with a range is put beside others of the same subnet, and 19.03 does not look for overlaps with other subnets then.
            if network not in self._subnets and (part is None or self._engine is Engine.TODAY) and self._overlaps(network):
                raise UsageError(self._words["overlap"])
        known = self._subnets.get(network) or self._made(network)
        known.users += 1
        self._pools[name] = _Pool(known, part)
        return network

    def free_pool(self, name: str) -> None:
        """Gives a pool back, with every address taken from it. Raises KeyError when there is none of that name."""
        pool = self._pools.pop(name)
        for address in pool.taken:
            pool.subnet.bits.taken.discard(int(address) - int(pool.subnet.network.network_address))
        pool.subnet.users -= 1
        if not pool.subnet.users:
            del self._subnets[pool.subnet.network]

    def address(self, name: str, wanted: IPv4Address | None = None, serial: bool = True) -> IPv4Interface:
        """Takes an address of a pool: `wanted`, or the next one. `serial` (as swarm asks): after the last handed out, else the lowest free."""
        pool = self._pools[name]
        network, bits = pool.subnet.network, pool.subnet.bits
        base = int(network.network_address)
        if wanted is not None:
            if wanted not in network:
                raise UsageError(self._words["out of range"])
            if len(bits.taken) >= bits.size:
                raise UsageError(self._words["no address"])
            if not bits.take(int(wanted) - base):
                raise UsageError(self._words["in use"])
            address = wanted
        else:
            first, last = self._bounds(pool)
            number = bits.take_any(first, last, serial)
            if number is None:
                raise UsageError(self._words["no address"])
            address = network.network_address + number
        pool.taken.add(address)
        # From numbers: an IPv4Address would be written out and parsed again.
        return IPv4Interface((int(address), network.prefixlen))

    def free(self, name: str, address: IPv4Address) -> None:
        """Gives an address back; one that is not taken is none of our business."""
        pool = self._pools[name]
        if address in pool.taken:
            pool.taken.remove(address)
            pool.subnet.bits.taken.discard(int(address) - int(pool.subnet.network.network_address))

    def _next(self) -> IPv4Network:
        if self._engine is Engine.TODAY:  # the lowest that is free
            found = next((network for network in self._candidates() if not self._overlaps(network)), None)
        else:  # the first free one behind the last handed out, then from the beginning (updatePredefinedStartIndex)
            found = next((network for network in self._behind() if not self._overlaps(network)), None)
        if found is None:
            raise UsageError(self._words["exhausted"])
        self._after = found
        return found

    def _candidates(self) -> Iterator[IPv4Network]:
        for pool in self._default:
            yield from pool.base.subnets(new_prefix=pool.size)

    def _behind(self) -> Iterator[IPv4Network]:
        before = []
        candidates = self._candidates()
        if self._after is not None:
            for network in candidates:
                before.append(network)
                if network == self._after:
                    break
        yield from candidates
        yield from before

    def _overlaps(self, network: IPv4Network) -> bool:
        return any(network.overlaps(known) for known in self._subnets)

    def _known(self, network: IPv4Network, part: IPv4Network) -> bool:
        return any(pool.subnet.network == network and pool.range == part for pool in self._pools.values())

    def _made(self, network: IPv4Network) -> _Subnet:
        bits = _Bits(network.num_addresses)
        if network.prefixlen < 31 or self._engine is Engine.V19_03:  # the network's own address and its broadcast address
            bits.taken.update((0, network.num_addresses - 1))
        return self._subnets.setdefault(network, _Subnet(network, bits))

    def _bounds(self, pool: _Pool) -> tuple[int, int]:
        network, part = pool.subnet.network, pool.range
        if part is None:
            return 0, network.num_addresses - 1
        if self._engine is Engine.TODAY and not part.subnet_of(network):
            raise UsageError(f"add-any, range '{part}' is not in subnet '{network}'")
        # 19.03 looks at the host part only, so that a range of another subnet stands for the same numbers in this one (getAddressRange).
        hosts = int(network.hostmask)
        return int(part.network_address) & hosts, int(part.broadcast_address) & hosts

    def _parsed(self, text: str, subnet: str, range: str, what: str) -> IPv4Network:
        address, slash, length = text.partition("/")
        try:
            if not slash or not length.isdecimal():
                raise ValueError
            return IPv4Network((IPv4Address(address), int(length)), strict=False)
        except ValueError:
            raise UsageError(self._unparsable(subnet, range, what)) from None

    def _unparsable(self, subnet: str, range: str, what: str) -> str:
        return f'failed to parse pool request for address space "{_SPACES[self._scope]}" pool "{subnet}" subpool "{range}": {self._words[what]}'


class Vnis:
    """The VNIs of a swarm: one a subnet, serial from 4096, a freed one not used again before the others (ovmanager.go NetworkAllocate)."""

    def __init__(self) -> None:
        self._bits = _Bits(LAST_VNI + 1)

    def take(self, subnets: int, wanted: Iterable[int] = ()) -> tuple[int, ...]:
        """As many as there are subnets: first those the user wants (also below 4096), then the next free ones.

        Raises UsageError, and takes none, when one is in use already, or is no VNI.
        """
        taken: list[int] = []
        try:
            for vni in list(wanted)[:subnets]:
                if not 0 <= vni <= LAST_VNI:
                    raise UsageError(f"invalid vxlan id value {vni} passed: a VNI is between 0 and {LAST_VNI}")
                if not self._bits.take(vni):
                    raise UsageError(f"the VNI {vni} is in use by another network; choose another one")
                taken.append(vni)
            while len(taken) < subnets:
                free = self._bits.take_any(FIRST_VNI, LAST_VNI, serial=True)
                if free is None:
                    raise UsageError("every VNI is in use; remove a network")
                taken.append(free)
        except UsageError:
            self.free(taken)
            raise
        return tuple(taken)

    def free(self, vnis: Iterable[int]) -> None:
        self._bits.taken.difference_update(vnis)
