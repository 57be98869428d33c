"""Percentiles, and how sure one can be of them."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

RESAMPLES = 2000
NORMAL_95 = 1.959964


def p50(samples: npt.ArrayLike) -> float:
    """The median; between two samples it interpolates linearly (numpy's default)."""
    return float(np.percentile(np.asarray(samples), 50))


def p90(samples: npt.ArrayLike) -> float:
    """The 90th percentile; between two samples it interpolates linearly (numpy's default)."""
    return float(np.percentile(np.asarray(samples), 90))


def p99(samples: npt.ArrayLike) -> float:
    """The 99th percentile; between two samples it interpolates linearly (numpy's default)."""
    return float(np.percentile(np.asarray(samples), 99))


def bootstrap_interval(
    values: Sequence[float], statistic: Callable[[Any], float], seed: int = 0
) -> tuple[float, float]:
    """95% percentile-bootstrap interval of a statistic.

    Args:
        values: one a repeat. Samples inside a repeat depend on each other, so that repeats, not
            samples, are drawn anew.
        statistic: of an array of as many values, for instance `p50`.
        seed: equal seeds give equal intervals.
    """
    rng = np.random.default_rng(seed)
    drawn = rng.choice(np.asarray(values, float), (RESAMPLES, len(values)))
    return _middle_95([statistic(row) for row in drawn])


def ratio_interval(
    a_repeats: Sequence[float], b_repeats: Sequence[float], seed: int = 0
) -> tuple[float, float]:
    """95% percentile-bootstrap interval of median(a) / median(b).

    Args:
        a_repeats: p50 of each repeat of the one; resampled independently of the other's.
        b_repeats: p50 of each repeat of the other, in the same unit.
        seed: equal seeds give equal intervals.

    Returns:
        low, high. The two differ where the interval leaves out 1.
    """
    rng = np.random.default_rng(seed)
    a, b = (
        np.median(rng.choice(np.asarray(values, float), (RESAMPLES, len(values))), axis=1)
        for values in (a_repeats, b_repeats)
    )
    return _middle_95(a / b)


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """95% interval of a share seen in `count` trials (Wilson 1927).

    Unlike share +- 1.96 standard errors it stays between 0 and 1 and holds near the ends.
    """
    z2 = NORMAL_95**2
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = math.sqrt(share * (1 - share) * z2 / count + z2**2 / (4 * count**2)) / (1 + z2 / count)
    return middle - half, middle + half


def _middle_95(values: npt.ArrayLike) -> tuple[float, float]:
    low, high = np.percentile(np.asarray(values), [2.5, 97.5])
    return float(low), float(high)
