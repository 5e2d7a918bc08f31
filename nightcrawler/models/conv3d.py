"""Parts that the SlowFast networks share: padded convolutions, constant BatchNorm, pathways."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from nightcrawler.utils.errors import ArgumentError
from nightcrawler.utils.float32 import linspace_float32

LINEAR_INIT_STD = 0.01


def conv3d(
    in_channels: int,
    channels: int,
    kernel: tuple[int, int] = (1, 1),
    *,
    stride: int = 1,
    time_stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    bias: bool = False,
) -> nn.Conv3d:
    """Return a convolution whose padding keeps the size (before the stride).

    Args:
        in_channels: channels of the input.
        channels: channels of the output.
        kernel: sizes in time and in space (odd).
        stride: in space.
        time_stride: in time.
        dilation: in space.
        groups: as in `nn.Conv3d`.
        bias: as in `nn.Conv3d`.
    """
    time, space = kernel
    # A dilated kernel spans dilation * (space - 1) + 1 places.
    pad = dilation * (space // 2)
    return nn.Conv3d(
        in_channels,
        channels,
        (time, space, space),
        stride=(time_stride, stride, stride),
        padding=(time // 2, pad, pad),
        dilation=(1, dilation, dilation),
        groups=groups,
        bias=bias,
    )


class FrozenBatchNorm3d(nn.Module):
    """BatchNorm with constant statistics, scale and shift (buffers): nothing to train or adapt.

    Args:
        channels: C.
        eps: added to the variance.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise `[B, C, T, H, W]`, same shape out."""
        return functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )


Norm3d = nn.BatchNorm3d | FrozenBatchNorm3d


def is_observed(*modules: nn.Module) -> bool:
    """Return whether one of the modules has hooks of its own."""
    return any(module._forward_hooks or module._forward_pre_hooks for module in modules)


def takes_statistics(block: nn.Module) -> bool:
    """Return whether running a block leaves a trace beside its output.

    That is so if a BatchNorm in it is in train mode, as in training and in adaptation, or a layer
    has a hook.
    """
    modules = list(block.modules())
    counts = any(isinstance(module, _BatchNorm) and module.training for module in modules)
    return counts or is_observed(*modules)


def conv_norm(conv: nn.Conv3d, norm: Norm3d, x: Tensor) -> Tensor:
    """Return `norm(conv(x))`, as one convolution in evaluation without gradients.

    The norm is folded into the weights, which takes the time of one layer instead of two. Layers
    with hooks are called as they are, so that observers see them.

    Args:
        conv: the convolution.
        norm: the norm after it.
        x: `[B, C_in, T, H, W]`.

    Returns:
        `[B, C, T, H', W']`.
    """
    # Folding skips the modules' own calls, and hooks with them.
    observed = is_observed(conv, norm)
    if torch.is_grad_enabled() or observed or (isinstance(norm, nn.BatchNorm3d) and norm.training):
        return norm(conv(x))
    # Every norm of these networks has statistics and an affine part.
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    bias = norm.bias - norm.running_mean * scale
    if conv.bias is not None:
        bias = bias + conv.bias * scale
    weight = conv.weight * scale.view(-1, 1, 1, 1, 1)
    if x.is_contiguous(memory_format=torch.channels_last_3d):
        # Weights of another layout than the input's are reordered slowly.
        weight = weight.contiguous(memory_format=torch.channels_last_3d)
    return functional.conv3d(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)


def inference_layout(clip: Tensor) -> Tensor:
    """Return a clip with channels last where that is the fastest: in bfloat16 on a CPU.

    Without gradients only. All layers after it keep the layout, and take less than half of the
    time. In float32, the layouts are equally fast.

    Args:
        clip: `[B, 3, T, H, W]`.
    """
    if clip.device.type != "cpu" or torch.is_grad_enabled():
        return clip
    dtype = clip.dtype
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
    if dtype != torch.bfloat16:
        return clip
    return clip.contiguous(memory_format=torch.channels_last_3d)


def strided_frames(num_frames: int, alpha: int) -> list[int]:
    """Return the frames of the slow pathway in the AlphAction lineage: 0, alpha, 2 alpha, ...

    Args:
        num_frames: T.
        alpha: fast over slow frame rate.
    """
    return [alpha * i for i in range(num_frames // alpha)]


def spread_frames(num_frames: int, alpha: int) -> list[int]:
    """Return the frames of the slow pathway in PySlowFast: floor(linspace(0, T - 1, T // alpha)).

    Args:
        num_frames: T.
        alpha: fast over slow frame rate.
    """
    # In float32 as in PySlowFast, where whole positions may round down (frame 52 instead of 53 at
    # T = 160, alpha = 4).
    places = linspace_float32(0, num_frames - 1, num_frames // alpha)
    return [int(place) for place in places]


def check_frames(num_frames: int, alpha: int) -> None:
    """Refuse a clip whose pathways would not fit together.

    Args:
        num_frames: T.
        alpha: fast over slow frame rate.

    Raises:
        ArgumentError: if the number of frames is not a multiple of `alpha`.
    """
    if num_frames < alpha or num_frames % alpha:
        raise ArgumentError(
            f"a clip of {num_frames} frames does not fit SlowFast: the slow pathway takes one "
            f"frame in {alpha}, so the number of frames must be a multiple of alpha {alpha}",
            "num_frames",
            "alpha",
        )


def check_pathways(width: int, beta_inv: int, fusion_kernel: int) -> None:
    """Refuse two pathways whose channels or frames would not fit together.

    Args:
        width: channels of the slow pathway's stem.
        beta_inv: slow over fast channels.
        fusion_kernel: size of the lateral convolution in time.

    Raises:
        ArgumentError: if `beta_inv` does not divide `width`, or the lateral kernel is even.
    """
    if width % beta_inv:
        raise ArgumentError(
            f"width {width}: the fast pathway has 1 / {beta_inv} of these channels, so the width "
            f"must be a multiple of beta_inv {beta_inv}",
            "width",
            "beta_inv",
        )
    if fusion_kernel % 2 == 0:
        raise ArgumentError(
            f"fusion_kernel {fusion_kernel} is even: the lateral kernel must be odd",
            "fusion_kernel",
        )


def init_weights(model: nn.Module) -> None:
    """Initialise convolutions (He et al. 2015, fan out), classifier (small normal) and biases (0).

    Args:
        model: initialised in place.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=LINEAR_INIT_STD)
        if isinstance(module, (nn.Conv3d, nn.Linear)) and module.bias is not None:
            nn.init.zeros_(module.bias)
