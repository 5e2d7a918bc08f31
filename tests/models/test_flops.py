"""Multiply-adds, against figures worked out by hand and those of fvcore."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch
from torch import nn

from nightcrawler.models.flops import count_gmacs
from nightcrawler.models.mvit import MViT
from nightcrawler.models.resnet3d import ResNet3D
from nightcrawler.models.slowfast import SlowFast
from nightcrawler.models.uniformer import UniFormer
from tests import tiny
from tests.paths import MANIFESTS, ROOT

MODEL_ZOO = (ROOT / "MODEL_ZOO.md").read_text(encoding="utf-8")
# Of the references' models: all families, and a step apart in size.
FVCORE: dict[str, Callable[[], nn.Module]] = {
    "uniformer_b32_k600": lambda: UniFormer(11),
    "sensex_uniformer_s16x4_k400": lambda: UniFormer(
        400, depth=(3, 4, 8, 3), embed_dim=(64, 128, 320, 512)
    ),
    "mvit_b32_k600": lambda: MViT(11),
    "sf32_k700": lambda: SlowFast(11),
    "fb_slow_8x8_r50": lambda: ResNet3D(400, arch="slow"),
    "fb_slowfast_8x8_r50": lambda: ResNet3D(400, fusion_kernel=7),
}


def net() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(100, 2)
    )


class Attention(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.scaled_dot_product_attention(x, x, x)


def test_convolutions_linear_layers_and_attention() -> None:
    assert count_gmacs(net(), (2, 3, 5, 5)) * 1e9 == pytest.approx(2 * (25 * 27 * 4 + 100 * 2))
    # Every token with every token, twice: scores, then the weighted sum. Batch 2, 3 heads, 7 tokens, 8 channels.
    assert count_gmacs(Attention(), (2, 3, 7, 8)) * 1e9 == pytest.approx(2 * 2 * 3 * 7 * 7 * 8)


@pytest.mark.parametrize("training", [True, False])
def test_counting_does_not_change_the_model_nor_draw(training: bool) -> None:
    model = net().train(training)
    before, generator = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    count_gmacs(model, (2, 3, 5, 5))
    assert tiny.differences(before, dict(model.state_dict())) == []
    assert not any(
        isinstance(value, torch._subclasses.FakeTensor) for value in model.state_dict().values()
    )
    assert model.training == training
    assert torch.equal(torch.get_rng_state(), generator)


@pytest.mark.parametrize("name", FVCORE)
def test_counts_are_those_of_fvcore_without_norms(name: str) -> None:
    """Figures of 1x3xTx224x224, given to a thousandth of a GMAC for each kind of layer."""
    manifest = json.loads((MANIFESTS / f"{name}.json").read_text(encoding="utf-8"))
    kinds = manifest["gflops_by_op"]
    expected = sum(count for kind, count in kinds.items() if not kind.endswith("norm"))
    clip = (1, 3, manifest["frames_used_for_flops"], 224, 224)
    with torch.device("meta"):
        model = FVCORE[name]()
    found = count_gmacs(model, clip)
    assert found == pytest.approx(expected, abs=1e-3 * len(kinds))
    if f"`{name}.yaml`" in MODEL_ZOO:
        (row,) = [line for line in MODEL_ZOO.splitlines() if line.startswith(f"| `{name}.yaml`")]
        assert f"| {found:.1f} |" in row
