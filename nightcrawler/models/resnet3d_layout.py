"""Sizes and kernels of PySlowFast's ResNets for video, stage by stage.

A network has one pathway or two (slow, then fast), and tables are `[stage][pathway]`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

# Blocks of the four stages, by number of layers.
DEPTHS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
# A stage's channels over those of its first convolutions.
EXPANSION = 4


class Arch(NamedTuple):
    """A row of the table of architectures.

    Attributes:
        kernels: `[stage][pathway]` kernels in time that the blocks of a stage take in turn. Stage 0
            is the stem.
        time_pool: stride of the max-pool over time after the first stage.
        nonlocal_kind: weights of its published non-local blocks, `softmax` or `dot_product`.
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
        in_channels: channels of the input.
        inner: channels inside a block.
        channels: channels of the output.
        kernels: kernel in time of each block.
        stride: in space, of the first block.
        dilation: in space.
        groups: see `ResNetLayout`.
        stride_first: see `ResNetLayout`.
        nonlocal_blocks: residual blocks before a non-local block.
        nonlocal_groups: see `ResNetLayout`.
        nonlocal_pool: see `ResNetLayout`.
        nonlocal_kind: `softmax` or `dot_product`.
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
class ResNetLayout:
    """Layout of the blocks of the four stages. Tables are `[stage][pathway]`.

    Attributes:
        groups: groups of a block's middle convolution (ResNeXt).
        stride_first: a block strides in its first convolution instead of the middle one.
        strides: in space.
        dilations: in space.
        temporal_blocks: number of blocks with the architecture's kernels in time. The others take
            kernel 1. All blocks have them when absent.
        nonlocal_blocks: residual blocks before a non-local block.
        nonlocal_groups: parts of the clip, in time, without attention between them.
        nonlocal_pools: max-pool of a non-local block's keys and values over time, height, width.
        nonlocal_kind: weights of a non-local block, `softmax` or `dot_product` (the
            architecture's published kind when absent).
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
        """Return one pathway of one stage.

        Args:
            arch: row of the table of architectures.
            stage: from 0.
            p: pathway.
            count: number of blocks.
            in_channels: channels of the input.
            inner: channels inside a block.
            out: channels of the output.
        """
        cycle = arch.kernels[stage + 1][p]
        num_temporal = count if self.temporal_blocks is None else self.temporal_blocks[stage][p]
        # Stages of I3D alternate kernels 3 and 1.
        kernels = [cycle[i % len(cycle)] if i < num_temporal else 1 for i in range(count)]
        return StageShape(
            in_channels=in_channels,
            inner=inner,
            channels=out,
            kernels=kernels,
            stride=self.strides[stage][p],
            dilation=self.dilations[stage][p],
            groups=self.groups,
            stride_first=self.stride_first,
            nonlocal_blocks=self.nonlocal_blocks[stage][p],
            nonlocal_groups=self.nonlocal_groups[stage][p],
            nonlocal_pool=self.nonlocal_pools[stage][p],
            nonlocal_kind=self.nonlocal_kind or arch.nonlocal_kind,
        )


PLAIN = ResNetLayout()
# Non-local blocks of PySlowFast's NLN configurations: in the (slow) pathway's middle stages.
NONLOCAL_BLOCKS = (((), ()), ((1, 3), ()), ((1, 3, 5), ()), ((), ()))
