"""Rules that values must keep, alone and together; all faults come in one error."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from fvcore.common.config import CfgNode

from nightcrawler.config.defaults import get_cfg
from nightcrawler.config.needs import DARKENED, NEEDS, enhancements
from nightcrawler.utils.errors import ConfigError
from nightcrawler.utils.registry import unknown_name

# What MODEL.NAME may be: our own architectures and torchvision's. A name of timm is looked up when the model is
# built: asking timm takes seconds.
ARCHITECTURES = ("uniformer", "mvit", "slowfast", "resnet3d")
TORCHVISION = (
    *("mvit_v1_b", "mvit_v2_s", "swin3d_t", "swin3d_s", "swin3d_b"),
    *("r3d_18", "mc3_18", "r2plus1d_18", "s3d"),
)

# What lights dark frames (nightcrawler/data/lowlight/enhance/build.py).
ENHANCEMENTS = ("none", "gamma", "auto_gamma", "clahe", "retinex", "zero_dce")

# Values a key may take; the comments in defaults.py name the same.
CHOICES: dict[str, tuple[str, ...]] = {
    "DEVICE": ("auto", "cpu", "cuda"),
    "DIST_BACKEND": ("auto", "nccl", "gloo"),
    "DATA.SAMPLING": ("segment", "dense"),
    "DATA.DECODER": ("pyav", "torchcodec"),
    "DATA.CACHE": ("none", "ram", "disk"),
    **{f"ENHANCE.{phase}": ENHANCEMENTS for phase in ("TRAIN", "ADAPT", "VAL", "TEST")},
    "AUG.RE_MODE": ("pixel", "rand", "const"),
    "AUG.DEVICE": ("cpu", "gpu"),
    "TRAIN.EPOCH_LENGTH": ("labelled", "pseudo", "both"),
    "TRAIN.NON_FINITE": ("skip", "raise"),
    "SOLVER.OPTIMIZING_METHOD": ("adamw", "sgd"),
    "ADAPT.NAME": ("none", "batchnorm", "tent"),
    "ADAPT.TRANSFORM": ("eval", "train"),
    "TEST.VIEWS": ("distinct", "published"),
    "TEST.ENSEMBLE_METHOD": ("mean", "max"),
    "MODEL.PRECISION": ("fp32", "bf16", "fp16"),
    "MODEL.PSEUDO_LOSS": ("hard", "soft", "kl", "kl_published"),
    "UNIFORMER.PATCH_NORM": ("layer", "batch"),
    "MVIT.MODE": ("conv", "conv_unshared", "max", "avg"),
    "RESNET.ARCH": ("slowfast", "slow", "c2d", "i3d"),
}

INFINITY = float("inf")
# Closed ranges of numbers; for lists, of every element.
RANGES: dict[str, tuple[float, float]] = {
    "RNG_SEED": (0, 2**31 - 1),
    "NUM_GPUS": (0, 4096),
    "NUM_SHARDS": (0, 4096),
    "NUM_THREADS": (0, 4096),
    "DIST_TIMEOUT_SEC": (1, INFINITY),
    "LOG_PERIOD": (1, INFINITY),
    "ADAPT.TENT_LR": (1e-12, 1e3),
    "DATA_LOADER.NUM_WORKERS": (0, 1024),
    "DATA_LOADER.PREFETCH_FACTOR": (1, 1024),
    "DATA_LOADER.TIMEOUT_SEC": (0, INFINITY),
    "DATA.NUM_FRAMES": (1, 4096),
    "DATA.SAMPLING_RATE": (1, 4096),
    "DATA.TRAIN_CROP_SIZE": (1, 4096),
    "DATA.TEST_CROP_SIZE": (1, 4096),
    "DATA.STD": (1e-6, INFINITY),
    "DATA.DECODE_SHORT_SIDE": (0, 8192),
    "DATA.MAX_BAD_FRACTION": (0, 1),
    "DATA.CACHE_GIB": (0.001, INFINITY),
    "ENHANCE.GAMMA": (0.01, 10),
    "ENHANCE.TARGET_MEAN": (1, 254),
    "ENHANCE.CLAHE_CLIP": (1, 256),
    "ENHANCE.CLAHE_TILES": (1, 64),
    "ENHANCE.RETINEX_SIGMAS": (0.5, 10_000),
    "ENHANCE.DENOISE_FRAMES": (1, 31),
    "AUG.NUM_SAMPLE": (1, 64),
    "AUG.SCALE": (1e-3, 1),
    "AUG.ASPECT": (0.01, 100),
    "AUG.FLIP_PROB": (0, 1),
    "AUG.RE_PROB": (0, 1),
    "AUG.RE_COUNT": (1, 64),
    "AUG.DARKEN": (0, 1),
    "MIXUP.ALPHA": (0, INFINITY),
    "MIXUP.CUTMIX_ALPHA": (0, INFINITY),
    "MIXUP.PROB": (0, 1),
    "MIXUP.SWITCH_PROB": (0, 1),
    "MIXUP.LABEL_SMOOTH_VALUE": (0, 0.999),
    "TRAIN.BATCH_SIZE": (1, INFINITY),
    "TRAIN.MICRO_BATCH": (0, INFINITY),
    "TRAIN.EVAL_PERIOD": (1, INFINITY),
    "TRAIN.KEEP_LAST": (1, 100),
    "TRAIN.MAX_FAILED_SAVES": (1, INFINITY),
    "TRAIN.EMA_DECAY": (0, 0.999999),
    "TRAIN.PSEUDO_WEIGHT": (0, INFINITY),
    "TRAIN.PSEUDO_RAMP_EPOCHS": (0, INFINITY),
    "SOLVER.BASE_LR": (0, INFINITY),
    "SOLVER.COSINE_END_LR": (0, INFINITY),
    "SOLVER.WARMUP_START_LR": (0, INFINITY),
    "SOLVER.WARMUP_EPOCHS": (0, INFINITY),
    "SOLVER.MAX_EPOCH": (1, INFINITY),
    "SOLVER.MOMENTUM": (0, 1),
    "SOLVER.BETAS": (0, 1),
    "SOLVER.WEIGHT_DECAY": (0, INFINITY),
    "SOLVER.CLIP_GRAD_L2NORM": (0, INFINITY),
    "BN.NUM_BATCHES_PRECISE": (0, INFINITY),
    "BN.BLEND": (0, 1),
    "BN.WEIGHT_DECAY": (0, INFINITY),
    "TEST.BATCH_SIZE": (1, INFINITY),
    "TEST.NUM_ENSEMBLE_VIEWS": (1, 1024),
    "MODEL.NUM_CLASSES": (2, 1_000_000),
    "MODEL.DROPOUT_RATE": (0, 1),
    "MODEL.DROP_PATH_RATE": (0, 0.999),
    "MODEL.CHECKPOINT_NUM": (0, 1024),
    "MODEL.PSEUDO_TEMPERATURE": (1e-3, INFINITY),
    "MODEL.MIN_MATCH": (0, 1),
    "UNIFORMER.EMBED_DIM": (1, INFINITY),
    "UNIFORMER.DEPTH": (0, 1024),
    "UNIFORMER.HEAD_DIM": (1, INFINITY),
    "UNIFORMER.MLP_RATIO": (1e-3, INFINITY),
    "UNIFORMER.DROPOUT_RATE": (0, 1),
    "UNIFORMER.ATTENTION_DROPOUT_RATE": (0, 1),
    "MVIT.DEPTH": (1, 1024),
    "MVIT.EMBED_DIM": (1, INFINITY),
    "MVIT.NUM_HEADS": (1, INFINITY),
    "MVIT.MLP_RATIO": (1e-3, INFINITY),
    "MVIT.DROPOUT_RATE": (0, 1),
    "MVIT.PATCH_KERNEL": (1, 1024),
    "MVIT.PATCH_STRIDE": (1, 1024),
    "MVIT.PATCH_PADDING": (0, 1024),
    "MVIT.POOL_NORM_EPS": (1e-12, 1),
    "SLOWFAST.WIDTH": (1, INFINITY),
    "SLOWFAST.DEPTH": (1, 1024),
    "SLOWFAST.ALPHA": (1, 1024),
    "SLOWFAST.BETA_INV": (1, 1024),
    "SLOWFAST.FUSION_CONV_CHANNEL_RATIO": (1, 64),
    "SLOWFAST.FUSION_KERNEL_SZ": (1, 63),
    "RESNET.WIDTH_PER_GROUP": (1, INFINITY),
    "RESNET.NUM_GROUPS": (1, INFINITY),
}

# Keys whose list has a fixed length.
LENGTHS: dict[str, int] = {
    "DATA.MEAN": 3,
    "DATA.STD": 3,
    "ENHANCE.CLAHE_TILES": 2,
    "AUG.SCALE": 2,
    "AUG.ASPECT": 2,
    "SOLVER.BETAS": 2,
    "UNIFORMER.EMBED_DIM": 4,
    "UNIFORMER.DEPTH": 4,
    "SLOWFAST.DEPTH": 4,
    "MVIT.PATCH_KERNEL": 3,
    "MVIT.PATCH_STRIDE": 3,
    "MVIT.PATCH_PADDING": 3,
}

RAND_AUGMENT = re.compile(r"rand(-(m\d+(\.\d+)?|n\d+|mstd\d+(\.\d+)?|inc[01]))*")


def check(cfg: CfgNode, where: Mapping[str, str]) -> None:
    """Check a configuration.

    Args:
        cfg: with every value of the right type.
        where: `SECTION.KEY` to `file:line` of the keys somebody set.

    Raises:
        ConfigError: with a line per fault.
    """
    faults = [
        f"{where.get(key, 'default')}: {key}: {text}"
        for rule in RULES
        for key, text in rule(cfg, where)
    ]
    if faults:
        raise ConfigError("\n".join(faults))


Faults = Iterator[tuple[str, str]]


def _value(cfg: CfgNode, key: str) -> Any:
    node: Any = cfg
    for name in key.split("."):
        node = node[name]
    return node


def _choices(cfg: CfgNode, where: Mapping[str, str]) -> Faults:
    for key, choices in CHOICES.items():
        if _value(cfg, key) not in choices:
            yield key, f"'{_value(cfg, key)}' is not one of {', '.join(choices)}"


def _ranges(cfg: CfgNode, where: Mapping[str, str]) -> Faults:
    for key, (low, high) in RANGES.items():
        value = _value(cfg, key)
        outside = [
            item
            for item in (value if isinstance(value, list) else [value])
            if not low <= item <= high
        ]
        if outside:
            limits = f"at least {low:g}" if high == INFINITY else f"between {low:g} and {high:g}"
            yield key, f"{outside[0]} is out of range, expected {limits}"


def _lengths(cfg: CfgNode, where: Mapping[str, str]) -> Faults:
    for key, length in LENGTHS.items():
        if len(_value(cfg, key)) != length:
            yield key, f"{_value(cfg, key)} has {len(_value(cfg, key))} values, expected {length}"
    for key in ("AUG.SCALE", "AUG.ASPECT"):
        if len(_value(cfg, key)) == 2 and _value(cfg, key)[0] > _value(cfg, key)[1]:
            yield key, f"{_value(cfg, key)}: the least is above the most"


def _needs(cfg: CfgNode, where: Mapping[str, str]) -> Faults:
    defaults = get_cfg()
    for key, (condition, holds) in NEEDS.items():
        if key in where and _value(cfg, key) != _value(defaults, key) and not holds(cfg):
            yield key, f"has no effect unless {condition}"


def _batches(cfg: CfgNode, where: Mapping[str, str]) -> Faults:
    batch, micro = cfg.TRAIN.BATCH_SIZE, cfg.TRAIN.MICRO_BATCH
    processes = max(cfg.NUM_GPUS, 1) * max(cfg.NUM_SHARDS, 1)
    if batch % processes:
        yield (
            "TRAIN.BATCH_SIZE",
            f"{batch} is not a multiple of NUM_GPUS x NUM_SHARDS = {processes}",
        )
    elif micro > 0 and (batch // processes) % micro:
        yield (
            "TRAIN.MICRO_BATCH",
            f"{micro} does not divide TRAIN.BATCH_SIZE / processes = {batch // processes}",
        )


def _schedule(cfg: CfgNode, where: Mapping[str, str]) -> Faults:
    solver = cfg.SOLVER
    if solver.WARMUP_EPOCHS > solver.MAX_EPOCH:
        yield (
            "SOLVER.WARMUP_EPOCHS",
            f"{solver.WARMUP_EPOCHS:g} is more than SOLVER.MAX_EPOCH {solver.MAX_EPOCH}",
        )


def _lighting(cfg: CfgNode, where: Mapping[str, str]) -> Faults:
    enhance, gammas = cfg.ENHANCE, cfg.TEST.GAMMAS
    if enhance.DENOISE_FRAMES % 2 == 0:
        yield (
            "ENHANCE.DENOISE_FRAMES",
            f"{enhance.DENOISE_FRAMES} is even, expected an odd number of frames",
        )
    if not enhance.RETINEX_SIGMAS:
        yield "ENHANCE.RETINEX_SIGMAS", "is empty: name at least one"
    if "zero_dce" in enhancements(cfg) and not enhance.ZERO_DCE_WEIGHTS:
        yield (
            "ENHANCE.ZERO_DCE_WEIGHTS",
            "is empty, and a phase uses zero_dce: name the file of its weights",
        )
    low, high = RANGES["ENHANCE.GAMMA"]
    outside = [gamma for gamma in gammas if not low <= gamma <= high]
    if outside:
        yield "TEST.GAMMAS", f"{outside[0]} is out of range, expected between {low:g} and {high:g}"
    if len({f"{gamma:g}" for gamma in gammas}) < len(gammas):
        yield "TEST.GAMMAS", f"{gammas} names a gamma twice"


def _views(cfg: CfgNode, where: Mapping[str, str]) -> Faults:
    views, crops = cfg.TEST.NUM_ENSEMBLE_VIEWS, cfg.TEST.NUM_SPATIAL_CROPS
    if not views or not crops or (len(views) != len(crops) and 1 not in (len(views), len(crops))):
        yield (
            "TEST.NUM_SPATIAL_CROPS",
            f"{crops} does not pair with TEST.NUM_ENSEMBLE_VIEWS {views}",
        )
    wrong = [count for count in crops if count not in (1, 3)]
    if wrong:
        yield (
            "TEST.NUM_SPATIAL_CROPS",
            f"{wrong[0]}: expected 1 (centre) or 3 (left, centre, right)",
        )


def _classes(cfg: CfgNode, where: Mapping[str, str]) -> Faults:
    names = cfg.MODEL.CLASS_NAMES
    if names and len(names) != cfg.MODEL.NUM_CLASSES:
        yield (
            "MODEL.CLASS_NAMES",
            f"has {len(names)} names, MODEL.NUM_CLASSES is {cfg.MODEL.NUM_CLASSES}",
        )
    if len(set(names)) != len(names):
        yield "MODEL.CLASS_NAMES", "has a name twice"


def _rand_augment(cfg: CfgNode, where: Mapping[str, str]) -> Faults:
    text = cfg.AUG.AA_TYPE
    if text and not RAND_AUGMENT.fullmatch(text):
        yield "AUG.AA_TYPE", f"'{text}' is not a RandAugment policy such as rand-m7-n4-mstd0.5-inc1"


def _architecture(cfg: CfgNode, where: Mapping[str, str]) -> Faults:
    """The model's name, and what models from elsewhere cannot do."""
    model = cfg.MODEL
    family, slash, name = model.NAME.partition("/")
    if not (family == "timm" and name):
        known = (*ARCHITECTURES, *(f"torchvision/{other}" for other in TORCHVISION))
        if model.NAME not in known:
            yield "MODEL.NAME", str(unknown_name("model", model.NAME, (*known, "timm/NAME")))
    convolutional = model.NAME in ("slowfast", "resnet3d")
    if (slash or convolutional) and model.USE_CHECKPOINT:
        yield "MODEL.USE_CHECKPOINT", f"{model.NAME} cannot recompute activations: set it to False"
    if convolutional and model.DROP_PATH_RATE:
        yield "MODEL.DROP_PATH_RATE", f"{model.NAME} has no stochastic depth: set it to 0"
    if family == "timm" and model.CHANNELS_LAST:
        yield (
            "MODEL.CHANNELS_LAST",
            f"{model.NAME} sees single frames, this layout is for clips: set it to False",
        )


