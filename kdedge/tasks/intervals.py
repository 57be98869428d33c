"""95% intervals of figures, over the texts that they were found on."""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

# 97.5% of a normal distribution are below.
NORMAL_95 = 1.959964
# And 95% below this: for intervals of which only one end counts.
ONE_SIDED_95 = 1.644854
RESAMPLES = 1000


def wilson_interval(share: float, texts: float, z: float = NORMAL_95) -> tuple[float, float]:
    """Of a share. Wilson 1927; unlike share +- 1.96 standard errors it stays between 0 and 1.

    Args:
        share: that was found.
        texts: on so many.
        z: standard errors of a normal distribution that the interval reaches to each side.
    """
    z2 = z**2
    middle = (share + z2 / (2 * texts)) / (1 + z2 / texts)
    half = math.sqrt(share * (1 - share) * z2 / texts + z2**2 / (4 * texts**2))
    half /= 1 + z2 / texts
    return middle - half, middle + half


def fisher_interval(correlation: float, texts: int) -> tuple[float, float]:
    """Of a correlation. Fisher 1921; all of -1 to 1 if there are too few texts to say."""
    if texts < 4 or abs(correlation) >= 1:
        return (-1.0, 1.0) if texts < 4 else (correlation, correlation)
    middle, half = math.atanh(correlation), NORMAL_95 / math.sqrt(texts - 3)
    return math.tanh(middle - half), math.tanh(middle + half)


def bootstrap_interval(
    counts: npt.NDArray[np.float64], figure: Callable[[npt.NDArray[np.float64]], float]
) -> tuple[float, float]:
    """Of a figure of sums over texts: its percentiles over 1,000 draws of as many texts.

    Efron 1979. Equal arguments give equal intervals.

    Args:
        counts: [texts, ...], what is summed over the texts.
        figure: of the sums.
    """
    rng, texts = np.random.default_rng(0), len(counts)
    found = [figure(counts[rng.integers(0, texts, texts)].sum(0)) for _ in range(RESAMPLES)]
    low, high = np.percentile(found, (2.5, 97.5))
    return float(low), float(high)
