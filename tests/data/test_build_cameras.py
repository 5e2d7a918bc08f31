"""Cameras of a configuration: fitted once and kept by content, and the darkened split they make."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fvcore.common.config import CfgNode

from nightcrawler.data import build, build_cameras
from nightcrawler.data.dataset import sample_rng
from nightcrawler.data.frame_sampling import segment_indices
from nightcrawler.data.lowlight.camera import PRESETS, CameraRanges, darken, sample_camera
from nightcrawler.data.lowlight.compression import Compression, RecordingFormat, compress
from nightcrawler.data.lowlight.enhance.gamma import gamma_lut
from nightcrawler.data.lowlight.fit_camera import CameraFit
from nightcrawler.data.lowlight.recorder import SEED, Recorder
from nightcrawler.data.transforms import eval_crops
from nightcrawler.utils import distributed
from nightcrawler.utils.errors import UserError
from tests import tiny
from tests.faults.ranks import on_ranks
from tests.reading import read_file

RECORDER = Recorder(
    CameraRanges((3.0, 9.0), (5.0, 50.0), (1.0, 3.0), 0.2), Compression(26.5, 250, 0), 40
)
MEASURED = {"mean": [4.0, 5.0, 6.0], "temporal_noise": [0.1, 0.2, 0.3]}
MEASURED |= {"spatial_noise": [0.2, 0.3, 0.4], "bits_per_pixel": [0.02, 0.03, 0.04], "cast": [0.1]}
FIT = CameraFit(RECORDER, MEASURED, {**MEASURED, "spatial_noise": [0.2, 0.5, 0.6]}, ["read noise"])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build_data(tmp_path_factory.mktemp("dark") / "data")


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of dark clips of each fit that is computed, in the place of the fit."""
    calls: list[int] = []

    def fit_cameras(dark: list[Any], *arguments: Any) -> CameraFit:
        calls.append(len(dark))
        return FIT

    monkeypatch.setattr(build_cameras, "_fits", {})
    monkeypatch.setattr(build_cameras, "fit_cameras", fit_cameras)
    return calls


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be another process."""
    monkeypatch.setattr(build_cameras, "_fits", {})


def clips_of(cfg: CfgNode, split: str = "val_dark") -> dict[str, np.ndarray]:
    """Name to clips of a split as they are validated."""
    found = build.build_eval_set(cfg, split, "VAL", [(1, 1)])
    samples = [sample for batch in found.loader for sample in batch]
    assert {sample["status"] for sample in samples} == {"ok"}
    return {found.items[sample["index"]].name: sample["clip"].numpy() for sample in samples}


def written_out(path: Path, name: str, recorder: Recorder) -> np.ndarray:
    """The one clip of a video: darkened by the camera of its name, compressed, then enhanced."""
    indices = segment_indices(tiny.NUM_FRAMES, 4).tolist()
    rng = sample_rng(SEED, 0, name)
    if recorder.compression is None:
        frames = read_file(path, lambda num_frames: indices).frames
        dark = darken(frames, sample_camera(rng, recorder.cameras), rng)
    else:
        frames = read_file(path, lambda num_frames: list(range(num_frames))).frames
        dark = darken(frames, sample_camera(rng, recorder.cameras), rng)
        dark = compress(dark, recorder.compression)[0][indices]
    lut, scale = gamma_lut(0.25), {"mean": [0.45] * 3, "std": [0.225] * 3}
    return eval_crops(
        dark, size=32, num_crops=1, enhance=lambda frames: lut[frames], **scale
    ).numpy()


@pytest.mark.parametrize(
    ("camera", "recorder"), [("darker", Recorder(PRESETS["darker"])), ("fit", RECORDER)]
)
def test_bright_clips_are_recorded_and_then_lit(
    data: Path, tmp_path: Path, fits: list[int], camera: str, recorder: Recorder
) -> None:
    clips = clips_of(tiny.config(data, tmp_path, "DATA.CAMERA", camera))
    assert sorted(clips) == sorted(clips_of(tiny.config(data, tmp_path), "val_dry"))
    for name, clip in clips.items():
        np.testing.assert_array_equal(
            clip, written_out(data / "dry_run/Validation" / name, name, recorder)
        )


@pytest.mark.parametrize("camera", ["night", "fit"])
@pytest.mark.parametrize(
    "changed", [("RNG_SEED", 7), ("DATA.CACHE", "ram"), ("ENHANCE.DENOISE_FRAMES", 3)]
)
def test_the_split_is_the_same_for_every_model_and_run(
    data: Path, tmp_path: Path, fits: list[int], changed: tuple[Any, ...], camera: str
) -> None:
    """Denoising, which works on what the camera recorded, is another way to light it."""
    plain = clips_of(tiny.config(data, tmp_path, "DATA.CAMERA", camera))
    for _ in range(2):
        other = clips_of(tiny.config(data, tmp_path, "DATA.CAMERA", camera, *changed))
        same = [np.array_equal(plain[name], other[name]) for name in plain]
        assert all(same) if changed[0] != "ENHANCE.DENOISE_FRAMES" else not any(same)


def test_a_share_of_training_clips_is_recorded_in_the_dark(
    data: Path, tmp_path: Path, fits: list[int]
) -> None:
    """Each clip is the bright one or the recorded one, drawn by seed and epoch."""
    changed = ("TRAIN.BEST_SPLIT", "val_dry", "TRAIN.VAL_SPLITS", '["val_dry"]')
    changed += ("AUG.AA_TYPE", "")

    def clips(darken: float, epoch: int, *more: Any) -> dict[int, np.ndarray]:
        light = "gamma" if darken else "none"
        keys = (*changed, "AUG.DARKEN", darken, "ENHANCE.TRAIN", light, *more)
        cfg = tiny.config(data, tmp_path, *keys)
        (stream,) = build.build_train_streams(cfg)
        stream.sampler.set_position(epoch)
        found = {}
        for batch in stream.loader:
            found.update(zip(batch["index"].tolist(), batch["clip"].numpy(), strict=True))
        return found

    kinds = []
    for epoch in range(4):
        bright, dark = clips(0.0, epoch), clips(1.0, epoch)
        for index, clip in clips(0.5, epoch).items():
            assert not np.array_equal(bright[index], dark[index])
            is_dark = np.array_equal(clip, dark[index])
            assert is_dark or np.array_equal(clip, bright[index])
            kinds.append(is_dark)
    assert 0.2 < np.mean(kinds) < 0.8
    again = clips(0.5, 0, "DATA_LOADER.NUM_WORKERS", 2, "DATA.CACHE", "disk")
    for index, clip in clips(0.5, 0).items():
        np.testing.assert_array_equal(clip, again[index])


def test_a_fit_is_computed_once_for_all_processes(
    data: Path,
    tmp_path: Path,
    fits: list[int],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Kept by the content of the clips: moved data need no other, and other data do."""
    for file in (data / "cache").glob("camera-*"):
        file.unlink()
    cfg = tiny.config(data, tmp_path)
    for _ in range(2):
        assert build_cameras.build_recorder(cfg) == RECORDER
        forget(monkeypatch)
    assert len(fits) == 1
    (kept,) = (data / "cache").glob("camera-*.json")
    assert fits == [tiny.NUM_DARK + tiny.NUM_ARID]
    assert "the read noise stopped at the limit" in caplog.text
    assert "the simulated spatial noise is +67 % off the measured one" in caplog.text

    moved = shutil.copytree(data, tmp_path / "moved")
    assert build_cameras.build_recorder(tiny.config(moved, tmp_path)) == RECORDER
    assert len(fits) == 1
    forget(monkeypatch)
    tiny.write_video(next((moved / "dark_train/Train").glob("*.mp4")), 1, 99, dark=True)
    build_cameras.build_recorder(tiny.config(moved, tmp_path))
    assert len(fits) == 2

    for content in ("{", "[]", json.dumps({"recorder": {}}), "[" * 100_000):
        forget(monkeypatch)
        kept.write_text(content)
        assert build_cameras.build_recorder(cfg) == RECORDER
        assert json.loads(kept.read_text()) == json.loads(json.dumps(dataclasses.asdict(FIT)))


