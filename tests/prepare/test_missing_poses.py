import shutil
from dataclasses import replace

import numpy as np
import pytest

from nightcrawler.cli import net
from nightcrawler.config.node import get_cfg
from nightcrawler.data.skeleton.build import build_pose_reader
from nightcrawler.pose.files import read_pose, write_pose
from nightcrawler.prepare.missing_poses import build_missing_poses
from nightcrawler.utils.errors import VideoError
from tests import tiny
from tests.paths import ROOT
from tests.prepare.test_extract_poses import dots, walk


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    (folder / "dark_train/Train/Walk").mkdir(parents=True)
    rows = []
    for name in ("Walk/a.mp4", "b.mp4", "c.mp4"):
        dots(folder / f"dark_train/Train/{name}", walk(48))
        rows.append((name, 0))
    rows.append(("gone.mp4", 1))
    tiny.write_rows(folder / "arid.csv", rows)
    return folder


def config(data, *settings):
    cfg = get_cfg()
    given = ("DATA.PATH_PREFIX", str(data), "DATA.INPUT", "pose", "POSE.LIGHT", "none")
    given = (*given, "IMPORTS", ["tests.pose.estimators"], "POSE.ESTIMATOR", "dots")
    cfg.merge_from_list([*given, *settings])
    return cfg


def made(data, folder="poses"):
    root = data / folder / "dark_train/Train"
    return sorted(str(path.relative_to(root)) for path in root.rglob("*.npz"))


def test_what_is_missing_is_made_where_it_is_looked_for(data, tmp_path):
    folder = tmp_path / "data"
    shutil.copytree(data, folder)
    # One lies beside its video.
    build_missing_poses(config(data, "POSE.FOLDER", "other"), ["arid"], 1)
    beside = folder / "dark_train/Train/c.mp4.pose.npz"
    shutil.copy(data / "other/dark_train/Train/c.mp4.pose.npz", beside)
    build_missing_poses(config(folder), ["arid", "arid", "figures", "test"], 2)
    assert made(folder) == ["Walk/a.mp4.pose.npz", "b.mp4.pose.npz"]
    assert read_pose(folder / "poses/dark_train/Train/b.mp4.pose.npz").num_frames == 24
    first = (folder / "poses/dark_train/Train/b.mp4.pose.npz").stat().st_mtime_ns
    (folder / "poses/dark_train/Train/Walk/a.mp4.pose.npz").unlink()
    build_missing_poses(config(folder), ["arid"], 1)
    assert made(folder) == ["Walk/a.mp4.pose.npz", "b.mp4.pose.npz"]
    assert (folder / "poses/dark_train/Train/b.mp4.pose.npz").stat().st_mtime_ns == first


def test_a_list_of_pose_files_names_no_videos(data, tmp_path, caplog):
    # As the bright clips of `tools/make_pose_weights.py`, which are motions of figures.
    folder = tmp_path / "dry_run/Validation"
    folder.mkdir(parents=True)
    build_missing_poses(config(data, "POSE.FOLDER", "other"), ["arid"], 1)
    shutil.copy(data / "other/dark_train/Train/b.mp4.pose.npz", folder / "b.pose.npz")
    tiny.write_rows(tmp_path / "val_dry.csv", [("b.pose.npz", 0)])
    build_missing_poses(config(tmp_path), ["val_dry"], 1)
    assert not (tmp_path / "poses").exists()
    assert caplog.text == ""


def test_without_the_estimator_a_warning_says_what_to_install(data, caplog):
    settings = ("POSE.ESTIMATOR", "onnx", "POSE.FOLDER", "none")
    build_missing_poses(config(data, *settings), ["arid"], 1)
    assert "3 pose files are missing" in caplog.text
    assert "needs a model: give a .onnx file" in caplog.text
    assert made(data, "none") == []


@pytest.fixture
def posed(data, tmp_path):
    """Three videos with their pose files."""
    folder = tmp_path / "data"
    shutil.copytree(data, folder, ignore=shutil.ignore_patterns("other", "none"))
    build_missing_poses(config(folder), ["arid"], 1)
    return folder


def pose_of(folder, name):
    return folder / f"poses/dark_train/Train/{name}.pose.npz"


def swap(one, other):
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)


def track(path):
    """Frames and place of the dot in a video's pose, which its video alone determines."""
    points = read_pose(path).points
    return points.shape[1], float(np.nanmean(points[0, :, :, 1]))


@pytest.fixture
def swapped(posed):
    """Two videos of other heights in each other's place, as the rows of a new list could have it."""
    dots(posed / "dark_train/Train/b.mp4", walk(48, y=200))
    build_missing_poses(config(posed), ["arid"], 1)
    swap(posed / "dark_train/Train/b.mp4", posed / "dark_train/Train/c.mp4")
    return posed


