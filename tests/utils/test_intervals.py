"""Wilson's bounds against scipy's, for arrays and single numbers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from nightcrawler.utils.intervals import wilson_bounds


def test_bounds_are_those_of_scipy() -> None:
    pairs = [(1, 1), (0, 3), (9, 10), (4, 5), (25, 27)]
    correct, total = np.array(pairs).T
    low, high = wilson_bounds(correct, total, 1.959963984540054)
    wanted = [binomtest(*pair).proportion_ci(0.95, "wilson") for pair in pairs]
    assert low.tolist() == pytest.approx([one.low for one in wanted], abs=1e-12)
    assert high.tolist() == pytest.approx([one.high for one in wanted], abs=1e-12)


def test_no_width_leaves_the_proportion_itself() -> None:
    low, high = wilson_bounds(2, 3, 0.0)
    assert float(low) == float(high) == 2 / 3
