"""UniFormer (Li et al. 2022).

"UniFormer: Unified Transformer for Efficient Spatiotemporal Representation Learning": convolution
blocks in the first two stages, self-attention over all space-time tokens in the last two. Names and
shapes of the state_dict are those of the public checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from nightcrawler.models.layers import (
    Attention,
    DropPath,
    Mlp,
    drop_path_rates,
    init_linear_and_norm,
    motion_channels,
    per_stage,
)
from nightcrawler.models.recompute import recomputed

BLOCK_NORM_EPS = 1e-6


class PatchEmbed(nn.Module):
    """Non-overlapping patches in space: a strided convolution, then a norm over channels.

    Args:
        in_channels: channels of the input.
        channels: channels of the output.
        kernel: over time, height, width. Time is padded to keep (or halve) its length.
        stride: over time, height, width.
        norm: `layer` (as published) or `batch`.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel: tuple[int, int, int],
        stride: tuple[int, int, int],
        norm: str,
    ) -> None:
        super().__init__()
        self.norm: nn.Module = nn.LayerNorm(channels)
        if norm == "batch":
            self.norm = nn.BatchNorm3d(channels)
        self.proj = nn.Conv3d(in_channels, channels, kernel, stride, padding=(kernel[0] // 2, 0, 0))

    def forward(self, x: Tensor) -> Tensor:
        """Embed `[B, C_in, T, H, W]` as `[B, C, T', H', W']`."""
        x = self.proj(x)
        if isinstance(self.norm, nn.BatchNorm3d):
            return self.norm(x)
        # LayerNorm normalises the last axis, so channels go there and back.
        return self.norm(x.permute(0, 2, 3, 4, 1)).permute(0, 4, 1, 2, 3)


class ConvMlp(nn.Module):
    """Two-layer perceptron of a convolution block, as 1x1x1 convolutions.

    Args:
        dim: C.
        hidden: channels of the hidden layer.
        dropout: after both layers.
    """

    def __init__(self, dim: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.fc1 = nn.Conv3d(dim, hidden, 1)
        self.act = nn.GELU()
        self.fc2 = nn.Conv3d(hidden, dim, 1)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Transform `[B, C, T, H, W]`, same shape out."""
        return self.drop(self.fc2(self.drop(self.act(self.fc1(x)))))


class ConvBlock(nn.Module):
    """Local relations: a depthwise 5x5x5 convolution in attention's place.

    Args:
        dim: C.
        mlp_ratio: hidden over input channels of the perceptron.
        dropout: see `UniFormer`.
        drop_path: stochastic depth of the block.
    """

    def __init__(self, dim: int, mlp_ratio: float, dropout: float, drop_path: float) -> None:
        super().__init__()
        self.pos_embed = nn.Conv3d(dim, dim, 3, padding=1, groups=dim)
        self.norm1 = nn.BatchNorm3d(dim)
        self.conv1 = nn.Conv3d(dim, dim, 1)
        self.conv2 = nn.Conv3d(dim, dim, 1)
        self.attn = nn.Conv3d(dim, dim, 5, padding=2, groups=dim)
        self.drop_path = DropPath(drop_path)
        self.norm2 = nn.BatchNorm3d(dim)
        self.mlp = ConvMlp(dim, int(dim * mlp_ratio), dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Transform `[B, C, T, H, W]`, same shape out."""
        x = x + self.pos_embed(x)
        x = x + self.drop_path(self.conv2(self.attn(self.conv1(self.norm1(x)))))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class AttentionBlock(nn.Module):
    """Global relations: attention over all T H W tokens, or over time and space in turn.

    Args:
        dim: channels.
        num_heads: attention heads.
        mlp_ratio: hidden over input channels of the perceptron.
        qkv_bias: see `UniFormer`.
        qk_scale: see `UniFormer`.
        dropout: see `UniFormer`.
        attention_dropout: see `UniFormer`.
        drop_path: stochastic depth of the block.
        split: attend over time at each place first, then over space in each frame.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float,
        qkv_bias: bool,
        qk_scale: float | None,
        dropout: float,
        attention_dropout: float,
        drop_path: float,
        split: bool,
    ) -> None:
        super().__init__()
        self.split = split
        self.pos_embed = nn.Conv3d(dim, dim, 3, padding=1, groups=dim)
        if split:
            self.t_norm = nn.LayerNorm(dim, eps=BLOCK_NORM_EPS)
            self.t_attn = Attention(dim, num_heads, qkv_bias, qk_scale, attention_dropout, dropout)
        self.norm1 = nn.LayerNorm(dim, eps=BLOCK_NORM_EPS)
        self.attn = Attention(dim, num_heads, qkv_bias, qk_scale, attention_dropout, dropout)
        self.drop_path = DropPath(drop_path)
        self.norm2 = nn.LayerNorm(dim, eps=BLOCK_NORM_EPS)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), drop=dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Transform `[B, C, T, H, W]`, same shape out."""
        x = x + self.pos_embed(x)
        batch, dim, length, height, width = x.shape
        tokens = x.permute(0, 2, 3, 4, 1)
        if self.split:
            # Each place is a sequence of T tokens, then each frame a sequence of H W tokens.
            places = tokens.permute(0, 2, 3, 1, 4).reshape(-1, length, dim)
            places = places + self.drop_path(self.t_attn(self.t_norm(places)))
            frames = places.view(batch, height * width, length, dim).transpose(1, 2)
            tokens = tokens.reshape(batch * length, height * width, dim)
            # As published: space attends to the tokens after time, but is added to those before.
            mixed = self.attn(self.norm1(frames.reshape(batch * length, height * width, dim)))
        else:
            tokens = tokens.reshape(batch, length * height * width, dim)
            mixed = self.attn(self.norm1(tokens))
        tokens = (tokens + self.drop_path(mixed)).view(batch, length * height * width, dim)
        tokens = tokens + self.drop_path(self.mlp(self.norm2(tokens)))
        return tokens.view(batch, length, height, width, dim).permute(0, 4, 1, 2, 3)


class UniFormer(nn.Module):
    """UniFormer for video.

    Args:
        num_classes: K.
        depth: number of blocks in each of the four stages.
        embed_dim: channels of each of the four stages.
        head_dim: channels of an attention head.
        mlp_ratio: hidden over input channels of perceptrons.
        qkv_bias: bias in the projection to queries, keys and values.
        qk_scale: scale of the dot product, 1 / sqrt(head_dim) when absent.
        dropout: of projections.
        attention_dropout: of attention weights.
        drop_path: stochastic depth of the last block.
        head_dropout: before the classifier (published: none).
        split: attention over time and space in turn.
        std: temporal kernel 3 in the later patch embeddings.
        patch_norm: norm of patch embeddings, `layer` or `batch`.
        motion_stem: see `motion_channels`.
        checkpoint: number of blocks in each stage whose activations are recomputed in the backward
            pass.
    """

    def __init__(
        self,
        num_classes: int = 11,
        depth: Sequence[int] = (5, 8, 20, 7),
        embed_dim: Sequence[int] = (64, 128, 320, 512),
        head_dim: int = 64,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        drop_path: float = 0.0,
        head_dropout: float = 0.0,
        split: bool = False,
        std: bool = False,
        patch_norm: str = "layer",
        motion_stem: bool = False,
        checkpoint: Sequence[int] = (0, 0, 0, 0),
    ) -> None:
        super().__init__()
        self.motion_stem = motion_stem
        # A single number holds for all stages.
        self.num_recomputed = per_stage(checkpoint, 4)
        in_channels = 3
        if motion_stem:
            in_channels = 6
        dims = [in_channels, *embed_dim]
        for stage in range(4):
            # The first embedding halves time and quarters space, the others halve space.
            kernel = (3 if std else 1, 2, 2)
            stride = (1, 2, 2)
            if stage == 0:
                kernel = (3, 4, 4)
                stride = (2, 4, 4)
            embed = PatchEmbed(dims[stage], dims[stage + 1], kernel, stride, patch_norm)
            self.add_module(f"patch_embed{stage + 1}", embed)
        self.pos_drop = nn.Dropout(dropout)
        rates = iter(drop_path_rates(drop_path, sum(depth)))
        for stage, (dim, count) in enumerate(zip(embed_dim, depth, strict=True)):
            blocks: list[nn.Module] = []
            for _ in range(count):
                rate = next(rates)
                if stage < 2:
                    blocks.append(ConvBlock(dim, mlp_ratio, dropout, rate))
                else:
                    settings = (mlp_ratio, qkv_bias, qk_scale, dropout, attention_dropout)
                    heads = dim // head_dim
                    blocks.append(AttentionBlock(dim, heads, *settings, rate, split))
            self.add_module(f"blocks{stage + 1}", nn.ModuleList(blocks))
        self.norm = nn.BatchNorm3d(embed_dim[-1])
        self.head_drop = nn.Dropout(head_dropout)
        self.head = nn.Linear(embed_dim[-1], num_classes)
        # After all modules are there: the order of random numbers is that of the modules.
        self.apply(init_linear_and_norm)
        self._init_temporal_attention()

    def _init_temporal_attention(self) -> None:
        """Start split attention as published: queries, keys and values 0, projection weights 1."""
        for name, parameter in self.named_parameters():
            if ".t_attn." in name:
                nn.init.constant_(parameter, float(name.endswith("proj.weight")))

    def forward(self, clip: Tensor) -> Tensor:
        """Classify clips `[B, 3, T, H, W]` (T >= 1, H and W >= 32), to logits `[B, K]`."""
        x = clip
        if self.motion_stem:
            x = motion_channels(clip)
        for stage in range(4):
            x = getattr(self, f"patch_embed{stage + 1}")(x)
            if stage == 0:
                x = self.pos_drop(x)
            for number, block in enumerate(getattr(self, f"blocks{stage + 1}")):
                # Recomputation trades time for memory, and only the backward pass needs it.
                recompute = self.training and number < self.num_recomputed[stage]
                x = recomputed(block, x) if recompute else block(x)
        x = self.norm(x)
        return self.head(self.head_drop(x.flatten(2).mean(-1)))