def test_poses_of_videos_that_changed_are_made_anew(swapped):
    low, high = (track(pose_of(swapped, name)) for name in ("b.mp4", "c.mp4"))
    assert low[1] - high[1] > 50
    kept = pose_of(swapped, "Walk/a.mp4").stat().st_mtime_ns
    build_missing_poses(config(swapped), ["arid"], 1)
    assert track(pose_of(swapped, "b.mp4")) == high
    assert track(pose_of(swapped, "c.mp4")) == low
    assert pose_of(swapped, "Walk/a.mp4").stat().st_mtime_ns == kept


@pytest.mark.parametrize(
    ("settings", "source"),
    [
        (("POSE.LIGHT", "gamma", "POSE.DENOISE_FRAMES", 5), "gamma 0.4, means of 5 frames"),
        (("POSE.ESTIMATOR_MODEL", "large"), "dots 1large; none"),
    ],
)
def test_poses_of_another_source_are_made_anew(posed, settings, source):
    build_missing_poses(config(posed, *settings), ["arid"], 1)
    for name in ("Walk/a.mp4", "b.mp4", "c.mp4"):
        assert source in read_pose(pose_of(posed, name)).source


def test_without_the_estimator_poses_of_another_source_are_used_and_told_once(posed, caplog):
    before = read_pose(pose_of(posed, "b.mp4")).source
    build_missing_poses(config(posed, "POSE.ESTIMATOR", "onnx"), ["arid"], 1)
    (warning,) = [record.getMessage() for record in caplog.records]
    assert "3 pose files are not of POSE.ESTIMATOR" in warning
    assert "are used" in warning
    assert read_pose(pose_of(posed, "b.mp4")).source == before


def test_without_the_estimator_poses_of_other_videos_cost_these_alone(swapped, caplog):
    cfg = config(swapped, "POSE.ESTIMATOR", "onnx")
    build_missing_poses(cfg, ["arid"], 1)
    assert (
        "2 pose files are of other content than their videos have now, and are not" in caplog.text
    )
    reader = build_pose_reader(cfg)
    for name in ("b.mp4", "c.mp4"):
        with pytest.raises(
            VideoError, match=rf"not of the content that .*{name} has now"
        ) as caught:
            reader.probe(str(pose_of(swapped, name)))
        assert caught.value.status.startswith("error: ")
    assert reader.probe(str(pose_of(swapped, "Walk/a.mp4"))).num_frames > 0


def test_poses_of_no_video_are_used_as_they_are(posed, caplog):
    """Made by another program, which wrote no fingerprint, or listed without a video."""
    file = pose_of(posed, "b.mp4")
    write_pose(file, replace(read_pose(file), fingerprint="", source="mine"))
    (posed / "dark_train/Train/c.mp4").unlink()
    before = [path.read_bytes() for path in (file, pose_of(posed, "c.mp4"))]
    cfg = config(posed, "POSE.LIGHT", "gamma")
    build_missing_poses(cfg, ["arid"], 1)
    assert [path.read_bytes() for path in (file, pose_of(posed, "c.mp4"))] == before
    for name in ("b.mp4", "c.mp4"):
        assert build_pose_reader(cfg).probe(str(pose_of(posed, name))).num_frames > 0


def test_frames_need_no_poses(data):
    build_missing_poses(config(data, "POSE.FOLDER", "never", "DATA.INPUT", "frames"), ["arid"], 1)
    assert not (data / "never").exists()


def test_training_makes_the_poses_that_it_reads(data, tmp_path):
    folder = tmp_path / "data"
    shutil.copytree(data / "dark_train", folder / "dark_train")
    tiny.write_rows(folder / "arid.csv", [("Walk/a.mp4", 0), ("b.mp4", 1), ("c.mp4", 0)])
    overrides = {
        "DATA.PATH_PREFIX": folder,
        "DATA.TRAIN_SPLIT": "arid",
        "DATA.EXCLUDE_VAL": False,
        "DATA.NUM_FRAMES": 8,
        "TRAIN.VAL_SPLITS": "[arid]",
        "TRAIN.BEST_SPLIT": "arid",
        "TRAIN.BATCH_SIZE": 2,
        "TRAIN.MICRO_BATCH": 2,
        "ADAPT.NAME": "none",
        "SOLVER.MAX_EPOCH": 1,
        "SOLVER.WARMUP_EPOCHS": 0,
        "DATA_LOADER.NUM_WORKERS": 0,
        "IMPORTS": "[tests.pose.estimators]",
        "POSE.ESTIMATOR": "dots",
        "POSE.LIGHT": "none",
        "OUTPUT_DIR": tmp_path / "out",
    }
    words = [str(word) for pair in overrides.items() for word in pair]
    assert net.main_train(["--cfg", str(ROOT / "exp_pose/skeleton/config.yaml"), *words]) == 0
    assert len(made(folder)) == 3
    assert (tmp_path / "out/best.pyth").is_file()
