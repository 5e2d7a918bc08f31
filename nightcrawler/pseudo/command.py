"""Command line of the stage scripts: read the models' results, choose and write pseudo-labels."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from nightcrawler.data.splits import get_split
from nightcrawler.pseudo.ensemble import Joined, mix, without_prediction
from nightcrawler.pseudo.ensemble_recipe import EnsembleSpec
from nightcrawler.pseudo.label_recipe import LabelRecipe, read_label_recipe, read_thresholds
from nightcrawler.pseudo.labels import (
    PseudoLabels,
    Selection,
    choose,
    count_classes,
    read_labels,
    write_pseudo_labels,
)
from nightcrawler.pseudo.results_files import (
    ORACLE,
    label_use,
    list_use,
    load_joined,
    results_file,
    results_label_use,
    write_metadata,
)
from nightcrawler.pseudo.thresholds import LABELLED, search_precision
from nightcrawler.utils.cli import make_parser
from nightcrawler.utils.errors import UserError

# Dark clips whose labels an oracle calibrates with.
ORACLE_SPLIT = "arid"
EXAMPLES = """\
  {command}
  {command} --recipe configs/pseudo/ug2_2022/stage{stage}.yaml
  {command} --predictions a.pkl b.pkl --weights 0.6 0.4 \\
      --thresholds data/pseudo/thresholds_stage{stage}.yaml --out data/pseudo/stage{stage}.csv"""


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
        help="results files in the order of MODELS in the recipe",
    )
    parser.add_argument(
        "--weights", nargs="+", type=float, metavar="W", help="one weight for each model"
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
        paths = _results_files(folder, arguments.split, ensemble)
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
    mixed = mix(joined.probs, ensemble.mixture(len(joined.class_names)))
    return joined, mixed, replace(recipe, ensemble=ensemble), inputs


def _results_files(folder: Path, split: str, ensemble: EnsembleSpec) -> list[Path]:
    """Return the results file of each model of an ensemble."""
    wanted = zip(ensemble.folders.values(), ensemble.pairs, strict=True)
    return [results_file(folder / name, split, pair) for name, pair in wanted]


def _resized(arguments: argparse.Namespace, recipe: LabelRecipe) -> EnsembleSpec:
    """Return the recipe's ensemble for the number of `--predictions`."""
    try:
        return recipe.ensemble.resized(len(arguments.predictions))
    except UserError as error:
        raise UserError(f"--predictions: {error}; see {arguments.recipe}") from None