def _fit_then_ask_alone(data: Path, out: Path) -> None:
    build_cameras.fit_cameras = lambda *arguments: FIT
    cfg = tiny.config(data, out, "DATA.CAMERA", "fit")
    assert build_cameras.build_camera_fit(cfg) == FIT
    # As for `run.json`, which the first rank writes.
    if distributed.is_main():
        found = build_cameras.camera_metadata_of(cfg, ["val_dark"])["camera"]
        assert found["limits"] == FIT.limits
    distributed.barrier()


def test_one_rank_may_ask_again_alone(data: Path, tmp_path: Path) -> None:
    """Training on two ranks stopped for ever: the first waited for the other's fit."""
    on_ranks(2, tmp_path, _fit_then_ask_alone, data, tmp_path / "out")


def test_a_folder_that_cannot_be_written_to_is_no_fault(
    data: Path, tmp_path: Path, fits: list[int]
) -> None:
    (tmp_path / "file").write_text("")
    cfg = tiny.config(data, tmp_path, "DATA.CACHE", "disk", "DATA.CACHE_DIR", tmp_path / "file")
    assert build_cameras.build_recorder(cfg) == RECORDER


def test_tiny_recordings_are_fitted(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real fit, of 12 clips of 12 frames: brightness as measured, and its record in full."""
    forget(monkeypatch)
    shutil.rmtree(data / "cache", ignore_errors=True)
    cfg = tiny.config(data, tmp_path)
    fit = build_cameras.build_camera_fit(cfg)
    assert abs(fit.errors()["mean"]) < 0.1
    found = build_cameras.camera_metadata_of(cfg, ["arid", "val_dark"])["camera"]
    assert found["from"] == "fit"
    assert found["mean"] == fit.recorder.cameras.mean
    assert (found["measured"], found["simulated"]) == (fit.measured, fit.simulated)
    assert build_cameras.camera_metadata_of(cfg, ["arid", "val_dry"]) == {}
    preset = tiny.config(data, tmp_path, "DATA.CAMERA", "night")
    assert set(build_cameras.camera_metadata_of(preset, ["val_dark"])["camera"]) == {
        "from", "mean", "electrons", "read_noise", "cast", "smoothing"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("keyints", "b_frames", "expected"),
    [
        ([0, 0, 30], [True, True, False], (250, 3)),
        ([12, 0, 14, 12], [False, False, False, True], (12, 0)),
    ],
)
def test_the_encoder_is_that_of_most_recordings(
    keyints: list[int], b_frames: list[bool], expected: tuple[int, int]
) -> None:
    formats = [
        RecordingFormat("h264", 64, 48, keyint, order, 0.1)
        for keyint, order in zip(keyints, b_frames, strict=True)
    ]
    found = build_cameras._compression_of(formats)
    assert (found.keyint, found.b_frames) == expected


def test_no_clip_to_fit_to_is_an_error_with_a_way_out(
    data: Path, tmp_path: Path, fits: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(data / "cache", ignore_errors=True)
    monkeypatch.setattr(build_cameras, "measure_clip", lambda frames, bits: None)
    with pytest.raises(
        UserError, match=r"no clip of 'total_unlabel'.*set DATA.CAMERA to night or darker"
    ):
        build_cameras.build_recorder(tiny.config(data, tmp_path))


def test_cameras_can_be_given(data: Path, tmp_path: Path) -> None:
    text = "MEAN: [4, 12]\nELECTRONS: [10, 20.5]\nREAD_NOISE: [0, 2]\nCAST: 0.3\n"
    (data / "mine.yaml").write_text(text)
    found = build_cameras.build_recorder(tiny.config(data, tmp_path, "DATA.CAMERA", "mine.yaml"))
    assert found == Recorder(CameraRanges((4.0, 12.0), (10.0, 20.5), (0.0, 2.0), 0.3))
