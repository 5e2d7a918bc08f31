"""Non-local block of PySlowFast's ResNets (Wang et al. 2018, "Non-local Neural Networks")."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from nightcrawler.models.conv3d import conv3d
from nightcrawler.models.layers import attend


class NonLocal(nn.Module):
    """Attention of every position to all others (Wang et al. 2018, section 3.3).

    Args:
        channels: of input and output. Inside there are half of them.
        pool: max-pool of keys and values over time, height, width.
        groups: parts of the clip, in time, without attention between them.
        kind: `softmax` (section 3.2, "embedded Gaussian", scaled) or `dot_product` (divided by the
            number of keys).
    """

    def __init__(self, channels: int, pool: Sequence[int], groups: int, kind: str) -> None:
        super().__init__()
        self.pool = tuple(pool)
        self.groups = groups
        self.kind = kind
        inner = channels // 2
        self.conv_theta = conv3d(channels, inner, bias=True)
        self.conv_phi = conv3d(channels, inner, bias=True)
        self.conv_g = conv3d(channels, inner, bias=True)
        self.conv_out = conv3d(inner, channels, bias=True)
        self.norm = nn.BatchNorm3d(channels)
        # The block starts as the identity, so that it can be added to a trained network.
        nn.init.zeros_(self.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Mix positions of `[B, C, T, H, W]`, same shape out. T is a multiple of `groups`."""
        if self.groups == 1:
            return self._attend(x)
        batch, channels, frames, height, width = x.shape
        # Parts of the clip become clips of their own: [B groups, T / groups, C, H, W].
        parts = x.transpose(1, 2).reshape(
            batch * self.groups, frames // self.groups, channels, height, width
        )
        mixed = self._attend(parts.transpose(1, 2)).transpose(1, 2)
        return mixed.reshape(batch, frames, channels, height, width).transpose(1, 2)

    def _attend(self, x: Tensor) -> Tensor:
        """Mix positions without groups."""
        # A map smaller than the pool (short or small clips) is pooled to one place.
        kernel = [min(pool, size) for pool, size in zip(self.pool, x.shape[2:], strict=True)]
        pooled = functional.max_pool3d(x, kernel, stride=kernel)
        query = self.conv_theta(x).flatten(2).transpose(1, 2)
        key = self.conv_phi(pooled).flatten(2).transpose(1, 2)
        value = self.conv_g(pooled).flatten(2).transpose(1, 2)
        if self.kind == "softmax":
            mixed = attend(query[:, None], key[:, None], value[:, None])[:, 0]
        else:
            # Keys with values first: without a softmax the large matrix of scores is not needed.
            mixed = query @ (key.transpose(1, 2) @ value / key.shape[1])
        mixed = mixed.transpose(1, 2).reshape(x.shape[0], -1, *x.shape[2:])
        return x + self.norm(self.conv_out(mixed))
