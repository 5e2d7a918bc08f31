"""Every rule of the check, by bad configurations that must each be one ConfigError naming the key."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from nightcrawler.config.check import POSE_REFUSES, check
from nightcrawler.config.load import load_experiment
from nightcrawler.config.node import flatten, get_cfg
from nightcrawler.config.reference import keys_as_markdown
from nightcrawler.config.schema import SCHEMA
from nightcrawler.utils.errors import ConfigError
from nightcrawler.utils.lazy_registry import Registry
from tests.paths import ROOT

DEFAULTS = flatten(get_cfg())
CHOICES = {name: key for name, key in SCHEMA.items() if key.choices is not None}
RANGES = {name: key for name, key in SCHEMA.items() if not math.isinf(key.minimum)}

# (KEY, VALUE, what the message says): unknown keys and wrong types.
WRONG_TYPES = [
    ("RNG_SEED", "1.5", "expected a whole number"),
    ("RNG_SEED", "abc", "expected a whole number, found text 'abc'"),
    ("RNG_SEED", "True", "expected a whole number, found True or False"),
    ("RNG_SEED", "", "expected a whole number, found nothing"),
    ("RNG_SEED", "[1]", "expected a whole number, found a list"),
    ("SOLVER.BASE_LR", "high", "expected a number"),
    ("SOLVER.BASE_LR", "'0.1'", "expected a number, found text"),
    ("SOLVER.BASE_LR", "False", "expected a number"),
    ("SOLVER.BASE_LR", "{a: 1}", "SOLVER.BASE_LR.a: unknown key"),
    ("SOLVER.BASE_LR", "1" + "0" * 400, "SOLVER.BASE_LR"),
    ("MIXUP.ENABLE", "1", "expected True or False"),
    ("MIXUP.ENABLE", "'True'", "expected True or False"),
    ("MODEL.NAME", "3", "expected text"),
    ("MODEL.NAME", "[uniformer]", "expected text, found a list"),
    ("DATA.MEAN", "[0.1, x, 0.3]", "expected a number, found text 'x'"),
    ("DATA.MEAN", "[0.1, [0.2], 0.3]", "expected a number, found a list"),
    ("DATA.MEAN", "[{a: 1}]", "expected a number"),
    ("TEST.GAMMAS", "[0.25, low]", "expected a number, found text 'low'"),
    ("UNIFORMER.DEPTH", "[1, 2, 3, 4.5]", "expected a whole number"),
    ("TRAIN.VAL_SPLITS", "[3]", "expected text"),
    ("MVIT.DIM_MUL", "[2, 2.0]", "expected a list of lists"),
    ("MVIT.DIM_MUL", "[[2.5, 2.0]]", "expected a whole number"),
    ("MVIT.POOL_KVQ_KERNEL", "[a]", "expected a list of whole numbers"),
    ("MVIT.POOL_KVQ_KERNEL", "[True, 3, 3]", "expected a list of whole numbers"),
    ("MVIT.POOL_KVQ_KERNEL", "[[1], [3], [3]]", "expected"),
    ("MVIT.POOL_KV_STRIDE", "[[1, 1.5, 2, 2]]", "expected a list of whole numbers"),
    ("DATA", "3", "DATA is a section"),
    ("SOLVER.MAX_EPOCHS", "3", "unknown key; did you mean SOLVER.MAX_EPOCH?"),
    ("SOLVER.BASELR", "3", "unknown key; did you mean SOLVER.BASE_LR?"),
    ("TRAIN.MEAN", "3", "unknown key; did you mean"),
    ("NOTHING.LIKE.IT", "3", "unknown key"),
    ("UNIFORMER.PRETRAIN_NAME", "x", "unknown key"),
]

# (KEY, VALUE, what the message says): right types, wrong values.
WRONG_VALUES = [
    ("DATA.MEAN", "[0.1, 0.2]", "has 2 values, expected 3"),
    ("DATA.STD", "[0.1, 0.2, 0.0]", "0.0 is out of range"),
    ("DATA.NUM_FRAMES", "0", "expected between 1 and 4096"),
    ("DATA.TEST_RESIZE", "[256, 300, 300]", "expected one or two numbers between 1 and 4096"),
    ("DATA.TEST_RESIZE", "[300, 200]", "is smaller than the crop, DATA.TEST_CROP_SIZE 224"),
    ("DATA.TEST_RESIZE", "0", "expected one or two numbers between 1 and 4096"),
    ("DATA.CACHE", "memory", "'memory' is not one of none, ram, disk"),
    ("DATA.CACHE_GIB", "0\n  CACHE: disk", "expected at least 0.001"),
    ("DATA.TRAIN_CROP_SIZE", "100000", "expected between 1 and 4096"),
    ("DATA.TRAIN_SPLIT", "val_dark", "val_dark is for validation and test only"),
    ("ADAPT.SPLIT", "val_dark", "val_dark is for validation and test only"),
    ("ENHANCE.GAMMA", "0", "out of range"),
    (
        "ENHANCE.TEST",
        "gama",
        "unknown enhancement 'gama'; did you mean 'gamma'? (known: auto_gamma, clahe, gamma, none, "
        "retinex, zero_dce)",
    ),
    ("ENHANCE.CLAHE_TILES", "[4]\n  VAL: clahe", "has 1 values, expected 2"),
    ("ENHANCE.DENOISE_FRAMES", "4", "4 is even, expected an odd number of frames"),
    ("ENHANCE.RETINEX_SIGMAS", "[]\n  VAL: retinex", "name at least one"),
    ("ENHANCE.ZERO_DCE_WEIGHTS", "''\n  VAL: zero_dce", "is empty, and a phase uses zero_dce"),
    ("TEST.GAMMAS", "[0.25, 0]", "0.0 is out of range, expected between 0.01 and 10"),
    ("TEST.GAMMAS", "[0.25, 0.4, 0.25]", "names a gamma twice"),
    ("AUG.SCALE", "[0.9, 0.1]", "the least is above the most"),
    ("AUG.ASPECT", "[1.0]", "has 1 values, expected 2"),
    ("AUG.AA_TYPE", "rand-m7-x4", "not a RandAugment policy"),
    ("AUG.AA_TYPE", "rand-m7-n100000000", "m and n below 100"),
    ("SOLVER.LR_FACTORS", "[head.*=1e999]", "a factor up to 1e"),
    ("SOLVER.LR_FACTORS", "[head.*=2@20]", "nothing is trained at this rate in 20 epochs"),
    (
        "TRAIN.KEEP_CLEAN",
        "0.5\n  EVAL_PERIOD: 20\nDATA:\n  PSEUDO_CSV: p.csv",
        "nothing is chosen, as only the last epoch is validated",
    ),
    ("AUG.AA_TYPE", "augmix", "not a RandAugment policy"),
    ("AUG.RE_PROB", "1.01", "between 0 and 1"),
    ("MIXUP.LABEL_SMOOTH_VALUE", "1", "between 0 and 0.999"),
    ("TRAIN.BATCH_SIZE", "0", "at least 1"),
    ("TRAIN.MICRO_BATCH", "5", "5 does not divide TRAIN.BATCH_SIZE / processes = 32"),
    ("NUM_GPUS", "3", "TRAIN.BATCH_SIZE: 32 is not a multiple of NUM_GPUS x NUM_SHARDS = 3"),
    ("TRAIN.THRESHOLD", "-0.5\nDATA:\n  PSEUDO_CSV: p.csv", "or -1 for none"),
    ("TRAIN.KEEP_LAST", "0", "expected between 1 and 100"),
    ("TRAIN.MAX_FAILED_SAVES", "0", "at least 1"),
    ("TRAIN.EMA_DECAY", "1", "out of range"),
    ("TRAIN.VAL_SPLITS", "[]", "name at least one split"),
    ("SOLVER.MAX_EPOCH", "9", "SOLVER.WARMUP_EPOCHS: 10 is more than SOLVER.MAX_EPOCH 9"),
    ("SOLVER.WARMUP_EPOCHS", "20.5", "20.5 is more than SOLVER.MAX_EPOCH 20"),
    ("SOLVER.BETAS", "[0.9]", "has 1 values, expected 2"),
    ("SOLVER.BETAS", "[0.9, 1.1]", "between 0 and 1"),
    ("BN.BLEND", "2", "between 0 and 1"),
    ("TEST.NUM_SPATIAL_CROPS", "2", "expected 1 (centre) or 3"),
    ("TEST.NUM_SPATIAL_CROPS", "[1, 3, 1]\n  NUM_ENSEMBLE_VIEWS: [1, 3]", "does not pair"),
    ("TEST.NUM_ENSEMBLE_VIEWS", "[]", "does not pair with TEST.NUM_ENSEMBLE_VIEWS []"),
    ("TEST.NUM_ENSEMBLE_VIEWS", "0", "between 1 and 1024"),
    ("MODEL.NUM_CLASSES", "12", "MODEL.CLASS_NAMES: has 11 names, MODEL.NUM_CLASSES is 12"),
    ("MODEL.CLASS_NAMES", "[a, a]\n  NUM_CLASSES: 2", "has a name twice"),
    ("MODEL.DROP_PATH_RATE", "1", "between 0 and 0.999"),
    ("SKELETON.STREAMS", "[]", "[]: expected one or more of joint, bone, velocity, each once"),
    ("SKELETON.STREAMS", "[bone, bone]", "each once"),
    ("SKELETON.STREAMS", "[skin]", "['skin']: expected one or more"),
    ("SKELETON.WIDTH", "5", "between 6 and 4096"),
    (
        "UNIFORMER.EMBED_DIM",
        "[64, 128, 320, 500]",
        "500 is not a multiple of UNIFORMER.HEAD_DIM 64",
    ),
    ("UNIFORMER.DEPTH", "[1, 2, 3]", "has 3 values, expected 4"),
    ("MVIT.DIM_MUL", "[[2]]", "expected 2 numbers"),
    ("MVIT.POOL_Q_STRIDE", "[[2, 2, 2]]", "expected 4 numbers"),
    (
        "MVIT.POOL_KV_STRIDE",
        "[[0, 1, 8, 8]]",
        "no effect while MVIT.POOL_KV_STRIDE_ADAPTIVE is set",
    ),
    ("MVIT.POOL_KV_STRIDE", "[1, 8, 8, 1]\n  POOL_KV_STRIDE_ADAPTIVE: []", "expected 4 numbers"),
    ("MVIT.POOL_KV_STRIDE_ADAPTIVE", "[1, 8]", "expected three numbers"),
    ("MVIT.POOL_KVQ_KERNEL", "[3, 3]", "expected three numbers"),
    ("MVIT.POOL_KVQ_KERNEL", "[0, -1, 3]", "MVIT.POOL_KVQ_KERNEL"),
    ("RESNET.DEPTH", "18", "expected 50 or 101"),
]

# KEY, VALUE, and what makes it count.
POSE = {"DATA.INPUT": "pose", "MODEL.NAME": "poseconv"}
NEEDING = [
    ("MODEL.LORA_ALPHA", "4", {"MODEL.LORA_RANK": "4"}),
    ("POSE.FOLDER", "elsewhere", POSE),
    ("POSE.ESTIMATOR", "onnx", POSE),
    ("POSE.ESTIMATOR_MODEL", "pose.onnx", POSE),
    ("POSE.LIGHT", "clahe", POSE),
    ("POSE.DENOISE_FRAMES", "5", {**POSE, "POSE.LIGHT": "clahe"}),
    ("POSE.SECONDS", "3", POSE),
    ("POSE.LEAST_SECONDS", "1", POSE),
    ("POSE.SOURCES", "[figures]", POSE),
    ("POSE.SHARES", "[1.0, 2.0]", {**POSE, "POSE.SOURCES": "[figures]"}),
    ("POSE.DISTURB", "0.5", POSE),
    ("POSE.DISTURB_ESTIMATES", "0.1", POSE),
    ("POSE.WARP", "0.5", POSE),
    ("POSE.CROP", "1.0", POSE),
    ("POSE.STRETCH", "0.5", POSE),
    ("POSE.FLIP_PROB", "0.0", POSE),
    ("POSE.JOINT_DROP", "0.0", POSE),
    ("TRAIN.CHECKPOINT_EPOCH_RESET", "False", {"TRAIN.CHECKPOINT_FILE_PATH": "a.pyth"}),
    ("ADAPT.TENT_LR", "0.01", {"ADAPT.NAME": "tent"}),
    ("ADAPT.INFOMAX_LR", "0.01", {"ADAPT.NAME": "infomax"}),
    ("DATA.CAMERA", "night", {"TRAIN.BEST_SPLIT": "val_dark"}),
    ("DATA.CAMERA", "own.yaml", {"AUG.DARKEN": "0.5", "ENHANCE.TRAIN": "gamma"}),
    ("DATA.SAMPLING_RATE", "4", {"DATA.SAMPLING": "dense"}),
    ("DATA.CACHE_DIR", "elsewhere", {"DATA.CACHE": "disk"}),
    ("DATA.CACHE_GIB", "100", {"DATA.CACHE": "ram"}),
    ("ENHANCE.TARGET_MEAN", "90", {"ENHANCE.VAL": "auto_gamma"}),
    ("ENHANCE.CLAHE_CLIP", "8", {"ENHANCE.TEST": "clahe"}),
    ("ENHANCE.TRAIN", "clahe", {"DATA.PSEUDO_CSV": "p.csv"}),
    ("ENHANCE.TRAIN", "clahe", {"AUG.DARKEN": "0.5"}),
    (
        "ENHANCE.CLAHE_TILES",
        "[8, 8]",
        {"DATA.PSEUDO_CSV": "p.csv", "ENHANCE.TRAIN": "clahe"},
    ),
    ("ENHANCE.RETINEX_SIGMAS", "20", {"ENHANCE.ADAPT": "retinex"}),
    ("ENHANCE.ZERO_DCE_WEIGHTS", "weights/Epoch99.pth", {"ENHANCE.VAL": "zero_dce"}),
    ("TRAIN.PSEUDO_WEIGHT", "0.5", {"DATA.PSEUDO_CSV": "p.csv"}),
    ("TRAIN.PSEUDO_RAMP_EPOCHS", "0.5", {"DATA.PSEUDO_CSV": "p.csv"}),
    ("TRAIN.BALANCE_PSEUDO", "True", {"DATA.PSEUDO_CSV": "p.csv"}),
    (
        "TRAIN.BALANCE_MAX_REPEATS",
        "3",
        {"DATA.PSEUDO_CSV": "p.csv", "TRAIN.BALANCE_PSEUDO": "True"},
    ),
    ("TRAIN.THRESHOLD", "1.0", {"DATA.PSEUDO_CSV": "p.csv"}),
    ("TRAIN.KEEP_CLEAN", "0.8", {"DATA.PSEUDO_CSV": "p.csv"}),
    ("TRAIN.EARLY_STOP", "20", {"SOLVER.MAX_EPOCH": "21"}),
    ("TRAIN.EARLY_STOP", "20", {"SOLVER.MAX_EPOCH": "41", "TRAIN.EVAL_PERIOD": "10"}),
    ("TRAIN.EPOCH_LENGTH", "both", {"DATA.PSEUDO_CSV": "p.csv"}),
    ("TRAIN.JOINT_STEP", "True", {"DATA.PSEUDO_CSV": "p.csv"}),
    ("MODEL.PSEUDO_LOSS", "soft", {"DATA.PSEUDO_CSV": "p.csv"}),
    ("MODEL.PSEUDO_TEMPERATURE", "2", {"DATA.PSEUDO_CSV": "p.csv", "MODEL.PSEUDO_LOSS": "kl"}),
    ("SOLVER.MOMENTUM", "0.5", {"SOLVER.OPTIMIZING_METHOD": "sgd"}),
    ("MODEL.CHECKPOINT_NUM", "[1, 0, 0, 0]", {"MODEL.USE_CHECKPOINT": "True"}),
]
# KEY, VALUE, and what takes its effect away.
DISABLING = [
    ("TRAIN.EARLY_STOP", "5", {"SOLVER.MAX_EPOCH": "5", "SOLVER.WARMUP_EPOCHS": "1"}),
    ("TRAIN.EARLY_STOP", "11", {"TRAIN.EVAL_PERIOD": "10"}),
    ("MODEL.LORA_RANK", "4", {"MODEL.PROBE": "linear"}),
    ("MODEL.DROPOUT_RATE", "0.5", {"MODEL.PROBE": "linear"}),
    ("MODEL.DROP_PATH_RATE", "0.5", {"MODEL.PROBE": "linear"}),
    ("MODEL.DROP_PATH_RATE", "0.5", {"MODEL.PROBE": "attentive"}),
    ("MODEL.USE_CHECKPOINT", "True", {"MODEL.PROBE": "linear"}),
    ("MODEL.USE_CHECKPOINT", "True", {"MODEL.PROBE": "attentive"}),
    ("UNIFORMER.DROPOUT_RATE", "0.5", {"MODEL.PROBE": "linear"}),
    ("UNIFORMER.ATTENTION_DROPOUT_RATE", "0.5", {"MODEL.PROBE": "linear"}),
    ("MVIT.DROPOUT_RATE", "0.5", {"MODEL.PROBE": "linear"}),
    ("SOLVER.LAYER_DECAY", "0.75", {"MODEL.PROBE": "linear"}),
    (
        "ENHANCE.GAMMA",
        "0.5",
        {f"ENHANCE.{phase}": "none" for phase in ("TRAIN", "ADAPT", "VAL", "TEST")},
    ),
    (
        "ENHANCE.GAMMA",
        "0.5",
        {"ENHANCE.ADAPT": "none", "ENHANCE.VAL": "none", "TEST.GAMMAS": "[0.2, 0.3]"},
    ),
    (
        "ENHANCE.DENOISE_FRAMES",
        "5",
        {f"ENHANCE.{phase}": "none" for phase in ("TRAIN", "ADAPT", "VAL", "TEST")},
    ),
    ("TEST.GAMMAS", "[0.2, 0.3]", {"ENHANCE.TEST": "clahe"}),
    ("SOLVER.WARMUP_START_LR", "1e-5", {"SOLVER.WARMUP_EPOCHS": "0"}),
    ("SOLVER.COSINE_AFTER_WARMUP", "False", {"SOLVER.WARMUP_EPOCHS": "0"}),
    ("MIXUP.SWITCH_PROB", "0.2", {"MIXUP.ALPHA": "0"}),
    ("SOLVER.BETAS", "[0.8, 0.9]", {"SOLVER.OPTIMIZING_METHOD": "sgd"}),
    ("BN.BLEND", "0.5", {"ADAPT.NAME": "none"}),
    ("BN.NUM_BATCHES_PRECISE", "7", {"ADAPT.NAME": "none"}),
    ("AUG.DEVICE", "gpu", {"DEVICE": "cpu"}),
    ("ENHANCE.ADAPT", "clahe", {"ADAPT.NAME": "none"}),
    ("TEST.VIEWS", "published", {"DATA.SAMPLING": "dense"}),
    ("ADAPT.TRANSFORM", "train", {"ADAPT.NAME": "none"}),
    ("TRAIN.BALANCE_LABELLED", "draws", {**POSE, "POSE.SOURCES": "[figures]"}),
    ("AUG.RE_MODE", "const", {"AUG.RE_PROB": "0"}),
    ("AUG.RE_COUNT", "2", {"AUG.RE_PROB": "0"}),
    ("AUG.INTERPOLATION", "bicubic", {"AUG.AA_TYPE": ""}),
    ("MIXUP.ALPHA", "0.3", {"MIXUP.ENABLE": "False"}),
    ("MIXUP.CUTMIX_ALPHA", "0.3", {"MIXUP.ENABLE": "False"}),
    ("MIXUP.PROB", "0.3", {"MIXUP.ENABLE": "False"}),
    ("MIXUP.SWITCH_PROB", "0.3", {"MIXUP.ENABLE": "False"}),
]
# (settings besides those of POSE, what the message says).
UNFIT_FOR_POSES = [
    ({"MODEL.NAME": "uniformer"}, "MODEL.NAME: uniformer sees frames, DATA.INPUT is pose"),
    ({"MODEL.NAME": "timm/resnet18"}, "MODEL.NAME: timm/resnet18 sees frames"),
    ({"DATA.INPUT": "frames"}, "DATA.INPUT: poseconv is a model of skeletons: set it to pose"),
    ({"MODEL.MOTION_STEM": "True"}, "MODEL.MOTION_STEM: poseconv has the stream velocity"),
    ({"MODEL.CHANNELS_LAST": "True"}, "MODEL.CHANNELS_LAST: poseconv sees joints"),
    ({"MODEL.DROP_PATH_RATE": "0.1"}, "MODEL.DROP_PATH_RATE: poseconv has no stochastic depth"),
    ({"MODEL.USE_CHECKPOINT": "True"}, "MODEL.USE_CHECKPOINT: poseconv cannot recompute"),
    ({"TRAIN.BEST_SPLIT": "val_dark"}, "TRAIN.BEST_SPLIT: val_dark is made of frames"),
    ({"TRAIN.VAL_SPLITS": "[arid, val_dark]"}, "TRAIN.VAL_SPLITS: val_dark is made of frames"),
    ({"TEST.DATA_SELECT": "val_dark"}, "TEST.DATA_SELECT: val_dark is made of frames"),
    ({"AUG.DARKEN": "0.5"}, "AUG.DARKEN: has no effect with DATA.INPUT pose: set it to 0"),
    (
        {"DATA.PSEUDO_CSV": "p.csv", "ENHANCE.TRAIN": "gamma"},
        "ENHANCE.TRAIN: has no effect unless",
    ),
    ({"TEST.NUM_SPATIAL_CROPS": "[3]"}, "TEST.NUM_SPATIAL_CROPS: has no effect"),
    ({"TEST.GAMMAS": "[0.2, 0.3]"}, "TEST.GAMMAS: has no effect"),
    ({"POSE.SOURCES": "[val_dark]"}, "POSE.SOURCES: val_dark is for validation and test only"),
    ({"POSE.SOURCES": "[people, train]"}, "POSE.SOURCES: train is DATA.TRAIN_SPLIT already"),
    ({"POSE.SOURCES": "[people, people]"}, "POSE.SOURCES: has a name twice"),
    (
        {"POSE.SOURCES": "[people]", "POSE.SHARES": "[1.0]"},
        "POSE.SHARES: [1.0] are not one share for DATA.TRAIN_SPLIT and one for each of ['people']",
    ),
    ({"DATA.CACHE": "ram"}, "DATA.CACHE: has no effect"),
    ({"DATA.TEST_RESIZE": "[256]"}, "DATA.TEST_RESIZE: has no effect"),
    ({"DATA.CHECKSUMS": "SUMS"}, "DATA.CHECKSUMS: has no effect"),
]


def nested(key: str, value: str) -> str:
    """The YAML text that sets one key; the last line is the key's."""
    *names, last = key.split(".")
    opened = "".join(f"{'  ' * depth}{name}:\n" for depth, name in enumerate(names))
    return f"{opened}{'  ' * len(names)}{last}: {value}\n"


