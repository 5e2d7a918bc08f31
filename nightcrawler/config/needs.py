"""Keys that act only together with others."""

from __future__ import annotations

from typing import Any

from fvcore.common.config import CfgNode

# Bright splits seen by night cameras (nightcrawler/data/splits.py).
DARKENED = ("val_dark",)

# Keys that do nothing unless the condition holds: setting one then is an error.
NEEDS: dict[str, tuple[str, Any]] = {
    "ADAPT.TENT_LR": ("ADAPT.NAME is tent", lambda cfg: cfg.ADAPT.NAME == "tent"),
    "ADAPT.TRANSFORM": ("ADAPT.NAME is not none", lambda cfg: cfg.ADAPT.NAME != "none"),
    "AUG.RE_MODE": ("AUG.RE_PROB is above 0", lambda cfg: cfg.AUG.RE_PROB > 0),
    "AUG.RE_COUNT": ("AUG.RE_PROB is above 0", lambda cfg: cfg.AUG.RE_PROB > 0),
    "AUG.DEVICE": ("DEVICE is not cpu", lambda cfg: cfg.DEVICE != "cpu"),
    "DATA.CAMERA": (
        "val_dark is validated or tested, or AUG.DARKEN is above 0",
        lambda cfg: _uses_camera(cfg),
    ),
    "DATA.SAMPLING_RATE": ("DATA.SAMPLING is dense", lambda cfg: cfg.DATA.SAMPLING == "dense"),
    "DATA.CACHE_DIR": ("DATA.CACHE is disk", lambda cfg: cfg.DATA.CACHE == "disk"),
    "DATA.CACHE_GIB": ("DATA.CACHE is ram or disk", lambda cfg: cfg.DATA.CACHE != "none"),
    "ENHANCE.ADAPT": ("ADAPT.NAME is not none", lambda cfg: cfg.ADAPT.NAME != "none"),
    "ENHANCE.TARGET_MEAN": (
        "a phase uses auto_gamma",
        lambda cfg: "auto_gamma" in enhancements(cfg),
    ),
    "ENHANCE.GAMMA": (
        "a phase uses gamma (the test phase: without TEST.GAMMAS)",
        lambda cfg: _uses_gamma(cfg),
    ),
    "ENHANCE.CLAHE_CLIP": ("a phase uses clahe", lambda cfg: "clahe" in enhancements(cfg)),
    "ENHANCE.CLAHE_TILES": ("a phase uses clahe", lambda cfg: "clahe" in enhancements(cfg)),
    "ENHANCE.RETINEX_SIGMAS": ("a phase uses retinex", lambda cfg: "retinex" in enhancements(cfg)),
    "ENHANCE.ZERO_DCE_WEIGHTS": (
        "a phase uses zero_dce",
        lambda cfg: "zero_dce" in enhancements(cfg),
    ),
    "ENHANCE.DENOISE_FRAMES": (
        "a phase lights dark clips",
        lambda cfg: enhancements(cfg) != {"none"},
    ),
    "MIXUP.ALPHA": ("MIXUP.ENABLE is True", lambda cfg: cfg.MIXUP.ENABLE),
    "MIXUP.CUTMIX_ALPHA": ("MIXUP.ENABLE is True", lambda cfg: cfg.MIXUP.ENABLE),
    "MIXUP.PROB": ("MIXUP.ENABLE is True", lambda cfg: cfg.MIXUP.ENABLE),
    "MIXUP.SWITCH_PROB": ("MIXUP.ENABLE is True", lambda cfg: cfg.MIXUP.ENABLE),
    "TEST.GAMMAS": ("ENHANCE.TEST is gamma", lambda cfg: cfg.ENHANCE.TEST == "gamma"),
    "TEST.VIEWS": ("DATA.SAMPLING is segment", lambda cfg: cfg.DATA.SAMPLING == "segment"),
    "TRAIN.EPOCH_LENGTH": ("DATA.PSEUDO_CSV is set", lambda cfg: bool(cfg.DATA.PSEUDO_CSV)),
    "TRAIN.JOINT_STEP": ("DATA.PSEUDO_CSV is set", lambda cfg: bool(cfg.DATA.PSEUDO_CSV)),
    "TRAIN.PSEUDO_WEIGHT": ("DATA.PSEUDO_CSV is set", lambda cfg: bool(cfg.DATA.PSEUDO_CSV)),
    "TRAIN.PSEUDO_RAMP_EPOCHS": ("DATA.PSEUDO_CSV is set", lambda cfg: bool(cfg.DATA.PSEUDO_CSV)),
    "TRAIN.BALANCE_PSEUDO": ("DATA.PSEUDO_CSV is set", lambda cfg: bool(cfg.DATA.PSEUDO_CSV)),
    "TRAIN.THRESHOLD": ("DATA.PSEUDO_CSV is set", lambda cfg: bool(cfg.DATA.PSEUDO_CSV)),
    "MODEL.PSEUDO_LOSS": ("DATA.PSEUDO_CSV is set", lambda cfg: bool(cfg.DATA.PSEUDO_CSV)),
    "MODEL.PSEUDO_TEMPERATURE": (
        "MODEL.PSEUDO_LOSS is kl",
        lambda cfg: cfg.MODEL.PSEUDO_LOSS.startswith("kl"),
    ),
    "SOLVER.MOMENTUM": (
        "SOLVER.OPTIMIZING_METHOD is sgd",
        lambda cfg: cfg.SOLVER.OPTIMIZING_METHOD == "sgd",
    ),
    "SOLVER.BETAS": (
        "SOLVER.OPTIMIZING_METHOD is adamw",
        lambda cfg: cfg.SOLVER.OPTIMIZING_METHOD == "adamw",
    ),
    "BN.BLEND": ("ADAPT.NAME is not none", lambda cfg: cfg.ADAPT.NAME != "none"),
    "BN.NUM_BATCHES_PRECISE": ("ADAPT.NAME is not none", lambda cfg: cfg.ADAPT.NAME != "none"),
    "MODEL.CHECKPOINT_NUM": ("MODEL.USE_CHECKPOINT is True", lambda cfg: cfg.MODEL.USE_CHECKPOINT),
}


def enhancements(cfg: CfgNode) -> set[str]:
    """The enhancements that some phase uses."""
    adapted = {cfg.ENHANCE.ADAPT} if cfg.ADAPT.NAME != "none" else set()
    return {cfg.ENHANCE.TRAIN, cfg.ENHANCE.VAL, cfg.ENHANCE.TEST, *adapted}


def _uses_gamma(cfg: CfgNode) -> bool:
    adapted = [cfg.ENHANCE.ADAPT] if cfg.ADAPT.NAME != "none" else []
    phases = [cfg.ENHANCE.TRAIN, *adapted, cfg.ENHANCE.VAL]
    return "gamma" in (phases if cfg.TEST.GAMMAS else [*phases, cfg.ENHANCE.TEST])


def _uses_camera(cfg: CfgNode) -> bool:
    return cfg.AUG.DARKEN > 0 or bool(
        {*DARKENED} & {cfg.TRAIN.BEST_SPLIT, *cfg.TRAIN.VAL_SPLITS, cfg.TEST.DATA_SELECT}
    )
