"""Ensembles: predictions of several models, joined by the videos' names and mixed with weights per class."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from nightcrawler.pseudo.predictions import STATUS_OK, Predictions
from nightcrawler.utils.errors import UserError

# What a model says of a video: `probs`, the mean of its clips' probabilities; `softmax`, of the mean logits. The
# others are the published ways, whose temperature depends on the number of clips: `softmax_sum`, of the summed
# logits; `softmax_sum_probs`, of the summed probabilities (the published MViT gave probabilities for logits).
SCORES = ("probs", "softmax", "softmax_sum", "softmax_sum_probs")
SHOWN_ROWS = 5
SUM_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Joined:
    """M models' probabilities of the same N videos, in the order of the first model's file.

    Attributes:
        names: the N videos.
        labels: int64 `[N]`, -1 where no file knows.
        ok: bool `[N]`, videos that every model has a prediction of.
        why: status of each video, `ok` or the first reason why there is no prediction.
        probs: M arrays float64 `[N, K]`; rows that are not ok hold 1/K.
        class_names: the K names, numbers where no file names them.
    """

    names: list[str]
    labels: np.ndarray
    ok: np.ndarray
    why: list[str]
    probs: list[np.ndarray]
    class_names: list[str]


@dataclass(frozen=True)
class Mixture:
    """How M models are mixed.

    Attributes:
        weights: float64 `[K, M]`: row c weighs the models where the leader's most probable class is c.
        leader: index of the leading model.
        normalize: divide each mixed row by its sum.
        overrule: class to model: rows whose mixed class is that class take this model's probabilities instead.
    """

    weights: np.ndarray
    leader: int = 0
    normalize: bool = True
    overrule: dict[int, int] = field(default_factory=dict)


def softmax(scores: np.ndarray) -> np.ndarray:
    """float64 softmax over the last axis."""
    shifted = np.exp(scores - scores.max(axis=-1, keepdims=True), dtype=np.float64)
    return shifted / shifted.sum(axis=-1, keepdims=True)


def probabilities(predictions: Predictions, scores: str = "probs") -> np.ndarray:
    """float64 `[N, K]` probabilities of one of `SCORES`; 1/K for videos without a prediction.

    Raises:
        UserError: if a row is not finite or, for `probs`, is no distribution; rows are counted from 1.
    """
    clips = predictions.num_clips.astype(np.float64)[:, None]
    # A file in the old form holds the sums over clips, of whatever its model gave, and does not count the clips.
    summed_probs = (
        predictions.logits if _is_old(predictions) else clips * predictions.probs.astype(np.float64)
    )
    found = {
        "probs": lambda: predictions.probs.astype(np.float64),
        "softmax": lambda: softmax(predictions.logits.astype(np.float64)),
        "softmax_sum": lambda: softmax(clips * predictions.logits.astype(np.float64)),
        "softmax_sum_probs": lambda: softmax(summed_probs.astype(np.float64)),
    }[scores]()
    ok = predictions.ok
    found[~ok] = 1 / found.shape[1]
    with np.errstate(invalid="ignore"):  # a sum of what is not finite is not 1 either
        unsound = ~(np.abs(found.sum(axis=1) - 1) <= SUM_TOLERANCE)
    if found.size and not found.min() >= 0:
        unsound |= (found < 0).any(axis=1)
    if unsound.any():
        raise UserError(
            f"{_rows(predictions.names, np.flatnonzero(unsound))}: not probabilities that sum to 1"
        )
    return found


def _is_old(predictions: Predictions) -> bool:
    return str(predictions.meta.get("form", "")).startswith("old")


def row_order(
    names: Sequence[str],
    of: Sequence[str],
    source: str,
    of_source: str,
    rows_of: Mapping[str, int] | None = None,
) -> np.ndarray | None:
    """Rows of `names` in the order of `of`, int64 `[N]`; `None` where they are in order already.

    Args:
        names: names in the file `source`.
        of: the names that are wanted, those of the file `of_source`.
        rows_of: their rows, which several files can share: to look names up is quicker than to index each file's.

    Raises:
        UserError: if a wanted name is missing or another is there, with the first rows, counted from 1.
    """
    if list(names) == list(of):
        return None
    if rows_of is not None and len(names) == len(of):
        places = np.fromiter(map(rows_of.get, names, itertools.repeat(-1)), np.int64, len(names))
        order = np.full(len(of), -1)
        order[places] = np.arange(len(names))
        if places.min() >= 0 and order.min() >= 0:
            return order
    index = dict(zip(names, range(len(names)), strict=True))
    order = np.fromiter(map(index.get, of, itertools.repeat(-1)), np.int64, len(of))
    missing = np.flatnonzero(order < 0)
    if len(missing):
        raise UserError(
            f"{source}: {len(missing)} videos of {of_source} are missing: {_rows(of, missing)} there"
        )
    if len(names) == len(of):
        return order
    if len(index) != len(names):
        twice = [row for row, name in enumerate(names) if index[name] != row]
        raise UserError(f"{source}: {len(twice)} videos are there twice: {_rows(names, twice)}")
    wanted = set(of)
    extra = [row for row, name in enumerate(names) if name not in wanted]
    raise UserError(
        f"{source}: {len(extra)} videos that {of_source} does not have: {_rows(names, extra)}"
    )


def _rows(names: Sequence[str], rows: Sequence[int] | np.ndarray) -> str:
    shown = ", ".join(f"row {row + 1} '{names[row]}'" for row in rows[:SHOWN_ROWS])
    return f"{shown} and {len(rows) - SHOWN_ROWS} more" if len(rows) > SHOWN_ROWS else shown


def join(models: Sequence[Predictions], sources: Sequence[str], scores: Sequence[str]) -> Joined:
    """Join models by their videos' names.

    Args:
        models: M predictions of the same videos, in any order of rows.
        sources: their files, for errors.
        scores: one of `SCORES` for each.

    Raises:
        UserError: if a video is missing in a file or only in it, or classes, their order or known labels differ.
    """
    first = models[0]
    ok, labels, why, probs = first.ok, first.labels.copy(), list(first.status), []
    class_names = _class_names(models, sources)
    rows_of = dict(zip(first.names, range(len(first.names)), strict=True))
    for model, source, kind in zip(models, sources, scores, strict=True):
        order = row_order(model.names, first.names, source, sources[0], rows_of)
        try:
            found = probabilities(model, kind)
        except UserError as error:
            raise UserError(f"{source}: {error}") from None
        probs.append(found if order is None else found[order])
        rows = slice(None) if order is None else order
        _merge_labels(labels, model.labels[rows], first.names, source, sources[0])
        here = model.ok[rows]
        for row in np.flatnonzero(ok & ~here):
            why[row] = model.status[row if order is None else order[row]]
        ok = ok & here
    return Joined(first.names, labels, ok, why, probs, class_names)


def _class_names(models: Sequence[Predictions], sources: Sequence[str]) -> list[str]:
    """The one list of classes that all files agree on."""
    num_classes = models[0].probs.shape[1]
    if not num_classes:
        raise UserError(f"{sources[0]}: predictions of no class")
    known: list[str] = []
    known_in = ""
    for model, source in zip(models, sources, strict=True):
        if model.probs.shape[1] != num_classes:
            raise UserError(
                f"{source}: {model.probs.shape[1]} classes, but {sources[0]} has {num_classes}"
            )
        given = model.meta.get("class_names")
        names = [str(name) for name in given] if isinstance(given, (list, tuple)) else []
        if len(names) not in (0, num_classes):
            raise UserError(f"{source}: {len(names)} class names for {num_classes} classes")
        if names and known and names != known:
            place = next(i for i in range(num_classes) if names[i] != known[i])
            raise UserError(
                f"{source}: class {place} is '{names[place]}', but '{known[place]}' in {known_in}"
            )
        if names and not known:
            known, known_in = names, source
    return known or [str(number) for number in range(num_classes)]


def _merge_labels(
    labels: np.ndarray, found: np.ndarray, names: Sequence[str], source: str, first: str
) -> None:
    """Fill unknown labels `[N]` in place; known ones must agree."""
    other = np.flatnonzero((labels >= 0) & (found >= 0) & (labels != found))
    if len(other):
        raise UserError(
            f"{source}: {len(other)} labels are not those of {first}: {_rows(names, other)} there"
        )
    np.copyto(labels, found, where=labels < 0)


def mix(probs: Sequence[np.ndarray], mixture: Mixture) -> np.ndarray:
    """float64 `[N, K]`: M models' probabilities `[N, K]`, mixed."""
    weights = mixture.weights[probs[mixture.leader].argmax(axis=1)]
    mixed = np.zeros_like(probs[0], np.float64)
    for model, own in enumerate(probs):
        mixed += weights[:, model, None] * own
    if mixture.normalize:
        mixed /= mixed.sum(axis=1, keepdims=True)
    if mixture.overrule:
        classes = mixed.argmax(axis=1)
        for label, model in mixture.overrule.items():
            rows = classes == label
            mixed[rows] = probs[model][rows]
    return mixed


def without_prediction(joined: Joined) -> str:
    """One line that counts the videos without a prediction and names the first; empty where there is none."""
    rows = np.flatnonzero(~joined.ok)
    if not len(rows):
        return ""
    reason = joined.why[rows[0]]
    assert reason != STATUS_OK
    return f"{len(rows)} of {len(joined.names)} videos have no prediction: {_rows(joined.names, rows)} ({reason})"
