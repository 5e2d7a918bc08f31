"""Models on a GPU: the logits of the CPU, in each layout and compiled."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nightcrawler.config.load import load_experiment
from nightcrawler.models.build import build_model
from tests.paths import ROOT

# As tests train them; SlowFast needs 32 frames for its slow pathway.
MODELS = {
    "uniformer_b32_k600": (4, 32),
    "uniformer_b32_ssv2": (4, 32),
    "mvit_b32_k600": (4, 32),
    "sf32_k700": (32, 32),
}
# Largest difference of a logit, as a share of the largest logit.
TOLERANCE = {"fp32": 1e-4, "bf16": 0.05, "fp16": 0.01}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def build(name: str) -> tuple[nn.Module, Tensor]:
    """A model of the demo's size with random weights, and a batch of two clips."""
    frames, crop = MODELS[name]
    overrides = ["DATA.NUM_FRAMES", frames, "DATA.TRAIN_CROP_SIZE", crop]
    cfg = load_experiment(
        ROOT / f"exp_adapt_bn/{name}/config.yaml",
        [ROOT / "configs/demo.yaml"],
        [*map(str, overrides), "DATA.TEST_CROP_SIZE", str(crop)],
    )
    torch.manual_seed(3)
    model = build_model(cfg).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            # Heads begin at zero, and scales at one.
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model, torch.rand(2, 3, frames, crop, crop)


def difference(found: Tensor, expected: Tensor) -> float:
    return float((found.float().cpu() - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("name", MODELS)
def test_logits_are_those_of_the_cpu(name: str, precision: str, device: str) -> None:
    if (device, precision) == ("cpu", "fp16"):
        pytest.skip("no rehearsal on the CPU: fp16")
    model, clips = build(name)
    with torch.no_grad():
        expected = model(clips)
        model.to(device)
        autocast = torch.autocast(device, DTYPES[precision], enabled=precision != "fp32")
        with autocast:
            found = model(clips.to(device))
    assert difference(found, expected) < TOLERANCE[precision]
    assert len(torch.unique(expected)) > 2


@pytest.mark.parametrize("name", MODELS)
def test_channels_last_changes_no_logit(name: str, device: str) -> None:
    model, clips = build(name)
    model.to(device)
    with torch.no_grad():
        expected = model(clips.to(device)).cpu()
        model.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        found = model(clips.to(device, memory_format=torch.channels_last_3d))
    assert difference(found, expected) < TOLERANCE["fp32"]


@pytest.mark.parametrize("name", MODELS)
def test_gradients_are_those_of_the_cpu(name: str, device: str) -> None:
    model, clips = build(name)
    model(clips).square().mean().backward()
    expected: dict[str, Any] = {}
    for key, parameter in model.named_parameters():
        if parameter.grad is not None:
            expected[key] = parameter.grad.clone()
    model.zero_grad(set_to_none=True)
    model.to(device)
    model(clips.to(device)).square().mean().backward()
    size = max(float(gradient.abs().max()) for gradient in expected.values())
    for key, parameter in model.named_parameters():
        if parameter.grad is not None:
            assert float((parameter.grad.cpu() - expected[key]).abs().max()) < 1e-3 * size, key
