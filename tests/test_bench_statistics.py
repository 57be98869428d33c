import numpy as np
import pytest

from kdedge.bench.statistics import bootstrap_interval, p50, p90, ratio_interval, wilson_interval


def test_percentiles_interpolate_linearly() -> None:
    # Of 1..10 the p90 is at position 0.9 * 9 = 8.1, between 9 and 10.
    assert p50(range(1, 11)) == 5.5
    assert p90(range(1, 11)) == pytest.approx(9.1)


def test_bootstrap_of_a_median_of_three() -> None:
    # A resample of three has the smallest (or largest) as its median with probability 7/27,
    # far more than 2.5%, so the interval is all there is.
    assert bootstrap_interval([3.0, 1.0, 2.0], p50) == (1.0, 3.0)


def test_bootstrap_of_a_mean() -> None:
    # The mean of a resample is 4 k / 5 with k binomial(5, 0.2): P(k = 0) = 33%, P(k >= 3) = 5.8%,
    # P(k >= 4) = 0.7%; so the 2.5th percentile is 0 and the 97.5th is 4 * 3 / 5.
    assert bootstrap_interval([0, 0, 0, 0, 4], np.mean) == (0.0, pytest.approx(2.4))


def test_equal_repeats_leave_no_doubt() -> None:
    assert bootstrap_interval([7.0, 7.0, 7.0], p50) == (7.0, 7.0)
    assert ratio_interval([10, 10, 10], [4, 4, 4]) == (2.5, 2.5)


def test_ratio_interval() -> None:
    # Both extreme medians meet with probability (7/27)^2 = 6.7%, more than 2.5%.
    assert ratio_interval([8, 10, 12], [1, 2, 4]) == (8 / 4, 12 / 1)


def test_ratio_of_a_thing_to_itself_holds_one() -> None:
    low, high = ratio_interval([1.0, 1.1, 1.2], [1.0, 1.1, 1.2])
    assert low < 1 < high


def test_wilson_interval() -> None:
    # Middle and half for 8 of 10, with z = 1.96: (0.8 + 0.19207) / 1.38415 and
    # sqrt(0.016 * 3.84146 + 0.0368920) / 1.38415.
    assert wilson_interval(0.8, 10) == pytest.approx((0.4901625, 0.9433178), abs=1e-6)
    assert wilson_interval(1.0, 10) == pytest.approx((0.7224672, 1.0), abs=1e-6)
