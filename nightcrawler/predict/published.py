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
from nightcrawler.models.zoo_table import PRETRAINED, ZooEntry
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.logging import get_logger
from nightcrawler.utils.project import packaged_root

logger = get_logger(__name__)


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
    if name in PRETRAINED:
        logger.warning("%s: its file does not name its classes: they are shown by number", name)
        overrides = numbered_classes(entry)
    # As it was tested when it was published, also where this version does otherwise.
    cfg = load_experiment(
        packaged_root() / entry.config, overrides=overrides, defaults=recorded_defaults()
    )
    return replace(
        file,
        config_text=dump(cfg),
        class_names=tuple(cfg.MODEL.CLASS_NAMES),
        labels=entry.labels,
    )


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
