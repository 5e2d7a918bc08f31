"""From configuration to the videos of a split, and to those of the streams of training."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from fvcore.common.config import CfgNode

from nightcrawler.data.lists import MissingVideosError, VideoItem, read_list, read_pseudo
from nightcrawler.data.splits import Split, get_split
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.logging import get_logger

logger = get_logger(__name__)


def poses_of(cfg: CfgNode) -> str:
    """Return the folder of pose files, empty where the input is frames."""
    return cfg.POSE.FOLDER if cfg.DATA.INPUT == "pose" else ""


def split_of(cfg: CfgNode, name: str) -> Split:
    """Return a split of the data folder: of videos, or of their pose files."""
    return get_split(name, cfg.DATA.PATH_PREFIX, poses_of(cfg))


def _advice_of(cfg: CfgNode) -> str:
    """Return the advice where no file of a list is there."""
    if cfg.DATA.INPUT == "pose":
        return "make pose files with nightcrawler pose extract, or set POSE.FOLDER"
    return "set DATA.PATH_PREFIX"


def build_items(cfg: CfgNode, split: str) -> list[VideoItem]:
    """Build the items of a split, in list order.

    Raises:
        UserError: if the list is missing or bad, or none of its videos is there.
    """
    found = split_of(cfg, split)
    num_classes = cfg.MODEL.NUM_CLASSES
    try:
        return read_list(found.list_file, found.folders, num_classes, suffix=found.suffix)
    except MissingVideosError as error:
        raise UserError(f"{error}; {_advice_of(cfg)}") from None


def build_train_items(cfg: CfgNode, split: str | None = None) -> list[VideoItem]:
    """Build the items of a labelled split, without those of the split that picks the checkpoint.

    `DATA.EXCLUDE_VAL` leaves the latter in where it is off.

    Args:
        cfg: the configuration.
        split: name of the split, `DATA.TRAIN_SPLIT` when absent.

    Raises:
        UserError: if a row has no label, or nothing is left.
    """
    split = split or cfg.DATA.TRAIN_SPLIT
    items = build_items(cfg, split)
    for item in items:
        if item.label < 0:
            raise UserError(
                f"split '{split}' is to be trained on, but row {item.row} ('{item.name}') has "
                f"label {item.label}: expected 0..{cfg.MODEL.NUM_CLASSES - 1}"
            )
    if cfg.DATA.EXCLUDE_VAL and split != cfg.TRAIN.BEST_SPLIT:
        items = _build_without_validation(cfg, split, items)
    if not items:
        raise UserError(f"split '{split}' has no video left to train on; see DATA.EXCLUDE_VAL")
    return items


def _build_without_validation(cfg: CfgNode, split: str, items: list[VideoItem]) -> list[VideoItem]:
    """Leave out the items whose videos are in `TRAIN.BEST_SPLIT`."""
    train = get_split(split, cfg.DATA.PATH_PREFIX)
    best = get_split(cfg.TRAIN.BEST_SPLIT, cfg.DATA.PATH_PREFIX)
    # A dark list may name its clips as the bright one does, though they are other files.
    identity = _file_of
    if set(train.folders) & set(best.folders):
        # Names are of the same videos where folders are shared; a copy in another of them is left
        # out, too.
        identity = _name_of
    validated = {identity(item) for item in build_items(cfg, cfg.TRAIN.BEST_SPLIT)}
    kept = [item for item in items if identity(item) not in validated]
    if len(kept) < len(items):
        logger.info("left %d validation videos out of training", len(items) - len(kept))
    return kept


def _name_of(item: VideoItem) -> str:
    return item.name


def _file_of(item: VideoItem) -> str:
    return os.path.realpath(item.path)


def build_pseudo_items(cfg: CfgNode) -> list[VideoItem]:
    """Build the items of the pseudo-labelled stream.

    Those of low confidence are left out, see `TRAIN.THRESHOLD`.

    Raises:
        UserError: if the list is missing or bad, none of its videos is there, or nothing is left.
    """
    split = split_of(cfg, cfg.ADAPT.SPLIT)
    path = Path(cfg.DATA.PATH_PREFIX) / cfg.DATA.PSEUDO_CSV
    try:
        items = read_pseudo(path, split.folders, cfg.MODEL.NUM_CLASSES, split.suffix)
    except MissingVideosError as error:
        raise UserError(f"{error}; {_advice_of(cfg)}") from None
    if cfg.TRAIN.THRESHOLD == -1:
        return items
    # A hard label counts as certain.
    confidences = np.array([max(item.probs or (1.0,)) for item in items])
    least = confidence_threshold(confidences, cfg.TRAIN.THRESHOLD)
    kept = [items[position] for position in np.flatnonzero(confidences >= least)]
    text = "%s: %d of %d rows have confidence %.4f or more"
    logger.info(text, path, len(kept), len(items), least)
    if not kept:
        raise UserError(
            f"{path}: TRAIN.THRESHOLD {cfg.TRAIN.THRESHOLD} leaves no row "
            f"(least confidence {least:.4f})"
        )
    return kept


def confidence_threshold(confidences: np.ndarray, num_std: float) -> float:
    """Return the mean minus `num_std` sample standard deviations of confidences `[N]`.

    The threshold is -1, below all confidences, where `num_std` is -1 or there is only one.
    """
    if num_std == -1 or len(confidences) < 2:
        return -1.0
    least = float(confidences.mean() - num_std * confidences.std(ddof=1))
    # The mean of equal confidences may be rounded to a number above them.
    return min(least, float(confidences.max())) if num_std >= 0 else least
