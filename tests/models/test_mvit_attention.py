"""MViT's attention, pooling and positions against formulas written out, a window, a query and a key at a time."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from nightcrawler.models import mvit_attention
from nightcrawler.models.mvit_attention import (
    AttentionStyle,
    PooledAttention,
    pool_layer,
    pool_tokens,
    relative_rows,
)
from nightcrawler.models.mvit_layout import BlockPlan, Pool
from tests.golden.fill import clip_formula, fill_state_dict
from tests.models.tiny_mvit import tiny, tiny_v2


def pool_by_hand(
    attention: PooledAttention, name: str, pool: Pool, tokens: Tensor, grid: tuple[int, ...]
) -> Tensor:
    """A window at a time; returns the pooled tokens, normed where there is a norm."""
    layer, norm = getattr(attention, f"pool_{name}"), getattr(attention, f"norm_{name}")
    num_cls, channels = attention.num_cls, tokens.shape[-1]
    pads = [side for size in reversed(pool.kernel) for side in (size // 2, size // 2)]
    volume = tokens[:, num_cls:].transpose(1, 2).unflatten(2, grid)
    mode = attention.style.mode
    edge = -math.inf if mode == "max" else 0.0
    volume = nn.functional.pad(volume, pads, value=edge)
    sizes = [
        (volume.shape[2 + axis] - pool.kernel[axis]) // pool.stride[axis] + 1 for axis in range(3)
    ]
    rows = [tokens[:, index] for index in range(num_cls)]
    for place in itertools.product(*map(range, sizes)):
        starts = [number * step for number, step in zip(place, pool.stride, strict=True)]
        t, h, w = (
            slice(start, start + size) for start, size in zip(starts, pool.kernel, strict=True)
        )
        window = volume[:, :, t, h, w]
        if mode == "max":
            rows.append(window.amax(dim=(2, 3, 4)))
        elif mode == "avg":
            rows.append(window.sum(dim=(2, 3, 4)) / math.prod(pool.kernel))
        else:
            kernels = layer.weight[:, 0].repeat(channels // len(layer.weight), 1, 1, 1)
            rows.append((window * kernels).sum(dim=(2, 3, 4)))
    pooled = torch.stack(rows, dim=1)
    if norm is None:
        return pooled
    parts = pooled.unflatten(-1, (-1, len(norm.weight)))
    centred = parts - parts.mean(-1, keepdim=True)
    scaled = centred / (centred.square().mean(-1, keepdim=True) + norm.eps).sqrt()
    return (scaled * norm.weight + norm.bias).flatten(-2)


def attention_by_hand(
    attention: PooledAttention, plan: BlockPlan, tokens: Tensor, pooled: dict[str, Any]
) -> Tensor:
    """A head, a query and a key at a time; `pooled` are the grids of queries and keys, whole multiples."""
    style, num_cls = attention.style, attention.num_cls
    if hasattr(attention, "qkv"):
        parts = zip(attention.qkv.weight.chunk(3), attention.qkv.bias.chunk(3), strict=True)
    else:
        parts = ((layer.weight, layer.bias) for layer in (attention.q, attention.k, attention.v))
    weights = dict(zip("qkv", parts, strict=True))
    sources = {}
    for name, pool in zip("qkv", (plan.query, plan.key_value, plan.key_value), strict=True):
        source = tokens if style.pool_first else nn.functional.linear(tokens, *weights[name])
        source = pool_by_hand(attention, name, pool, source, plan.grid) if pool else source
        sources[name] = nn.functional.linear(source, *weights[name]) if style.pool_first else source
    places = {key: list(itertools.product(*map(range, grid))) for key, grid in pooled.items()}
    tables = (attention.rel_pos_t, attention.rel_pos_h, attention.rel_pos_w)
    heads = []
    for q, k, v in zip(
        *(sources[name].chunk(plan.num_heads, dim=-1) for name in "qkv"), strict=True
    ):
        scores = torch.einsum("bqc,bkc->bqk", q, k) / q.shape[-1] ** 0.5
        for (i, query), (j, key) in itertools.product(
            enumerate(places["q"]), enumerate(places["k"])
        ):
            for axis, table in enumerate(tables):
                if table is not None:
                    num_q, num_k = pooled["q"][axis], pooled["k"][axis]
                    distance = query[axis] * max(num_k // num_q, 1) - key[axis] * max(
                        num_q // num_k, 1
                    )
                    row = table[distance + (num_k - 1) * max(num_q // num_k, 1)]
                    scores[:, num_cls + i, num_cls + j] += q[:, num_cls + i] @ row
        exps = (scores - scores.amax(-1, keepdim=True)).exp()
        head = torch.einsum("bqk,bkc->bqc", exps / exps.sum(-1, keepdim=True), v)
        if style.residual_pooling:
            head[:, num_cls:] += q[:, num_cls:]
        heads.append(head)
    return torch.cat(heads, dim=-1) @ attention.proj.weight.T + attention.proj.bias


REL = {"rel_pos_spatial": True, "rel_pos_temporal": True}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"residual_pooling": True},
        {"separate_qkv": True, **REL},
        {**REL, "residual_pooling": True},
        {"rel_pos_spatial": True},
        {"rel_pos_temporal": True},
        {"mode": "conv_unshared"},
        {"mode": "conv_unshared", "pool_first": True, **REL},
        {"pool_first": True, "residual_pooling": True},
        {"mode": "max", **REL},
        {"mode": "max", "pool_first": True},
        {"mode": "avg", "separate_qkv": True},
        {"mode": "avg", "pool_first": True, **REL, "residual_pooling": True},
    ],
    ids=lambda options: "-".join(f"{key}={value}" for key, value in options.items()) or "plain",
)
@pytest.mark.parametrize("num_cls", [0, 1])
@pytest.mark.parametrize("strides", [((1, 2, 2), (2, 1, 1)), (None, (1, 2, 2)), ((1, 1, 1), None)])
def test_attention_is_the_formula(
    options: dict[str, Any], num_cls: int, strides: tuple[Any, Any]
) -> None:
    grid = (2, 4, 2)
    query, key_value = (Pool((3, 3, 1), stride) if stride else None for stride in strides)
    plan = BlockPlan(8, 12, 12, 2, grid, query, key_value)
    attention = fill_state_dict(
        PooledAttention(plan, AttentionStyle(**options), num_cls, 0.0)
    ).eval()
    tokens = clip_formula((2, num_cls + math.prod(grid), 8))
    sizes = {
        name: tuple(-(-n // s) for n, s in zip(grid, stride or (1, 1, 1), strict=True))
        for name, stride in zip("qk", strides, strict=True)
    }
    with torch.no_grad():
        mixed, new_grid = attention(tokens, grid)
        expected = attention_by_hand(attention, plan, tokens, sizes)
    assert new_grid == sizes["q"]
    torch.testing.assert_close(mixed, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(
    ("mode", "pool_first", "channels"),
    [
        ("conv", False, 6),
        ("conv", True, 4),
        ("conv_unshared", False, 12),
        ("conv_unshared", True, 8),
    ],
)
def test_kernels_and_norms_are_shared_by_heads_or_not(
    mode: str, pool_first: bool, channels: int
) -> None:
    pool = Pool((1, 3, 3), (1, 2, 2))
    attention = PooledAttention(
        BlockPlan(8, 12, 12, 2, (2, 4, 4), pool, pool), AttentionStyle(mode, pool_first), 1, 0.0
    )
    for name in "qkv":
        assert getattr(attention, f"pool_{name}").weight.shape == (channels, 1, 1, 3, 3)
        assert getattr(attention, f"norm_{name}").weight.shape == (channels,)


def test_relative_tables_are_as_long_as_published() -> None:
    """In space as the longer of queries and keys need, in time as the grid whatever is pooled."""
    pools = Pool((3, 3, 3), (2, 2, 4)), Pool((3, 3, 3), (2, 4, 2))
    plan = BlockPlan(8, 12, 12, 2, (6, 8, 12), *pools)
    attention = PooledAttention(plan, AttentionStyle(**REL), 1, 0.0)
    tables = attention.rel_pos_t, attention.rel_pos_h, attention.rel_pos_w
    assert [tuple(table.shape) for table in tables] == [(11, 6), (7, 6), (11, 6)]


@given(st.integers(1, 9), st.integers(1, 9), st.booleans())
def test_relative_rows_count_in_steps_of_the_finer_axis(
    count: int, ratio: int, coarse_queries: bool
) -> None:
    num_q, num_k = (count, count * ratio) if coarse_queries else (count * ratio, count)
    table = torch.arange(2 * max(num_q, num_k) - 1, dtype=torch.float64)[:, None]
    rows = relative_rows(table, num_q, num_k)[..., 0].tolist()
    step_q, step_k = (ratio, 1) if coarse_queries else (1, ratio)
    assert rows == [
        [i * step_q - j * step_k + (num_k - 1) * step_k for j in range(num_k)] for i in range(num_q)
    ]


@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 40))
def test_relative_rows_fit_any_sizes_and_table(num_q: int, num_k: int, half: int) -> None:
    table = torch.linspace(-1, 1, 2 * half - 1, dtype=torch.float64)[:, None]
    rows = relative_rows(table, num_q, num_k)[..., 0]
    assert rows.shape == (num_q, num_k)
    # Farther to the right is never a smaller row, for queries; never a larger one, for keys.
    assert (rows.diff(dim=0) >= -1e-12).all()
    assert (rows.diff(dim=1) <= 1e-12).all()


# --- positions of clips of another size -------------------------------------------------------------------------


def resized_by_hand(values: Tensor, size: int) -> Tensor:
    """Linear interpolation of `[N, C]` between centres of N cells, at the centres of `size` cells; ends are held."""
    rows = []
    for place in range(size):
        centre = min(max((place + 0.5) * len(values) / size - 0.5, 0), len(values) - 1)
        low = min(int(centre), len(values) - 2) if len(values) > 1 else 0
        high = min(low + 1, len(values) - 1)
        rows.append(values[low] + (centre - low) * (values[high] - values[low]))
    return torch.stack(rows)


def positions_by_hand(table: Tensor, grid: tuple[int, ...]) -> Tensor:
    """`[T, H, W, C]` to another size, an axis after the other."""
    for axis, size in enumerate(grid):
        moved = table.transpose(0, axis)
        table = (
            resized_by_hand(moved.flatten(1), size).unflatten(1, moved.shape[1:]).transpose(0, axis)
        )
    return table.flatten(0, 2)


@pytest.mark.parametrize("grid", [(2, 8, 8), (4, 8, 8), (2, 5, 11), (3, 16, 4), (1, 1, 1)])
@pytest.mark.parametrize("cls_token", [True, False])
@pytest.mark.parametrize("separate", [True, False])
def test_absolute_positions_are_interpolated(
    grid: tuple[int, ...], cls_token: bool, separate: bool
) -> None:
    model = tiny(sep_pos_embed=separate, cls_token=cls_token)
    first, num_cls = [], int(cls_token)
    if separate:
        table = model.pos_embed_temporal[0][:, None] + model.pos_embed_spatial[0]
        first = [model.pos_embed_class[0]] if cls_token else []
    else:
        table, first = model.pos_embed[0, num_cls:], [model.pos_embed[0, :num_cls]]
    expected = torch.cat([*first, positions_by_hand(table.reshape(2, 8, 8, -1), grid)])
    torch.testing.assert_close(model._positions(grid)[0], expected, rtol=1e-12, atol=1e-13)


def test_positions_of_the_training_size_are_exactly_the_tables() -> None:
    joint, separate = tiny(sep_pos_embed=False), tiny()
    assert torch.equal(joint._positions((2, 8, 8)), joint.pos_embed)
    sums = separate.pos_embed_temporal[0][:, None] + separate.pos_embed_spatial[0]
    assert torch.equal(separate._positions((2, 8, 8))[0, 1:], sums.flatten(0, 1))
    table = tiny_v2().blocks[0].attn.rel_pos_h
    assert torch.equal(
        relative_rows(table, 8, 8), torch.stack([table[i : i + 8].flip(0) for i in range(8)])
    )


def test_relative_tables_of_another_length_are_interpolated() -> None:
    table = tiny_v2().blocks[0].attn.rel_pos_h
    expected = resized_by_hand(table, 9)
    rows = relative_rows(table, 5, 5)
    for i, j in itertools.product(range(5), range(5)):
        torch.testing.assert_close(rows[i, j], expected[i - j + 4], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(
    ("mode", "dtype"),
    [
        ("conv", torch.float32),
        ("conv", torch.bfloat16),
        ("conv_unshared", torch.float32),
        ("max", torch.bfloat16),
        ("avg", torch.float32),
    ],
)
def test_pooling_with_channels_last_gives_what_planes_give(
    mode: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads = 2 if mode == "conv" else 1
    layer = pool_layer(mode, 16 // heads, Pool((1, 3, 3), (1, 2, 2))).to(dtype)
    # Keys as the attention has them: a third of a row, behind a class token.
    tokens = torch.randn(2, 1 + 3 * 6 * 5, 48, dtype=dtype).chunk(3, dim=-1)[1]
    results = []
    for prefers in (True, False):
        monkeypatch.setattr(mvit_attention, "_prefers_channels_last", lambda _, p=prefers: p)
        with torch.no_grad():
            pooled, grid = pool_tokens(tokens, (3, 6, 5), layer, 1, heads)
        assert grid == (3, 3, 3)
        results.append(pooled)
    assert torch.equal(*results)


def test_pooling_keeps_channels_last_on_a_cpu() -> None:
    shapes = []

    def convolve(places: Tensor, *arguments: Any, **options: Any) -> Tensor:
        # The layout of the input decides which kernel runs.
        shapes.append((places.shape[1], places.stride(1)))
        return plain(places, *arguments, **options)

    plain = nn.functional.conv3d
    layer = pool_layer("conv", 8, Pool((1, 3, 3), (1, 2, 2)))
    tokens = torch.randn(2, 1 + 3 * 6 * 5, 16)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.functional, "conv3d", convolve)
        pool_tokens(tokens, (3, 6, 5), layer, 1, 2)
        pool_tokens(tokens.bfloat16().requires_grad_(), (3, 6, 5), layer.bfloat16(), 1, 2)
    # Both heads beside one another; in bfloat16 training, heads are samples.
    assert shapes == [(16, 1), (8, 90)]
