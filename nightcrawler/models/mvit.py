"""MViT (Fan et al. 2021, "Multiscale Vision Transformers") and MViTv2 (Li et al. 2022).

Attention pools its queries, so that the grid of tokens (time, height, width) gets smaller and channels more from block
to block, and pools keys and values, so that it is affordable. Names and shapes of the state_dict are PySlowFast's.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from timm.layers import DropPath
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint as recomputed

from nightcrawler.models.layers import (
    Mlp,
    attend,
    drop_path_rates,
    init_linear_and_norm,
    motion_channels,
)
from nightcrawler.models.mvit_layout import MVIT_B, BlockPlan, Grid, MViTLayout, Pool, skip_kernel
from nightcrawler.utils.errors import UserError

NORM_EPS = 1e-6
INIT_STD = 0.02


@dataclass(frozen=True)
class AttentionStyle:
    """What the attention of all blocks has in common.

    Attributes:
        mode: pooling by `conv` (a kernel for each channel of a head, the same for all heads), `conv_unshared` (for each
            channel of all heads), `max` or `avg`. Convolutions are followed by a LayerNorm.
        pool_first: pool before the projection to queries, keys and values.
        separate_qkv: a projection for each of them (`pool_first` has that anyway).
        qkv_bias: bias in these projections.
        rel_pos_spatial, rel_pos_temporal: relative positions along height and width, along time.
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


