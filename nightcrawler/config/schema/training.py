"""Keys of training: batches and streams, optimiser, adaptation."""

from __future__ import annotations

from nightcrawler.config.schema.conditions import (
    ADAPTS,
    BALANCES_PSEUDO,
    HAS_ONE_SOURCE,
    HAS_PSEUDO_LABELS,
    HAS_START,
    LEARNS_FROM_PSEUDO,
    MAY_STOP_EARLY,
    WARMS_UP,
    equals,
)
from nightcrawler.config.schema.key import Key
from nightcrawler.config.schema.value_rules import (
    are_lr_factors,
    is_no_darkened_split,
    is_not_empty,
    is_threshold,
)
from nightcrawler.utils.registries import ADAPTERS

TRAIN = (
    # Batches. BatchNorm and mixing see micro-batches of a fixed size, so that results do not depend
    # on the number of GPUs.
    Key(
        "TRAIN.BATCH_SIZE",
        32,
        "Videos in an optimiser step over all ranks (times AUG.NUM_SAMPLE clips).",
        minimum=1,
    ),
    Key(
        "TRAIN.MICRO_BATCH",
        8,
        "Videos that are mixed, normalised (BatchNorm) and back-propagated together, whatever the "
        "number of ranks. Divides BATCH_SIZE / ranks; 0 takes BATCH_SIZE / ranks.",
        minimum=0,
    ),
    # Start and continuation.
    Key(
        "TRAIN.CHECKPOINT_FILE_PATH",
        "",
        "Weights to start from: a path, or a name of MODEL_ZOO.md; empty for random weights.",
    ),
    Key(
        "TRAIN.CHECKPOINT_EPOCH_RESET",
        True,
        "Take only the weights from CHECKPOINT_FILE_PATH; False continues its epoch and optimiser "
        "too.",
        needs=HAS_START,
    ),
    Key(
        "TRAIN.AUTO_RESUME",
        True,
        "Continue from OUTPUT_DIR/checkpoints/checkpoint_latest.pyth if it exists.",
    ),
    # Validation.
    Key(
        "TRAIN.EVAL_PERIOD",
        1,
        "Epochs between two validations (the last epoch is always validated).",
        minimum=1,
    ),
    Key("TRAIN.VAL_SPLITS", ["val_dry"], "Splits that are validated.", rule=is_not_empty("split")),
    Key(
        "TRAIN.BEST_SPLIT",
        "val_dry",
        "Split whose top-1 accuracy picks best.pyth. Labels of clips filmed in the dark make all "
        "figures of the run an oracle's; those of val_dark (val_dry through the low-light camera) "
        "do not.",
    ),
    Key(
        "TRAIN.EARLY_STOP",
        0,
        "Epochs without a better accuracy on BEST_SPLIT after which training ends; 0 for none. "
        "With BEST_SPLIT val_dark, no label of a dark clip has a part in it.",
        minimum=0,
        needs=MAY_STOP_EARLY,
        hashed_by_default=False,
    ),
    # The labelled stream.
    Key(
        "TRAIN.BALANCE_LABELLED",
        "none",
        "Treatment of labelled classes of unequal size.",
        choices={
            "none": "all clips count the same, so large classes are predicted too often",
            "draws": "every class is drawn equally often, so clips of small ones repeat",
            "weights": "a clip weighs in the loss by the inverse of the size of its class",
            "logits": "logarithms of the classes' shares are added to the logits in training "
            "alone (Menon et al. 2021)",
        },
        needs=HAS_ONE_SOURCE,
        hashed_by_default=False,
    ),
    # The pseudo-labelled stream. It exists if DATA.PSEUDO_CSV is set.
    Key(
        "TRAIN.EPOCH_LENGTH",
        "pseudo",
        "Length of an epoch with two streams.",
        choices={
            "labelled": "the labelled stream's",
            "pseudo": "the pseudo-labelled stream's",
            "both": "the longer one's; the shorter stream starts again",
        },
        needs=HAS_PSEUDO_LABELS,
    ),
    Key(
        "TRAIN.JOINT_STEP",
        False,
        "Take one optimiser step on the sum of both streams' losses; False takes one for each, as "
        "published.",
        needs=LEARNS_FROM_PSEUDO,
    ),
    Key(
        "TRAIN.PSEUDO_WEIGHT",
        1.0,
        "Weight of the pseudo-labelled stream's loss; 0 is training without it. Unless JOINT_STEP "
        "is set, a weight below 1 is the share that is taken of the stream's optimiser steps.",
        minimum=0,
        needs=HAS_PSEUDO_LABELS,
    ),
    Key(
        "TRAIN.PSEUDO_RAMP_EPOCHS",
        0.0,
        "Epochs over which PSEUDO_WEIGHT grows linearly from 0; 0 applies it from the start.",
        minimum=0,
        needs=LEARNS_FROM_PSEUDO,
    ),
    Key(
        "TRAIN.BALANCE_PSEUDO",
        False,
        "Draw every pseudo-labelled class equally often, however many clips it has, so that none "
        "disappears. Clips of rare classes then repeat within an epoch, and some clips of frequent "
        "classes wait for a later one.",
        needs=LEARNS_FROM_PSEUDO,
    ),
    Key(
        "TRAIN.BALANCE_MAX_REPEATS",
        10,
        "Draws of a clip in a pass of BALANCE_PSEUDO over the pseudo-labels, at most: a class of "
        "few clips comes less often than others, which share out what it leaves. 1 draws each clip "
        "once, 0 sets no limit.",
        minimum=0,
        needs=BALANCES_PSEUDO,
        hashed_by_default=False,
    ),
    Key(
        "TRAIN.THRESHOLD",
        -1.0,
        "Exclude pseudo-labels whose confidence (largest probability) is more than THRESHOLD "
        "standard deviations below the mean confidence of PSEUDO_CSV; -1 keeps all.",
        rule=is_threshold,
        needs=HAS_PSEUDO_LABELS,
    ),
    Key(
        "TRAIN.KEEP_CLEAN",
        1.0,
        "Share of each pseudo-labelled class to train on after a validated epoch: the clips whose "
        "label the model finds most probable, chosen anew each time. Steps stay as many; 1 keeps "
        "all.",
        minimum=1e-6,
        maximum=1,
        needs=LEARNS_FROM_PSEUDO,
        hashed_by_default=False,
    ),
    # Robustness.
    Key(
        "TRAIN.NON_FINITE",
        "skip",
        "Reaction to a loss or gradient that is not finite.",
        choices={
            "skip": "skip the step, at most 20 in a row",
            "raise": "stop with an error (not for float16 overflows that lower the loss scale)",
        },
    ),
    Key(
        "TRAIN.KEEP_LAST",
        2,
        "Checkpoints that are kept beside best.pyth: one per epoch, the newest is resumed from.",
        minimum=1,
        maximum=100,
    ),
    Key(
        "TRAIN.MAX_FAILED_SAVES",
        3,
        "Consecutive saves that may fail (a full disk) before the run stops.",
        minimum=1,
    ),
    Key(
        "TRAIN.EMA_DECAY",
        0.0,
        "Decay per step of a moving average of the weights, such as 0.999, which is validated "
        "too; 0 for none.",
        minimum=0,
        maximum=0.999999,
    ),
)

