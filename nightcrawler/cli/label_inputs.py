"""Read and mix the results behind pseudo-labels and thresholds."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from nightcrawler.pseudo.ensemble import Joined, mix, without_prediction
from nightcrawler.pseudo.ensemble_recipe import EnsembleSpec
from nightcrawler.pseudo.label_recipe import LabelRecipe
from nightcrawler.pseudo.labels import read_labels
from nightcrawler.pseudo.results_metadata import load_joined, results_file
from nightcrawler.utils.errors import UserError


def stage_before(stage: int) -> str:
    """Return the folder of the experiments whose results a stage reads.

    Args:
        stage: round, from 1.
    """
    return "exp_adapt_bn" if stage == 1 else f"exp_pseudo_stage{stage - 1}"


def add_inputs(parser: argparse.ArgumentParser, root: Path) -> None:
    """Add the options for the results that are read and their weights.

    Args:
        parser: gets the options.
        root: folder of the project, for default paths.
    """
    parser.add_argument(
        "--predictions",
        nargs="+",
        type=Path,
        metavar="PKL",
        help="results files in the order of MODELS in the recipe "
        "(default: those of its experiments)",
    )
    parser.add_argument(
        "--weights",
        nargs="+",
        type=float,
        metavar="W",
        help="one weight for each model (default: the recipe's)",
    )
    parser.add_argument(
        "--recipe",
        type=Path,
        default=root / "configs/pseudo/default.yaml",
        metavar="YAML",
        help="label recipe (default: %(default)s)",
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=root / "data",
        metavar="FOLDER",
        help="data folder (default: %(default)s)",
    )
    parser.add_argument(
        "--split", default="total_unlabel", help="split of the results (default: %(default)s)"
    )
    parser.add_argument(
        "--list",
        type=Path,
        metavar="CSV",
        help="list file that names the rows of results files in the old form",
    )


def labels_before(stage: int, arguments: argparse.Namespace) -> Path | None:
    """Return the file of the labels of the round before, if there is one.

    Args:
        stage: round, from 1. The first has none before it.
        arguments: the options, see `parse_round`.
    """
    before: Path | None = arguments.before
    # Results and labels that are named one by one may be of any run.
    if before is None and stage > 1 and not (arguments.out or arguments.predictions):
        usual: Path = arguments.data / f"pseudo/stage{stage - 1}.csv"
        before = usual if usual.is_file() else None
    return before


def files_to_read(
    arguments: argparse.Namespace, recipe: LabelRecipe, folder: Path
) -> list[Path | None]:
    """Return the files of `add_inputs` and the results that `load_mixed` reads.

    Args:
        arguments: options of `add_inputs`.
        recipe: its models are mixed.
        folder: holds the recipe's experiments.

    Raises:
        UserError: if results are missing.
    """
    paths = arguments.predictions
    if not paths:
        paths = results_files_of(folder, arguments.split, recipe.ensemble)
    return [arguments.recipe, arguments.list, *paths]


def load_mixed(
    arguments: argparse.Namespace, recipe: LabelRecipe, folder: Path
) -> tuple[Joined, np.ndarray, LabelRecipe, list[dict[str, Any]]]:
    """Read, join and mix the models' results.

    Args:
        arguments: options of `add_inputs`.
        recipe: its models are mixed.
        folder: holds the recipe's experiments.

    Returns:
        The joined predictions, their mixture `[N, K]`, the recipe with the options applied, and
        the metadata of the results files.

    Raises:
        UserError: if results are missing, bad, or do not fit the recipe.
    """
    ensemble = recipe.ensemble
    if arguments.predictions:
        paths = arguments.predictions
        ensemble = _resized(arguments, recipe)
    else:
        paths = results_files_of(folder, arguments.split, ensemble)
    if arguments.weights:
        try:
            ensemble = ensemble.reweighed(arguments.weights)
        except UserError as error:
            raise UserError(f"--weights: {error}") from None
    # Files in the old form have no names: their rows are those of the list that was tested.
    names = list(read_labels(arguments.list)) if arguments.list else None
    # Classes are checked against the recipe's, which names them for weights and thresholds.
    joined, inputs = load_joined(paths, ensemble, recipe.classes, names)
    warning = without_prediction(joined)
    if warning:
        print(f"warning: {warning}; they get no pseudo-label", file=sys.stderr)
    mixed = mix(joined.probs, ensemble.mixture(len(joined.class_names)), joined.opinions)
    return joined, mixed, replace(recipe, ensemble=ensemble), inputs


def results_files_of(folder: Path, split: str, ensemble: EnsembleSpec) -> list[Path]:
    """Return the results file of each model of an ensemble."""
    wanted = zip(ensemble.folders.values(), ensemble.pairs, strict=True)
    return [results_file(folder / name, split, pair) for name, pair in wanted]


def _resized(arguments: argparse.Namespace, recipe: LabelRecipe) -> EnsembleSpec:
    """Return the recipe's ensemble for the number of `--predictions`."""
    try:
        return recipe.ensemble.resized(len(arguments.predictions))
    except UserError as error:
        raise UserError(f"--predictions: {error}; see {arguments.recipe}") from None