def pool_layer(mode: str, channels: int, pool: Pool) -> nn.Module:
    """The layer that pools `[B, channels, T, H, W]`."""
    padding = tuple(size // 2 for size in pool.kernel)
    if mode == "max":
        return nn.MaxPool3d(pool.kernel, pool.stride, padding)
    if mode == "avg":
        # AvgPool3d's own padding, but for grids smaller than the kernel too.
        sides = [size for size in reversed(padding) for _ in range(2)]
        return nn.Sequential(nn.ConstantPad3d(sides, 0.0), nn.AvgPool3d(pool.kernel, pool.stride))
    return nn.Conv3d(
        channels, channels, pool.kernel, pool.stride, padding, groups=channels, bias=False
    )


def pool_tokens(
    tokens: Tensor, grid: Grid, layer: nn.Module, num_cls: int, num_parts: int = 1
) -> tuple[Tensor, Grid]:
    """Pool tokens `[B, num_cls + T H W, C]` on their grid; class tokens stay as they are.

    Args:
        tokens, grid: what to pool.
        layer: takes `[B num_parts, C / num_parts, T, H, W]`.
        num_cls: class tokens, 0 or 1.
        num_parts: parts of the channels (heads) that the layer treats alike.
    """
    batch, _, dim = tokens.shape
    places = tokens[:, num_cls:].reshape(batch, *grid, num_parts, dim // num_parts)
    places = layer(places.permute(0, 4, 5, 1, 2, 3).flatten(0, 1))
    pooled = places.reshape(batch, dim, -1).transpose(1, 2)
    return torch.cat([tokens[:, :num_cls], pooled], dim=1), tuple(places.shape[2:])


def relative_rows(table: Tensor, num_q: int, num_k: int) -> Tensor:
    """The rows of a table of distances `[L, C]` from each query to each key along an axis, `[num_q, num_k, C]`.

    Distances are counted in steps of the finer of the two; a table of another length is interpolated.
    """
    length = 2 * max(num_q, num_k) - 1
    if len(table) != length:
        table = functional.interpolate(table.T[None], size=length, mode="linear")[0].T
    step_q, step_k = max(num_k / num_q, 1.0), max(num_q / num_k, 1.0)
    # In float32 and in this order as published: where steps are not whole, rounding decides between neighbours.
    queries = torch.arange(num_q, device=table.device, dtype=torch.float32) * step_q
    keys = torch.arange(num_k, device=table.device, dtype=torch.float32) * step_k
    return table[(queries[:, None] - keys + (num_k - 1) * step_k).long()]


class PooledAttention(nn.Module):
    """Multi-head attention with queries, keys and values pooled on the grid (Fan et al. 2021, section 3.1)."""

    def __init__(
        self, plan: BlockPlan, style: AttentionStyle, num_cls: int, dropout: float
    ) -> None:
        super().__init__()
        self.style, self.num_cls, self.num_heads = style, num_cls, plan.num_heads
        # Parts of the channels that share a kernel; without a kernel there is nothing to share.
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
            raise UserError(
                f"MVIT.POOL_FIRST: {plan.dim} channels do not divide into {plan.num_heads} heads before attention: "
                "set MVIT.MODE conv_unshared, or change MVIT.EMBED_DIM or MVIT.HEAD_MUL"
            )
        for name, pool in zip("qkv", (plan.query, plan.key_value, plan.key_value), strict=True):
            normed = pool is not None and style.mode.startswith("conv")
            self.add_module(
                f"pool_{name}", pool_layer(style.mode, channels, pool) if pool else None
            )
            self.add_module(
                f"norm_{name}", nn.LayerNorm(channels, eps=style.norm_eps) if normed else None
            )

    def _add_relative_positions(self, plan: BlockPlan) -> None:
        """Tables `[2 L - 1, C of a head]`; L is the finer of queries and keys in space, the whole grid in time."""
        for axis, name in ((1, "h"), (2, "w"), (0, "t")):
            used = self.style.rel_pos_spatial if axis else self.style.rel_pos_temporal
            strides = [
                pool.stride[axis] if pool and axis else 1 for pool in (plan.query, plan.key_value)
            ]
            longest = max(plan.grid[axis] // min(strides), 1)
            table = torch.empty(2 * longest - 1, plan.dim_attention // plan.num_heads)
            table = nn.Parameter(nn.init.trunc_normal_(table, std=INIT_STD)) if used else None
            self.register_parameter(f"rel_pos_{name}", table)

    def forward(self, tokens: Tensor, grid: Grid) -> tuple[Tensor, Grid]:
        """Tokens `[B, N, C]` on a grid to `[B, N', C']` on the queries' grid."""
        sources: Sequence[Tensor] = (tokens, tokens, tokens)
        if not self.style.pool_first:
            sources = self._project(sources)
        pooled = [
            self._pool(name, source, grid) for name, source in zip("qkv", sources, strict=True)
        ]
        sources, (q_grid, k_grid, _) = zip(*pooled, strict=True)
        if self.style.pool_first:
            sources = self._project(sources)
        q, k, v = (source.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for source in sources)
        bias = self._relative_bias(q, q_grid, k_grid)
        mixed = attend(q, k, v, bias)
        if self.style.residual_pooling:
            mixed = mixed + functional.pad(q[:, :, self.num_cls :], (0, 0, self.num_cls, 0))
        return self.proj_drop(self.proj(mixed.transpose(1, 2).flatten(2))), q_grid

    def _project(self, sources: Sequence[Tensor]) -> Sequence[Tensor]:
        """The sources of queries, keys and values `[B, N, C]` (all the same for a common projection)."""
        if self.style.pool_first or self.style.separate_qkv:
            return [
                layer(source)
                for layer, source in zip((self.q, self.k, self.v), sources, strict=True)
            ]
        return self.qkv(sources[0]).chunk(3, dim=-1)

    def _pool(self, name: str, tokens: Tensor, grid: Grid) -> tuple[Tensor, Grid]:
        layer, norm = getattr(self, f"pool_{name}"), getattr(self, f"norm_{name}")
        if layer is not None:
            tokens, grid = pool_tokens(tokens, grid, layer, self.num_cls, self.num_parts)
        if norm is not None:
            tokens = norm(tokens.unflatten(-1, (self.num_parts, -1))).flatten(-2)
        return tokens, grid

    def _relative_bias(self, q: Tensor, q_grid: Grid, k_grid: Grid) -> Tensor | None:
        """What scores `[B, heads, N', N'']` gain: products of queries (unscaled) and rows; 0 for class tokens."""
        places, terms = q[:, :, self.num_cls :].unflatten(2, q_grid), []
        for axis, table in enumerate((self.rel_pos_t, self.rel_pos_h, self.rel_pos_w)):
            if table is not None:
                rows = relative_rows(table, q_grid[axis], k_grid[axis])
                term = torch.einsum(f"bnthwc,{'thw'[axis]}kc->bnthwk", places, rows)
                terms.append(term.unflatten(-1, [-1 if other == axis else 1 for other in range(3)]))
        if not terms:
            return None
        bias = sum(terms[1:], terms[0]).expand(*places.shape[:5], *k_grid)
        return functional.pad(bias.flatten(5).flatten(2, 4), (self.num_cls, 0, self.num_cls, 0))


class Block(nn.Module):
    """Pooled attention and an MLP, each beside a skip connection.

    Args:
        plan, style: sizes and attention.
        num_cls: class tokens, 0 or 1.
        mlp_ratio, dropout: see `MViT`.
        drop_path: stochastic depth.
    """

    def __init__(
        self,
        plan: BlockPlan,
        style: AttentionStyle,
        num_cls: int,
        mlp_ratio: float,
        dropout: float,
        drop_path: float,
    ) -> None:
        super().__init__()
        dim = plan.dim_attention
        self.num_cls = num_cls
        self.grows_in_attention = plan.dim != dim
        self.norm1 = nn.LayerNorm(plan.dim, eps=NORM_EPS)
        self.attn = PooledAttention(plan, style, num_cls, dropout)
        self.drop_path = DropPath(drop_path)
        self.norm2 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), plan.dim_out, drop=dropout)
        self.proj = nn.Linear(plan.dim, plan.dim_out) if plan.dim != plan.dim_out else None
        stride = plan.query.stride if plan.query else (1, 1, 1)
        self.pool_skip = (
            pool_layer("max", dim, Pool(skip_kernel(stride), stride)) if max(stride) > 1 else None
        )

    def forward(self, tokens: Tensor, grid: Grid) -> tuple[Tensor, Grid]:
        """Tokens `[B, N, C]` on a grid to `[B, N', C']` on the next."""
        normed = self.norm1(tokens)
        mixed, next_grid = self.attn(normed, grid)
        skipped = self.proj(normed) if self.grows_in_attention else tokens
        if self.pool_skip is not None:
            skipped, _ = pool_tokens(skipped, grid, self.pool_skip, self.num_cls)
        tokens = skipped + self.drop_path(mixed)
        normed = self.norm2(tokens)
        if self.proj is not None and not self.grows_in_attention:
            tokens = self.proj(normed)
        return tokens + self.drop_path(self.mlp(normed)), next_grid


class PatchEmbed(nn.Module):
    """Overlapping patches in space and time: a strided convolution."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel: Sequence[int],
        stride: Sequence[int],
        padding: Sequence[int],
    ) -> None:
        super().__init__()
        self.proj = nn.Conv3d(in_channels, channels, tuple(kernel), tuple(stride), tuple(padding))

    def forward(self, clip: Tensor) -> tuple[Tensor, Grid]:
        """`[B, C, T, H, W]` to tokens `[B, N, C']` and their grid.

        Raises:
            UserError: if the clip is smaller than a patch.
        """
        kernel, padding = self.proj.kernel_size, self.proj.padding
        if any(
            size + 2 * pad < patch
            for size, pad, patch in zip(clip.shape[2:], padding, kernel, strict=True)
        ):
            raise UserError(
                f"a clip of {list(clip.shape[2:])} pixels is smaller than MVIT.PATCH_KERNEL {list(kernel)}"
            )
        patches = self.proj(clip)
        return patches.flatten(2).transpose(1, 2), tuple(patches.shape[2:])


class MViT(nn.Module):
    """Multiscale vision transformer for video; the defaults are MViT-B 32x3.

    Args:
        num_classes: K.
        num_frames, size: length and side of training clips; position tables have their size (others are interpolated).
        pyramid, attention: depth, sizes and pooling; what is new in MViTv2.
        mlp_ratio: hidden over input channels of MLPs.
        patch_kernel, patch_stride, patch_padding: of the patch embedding, over time, height, width.
        cls_token: the classifier sees a class token; without it the mean of all tokens.
        mean_pooling: the classifier sees the norm of the mean of all other tokens.
        norm_stem: LayerNorm after the patch embedding.
        abs_pos: absolute positions are added to the patch embedding.
        sep_pos_embed: a table for time and one for space, not one for both.
        dropout: of embeddings and projections.
        drop_path: stochastic depth of the last block.
        head_dropout: before the classifier.
        motion_stem: see `layers.motion_channels`.
        checkpoint: blocks, from the first on, whose activations are recomputed in the backward pass.

    Raises:
        UserError: if the sizes do not fit together.
    """

    def __init__(
        self,
        num_classes: int = 11,
        *,
        num_frames: int = 32,
        size: int = 224,
        pyramid: MViTLayout = MVIT_B,
        attention: AttentionStyle = AttentionStyle(),
        mlp_ratio: float = 4.0,
        patch_kernel: Sequence[int] = (3, 7, 7),
        patch_stride: Sequence[int] = (2, 4, 4),
        patch_padding: Sequence[int] = (1, 3, 3),
        cls_token: bool = True,
        mean_pooling: bool = False,
        norm_stem: bool = False,
        abs_pos: bool = True,
        sep_pos_embed: bool = True,
        dropout: float = 0.0,
        drop_path: float = 0.0,
        head_dropout: float = 0.0,
        motion_stem: bool = False,
        checkpoint: int = 0,
    ) -> None:
        super().__init__()
        self.num_cls, self.mean_pooling, self.motion_stem = (
            int(cls_token),
            mean_pooling,
            motion_stem,
        )
        self.num_recomputed, self.abs_pos, self.sep_pos_embed = checkpoint, abs_pos, sep_pos_embed
        # Whole strides, as published: the tables of odd sizes are a little too small.
        self.grid = tuple(
            n // step for n, step in zip((num_frames, size, size), patch_stride, strict=True)
        )
        if min(self.grid) < 1:
            raise UserError(
                f"DATA.NUM_FRAMES {num_frames} or DATA.TRAIN_CROP_SIZE {size} is less than MVIT.PATCH_STRIDE "
                f"{list(patch_stride)} (time, height, width)"
            )
        plans = pyramid.plan(self.grid)
        self._add_tokens(pyramid.embed_dim)
        in_channels = 6 if motion_stem else 3
        self.patch_embed = PatchEmbed(
            in_channels, pyramid.embed_dim, patch_kernel, patch_stride, patch_padding
        )
        self.pos_drop = nn.Dropout(dropout)
        self.norm_stem = nn.LayerNorm(pyramid.embed_dim, eps=NORM_EPS) if norm_stem else None
        rates = drop_path_rates(drop_path, len(plans))
        self.blocks = nn.ModuleList(
            Block(plan, attention, self.num_cls, mlp_ratio, dropout, rate)
            for plan, rate in zip(plans, rates, strict=True)
        )
        dim = plans[-1].dim_out
        self.norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.head = nn.Sequential(
            OrderedDict(dropout=nn.Dropout(head_dropout), projection=nn.Linear(dim, num_classes))
        )
        self.apply(init_linear_and_norm)

    def _add_tokens(self, dim: int) -> None:
        """The class token and tables of absolute positions, `[1, N, C]`."""
        frames, places = self.grid[0], self.grid[1] * self.grid[2]
        tables = {"cls_token": self.num_cls}
        if self.abs_pos and self.sep_pos_embed:
            tables |= {
                "pos_embed_spatial": places,
                "pos_embed_temporal": frames,
                "pos_embed_class": self.num_cls,
            }
        elif self.abs_pos:
            tables["pos_embed"] = self.num_cls + frames * places
        for name, length in tables.items():
            table = nn.init.trunc_normal_(torch.empty(1, length, dim), std=INIT_STD)
            self.register_parameter(name, nn.Parameter(table) if length else None)

    def _positions(self, grid: Grid) -> Tensor:
        """Absolute positions `[1, num_cls + N, C]` of a grid, interpolated if it is not that of the tables."""
        if self.sep_pos_embed:
            table = (self.pos_embed_temporal[:, :, None] + self.pos_embed_spatial[:, None]).flatten(
                1, 2
            )
            first = self.pos_embed_class if self.num_cls else table[:, :0]
        else:
            first, table = self.pos_embed[:, : self.num_cls], self.pos_embed[:, self.num_cls :]
        if grid != self.grid:
            volume = table.transpose(1, 2).unflatten(2, self.grid)
            table = (
                functional.interpolate(volume, size=grid, mode="trilinear")
                .flatten(2)
                .transpose(1, 2)
            )
        return torch.cat([first, table], dim=1)

    def forward(self, clip: Tensor) -> Tensor:
        """Clips `[B, 3, T, H, W]` to logits `[B, K]`.

        Raises:
            UserError: if the clip is smaller than a patch.
        """
        tokens, grid = self.patch_embed(motion_channels(clip) if self.motion_stem else clip)
        if self.num_cls:
            tokens = torch.cat([self.cls_token.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        if self.abs_pos:
            tokens = tokens + self._positions(grid)
        tokens = self.pos_drop(tokens)
        tokens = tokens if self.norm_stem is None else self.norm_stem(tokens)
        for number, block in enumerate(self.blocks):
            if self.training and number < self.num_recomputed:
                tokens, grid = recomputed(block, tokens, grid, use_reentrant=False)
            else:
                tokens, grid = block(tokens, grid)
        if self.mean_pooling:
            return self.head(self.norm(tokens[:, self.num_cls :].mean(1)))
        tokens = self.norm(tokens)
        return self.head(tokens[:, 0] if self.num_cls else tokens.mean(1))
