"""From configuration to model: the only place that maps `MODEL` and the architectures' sections to arguments."""

from __future__ import annotations

from fvcore.common.config import CfgNode
from torch import nn

from nightcrawler.models.external import timm_frames, torchvision_video
from nightcrawler.models.mvit import AttentionStyle, MViT
from nightcrawler.models.mvit_layout import MViTLayout
from nightcrawler.models.resnet3d import NONLOCAL_BLOCKS, PLAIN, Layout, ResNet3D
from nightcrawler.models.slowfast import SlowFast
from nightcrawler.models.uniformer import UniFormer
from nightcrawler.utils.registries import MODELS


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


def build_mvit(cfg: CfgNode) -> nn.Module:
    """MViT or MViTv2 from `MVIT`, for clips of `DATA.NUM_FRAMES` and `DATA.TRAIN_CROP_SIZE`."""
    model, section = cfg.MODEL, cfg.MVIT
    return MViT(
        num_classes=model.NUM_CLASSES,
        num_frames=cfg.DATA.NUM_FRAMES,
        size=cfg.DATA.TRAIN_CROP_SIZE,
        pyramid=_build_pyramid(cfg),
        attention=_build_attention_style(cfg),
        mlp_ratio=section.MLP_RATIO,
        patch_kernel=section.PATCH_KERNEL,
        patch_stride=section.PATCH_STRIDE,
        patch_padding=section.PATCH_PADDING,
        cls_token=section.CLS_EMBED_ON,
        mean_pooling=section.USE_MEAN_POOLING,
        norm_stem=section.NORM_STEM,
        abs_pos=section.USE_ABS_POS,
        sep_pos_embed=section.SEP_POS_EMBED,
        dropout=section.DROPOUT_RATE,
        drop_path=model.DROP_PATH_RATE,
        head_dropout=model.DROPOUT_RATE,
        motion_stem=model.MOTION_STEM,
        checkpoint=sum(model.CHECKPOINT_NUM) if model.USE_CHECKPOINT else 0,
    )


def _build_pyramid(cfg: CfgNode) -> MViTLayout:
    section = cfg.MVIT
    return MViTLayout(
        depth=section.DEPTH,
        embed_dim=section.EMBED_DIM,
        num_heads=section.NUM_HEADS,
        dim_mul=section.DIM_MUL,
        head_mul=section.HEAD_MUL,
        dim_mul_in_att=section.DIM_MUL_IN_ATT,
        q_stride=section.POOL_Q_STRIDE,
        kv_stride=section.POOL_KV_STRIDE,
        kv_stride_adaptive=section.POOL_KV_STRIDE_ADAPTIVE,
        kernel=section.POOL_KVQ_KERNEL,
    )


def _build_attention_style(cfg: CfgNode) -> AttentionStyle:
    section = cfg.MVIT
    return AttentionStyle(
        mode=section.MODE,
        pool_first=section.POOL_FIRST,
        separate_qkv=section.SEPARATE_QKV,
        qkv_bias=section.QKV_BIAS,
        rel_pos_spatial=section.REL_POS_SPATIAL,
        rel_pos_temporal=section.REL_POS_TEMPORAL,
        residual_pooling=section.RESIDUAL_POOLING,
        norm_eps=section.POOL_NORM_EPS,
    )


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


def build_torchvision(cfg: CfgNode) -> nn.Module:
    """The video model of torchvision that `MODEL.NAME` names after the slash."""
    model, data = cfg.MODEL, cfg.DATA
    return torchvision_video(
        model.NAME.partition("/")[2],
        num_classes=model.NUM_CLASSES,
        num_frames=data.NUM_FRAMES,
        crop_size=data.TRAIN_CROP_SIZE,
        test_size=data.TEST_CROP_SIZE,
        dropout=model.DROPOUT_RATE,
        drop_path=model.DROP_PATH_RATE,
        motion_stem=model.MOTION_STEM,
    )


def build_timm(cfg: CfgNode) -> nn.Module:
    """The image model of timm that `MODEL.NAME` names after the slash, averaged over frames."""
    model, data = cfg.MODEL, cfg.DATA
    return timm_frames(
        model.NAME.partition("/")[2],
        num_classes=model.NUM_CLASSES,
        crop_size=data.TRAIN_CROP_SIZE,
        test_size=data.TEST_CROP_SIZE,
        dropout=model.DROPOUT_RATE,
        drop_path=model.DROP_PATH_RATE,
        motion_stem=model.MOTION_STEM,
    )


def build_model(cfg: CfgNode) -> nn.Module:
    """The model named by `MODEL.NAME`, with random weights; its seed is the caller's."""
    return MODELS.get(cfg.MODEL.NAME)(cfg)
