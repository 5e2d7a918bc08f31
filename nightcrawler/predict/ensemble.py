"""Several models that answer as one, mixed as a recipe says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nightcrawler.data.lists import VideoItem
from nightcrawler.predict.predictor import PredictOptions, Predictor, build_predictor
from nightcrawler.predict.rows import VideoResult
from nightcrawler.pseudo.ensemble import join
from nightcrawler.pseudo.ensemble_recipe import EnsembleSpec
from nightcrawler.pseudo.label_recipe import read_label_recipe
from nightcrawler.pseudo.predictions import STATUS_OK, Predictions
from nightcrawler.pseudo.recipe_yaml import open_values
from nightcrawler.pseudo.results_files import LABEL_FREE, label_use
from nightcrawler.pseudo.vote import Mode, mode_submission
from nightcrawler.pseudo.vote_recipe import read_vote_recipe
from nightcrawler.utils.errors import UserError


@dataclass(frozen=True)
class EnsembleRecipe:
    """One way to mix.

    Attributes:
        mode: its models, weights and switches.
        classes: names that the models' classes must have; empty: any.
        labels: whether labels of dark clips chose its numbers.
        pairs: whether its views and crops count.
    """

    mode: Mode
    classes: tuple[str, ...] = ()
    labels: str = LABEL_FREE
    pairs: bool = True


def read_recipe(path: Path, number: int | None) -> EnsembleRecipe:
    """A mode of a vote recipe (the first where no number is given), or the mixture of a pseudo-label recipe.

    Raises:
        UserError: if it is bad, or has no such mode.
    """
    if open_values(path).mapping("MODES"):
        vote = read_vote_recipe(path)
        mode = vote.mode(next(iter(vote.modes)) if number is None else number)
        return EnsembleRecipe(mode, tuple(vote.classes), vote.labels)
    if number is not None:
        raise UserError(f"{path}: has no MODES, so there is no mode {number}")
    label = read_label_recipe(path)
    return EnsembleRecipe(Mode(label.ensemble, []), tuple(label.classes), label.labels)


def equal_recipe(num_models: int) -> EnsembleRecipe:
    """All models weigh the same; their views and crops are their own."""
    folders = {str(number): "" for number in range(num_models)}
    ensemble = EnsembleSpec(
        folders, ("probs",) * num_models, ((1, 1),) * num_models, normalize=False
    )
    return EnsembleRecipe(Mode(ensemble, []), pairs=False)


@dataclass(frozen=True)
class Ensemble:
    """Models with one list of classes, and how they are mixed."""

    members: list[Predictor]
    recipe: EnsembleRecipe

    @property
    def class_names(self) -> list[str]:
        """The K classes."""
        return list(self.members[0].class_names)

    def videos(self, items: Sequence[VideoItem]) -> Iterator[VideoResult]:
        """What is said of each video, in order; a bad one has its cause in `status`."""
        answers = [member.videos(items) for member in self.members]
        for item, *found in zip(items, *answers, strict=True):
            yield self._row(item, found)

    def frames(self, item: VideoItem, frames: Sequence[np.ndarray]) -> VideoResult:
        """What is said of frames uint8 `[H, W, 3]`, taken for a whole video."""
        return self._row(item, [member.frames(item, frames) for member in self.members])

    def _row(self, item: VideoItem, found: list[Predictions]) -> VideoResult:
        names = [member.name for member in self.members]
        joined = join(found, names, self.recipe.mode.ensemble.scores)
        if joined.why[0] != STATUS_OK:
            return VideoResult(item.name, item.label, joined.why[0])
        mixed = mode_submission(joined, self.recipe.mode)
        assert mixed.probs is not None
        probs = mixed.probs[0]
        one = (
            found[0].logits[0]
            if len(found) == 1
            else np.log(np.maximum(probs, np.finfo(np.float32).tiny))
        )
        return VideoResult(
            name=item.name,
            label=item.label,
            status=STATUS_OK,
            class_id=int(mixed.labels[0]),
            probs=tuple(probs.tolist()),
            logits=tuple(np.asarray(one, np.float64).tolist()),
            num_clips=sum(int(one.num_clips[0]) for one in found),
            votes=tuple(int(one[0].argmax()) for one in joined.probs),
        )

    def about(self) -> dict[str, Any]:
        """What answers, as plain values; `labels` says whether labels of dark clips had a part in it."""
        models = [member.about for member in self.members]
        return {
            "models": models,
            "class_names": self.class_names,
            "labels": label_use(models, self.recipe.labels),
            "mixture": {
                **self.recipe.mode.ensemble.describe(len(self.class_names)),
                "models": [member.name for member in self.members],
                "switches": [vars(switch) for switch in self.recipe.mode.switches],
            },
        }


def run_hash(about: dict[str, Any]) -> str:
    """16 hex digits that tell two ways of predicting apart, whatever the models are called."""
    unnamed = {
        **about,
        "mixture": {key: value for key, value in about["mixture"].items() if key != "models"},
    }
    return hashlib.sha256(json.dumps(unnamed, sort_keys=True).encode()).hexdigest()[:16]


def build_ensemble(
    experiments: Sequence[Path],
    recipe: EnsembleRecipe | None,
    prefix: Path,
    settings: PredictOptions,
) -> Ensemble:
    """The models of experiments (or of a recipe's `MODELS`, below `prefix`), mixed by the recipe or equally.

    Raises:
        UserError: if a model is not there, is given twice, or has other classes than the first or the recipe.
    """
    recipe = recipe or equal_recipe(len(experiments))
    folders = list(experiments) or [
        prefix / folder for folder in recipe.mode.ensemble.folders.values()
    ]
    ensemble = recipe.mode.ensemble.resized(len(folders))
    recipe = EnsembleRecipe(
        Mode(ensemble, recipe.mode.switches), recipe.classes, recipe.labels, recipe.pairs
    )
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise UserError(f"{', '.join(map(str, folders))}: a model is there twice")
    pairs = ensemble.pairs if recipe.pairs else [None] * len(folders)
    names = _short_names(folders)
    members = [build_predictor(*one, settings) for one in zip(folders, names, pairs, strict=True)]
    for member in members:
        for classes, owner in (
            (members[0].class_names, members[0].name),
            (recipe.classes, "the recipe"),
        ):
            if classes and member.class_names != classes:
                raise UserError(
                    f"{member.name}: its classes are {', '.join(member.class_names)}, those of {owner} are "
                    f"{', '.join(classes)}"
                )
    return Ensemble(members, recipe)


def _short_names(paths: Sequence[Path]) -> list[str]:
    """As few last parts of the paths as tell them apart."""
    parts = [path.resolve().parts for path in paths]
    for count in range(1, max(map(len, parts))):
        names = ["/".join(part[-count:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return list(map(str, paths))
