"""Small MViTs for tests: filled, in float64, for clips 4 x 32 x 32."""

from __future__ import annotations

from typing import Any

from nightcrawler.models.mvit import AttentionStyle, MViT
from nightcrawler.models.mvit_layout import MViTLayout
from tests.golden.fill import fill_state_dict

GROWTH = ((1, 2.0),)
TINY = MViTLayout(
    depth=2,
    embed_dim=8,
    dim_mul=GROWTH,
    head_mul=GROWTH,
    q_stride=((1, 1, 2, 2),),
    kv_stride_adaptive=(1, 2, 2),
)
TINY_V2 = MViTLayout(
    depth=3,
    embed_dim=8,
    dim_mul=GROWTH,
    head_mul=GROWTH,
    dim_mul_in_att=True,
    q_stride=((0, 1, 1, 1), (1, 1, 2, 2), (2, 1, 1, 1)),
    kv_stride_adaptive=(1, 4, 4),
    kernel=(3, 3, 3),
)
STYLE_V2 = AttentionStyle(
    rel_pos_spatial=True, rel_pos_temporal=True, residual_pooling=True, norm_eps=1e-6
)


def tiny(layout: MViTLayout = TINY, **options: Any) -> MViT:
    """A filled two-block model in evaluation mode and float64, for clips 4 x 32 x 32."""
    return fill_state_dict(
        MViT(5, **{"num_frames": 4, "size": 32, "layout": layout, **options})
    ).eval()


def tiny_v2(**options: Any) -> MViT:
    return tiny(TINY_V2, **{"attention": STYLE_V2, "abs_pos": False, **options})
