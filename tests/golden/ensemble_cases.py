"""Cases of the chain: pseudo-labels of the published rounds, the published final modes and their vote."""

from __future__ import annotations

import pickle
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from nightcrawler.pseudo.ensemble import Mixture, mix
from nightcrawler.pseudo.ensemble_recipe import EnsembleSpec
from nightcrawler.pseudo.label_recipe import read_label_recipe
from nightcrawler.pseudo.labels import Selection, choose
from nightcrawler.pseudo.results_metadata import load_joined
from nightcrawler.pseudo.vote import mode_submission, vote
from nightcrawler.pseudo.vote_recipe import read_vote_recipe
from tests.golden.case import Check, Kind, absolute, exact
from tests.golden.fill import scramble
from tests.paths import ROOT

# Probabilities are float64 here and sums of float32 there: a few units in the last place of numbers below 1.
FLOAT32 = 2.0**-22
LABELS_FOLDER = ROOT / "configs/pseudo/ug2_2022"
VOTE_RECIPE = ROOT / "configs/vote/ug2_2022.yaml"


def logits_table(rows: int, classes: int, model: int, variant: int, factor: float) -> np.ndarray:
    """float32 `[rows, classes]`: what a published results file of a model holds."""
    r, c = np.mgrid[:rows, :classes]
    i = classes * r + c
    true = (7 * r + 3) % classes
    confused = (true + 1 + r % 5) % classes
    strength = 1 + 2.2 * ((13 * r + 5 * variant) % 17) / 16
    table = 1.2 * np.sin(
        0.37 * scramble(i + 5000 * model + 333 * variant) + 0.9 * model + 0.31 * variant
    )
    table += (c == true) * strength
    table += (c == confused) * 0.8 * (((r + model + variant) % 4) / 3) * strength
    return (factor * table).astype(np.float32)


def _names(case: dict[str, Any]) -> list[str]:
    return [f"{row}.mp4" for row in range(case["table"]["rows"])]


def _joined(
    case: dict[str, Any], ensemble: EnsembleSpec, classes: list[str], variant: int, factor: float
) -> Any:
    """Models' tables as results files in the old two-key form, read back and joined."""
    rows, numbers, paths = case["table"]["rows"], case["table"]["model_index"], []
    with tempfile.TemporaryDirectory() as folder:
        for name, (views, _) in zip(ensemble.folders, ensemble.pairs, strict=True):
            table = logits_table(
                rows, len(classes), numbers[name], variant, factor if views > 1 else 1.0
            )
            paths.append(Path(folder, f"{name}.pkl"))
            paths[-1].write_bytes(
                pickle.dumps({"video_preds": table, "video_labels": np.full(rows, -1)})
            )
        return load_joined(paths, ensemble, classes, _names(case))[0]


def _run_pseudo(case: dict[str, Any]) -> Iterator[Check]:
    for number, expected in case["stages"].items():
        recipe = read_label_recipe(LABELS_FOLDER / f"stage{number}.yaml")
        if expected["thresholds"] is not None:
            yield exact(
                f"stage {number} thresholds",
                recipe.thresholds,
                list(expected["thresholds"].values()),
            )
        joined = _joined(case, recipe.ensemble, recipe.classes, case["variant"], 1.0)
        mixed = mix(joined.probs, recipe.ensemble.mixture(len(recipe.classes)))
        pseudo = choose(joined, mixed, Selection(recipe.method, recipe.thresholds))
        rows = expected["rows"]
        yield exact(f"stage {number} number", len(pseudo.rows), expected["num_selected"])
        yield exact(f"stage {number} rows", pseudo.rows.tolist(), [row[0] for row in rows])
        yield exact(f"stage {number} labels", pseudo.labels.tolist(), [row[1] for row in rows])
        counts = {
            str(label): int((pseudo.labels == label).sum())
            for label in sorted(set(pseudo.labels.tolist()))
        }
        yield exact(f"stage {number} counts", counts, expected["label_counts"])
        yield absolute(
            f"stage {number} probabilities", pseudo.probs, [row[2:] for row in rows], FLOAT32
        )


def _run_vote(case: dict[str, Any]) -> Iterator[Check]:
    recipe = read_vote_recipe(VOTE_RECIPE)
    yield from _check_weights(case, recipe.modes)
    submissions = {}
    for number, expected in case["modes"].items():
        mode = recipe.mode(int(number))
        nine = int(number) >= 3
        joined = _joined(
            case, mode.ensemble, recipe.classes, 2 if nine else 0, 1.5 if nine else 1.0
        )
        mixed = mix(joined.probs, mode.ensemble.mixture(len(recipe.classes)))
        found = mode_submission(joined, mode, recipe.softmax_again)
        submissions[int(number)] = found
        yield absolute(f"mode {number} probabilities", mixed, expected["ensemble_prob"], FLOAT32)
        yield exact(
            f"mode {number} before switches",
            mixed.argmax(axis=1).tolist(),
            expected["ensemble_argmax"],
        )
        yield exact(f"mode {number} classes", found.labels.tolist(), expected["final_pred"])
        changed = int((found.labels != mixed.argmax(axis=1)).sum())
        yield exact(f"mode {number} switched", changed, expected["num_changed_by_rules"])
        first = expected["output_prob_float32_first5rows"]
        yield absolute(f"mode {number} written", found.probs[: len(first)], first, FLOAT32)
        if number == "0":
            yield from _check_equal(case["four_model_equal_weight"], joined.probs[:4])
    voters = [submissions[number] for number in recipe.voters]
    voted = vote(voters, [f"mode {number}" for number in recipe.voters], recipe.tie)
    yield exact("voters", recipe.voters, [1, 4])
    yield exact("vote", voted.labels.tolist(), case["vote_modes_1_and_4"])


def _check_weights(case: dict[str, Any], modes: dict[int, Any]) -> Iterator[Check]:
    """The recipe's weights are those that the case tells."""
    told = next(table for key, table in case["mode_rules"].items() if key.startswith("weights"))
    for numbers, weights in told.items():
        for number in re.findall(r"\d+", numbers):
            ensemble = modes[int(number)].ensemble
            found = dict(zip(ensemble.folders, ensemble.weights, strict=True))
            yield exact(f"mode {number} weights", found, weights)
    for number in modes.keys() - {0}:
        table = case["post_rules_table"][str(number)]
        found = [
            [s.source, s.gate, s.at_most, [list(pair) for pair in s.targets]]
            for s in modes[number].switches
        ]
        yield exact(f"mode {number} switches", found, table)


def _check_equal(expected: dict[str, Any], probs: list[np.ndarray]) -> Iterator[Check]:
    """Equal weights, but 0.8 and 0.2 of the first two models on Sit and Stand; the last decides on Run and Walk."""
    run, sit, stand, walk = 5, 6, 7, 9
    weights = np.full((probs[0].shape[1], len(probs)), 0.25)
    weights[[sit, stand]] = [0.8, 0.2, 0, 0]
    mixed = mix(probs, Mixture(weights, overrule={run: 3, walk: 3}))
    yield exact("equal weights, classes", mixed.argmax(axis=1).tolist(), expected["argmax"])
    first = expected["prob_rows_0_4"]
    yield absolute("equal weights, probabilities", mixed[: len(first)], first, FLOAT32)


KINDS = [
    Kind("pseudo-labels", lambda stem, case: "stages" in case and "table" in case, _run_pseudo),
    Kind("final vote", lambda stem, case: "vote_modes_1_and_4" in case, _run_vote),
]
