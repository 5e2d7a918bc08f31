"""Run exported graphs: frames uint8 `[B, T, H, W, 3]` to probabilities float32 `[B, K]`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from nightcrawler.export.formats import HINT, INPUT, OUTPUT
from nightcrawler.utils.errors import UserError

Run = Callable[[np.ndarray], np.ndarray]


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
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(f"running ONNX needs {error.name}: {HINT}") from None
    options = onnxruntime.SessionOptions()
    # As many threads as PyTorch takes, so that speeds can be compared.
    options.intra_op_num_threads = torch.get_num_threads()
    # Errors only: warnings are about the exporter's choices, which users cannot change.
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda frames: session.run([OUTPUT], {INPUT: frames})[0]


class LogProbs(nn.Module):
    """A run as a model: logarithms of its probabilities are logits."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run

    def forward(self, frames: Tensor) -> Tensor:
        """Return logits float32 `[B, K]` of frames uint8 `[B, T, H, W, 3]`."""
        probs = torch.from_numpy(self.run(frames.numpy()))
        # A probability of exactly 0 would give a logit of minus infinity.
        return probs.clamp_min(torch.finfo(torch.float32).tiny).log()
