"""Predictions of a run by split: single models, their ensembles, and the vote."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from nightcrawler.pseudo.ensemble import Mixture, join, mix
from nightcrawler.pseudo.results_metadata import (
    LABEL_FREE,
    ORACLE,
    names_without_prediction,
    read_metadata,
)
from nightcrawler.pseudo.submission import read_submission
from nightcrawler.pseudo.thresholds import most_probable
from nightcrawler.report.measures import TopPredictions
from nightcrawler.report.run_folder import RunFolder, SplitResults


class Trained(Protocol):
    """Predictions that know the label use and the seeds of the trainings behind them."""

    @property
    def use(self) -> str:
        """Return `label-free` or `oracle`."""

    @property
    def seeds(self) -> tuple[int, ...]:
        """Return the known seeds."""


def joint_use(parts: Iterable[Trained]) -> str:
    """Return `label-free` if all parts are, otherwise `oracle`."""
    # One part that saw labels of dark clips is enough to make the whole an oracle.
    for part in parts:
        if part.use != LABEL_FREE:
            return ORACLE
    return LABEL_FREE


def join_seeds(parts: Iterable[Trained]) -> tuple[int, ...]:
    """Return the seeds of all parts in ascending order, each once."""
    seeds: set[int] = set()
    for part in parts:
        seeds.update(part.seeds)
    return tuple(sorted(seeds))


def seeds_of_inputs(inputs: Iterable[Mapping[str, Any]]) -> list[int]:
    """Return the known seeds among the inputs that a pseudo-label or submission file names."""
    seeds = set()
    for entry in inputs:
        if isinstance(entry.get("seed"), int):
            seeds.add(entry["seed"])
    return sorted(seeds)


def _seeds_of_vote(
    inputs: Sequence[Mapping[str, Any]], modes: Mapping[str, TopPredictions]
) -> tuple[int, ...]:
    """Return the seeds behind a submission: of models, or of the modes that it is the vote of."""
    seeds = set(seeds_of_inputs(inputs))
    for entry in inputs:
        mode = modes.get(Path(str(entry.get("file", ""))).stem)
        seeds.update(mode.seeds if mode else ())
    return tuple(sorted(seeds))


class RunPredictions:
    """Predictions of models, their ensembles and the vote.

    Args:
        run: the folder whose results are read.

    Attributes:
        models: (split, stage, model, is a control) to predictions.
    """

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self.models: dict[tuple[str, str, str, bool], TopPredictions] = {}
        self._results: dict[tuple[str, str, str, bool], SplitResults] = {}
        for results in run.results:
            key = (results.split, results.stage, results.model, results.control)
            self._results[key] = results
            self.models[key] = self._top_predictions(results)

    def _top_predictions(self, results: SplitResults) -> TopPredictions:
        found = results.predictions
        # Rows without a prediction hold no numbers, and would make the argmax warn.
        classes, confidences = most_probable(np.where(found.ok[:, None], found.probs, 0.0))
        return TopPredictions(
            names=found.names,
            classes=np.where(found.ok, classes, -1),
            confidences=confidences,
            labels=self.run.fill_labels(results.split, found.names, found.labels),
            use=results.use,
            seeds=results.seeds,
            probs=found.probs,
        )

    def splits(self) -> list[str]:
        """Return the tested splits, those that the recipe names first."""
        named = [
            *self.run.state["test_splits"],
            self.run.state["vote_split"],
            self.run.state["unlabelled"],
        ]
        tested = [split for split, *_ in self.models]
        splits = []
        # A split can be both tested and voted on, and is listed once.
        for split in dict.fromkeys([*named, *tested]):
            if split in tested:
                splits.append(split)
        return splits

    def of_split(self, split: str) -> list[TopPredictions]:
        """Return the predictions of all models and controls on a split."""
        return [found for (name, *_), found in self.models.items() if name == split]

    def of_stage(self, split: str, stage: str, control: bool = False) -> dict[str, TopPredictions]:
        """Return the predictions of a stage's models.

        Args:
            split: name.
            stage: name.
            control: return those of the controls instead.

        Returns:
            Model to predictions, in the order of the recipe.
        """
        found = {}
        for model in self.run.state["models"]:
            key = (split, stage, model, control)
            if key in self.models:
                found[model] = self.models[key]
        return found

    def ensemble(self, split: str, stage: str, control: bool = False) -> TopPredictions | None:
        """Average the probabilities of a stage's models with equal weights.

        Args:
            split: name.
            stage: name.
            control: average those of the controls instead.

        Returns:
            Predictions of the mean, or `None` for fewer than two models.

        Raises:
            UserError: if the models were tested on different videos.
        """
        models = self.of_stage(split, stage, control)
        if len(models) < 2:
            return None
        return self.mean([self._results[split, stage, name, control] for name in models])

    def mean(self, results: Sequence[SplitResults]) -> TopPredictions:
        """Average the probabilities of results with equal weights.

        Args:
            results: of one split, at least one.

        Raises:
            UserError: if they are of different videos.
        """
        if len(results) == 1:
            return self._top_predictions(results[0])
        # The files name the models in the messages of `join`.
        paths = [str(one.path) for one in results]
        joined = join([one.predictions for one in results], paths, ["probs"] * len(results))
        equal = Mixture(np.ones((len(joined.class_names), len(results))))
        mixed = mix(joined.probs, equal, joined.opinions)
        classes, confidences = most_probable(mixed)
        return TopPredictions(
            names=joined.names,
            classes=np.where(joined.ok, classes, -1),
            confidences=confidences,
            labels=self.run.fill_labels(results[0].split, joined.names, joined.labels),
            use=joint_use(results),
            seeds=join_seeds(results),
            probs=mixed,
        )

    def _known_labels(self, split: str) -> dict[str, int]:
        """Return the true classes in the results files of a split, by name."""
        labels: dict[str, int] = {}
        for predictions in self.of_split(split):
            for name, label in zip(predictions.names, predictions.labels.tolist(), strict=True):
                if label >= 0:
                    labels[name] = label
        return labels

    def submissions(self) -> dict[str, TopPredictions]:
        """Return submission name to predictions, the vote last, or nothing before the vote is done.

        Raises:
            UserError: if a submission is damaged.
        """
        found: dict[str, TopPredictions] = {}
        # Submissions hold no true classes, so they are taken from the results files of the split.
        for task in self.run.tasks("vote"):
            if not self.run.has_outputs(task):
                continue
            for text in task["outputs"]:
                path = self.run.locate(text)
                # Each submission has a JSON file beside it, which `read_metadata` reads. The table
                # for people beside them holds the answers of the vote once more.
                if path.suffix != ".csv" or not path.name.startswith("arid_pred"):
                    continue
                submission = read_submission(path)
                about = read_metadata(path)
                known = self._known_labels(task["split"])
                labels = np.array([known.get(name, -1) for name in submission.names], np.int64)
                # A submission must give every clip a class, also one without a prediction.
                without = np.isin(submission.names, list(names_without_prediction(path, about)))
                found[path.stem] = TopPredictions(
                    names=submission.names,
                    classes=np.where(without, -1, submission.labels),
                    confidences=submission.confidences,
                    labels=self.run.fill_labels(task["split"], submission.names, labels),
                    use=about["labels"],
                    seeds=_seeds_of_vote(about.get("inputs", []), found),
                )
        return found
