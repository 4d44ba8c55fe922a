"""What the manager and an agent say to one another: one JSON object a line, each way, over the underlay (TCP 2377).

Knows the messages and how to put lines together from pieces; opens no socket. Docker speaks gRPC under mutual TLS here; a lab's nodes are one
machine's, and a token with a secret is all they show.

    agent                                                     manager
    {"join": {"token", "name", "address", "availability"}}    {"joined": {"node", "secret"}}
    {"open": {"node", "secret", "described": {...}}}          {"session": {"heartbeat", "keys"}}, then {"told": ...}
    {"beat": true}                                            {"beat": SECONDS}
    {"report": [[TASK, STATE, MESSAGE, ERROR], ...]}
    {"bye": true}                                             the node is down at once
                                                              {"told": {"tasks": [...], "gone": [ID...], "networks": [...], "attachments": [...]}}
                                                              {"refused": SENTENCE}, and it hangs up
                                                              {"removed": true}, and it hangs up: the node is part of this swarm no more

Nobody has proved who he is before his `open` has succeeded: until then a line has at most BEFORE_OPEN bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["BEFORE_OPEN", "LONGEST", "PORT", "Lines", "line"]

PORT = 2377
LONGEST = 64 << 20  # bytes of a line: the assignments of a node with 10,000 tasks are 10 MB
BEFORE_OPEN = 64 << 10


class Lines:
    """Whole lines out of the pieces in which they arrive."""

    def __init__(self, longest: int = LONGEST) -> None:
        self.longest = longest
        """Bytes that a line may have; may be changed at any time."""
        self._rest = bytearray()
        self._searched = 0  # bytes of the rest in which no line ends

    def feed(self, piece: bytes) -> Iterator[dict[str, Any]]:
        """The messages that are complete now. ValueError when what arrives is none."""
        self._rest += piece
        while (end := self._rest.find(b"\n", self._searched)) >= 0:
            if end > self.longest:
                raise ValueError(f"a line of {end} bytes")
            text = bytes(self._rest[:end])
            del self._rest[: end + 1]
            self._searched = 0
            yield _message(text)
        self._searched = len(self._rest)
        if self._searched > self.longest:
            raise ValueError("a line without an end")


def _message(text: bytes) -> dict[str, Any]:
    try:
        message = json.loads(text)
    except RecursionError:
        raise ValueError("a message within a message within a message") from None
    if not isinstance(message, dict) or not message:
        raise ValueError("a message is an object with a word in it")
    return message


def line(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"
