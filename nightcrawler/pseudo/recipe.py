"""Recipes: how models are mixed, which videos are kept, how modes vote. Classes are named, and `CLASSES` says in which
order predictions must hold them; a key that nothing reads is an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from nightcrawler.pseudo.calibration import KEYS as CALIBRATION_KEYS
from nightcrawler.pseudo.calibration import Calibration, read_calibration
from nightcrawler.pseudo.ensemble import SCORES, Mixture
from nightcrawler.pseudo.label_switches import Switch, class_id, parse_switches, probability
from nightcrawler.pseudo.recipe_yaml import Values, is_views, open_values
from nightcrawler.pseudo.vote import TIES
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import atomic_write

STAMPS = ("label-free", "oracle")
ENSEMBLE_KEYS = tuple(
    f"ENSEMBLE.{key}"
    for key in ("SCORES", "VIEWS", "WEIGHTS", "LEADER", "LED", "NORMALIZE", "OVERRULE")
)
# Values that each way of selecting reads.
SELECT_KEYS = {
    "all": (),
    "thresholds": ("THRESHOLDS",),
    "top_fraction": ("FRACTION",),
    "balanced": ("FRACTION", "PRIOR"),
    "calibrated": CALIBRATION_KEYS,
}


@dataclass(frozen=True)
class EnsembleSpec:
    """M models and how they are mixed.

    Attributes:
        folders: model to the folder of its experiment, in order; classes and models below are indices.
        scores: one of `SCORES` per model.
        pairs: (views, crops) of each model's results file.
        weights: per model; `None` weighs them equally.
        leader: the model whose most probable class picks the weights of `led`.
        led: class to weights per model, instead of `weights`.
        normalize: divide mixed rows by their sum.
        overrule: class to the model that has the last word on rows of that class.
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
        """The same for another number of models.

        Raises:
            UserError: unless all models are treated alike.
        """
        alike = self.weights is None and not self.led and not self.overrule
        alike = alike and len({*self.scores}) == len({*self.pairs}) == 1
        if num_models != len(self.folders) and not alike:
            raise UserError(
                f"the recipe mixes {len(self.folders)} models ({', '.join(self.folders)}), not {num_models}"
            )
        if num_models == len(self.folders):
            return self
        folders = {str(number): "" for number in range(num_models)}
        return replace(
            self,
            folders=folders,
            scores=self.scores[:1] * num_models,
            pairs=self.pairs[:1] * num_models,
        )

    def reweighed(self, weights: Sequence[float]) -> EnsembleSpec:
        """The same with one weight per model, whatever the leader says.

        Raises:
            UserError: if their number or values are wrong.
        """
        check_weights(weights, len(self.folders), self.normalize)
        return replace(self, weights=tuple(weights), led={})

    def mixture(self, num_classes: int) -> Mixture:
        """The mixture of K classes."""
        num_models = len(self.folders)
        general = (1 / num_models,) * num_models if self.weights is None else self.weights
        table = np.tile(np.array(general, np.float64), (num_classes, 1))
        for label, weights in self.led.items():
            table[label] = weights
        return Mixture(table, self.leader, self.normalize, self.overrule)

    def describe(self, num_classes: int) -> dict[str, Any]:
        """Plain values that say how K classes are mixed."""
        models = list(self.folders)
        return {
            "models": models,
            "scores": list(self.scores),
            "leader": models[self.leader],
            "weights_per_class_of_leader": self.mixture(num_classes).weights.tolist(),
            "normalize": self.normalize,
            "overrule": {label: models[model] for label, model in self.overrule.items()},
        }


@dataclass(frozen=True)
class LabelRecipe:
    """How pseudo-labels are made; `fractions` and `prior` are for the methods that take a share of the videos, the
    calibration for `calibrated`.
    """

    classes: list[str]
    labels: str
    ensemble: EnsembleSpec
    method: str
    thresholds: list[float] | None
    fractions: list[float]
    prior: list[float] | None
    calibration: Calibration | None


