"""The models that predict where the user names none: those inside the package."""

from __future__ import annotations

from pathlib import Path

from nightcrawler.models.zoo import demo_models
from nightcrawler.pose.estimators.blazepose import brings_model
from nightcrawler.predict.checkpoints import PredictOptions
from nightcrawler.predict.ensemble import Ensemble, build_ensemble, plain_recipe
from nightcrawler.utils.errors import UserError, install_command
from nightcrawler.utils.logging import get_logger

logger = get_logger(__name__)

SKELETONS = "demo/poseconv"
# Share of the model of skeletons, the rest being that of the models of pictures together.
SKELETONS_SHARE = 0.8
# What their answers were right for, with and without the model of skeletons.
RIGHT_WITH_POSE = "73 % of 150 real dark clips in eleven classes, chance 9 %"
RIGHT_WITHOUT_POSE = "about 25 % of real dark clips in eleven classes, chance 9 %"
WITH_POSE = (
    "note: predicted by small models that come with the package: one of how people move, trained "
    f"on synthetic figures ({RIGHT_WITH_POSE}), and four of "
    "pictures; --experiment takes a model of your own"
)
WITHOUT_POSE = (
    "note: predicted by four small models of pictures that come with the package, trained on "
    f"synthetic clips in normal light only ({RIGHT_WITHOUT_POSE}); --experiment takes a model of "
    "your own"
)
ADVICE = f"; {install_command('pose')} adds how people move (73 %)"


def build_default_ensemble(options: PredictOptions) -> tuple[Ensemble, str]:
    """Build the models inside the package that this installation can run.

    Args:
        options: settings that differ from testing.

    Returns:
        The models, and what their answer is worth.

    Raises:
        UserError: if the package came without its models.
    """
    pictures = [name for name in demo_models() if name != SKELETONS]
    if not pictures:
        raise UserError("this installation has no demo models: give --experiment or --ensemble")
    note = WITHOUT_POSE + ADVICE
    if SKELETONS in demo_models() and brings_model():
        weights = (SKELETONS_SHARE, *[(1 - SKELETONS_SHARE) / len(pictures)] * len(pictures))
        try:
            recipe = plain_recipe(len(weights), weights)
            return build_ensemble([SKELETONS, *pictures], recipe, Path(), options), WITH_POSE
        except UserError as error:
            logger.warning("%s; models of pictures answer alone", error)
            note = WITHOUT_POSE
    return build_ensemble(pictures, None, Path(), options), note


def right_of_real_clips(ensemble: Ensemble) -> str:
    """Return how many real dark clips the answer of `build_default_ensemble`'s models is right for.

    Args:
        ensemble: the models.
    """
    with_pose = any("poses" in predictor.about for predictor in ensemble.predictors)
    return RIGHT_WITH_POSE if with_pose else RIGHT_WITHOUT_POSE
