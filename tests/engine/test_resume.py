"""A run that was stopped and goes on ends exactly as one that was not: bit for bit, on a CPU."""

from __future__ import annotations

import logging
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from nightcrawler.engine.build import build_trainer
from nightcrawler.engine.checkpoint_files import load_checkpoint, save_checkpoint
from nightcrawler.engine.trainer import Preempted, Trainer
from nightcrawler.utils.errors import UserError
from tests import tiny

LATEST = "checkpoints/checkpoint_latest.pyth"
BEST = "best.pyth"
STATE = (
    "model_state",
    "optimizer_state",
    "scaler_state",
    "epoch",
    "step",
    "num_skipped",
    "best",
    "meter",
)


def stop_after(trainer: Trainer, step: int) -> None:
    """Ask for a stop while the run's `step`-th step (from 1) is logged, as a signal would."""
    log, count = trainer.metric_logger.log_train_step, iter(range(1, 1000))

    def train(*args: Any) -> None:
        log(*args)
        trainer.stop.requested = next(count) == step

    trainer.metric_logger.log_train_step = train


def assert_same_run(left: Path, right: Path) -> None:
    states = [{key: load_checkpoint(out / LATEST)[key] for key in STATE} for out in (left, right)]
    assert tiny.differences(*states) == []
    bests = [load_checkpoint(out / "best.pyth")["model_state"] for out in (left, right)]
    assert tiny.differences(*bests) == []
    assert tiny.metrics(left) == tiny.metrics(right)


@pytest.mark.parametrize("step", [1, 2, 3, 4])
def test_stopped_after_any_step(data: Path, trained: Path, tmp_path: Path, step: int) -> None:
    """2 is the last step of an epoch, whose adaptation and validation are still due; 4 is the last of all."""
    trainer = build_trainer(tiny.config(data, tmp_path))
    stop_after(trainer, step)
    with pytest.raises(Preempted, match=f"epoch {(step + 1) // 2} step {2 - step % 2}"):
        trainer.fit()
    assert (tmp_path / "PREEMPTED").read_text() == f"epoch {(step + 1) // 2} step {2 - step % 2}\n"
    assert not (tmp_path / "DONE").exists()
    build_trainer(tiny.config(data, tmp_path)).fit()
    assert not (tmp_path / "PREEMPTED").exists()
    assert (tmp_path / "DONE").exists()
    assert_same_run(tmp_path, trained)


def test_stopped_after_every_step(data: Path, trained: Path, tmp_path: Path) -> None:
    for _ in range(4):
        trainer = build_trainer(tiny.config(data, tmp_path))
        stop_after(trainer, 1)
        with pytest.raises(Preempted):
            trainer.fit()
    build_trainer(tiny.config(data, tmp_path)).fit()
    assert_same_run(tmp_path, trained)


def test_two_streams_stopped_in_the_middle_of_an_epoch(own_data: Path, tmp_path: Path) -> None:
    tiny.write_pseudo(own_data, 12)
    overrides = ("MODEL.PSEUDO_LOSS", "kl", "AUG.AA_TYPE", "")
    whole, parts = (
        tiny.config(own_data, tmp_path / name, *overrides, experiment=tiny.PSEUDO_EXPERIMENT)
        for name in "ab"
    )
    build_trainer(whole).fit()
    trainer = build_trainer(parts)
    stop_after(trainer, 4)
    with pytest.raises(Preempted, match="epoch 2 step 1"):
        trainer.fit()
    build_trainer(parts).fit()
    assert_same_run(tmp_path / "a", tmp_path / "b")


def test_a_damaged_latest_checkpoint_falls_back_and_ends_the_same(
    data: Path, trained: Path, tmp_path: Path
) -> None:
    trainer = build_trainer(tiny.config(data, tmp_path))
    stop_after(trainer, 3)
    with pytest.raises(Preempted):
        trainer.fit()
    with open(tmp_path / LATEST, "r+b") as file:
        file.seek(1000)
        file.write(b"damage")
    trainer = build_trainer(tiny.config(data, tmp_path))
    assert (trainer.epoch, trainer.step) == (1, 0)
    trainer.fit()
    states = [
        {key: load_checkpoint(out / LATEST)[key] for key in STATE} for out in (tmp_path, trained)
    ]
    assert tiny.differences(*states) == []


