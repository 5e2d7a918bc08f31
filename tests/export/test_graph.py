"""The graph against testing's own transform, and what it refuses to hold."""

from __future__ import annotations

import functools
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from nightcrawler.data.lowlight.enhance.gamma import apply_gamma, gamma_lut
from nightcrawler.data.transforms import eval_crops, short_side_size
from nightcrawler.data.video.convert import scaled
from nightcrawler.export.graph import FramesToProbs
from nightcrawler.export.resampling import resized_sides, scale_pixels, scaled_sides
from nightcrawler.export.trained import build_trained
from nightcrawler.predict.checkpoints import PredictOptions
from nightcrawler.predict.graph_input import check_size
from nightcrawler.utils.errors import ConfigError, UserError
from tests.export.made import write_checkpoint

MEAN, STD = (0.4, 0.45, 0.5), (0.2, 0.225, 0.25)


class Pixels(nn.Module):
    """Every value of a clip as a logit."""

    def forward(self, clip: Tensor) -> Tensor:
        return clip.flatten(1)


def dark(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 90, shape, np.uint8)


def softmax(values: np.ndarray) -> np.ndarray:
    raised = np.exp(values - values.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def test_enhancement_and_normalisation_are_the_formulas() -> None:
    frames = dark(3, 2, 4, 4, 3)
    graph = FramesToProbs(Pixels(), gamma_lut(0.25), MEAN, STD, 4)
    lit = np.floor(255.999 * (frames / 255.0) ** 0.25)
    clips = ((lit / 255 - MEAN) / STD).transpose(0, 4, 1, 2, 3)
    np.testing.assert_allclose(
        graph(torch.from_numpy(frames)), softmax(clips.reshape(3, -1)), atol=1e-6
    )


def test_frames_of_another_size_are_resized_after_enhancement_and_cropped_at_the_centre() -> None:
    frames = dark(2, 3, 12, 20, 3)
    graph = FramesToProbs(Pixels(), gamma_lut(0.25), MEAN, STD, 8)
    lit = torch.from_numpy(gamma_lut(0.25)[frames]).double().permute(0, 1, 4, 2, 3).flatten(0, 1)
    resized = nn.functional.interpolate(lit, size=(8, 13), mode="bilinear")[..., 3:11]
    clips = resized.view(2, 3, 3, 8, 8).permute(0, 1, 3, 4, 2).numpy() / 255
    expected = softmax(((clips - MEAN) / STD).transpose(0, 4, 1, 2, 3).reshape(2, -1))
    np.testing.assert_allclose(graph(torch.from_numpy(frames)), expected, atol=1e-6)


SIDES = (8, 9, 17, 24, 31, 48, 61, 72, 113)


@pytest.mark.parametrize(
    ("size", "resize"), [(8, ()), (24, ()), (48, ()), (24, (30,)), (24, (31, 52))]
)
def test_frames_of_every_size_become_the_clips_of_testing(
    size: int, resize: tuple[int, ...]
) -> None:
    """Larger and smaller than the crop, upright and lying, odd and even."""
    graph = FramesToProbs(Pixels(), gamma_lut(0.25), MEAN, STD, size, resize)
    enhance = functools.partial(apply_gamma, gamma=0.25)
    for height, width in itertools.product(SIDES, SIDES):
        frames = dark(1, height, width, 3, seed=height)
        crops = eval_crops(
            frames, size=size, num_crops=1, enhance=enhance, mean=MEAN, std=STD, resize=resize
        )
        expected = crops.flatten(1).softmax(dim=1)
        found = graph(torch.from_numpy(frames)[None])
        assert torch.allclose(found, expected, rtol=1e-4, atol=1e-8), (height, width)


def test_sizes_are_those_of_testing_for_all_frames() -> None:
    """Divided first as there: 48 of 111/148 pixels is a row more or less."""
    rng = np.random.default_rng(0)
    for height, width, size in rng.integers(2, 2200, (4000, 3)).tolist():
        sides = [torch.tensor(float(side), dtype=torch.float64) for side in (height, width)]
        resized = tuple(int(side) for side in resized_sides(*sides, size))
        assert resized == short_side_size(height, width, size)
        short = size // 2
        scaled_to = tuple(int(side) for side in scaled_sides(*sides, short))
        assert scaled_to == scaled(width, height, short)[::-1]


def test_scaling_is_the_mean_of_a_triangle_and_leaves_small_frames() -> None:
    """Antialiased bilinear as Pillow's; frames within the short side pass through untouched."""
    frames = dark(1, 40, 60, 3)
    sides = [torch.tensor(float(side), dtype=torch.float64) for side in (20, 30)]
    picked = scale_pixels(
        torch.from_numpy(frames)[None], *sides, torch.arange(20), torch.arange(30)
    )
    image = Image.fromarray(frames[0]).resize((30, 20), Image.Resampling.BILINEAR)
    assert np.abs(picked[0, 0].numpy() - np.asarray(image, float)).max() <= 1
    for short_side in (40, 41, 500):
        graph = FramesToProbs(Pixels(), gamma_lut(0.25), MEAN, STD, 24, short_side=short_side)
        plain = FramesToProbs(Pixels(), gamma_lut(0.25), MEAN, STD, 24)
        assert torch.equal(
            graph(torch.from_numpy(frames)[None]), plain(torch.from_numpy(frames)[None])
        )


def test_frames_of_a_fixed_size_are_those_of_the_file() -> None:
    frames = dark(2, 12, 20, 3)
    for size in ((12, 20), (None, None)):
        check_size(frames, size)
    text = "a video of 12x20 pixels; the graph takes 8x9: give --frame-size 12x20, or leave it out"
    with pytest.raises(UserError, match=text):
        check_size(frames, (8, 9))


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (("ENHANCE.TEST", "clahe"), "ENHANCE.TEST clahe needs whole pictures"),
        (("ENHANCE.TEST", "auto_gamma"), "ENHANCE.TEST auto_gamma needs whole pictures"),
        (("ENHANCE.DENOISE_FRAMES", "3"), "ENHANCE.DENOISE_FRAMES 3 needs frames beside"),
        (
            ("TEST.GAMMAS", "[0.2, 0.3]"),
            r"TEST.GAMMAS \[0.2, 0.3\]: the graph enhances a clip once",
        ),
    ],
)
def test_enhancement_that_cannot_be_inside_is_an_error_that_names_its_key(
    overrides: tuple[str, str], text: str, tmp_path: Path
) -> None:
    path = write_checkpoint(tmp_path, "uniformer_b32_k600", *overrides)
    with pytest.raises(ConfigError, match=text):
        build_trained(path, PredictOptions(root=tmp_path))
    levels = build_trained(path, PredictOptions(dark=False, root=tmp_path)).graph.levels
    assert torch.equal(levels, torch.arange(256.0))


def test_one_gamma_of_several_to_try_is_the_one_of_the_graph(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, "uniformer_b32_k600", "TEST.GAMMAS", "[0.5]")
    trained = build_trained(path, PredictOptions(root=tmp_path))
    assert np.array_equal(trained.graph.levels, gamma_lut(0.5))
    assert trained.facts["enhancement"] == "gamma 0.5"