@dataclass(frozen=True)
class Mode:
    """One way to a submission."""

    ensemble: EnsembleSpec
    switches: list[Switch]


@dataclass(frozen=True)
class VoteRecipe:
    """How the final submission is made: its modes, those that vote, the tie rule, and whether what is written is
    soft-maxed once more (as the published files were).
    """

    classes: list[str]
    labels: str
    modes: dict[int, Mode]
    voters: list[int]
    tie: str
    softmax_again: bool

    def mode(self, number: int) -> Mode:
        """A mode by its number.

        Raises:
            UserError: listing those there are.
        """
        if number not in self.modes:
            raise UserError(
                f"mode {number}: the recipe has modes {', '.join(map(str, self.modes))}"
            )
        return self.modes[number]


@dataclass(frozen=True)
class Thresholds:
    """One threshold per class, and whether labels of dark clips chose them."""

    classes: list[str]
    labels: str
    thresholds: list[float]


def check_weights(weights: Sequence[float], num_models: int, normalize: bool) -> None:
    """Refuse weights that are too few or many, negative, all zero, or (not normalised) of a sum above 1.

    Raises:
        UserError: saying which.
    """
    if len(weights) != num_models:
        raise UserError(f"{len(weights)} weights for {num_models} models")
    if not all(np.isfinite(weight) and weight >= 0 for weight in weights) or not sum(weights) > 0:
        raise UserError(f"weights {list(weights)}: expected numbers from 0, not all 0")
    if not normalize and sum(weights) > 1 + 1e-9:
        raise UserError(
            f"weights {list(weights)} sum to {sum(weights):g}: more than 1, and rows are not normalised"
        )


def _label_use(values: Values) -> str:
    """Whether labels of dark clips chose the numbers of a file; one that does not say is not taken for label-free."""
    return values.choice("LABELS", STAMPS, "oracle")


def _classes(values: Values) -> list[str]:
    classes = values.get("CLASSES", [])
    if not isinstance(classes, list) or not all(isinstance(name, str) and name for name in classes):
        raise values.fault("CLASSES", f"{classes!r}, expected a list of names")
    if len(set(classes)) != len(classes):
        raise values.fault("CLASSES", "a class is there twice")
    return classes


def _per_class(values: Values, key: str, classes: list[str]) -> list[float] | None:
    """A number 0..1 for each class, in their order."""
    given = values.mapping(key)
    if not given:
        return None
    if set(given) != set(classes):
        raise values.fault(
            key,
            f"expected a number for each of CLASSES ({', '.join(classes) or 'which are not given'})",
        )
    try:
        return [probability(given[name], name) for name in classes]
    except UserError as error:
        raise values.fault(key, str(error)) from None


def read_label_recipe(path: str | Path) -> LabelRecipe:
    """Read how pseudo-labels are made.

    Raises:
        ConfigError: naming file, line and key.
    """
    values = open_values(path)
    shared = ("CLASSES", "LABELS", "MODELS", *ENSEMBLE_KEYS)
    values.known(*shared, "SELECT")
    classes = _classes(values)
    method = values.choice("SELECT.METHOD", tuple(SELECT_KEYS), "all")
    values.known(*shared, *(f"SELECT.{name}" for name in ("METHOD", *SELECT_KEYS[method])))
    thresholds = _per_class(values, "SELECT.THRESHOLDS", classes)
    if method == "thresholds" and thresholds is None:
        raise values.fault("SELECT.METHOD", "thresholds, but there are no SELECT.THRESHOLDS")
    by_name = method == "calibrated" and isinstance(values.get("SELECT.PRIOR"), str)
    prior = None if by_name else _per_class(values, "SELECT.PRIOR", classes)
    if prior is not None and min(prior) <= 0:
        raise values.fault("SELECT.PRIOR", "expected numbers above 0")
    return LabelRecipe(
        classes,
        _label_use(values),
        _ensemble(values, classes),
        method,
        thresholds,
        _fractions(values),
        prior,
        read_calibration(values, prior) if method == "calibrated" else None,
    )


