"""PySlowFast's ResNets for video: SlowFast, Slow, C2D and I3D, with or without non-local blocks.

Feichtenhofer et al. 2019, "SlowFast Networks for Video Recognition", and Wang et al. 2018,
"Non-local Neural Networks". A network has one pathway or two (slow, then fast). Names and shapes of
the state_dict are those of PySlowFast's checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from nightcrawler.models.conv3d import (
    check_frames,
    check_pathways,
    conv3d,
    conv_norm,
    inference_layout,
    init_weights,
    spread_frames,
)
from nightcrawler.models.layers import motion_channels
from nightcrawler.models.nonlocal_block import NonLocal
from nightcrawler.models.resnet3d_layout import (
    ARCHS,
    DEPTHS,
    EXPANSION,
    PLAIN,
    ResNetLayout,
    StageShape,
)
from nightcrawler.utils.errors import ArgumentError


class StemPathway(nn.Module):
    """Convolution, norm, ReLU and max-pool of one pathway.

    Args:
        in_channels: channels of the clip.
        channels: channels of the output.
        time_kernel: kernel in time.
    """

    def __init__(self, in_channels: int, channels: int, time_kernel: int) -> None:
        super().__init__()
        self.conv = conv3d(in_channels, channels, (time_kernel, 7), stride=2)
        self.bn = nn.BatchNorm3d(channels)

    def forward(self, clip: Tensor) -> Tensor:
        """Reduce `[B, C_in, T, H, W]` to `[B, C, T, H / 4, W / 4]` (rounded up)."""
        x = conv_norm(self.conv, self.bn, clip).relu_()
        return functional.max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, 1, 1))


class Stem(nn.Module):
    """Stem of every pathway, `pathway{p}_stem`.

    Args:
        in_channels: channels of the clip.
        channels: channels of each pathway.
        time_kernels: kernel in time of each pathway.
    """

    def __init__(
        self, in_channels: int, channels: Sequence[int], time_kernels: Sequence[int]
    ) -> None:
        super().__init__()
        for p, (width, kernel) in enumerate(zip(channels, time_kernels, strict=True)):
            self.add_module(f"pathway{p}_stem", StemPathway(in_channels, width, kernel))

    def forward(self, clips: list[Tensor]) -> list[Tensor]:
        """Reduce `[B, C_in, T, H, W]` of each pathway to `[B, C, T, H / 4, W / 4]`."""
        return [self.get_submodule(f"pathway{p}_stem")(clip) for p, clip in enumerate(clips)]


class Fuse(nn.Module):
    """Lateral connection: a convolution that strides from the fast to the slow frame rate.

    Args:
        fast_channels: channels of the fast pathway.
        channels: channels that the slow pathway gains.
        kernel: in time.
        alpha: fast over slow frame rate.
    """

    def __init__(self, fast_channels: int, channels: int, kernel: int, alpha: int) -> None:
        super().__init__()
        self.conv_f2s = conv3d(fast_channels, channels, (kernel, 1), time_stride=alpha)
        self.bn = nn.BatchNorm3d(channels)

    def forward(self, paths: list[Tensor]) -> list[Tensor]:
        """Append channels to slow `[B, C, T / alpha, H, W]` from fast `[B, C_fast, T, H, W]`."""
        slow, fast = paths
        return [torch.cat([slow, conv_norm(self.conv_f2s, self.bn, fast).relu_()], dim=1), fast]


class Bottleneck(nn.Module):
    """Convolutions over time (`a`), over space (`b`) and over channels (`c`).

    Args:
        shape: of the stage.
        in_channels: channels of the input.
        time_kernel: kernel in time.
        stride: in space.
    """

    def __init__(self, shape: StageShape, in_channels: int, time_kernel: int, stride: int) -> None:
        super().__init__()
        first = stride if shape.stride_first else 1
        middle = stride // first
        inner = shape.inner
        self.a = conv3d(in_channels, inner, (time_kernel, 1), stride=first)
        self.a_bn = nn.BatchNorm3d(inner)
        self.b = conv3d(
            inner, inner, (1, 3), stride=middle, dilation=shape.dilation, groups=shape.groups
        )
        self.b_bn = nn.BatchNorm3d(inner)
        self.c = conv3d(inner, shape.channels)
        self.c_bn = nn.BatchNorm3d(shape.channels)
        # A residual block starts as its shortcut (Goyal et al. 2017, section 5.1).
        nn.init.zeros_(self.c_bn.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Transform `[B, C_in, T, H, W]` to `[B, C, T, H', W']`."""
        x = conv_norm(self.a, self.a_bn, x).relu_()
        x = conv_norm(self.b, self.b_bn, x).relu_()
        return conv_norm(self.c, self.c_bn, x)


