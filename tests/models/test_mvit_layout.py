"""MViT's sizes: rounding, how blocks fit together, and sizes that do not."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nightcrawler.models.mvit import AttentionStyle, MViT
from nightcrawler.models.mvit_layout import MViTLayout, Pool, scale_width
from nightcrawler.utils.errors import UserError
from tests.golden.fill import clip_formula
from tests.models.tiny_mvit import TINY, tiny


@pytest.mark.parametrize(
    ("width", "factor", "divisor", "expected"),
    [
        (96, 2.0, 2, 192),
        (9, 2.0, 4, 20),
        (5, 1.0, 4, 8),
        (13, 1.0, 4, 12),
        (15, 1.5, 1, 23),
        (1, 1.0, 8, 8),
    ],
)
def test_rounded_widths(width: int, factor: float, divisor: int, expected: int) -> None:
    assert scale_width(width, factor, divisor) == expected


@given(st.integers(1, 60), st.sampled_from([0.5, 1.0, 1.5, 2.0, 3.0]), st.integers(1, 16))
def test_rounded_widths_are_near_multiples(width: int, factor: float, divisor: int) -> None:
    result = scale_width(width, factor, divisor)
    assert result % divisor == 0
    assert result >= 0.9 * width * factor
    assert result < width * factor + 1.5 * divisor
    if width * factor % divisor == 0:
        assert result == width * factor


@given(st.integers(1, 6), st.integers(1, 40), st.integers(1, 4), st.data())
def test_plans_fit_together(depth: int, width: int, num_heads: int, data: Any) -> None:
    factors = st.lists(
        st.tuples(st.integers(1, depth), st.sampled_from([1.0, 1.5, 2.0])), max_size=4
    )
    strides = st.lists(
        st.tuples(st.integers(0, depth - 1), *[st.sampled_from([1, 2])] * 3), max_size=4
    )
    layout = MViTLayout(
        depth=depth,
        embed_dim=width * num_heads,
        num_heads=num_heads,
        dim_mul=data.draw(factors),
        head_mul=data.draw(factors),
        q_stride=data.draw(strides),
        kv_stride_adaptive=(1, 4, 4),
    )
    plans = layout.plan((4, 16, 16))
    assert plans[0].dim == width * num_heads
    for plan, following in itertools.pairwise(plans):
        assert plan.dim_out == following.dim == following.dim_attention
        assert following.dim % following.num_heads == 0
        steps = plan.query.stride if plan.query else (1, 1, 1)
        assert following.grid == tuple(n // s for n, s in zip(plan.grid, steps, strict=True))
        assert following.key_value is None or max(following.key_value.stride) <= 4


def test_explicit_strides_equal_adaptive_ones() -> None:
    explicit = MViTLayout(
        **{**vars(TINY), "kv_stride": ((0, 1, 2, 2), (1, 1, 1, 1)), "kv_stride_adaptive": ()}
    )
    assert explicit.plan((2, 8, 8)) == TINY.plan((2, 8, 8))
    other = MViTLayout(**{**vars(TINY), "kv_stride": ((1, 1, 2, 2),), "kv_stride_adaptive": ()})
    assert [plan.key_value for plan in other.plan((2, 8, 8))] == [None, Pool((1, 3, 3), (1, 2, 2))]


def test_adaptive_strides_are_divided_down_to_one() -> None:
    q_stride = ((0, 1, 2, 2), (2, 2, 2, 1), (3, 1, 1, 4))
    layout = MViTLayout(
        depth=4, dim_mul=(), head_mul=(), q_stride=q_stride, kv_stride_adaptive=(2, 8, 8)
    )
    strides = [
        plan.key_value.stride if plan.key_value else (1, 1, 1) for plan in layout.plan((8, 64, 64))
    ]
    assert strides == [(2, 4, 4), (2, 4, 4), (1, 2, 4), (1, 2, 1)]
    finer = MViTLayout(**{**vars(layout), "kv_stride_adaptive": (1, 2, 3)})
    assert [plan.key_value for plan in finer.plan((8, 64, 64))] == [None] * 4


BAD_SIZES = [
    (
        {"embed_dim": 10, "num_heads": 4},
        "10 channels do not divide into 4 heads: change embed_dim, num_heads, dim_mul or head_mul",
    ),
    (
        {"dim_mul": ((3, 2.0),)},
        r"^dim_mul: expected rows of a block, 1 to 2 .*found \[3, 2.0\]",
    ),
    ({"dim_mul": ((0, 2.0),)}, "^dim_mul: expected rows of a block, 1 to 2"),
    ({"dim_mul": ((1, 0.0),)}, "and a positive number, found"),
    ({"head_mul": ((-1, 2.0),)}, "^head_mul: expected rows of a block, 0 to 2"),
    ({"q_stride": ((2, 1, 2, 2),)}, "^q_stride: expected rows of a block, 0 to 1"),
    ({"q_stride": ((1, 1, 2),)}, "3 positive numbers, found"),
    ({"kv_stride": ((0, 0, 2, 2),)}, "^kv_stride: .*3 positive numbers"),
    ({"kernel": (1, 2, 2)}, r"kernel \[1, 2, 2\] does not suit stride \[1, 2, 2\]"),
    ({"q_stride": ((1, 1, 3, 3),), "kernel": (1, 3, 3)}, r"odd or even as those of \[1, 4, 4\]"),
]


@pytest.mark.parametrize(("changes", "message"), BAD_SIZES)
def test_sizes_that_do_not_fit_are_one_line(changes: dict[str, Any], message: str) -> None:
    with torch.device("meta"), pytest.raises(UserError, match=message) as caught:
        MViT(5, layout=MViTLayout(**{**vars(TINY), **changes}))
    assert "\n" not in str(caught.value)


def test_pooling_before_growth_needs_divisible_channels() -> None:
    layout = MViTLayout(
        depth=1,
        embed_dim=9,
        dim_mul=((0, 2.0),),
        head_mul=((0, 2.0),),
        dim_mul_in_att=True,
        q_stride=(),
    )
    with pytest.raises(UserError, match=r"^pool_first: 9 channels do not divide into 2 heads"):
        MViT(5, layout=layout, attention=AttentionStyle(pool_first=True))


@pytest.mark.parametrize(
    ("option", "key"), [({"num_frames": 1}, "num_frames 1"), ({"size": 3}, "size 3")]
)
def test_clips_smaller_than_a_stride_are_one_line(option: dict[str, int], key: str) -> None:
    with pytest.raises(UserError, match=rf"{key}.*patch_stride \[2, 4, 4\]"):
        MViT(5, layout=TINY, **option)


def test_a_clip_smaller_than_a_patch_is_one_line() -> None:
    model = tiny(patch_kernel=(2, 4, 4), patch_padding=(0, 0, 0))
    with pytest.raises(UserError, match=r"\[4, 32, 3\].*patch_kernel \[2, 4, 4\]"):
        model(clip_formula((1, 3, 4, 32, 3)))
