"""From configuration to model: the only place that maps `MODEL` and the architectures' sections to arguments."""

from __future__ import annotations

from fvcore.common.config import CfgNode
from torch import nn

from nightcrawler.models.resnet3d import NONLOCAL_BLOCKS, PLAIN, Layout, ResNet3D
from nightcrawler.models.slowfast import SlowFast
from nightcrawler.models.uniformer import UniFormer
from nightcrawler.utils.registry import Registry

MODELS = Registry("model")


@MODELS.register("uniformer")
def build_uniformer(cfg: CfgNode) -> nn.Module:
    """UniFormer from `UNIFORMER`."""
    model, section = cfg.MODEL, cfg.UNIFORMER
    return UniFormer(
        num_classes=model.NUM_CLASSES,
        depth=section.DEPTH,
        embed_dim=section.EMBED_DIM,
        head_dim=section.HEAD_DIM,
        mlp_ratio=section.MLP_RATIO,
        qkv_bias=section.QKV_BIAS,
        dropout=section.DROPOUT_RATE,
        attention_dropout=section.ATTENTION_DROPOUT_RATE,
        drop_path=model.DROP_PATH_RATE,
        head_dropout=model.DROPOUT_RATE,
        split=section.SPLIT,
        std=section.STD,
        patch_norm=section.PATCH_NORM,
        motion_stem=model.MOTION_STEM,
        checkpoint=model.CHECKPOINT_NUM if model.USE_CHECKPOINT else (0,),
    )


@MODELS.register("slowfast")
def build_slowfast(cfg: CfgNode) -> nn.Module:
    """The method's SlowFast from `SLOWFAST`."""
    model, section = cfg.MODEL, cfg.SLOWFAST
    return SlowFast(
        num_classes=model.NUM_CLASSES,
        depth=section.DEPTH,
        width=section.WIDTH,
        alpha=section.ALPHA,
        beta_inv=section.BETA_INV,
        fusion_ratio=section.FUSION_CONV_CHANNEL_RATIO,
        fusion_kernel=section.FUSION_KERNEL_SZ,
        dropout=model.DROPOUT_RATE,
        frozen_bn=section.FROZEN_BN,
        motion_stem=model.MOTION_STEM,
    )


@MODELS.register("resnet3d")
def build_resnet3d(cfg: CfgNode) -> nn.Module:
    """PySlowFast's SlowFast, Slow, C2D or I3D from `RESNET`, and from `SLOWFAST` where there are two pathways."""
    model, section, pathways = cfg.MODEL, cfg.RESNET, cfg.SLOWFAST
    nonlocal_blocks = NONLOCAL_BLOCKS if section.NONLOCAL else PLAIN.nonlocal_blocks
    return ResNet3D(
        num_classes=model.NUM_CLASSES,
        arch=section.ARCH,
        depth=section.DEPTH,
        width=section.WIDTH_PER_GROUP,
        layout=Layout(groups=section.NUM_GROUPS, nonlocal_blocks=nonlocal_blocks),
        alpha=pathways.ALPHA,
        beta_inv=pathways.BETA_INV,
        fusion_ratio=pathways.FUSION_CONV_CHANNEL_RATIO,
        fusion_kernel=pathways.FUSION_KERNEL_SZ,
        dropout=model.DROPOUT_RATE,
        motion_stem=model.MOTION_STEM,
    )


def build_model(cfg: CfgNode) -> nn.Module:
    """The model named by `MODEL.NAME`, with random weights; its seed is the caller's."""
    return MODELS.get(cfg.MODEL.NAME)(cfg)
