"""MViT (Fan et al. 2021, "Multiscale Vision Transformers") and MViTv2 (Li et al. 2022).

Attention pools its queries, so that the grid of tokens (time, height, width) shrinks and channels
grow from block to block, and pools keys and values, so that it is affordable. Names and shapes of
the state_dict are PySlowFast's.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from nightcrawler.models.layers import (
    DropPath,
    Mlp,
    drop_path_rates,
    init_linear_and_norm,
    motion_channels,
)
from nightcrawler.models.mvit_attention import (
    INIT_STD,
    MVIT_ATTENTION,
    AttentionStyle,
    PooledAttention,
    pool_layer,
    pool_tokens,
    triple,
)
from nightcrawler.models.mvit_layout import (
    MVIT_B,
    NO_STRIDE,
    BlockPlan,
    Grid,
    MViTLayout,
    Pool,
    skip_kernel,
)
from nightcrawler.models.recompute import recomputed
from nightcrawler.utils.errors import ArgumentError

NORM_EPS = 1e-6


class Block(nn.Module):
    """Pooled attention and an MLP, each beside a skip connection.

    Args:
        plan: sizes and pooling of the block.
        style: settings of the attention in all blocks.
        num_cls: class tokens, 0 or 1.
        mlp_ratio: see `MViT`.
        dropout: see `MViT`.
        drop_path: stochastic depth of the block.
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
        self.proj: nn.Module | None = None
        if plan.dim != plan.dim_out:
            self.proj = nn.Linear(plan.dim, plan.dim_out)
        self.pool_skip: nn.Module | None = None
        stride = plan.query.stride if plan.query else NO_STRIDE
        if max(stride) > 1:
            self.pool_skip = pool_layer("max", dim, Pool(skip_kernel(stride), stride))

    def forward(self, tokens: Tensor, grid: Grid) -> tuple[Tensor, Grid]:
        """Mix tokens `[B, N, C]` on a grid, to `[B, N', C']` on the next grid."""
        normed = self.norm1(tokens)
        mixed, next_grid = self.attn(normed, grid)
        skipped = tokens
        if self.grows_in_attention:
            # Channels grow here, so the skip connection is projected before it is pooled.
            assert self.proj is not None
            skipped = self.proj(normed)
        if self.pool_skip is not None:
            skipped, _ = pool_tokens(skipped, grid, self.pool_skip, self.num_cls)
        tokens = skipped + self.drop_path(mixed)
        normed = self.norm2(tokens)
        # Growth in the MLP: the skip connection is projected from the normed tokens, as published.
        if self.proj is not None and not self.grows_in_attention:
            tokens = self.proj(normed)
        return tokens + self.drop_path(self.mlp(normed)), next_grid


