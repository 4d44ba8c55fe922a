"""`vxtool swarm unlock-key`."""

from __future__ import annotations

from .refused import refusing

__all__ = ["command"]

command = refusing("unlock-key", "a lab's manager has no unlock key: it writes nothing down that could be locked")