class Residual(nn.Module):
    """Bottleneck (`branch2`) and its shortcut (`branch1` where the shape changes).

    Args:
        shape: of the stage.
        in_channels: channels of the input.
        time_kernel: kernel in time.
        stride: in space.
    """

    def __init__(self, shape: StageShape, in_channels: int, time_kernel: int, stride: int) -> None:
        super().__init__()
        self.projects = in_channels != shape.channels or stride != 1
        if self.projects:
            self.branch1 = conv3d(in_channels, shape.channels, stride=stride)
            self.branch1_bn = nn.BatchNorm3d(shape.channels)
        self.branch2 = Bottleneck(shape, in_channels, time_kernel, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Transform `[B, C_in, T, H, W]` to `[B, C, T, H', W']`."""
        shortcut = conv_norm(self.branch1, self.branch1_bn, x) if self.projects else x
        # In place: the sum needs no memory of its own.
        return self.branch2(x).add_(shortcut).relu_()


class Stage(nn.Module):
    """Residual blocks of every pathway, `pathway{p}_res{i}`, and non-local blocks after some.

    Args:
        shapes: of each pathway.
    """

    def __init__(self, shapes: Sequence[StageShape]) -> None:
        super().__init__()
        # Names of each pathway's blocks in the order of the forward pass.
        self.orders: list[list[str]] = []
        for p, shape in enumerate(shapes):
            blocks = self._blocks(p, shape)
            for name, block in blocks.items():
                self.add_module(name, block)
            self.orders.append(list(blocks))

    @staticmethod
    def _blocks(p: int, shape: StageShape) -> dict[str, nn.Module]:
        """Return the blocks of a pathway by name, in the order of the forward pass."""
        blocks: dict[str, nn.Module] = {}
        # The first block changes channels and resolution, the others keep both.
        in_channels = shape.in_channels
        stride = shape.stride
        for i, kernel in enumerate(shape.kernels):
            blocks[f"pathway{p}_res{i}"] = Residual(shape, in_channels, kernel, stride)
            if i in shape.nonlocal_blocks:
                blocks[f"pathway{p}_nonlocal{i}"] = NonLocal(
                    shape.channels, shape.nonlocal_pool, shape.nonlocal_groups, shape.nonlocal_kind
                )
            in_channels = shape.channels
            stride = 1
        return blocks

    def forward(self, paths: list[Tensor]) -> list[Tensor]:
        """Transform `[B, C_in, T, H, W]` of each pathway to `[B, C, T, H', W']`."""
        outputs = []
        for names, x in zip(self.orders, paths, strict=True):
            for name in names:
                x = self.get_submodule(name)(x)
            outputs.append(x)
        return outputs


class Head(nn.Module):
    """Mean of each pathway over time and space, dropout, classifier.

    Args:
        channels: channels of all pathways together.
        num_classes: K.
        dropout: before the classifier.
        window: see `head_window` of `ResNet3D`.
    """

    def __init__(self, channels: int, num_classes: int, dropout: float, window: int) -> None:
        super().__init__()
        self.window = window
        self.dropout = nn.Dropout(dropout)
        self.projection = nn.Linear(channels, num_classes)

    def forward(self, paths: list[Tensor]) -> Tensor:
        """Classify `[B, C, T, H, W]` of each pathway, to logits `[B, K]`."""
        means = [self._mean(x.mean(dim=2)) for x in paths]
        return self.projection(self.dropout(torch.cat(means, dim=1)))

    def _mean(self, x: Tensor) -> Tensor:
        """Return the mean of `[B, C, H, W]` over space."""
        # Without a window, clips larger than in training weigh border cells like all others.
        if self.window:
            height, width = x.shape[2:]
            window = [min(self.window, height), min(self.window, width)]
            x = functional.avg_pool2d(x, window, stride=1)
        return x.mean(dim=(2, 3))


class ResNet3D(nn.Module):
    """SlowFast, Slow, C2D or I3D of PySlowFast.

    Args:
        num_classes: K.
        arch: a name of `ARCHS`. `slowfast` has two pathways, the others one.
        depth: layers, a key of `DEPTHS`.
        width: channels of the (slow) stem. Stage s has `4 width 2^s`.
        layout: layout of the blocks.
        alpha: fast over slow frame rate, only for `slowfast`.
        beta_inv: slow over fast channels, only for `slowfast`.
        fusion_ratio: output over input channels of lateral convolutions.
        fusion_kernel: kernel in time (odd) of lateral convolutions.
        dropout: before the classifier.
        head_window: side, in cells of the last stage, of a window that the head averages over
            before it averages over the window's places. PySlowFast does this with clips larger
            than in training. 0 takes the plain mean.
        motion_stem: see `layers.motion_channels`.
        in_channels: channels of the clip.

    Raises:
        ArgumentError: if `beta_inv` does not divide `width`, or `fusion_kernel` is even.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        arch: str = "slowfast",
        depth: int = 50,
        width: int = 64,
        layout: ResNetLayout = PLAIN,
        alpha: int = 4,
        beta_inv: int = 8,
        fusion_ratio: int = 2,
        fusion_kernel: int = 5,
        dropout: float = 0.0,
        head_window: int = 0,
        motion_stem: bool = False,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        self.arch = ARCHS[arch]
        self.alpha = alpha
        self.motion_stem = motion_stem
        stem_kernels = [cycle[0] for cycle in self.arch.kernels[0]]
        self.two_pathways = len(stem_kernels) == 2
        if self.two_pathways:
            check_pathways(width, beta_inv, fusion_kernel)
        # A pathway has 1 / share of the channels.
        shares = (1, beta_inv) if self.two_pathways else (1,)
        channels = [width // share for share in shares]
        if motion_stem:
            in_channels *= 2
        self.s1 = Stem(in_channels, channels, stem_kernels)
        for stage, count in enumerate(DEPTHS[depth]):
            entering = list(channels)
            wider = width * 2**stage
            # The slow pathway gains the lateral channels before each stage.
            if self.two_pathways:
                entering[0] += fusion_ratio * channels[1]
                fuse = Fuse(channels[1], fusion_ratio * channels[1], fusion_kernel, alpha)
                self.add_module(f"s{stage + 1}_fuse", fuse)
            channels = [EXPANSION * wider // share for share in shares]
            shapes = []
            for p, share in enumerate(shares):
                inner = layout.groups * wider // share
                shape = layout.shape(self.arch, stage, p, count, entering[p], inner, channels[p])
                shapes.append(shape)
            self.add_module(f"s{stage + 2}", Stage(shapes))
        self.head = Head(sum(channels), num_classes, dropout, head_window)
        init_weights(self)

    def forward(self, clip: Tensor) -> Tensor:
        """Classify clips `[B, 3, T, H, W]`, to logits `[B, K]`.

        Raises:
            ArgumentError: if T is not a multiple of alpha (two pathways), or too short for the pool
                over time.
        """
        num_frames = clip.shape[2]
        time_pool = self.arch.time_pool
        if self.two_pathways:
            check_frames(num_frames, self.alpha)
        elif num_frames < time_pool:
            raise ArgumentError(
                f"a clip of {num_frames} frames is too short: this network needs at least "
                f"{time_pool}",
                "num_frames",
            )
        if self.motion_stem:
            clip = motion_channels(clip)
        paths = [clip]
        if self.two_pathways:
            paths = [clip[:, :, spread_frames(num_frames, self.alpha)], clip]
        paths = self.s1([inference_layout(path) for path in paths])
        for stage in range(2, 6):
            if self.two_pathways:
                paths = self.get_submodule(f"s{stage - 1}_fuse")(paths)
            # Between the first two stages, numbered 2 and 3: C2D and I3D halve time here.
            if stage == 3 and time_pool > 1:
                paths = [functional.max_pool3d(x, (time_pool, 1, 1)) for x in paths]
            paths = self.get_submodule(f"s{stage}")(paths)
        return self.head(paths)
