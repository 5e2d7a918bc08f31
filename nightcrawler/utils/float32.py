"""Arithmetic of float32 that is the same on every processor."""

from __future__ import annotations

import numpy as np


def linspace_float32(start: float, end: float, num: int) -> np.ndarray:
    """Return `num` evenly spaced numbers from `start` to `end`, float32 `[num]`.

    As `torch.linspace` computes them where multiplications and additions are fused, to the last
    digit. Its own digits depend on the processor, and it makes no numbers while a model is traced.

    Args:
        start: first number.
        end: last number.
        num: at least 1.

    Example:
        >>> linspace_float32(0, 3, 4).tolist()
        [0.0, 1.0, 2.0, 3.0]
    """
    first = np.float32(start)
    last = np.float32(end)
    if num == 1:
        return np.array([first])
    step = (last - first) / np.float32(num - 1)
    index = np.arange(num)
    # Products of float32 are exact in float64: rounded once, with the sum, as a fused operation is.
    from_first = np.float64(first) + np.float64(step) * index
    from_last = np.float64(last) - np.float64(step) * (num - 1 - index)
    return np.where(index < num // 2, from_first, from_last).astype(np.float32)
