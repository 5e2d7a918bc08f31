"""The graph against testing's own transform, and what it refuses to hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nightcrawler.data.lowlight.enhance.gamma import gamma_lut
from nightcrawler.export.frames import fit_frames
from nightcrawler.export.graph import FramesToProbs
from nightcrawler.export.trained import build_trained
from nightcrawler.predict.checkpoints import PredictOptions
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


def test_fitted_frames_have_the_size_and_are_left_alone_where_they_have_it() -> None:
    frames = dark(2, 12, 20, 3)
    assert np.array_equal(fit_frames(frames, (12, 20)), frames)
    fitted = fit_frames(frames, (6, 6))
    assert fitted.shape == (2, 6, 6, 3)
    # A bilinear half is the mean of two by two; 10 columns, cropped from the second on.
    expected = frames.reshape(2, 6, 2, 10, 2, 3).mean(axis=(2, 4))[:, :, 2:8]
    assert np.abs(fitted - expected).max() <= 0.5
    with pytest.raises(
        UserError, match="a video of 12x20 pixels; the graph takes 8x9: give --frame-size 12x20"
    ):
        fit_frames(frames, (8, 9))


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


def test_another_resize_than_the_crops_is_an_error_that_names_its_key(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, "uniformer_b32_k600", "DATA.TEST_RESIZE", "[256]")
    with pytest.raises(ConfigError, match=r"DATA.TEST_RESIZE \[256\]: the graph resizes"):
        build_trained(path, PredictOptions(root=tmp_path))


def test_one_gamma_of_several_to_try_is_the_one_of_the_graph(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, "uniformer_b32_k600", "TEST.GAMMAS", "[0.5]")
    trained = build_trained(path, PredictOptions(root=tmp_path))
    assert np.array_equal(trained.graph.levels, gamma_lut(0.5))
    assert trained.facts["enhancement"] == "gamma 0.5"
