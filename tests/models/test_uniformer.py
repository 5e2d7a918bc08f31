"""UniFormer: public names and numbers, attention against two matmuls and a softmax, recomputation, wild sizes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from nightcrawler.config.node import get_cfg
from nightcrawler.models.build import build_model
from nightcrawler.models.layers import Attention, motion_channels
from nightcrawler.models.uniformer import UniFormer
from tests.golden.__main__ import check_file
from tests.golden.fill import clip_formula, fill_state_dict
from tests.models.manifests import assert_public
from tests.paths import GOLDEN

FILES = sorted(GOLDEN.glob("uniformer_*.json"))
SMALL = {"depth": (3, 4, 8, 3), "embed_dim": (64, 128, 320, 512)}
MANIFEST_OPTIONS: dict[str, dict[str, Any]] = {
    "uniformer_b32_k600": {},
    "uniformer_b32_ssv2": {},
    "uniformer_b32_split": {"split": True},
    "uniformer_b32_std": {"std": True},
    "sensex_uniformer_b32_sthv2": {"num_classes": 174},
    "sensex_uniformer_b32x4_k600": {"num_classes": 600},
    "sensex_uniformer_s16x4_k400": {"num_classes": 400, **SMALL},
}
TINY = {"num_classes": 5, "depth": (1, 1, 2, 1), "embed_dim": (8, 16, 32, 32), "head_dim": 8}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_golden(path: Any) -> None:
    checks = check_file(path)
    assert checks
    assert [check for check in checks if not check.passed] == []


@pytest.mark.parametrize("name", MANIFEST_OPTIONS)
def test_manifest(name: str) -> None:
    with torch.device("meta"):
        assert_public(name, UniFormer(**MANIFEST_OPTIONS[name]))


def test_attention_is_two_matmuls_and_a_softmax() -> None:
    torch.manual_seed(0)
    attention = Attention(12, 3).double()
    tokens = torch.randn(2, 7, 12, dtype=torch.float64)
    q, k, v = attention.qkv(tokens).reshape(2, 7, 3, 3, 4).permute(2, 0, 3, 1, 4)
    weights = torch.softmax(q @ k.transpose(-2, -1) / 4**0.5, dim=-1)
    by_hand = attention.proj((weights @ v).transpose(1, 2).reshape(2, 7, 12))
    torch.testing.assert_close(attention(tokens), by_hand, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("split", [False, True])
def test_recomputed_activations_change_nothing(split: bool) -> None:
    def gradients(checkpoint: tuple[int, ...]) -> list[torch.Tensor]:
        model = fill_state_dict(UniFormer(**TINY, split=split, checkpoint=checkpoint)).train()
        model(clip_formula((2, 3, 4, 32, 32))).square().sum().backward()
        return [parameter.grad for parameter in model.parameters()]

    for plain, recomputed in zip(gradients((0,)), gradients((1, 1, 2, 1)), strict=True):
        torch.testing.assert_close(recomputed, plain, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(1, 3, 1, 32, 32), (2, 3, 5, 32, 96), (1, 3, 8, 47, 65)])
def test_any_length_and_size(shape: tuple[int, ...]) -> None:
    model = fill_state_dict(UniFormer(**TINY)).eval()
    logits = model(clip_formula(shape))
    assert logits.shape == (shape[0], 5)
    assert logits.isfinite().all()


def test_the_motion_stem_sees_what_moves() -> None:
    clip = torch.rand(1, 3, 4, 2, 2, dtype=torch.float64)
    six = motion_channels(clip)
    torch.testing.assert_close(six[:, :3], clip)
    torch.testing.assert_close(six[:, 3:].mean(dim=2), torch.zeros(1, 3, 2, 2, dtype=torch.float64))
    still = clip[:, :, :1].expand(-1, -1, 4, -1, -1)
    assert motion_channels(still)[:, 3:].abs().max() < 1e-15
    model = UniFormer(**TINY, motion_stem=True)
    assert model.patch_embed1.proj.in_channels == 6
    assert model(torch.rand(1, 3, 4, 32, 32)).shape == (1, 5)


def test_batch_norm_patches_have_more_to_adapt() -> None:
    cfg = get_cfg()
    cfg.merge_from_list(["UNIFORMER.DEPTH", [1, 1, 1, 1], "UNIFORMER.PATCH_NORM", "batch"])
    norms = [m for m in build_model(cfg).modules() if isinstance(m, torch.nn.BatchNorm3d)]
    cfg.merge_from_list(["UNIFORMER.PATCH_NORM", "layer"])
    layer_norms = [m for m in build_model(cfg).modules() if isinstance(m, torch.nn.BatchNorm3d)]
    assert (len(norms), len(layer_norms)) == (9, 5)
