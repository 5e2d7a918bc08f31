"""SlowFast of the AlphAction lineage, as the method uses it.

Feichtenhofer et al. 2019, "SlowFast Networks for Video Recognition". PySlowFast's network is in
`resnet3d.py`, and these are the differences:

- slow frames are 0, alpha, 2 alpha, ...
- lateral convolutions have a bias and neither norm nor ReLU
- the stem's max-pool is not padded
- the last stage keeps its resolution and is dilated
- only the slow pathway is classified; the last stage of the fast one has weights that no logit
  depends on

Names and shapes of the state_dict are those of the public checkpoints.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from nightcrawler.models.conv3d import (
    FrozenBatchNorm3d,
    Norm3d,
    check_frames,
    check_pathways,
    conv3d,
    conv_norm,
    inference_layout,
    init_weights,
    strided_frames,
    takes_statistics,
)
from nightcrawler.models.layers import motion_channels

# Strides and dilations in space of the four stages.
STRIDES = (1, 2, 2, 1)
DILATIONS = (1, 1, 1, 2)
# Kernels in time of the stem, then of the first convolution in the four stages' blocks.
SLOW_KERNELS = (1, 1, 1, 3, 3)
FAST_KERNELS = (5, 3, 3, 3, 3)
LAST_STAGE = len(STRIDES) - 1
# Output over inner channels of a block.
EXPANSION = 4

Norm = Callable[[int], Norm3d]


class ConvNorm(nn.Module):
    """Convolution and its norm.

    Args:
        conv: the convolution.
        norm: from a number of channels to a norm layer.
    """

    def __init__(self, conv: nn.Conv3d, norm: Norm) -> None:
        super().__init__()
        self.conv = conv
        self.bn = norm(conv.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Transform `[B, C_in, T, H, W]` to `[B, C, T, H', W']`."""
        return conv_norm(self.conv, self.bn, x)


class Bottleneck(nn.Module):
    """Convolutions over time, over space and over channels.

    Args:
        in_channels: channels of the input.
        inner: channels inside. The output has `EXPANSION` times as many.
        time_kernel: kernel in time of the first convolution.
        stride: in space.
        dilation: in space.
        norm: from a number of channels to a norm layer.
    """

    def __init__(
        self, in_channels: int, inner: int, time_kernel: int, stride: int, dilation: int, norm: Norm
    ) -> None:
        super().__init__()
        self.conv1 = ConvNorm(conv3d(in_channels, inner, (time_kernel, 1)), norm)
        self.conv2 = ConvNorm(conv3d(inner, inner, (1, 3), stride=stride, dilation=dilation), norm)
        self.conv3 = ConvNorm(conv3d(inner, EXPANSION * inner), norm)

    def forward(self, x: Tensor) -> Tensor:
        """Transform `[B, C_in, T, H, W]` to `[B, C, T, H', W']`."""
        return self.conv3(self.conv2(self.conv1(x).relu_()).relu_())


class Residual(nn.Module):
    """Bottleneck and its shortcut.

    Args:
        in_channels: channels of the input.
        inner: see `Bottleneck`.
        time_kernel: see `Bottleneck`.
        stride: in space.
        dilation: in space.
        norm: from a number of channels to a norm layer.
        project: the shortcut is a convolution, in the first block of a stage.
    """

    def __init__(
        self,
        in_channels: int,
        inner: int,
        time_kernel: int,
        stride: int,
        dilation: int,
        norm: Norm,
        project: bool,
    ) -> None:
        super().__init__()
        self.btnk = Bottleneck(in_channels, inner, time_kernel, stride, dilation, norm)
        self.shortcut: nn.Module = nn.Identity()
        if project:
            self.shortcut = ConvNorm(conv3d(in_channels, EXPANSION * inner, stride=stride), norm)

    def forward(self, x: Tensor) -> Tensor:
        """Transform `[B, C_in, T, H, W]` to `[B, C, T, H', W']`."""
        return self.btnk(x).add_(self.shortcut(x)).relu_()


def _stage(
    in_channels: int,
    inner: int,
    depth: int,
    time_kernel: int,
    stride: int,
    dilation: int,
    norm: Norm,
) -> nn.Sequential:
    """Return `depth` residual blocks, `res_0`, `res_1`, ..."""
    blocks: OrderedDict[str, nn.Module] = OrderedDict()
    for i in range(depth):
        blocks[f"res_{i}"] = Residual(
            in_channels, inner, time_kernel, stride, dilation, norm, project=i == 0
        )
        # The first block changes channels and resolution, the others keep both.
        in_channels = EXPANSION * inner
        stride = 1
    return nn.Sequential(blocks)


