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
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["PORT", "Lines", "line"]

PORT = 2377
LONGEST = 64 << 20  # bytes of a line: the assignments of a node with 10,000 tasks are 10 MB


class Lines:
    """Whole lines out of the pieces in which they arrive."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, piece: bytes) -> Iterator[dict[str, Any]]:
        """The messages that are complete now. ValueError when what arrives is none."""
        self._rest += piece
        if len(self._rest) > LONGEST:
            raise ValueError("a line without an end")
        while (end := self._rest.find(b"\n")) >= 0:
            text = bytes(self._rest[:end])
            del self._rest[: end + 1]
            message = json.loads(text)
            if not isinstance(message, dict):
                raise ValueError("a message is an object")
            yield message


def line(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"