SOLVER = (
    # Learning rates are absolute: they are not scaled by the batch size.
    Key("SOLVER.BASE_LR", 1.0e-4, "Learning rate after warm-up.", minimum=0),
    Key("SOLVER.COSINE_END_LR", 1.0e-6, "Learning rate at the end.", minimum=0),
    Key(
        "SOLVER.WARMUP_START_LR",
        1.0e-6,
        "Learning rate at the start of warm-up.",
        minimum=0,
        needs=WARMS_UP,
    ),
    Key("SOLVER.WARMUP_EPOCHS", 10.0, "Epochs of linear warm-up (may be fractional).", minimum=0),
    Key(
        "SOLVER.COSINE_AFTER_WARMUP",
        True,
        "Start the cosine schedule after warm-up; False starts it at epoch 0.",
        needs=WARMS_UP,
    ),
    Key("SOLVER.MAX_EPOCH", 20, "Epochs of training.", minimum=1),
    Key(
        "SOLVER.LAYER_DECAY",
        1.0,
        "Learning rate of a layer over that of the next one towards the classifier, such as 0.75; "
        "1 for the same rate in all.",
        minimum=1e-3,
        maximum=1,
        needs=equals("MODEL.PROBE", "none"),
        hashed_by_default=False,
    ),
    Key(
        "SOLVER.LR_FACTORS",
        [],
        "Learning rates of groups of parameters: PATTERN=FACTOR or PATTERN=FACTOR@EPOCH, such as "
        "head.*=10 or blocks.*=0.1@2. Names that match the shell-style pattern have FACTOR times "
        "the learning rate, from EPOCH finished epochs on, and rest before.",
        element="head.*=10",
        rule=are_lr_factors,
        hashed_by_default=False,
    ),
    Key(
        "SOLVER.OPTIMIZING_METHOD",
        "adamw",
        "Optimiser.",
        choices={"adamw": "AdamW", "sgd": "SGD with momentum"},
    ),
    # Each optimiser reads its own: a key of the other one is an error.
    Key(
        "SOLVER.MOMENTUM",
        0.9,
        "Momentum of sgd.",
        minimum=0,
        maximum=1,
        needs=equals("SOLVER.OPTIMIZING_METHOD", "sgd"),
    ),
    Key(
        "SOLVER.BETAS",
        [0.9, 0.999],
        "Betas of adamw.",
        minimum=0,
        maximum=1,
        length=2,
        needs=equals("SOLVER.OPTIMIZING_METHOD", "adamw"),
    ),
    Key(
        "SOLVER.WEIGHT_DECAY",
        0.03,
        "Weight decay of weights (BatchNorm has BN.WEIGHT_DECAY).",
        minimum=0,
    ),
    Key(
        "SOLVER.ZERO_WD_1D_PARAM",
        True,
        "No weight decay for other one-dimensional parameters (biases, LayerNorm).",
    ),
    Key(
        "SOLVER.CLIP_GRAD_L2NORM",
        20.0,
        "Largest total L2 norm of gradients; 0 for no clipping.",
        minimum=0,
    ),
)