class PatchEmbed(nn.Module):
    """Overlapping patches in space and time: a strided convolution.

    Args:
        in_channels: channels of the clip.
        channels: channels of a token.
        kernel: over time, height, width.
        stride: over time, height, width.
        padding: over time, height, width.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel: Sequence[int],
        stride: Sequence[int],
        padding: Sequence[int],
    ) -> None:
        super().__init__()
        self.padding = triple(padding)
        self.proj = nn.Conv3d(in_channels, channels, triple(kernel), triple(stride), self.padding)

    def forward(self, clip: Tensor) -> tuple[Tensor, Grid]:
        """Turn `[B, C, T, H, W]` into tokens `[B, N, C']` and their grid.

        Raises:
            ArgumentError: if the clip is smaller than a patch.
        """
        kernel = self.proj.kernel_size
        for size, pad, patch in zip(clip.shape[2:], self.padding, kernel, strict=True):
            if size + 2 * pad < patch:
                raise ArgumentError(
                    f"a clip of {list(clip.shape[2:])} pixels (time, height, width) is smaller "
                    f"than a patch of patch_kernel {list(kernel)}",
                    "patch_kernel",
                )
        patches = self.proj(clip)
        return patches.flatten(2).transpose(1, 2), tuple(patches.shape[2:])


def _training_grid(num_frames: int, size: int, patch_stride: Sequence[int]) -> Grid:
    """Return the grid of tokens of a training clip."""
    # Whole strides, as published: the tables of odd sizes are a little too small.
    sizes = (num_frames, size, size)
    grid = tuple(n // step for n, step in zip(sizes, patch_stride, strict=True))
    if min(grid) < 1:
        raise ArgumentError(
            f"num_frames {num_frames} or size {size} is less than patch_stride "
            f"{list(patch_stride)} (time, height, width)",
            "num_frames",
            "size",
            "patch_stride",
        )
    return grid


class MViT(nn.Module):
    """Multiscale vision transformer for video. The defaults are MViT-B 32x3.

    Args:
        num_classes: K.
        num_frames: frames of a training clip. Position tables have the size of training clips and
            are interpolated for others.
        size: side of a training clip in pixels.
        layout: depth, sizes and pooling of blocks.
        attention: settings of the attention, most of them new in MViTv2.
        mlp_ratio: hidden over input channels of MLPs.
        patch_kernel: of the patch embedding, over time, height, width.
        patch_stride: of the patch embedding.
        patch_padding: of the patch embedding.
        cls_token: the classifier sees a class token, without it the mean of all tokens.
        mean_pooling: the classifier sees the norm of the mean of all other tokens.
        norm_stem: LayerNorm after the patch embedding.
        abs_pos: absolute positions are added to the patch embedding.
        sep_pos_embed: a table for time and one for space, not one for both.
        dropout: of embeddings and projections.
        drop_path: stochastic depth of the last block.
        head_dropout: before the classifier.
        motion_stem: see `layers.motion_channels`.
        checkpoint: number of blocks, from the first on, whose activations are recomputed in the
            backward pass.

    Raises:
        ArgumentError: if the sizes do not fit together.
    """

    cls_token: Tensor
    pos_embed: Tensor
    pos_embed_spatial: Tensor
    pos_embed_temporal: Tensor
    pos_embed_class: Tensor

    def __init__(
        self,
        num_classes: int = 11,
        *,
        num_frames: int = 32,
        size: int = 224,
        layout: MViTLayout = MVIT_B,
        attention: AttentionStyle = MVIT_ATTENTION,
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
        self.num_cls = int(cls_token)
        self.mean_pooling = mean_pooling
        self.motion_stem = motion_stem
        self.num_recomputed = checkpoint
        self.abs_pos = abs_pos
        self.sep_pos_embed = sep_pos_embed
        self.grid = _training_grid(num_frames, size, patch_stride)
        plans = layout.plan(self.grid)
        self._add_tokens(layout.embed_dim)
        in_channels = 6 if motion_stem else 3
        self.patch_embed = PatchEmbed(
            in_channels, layout.embed_dim, patch_kernel, patch_stride, patch_padding
        )
        self.pos_drop = nn.Dropout(dropout)
        self.norm_stem: nn.Module | None = None
        if norm_stem:
            self.norm_stem = nn.LayerNorm(layout.embed_dim, eps=NORM_EPS)
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
        """Add the class token and tables of absolute positions, `[1, N, C]`."""
        frames = self.grid[0]
        places = self.grid[1] * self.grid[2]
        # Name to number of rows; a table without rows is None, and not in the state_dict.
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
        """Return absolute positions `[1, num_cls + N, C]` of a grid, interpolated if need be."""
        if self.sep_pos_embed:
            # A table of frames plus a table of places: [1, T, 1, C] + [1, 1, H W, C].
            times = self.pos_embed_temporal[:, :, None]
            table = (times + self.pos_embed_spatial[:, None]).flatten(1, 2)
            first = self.pos_embed_class if self.num_cls else table[:, :0]
        else:
            first = self.pos_embed[:, : self.num_cls]
            table = self.pos_embed[:, self.num_cls :]
        if grid != self.grid:
            volume = table.transpose(1, 2).unflatten(2, self.grid)
            resized = functional.interpolate(volume, size=grid, mode="trilinear")
            table = resized.flatten(2).transpose(1, 2)
        return torch.cat([first, table], dim=1)

    def forward(self, clip: Tensor) -> Tensor:
        """Classify clips `[B, 3, T, H, W]`, to logits `[B, K]`.

        Raises:
            ArgumentError: if the clip is smaller than a patch.
        """
        if self.motion_stem:
            clip = motion_channels(clip)
        tokens, grid = self.patch_embed(clip)
        if self.num_cls:
            tokens = torch.cat([self.cls_token.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        if self.abs_pos:
            tokens = tokens + self._positions(grid)
        tokens = self.pos_drop(tokens)
        if self.norm_stem is not None:
            tokens = self.norm_stem(tokens)
        for number, block in enumerate(self.blocks):
            # The grid changes from block to block, so it travels with the tokens.
            if self.training and number < self.num_recomputed:
                tokens, grid = recomputed(block, tokens, grid)
            else:
                tokens, grid = block(tokens, grid)
        if self.mean_pooling:
            # The mean first, then the norm: without mean pooling it is the other way around.
            return self.head(self.norm(tokens[:, self.num_cls :].mean(1)))
        tokens = self.norm(tokens)
        return self.head(tokens[:, 0] if self.num_cls else tokens.mean(1))
