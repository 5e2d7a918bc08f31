"""Training and tests on videos of a web server, of archives and of an object store: bit for bit those of files."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nightcrawler.data import build_cameras, dataset
from nightcrawler.data.dataset import sample_rng
from nightcrawler.data.lowlight.camera import PRESETS
from nightcrawler.data.lowlight.fit_camera import CameraFit
from nightcrawler.data.lowlight.recorder import Recorder
from nightcrawler.download import file_cache, videos
from nightcrawler.engine.build import build_trainer
from nightcrawler.engine.trainer import Preempted
from nightcrawler.pseudo.predictions import Predictions, read_results
from nightcrawler.utils.errors import UserError
from tests import object_store, tiny
from tests.download.conftest import HASTE
from tests.download.server import Site
from tests.engine import remote_data
from tests.engine.test_resume import assert_same_run, stop_after

WORKERS = ("DATA_LOADER.NUM_WORKERS", 2)
# Without val_dark, which is darkened by the names of its videos.
PLAIN = ("TRAIN.VAL_SPLITS", ["val_dry", "arid"], "TRAIN.BEST_SPLIT", "val_dry")
RESULTS = "testx4x32x1x1.npz"


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training on files."""
    out = tmp_path_factory.mktemp("trained_on_files") / "run"
    assert tiny.run_net("train", data, out, *PLAIN) == 0
    return out


