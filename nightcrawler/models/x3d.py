"""X3D: a small network for video, expanded from an image network along six axes.

Feichtenhofer 2020, "X3D: Expanding Architectures for Efficient Video Recognition". Names and
shapes of the state_dict are those of PySlowFast's checkpoints. X3D-S and M are one network, for
clips of 13 frames of 160 px and 16 of 224 px.
"""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional

from nightcrawler.models.conv3d import conv3d, conv_norm, init_weights
from nightcrawler.models.layers import motion_channels

# Channels of the stem, and of the four stages over the stage before, at width 1.
STEM = 12
GROWTH = (1, 2, 2, 2)
# Blocks of the stages at depth 1.
BLOCKS = (1, 2, 5, 3)
STEM_FRAMES = 5
BLOCK_FRAMES = 3
# Squeezed over inner channels (Hu et al. 2018).
SQUEEZE = 1 / 16
HEAD_WIDTH = 2048
DIVISOR = 8


def round_width(width: float) -> int:
    """Round a number of channels to a multiple of 8, by no more than a tenth downwards."""
    rounded = max(DIVISOR, int(width + DIVISOR / 2) // DIVISOR * DIVISOR)
    if rounded < 0.9 * width:
        rounded += DIVISOR
    return rounded


class Squeeze(nn.Module):
    """Gate of each channel, computed from the mean of all channels.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = round_width(channels * SQUEEZE)
        self.fc1 = conv3d(channels, squeezed, bias=True)
        self.fc2 = conv3d(squeezed, channels, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """Scale the channels of `[B, C, T, H, W]`."""
        mean = x.mean((2, 3, 4), keepdim=True)
        return x * self.fc2(self.fc1(mean).relu()).sigmoid()


class X3DBottleneck(nn.Module):
    """Convolutions over channels (`a`), over time and space of each channel (`b`), over channels.

    Args:
        in_channels: channels of the input.
        inner: channels of `b`.
        channels: channels of the output.
        stride: in space.
        squeeze: gate the inner channels.
    """

    def __init__(
        self, in_channels: int, inner: int, channels: int, stride: int, squeeze: bool
    ) -> None:
        super().__init__()
        self.a = conv3d(in_channels, inner)
        self.a_bn = nn.BatchNorm3d(inner)
        self.b = conv3d(inner, inner, (BLOCK_FRAMES, 3), stride=stride, groups=inner)
        self.b_bn = nn.BatchNorm3d(inner)
        self.se = Squeeze(inner) if squeeze else None
        self.c = conv3d(inner, channels)
        self.c_bn = nn.BatchNorm3d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Transform `[B, C_in, T, H, W]` to `[B, C, T, H', W']`."""
        x = conv_norm(self.a, self.a_bn, x).relu_()
        x = conv_norm(self.b, self.b_bn, x)
        if self.se is not None:
            x = self.se(x)
        return conv_norm(self.c, self.c_bn, functional.silu(x))


class X3DBlock(nn.Module):
    """Bottleneck (`branch2`) and its shortcut (`branch1` where the shape changes).

    Args:
        in_channels: channels of the input.
        inner: channels inside the bottleneck.
        channels: channels of the output.
        stride: in space.
        squeeze: gate the inner channels.
    """

    def __init__(
        self, in_channels: int, inner: int, channels: int, stride: int, squeeze: bool
    ) -> None:
        super().__init__()
        self.projects = in_channels != channels or stride != 1
        if self.projects:
            self.branch1 = conv3d(in_channels, channels, stride=stride)
            self.branch1_bn = nn.BatchNorm3d(channels)
        self.branch2 = X3DBottleneck(in_channels, inner, channels, stride, squeeze)

    def forward(self, x: Tensor) -> Tensor:
        """Transform `[B, C_in, T, H, W]` to `[B, C, T, H', W']`."""
        shortcut = conv_norm(self.branch1, self.branch1_bn, x) if self.projects else x
        return self.branch2(x).add_(shortcut).relu_()


class X3DStem(nn.Module):
    """Convolution over space, then one over time of each channel.

    Args:
        in_channels: channels of the clip.
        channels: channels of the output.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv_xy = conv3d(in_channels, channels, (1, 3), stride=2)
        self.conv = conv3d(channels, channels, (STEM_FRAMES, 1), groups=channels)
        self.bn = nn.BatchNorm3d(channels)

    def forward(self, clip: Tensor) -> Tensor:
        """Reduce `[B, C_in, T, H, W]` to `[B, C, T, H / 2, W / 2]` (rounded up)."""
        return conv_norm(self.conv, self.bn, self.conv_xy(clip)).relu_()


class X3DHead(nn.Module):
    """Wider channels, mean over time and space, a hidden layer, dropout, classifier.

    Args:
        channels: channels of the input.
        inner: channels that the mean is taken of.
        num_classes: K.
        dropout: before the classifier.
    """

    def __init__(self, channels: int, inner: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.conv_5 = conv3d(channels, inner)
        self.conv_5_bn = nn.BatchNorm3d(inner)
        self.lin_5 = conv3d(inner, HEAD_WIDTH)
        self.dropout = nn.Dropout(dropout)
        self.projection = nn.Linear(HEAD_WIDTH, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Classify `[B, C, T, H, W]`, to logits `[B, K]`."""
        x = conv_norm(self.conv_5, self.conv_5_bn, x).relu_()
        hidden = self.lin_5(x.mean((2, 3, 4), keepdim=True)).relu_().flatten(1)
        return self.projection(self.dropout(hidden))


class X3D(nn.Module):
    """X3D of PySlowFast. The defaults are X3D-S and X3D-M.

    Args:
        num_classes: K.
        width: factor of the channels.
        depth: factor of the number of blocks.
        bottleneck: inner over outer channels of a block.
        dropout: before the classifier.
        motion_stem: see `layers.motion_channels`.

    Example:
        >>> import torch
        >>> X3D(num_classes=11)(torch.zeros(1, 3, 4, 32, 32)).shape
        torch.Size([1, 11])
    """

    def __init__(
        self,
        num_classes: int,
        *,
        width: float = 2.0,
        depth: float = 2.2,
        bottleneck: float = 2.25,
        dropout: float = 0.0,
        motion_stem: bool = False,
    ) -> None:
        super().__init__()
        self.motion_stem = motion_stem
        channels = round_width(STEM * width)
        # PySlowFast numbers pathways, of which there is one.
        self.s1 = nn.ModuleDict({"pathway0_stem": X3DStem(6 if motion_stem else 3, channels)})
        plain = STEM
        inner = channels
        for stage, (growth, count) in enumerate(zip(GROWTH, BLOCKS, strict=True)):
            plain = plain if growth == 1 else round_width(plain * growth)
            wider = round_width(plain * width)
            inner = int(bottleneck * wider)
            blocks = nn.ModuleDict()
            for i in range(math.ceil(depth * count)):
                # Every second block has a gate.
                entering, stride = (channels, 2) if i == 0 else (wider, 1)
                blocks[f"pathway0_res{i}"] = X3DBlock(entering, inner, wider, stride, i % 2 == 0)
            self.add_module(f"s{stage + 2}", blocks)
            channels = wider
        self.head = X3DHead(channels, inner, num_classes, dropout)
        init_weights(self)
        for module in self.modules():
            if isinstance(module, X3DBottleneck):
                # A residual block starts as its shortcut (Goyal et al. 2017, section 5.1).
                nn.init.zeros_(module.c_bn.weight)

    def forward(self, clip: Tensor) -> Tensor:
        """Classify clips `[B, 3, T, H, W]`, to logits `[B, K]`."""
        if self.motion_stem:
            clip = motion_channels(clip)
        x = self.s1["pathway0_stem"](clip)
        for stage in range(2, 6):
            for block in self.get_submodule(f"s{stage}").children():
                x = block(x)
        return self.head(x)
