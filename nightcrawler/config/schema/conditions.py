"""Conditions under which a key has an effect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fvcore.common.config import CfgNode

# Bright splits seen through a low-light camera (nightcrawler/data/splits.py; a test compares them).
DARKENED = ("val_dark",)
PHASES = ("TRAIN", "ADAPT", "VAL", "TEST")


@dataclass(frozen=True)
class Condition:
    """Condition on other keys.

    Attributes:
        text: The condition in words, after "has no effect unless".
        holds: Function of the configuration.
        keys: Keys that the condition reads.
    """

    text: str
    holds: Callable[[CfgNode], bool]
    keys: tuple[str, ...]


def value_of(cfg: CfgNode, key: str) -> Any:
    """Return the value of a key such as `SOLVER.BASE_LR`."""
    node: Any = cfg
    for name in key.split("."):
        node = node[name]
    return node


def equals(key: str, value: Any) -> Condition:
    """Require one value of a key."""
    return Condition(f"{key} is {value}", lambda cfg: value_of(cfg, key) == value, (key,))


def differs(key: str, value: Any) -> Condition:
    """Require any value of a key but one."""
    return Condition(f"{key} is not {value}", lambda cfg: value_of(cfg, key) != value, (key,))


def is_positive(key: str) -> Condition:
    """Require a number above 0."""
    return Condition(f"{key} is above 0", lambda cfg: value_of(cfg, key) > 0, (key,))


def is_set(key: str) -> Condition:
    """Require a text or a list that is not empty."""
    return Condition(f"{key} is set", lambda cfg: bool(value_of(cfg, key)), (key,))


def _learns_from_pseudo(cfg: CfgNode) -> bool:
    return bool(cfg.DATA.PSEUDO_CSV) and cfg.TRAIN.PSEUDO_WEIGHT > 0


def _has_dark_training_clips(cfg: CfgNode) -> bool:
    """Return whether frames of dark clips, pseudo-labelled or darkened, are trained on."""
    return cfg.DATA.INPUT == "frames" and (cfg.AUG.DARKEN > 0 or _learns_from_pseudo(cfg))


HAS_DARK_TRAINING_CLIPS = Condition(
    "DATA.PSEUDO_CSV is set and TRAIN.PSEUDO_WEIGHT is above 0, or AUG.DARKEN is above 0 (both "
    "with DATA.INPUT frames)",
    _has_dark_training_clips,
    ("DATA.INPUT", "DATA.PSEUDO_CSV", "TRAIN.PSEUDO_WEIGHT", "AUG.DARKEN"),
)


def _enhanced_phases(cfg: CfgNode) -> set[str]:
    """Return the phases that may see dark clips."""
    phases = set(PHASES)
    if not _has_dark_training_clips(cfg):
        phases.remove("TRAIN")
    if cfg.ADAPT.NAME == "none":
        phases.remove("ADAPT")
    return phases


def enhancements_of(cfg: CfgNode) -> set[str]:
    """Return the enhancements that some phase uses."""
    return {cfg.ENHANCE[phase] for phase in _enhanced_phases(cfg)}


ENHANCE_KEYS = (
    *(f"ENHANCE.{phase}" for phase in PHASES),
    *HAS_DARK_TRAINING_CLIPS.keys,
    "ADAPT.NAME",
)
ENHANCES = Condition(
    "a phase enhances dark clips", lambda cfg: enhancements_of(cfg) != {"none"}, ENHANCE_KEYS
)


def enhances_with(name: str) -> Condition:
    """Require that some phase uses an enhancement."""
    return Condition(f"a phase uses {name}", lambda cfg: name in enhancements_of(cfg), ENHANCE_KEYS)


def _reads_gamma(cfg: CfgNode) -> bool:
    """Return whether a phase reads `ENHANCE.GAMMA` (in testing, `TEST.GAMMAS` replaces it)."""
    phases = _enhanced_phases(cfg)
    if cfg.TEST.GAMMAS:
        phases.remove("TEST")
    return any(cfg.ENHANCE[phase] == "gamma" for phase in phases)


READS_GAMMA = Condition(
    "a phase uses gamma (the test phase: without TEST.GAMMAS)",
    _reads_gamma,
    (*ENHANCE_KEYS, "TEST.GAMMAS"),
)


def _uses_camera(cfg: CfgNode) -> bool:
    splits = {cfg.TRAIN.BEST_SPLIT, *cfg.TRAIN.VAL_SPLITS, cfg.TEST.DATA_SELECT}
    return cfg.AUG.DARKEN > 0 or not splits.isdisjoint(DARKENED)


USES_CAMERA = Condition(
    "val_dark is validated or tested, or AUG.DARKEN is above 0",
    _uses_camera,
    ("AUG.DARKEN", "TRAIN.BEST_SPLIT", "TRAIN.VAL_SPLITS", "TEST.DATA_SELECT"),
)
# Cross entropy (`hard`, `soft`) has no temperature.
USES_TEMPERATURE = Condition(
    "MODEL.PSEUDO_LOSS is kl",
    lambda cfg: cfg.MODEL.PSEUDO_LOSS not in ("hard", "soft"),
    ("MODEL.PSEUDO_LOSS",),
)
TRAINS_BACKBONE = equals("MODEL.PROBE", "none")
HAS_PSEUDO_LABELS = is_set("DATA.PSEUDO_CSV")
LEARNS_FROM_PSEUDO = Condition(
    "DATA.PSEUDO_CSV is set and TRAIN.PSEUDO_WEIGHT is above 0",
    _learns_from_pseudo,
    ("DATA.PSEUDO_CSV", "TRAIN.PSEUDO_WEIGHT"),
)
HAS_START = is_set("TRAIN.CHECKPOINT_FILE_PATH")
WARMS_UP = is_positive("SOLVER.WARMUP_EPOCHS")
BALANCES_PSEUDO = equals("TRAIN.BALANCE_PSEUDO", True)
ADAPTS = differs("ADAPT.NAME", "none")
SEES_POSES = equals("DATA.INPUT", "pose")
LIGHTS_POSES = Condition(
    "POSE.LIGHT is not none, and DATA.INPUT is pose",
    lambda cfg: cfg.DATA.INPUT == "pose" and cfg.POSE.LIGHT != "none",
    ("POSE.LIGHT", "DATA.INPUT"),
)
MIXES_SOURCES = is_set("POSE.SOURCES")
# Motions that are mixed in come with all classes equally often.
HAS_ONE_SOURCE = Condition(
    "POSE.SOURCES is empty", lambda cfg: not cfg.POSE.SOURCES, ("POSE.SOURCES",)
)
MIXES = equals("MIXUP.ENABLE", True)
MIXES_BOTH_WAYS = Condition(
    "MIXUP.ENABLE is True, and MIXUP.ALPHA and MIXUP.CUTMIX_ALPHA are above 0",
    lambda cfg: cfg.MIXUP.ENABLE and cfg.MIXUP.ALPHA > 0 and cfg.MIXUP.CUTMIX_ALPHA > 0,
    ("MIXUP.ENABLE", "MIXUP.ALPHA", "MIXUP.CUTMIX_ALPHA"),
)


def _may_stop_early(cfg: CfgNode) -> bool:
    period = cfg.TRAIN.EVAL_PERIOD
    # A training is asked to stop after a validation that is not its last.
    last = (cfg.SOLVER.MAX_EPOCH - 1) // period * period
    return last >= int(cfg.TRAIN.EARLY_STOP)


MAY_STOP_EARLY = Condition(
    "a validation before the last comes so late (SOLVER.MAX_EPOCH, TRAIN.EVAL_PERIOD)",
    _may_stop_early,
    ("TRAIN.EARLY_STOP", "SOLVER.MAX_EPOCH", "TRAIN.EVAL_PERIOD"),
)
