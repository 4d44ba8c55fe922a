"""How a task is made from its service, and when it no longer is what its service says (swarmkit manager/orchestrator/task.go)."""

from __future__ import annotations

from dataclasses import replace

from vxtool.errors import UsageError
from vxtool.model import Availability, NodeState, ServiceMode, TaskState
from vxtool.swarm import constraint
from vxtool.swarm.objects import Node, Service, Task

__all__ = ["CREATED", "constraints_of", "invalid", "is_dirty", "new_task"]

CREATED = "created"


def new_task(service: Service, id: str, slot: int, node: str, now: float, desired: TaskState = TaskState.RUNNING) -> Task:
    """An attempt at a slot (`node` "") or at a node of a global service (`slot` 0)."""
    spec = service.spec
    iteration = service.job_iteration if spec.mode in (ServiceMode.REPLICATED_JOB, ServiceMode.GLOBAL_JOB) else None
    return Task(
        id,
        service.id,
        slot,
        node,
        spec.task,
        service.spec_version,
        spec.endpoint,
        TaskState.NEW,
        desired,
        CREATED,
        "",
        (),
        iteration,
        now,
        now,
    )


def is_dirty(service: Service, task: Task, node: Node | None = None) -> bool:
    """Whether an update must replace the task (IsTaskDirty).

    Not when only its placement has changed and the node it is on still satisfies the constraints; nor when only the way of pulling an image has
    changed that was pulled already.
    """
    if task.spec_version is not None and task.spec_version == service.spec_version:
        return False
    wanted = service.spec.task
    pulled = task.desired <= TaskState.RUNNING and TaskState.READY <= task.state <= TaskState.RUNNING
    if pulled and wanted.registry_auth != task.spec.registry_auth:
        wanted = replace(wanted, registry_auth=task.spec.registry_auth)
    if wanted != task.spec and node is not None and replace(wanted, placement=task.spec.placement) == task.spec:
        return not constraint.node_matches(constraints_of(service), node) or task.endpoint != service.spec.endpoint
    return wanted != task.spec or task.endpoint != service.spec.endpoint


def invalid(node: Node | None) -> bool:
    """Whether no task may stay on a node: it is gone, down or drained (InvalidNode)."""
    return node is None or node.state is NodeState.DOWN or node.availability is Availability.DRAIN


def constraints_of(service: Service) -> tuple[constraint.Constraint, ...]:
    try:
        return constraint.parse(service.spec.task.placement.constraints)
    except UsageError:  # was refused when the service was made
        return ()
