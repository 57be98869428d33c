import math

import numpy as np
import pytest
from scipy import stats

from kdedge.bench.statistics import (
    STUDENT_95,
    p1,
    p50,
    p90,
    ratio_interval,
)


def test_percentiles_interpolate_linearly() -> None:
    # Of 1..10 the p90 is at position 0.9 * 9 = 8.1, between 9 and 10.
    assert p50(range(1, 11)) == 5.5
    assert p90(range(1, 11)) == pytest.approx(9.1)


def test_the_first_percentile() -> None:
    # 1 is the first of 101 values, which is the percentile 0, and 2 the percentile 1.
    assert p1(range(1, 102)) == pytest.approx(2)
    assert p1([5.0]) == 5


def test_equal_repeats_leave_no_doubt() -> None:
    assert ratio_interval([10, 10, 10], [4, 4, 4]) == pytest.approx((2.5, 2.5))


def test_ratio_interval() -> None:
    # Logarithms 0, 1, 2 and 0, 0, 3, so that both means are 1 and the variances 1 and 3, a third
    # of which are 1/3 and 1; (4/3)^2 / ((1/9) / 2 + 1 / 2) = 3.2 degrees of freedom, for which t
    # lies between 3.1824 and 2.7764: 3.1012 * sqrt(4/3) = 3.5810.
    low, high = ratio_interval(np.exp([0, 1, 2]), np.exp([0, 0, 3]))
    assert np.log([low, high]) == pytest.approx([-3.5810, 3.5810], abs=1e-4)


def test_ratio_interval_with_other_numbers_of_repeats() -> None:
    a, b = [10.0, 10.4, 9.8, 10.1, 10.3], [9.0, 9.3, 9.1]
    found = stats.ttest_ind(np.log(a), np.log(b), equal_var=False)
    width = found.confidence_interval(0.95)
    exact = np.exp([width.low, width.high])
    # There are 5.6 degrees of freedom, for which the table is interpolated.
    assert ratio_interval(a, b) == pytest.approx(exact, rel=2e-4)


def test_student_quantiles() -> None:
    assert pytest.approx(stats.t.ppf(0.975, np.arange(1, 31)), abs=5e-5) == STUDENT_95


def test_a_single_repeat_tells_nothing() -> None:
    assert ratio_interval([10.0], [1.0, 1.1]) == (0.0, math.inf)


def test_a_thing_is_seldom_called_different_from_itself() -> None:
    # At most 5% of the times, whatever the spread.
    rng = np.random.default_rng(0)
    for count in (3, 5):
        draws = np.exp(rng.normal(0, 0.1, (1000, 2, count)))
        ends = [ratio_interval(a, b) for a, b in draws]
        assert sum(low > 1 or high < 1 for low, high in ends) <= 50
