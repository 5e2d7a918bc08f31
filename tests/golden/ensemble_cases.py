"""Cases of the chain: pseudo-labels of the published rounds, the published final modes and their vote."""

from __future__ import annotations

import pickle
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nightcrawler.pseudo.ensemble import Mixture, mix
from nightcrawler.pseudo.ensemble_recipe import EnsembleSpec
from nightcrawler.pseudo.label_recipe import read_label_recipe
from nightcrawler.pseudo.labels import Selection, choose
from nightcrawler.pseudo.results_metadata import load_joined
from nightcrawler.pseudo.submission import Submission
from nightcrawler.pseudo.vote import mode_submission, vote
from nightcrawler.pseudo.vote_recipe import read_vote_recipe
from tests.golden.case import Check, Kind, absolute, exact
from tests.golden.fields import Refusal
from tests.golden.fill import scramble
from tests.paths import ROOT

# Probabilities are float64 here and sums of float32 there: a few units in the last place of numbers below 1.
FLOAT32 = 2.0**-22
LABELS_FOLDER = ROOT / "configs/pseudo/ug2_2022"
VOTE_RECIPE = ROOT / "configs/vote/ug2_2022.yaml"
# `ssv2,k600 from 1x3-view tables (variant 0, factor 1)`
SOURCES = re.compile(
    r"(?P<models>[\w,]+|all \w+) from (?P<views>\d+)x(?P<crops>\d+)(?:-view)? tables?"
    r" \(variant (?P<variant>\d+), factor (?P<factor>\d+(?:\.\d+)?)\)"
)
VOTE_FIELD = re.compile(r"vote_modes_(\d+(?:_and_\d+)*)")


@dataclass(frozen=True)
class Source:
    """Where the table of a model comes from: its views and crops, and the numbers of its formula."""

    pair: tuple[int, int]
    variant: int
    factor: float


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


def _names(case: Mapping[str, Any]) -> list[str]:
    return [f"{row}.mp4" for row in range(case["table"]["rows"])]


def _check_table(case: Mapping[str, Any], classes: list[str]) -> None:
    """Refuse tables that the recipe's classes are not those of."""
    if case["table"]["classes"] != len(classes):
        told = case["table"]["classes"]
        raise Refusal(f"table.classes is {told}, expected {len(classes)}, those of the recipe")


def _joined(
    case: Mapping[str, Any],
    ensemble: EnsembleSpec,
    classes: list[str],
    sources: Mapping[str, Source],
) -> Any:
    """Models' tables as results files in the old two-key form, read back and joined."""
    rows, numbers, paths = case["table"]["rows"], dict(case["table"]["model_index"]), []
    with tempfile.TemporaryDirectory() as folder:
        for name in ensemble.folders:
            source = sources[name]
            table = logits_table(rows, len(classes), numbers[name], source.variant, source.factor)
            paths.append(Path(folder, f"{name}.pkl"))
            paths[-1].write_bytes(
                pickle.dumps({"video_preds": table, "video_labels": np.full(rows, -1)})
            )
        return load_joined(paths, ensemble, classes, _names(case))[0]


def _sources(case: Mapping[str, Any], mode: int) -> dict[str, Source]:
    """What a mode's models read, as the case tells under `files`.

    Raises:
        Refusal: if it does not tell, in words that are known.
    """
    for modes, text in case["files"].items():
        if str(mode) not in re.findall(r"\d+", modes):
            continue
        found = list(SOURCES.finditer(text))
        if not found or re.sub(r"[\s,]+", "", SOURCES.sub("", text)):
            raise Refusal(f"files, {modes!r}: {text!r} is not understood")
        sources = {}
        for match in found:
            pair = (int(match["views"]), int(match["crops"]))
            source = Source(pair, int(match["variant"]), float(match["factor"]))
            told = match["models"].strip(",")
            names = case["table"]["model_index"] if told.startswith("all ") else told.split(",")
            sources |= dict.fromkeys(names, source)
        return sources
    raise Refusal(f"files: nothing about mode {mode}")


