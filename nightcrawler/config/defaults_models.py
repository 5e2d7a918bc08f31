"""The keys of architectures: default value, unit, choices (see defaults.py)."""

from __future__ import annotations

from fvcore.common.config import CfgNode


def add_architectures(cfg: CfgNode) -> None:
    """Add the sections of all architectures with their defaults."""
    for add in (_uniformer, _mvit, _slowfast, _resnet):
        add(cfg)


def _uniformer(cfg: CfgNode) -> None:
    cfg.UNIFORMER = CfgNode()
    # Channels of the four stages.
    cfg.UNIFORMER.EMBED_DIM = [64, 128, 320, 512]
    # Blocks of the four stages.
    cfg.UNIFORMER.DEPTH = [5, 8, 20, 7]
    # Channels of an attention head.
    cfg.UNIFORMER.HEAD_DIM = 64
    # Hidden over input channels of a block's MLP.
    cfg.UNIFORMER.MLP_RATIO = 4.0
    # Bias in the projection to queries, keys and values.
    cfg.UNIFORMER.QKV_BIAS = True
    # Dropout in attention's and MLP's projections, and of attention weights.
    cfg.UNIFORMER.DROPOUT_RATE = 0.0
    cfg.UNIFORMER.ATTENTION_DROPOUT_RATE = 0.0
    # Attention in time and space apart.
    cfg.UNIFORMER.SPLIT = False
    # Temporal kernel 3 in the later patch embeddings.
    cfg.UNIFORMER.STD = False
    # Norm of the patch embeddings: layer (as published) | batch (better for tiny models).
    cfg.UNIFORMER.PATCH_NORM = "layer"


def _mvit(cfg: CfgNode) -> None:
    cfg.MVIT = CfgNode()
    # Blocks.
    cfg.MVIT.DEPTH = 24
    # Channels and heads of the first block.
    cfg.MVIT.EMBED_DIM = 96
    cfg.MVIT.NUM_HEADS = 1
    # Hidden over input channels of a block's MLP.
    cfg.MVIT.MLP_RATIO = 4.0
    # Bias in the projection to queries, keys and values.
    cfg.MVIT.QKV_BIAS = True
    # Dropout in projections.
    cfg.MVIT.DROPOUT_RATE = 0.0
    # Patch embedding: kernel, stride and padding over time, height, width.
    cfg.MVIT.PATCH_KERNEL = [3, 7, 7]
    cfg.MVIT.PATCH_STRIDE = [2, 4, 4]
    cfg.MVIT.PATCH_PADDING = [1, 3, 3]
    # How queries, keys and values are pooled: conv | conv_unshared | max | avg.
    cfg.MVIT.MODE = "conv"
    # Pool before the projection to queries, keys and values.
    cfg.MVIT.POOL_FIRST = False
    # Classification token.
    cfg.MVIT.CLS_EMBED_ON = True
    # [block, factor]: channels (heads) are multiplied there.
    cfg.MVIT.DIM_MUL = [[2, 2.0], [5, 2.0], [21, 2.0]]
    cfg.MVIT.HEAD_MUL = [[2, 2.0], [5, 2.0], [21, 2.0]]
    # Stride of keys and values in block 0, divided where queries are pooled; empty: POOL_KV_STRIDE.
    cfg.MVIT.POOL_KV_STRIDE_ADAPTIVE = [1, 8, 8]
    # [block, t, h, w]: strides of pooling.
    cfg.MVIT.POOL_KV_STRIDE = []
    cfg.MVIT.POOL_Q_STRIDE = [[2, 1, 2, 2], [5, 1, 2, 2], [21, 1, 2, 2]]
    # Kernel of pooling over time, height, width; empty takes stride + 1 where pooled.
    cfg.MVIT.POOL_KVQ_KERNEL = []
    # LayerNorm right after the patch embedding.
    cfg.MVIT.NORM_STEM = False
    # Absolute position embedding: separable in time and space, or joint.
    cfg.MVIT.SEP_POS_EMBED = True
    cfg.MVIT.USE_ABS_POS = True
    # MViTv2: relative positions in space and time.
    cfg.MVIT.REL_POS_SPATIAL = False
    cfg.MVIT.REL_POS_TEMPORAL = False
    # MViTv2: pooled queries are added to attention's output.
    cfg.MVIT.RESIDUAL_POOLING = False
    # MViTv2: channels grow in attention instead of the MLP before.
    cfg.MVIT.DIM_MUL_IN_ATT = False
    # Queries, keys and values have a projection each.
    cfg.MVIT.SEPARATE_QKV = False
    # Mean of tokens instead of the classification token before the classifier.
    cfg.MVIT.USE_MEAN_POOLING = False
    # Epsilon of the norms of pooled queries, keys, values: 1e-5 in the method's code, 1e-6 in PySlowFast.
    cfg.MVIT.POOL_NORM_EPS = 1.0e-5


def _slowfast(cfg: CfgNode) -> None:
    cfg.SLOWFAST = CfgNode()
    # Two pathways: the method's SlowFast (MODEL.NAME slowfast, AlphAction lineage), or RESNET.ARCH slowfast.
    # Fast over slow frame rate (divides DATA.NUM_FRAMES), and slow over fast channels (divides the width).
    cfg.SLOWFAST.ALPHA = 4
    cfg.SLOWFAST.BETA_INV = 8
    # Lateral convolutions: output over input channels, and kernel in time, in frames (odd; PySlowFast's own
    # SLOWFAST_8x8_R50 has 7).
    cfg.SLOWFAST.FUSION_CONV_CHANNEL_RATIO = 2
    cfg.SLOWFAST.FUSION_KERNEL_SZ = 5
    # From here on only the method's SlowFast. Channels of the slow stem.
    cfg.SLOWFAST.WIDTH = 64
    # Blocks of the four stages.
    cfg.SLOWFAST.DEPTH = [3, 4, 23, 3]
    # BatchNorm as constants (its statistics can then not be adapted).
    cfg.SLOWFAST.FROZEN_BN = False


def _resnet(cfg: CfgNode) -> None:
    cfg.RESNET = CfgNode()
    # PySlowFast's ResNets (MODEL.NAME resnet3d): slowfast | slow | c2d | i3d.
    cfg.RESNET.ARCH = "slowfast"
    # Layers: 50 | 101.
    cfg.RESNET.DEPTH = 50
    # Channels of the (slow) stem, groups of a block's middle convolution.
    cfg.RESNET.WIDTH_PER_GROUP = 64
    cfg.RESNET.NUM_GROUPS = 1
    # Non-local blocks in stages 3 and 4, at the places of PySlowFast's NLN configs.
    cfg.RESNET.NONLOCAL = False
