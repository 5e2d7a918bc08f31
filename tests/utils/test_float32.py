"""Evenly spaced float32, against torch and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nightcrawler.utils.float32 import linspace_float32


@pytest.mark.parametrize("alpha", [1, 2, 3, 4, 8, 32])
def test_whole_parts_are_those_of_torch(alpha: int) -> None:
    """Every slow pathway of clips of up to 800 frames."""
    for last in range(alpha, 800):
        num = (last + 1) // alpha
        expected = torch.linspace(0, last, num, dtype=torch.float32).long().tolist()
        assert linspace_float32(0, last, num).astype(np.int64).tolist() == expected


def test_numbers_are_those_of_torch_but_for_the_last_digit() -> None:
    rng = np.random.default_rng(0)
    for _ in range(500):
        start, end, num = rng.uniform(0, 300), rng.uniform(300, 600), int(rng.integers(1, 65))
        found = linspace_float32(start, end, num)
        assert found.dtype == np.float32
        expected = torch.linspace(start, end, num, dtype=torch.float32).numpy()
        # Without fused operations torch rounds twice.
        np.testing.assert_allclose(found, expected, rtol=2**-22)


def test_a_place_that_float64_rounds_to_a_whole_frame_may_fall_below_it() -> None:
    """Frame 53 of 160 for 40: PySlowFast takes 52."""
    assert np.linspace(0, 159, 40)[13] == 53.0
    assert linspace_float32(0, 159, 40)[13] < 53.0