def fault(folder: Path, text: str, overrides: dict[str, str] | None = None) -> str:
    path = folder / "exp.yaml"
    path.write_text(text, encoding="utf-8")
    flat = [item for pair in (overrides or {}).items() for item in pair]
    with pytest.raises(ConfigError) as caught:
        load_experiment(path, (), flat)
    return str(caught.value).replace(str(path), "exp.yaml")


@pytest.mark.parametrize("path", sorted((ROOT / "configs/models").glob("*.yaml")), ids=str)
def test_the_backbone_of_every_model_may_be_frozen(path: Path) -> None:
    """Stochastic depth of a model's file has no effect then, and is left out."""
    cfg = load_experiment(path, (), ["MODEL.PROBE", "linear"])
    assert (cfg.MODEL.DROPOUT_RATE, cfg.MODEL.DROP_PATH_RATE) == (0.0, 0.0)


# (settings besides AUG.DARKEN, what the message says).
UNFIT_FOR_DARKENING = [
    (
        {"TRAIN.BEST_SPLIT": "val_dark", "ENHANCE.TRAIN": "gamma"},
        "AUG.DARKEN: trains on clips of the cameras of val_dark, which picks the checkpoint: "
        "set TRAIN.BEST_SPLIT val_dry, or AUG.DARKEN 0",
    ),
    (
        {"TRAIN.BEST_SPLIT": "val_dry", "ENHANCE.TEST": "clahe"},
        "AUG.DARKEN: trains on unlit clips (ENHANCE.TRAIN none), and tests light theirs (clahe): "
        "set ENHANCE.TRAIN clahe",
    ),
]


