"""A short run of the fuzzer, always the same mutants: python -m tests.fuzz --only N --seed 20 shows one again."""

from __future__ import annotations

import pytest

from tests.fuzz.__main__ import CAPTURES
from tests.fuzz.mutate import mutant, seeds
from tests.fuzz.path import WholePath

SEED, MUTANTS, PARTS = 20, 3_000, 6


@pytest.fixture(scope="module")
def path() -> WholePath:
    return WholePath()


def test_every_capture_as_it_is_goes_the_whole_path(path: WholePath) -> None:
    _, _, dice = mutant(0, SEED, seeds(CAPTURES))
    for capture in seeds(CAPTURES):
        rows = path.take(capture.data, dice)
        assert rows or "empty" in capture.name, f"{capture.name} has no frame"


@pytest.mark.parametrize("part", range(PARTS))
def test_no_mutant_of_a_capture_raises_or_loses_a_frame(path: WholePath, part: int) -> None:
    captures = seeds(CAPTURES)
    for number in range(part, MUTANTS, PARTS):
        origin, data, dice = mutant(number, SEED, captures)
        try:
            path.take(data, dice)
        except Exception as error:
            error.add_note(f"mutant {number} of seed {SEED}, from {origin}: python -m tests.fuzz --only {number} --seed {SEED}")
            raise


def test_a_mutant_can_be_made_again() -> None:
    captures = seeds(CAPTURES)
    assert [mutant(number, SEED, captures)[:2] for number in range(50)] == [mutant(number, SEED, captures)[:2] for number in range(50)]