def _run_pseudo(case: Mapping[str, Any]) -> Iterator[Check]:
    classes = range(case["table"]["classes"])
    yield exact("columns", case["columns"], ["row", "label", *(f"p{i}" for i in classes)])
    for number, expected in case["stages"].items():
        recipe = read_label_recipe(LABELS_FOLDER / f"stage{number}.yaml")
        _check_table(case, recipe.classes)
        if expected["thresholds"] is not None:
            yield exact(
                f"stage {number} thresholds",
                recipe.thresholds,
                list(expected["thresholds"].values()),
            )
        source = Source((1, 1), case["variant"], case.get("factor", 1.0))
        sources = dict.fromkeys(recipe.ensemble.folders, source)
        joined = _joined(case, recipe.ensemble, recipe.classes, sources)
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
        probs = np.asarray([row[2:] for row in rows], np.float64).reshape(pseudo.probs.shape)
        yield absolute(f"stage {number} probabilities", pseudo.probs, probs, FLOAT32)


def _run_vote(case: Mapping[str, Any]) -> Iterator[Check]:
    recipe = read_vote_recipe(VOTE_RECIPE)
    _check_table(case, recipe.classes)
    yield from _check_weights(case, recipe.modes)
    submissions = {}
    for number, expected in case["modes"].items():
        mode, sources = recipe.mode(int(number)), _sources(case, int(number))
        told = [sources[name].pair for name in mode.ensemble.folders]
        yield exact(f"mode {number} views and crops", list(mode.ensemble.pairs), told)
        joined = _joined(case, mode.ensemble, recipe.classes, sources)
        submissions[int(number)] = mode_submission(joined, mode, recipe.softmax_again)
        mixed = mix(joined.probs, mode.ensemble.mixture(len(recipe.classes)))
        yield from _check_mode(f"mode {number}", mixed, submissions[int(number)], expected)
        if number == "0" and "four_model_equal_weight" in case:
            yield from _check_equal(case["four_model_equal_weight"], joined.probs[:4])
    for name in case:
        match = VOTE_FIELD.fullmatch(name)
        if match:
            numbers = [int(number) for number in re.findall(r"\d+", match[1])]
            voters = [submissions[number] for number in numbers]
            voted = vote(voters, [f"mode {number}" for number in numbers], recipe.tie)
            yield exact(name, voted.labels.tolist(), case[name])


def _check_mode(
    name: str, mixed: np.ndarray, found: Submission, expected: Mapping[str, Any]
) -> Iterator[Check]:
    """One mode: mixed probabilities `[N, K]`, its classes after the switches, what it writes."""
    yield absolute(f"{name} probabilities", mixed, expected["ensemble_prob"], FLOAT32)
    before = mixed.argmax(axis=1)
    yield exact(f"{name} before switches", before.tolist(), expected["ensemble_argmax"])
    yield exact(f"{name} classes", found.labels.tolist(), expected["final_pred"])
    changed = int((found.labels != before).sum())
    yield exact(f"{name} switched", changed, expected["num_changed_by_rules"])
    first = expected["output_prob_float32_first5rows"]
    yield absolute(f"{name} written", found.probs[: len(first)], first, FLOAT32)


def _check_weights(case: Mapping[str, Any], modes: Mapping[int, Any]) -> Iterator[Check]:
    """The recipe's weights are those that the case tells."""
    told = next(table for key, table in case["mode_rules"].items() if key.startswith("weights"))
    for numbers, weights in told.items():
        for number in re.findall(r"\d+", numbers):
            ensemble = modes[int(number)].ensemble
            found = dict(zip(ensemble.folders, ensemble.weights, strict=True))
            yield exact(f"mode {number} weights", found, weights)
    for number, table in case["post_rules_table"].items():
        if number == "format":
            continue
        found = [
            [s.source, s.gate, s.at_most, [list(pair) for pair in s.targets]]
            for s in modes[int(number)].switches
        ]
        yield exact(f"mode {number} switches", found, table)


def _check_equal(expected: Mapping[str, Any], probs: list[np.ndarray]) -> Iterator[Check]:
    """Equal weights, but 0.8 and 0.2 of the first two models on Sit and Stand; the last decides on Run and Walk."""
    run, sit, stand, walk = 5, 6, 7, 9
    weights = np.full((probs[0].shape[1], len(probs)), 0.25)
    weights[[sit, stand]] = [0.8, 0.2, 0, 0]
    mixed = mix(probs, Mixture(weights, overrule={run: 3, walk: 3}))
    yield exact("equal weights, classes", mixed.argmax(axis=1).tolist(), expected["argmax"])
    first = expected["prob_rows_0_4"]
    yield absolute("equal weights, probabilities", mixed[: len(first)], first, FLOAT32)


KINDS = [
    Kind("pseudo-labels", lambda case: "stages" in case and "table" in case, _run_pseudo),
    Kind("final vote", lambda case: "modes" in case and "table" in case, _run_vote),
]