ADAPT = (
    Key(
        "ADAPT.NAME",
        "batchnorm",
        "Adaptation to dark clips after each validated epoch.",
        choices=ADAPTERS,
    ),
    # Adaptation sees unlabelled clips only, so that a run stays label-free.
    Key(
        "ADAPT.SPLIT",
        "total_unlabel",
        "Split of the dark clips (labels are never read).",
        rule=is_no_darkened_split,
    ),
    Key(
        "ADAPT.TRANSFORM",
        "eval",
        "Transform of the dark clips.",
        choices={
            "eval": "as in testing",
            "train": "as published: training crops; RandAugment, erasing and mixing off",
        },
        needs=ADAPTS,
    ),
    Key(
        "ADAPT.ALLOW_NO_BATCHNORM",
        False,
        "Leave a model without BatchNorm unchanged, with a log line; False makes it an error.",
    ),
    # Tent: Wang et al. 2021.
    Key(
        "ADAPT.TENT_LR",
        1.0e-3,
        "Learning rate of tent, on scales and shifts of norm layers.",
        minimum=1e-12,
        maximum=1e3,
        needs=equals("ADAPT.NAME", "tent"),
    ),
    # Information maximisation: Liang et al. 2020.
    Key(
        "ADAPT.INFOMAX_LR",
        1.0e-3,
        "Learning rate of infomax, on scales and shifts of norm layers.",
        minimum=1e-12,
        maximum=1e3,
        needs=equals("ADAPT.NAME", "infomax"),
        hashed_by_default=False,
    ),
)

BN = (
    # Precise BatchNorm statistics (Wu and Johnson 2021), taken from dark clips.
    Key(
        "BN.NUM_BATCHES_PRECISE",
        200,
        "Batches of dark clips (of TRAIN.BATCH_SIZE) for the statistics; 0 takes all clips.",
        minimum=0,
        needs=ADAPTS,
    ),
    Key(
        "BN.BLEND",
        1.0,
        "Fraction of the new statistics in the blend with the trained ones: 1 replaces them.",
        minimum=0,
        maximum=1,
        needs=ADAPTS,
    ),
    Key("BN.WEIGHT_DECAY", 0.0, "Weight decay of BatchNorm's scale and shift.", minimum=0),
)

KEYS = (*TRAIN, *SOLVER, *ADAPT, *BN)
