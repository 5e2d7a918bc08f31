"""Cost of a forward pass in multiply-adds."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel


def fake_state(mode: FakeTensorMode, model: nn.Module) -> dict[str, Tensor]:
    """Return parameters and buffers as fake tensors by name, without memory or values.

    Args:
        mode: mode of the fake tensors.
        model: stays as it is.
    """
    tensors = (*model.named_parameters(), *model.named_buffers())
    return {name: mode.from_tensor(tensor) for name, tensor in tensors}


def count_gmacs(model: nn.Module, clip: Sequence[int]) -> float:
    """Count 10^9 multiply-adds of convolutions, linear layers and attention in a forward pass.

    Nothing is computed: fake tensors have shapes only.

    Args:
        model: on any device.
        clip: shape of its input, such as `[1, 3, T, H, W]`.
    """
    # It imports triton, which tests and predictions need not wait for.
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    # Attention as two matrix products: not every release of torch counts the fused kernels.
    plain = sdpa_kernel(SDPBackend.MATH)
    training = model.training
    # Dropout and stochastic depth would draw random numbers.
    model.eval()
    with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True) as mode, plain, counter:
        clips = torch.empty(*clip, device=device)
        # Without gradients: the counter fails on views of parameters, which VideoPrism takes.
        state = {name: tensor.detach() for name, tensor in fake_state(mode, model).items()}
        torch.func.functional_call(model, state, (clips,))
    model.train(training)
    # The counter gives two operations for each multiply-add.
    return counter.get_total_flops() / 2e9
