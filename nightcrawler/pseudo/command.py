"""What the stage scripts share: their command line, their inputs, their pseudo-labels."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from nightcrawler.data.splits import get_split
from nightcrawler.pseudo.calibration import LABELLED, search_precision
from nightcrawler.pseudo.ensemble import Joined, mix, without_prediction
from nightcrawler.pseudo.labels import (
    PseudoLabels,
    Selection,
    choose,
    count_classes,
    read_labels,
    write_pseudo_labels,
)
from nightcrawler.pseudo.recipe import LabelRecipe, read_label_recipe, read_thresholds
from nightcrawler.pseudo.results_files import (
    ORACLE,
    label_use,
    list_use,
    load_joined,
    results_file,
    split_labels,
    write_about,
)
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
    """The folder of the experiments whose results a stage reads."""
    return "exp_adapt_bn" if stage == 1 else f"exp_pseudo_stage{stage - 1}"


def add_inputs(parser: Any, root: Path) -> None:
    """The options that say which predictions are read and how they are mixed."""
    parser.add_argument(
        "--predictions",
        nargs="+",
        type=Path,
        metavar="PKL",
        help="results files, as the recipe's MODELS",
    )
    parser.add_argument(
        "--weights", nargs="+", type=float, metavar="W", help="a weight for each model"
    )
    parser.add_argument(
        "--recipe",
        type=Path,
        default=root / "configs/pseudo/default.yaml",
        metavar="YAML",
        help="default: %(default)s",
    )
    parser.add_argument(
        "--data", type=Path, default=root / "data", metavar="FOLDER", help="default: %(default)s"
    )
    parser.add_argument(
        "--split", default="total_unlabel", help="split of the results (default: %(default)s)"
    )
    parser.add_argument(
        "--list", type=Path, metavar="CSV", help="names the rows of results in the old form"
    )


def load_mixed(
    arguments: Any, recipe: LabelRecipe, folder: Path
) -> tuple[Joined, np.ndarray, LabelRecipe, list[dict[str, Any]]]:
    """Joined predictions, their mixture `[N, K]`, the recipe as options changed it, and what the inputs say.

    Args:
        arguments: those of `add_inputs`.
        folder: where the recipe's experiments are.

    Raises:
        UserError: if inputs are missing, bad, or do not fit the recipe.
    """
    ensemble = recipe.ensemble
    if arguments.predictions:
        paths, ensemble = arguments.predictions, _resized(arguments, recipe)
    else:
        wanted = zip(ensemble.folders.values(), ensemble.pairs, strict=True)
        paths = [results_file(folder / name, arguments.split, pair) for name, pair in wanted]
    if arguments.weights:
        try:
            ensemble = ensemble.reweighed(arguments.weights)
        except UserError as error:
            raise UserError(f"--weights: {error}") from None
    names = list(read_labels(arguments.list)) if arguments.list else None
    joined, inputs = load_joined(paths, ensemble, recipe.classes, names)
    warning = without_prediction(joined)
    if warning:
        print(f"warning: {warning}; they get no pseudo-label", file=sys.stderr)
    mixed = mix(joined.probs, ensemble.mixture(len(joined.class_names)))
    return joined, mixed, replace(recipe, ensemble=ensemble), inputs


def _resized(arguments: Any, recipe: LabelRecipe) -> Any:
    try:
        return recipe.ensemble.resized(len(arguments.predictions))
    except UserError as error:
        raise UserError(f"--predictions: {error}; see {arguments.recipe}") from None


def selection_of(
    given: Sequence[str] | None, recipe: LabelRecipe, stage: int, class_names: Sequence[str]
) -> tuple[Selection, str]:
    """How a stage selects, and whether labels of dark clips chose that (`label-free` or `oracle`).

    Args:
        given: `--thresholds`: a YAML file, one number for all classes, or a number for each; `None`: the recipe's way.
        stage: from 1; picks the fraction of the round.

    Raises:
        UserError: if thresholds are not numbers 0..1 of these classes.
    """
    if not given:
        fraction = recipe.fractions[min(stage, len(recipe.fractions)) - 1]
        return Selection(
            recipe.method, recipe.thresholds, fraction, recipe.prior, recipe.calibration
        ), recipe.labels
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
            f"--thresholds: {numbers}, expected one number 0..1 or one for each of {len(class_names)} classes"
        )
    return Selection("thresholds", numbers * (len(class_names) // len(numbers))), recipe.labels


def calibrate(
    arguments: Any,
    selection: Selection,
    recipe: LabelRecipe,
    folder: Path,
    inputs: Sequence[dict[str, Any]],
) -> tuple[Selection, list[dict[str, Any]]]:
    """The selection with thresholds found on clips whose classes are known, and what those results say of themselves.

    Args:
        arguments: the options, see `_parse`.
        selection: by calibration.
        recipe: its models are mixed.
        folder: where its experiments are.
        inputs: what the results that are selected from say of themselves.

    Raises:
        UserError: if results are missing, of other models or classes, or know dark clips and no oracle is asked for.
    """
    rules, ensemble = selection.calibration, recipe.ensemble
    assert rules is not None
    split = ORACLE_SPLIT if arguments.oracle else rules.split
    wanted = zip(ensemble.folders.values(), ensemble.pairs, strict=True)
    if arguments.predictions and not arguments.calibrate:
        raise UserError(
            f"--predictions: the recipe calibrates: give --calibrate, results of {split} of the same models"
        )
    paths = arguments.calibrate or [
        results_file(folder / name, split, pair) for name, pair in wanted
    ]
    if len(paths) != len(inputs):
        raise UserError(f"--calibrate: {len(paths)} results for {len(inputs)} models")
    known, about = load_joined(paths, ensemble, recipe.classes)
    for path, one, other in zip(paths, about, inputs, strict=True):
        if one.get("checkpoint_sha256") != other.get("checkpoint_sha256"):
            raise UserError(
                f"{path}: is of other weights than {other['file']}: give results of the same checkpoints"
            )
        if split_labels(one) == ORACLE and not arguments.oracle:
            raise UserError(
                f"{path}: its labels are those of dark clips, which make an oracle of all that follows: calibrate with "
                "val_dark, or give --oracle if an oracle is wanted"
            )
    found = search_precision(
        known, mix(known.probs, ensemble.mixture(len(known.class_names))), rules
    )
    prior = list(rules.prior) if isinstance(rules.prior, tuple) else None
    if rules.prior == LABELLED:
        prior = count_classes(arguments.labelled, known.class_names)
    return replace(selection, prior=prior, found=found), about


def label_stage(stage: int, argv: Sequence[str], root: Path) -> int:
    """Write the pseudo-labels of a stage (`--help` says from what); returns the exit code."""
    arguments = _parse(stage, argv, root)
    out = arguments.out or arguments.data / f"pseudo/stage{stage}.csv"
    arguments.labelled = arguments.labelled or get_split("train", arguments.data).list_file
    recipe = read_label_recipe(arguments.recipe)
    joined, mixed, recipe, inputs = load_mixed(arguments, recipe, root / stage_before(stage))
    selection, chosen_by = selection_of(arguments.thresholds, recipe, stage, joined.class_names)
    known: list[dict[str, Any]] = []
    uses = [recipe.labels, chosen_by]
    if selection.calibration is not None:
        uses += [list_use(arguments.labelled)] if selection.calibration.prior == LABELLED else []
        selection, known = calibrate(
            arguments, selection, recipe, root / stage_before(stage), inputs
        )
    elif arguments.calibrate or arguments.oracle:
        raise UserError(
            f"--calibrate and --oracle have no effect: thresholds are not calibrated ({selection.method})"
        )
    pseudo = choose(joined, mixed, selection)
    stamp = label_use([*inputs, *known], *uses, *map(split_labels, known))
    write_pseudo_labels(out, joined, pseudo)
    write_about(out, {**_about(joined, pseudo, recipe, selection, stamp, inputs), "known": known})
    _report(out, joined, pseudo, stamp)
    return 0


def _parse(stage: int, argv: Sequence[str], root: Path) -> Any:
    before = stage_before(stage)
    parser = make_parser(
        f"Pseudo-labels of round {stage}: the models of {before}, joined by name and mixed, label the dark clips that "
        f"they are sure of.",
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
        help="results on clips whose classes are known, as the recipe's MODELS (default: those of its SELECT.SPLIT)",
    )
    parser.add_argument(
        "--labelled",
        type=Path,
        metavar="CSV",
        help="list that tells how frequent classes are (default: split train)",
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


def _about(
    joined: Joined,
    pseudo: PseudoLabels,
    recipe: LabelRecipe,
    selection: Selection,
    stamp: str,
    inputs: list[dict[str, Any]],
) -> dict[str, Any]:
    num_classes = len(joined.class_names)
    return {
        "labels": stamp,
        "videos": len(joined.names),
        "without_prediction": int((~joined.ok).sum()),
        "rows": len(pseudo.rows),
        "rows_per_class": np.bincount(pseudo.labels, minlength=num_classes).tolist(),
        "classes": joined.class_names,
        "method": selection.method,
        "thresholds": pseudo.thresholds.tolist(),
        **(
            {"rules": pseudo.rules, **asdict(selection.calibration)}
            if selection.calibration
            else {}
        ),
        **recipe.ensemble.describe(num_classes),
        "inputs": inputs,
    }


def _report(out: Path, joined: Joined, pseudo: PseudoLabels, stamp: str) -> None:
    counts = np.bincount(pseudo.labels, minlength=len(joined.class_names))
    width = max(map(len, joined.class_names)) + 2
    rules = pseudo.rules or [""] * len(counts)
    print(f"{'class':<{width}}{'rows':>8}{'threshold':>12}" + ("  by" if pseudo.rules else ""))
    for name, count, threshold, rule in zip(
        joined.class_names, counts, pseudo.thresholds, rules, strict=True
    ):
        print(f"{name:<{width}}{count:>8}{threshold:>12.4f}  {rule}".rstrip())
    empty = [name for name, count in zip(joined.class_names, counts, strict=True) if not count]
    if empty:
        print(f"warning: no pseudo-label of class {', '.join(empty)}", file=sys.stderr)
    total = len(joined.names)
    print(
        f"{out}: {len(pseudo.rows)} of {total} videos ({100 * len(pseudo.rows) / total:.1f} %), {stamp}"
    )