def test_the_best_so_far_survives_a_stop(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top1 = iter([50.0, 20.0])
    monkeypatch.setattr(Trainer, "validate", lambda self, *_: {"val_dark": {"top1": next(top1)}})
    trainer = build_trainer(tiny.config(data, tmp_path))
    stop_after(trainer, 3)
    with pytest.raises(Preempted):
        trainer.fit()
    best = (tmp_path / "best.pyth").read_bytes()
    assert build_trainer(tiny.config(data, tmp_path)).fit() == {
        "top1": 50.0,
        "epoch": 1,
        "split": "val_dark",
        "weights": "raw",
    }
    assert (tmp_path / "best.pyth").read_bytes() == best


def test_workers_and_places_may_change_between_a_run_and_its_continuation(
    data: Path, trained: Path, tmp_path: Path
) -> None:
    trainer = build_trainer(tiny.config(data, tmp_path))
    stop_after(trainer, 1)
    with pytest.raises(Preempted):
        trainer.fit()
    build_trainer(
        tiny.config(data, tmp_path, "DATA_LOADER.NUM_WORKERS", 1, "TEST.DATA_SELECT", "arid")
    ).fit()
    assert_same_run(tmp_path, trained)


def test_clips_made_by_the_training_process_are_those_of_the_workers(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    later = (
        "DEVICE",
        "auto",
        "AUG.DEVICE",
        "gpu",
        "ADAPT.TRANSFORM",
        "train",
        "DATA_LOADER.NUM_WORKERS",
        1,
    )
    build_trainer(tiny.config(data, tmp_path / "later", *later)).fit()
    build_trainer(tiny.config(data, tmp_path / "workers", "ADAPT.TRANSFORM", "train")).fit()
    assert_same_run(tmp_path / "later", tmp_path / "workers")


def test_another_configuration_does_not_resume(data: Path, tmp_path: Path) -> None:
    build_trainer(tiny.config(data, tmp_path, "SOLVER.MAX_EPOCH", 1)).fit()
    with pytest.raises(UserError, match=r"checkpoint_latest.*another configuration.*OUTPUT_DIR"):
        build_trainer(tiny.config(data, tmp_path, "SOLVER.BASE_LR", 0.5))
    fresh = build_trainer(
        tiny.config(data, tmp_path, "SOLVER.BASE_LR", 0.5, "TRAIN.AUTO_RESUME", False)
    )
    assert (fresh.epoch, fresh.step) == (0, 0)


@pytest.mark.parametrize("name", ["train_label+val_dry", "val_dry", "total_unlabel"])
def test_other_lists_do_not_resume(own_data: Path, tmp_path: Path, name: str) -> None:
    """What the validated list holds is left out of training, and picks the best."""
    build_trainer(tiny.config(own_data, tmp_path, "SOLVER.MAX_EPOCH", 1)).fit()
    path = own_data / f"{name}.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(
        UserError,
        match=r"checkpoint_latest.*the list of split \w+ is not the one that this run began with",
    ):
        build_trainer(tiny.config(own_data, tmp_path, "SOLVER.MAX_EPOCH", 1))


def test_a_run_that_was_begun_comes_before_the_weights_it_began_with(
    data: Path,
    trained: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Resume, then TRAIN.CHECKPOINT_FILE_PATH, then random weights, each said in a line."""
    monkeypatch.setattr(logging.getLogger("nightcrawler"), "propagate", True)
    caplog.set_level(logging.INFO, "nightcrawler")
    source = shutil.copyfile(trained / "best.pyth", tmp_path / "source.pyth")
    cfg = tiny.config(data, tmp_path / "run", "TRAIN.CHECKPOINT_FILE_PATH", source)
    trainer = build_trainer(cfg)
    stop_after(trainer, 1)
    with pytest.raises(Preempted):
        trainer.fit()
    source.unlink()
    again = build_trainer(cfg)
    assert tiny.differences(dict(again.model.state_dict()), dict(trainer.model.state_dict())) == []
    build_trainer(tiny.config(data, tmp_path / "other"))
    said = [text.split("\n")[0] for text in caplog.messages if text.startswith("start: ")]
    assert [line.split()[1] for line in said] == ["weights", "resumed", "random"]
    assert said[1].endswith("checkpoint_latest.pyth, epoch 1 step 1")


def test_a_run_that_began_with_an_oracles_weights_does_not_go_on_label_free(
    data: Path, trained: Path, tmp_path: Path
) -> None:
    """As it would where they are not there any more."""
    state = load_checkpoint(trained / "best.pyth")
    source = tmp_path / "source.pyth"
    save_checkpoint(source, {**state, "labels": "oracle"})
    cfg = tiny.config(data, tmp_path / "run", "TRAIN.CHECKPOINT_FILE_PATH", source)
    trainer = build_trainer(cfg)
    stop_after(trainer, 1)
    with pytest.raises(Preempted):
        trainer.fit()
    moved = source.rename(tmp_path / "moved.pyth")
    with pytest.raises(UserError, match=r"this run began oracle and would continue label-free"):
        build_trainer(cfg)
    moved.rename(source)
    build_trainer(cfg).fit()
    assert load_checkpoint(tmp_path / "run/best.pyth")["labels"] == "oracle"


def test_a_lone_best_checkpoint_is_not_resumed(data: Path, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "best.pyth").write_bytes((trained / "best.pyth").read_bytes())
    assert build_trainer(tiny.config(data, tmp_path)).epoch == 0


def test_weights_alone_or_the_whole_state_of_another_run(
    data: Path, trained: Path, tmp_path: Path
) -> None:
    source = ("TRAIN.CHECKPOINT_FILE_PATH", trained / LATEST)
    weights = build_trainer(tiny.config(data, tmp_path, *source))
    state = load_checkpoint(trained / LATEST)
    assert not tiny.differences(dict(weights.model.state_dict()), dict(state["model_state"]))
    assert (weights.epoch, weights.best["epoch"], weights.optimizer.state_dict()["state"]) == (
        0,
        -1,
        {},
    )
    more = ("TRAIN.CHECKPOINT_EPOCH_RESET", False, "SOLVER.MAX_EPOCH", 3)
    whole = build_trainer(tiny.config(data, tmp_path, *source, *more))
    # The other run's best checkpoint is not in this folder: its figure must not stand above ours.
    assert (whole.epoch, whole.best["epoch"], whole.best["top1"]) == (2, 2, -math.inf)
    assert not tiny.differences(whole.optimizer.state_dict(), state["optimizer_state"])
    whole.fit()
    assert [row["epoch"] for row in tiny.metrics(tmp_path, "train")] == [3, 3]
    assert (tmp_path / BEST).is_file()
    assert load_checkpoint(tmp_path / BEST)["best"]["epoch"] == 3
    # Epochs of the other run are no epochs in which nothing became better.
    patient = build_trainer(
        tiny.config(data, tmp_path / "patient", *source, *more, "TRAIN.EARLY_STOP", 1)
    )
    assert patient.fit()["epoch"] == 3
    with pytest.raises(UserError, match=r"has trained 2 epochs, and SOLVER.MAX_EPOCH is 2"):
        build_trainer(
            tiny.config(data, tmp_path / "more", *source, *more[:2], "SOLVER.MAX_EPOCH", 2)
        )


def stopped_run(data: Path, out: Path) -> None:
    """Begin a run and stop it after its first step."""
    trainer = build_trainer(tiny.config(data, out))
    stop_after(trainer, 1)
    with pytest.raises(Preempted):
        trainer.fit()


def test_other_videos_behind_the_same_list_are_refused(own_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    stopped_run(own_data, out)
    moved = own_data.rename(tmp_path / "moved")
    build_trainer(tiny.config(moved, out))
    videos = sorted((moved / "labeled_train/Train").rglob("*.mp4"))
    videos[0].write_bytes(videos[1].read_bytes())
    with pytest.raises(UserError, match="content of the videos of train is not the one"):
        build_trainer(tiny.config(moved, out))


def test_keys_that_change_nothing_may_change_and_others_are_named(
    data: Path, tmp_path: Path
) -> None:
    stopped_run(data, tmp_path)
    build_trainer(tiny.config(data, tmp_path, "DATA.CACHE", "ram", "ENHANCE.TEST", "none"))
    with pytest.raises(UserError, match=r"SOLVER.WEIGHT_DECAY \S+ \(now 0.125\)"):
        build_trainer(tiny.config(data, tmp_path, "SOLVER.WEIGHT_DECAY", "0.125"))


def test_other_versions_and_what_is_not_recorded_are_told(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stopped_run(data, tmp_path)
    state = load_checkpoint(tmp_path / LATEST)
    for key in ("videos", "start_sha256"):
        del state[key]
    state["versions"] = {"torch": "1.0.0"}
    save_checkpoint(tmp_path / LATEST, state)
    with caplog.at_level(logging.WARNING):
        build_trainer(tiny.config(data, tmp_path))
    assert "recorded no fingerprint of the videos" in caplog.text
    assert "made with torch 1.0.0 (now " in caplog.text
    assert "numerics 1 (now " in caplog.text