@pytest.fixture
def fetching(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of fetched videos, which is empty; clips are drawn by the names of files."""

    def draw(seed: int, epoch: int, name: str, *more: int) -> np.random.Generator:
        return sample_rng(seed, epoch, remote_data.name_of_file(name), *more)

    monkeypatch.setattr(dataset, "sample_rng", draw)
    monkeypatch.setattr(videos, "PATIENCE", HASTE)
    return cache / "videos"


@pytest.fixture
def served(data: Path, tmp_path: Path, site: Site, fetching: Path) -> Path:
    """Lists of addresses of a web server that has the videos."""
    return serve(data, tmp_path / "served", site)


def serve(data: Path, target: Path, site: Site) -> Path:
    for name in remote_data.videos_of(data):
        site.files[f"/{name}"] = (data / name).read_bytes()
    return remote_data.rename_videos(data, target, lambda path: f"{site.address}/{path}")


def train(data: Path, out: Path, *overrides: Any) -> None:
    """Train by two workers, stopped in the middle of the second epoch, and resumed."""
    trainer = build_trainer(tiny.config(data, out, *WORKERS, *overrides))
    stop_after(trainer, 3)
    with pytest.raises(Preempted, match="epoch 2 step 1"):
        trainer.fit()
    assert tiny.run_net("train", data, out, *WORKERS, *overrides) == 0


def results_of(data: Path, run: Path, out: Path, *overrides: Any, code: int = 0) -> Predictions:
    """Results of a test."""
    weights = ("TEST.CHECKPOINT_FILE_PATH", run / "best.pyth", "TEST.DATA_SELECT", "test")
    assert tiny.run_net("test", data, out, *WORKERS, *weights, *overrides) == code
    return read_results(out / RESULTS)


def assert_same_results(left: Predictions, right: Predictions) -> None:
    for name in ("logits", "probs", "labels", "num_clips"):
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name))


def assert_same_end(remote: Path, local: Path, trained: Path, out: Path, *overrides: Any) -> None:
    """Train and test remotely: the ends are those of files."""
    train(remote, out / "run", *PLAIN, *overrides)
    assert_same_run(out / "run", trained)
    found = results_of(remote, out / "run", out / "tested", *overrides)
    assert_same_results(found, results_of(local, trained, out / "tested_locally"))
    assert found.ok.all()


def test_videos_of_a_web_server(
    data: Path, trained: Path, served: Path, site: Site, tmp_path: Path
) -> None:
    assert_same_end(served, data, trained, tmp_path)
    asked = [path for _, path, _ in site.requests]
    assert len(asked) == len(set(asked)), "each is fetched once"


def test_members_of_archives(data: Path, fetching: Path, tmp_path: Path) -> None:
    """Files may have the names of members, so darkened videos are the same, too."""
    archives = remote_data.write_archives(data, tmp_path / "archives")
    files = remote_data.write_files_like_members(data, tmp_path / "files")
    camera = ("DATA.CAMERA", "night")
    for folder, out in ((archives, tmp_path / "run"), (files, tmp_path / "run_on_files")):
        train(folder, out, *camera)
    assert_same_run(tmp_path / "run", tmp_path / "run_on_files")
    results = [
        results_of(folder, tmp_path / "run", tmp_path / f"{folder.name}_tested")
        for folder in (archives, files)
    ]
    assert_same_results(*results)
    assert results[0].names == results[1].names
    assert results[0].ok.all()


def test_a_camera_is_fitted_to_what_it_is_fitted_to_on_files(
    data: Path, served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []

    def fit(*arguments: Any) -> CameraFit:
        given.append(arguments)
        return CameraFit(Recorder(PRESETS["night"]), {}, {}, [])

    monkeypatch.setattr(build_cameras, "fit_cameras", fit)
    monkeypatch.setattr(build_cameras, "_fits", {})
    monkeypatch.setattr(build_cameras, "_report_fit", lambda *_: None)
    for folder in (data, served):
        cache = ("DATA.CACHE", "disk", "DATA.CACHE_DIR", tmp_path / f"cache_{folder.name}")
        build_cameras.build_camera_fit(tiny.config(folder, tmp_path / "run", *cache))
    (measured, bright, *rest), (remote_measured, remote_bright, *remote_rest) = given
    assert (remote_measured, remote_rest) == (measured, rest)
    assert len(measured) == tiny.NUM_DARK + tiny.NUM_ARID
    for clip, remote_clip in zip(bright, remote_bright, strict=True):
        np.testing.assert_array_equal(clip, remote_clip)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """The folder behind the buckets of a store, and its address."""
    with object_store.serving(tmp_path_factory.mktemp("store")) as found:
        yield found


def test_objects_of_a_store(
    store: tuple[Path, str],
    data: Path,
    trained: Path,
    fetching: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    object_store.allow(monkeypatch, store[1])
    shutil.copytree(data, store[0] / "night")
    remote = remote_data.rename_videos(data, tmp_path / "remote", lambda path: f"s3://night/{path}")
    assert_same_end(remote, data, trained, tmp_path)


def test_a_folder_of_fewer_videos_than_the_lists_name(
    data: Path,
    trained: Path,
    served: Path,
    site: Site,
    fetching: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Videos come and go, also while another worker reads one of them."""
    most = 3 * max(map(len, site.files.values()))
    monkeypatch.setenv("NIGHTCRAWLER_VIDEOS_GIB", str(most / 2**30))
    monkeypatch.setattr(file_cache, "IN_USE_SEC", 0.2)
    assert_same_end(served, data, trained, tmp_path)
    asked = [path for _, path, _ in site.requests]
    assert len(asked) > len(set(asked)), "some are fetched again"


@pytest.mark.parametrize("kind", ["ram", "disk"])
def test_a_cache_of_decoded_frames(
    data: Path, trained: Path, served: Path, tmp_path: Path, kind: str
) -> None:
    folder = tmp_path / "decoded"
    chosen = ("DATA.CACHE_DIR", folder) if kind == "disk" else ()
    assert_same_end(served, data, trained, tmp_path, "DATA.CACHE", kind, *chosen)
    kept = len(list(folder.rglob("*.clip")))
    assert kept == (len(remote_data.videos_of(data)) if kind == "disk" else 0)


def bad_rows(out: Path) -> list[list[str]]:
    with open(out / "bad.csv", newline="") as file:
        return sorted(list(csv.reader(file))[1:])


def test_a_video_that_is_not_there_costs_what_a_missing_file_costs(
    own_data: Path, site: Site, fetching: Path, tmp_path: Path
) -> None:
    remote = serve(own_data, tmp_path / "served", site)
    gone = ("labeled_train/Train/b2.mp4", "dark_train/Train/3.mp4", "dry_run/Validation/v1.mp4")
    for path in (*gone, "Test/1.mp4"):
        (own_data / path).unlink()
        del site.files[f"/{path}"]
    overrides = (*PLAIN, "DATA.MAX_BAD_FRACTION", 0.3)
    for data, out in ((own_data, tmp_path / "local"), (remote, tmp_path / "remote")):
        train(data, out, *overrides)
    assert_same_run(tmp_path / "remote", tmp_path / "local")
    local, found = bad_rows(tmp_path / "local"), bad_rows(tmp_path / "remote")
    assert [(row[0], row[3]) for row in found] == [(row[0], row[3]) for row in local]
    assert {row[1] for row in found} <= {f"{site.address}/{path}" for path in gone}
    assert all("answers with status 404" in row[2] for row in found)
    results = [
        results_of(data, tmp_path / name, tmp_path / f"{name}_test", *overrides, code=3)
        for data, name in ((own_data, "local"), (remote, "remote"))
    ]
    assert_same_results(*results)
    assert results[1].ok.tolist() == [True, False, True]
    assert results[1].status[1].startswith("error: ")
    assert results[1].status[1].endswith("(open)")


def test_too_many_that_are_not_there_end_the_run_with_the_list(
    data: Path, served: Path, site: Site, tmp_path: Path
) -> None:
    for number in (0, 2, 4):
        del site.files[f"/labeled_train/Train/b{number}.mp4"]
    out = tmp_path / "run"
    cfg = tiny.config(served, out, *WORKERS, *PLAIN, "DATA.MAX_BAD_FRACTION", 0.25)
    with pytest.raises(UserError, match=r"3 of 8 videos.*DATA.MAX_BAD_FRACTION 0.25; the list is"):
        build_trainer(cfg).fit()
    assert len(bad_rows(out)) == 3
