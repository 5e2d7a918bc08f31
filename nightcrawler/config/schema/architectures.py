"""Keys of single architectures."""

from __future__ import annotations

from nightcrawler.config.schema.conditions import TRAINS_BACKBONE
from nightcrawler.config.schema.key import Key
from nightcrawler.config.schema.value_rules import (
    are_streams,
    is_block_rows,
    is_number_of,
    is_sizes_or_empty,
)

UNIFORMER = (
    # UniFormer (Li et al. 2022): two convolutional stages, then two with attention. Defaults are
    # UniFormer-B.
    Key("UNIFORMER.EMBED_DIM", [64, 128, 320, 512], "Channels of the stages.", minimum=1, length=4),
    Key(
        "UNIFORMER.DEPTH",
        [5, 8, 20, 7],
        "Blocks of the stages.",
        minimum=0,
        maximum=1024,
        length=4,
    ),
    Key("UNIFORMER.HEAD_DIM", 64, "Channels of an attention head.", minimum=1),
    Key("UNIFORMER.MLP_RATIO", 4.0, "Hidden over input channels of a block's MLP.", minimum=1e-3),
    Key("UNIFORMER.QKV_BIAS", True, "Bias in the projection to queries, keys and values."),
    Key(
        "UNIFORMER.DROPOUT_RATE",
        0.0,
        "Dropout in the projections of attention and MLP.",
        minimum=0,
        maximum=1,
        needs=TRAINS_BACKBONE,
    ),
    Key(
        "UNIFORMER.ATTENTION_DROPOUT_RATE",
        0.0,
        "Dropout of attention weights.",
        minimum=0,
        maximum=1,
        needs=TRAINS_BACKBONE,
    ),
    Key("UNIFORMER.SPLIT", False, "Separate attention in time and in space."),
    Key("UNIFORMER.STD", False, "Temporal kernel 3 in the later patch embeddings."),
    Key(
        "UNIFORMER.PATCH_NORM",
        "layer",
        "Norm of the patch embeddings.",
        choices={
            "layer": "LayerNorm, as published",
            "batch": "BatchNorm, better for tiny models",
        },
    ),
)

MVIT = (
    # MViT (Fan et al. 2021) and MViTv2 (Li et al. 2022).
    Key("MVIT.DEPTH", 24, "Blocks.", minimum=1, maximum=1024),
    Key("MVIT.EMBED_DIM", 96, "Channels of the first block.", minimum=1),
    Key("MVIT.NUM_HEADS", 1, "Attention heads of the first block.", minimum=1),
    Key("MVIT.MLP_RATIO", 4.0, "Hidden over input channels of a block's MLP.", minimum=1e-3),
    Key("MVIT.QKV_BIAS", True, "Bias in the projection to queries, keys and values."),
    Key(
        "MVIT.DROPOUT_RATE",
        0.0,
        "Dropout in projections.",
        minimum=0,
        maximum=1,
        needs=TRAINS_BACKBONE,
    ),
    Key(
        "MVIT.PATCH_KERNEL",
        [3, 7, 7],
        "Kernel of the patch embedding over time, height, width.",
        minimum=1,
        maximum=1024,
        length=3,
    ),
    Key(
        "MVIT.PATCH_STRIDE",
        [2, 4, 4],
        "Stride of the patch embedding over time, height, width.",
        minimum=1,
        maximum=1024,
        length=3,
    ),
    Key(
        "MVIT.PATCH_PADDING",
        [1, 3, 3],
        "Padding of the patch embedding over time, height, width.",
        minimum=0,
        maximum=1024,
        length=3,
    ),
    Key(
        "MVIT.MODE",
        "conv",
        "Pooling of queries, keys and values.",
        choices={
            "conv": "a kernel for each channel of a head, the same for all heads",
            "conv_unshared": "a kernel for each channel of all heads",
            "max": "maximum",
            "avg": "mean",
        },
    ),
    Key("MVIT.POOL_FIRST", False, "Pool before the projection to queries, keys and values."),
    Key("MVIT.CLS_EMBED_ON", True, "Use a classification token."),
    # Stages: blocks at which channels and heads grow and queries are pooled.
    Key(
        "MVIT.DIM_MUL",
        [[2, 2.0], [5, 2.0], [21, 2.0]],
        "Rows [block, factor]: channels are multiplied there.",
        rule=is_block_rows(2),
    ),
    Key(
        "MVIT.HEAD_MUL",
        [[2, 2.0], [5, 2.0], [21, 2.0]],
        "Rows [block, factor]: heads are multiplied there.",
        rule=is_block_rows(2),
    ),
    Key(
        "MVIT.POOL_KV_STRIDE_ADAPTIVE",
        [1, 8, 8],
        "Stride of keys and values in block 0, divided where queries are pooled; [] takes "
        "POOL_KV_STRIDE.",
        rule=is_sizes_or_empty,
    ),
    Key(
        "MVIT.POOL_KV_STRIDE",
        [],
        "Rows [block, time, height, width]: strides of keys and values.",
        rule=is_block_rows(4),
    ),
    Key(
        "MVIT.POOL_Q_STRIDE",
        [[2, 1, 2, 2], [5, 1, 2, 2], [21, 1, 2, 2]],
        "Rows [block, time, height, width]: strides of queries.",
        rule=is_block_rows(4),
    ),
    Key(
        "MVIT.POOL_KVQ_KERNEL",
        [],
        "Kernel of pooling over time, height, width; [] takes stride + 1 where pooled.",
        rule=is_sizes_or_empty,
    ),
    Key("MVIT.NORM_STEM", False, "LayerNorm right after the patch embedding."),
    Key(
        "MVIT.SEP_POS_EMBED",
        True,
        "Absolute position embedding separable in time and space; False for a joint one.",
    ),
    Key("MVIT.USE_ABS_POS", True, "Use an absolute position embedding."),
    # Switches of the second version.
    Key("MVIT.REL_POS_SPATIAL", False, "MViTv2: relative positions in space."),
    Key("MVIT.REL_POS_TEMPORAL", False, "MViTv2: relative positions in time."),
    Key("MVIT.RESIDUAL_POOLING", False, "MViTv2: add pooled queries to attention's output."),
    Key(
        "MVIT.DIM_MUL_IN_ATT",
        False,
        "MViTv2: widen in attention instead of the MLP before it.",
    ),
    Key("MVIT.SEPARATE_QKV", False, "Project queries, keys and values separately."),
    Key(
        "MVIT.USE_MEAN_POOLING",
        False,
        "Classify the mean of tokens instead of the classification token.",
    ),
    Key(
        "MVIT.POOL_NORM_EPS",
        1.0e-5,
        "Epsilon of the norms of pooled queries, keys and values: 1e-5 in the method's code, 1e-6 "
        "in PySlowFast.",
        minimum=1e-12,
        maximum=1,
    ),
)

