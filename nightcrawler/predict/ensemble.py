"""Several models that predict together, mixed by a recipe."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from nightcrawler.data.footage import Footage
from nightcrawler.data.lists import VideoItem
from nightcrawler.data.lowlight.enhance.build import Enhance
from nightcrawler.data.video.convert import EXACT
from nightcrawler.data.video.integrity.limits import Limits
from nightcrawler.predict.calibrate import build_judge
from nightcrawler.predict.checkpoints import PredictOptions
from nightcrawler.predict.exported import build_any_predictor
from nightcrawler.predict.model_input import FrameSpan
from nightcrawler.predict.predictor import (
    FOOTAGE,
    Predictor,
    is_of_short_video,
    sees_nobody,
)
from nightcrawler.predict.sources import Source, predict_source
from nightcrawler.predict.trust import Judge
from nightcrawler.predict.video_result import NO_VOTE, VideoResult
from nightcrawler.pseudo.ensemble import join
from nightcrawler.pseudo.ensemble_recipe import EnsembleSpec
from nightcrawler.pseudo.label_recipe import read_label_recipe
from nightcrawler.pseudo.predictions import STATUS_OK, Predictions
from nightcrawler.pseudo.recipe_yaml import open_values
from nightcrawler.pseudo.results_metadata import LABEL_FREE, label_use
from nightcrawler.pseudo.vote import Mode, mode_submission
from nightcrawler.pseudo.vote_recipe import read_vote_recipe
from nightcrawler.utils.errors import NO_PERSON, UserError
from nightcrawler.utils.logging import get_logger

logger = get_logger(__name__)


@dataclass(frozen=True)
class EnsembleRecipe:
    """Mixture of an ensemble.

    Attributes:
        mode: models, weights and label switches.
        classes: class names that every model must have. Empty accepts any.
        labels: label use of the recipe's numbers: `label-free` or `oracle`.
        pairs: True to take views and crops from the recipe.
    """

    mode: Mode
    classes: tuple[str, ...] = ()
    labels: str = LABEL_FREE
    pairs: bool = True


def read_recipe(path: Path, number: int | None) -> EnsembleRecipe:
    """Read one mode of a vote recipe, or the mixture of a pseudo-label recipe.

    Args:
        path: recipe, such as `configs/vote/default.yaml`.
        number: mode of a vote recipe. None takes the first one.

    Raises:
        UserError: if the recipe is invalid or has no such mode.
    """
    if open_values(path).mapping("MODES"):
        vote = read_vote_recipe(path)
        if number is None:
            number = next(iter(vote.modes))
        return EnsembleRecipe(vote.mode(number), tuple(vote.classes), vote.labels)
    if number is not None:
        raise UserError(f"{path}: has no MODES, so there is no mode {number}")
    label = read_label_recipe(path)
    return EnsembleRecipe(Mode(label.ensemble, []), tuple(label.classes), label.labels)


def plain_recipe(num_models: int, weights: tuple[float, ...] | None = None) -> EnsembleRecipe:
    """Return a recipe that leaves views and crops to each model.

    Args:
        num_models: M.
        weights: one per model, of sum 1. None takes equal ones.
    """
    folders = {str(number): "" for number in range(num_models)}
    pairs = ((1, 1),) * num_models
    scores = ("probs",) * num_models
    ensemble = EnsembleSpec(folders, scores, pairs, weights, normalize=False)
    return EnsembleRecipe(Mode(ensemble, []), pairs=False)


@dataclass(frozen=True)
class Ensemble:
    """Models with the same classes, and the recipe that mixes them.

    Attributes:
        predictors: the models.
        recipe: their mixture.
        judge: rules that say whether an answer is sure.
    """

    predictors: list[Predictor]
    recipe: EnsembleRecipe
    judge: Judge = field(default_factory=Judge)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the K classes."""
        return self.predictors[0].class_names

    @property
    def model_names(self) -> list[str]:
        """Names of the models, in the order of `VideoResult.votes`."""
        return [predictor.name for predictor in self.predictors]

    @property
    def enhance(self) -> Enhance:
        """Enhancement of the first model: what people see of a video."""
        return self.predictors[0].input.enhance

    @property
    def short_side(self) -> int:
        """Short side of decoded frames in pixels, 0 where the models differ or keep the size."""
        sides = {predictor.short_side for predictor in self.predictors}
        if len(sides) > 1:
            # Frames are decoded once for all models, which then resize them on their own.
            return 0
        return sides.pop()

    @property
    def color(self) -> str:
        """Conversion of colours of decoded frames, the exact one where the models differ."""
        colors = {predictor.color for predictor in self.predictors}
        if len(colors) > 1:
            # Frames are decoded once for all models.
            return EXACT
        return colors.pop()

    @property
    def limits(self) -> Limits:
        """Largest video that all models accept."""
        return min((one.limits for one in self.predictors), key=lambda limits: limits.pixels)

    def predict(
        self, source: Source, *, window_sec: float | None = None, stride_sec: float | None = None
    ) -> list[VideoResult]:
        """Predict videos of a source, see `Predictor.predict`.

        Args:
            source: a path, an array uint8 `[T, H, W, 3]`, or a list of these.
            window_sec: length of sliding windows in seconds. None predicts whole videos.
            stride_sec: seconds between starts of windows. None takes half a window.
        """
        return predict_source(self, source, window_sec, stride_sec)

    def videos(self, items: Sequence[VideoItem]) -> Iterator[VideoResult]:
        """Yield the result of each video, in order. `status` tells why a prediction is missing."""
        # One stream of predictions per model: each decodes the video at its own size.
        streams = [predictor.video_predictions(items) for predictor in self.predictors]
        for item, *predictions in zip(items, *streams, strict=True):
            yield self._result(item, predictions)

    def frames(self, item: VideoItem, span: FrameSpan) -> VideoResult:
        """Return the result of frames, as of a whole video."""
        predictions = []
        for predictor in self.predictors:
            predictions.append(predictor.frame_predictions(item, span))
        return self._result(item, predictions)

    def _result(self, item: VideoItem, predictions: list[Predictions]) -> VideoResult:
        """Mix the models' predictions of one video."""
        heard = self._without_lost_poses(item, predictions)
        joined = join(heard, self.model_names, self.recipe.mode.ensemble.scores)
        if joined.why[0] != STATUS_OK:
            return VideoResult(item.name, item.label, joined.why[0], self.class_names)
        mixed = mode_submission(joined, self.recipe.mode)
        assert mixed.probs is not None
        probs = mixed.probs[0]
        if len(predictions) == 1:
            logits = predictions[0].logits[0]
        else:
            # A mixture has no logits. The softmax of these gives its probabilities again.
            logits = np.log(np.maximum(probs, np.finfo(np.float32).tiny))
        votes = tuple(
            int(own[0].argmax()) if has_opinion[0] else NO_VOTE
            for own, has_opinion in zip(joined.probs, joined.opinions, strict=True)
        )
        class_id = int(mixed.labels[0])
        status = self.judge.status(
            probs,
            class_id,
            support=self._support(votes, class_id),
            nobody=any(map(sees_nobody, predictions)),
            short=any(map(is_of_short_video, predictions)),
            incomplete=NO_VOTE in votes,
            footage=_footage(predictions),
        )
        return VideoResult(
            name=item.name,
            label=item.label,
            status=status,
            class_names=self.class_names,
            class_id=class_id,
            probs=tuple(probs.tolist()),
            logits=tuple(np.asarray(logits, np.float64).tolist()),
            num_clips=sum(int(prediction.num_clips[0]) for prediction in predictions),
            votes=votes,
        )

    def _support(self, votes: Sequence[int], class_id: int) -> float:
        """Return the share of the weight of the models with an opinion that votes for a class."""
        num_classes = len(self.class_names)
        weights = self.recipe.mode.ensemble.mixture(num_classes).weights.mean(axis=0)
        has_opinion = np.array(votes) != NO_VOTE
        total = weights[has_opinion].sum()
        if total <= 0:
            return float(np.mean(np.array(votes)[has_opinion] == class_id))
        return float(weights[np.array(votes) == class_id].sum() / total)

    def _without_lost_poses(
        self, item: VideoItem, predictions: list[Predictions]
    ) -> list[Predictions]:
        """Return predictions of one video in which models whose poses failed have no opinion.

        An estimator that crashes, hangs or stops at damage costs its own models' answer, not that
        of the others.
        """
        if not any(prediction.status[0] == STATUS_OK for prediction in predictions):
            return predictions
        kept = []
        for predictor, prediction in zip(self.predictors, predictions, strict=True):
            status = prediction.status[0]
            if "poses" in predictor.about and status not in (STATUS_OK, NO_PERSON):
                logger.warning("%s: no pose: %s; the other models answer", item.name, status)
                prediction = replace(prediction, status=[NO_PERSON])
            kept.append(prediction)
        return kept

    def about(self) -> dict[str, Any]:
        """Return plain values that identify the models, their mixture and their label use."""
        # By the names that votes have. `model` is the architecture.
        models = [{"name": one.name, **one.about} for one in self.predictors]
        return {
            "models": models,
            "class_names": list(self.class_names),
            "labels": label_use(models, self.recipe.labels),
            "mixture": {
                **self.recipe.mode.ensemble.describe(len(self.class_names)),
                "models": self.model_names,
                "switches": [vars(switch) for switch in self.recipe.mode.switches],
            },
            "judge": self.judge.about(),
        }


