"""Models of skeletons through the whole of training, adaptation, resuming, testing: no video is there."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fvcore.common.config import CfgNode

from nightcrawler.adapt.batchnorm import batchnorm_layers
from nightcrawler.config.load import load_experiment
from nightcrawler.data.skeleton.clips import eval_clips
from nightcrawler.data.skeleton.track import to_track
from nightcrawler.engine.build import build_trainer
from nightcrawler.engine.checkpoint_files import load_checkpoint
from nightcrawler.engine.tester import build_tester
from nightcrawler.engine.trainer import Preempted
from nightcrawler.export.trained import build_trained
from nightcrawler.models.skeleton import join_streams
from nightcrawler.pose.files import read_pose, write_pose
from nightcrawler.predict.checkpoints import PredictOptions
from nightcrawler.pseudo.predictions import read_results
from nightcrawler.utils.errors import UserError
from tests import tiny
from tests.data.skeleton.files import CLASSES, build_poses, nobody, world_pose
from tests.engine.test_resume import assert_same_run, stop_after
from tests.paths import ROOT

EXPERIMENT = ROOT / "exp_pose/skeleton/config.yaml"
SETTINGS = (
    *("DEVICE", "cpu", "NUM_THREADS", 1, "LOG_PERIOD", 1, "TENSORBOARD.ENABLE", False),
    *("DATA_LOADER.NUM_WORKERS", 0, "SKELETON.WIDTH", 8, "DATA.NUM_FRAMES", 24),
    *("MODEL.NUM_CLASSES", 3, "MODEL.CLASS_NAMES", list(CLASSES), "MODEL.DROPOUT_RATE", 0.0),
    *("TRAIN.BATCH_SIZE", 8, "TRAIN.MICRO_BATCH", 4, "SOLVER.MAX_EPOCH", 2),
    *("SOLVER.BASE_LR", 0.01, "TEST.DATA_SELECT", "arid", "ADAPT.NAME", "batchnorm"),
    *("BN.NUM_BATCHES_PRECISE", 0),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_poses(tmp_path_factory.mktemp("poses"))


def config(data: Path, out: Path, *settings: Any) -> CfgNode:
    overrides = ["DATA.PATH_PREFIX", data, "OUTPUT_DIR", out, *SETTINGS, *settings]
    return load_experiment(EXPERIMENT, (), [str(value) for value in overrides])


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained")
    build_trainer(config(data, out)).fit()
    return out


def dark_clip(data: Path, number: int) -> torch.Tensor:
    pose = read_pose(data / f"poses/dark_train/Train/ari_{number}.mp4.pose.npz")
    return eval_clips(to_track(pose), 1, num_steps=24, length=60)


@pytest.mark.parametrize("name", ["poseconv", "stgcn"])
def test_movements_are_learned_and_statistics_are_adapted(
    data: Path, tmp_path: Path, name: str
) -> None:
    settings = ("MODEL.NAME", name, "SOLVER.MAX_EPOCH", 16, "TRAIN.EVAL_PERIOD", 16)
    # A few clips and steps teach nothing of what estimators do.
    settings = (*settings, "POSE.DISTURB_ESTIMATES", 0.0, "POSE.JOINT_DROP", 0.0)
    trainer = build_trainer(config(data, tmp_path, *settings))
    trainer.fit()
    (validated,) = [row for row in tiny.metrics(tmp_path, "val") if row["split"] == "val_dry"]
    assert validated["top1"] > 80
    (adapted,) = tiny.metrics(tmp_path, "adapt")
    assert adapted["adapter"] == "batchnorm"
    assert adapted["num_clips"] == 9
    assert len(adapted["layers"]) == len(batchnorm_layers(trainer.model)) > 4
    clips = torch.cat([dark_clip(data, number) for number in range(9)]).double()
    state = load_checkpoint(tmp_path / "best.pyth")["model_state"]
    if name == "poseconv":
        seen, layer = trainer.model.features(clips), "norm"
    else:
        joined = join_streams(clips, trainer.model.streams, trainer.model.parents)
        seen, layer = joined.permute(0, 3, 1, 2).flatten(1, 2), "data_bn"
    mean, variance = seen.mean(dim=(0, 2)), seen.var(dim=(0, 2), correction=0)
    torch.testing.assert_close(state[f"{layer}.running_mean"].double(), mean, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(
        state[f"{layer}.running_var"].double(), variance, atol=1e-5, rtol=1e-3
    )


def test_heatmaps_are_trained_and_adapted_as_well(data: Path, tmp_path: Path) -> None:
    settings = ("MODEL.NAME", "poseconv3d", "SKELETON.STREAMS", "[joint]", "DATA.NUM_FRAMES", 8)
    trainer = build_trainer(config(data, tmp_path, *settings, "SOLVER.MAX_EPOCH", 1))
    trainer.fit()
    (adapted,) = tiny.metrics(tmp_path, "adapt")
    assert len(adapted["layers"]) == len(batchnorm_layers(trainer.model)) == 29
    assert (tmp_path / "best.pyth").is_file()


def test_a_run_that_was_stopped_ends_as_one_that_was_not(
    data: Path, trained: Path, tmp_path: Path
) -> None:
    trainer = build_trainer(config(data, tmp_path))
    stop_after(trainer, 4)
    with pytest.raises(Preempted):
        trainer.fit()
    build_trainer(config(data, tmp_path)).fit()
    assert_same_run(tmp_path, trained)


def test_workers_change_nothing(data: Path, trained: Path, tmp_path: Path) -> None:
    build_trainer(config(data, tmp_path, "DATA_LOADER.NUM_WORKERS", 1)).fit()
    assert_same_run(tmp_path, trained)


def test_results_say_where_nobody_was_seen(data: Path, trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    shutil.copytree(data, folder)
    for number in (1, 4, 7):
        write_pose(folder / f"poses/dark_train/Train/ari_{number}.mp4.pose.npz", nobody())
    for number, source in ((2, "mediapipe 1"), (3, "mediapipe 1"), (5, "onnx 2")):
        path = folder / f"poses/dark_train/Train/ari_{number}.mp4.pose.npz"
        write_pose(path, replace(read_pose(path), source=source, fingerprint="of a video"))
    best = trained / "best.pyth"
    out = tmp_path / "out"
    tester = build_tester(config(folder, out, "TEST.CHECKPOINT_FILE_PATH", best))
    # A third of the videos, and no fault: the test does not end with an error.
    assert tester.run() == 0
    assert (out / "bad_arid.csv").read_text().count("no person") == 3
    results = read_results(tester.results_path((1, 1)))
    expected = ["no person" if number in (1, 4, 7) else "ok" for number in range(9)]
    assert results.status == expected
    assert results.names == [f"ari_{number}.mp4" for number in range(9)]
    assert np.isnan(results.probs[[1, 4, 7]]).all()
    assert np.isfinite(results.probs[results.ok]).all()
    assert (results.meta["model"], results.meta["enhancement"]) == ("poseconv", "none")
    assert results.meta["labels"] == "label-free"
    assert results.meta["pose_sources"] == ["mediapipe 1", "onnx 2"]
    (folder / "poses/dark_train/Train/ari_0.mp4.pose.npz").write_bytes(b"no pose")
    (folder / "poses/dark_train/Train/ari_2.mp4.pose.npz").unlink()
    with pytest.raises(UserError, match="2 of 9 videos of 'arid' cannot be read"):
        build_tester(config(folder, out, "TEST.CHECKPOINT_FILE_PATH", best)).run()


def test_views_are_windows_of_time(data: Path, trained: Path, tmp_path: Path) -> None:
    settings = ("TEST.NUM_ENSEMBLE_VIEWS", "[1, 3]", "POSE.SECONDS", 1)
    settings = (*settings, "TEST.CHECKPOINT_FILE_PATH", trained / "best.pyth")
    tester = build_tester(config(data, tmp_path, *settings))
    tester.run()
    one, three = (read_results(tester.results_path((views, 1))) for views in (1, 3))
    assert one.num_clips.tolist() == [1] * 9
    assert three.num_clips.tolist() == [3] * 9
    assert not np.allclose(one.probs, three.probs)


def test_other_poses_behind_the_same_lists_do_not_resume(
    data: Path, trained: Path, tmp_path: Path
) -> None:
    folder, out = tmp_path / "data", tmp_path / "out"
    shutil.copytree(data, folder)
    shutil.copytree(trained, out)
    write_pose(folder / "poses/labeled_train/Train/tra_3.mp4.pose.npz", nobody())
    with pytest.raises(UserError, match="train"):
        build_trainer(config(folder, out))


def test_motions_are_mixed_in_and_recorded(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    shutil.copytree(data, folder)
    rows = []
    for number in range(10):
        write_pose(folder / f"figures/{number}.pose.npz", world_pose(number % 2, 500 + number))
        rows.append((f"{number}.pose.npz", number % 2))
    tiny.write_rows(folder / "figures/motions.csv", rows)
    settings = ("POSE.SOURCES", "[figures]", "POSE.SHARES", "[1.0, 3.0]")
    trainer = build_trainer(config(folder, tmp_path / "out", *settings))
    (stream,) = [loss.stream for loss in trainer.stream_losses]
    assert len(stream.items) == 34
    drawn = [
        stream.items[index] for epoch in range(6) for index in stream.sampler.epoch_items(epoch)
    ]
    shares = np.array([[item.label, item.path.parent.name == "figures"] for item in drawn])
    for label, share in ((0, 0.75), (1, 0.75), (2, 0)):
        own = shares[shares[:, 0] == label]
        assert len(own) / len(shares) == pytest.approx(1 / 3, abs=0.04)
        assert own[:, 1].mean() == pytest.approx(share, abs=0.05)
    trainer.fit()
    state = load_checkpoint(tmp_path / "out/best.pyth")
    assert {"split figures", "split train"} <= set(state["lists"])
    assert "figures" in state["videos"]
    assert state["labels"] == "label-free"
    # A list of dark clips among the sources makes an oracle of the run.
    dark = (*settings[:1], "[arid]", *settings[2:])
    build_trainer(config(folder, tmp_path / "dark", *dark)).fit()
    assert load_checkpoint(tmp_path / "dark/best.pyth")["labels"] == "oracle"


def test_export_is_refused_in_one_line(trained: Path) -> None:
    with pytest.raises(UserError, match=r"poseconv sees skeletons.* nightcrawler predict"):
        build_trained(trained / "best.pyth", PredictOptions(device="cpu"), None)


def test_pseudo_labels_of_others_are_learned_from(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    shutil.copytree(data, folder)
    rows = [(f"ari_{number}.mp4", number % 3, *np.eye(3)[number % 3]) for number in range(9)]
    tiny.write_rows(folder / "pseudo/pixels.csv", rows)
    write_pose(folder / "poses/dark_train/Train/ari_4.mp4.pose.npz", nobody())
    settings = ("DATA.PSEUDO_CSV", "pseudo/pixels.csv", "MODEL.PSEUDO_LOSS", "kl")
    settings = (*settings, "TRAIN.BALANCE_PSEUDO", True, "SOLVER.MAX_EPOCH", 4)
    out = tmp_path / "out"
    trainer = build_trainer(config(folder, out, *settings))
    trainer.fit()
    _, pseudo = [loss.stream for loss in trainer.stream_losses]
    assert [item.path.name for item in pseudo.items][:2] == [
        "ari_0.mp4.pose.npz",
        "ari_1.mp4.pose.npz",
    ]
    assert len(tiny.metrics(out, "train")) == 4
    # One of nine is replaced in training: no fault, so no limit of faults ends the run.
    rows = (out / "bad.csv").read_text().splitlines()
    assert [row.split(",")[:2] for row in rows[1:]] == [
        ["pseudo", "ari_4.mp4"],
        ["adapt", "ari_4.mp4"],
    ]


def test_a_list_whose_poses_are_missing_says_how_to_make_them(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none of its .* nightcrawler pose extract"):
        build_trainer(config(data, tmp_path, "POSE.FOLDER", "elsewhere"))
