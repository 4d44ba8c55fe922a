"""Chance tests: right by another library, quiet on fair samples, loud on unfair ones."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from vxtool.verify.statistics import SMALL, chi_square_tail, detectable, fit, pool

SAMPLES = 10_000


@pytest.mark.parametrize("freedom", [1, 2, 5, 30])
@pytest.mark.parametrize("statistic", [0.0, 1e-6, 0.1, 1.9, 3.84, 25.0, 31.9, 200.0, 3000.0])
def test_the_tail_of_chi_square_is_the_one_scipy_stats_has(statistic: float, freedom: int) -> None:
    assert chi_square_tail(statistic, freedom) == pytest.approx(stats.chi2.sf(statistic, freedom), rel=1e-10, abs=1e-300)


@pytest.mark.parametrize("counts", [(30, 41, 22, 35), (500, 480, 530), (100, 100, 100, 160)])
def test_g_is_the_likelihood_ratio_of_scipy_stats_apart_from_the_correction(counts: tuple[int, ...]) -> None:
    ours = fit(counts)
    theirs = stats.power_divergence(counts, lambda_="log-likelihood")
    cells, size = len(counts), sum(counts)
    williams = 1 + (cells + 1) / (6 * size)
    if ours.method == "G-test":
        assert ours.statistic == pytest.approx(theirs.statistic / williams)
        assert ours.p == pytest.approx(stats.chi2.sf(theirs.statistic / williams, cells - 1))
    else:
        assert ours.p == pytest.approx(theirs.pvalue, abs=0.02)


@pytest.mark.parametrize("counts", [(7, 1), (3, 3), (0, 9), (12, 5)])
def test_two_cells_are_the_binomial_test(counts: tuple[int, int]) -> None:
    assert fit(counts).method == "exact"
    assert fit(counts).p == pytest.approx(stats.binomtest(counts[0], sum(counts)).pvalue)


@pytest.mark.parametrize("counts", [(3, 0, 0), (4, 1, 0), (2, 2, 1), (6, 0, 0, 0)])
def test_few_choices_are_judged_by_all_the_ways_they_could_have_fallen(counts: tuple[int, ...]) -> None:
    size, cells = sum(counts), len(counts)
    chances = stats.multinomial(size, [1 / cells] * cells)
    outcomes = [o for o in np.ndindex(*[size + 1] * cells) if sum(o) == size]
    seen = chances.pmf(counts)
    assert fit(counts).p == pytest.approx(sum(p for o in outcomes if (p := chances.pmf(o)) <= seen * (1 + 1e-9)))


@pytest.mark.parametrize(("size", "cells"), [(20, 3), (67, 4), (100, 4), (300, 6), (1000, 10), (200, 30), (5000, 8)])
@pytest.mark.parametrize("alpha", [0.01, 0.001])
def test_fair_samples_are_condemned_no_more_often_than_alpha(size: int, cells: int, alpha: float) -> None:
    samples = np.random.default_rng(size * 1000 + cells).multinomial(size, [1 / cells] * cells, size=SAMPLES)
    if size / cells < SMALL:
        known = {tuple(sample): fit(sample).p for sample in {tuple(map(int, sample)) for sample in samples}}
        alarms = sum(known[tuple(sample)] < alpha for sample in samples.tolist())
    else:
        alarms = sum(fit(sample).p < alpha for sample in samples.tolist())
    # Four standard deviations above the expected number: one run in 30,000 fails by chance.
    assert alarms <= SAMPLES * alpha + 4 * (SAMPLES * alpha) ** 0.5


def test_several_samples_together_are_condemned_no_more_often_than_alpha() -> None:
    random = np.random.default_rng(5)
    alarms = sum(pool([sample.tolist() for sample in random.multinomial(100, [0.25] * 4, size=3)]).p < 0.01 for _ in range(SAMPLES))
    assert alarms <= 100 + 4 * 10


def test_round_robin_is_more_even_than_chance() -> None:
    assert fit((17, 17, 16, 17)).p > 0.99
    assert pool([(17, 17, 16, 17), (16, 17, 17, 17), (17, 16, 17, 17)]).p > 0.99


@pytest.mark.parametrize("counts", [(50, 17, 16, 17), (67, 0, 0, 0), (40, 10)])
def test_a_backend_that_gets_most_is_found(counts: tuple[int, ...]) -> None:
    assert fit(counts).p < 0.001


@pytest.mark.parametrize("counts", [(), (5,), (0, 0, 0)])
def test_without_a_choice_nothing_can_be_unfair(counts: tuple[int, ...]) -> None:
    assert fit(counts).p == 1.0
    assert fit(counts).method == "none"
    assert pool([counts]).method == "none"


@pytest.mark.parametrize(("size", "cells"), [(300, 6), (1000, 4), (5000, 8)])
def test_what_is_called_detectable_is_detected_about_four_times_in_five(size: int, cells: int) -> None:
    off = detectable(size, cells, 0.001)
    assert off is not None
    share = (1 + off) / cells
    rest = (1 - share) / (cells - 1)
    samples = np.random.default_rng(7).multinomial(size, [share] + [rest] * (cells - 1), size=2000)
    found = sum(fit(sample).p < 0.001 for sample in samples.tolist()) / 2000
    # The noncentral chi-square is an approximation, coarser for a large shift in a small sample.
    assert 0.68 < found < 0.88


@pytest.mark.parametrize(("size", "cells"), [(67, 4), (300, 6), (100_000, 50)])
def test_the_power_is_that_of_scipys_noncentral_chi_square(size: int, cells: int) -> None:
    off = detectable(size, cells, 0.001)
    assert off is not None
    noncentrality = size * off**2 / (cells - 1)
    assert stats.ncx2.sf(stats.chi2.isf(0.001, cells - 1), cells - 1, noncentrality) == pytest.approx(0.8, abs=0.005)


def test_nothing_is_detectable_in_an_empty_sample() -> None:
    assert detectable(0, 6, 0.001) is None
    assert detectable(100, 1, 0.001) is None
