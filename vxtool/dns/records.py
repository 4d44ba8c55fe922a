"""The names of every network, as libnetwork keeps them (LN19 network.go addSvcRecords, service_common.go addEndpointNameResolution).

Knows bindings and names; no message. A binding comes when a task is ready to be found, is disabled when it begins to stop, and goes when it has
stopped; `version` grows with every change, so that whoever remembers answers knows when to forget them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import TypeVar

__all__ = ["Binding", "Records"]

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Binding:
    """An endpoint in one network, and what it is known by."""

    network: str
    endpoint: str  # libnetwork's endpoint id
    container: str  # the task's or container's name: web.1.<task id>
    address: IPv4Address
    service: str = ""  # "": a standalone container
    service_id: str = ""
    vip: IPv4Address | None = None  # None: dnsrr, or no service
    aliases: tuple[str, ...] = ()  # other names of the service in this network
    task_aliases: tuple[str, ...] = ()  # other names of this one: the short container id


@dataclass(slots=True)
class _Network:
    """Names in lower case -> addresses, each with how many bindings say so; addresses -> names as they were written."""

    names: dict[str, Counter[IPv4Address]]
    pointers: dict[IPv4Address, Counter[str]]


class Records:
    """All names of all networks but the ingress network, which knows none."""

    def __init__(self) -> None:
        self.version = 0
        self._networks: dict[str, _Network] = {}
        self._bindings: dict[tuple[str, str], Binding] = {}  # by network and endpoint
        self._disabled: set[tuple[str, str]] = set()

    def bind(self, binding: Binding) -> None:
        """Makes an endpoint known; one that was known before is replaced."""
        key = (binding.network, binding.endpoint)
        if key in self._bindings:
            self.unbind(*key)
        self.version += 1
        self._bindings[key] = binding
        network = self._networks.setdefault(binding.network, _Network({}, {}))
        for name in _own_names(binding):
            _add(network.names, name.lower(), binding.address)
        _add(network.pointers, binding.address, binding.container)
        for name in _service_names(binding):
            # The virtual address is one record however many tasks there are; without one each task's address is.
            _add(network.names, name.lower(), binding.vip or binding.address)

    def disable(self, network: str, endpoint: str) -> None:
        """A task that begins to stop: its own names, its pointer and its place among `tasks.` go at once. The virtual address stays."""
        key = (network, endpoint)
        if key not in self._bindings or key in self._disabled:
            return
        self.version += 1
        self._disabled.add(key)
        binding = self._bindings[key]
        known = self._networks[network]
        for name in _own_names(binding):
            _remove(known.names, name.lower(), binding.address)
        _remove(known.pointers, binding.address, binding.container)
        if binding.vip is None:
            for name in _service_names(binding):
                _remove(known.names, name.lower(), binding.address)

    def unbind(self, network: str, endpoint: str) -> None:
        """A task that is gone. The service's name goes with its last one."""
        key = (network, endpoint)
        if key not in self._bindings:
            return
        self.disable(network, endpoint)
        self.version += 1
        self._disabled.discard(key)
        binding = self._bindings.pop(key)
        if binding.vip is not None:
            for name in _service_names(binding):
                _remove(self._networks[network].names, name.lower(), binding.vip)

    def addresses(self, network: str, name: str) -> tuple[IPv4Address, ...]:
        """What a name (in any case, without a final dot) stands for in one network; (): the network does not know it."""
        known = self._networks.get(network)
        return tuple(known.names.get(name.lower(), ())) if known else ()

    def pointer(self, network: str, address: IPv4Address) -> str | None:
        """The name of the endpoint that has an address, as it was written; aliases and virtual addresses have none."""
        known = self._networks.get(network)
        return next(iter(known.pointers.get(address, ())), None) if known else None


def _own_names(binding: Binding) -> list[str]:
    tasks = [f"tasks.{name}" for name in (binding.service, *binding.aliases)] if binding.service else []
    return [*tasks, binding.container, *binding.task_aliases]


def _service_names(binding: Binding) -> list[str]:
    return [binding.service, *binding.aliases] if binding.service else list(binding.aliases)


def _add(table: dict[K, Counter[V]], key: K, value: V) -> None:
    table.setdefault(key, Counter())[value] += 1


def _remove(table: dict[K, Counter[V]], key: K, value: V) -> None:
    counter = table[key]
    counter[value] -= 1
    if counter[value] <= 0:
        del counter[value]
    if not counter:
        del table[key]