@pytest.mark.parametrize(("settings", "said"), UNFIT_FOR_DARKENING)
def test_darkened_training_has_another_judge_and_one_light(
    tmp_path: Path, settings: dict[str, str], said: str
) -> None:
    message = fault(tmp_path, "", {**settings, "AUG.DARKEN": "0.5"})
    assert message.endswith(said)
    assert len(message.splitlines()) == 1
    unlit = {"TRAIN.BEST_SPLIT": "val_dry", "ENHANCE.TEST": "none"}
    flat = [text for pair in unlit.items() for text in pair]
    (tmp_path / "exp.yaml").write_text("AUG: {DARKEN: 0.5}")
    assert load_experiment(tmp_path / "exp.yaml", (), flat).AUG.DARKEN == 0.5


@pytest.mark.parametrize(("settings", "said"), UNFIT_FOR_POSES)
def test_what_does_not_fit_poses_is_one_fault(
    tmp_path: Path, settings: dict[str, str], said: str
) -> None:
    message = fault(tmp_path, "", {**POSE, **settings})
    assert said in message
    assert len(message.splitlines()) == 1
    assert len(UNFIT_FOR_POSES) == 15 + len(POSE_REFUSES)


def accept(folder: Path, **overrides: str) -> None:
    (folder / "exp.yaml").touch()
    load_experiment(folder / "exp.yaml", (), [item for pair in overrides.items() for item in pair])


