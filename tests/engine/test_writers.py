"""Writers of metrics: TensorBoard, metrics.jsonl and services hold each point once, and none stops a training."""

from __future__ import annotations

import itertools
import json
import logging
import math
import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from nightcrawler.engine import pictures
from nightcrawler.engine.build import build_trainer
from nightcrawler.engine.checkpoint_files import load_checkpoint
from nightcrawler.engine.trainer import Preempted, Trainer
from nightcrawler.engine.writers import group
from nightcrawler.engine.writers.base import Record, RunDescription
from nightcrawler.engine.writers.jsonl import read_written
from nightcrawler.pseudo.predictions import Predictions
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.registries import WRITERS
from tests import tiny
from tests.engine.test_resume import stop_after

LATEST = "checkpoints/checkpoint_latest.pyth"
ON = ("TENSORBOARD.ENABLE", True)


def start(data: Path, out: Path, *overrides: Any) -> Trainer:
    return build_trainer(tiny.config(data, out, *ON, *overrides))


def crash_after(trainer: Trainer, step: int) -> None:
    """End without a save while the run's `step`-th step (from 1) is logged."""
    log, count = trainer.metric_logger.log_train_step, itertools.count(1)

    def train(*args: Any) -> None:
        log(*args)
        if next(count) == step:
            raise KeyboardInterrupt

    trainer.metric_logger.log_train_step = train


def events(out: Path) -> EventAccumulator:
    found = EventAccumulator(str(out / "tensorboard"), size_guidance={"scalars": 0, "images": 0})
    return found.Reload()


