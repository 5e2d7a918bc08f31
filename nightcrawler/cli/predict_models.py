"""Options that choose the models of a prediction, and the models that they choose."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nightcrawler.cli.imports import add_imports
from nightcrawler.cli.model_options import (
    add_ensemble_options,
    add_label_options,
    label_options_fault,
    labels_of,
    prefix_of,
)
from nightcrawler.utils.command_line import add_max_pixels
from nightcrawler.utils.project import project_root

if TYPE_CHECKING:
    from nightcrawler.data.lists import VideoItem
    from nightcrawler.predict.ensemble import Ensemble


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add options that choose the models and their views."""
    models = parser.add_argument_group("models")
    add_ensemble_options(models)
    models.add_argument(
        "--views",
        type=int,
        metavar="V",
        help="temporal views (default: those of the recipe or checkpoint)",
    )
    models.add_argument(
        "--crops",
        type=int,
        choices=(1, 3),
        help="spatial crops (default: those of the recipe or checkpoint)",
    )
    add_label_options(models)
    models.add_argument(
        "--bright", action="store_true", help="the videos are well lit: do not enhance them"
    )
    models.add_argument(
        "--adapt",
        choices=("batchnorm", "tent", "infomax", "online", "none"),
        default="none",
        help="adapt the models to these videos, without labels, before predicting them (MViT and "
        "Swin have no BatchNorm: tent and infomax change them; infomax needs all classes to be "
        "about equally frequent), or online: while each long video or camera is predicted "
        "(default none)",
    )
    models.add_argument(
        "--workers",
        type=int,
        default=0,
        metavar="N",
        help="decoding processes per model (default 0: the predicting process decodes)",
    )
    add_max_pixels(models, "that of the checkpoint's training")
    add_imports(models)


def build_models(arguments: argparse.Namespace) -> tuple[Ensemble, str]:
    """Build the models that the command line names, or else those inside the package.

    Returns:
        The models, and a note on the worth of those inside the package.

    Raises:
        UserError: if a checkpoint is missing, or the package came without its models.
    """
    from nightcrawler.predict.checkpoints import PredictOptions
    from nightcrawler.predict.defaults import build_default_ensemble
    from nightcrawler.predict.ensemble import build_ensemble, read_recipe

    recipe = None
    if arguments.ensemble:
        recipe = read_recipe(arguments.ensemble, arguments.mode)
    pair = None
    if arguments.views is not None:
        pair = (arguments.views, arguments.crops)
    options = PredictOptions(
        pair,
        not arguments.bright,
        arguments.workers,
        project_root(),
        imports=tuple(arguments.imports),
        max_pixels=arguments.max_pixels,
        adapter=arguments.adapt,
    )
    if arguments.labels is not None:
        from nightcrawler.predict.open_vocabulary import build_open_vocabulary

        models, labels, prompt = arguments.experiment, *labels_of(arguments)
        return build_open_vocabulary(models, labels, prompt, options), ""
    if not (arguments.experiment or arguments.ensemble):
        return build_default_ensemble(options)
    return build_ensemble(arguments.experiment, recipe, prefix_of(arguments), options), ""


def labels_fault(arguments: argparse.Namespace) -> str:
    """Return the first fault in the options of classes by name, empty where there is none."""
    fault = label_options_fault(arguments)
    if fault or arguments.labels is None:
        return fault
    if arguments.adapt != "none":
        return "--labels does not go with --adapt: such models have no BatchNorm"
    if arguments.crops == 3:
        return "--labels takes one crop of each view: --crops 1"
    return ""


def adapt_models(
    arguments: argparse.Namespace, ensemble: Ensemble, items: Sequence[VideoItem]
) -> Ensemble:
    """Adapt the models to the videos, as `--adapt` says, and print the changes.

    Raises:
        UserError: if no video can be read, or a model has nothing to adapt.
    """
    if arguments.adapt == "none":
        return ensemble
    if arguments.adapt == "online":
        print(_about_online(arguments), file=sys.stderr)
        return ensemble
    from nightcrawler.predict.adapt import adapt

    ensemble, reports = adapt(ensemble, items)
    for predictor, report in zip(ensemble.predictors, reports, strict=True):
        print(f"{predictor.name}: {report.summary()}", file=sys.stderr)
    return ensemble


def _about_online(arguments: argparse.Namespace) -> str:
    """Return what online adaptation does, for people."""
    from nightcrawler.adapt.online import HALF_LIFE_SEC
    from nightcrawler.predict.items import LONG_SEC

    text = (
        "online: statistics of BatchNorm follow the windows of each video or camera, which begins "
        f"anew with those of the checkpoint (half-life {HALF_LIFE_SEC:g} s)"
    )
    if arguments.window_sec is None and not arguments.is_live:
        text += f"; videos of up to {LONG_SEC:g} s are predicted whole, as without --adapt"
    return text
