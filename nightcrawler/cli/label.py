"""Write the pseudo-labels of a round: of the dark clips on which models are sure."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from nightcrawler.cli.label_inputs import (
    add_inputs,
    files_to_read,
    labels_before,
    load_mixed,
    results_files_of,
    stage_before,
)
from nightcrawler.data.splits import get_split
from nightcrawler.pseudo.churn import Churn, churn
from nightcrawler.pseudo.ensemble import Joined, mix
from nightcrawler.pseudo.label_recipe import LabelRecipe, read_label_recipe, read_thresholds
from nightcrawler.pseudo.labels import (
    PseudoLabels,
    Selection,
    choose,
    count_classes,
    read_labels,
    write_pseudo_labels,
)
from nightcrawler.pseudo.results_metadata import (
    ORACLE,
    ORACLE_SPLIT,
    label_use,
    list_use,
    load_joined,
    read_metadata,
    refuse_other_description,
    results_label_use,
    write_metadata,
)
from nightcrawler.pseudo.thresholds import LABELLED, search_precision
from nightcrawler.utils.command_line import at_least, invocation, invoked_as, make_parser
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import sha256_file
from nightcrawler.utils.outputs import check_targets
from nightcrawler.utils.project import project_root

EXAMPLES = """\
  {command} 5 --recipe configs/pseudo/distil.yaml --out data/pseudo/distil.csv"""
ROUND_EXAMPLES = """\
  {command}
  {command} --recipe configs/pseudo/ug2_2022/stage{stage}.yaml
  {command} --predictions a.npz b.npz --weights 0.6 0.4 \\
      --thresholds data/pseudo/thresholds_stage{stage}.yaml --out data/pseudo/stage{stage}.csv"""


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
        arguments: the options, see `parse_round`.
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
    paths = arguments.calibrate or results_files_of(folder, split, ensemble)
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
    mixed = mix(known.probs, ensemble.mixture(len(known.class_names)), known.opinions)
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
    arguments = parse_round(stage, argv, root)
    folder = root / stage_before(stage)
    out = arguments.out or arguments.data / f"pseudo/stage{stage}.csv"
    arguments.labelled = arguments.labelled or get_split("train", arguments.data).list_file
    earlier = labels_before(stage, arguments)
    if out.suffix != ".csv":
        raise UserError(f"--out {out}: expected a name that ends in .csv")
    refuse_other_description(out)
    recipe = read_label_recipe(arguments.recipe)
    given = [*(arguments.calibrate or []), *(arguments.thresholds or [])]
    read = [arguments.labelled, earlier, *given]
    read += files_to_read(arguments, recipe, folder)
    check_targets([out, out.with_suffix(".json")], sources=read)
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
    before = read_labels(earlier) if earlier is not None else None
    if selection.calibration is not None and selection.calibration.agree_new is not None:
        if earlier is not None:
            uses.append(read_metadata(earlier)["labels"])
        elif stage > 1:
            raise UserError(
                f"{arguments.recipe}: AGREE_NEW compares with the labels of round {stage - 1}: "
                "name their file with --before"
            )
    pseudo = choose(joined, mixed, selection, before)
    # One input that saw dark labels makes an oracle of the pseudo-labels.
    labels = label_use([*inputs, *known], *uses, *map(results_label_use, known))
    write_pseudo_labels(out, joined, pseudo)
    metadata = _metadata(joined, pseudo, recipe, selection, labels, inputs)
    moves = _churn(joined, pseudo, earlier, before)
    write_metadata(out, {**metadata, **moves, "known": known})
    _print_churn(moves)
    _print_table(out, joined, pseudo, labels)
    for line in next_steps(stage, recipe, root):
        print(line)
    return 0


def next_steps(stage: int, recipe: LabelRecipe, root: Path) -> list[str]:
    """Return the commands that train the models of a round on its pseudo-labels.

    Args:
        stage: round, from 1.
        recipe: its models are trained.
        root: folder of the project.

    Returns:
        Lines to print; none for a model whose experiment the project does not have.
    """
    lines = []
    for model in recipe.ensemble.folders.values():
        script = Path(f"exp_pseudo_stage{stage}", Path(model).name, "run.sh")
        if (root / script).is_file():
            lines.append(f"next: bash {shlex.quote(str(script))}")
    return lines


def parse_round(stage: int, argv: Sequence[str], root: Path) -> argparse.Namespace:
    """Return the options of a round."""
    parser = make_parser(
        f"Pseudo-labels of round {stage}: mix the models of {stage_before(stage)}, joined by "
        "video name, and label the dark clips of high confidence.",
        ROUND_EXAMPLES.replace("{stage}", str(stage)),
    )
    add_options(parser, str(stage), root)
    return parser.parse_args(argv)


def add_options(parser: argparse.ArgumentParser, stage: str, root: Path) -> None:
    """Add the options of a round.

    Args:
        parser: gets the options.
        stage: round, for default names.
        root: folder of the project, for default paths.
    """
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
        "--before",
        type=Path,
        metavar="CSV",
        help="labels of the round before, to count which are new, dropped, changed and kept "
        "(default: those in the data folder, unless --out or --predictions is given)",
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
        assert selection.found is not None
        evidence = [asdict(one) for one in selection.found.evidence]
        calibration = {
            "rules": pseudo.rules,
            "evidence": evidence,
            **asdict(selection.calibration),
        }
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


def _churn(
    joined: Joined, pseudo: PseudoLabels, earlier: Path | None, before: dict[str, int] | None
) -> dict[str, Any]:
    """Return the moves of labels since the round before for the metadata, nothing without one."""
    if earlier is None or before is None:
        return {}
    names = [joined.names[row] for row in pseudo.rows]
    found = churn(before, dict(zip(names, pseudo.labels.tolist(), strict=True)))
    about = {"before": earlier.name, "before_sha256": sha256_file(earlier)}
    return {"churn": {**about, **asdict(found), "moved": found.moved}}


def _print_churn(moves: dict[str, Any]) -> None:
    """Print the moves of labels since the round before, if there was one."""
    if moves:
        counts = moves["churn"]
        told = ", ".join(f"{counts[one.name]} {one.name}" for one in fields(Churn))
        print(f"since {counts['before']}: {told} ({100 * counts['moved']:.1f} % moved)")


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


def main(argv: Sequence[str]) -> int:
    """Write the pseudo-labels of round `argv[0]`."""
    parser = make_parser(__doc__ or "", EXAMPLES)
    parser.add_argument(
        "round",
        type=at_least(1),
        metavar="ROUND",
        help="1 labels with exp_adapt_bn, 2 with round 1, ...",
    )
    if set(argv[:1]) & {"-h", "--help"}:
        # The options come after the round, but whoever asks for help has not chosen one yet.
        add_options(parser, "ROUND", project_root())
    number = parser.parse_args(argv[:1]).round
    # The scripts of single rounds name theirs already; `nightcrawler label` is shown with it.
    program = invocation()
    if not program.endswith(".py"):
        program = f"{program} {number}"
    with invoked_as(program):
        return label_stage(number, argv[1:], project_root())