def _footage(predictions: Sequence[Predictions]) -> Footage | None:
    """Return length and light of the video as the first model that measured them saw it."""
    for prediction in predictions:
        footage: Footage | None = prediction.meta[FOOTAGE]
        if footage is not None:
            return footage
    return None


def run_hash(about: dict[str, Any]) -> str:
    """Return 16 hex digits that identify a way of predicting, independent of the models' names.

    Args:
        about: values of `Ensemble.about`, and more where settings differ.
    """
    # Names come from paths, and the same experiment may be given by another path.
    mixture = {key: value for key, value in about["mixture"].items() if key != "models"}
    models = []
    for model in about["models"]:
        models.append({key: value for key, value in model.items() if key != "name"})
    unnamed = {**about, "mixture": mixture, "models": models}
    return hashlib.sha256(json.dumps(unnamed, sort_keys=True).encode()).hexdigest()[:16]


def build_ensemble(
    experiments: Sequence[Path | str],
    recipe: EnsembleRecipe | None,
    prefix: Path,
    options: PredictOptions,
) -> Ensemble:
    """Build the models of experiments or of a recipe.

    Args:
        experiments: experiment folders, checkpoints, or names of public weights. Empty takes those
            of the recipe.
        recipe: mixture of the models. None weighs them equally.
        prefix: folder that holds the recipe's experiments.
        options: settings that differ from testing.

    Raises:
        UserError: if a checkpoint is missing, a model is given twice, or classes differ.
    """
    recipe = recipe or plain_recipe(len(experiments))
    folders: list[Path | str] = list(experiments)
    if not folders:
        # Folders of a recipe are relative, so that it holds for any copy of the project.
        folders = [prefix / folder for folder in recipe.mode.ensemble.folders.values()]
    ensemble = recipe.mode.ensemble.resized(len(folders))
    recipe = EnsembleRecipe(
        Mode(ensemble, recipe.mode.switches), recipe.classes, recipe.labels, recipe.pairs
    )
    # Twice the same model would silently double its weight.
    if len({Path(folder).resolve() for folder in folders}) < len(folders):
        raise UserError(f"{', '.join(map(str, folders))}: a model is given twice")
    # None leaves views and crops to the checkpoint.
    pairs: Sequence[tuple[int, int] | None] = [None] * len(folders)
    if recipe.pairs:
        pairs = ensemble.pairs
    predictors = []
    for folder, name, pair in zip(folders, short_names(folders), pairs, strict=True):
        predictors.append(build_any_predictor(folder, name, pair, options))
    _check_classes(predictors, recipe.classes)
    return Ensemble(predictors, recipe, _mixed_judge(predictors, ensemble, options.dark))