def selection_of(
    given: Sequence[str] | None, recipe: LabelRecipe, stage: int, class_names: Sequence[str]
) -> tuple[Selection, str]:
    """Return the selection of a stage, and its label use (`label-free` or `oracle`).

    Args:
        given: `--thresholds`, which is a YAML file, one number for all classes, or a number for
            each. `None` for the selection of the recipe.
        recipe: the label recipe.
        stage: round from 1, for the fraction.
        class_names: names of the K classes.

    Raises:
        UserError: if thresholds are not numbers 0..1 of these classes.
    """
    if not given:
        # Later rounds than the recipe lists take the fraction of its last.
        fraction = recipe.fractions[min(stage, len(recipe.fractions)) - 1]
        selection = Selection(
            recipe.method, recipe.thresholds, fraction, recipe.prior, recipe.calibration
        )
        return selection, recipe.labels
    # A file has its own label use, numbers on the command line have the recipe's.
    if len(given) == 1 and given[0].endswith((".yaml", ".yml")):
        found = read_thresholds(given[0])
        if found.classes != list(class_names):
            raise UserError(
                f"{given[0]}: classes {', '.join(found.classes)}, expected {', '.join(class_names)}"
            )
        return Selection("thresholds", found.thresholds), found.labels
    try:
        numbers = [float(text) for text in given]
    except ValueError as error:
        raise UserError(f"--thresholds: {error}; expected a .yaml file or numbers") from None
    if len(numbers) not in (1, len(class_names)) or not all(0 <= one <= 1 for one in numbers):
        raise UserError(
            f"--thresholds: {numbers}, expected one number 0..1 or one for each of "
            f"{len(class_names)} classes"
        )
    return Selection("thresholds", numbers * (len(class_names) // len(numbers))), recipe.labels


def calibrate(
    arguments: argparse.Namespace,
    selection: Selection,
    recipe: LabelRecipe,
    folder: Path,
    inputs: Sequence[dict[str, Any]],
) -> tuple[Selection, list[dict[str, Any]]]:
    """Search thresholds on clips whose classes are known.

    Args:
        arguments: the options, see `_parse`.
        selection: by calibration.
        recipe: its models are mixed.
        folder: holds the recipe's experiments.
        inputs: metadata of the results that are selected from.

    Returns:
        The selection with thresholds, and the metadata of the results on the known clips.

    Raises:
        UserError: if results are missing or of other models or classes, or if they have labels of
            dark clips without `--oracle`.
    """
    calibration = selection.calibration
    assert calibration is not None
    ensemble = recipe.ensemble
    split = ORACLE_SPLIT if arguments.oracle else calibration.split
    if arguments.predictions and not arguments.calibrate:
        raise UserError(
            "--predictions: the recipe calibrates, so give --calibrate too: results of the same "
            f"models on split {split}"
        )
    paths = arguments.calibrate or _results_files(folder, split, ensemble)
    # Thresholds hold only for the mixture that they were searched on: same models, same weights.
    if len(paths) != len(inputs):
        raise UserError(f"--calibrate: {len(paths)} results for {len(inputs)} models")
    known, metadata = load_joined(paths, ensemble, recipe.classes)
    for path, one, other in zip(paths, metadata, inputs, strict=True):
        if one.get("checkpoint_sha256") != other.get("checkpoint_sha256"):
            raise UserError(
                f"{path}: was made with other weights than {other['file']}: give results of the "
                "same checkpoints"
            )
        if results_label_use(one) == ORACLE and not arguments.oracle:
            raise UserError(
                f"{path}: its labels are those of dark clips, so all that follows would be an "
                "oracle: calibrate with val_dark, or give --oracle if an oracle is wanted"
            )
    mixed = mix(known.probs, ensemble.mixture(len(known.class_names)))
    found = search_precision(known, mixed, calibration)
    prior = list(calibration.prior) if isinstance(calibration.prior, tuple) else None
    if calibration.prior == LABELLED:
        prior = count_classes(arguments.labelled, known.class_names)
    return replace(selection, prior=prior, found=found), metadata


def label_stage(stage: int, argv: Sequence[str], root: Path) -> int:
    """Write the pseudo-labels of a stage, and return the exit code.

    Args:
        stage: round, from 1.
        argv: command line, see `--help`.
        root: folder of the project.

    Raises:
        UserError: if options, the recipe or results are bad.
    """
    arguments = _parse(stage, argv, root)
    folder = root / stage_before(stage)
    out = arguments.out or arguments.data / f"pseudo/stage{stage}.csv"
    arguments.labelled = arguments.labelled or get_split("train", arguments.data).list_file
    recipe = read_label_recipe(arguments.recipe)
    joined, mixed, recipe, inputs = load_mixed(arguments, recipe, folder)
    selection, chosen_by = selection_of(arguments.thresholds, recipe, stage, joined.class_names)
    known: list[dict[str, Any]] = []
    # Label use of everything that decides beside the results: weights, thresholds, priors.
    uses = [recipe.labels, chosen_by]
    if selection.calibration is not None:
        if selection.calibration.prior == LABELLED:
            uses.append(list_use(arguments.labelled))
        selection, known = calibrate(arguments, selection, recipe, folder, inputs)
    elif arguments.calibrate or arguments.oracle:
        raise UserError(
            "--calibrate and --oracle have no effect: thresholds are not calibrated "
            f"({selection.method})"
        )
    pseudo = choose(joined, mixed, selection)
    # One input that saw dark labels makes an oracle of the pseudo-labels.
    labels = label_use([*inputs, *known], *uses, *map(results_label_use, known))
    write_pseudo_labels(out, joined, pseudo)
    metadata = _metadata(joined, pseudo, recipe, selection, labels, inputs)
    write_metadata(out, {**metadata, "known": known})
    _print_table(out, joined, pseudo, labels)
    return 0


def _parse(stage: int, argv: Sequence[str], root: Path) -> argparse.Namespace:
    """Return the options of a stage script."""
    parser = make_parser(
        f"Pseudo-labels of round {stage}: mix the models of {stage_before(stage)}, joined by "
        "video name, and label the dark clips of high confidence.",
        EXAMPLES.replace("{stage}", str(stage)),
    )
    add_inputs(parser, root)
    parser.add_argument(
        "--thresholds",
        nargs="+",
        metavar="T",
        help="a YAML file, one number, or one for each class (default: the recipe's)",
    )
    parser.add_argument(
        "--calibrate",
        nargs="+",
        type=Path,
        metavar="PKL",
        help="results on clips whose classes are known, in the order of MODELS in the recipe "
        "(default: those of its SELECT.SPLIT)",
    )
    parser.add_argument(
        "--labelled",
        type=Path,
        metavar="CSV",
        help="list for the class frequencies (default: split train)",
    )
    parser.add_argument(
        "--oracle",
        action="store_true",
        help=f"calibrate with labels of dark clips (those of split {ORACLE_SPLIT})",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="CSV",
        help=f"default: pseudo/stage{stage}.csv in the data folder",
    )
    return parser.parse_args(argv)


def _metadata(
    joined: Joined,
    pseudo: PseudoLabels,
    recipe: LabelRecipe,
    selection: Selection,
    labels: str,
    inputs: list[dict[str, Any]],
) -> dict[str, Any]:
    """Return the metadata of a file of pseudo-labels."""
    num_classes = len(joined.class_names)
    calibration: dict[str, Any] = {}
    if selection.calibration:
        calibration = {"rules": pseudo.rules, **asdict(selection.calibration)}
    return {
        "labels": labels,
        "videos": len(joined.names),
        "without_prediction": int((~joined.ok).sum()),
        "rows": len(pseudo.rows),
        "rows_per_class": np.bincount(pseudo.labels, minlength=num_classes).tolist(),
        "classes": joined.class_names,
        "method": selection.method,
        "thresholds": pseudo.thresholds.tolist(),
        **calibration,
        **recipe.ensemble.describe(num_classes),
        "inputs": inputs,
    }


def _print_table(out: Path, joined: Joined, pseudo: PseudoLabels, labels: str) -> None:
    """Print rows and threshold of each class, and the number of videos that got a label."""
    counts = np.bincount(pseudo.labels, minlength=len(joined.class_names))
    width = max(map(len, joined.class_names)) + 2
    rules = pseudo.rules or [""] * len(counts)
    print(f"{'class':<{width}}{'rows':>8}{'threshold':>12}" + ("  by" if pseudo.rules else ""))
    rows = zip(joined.class_names, counts, pseudo.thresholds, rules, strict=True)
    for name, count, threshold, rule in rows:
        print(f"{name:<{width}}{count:>8}{threshold:>12.4f}  {rule}".rstrip())
    # A class without a pseudo-label is likely to die out in later rounds.
    empty = [name for name, count in zip(joined.class_names, counts, strict=True) if not count]
    if empty:
        print(f"warning: no pseudo-label of class {', '.join(empty)}", file=sys.stderr)
    total = len(joined.names)
    share = 100 * len(pseudo.rows) / total
    print(f"{out}: {len(pseudo.rows)} of {total} videos ({share:.1f} %), {labels}")
