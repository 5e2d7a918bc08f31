"""PySlowFast's ResNets for video: SlowFast, Slow, C2D and I3D, with or without non-local blocks.

Feichtenhofer et al. 2019, "SlowFast Networks for Video Recognition"; Wang et al. 2018, "Non-local Neural
Networks". A network has one pathway or two (slow, then fast). Names and shapes of the state_dict are those of
PySlowFast's checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from nightcrawler.models.conv3d import (
    check_frames,
    check_pathways,
    conv3d,
    conv_norm,
    init_weights,
    spread_frames,
)
from nightcrawler.models.layers import motion_channels
from nightcrawler.models.nonlocal_block import NonLocal
from nightcrawler.utils.errors import UserError

# Blocks of the four stages, by number of layers.
DEPTHS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
# A stage's channels over those of its first convolutions.
EXPANSION = 4


class Arch(NamedTuple):
    """A row of the table of architectures.

    Attributes:
        kernels: `[stage][pathway]` kernels in time that the blocks of a stage take in turn; stage 0 is the stem.
        time_pool: stride of the max-pool over time after the first stage.
        nonlocal_kind: how its published non-local blocks weigh positions: `softmax` | `dot_product`.
    """

    kernels: tuple[tuple[tuple[int, ...], ...], ...]
    time_pool: int = 1
    nonlocal_kind: str = "dot_product"


_FRAMEWISE = (((1,),),) * 5
_INFLATED = (((5,),), ((3,),), ((3, 1),), ((3, 1),), ((1, 3),))
ARCHS = {
    "2d": Arch(_FRAMEWISE, nonlocal_kind="softmax"),
    "c2d": Arch(_FRAMEWISE, time_pool=2, nonlocal_kind="softmax"),
    "slow_c2d": Arch(_FRAMEWISE, nonlocal_kind="softmax"),
    "i3d": Arch(_INFLATED, time_pool=2, nonlocal_kind="softmax"),
    "slow_i3d": Arch(_INFLATED, nonlocal_kind="softmax"),
    "slow": Arch((((1,),), ((1,),), ((1,),), ((3,),), ((3,),))),
    "slowfast": Arch((((1,), (5,)), ((1,), (3,)), ((1,), (3,)), ((3,), (3,)), ((3,), (3,)))),
}


@dataclass(frozen=True)
class StageShape:
    """One pathway of one stage.

    Attributes:
        in_channels, inner, channels: of its input, inside a block, of its output.
        kernels: kernel in time of each block.
        stride, dilation, groups, stride_first: see `Layout`.
        nonlocal_blocks, nonlocal_groups, nonlocal_pool, nonlocal_kind: see `Layout`.
    """

    in_channels: int
    inner: int
    channels: int
    kernels: Sequence[int]
    stride: int
    dilation: int
    groups: int
    stride_first: bool
    nonlocal_blocks: Sequence[int]
    nonlocal_groups: int
    nonlocal_pool: Sequence[int]
    nonlocal_kind: str


@dataclass(frozen=True)
class Layout:
    """How the blocks of the four stages are laid out; tables are `[stage][pathway]`.

    Attributes:
        groups: groups of a block's middle convolution (ResNeXt).
        stride_first: a block strides in its first convolution instead of the middle one.
        strides, dilations: in space.
        temporal_blocks: blocks that take the architecture's kernels in time, the others take 1; all when absent.
        nonlocal_blocks: residual blocks that a non-local block follows.
        nonlocal_groups: parts of the clip, in time, that a non-local block keeps apart.
        nonlocal_pools: max-pool of its keys and values over time, height, width.
        nonlocal_kind: how it weighs positions, `softmax` | `dot_product`; the architecture's published one when absent.
    """

    groups: int = 1
    stride_first: bool = False
    strides: Sequence[Sequence[int]] = ((1, 1), (2, 2), (2, 2), (2, 2))
    dilations: Sequence[Sequence[int]] = ((1, 1),) * 4
    temporal_blocks: Sequence[Sequence[int]] | None = None
    nonlocal_blocks: Sequence[Sequence[Sequence[int]]] = (((), ()),) * 4
    nonlocal_groups: Sequence[Sequence[int]] = ((1, 1),) * 4
    nonlocal_pools: Sequence[Sequence[Sequence[int]]] = (((1, 2, 2),) * 2,) * 4
    nonlocal_kind: str | None = None

    def shape(
        self, arch: Arch, stage: int, p: int, count: int, in_channels: int, inner: int, out: int
    ) -> StageShape:
        """Pathway `p` of a stage of `count` blocks, from `in_channels` to `out`."""
        cycle = arch.kernels[stage + 1][p]
        num_temporal = count if self.temporal_blocks is None else self.temporal_blocks[stage][p]
        return StageShape(
            in_channels=in_channels,
            inner=inner,
            channels=out,
            kernels=[cycle[i % len(cycle)] if i < num_temporal else 1 for i in range(count)],
            stride=self.strides[stage][p],
            dilation=self.dilations[stage][p],
            groups=self.groups,
            stride_first=self.stride_first,
            nonlocal_blocks=self.nonlocal_blocks[stage][p],
            nonlocal_groups=self.nonlocal_groups[stage][p],
            nonlocal_pool=self.nonlocal_pools[stage][p],
            nonlocal_kind=self.nonlocal_kind or arch.nonlocal_kind,
        )


PLAIN = Layout()
# Of PySlowFast's NLN configurations: in the (slow) pathway's middle stages.
NONLOCAL_BLOCKS = (((), ()), ((1, 3), ()), ((1, 3, 5), ()), ((), ()))


class StemPathway(nn.Module):
    """Convolution, norm, ReLU and max-pool of one pathway."""

    def __init__(self, in_channels: int, channels: int, time_kernel: int) -> None:
        super().__init__()
        self.conv = conv3d(in_channels, channels, (time_kernel, 7), stride=2)
        self.bn = nn.BatchNorm3d(channels)

    def forward(self, clip: Tensor) -> Tensor:
        """`[B, C_in, T, H, W]` to `[B, C, T, H / 4, W / 4]` (rounded up)."""
        return functional.max_pool3d(
            conv_norm(self.conv, self.bn, clip).relu_(), (1, 3, 3), (1, 2, 2), (0, 1, 1)
        )


class Stem(nn.Module):
    """The stem of every pathway, `pathway{p}_stem`."""

    def __init__(
        self, in_channels: int, channels: Sequence[int], time_kernels: Sequence[int]
    ) -> None:
        super().__init__()
        for p, (width, kernel) in enumerate(zip(channels, time_kernels, strict=True)):
            self.add_module(f"pathway{p}_stem", StemPathway(in_channels, width, kernel))

    def forward(self, clips: list[Tensor]) -> list[Tensor]:
        """`[B, C_in, T, H, W]` of each pathway to `[B, C, T, H / 4, W / 4]`."""
        return [self.get_submodule(f"pathway{p}_stem")(clip) for p, clip in enumerate(clips)]


class Fuse(nn.Module):
    """From the fast pathway to the slow: a convolution over time that strides to the slow frame rate, beside it."""

    def __init__(self, fast_channels: int, channels: int, kernel: int, alpha: int) -> None:
        super().__init__()
        self.conv_f2s = conv3d(fast_channels, channels, (kernel, 1), time_stride=alpha)
        self.bn = nn.BatchNorm3d(channels)

    def forward(self, paths: list[Tensor]) -> list[Tensor]:
        """`[B, C, T / alpha, H, W]` and `[B, C_fast, T, H, W]`; the first gets more channels."""
        slow, fast = paths
        return [torch.cat([slow, conv_norm(self.conv_f2s, self.bn, fast).relu_()], dim=1), fast]


class Bottleneck(nn.Module):
    """Convolutions over time (`a`), over space (`b`) and over channels (`c`)."""

    def __init__(self, shape: StageShape, in_channels: int, time_kernel: int, stride: int) -> None:
        super().__init__()
        first, middle = (stride, 1) if shape.stride_first else (1, stride)
        inner = shape.inner
        self.a = conv3d(in_channels, inner, (time_kernel, 1), stride=first)
        self.a_bn = nn.BatchNorm3d(inner)
        self.b = conv3d(
            inner, inner, (1, 3), stride=middle, dilation=shape.dilation, groups=shape.groups
        )
        self.b_bn = nn.BatchNorm3d(inner)
        self.c = conv3d(inner, shape.channels)
        self.c_bn = nn.BatchNorm3d(shape.channels)
        # A residual block starts as its shortcut (Goyal et al. 2017, section 5.1); so does a non-local block.
        nn.init.zeros_(self.c_bn.weight)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C_in, T, H, W]` to `[B, C, T, H', W']`."""
        x = conv_norm(self.a, self.a_bn, x).relu_()
        x = conv_norm(self.b, self.b_bn, x).relu_()
        return conv_norm(self.c, self.c_bn, x)