def _fractions(values: Values) -> list[float]:
    given = values.get("SELECT.FRACTION", 1.0)
    fractions = given if isinstance(given, list) else [given]
    if not fractions or not all(type(one) in (int, float) and 0 < one <= 1 for one in fractions):
        raise values.fault(
            "SELECT.FRACTION",
            f"{given!r}, expected a number above 0 and up to 1, or one for each round",
        )
    return [float(one) for one in fractions]


def read_vote_recipe(path: str | Path) -> VoteRecipe:
    """Read how modes are made and vote.

    Raises:
        ConfigError: naming file, line and key.
    """
    values = open_values(path)
    values.known(
        "CLASSES",
        "LABELS",
        "MODELS",
        "ENSEMBLE",
        "MODES",
        "VOTE.MODES",
        "VOTE.TIE",
        "OUTPUT.SOFTMAX",
    )
    classes = _classes(values)
    numbers = list(dict.fromkeys(name.split(".")[0] for name in values.mapping("MODES")))
    if not numbers or not all(number.isdecimal() for number in numbers):
        raise values.fault(
            "MODES", f"{', '.join(numbers) or 'none'}: expected modes by their quoted numbers"
        )
    modes = {int(number): _mode(values.moded(number), classes) for number in numbers}
    voters = values.get("VOTE.MODES", list(modes))
    if (
        not isinstance(voters, list)
        or not voters
        or not all(type(one) is int and one in modes for one in voters)
    ):
        raise values.fault("VOTE.MODES", f"{voters!r}, expected some of {list(modes)}")
    return VoteRecipe(
        classes,
        _label_use(values),
        modes,
        voters,
        values.choice("VOTE.TIE", TIES, TIES[0]),
        values.flag("OUTPUT.SOFTMAX", False),
    )


def _mode(values: Values, classes: list[str]) -> Mode:
    values.known("MODELS", *ENSEMBLE_KEYS, "ENSEMBLE.RULES")
    try:
        switches = parse_switches(values.get("ENSEMBLE.RULES", []), classes)
    except UserError as error:
        raise values.fault("ENSEMBLE.RULES", str(error)) from None
    return Mode(_ensemble(values, classes), switches)


def _ensemble(values: Values, classes: list[str]) -> EnsembleSpec:
    folders = values.mapping("MODELS")
    if not folders or not all(isinstance(folder, str) and folder for folder in folders.values()):
        raise values.fault("MODELS", "expected model: folder of its experiment")
    if any("." in name for name in folders):
        raise values.fault("MODELS", "a model's name must not hold a dot")
    models, normalize = list(folders), values.flag("ENSEMBLE.NORMALIZE", True)
    weights = values.get("ENSEMBLE.WEIGHTS", "equal")
    led = _led(values, models, classes, normalize)
    leader = values.get("ENSEMBLE.LEADER")
    if (leader is not None or led) and leader not in models:
        raise values.fault("ENSEMBLE.LEADER", f"{leader!r}, expected one of {', '.join(models)}")
    if leader is not None and not led:
        raise values.fault("ENSEMBLE.LEADER", f"{leader} leads nothing: there is no ENSEMBLE.LED")
    return EnsembleSpec(
        folders,
        _scores(values, models),
        _pairs(values, models),
        None
        if weights == "equal"
        else _weights(values, "ENSEMBLE.WEIGHTS", weights, models, normalize),
        models.index(leader) if leader is not None else 0,
        led,
        normalize,
        _overrule(values, models, classes),
    )