# ALPHA to FUSION_KERNEL_SZ serve both the method's SlowFast (MODEL.NAME slowfast, AlphAction
# lineage) and PySlowFast's (RESNET.ARCH slowfast); the others only the method's.
SLOWFAST = (
    Key(
        "SLOWFAST.ALPHA",
        4,
        "Frame rate of the fast over the slow pathway; divides DATA.NUM_FRAMES.",
        minimum=1,
        maximum=1024,
    ),
    Key(
        "SLOWFAST.BETA_INV",
        8,
        "Channels of the slow over the fast pathway; divides the width.",
        minimum=1,
        maximum=1024,
    ),
    Key(
        "SLOWFAST.FUSION_CONV_CHANNEL_RATIO",
        2,
        "Output over input channels of lateral convolutions.",
        minimum=1,
        maximum=64,
    ),
    Key(
        "SLOWFAST.FUSION_KERNEL_SZ",
        5,
        "Temporal kernel of lateral convolutions, in frames: an odd number (PySlowFast's own "
        "SLOWFAST_8x8_R50 has 7).",
        minimum=1,
        maximum=63,
    ),
    Key("SLOWFAST.WIDTH", 64, "Channels of the slow stem (method's SlowFast).", minimum=1),
    Key(
        "SLOWFAST.DEPTH",
        [3, 4, 23, 3],
        "Blocks of the stages (method's SlowFast).",
        minimum=1,
        maximum=1024,
        length=4,
    ),
    Key(
        "SLOWFAST.FROZEN_BN",
        False,
        "BatchNorm as constants, whose statistics cannot be adapted (method's SlowFast).",
    ),
)

RESNET = (
    # ResNet-3D as in PySlowFast (Feichtenhofer et al. 2019, He et al. 2016).
    Key(
        "RESNET.ARCH",
        "slowfast",
        "PySlowFast's ResNets (MODEL.NAME resnet3d).",
        choices={"slowfast": "two pathways", "slow": "", "c2d": "", "i3d": ""},
    ),
    Key("RESNET.DEPTH", 50, "Layers: 50 or 101.", rule=is_number_of(50, 101)),
    Key("RESNET.WIDTH_PER_GROUP", 64, "Channels of the (slow) stem.", minimum=1),
    Key("RESNET.NUM_GROUPS", 1, "Groups of a block's middle convolution.", minimum=1),
    Key(
        "RESNET.NONLOCAL",
        False,
        "Non-local blocks in stages 3 and 4, at the places of PySlowFast's NLN configs.",
    ),
)

X3D = (
    # X3D (Feichtenhofer 2020), with PySlowFast's names. Defaults are X3D-S and X3D-M.
    Key(
        "X3D.WIDTH_FACTOR",
        2.0,
        "Factor of the channels (MODEL.NAME x3d).",
        minimum=0.1,
        maximum=64,
        hashed_by_default=False,
    ),
    Key(
        "X3D.DEPTH_FACTOR",
        2.2,
        "Factor of the number of blocks; 5.0 for X3D-L.",
        minimum=0.1,
        maximum=64,
        hashed_by_default=False,
    ),
    Key(
        "X3D.BOTTLENECK_FACTOR",
        2.25,
        "Inner over outer channels of a block.",
        minimum=0.1,
        maximum=64,
        hashed_by_default=False,
    ),
)

SKELETON = (
    # Models of skeletons: stgcn is ST-GCN++ (Duan et al. 2022), poseconv a small convolution.
    Key(
        "SKELETON.STREAMS",
        ["joint"],
        "What models of skeletons see of each joint: joint (its place), bone (the vector from the "
        "joint nearer to the trunk), velocity (the difference to the next step). Several are "
        "channels of one model.",
        rule=are_streams,
        hashed_by_default=False,
    ),
    Key(
        "SKELETON.WIDTH",
        64,
        "Channels of the first block or layer of models of skeletons.",
        minimum=6,
        maximum=4096,
        hashed_by_default=False,
    ),
)

KEYS = (*UNIFORMER, *MVIT, *SLOWFAST, *RESNET, *X3D, *SKELETON)
