"""Layers that more than one architecture uses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from timm.layers import Mlp as Mlp  # one home for what the architectures share
from torch import Tensor, nn
from torch.nn import functional

QUERY_BLOCK = 512


def motion_channels(clip: Tensor) -> Tensor:
    """The clip with three more channels, twice the difference to its mean frame; `[B, 3, ...]` to `[B, 6, ...]`.

    A still camera's background cancels, so that small models see what moves from their first layer on.
    """
    return torch.cat([clip, 2.0 * (clip - clip.mean(dim=2, keepdim=True))], dim=1)


def drop_path_rates(most: float, num_blocks: int) -> list[float]:
    """Stochastic depth of each block, from 0 to `most` linearly (Huang et al. 2016, section 3)."""
    return np.linspace(0, most, num_blocks).tolist()


def attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, **options: Any
) -> Tensor:
    """softmax(scale q k^T + mask) v of heads `[B, heads, N, C]`, by the fused kernel.

    On a CPU it reads heads one after the other, so they are laid out like that first; and in bfloat16 it multiplies no
    faster than in float32, so inference goes through plain products there, by blocks of queries that stay in cache.

    Args:
        query, key, value: heads of tokens.
        mask: added to the scores.
        options: `dropout_p` and `scale` as of `scaled_dot_product_attention`.
    """
    if query.device.type == "cpu":
        query, key, value = (heads.contiguous() for heads in (query, key, value))
        if (
            query.dtype == torch.bfloat16
            and not torch.is_grad_enabled()
            and not options.get("dropout_p")
        ):
            return _attend_in_blocks(query, key, value, mask, options.get("scale"))
    return functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, **options)


def _attend_in_blocks(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float | None
) -> Tensor:
    keys = (query.shape[-1] ** -0.5 if scale is None else scale) * key.transpose(-2, -1)
    mixed = query.new_empty(*query.shape[:-1], value.shape[-1])
    for start in range(0, query.shape[-2], QUERY_BLOCK):
        rows = slice(start, start + QUERY_BLOCK)
        scores = query[..., rows, :] @ keys
        if mask is not None:
            scores = scores + (mask[..., rows, :] if mask.shape[-2] > 1 else mask)
        mixed[..., rows, :] = scores.softmax(dim=-1) @ value
    return mixed


class Attention(nn.Module):
    """Multi-head self-attention of tokens `[B, N, C]` (Vaswani et al. 2017), by the fused kernel.

    Args:
        dim: C.
        num_heads: heads of C / num_heads channels.
        qkv_bias: bias in the projection to queries, keys and values.
        scale: of the dot product; 1 / sqrt(head channels) when absent.
        attention_dropout, dropout: of attention weights and of the output.
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
        self.num_heads, self.scale, self.attention_dropout = num_heads, scale, attention_dropout
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """`[B, N, C]` to `[B, N, C]`."""
        batch, length, dim = tokens.shape
        qkv = self.qkv(tokens).view(batch, length, 3, self.num_heads, dim // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        dropout = self.attention_dropout if self.training else 0.0
        mixed = attend(q, k, v, dropout_p=dropout, scale=self.scale)
        return self.proj_drop(self.proj(mixed.transpose(1, 2).reshape(batch, length, dim)))


def init_linear_and_norm(module: nn.Module) -> None:
    """Truncated normal (0.02) weights for linear layers, ones for LayerNorm, zero biases."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
    elif isinstance(module, nn.LayerNorm):
        nn.init.ones_(module.weight)
    if isinstance(module, (nn.Linear, nn.LayerNorm)) and module.bias is not None:
        nn.init.zeros_(module.bias)


def per_stage(counts: Sequence[int], num_stages: int) -> tuple[int, ...]:
    """`counts` as one number a stage; a single number stands for every stage."""
    return tuple(counts) * (num_stages if len(counts) == 1 else 1)
