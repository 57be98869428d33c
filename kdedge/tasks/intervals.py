"""95% confidence intervals of metrics, over the texts that they were measured on."""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

# 97.5th percentile of the normal distribution.
NORMAL_95 = 1.959964
# 95th percentile, for one-sided intervals.
ONE_SIDED_95 = 1.644854
RESAMPLES = 1000


def wilson_interval(share: float, texts: float, z: float = NORMAL_95) -> tuple[float, float]:
    """Interval of a share (Wilson 1927), always between 0 and 1.

        >>> [round(end, 3) for end in wilson_interval(0.9, 100)]
        [0.826, 0.945]

    Args:
        share: the measured share.
        texts: number of texts.
        z: half-width in standard errors of the normal distribution.
    """
    z2 = z**2
    middle = (share + z2 / (2 * texts)) / (1 + z2 / texts)
    half = math.sqrt(share * (1 - share) * z2 / texts + z2**2 / (4 * texts**2))
    half /= 1 + z2 / texts
    return middle - half, middle + half


def fisher_interval(correlation: float, texts: int) -> tuple[float, float]:
    """Interval of a correlation (Fisher 1921); -1 to 1 if there are too few texts."""
    if texts < 4 or abs(correlation) >= 1:
        return (-1.0, 1.0) if texts < 4 else (correlation, correlation)
    middle, half = math.atanh(correlation), NORMAL_95 / math.sqrt(texts - 3)
    return math.tanh(middle - half), math.tanh(middle + half)


def bootstrap_interval(
    counts: npt.NDArray[np.float64], figure: Callable[[npt.NDArray[np.float64]], float]
) -> tuple[float, float]:
    """Percentile bootstrap interval of a function of sums over texts (Efron 1979).

    Uses 1,000 samples. Equal arguments give equal intervals.

    Args:
        counts: [texts, ...], summed over the texts of a sample.
        figure: computes the metric from the sums.
    """
    rng, texts = np.random.default_rng(0), len(counts)
    found = [figure(counts[rng.integers(0, texts, texts)].sum(0)) for _ in range(RESAMPLES)]
    low, high = np.percentile(found, (2.5, 97.5))
    return float(low), float(high)
