"""Ensembles: predictions of several models, joined by video name and mixed with class weights."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from nightcrawler.pseudo.predictions import STATUS_OK, Predictions, softmax
from nightcrawler.utils.errors import NO_PERSON, UserError

# Probabilities of a model for a video: `probs` is the mean of its clips' probabilities, `softmax`
# the softmax of the mean logits. The others are the published ways, whose temperature depends on
# the number of clips: `softmax_sum` of the summed logits, `softmax_sum_probs` of the summed
# probabilities (the published MViT gave probabilities for logits).
SCORES = ("probs", "softmax", "softmax_sum", "softmax_sum_probs")
SHOWN_ROWS = 5
# Longest names that are hashed in arrays, where each takes the room of the longest.
MAX_HASHED = 64
# An odd number whose bits look random.
HASH_FACTOR = np.uint64(0x9E3779B97F4A7C15)
SUM_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Joined:
    """Probabilities of M models for the same N videos, in the order of the first model's file.

    Attributes:
        names: names of the N videos.
        labels: int64 `[N]`, -1 where no file has one.
        ok: bool `[N]`, videos that every model with an opinion has a prediction of.
        why: status of each video, `ok` or the first reason for a missing prediction.
        probs: M arrays float64 `[N, K]`, with 1/K in rows that are not ok.
        class_names: names of the K classes, numbers where no file names them.
        opinions: M arrays bool `[N]`, false where a model of people saw nobody.
    """

    names: list[str]
    labels: np.ndarray
    ok: np.ndarray
    why: list[str]
    probs: list[np.ndarray]
    class_names: list[str]
    opinions: list[np.ndarray]


@dataclass(frozen=True)
class Mixture:
    """Weights of M models.

    Attributes:
        weights: float64 `[K, M]`: row c weighs the models where the leader predicts class c.
        leader: index of the leading model.
        normalize: divide each mixed row by its sum.
        overrule: class to model: rows whose mixed class is that class take this model's
            probabilities instead.
    """

    weights: np.ndarray
    leader: int = 0
    normalize: bool = True
    overrule: dict[int, int] = field(default_factory=dict)


def probabilities(predictions: Predictions, scores: str = "probs") -> np.ndarray:
    """Return a model's probabilities, float64 `[N, K]`, with 1/K for missing ones.

    Args:
        predictions: of one model.
        scores: one of `SCORES`.

    Raises:
        UserError: if a row is not finite or, for `probs`, is no distribution (rows are counted
            from 1).
    """
    logits = predictions.logits
    clips = predictions.num_clips.astype(np.float64)[:, None]
    if scores == "probs":
        found = predictions.probs.astype(np.float64)
    elif scores == "softmax":
        found = softmax(logits.astype(np.float64))
    elif scores == "softmax_sum":
        found = softmax(clips * logits.astype(np.float64))
    else:
        assert scores == "softmax_sum_probs", scores
        # A file in the old form holds the model's outputs summed over an unknown number of clips.
        if _is_old(predictions):
            summed = logits.astype(np.float64)
        else:
            summed = clips * predictions.probs.astype(np.float64)
        found = softmax(summed)
    found[~predictions.ok] = 1 / found.shape[1]
    with np.errstate(invalid="ignore"):  # A sum that is not finite is not 1 either.
        unsound = ~(np.abs(found.sum(axis=1) - 1) <= SUM_TOLERANCE)
    if found.size and not found.min() >= 0:
        unsound |= (found < 0).any(axis=1)
    if unsound.any():
        raise UserError(
            f"{_rows(predictions.names, np.flatnonzero(unsound))}: not probabilities that sum to 1"
        )
    return found


def _is_old(predictions: Predictions) -> bool:
    """Return whether the predictions come from a file in the old form, which has sums."""
    return str(predictions.meta.get("form", "")).startswith("old")


def row_order(
    names: Sequence[str],
    of: Sequence[str],
    source: str,
    of_source: str,
) -> np.ndarray | None:
    """Return the rows of `names` in the order of `of`, int64 `[N]`, or `None` if equal.

    Args:
        names: names in the file `source`.
        of: wanted names, those of the file `of_source`.
        source: a file, for errors.
        of_source: the file with the wanted names, for errors.

    Raises:
        UserError: if a wanted name is missing or another one is present, with the first rows,
            counted from 1.
    """
    if list(names) == list(of):
        return None
    # The usual case, the same videos in another order.
    shuffled = _order_of_same(names, of)
    if shuffled is not None:
        return shuffled
    index = dict(zip(names, range(len(names)), strict=True))
    order = np.fromiter(map(index.get, of, itertools.repeat(-1)), np.int64, len(of))
    missing = np.flatnonzero(order < 0)
    if len(missing):
        raise UserError(
            f"{source}: {len(missing)} videos of {of_source} are missing: {_rows(of, missing)} "
            "of that file"
        )
    if len(names) == len(of):
        return order
    if len(index) != len(names):
        repeated = [row for row, name in enumerate(names) if index[name] != row]
        raise UserError(f"{source}: {len(repeated)} repeated videos: {_rows(names, repeated)}")
    wanted = set(of)
    extra = [row for row, name in enumerate(names) if name not in wanted]
    raise UserError(
        f"{source}: {len(extra)} videos that {of_source} does not have: {_rows(names, extra)}"
    )


def _order_of_same(names: Sequence[str], of: Sequence[str]) -> np.ndarray | None:
    """Return the rows of `names` in the order of `of`, `None` where they may differ.

    Sorts by hashes: a dictionary of a million names waits for memory at each of them.
    """
    longest = max(map(len, of), default=0)
    if len(names) != len(of) or not 0 < longest <= MAX_HASHED or max(map(len, names)) != longest:
        return None
    found = np.array(names, f"U{longest}")
    wanted = np.array(of, f"U{longest}")
    order = np.empty(len(of), np.int64)
    order[np.argsort(_hashes(wanted))] = np.argsort(_hashes(found))
    # Names of one hash may have changed places.
    return order if (found[order] == wanted).all() else None


def _hashes(names: np.ndarray) -> np.ndarray:
    """Return a hash of each of N texts of one width, uint64 `[N]`."""
    hashes = np.zeros(len(names), np.uint64)
    for column in names.view(np.uint32).reshape(len(names), -1).T:
        hashes = hashes * HASH_FACTOR + column
    return hashes


def _rows(names: Sequence[str], rows: Sequence[int] | np.ndarray) -> str:
    """Return the first rows with their names, for a message."""
    shown = ", ".join(f"row {row + 1} '{names[row]}'" for row in rows[:SHOWN_ROWS])
    if len(rows) > SHOWN_ROWS:
        return f"{shown} and {len(rows) - SHOWN_ROWS} more"
    return shown


def join(models: Sequence[Predictions], sources: Sequence[str], scores: Sequence[str]) -> Joined:
    """Join models by their videos' names.

    Args:
        models: M predictions of the same videos, in any order of rows.
        sources: their files, for errors.
        scores: one of `SCORES` for each.

    Raises:
        UserError: if a video is missing in one file or only in one, or if classes, their order or
            known labels differ.
    """
    first = models[0]
    labels = first.labels.copy()
    why = [STATUS_OK] * len(first.names)
    failed = np.zeros(len(first.names), bool)
    opinions = []
    probs = []
    class_names = _class_names(models, sources)
    for model, source, kind in zip(models, sources, scores, strict=True):
        order = row_order(model.names, first.names, source, sources[0])
        try:
            found = probabilities(model, kind)
        except UserError as error:
            raise UserError(f"{source}: {error}") from None
        if order is None:
            # Slices instead of indices: no copy of files that are in order already.
            rows: slice | np.ndarray = slice(None)
        else:
            rows = order
            found = found[order]
        probs.append(found)
        _merge_labels(labels, model.labels[rows], first.names, source, sources[0])
        status = np.array(model.status)[rows]
        opinions.append(status != NO_PERSON)
        failed_here = ~model.ok[rows] & opinions[-1]
        # The first model that failed gives the reason.
        for row in np.flatnonzero(failed_here & ~failed):
            why[row] = str(status[row])
        failed |= failed_here
    # Who saw nobody has no say. A video in which nobody saw anybody has no prediction.
    unseen = ~np.any(opinions, axis=0)
    for row in np.flatnonzero(unseen):
        why[row] = NO_PERSON
    return Joined(first.names, labels, ~(failed | unseen), why, probs, class_names, opinions)


def _class_names(models: Sequence[Predictions], sources: Sequence[str]) -> list[str]:
    """Return the list of classes that all files agree on.

    Raises:
        UserError: naming the file that has other classes.
    """
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
        names = list(map(str, given)) if isinstance(given, (list, tuple)) else []
        if len(names) not in (0, num_classes):
            raise UserError(f"{source}: {len(names)} class names for {num_classes} classes")
        # Equal names in another order would swap classes without any other sign.
        if names and known and names != known:
            place = next(i for i in range(num_classes) if names[i] != known[i])
            raise UserError(
                f"{source}: class {place} is '{names[place]}', but '{known[place]}' in {known_in}"
            )
        if names and not known:
            known = names
            known_in = source
    return known or list(map(str, range(num_classes)))


def _merge_labels(
    labels: np.ndarray, found: np.ndarray, names: Sequence[str], source: str, first: str
) -> None:
    """Fill unknown labels `[N]` in place, and refuse known ones that differ."""
    other = np.flatnonzero((labels >= 0) & (found >= 0) & (labels != found))
    if len(other):
        raise UserError(
            f"{source}: {len(other)} labels differ from {first}: {_rows(names, other)} of that file"
        )
    np.copyto(labels, found, where=labels < 0)


def mix(
    probs: Sequence[np.ndarray],
    mixture: Mixture,
    opinions: Sequence[np.ndarray] | None = None,
) -> np.ndarray:
    """Return the weighted sum of M models' probabilities, float64 `[N, K]`.

    Args:
        probs: M arrays `[N, K]`.
        mixture: their weights.
        opinions: see `Joined`. Without them every model has one of every video.
    """
    # `[N, M]`: each row has the weights of the class that the leader predicts for it.
    weights = mixture.weights[probs[mixture.leader].argmax(axis=1)]
    if opinions is not None and not np.all(opinions):
        weights = _heard(weights, mixture, np.stack(opinions, axis=1))
    mixed = np.zeros_like(probs[0], np.float64)
    for model, own in enumerate(probs):
        mixed += weights[:, model, None] * own
    if mixture.normalize:
        # Where nobody has an opinion, the row stays 0.
        mixed /= np.maximum(mixed.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    if mixture.overrule:
        # Classes before any row is overruled: the order of the entries must not matter.
        classes = mixed.argmax(axis=1)
        for label, model in mixture.overrule.items():
            rows = classes == label
            if opinions is not None:
                rows &= opinions[model]
            mixed[rows] = probs[model][rows]
    return mixed


def _heard(weights: np.ndarray, mixture: Mixture, opinions: np.ndarray) -> np.ndarray:
    """Return weights `[N, M]` without the models that have no opinion, rows with their old sums.

    Args:
        weights: `[N, M]`.
        mixture: the weights that they are of.
        opinions: bool `[N, M]`.
    """
    # A leader without an opinion predicts no class: then the weights of all classes count.
    led = opinions[:, mixture.leader, None]
    weights = np.where(led, weights, mixture.weights.mean(axis=0))
    heard = weights * opinions
    # Models that are left may weigh nothing in this class: then they are equals.
    heard = np.where(heard.any(axis=1, keepdims=True), heard, opinions)
    sums = np.maximum(heard.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    return np.asarray(heard / sums * weights.sum(axis=1, keepdims=True))


def without_prediction(joined: Joined) -> str:
    """Count the videos without a prediction and name the first, on one line (empty for none)."""
    rows = np.flatnonzero(~joined.ok)
    if not len(rows):
        return ""
    reason = joined.why[rows[0]]
    assert reason != STATUS_OK
    return (
        f"{len(rows)} of {len(joined.names)} videos have no prediction: "
        f"{_rows(joined.names, rows)} ({reason})"
    )
