"""`vxtool swarm ca`."""

from __future__ import annotations

from .refused import refusing

__all__ = ["command"]

command = refusing("ca", "a lab has no certificates: its nodes know one another by a token")
