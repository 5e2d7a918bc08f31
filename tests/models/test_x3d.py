"""X3D: published sizes and costs, PySlowFast's names, and a block written out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from nightcrawler.config.load import load_experiment
from nightcrawler.models.build import build_model
from nightcrawler.models.flops import count_gmacs
from nightcrawler.models.pretrained import load_pretrained
from nightcrawler.models.x3d import X3D, X3DBottleneck
from nightcrawler.utils.errors import UserError
from tests.paths import ROOT

# Multiply-adds in 10^9 of PyTorchVideo's and PySlowFast's tables, for 400 classes.
PUBLISHED = {"x3d_s": 1.96, "x3d_m": 4.73}


@pytest.mark.parametrize("name", PUBLISHED)
def test_size_and_cost_are_the_published_ones(name: str) -> None:
    cfg = load_experiment(
        ROOT / "configs/models" / f"{name}.yaml",
        overrides=["MODEL.NUM_CLASSES", "400", "MODEL.CLASS_NAMES", "[]"],
    )
    with torch.device("meta"):
        model = build_model(cfg)
    data = cfg.DATA
    clip = (1, 3, data.NUM_FRAMES, data.TRAIN_CROP_SIZE, data.TRAIN_CROP_SIZE)
    assert count_gmacs(model, clip) == pytest.approx(PUBLISHED[name], rel=0.015)
    # 3.79 M in PyTorchVideo's table, for S and M alike.
    assert sum(value.numel() for value in model.parameters()) / 1e6 == pytest.approx(
        3.79, abs=0.005
    )


def test_names_and_shapes_are_those_of_pyslowfast() -> None:
    with torch.device("meta"):
        state = {key: tuple(value.shape) for key, value in X3D(400).state_dict().items()}
    assert len({key.partition(".")[0] for key in state}) == 6
    blocks = {key.rpartition(".branch")[0] for key in state if ".branch2." in key}
    assert [sum(key.startswith(f"s{stage}.") for key in blocks) for stage in range(2, 6)] == [
        3,
        5,
        11,
        7,
    ]
    expected = {
        "s1.pathway0_stem.conv_xy.weight": (24, 3, 1, 3, 3),
        "s1.pathway0_stem.conv.weight": (24, 1, 5, 1, 1),
        "s1.pathway0_stem.bn.running_mean": (24,),
        "s2.pathway0_res0.branch1.weight": (24, 24, 1, 1, 1),
        "s2.pathway0_res0.branch1_bn.bias": (24,),
        "s3.pathway0_res0.branch2.a.weight": (108, 24, 1, 1, 1),
        "s4.pathway0_res10.branch2.b.weight": (216, 1, 3, 3, 3),
        "s5.pathway0_res6.branch2.se.fc1.weight": (32, 432, 1, 1, 1),
        "s5.pathway0_res6.branch2.se.fc2.bias": (432,),
        "s5.pathway0_res6.branch2.c_bn.running_var": (192,),
        "head.conv_5.weight": (432, 192, 1, 1, 1),
        "head.conv_5_bn.weight": (432,),
        "head.lin_5.weight": (2048, 432, 1, 1, 1),
        "head.projection.weight": (400, 2048),
    }
    assert {key: state[key] for key in expected} == expected
    assert "s5.pathway0_res5.branch2.se.fc1.weight" not in state
    assert "s2.pathway0_res1.branch1.weight" not in state


def test_a_block_is_its_formula() -> None:
    torch.manual_seed(0)
    block = X3DBottleneck(4, 6, 5, stride=1, squeeze=True).double().eval()
    for module in block.modules():
        if isinstance(module, nn.BatchNorm3d):
            nn.init.uniform_(module.weight)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)

    def norm(layer: nn.BatchNorm3d, x: torch.Tensor) -> torch.Tensor:
        view = (1, -1, 1, 1, 1)
        scaled = (x - layer.running_mean.view(view)) / (layer.running_var.view(view) + 1e-5).sqrt()
        return scaled * layer.weight.view(view) + layer.bias.view(view)

    x = torch.randn(2, 4, 3, 5, 5, dtype=torch.float64)
    hidden = norm(
        block.a_bn, torch.einsum("oi,bithw->bothw", block.a.weight[..., 0, 0, 0], x)
    ).clamp_min(0)
    padded = (
        nn.functional.pad(hidden, (1, 1, 1, 1, 1, 1))
        .unfold(2, 3, 1)
        .unfold(3, 3, 1)
        .unfold(4, 3, 1)
    )
    hidden = norm(block.b_bn, torch.einsum("bcthwxyz,cxyz->bcthw", padded, block.b.weight[:, 0]))
    mean = hidden.flatten(2).mean(2)
    squeezed = (mean @ block.se.fc1.weight.flatten(1).T + block.se.fc1.bias).clamp_min(0)
    gate = torch.sigmoid(squeezed @ block.se.fc2.weight.flatten(1).T + block.se.fc2.bias)
    hidden = hidden * gate[..., None, None, None]
    hidden = hidden * torch.sigmoid(hidden)
    expected = norm(
        block.c_bn, torch.einsum("oi,bithw->bothw", block.c.weight[..., 0, 0, 0], hidden)
    )
    # With gradients layer by layer, without them with folded norms.
    torch.testing.assert_close(block(x), expected, rtol=1e-9, atol=1e-9)
    with torch.no_grad():
        torch.testing.assert_close(block(x), expected, rtol=1e-9, atol=1e-9)


def test_a_clip_goes_forward_and_back_through_every_parameter() -> None:
    model = X3D(5, width=1.0, depth=1.0, motion_stem=True)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm3d):
            nn.init.ones_(module.weight)
    logits = model(torch.randn(2, 3, 4, 32, 32))
    assert logits.shape == (2, 5)
    nn.functional.cross_entropy(logits, torch.tensor([1, 4])).backward()
    assert all(
        value.grad is not None and value.grad.isfinite().all() for value in model.parameters()
    )


def test_a_checkpoint_of_pyslowfast_fills_all_but_the_classifier(tmp_path: Path) -> None:
    source = X3D(400, width=1.0, depth=1.0)
    torch.save({"model_state": source.state_dict()}, tmp_path / "x3d_s.pyth")
    model = X3D(5, width=1.0, depth=1.0)
    report = load_pretrained(model, tmp_path / "x3d_s.pyth")
    assert report.format == "PySlowFast X3D"
    assert report.share == 1.0
    assert sorted(report.missing) == ["head.projection.bias", "head.projection.weight"]
    assert torch.equal(model.head.lin_5.weight, source.head.lin_5.weight)
    with pytest.raises(
        UserError, match="PySlowFast X3D file, as model 'x3d' takes, but of another size"
    ):
        load_pretrained(X3D(5, width=2.0, depth=1.0), tmp_path / "x3d_s.pyth")
