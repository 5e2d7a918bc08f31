"""Search a confidence threshold per class against labels, or score files of pseudo-labels.

Thresholds chosen by labels of dark clips are an oracle's, and so is everything made with them.
Labels of bright clips are not: --split val_dark (bright clips through a camera model) or val_dry.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nightcrawler.cli.label_inputs import add_inputs, files_to_read, load_mixed, stage_before
from nightcrawler.data.splits import get_split
from nightcrawler.pseudo.label_recipe import (
    LabelRecipe,
    Thresholds,
    read_label_recipe,
    write_thresholds,
)
from nightcrawler.pseudo.labels import compare, read_labels, table
from nightcrawler.pseudo.results_metadata import label_use, results_label_use, split_use
from nightcrawler.pseudo.threshold_search import PLAIN, search
from nightcrawler.pseudo.thresholds import Calibration, most_probable, selected
from nightcrawler.utils.command_line import at_least, make_parser
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.outputs import check_targets, refuse_other_file
from nightcrawler.utils.project import project_root

PRECISION = 0.9
SUFFIXES = (".yaml", ".yml")
# Beginning of the first line of each file that is written.
NOTE = "Thresholds for"
EXAMPLES = """\
  {command} --stage 1 --precision 0.9
  {command} --stage 1 --split val_dark --precision 0.8
  {command} --predictions a.npz b.npz --weights 0.5 0.5 --f1
  {command} --pseudo data/pseudo/stage*.csv --labels data/arid.csv"""


def parse(argv: Sequence[str]) -> Any:
    """Parse the command line."""
    parser = make_parser(__doc__ or "", EXAMPLES)
    add_labels(parser)
    add_goal(parser)
    parser.add_argument(
        "--pseudo", nargs="+", type=Path, metavar="CSV", help="only score these pseudo-labels"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="YAML",
        help="default: pseudo/thresholds_stageX.yaml in the data folder",
    )
    add_inputs(parser, project_root())
    arguments = parser.parse_args(argv)
    check_numbers(arguments)
    if not arguments.labels:
        split = get_split(arguments.split, arguments.data)
        # Lists of dark clips hold no labels. Those of the labelled dark clips are in arid.csv.
        arguments.labels = split.list_file
        if split.has_dark_labels:
            arguments.labels = arguments.data / "arid.csv"
    return arguments


def add_labels(parser: argparse.ArgumentParser) -> None:
    """Add the options for the round and the labels."""
    parser.add_argument(
        "--stage",
        type=int,
        default=1,
        help="round whose thresholds are sought (default: %(default)s)",
    )
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="CSV",
        help="path,label rows (default: arid.csv in the data folder)",
    )


def add_goal(parser: argparse.ArgumentParser) -> None:
    """Add the options for the goal of the search, of which one may be given."""
    goal = parser.add_mutually_exclusive_group()
    goal.add_argument(
        "--precision",
        type=float,
        metavar="P",
        help=f"lowest threshold that reaches P (default: {PRECISION})",
    )
    goal.add_argument("--recall", type=float, metavar="R", help="highest threshold that reaches R")
    goal.add_argument("--f1", action="store_true", help="threshold of the best F1")
    usual = Calibration()
    parser.add_argument(
        "--confidence",
        type=float,
        default=usual.confidence,
        metavar="C",
        help="of the lower bound (Wilson) that must reach --precision; "
        f"{PLAIN} takes the plain precision (default: {usual.confidence})",
    )
    parser.add_argument(
        "--support",
        type=at_least(1),
        default=usual.support,
        metavar="N",
        help=f"least number of clips from which --precision is judged (default: {usual.support})",
    )


def check_numbers(arguments: argparse.Namespace) -> None:
    """Refuse a goal outside (0, 1] and a round below 1.

    Raises:
        UserError: naming the option.
    """
    for name in ("precision", "recall"):
        target = getattr(arguments, name)
        if target is not None and not 0 < target <= 1:
            raise UserError(f"--{name} {target}: expected a number above 0 and up to 1")
    if not PLAIN <= arguments.confidence < 1:
        raise UserError(
            f"--confidence {arguments.confidence}: expected a number from {PLAIN} to below 1"
        )
    if arguments.stage < 1:
        raise UserError(f"--stage {arguments.stage}: expected 1 or more")


def score(paths: Sequence[Path], truth: dict[str, int], classes: Sequence[str]) -> None:
    """Print one table per file of pseudo-labels. These figures use the labels of dark clips."""
    for path in paths:
        pseudo = read_labels(path)
        labels = np.array(list(pseudo.values()), np.int64)
        if labels.min() < 0:
            raise UserError(f"{path}: label {labels.min()}: a pseudo-label must be a class")
        num_classes = max(labels.max(), max(truth.values())) + 1
        names = classes or [str(number) for number in range(num_classes)]
        if num_classes > len(names):
            raise UserError(
                f"{path}: label {num_classes - 1}, but the recipe has {len(names)} classes"
            )
        figures = compare(pseudo, labels, truth, names)
        print("\n".join(table(figures)))
        last = figures[-1]
        print(
            f"{path}: {last.rows} rows, {last.known} of known label, "
            f"precision {100 * last.precision:.2f} %, coverage {100 * last.coverage:.1f} % "
            "(oracle: measured with labels)\n"
        )


def find(arguments: Any, truth: dict[str, int]) -> None:
    """Search the thresholds, print their table and write them."""
    recipe = read_label_recipe(arguments.recipe)
    folder = project_root() / stage_before(arguments.stage)
    out = choose_output(arguments, recipe, folder)
    joined, mixed, _, inputs = load_mixed(arguments, recipe, folder)
    known = np.array([truth.get(name, -1) for name in joined.names], np.int64)
    if known.max(initial=-1) >= len(joined.class_names):
        raise UserError(
            f"{arguments.labels}: label {known.max()}, but the predictions have "
            f"{mixed.shape[1]} classes"
        )
    # A video without a prediction can neither confirm nor refute a threshold.
    known[~joined.ok] = -1
    if not (known >= 0).any():
        raise UserError(
            f"{arguments.labels}: has no label of any of the {len(joined.names)} predicted videos"
        )
    goal, target = goal_of(arguments)
    classes, confidences = most_probable(mixed)
    found = search(
        classes,
        confidences,
        known,
        len(joined.class_names),
        goal,
        target,
        arguments.support,
        arguments.confidence,
    )
    # The table describes the clips that the found thresholds would label.
    kept = np.flatnonzero(selected(classes, confidences, found.thresholds) & joined.ok)
    here = {name: truth[name] for name in joined.names if name in truth}
    figures = compare([joined.names[row] for row in kept], classes[kept], here, joined.class_names)
    print("\n".join(table(figures, found.thresholds.tolist())))
    missed = []
    for name, reached in zip(joined.class_names, found.reached, strict=True):
        if not reached:
            missed.append(name)
    if missed:
        print(f"warning: {goal} {target:g} is not reached for {', '.join(missed)}", file=sys.stderr)
    use = label_use(
        inputs,
        recipe.labels,
        split_use([arguments.split], arguments.data),
        *map(results_label_use, inputs),
    )
    shown = goal if goal == "f1" else f"{goal} {target:g}"
    note = f"{NOTE} {shown} against {arguments.labels.name}."
    write_thresholds(out, Thresholds(joined.class_names, use, found.thresholds.tolist()), note)
    print(f"{out}: thresholds for {goal}, {use}")


def choose_output(arguments: Any, recipe: LabelRecipe, folder: Path) -> Path:
    """Return the file to write.

    Args:
        arguments: the options.
        recipe: its models are mixed.
        folder: holds the recipe's experiments.

    Raises:
        UserError: if it is a file to read, or one that a search did not write.
    """
    # The name that `nightcrawler label` looks for in the examples of its help.
    out: Path = arguments.out or arguments.data / f"pseudo/thresholds_stage{arguments.stage}.yaml"
    # Others would be read as numbers by `label --thresholds`.
    if out.suffix not in SUFFIXES:
        raise UserError(f"--out {out}: expected a name that ends in {' or '.join(SUFFIXES)}")
    read = [arguments.labels, *files_to_read(arguments, recipe, folder)]
    check_targets([out], sources=read)
    refuse_other_file(out, f"# {NOTE} ", "a search of thresholds")
    return out


def goal_of(arguments: Any) -> tuple[str, float]:
    """Return the goal of the search and its target."""
    if arguments.f1:
        return "f1", 1.0
    if arguments.recall is not None:
        return "recall", arguments.recall
    if arguments.precision is not None:
        return "precision", arguments.precision
    return "precision", PRECISION


def main(argv: Sequence[str]) -> int:
    """Search thresholds, or score files."""
    arguments = parse(argv)
    truth = read_labels(arguments.labels)
    if arguments.pseudo:
        score(arguments.pseudo, truth, read_label_recipe(arguments.recipe).classes)
    else:
        find(arguments, truth)
    return 0