class Residual(nn.Module):
    """A bottleneck (`branch2`) and its shortcut (`branch1` where the shape changes)."""

    def __init__(self, shape: StageShape, in_channels: int, time_kernel: int, stride: int) -> None:
        super().__init__()
        self.projects = in_channels != shape.channels or stride != 1
        if self.projects:
            self.branch1 = conv3d(in_channels, shape.channels, stride=stride)
            self.branch1_bn = nn.BatchNorm3d(shape.channels)
        self.branch2 = Bottleneck(shape, in_channels, time_kernel, stride)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C_in, T, H, W]` to `[B, C, T, H', W']`."""
        shortcut = conv_norm(self.branch1, self.branch1_bn, x) if self.projects else x
        return self.branch2(x).add_(shortcut).relu_()


class Stage(nn.Module):
    """The residual blocks of every pathway, `pathway{p}_res{i}`, and the non-local blocks after some of them."""

    def __init__(self, shapes: Sequence[StageShape]) -> None:
        super().__init__()
        self.orders: list[list[str]] = []
        for p, shape in enumerate(shapes):
            blocks = self._blocks(p, shape)
            for name, block in blocks.items():
                self.add_module(name, block)
            self.orders.append(list(blocks))

    @staticmethod
    def _blocks(p: int, shape: StageShape) -> dict[str, nn.Module]:
        blocks: dict[str, nn.Module] = {}
        for i, kernel in enumerate(shape.kernels):
            in_channels, stride = (shape.channels, 1) if i else (shape.in_channels, shape.stride)
            blocks[f"pathway{p}_res{i}"] = Residual(shape, in_channels, kernel, stride)
            if i in shape.nonlocal_blocks:
                settings = (shape.nonlocal_pool, shape.nonlocal_groups, shape.nonlocal_kind)
                blocks[f"pathway{p}_nonlocal{i}"] = NonLocal(shape.channels, *settings)
        return blocks

    def forward(self, paths: list[Tensor]) -> list[Tensor]:
        """`[B, C_in, T, H, W]` of each pathway to `[B, C, T, H', W']`."""
        outputs = []
        for names, x in zip(self.orders, paths, strict=True):
            for name in names:
                x = self.get_submodule(name)(x)
            outputs.append(x)
        return outputs


class Head(nn.Module):
    """Mean of each pathway over time and space, dropout, classifier; see `ResNet3D` for `window`."""

    def __init__(self, channels: int, num_classes: int, dropout: float, window: int) -> None:
        super().__init__()
        self.window = window
        self.dropout = nn.Dropout(dropout)
        self.projection = nn.Linear(channels, num_classes)

    def forward(self, paths: list[Tensor]) -> Tensor:
        """`[B, C, T, H, W]` of each pathway to logits `[B, K]`."""
        return self.projection(
            self.dropout(torch.cat([self._mean(x.mean(dim=2)) for x in paths], dim=1))
        )

    def _mean(self, x: Tensor) -> Tensor:
        if self.window:
            x = functional.avg_pool2d(x, [min(self.window, size) for size in x.shape[2:]], stride=1)
        return x.mean(dim=(2, 3))


class ResNet3D(nn.Module):
    """Action logits of a clip.

    Args:
        num_classes: K.
        arch: a name of `ARCHS`; `slowfast` has two pathways, the others one.
        depth: layers, a key of `DEPTHS`.
        width: channels of the (slow) stem; stage s has `4 width 2^s`.
        layout: how blocks are laid out.
        alpha, beta_inv: fast over slow frame rate, slow over fast channels; only `slowfast`.
        fusion_ratio, fusion_kernel: lateral convolutions' output over input channels, and kernel in time (odd).
        dropout: before the classifier.
        head_window: side of a window, in cells of the last stage, that the head averages over before it averages
            over the window's places, as PySlowFast does with clips larger than in training; 0 takes the plain mean.
        motion_stem: see `layers.motion_channels`.

    Raises:
        UserError: if `beta_inv` does not divide `width`, or `fusion_kernel` is even.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        arch: str = "slowfast",
        depth: int = 50,
        width: int = 64,
        layout: Layout = PLAIN,
        alpha: int = 4,
        beta_inv: int = 8,
        fusion_ratio: int = 2,
        fusion_kernel: int = 5,
        dropout: float = 0.0,
        head_window: int = 0,
        motion_stem: bool = False,
    ) -> None:
        super().__init__()
        self.arch, self.alpha, self.motion_stem = ARCHS[arch], alpha, motion_stem
        stem_kernels = [cycle[0] for cycle in self.arch.kernels[0]]
        self.two_pathways = len(stem_kernels) == 2
        if self.two_pathways:
            check_pathways(width, beta_inv, fusion_kernel)
        # A pathway has 1 / share of the channels.
        shares = (1, beta_inv) if self.two_pathways else (1,)
        channels = [width // share for share in shares]
        self.s1 = Stem(6 if motion_stem else 3, channels, stem_kernels)
        for stage, count in enumerate(DEPTHS[depth]):
            entering, wider = list(channels), width * 2**stage
            if self.two_pathways:
                entering[0] += fusion_ratio * channels[1]
                fuse = Fuse(channels[1], fusion_ratio * channels[1], fusion_kernel, alpha)
                self.add_module(f"s{stage + 1}_fuse", fuse)
            channels = [EXPANSION * wider // share for share in shares]
            sizes = [
                (entering[p], layout.groups * wider // share, channels[p])
                for p, share in enumerate(shares)
            ]
            shapes = [
                layout.shape(self.arch, stage, p, count, *size) for p, size in enumerate(sizes)
            ]
            self.add_module(f"s{stage + 2}", Stage(shapes))
        self.head = Head(sum(channels), num_classes, dropout, head_window)
        init_weights(self)

    def forward(self, clip: Tensor) -> Tensor:
        """`[B, 3, T, H, W]` to logits `[B, K]`.

        Raises:
            UserError: if T is not a multiple of alpha (two pathways), or too short for the pool over time.
        """
        num_frames, time_pool = clip.shape[2], self.arch.time_pool
        if self.two_pathways:
            check_frames(num_frames, self.alpha)
        elif num_frames < time_pool:
            raise UserError(
                f"a clip of {num_frames} frames is too short: DATA.NUM_FRAMES must be at least {time_pool}"
            )
        if self.motion_stem:
            clip = motion_channels(clip)
        paths = (
            [clip[:, :, spread_frames(num_frames, self.alpha)], clip]
            if self.two_pathways
            else [clip]
        )
        paths = self.s1(paths)
        for stage in range(2, 6):
            if self.two_pathways:
                paths = self.get_submodule(f"s{stage - 1}_fuse")(paths)
            if stage == 3 and time_pool > 1:
                paths = [functional.max_pool3d(x, (time_pool, 1, 1)) for x in paths]
            paths = self.get_submodule(f"s{stage}")(paths)
        return self.head(paths)
