"""Arithmetic of MViT: channels, heads and the grid of tokens of each block."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from nightcrawler.utils.errors import ArgumentError

# Numbers of time, height, width.
Grid = tuple[int, ...]
NO_STRIDE = (1, 1, 1)


class Pool(NamedTuple):
    """Pooling over time, height, width, padded by half the kernel.

    Attributes:
        kernel: sizes of the kernel.
        stride: strides.
    """

    kernel: Grid
    stride: Grid


@dataclass(frozen=True)
class BlockPlan:
    """Sizes of one block.

    Attributes:
        dim: channels of the input.
        dim_attention: channels of the attention's output.
        dim_out: channels of the block's output.
        num_heads: attention heads.
        grid: grid of the input's tokens, for a clip of the training size.
        query: pooling of queries, or `None`.
        key_value: pooling of keys and values, or `None`.
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
    """Pooling and widening of an MViT from block to block. The defaults are MViT-B's.

    Attributes:
        depth: number of blocks.
        embed_dim: channels of the first block.
        num_heads: heads of the first block.
        dim_mul: rows `(block, factor)` where channels grow.
        head_mul: rows `(block, factor)` where heads grow.
        dim_mul_in_att: channels grow in a block's attention, not in the MLP of the block before.
        q_stride: rows `(block, t, h, w)`, strides of pooled queries: later blocks have this grid.
        kv_stride: rows `(block, t, h, w)`, strides of pooled keys and values.
        kv_stride_adaptive: stride `(t, h, w)` of keys and values from block 0 on, divided where
            queries are pooled. It is used instead of `kv_stride` unless it is empty.
        kernel: kernel of all pooling. If it is empty, stride + 1 (1 where there is no stride).
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
        """Return the sizes of all blocks.

        Args:
            grid: grid of the tokens that enter the first block.

        Raises:
            ArgumentError: if a row names no block, or heads do not divide channels.
        """
        # Growth in attention is the block's own, growth in an MLP is for the next block.
        grows = range(self.depth) if self.dim_mul_in_att else range(1, self.depth + 1)
        dim_mul = _rows("dim_mul", self.dim_mul, 1, grows)
        head_mul = _rows("head_mul", self.head_mul, 1, range(grows.stop))
        q_strides = _rows("q_stride", self.q_stride, 3, range(self.depth))
        kv_strides = _rows("kv_stride", self.kv_stride, 3, range(self.depth))
        dim = self.embed_dim
        num_heads = self.num_heads
        adaptive = tuple(self.kv_stride_adaptive)
        plans: list[BlockPlan] = []
        for block, grown in enumerate(grows):
            num_heads = scale_width(num_heads, _factor(head_mul, block))
            # With growth in attention, new heads count twice in the divisor: as published.
            divisor = scale_width(num_heads, _factor(head_mul, grown))
            dim_out = scale_width(dim, _factor(dim_mul, grown), divisor)
            q_stride = q_strides.get(block, ())
            adaptive = _divided(adaptive, q_stride)
            query = self.pool(q_stride)
            key_value = self.pool(adaptive or kv_strides.get(block, ()))
            dim_attention = dim_out if self.dim_mul_in_att else dim
            plan = BlockPlan(dim, dim_attention, dim_out, num_heads, grid, query, key_value)
            _check(block, plan)
            plans.append(plan)
            steps = q_stride or NO_STRIDE
            grid = tuple(size // step for size, step in zip(grid, steps, strict=True))
            dim = dim_out
        return plans

    def pool(self, stride: Grid) -> Pool | None:
        """Return the pooling with a stride, or `None` if it would change nothing.

        Args:
            stride: over time, height, width; empty for none.
        """
        kernel = tuple(self.kernel) or skip_kernel(stride)
        if not stride or math.prod(kernel + stride) == 1:
            return None
        return Pool(kernel, stride)


MVIT_B = MViTLayout()


def skip_kernel(stride: Grid) -> Grid:
    """Return the kernel of the skip connection's pooling: stride + 1, or 1 without a stride.

    Args:
        stride: over time, height, width.
    """
    return tuple(step + 1 if step > 1 else 1 for step in stride)


def scale_width(width: int, factor: float, divisor: int = 1) -> int:
    """Return `width * factor` rounded to the nearest multiple of `divisor`.

    If that is less than nine tenths, return the multiple above.

    Args:
        width: number of channels or heads.
        factor: growth.
        divisor: the result is a multiple of it.
    """
    exact = width * factor
    nearest = max(int(exact + divisor / 2) // divisor, 1) * divisor
    # No more than a tenth of the channels may be lost by rounding.
    if nearest < 0.9 * exact:
        return nearest + divisor
    return nearest


def _factor(rows: dict[int, tuple], block: int) -> float:
    """Return the growth at a block, 1 where there is none."""
    return rows[block][0] if block in rows else 1


def _divided(stride: Grid, q_stride: Grid) -> Grid:
    """Return an adaptive stride of keys and values, divided by that of the queries."""
    if not stride:
        return stride
    steps = q_stride or NO_STRIDE
    return tuple(max(kv // q, 1) for kv, q in zip(stride, steps, strict=True))


def _rows(
    argument: str, rows: Sequence[Sequence[float]], length: int, blocks: range
) -> dict[int, tuple]:
    """Return rows `(block, value, ...)` as values by block."""
    for row in rows:
        if len(row) != length + 1 or row[0] not in blocks or min(row[1:]) <= 0:
            numbers = f"{length} positive numbers"
            if length == 1:
                numbers = "a positive number"
            raise ArgumentError(
                f"{argument}: expected rows of a block, {blocks.start} to {blocks.stop - 1} with "
                f"this depth, and {numbers}, found {list(row)}",
                argument,
            )
    return {int(row[0]): tuple(row[1:]) for row in rows}


def _check(block: int, plan: BlockPlan) -> None:
    """Refuse sizes of a block that do not fit together."""
    if plan.dim_attention % plan.num_heads:
        raise ArgumentError(
            f"MViT's block {block}: {plan.dim_attention} channels do not divide into "
            f"{plan.num_heads} heads: change embed_dim, num_heads, dim_mul or head_mul",
            "embed_dim",
            "num_heads",
            "dim_mul",
            "head_mul",
        )
    if plan.query is None:
        return
    kernel, stride = plan.query
    # Paddings are half a kernel: pooled sizes agree if both kernels are odd or both even.
    wanted = skip_kernel(stride)
    if any((size - skip) % 2 for size, skip in zip(kernel, wanted, strict=True)):
        raise ArgumentError(
            f"MViT's block {block}: kernel {list(kernel)} does not suit stride {list(stride)} of "
            f"its queries: each size must be odd or even as those of {list(wanted)} are",
            "kernel",
        )