def _weights(
    values: Values, key: str, given: Any, models: list[str], normalize: bool
) -> tuple[float, ...]:
    if not isinstance(given, dict) or not all(
        type(weight) in (int, float) for weight in given.values()
    ):
        raise values.fault(
            key, f"{given!r}, expected model: number for some of {', '.join(models)}, or equal"
        )
    unknown = [name for name in given if name not in models]
    if unknown:
        raise values.fault(key, f"{unknown[0]!r} is not one of MODELS ({', '.join(models)})")
    weights = tuple(float(given.get(name, 0.0)) for name in models)
    try:
        check_weights(weights, len(models), normalize)
    except UserError as error:
        raise values.fault(key, str(error)) from None
    return weights


def _led(
    values: Values, models: list[str], classes: list[str], normalize: bool
) -> dict[int, tuple[float, ...]]:
    led: dict[int, tuple[float, ...]] = {}
    for key in values.mapping("ENSEMBLE.LED"):
        name = key.rpartition(".")[0] or key
        whole = f"ENSEMBLE.LED.{name}"
        led[_class(values, whole, name, classes)] = _weights(
            values, whole, values.get(whole), models, normalize
        )
    return led


def _overrule(values: Values, models: list[str], classes: list[str]) -> dict[int, int]:
    overrule = {}
    for name, model in values.mapping("ENSEMBLE.OVERRULE").items():
        if model not in models:
            raise values.fault(
                "ENSEMBLE.OVERRULE", f"{model!r} is not one of MODELS ({', '.join(models)})"
            )
        overrule[_class(values, "ENSEMBLE.OVERRULE", name, classes)] = models.index(model)
    return overrule


def _class(values: Values, key: str, name: str, classes: list[str]) -> int:
    try:
        return class_id(name, classes)
    except UserError as error:
        raise values.fault(key, f"{error} (CLASSES)") from None


def _per_model(values: Values, key: str, models: list[str], default: Any) -> list[Any]:
    """One value for all models, or one for each."""
    given = values.get(key, default)
    if not isinstance(given, dict):
        return [given] * len(models)
    if set(given) != set(models):
        raise values.fault(
            key, f"{given!r}, expected one value, or one for each of {', '.join(models)}"
        )
    return [given[name] for name in models]


def _scores(values: Values, models: list[str]) -> tuple[str, ...]:
    scores = _per_model(values, "ENSEMBLE.SCORES", models, SCORES[0])
    for kind in scores:
        if kind not in SCORES:
            raise values.fault("ENSEMBLE.SCORES", f"{kind!r}, expected one of {', '.join(SCORES)}")
    return tuple(scores)


def _pairs(values: Values, models: list[str]) -> tuple[tuple[int, int], ...]:
    pairs = _per_model(values, "ENSEMBLE.VIEWS", models, [1, 1])
    for pair in pairs:
        if not is_views(pair):
            raise values.fault(
                "ENSEMBLE.VIEWS", f"{pair!r}, expected [views, crops] with 1 crop or 3"
            )
    return tuple((pair[0], pair[1]) for pair in pairs)


def read_thresholds(path: str | Path) -> Thresholds:
    """Read a file of thresholds.

    Raises:
        ConfigError: naming file, line and key.
    """
    values = open_values(path)
    values.known("CLASSES", "LABELS", "THRESHOLDS")
    classes = _classes(values)
    thresholds = _per_class(values, "THRESHOLDS", classes)
    if thresholds is None:
        raise values.fault("THRESHOLDS", "none are given")
    return Thresholds(classes, _label_use(values), thresholds)


def write_thresholds(path: Path, thresholds: Thresholds, note: str) -> None:
    """Write a file that `read_thresholds` takes, atomically, with a comment on its first line."""
    content = {
        "LABELS": thresholds.labels,
        "CLASSES": thresholds.classes,
        "THRESHOLDS": dict(zip(thresholds.classes, thresholds.thresholds, strict=True)),
    }
    with atomic_write(path, "w") as file:
        file.write(f"# {note}\n{yaml.safe_dump(content, sort_keys=False, allow_unicode=True)}")
