"""Zero-reference deep curve estimation (Guo et al., CVPR 2020): a small network draws each pixel's curve."""

from __future__ import annotations

import functools
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from nightcrawler.utils.errors import UserError

NUM_CURVES = 8
KEY = "ENHANCE.ZERO_DCE_WEIGHTS"
SOURCE = "get Epoch99.pth from https://github.com/Li-Chongyi/Zero-DCE (Zero-DCE_code/snapshots)"


class DCENet(nn.Module):
    """DCE-Net: seven convolutions with symmetric skips, eight quadratic curves per pixel and channel.

    The names of its entries are those of the published files.
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
        """Strengths of the curves, in [-1, 1]: `[B, 3, H, W]` to `[B, 3 * NUM_CURVES, H, W]`."""
        first = self.e_conv1(pictures).relu()
        second = self.e_conv2(first).relu()
        third = self.e_conv3(second).relu()
        middle = self.e_conv4(third).relu()
        third = self.e_conv5(torch.cat([third, middle], dim=1)).relu()
        second = self.e_conv6(torch.cat([second, third], dim=1)).relu()
        return self.e_conv7(torch.cat([first, second], dim=1)).tanh()

    def forward(self, pictures: Tensor) -> Tensor:
        """Lit pictures from dark ones, float32 `[B, 3, H, W]` in [0, 1]: x becomes x + a (x^2 - x), eight times."""
        for strength in self.curves(pictures).chunk(NUM_CURVES, dim=1):
            pictures = pictures + strength * (pictures**2 - pictures)
        return pictures


def load_dce_net(path: str) -> DCENet:
    """The network with its weights; the file is read as plain tensors, nothing in it is run.

    Raises:
        UserError: if the file is missing, no file of tensors, or of another network.
    """
    if not Path(path).is_file():
        raise UserError(f"{KEY} {path}: no such file; {SOURCE}, or light clips in another way")
    try:
        if path.endswith(".safetensors"):
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            with warnings.catch_warnings():
                # Of pickles that it may not know in full: what it does not know is an error anyway.
                warnings.simplefilter("ignore", UserWarning)
                state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # Bytes that are no checkpoint trip the reader in any of its lines.
        raise UserError(
            f"{KEY} {path}: not a readable file of tensors ({type(error).__name__}); {SOURCE}"
        ) from None
    net = DCENet()
    expected = {name: tuple(value.shape) for name, value in net.state_dict().items()}
    named = state.items() if isinstance(state, dict) else ()
    found = {
        str(name).removeprefix("module."): value
        for name, value in named
        if isinstance(value, Tensor)
    }
    wrong = [
        name
        for name, shape in expected.items()
        if name not in found or tuple(found[name].shape) != shape
    ]
    if wrong or len(found) != len(expected):
        at = f"{wrong[0]} is missing or of another shape" if wrong else "there are more entries"
        raise UserError(f"{KEY} {path}: not the weights of DCE-Net ({at}); {SOURCE}")
    net.load_state_dict(found)
    return net.eval().requires_grad_(False)


@torch.inference_mode()
def apply_zero_dce(frames: np.ndarray, *, net: DCENet) -> np.ndarray:
    """Light each frame of uint8 `[T, H, W, 3]` by the network (one at a time: its activations are large)."""
    lit = np.empty_like(frames)
    for frame, out in zip(frames, lit, strict=True):
        picture = torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1)[None].float() / 255
        out[:] = (net(picture)[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    return lit
