"""Zero-DCE (Guo et al., CVPR 2020): a network that estimates brightening curves by pixel."""

from __future__ import annotations

import functools
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nightcrawler.utils.errors import UserError
from nightcrawler.utils.safetensors_files import check_safetensors
from nightcrawler.utils.torch_files import check_torch_file

NUM_CURVES = 8
SOURCE = "get Epoch99.pth from https://github.com/Li-Chongyi/Zero-DCE (Zero-DCE_code/snapshots)"


class DCENet(nn.Module):
    """DCE-Net: seven convolutions with symmetric skips, eight curves per pixel and channel.

    State-dict names are those of the published files.

    Args:
        width: channels of the hidden layers.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        conv = functools.partial(nn.Conv2d, kernel_size=3, padding=1)
        self.e_conv1 = conv(3, width)
        self.e_conv2 = conv(width, width)
        self.e_conv3 = conv(width, width)
        self.e_conv4 = conv(width, width)
        self.e_conv5 = conv(2 * width, width)
        self.e_conv6 = conv(2 * width, width)
        self.e_conv7 = conv(2 * width, 3 * NUM_CURVES)

    def curves(self, pictures: Tensor) -> Tensor:
        """Estimate the strengths of the curves.

        Args:
            pictures: float32 `[B, 3, H, W]` in [0, 1].

        Returns:
            float32 `[B, 3 * NUM_CURVES, H, W]` in [-1, 1].
        """
        first = self.e_conv1(pictures).relu()
        second = self.e_conv2(first).relu()
        third = self.e_conv3(second).relu()
        middle = self.e_conv4(third).relu()
        third = self.e_conv5(torch.cat([third, middle], dim=1)).relu()
        second = self.e_conv6(torch.cat([second, third], dim=1)).relu()
        return self.e_conv7(torch.cat([first, second], dim=1)).tanh()

    def forward(self, pictures: Tensor) -> Tensor:
        """Brighten pictures: x becomes x + a (x^2 - x), eight times (section 3.1).

        Args:
            pictures: float32 `[B, 3, H, W]` in [0, 1].

        Returns:
            float32 `[B, 3, H, W]`.
        """
        # The sign is that of the published code: with it, negative strengths brighten.
        for strength in self.curves(pictures).chunk(NUM_CURVES, dim=1):
            pictures = pictures + strength * (pictures**2 - pictures)
        return pictures


def load_dce_net(path: str) -> DCENet:
    """Load DCE-Net in eval mode.

    The file is read as plain tensors, nothing in it is executed.

    Args:
        path: weights, `.pth` of the authors or `.safetensors` with the same names.

    Raises:
        UserError: if the file is missing, no file of tensors, or of another network.
    """
    if not Path(path).is_file():
        raise UserError(
            f"zero_dce_weights {path}: no such file; {SOURCE}, or choose another enhancement"
        )
    state = _read_tensors(path)
    net = DCENet()
    found = {}
    for name, value in state.items():
        if isinstance(value, Tensor):
            # Files saved from nn.DataParallel have this prefix.
            found[str(name).removeprefix("module.")] = value
    _check_state(path, found, net.state_dict())
    net.load_state_dict(found)
    return net.eval().requires_grad_(False)


def _read_tensors(path: str) -> dict[Any, Any]:
    """Read a state dict without executing any of it (empty for other objects).

    Raises:
        UserError: if the file cannot be read as tensors.
    """
    try:
        if path.endswith(".safetensors"):
            from safetensors.torch import load_file

            check_safetensors(Path(path))
            return load_file(path)
        check_torch_file(Path(path))
        with warnings.catch_warnings():
            # Torch warns of pickles it may not know in full; unknown content is an error anyway.
            warnings.simplefilter("ignore", UserWarning)
            # Published files are pickles: read as tensors alone, nothing in them is run.
            state = torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251
    except UserError as error:
        raise UserError(f"zero_dce_weights {error}; {SOURCE}") from None
    except Exception as error:  # Bytes that are no checkpoint trip the reader in any of its lines.
        raise UserError(
            f"zero_dce_weights {path}: not a readable file of tensors "
            f"({type(error).__name__}); {SOURCE}"
        ) from None
    return state if isinstance(state, dict) else {}


def _check_state(path: str, found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Refuse a state dict with other names or shapes than DCE-Net's."""
    problem = ""
    for name, value in expected.items():
        if name not in found or found[name].shape != value.shape:
            problem = f"{name} is missing or of another shape"
            break
    if not problem and len(found) != len(expected):
        problem = "there are more entries"
    if problem:
        raise UserError(
            f"zero_dce_weights {path}: not the weights of DCE-Net ({problem}); {SOURCE}"
        )


@torch.inference_mode()
def apply_zero_dce(frames: np.ndarray, *, net: DCENet) -> np.ndarray:
    """Brighten each frame by the network.

    Args:
        frames: uint8 `[T, H, W, 3]`.
        net: loaded network, see `load_dce_net`.

    Returns:
        uint8 `[T, H, W, 3]`.
    """
    result = np.empty_like(frames)
    # One frame at a time: the activations are large.
    for frame, out in zip(frames, result, strict=True):
        picture = torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1)[None].float() / 255
        bright = net(picture)[0].clamp(0, 1) * 255
        out[:] = bright.round().byte().permute(1, 2, 0).numpy()
    return result
