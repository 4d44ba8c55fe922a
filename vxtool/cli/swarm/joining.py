"""The command with which a node joins, as `swarm init` and `swarm join-token` print it."""

from __future__ import annotations

from .places import PORT

__all__ = ["instructions"]


def instructions(role: str, token: str, address: str) -> str:
    return f"To add a {role} to this swarm, run the following command:\n\n    vxtool swarm join --token {token} {address}:{PORT}\n"
