"""Messages as bytes and back: a JSON list of its sender and what it says. Knows the shapes of messages, never their consequences.

Datagrams and exchanges look the same. Whatever is not a message is no error but nothing: bytes come from strangers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address
from typing import Any

__all__ = ["LARGEST", "SAID", "Message", "Sender", "encode", "is_address", "join", "room", "split"]

LARGEST = 1 << 26  # bytes of an exchange that are looked at
# Numbers that are heard are smaller than those that may be said: whatever is said of a node, it can deny it with one more.
_HEARD = 1 << 52
SAID = 1 << 53
_TEXT = 256
_DEPTH = 16
_MARK = "vxgossip1"

Message = list[Any]
Sender = tuple[str, str, int, int]  # name, address, life, incarnation

# The words of the protocol, and what follows each of them.
_SHAPES: dict[str, tuple[type, ...]] = {
    "ping": (str, int, str),  # number, who is meant
    "ack": (str, int),
    "nack": (str, int),
    "ask": (str, int, str, str),  # number, whom to ping, its address
    "alive": (str, str, str, int, int),  # name, address, life, incarnation
    "suspect": (str, str, int, int, str),  # name, life, incarnation, who says so
    "dead": (str, str, int, int, str),  # the same; one that says it of itself has left
    "in": (str, str, int, str, int),  # name, life, network, time
    "out": (str, str, int, str, int),
    "set": (str, str, int, str, str, str, int, dict),  # owner, life, network, table, key, time, value
    "gone": (str, str, int, str, str, str, int),
    "sync": (str, list),  # networks whose records are all here
}
_SENDER: tuple[type, ...] = (str, str, int, int)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


_decode = json.JSONDecoder(parse_constant=_refuse).decode
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def encode(*message: Any) -> bytes:
    """One message. Raises ValueError for what would not be understood, or what JSON cannot say."""
    if not _is_message(list(message), SAID):
        raise ValueError(f"no message of gossip: {message[:3]}")
    if _is_deep(message[-1], _DEPTH):
        raise ValueError(f"a value of gossip is nested more than {_DEPTH} deep")
    return _encode(message).encode("ascii")


def join(sender: Sender, messages: Iterable[bytes]) -> bytes:
    return b",".join((_head(sender), *messages)) + b"]"


def room(sender: Sender, size: int) -> int:
    """How many bytes of messages fit into a datagram of this size, each counted with one byte more than it has."""
    return size - len(_head(sender)) - 1


def split(data: bytes, size: int) -> tuple[Sender, list[Message]] | None:
    """Who says it, and what; messages of an unknown shape are left out. None: it is no gossip, or larger than `size`."""
    if len(data) > size:
        return None
    try:
        said = _decode(data.decode("ascii"))
    except (ValueError, RecursionError):
        return None
    if type(said) is not list or len(said) < 2 or said[0] != _MARK:
        return None
    sender = said[1]
    if type(sender) is not list or not _fits(sender, _SENDER, _HEARD) or not is_address(sender[1]):
        return None
    return (sender[0], sender[1], sender[2], sender[3]), [message for message in said[2:] if _is_message(message, _HEARD)]


@lru_cache(1024)
def is_address(text: str) -> bool:
    try:
        return str(IPv4Address(text)) == text
    except AddressValueError:
        return False


def _is_deep(value: Any, levels: int) -> bool:
    if type(value) is dict:
        value = value.values()
    elif type(value) is not list:
        return False
    return levels == 0 or any(_is_deep(inner, levels - 1) for inner in value)


def _head(sender: Sender) -> bytes:
    return b"[" + _encode(_MARK).encode("ascii") + b"," + _encode(sender).encode("ascii")


def _is_message(message: Any, bound: int) -> bool:
    if type(message) is not list or not message or type(message[0]) is not str:
        return False
    shape = _SHAPES.get(message[0])
    return shape is not None and _fits(message, shape, bound)


def _fits(fields: list[Any], shape: tuple[type, ...], bound: int) -> bool:
    # `type`, not isinstance: true is no number.
    if tuple(map(type, fields)) != shape:
        return False
    for field in fields:
        if type(field) is int:
            if not 0 <= field < bound:
                return False
        elif type(field) is str and len(field) > _TEXT:
            return False
    return True
