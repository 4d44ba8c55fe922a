"""Rolling updates come to what the real updater came to when it was run with a simulated agent."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from tests.vectors import cases
from vxtool.model import TaskState
from vxtool.swarm.identities import Identities
from vxtool.swarm.objects import (
    EndpointSpec,
    FailureAction,
    Node,
    Order,
    Placement,
    PortConfig,
    Resources,
    RestartPolicy,
    Service,
    ServiceSpec,
    Settings,
    Task,
    TaskNetwork,
    TaskSpec,
    UpdateConfig,
    UpdateState,
    UpdateStatus,
)
from vxtool.swarm.restart import Restarts
from vxtool.swarm.restarter import Restarter
from vxtool.swarm.store import Store
from vxtool.swarm.tasks import is_dirty
from vxtool.swarm.timers import Timers
from vxtool.swarm.updater import Updater, too_many_failures


class Updating:
    """The updater alone, as the vectors were made: no orchestrator follows, no scheduler; an agent starts and stops at once what it is told."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.failing = set(config.get("failing_slots") or ())
        replicas = config.get("replicas", 0)
        self.store = Store()
        self.timers = Timers()
        identities = Identities(Random(1))
        restarts = Restarts()
        self.restarter = Restarter(self.store, self.timers, identities, Settings(), restarts)
        self.updater = Updater(self.store, self.timers, identities, self.restarter, restarts)
        how = UpdateConfig(
            parallelism=config.get("parallelism", 0),
            failure_action=FailureAction(config.get("failure_action") or "pause"),
            monitor=config.get("monitor_ms", 0) / 1000,
            max_failure_ratio=config.get("max_failure_ratio", 0.0),
            order=Order(config.get("order") or "stop-first"),
        )
        old, new = (ServiceSpec("web", TaskSpec(image), replicas=replicas, update=how, rollback=how) for image in ("v:1", "v:2"))
        self.service = Service("s", new, 2)
        if config.get("has_previous_spec"):
            self.service = replace(self.service, previous_spec=old, previous_spec_version=1)
        if config.get("is_rollback"):
            self.service = replace(self.service, update_status=UpdateStatus(UpdateState.ROLLBACK_STARTED, "", 0.0))
        tasks = [Task(f"old{slot}", "s", slot, spec=old.task, spec_version=1, state=TaskState.RUNNING) for slot in range(1, replicas + 1)]
        with self.store.transaction() as change:
            change.service(None, self.service)
            for task in tasks:
                change.task(None, task)
        self.store.take()
        self.most_running = 0
        self.updater.update(self.service, [(task,) for task in tasks])

    def run(self, seconds: float) -> None:
        self._settle()
        while self.timers.ring(seconds):
            self._settle()

    def _settle(self) -> None:
        while True:
            changes = self.store.take()
            self.restarter.see(changes)
            self.updater.see(changes)
            if not (self.updater.move() or self.restarter.move() or self._agent()):
                return

    def _agent(self) -> bool:
        acted = False
        for task in list(self.store.tasks.values()):
            state = self._next(task)
            if state is not None:
                acted = True
                with self.store.transaction() as change:
                    change.task(task, task.told(state, "", self.timers.now))
                self.most_running = max(self.most_running, sum(one.state is TaskState.RUNNING for one in self.store.tasks.values()))
        return acted

    def _next(self, task: Task) -> TaskState | None:
        if task.state <= TaskState.RUNNING < task.desired:
            return TaskState.SHUTDOWN
        if task.desired is TaskState.RUNNING and task.state < TaskState.RUNNING:
            return TaskState.FAILED if task.slot in self.failing else TaskState.RUNNING
        return None


@pytest.mark.parametrize("case", cases("updates"))
def test_an_update_comes_to_what_it_comes_to_in_swarm(case: dict[str, Any]) -> None:
    updating = Updating(case["config"])
    updating.run(60.0)
    (service,) = updating.store.services.values()
    tasks = updating.store.tasks.values()
    new = {task.id: task for task in tasks if not task.id.startswith("old")}
    status = service.update_status
    assert status is not None
    message = status.message
    for id in new:
        message = message.replace(id, "<task-id>")
    came = {
        "state": status.state.name,
        "message": message,
        "spec_image": service.spec.task.image,
        "previous_spec_kept": service.previous_spec is not None,
        "desired_running_by_image": dict(Counter(task.spec.image for task in tasks if task.desired is TaskState.RUNNING)),
        "slots_given_a_new_task": sorted({task.slot for task in new.values()}),
        "max_running_at_once": updating.most_running,
    }
    expected = case["expect"]
    assert {key: came[key] for key in expected} == expected


@pytest.mark.parametrize("case", cases("updates", "threshold_cases"))
def test_an_update_acts_on_failures_from_the_same_number_on(case: dict[str, Any]) -> None:
    expected = case["expect"]["action_triggered"]
    assert too_many_failures(case["failures"], case["updated_slots"], case["max_failure_ratio"]) is expected


_NODE = Node("n", labels={"zone": "eu"})


_CHANGES: dict[str, dict[str, Any]] = {
    "env": {"env": ("a=b",)},
    "command": {"args": ("x",)},
    "force": {"force_update": 1},
    "ForceUpdate": {"force_update": 1},
    "resources": {"limits": Resources(0, 1 << 30)},
    "reservation": {"reservations": Resources(0, 1 << 30)},
    "restart": {"restart": RestartPolicy(max_attempts=3)},
    "network": {"networks": (TaskNetwork("other"),)},
    "log driver": {"log_driver": "json-file"},
    "preference": {"placement": Placement(preferences=("node.labels.zone",))},
    "max replicas": {"placement": Placement(max_replicas=3)},
}
"""What the words of a case say has changed of the task's specification."""


def _changed(words: str) -> tuple[Service, Task]:
    """A service and a task of its former specification, as the words of a case say."""
    old = TaskSpec("v:1", placement=Placement(("node.labels.zone==eu",) if "constraint" in words else ()))
    spec, endpoint, version = old, EndpointSpec(), 2
    if "image" in words or "other content" in words:
        spec = replace(old, image="v:2")
    if "endpoint" in words:
        endpoint = EndpointSpec(ports=(PortConfig(80),))
    if "PullOptions" in words:
        spec = replace(old, registry_auth="new")
    if "constraint" in words:
        matches = not any(no in words for no in ("no longer", "not match", "not satisf", "does not", "violat"))
        spec = replace(old, placement=Placement(("node.labels.zone!=us" if matches else "node.labels.zone==us",)))
    for word, change in _CHANGES.items():
        if word in words:
            spec = replace(spec, **change)
    if "same spec version" in words:
        version = 1
    state = TaskState.RUNNING if "between READY and RUNNING" in words or "PullOptions" not in words else TaskState.PREPARING
    return Service("s", ServiceSpec("web", spec, endpoint=endpoint), version), Task("t", "s", 1, "n", old, 1, state=state)


@pytest.mark.parametrize("case", cases("updates", "dirty_cases"))
def test_a_task_is_replaced_by_an_update_only_when_it_must_be(case: dict[str, Any]) -> None:
    assert is_dirty(*_changed(case["change"]), _NODE) is case["expect"]["task_is_replaced"]


@pytest.mark.parametrize(
    ("words", "replaced"),
    [
        ("placement constraints only, the node still matches", False),
        ("placement constraints only, the node matches no longer", True),
        ("only PullOptions changed, task not yet pulled", True),
    ],
)
def test_what_no_vector_says_of_replaced_tasks(words: str, replaced: bool) -> None:
    assert is_dirty(*_changed(words), _NODE) is replaced
