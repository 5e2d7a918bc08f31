"""Run exported ONNX files: frames uint8 `[B, T, H, W, 3]` to probabilities float32 `[B, K]`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from nightcrawler.predict.graph_input import INPUT, OUTPUT
from nightcrawler.utils.errors import UserError, describe_error, missing_extra

# Extra that brings the libraries of ONNX.
EXTRA = "export"

Run = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class OnnxFile:
    """An ONNX file that is ready to run.

    Attributes:
        run: frames to probabilities.
        about: texts of its metadata.
    """

    run: Run
    about: dict[str, str]


def open_onnx_file(path: Path) -> OnnxFile:
    """Open a file of `nightcrawler export` in ONNX Runtime, on the CPU.

    Args:
        path: `.onnx` file.

    Raises:
        UserError: if the extra is not installed, or the file cannot be read.
    """
    try:
        import onnxruntime
    except ImportError:
        raise missing_extra("running an ONNX file", EXTRA) from None
    options = onnxruntime.SessionOptions()
    # As many threads as PyTorch takes, so that speeds can be compared.
    options.intra_op_num_threads = torch.get_num_threads()
    # Errors only: warnings are about the exporter's choices, which users cannot change.
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        about = dict(session.get_modelmeta().custom_metadata_map)
        inputs = [one.name for one in session.get_inputs()]
        outputs = [one.name for one in session.get_outputs()]
    except Exception as error:
        # The library raises a class of its own for each fault.
        raise UserError(
            f"{path}: not an ONNX file that can be run ({describe_error(error)})"
        ) from None
    if inputs != [INPUT] or OUTPUT not in outputs:
        raise UserError(
            f"{path}: takes no {INPUT} or gives no {OUTPUT}: expected a file of "
            "`nightcrawler export`"
        )
    return OnnxFile(lambda frames: session.run([OUTPUT], {INPUT: frames})[0], about)


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