@pytest.mark.parametrize(("key", "value", "said"), WRONG_TYPES + WRONG_VALUES)
def test_a_bad_value_is_a_config_error_that_names_file_line_and_key(
    tmp_path: Path, key: str, value: str, said: str
) -> None:
    message = fault(tmp_path, nested(key, value))
    assert said in message
    assert key in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize(
    ("key", "value", "said"), [row for row in WRONG_TYPES + WRONG_VALUES if "\n" not in row[1]]
)
def test_the_fault_of_a_line_says_the_line(tmp_path: Path, key: str, value: str, said: str) -> None:
    message = fault(tmp_path, "# first\n\n" + nested(key, value))
    # Rules over two keys may report the other one, which has its default.
    assert message.startswith((f"exp.yaml:{3 + key.count('.')}: {key}", "default: "))


@pytest.mark.parametrize("key", CHOICES)
def test_a_choice_is_one_of_the_declared(tmp_path: Path, key: str) -> None:
    message = fault(tmp_path, nested(key, "nonsense"))
    names = list(CHOICES[key].described_choices())
    if isinstance(CHOICES[key].choices, Registry):
        assert f"{key}: unknown " in message
        assert f"(known: {', '.join(sorted(names))})" in message
    else:
        assert f"{key}: 'nonsense' is not one of {', '.join(names)}" in message
    assert DEFAULTS[key] in CHOICES[key].choices


