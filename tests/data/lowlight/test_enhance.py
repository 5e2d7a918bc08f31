"""EnhanceParams dark frames: tables against float64, the mean that auto_gamma promises."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nightcrawler.config.node import get_cfg
from nightcrawler.config.schema import SCHEMA
from nightcrawler.data.lowlight.enhance.build import (
    Enhance,
    build_enhancement,
    build_phase_enhancement,
    enhance,
    enhance_params_from_cfg,
)
from nightcrawler.data.lowlight.enhance.gamma import gamma_for_mean, gamma_lut
from nightcrawler.data.lowlight.enhance.zero_dce import DCENet
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.registries import ENHANCEMENTS


def enhancement(name: str, **changed: Any) -> Enhance:
    """The enhancement with the settings of the configuration, but for those changed."""
    return build_enhancement(
        name, dataclasses.replace(enhance_params_from_cfg(get_cfg()), **changed)
    )


def dark_frames(mean: float, seed: int = 0) -> np.ndarray:
    """uint8 `[2, 24, 32, 3]` with exponentially distributed values."""
    values = np.random.default_rng(seed).exponential(mean, (2, 24, 32, 3))
    return np.clip(values, 0, 255).astype(np.uint8)


@given(st.floats(0.05, 4.0))
def test_the_table_is_the_formula_within_one_level(gamma: float) -> None:
    lut = gamma_lut(gamma)
    exact = 255.0 * (np.arange(256) / 255.0) ** gamma
    assert lut.dtype == np.uint8
    assert np.abs(lut - exact).max() <= 1.0
    assert (lut[0], lut[255]) == (0, 255)
    assert (np.diff(lut.astype(int)) >= 0).all()


def test_the_published_gamma_by_hand() -> None:
    """255.999 (x / 255)^0.25, cut: 1 -> 64.06, 16 -> 128.12, 81 -> 192.19."""
    assert gamma_lut(0.25)[[0, 1, 16, 81, 255]].tolist() == [0, 64, 128, 192, 255]


def test_gamma_one_changes_nothing() -> None:
    assert gamma_lut(1.0).tolist() == list(range(256))


def test_the_table_cannot_be_written_by_accident() -> None:
    with pytest.raises(ValueError, match="read-only"):
        gamma_lut(0.5)[0] = 9


def test_none_is_identity() -> None:
    frames = dark_frames(20)
    assert enhancement("none")(frames) is frames


def test_gamma_looks_every_pixel_up() -> None:
    frames = dark_frames(20)
    before = frames.copy()
    lit = enhancement("gamma", gamma=0.4)(frames)
    assert lit.dtype == np.uint8
    assert lit.shape == frames.shape
    assert lit.reshape(-1).tolist() == [int(gamma_lut(0.4)[value]) for value in frames.reshape(-1)]
    assert (frames == before).all()


@given(st.floats(4, 40), st.floats(70, 130), st.integers(0, 1000))
@settings(deadline=None, max_examples=50)
def test_auto_gamma_reaches_the_target(dark_mean: float, target: float, seed: int) -> None:
    """Within two levels: the table cuts to whole numbers, gamma is rounded to three digits."""
    frames = dark_frames(dark_mean, seed)
    reachable = [gamma_lut(gamma)[frames].mean() for gamma in (1.0, 0.1)]
    lit = enhancement("auto_gamma", target_mean=target)(frames)
    assert lit.dtype == np.uint8
    assert abs(lit.mean() - np.clip(target, *reachable)) < 2.0


@pytest.mark.parametrize(("value", "gamma"), [(0, 0.1), (255, 1.0), (200, 1.0)])
def test_a_target_out_of_reach_stops_at_the_end_of_the_range(value: int, gamma: float) -> None:
    frames = np.full((1, 4, 4, 3), value, np.uint8)
    assert gamma_for_mean(frames, 110.0) == gamma
    lit = enhancement("auto_gamma", target_mean=110.0)(frames)
    assert (lit == gamma_lut(gamma)[value]).all()


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "int16"])
@pytest.mark.parametrize("name", ["none", "gamma", "auto_gamma", "clahe", "retinex"])
def test_only_uint8_frames_are_taken(name: str, dtype: str) -> None:
    """A signed -1 would otherwise be looked up from the table's bright end."""
    apply = enhancement(name)
    with pytest.raises(TypeError, match=f"frames are {dtype}, expected uint8"):
        apply(dark_frames(20).astype(dtype))


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(UserError, match=r"unknown enhancement 'gama'; did you mean 'gamma'\?"):
        enhancement("gama")