def _mixed_judge(predictors: Sequence[Predictor], mixture: EnsembleSpec, dark: bool) -> Judge:
    """Return the judge of a mixture. Models that are never sure are not sure together."""
    known = [predictor.known for predictor in predictors]
    if known == [None]:
        # An exported file carries the judge of its checkpoint.
        return predictors[0].judge
    if None in known and all(one.judge.threshold == math.inf for one in predictors):
        return predictors[0].judge
    return build_judge(known, [predictor.name for predictor in predictors], mixture, dark)


def _check_classes(predictors: Sequence[Predictor], expected: Sequence[str]) -> None:
    """Refuse models whose classes differ from those of the first one or of the recipe."""
    first = predictors[0]
    for predictor in predictors:
        for classes, owner in ((first.class_names, first.name), (expected, "the recipe")):
            if classes and predictor.class_names != tuple(classes):
                raise UserError(
                    f"{predictor.name}: its classes are {', '.join(predictor.class_names)}, "
                    f"those of {owner} are {', '.join(classes)}"
                )


def short_names(paths: Sequence[Path | str]) -> list[str]:
    """Return the fewest last parts of each path that tell all paths apart."""
    parts = [Path(path).resolve().parts for path in paths]
    for count in range(1, max(map(len, parts))):
        names = ["/".join(part[-count:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]
