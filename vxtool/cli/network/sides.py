"""The two things that `network connect` and `disconnect` are about, as ids."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vxtool.errors import UsageError

from .finding import found
from .local import LocalNetwork

if TYPE_CHECKING:
    from vxtool.swarm.view import View

__all__ = ["sides"]


def sides(view: View, network: str, container: str) -> tuple[str, str]:
    """(network's id, container's id). UsageError for what is no container, or no network of the swarm."""
    known = found(view, network, view.manager)
    if isinstance(known, LocalNetwork):
        raise UsageError(f"{known.name} is each node's own: only attachable overlay networks can be connected to")
    try:
        task = view.task(container)
    except UsageError:
        raise UsageError(f"No such container: {container}") from None
    return known.id, task.id
