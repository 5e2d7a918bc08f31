"""The probability from which an answer is sure, by clips that look dark and whose class is known.

Tests of a run leave results of `val_dark` beside the checkpoint: labelled bright clips that a model
of the camera darkened. No label of a dark clip is needed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nightcrawler.models.formats import WeightsFile
from nightcrawler.predict.checkpoints import DEMO_PREFIX
from nightcrawler.predict.trust import NEVER, Judge
from nightcrawler.pseudo.ensemble import Joined, join, mix
from nightcrawler.pseudo.ensemble_recipe import EnsembleSpec
from nightcrawler.pseudo.predictions import Predictions, read_results
from nightcrawler.pseudo.results_metadata import pair_of_results, results_file
from nightcrawler.pseudo.threshold_search import search
from nightcrawler.pseudo.thresholds import most_probable
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.logging import get_logger

logger = get_logger(__name__)

SPLIT = "val_dark"
# Share of the sure answers that must be right on the known clips: its lower bound at this
# confidence, from at least so many clips.
PRECISION = 0.9
CONFIDENCE = 0.8
SUPPORT = 20
# Key of a judge for any number of views and crops.
ANY_PAIR = "any"


def known_results(
    checkpoint: Path, sha256: str, pair: tuple[int, int], class_names: Sequence[str]
) -> Predictions | None:
    """Read the results of `val_dark` that belong to a checkpoint.

    Args:
        checkpoint: file in the folder of an experiment.
        sha256: of the checkpoint.
        pair: views and crops.
        class_names: names of the K classes.

    Returns:
        The results, None where there are none of these weights, views and classes.
    """
    try:
        results = read_results(results_file(checkpoint.parent, SPLIT, pair))
    except UserError:
        return None
    meta = results.meta
    if meta.get("checkpoint_sha256") != sha256 or meta.get("class_names") != list(class_names):
        return None
    return results


def build_judge(
    results: Sequence[Predictions | None], names: Sequence[str], mixture: EnsembleSpec, dark: bool
) -> Judge:
    """Build the judge of a model or an ensemble.

    Args:
        results: of `known_results`, for each model.
        names: names of the models.
        mixture: their mixture.
        dark: videos are enhanced as dark ones. The known clips say nothing about others.

    Returns:
        A judge with the threshold of the known clips, or one that asks for a lead over the second
        class, where a model has no such results.
    """
    found = [one for one in results if one is not None]
    if not dark or len(found) < len(results):
        return Judge(dark=dark)
    try:
        joined = join(found, names, mixture.scores)
        table = mixture.mixture(joined.probs[0].shape[1])
        return threshold_judge(joined, mix(joined.probs, table, joined.opinions))
    except UserError as error:
        logger.warning("%s: %s; answers are sure by their lead", SPLIT, error)
        return Judge(dark=dark)


def threshold_judge(joined: Joined, probs: np.ndarray) -> Judge:
    """Return the judge of the lowest threshold that reaches `PRECISION` on the known clips.

    Args:
        joined: the clips.
        probs: mixed probabilities `[N, K]`.

    Raises:
        UserError: if no clip has a prediction and a label.
    """
    known = joined.ok & (joined.labels >= 0)
    if not known.any():
        raise UserError(f"none of the {len(joined.names)} clips has a prediction and a label")
    classes, confidences = most_probable(probs[known])
    # One threshold for all classes: 0 stands for a right answer, 1 for a wrong one.
    wrong = (classes != joined.labels[known]).astype(np.int64)
    together = np.zeros_like(wrong)
    found = search(together, confidences, wrong, 1, "precision", PRECISION, SUPPORT, CONFIDENCE)
    if not found.reached[0]:
        basis = f"never: no probability makes {PRECISION:.0%} of the clips of {SPLIT} right"
        return Judge(threshold=math.inf, basis=basis)
    evidence = found.evidence[0]
    basis = f"{evidence.right} of the {evidence.clips} clips of {SPLIT} that reach it are right"
    return Judge(threshold=float(found.thresholds[0]), basis=basis)


def judge_alone(known: Predictions | None, name: str, pair: tuple[int, int], dark: bool) -> Judge:
    """Build the judge of one model, see `build_judge`.

    Args:
        known: of `known_results`.
        name: of the model.
        pair: views and crops.
        dark: videos are enhanced as dark ones.
    """
    return build_judge([known], [name], EnsembleSpec({name: ""}, ("probs",), (pair,)), dark)


def judges_to_carry(name: str, file: WeightsFile, class_names: Sequence[str]) -> str:
    """Return the judges of a checkpoint as a text for the metadata of exported files.

    Args:
        name: by which the checkpoint was asked for.
        file: the checkpoint.
        class_names: names of the K classes.

    Returns:
        JSON: `VIEWSxCROPS` to the least probability of a sure answer (null for none) and its
        basis, for each pair that was tested on `val_dark`; or `any` for all pairs.
    """
    if name.startswith(DEMO_PREFIX):
        return json.dumps({ANY_PAIR: NEVER.about()})
    found = {}
    for path in sorted(file.path.parent.glob(f"{SPLIT}x*")):
        pair = pair_of_results(path)
        known = pair and known_results(file.path, file.sha256, pair, class_names)
        if pair and known:
            judge = judge_alone(known, path.stem, pair, dark=True)
            if judge.threshold is not None:
                found[_pair_key(pair)] = judge.about()
    # An exported file that is exported again has no results beside it.
    return json.dumps(found) if found else file.judges


def read_judge(path: Path, text: str, pair: tuple[int, int], dark: bool) -> Judge:
    """Return the judge that an exported file carries, or one that asks for a lead.

    Args:
        path: the file, for errors.
        text: of `judges_to_carry`, empty in files of earlier versions.
        pair: views and crops.
        dark: videos are enhanced as dark ones. The known clips say nothing about others.

    Raises:
        UserError: if the text is none of `judges_to_carry`.
    """
    if not text:
        return Judge(dark=dark)
    try:
        judges = json.loads(text)
        told = judges.get(ANY_PAIR)
        if told is None and dark:
            told = judges.get(_pair_key(pair))
        if told is None:
            return Judge(dark=dark)
        least = told["sure_from"]
        threshold = math.inf if least is None else float(least)
        return Judge(threshold, str(told["basis"]), dark)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        # Anyone may have written the metadata.
        raise UserError(
            f"{path}: judges {text[:80]!r}: expected what `nightcrawler export` writes: export the "
            "model again"
        ) from None


def _pair_key(pair: tuple[int, int]) -> str:
    return f"{pair[0]}x{pair[1]}"
