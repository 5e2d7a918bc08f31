"""Keys of testing and of the model, whatever its architecture."""

from __future__ import annotations

from nightcrawler.config.schema.conditions import (
    LEARNS_FROM_PSEUDO,
    TRAINS_BACKBONE,
    USES_TEMPERATURE,
    differs,
    equals,
    is_positive,
)
from nightcrawler.config.schema.key import Key
from nightcrawler.config.schema.value_rules import is_crop_counts, is_gammas, is_unique
from nightcrawler.utils.registries import LOSSES, MODELS

# Temporal views of a video.
MAX_VIEWS = 1024
CLASS_NAMES = [
    "Drink",
    "Jump",
    "Pick",
    "Pour",
    "Push",
    "Run",
    "Sit",
    "Stand",
    "Turn",
    "Walk",
    "Wave",
]

TEST = (
    Key(
        "TEST.DATA_SELECT",
        "total_unlabel",
        "Split to test: train, val_dry, val_dark, dark_unlabel, arid, total_unlabel, test, or NAME "
        "of a list NAME.csv.",
    ),
    Key("TEST.BATCH_SIZE", 8, "Clips in a forward pass, per rank.", minimum=1),
    # Views and crops pair up like lists of the same length; one number pairs with every other.
    Key(
        "TEST.NUM_ENSEMBLE_VIEWS",
        [1],
        "Temporal views: one number, or a list that pairs with NUM_SPATIAL_CROPS; every pair "
        "writes a results file.",
        minimum=1,
        maximum=MAX_VIEWS,
    ),
    Key(
        "TEST.NUM_SPATIAL_CROPS",
        [1],
        "Spatial crops: 1 (centre) or 3 (left, centre, right); one number, or a list.",
        rule=is_crop_counts,
    ),
    # The published views coincide on short videos, which costs time and adds nothing.
    Key(
        "TEST.VIEWS",
        "distinct",
        "Choice of test views.",
        choices={
            "distinct": "no shared frame if the video is long enough",
            "published": "as published: views coincide on short videos",
        },
        needs=equals("DATA.SAMPLING", "segment"),
    ),
    Key(
        "TEST.GAMMAS",
        [],
        "Gammas that every dark clip is predicted with, combined like views, from one decoding; "
        "[] takes ENHANCE.GAMMA alone. They are part of the results file's name.",
        element=0.25,
        minimum=0.01,
        maximum=10,
        rule=is_gammas,
        needs=equals("ENHANCE.TEST", "gamma"),
    ),
    Key(
        "TEST.ENSEMBLE_METHOD",
        "mean",
        "Combination of a video's clips.",
        choices={"mean": "mean", "max": "maximum of logits and of probabilities"},
    ),
    Key(
        "TEST.RESULTS_FORMAT",
        "npz",
        "Form of the results files, and the end of their names.",
        choices={
            "npz": "arrays by name, without a pickle; numpy reads it",
            "pkl": "as published: a pickle, for programs that read those files",
        },
        hashed_by_default=False,
    ),
    Key("TEST.CHECKPOINT_FILE_PATH", "", "Checkpoint to test; empty takes OUTPUT_DIR/best.pyth."),
)

MODEL = (
    Key("MODEL.NAME", "uniformer", "Architecture.", choices=MODELS),
    # The 11 classes of ARID.
    Key("MODEL.NUM_CLASSES", 11, "Number of classes K.", minimum=2, maximum=1_000_000),
    Key("MODEL.CLASS_NAMES", CLASS_NAMES, "Names of classes, in index order.", rule=is_unique),
    # A frozen backbone is in evaluation mode up to the classifier, and has no gradients.
    Key(
        "MODEL.DROPOUT_RATE",
        0.0,
        "Dropout before the classifier.",
        minimum=0,
        maximum=1,
        needs=differs("MODEL.PROBE", "linear"),
    ),
    Key(
        "MODEL.DROP_PATH_RATE",
        0.0,
        "Stochastic depth of the last block (it grows linearly from 0).",
        minimum=0,
        maximum=0.999,
        needs=TRAINS_BACKBONE,
    ),
    Key(
        "MODEL.MOTION_STEM",
        False,
        "Give the model three more channels: twice the difference between a frame and the clip's "
        "mean frame.",
    ),
    # Memory and speed.
    Key(
        "MODEL.USE_CHECKPOINT",
        False,
        "Recompute activations in the backward pass to save memory.",
        needs=TRAINS_BACKBONE,
    ),
    Key(
        "MODEL.CHECKPOINT_NUM",
        [0, 0, 0, 0],
        "Blocks of each stage (one number for MViT) that are recomputed; transformers only.",
        minimum=0,
        maximum=1024,
        needs=equals("MODEL.USE_CHECKPOINT", True),
    ),
    Key(
        "MODEL.PRECISION",
        "fp32",
        "Arithmetic of forward passes.",
        choices={
            "fp32": "float32",
            "bf16": "bfloat16 autocast",
            "fp16": "float16 autocast with loss scaling, CUDA only",
        },
    ),
    Key(
        "MODEL.CHANNELS_LAST",
        False,
        "Store activations channels-last: faster for SlowFast, no difference for the others on a "
        "CPU (MODEL_ZOO.md).",
    ),
    # Fine-tuning of less than the whole model.
    Key(
        "MODEL.PROBE",
        "none",
        "Training of a classifier on a frozen backbone, which stays in evaluation mode.",
        choices={
            "none": "train the whole model",
            "linear": "the classifier alone",
            "attentive": "one learned query that attends to all tokens, then a classifier; for "
            "models of transformers and timm",
        },
        hashed_by_default=False,
    ),
    Key(
        "MODEL.LORA_RANK",
        0,
        "Rank of low-rank adapters (LoRA) beside the linear layers of a frozen backbone; 0 for "
        "none. Needs the extra lora.",
        minimum=0,
        maximum=4096,
        needs=TRAINS_BACKBONE,
        hashed_by_default=False,
    ),
    Key(
        "MODEL.LORA_ALPHA",
        16,
        "Scale of low-rank adapters: their output is multiplied by LORA_ALPHA / LORA_RANK.",
        minimum=1,
        needs=is_positive("MODEL.LORA_RANK"),
        hashed_by_default=False,
    ),
    Key("MODEL.COMPILE", False, "Compile the model with torch.compile."),
    Key(
        "MODEL.PSEUDO_LOSS",
        "hard",
        "Loss on pseudo-labels.",
        choices=LOSSES,
        needs=LEARNS_FROM_PSEUDO,
    ),
    # Hinton et al. 2015: the loss is scaled by T^2, so that its gradient keeps its size.
    Key(
        "MODEL.PSEUDO_TEMPERATURE",
        1.0,
        "Temperature T of the kl losses.",
        minimum=1e-3,
        needs=USES_TEMPERATURE,
    ),
    # A checkpoint of another architecture fills next to nothing, and would go unnoticed.
    Key(
        "MODEL.MIN_MATCH",
        0.95,
        "Smallest fraction of the backbone's parameters that a checkpoint must fill.",
        minimum=0,
        maximum=1,
    ),
)

KEYS = (*TEST, *MODEL)
