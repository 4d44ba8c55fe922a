"""Constraints are parsed, refused and matched as swarmkit's own code did when it was run."""

from __future__ import annotations

from typing import Any

import pytest

from tests.swarm.vectors import node_of
from tests.vectors import cases
from vxtool.errors import UsageError
from vxtool.swarm.constraint import node_matches, parse


@pytest.mark.parametrize("case", cases("constraints"))
def test_a_constraint_means_what_it_means_to_swarm(case: dict[str, Any]) -> None:
    expected = case["expect"]
    if not expected["parse_ok"]:
        with pytest.raises(UsageError) as refused:
            parse(case["constraints"])
        assert str(refused.value) == expected["error"]
        return
    parsed = parse(case["constraints"])
    for name in ("key", "value"):
        assert name not in expected or getattr(parsed[0], name) == expected[name]
    if "match" in expected:
        assert parsed[0].matches(*case["match_values"]) is expected["match"]
    if "node_match" in expected:
        assert node_matches(parsed, node_of(case["node"])) is expected["node_match"]