def _uniformer(cfg: CfgNode, where: Mapping[str, str]) -> Faults:
    section = cfg.UNIFORMER
    for dim in section.EMBED_DIM[2:]:
        if section.HEAD_DIM > 0 and dim % section.HEAD_DIM:
            yield (
                "UNIFORMER.EMBED_DIM",
                f"{dim} is not a multiple of UNIFORMER.HEAD_DIM {section.HEAD_DIM}",
            )


def _mvit(cfg: CfgNode, where: Mapping[str, str]) -> Faults:
    for key in ("DIM_MUL", "HEAD_MUL", "POOL_KV_STRIDE", "POOL_Q_STRIDE"):
        rows = cfg.MVIT[key]
        length = 2 if key.endswith("_MUL") else 4
        wrong = [row for row in rows if not isinstance(row, list) or len(row) != length]
        if wrong:
            yield f"MVIT.{key}", f"{wrong[0]}: expected {length} numbers, the first a block"
        elif any(row[0] < 0 or min(row[1:]) <= 0 for row in rows):
            yield f"MVIT.{key}", f"{rows}: expected blocks from 0 on, and numbers above 0"
    if cfg.MVIT.POOL_KV_STRIDE and cfg.MVIT.POOL_KV_STRIDE_ADAPTIVE:
        yield (
            "MVIT.POOL_KV_STRIDE",
            "has no effect while MVIT.POOL_KV_STRIDE_ADAPTIVE is set: set one of them to []",
        )
    for key in ("POOL_KV_STRIDE_ADAPTIVE", "POOL_KVQ_KERNEL"):
        sizes = cfg.MVIT[key]
        if len(sizes) not in (0, 3) or not all(
            isinstance(size, int) and size > 0 for size in sizes
        ):
            yield (
                f"MVIT.{key}",
                f"{sizes}: expected three numbers from 1 on (time, height, width), or []",
            )


