"""The folder of a run: missing files are noted, damaged files are errors."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from nightcrawler.config.schema.data import MAX_SIDE
from nightcrawler.config.yaml import read_yaml
from nightcrawler.data.splits import SPLITS, get_split
from nightcrawler.data.video.integrity.limits import Limits
from nightcrawler.pseudo.labels import read_labels
from nightcrawler.pseudo.predictions import Predictions, read_results
from nightcrawler.pseudo.results_metadata import ORACLE
from nightcrawler.report.results_origin import find_other_origin
from nightcrawler.report.run_state import MetricsRow, PipelineState, find_wrong_value
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.file_hashes import CACHE_NAME, FileHashes
from nightcrawler.workflow.recipe_file import CEILING
from nightcrawler.workflow.task_state import DONE

STATE = "pipeline.json"
WEIGHTS = "best.pyth"
# The key of the tasks in pipeline.json, as version 0.1 wrote it too.
TASKS = "links"
KEYS = (
    TASKS,
    "stages",
    "class_names",
    "models",
    "out",
    "data",
    "unlabelled",
    "test_splits",
    "vote_split",
)


@dataclass(frozen=True)
class SplitResults:
    """Predictions of one training on a split, with the first tested (views, crops).

    Attributes:
        stage: name.
        model: name.
        control: is a control without pseudo-labels.
        split: name.
        path: the results file.
        predictions: its content.
    """

    stage: str
    model: str
    control: bool
    split: str
    path: Path
    predictions: Predictions

    @property
    def use(self) -> str:
        """Return `label-free` or `oracle`, which also stands for an unknown use."""
        return str(self.predictions.meta.get("labels", ORACLE))

    @property
    def seeds(self) -> tuple[int, ...]:
        """Return the seed of the training, if it is known."""
        seed = self.predictions.meta.get("seed")
        return (seed,) if isinstance(seed, int) else ()


class RunFolder:
    """A run of the chain on disk.

    Args:
        folder: holds `pipeline.json`.
        root: folder of the project, to which paths in that file are relative.
        truth: split to a `path,label` file of true classes. Further files are looked for in
            `truth/` of the data folder.

    Attributes:
        notes: files that are missing or left out, in words.

    Raises:
        UserError: if `pipeline.json` is missing or damaged, or `truth` has a split without clips.
    """

    def __init__(self, folder: Path, root: Path, truth: Mapping[str, Path] | None = None) -> None:
        self.folder = folder
        self.root = root
        self.state = read_state(folder / STATE)
        self.notes: list[str] = []
        self._hashes = FileHashes(folder / CACHE_NAME)
        self.data = self.locate(self.state["data"])
        self.truth_files: dict[str, Path] = {}
        for path in sorted((self.data / "truth").glob("*.csv")):
            self.truth_files[path.stem] = path
        self.truth_files |= truth or {}
        # Split to its true classes, filled by `truth` on demand.
        self._truth: dict[str, dict[str, int]] = {}
        self._check_splits(truth or {})

    def _check_splits(self, truth: Mapping[str, Path]) -> None:
        """Refuse true classes of clips that the run has not seen: the split's name is misspelt."""
        names = [*self.state["test_splits"], self.state["vote_split"], self.state["unlabelled"]]
        names = list(dict.fromkeys(filter(None, names)))
        folders = [get_split(name, self.data).folders for name in names]
        for split, path in truth.items():
            if get_split(split, self.data).folders not in folders:
                raise UserError(
                    f"{path}: {self.folder} has no clips of split '{split}', "
                    f"only of {', '.join(names)}"
                )

    @property
    def class_names(self) -> list[str]:
        """Return the K class names in index order."""
        return list(self.state["class_names"])

    @property
    def stages(self) -> list[dict[str, Any]]:
        """Return the stages in order, each with name, round, models, in_chain and more."""
        return list(self.state["stages"])

    def tasks(self, kind: str) -> list[dict[str, Any]]:
        """Return the tasks of a kind, in order, without those on true labels.

        Args:
            kind: `train`, `test`, `label`, `vote`, ...
        """
        # Those are no step of the chain: the story reads their folder.
        chosen = [task for task in self.state[TASKS] if task["kind"] == kind]
        return [task for task in chosen if task.get("stage") != CEILING]

    def locate(self, text: str) -> Path:
        """Return the place of a file that `pipeline.json` names, also after the run was moved.

        Args:
            text: path in `pipeline.json`.
        """
        # pipeline.json names outputs below the folder that the run had when it was written.
        path = Path(text)
        if path.is_relative_to(self.state["out"]):
            moved = self.folder / path.relative_to(self.state["out"])
            if moved.exists():
                return moved
        return self.root / path

    def has_outputs(self, task: Mapping[str, Any]) -> bool:
        """Return whether a task is done and its outputs exist, and note outputs that are gone.

        Args:
            task: of `pipeline.json`.
        """
        if task["status"] != DONE:
            return False
        missing = [text for text in task["outputs"] if not self.locate(text).exists()]
        if missing:
            self.notes.append(f"{task['name']} is done, but its output {missing[0]} is missing")
        return not missing

    def is_origin(
        self, path: Path, predictions: Predictions, split: str, pair: tuple[int, int] | None = None
    ) -> bool:
        """Return whether results are of the place that they lie in, and note those that are not.

        Args:
            path: the results file, beside its model's checkpoint.
            predictions: its content.
            split: that it should be of.
            pair: its views and crops, None for any.
        """
        weights = path.parent / WEIGHTS
        other = find_other_origin(predictions.meta, split, pair, weights, self._hashes)
        if other:
            name = f"{path.parent.name}/{path.name}"
            self.notes.append(f"{name}: {other}: of another test or training, left out")
        return not other

    @cached_property
    def results(self) -> list[SplitResults]:
        """Return the results of all tests that are done.

        Raises:
            UserError: if a file is damaged, or has another number of classes.
        """
        found = []
        for task in self.tasks("test"):
            if not self.has_outputs(task):
                continue
            # The outputs are one file per (views, crops); the first is the plain test.
            path = self.locate(task["outputs"][0])
            predictions = read_results(path)
            pair = (task.get("pairs") or [None])[0]
            if not self.is_origin(path, predictions, task["split"], pair):
                continue
            num_classes = predictions.probs.shape[1]
            if num_classes != len(self.class_names):
                raise UserError(
                    f"{path}: {num_classes} classes, but {len(self.class_names)} in {STATE}"
                )
            found.append(
                SplitResults(
                    stage=task["stage"],
                    model=task["model"],
                    control=task["control"],
                    split=task["split"],
                    path=path,
                    predictions=predictions,
                )
            )
        return found

    def fill_labels(self, split: str, names: Sequence[str], labels: np.ndarray) -> np.ndarray:
        """Replace unknown labels by the true classes in lists and truth files.

        Args:
            split: name.
            names: the N videos.
            labels: int64 `[N]`, -1 if unknown.

        Returns:
            int64 `[N]`, -1 if still unknown.

        Raises:
            UserError: if a file of true classes is damaged.
        """
        truth = self.truth(split)
        known = np.array([truth.get(name, -1) for name in names], np.int64)
        return np.where(labels >= 0, labels, known)

    def truth(self, split: str) -> dict[str, int]:
        """Return the known true classes of a split, by name.

        Other lists of videos in the same folders count too, such as `arid` and `dark_unlabel` for
        `total_unlabel`.

        Args:
            split: name.

        Raises:
            UserError: if a file is damaged, or two files differ.
        """
        if split not in self._truth:
            folders = get_split(split, self.data).folders
            lists = []
            truth_files = []
            for name in dict.fromkeys([split, *SPLITS, *self.truth_files]):
                other = get_split(name, self.data)
                if other.folders != folders:
                    continue
                # Lists of UG2+ have no labels of dark clips. Those of ARID and truth files do.
                if other.list_file.is_file():
                    lists.append(other.list_file)
                if name in self.truth_files:
                    truth_files.append(self.truth_files[name])
            self._truth[split] = _merge_labels([*lists, *truth_files], len(self.class_names))
        return self._truth[split]

    def split_kind(self, split: str) -> str:
        """Return `bright`, `dark`, or `darkened` for bright clips that the camera model darkens.

        Args:
            split: name.
        """
        # A dark split in the folders of a bright one is the bright clips, darkened while read.
        own = get_split(split, self.data)
        if not own.dark:
            return "bright"
        for name in SPLITS:
            other = get_split(name, self.data)
            if not other.dark and other.folders == own.folders:
                return "darkened"
        return "dark"

    @cached_property
    def configs(self) -> dict[str, dict[str, Any]]:
        """Return experiment to its whole configuration as flat keys, if its training has begun."""
        found = {}
        for task in self.tasks("train"):
            # Written when a training starts, with all defaults filled in.
            path = self.locate(task["folder"]) / "resolved.yaml"
            if path.is_file():
                found[task["experiment"]] = dict(read_yaml(path).values)
        return found

    @cached_property
    def limits(self) -> Limits:
        """Return the largest video that any of the trainings reads."""
        found = [Limits().pixels]
        for values in self.configs.values():
            pixels = values.get("DATA.MAX_PIXELS")
            if isinstance(pixels, int) and pixels <= MAX_SIDE * MAX_SIDE:
                found.append(pixels)
        return Limits(pixels=max(found))

    def picks_checkpoints(self, split: str) -> bool:
        """Return whether a training picked its best checkpoint on this split.

        Args:
            split: name.
        """
        return any(values.get("TRAIN.BEST_SPLIT") == split for values in self.configs.values())

    def metrics(self, task: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the rows of a training's `metrics.jsonl`, empty if there is none.

        Args:
            task: of kind `train`.
        """
        path = self.locate(task["folder"]) / "metrics.jsonl"
        rows: list[dict[str, Any]] = []
        if not path.is_file():
            return rows
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                # A training that is running or was killed leaves its last line half written.
                continue
            if not isinstance(row, dict):
                continue
            wrong = find_wrong_value(MetricsRow, row)
            if wrong:
                raise UserError(f"{path}: a row is damaged: {wrong}")
            rows.append(row)
        return rows


def read_state(path: Path) -> dict[str, Any]:
    """Read `pipeline.json`.

    Args:
        path: the file.

    Raises:
        UserError: if it is missing, damaged or of another version.
    """
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such file: give the --out of nightcrawler pipeline, or runs/RECIPE"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    missing = ["an object"]
    if isinstance(state, dict):
        missing = [key for key in KEYS if key not in state]
    if missing:
        raise UserError(
            f"{path}: no {', '.join(missing)}: not written by nightcrawler pipeline of this version"
        )
    wrong = find_wrong_value(PipelineState, state)
    if wrong:
        raise UserError(f"{path}: damaged: {wrong}; run nightcrawler pipeline again")
    return state


def _merge_labels(paths: Sequence[Path], num_classes: int) -> dict[str, int]:
    """Merge lists of the same folders.

    Raises:
        UserError: if a label is out of range, or differs from another file's.
    """
    merged: dict[str, int] = {}
    for path in paths:
        for name, label in read_labels(path).items():
            if label >= num_classes:
                raise UserError(
                    f"{path}: '{name}' has label {label}, expected less than {num_classes}"
                )
            if label >= 0 and merged.setdefault(name, label) != label:
                raise UserError(
                    f"{path}: '{name}' has label {label}, "
                    f"but {merged[name]} in another file of its folder"
                )
    return merged
