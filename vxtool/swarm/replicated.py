"""A replicated service has as many slots filled as it has replicas (swarmkit manager/orchestrator/replicated/slot.go, services.go)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from vxtool.model import TaskState
from vxtool.swarm.objects import Service, Task
from vxtool.swarm.restart import Restarts

__all__ = ["Scaling", "reconcile", "slots_of"]


@dataclass(frozen=True, slots=True)
class Scaling:
    """What is to be done about the slots of a service."""

    keep: tuple[tuple[Task, ...], ...]  # slots that stay, for the updater to look at
    create: tuple[int, ...]  # slots that get a task
    remove: tuple[Task, ...]  # tasks that are told to go: desired state REMOVE
    delete: tuple[Task, ...]  # tasks of slots that nobody wants and that do not run: they go at once


def slots_of(tasks: Iterable[Task]) -> Mapping[int, list[Task]]:
    slots: dict[int, list[Task]] = {}
    for task in tasks:
        slots.setdefault(task.slot, []).append(task)
    return slots


def reconcile(service: Service, tasks: Iterable[Task], restarts: Restarts) -> Scaling:
    """Missing slots are filled lowest first; of too many the ones go that leave the nodes balanced.

    Those that do not run count as last, then the higher numbers; each slot gets its ordinal among the slots of its node, and the highest ordinals
    go. A slot that is on no node yet, or has two tasks, goes before all others.
    """
    running: dict[int, tuple[Task, ...]] = {}
    dead: dict[int, list[Task]] = {}
    for number, slot in slots_of(tasks).items():
        updatable = restarts.updatable(slot, service)
        if updatable:
            running[number] = updatable
        else:
            dead[number] = slot
    wanted = service.spec.replicas
    create: list[int] = []
    number = 0
    while len(running) + len(create) < wanted:
        number += 1
        if number not in running:
            create.append(number)
            dead.pop(number, None)  # its history stays with the new task
    order = _order_of_staying(running.values()) if wanted < len(running) else list(running.values())
    return Scaling(
        keep=tuple(order[:wanted]),
        create=tuple(create),
        remove=tuple(task for slot in order[wanted:] for task in slot),
        delete=tuple(task for slot in dead.values() for task in slot),
    )


def _order_of_staying(slots: Iterable[Sequence[Task]]) -> list[tuple[Task, ...]]:
    in_turn = sorted(slots, key=lambda slot: (not any(task.state is TaskState.RUNNING for task in slot), slot[0].slot))
    on_node: Counter[str] = Counter()
    ranked = []
    for slot in in_turn:
        ordinal = None
        if len(slot) == 1 and slot[0].node:
            on_node[slot[0].node] += 1
            ordinal = on_node[slot[0].node]
        ranked.append((ordinal is None, ordinal or 0, tuple(slot)))
    return [slot for _, _, slot in sorted(ranked, key=lambda entry: entry[:2])]
