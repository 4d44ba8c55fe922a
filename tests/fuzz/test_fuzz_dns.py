"""A short run of the resolver's fuzzer, always the same mutants: python -m tests.fuzz.dns --only N --seed 20 shows one again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fuzz.dns import Mutants, mutant

SEED, MUTANTS, PARTS = 20, 20_000, 4


@pytest.fixture(scope="module")
def path() -> Iterator[Mutants]:
    made = Mutants()
    yield made
    made.close()


@pytest.mark.parametrize("part", range(PARTS))
def test_no_mutant_of_a_message_makes_the_resolver_fail(path: Mutants, part: int) -> None:
    for number in range(part, MUTANTS, PARTS):
        try:
            path.take(*mutant(number, SEED))
        except Exception as error:
            error.add_note(f"mutant {number} of seed {SEED}: python -m tests.fuzz.dns --only {number} --seed {SEED}")
            raise