class Pathway(nn.Module):
    """One of the two networks: a stem and four stages.

    Args:
        in_channels: channels of the clip.
        width: channels of the stem. Stage s has `4 width 2^s`.
        depth: number of blocks in each of the four stages.
        time_kernels: kernels in time of the stem and of the four stages.
        lateral_channels: channels that join before each of the four stages.
        norm: from a number of channels to a norm layer.
    """

    def __init__(
        self,
        in_channels: int,
        width: int,
        depth: Sequence[int],
        time_kernels: Sequence[int],
        lateral_channels: Sequence[int],
        norm: Norm,
    ) -> None:
        super().__init__()
        self.conv1 = conv3d(in_channels, width, (time_kernels[0], 7), stride=2)
        self.bn1 = norm(width)
        self.maxpool1 = nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2))
        for i, channels in enumerate(stage_channels(width)):
            stage = _stage(
                channels + lateral_channels[i],
                width * 2**i,
                depth[i],
                time_kernels[i + 1],
                STRIDES[i],
                DILATIONS[i],
                norm,
            )
            self.add_module(f"res_nl{i + 1}", stage)

    def stem(self, clip: Tensor) -> Tensor:
        """Reduce `[B, C_in, T, H, W]` to `[B, width, T, H / 4, W / 4]`.

        Sizes are rounded down, less the border of the pool that is not padded.

        Args:
            clip: frames of this pathway.
        """
        return self.maxpool1(conv_norm(self.conv1, self.bn1, clip).relu_())

    def stage(self, index: int) -> nn.Module:
        """Return stage 0, 1, 2 or 3.

        Args:
            index: of the stage.
        """
        return self.get_submodule(f"res_nl{index + 1}")


def stage_channels(width: int) -> list[int]:
    """Return the channels that enter the four stages from their own pathway.

    Args:
        width: channels of the stem.
    """
    return [width] + [EXPANSION * width * 2**i for i in range(3)]


class Lateral(nn.Module):
    """Lateral connection: a convolution that strides from the fast to the slow frame rate.

    Args:
        channels: channels of the fast pathway.
        ratio: output over input channels.
        kernel: in time (odd).
        alpha: fast over slow frame rate.
    """

    def __init__(self, channels: int, ratio: int, kernel: int, alpha: int) -> None:
        super().__init__()
        self.conv = conv3d(channels, ratio * channels, (kernel, 1), time_stride=alpha, bias=True)

    def forward(self, fast: Tensor) -> Tensor:
        """Reduce `[B, C, T, H, W]` to `[B, ratio C, T / alpha, H, W]`."""
        return self.conv(fast)


class SlowFast(nn.Module):
    """SlowFast of the AlphAction lineage.

    Args:
        num_classes: K.
        depth: number of blocks in each of the four stages. (3, 4, 23, 3) is ResNet-101.
        width: channels of the slow stem.
        alpha: fast over slow frame rate. The clip's frames are a multiple of it.
        beta_inv: slow over fast channels, a divisor of `width`.
        fusion_ratio: output over input channels of lateral convolutions.
        fusion_kernel: kernel in time (odd) of lateral convolutions.
        dropout: before the classifier.
        frozen_bn: BatchNorm with constant statistics, scale and shift.
        motion_stem: see `layers.motion_channels`.

    Raises:
        ArgumentError: if `beta_inv` does not divide `width`, or `fusion_kernel` is even.
    """

    # The fast pathway's last stage never gets a gradient (see `forward`), which DDP must know.
    has_unused_parameters = True

    def __init__(
        self,
        num_classes: int,
        *,
        depth: Sequence[int] = (3, 4, 23, 3),
        width: int = 64,
        alpha: int = 4,
        beta_inv: int = 8,
        fusion_ratio: int = 2,
        fusion_kernel: int = 5,
        dropout: float = 0.0,
        frozen_bn: bool = False,
        motion_stem: bool = False,
    ) -> None:
        super().__init__()
        check_pathways(width, beta_inv, fusion_kernel)
        self.alpha = alpha
        self.motion_stem = motion_stem
        in_channels = 3
        if motion_stem:
            in_channels = 6
        # Frozen norms suit small batches, whose statistics are too noisy.
        norm: Norm = FrozenBatchNorm3d if frozen_bn else nn.BatchNorm3d
        fast_channels = stage_channels(width // beta_inv)
        laterals = [fusion_ratio * channels for channels in fast_channels]
        self.slow = Pathway(in_channels, width, depth, SLOW_KERNELS, laterals, norm)
        self.fast = Pathway(in_channels, width // beta_inv, depth, FAST_KERNELS, (0, 0, 0, 0), norm)
        for i, channels in enumerate(fast_channels):
            self.fast.add_module(
                f"Tconv{i + 1}", Lateral(channels, fusion_ratio, fusion_kernel, alpha)
            )
        self.dropout = nn.Dropout(dropout)
        self.projection = nn.Linear(EXPANSION * width * 8, num_classes)
        init_weights(self)

    def forward(self, clip: Tensor) -> Tensor:
        """Classify clips `[B, 3, T, H, W]`, to logits `[B, K]`.

        Nothing reads the fast pathway's last stage, `fast.res_nl4`. It runs for its BatchNorm
        statistics, which are part of the checkpoint: in training, in adaptation, and wherever one
        of its norms is in train mode or one of its layers has a hook. In evaluation, and with
        `frozen_bn`, it does not run.

        Raises:
            ArgumentError: if T is not a multiple of alpha.
        """
        check_frames(clip.shape[2], self.alpha)
        if self.motion_stem:
            clip = motion_channels(clip)
        frames = strided_frames(clip.shape[2], self.alpha)
        slow = self.slow.stem(inference_layout(clip[:, :, frames]))
        fast = self.fast.stem(inference_layout(clip))
        for i in range(len(STRIDES)):
            lateral = self.fast.get_submodule(f"Tconv{i + 1}")(fast)
            slow = self.slow.stage(i)(torch.cat([slow, lateral], dim=1))
            stage = self.fast.stage(i)
            if i < LAST_STAGE or takes_statistics(stage):
                fast = stage(fast)
        return self.projection(self.dropout(slow.mean(dim=(2, 3, 4))))
