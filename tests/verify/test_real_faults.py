"""Real faults, made in a real swarm: each is found, at its node and by its rule, and healthy swarms are left in peace.

Runs over captures/faults. `VXTOOL_FAULTS=FOLDER` runs over another folder of the same layout: one folder for each fault, with captures, expectations
and a fault.json that tells what was done, to which nodes, and when the expectations hold.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.verify.build import CAPTURES, CHECKSUMS
from vxtool.capture import open_capture
from vxtool.decode.batch import Batch
from vxtool.decode.walk import walk
from vxtool.expect.load import load as load_expectation
from vxtool.verify import engine
from vxtool.verify.verdicts import Result, Severity, Verdict

FAULTS = Path(os.environ.get("VXTOOL_FAULTS", CAPTURES / "faults"))
FOLDERS = sorted(path.parent.name for path in FAULTS.glob("*/fault.json"))

# The capture alone cannot show these: the verdict that there is nothing wrong can be defended.
INVISIBLE = {"02c-fdb-missing-heals": "the entry is learned from the wire before anything is missed"}


def told(folder: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FAULTS / folder / "fault.json").read_text())
    return found


def batches(path: Path) -> Iterator[Batch]:
    with open_capture(str(path)) as capture:
        for frames in capture:
            yield Batch(frames, walk(frames, CHECKSUMS))


@cache
def verdicts(folder: str) -> tuple[Verdict, ...]:
    """Without being told where the captures were taken."""
    dated = told(folder)["expect"]
    specs = [f"{FAULTS / folder / one['folder']}" + (f"@{one['time']:.3f}" if len(dated) > 1 else "") for one in dated]
    captures = [(path.name, None, batches(path)) for path in sorted((FAULTS / folder).glob("*.pcap"))]
    return engine.judge(engine.build(captures, load_expectation(specs)))


def failures(folder: str) -> list[Verdict]:
    return [one for one in verdicts(folder) if one.result is Result.FAIL and one.severity is not Severity.INFO]


def shown(found: list[Verdict]) -> str:
    return "\n".join(f"{one.check} {one.severity} {one.nodes} {','.join(one.invariants)}: {one.message}" for one in found)


def test_there_are_faults_to_find() -> None:
    assert len(FOLDERS) >= 12


@pytest.mark.parametrize("folder", [name for name in FOLDERS if told(name).get("expect_fail", True) and name not in INVISIBLE])
def test_a_real_fault_is_found_at_its_node_and_by_its_rule(folder: str) -> None:
    fault, found = told(folder), failures(folder)
    right = [one for one in found if set(one.nodes) & set(fault["nodes"]) and set(one.invariants) & set(fault["invariants"])]
    assert right, shown(found)
    assert right[0].evidence
    assert right[0].hint
    assert right[0].command


@pytest.mark.parametrize("folder", [name for name in FOLDERS if told(name).get("expect_fail", True)])
def test_nobody_innocent_is_blamed(folder: str) -> None:
    fault = told(folder)
    wrong = [one for one in failures(folder) if one.severity is Severity.ERROR and not set(one.nodes) & set(fault["nodes"])]
    assert not wrong, shown(wrong)


def test_healthy_swarms_are_left_in_peace() -> None:
    for folder in FOLDERS:  # captures/faults has none: captures/swarm-* are judged by test_faults
        if not told(folder).get("expect_fail", True):
            assert not failures(folder), f"{folder}\n{shown(failures(folder))}"
