"""The nouns of the vectors as objects of the control plane."""

from __future__ import annotations

from typing import Any

from vxtool.model import Availability, NodeState, Role
from vxtool.swarm.objects import Node, Platform, Resources

__all__ = ["node_of"]


def node_of(facts: dict[str, Any]) -> Node:
    platform = facts.get("platform")
    has = {"nano_cpus", "memory_bytes", "generic_discrete"} & set(facts)
    return Node(
        id=facts["id"],
        hostname=facts.get("hostname", ""),
        address=facts.get("addr", ""),
        role=Role(facts.get("role") or "worker"),
        availability=Availability(facts.get("availability") or "active"),
        state=NodeState(facts.get("state") or "ready"),
        labels=facts.get("labels") or {},
        described=not facts.get("no_description", False),
        engine_labels=facts.get("engine_labels") or {},
        platform=Platform(platform.get("os", ""), platform.get("arch", "")) if platform else None,
        resources=Resources(facts.get("nano_cpus", 0), facts.get("memory_bytes", 0), facts.get("generic_discrete") or {}) if has else None,
        plugins=tuple((kind, name) for kind, name in facts.get("plugins") or ()),
    )
