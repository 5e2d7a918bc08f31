"""Ensembles in recipes: which models are mixed, and with which weights.

Label and vote recipes share these keys. Classes are named, and `CLASSES` gives their order in the
predictions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from nightcrawler.pseudo.ensemble import SCORES, Mixture
from nightcrawler.pseudo.label_switches import class_id, probability
from nightcrawler.pseudo.recipe_yaml import Values, is_views
from nightcrawler.utils.errors import UserError

LABEL_USES = ("label-free", "oracle")
ENSEMBLE_KEYS = (
    "ENSEMBLE.SCORES",
    "ENSEMBLE.VIEWS",
    "ENSEMBLE.WEIGHTS",
    "ENSEMBLE.LEADER",
    "ENSEMBLE.LED",
    "ENSEMBLE.NORMALIZE",
    "ENSEMBLE.OVERRULE",
)


@dataclass(frozen=True)
class EnsembleSpec:
    """M models and their weights, with classes and models as indices.

    Attributes:
        folders: model to the folder of its experiment, in order.
        scores: one of `SCORES` per model.
        pairs: (views, crops) of each model's results file.
        weights: one per model, or `None` for equal weights.
        leader: the model whose most probable class picks the weights of `led`.
        led: class to one weight per model, instead of `weights`.
        normalize: divide mixed rows by their sum.
        overrule: class to the model whose probabilities replace the mixture on rows of that class.
    """

    folders: dict[str, str]
    scores: tuple[str, ...]
    pairs: tuple[tuple[int, int], ...]
    weights: tuple[float, ...] | None = None
    leader: int = 0
    led: dict[int, tuple[float, ...]] = field(default_factory=dict)
    normalize: bool = True
    overrule: dict[int, int] = field(default_factory=dict)

    def resized(self, num_models: int) -> EnsembleSpec:
        """Return the same ensemble with another number of models.

        Args:
            num_models: M.

        Raises:
            UserError: if the number differs and models are not all treated alike.
        """
        # Weights, leaders and views are given model by model: more models would have none.
        if num_models == len(self.folders):
            return self
        equal_weights = self.weights is None and not self.led and not self.overrule
        if not equal_weights or len(set(self.scores)) > 1 or len(set(self.pairs)) > 1:
            raise UserError(
                f"the recipe mixes {len(self.folders)} models ({', '.join(self.folders)}), not "
                f"{num_models}"
            )
        # Models given on a command line have no experiment folders.
        folders = {str(number): "" for number in range(num_models)}
        return replace(
            self,
            folders=folders,
            scores=self.scores[:1] * num_models,
            pairs=self.pairs[:1] * num_models,
        )

    def reweighed(self, weights: Sequence[float]) -> EnsembleSpec:
        """Return the same ensemble with one weight per model, for every class of the leader.

        Args:
            weights: one per model.

        Raises:
            UserError: if their number or values are wrong.
        """
        check_weights(weights, len(self.folders), self.normalize)
        return replace(self, weights=tuple(weights), led={})

    def mixture(self, num_classes: int) -> Mixture:
        """Return the weights as a table.

        Args:
            num_classes: K.
        """
        num_models = len(self.folders)
        general = (1 / num_models,) * num_models if self.weights is None else self.weights
        table = np.tile(np.array(general, np.float64), (num_classes, 1))
        # Classes of the leader with weights of their own replace the general row.
        for label, weights in self.led.items():
            table[label] = weights
        return Mixture(table, self.leader, self.normalize, self.overrule)

    def describe(self, num_classes: int) -> dict[str, Any]:
        """Return the ensemble as plain values, for the metadata of an output.

        Args:
            num_classes: K.
        """
        models = list(self.folders)
        return {
            "models": models,
            "scores": list(self.scores),
            "leader": models[self.leader],
            "weights_per_class_of_leader": self.mixture(num_classes).weights.tolist(),
            "normalize": self.normalize,
            "overrule": {label: models[model] for label, model in self.overrule.items()},
        }


def check_weights(weights: Sequence[float], num_models: int, normalize: bool) -> None:
    """Refuse weights of a wrong number, negative or all zero, or too large a sum.

    Args:
        weights: to check.
        num_models: M.
        normalize: mixed rows are divided by their sum. Otherwise weights may sum to 1 at most.

    Raises:
        UserError: naming the fault.
    """
    if len(weights) != num_models:
        raise UserError(f"{len(weights)} weights for {num_models} models")
    if not all(np.isfinite(weight) and weight >= 0 for weight in weights) or not sum(weights) > 0:
        raise UserError(f"weights {list(weights)}: expected numbers from 0, not all 0")
    # Rows that are not normalised must stay below 1 to be probabilities.
    if not normalize and sum(weights) > 1 + 1e-9:
        raise UserError(
            f"weights {list(weights)} sum to {sum(weights):g}: more than 1, and rows are not "
            "normalised"
        )


def read_label_use(values: Values) -> str:
    """Return the label use of a recipe's numbers, `oracle` for one without `LABELS`.

    Args:
        values: of the recipe.
    """
    return values.choice("LABELS", LABEL_USES, "oracle")


def read_classes(values: Values) -> list[str]:
    """Return `CLASSES`, empty where a recipe fits any classes.

    Args:
        values: of the recipe.

    Raises:
        ConfigError: naming file and line.
    """
    classes = values.get("CLASSES", [])
    if not isinstance(classes, list) or not all(isinstance(name, str) and name for name in classes):
        raise values.fault("CLASSES", f"{classes!r}, expected a list of names")
    for name in classes:
        if classes.count(name) > 1:
            raise values.fault("CLASSES", f"{name} is given more than once")
    return classes


def read_per_class(values: Values, key: str, classes: list[str]) -> list[float] | None:
    """Return a number 0..1 for each class, in their order, or `None` without the key.

    Args:
        values: of the recipe.
        key: of the numbers.
        classes: names of the K classes.

    Raises:
        ConfigError: naming file, line and key.
    """
    given = values.mapping(key)
    if not given:
        return None
    if set(given) != set(classes):
        known = ", ".join(classes) or "which are not given"
        raise values.fault(key, f"expected a number for each of CLASSES ({known})")
    try:
        return [probability(given[name], name) for name in classes]
    except UserError as error:
        raise values.fault(key, str(error)) from None


def read_ensemble(values: Values, classes: list[str]) -> EnsembleSpec:
    """Read `MODELS` and `ENSEMBLE`.

    Args:
        values: of the recipe, or of one of its modes.
        classes: names of the K classes.

    Raises:
        ConfigError: naming file, line and key.
    """
    folders = values.mapping("MODELS")
    if not folders or not all(isinstance(folder, str) and folder for folder in folders.values()):
        raise values.fault("MODELS", "expected model: folder of its experiment")
    # Keys are flattened with dots, so `WEIGHTS.a.b` would be ambiguous.
    if any("." in name for name in folders):
        raise values.fault("MODELS", "a model's name must not hold a dot")
    models = list(folders)
    normalize = values.flag("ENSEMBLE.NORMALIZE", True)
    given = values.get("ENSEMBLE.WEIGHTS", "equal")
    led = _led(values, models, classes, normalize)
    leader = _leader(values, models, led)
    scores = _scores(values, models)
    pairs = _pairs(values, models)
    weights = None
    if given != "equal":
        weights = _weights(values, "ENSEMBLE.WEIGHTS", given, models, normalize)
    overrule = _overrule(values, models, classes)
    return EnsembleSpec(folders, scores, pairs, weights, leader, led, normalize, overrule)


def _leader(values: Values, models: list[str], led: dict[int, tuple[float, ...]]) -> int:
    """Return the index of the leading model, 0 where none is needed."""
    leader = values.get("ENSEMBLE.LEADER")
    if (leader is not None or led) and leader not in models:
        raise values.fault("ENSEMBLE.LEADER", f"{leader!r}, expected one of {', '.join(models)}")
    if leader is not None and not led:
        raise values.fault("ENSEMBLE.LEADER", f"{leader} has no effect without ENSEMBLE.LED")
    return 0 if leader is None else models.index(leader)


def _weights(
    values: Values, key: str, given: Any, models: list[str], normalize: bool
) -> tuple[float, ...]:
    """Return one weight per model, 0 for models that are not named."""
    are_numbers = isinstance(given, dict) and all(
        type(weight) in (int, float) for weight in given.values()
    )
    if not are_numbers:
        raise values.fault(
            key, f"{given!r}, expected model: number for some of {', '.join(models)}, or equal"
        )
    for name in given:
        if name not in models:
            raise values.fault(key, f"{name!r} is not one of MODELS ({', '.join(models)})")
    weights = tuple(float(given.get(name, 0.0)) for name in models)
    try:
        check_weights(weights, len(models), normalize)
    except UserError as error:
        raise values.fault(key, str(error)) from None
    return weights


def _led(
    values: Values, models: list[str], classes: list[str], normalize: bool
) -> dict[int, tuple[float, ...]]:
    """Return the weights of each class of the leader that has its own."""
    led: dict[int, tuple[float, ...]] = {}
    for key in values.mapping("ENSEMBLE.LED"):
        # Keys are flat, `Sit.ssv2`: the class is all but the last part.
        name = key.rpartition(".")[0] or key
        whole = f"ENSEMBLE.LED.{name}"
        label = _class(values, whole, name, classes)
        led[label] = _weights(values, whole, values.get(whole), models, normalize)
    return led


def _overrule(values: Values, models: list[str], classes: list[str]) -> dict[int, int]:
    """Return class to the model that overrules the mixture."""
    overrule = {}
    for name, model in values.mapping("ENSEMBLE.OVERRULE").items():
        if model not in models:
            raise values.fault(
                "ENSEMBLE.OVERRULE", f"{model!r} is not one of MODELS ({', '.join(models)})"
            )
        overrule[_class(values, "ENSEMBLE.OVERRULE", name, classes)] = models.index(model)
    return overrule


def _class(values: Values, key: str, name: str, classes: list[str]) -> int:
    """Return the index of a class that a key names."""
    try:
        return class_id(name, classes)
    except UserError as error:
        raise values.fault(key, f"{error} (CLASSES)") from None


def _per_model(values: Values, key: str, models: list[str], default: Any) -> list[Any]:
    """Return one value per model, from one value for all or a mapping with each."""
    given = values.get(key, default)
    # A list is one value, that of VIEWS.
    if not isinstance(given, dict):
        return [given] * len(models)
    if set(given) != set(models):
        raise values.fault(
            key, f"{given!r}, expected one value, or one for each of {', '.join(models)}"
        )
    return [given[name] for name in models]


def _scores(values: Values, models: list[str]) -> tuple[str, ...]:
    """Return one of `SCORES` per model."""
    scores = _per_model(values, "ENSEMBLE.SCORES", models, SCORES[0])
    for kind in scores:
        if kind not in SCORES:
            raise values.fault("ENSEMBLE.SCORES", f"{kind!r}, expected one of {', '.join(SCORES)}")
    return tuple(scores)


def _pairs(values: Values, models: list[str]) -> tuple[tuple[int, int], ...]:
    """Return (views, crops) per model."""
    pairs = []
    for pair in _per_model(values, "ENSEMBLE.VIEWS", models, [1, 1]):
        if not is_views(pair):
            raise values.fault(
                "ENSEMBLE.VIEWS", f"{pair!r}, expected [views, crops] with 1 crop or 3"
            )
        pairs.append((pair[0], pair[1]))
    return tuple(pairs)
