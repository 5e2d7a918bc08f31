"""Attention in all its ways against two matmuls and a softmax in float64."""

from __future__ import annotations

import pytest
import timm.layers
import torch
from torch import Tensor

from nightcrawler.models import layers
from nightcrawler.models.layers import attend, drop_path_rates, per_stage

SHAPE = (2, 3, 7, 4)
TOLERANCES = [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 2e-2)]


@pytest.mark.parametrize("rate", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("training", [True, False])
def test_stochastic_depth_draws_as_timm_does(rate: float, training: bool) -> None:
    branch = torch.randn(64, 3, 2, generator=torch.Generator().manual_seed(1))
    results = []
    for layer in (layers.DropPath(rate), timm.layers.DropPath(rate)):
        torch.manual_seed(2)
        results.append(layer.train(training)(branch))
    assert torch.equal(*results)


def test_mlp_is_timms() -> None:
    ours = layers.Mlp(6, 12, 8, drop=0.5)
    theirs = timm.layers.Mlp(6, 12, 8, drop=0.5)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    results = []
    for layer in (ours, theirs):
        torch.manual_seed(3)
        results.append(layer(torch.ones(5, 6)))
    assert torch.equal(*results)


def heads(dtype: torch.dtype, count: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(*SHAPE, generator=generator, dtype=torch.float64).to(dtype)
        for _ in range(count)
    ]


def by_hand(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float | None) -> Tensor:
    q, k, v = q.double(), k.double(), v.double()
    scores = q @ k.transpose(-2, -1) * (SHAPE[-1] ** -0.5 if scale is None else scale)
    return (scores if mask is None else scores + mask.double()).softmax(-1) @ v


@pytest.mark.parametrize("tiles", [False, True])
@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize("masked", [None, (7, 7), (1, 7)])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 2e-2)]
)
def test_attention(
    monkeypatch: pytest.MonkeyPatch,
    scale: float | None,
    masked: tuple[int, int] | None,
    dtype: torch.dtype,
    tolerance: float,
    tiles: bool,
) -> None:
    monkeypatch.setattr(layers, "QUERY_BLOCK", 3)
    monkeypatch.setattr(layers, "_has_bfloat16_tiles", lambda: tiles)
    q, k, v = heads(dtype)
    mask = None if masked is None else torch.linspace(-1, 1, masked[0] * 7).view(masked).to(dtype)
    expected = by_hand(q, k, v, mask, scale)
    with torch.no_grad():
        mixed = attend(q, k, v, mask, scale=scale)
    assert mixed.dtype == dtype
    torch.testing.assert_close(mixed.double(), expected, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(
        attend(q, k, v, mask, scale=scale).double(), expected, rtol=tolerance, atol=tolerance
    )


@pytest.mark.parametrize(
    ("capabilities", "blocks"), [({"amx_bf16": True}, 0), ({"amx_bf16": False}, 1), (None, 1)]
)
def test_the_fused_kernel_is_for_processors_that_multiply_bfloat16(
    capabilities: dict[str, bool] | None, blocks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if capabilities is None:
        # As in releases of torch that cannot tell.
        monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    else:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    plain = layers._attend_in_blocks
    calls = []
    monkeypatch.setattr(
        layers, "_attend_in_blocks", lambda *given: calls.append(given) or plain(*given)
    )
    layers._has_bfloat16_tiles.cache_clear()
    with torch.no_grad():
        attend(*heads(torch.bfloat16))
        attend(*heads(torch.float32))
    layers._has_bfloat16_tiles.cache_clear()
    assert len(calls) == blocks


def test_bfloat16_still_trains() -> None:
    q, k, v = (tensor.requires_grad_() for tensor in heads(torch.bfloat16))
    attend(q, k, v).sum().backward()
    assert q.grad is not None
    assert q.grad.isfinite().all()


def test_drop_path_grows_linearly_and_counts_stand_for_stages() -> None:
    assert drop_path_rates(0.3, 4) == pytest.approx([0.0, 0.1, 0.2, 0.3])
    assert per_stage([2], 4) == (2, 2, 2, 2)
    assert per_stage([1, 2], 2) == (1, 2)