def _pathways(cfg: CfgNode, where: Mapping[str, str]) -> Faults:
    """Sizes that must fit where there are two pathways."""
    name, section = cfg.MODEL.NAME, cfg.SLOWFAST
    if name != "slowfast" and not (name == "resnet3d" and cfg.RESNET.ARCH == "slowfast"):
        return
    width_key = "SLOWFAST.WIDTH" if name == "slowfast" else "RESNET.WIDTH_PER_GROUP"
    if section.ALPHA > 0 and cfg.DATA.NUM_FRAMES % section.ALPHA:
        yield (
            "DATA.NUM_FRAMES",
            f"{cfg.DATA.NUM_FRAMES} is not a multiple of SLOWFAST.ALPHA {section.ALPHA}",
        )
    if section.BETA_INV > 0 and _value(cfg, width_key) % section.BETA_INV:
        yield (
            width_key,
            f"{_value(cfg, width_key)} is not a multiple of SLOWFAST.BETA_INV {section.BETA_INV}",
        )
    if section.FUSION_KERNEL_SZ % 2 == 0:
        yield (
            "SLOWFAST.FUSION_KERNEL_SZ",
            f"{section.FUSION_KERNEL_SZ} is even, expected an odd number of frames",
        )


def _resnet(cfg: CfgNode, where: Mapping[str, str]) -> Faults:
    if cfg.RESNET.DEPTH not in (50, 101):
        yield "RESNET.DEPTH", f"{cfg.RESNET.DEPTH}: expected 50 or 101"


def _numbers(cfg: CfgNode, where: Mapping[str, str]) -> Faults:
    if cfg.TRAIN.THRESHOLD < 0 and cfg.TRAIN.THRESHOLD != -1:
        yield (
            "TRAIN.THRESHOLD",
            f"{cfg.TRAIN.THRESHOLD:g}: expected 0 or more standard deviations, or -1 for none",
        )
    for key in (key for key in ("DATA.TRAIN_SPLIT", "ADAPT.SPLIT") if _value(cfg, key) in DARKENED):
        yield key, f"{_value(cfg, key)} is for validation and test only"
    if not cfg.TRAIN.VAL_SPLITS:
        yield "TRAIN.VAL_SPLITS", "is empty: name at least one split"


RULES = (
    _choices,
    _ranges,
    _lengths,
    _needs,
    _batches,
    _schedule,
    _lighting,
    _views,
    _classes,
    _rand_augment,
    _architecture,
    _uniformer,
    _mvit,
    _pathways,
    _resnet,
    _numbers,
)
