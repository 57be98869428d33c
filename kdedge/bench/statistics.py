"""Percentiles of latencies, and confidence intervals."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

# Student's t, two-sided 95%, for 1, 2, ... degrees of freedom; above 30 it hardly changes.
STUDENT_95 = (
    12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281,
    2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860,
    2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423,
)  # fmt: skip


def p1(samples: npt.ArrayLike) -> float:
    """The first percentile: the time of an undisturbed inference.

    Disturbances only add time, so low percentiles vary least (Chen and Revels, arXiv 1608.04295).
    Unlike the minimum it does not fall with the number of samples.

        >>> p1([1.0, 2.0, 3.0])
        1.02
    """
    return float(np.percentile(np.asarray(samples), 1))


def p50(samples: npt.ArrayLike) -> float:
    """The median; between two samples it interpolates linearly (numpy's default)."""
    return float(np.percentile(np.asarray(samples), 50))


def p90(samples: npt.ArrayLike) -> float:
    """The 90th percentile; between two samples it interpolates linearly (numpy's default)."""
    return float(np.percentile(np.asarray(samples), 90))


def p99(samples: npt.ArrayLike) -> float:
    """The 99th percentile; between two samples it interpolates linearly (numpy's default)."""
    return float(np.percentile(np.asarray(samples), 99))


def ratio_interval(a_repeats: Sequence[float], b_repeats: Sequence[float]) -> tuple[float, float]:
    """95% interval of a / b, by Welch's t-test (1947) on the logarithms of the repeats.

    A percentile bootstrap of medians is too narrow for so few repeats: with three of each, one
    comparison in ten would find a model different from itself.

    Args:
        a_repeats: a value above 0 for each repeat of a, for instance its p1.
        b_repeats: the same for b, in the same unit.

    Returns:
        low, high. a and b differ if the interval does not contain 1. With a single repeat of
        either nothing is known about the spread: 0, infinity.
    """
    a, b = (np.log(np.asarray(values, float)) for values in (a_repeats, b_repeats))
    if min(len(a), len(b)) < 2:
        return 0.0, math.inf
    a_part, b_part = a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)
    middle, variance = a.mean() - b.mean(), a_part + b_part
    half = 0.0
    if variance:
        freedom = variance**2 / (a_part**2 / (len(a) - 1) + b_part**2 / (len(b) - 1))
        student = np.interp(freedom, range(1, 1 + len(STUDENT_95)), STUDENT_95)
        half = float(student) * math.sqrt(variance)
    return math.exp(middle - half), math.exp(middle + half)
