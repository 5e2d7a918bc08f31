"""ST-GCN++ against the formulas of its paper in float64 numpy, and against its published sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from nightcrawler.models.build import create_model
from nightcrawler.models.flops import count_gmacs
from nightcrawler.models.stgcn import StGcn
from nightcrawler.utils.errors import UserError
from tests.golden.fill import fill_state_dict

# (joint, the one nearer to the centre), from 1, of the Kinect 2 (Shahroudy et al. 2016, figure 1).
KINECT_25 = (
    "1-2 2-21 3-21 4-3 5-21 6-5 7-6 8-7 9-21 10-9 11-10 12-11 13-1 14-13 15-14 16-15 17-1 18-17 "
    "19-18 20-19 22-8 23-8 24-12 25-12"
)
COCO_17 = "16-14 14-12 17-15 15-13 12-6 13-7 10-8 8-6 11-9 9-7 6-1 7-1 2-1 4-2 3-1 5-3"
State = dict[str, np.ndarray]


def bones_of(text: str) -> list[tuple[int, int]]:
    pairs = [pair.split("-") for pair in text.split()]
    return [(int(near) - 1, int(far) - 1) for far, near in pairs]


# Rounded as mmaction2's page of the model gives them, which counts norms as well. The clip is of
# two people in 100 steps.
@pytest.mark.parametrize(
    ("bones", "joints", "parameters", "gflops"),
    [(COCO_17, 17, 1.39, 1.95), (KINECT_25, 25, 1.40, 2.96)],
)
def test_sizes_are_the_published_ones(
    bones: str, joints: int, parameters: float, gflops: float
) -> None:
    model = StGcn(num_classes=60, num_joints=joints, bones=bones_of(bones))
    found = sum(parameter.numel() for parameter in model.parameters())
    assert round(found / 1e6, 2) == parameters
    assert count_gmacs(model, (2, 3, 100, joints)) == pytest.approx(gflops, rel=0.015)


# The model in numpy, from the text of the paper: section 3.1 (graph), 3.2 (branches over time).


def convolved(x: np.ndarray, state: State, name: str, stride: int = 1, dilation: int = 1) -> Any:
    """Convolution over time of [B, C, T, V], by its definition."""
    weight, bias = state[f"{name}.weight"][..., 0], state[f"{name}.bias"]
    taps = weight.shape[2]
    reach = dilation * (taps // 2)
    steps = x.shape[2]
    out = []
    for time in range(0, steps, stride):
        total = bias[None, :, None] + np.zeros((len(x), len(bias), x.shape[3]))
        for tap in range(taps):
            at = time - reach + tap * dilation
            if 0 <= at < steps:
                total = total + np.einsum("oi,biv->bov", weight[:, :, tap], x[:, :, at])
        out.append(total)
    return np.stack(out, axis=2)


def normed(x: np.ndarray, state: State, name: str) -> np.ndarray:
    shape = [1, -1] + [1] * (x.ndim - 2)
    mean, variance = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    scaled = (x - mean.reshape(shape)) / np.sqrt(variance.reshape(shape) + 1e-5)
    return scaled * state[f"{name}.weight"].reshape(shape) + state[f"{name}.bias"].reshape(shape)


def largest(x: np.ndarray, stride: int) -> np.ndarray:
    steps = x.shape[2]
    times = range(0, steps, stride)
    return np.stack([x[:, :, max(t - 1, 0) : t + 2].max(axis=2) for t in times], axis=2)


def graph_convolved(x: np.ndarray, state: State, name: str) -> np.ndarray:
    graph = state[f"{name}.A"]
    own = convolved(x, state, f"{name}.conv").reshape(len(x), 3, -1, *x.shape[2:])
    mixed = sum(own[:, k] @ graph[k] for k in range(3))
    kept = x
    if f"{name}.down.0.weight" in state:
        kept = normed(convolved(x, state, f"{name}.down.0"), state, f"{name}.down.1")
    return np.maximum(normed(mixed, state, f"{name}.bn") + kept, 0)


def over_time(x: np.ndarray, state: State, name: str, stride: int) -> np.ndarray:
    parts = []
    for number in range(5):
        branch = f"{name}.branches.{number}"
        part = np.maximum(normed(convolved(x, state, f"{branch}.0"), state, f"{branch}.1"), 0)
        if number < 4:
            part = convolved(part, state, f"{branch}.3.conv", stride, number + 1)
        else:
            part = largest(part, stride)
        parts.append(part)
    parts.append(convolved(x, state, f"{name}.branches.5", stride))
    joined = np.maximum(normed(np.concatenate(parts, 1), state, f"{name}.transform.0"), 0)
    return normed(convolved(joined, state, f"{name}.transform.2"), state, f"{name}.bn")


def expected_logits(clip: np.ndarray, state: State) -> np.ndarray:
    batch, channels, steps, joints = clip.shape
    # The norm of the input is of each joint's channels over time.
    flat = clip.transpose(0, 3, 1, 2).reshape(batch, joints * channels, steps)
    x = normed(flat, state, "data_bn").reshape(batch, joints, channels, steps)
    x = x.transpose(0, 2, 3, 1)
    for number in range(10):
        stride = 2 if number in (4, 7) else 1
        kept: Any = x
        if number == 0:
            kept = 0
        elif number in (4, 7):
            name = f"gcn.{number}.residual"
            kept = normed(convolved(x, state, f"{name}.conv", stride), state, f"{name}.bn")
        mixed = graph_convolved(x, state, f"gcn.{number}.gcn")
        x = np.maximum(over_time(mixed, state, f"gcn.{number}.tcn", stride) + kept, 0)
    return x.mean(axis=(2, 3)) @ state["head.weight"].T + state["head.bias"]


def test_logits_are_those_of_the_formulas() -> None:
    model = create_model("stgcn", 7, width=16)
    fill_state_dict(model)
    # The rule fills zeros of the graph too: weights are learned there.
    model = model.double().eval()
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    clip = np.random.default_rng(0).normal(size=(2, 3, 11, 13))
    with torch.no_grad():
        found = model(torch.from_numpy(clip)).numpy()
    expected = expected_logits(clip, state)
    assert np.ptp(expected) > 1e-3
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_channels_double_and_steps_halve_in_blocks_5_and_8() -> None:
    model = create_model("stgcn", 11)
    widths = [block.gcn.bn.num_features for block in model.gcn]
    assert widths == [64] * 4 + [128] * 3 + [256] * 3


def test_the_graph_is_learned() -> None:
    model = create_model("stgcn", 3, width=8)
    model(torch.randn(2, 3, 8, 13)).sum().backward()
    for block in model.gcn:
        assert block.gcn.A.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"streams": []}, "streams []: expected one or more of joint, bone, velocity"),
        ({"streams": ["joint", "joint"]}, "each once"),
        ({"streams": ["skin"]}, "streams ['skin']"),
        ({"width": 5}, "width 5: expected at least 6"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as caught:
        create_model("stgcn", 5, **options)
    assert said in str(caught.value)


@pytest.mark.parametrize("name", ["stgcn", "poseconv", "poseconv3d"])
def test_frames_are_refused(name: str) -> None:
    with pytest.raises(UserError, match=r"\[1, 3, 8, 32, 32\].*\[B, 3, T, 13\]"):
        create_model(name, 5)(torch.zeros(1, 3, 8, 32, 32))
