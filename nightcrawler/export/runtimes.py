"""Ways to run a graph: each takes frames uint8 `[B, T, H, W, 3]` and gives probabilities float32 `[B, K]`."""

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
    """PyTorch itself."""

    def run(frames: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return graph(torch.from_numpy(frames)).numpy()

    return run


def open_pt2(path: Path) -> Run:
    """A file of `write_pt2`, by PyTorch. Only for files of one's own: reading one may run what is in it."""
    return run_module(torch.export.load(path).module())


def open_onnx(path: Path) -> Run:
    """A file of `write_onnx` or `write_int8`, by ONNX Runtime on the CPU, with as many threads as PyTorch takes.

    Raises:
        UserError: if the extra is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(f"running ONNX needs {error.name}: {HINT}") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda frames: session.run([OUTPUT], {INPUT: frames})[0]


class LogProbs(nn.Module):
    """A run as a model: logarithms of probabilities are logits."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run

    def forward(self, frames: Tensor) -> Tensor:
        """Frames uint8 `[B, T, H, W, 3]` to logits float32 `[B, K]`."""
        return (
            torch.from_numpy(self.run(frames.numpy()))
            .clamp_min(torch.finfo(torch.float32).tiny)
            .log()
        )
