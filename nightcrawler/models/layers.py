"""Layers that more than one architecture uses."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

# Queries in a block of attention scores: such a block stays in a CPU's cache.
QUERY_BLOCK = 512


def motion_channels(clip: Tensor) -> Tensor:
    """Append three channels, twice the difference to the clip's mean frame.

    A still camera's background cancels, so that small models see motion from their first layer on.

    Args:
        clip: `[B, 3, T, ...]`.

    Returns:
        `[B, 6, T, ...]`.
    """
    return torch.cat([clip, 2.0 * (clip - clip.mean(dim=2, keepdim=True))], dim=1)


def drop_path_rates(most: float, num_blocks: int) -> list[float]:
    """Return stochastic depth of each block, linear from 0 to `most`.

    The rule is that of Huang et al. 2016, "Deep Networks with Stochastic Depth", section 3.

    Args:
        most: rate of the last block.
        num_blocks: number of blocks.
    """
    return np.linspace(0, most, num_blocks).tolist()


def attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, **options: Any
) -> Tensor:
    """Return softmax(scale q k^T + mask) v, by the fused kernel where that is the fastest way.

    Args:
        query: heads of tokens `[B, heads, N, C]`.
        key: heads of tokens `[B, heads, M, C]`.
        value: heads of tokens `[B, heads, M, C]`.
        mask: added to the scores `[B, heads, N, M]`.
        options: `dropout_p` and `scale` of `scaled_dot_product_attention`.

    Returns:
        `[B, heads, N, C]`.
    """
    if query.device.type == "cpu":
        # The kernel reads heads one after the other on a CPU: contiguous ones are faster.
        query = query.contiguous()
        key = key.contiguous()
        value = value.contiguous()
        inference = not torch.is_grad_enabled() and not options.get("dropout_p")
        if query.dtype == torch.bfloat16 and inference and not _has_bfloat16_tiles():
            return _attend_in_blocks(query, key, value, mask, options.get("scale"))
    return functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, **options)


@functools.cache
def _has_bfloat16_tiles() -> bool:
    """Return whether this CPU has AMX, the only way that the fused kernel multiplies bfloat16.

    Without it the kernel is no faster than in float32, and plain products are.
    """
    # Releases of torch that cannot tell the capabilities are taken to have none.
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("amx_bf16"))


def _attend_in_blocks(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float | None
) -> Tensor:
    """Compute attention by two products for each block of queries."""
    keys = (query.shape[-1] ** -0.5 if scale is None else scale) * key.transpose(-2, -1)
    mixed = query.new_empty(*query.shape[:-1], value.shape[-1])
    for start in range(0, query.shape[-2], QUERY_BLOCK):
        rows = slice(start, start + QUERY_BLOCK)
        scores = query[..., rows, :] @ keys
        if mask is not None:
            # A mask of one row is the same for all queries.
            scores = scores + (mask[..., rows, :] if mask.shape[-2] > 1 else mask)
        mixed[..., rows, :] = scores.softmax(dim=-1) @ value
    return mixed


# Both layers below are timm's. Importing timm, and torchvision with it, takes longer than importing
# torch, and every command that runs a model would wait for it.


class DropPath(nn.Module):
    """Stochastic depth: in training, drop whole samples of a residual branch.

    Samples that are kept are scaled up, so that the expectation stays (Huang et al. 2016, "Deep
    Networks with Stochastic Depth"). Draws are those of `timm.layers.DropPath`.

    Args:
        drop_prob: probability of dropping a sample, in [0, 1].
    """

    def __init__(self, drop_prob: float) -> None:
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, branch: Tensor) -> Tensor:
        """Drop samples of `[B, ...]`."""
        if not self.training or self.drop_prob == 0.0:
            return branch
        keep_prob = 1.0 - self.drop_prob
        shape = (branch.shape[0],) + (1,) * (branch.ndim - 1)
        kept = branch.new_empty(shape).bernoulli_(keep_prob)
        if keep_prob > 0.0:
            kept.div_(keep_prob)
        return branch * kept


class Mlp(nn.Module):
    """Two linear layers with GELU between them, named as those of `timm.layers.Mlp`.

    Args:
        in_features: channels of the input.
        hidden_features: channels between the layers.
        out_features: channels of the output, `in_features` when absent.
        drop: dropout after each layer.
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        out_features: int | None = None,
        drop: float = 0.0,
    ) -> None:
        super().__init__()
        self.fc1 = nn.Linear(in_features, hidden_features)
        self.act = nn.GELU()
        self.drop1 = nn.Dropout(drop)
        self.fc2 = nn.Linear(hidden_features, out_features or in_features)
        self.drop2 = nn.Dropout(drop)

    def forward(self, tokens: Tensor) -> Tensor:
        """Transform tokens, `[..., in_features]` to `[..., out_features]`."""
        return self.drop2(self.fc2(self.drop1(self.act(self.fc1(tokens)))))


class Attention(nn.Module):
    """Multi-head self-attention of tokens `[B, N, C]` (Vaswani et al. 2017, section 3.2).

    Args:
        dim: C.
        num_heads: heads of C / num_heads channels.
        qkv_bias: bias in the projection to queries, keys and values.
        scale: of the dot product, 1 / sqrt(head channels) when absent.
        attention_dropout: of attention weights.
        dropout: of the output.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        qkv_bias: bool = True,
        scale: float | None = None,
        attention_dropout: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.scale = scale
        self.attention_dropout = attention_dropout
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Mix tokens, `[B, N, C]` to `[B, N, C]`."""
        batch, length, dim = tokens.shape
        qkv = self.qkv(tokens).view(batch, length, 3, self.num_heads, dim // self.num_heads)
        # To [3, B, heads, N, C / heads].
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        dropout = self.attention_dropout if self.training else 0.0
        mixed = attend(q, k, v, dropout_p=dropout, scale=self.scale)
        return self.proj_drop(self.proj(mixed.transpose(1, 2).reshape(batch, length, dim)))


def init_linear_and_norm(module: nn.Module) -> None:
    """Initialise a linear layer (truncated normal of 0.02) or a LayerNorm (ones), biases with 0.

    Args:
        module: initialised in place. Other layers stay as they are.
    """
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
    elif isinstance(module, nn.LayerNorm):
        nn.init.ones_(module.weight)
    if isinstance(module, (nn.Linear, nn.LayerNorm)) and module.bias is not None:
        nn.init.zeros_(module.bias)


def per_stage(counts: Sequence[int], num_stages: int) -> tuple[int, ...]:
    """Return one number per stage, repeating a single number for every stage.

    Args:
        counts: one number, or one per stage.
        num_stages: number of stages.
    """
    return tuple(counts) * (num_stages if len(counts) == 1 else 1)
