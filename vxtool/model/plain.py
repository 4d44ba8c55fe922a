"""Nouns as JSON values, and back: frozen dataclasses, enums, addresses, collections.

Knows frozen dataclasses and JSON, and no noun in particular. What is written can be read again to an equal value, whatever the dataclass is.
"""

from __future__ import annotations

import json
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Network
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from vxtool.errors import UsageError

from .addresses import Mac

__all__ = ["plain", "revive"]

T = TypeVar("T")

_WRITTEN: Mapping[type, Callable[[str], Any]] = {
    Mac: Mac.parse,
    IPv4Address: IPv4Address,
    IPv6Address: IPv6Address,
    IPv4Interface: IPv4Interface,
    IPv4Network: IPv4Network,
    IPv6Network: IPv6Network,
    bytes: bytes.fromhex,
}
"""What JSON holds as text, as people write it."""


def plain(value: Any) -> Any:
    """A noun as JSON values: a dataclass becomes an object of all its fields, a set a sorted list."""
    kind = type(value)
    if value is None or kind in (bool, int, float, str):
        return value
    if kind is bytes:
        return value.hex()
    if kind in _WRITTEN:
        return str(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, frozenset | set):
        return sorted(map(plain, value))
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if not is_dataclass(kind):
        raise TypeError(f"{kind.__name__} has no form in JSON")
    return {name: plain(getattr(value, name)) for name in _names(kind)}


def revive(kind: Callable[..., T], value: Any) -> T:
    """The noun that `plain` wrote: `revive(type(x), plain(x)) == x`. UsageError says which field holds what it should not."""
    revived: T = _reader(kind)(value, getattr(kind, "__name__", "value").lower())
    return revived


_Reader = Callable[[Any, str], Any]


@cache
def _names(kind: type) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


@cache
def _reader(kind: Any) -> _Reader:
    """A function (JSON value, where it stands) -> value of this type."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _one_of(arguments)
    if origin is tuple and arguments[-1] is not Ellipsis:
        return _tuple(tuple(map(_reader, arguments)))
    if origin in (tuple, frozenset):
        return _many(origin, _reader(arguments[0]))
    if origin is not None and issubclass(origin, Mapping):
        return _mapping(_reader(arguments[1]))
    if kind in _WRITTEN:
        return _written(kind)
    if is_dataclass(kind):
        return _object(kind)
    if issubclass(kind, Enum):
        return _choice(kind)
    return _literal(kind)


def _wrong(where: str, value: Any, wanted: str) -> UsageError:
    text = json.dumps(value)
    return UsageError(f"{where}: {text if len(text) < 60 else text[:56] + ' ...'} is not {wanted}")


def _literal(kind: type) -> _Reader:
    accepted = (int, float) if kind is float else (kind,)

    def read(value: Any, where: str) -> Any:
        if type(value) not in accepted:
            raise _wrong(where, value, {str: "a text", int: "a whole number", float: "a number", bool: "true or false", type(None): "null"}[kind])
        return kind(value) if value is not None else None

    return read


def _written(kind: type) -> _Reader:
    parse = _WRITTEN[kind]

    def read(value: Any, where: str) -> Any:
        try:
            if isinstance(value, str):
                return parse(value)
        except ValueError:
            pass
        raise _wrong(where, value, {Mac: "a MAC address", bytes: "bytes in hexadecimal"}.get(kind, f"an {kind.__name__}"))

    return read


def _choice(kind: type[Enum]) -> _Reader:
    def read(value: Any, where: str) -> Any:
        try:
            return kind(value)
        except ValueError:
            raise _wrong(where, value, f"one of {', '.join(str(one.value) for one in kind)}") from None

    return read


def _one_of(kinds: tuple[Any, ...]) -> _Reader:
    """The first that fits. Of a type and None, the type alone says what is wrong."""
    optional = type(None) in kinds
    readers = tuple(_reader(kind) for kind in kinds if kind is not type(None))

    def read(value: Any, where: str) -> Any:
        if value is None and optional:
            return None
        for reader in readers[:-1]:
            try:
                return reader(value, where)
            except UsageError:
                continue
        return readers[-1](value, where)

    return read


def _many(container: type, reader: _Reader) -> _Reader:
    def read(value: Any, where: str) -> Any:
        if not isinstance(value, list):
            raise _wrong(where, value, "a list")
        return container(reader(item, f"{where}[{index}]") for index, item in enumerate(value))

    return read


def _tuple(readers: tuple[_Reader, ...]) -> _Reader:
    def read(value: Any, where: str) -> Any:
        if not isinstance(value, list) or len(value) != len(readers):
            raise _wrong(where, value, f"a list of {len(readers)}")
        return tuple(reader(item, f"{where}[{index}]") for index, (reader, item) in enumerate(zip(readers, value, strict=True)))

    return read


def _mapping(reader: _Reader) -> _Reader:
    def read(value: Any, where: str) -> Any:
        if not isinstance(value, dict):
            raise _wrong(where, value, "an object")
        return {key: reader(item, f"{where}.{key}") for key, item in value.items()}

    return read


def _object(kind: Any) -> _Reader:
    hints = get_type_hints(kind)
    readers = {field.name: _reader(hints[field.name]) for field in fields(kind)}
    needed = [field.name for field in fields(kind) if field.default is MISSING and field.default_factory is MISSING]

    def read(value: Any, where: str) -> Any:
        if not isinstance(value, dict):
            raise _wrong(where, value, "an object")
        if unknown := value.keys() - readers.keys():
            raise UsageError(f"{where} has no {', '.join(map(repr, sorted(unknown)))}; there are {', '.join(readers)}")
        if missing := [name for name in needed if name not in value]:
            raise UsageError(f"{where} lacks {', '.join(missing)}")
        return kind(**{name: readers[name](item, f"{where}.{name}") for name, item in value.items()})

    return read
