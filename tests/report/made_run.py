"""Runs of the chain as they lie on disk, with predictions out of a random number generator instead of trainings.

`python -m tests.report.made_run FOLDER DATA` makes a large one on the videos of a data folder, to look at its report.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import simplejson

from nightcrawler.data.splits import get_split
from nightcrawler.pseudo.labels import read_labels
from nightcrawler.pseudo.predictions import Predictions
from nightcrawler.pseudo.results_metadata import write_metadata
from nightcrawler.pseudo.submission import Submission, write_submission
from nightcrawler.utils.io import write_csv_rows
from nightcrawler.workflow.pipeline_file import TaskRow, write_pipeline_file
from nightcrawler.workflow.task import Task
from nightcrawler.workflow.task_state import DONE, TaskState

SEED = 7
EVIL = "<script>alert('1')</script>&\"$x_{1}$"
CLASSES = ["climb", EVIL, "_kneel", "row", "spin"]
MODELS = ["one", "_two"]
NUM_VAL, NUM_DARK, NUM_ARID, NUM_TEST = 15, 20, 10, 25
GAMMA = 0.25


@dataclass
class Made:
    """A run to be made.

    Attributes:
        folder: of the run.
        data: folder with list files and `truth/`.
        classes, models: names.
        rounds: of pseudo-labels.
        splits: that all trainings are tested on; the last is voted on.
        control: models with a control.
        use: what all files say of labels of dark clips.
        seed: of the trainings.
        open_tasks: beginnings of names of tasks that are not done.
        skill: share of clips that round 0 gets right.
        beside: folders of tests outside of the chain, and the gain of their models over round 0.
    """

    folder: Path
    data: Path
    classes: Sequence[str]
    models: Sequence[str]
    rounds: int = 2
    splits: Sequence[str] = ("val_dry", "total_unlabel", "test")
    control: Sequence[str] = ()
    use: str = "label-free"
    seed: int = SEED
    open_tasks: Collection[str] = ()
    skill: float = 0.5
    beside: Mapping[str, float] = field(default_factory=dict)
    tasks: list[Task] = field(default_factory=list)

    def probs(
        self, stage: int, model: int, split: str, labels: np.ndarray, gain: float
    ) -> np.ndarray:
        """`[N, K]` of a model that is right more often from round to round, and that is too sure of itself."""
        rng = np.random.default_rng([self.seed, stage, model, len(split)])
        right = rng.random(len(labels)) < self.skill + gain * stage + 0.03 * model
        said = np.where(right, labels, rng.integers(0, len(self.classes), len(labels)))
        logits = rng.normal(size=(len(labels), len(self.classes)))
        logits[np.arange(len(labels)), said] += rng.uniform(1, 5, len(labels))
        exp = np.exp(logits)
        return (exp / exp.sum(axis=1, keepdims=True)).astype(np.float32)

    def truth(self, split: str) -> dict[str, int]:
        """Name to class of a split, with those that only truth files know."""
        known = dict(read_labels(get_split(split, self.data).list_file))
        for path in (self.data / "truth").glob("*.csv"):
            if get_split(path.stem, self.data).folders == get_split(split, self.data).folders:
                known |= {name: label for name, label in read_labels(path).items() if name in known}
        arid = self.data / "arid.csv"
        if split == "total_unlabel" and arid.exists():
            known |= {name: label for name, label in read_labels(arid).items() if name in known}
        return known

    def is_open(self, name: str) -> bool:
        return any(name.startswith(one) for one in self.open_tasks)

    def add(self, name: str, outputs: Sequence[Path], **about: Any) -> Task:
        task = Task(
            name, name.split("/")[0], ("made",), "", {}, tuple(outputs), outputs[0].parent, about
        )
        self.tasks.append(task)
        return task


def make(made: Made) -> Path:
    """Write the run; returns its folder."""
    shares: dict[int, list[np.ndarray]] = {}
    for stage in range(made.rounds + 1):
        if stage:
            _label(made, stage, shares[stage - 1])
        shares[stage] = []
        for number, model in enumerate(made.models):
            for control in (False, True) if stage and model in made.control else (False,):
                found = _experiment(made, stage, number, control)
                shares[stage] += [] if control or found is None else [found]
    _vote(made)
    _beside(made)
    rows = [
        TaskRow(task, "waiting", "", None)
        if made.is_open(task.name)
        else TaskRow(task, "done", "up to date", TaskState(DONE, "", {}, seconds=61.5))
        for task in made.tasks
    ]
    write_pipeline_file(made.folder / "pipeline.json", made.folder.parent, _about(made), rows)
    return made.folder


def _name(stage: int) -> str:
    return f"round{stage}"


def _experiment(made: Made, stage: int, number: int, control: bool) -> np.ndarray | None:
    """Training and tests; returns what the model says of the unlabelled split."""
    model = made.models[number]
    experiment = ("control/" if control else "") + f"{_name(stage)}/{model}"
    about = {
        "round": stage,
        "stage": _name(stage),
        "model": model,
        "experiment": experiment,
        "control": control,
    }
    folder, said = made.folder / experiment, None
    train = made.add(f"train/{experiment}", [folder / "best.pyth"], **about)
    if not made.is_open(train.name):
        _training(made, folder, stage, number)
    for split in made.splits:
        path = folder / f"{split}x4x32x1x1.pkl"
        task = made.add(f"test/{experiment}/{split}", [path], **about, split=split, pairs=[(1, 1)])
        truth = made.truth(split)
        labels = np.array(list(truth.values()), np.int64)
        probs = made.probs(stage, number, split, labels, 0.02 if control else 0.07)
        said = probs if split == "total_unlabel" else said
        if made.is_open(task.name):
            continue
        meta = {
            "labels": made.use,
            "seed": made.seed,
            "class_names": list(made.classes),
            "split": split,
        }
        meta |= {
            "enhancement": "gamma",
            "gamma": GAMMA,
            "versions": {"torch": "2.10", "numpy": "2.3"},
        }
        listed = read_labels(get_split(split, made.data).list_file)
        known = np.array([listed[name] for name in truth], np.int64)
        ones = np.ones(len(labels), np.int64)
        Predictions(np.log(probs), probs, known, list(truth), ones, ["ok"] * len(ones), meta).save(
            path
        )
    return said


def _beside(made: Made) -> None:
    """Tests outside of the chain, which no task names: before it, and by models of true labels."""
    split = made.splits[-1]
    truth = made.truth(split)
    for folder, gain in made.beside.items():
        for number, model in enumerate(made.models):
            labels = np.array(list(truth.values()), np.int64)
            probs = made.probs(1, number, split, labels, gain)
            meta = {"labels": made.use if gain < 0.3 else "oracle", "seed": made.seed}
            meta |= {"class_names": list(made.classes), "split": split}
            ones = np.ones(len(labels), np.int64)
            place = made.folder / folder / model
            place.mkdir(parents=True)
            Predictions(
                np.log(probs), probs, labels, list(truth), ones, ["ok"] * len(ones), meta
            ).save(place / f"{split}x4x32x1x1.npz")


def _training(made: Made, folder: Path, stage: int, number: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "best.pyth").write_bytes(b"")
    (folder / "resolved.yaml").write_text(
        f"OUTPUT_DIR: '{folder}'\nDATA: {{PATH_PREFIX: '{made.data}', PSEUDO_CSV: '{stage}', "
        f"CAMERA: '{made.data}/camera.yaml'}}\nRNG_SEED: {made.seed}\nMODEL: {{NAME: {made.models[number]}}}\n"
        "TRAIN: {BEST_SPLIT: val_dry}\n"
    )
    rng = np.random.default_rng([made.seed, stage, number])
    rows = []
    for epoch in range(1, 7):
        loss = 2.4 * 0.8 ** (epoch + stage) + rng.normal(0, 0.05)
        rows.append({"kind": "train", "epoch": epoch, "step": 4, "loss": loss})
        top1 = 80 - 60 * 0.7 ** (epoch + stage) + rng.normal(0, 2)
        rows.append(
            {"kind": "val", "epoch": epoch, "split": "val_dry", "weights": "raw", "top1": top1}
        )
        rows[-1] |= {"num_videos": 33, "labels": made.use, "seed": made.seed}
    (folder / "metrics.jsonl").write_text("".join(simplejson.dumps(row) + "\n" for row in rows))


def _label(made: Made, stage: int, shares: Sequence[np.ndarray]) -> None:
    path = made.folder / f"pseudo/{_name(stage)}.csv"
    outputs = [path, path.with_suffix(".json")]
    task = made.add(
        f"label/{_name(stage)}", outputs, round=stage, stage=_name(stage), split="total_unlabel"
    )
    if made.is_open(task.name):
        return
    mean, names = np.mean(shares, axis=0), list(made.truth("total_unlabel"))
    chosen = np.flatnonzero(mean.max(axis=1) >= 0.75 - 0.1 * stage)
    write_csv_rows(
        path, [(names[row], int(mean[row].argmax()), *mean[row].tolist()) for row in chosen]
    )
    about = {
        "labels": made.use,
        "videos": len(names),
        "method": "thresholds",
        "inputs": [{"seed": made.seed}],
    }
    write_metadata(
        path,
        {
            **about,
            "classes": list(made.classes),
            "thresholds": [0.75 - 0.1 * stage] * len(made.classes),
        },
    )


def _vote(made: Made) -> None:
    split = made.splits[-1]
    paths = [made.folder / f"submission/{name}.csv" for name in ("arid_pred_0", "arid_pred")]
    outputs = [file for path in paths for file in (path, path.with_suffix(".json"))]
    answers = made.folder / "submission/predictions.csv"
    outputs.append(answers)
    task = made.add("vote", outputs, round=made.rounds, split=split)
    if made.is_open(task.name):
        return
    truth = made.truth(split)
    labels = np.array(list(truth.values()), np.int64)
    probs = np.mean(
        [made.probs(made.rounds, at, split, labels, 0.07) for at in range(len(made.models))], axis=0
    )
    for path in paths:
        write_submission(
            path, Submission(list(truth), probs.argmax(axis=1), probs.max(axis=1).astype(float))
        )
        # The vote names the file of its mode, and the mode the models with their seeds.
        mode = path.stem != "arid_pred"
        origin = {"seed": made.seed} if mode else {"file": paths[0].name}
        write_metadata(path, {"labels": made.use, "inputs": [{**origin, "labels": made.use}]})
    # The table for people is no submission, and no report may take it for one.
    answers.write_text("video,class,probability,agreement,status\n")
    (made.folder / "submission/recipe.yaml").write_text("MODELS: {}\n")


def _about(made: Made) -> Mapping[str, Any]:
    stages = [
        {
            "name": _name(stage),
            "round": stage,
            "models": list(made.models),
            "in_chain": True,
            "labels": "",
            "pseudo": "",
        }
        for stage in range(made.rounds + 1)
    ]
    return {
        "recipe": "configs/pipeline/made.yaml",
        "out": made.folder.name,
        "data": str(made.data),
        "class_names": list(made.classes),
        "models": list(made.models),
        "stages": stages,
        "unlabelled": "total_unlabel",
        "test_splits": [split for split in made.splits if split != "total_unlabel"],
        "vote_split": made.splits[-1],
        "vote_recipe": f"{made.folder.name}/submission/recipe.yaml",
        "control": list(made.control),
    }


if __name__ == "__main__":
    place, videos = map(Path, sys.argv[1:3])
    names = (
        simplejson.loads((videos / "classes.json").read_text())
        if (videos / "classes.json").exists()
        else None
    )
    names = names or [
        "Drink",
        "Jump",
        "Pick",
        "Pour",
        "Push",
        "Run",
        "Sit",
        "Stand",
        "Turn",
        "Walk",
        "Wave",
    ]
    models = ("uniformer_b32_ssv2", "uniformer_b32_k600", "mvit_b32_k600", "sf32_k700")
    beside = {"source_none": -0.3, "source_gamma": -0.15, "ceiling": 0.4}
    splits = ("val_dry", "total_unlabel", "test")
    make(Made(place, videos, names, models, 4, splits, models[1:2], beside=beside))
