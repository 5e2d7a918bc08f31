"""The order of layers, which learning rates fall with: of every family, against numbers worked out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from timm.optim import param_groups_layer_decay
from torch import nn

from nightcrawler.config.node import get_cfg
from nightcrawler.engine.optim import rates_from_cfg
from nightcrawler.models.build import create_model
from nightcrawler.models.layer_order import layer_ids
from nightcrawler.models.mvit import MViT
from nightcrawler.utils.errors import UserError
from tests.models.tiny_hub import SETTINGS, save_folder
from tests.models.tiny_mvit import TINY

# Parameter to number of its layer, in models of two or more blocks.
EXPECTED = {
    "uniformer": {
        "patch_embed1.proj.weight": 0,
        "blocks1.0.norm1.weight": 1,
        "patch_embed2.proj.weight": 2,
        "blocks2.0.mlp.fc1.weight": 3,
        "patch_embed3.norm.bias": 4,
        "blocks3.0.attn.qkv.weight": 5,
        "blocks3.1.attn.qkv.weight": 6,
        "blocks4.0.attn.qkv.weight": 8,
        "norm.weight": 9,
        "head.weight": 9,
    },
    "mvit": {
        "cls_token": 0,
        "pos_embed_spatial": 0,
        "patch_embed.proj.weight": 0,
        "blocks.0.norm1.weight": 1,
        "blocks.1.mlp.fc1.weight": 2,
        "norm.weight": 3,
        "head.projection.weight": 3,
    },
    "resnet3d": {
        "s1.pathway0_stem.conv.weight": 0,
        "s1_fuse.conv_f2s.weight": 1,
        "s2.pathway0_res0.branch1.weight": 2,
        "s2.pathway1_res0.branch1.weight": 2,
        "s2_fuse.conv_f2s.weight": 5,
        "s5.pathway1_res2.branch2.a.weight": 20,
        "head.projection.weight": 21,
    },
    "slowfast": {
        "slow.conv1.weight": 0,
        "fast.bn1.weight": 0,
        "fast.Tconv1.conv.weight": 1,
        "slow.res_nl1.res_0.btnk.conv1.conv.weight": 2,
        "fast.res_nl1.res_0.shortcut.conv.weight": 2,
        "fast.Tconv2.conv.weight": 3,
        "fast.res_nl4.res_0.btnk.conv1.conv.weight": 8,
        "projection.weight": 9,
    },
    "torchvision/mvit_v2_s": {
        "conv_proj.weight": 0,
        "blocks.0.norm1.weight": 1,
        "blocks.15.norm1.weight": 16,
        "norm.weight": 17,
        "head.1.bias": 17,
    },
    "torchvision/swin3d_t": {
        "patch_embed.proj.weight": 0,
        "features.0.0.norm1.weight": 1,
        "features.0.1.norm1.weight": 2,
        "features.1.norm.weight": 3,
        "features.2.0.norm1.weight": 4,
        "head.weight": 16,
    },
    "torchvision/r3d_18": {
        "stem.0.weight": 0,
        "layer1.0.conv1.0.weight": 1,
        "layer4.1.conv1.0.weight": 8,
        "fc.weight": 9,
    },
}
OPTIONS = {
    "uniformer": {"depth": (1, 1, 2, 1), "embed_dim": (8, 8, 16, 16), "head_dim": 8},
    "slowfast": {"depth": (1, 1, 1, 1), "width": 16},
    "resnet3d": {"width": 16},
}


@pytest.mark.parametrize("name", EXPECTED)
def test_layers_are_numbered_from_the_input_to_the_classifier(name: str) -> None:
    with torch.device("meta"):
        if name == "mvit":
            model: nn.Module = MViT(11, num_frames=4, size=32, layout=TINY)
        else:
            model = create_model(name, 11, **OPTIONS.get(name, {}))
    ids = layer_ids(model)
    assert set(ids) == {key for key, _ in model.named_parameters()}
    assert {key: ids[key] for key in EXPECTED[name]} == EXPECTED[name]
    assert set(ids.values()) == set(range(max(ids.values()) + 1))


@pytest.mark.parametrize("family", SETTINGS)
def test_layers_of_transformers_are_numbered_too(family: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    model = create_model(f"transformers/{save_folder(family, tmp_path / family)}", 5)
    ids = layer_ids(model)
    blocks = 3 if family == "videoprism" else 2
    assert set(ids.values()) == set(range(blocks + 2))
    for key, number in ids.items():
        if "classifier" in key or "pooler" in key:
            assert number == blocks + 1
        elif "embeddings" in key:
            assert number == 0
        elif ".layer.1." in key or ".layers.1." in key or "spatial_layers.1." in key:
            assert number == 2
        elif "temporal_layers.0." in key:
            assert number == 3


@pytest.mark.parametrize("name", ["test_vit", "resnet18", "test_convnext"])
def test_rates_of_timm_are_those_of_its_own_function(name: str) -> None:
    cfg = get_cfg()
    cfg.SOLVER.LAYER_DECAY = 0.7
    model = create_model(f"timm/{name}", 5)
    rates = rates_from_cfg(cfg, model)
    theirs = timm.create_model(name, num_classes=5)
    scales = {}
    for group in param_groups_layer_decay(theirs, layer_decay=0.7):
        for parameter in group["params"]:
            scales[id(parameter)] = group["lr_scale"]
    for key, parameter in theirs.named_parameters():
        assert rates[key].factor == pytest.approx(scales[id(parameter)], rel=1e-12), key


def test_a_model_without_numbered_blocks_has_no_order() -> None:
    cfg = get_cfg()
    cfg.SOLVER.LAYER_DECAY = 0.7
    with pytest.raises(
        UserError, match=r"order of the layers of Sequential .*\(SOLVER.LAYER_DECAY\)"
    ):
        rates_from_cfg(cfg, nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)))
