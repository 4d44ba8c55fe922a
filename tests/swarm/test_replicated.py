"""Which slots come and go when the number of replicas changes, as the real orchestrator did when it was run."""

from __future__ import annotations

from typing import Any

import pytest

from tests.vectors import cases
from vxtool.model import TaskState
from vxtool.swarm.objects import RestartPolicy, Service, ServiceSpec, Task, TaskSpec
from vxtool.swarm.replicated import reconcile
from vxtool.swarm.restart import RestartCondition, Restarts


@pytest.mark.parametrize("case", cases("scale"))
def test_slots_come_and_go_as_in_swarm(case: dict[str, Any]) -> None:
    tasks = [
        Task(
            f"t{number}",
            "web",
            facts.get("slot", 0),
            facts.get("node", ""),
            state=TaskState[facts.get("state", "new").upper()],
            desired=TaskState[facts.get("desired", "new").upper()],
        )
        for number, facts in enumerate(case.get("tasks") or ())
    ]
    scaling = reconcile(Service("web", ServiceSpec("web", replicas=case.get("replicas", 0))), tasks, Restarts())
    nothing: dict[str, list[int]] = {"removed_slots": [], "created_slots": [], "deleted_slots": []}
    assert {
        "removed_slots": sorted({task.slot for task in scaling.remove}),
        "created_slots": sorted(scaling.create),
        "deleted_slots": sorted({task.slot for task in scaling.delete}),
    } == nothing | {name: slots or [] for name, slots in case["expect"].items()}


def test_a_slot_whose_task_ended_for_good_stays_as_it_is() -> None:
    once = TaskSpec(restart=RestartPolicy(RestartCondition.NONE))
    done = Task("t1", "web", 1, "a", once, state=TaskState.COMPLETE, desired=TaskState.SHUTDOWN)
    scaling = reconcile(Service("web", ServiceSpec("web", once, replicas=1)), [done], Restarts())
    assert (scaling.keep, scaling.create) == (((done,),), ())


def test_a_slot_whose_task_failed_is_filled_again_under_its_old_number() -> None:
    failed = Task("t1", "web", 1, "a", state=TaskState.FAILED, desired=TaskState.SHUTDOWN)
    scaling = reconcile(Service("web", ServiceSpec("web", replicas=2)), [failed], Restarts())
    assert (scaling.create, scaling.delete) == ((1, 2), ())
