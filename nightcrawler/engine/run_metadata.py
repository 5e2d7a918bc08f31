"""Metadata of a run: its configuration, label use, lists and machine, as plain values."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fvcore.common.config import CfgNode
from torch import nn

from nightcrawler.config import node
from nightcrawler.config.identity import labelled_splits_of, run_hash, training_splits_of
from nightcrawler.data.build_cameras import camera_metadata_of
from nightcrawler.data.build_items import poses_of
from nightcrawler.data.fingerprint import fingerprints
from nightcrawler.data.splits import get_split
from nightcrawler.download.hub_folder import HUB_FAMILY, obtain_folder, weights_sha256
from nightcrawler.models.formats import read_weights
from nightcrawler.models.zoo import find_entry, obtain_weights
from nightcrawler.pseudo.results_metadata import ORACLE, read_metadata, split_use
from nightcrawler.utils import distributed
from nightcrawler.utils.env import machine
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.file_hashes import FileHashes
from nightcrawler.utils.io import sha256_file
from nightcrawler.utils.versions import library_versions

# File in a run's folder with the hashes of its videos. Not `.json`, as the files that hold records.
VIDEO_HASHES = ".hashes"
# Metadata that `run.json` holds besides the checkpoints.
INFO_KEYS = (
    "config_hash",
    "seed",
    "labels",
    "adapter",
    "class_names",
    "versions",
    "lists",
    "videos",
    "start_sha256",
)


def label_use_of(cfg: CfgNode) -> str:
    """Return `oracle` if labels of dark clips had a part in a run, else `label-free`.

    They have a part if they are trained on or pick the checkpoint, or if they had one in making
    the pseudo-labels or the initial weights.

    Args:
        cfg: the configuration.
    """
    pseudo = Path(cfg.DATA.PATH_PREFIX) / cfg.DATA.PSEUDO_CSV
    if cfg.DATA.PSEUDO_CSV and pseudo.is_file() and read_metadata(pseudo)["labels"] == ORACLE:
        return ORACLE
    start = Path(cfg.TRAIN.CHECKPOINT_FILE_PATH)
    if start.is_file() and read_weights(start).labels == ORACLE:
        return ORACLE
    # Published weights do not say what chose them: the table of their names does.
    published = find_entry(cfg.TRAIN.CHECKPOINT_FILE_PATH)
    if published is not None and published.labels == ORACLE:
        return ORACLE
    return split_use((*labelled_splits_of(cfg), cfg.TRAIN.BEST_SPLIT), cfg.DATA.PATH_PREFIX)


def run_metadata_of(cfg: CfgNode) -> dict[str, Any]:
    """Return the metadata that every checkpoint and results file of a run carries.

    Args:
        cfg: the configuration.

    Returns:
        Plain values: `cfg` (YAML), `config_hash`, `class_names`, `labels` (label use), `adapter`,
        `seed`, `versions`.
    """
    return {
        "cfg": node.dump(cfg),
        "config_hash": run_hash(cfg),
        "class_names": list(cfg.MODEL.CLASS_NAMES),
        "labels": label_use_of(cfg),
        "adapter": cfg.ADAPT.NAME,
        "seed": cfg.RNG_SEED,
        "versions": library_versions(),
    }


def list_hashes_of(cfg: CfgNode) -> dict[str, str]:
    """Return the SHA-256 of the list files that settle the training data and the best checkpoint.

    Args:
        cfg: the configuration.

    Returns:
        Description of the list (`split arid`, or the pseudo-label file) to hash, without
        lists that are missing.
    """
    # The adapted split has a part in the weights that are validated, hence in the best ones.
    prefix = Path(cfg.DATA.PATH_PREFIX)
    files: dict[str, Path] = {}
    for name in (*labelled_splits_of(cfg), cfg.ADAPT.SPLIT, cfg.TRAIN.BEST_SPLIT):
        files[f"split {name}"] = Path(get_split(name, prefix).list_file)
    if cfg.DATA.PSEUDO_CSV:
        files[cfg.DATA.PSEUDO_CSV] = prefix / cfg.DATA.PSEUDO_CSV
    return {name: sha256_file(path) for name, path in files.items() if path.is_file()}


def video_fingerprints_of(cfg: CfgNode, splits: Sequence[str]) -> dict[str, str]:
    """Return the fingerprint of the videos of each split, the same on every rank.

    Hashes are cached in the run's folder, so that a run that is resumed reads no video again.

    Args:
        cfg: the configuration.
        splits: names of splits.
    """
    found: dict[str, str] = {}
    # All ranks see the same data: one of them reads it.
    if distributed.is_main():
        hashes = FileHashes(Path(cfg.OUTPUT_DIR) / VIDEO_HASHES)
        prefix = Path(cfg.DATA.PATH_PREFIX)
        found = dict(fingerprints(splits, prefix, hashes, poses_of(cfg)))
        # Without the cache they are computed again: no reason to end a run.
        with contextlib.suppress(OSError):
            hashes.save()
    return dict(distributed.gather_objects(found)[0])


def data_stamps_of(cfg: CfgNode) -> dict[str, Any]:
    """Return the hashes of all files that settle a training: lists, videos, starting weights.

    Args:
        cfg: the configuration.

    Returns:
        `lists`, `videos` and `start_sha256` (empty for random weights, or a missing file).
    """
    start = ""
    if cfg.TRAIN.CHECKPOINT_FILE_PATH:
        with contextlib.suppress(UserError):
            start = sha256_file(obtain_weights(cfg.TRAIN.CHECKPOINT_FILE_PATH))
    elif cfg.MODEL.NAME.startswith(HUB_FAMILY):
        start = weights_sha256(obtain_folder(cfg.MODEL.NAME.removeprefix(HUB_FAMILY)))
    splits = {*training_splits_of(cfg)}
    if cfg.DATA.CAMERA == "fit":
        splits.add(cfg.ADAPT.SPLIT)
    return {
        "lists": list_hashes_of(cfg),
        "videos": video_fingerprints_of(cfg, sorted(splits)),
        "start_sha256": start,
    }


def run_info_of(cfg: CfgNode, model: nn.Module, run_metadata: dict[str, Any]) -> dict[str, Any]:
    """Return the content of `run.json`: seed, versions, machine, model size, label use.

    Args:
        cfg: the configuration.
        model: the model that is trained.
        run_metadata: metadata of the run, as its checkpoints hold it.
    """
    info: dict[str, Any] = {}
    for key in INFO_KEYS:
        info[key] = run_metadata[key]
    return {
        **info,
        **camera_metadata_of(cfg, [*cfg.TRAIN.VAL_SPLITS, cfg.TRAIN.BEST_SPLIT]),
        "world_size": distributed.world_size(),
        "num_params": sum(parameter.numel() for parameter in model.parameters()),
        "machine": machine(),
    }