@pytest.mark.parametrize(
    ("key", "value", "meant"),
    [
        ("DATA.SAMPLING", "denze", "dense"),
        ("ENHANCE.TEST", "gama", "'gamma'"),
        ("MODEL.NAME", "torchvison/s3d", "'torchvision/s3d'"),
        ("ADAPT.NAME", "batch_norm", "'batchnorm'"),
        ("MODEL.PSEUDO_LOSS", "kl_publish", "'kl_published'"),
    ],
)
def test_a_misspelt_choice_is_told_the_closest(
    tmp_path: Path, key: str, value: str, meant: str
) -> None:
    assert f"did you mean {meant}?" in fault(tmp_path, nested(key, value)).splitlines()[0]


def nonsense(default: Any) -> str | None:
    """A negative number where the default has one, in its shape."""
    if isinstance(default, (bool, str)) or default == []:
        return None
    if isinstance(default, list):
        parts = [nonsense(item) for item in default]
        return None if None in parts else f"[{', '.join(map(str, parts))}]"
    return "-5"


NUMBERS = {
    key: text for key, value in DEFAULTS.items() if (text := nonsense(value)) and key != "DATA.MEAN"
}


@pytest.mark.parametrize("key", NUMBERS)
def test_no_number_may_be_minus_five(tmp_path: Path, key: str) -> None:
    assert key in fault(tmp_path, nested(key, NUMBERS[key]))


