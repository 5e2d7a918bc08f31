"""Identity of a run: the keys that its numbers depend on, their hash, differences from a record.

Two configurations are of the same run if they differ only in keys that settle where and how fast it
computes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fvcore.common.config import CfgNode

from nightcrawler.config.check import reset_idle_keys
from nightcrawler.config.load import converted
from nightcrawler.config.node import config_hash, flatten, get_cfg, set_value
from nightcrawler.config.schema import SCHEMA
from nightcrawler.config.yaml import parse_yaml
from nightcrawler.utils.errors import ConfigError

# Keys that may differ between a run and its continuation: they settle where and how fast it runs,
# not its results. The configuration hash ignores them.
MACHINE_KEYS = (
    "OUTPUT_DIR",
    "DEVICE",
    "NUM_GPUS",
    "NUM_SHARDS",
    "DIST_BACKEND",
    "DIST_TIMEOUT_SEC",
    "NUM_THREADS",
    "AUG.DEVICE",
    "LOG_PERIOD",
    "WRITERS",
    "TENSORBOARD",
    "DATA_LOADER",
    "DATA.PATH_PREFIX",
    "POSE.FOLDER",
    "TRAIN.KEEP_LAST",
    "TRAIN.MAX_FAILED_SAVES",
    "TEST",
)
# Keys of the same kind that hashes of version 0.1 hold: they are hashed as their defaults.
IDLE_KEYS = ("DATA.CACHE", "DATA.CACHE_DIR", "DATA.CACHE_GIB", "TRAIN.AUTO_RESUME")
# Files that other tasks of a pipeline write: their bytes count, not their location.
LINKED_KEYS = ("TRAIN.CHECKPOINT_FILE_PATH", "DATA.PSEUDO_CSV")
# Keys of a test that results files name, or that change only its speed.
TEST_KEYS = (
    "TEST.DATA_SELECT",
    "TEST.NUM_ENSEMBLE_VIEWS",
    "TEST.NUM_SPATIAL_CROPS",
    "TEST.BATCH_SIZE",
    "TEST.RESULTS_FORMAT",
)
# Differences that a message names.
MAX_NAMED = 4


def is_below(key: str, names: Sequence[str]) -> bool:
    """Return whether a key is one of some keys, or in one of some sections."""
    return any(key == name or key.startswith(f"{name}.") for name in names)


def without_idle_keys(cfg: CfgNode, trains: bool = True) -> CfgNode:
    """Return a copy in which keys that change no number have their defaults.

    Args:
        cfg: Configuration.
        trains: Of a training, which never reads what only a test enhances with.
    """
    copy = cfg.clone()
    copy.defrost()
    if trains:
        # As if it tested the way it validates: parameters that nothing reads then are idle.
        copy.ENHANCE.TEST = copy.ENHANCE.VAL
        reset_idle_keys(copy, SCHEMA)
        copy.ENHANCE.TEST = SCHEMA["ENHANCE.TEST"].default
    for key in IDLE_KEYS:
        set_value(copy, key, SCHEMA[key].default)
    return copy


def run_hash(cfg: CfgNode) -> str:
    """Return the hash of the keys that the numbers of a training depend on."""
    return config_hash(without_idle_keys(cfg), MACHINE_KEYS)


def test_hash(cfg: CfgNode) -> str:
    """Return the hash of the keys that the results of a test depend on, given its weights.

    The split, the views and the crops are not among them: results name these.
    """
    machine = [key for key in MACHINE_KEYS if key != "TEST"]
    return config_hash(without_idle_keys(cfg, trains=False), [*machine, *LINKED_KEYS, *TEST_KEYS])


def labelled_splits_of(cfg: CfgNode) -> list[str]:
    """Return the splits whose labels a training learns from."""
    return [cfg.DATA.TRAIN_SPLIT, *cfg.POSE.SOURCES]


def training_splits_of(cfg: CfgNode) -> list[str]:
    """Return the splits that a training reads, in alphabetical order."""
    splits = {*labelled_splits_of(cfg), *cfg.TRAIN.VAL_SPLITS, cfg.TRAIN.BEST_SPLIT}
    # BatchNorm adaptation and the pseudo-labelled stream read the clips of ADAPT.SPLIT.
    if cfg.ADAPT.NAME != "none" or cfg.DATA.PSEUDO_CSV:
        splits.add(cfg.ADAPT.SPLIT)
    return sorted(splits)


def run_values(cfg: CfgNode) -> dict[str, Any]:
    """Return the keys that the numbers of a training depend on, with their values."""
    values = flatten(without_idle_keys(cfg))
    return {key: value for key, value in values.items() if not is_below(key, MACHINE_KEYS)}


def read_recorded(text: str, path: Path) -> CfgNode:
    """Read a whole configuration that a run recorded, perhaps by an earlier version.

    Keys that this version does not have are left out, and missing ones have the values that the
    earlier version used: the result serves to compare, not to run.

    Args:
        text: YAML.
        path: Its file, for messages.

    Raises:
        ConfigError: If it is no configuration.
    """
    cfg = get_cfg()
    for key, declared in SCHEMA.items():
        if declared.earlier is not None:
            set_value(cfg, key, declared.earlier)
    for key, value in parse_yaml(text, path).values.items():
        known = SCHEMA.get(key)
        if known is None:
            continue
        like = known.default
        if known.element is not None:
            like = [known.element]
        try:
            set_value(cfg, key, converted(value, like))
        except ValueError as error:
            raise ConfigError(f"{path}: {key}: {error}") from None
    return cfg


def is_of_same_run(text: str, path: Path, wanted: str) -> bool:
    """Return whether a recorded configuration has a hash of `run_hash`.

    Args:
        text: YAML that a run recorded.
        path: Its file.
        wanted: Hash to compare with.
    """
    try:
        return run_hash(read_recorded(text, path)) == wanted
    except ConfigError:
        return False


def differences_of_texts(before: str, now: str, path: Path) -> str:
    """Return the keys that differ between two recorded configurations, for people.

    Args:
        before: YAML that a run recorded.
        now: YAML of the current run.
        path: File of the record.

    Returns:
        As `name_differences`, empty if the record cannot be read.
    """
    try:
        return name_differences(
            run_values(read_recorded(before, path)), run_values(read_recorded(now, path))
        )
    except ConfigError:
        return ""


def name_differences(
    before: Mapping[str, Any], now: Mapping[str, Any], ignore: Sequence[str] = ()
) -> str:
    """Return the keys whose values differ, for people.

    Args:
        before: `KEY` to value, as recorded.
        now: `KEY` to value.
        ignore: Keys or whole sections to leave out.

    Returns:
        Such as `SOLVER.BASE_LR 0.002 (now 0.001)`, empty if there is no difference.
    """
    texts = []
    for key in sorted({*before, *now}):
        if not is_below(key, ignore) and before.get(key) != now.get(key):
            texts.append(f"{key} {before.get(key, 'absent')} (now {now.get(key, 'absent')})")
    if len(texts) > MAX_NAMED:
        texts[MAX_NAMED:] = [f"and {len(texts) - MAX_NAMED} more"]
    return ", ".join(texts)
