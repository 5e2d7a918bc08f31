"""Check values alone (their declaration) and together (the rules below), and report all faults."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fvcore.common.config import CfgNode

from nightcrawler.config.node import set_value
from nightcrawler.config.schema import SCHEMA
from nightcrawler.config.schema.conditions import DARKENED, enhancements_of, value_of
from nightcrawler.config.schema.value_rules import LR_FACTOR, is_size
from nightcrawler.utils.errors import ConfigError

# Models whose clips are joints, and those of frames that are not named with a slash.
SKELETON_MODELS = ("stgcn", "poseconv", "poseconv3d")
FRAME_MODELS = ("uniformer", "mvit", "slowfast", "resnet3d", "x3d")
# Keys that are about frames, with the values that do nothing.
POSE_REFUSES: dict[str, Any] = {
    "AUG.DARKEN": 0.0,
    "TEST.NUM_SPATIAL_CROPS": [1],
    "TEST.GAMMAS": [],
    "DATA.TEST_RESIZE": [],
    "DATA.CACHE": "none",
    "DATA.CHECKSUMS": "",
}
# Key and text of each fault.
Faults = Iterator[tuple[str, str]]


def check(cfg: CfgNode, where: Mapping[str, str]) -> None:
    """Check a configuration.

    Args:
        cfg: Configuration with every value of the right type.
        where: `SECTION.KEY` to `file:line` of the keys that were set.

    Raises:
        ConfigError: With one line per fault.
    """
    faults = [*_single_keys(cfg), *_keys_without_effect(cfg, where)]
    for rule in RULES:
        faults += rule(cfg)
    if faults:
        lines = [f"{where.get(key, 'default')}: {key}: {text}" for key, text in faults]
        raise ConfigError("\n".join(dict.fromkeys(lines)))


def _single_keys(cfg: CfgNode) -> Faults:
    for name, key in SCHEMA.items():
        fault = key.fault_of(value_of(cfg, name))
        if fault is not None:
            yield name, fault


def _keys_without_effect(cfg: CfgNode, where: Mapping[str, str]) -> Faults:
    """Yield the keys that were set, differ from their default and have no effect."""
    for name, key in SCHEMA.items():
        if key.needs is not None and name in where and _is_idle(cfg, name):
            yield name, f"has no effect unless {key.needs.text}"


def _is_idle(cfg: CfgNode, name: str) -> bool:
    key = SCHEMA[name]
    if key.needs is None or value_of(cfg, name) == key.default:
        return False
    return not key.needs.holds(cfg)


def reset_idle_keys(cfg: CfgNode, names: Iterable[str]) -> list[str]:
    """Return keys without effect to their defaults, and keys that have none without these.

    Args:
        cfg: Configuration, changed in place.
        names: Keys that may be changed.

    Returns:
        The keys that were changed.
    """
    names = list(names)
    changed: list[str] = []
    while True:
        idle = [name for name in names if _is_idle(cfg, name)]
        if not idle:
            return changed
        for name in idle:
            set_value(cfg, name, SCHEMA[name].default)
        changed += idle


# Rules over several keys. They run on faulty values too, and then must not raise.


def _decoder(cfg: CfgNode) -> Faults:
    if cfg.DATA.DECODER == "torchcodec" and cfg.DATA.COLOR == "exact":
        text = "torchcodec converts colours as published only: set DATA.COLOR published"
        yield "DATA.DECODER", text


def _batches(cfg: CfgNode) -> Faults:
    batch = cfg.TRAIN.BATCH_SIZE
    micro = cfg.TRAIN.MICRO_BATCH
    processes = max(cfg.NUM_GPUS, 1) * max(cfg.NUM_SHARDS, 1)
    if batch % processes:
        text = f"{batch} is not a multiple of NUM_GPUS x NUM_SHARDS = {processes}"
        yield "TRAIN.BATCH_SIZE", text
    elif micro > 0 and (batch // processes) % micro:
        text = f"{micro} does not divide TRAIN.BATCH_SIZE / processes = {batch // processes}"
        yield "TRAIN.MICRO_BATCH", text


def _schedule(cfg: CfgNode) -> Faults:
    warmup = cfg.SOLVER.WARMUP_EPOCHS
    if warmup > cfg.SOLVER.MAX_EPOCH:
        text = f"{warmup:g} is more than SOLVER.MAX_EPOCH {cfg.SOLVER.MAX_EPOCH}"
        yield "SOLVER.WARMUP_EPOCHS", text
    for factor in cfg.SOLVER.LR_FACTORS:
        rule = LR_FACTOR.fullmatch(factor)
        if rule and rule["epoch"] and float(rule["epoch"]) >= cfg.SOLVER.MAX_EPOCH:
            text = f"'{factor}': nothing is trained at this rate in {cfg.SOLVER.MAX_EPOCH} epochs"
            yield "SOLVER.LR_FACTORS", f"{text} (SOLVER.MAX_EPOCH)"
    if cfg.TRAIN.KEEP_CLEAN < 1 and cfg.TRAIN.EVAL_PERIOD >= cfg.SOLVER.MAX_EPOCH:
        text = "nothing is chosen, as only the last epoch is validated: lower TRAIN.EVAL_PERIOD"
        yield "TRAIN.KEEP_CLEAN", text


def _zero_dce_weights(cfg: CfgNode) -> Faults:
    if "zero_dce" in enhancements_of(cfg) and not cfg.ENHANCE.ZERO_DCE_WEIGHTS:
        text = "is empty, and a phase uses zero_dce: name the file of its weights"
        yield "ENHANCE.ZERO_DCE_WEIGHTS", text


def _views(cfg: CfgNode) -> Faults:
    views = cfg.TEST.NUM_ENSEMBLE_VIEWS
    crops = cfg.TEST.NUM_SPATIAL_CROPS
    same_length = len(views) == len(crops) or 1 in (len(views), len(crops))
    if not views or not crops or not same_length:
        text = f"{crops} does not pair with TEST.NUM_ENSEMBLE_VIEWS {views}"
        yield "TEST.NUM_SPATIAL_CROPS", text


def _test_resize(cfg: CfgNode) -> Faults:
    crop = cfg.DATA.TEST_CROP_SIZE
    if is_size(cfg.DATA.TEST_RESIZE) is None and min(cfg.DATA.TEST_RESIZE, default=crop) < crop:
        text = f"{cfg.DATA.TEST_RESIZE} is smaller than the crop, DATA.TEST_CROP_SIZE {crop}"
        yield "DATA.TEST_RESIZE", text


def _class_names(cfg: CfgNode) -> Faults:
    names = cfg.MODEL.CLASS_NAMES
    if names and len(names) != cfg.MODEL.NUM_CLASSES:
        text = f"has {len(names)} names, MODEL.NUM_CLASSES is {cfg.MODEL.NUM_CLASSES}"
        yield "MODEL.CLASS_NAMES", text


def _abilities(cfg: CfgNode) -> Faults:
    """Yield the keys that an architecture cannot obey."""
    model = cfg.MODEL
    family, slash, _ = model.NAME.partition("/")
    skeletal = model.NAME in SKELETON_MODELS
    convolutional = skeletal or model.NAME in ("slowfast", "resnet3d", "x3d")
    if (family == "torchvision" or convolutional) and model.USE_CHECKPOINT:
        yield "MODEL.USE_CHECKPOINT", f"{model.NAME} cannot recompute activations: set it to False"
    if slash and model.USE_CHECKPOINT and any(model.CHECKPOINT_NUM):
        yield "MODEL.CHECKPOINT_NUM", f"{model.NAME} recomputes all blocks: leave it at zeros"
    if skeletal and model.LORA_RANK:
        yield "MODEL.LORA_RANK", f"{model.NAME} is a small model of skeletons: set it to 0"
    if convolutional and model.DROP_PATH_RATE:
        yield "MODEL.DROP_PATH_RATE", f"{model.NAME} has no stochastic depth: set it to 0"
    if skeletal and model.MOTION_STEM:
        text = f"{model.NAME} has the stream velocity instead (SKELETON.STREAMS): set it to False"
        yield "MODEL.MOTION_STEM", text
    if skeletal and model.CHANNELS_LAST:
        text = f"{model.NAME} sees joints, this layout is for clips of frames: set it to False"
        yield "MODEL.CHANNELS_LAST", text
    if family == "timm" and model.CHANNELS_LAST:
        text = f"{model.NAME} sees single frames, this layout is for clips: set it to False"
        yield "MODEL.CHANNELS_LAST", text
    if family == "transformers" and model.CHANNELS_LAST:
        yield "MODEL.CHANNELS_LAST", f"{model.NAME} turns clips into tokens: set it to False"


def _input(cfg: CfgNode) -> Faults:
    """Yield the keys that do not fit what models see."""
    name = cfg.MODEL.NAME
    sees_poses = cfg.DATA.INPUT == "pose"
    if name in SKELETON_MODELS and not sees_poses:
        yield "DATA.INPUT", f"{name} is a model of skeletons: set it to pose"
    if not sees_poses:
        return
    if name in FRAME_MODELS or "/" in name:
        known = " or ".join(SKELETON_MODELS)
        yield "MODEL.NAME", f"{name} sees frames, DATA.INPUT is pose: set it to {known}"
    splits = {"TRAIN.BEST_SPLIT": [cfg.TRAIN.BEST_SPLIT], "TRAIN.VAL_SPLITS": cfg.TRAIN.VAL_SPLITS}
    splits["TEST.DATA_SELECT"] = [cfg.TEST.DATA_SELECT]
    for key, values in splits.items():
        for darkened in set(values) & set(DARKENED):
            yield key, f"{darkened} is made of frames, DATA.INPUT is pose: take val_dry"
    for key, value in POSE_REFUSES.items():
        if value_of(cfg, key) != value:
            yield key, f"has no effect with DATA.INPUT pose: set it to {value!r}"


def _sources(cfg: CfgNode) -> Faults:
    """Yield the faults of the sources that are learned from beside the labelled split."""
    sources = cfg.POSE.SOURCES
    shares = cfg.POSE.SHARES
    for darkened in set(sources) & set(DARKENED):
        yield "POSE.SOURCES", f"{darkened} is for validation and test only"
    if cfg.DATA.TRAIN_SPLIT in sources:
        yield "POSE.SOURCES", f"{cfg.DATA.TRAIN_SPLIT} is DATA.TRAIN_SPLIT already"
    if shares and len(shares) != 1 + len(sources):
        text = f"{shares} are not one share for DATA.TRAIN_SPLIT and one for each of {sources}"
        yield "POSE.SHARES", text


def _darkened_training(cfg: CfgNode) -> Faults:
    """Yield the faults of bright training clips that pass through the low-light camera."""
    # With joints it is refused as it is.
    if cfg.AUG.DARKEN == 0 or cfg.DATA.INPUT == "pose":
        return
    if cfg.TRAIN.BEST_SPLIT in DARKENED:
        judge = cfg.TRAIN.BEST_SPLIT
        text = f"trains on clips of the cameras of {judge}, which picks the checkpoint"
        yield "AUG.DARKEN", f"{text}: set TRAIN.BEST_SPLIT val_dry, or AUG.DARKEN 0"
    tested = cfg.ENHANCE.TEST
    if cfg.ENHANCE.TRAIN == "none" and tested != "none":
        text = f"trains on unlit clips (ENHANCE.TRAIN none), and tests light theirs ({tested})"
        yield "AUG.DARKEN", f"{text}: set ENHANCE.TRAIN {tested}"


def _uniformer_heads(cfg: CfgNode) -> Faults:
    head = cfg.UNIFORMER.HEAD_DIM
    # The first two stages have no attention.
    for dim in cfg.UNIFORMER.EMBED_DIM[2:]:
        if head > 0 and dim % head:
            text = f"{dim} is not a multiple of UNIFORMER.HEAD_DIM {head}"
            yield "UNIFORMER.EMBED_DIM", text


def _mvit_strides(cfg: CfgNode) -> Faults:
    if cfg.MVIT.POOL_KV_STRIDE and cfg.MVIT.POOL_KV_STRIDE_ADAPTIVE:
        text = "has no effect while MVIT.POOL_KV_STRIDE_ADAPTIVE is set: set one of them to []"
        yield "MVIT.POOL_KV_STRIDE", text


def _pathways(cfg: CfgNode) -> Faults:
    """Yield the sizes that do not fit two pathways."""
    name = cfg.MODEL.NAME
    section = cfg.SLOWFAST
    if name == "slowfast":
        width_key = "SLOWFAST.WIDTH"
    elif name == "resnet3d" and cfg.RESNET.ARCH == "slowfast":
        width_key = "RESNET.WIDTH_PER_GROUP"
    else:
        return
    frames = cfg.DATA.NUM_FRAMES
    width = value_of(cfg, width_key)
    if section.ALPHA > 0 and frames % section.ALPHA:
        yield "DATA.NUM_FRAMES", f"{frames} is not a multiple of SLOWFAST.ALPHA {section.ALPHA}"
    if section.BETA_INV > 0 and width % section.BETA_INV:
        yield width_key, f"{width} is not a multiple of SLOWFAST.BETA_INV {section.BETA_INV}"
    kernel = section.FUSION_KERNEL_SZ
    if kernel % 2 == 0:
        text = f"{kernel} is even, expected an odd number of frames"
        yield "SLOWFAST.FUSION_KERNEL_SZ", text


RULES = (
    _decoder,
    _batches,
    _schedule,
    _zero_dce_weights,
    _views,
    _test_resize,
    _class_names,
    _abilities,
    _input,
    _sources,
    _darkened_training,
    _uniformer_heads,
    _mvit_strides,
    _pathways,
)