@pytest.mark.parametrize("key", RANGES)
def test_both_ends_of_a_range_belong_to_it(key: str) -> None:
    ends = (RANGES[key].minimum, RANGES[key].maximum)
    for end, outside in zip(ends, (-1, 1), strict=True):
        if math.isinf(end):
            continue
        assert key not in " ".join(out_of_range(key, end))
        assert key in " ".join(out_of_range(key, end + outside * max(abs(end) * 1e-3, 1e-6)))


def out_of_range(key: str, value: float) -> list[str]:
    """The lines that say `key` is out of range when all of its numbers are `value`."""
    cfg = get_cfg()
    *sections, name = key.split(".")
    node: Any = cfg[sections[0]] if sections else cfg
    if isinstance(node[name], list):
        node[name] = [value] * max(len(node[name]), 1)
    else:
        node[name] = value
    try:
        check(cfg, {})
    except ConfigError as error:
        return [line for line in str(error).splitlines() if "out of range" in line]
    return []


@pytest.mark.parametrize(("key", "value", "enabling"), NEEDING)
def test_a_key_without_effect_is_a_fault_unless_its_condition_holds(
    tmp_path: Path, key: str, value: str, enabling: dict[str, str]
) -> None:
    message = fault(tmp_path, nested(key, value))
    assert message.startswith(f"exp.yaml:2: {key}: has no effect unless ")
    accept(tmp_path, **{key: value}, **enabling)


