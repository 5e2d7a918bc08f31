"""Zero-DCE: the network by loops over its file's entries in float64, and files that are not its weights."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from scipy import ndimage

from nightcrawler.data.lowlight.enhance.zero_dce import DCENet, apply_zero_dce, load_dce_net
from nightcrawler.utils.errors import UserError

SHAPES = {1: (32, 3), 2: (32, 32), 3: (32, 32), 4: (32, 32), 5: (32, 64), 6: (32, 64), 7: (24, 64)}


def weights(seed: int = 0) -> dict[str, torch.Tensor]:
    """Random entries with the names and shapes of the published file."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for number, shape in SHAPES.items():
        state[f"e_conv{number}.weight"] = 0.15 * torch.randn(*shape, 3, 3, generator=generator)
        state[f"e_conv{number}.bias"] = 0.1 * torch.randn(shape[0], generator=generator)
    return state


def saved(folder: Path, state: Any, name: str = "dce.pth", **options: Any) -> str:
    torch.save(state, folder / name, **options)
    return str(folder / name)


def convolved(maps: np.ndarray, state: dict[str, torch.Tensor], number: int) -> np.ndarray:
    """3x3 convolution of `[C, H, W]` with zeros around it, by SciPy in float64."""
    kernel = state[f"e_conv{number}.weight"].double().numpy()
    bias = state[f"e_conv{number}.bias"].double().numpy()
    sums = [
        sum(
            ndimage.correlate(one, k, mode="constant") for one, k in zip(maps, kernels, strict=True)
        )
        for kernels in kernel
    ]
    return np.stack(sums) + bias[:, None, None]


def lit_by_hand(picture: np.ndarray, state: dict[str, torch.Tensor]) -> np.ndarray:
    """Guo et al., figure 2 and equation 3: `[3, H, W]` in [0, 1]."""

    def layer(number: int, *maps: np.ndarray) -> np.ndarray:
        return np.maximum(convolved(np.concatenate(maps), state, number), 0)

    one = layer(1, picture)
    two = layer(2, one)
    three = layer(3, two)
    four = layer(4, three)
    five = layer(5, three, four)
    six = layer(6, two, five)
    strengths = np.tanh(convolved(np.concatenate([one, six]), state, 7))
    for step in range(8):
        picture = picture - strengths[3 * step : 3 * step + 3] * picture * (1 - picture)
    return picture


def test_the_network_is_the_papers(tmp_path: Path) -> None:
    state, picture = weights(), np.random.default_rng(0).random((3, 7, 9))
    net = load_dce_net(saved(tmp_path, state))
    with torch.no_grad():
        found = net(torch.from_numpy(picture)[None].float())[0].numpy()
    expected = lit_by_hand(picture, state)
    assert np.abs(expected - picture).max() > 0.1
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_frames_are_lit_one_by_one(tmp_path: Path) -> None:
    state, frames = (
        weights(1),
        np.random.default_rng(1).integers(0, 90, (2, 6, 8, 3), dtype=np.uint8),
    )
    lit = apply_zero_dce(frames, net=load_dce_net(saved(tmp_path, state)))
    for frame, found in zip(frames, lit, strict=True):
        expected = lit_by_hand(frame.transpose(2, 0, 1) / 255, state).clip(0, 1) * 255
        assert np.abs(found - expected.transpose(1, 2, 0)).max() <= 0.51


def test_every_usual_file_is_read(tmp_path: Path) -> None:
    state = weights(2)
    safetensors.torch.save_file(state, tmp_path / "dce.safetensors")
    paths = [
        saved(tmp_path, state),
        saved(tmp_path, state, "old.pth", _use_new_zipfile_serialization=False),
        saved(tmp_path, {f"module.{name}": value for name, value in state.items()}, "wrapped.pth"),
        str(tmp_path / "dce.safetensors"),
    ]
    for path in paths:
        net = load_dce_net(path)
        assert not net.training
        assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())


def test_a_missing_file_says_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(
        UserError,
        match=r"^zero_dce_weights .*gone\.pth: no such file; get Epoch99\.pth from",
    ):
        load_dce_net(str(tmp_path / "gone.pth"))


def without(name: str) -> dict[str, torch.Tensor]:
    return {key: value for key, value in weights().items() if key != name}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (without("e_conv3.bias"), r"e_conv3\.bias is missing"),
        (
            {**weights(), "e_conv7.weight": torch.zeros(3, 64, 3, 3)},
            r"e_conv7\.weight is missing or of another shape",
        ),
        ({**weights(), "more": torch.zeros(1)}, "there are more entries"),
        ([1, 2, 3], r"e_conv1\.weight is missing"),
    ],
)
def test_other_weights_are_refused(tmp_path: Path, content: Any, said: str) -> None:
    with pytest.raises(UserError, match=f"not the weights of DCE-Net .{said}") as caught:
        load_dce_net(saved(tmp_path, content))
    assert "\n" not in str(caught.value)


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_a_file_is_never_run(tmp_path: Path) -> None:
    (tmp_path / "evil.pth").write_bytes(pickle.dumps(Evil(tmp_path / "made")))
    with pytest.raises(UserError, match="not a readable file of tensors"):
        load_dce_net(str(tmp_path / "evil.pth"))
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("name", ["text.pth", "text.safetensors"])
def test_bytes_that_are_no_weights_are_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("no weights at all")
    with pytest.raises(UserError, match="not a readable file of tensors") as caught:
        load_dce_net(str(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_the_network_has_the_published_size() -> None:
    """79,416 parameters, as the authors count them."""
    assert sum(parameter.numel() for parameter in DCENet().parameters()) == 79_416
