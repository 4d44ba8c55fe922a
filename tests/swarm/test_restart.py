"""A stopped task is replaced exactly when the real supervisor replaces it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.vectors import cases
from vxtool.model import ServiceMode, TaskState
from vxtool.swarm.objects import RestartPolicy, Task, TaskSpec
from vxtool.swarm.restart import RestartCondition, Restarts

NOW = 100_000.0


@pytest.mark.parametrize("case", cases("restart"))
def test_a_stopped_task_is_replaced_as_in_swarm(case: dict[str, Any]) -> None:
    facts = case.get("policy")
    policy = RestartPolicy()
    if facts is not None:
        condition = RestartCondition(facts.get("condition") or "any")
        policy = RestartPolicy(condition, 5.0, facts.get("max_attempts") or 0, facts.get("window_s") or 0)
    mode = ServiceMode(case["mode"])
    task = Task("t", "web", 1, "a", TaskSpec(restart=policy), 2, state=TaskState[case["observed_state"].upper()], changed_at=NOW)
    history = Task("old", "web", 1, "a", TaskSpec(restart=policy), 1 if case.get("history_is_of_older_spec") else 2)
    restarts = Restarts()
    for age in case.get("earlier_restart_ages_s") or ():
        restarts.restarted(history, mode, NOW - age)
    assert restarts.should_restart(task, mode) is case["expect"]["restart"]
