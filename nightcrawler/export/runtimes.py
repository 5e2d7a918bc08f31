"""Run exported graphs: frames uint8 `[B, T, H, W, 3]` to probabilities float32 `[B, K]`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from nightcrawler.predict.onnx_file import Run, open_onnx_file


def run_module(graph: nn.Module) -> Run:
    """Return a function that runs a graph in PyTorch."""

    def run(frames: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return graph(torch.from_numpy(frames)).numpy()

    return run


def open_pt2(path: Path) -> Run:
    """Return a function that runs a file of `write_pt2` in PyTorch.

    Only for files of one's own: loading a `torch.export` program may run code that is in it.
    """
    return run_module(torch.export.load(path).module())


def open_onnx(path: Path) -> Run:
    """Return a function that runs a file of `write_onnx` or `write_int8` in ONNX Runtime, on CPU.

    Raises:
        UserError: if the extra is not installed.
    """
    return open_onnx_file(path).run
