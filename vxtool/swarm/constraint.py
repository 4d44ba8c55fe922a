"""Placement constraints: `node.labels.zone==eu`, parsed and compared as swarmkit does (manager/constraint/constraint.go).

Globs and regular expressions are not interpreted: values are compared as they are, whatever their case.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from vxtool.errors import UsageError
from vxtool.swarm.objects import Node

__all__ = ["Constraint", "node_matches", "parse"]

# The form the real code asks for. "$" also matches before a final line feed in Python; fullmatch does not.
_KEY = re.compile(r"[a-z_][a-z0-9\-_.]+", re.IGNORECASE | re.ASCII)
_VALUE = re.compile(r"[a-z0-9:\-_\s.*()?+\[\]\\^$|/]+", re.IGNORECASE | re.ASCII)

_NODE_LABELS = "node.labels."
_ENGINE_LABELS = "engine.labels."


@dataclass(frozen=True, slots=True)
class Constraint:
    key: str  # as written
    equal: bool  # == or !=
    value: str

    def matches(self, *values: str) -> bool:
        """Whether one of the node's values equals (none equals, for `!=`) the wanted one, whatever the case."""
        return any(value.casefold() == self.value.casefold() for value in values) is self.equal

    def __str__(self) -> str:
        return f"{self.key}{'==' if self.equal else '!='}{self.value}"


def parse(expressions: Iterable[str]) -> tuple[Constraint, ...]:
    """Raises UsageError, in swarmkit's words, for the first one that is none."""
    parsed = []
    for text in expressions:
        for operator in ("==", "!="):
            key, found, value = text.partition(operator)
            if found:
                break
        else:
            raise UsageError("constraint expected one operator from ==, !=")
        key, value = key.strip(), value.strip()
        if not _KEY.fullmatch(key):
            raise UsageError(f"key '{key}' is invalid")
        if not _VALUE.fullmatch(value):
            raise UsageError(f"value '{value}' is invalid")
        parsed.append(Constraint(key, operator == "==", value))
    return tuple(parsed)


def node_matches(constraints: Iterable[Constraint], node: Node) -> bool:
    """Whether the node satisfies all of them (NodeMatches). A key that nobody knows is never satisfied, not even by `!=`."""
    return all(_one_matches(constraint, node) for constraint in constraints)


def _one_matches(constraint: Constraint, node: Node) -> bool:
    key = constraint.key.lower()
    if key in _PLAIN:
        return constraint.matches(_PLAIN[key](node))
    if key == "node.ip":
        return _address_matches(constraint, node.address)
    for prefix, labels in ((_NODE_LABELS, node.labels), (_ENGINE_LABELS, node.engine_labels)):
        # The label's own name keeps its case; a label that is not there is empty.
        if key.startswith(prefix) and len(key) > len(prefix):
            return constraint.matches(labels.get(constraint.key[len(prefix) :], ""))
    return False


def _address_matches(constraint: Constraint, address: str) -> bool:
    """The value is an address or a block; one that is neither never matches. A node without an address is in no block and equals none."""
    wanted = _address(constraint.value)
    own = _address(address)
    if wanted is not None:
        return (own == wanted) is constraint.equal
    block, _, length = constraint.value.partition("/")
    base = _address(block)
    if base is None or not length.isdecimal() or int(length) > base.max_prefixlen:
        return False
    shift = base.max_prefixlen - int(length)
    inside = own is not None and own.version == base.version and int(own) >> shift == int(base) >> shift
    return inside is constraint.equal


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """As Go's net.ParseIP: an IPv4 address in IPv6 form is that IPv4 address."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


_PLAIN: Mapping[str, Callable[[Node], str]] = {
    "node.id": lambda node: node.id,
    "node.hostname": lambda node: node.hostname,
    "node.role": lambda node: node.role.value,
    "node.platform.os": lambda node: node.platform.os if node.platform else "",
    "node.platform.arch": lambda node: node.platform.arch if node.platform else "",
}
