"""Weights and inputs as formulas ("chirp-sin-v1"): two implementations compare without a file of weights."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from tests.golden.fields import Refusal

PERIOD = 10007
NAME = "chirp-sin-v1"


def check_fill(case: Mapping[str, Any]) -> None:
    """Refuse a case whose weights follow another formula."""
    name = case["fill"]["name"]
    if name != NAME:
        raise Refusal(f"fill.name {name!r}, expected {NAME!r}")


def scramble(index: np.ndarray) -> np.ndarray:
    """q(i) = r(r+3) mod 10007 with r = i mod 10007 (whole numbers)."""
    r = index % PERIOD
    return (r * (r + 3)) % PERIOD


def entry(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """float64 value of one state_dict entry, by its name and shape."""
    last = name.rsplit(".", 1)[-1]
    if last == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    phase = (zlib.crc32(name.encode("ascii")) % 1000) / 100.0
    period = np.sin(0.37 * scramble(np.arange(PERIOD, dtype=np.int64)) + phase)
    s = np.resize(period, shape) if math.prod(shape) else np.zeros(shape)
    fan_in = math.prod(shape[1:])
    if last == "running_mean":
        return 0.1 * s
    if last == "running_var":
        return 1 + 0.2 * np.abs(s)
    if len(shape) <= 1:
        return 1 + 0.1 * s if last == "weight" else 0.1 * s
    if len(shape) == 3:
        return 0.2 * s
    if len(shape) == 5 and shape[1] == 1:
        return 0.5 / math.sqrt(fan_in) * s
    if len(shape) == 2:
        return 1.4 / math.sqrt(shape[1]) * s
    return 1.0 / math.sqrt(fan_in) * s


def fill_state_dict(model: nn.Module, dtype: torch.dtype = torch.float64) -> nn.Module:
    """Cast the model to `dtype` and give every parameter and buffer its formula value; returns the model."""
    model = model.to(dtype)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            tensor.copy_(torch.tensor(entry(name, tuple(tensor.shape))))
    return model


def wave(shape: tuple[int, ...], offset: int = 0) -> np.ndarray:
    """float64 x[i] = sin(0.37 q(i) + 0.5) + 0.5 sin(0.0031 i), i = flattened index + offset."""
    i = np.arange(math.prod(shape), dtype=np.int64) + offset
    return (np.sin(0.37 * scramble(i) + 0.5) + 0.5 * np.sin(0.0031 * i)).reshape(shape)


def clip_formula(
    shape: tuple[int, ...], dtype: torch.dtype = torch.float64, offset: int = 0
) -> torch.Tensor:
    """The input clip [B,3,T,H,W] of the cases."""
    return torch.from_numpy(wave(tuple(shape), offset)).to(dtype)
