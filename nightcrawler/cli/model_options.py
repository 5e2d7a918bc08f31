"""Options that name the models of predictions and of the page."""

from __future__ import annotations

import argparse
from pathlib import Path

from nightcrawler.utils.errors import UserError
from nightcrawler.utils.project import project_root


def add_ensemble_options(models: argparse._ArgumentGroup) -> None:
    """Add the options that choose models and their mixture."""
    models.add_argument(
        "--experiment",
        "--model",
        action="append",
        default=[],
        metavar="DIR|CHECKPOINT|NAME",
        help="experiment folder, checkpoint, exported model.onnx, or name that `nightcrawler "
        "weights list` prints, repeatable (default: the models inside the package)",
    )
    models.add_argument(
        "--ensemble",
        type=Path,
        metavar="RECIPE",
        help="recipe of configs/vote or configs/pseudo",
    )
    models.add_argument(
        "--mode", type=int, metavar="M", help="mode of a vote recipe (default: its first)"
    )
    models.add_argument(
        "--prefix",
        type=Path,
        metavar="DIR",
        help="folder that holds the recipe's experiments (default: the project's)",
    )


def add_label_options(models: argparse._ArgumentGroup) -> None:
    """Add the options of models that answer in classes given by name."""
    models.add_argument(
        "--labels",
        metavar="A,B,...",
        help="answer in these classes, by models that compare videos with words (extra hub; "
        "--model takes folders or names of the hub)",
    )
    models.add_argument(
        "--prompt",
        metavar="TEXT",
        help="sentence of --labels, {} being the class (default: 'a video of a person who {}')",
    )


def label_options_fault(arguments: argparse.Namespace) -> str:
    """Return the first fault in the options of classes by name, empty where there is none."""
    if arguments.labels is None:
        return "--prompt needs --labels" if arguments.prompt is not None else ""
    if arguments.ensemble:
        return "--labels does not go with --ensemble, whose models have classes of their own"
    return ""


def labels_of(arguments: argparse.Namespace) -> tuple[tuple[str, ...], str]:
    """Return the classes of `--labels`, none where it is not given, and their prompt.

    Raises:
        UserError: if no answer can be chosen from the classes.
    """
    if arguments.labels is None:
        return (), ""
    from nightcrawler.predict.open_vocabulary import DEFAULT_PROMPT, parse_labels

    prompt = DEFAULT_PROMPT if arguments.prompt is None else arguments.prompt
    return parse_labels(arguments.labels), prompt


def ensemble_fault(arguments: argparse.Namespace) -> str:
    """Return the first fault in how models are chosen, empty where there is none."""
    for option in ("mode", "prefix"):
        if getattr(arguments, option) is not None and not arguments.ensemble:
            return f"--{option} needs --ensemble"
    return ""


def folder_beside(weights: str, out: Path | None, name: str) -> Path:
    """Return the folder to write: `--out`, or a folder of that name beside the weights.

    Args:
        weights: folder of an experiment, file or name of weights.
        out: value of `--out`.
        name: of the folder beside weights.

    Raises:
        UserError: if weights are given by their name without `--out`.
    """
    if out:
        return out
    given = Path(weights)
    if given.is_dir():
        return given / name
    if not given.exists():
        raise UserError(f"{weights}: weights by name have no folder: give --out DIR")
    return given.parent / name


def prefix_of(arguments: argparse.Namespace) -> Path:
    """Return the folder that holds a recipe's experiments."""
    return arguments.prefix or project_root()