@pytest.mark.parametrize(("key", "value", "disabling"), DISABLING)
def test_a_key_that_lost_its_effect_is_a_fault(
    tmp_path: Path, key: str, value: str, disabling: dict[str, str]
) -> None:
    accept(tmp_path, **{key: value})
    assert f"exp.yaml:2: {key}: has no effect unless " in fault(
        tmp_path, nested(key, value), disabling
    )


def test_every_condition_is_tried_and_names_real_keys() -> None:
    conditional = {name: key.needs for name, key in SCHEMA.items() if key.needs is not None}
    assert {row[0] for row in NEEDING + DISABLING} == set(conditional)
    for condition in conditional.values():
        assert condition.keys
        assert set(condition.keys) <= set(SCHEMA)
    check(get_cfg(), {})


def test_a_condition_depends_on_the_keys_that_it_names_and_on_no_other() -> None:
    """Each condition is evaluated on a configuration that records the keys it reads."""

    class Recorder:
        def __init__(self, node: Any, prefix: str, read: set[str]) -> None:
            self.node, self.prefix, self.read = node, prefix, read

        def __getattr__(self, name: str) -> Any:
            return self[name]

        def __getitem__(self, name: str) -> Any:
            value = self.node[name]
            if isinstance(value, dict):
                return Recorder(value, f"{name}.", self.read)
            self.read.add(f"{self.prefix}{name}")
            return value

    for name, key in SCHEMA.items():
        if key.needs is not None:
            read: set[str] = set()
            key.needs.holds(Recorder(get_cfg(), "", read))  # type: ignore[arg-type]
            assert read
            assert read <= set(key.needs.keys), name


def test_every_key_is_declared_with_a_meaning() -> None:
    assert list(SCHEMA) == list(DEFAULTS)
    for name, key in SCHEMA.items():
        assert key.name == name
        assert key.meaning.endswith("."), name
        assert key.fault_of(key.default) is None, name


