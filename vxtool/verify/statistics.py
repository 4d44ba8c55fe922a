"""Does a sample of choices fit equal shares, and how large an imbalance could it have shown?

Knows counts only; refuses to know what was counted. The question is always that of a balancer which chooses each time at random and independently:
how often would it spread at least as unevenly as this? A balancer that takes turns (IPVS rr) spreads more evenly than chance, so against it these
tests are safe but blunt: its samples have p close to 1, and a p below alpha condemns it all the same. Its sharp test is another one: counts differ by
at most 1.

Sources: the G-test with Williams' correction (D. A. Williams, Biometrika 63, 1976); the exact multinomial test; the power of a chi-square test from
its noncentral distribution.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import comb, exp, inf, lgamma, log, sqrt

__all__ = ["POWER", "Fit", "chi_square_tail", "detectable", "fit", "pool"]

POWER = 0.8
"""The probability with which an imbalance that a message calls detectable would have been found."""

SMALL = 10.0
"""Expected counts below this are not left to the chi-square approximation, whose far tail is wrong there."""

MOST_SAMPLES = 20_000
"""Possible outcomes that the exact test goes through one by one."""


PRECISION = 1e-15
"""Where series and continued fractions stop."""


@dataclass(frozen=True, slots=True)
class Fit:
    """How well counts fit equal shares."""

    p: float  # the share of random samples at least as uneven
    method: str  # "exact", "G-test" or "none" when there is nothing to compare
    statistic: float = 0.0  # G, corrected; of an exact test 0
    freedom: int = 0  # degrees of freedom
    size: int = 0  # choices counted


def fit(counts: Sequence[int]) -> Fit:
    """Test one sample, a count for each thing that could have been chosen, against equal shares.

    Exact while the outcomes can be enumerated. Where they cannot, the G-test; with fewer than ten expected per cell and too many outcomes,
    neighbouring cells are joined until the G-test is valid, which loses power, never truth.
    """
    size, cells = sum(counts), len(counts)
    if cells < 2 or size == 0:
        return Fit(1.0, "none", size=size)
    if comb(size + cells - 1, cells - 1) <= MOST_SAMPLES:
        return Fit(_exact(counts), "exact", freedom=cells - 1, size=size)
    joined = max(1, -(-int(SMALL) * cells // size))
    groups = [(sum(counts[i : i + joined]), len(counts[i : i + joined])) for i in range(0, cells, joined)]
    if len(groups) < 2:
        return Fit(1.0, "none", size=size)
    statistic = _g(groups, size, cells)
    return Fit(chi_square_tail(statistic, len(groups) - 1), "G-test", statistic, len(groups) - 1, size)


def pool(samples: Sequence[Sequence[int]]) -> Fit:
    """Test several independent samples together, each against equal shares of its own cells.

    Their G statistics add up. As soon as one of them is small, the smallest p counts instead, times the number of samples (Bonferroni): with
    either the chance of a false alarm stays at or below alpha.
    """
    fits = [one for one in map(fit, samples) if one.method != "none"]
    size = sum(one.size for one in fits)
    if len(fits) < 2:
        return fits[0] if fits else Fit(1.0, "none", size=sum(map(sum, samples)))
    if all(one.method == "G-test" for one in fits):
        statistic, freedom = sum(one.statistic for one in fits), sum(one.freedom for one in fits)
        return Fit(chi_square_tail(statistic, freedom), "G-test", statistic, freedom, size)
    smallest = min(fits, key=lambda one: one.p)
    return Fit(min(1.0, smallest.p * len(fits)), smallest.method, smallest.statistic, smallest.freedom, size)


def chi_square_tail(statistic: float, freedom: int) -> float:
    """The probability that a chi-square variable exceeds `statistic`: the regularised incomplete gamma function Q(freedom / 2, statistic / 2).

    Written out here, because the import of scipy.special takes longer than verifying a capture. NIST DLMF 8.11.4 (series) and 8.9.2 (continued
    fraction, evaluated by Lentz's method).
    """
    shape, x = freedom / 2, statistic / 2
    if x <= 0:
        return 1.0
    scale = shape * log(x) - x - lgamma(shape)
    if scale < -745:  # exp would be 0
        return 0.0 if x > shape else 1.0
    if x < shape + 1:
        term = total = 1 / shape
        step = shape
        while term > total * PRECISION:
            step += 1
            term *= x / step
            total += term
        return 1 - total * exp(scale)
    b = x + 1 - shape
    c, d = inf, 1 / b
    fraction, n = d, 0
    while True:
        n += 1
        a = n * (shape - n)
        b += 2
        d = 1 / (a * d + b)
        c = b + a / c
        fraction *= c * d
        if abs(c * d - 1) < PRECISION:
            return exp(scale) * fraction


@lru_cache(maxsize=256)
def detectable(size: int, cells: int, alpha: float, power: float = POWER) -> float | None:
    """By which part of its fair share one cell must be off for a sample of this size to show it with the given power.

    0.3: a cell that gets 30 % more or less than its share is found. Above 1 only a surplus can be found; None: nothing can, the sample is empty.
    """
    if size <= 0 or cells < 2:
        return None
    freedom = cells - 1
    critical = _solve(lambda x: chi_square_tail(x, freedom) < alpha)
    noncentrality = _solve(lambda shift: _noncentral_tail(critical, freedom, shift) >= power)
    # One share p becomes p (1 + d), the others lose in proportion: the noncentrality is n p d^2 / (1 - p).
    share = 1 / cells
    return sqrt(noncentrality * (1 - share) / (size * share))


def _noncentral_tail(statistic: float, freedom: int, shift: float) -> float:
    """The same for a noncentral chi-square variable: central ones with 2j more degrees of freedom, weighted by Poisson(shift / 2)."""
    mean = shift / 2
    weight, total, below = exp(-mean), 0.0, 0.0
    for j in range(int(mean + 12 * sqrt(mean) + 30)):
        total += weight * chi_square_tail(statistic, freedom + 2 * j)
        below += weight
        weight *= mean / (j + 1)
        if below > 1 - 1e-9:
            break
    return total


def _solve(enough: Callable[[float], bool]) -> float:
    """The smallest x above 0 that is enough, to a thousandth of itself; what is enough stays enough."""
    low, high = 0.0, 1.0
    while not enough(high):
        low, high = high, high * 2
    while high - low > high / 1000:
        middle = (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _g(groups: Sequence[tuple[int, int]], size: int, cells: int) -> float:
    """Williams-corrected G of (count, cells joined in it)."""
    raw = 2 * sum(count * log(count * cells / (size * width)) for count, width in groups if count)
    spread = sum(cells / width for _, width in groups) - 1
    return raw / (1 + spread / (6 * size * (len(groups) - 1)))


def _exact(counts: Sequence[int]) -> float:
    """The probability of all outcomes that are no more probable than the one seen."""
    size, cells = sum(counts), len(counts)
    base = lgamma(size + 1) - size * log(cells)
    seen = -sum(lgamma(count + 1) for count in counts)
    # Outcomes that differ only in order are equally probable: go through them sorted, and count the orders.
    total = 0.0
    for outcome, orders in _partitions(size, cells):
        weight = -sum(lgamma(count + 1) for count in outcome)
        if weight <= seen + 1e-9:
            total += exp(base + weight + orders)
    return min(1.0, total)


def _partitions(size: int, cells: int) -> Iterator[tuple[list[int], float]]:
    """Every way to split `size` into `cells` counts in falling order, with the logarithm of the number of its orders."""
    for outcome in _falling(size, cells, size):
        orders, run = lgamma(cells + 1), 1
        for previous, count in pairwise(outcome):
            run = run + 1 if previous == count else 1
            orders -= log(run)
        yield outcome, orders


def _falling(size: int, cells: int, most: int) -> Iterator[list[int]]:
    if cells == 1:
        yield [size]
        return
    for first in range(min(size, most), -(-size // cells) - 1, -1):
        for rest in _falling(size - first, cells - 1, first):
            yield [first, *rest]