def test_the_configuration_takes_the_names_of_the_registry() -> None:
    for phase in ("TRAIN", "ADAPT", "VAL", "TEST"):
        assert SCHEMA[f"ENHANCE.{phase}"].choices is ENHANCEMENTS


@pytest.fixture
def brightening(tmp_path: Path) -> str:
    """Weights of zero_dce with the same curves everywhere: a level x becomes x + 0.76 (x - x^2), eight times."""
    state = {name: torch.zeros_like(value) for name, value in DCENet().state_dict().items()}
    state["e_conv7.bias"] -= 1
    torch.save(state, tmp_path / "dce.pth")
    return str(tmp_path / "dce.pth")


@pytest.mark.parametrize("name", ENHANCEMENTS.names())
@pytest.mark.parametrize("size", [(3, 24, 32), (1, 1, 1), (2, 1, 7), (1, 5, 2)])
def test_every_enhancement_gives_frames_of_the_same_shape(
    name: str, size: tuple[int, int, int], brightening: str
) -> None:
    frames = np.random.default_rng(1).integers(0, 30, (*size, 3), dtype=np.uint8)
    before = frames.copy()
    apply = enhancement(name, zero_dce_weights=brightening)
    lit = apply(frames)
    assert (lit.shape, lit.dtype) == (frames.shape, np.uint8)
    assert lit.mean() >= frames.mean()
    assert (apply(frames) == lit).all()
    assert (frames == before).all()


@pytest.mark.parametrize("name", ENHANCEMENTS.names())
def test_the_public_function_is_the_built_enhancement(name: str, brightening: str) -> None:
    frames = dark_frames(20)
    before = frames.copy()
    params = {"zero_dce_weights": brightening} if name == "zero_dce" else {}
    expected = enhancement(name, **params)(frames)
    result = enhance(frames, name, **params)
    np.testing.assert_array_equal(result, expected)
    result[:] = 0
    assert (frames == before).all()


def test_parameters_of_the_public_function_are_keywords() -> None:
    frames = dark_frames(20)
    np.testing.assert_array_equal(enhance(frames, gamma=0.4), gamma_lut(0.4)[frames])
    with pytest.raises(TypeError, match="no parameter 'gama'; expected some of gamma, target_mean"):
        enhance(frames, gama=0.4)
    with pytest.raises(ValueError, match=r"shape \[2, 24, 32\], expected \[T, H, W, 3\]"):
        enhance(frames[..., 0])
    with pytest.raises(UserError, match="unknown enhancement 'brighter'"):
        enhance(frames, "brighter")


def test_the_door_names_the_key_of_a_fault() -> None:
    cfg = get_cfg()
    cfg.ENHANCE.TEST = "zero_dce"
    cfg.ENHANCE.ZERO_DCE_WEIGHTS = "gone.pth"
    with pytest.raises(
        UserError, match=r"^ENHANCE\.TEST: zero_dce_weights gone\.pth: no such file"
    ):
        build_phase_enhancement(cfg, "TEST", dark=True)


def test_tables_need_no_torch() -> None:
    code = (
        "import sys; from nightcrawler.data.lowlight.enhance.build import build_enhancement; "
        "print('torch' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "False"