def test_the_reference_has_a_row_for_every_key() -> None:
    rows = [line for line in keys_as_markdown().splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == list(SCHEMA)
    row = next(row for row in rows if row.startswith("| `TRAIN.EPOCH_LENGTH`"))
    assert '`"pseudo"`' in row
    assert "`both` (the longer one's; the shorter stream starts again)" in row
    assert "Has no effect unless DATA.PSEUDO_CSV is set." in row
    frames = next(row for row in rows if row.startswith("| `DATA.NUM_FRAMES`"))
    assert frames == ("| `DATA.NUM_FRAMES` | `32` | Frames of a clip. Range: between 1 and 4096. |")
    assert all(row.replace("\\|", "").count("|") == 4 for row in rows)


def test_a_default_value_without_effect_is_no_fault(tmp_path: Path) -> None:
    accept(tmp_path, **{"DATA.SAMPLING_RATE": "2", "SOLVER.MOMENTUM": "0.9"})


def test_all_rules_report_together_each_with_file_and_line(tmp_path: Path) -> None:
    text = "SOLVER:\n  MAX_EPOCH: 5\n  MOMENTUM: 0.1\nDEVICE: tpu\nRESNET:\n  DEPTH: 7\nDATA:\n  MEAN: 0.5\n"
    lines = fault(tmp_path, text, {"AUG.AA_TYPE": "none"}).splitlines()
    assert sorted(line.split(": ")[0] + ": " + line.split(": ")[1] for line in lines) == [
        "command line: AUG.AA_TYPE",
        "default: SOLVER.WARMUP_EPOCHS",
        "exp.yaml:3: SOLVER.MOMENTUM",
        "exp.yaml:4: DEVICE",
        "exp.yaml:6: RESNET.DEPTH",
        "exp.yaml:8: DATA.MEAN",
    ]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("MODEL.PSEUDO_LOSS", "soft"),
        ("TRAIN.PSEUDO_RAMP_EPOCHS", "2"),
        ("TRAIN.KEEP_CLEAN", "0.5"),
        ("TRAIN.JOINT_STEP", "True"),
        ("TRAIN.BALANCE_PSEUDO", "True"),
        ("ENHANCE.TRAIN", "gamma"),
    ],
)
def test_a_stream_without_weight_has_no_keys_of_its_steps(
    tmp_path: Path, key: str, value: str
) -> None:
    pseudo = {"DATA.PSEUDO_CSV": "p.csv"}
    accept(tmp_path, **{key: value}, **pseudo)
    said = fault(tmp_path, nested(key, value), {**pseudo, "TRAIN.PSEUDO_WEIGHT": "0"})
    assert f"{key}: has no effect unless DATA.PSEUDO_CSV is set and TRAIN.PSEUDO_WEIGHT" in said


def test_records_of_runs_are_read_whatever_has_an_effect(tmp_path: Path) -> None:
    """Versions before took such keys. On the command line they are faults all the same."""
    path = tmp_path / "resolved.yaml"
    path.write_text(nested("ADAPT.TENT_LR", "0.5"))
    with pytest.raises(ConfigError, match=r"ADAPT\.TENT_LR: has no effect unless"):
        load_experiment(path)
    cfg = load_experiment(path, is_record=True)
    assert cfg.ADAPT.TENT_LR == 0.001
    assert load_experiment(path, (), ["ADAPT.NAME", "tent"], is_record=True).ADAPT.TENT_LR == 0.5
    with pytest.raises(ConfigError, match=r"ADAPT\.INFOMAX_LR: has no effect unless"):
        load_experiment(path, (), ["ADAPT.INFOMAX_LR", "0.5"], is_record=True)


def test_a_key_whose_condition_is_left_out_of_a_record_is_left_out_too(tmp_path: Path) -> None:
    """The later key comes first in a record in alphabetical order."""
    path = tmp_path / "resolved.yaml"
    path.write_text("TRAIN: {BALANCE_MAX_REPEATS: 3, BALANCE_PSEUDO: True, PSEUDO_WEIGHT: 0}\n")
    cfg = load_experiment(path, (), ["DATA.PSEUDO_CSV", "p.csv"], is_record=True)
    assert (cfg.TRAIN.BALANCE_PSEUDO, cfg.TRAIN.BALANCE_MAX_REPEATS) == (False, 10)


def test_a_phase_that_lights_no_clip_reads_no_parameter(tmp_path: Path) -> None:
    """Both keys are named at once, not one after the other."""
    said = fault(tmp_path, "ENHANCE: {TRAIN: clahe, CLAHE_TILES: [8, 8]}\n")
    assert [line.split(": ")[1] for line in said.splitlines()] == [
        "ENHANCE.TRAIN",
        "ENHANCE.CLAHE_TILES",
    ]
