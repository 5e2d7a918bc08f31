"""What the SlowFast networks share: padded convolutions, constant BatchNorm, pathways, initial weights."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn
from torch.nn import functional

from nightcrawler.utils.errors import UserError

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
    """A convolution whose padding keeps the size (before the stride).

    Args:
        in_channels, channels: before and after.
        kernel: in time and in space (odd).
        stride, dilation: in space.
        time_stride: in time.
        groups, bias: as `nn.Conv3d`.
    """
    time, space = kernel
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
    """BatchNorm whose statistics, scale and shift are constants (buffers); there is nothing to train or adapt."""

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, T, H, W]`, same shape out."""
        return functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )


def conv_norm(conv: nn.Conv3d, norm: nn.Module, x: Tensor) -> Tensor:
    """`norm(conv(x))`; in evaluation without gradients as one convolution, the norm folded into its weights.

    Two layers' time goes into one. Layers that someone observes through hooks are called as they are.
    """
    observed = any(m._forward_hooks or m._forward_pre_hooks for m in (conv, norm))
    if torch.is_grad_enabled() or observed or (isinstance(norm, nn.BatchNorm3d) and norm.training):
        return norm(conv(x))
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    bias = norm.bias - norm.running_mean * scale
    if conv.bias is not None:
        bias = bias + conv.bias * scale
    weight = conv.weight * scale.view(-1, 1, 1, 1, 1)
    return functional.conv3d(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)


def strided_frames(num_frames: int, alpha: int) -> list[int]:
    """Frames of the slow pathway in the AlphAction lineage: 0, alpha, 2 alpha, ..."""
    return [alpha * i for i in range(num_frames // alpha)]


def spread_frames(num_frames: int, alpha: int) -> list[int]:
    """Frames of the slow pathway in PySlowFast: floor(linspace(0, T - 1, T // alpha)).

    In float32, as there: whole positions may round down (frame 52 instead of 53 at T = 160, alpha = 4).
    """
    return list(_spread_frames(num_frames, alpha))


@functools.cache
def _spread_frames(num_frames: int, alpha: int) -> tuple[int, ...]:
    """Kept, so that a model that has run once can be traced: a trace cannot make numbers of tensors."""
    return tuple(
        torch.linspace(0, num_frames - 1, num_frames // alpha, dtype=torch.float32).long().tolist()
    )


def check_frames(num_frames: int, alpha: int) -> None:
    """Refuse a clip whose pathways would not fit together.

    Raises:
        UserError: if the number of frames is not a multiple of `alpha`.
    """
    if num_frames < alpha or num_frames % alpha:
        raise UserError(
            f"a clip of {num_frames} frames does not fit SlowFast: the slow pathway takes one frame in {alpha}, "
            f"so DATA.NUM_FRAMES must be a multiple of SLOWFAST.ALPHA {alpha}"
        )


def check_pathways(width: int, beta_inv: int, fusion_kernel: int) -> None:
    """Refuse two pathways whose channels or frames would not fit together.

    Raises:
        UserError: if `beta_inv` does not divide the slow `width`, or the lateral kernel is even.
    """
    if width % beta_inv:
        raise UserError(
            f"a slow pathway {width} channels wide has no fast pathway of 1 / {beta_inv}: the width must be a multiple "
            f"of SLOWFAST.BETA_INV {beta_inv}"
        )
    if fusion_kernel % 2 == 0:
        raise UserError(
            f"SLOWFAST.FUSION_KERNEL_SZ {fusion_kernel} is even: the lateral kernel must be odd"
        )


def init_weights(model: nn.Module) -> None:
    """He et al. 2015 (fan out) for convolutions, a small normal for the classifier, zero biases."""
    for module in model.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=LINEAR_INIT_STD)
        if isinstance(module, (nn.Conv3d, nn.Linear)) and module.bias is not None:
            nn.init.zeros_(module.bias)
