import shutil

import pytest

from nightcrawler.cli import net
from nightcrawler.config.node import get_cfg
from nightcrawler.pose.files import read_pose
from nightcrawler.prepare.missing_poses import build_missing_poses
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


def test_without_the_estimator_a_warning_says_what_to_install(data, caplog):
    settings = ("POSE.ESTIMATOR", "onnx", "POSE.FOLDER", "none")
    build_missing_poses(config(data, *settings), ["arid"], 1)
    assert "3 pose files are missing" in caplog.text
    assert "needs a model: give a .onnx file" in caplog.text
    assert made(data, "none") == []


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
