"""Configurations of published weights, whose files hold none of ours."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import replace

from nightcrawler.config.load import load_experiment, recorded_defaults
from nightcrawler.config.node import dump
from nightcrawler.models.formats import WeightsFile
from nightcrawler.models.zoo import find_entry
from nightcrawler.models.zoo_families import TORCHVISION, torchvision_weights
from nightcrawler.models.zoo_table import PRETRAINED, ZooEntry
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.logging import get_logger
from nightcrawler.utils.project import packaged_root

logger = get_logger(__name__)

# Frames of a clip, their distance at 30 frames a second, and clips of a video, with which
# torchvision measured the accuracy of its weights.
TORCHVISION_CLIPS = {
    "mvit": (16, 4, 5),
    "r3d": (16, 2, 5),
    "mc3": (16, 2, 5),
    "r2plus1d": (16, 2, 5),
    "s3d": (128, 2, 1),
    "swin3d": (32, 2, 12),
}


def complete(file: WeightsFile, name: str) -> WeightsFile:
    """Add the configuration, classes and label use of a published name to its file.

    Args:
        file: the weights.
        name: name under which they were asked for. A path adds nothing.
    """
    entry = find_entry(name)
    # Files of PySlowFast hold a configuration, which is none of ours.
    if entry is None or not entry.config:
        return file
    overrides: list[str] = []
    if name.startswith(TORCHVISION):
        overrides = torchvision_settings(name)
    elif name in PRETRAINED:
        logger.warning("%s: its file does not name its classes: they are shown by number", name)
        overrides = numbered_classes(entry)
    text, class_names = _build_config(entry.config, overrides)
    return replace(file, config_text=text, class_names=class_names, labels=entry.labels)


def _build_config(experiment: str, overrides: list[str]) -> tuple[str, tuple[str, ...]]:
    """Return the text of an experiment's configuration, and its classes."""
    # As it was tested when it was published, also where this version does otherwise.
    path = packaged_root() / experiment
    cfg = load_experiment(path, overrides=overrides, defaults=recorded_defaults())
    return dump(cfg), tuple(cfg.MODEL.CLASS_NAMES)


def torchvision_settings(name: str) -> list[str]:
    """Return the settings under which torchvision tests its weights: classes, frames, pixels.

    Args:
        name: `torchvision/MODEL` or `torchvision/MODEL/WEIGHTS`.
    """
    weights = torchvision_weights(name)
    model = name.split("/")[1]
    transforms = weights.transforms()
    [crop] = set(transforms.crop_size)
    num_frames, distance, views = TORCHVISION_CLIPS[model.partition("_")[0]]
    classes = weights.meta["categories"]
    values = {
        "MODEL.NAME": f"{TORCHVISION}{model}",
        "MODEL.NUM_CLASSES": len(classes),
        "MODEL.CLASS_NAMES": classes,
        "DATA.NUM_FRAMES": num_frames,
        "DATA.SAMPLING": "dense",
        "DATA.SAMPLING_RATE": distance,
        "DATA.TRAIN_CROP_SIZE": crop,
        "DATA.TEST_CROP_SIZE": crop,
        "DATA.TEST_RESIZE": transforms.resize_size,
        "DATA.MEAN": transforms.mean,
        "DATA.STD": transforms.std,
        "DATA.COLOR": "exact",
        "TEST.NUM_ENSEMBLE_VIEWS": [views],
        "ADAPT.ALLOW_NO_BATCHNORM": True,
    }
    settings = []
    for key, value in values.items():
        # JSON is YAML, and class names hold brackets and quotes.
        settings += [key, value if isinstance(value, str) else json.dumps(value)]
    return settings


def numbered_classes(entry: ZooEntry) -> list[str]:
    """Return the settings of classes that have numbers in the place of names."""
    names = [f"class {number}" for number in range(entry.classes)]
    return ["MODEL.NUM_CLASSES", str(entry.classes), "MODEL.CLASS_NAMES", json.dumps(names)]


@contextlib.contextmanager
def noted(name: str) -> Iterator[None]:
    """Add the remarks on a published name to the errors of loading it.

    Raises:
        UserError: for one in the block.
    """
    try:
        yield
    except UserError as error:
        entry = find_entry(name)
        if entry is None or not entry.note:
            raise
        raise UserError(f"{error}; {name}: {entry.note}") from None
