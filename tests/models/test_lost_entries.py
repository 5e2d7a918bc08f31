"""What a checkpoint has and a model does not take is an error, unless it is known to be of no use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from nightcrawler.models.mvit import AttentionStyle
from nightcrawler.models.pretrained import load_pretrained
from nightcrawler.models.resnet3d import ResNet3D
from nightcrawler.models.resnet3d_layout import ResNetLayout
from nightcrawler.models.uniformer import UniFormer
from nightcrawler.utils.errors import ArgumentError
from tests.models.tiny_mvit import tiny

Make = Callable[[], nn.Module]
RELATIVE = AttentionStyle(rel_pos_spatial=True, rel_pos_temporal=True)


def uniformer(*depth: int) -> UniFormer:
    return UniFormer(5, depth=depth, embed_dim=(8, 8, 16, 16), head_dim=8)


def nonlocal_resnet() -> ResNet3D:
    layout = ResNetLayout(nonlocal_blocks=(((), ()), ((0,), ()), ((), ()), ((), ())))
    return ResNet3D(5, depth=18, width=8, layout=layout)


# The checkpoint's model, the model that is filled, and an entry that the first has alone.
LARGER: dict[str, tuple[Make, Make, str]] = {
    "blocks": (lambda: uniformer(2, 1, 2, 1), lambda: uniformer(1, 1, 1, 1), "blocks1.1."),
    "layers": (
        lambda: ResNet3D(5, depth=101, width=8, arch="slow"),
        lambda: ResNet3D(5, depth=50, width=8, arch="slow"),
        "s4.pathway0_res6.",
    ),
    "non-local blocks": (
        nonlocal_resnet,
        lambda: ResNet3D(5, depth=18, width=8),
        "s3.pathway0_nonlocal0.",
    ),
    "class token": (tiny, lambda: tiny(cls_token=False), "cls_token"),
    "positions": (tiny, lambda: tiny(abs_pos=False), "pos_embed_"),
    "relative positions": (
        lambda: tiny(attention=RELATIVE),
        tiny,
        "blocks.0.attn.rel_pos_",
    ),
}


@pytest.mark.parametrize("what", LARGER)
def test_parts_of_a_larger_model_are_not_dropped(tmp_path: Path, what: str) -> None:
    larger, smaller, name = LARGER[what]
    torch.save({"model_state": larger().state_dict()}, tmp_path / "a.pyth")
    model = smaller()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ArgumentError, match=r"lost, first") as caught:
        load_pretrained(model, tmp_path / "a.pyth")
    assert name in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


# What pre-training leaves in its files: VideoMAE, masked MViT, CLIP and windows of Swin.
EXTRA = (
    "decoder.blocks.0.norm1.weight",
    "decoder_pos_embed",
    "dec_pos_embed_spatial",
    "encoder_to_decoder.weight",
    "mask_token",
    "logit_scale",
    "pred_head.projections.0.weight",
    "blocks.0.attn_mask",
)


@pytest.mark.parametrize("name", EXTRA)
def test_parts_of_pretraining_may_be_left_over(tmp_path: Path, name: str) -> None:
    state: dict[str, Any] = tiny().state_dict()
    torch.save({"model_state": {**state, name: torch.ones(3)}}, tmp_path / "a.pyth")
    report = load_pretrained(tiny(), tmp_path / "a.pyth")
    assert list(report.skipped) == [name]
    assert report.share == 1.0