def scalars(out: Path) -> dict[str, list[tuple[int, float]]]:
    """Curves by name, without those of the clock."""
    read = events(out)
    return {
        name: [(event.step, event.value) for event in read.Scalars(name)]
        for name in read.Tags()["scalars"]
        if not name.endswith("clips_per_sec")
    }


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs that nothing stopped."""
    out = tmp_path_factory.mktemp("whole") / "run"
    start(data, out).fit()
    return out


def test_tensorboard_has_the_rows_of_metrics_jsonl(whole: Path) -> None:
    curves = scalars(whole)
    train = tiny.metrics(whole, "train")
    for name in ("loss", "lr", "grad_norm"):
        expected = [(number, row[name]) for number, row in enumerate(train, start=1)]
        assert [at for at, _ in curves[f"train/{name}"]] == [at for at, _ in expected]
        assert [v for _, v in curves[f"train/{name}"]] == pytest.approx([v for _, v in expected])
    for row in tiny.metrics(whole, "val"):
        for name in ("top1", "top5", "mean_class"):
            found = dict(curves[f"val_{row['split']}/{name}"])
            assert found[row["epoch"]] == pytest.approx(row[name])


def test_tensorboard_has_pictures_and_settings(data: Path, whole: Path) -> None:
    read = events(whole)
    # Labelled splits have a confusion matrix, and the one that picks the checkpoint shows clips.
    names = {f"val_{split}/confusion" for split in ("val_dry", "val_dark", "arid")}
    assert set(read.Tags()["images"]) == names | {"val_val_dark/clips"}
    for name in read.Tags()["images"]:
        assert [event.step for event in read.Images(name)] == [1, 2]
    plugin = read.SummaryMetadata("_hparams_/session_start_info").plugin_data
    content = plugin_data_pb2.HParamsPluginData.FromString(plugin.content)
    settings = content.session_start_info.hparams
    assert settings["SOLVER.BASE_LR"].number_value == 1e-3
    assert settings["MODEL.NAME"].string_value == "uniformer"
    assert not [key for key in settings if key.startswith(("DATA.PATH_PREFIX", "OUTPUT_DIR"))]
    experiment = read.SummaryMetadata("_hparams_/experiment").plugin_data
    content = plugin_data_pb2.HParamsPluginData.FromString(experiment.content)
    assert [info.name.tag for info in content.experiment.metric_infos] == ["val_val_dark/top1"]


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_run_that_was_stopped_goes_on_in_the_same_curves(
    data: Path, whole: Path, tmp_path: Path, step: int
) -> None:
    trainer = start(data, tmp_path / "run")
    stop_after(trainer, step)
    with pytest.raises(Preempted):
        trainer.fit()
    start(data, tmp_path / "run").fit()
    assert tiny.metrics(tmp_path / "run") == tiny.metrics(whole)
    assert scalars(tmp_path / "run") == scalars(whole)
    assert len(events(tmp_path / "run").Images("val_val_dark/clips")) == 2


@pytest.mark.parametrize("step", [3, 4])
def test_steps_after_the_last_checkpoint_of_a_crashed_run_are_not_written_twice(
    data: Path, whole: Path, tmp_path: Path, step: int
) -> None:
    trainer = start(data, tmp_path / "run")
    crash_after(trainer, step)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit()
    assert len(tiny.metrics(tmp_path / "run", "train")) == step
    start(data, tmp_path / "run").fit()
    assert tiny.metrics(tmp_path / "run") == tiny.metrics(whole)
    assert scalars(tmp_path / "run") == scalars(whole)


def test_a_run_from_scratch_in_the_folder_of_another_is_written_whole(
    data: Path, tmp_path: Path
) -> None:
    """Also when it is stopped and resumed: rows of the first one are not its own."""
    start(data, tmp_path / "run").fit()
    first = tiny.metrics(tmp_path / "run")
    for path in (tmp_path / "run/checkpoints").iterdir():
        path.unlink()
    again = start(data, tmp_path / "run")
    stop_after(again, 1)
    with pytest.raises(Preempted):
        again.fit()
    start(data, tmp_path / "run").fit()
    assert tiny.metrics(tmp_path / "run") == first * 2


def test_damaged_rows_are_no_rows(tmp_path: Path) -> None:
    rows = [{"kind": "train", "epoch": 1, "step": 1}, {"kind": [1], "epoch": {}}, 7]
    lines = [json.dumps(row) for row in rows] + ['{"kind": "train", "ep', "\ufffd", ""]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    assert ("train", 1, 1, None, None) in read_written(tmp_path)
    assert len(read_written(tmp_path)) == 2
    assert read_written(tmp_path / "none") == set()


class Faulty:
    """A writer that fails in one of its methods."""

    calls: ClassVar[list[str]] = []
    faulty = "write"

    def __init__(self, about: RunDescription) -> None:
        self._do("start")

    def _do(self, name: str) -> None:
        self.calls.append(name)
        if name == self.faulty:
            raise RuntimeError("the service is away\nand more lines")

    def write(self, record: Record) -> None:
        self._do("write")

    def picture(self, name: str, pixels: np.ndarray, epoch: int) -> None:
        self._do("picture")

    def close(self) -> None:
        self._do("close")


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> type[Faulty]:
    monkeypatch.setattr(WRITERS, "_entries", dict(WRITERS._entries))
    WRITERS.add("faulty", f"{__name__}:Faulty")
    Faulty.calls = []
    return Faulty


@pytest.mark.parametrize("method", ["start", "write", "picture", "close"])
def test_a_writer_that_fails_is_left_out_with_one_warning(
    data: Path,
    whole: Path,
    tmp_path: Path,
    faulty: type[Faulty],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    method: str,
) -> None:
    monkeypatch.setattr(faulty, "faulty", method)
    monkeypatch.setattr(logging.getLogger("nightcrawler"), "propagate", True)
    start(data, tmp_path / "run", "WRITERS", "[faulty, tensorboard]").fit()
    assert faulty.calls.count(method) == 1
    assert faulty.calls[-1] == method
    (said,) = [record.message for record in caplog.records if "faulty" in record.message]
    cause = "RuntimeError: the service is away"
    assert said == f"faulty ends here, the training goes on ({cause})"
    assert tiny.metrics(tmp_path / "run") == tiny.metrics(whole)
    assert scalars(tmp_path / "run") == scalars(whole)
    states = [load_checkpoint(out / LATEST)["model_state"] for out in (tmp_path / "run", whole)]
    assert tiny.differences(*states) == []


def test_a_writer_that_does_not_end_is_left_behind(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Hanging(Faulty):
        def close(self) -> None:
            group.threading.Event().wait()

    monkeypatch.setattr(group, "CLOSE_SEC", 0.1)
    monkeypatch.setattr(logging.getLogger("nightcrawler"), "propagate", True)
    about = RunDescription(Path(), "", False, 0, {}, "")
    group.WriterGroup({"slow": Hanging(about)}, set()).close()
    assert "writers slow did not end within 0 s: left behind" in caplog.text


@pytest.mark.parametrize("name", ["trackio", "wandb"])
def test_a_missing_extra_is_said_before_the_training(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        UserError,
        match=rf"WRITERS {name} needs the extra {name}: python -m pip install 'nightcrawler-video\[{name}\]'",
    ):
        start(data, tmp_path / "run", "WRITERS", f"[{name}]")


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("[tensorbord]", "unknown writer 'tensorbord'; did you mean 'tensorboard'?"),
        ("[wandb, wandb]", "has a name twice"),
    ],
)
def test_names_of_writers_are_checked(data: Path, tmp_path: Path, value: str, fault: str) -> None:
    with pytest.raises(UserError, match=f"WRITERS.*{fault}".replace("?", r"\?")):
        tiny.config(data, tmp_path / "run", "WRITERS", value)


def made_predictions(labels: list[int], found: list[int | None]) -> Predictions:
    """Predictions of 5 classes, `None` for a video that could not be read."""
    probs = np.full((len(labels), 5), np.nan, np.float32)
    for row, answer in enumerate(found):
        if answer is not None:
            probs[row] = np.eye(5)[answer] * 0.8 + 0.04
    status = ["ok" if answer is not None else "error" for answer in found]
    names = [f"{row}.mp4" for row in range(len(labels))]
    clips = np.ones(len(labels), np.int64)
    return Predictions(np.log(probs), probs, np.array(labels), names, clips, status)


def test_confusion_counts_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(3)
    labels, found = rng.integers(-1, 5, 60).tolist(), rng.integers(0, 5, 60).tolist()
    found[::7] = [None] * len(found[::7])
    known = [(a, b) for a, b in zip(labels, found, strict=True) if a >= 0 and b is not None]
    expected = confusion_matrix(*zip(*known, strict=True), labels=range(5))
    counts = pictures.confusion_counts(made_predictions(labels, found))
    assert np.array_equal(counts, expected)
    names = ["a $", "<b>", "c_{", "日本", "e"]
    shown = pictures.confusion_picture(made_predictions(labels, found), names)
    assert shown.dtype == np.uint8
    assert shown.shape[2] == 3
    assert len(np.unique(shown)) > 10


def test_shown_clips_are_what_the_model_sees(data: Path, tmp_path: Path) -> None:
    """Frames of the validation's own clips, before they were normalised, to half a level."""
    trainer = start(data, tmp_path / "run")
    eval_set = next(one for one in trainer.eval_sets if one.split.name == "val_dark")
    frames = trainer.pictures._read_frames(eval_set)
    assert list(frames) == [0, 1, 2, 3]
    cfg = tiny.config(data, tmp_path / "run")
    for batch in eval_set.loader:
        for sample in batch:
            clip = sample["clip"][0].numpy()
            times = [1, 2, 2]
            shown = frames[sample["index"]].astype(float) / 255
            seen = clip[:, times].transpose(1, 2, 3, 0) * cfg.DATA.STD + cfg.DATA.MEAN
            assert shown == pytest.approx(seen.clip(0, 1), abs=0.51 / 255)
    labels = [item.label for item in eval_set.items]
    predictions = made_predictions([min(label, 4) for label in labels], [1, None, 2, 3])
    picture = pictures.clips_picture(frames, predictions, list("abcde"))
    assert math.prod(picture.shape[:2]) > 4 * 3 * 32 * 32
    assert pictures._answer(0, predictions, list("abcde")).startswith("b 84 % (true: ")
    assert pictures._answer(1, predictions, list("abcde")).startswith("no answer (true: ")
