"""`vxtool swarm unlock`."""

from __future__ import annotations

from .refused import refusing

__all__ = ["command"]

command = refusing("unlock", "swarm is not locked, and in a lab it cannot be")
