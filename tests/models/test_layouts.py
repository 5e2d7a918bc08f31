"""Channels-last clips and weights give the reference's logits too, in evaluation and in training."""

from __future__ import annotations

import json

import pytest
import torch

from nightcrawler.engine.losses import soft_cross_entropy
from tests.golden.families import build_family
from tests.golden.fill import clip_formula, fill_state_dict
from tests.paths import GOLDEN

EVALUATED = [
    "uniformer_tiny",
    "uniformer_tiny_split",
    "mvit_tiny_sep_cls",
    "fb_mvitv2_tiny",
    "fb_slowfast_r50_w16",
]
TRAINED = ["uniformer_tiny_train", "mvit_tiny_sep_cls_train", "fb_slowfast_r50_w16_train"]


def case_of(stem: str) -> tuple[dict, torch.nn.Module, torch.Tensor]:
    case = json.loads((GOLDEN / f"{stem}.json").read_text(encoding="utf-8"))
    model = fill_state_dict(build_family(case["family"], case["resolved_config"]))
    clip = clip_formula(tuple(case["input_shape"]))
    layout = torch.channels_last_3d
    return case, model.to(memory_format=layout), clip.contiguous(memory_format=layout)


@pytest.mark.parametrize("stem", EVALUATED)
def test_evaluation(stem: str) -> None:
    case, model, clip = case_of(stem)
    with torch.no_grad():
        logits = model.eval()(clip)
    expected = torch.tensor(case["logits_float64"], dtype=torch.float64)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-9 * expected.abs().max().item())


@pytest.mark.parametrize("stem", TRAINED)
def test_training(stem: str) -> None:
    case, model, clip = case_of(stem)
    target = torch.tensor(case["target"]["soft_target"], dtype=torch.float64)
    loss = soft_cross_entropy(model.train()(clip), target)
    loss.backward()
    assert loss.item() == pytest.approx(case["float64"]["loss"], rel=1e-7)
    norms = {
        name: parameter.grad.norm().item()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
    for name, norm in case["float64"]["grad_l2"].items():
        assert norms[name] == pytest.approx(norm, rel=1e-7)
