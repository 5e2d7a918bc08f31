"""Arithmetic of MViT: how channels, heads and the grid of tokens change from block to block."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from nightcrawler.utils.errors import UserError

# Numbers of time, height, width.
Grid = tuple[int, ...]


class Pool(NamedTuple):
    """Pooling over time, height, width; it is padded by half the kernel."""

    kernel: Grid
    stride: Grid


@dataclass(frozen=True)
class BlockPlan:
    """Sizes of one block.

    Attributes:
        dim, dim_attention, dim_out: channels that enter, that leave attention, that leave.
        num_heads: attention heads.
        grid: tokens that enter, for a clip of the training size.
        query, key_value: how they are pooled; `None`: not at all.
    """

    dim: int
    dim_attention: int
    dim_out: int
    num_heads: int
    grid: Grid
    query: Pool | None
    key_value: Pool | None


@dataclass(frozen=True)
class MViTLayout:
    """How an MViT narrows its grid and widens its channels; the defaults are MViT-B's.

    Attributes:
        depth: blocks.
        embed_dim, num_heads: channels and heads of the first block.
        dim_mul, head_mul: rows `(block, factor)`, where channels and heads grow.
        dim_mul_in_att: channels grow in a block's attention, not in the MLP of the block before.
        q_stride: rows `(block, t, h, w)`, strides of pooled queries: the grid of the blocks after.
        kv_stride: the same for keys and values.
        kv_stride_adaptive: stride `(t, h, w)` of keys and values from block 0 on, divided where queries are pooled;
            used instead of `kv_stride` unless it is empty.
        kernel: kernel of all pooling; stride + 1 (1 where there is no stride) if it is empty.
    """

    depth: int = 24
    embed_dim: int = 96
    num_heads: int = 1
    dim_mul: Sequence[Sequence[float]] = ((2, 2.0), (5, 2.0), (21, 2.0))
    head_mul: Sequence[Sequence[float]] = ((2, 2.0), (5, 2.0), (21, 2.0))
    dim_mul_in_att: bool = False
    q_stride: Sequence[Sequence[int]] = ((2, 1, 2, 2), (5, 1, 2, 2), (21, 1, 2, 2))
    kv_stride: Sequence[Sequence[int]] = ()
    kv_stride_adaptive: Sequence[int] = (1, 8, 8)
    kernel: Sequence[int] = ()

    def plan(self, grid: Grid) -> list[BlockPlan]:
        """The blocks, for a grid of tokens that enters the first.

        Raises:
            UserError: if a row names no block or heads do not divide channels.
        """
        # Attention's growth is a block's own, the MLP's is for the next block.
        grows = range(self.depth) if self.dim_mul_in_att else range(1, self.depth + 1)
        dim_mul = _rows("DIM_MUL", self.dim_mul, 1, grows)
        head_mul = _rows("HEAD_MUL", self.head_mul, 1, range(grows.stop))
        q_strides = _rows("POOL_Q_STRIDE", self.q_stride, 3, range(self.depth))
        kv_strides = _rows("POOL_KV_STRIDE", self.kv_stride, 3, range(self.depth))
        dim, num_heads, adaptive = self.embed_dim, self.num_heads, tuple(self.kv_stride_adaptive)
        plans: list[BlockPlan] = []
        for block, grown in enumerate(grows):
            num_heads = rounded(num_heads, *head_mul.get(block, (1,)))
            # With growth in attention, new heads count twice in the divisor: as published.
            divisor = rounded(num_heads, *head_mul.get(grown, (1,)))
            dim_out = rounded(dim, *dim_mul.get(grown, (1,)), divisor)
            q_stride = q_strides.get(block, ())
            adaptive = tuple(
                max(kv // q, 1) for kv, q in zip(adaptive, q_stride or (1, 1, 1), strict=False)
            )
            query, key_value = (
                self.pool(stride) for stride in (q_stride, adaptive or kv_strides.get(block, ()))
            )
            dim_attention = dim_out if self.dim_mul_in_att else dim
            plans.append(BlockPlan(dim, dim_attention, dim_out, num_heads, grid, query, key_value))
            _check(block, plans[-1])
            grid = tuple(
                size // step for size, step in zip(grid, q_stride or (1, 1, 1), strict=True)
            )
            dim = dim_out
        return plans

    def pool(self, stride: Grid) -> Pool | None:
        """How tokens are pooled with a stride; `None` if that would change nothing."""
        kernel = tuple(self.kernel) or skip_kernel(stride)
        return Pool(kernel, stride) if stride and math.prod(kernel + stride) > 1 else None


MVIT_B = MViTLayout()


def skip_kernel(stride: Grid) -> Grid:
    """Kernel of the skip connection's pooling: stride + 1, and 1 where there is no stride."""
    return tuple(step + 1 if step > 1 else 1 for step in stride)


def rounded(width: int, factor: float, divisor: int = 1) -> int:
    """`width * factor` as the nearest multiple of `divisor`, or the one above if that is less than nine tenths."""
    exact = width * factor
    nearest = max(int(exact + divisor / 2) // divisor, 1) * divisor
    return nearest + divisor if nearest < 0.9 * exact else nearest


def _rows(
    key: str, rows: Sequence[Sequence[float]], length: int, blocks: range
) -> dict[int, tuple]:
    """Rows `(block, value, ...)` as values by block."""
    for row in rows:
        if len(row) != length + 1 or row[0] not in blocks or min(row[1:]) <= 0:
            raise UserError(
                f"MVIT.{key}: expected rows of a block, {blocks.start} to {blocks.stop - 1} with this MVIT.DEPTH, and "
                f"{length} positive number{'s' * (length > 1)}, found {list(row)}"
            )
    return {int(row[0]): tuple(row[1:]) for row in rows}


def _check(block: int, plan: BlockPlan) -> None:
    if plan.dim_attention % plan.num_heads:
        raise UserError(
            f"MViT's block {block}: {plan.dim_attention} channels do not divide into {plan.num_heads} heads: change "
            "MVIT.EMBED_DIM, MVIT.NUM_HEADS, MVIT.DIM_MUL or MVIT.HEAD_MUL"
        )
    if plan.query is None:
        return
    kernel, stride = plan.query
    # Paddings of half a kernel: pooled sizes agree if both kernels are odd or both even.
    if any((size - skip) % 2 for size, skip in zip(kernel, skip_kernel(stride), strict=True)):
        raise UserError(
            f"MViT's block {block}: MVIT.POOL_KVQ_KERNEL {list(kernel)} does not suit stride {list(stride)} of its "
            f"queries: each size must be odd or even as those of {list(skip_kernel(stride))} are"
        )
