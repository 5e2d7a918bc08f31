"""The folder of a run, as a report reads it: what is not there yet is noted; what is there and bad is an error."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from nightcrawler.config.yaml import read_yaml
from nightcrawler.data.splits import SPLITS, get_split
from nightcrawler.pseudo.labels import read_labels
from nightcrawler.pseudo.predictions import Predictions, read_results
from nightcrawler.pseudo.results_files import ORACLE
from nightcrawler.utils.errors import UserError
from nightcrawler.workflow.run import DONE

STATE = "pipeline.json"
KEYS = (
    "links",
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
class Results:
    """What a training says of a split, with one (views, crops): the first that was tested."""

    stage: str
    model: str
    control: bool
    split: str
    path: Path
    predictions: Predictions

    @property
    def use(self) -> str:
        """`label-free` or `oracle`; what does not say is not taken for label-free."""
        return str(self.predictions.meta.get("labels", ORACLE))

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seed of the training, where it is known."""
        seed = self.predictions.meta.get("seed")
        return (seed,) if isinstance(seed, int) else ()


class RunFolder:
    """A run of the chain.

    Args:
        folder: holds `pipeline.json`.
        root: the project, which paths in that file are relative to.
        truth: split to a `path,label` file of true classes; the others are looked for in `truth/` of the data folder.

    Attributes:
        notes: what is not there.

    Raises:
        UserError: if there is no such file, or it is none of a chain.
    """

    def __init__(self, folder: Path, root: Path, truth: Mapping[str, Path] | None = None) -> None:
        self.folder, self.root = folder, root
        self.state = _read_state(folder / STATE)
        self.notes: list[str] = []
        self.data = self.locate(self.state["data"])
        found = {path.stem: path for path in sorted((self.data / "truth").glob("*.csv"))}
        self.truth_files: dict[str, Path] = {**found, **(truth or {})}
        self._truth: dict[str, dict[str, int]] = {}
        splits = [*self.state["test_splits"], self.state["vote_split"], self.state["unlabelled"]]
        folders = {get_split(split, self.data).folders for split in splits if split}
        for split, path in (truth or {}).items():
            if get_split(split, self.data).folders not in folders:
                known = ", ".join(dict.fromkeys(filter(None, splits)))
                raise UserError(
                    f"{path}: {folder} has no clips of split '{split}', only of {known}"
                )

    @property
    def class_names(self) -> list[str]:
        """The K names."""
        return list(self.state["class_names"])

    @property
    def stages(self) -> list[dict[str, Any]]:
        """Stages in order: name, round, models, in_chain, ..."""
        return list(self.state["stages"])

    def links(self, kind: str) -> list[dict[str, Any]]:
        """Links of a kind, in order."""
        return [link for link in self.state["links"] if link["kind"] == kind]

    def locate(self, text: str) -> Path:
        """A path of `pipeline.json`; a run's folder may have been moved."""
        path = Path(text)
        if path.is_relative_to(self.state["out"]):
            moved = self.folder / path.relative_to(self.state["out"])
            if moved.exists():
                return moved
        return self.root / path

    def is_there(self, link: Mapping[str, Any]) -> bool:
        """Whether a link is done and its files are there; notes where files have gone."""
        if link["status"] != DONE:
            return False
        missing = [text for text in link["outputs"] if not self.locate(text).exists()]
        if missing:
            self.notes.append(f"{link['name']} is done, but {missing[0]} is not there")
        return not missing

    @cached_property
    def results(self) -> list[Results]:
        """Results of all tests that are done.

        Raises:
            UserError: if a file is damaged, or is of other classes.
        """
        found = []
        for link in self.links("test"):
            if not self.is_there(link):
                continue
            path = self.locate(link["outputs"][0])
            predictions = read_results(path)
            if predictions.probs.shape[1] != len(self.class_names):
                raise UserError(
                    f"{path}: {predictions.probs.shape[1]} classes, but {len(self.class_names)} in {STATE}"
                )
            found.append(
                Results(
                    link["stage"], link["model"], link["control"], link["split"], path, predictions
                )
            )
        return found

    def fill(
        self, split: str, names: Sequence[str], labels: np.ndarray | None = None
    ) -> np.ndarray:
        """int64 `[N]`: true classes of videos, -1 where unknown; those in `labels` stay.

        Raises:
            UserError: if a file of true classes is bad.
        """
        truth = self.truth(split)
        filled = np.array([truth.get(name, -1) for name in names], np.int64)
        return filled if labels is None else np.where(labels >= 0, labels, filled)

    def truth(self, split: str) -> dict[str, int]:
        """Name to true class of a split's videos, as far as lists and files of true classes know them.

        A list of videos in the same folders speaks of them too (`arid` and `dark_unlabel` of `total_unlabel`).

        Raises:
            UserError: if a file is bad, or two differ.
        """
        if split not in self._truth:
            folders = get_split(split, self.data).folders
            names = dict.fromkeys([split, *SPLITS, *self.truth_files])
            names = [name for name in names if get_split(name, self.data).folders == folders]
            paths = [get_split(name, self.data).list_file for name in names]
            paths = [path for path in paths if path.is_file()]
            paths += [self.truth_files[name] for name in names if name in self.truth_files]
            self._truth[split] = _merge(paths, len(self.class_names))
        return self._truth[split]

    def kind(self, split: str) -> str:
        """`bright`, `dark`, or `darkened`: bright clips, with their true classes, through a night camera."""
        own = get_split(split, self.data)
        bright = [get_split(name, self.data) for name in SPLITS]
        bright = [other for other in bright if not other.dark and other.folders == own.folders]
        return "bright" if not own.dark else "darkened" if bright else "dark"

    @cached_property
    def configs(self) -> dict[str, dict[str, Any]]:
        """Experiment to its whole configuration, flat keys to values, as far as trainings have begun."""
        found = {}
        for link in self.links("train"):
            path = self.locate(link["folder"]) / "resolved.yaml"
            if path.is_file():
                found[link["experiment"]] = dict(read_yaml(path).values)
        return found

    def picks_checkpoints(self, split: str) -> bool:
        """Whether the best checkpoint of a training was picked on this split."""
        return any(values.get("TRAIN.BEST_SPLIT") == split for values in self.configs.values())

    def metrics(self, link: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Rows of a training's `metrics.jsonl`; the last line may be half written."""
        path = self.locate(link["folder"]) / "metrics.jsonl"
        rows = []
        for line in (
            path.read_text(encoding="utf-8", errors="replace").splitlines()
            if path.is_file()
            else ()
        ):
            try:
                row = json.loads(line)
            except ValueError:
                continue
            rows += [row] if isinstance(row, dict) else []
        return rows


def _read_state(path: Path) -> dict[str, Any]:
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such file: give the --out of tools/run_pipeline.py, or runs/RECIPE"
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    lacking = (
        [key for key in KEYS if key not in state] if isinstance(state, dict) else ["an object"]
    )
    if lacking:
        raise UserError(
            f"{path}: no {', '.join(lacking)}: not written by tools/run_pipeline.py of this version"
        )
    return state


def _merge(paths: Sequence[Path], num_classes: int) -> dict[str, int]:
    merged: dict[str, int] = {}
    for path in paths:
        for name, label in read_labels(path).items():
            if label >= num_classes:
                raise UserError(
                    f"{path}: '{name}' has label {label}, expected less than {num_classes}"
                )
            if label >= 0 and merged.setdefault(name, label) != label:
                raise UserError(
                    f"{path}: '{name}' has label {label}, but {merged[name]} in another file of its folder"
                )
    return merged
