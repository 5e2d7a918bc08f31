"""What a forward pass costs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def imitation(mode: FakeTensorMode, model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers without memory or values, by name; the model itself stays as it is."""
    return {
        name: mode.from_tensor(tensor)
        for name, tensor in (*model.named_parameters(), *model.named_buffers())
    }


def count_gmacs(model: nn.Module, clip: Sequence[int]) -> float:
    """10^9 multiply-adds of convolutions, linear layers and attention in a forward pass; nothing is computed.

    Args:
        model: on any device.
        clip: shape of its input, such as `[1, 3, T, H, W]`.
    """
    counter = FlopCounterMode(display=False)
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    # Attention as two matrix products: not every release of torch counts the fused kernels.
    plain = sdpa_kernel(SDPBackend.MATH)
    training = model.training
    model.eval()
    with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True) as mode, plain, counter:
        torch.func.functional_call(
            model, imitation(mode, model), (torch.empty(*clip, device=device),)
        )
    model.train(training)
    # The counter gives two operations for each multiply-add.
    return counter.get_total_flops() / 2e9
