"""Fit of the camera model: known cameras are found again, real ones are plausible, labels play no part."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightcrawler.data import build, build_video
from nightcrawler.data.dataset import sample_rng
from nightcrawler.data.frame_sampling import segment_indices
from nightcrawler.data.lowlight.camera import (
    PRESETS,
    CameraRanges,
    DarkCamera,
    darken,
    sample_camera,
)
from nightcrawler.data.lowlight.enhance.gamma import gamma_lut
from nightcrawler.data.lowlight.fit_camera import (
    SEED,
    ClipStatistics,
    fit_camera_ranges,
    fit_noise,
    measure_clip,
    read_camera_ranges,
)
from nightcrawler.data.lowlight.noise import choose_pairs
from nightcrawler.data.transforms import eval_crops
from nightcrawler.utils.errors import ConfigError, UserError
from tests import tiny
from tests.data.lowlight.test_camera import street
from tests.paths import shared
from tests.reading import read_file


def scene(seed: int) -> np.ndarray:
    """A still street in normal light, four times the same frame, uint8 `[4, 96, 126, 3]`."""
    return np.repeat(street(seed, 1, 96, 126), 4, axis=0)


def statistics_of(camera: DarkCamera, seed: int) -> ClipStatistics:
    found = measure_clip(darken(scene(seed), camera, np.random.default_rng(seed)), range(4))
    assert found is not None
    return found


@pytest.mark.parametrize("electrons", [20.0, 60.0, 300.0])
@pytest.mark.parametrize("read_noise", [0.0, 3.0])
def test_noise_at_the_mean_light_is_the_cameras(electrons: float, read_noise: float) -> None:
    """Within a quarter: shot noise 1 / E and read noise (r / E)^2 of the light squared."""
    found = np.median(
        [statistics_of(DarkCamera(25.0, electrons, read_noise), seed).noise for seed in range(5)]
    )
    assert found == pytest.approx(1 / electrons + (read_noise / electrons) ** 2, rel=0.25)


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_known_cameras_are_found_again(preset: str) -> None:
    """Ends of the means within a fifth, of the electrons within a half: black clips the noise of the darkest."""
    ranges = PRESETS[preset]
    clips = []
    for seed in range(64):
        clips.append(statistics_of(sample_camera(np.random.default_rng(seed), ranges), seed))
    found = fit_camera_ranges(clips)
    np.testing.assert_allclose(found.mean, ranges.mean, rtol=0.2)
    np.testing.assert_allclose(found.electrons, ranges.electrons, rtol=0.5)
    assert found.read_noise[1] < 2 * ranges.read_noise[1]
    assert found.cast == pytest.approx(ranges.cast, rel=0.25)


@given(st.floats(0.001, 1), st.floats(0, 1), st.integers(2, 9))
def test_a_line_of_noise_over_light_is_found(slope: float, height: float, num_levels: int) -> None:
    light = np.linspace(0.1, 3, num_levels)
    noise, read_noise = fit_noise(light, slope * light + height)
    assert noise == pytest.approx(slope + height, rel=1e-6)
    assert read_noise == pytest.approx(min(np.sqrt(height) / slope, 10.0), rel=1e-3, abs=1e-3)


def test_noise_that_falls_with_light_is_read_noise_alone() -> None:
    light = np.linspace(0.1, 3, 5)
    assert fit_noise(light, 1 - 0.2 * light)[1] == 10.0
    noise, read_noise = fit_noise(light, 2 * light - 0.1)
    assert (noise > 1, read_noise) == (True, 0.0)


def test_black_clips_and_repeated_frames_tell_nothing() -> None:
    assert measure_clip(np.zeros((4, 16, 16, 3), np.uint8), range(4)) is None
    assert measure_clip(scene(0), range(4)) is None
    assert measure_clip(street(0), [0, 5, 9]) is None
    assert measure_clip(street(0)[:, :2], range(3)) is None


def test_the_scenes_own_colours_are_not_the_cameras() -> None:
    clip = ClipStatistics(10.0, 0.01, 1.0, (0.3, 0.0, -0.3))
    assert fit_camera_ranges([clip]).cast == pytest.approx(0.3)
    assert fit_camera_ranges([clip], scene_cast=0.18).cast == pytest.approx(0.24, abs=1e-4)
    assert fit_camera_ranges([clip], scene_cast=0.5).cast == 0


def test_real_dark_clips_give_plausible_cameras() -> None:
    """ARID, 320x240 H.264: means of a few to some tens, and noise that compression has mostly taken."""
    paths = sorted((shared() / "clips/arid").glob("*/*.mp4"))[::6]
    clips = []
    for path in paths:
        decoded = read_file(path, lambda num_frames: choose_pairs(num_frames, 3))
        clips += [found] if (found := measure_clip(decoded.frames, decoded.indices)) else []
    assert len(clips) > 10
    found = fit_camera_ranges(clips)
    assert 2 < found.mean[0] < found.mean[1] < 60
    assert 100 < found.electrons[0] < found.electrons[1]
    assert 0 < found.cast < 0.6


# --- a darkened split -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build_data(tmp_path_factory.mktemp("dark") / "data")


def clips_of(
    data: Path, out: Path, *overrides: Any, split: str = "val_dark"
) -> dict[str, np.ndarray]:
    """Name to clips of a split as they are validated."""
    found = build.build_eval_set(tiny.config(data, out, *overrides), split, "VAL", [(1, 1)])
    samples = [sample for batch in found.loader for sample in batch]
    assert {sample["status"] for sample in samples} == {"ok"}
    return {found.items[sample["index"]].name: sample["clip"].numpy() for sample in samples}


def written_out(path: Path, name: str, cameras: CameraRanges) -> np.ndarray:
    """The one clip of a video: darkened by the camera of its name, then enhanced."""
    frames = read_file(path, lambda num_frames: segment_indices(num_frames, 4).tolist()).frames
    rng = sample_rng(SEED, 0, name)
    dark = darken(frames, sample_camera(rng, cameras), rng)
    lut, scale = gamma_lut(0.25), {"mean": [0.45] * 3, "std": [0.225] * 3}
    return eval_crops(
        dark, size=32, num_crops=1, enhance=lambda frames: lut[frames], **scale
    ).numpy()


def test_bright_clips_pass_through_a_camera_and_are_then_lit(data: Path, tmp_path: Path) -> None:
    clips = clips_of(data, tmp_path, "DATA.CAMERA", "darker")
    assert sorted(clips) == sorted(clips_of(data, tmp_path, split="val_dry"))
    for name, clip in clips.items():
        np.testing.assert_array_equal(
            clip, written_out(data / "dry_run/Validation" / name, name, PRESETS["darker"])
        )


@pytest.mark.parametrize(
    "changed", [("RNG_SEED", 7), ("DATA.CACHE", "ram"), ("ENHANCE.DENOISE_FRAMES", 3)]
)
def test_the_split_is_the_same_for_every_model_and_run(
    data: Path, tmp_path: Path, changed: tuple[Any, ...]
) -> None:
    """Denoising, which works on what the camera recorded, is another way to light it."""
    plain = clips_of(data, tmp_path, "DATA.CAMERA", "night")
    for _ in range(2):
        other = clips_of(data, tmp_path, "DATA.CAMERA", "night", *changed)
        same = [np.array_equal(plain[name], other[name]) for name in plain]
        assert all(same) if changed[0] != "ENHANCE.DENOISE_FRAMES" else not any(same)


def test_cameras_are_fitted_to_the_dark_clips_once(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_video, "_fitted", {})
    cfg = tiny.config(data, tmp_path)
    found = build_video.build_cameras(cfg)
    paths = sorted((data / "dark_train/Train").rglob("*.mp4"))
    means = [
        read_file(path, lambda num_frames: choose_pairs(num_frames, 3)).frames.mean()
        for path in paths
    ]
    assert min(means) - 1 < found.mean[0] <= found.mean[1] < max(means) + 1
    monkeypatch.setattr(build_video, "measure_clip", None)
    assert build_video.build_cameras(cfg) == found
    meta = build_video.camera_metadata_of(cfg, ["arid", "val_dark"])["camera"]
    assert (meta["from"], meta["mean"]) == ("fit", found.mean)
    assert build_video.camera_metadata_of(cfg, ["arid", "val_dry"]) == {}


def test_no_clip_to_fit_to_is_an_error_with_a_way_out(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(frames: np.ndarray, indices: Sequence[int]) -> None:
        return None

    monkeypatch.setattr(build_video, "_fitted", {})
    monkeypatch.setattr(build_video, "measure_clip", nothing)
    with pytest.raises(
        UserError, match=r"no clip of 'total_unlabel'.*set DATA.CAMERA to night or darker"
    ):
        build_video.build_cameras(tiny.config(data, tmp_path))


GIVEN = "MEAN: [4, 12]\nELECTRONS: [10, 20.5]\nREAD_NOISE: [0, 2]\nCAST: 0.3\n"


def test_cameras_can_be_given(data: Path, tmp_path: Path) -> None:
    (data / "mine.yaml").write_text(GIVEN)
    found = build_video.build_cameras(tiny.config(data, tmp_path, "DATA.CAMERA", "mine.yaml"))
    assert found == CameraRanges((4.0, 12.0), (10.0, 20.5), (0.0, 2.0), 0.3)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (
            "CAST: 0.3",
            "",
            ":1: CAST: expected MEAN, ELECTRONS, READ_NOISE, CAST, each of them and nothing else",
        ),
        ("CAST: 0.3", "CAST: 0.3\nTINT: 1", ":5: TINT: expected MEAN"),
        ("[4, 12]", "[12, 4]", r":1: MEAN: \[12, 4\], expected \[least, most\] from 0.01"),
        ("[4, 12]", "[0, 4]", ":1: MEAN: "),
        ("[0, 2]", "[0, 1, 2]", ":3: READ_NOISE: "),
        ("0.3", "[0.1, 0.3]", r":4: CAST: \[0.1, 0.3\], expected a number from 0"),
        ("0.3", "warm", ":4: CAST: 'warm'"),
    ],
)
def test_faults_of_a_file_of_cameras_are_named(
    tmp_path: Path, old: str, new: str, fault: str
) -> None:
    path = tmp_path / "cameras.yaml"
    path.write_text(GIVEN.replace(old, new))
    with pytest.raises(ConfigError, match=fault):
        read_camera_ranges(path)
