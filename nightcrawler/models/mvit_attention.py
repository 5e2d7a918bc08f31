"""Attention of MViT: queries, keys and values pooled on the grid, with relative positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from nightcrawler.models.layers import attend
from nightcrawler.models.mvit_layout import BlockPlan, Grid, Pool
from nightcrawler.utils.errors import ArgumentError

INIT_STD = 0.02


@dataclass(frozen=True)
class AttentionStyle:
    """Settings of the attention in all blocks.

    Attributes:
        mode: pooling by `conv` (a kernel for each channel of a head, the same for all heads),
            `conv_unshared` (for each channel of all heads), `max` or `avg`. Convolutions are
            followed by a LayerNorm.
        pool_first: pool before the projection to queries, keys and values.
        separate_qkv: one projection for each of them (`pool_first` implies it).
        qkv_bias: bias in these projections.
        rel_pos_spatial: relative positions along height and width.
        rel_pos_temporal: relative positions along time.
        residual_pooling: add pooled queries to the output (not to the class token's).
        norm_eps: epsilon of the norms of pooled queries, keys and values.
    """

    mode: str = "conv"
    pool_first: bool = False
    separate_qkv: bool = False
    qkv_bias: bool = True
    rel_pos_spatial: bool = False
    rel_pos_temporal: bool = False
    residual_pooling: bool = False
    norm_eps: float = 1e-5


# Of MViT as first published.
MVIT_ATTENTION = AttentionStyle()


def pool_layer(mode: str, channels: int, pool: Pool) -> nn.Module:
    """Return the layer that pools `[B, channels, T, H, W]`.

    Args:
        mode: see `AttentionStyle`.
        channels: of the input and the output.
        pool: kernel and stride.
    """
    kernel = triple(pool.kernel)
    stride = triple(pool.stride)
    padding = triple([size // 2 for size in kernel])
    if mode == "max":
        return nn.MaxPool3d(kernel, stride, padding)
    if mode == "avg":
        # AvgPool3d refuses padding for grids smaller than the kernel, so zeros are added before it.
        time, height, width = padding
        pad = nn.ConstantPad3d((width, width, height, height, time, time), 0.0)
        return nn.Sequential(pad, nn.AvgPool3d(kernel, stride))
    return nn.Conv3d(channels, channels, kernel, stride, padding, groups=channels, bias=False)


def triple(sizes: Sequence[int]) -> tuple[int, int, int]:
    """Return sizes over time, height, width as the tuple that 3-D layers take.

    Args:
        sizes: three numbers.
    """
    time, height, width = sizes
    return time, height, width


def pool_tokens(
    tokens: Tensor, grid: Grid, layer: nn.Module, num_cls: int, num_parts: int = 1
) -> tuple[Tensor, Grid]:
    """Pool tokens on their grid. Class tokens stay as they are.

    Args:
        tokens: `[B, num_cls + T H W, C]`.
        grid: (T, H, W).
        layer: takes `[B num_parts, C / num_parts, T, H, W]`.
        num_cls: class tokens, 0 or 1.
        num_parts: parts of the channels (heads) that share a kernel.

    Returns:
        Pooled tokens `[B, num_cls + T' H' W', C]` and their grid (T', H', W').
    """
    batch, _, dim = tokens.shape
    # A view: channels come last in tokens.
    places = tokens[:, num_cls:].reshape(batch, *grid, dim).permute(0, 4, 1, 2, 3)
    if _prefers_channels_last(tokens):
        places = _pool_channels_last(places, layer, num_parts)
    else:
        # To [B, parts, C / parts, T, H, W], and parts into the batch.
        places = layer(places.unflatten(1, (num_parts, -1)).flatten(0, 1).contiguous())
    pooled = places.reshape(batch, dim, -1).transpose(1, 2)
    return torch.cat([tokens[:, :num_cls], pooled], dim=1), tuple(places.shape[2:])


def _prefers_channels_last(tokens: Tensor) -> bool:
    """Return whether pooling of tokens is faster with channels last.

    On a CPU it takes a sixth of the time, but twice the time to train in bfloat16.
    """
    if tokens.device.type != "cpu":
        return False
    return tokens.dtype == torch.float32 or not torch.is_grad_enabled()


def _pool_channels_last(places: Tensor, layer: nn.Module, num_parts: int) -> Tensor:
    """Pool `[B, C, T, H, W]`. Parts of the channels stay side by side, each with the same kernels.

    Args:
        places: view of tokens, so that channels come last in memory.
        layer: see `pool_tokens`.
        num_parts: parts of the channels.
    """
    if num_parts == 1:
        return layer(places)
    assert isinstance(layer, nn.Conv3d)
    weight = layer.weight.repeat(num_parts, 1, 1, 1, 1)
    groups = places.shape[1]
    return functional.conv3d(places, weight, None, layer.stride, layer.padding, groups=groups)


def relative_rows(table: Tensor, num_q: int, num_k: int) -> Tensor:
    """Look up the rows of a table of distances for each query and key along an axis.

    Distances are counted in steps of the finer of the two. A table of another length is
    interpolated.

    Args:
        table: `[L, C]`.
        num_q: queries along the axis.
        num_k: keys along the axis.

    Returns:
        `[num_q, num_k, C]`.
    """
    length = 2 * max(num_q, num_k) - 1
    if len(table) != length:
        table = functional.interpolate(table.T[None], size=length, mode="linear")[0].T
    step_q = max(num_k / num_q, 1.0)
    step_k = max(num_q / num_k, 1.0)
    # In float32 and in this order as published: where steps are not whole, rounding decides
    # between neighbours.
    queries = torch.arange(num_q, device=table.device, dtype=torch.float32) * step_q
    keys = torch.arange(num_k, device=table.device, dtype=torch.float32) * step_k
    return table[(queries[:, None] - keys + (num_k - 1) * step_k).long()]


class PooledAttention(nn.Module):
    """Multi-head attention with pooled queries, keys and values (Fan et al. 2021, section 3.1).

    Args:
        plan: sizes and pooling of the block.
        style: settings of all blocks.
        num_cls: class tokens, 0 or 1.
        dropout: of the output.

    Raises:
        ArgumentError: if heads do not divide the channels that are pooled.
    """

    rel_pos_h: Tensor | None
    rel_pos_w: Tensor | None
    rel_pos_t: Tensor | None

    def __init__(
        self, plan: BlockPlan, style: AttentionStyle, num_cls: int, dropout: float
    ) -> None:
        super().__init__()
        self.style = style
        self.num_cls = num_cls
        self.num_heads = plan.num_heads
        # Parts of the channels that share a kernel. Without a kernel there is nothing to share.
        self.num_parts = plan.num_heads if style.mode == "conv" else 1
        dim = plan.dim_attention
        self._add_relative_positions(plan)
        if style.pool_first or style.separate_qkv:
            for name in "qkv":
                self.add_module(name, nn.Linear(plan.dim, dim, bias=style.qkv_bias))
        else:
            self.qkv = nn.Linear(plan.dim, 3 * dim, bias=style.qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(dropout)
        channels, rest = divmod(plan.dim if style.pool_first else dim, self.num_parts)
        if rest:
            raise ArgumentError(
                f"pool_first: {plan.dim} channels do not divide into {plan.num_heads} heads before "
                "attention: set mode conv_unshared, or change embed_dim or head_mul",
                "pool_first",
                "mode",
                "embed_dim",
                "head_mul",
            )
        self._add_pools(plan, channels)

    def _add_relative_positions(self, plan: BlockPlan) -> None:
        """Add tables `[2 L - 1, C of a head]`, or `None` for axes without relative positions."""
        for axis, name in ((1, "h"), (2, "w"), (0, "t")):
            used = self.style.rel_pos_spatial if axis else self.style.rel_pos_temporal
            strides = []
            for pool in (plan.query, plan.key_value):
                strides.append(pool.stride[axis] if pool and axis else 1)
            # L is the finer grid of queries and keys in space, but the whole grid in time.
            longest = max(plan.grid[axis] // min(strides), 1)
            parameter = None
            if used:
                table = torch.empty(2 * longest - 1, plan.dim_attention // plan.num_heads)
                parameter = nn.Parameter(nn.init.trunc_normal_(table, std=INIT_STD))
            self.register_parameter(f"rel_pos_{name}", parameter)

    def _add_pools(self, plan: BlockPlan, channels: int) -> None:
        """Add the pooling of queries, keys and values, and the norm after convolutions."""
        style = self.style
        for name, pool in zip("qkv", (plan.query, plan.key_value, plan.key_value), strict=True):
            # Without pooling there is no norm either.
            layer: nn.Module | None = None
            norm: nn.Module | None = None
            if pool is not None:
                layer = pool_layer(style.mode, channels, pool)
                if style.mode.startswith("conv"):
                    norm = nn.LayerNorm(channels, eps=style.norm_eps)
            self.add_module(f"pool_{name}", layer)
            self.add_module(f"norm_{name}", norm)

    def forward(self, tokens: Tensor, grid: Grid) -> tuple[Tensor, Grid]:
        """Mix tokens `[B, N, C]` on a grid, to `[B, N', C']` on the queries' grid."""
        sources: Sequence[Tensor] = (tokens, tokens, tokens)
        if not self.style.pool_first:
            sources = self._project(sources)
        pooled = [
            self._pool(name, source, grid) for name, source in zip("qkv", sources, strict=True)
        ]
        sources, (q_grid, k_grid, _) = zip(*pooled, strict=True)
        if self.style.pool_first:
            sources = self._project(sources)
        # To heads [B, heads, N, C / heads].
        q, k, v = (source.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for source in sources)
        bias = self._relative_bias(q, q_grid, k_grid)
        mixed = attend(q, k, v, bias)
        if self.style.residual_pooling:
            # Zeros for the class token, whose query is not added.
            mixed = mixed + functional.pad(q[:, :, self.num_cls :], (0, 0, self.num_cls, 0))
        return self.proj_drop(self.proj(mixed.transpose(1, 2).flatten(2))), q_grid

    def _project(self, sources: Sequence[Tensor]) -> Sequence[Tensor]:
        """Project the sources of queries, keys and values `[B, N, C]`."""
        if self.style.pool_first or self.style.separate_qkv:
            return [self.get_submodule(n)(x) for n, x in zip("qkv", sources, strict=True)]
        # All sources are the same tokens here.
        return self.qkv(sources[0]).chunk(3, dim=-1)

    def _pool(self, name: str, tokens: Tensor, grid: Grid) -> tuple[Tensor, Grid]:
        """Pool and norm queries, keys or values."""
        layer = getattr(self, f"pool_{name}")
        norm = getattr(self, f"norm_{name}")
        if layer is not None:
            tokens, grid = pool_tokens(tokens, grid, layer, self.num_cls, self.num_parts)
        if norm is not None:
            tokens = norm(tokens.unflatten(-1, (self.num_parts, -1))).flatten(-2)
        return tokens, grid

    def _relative_bias(self, q: Tensor, q_grid: Grid, k_grid: Grid) -> Tensor | None:
        """Return the bias of scores `[B, heads, N', N'']` (Li et al. 2022, section 4.1).

        It is the sum over axes of products of queries (unscaled) and rows, 0 for class tokens.
        """
        places = q[:, :, self.num_cls :].unflatten(2, q_grid)
        terms = []
        for axis, table in enumerate((self.rel_pos_t, self.rel_pos_h, self.rel_pos_w)):
            if table is not None:
                rows = relative_rows(table, q_grid[axis], k_grid[axis])
                term = torch.einsum(f"bnthwc,{'thw'[axis]}kc->bnthwk", places, rows)
                # Keys along this axis only: the other two axes are broadcast.
                sizes = [1, 1, 1]
                sizes[axis] = -1
                terms.append(term.unflatten(-1, sizes))
        if not terms:
            return None
        bias = sum(terms[1:], terms[0]).expand(*places.shape[:5], *k_grid)
        return functional.pad(bias.flatten(5).flatten(2, 4), (self.num_cls, 0, self.num_cls, 0))
