"""From a case's resolved configuration (the reference's keys) to one of our models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from nightcrawler.models.mvit import AttentionStyle, MViT
from nightcrawler.models.mvit_layout import MViTLayout
from nightcrawler.models.resnet3d import ResNet3D
from nightcrawler.models.resnet3d_layout import ResNetLayout
from nightcrawler.models.slowfast import SlowFast
from nightcrawler.models.uniformer import UniFormer

Resolved = dict[str, Any]


def uniformer(config: Resolved) -> nn.Module:
    section = config["UNIFORMER"]
    return UniFormer(
        num_classes=config["MODEL"]["NUM_CLASSES"],
        depth=section["DEPTH"],
        embed_dim=section["EMBED_DIM"],
        head_dim=section["HEAD_DIM"],
        mlp_ratio=section["MLP_RATIO"],
        qkv_bias=section["QKV_BIAS"],
        qk_scale=section["QKV_SCALE"],
        dropout=section["DROPOUT_RATE"],
        attention_dropout=section["ATTENTION_DROPOUT_RATE"],
        drop_path=section["DROP_DEPTH_RATE"],
        split=section["SPLIT"],
        std=section["STD"],
    )


def sf(config: Resolved) -> nn.Module:
    section = config["SF"]
    return SlowFast(
        num_classes=config["MODEL"]["NUM_CLASSES"],
        dropout=section["DROPOUT_RATE"],
        frozen_bn=section["FROZEN_BN"],
    )


def slowfast(config: Resolved) -> nn.Module:
    model, section, nonlocal_blocks = config["MODEL"], config["RESNET"], config["NONLOCAL"]
    layout = ResNetLayout(
        groups=section["NUM_GROUPS"],
        # The reference reads this key only where there is one pathway.
        stride_first=section["STRIDE_1X1"] and model["ARCH"] != "slowfast",
        strides=section["SPATIAL_STRIDES"],
        dilations=section["SPATIAL_DILATIONS"],
        temporal_blocks=section["NUM_BLOCK_TEMP_KERNEL"],
        nonlocal_blocks=nonlocal_blocks["LOCATION"],
        nonlocal_groups=nonlocal_blocks["GROUP"],
        nonlocal_pools=nonlocal_blocks["POOL"],
        nonlocal_kind=nonlocal_blocks["INSTANTIATION"],
    )
    names = {
        "alpha": "ALPHA",
        "beta_inv": "BETA_INV",
        "fusion_ratio": "FUSION_CONV_CHANNEL_RATIO",
        "fusion_kernel": "FUSION_KERNEL_SZ",
    }
    pathways = config.get("SLOWFAST")
    return ResNet3D(
        num_classes=model["NUM_CLASSES"],
        arch=model["ARCH"],
        depth=section["DEPTH"],
        width=section["WIDTH_PER_GROUP"],
        layout=layout,
        dropout=model["DROPOUT_RATE"],
        head_window=config["DATA"]["TRAIN_CROP_SIZE"] // 32,
        **({name: pathways[key] for name, key in names.items()} if pathways else {}),
    )


def mvit(config: Resolved) -> nn.Module:
    """The method's MViT: without PySlowFast's later keys, POOL_FIRST is not read, default norm of pooled tokens."""
    return _mvit(
        config, AttentionStyle(mode=config["MVIT"]["MODE"], qkv_bias=config["MVIT"]["QKV_BIAS"])
    )


def mvit_fb(config: Resolved) -> nn.Module:
    section = config["MVIT"]
    attention = AttentionStyle(
        mode=section["MODE"],
        pool_first=section["POOL_FIRST"],
        separate_qkv=section["SEPARATE_QKV"],
        qkv_bias=section["QKV_BIAS"],
        rel_pos_spatial=section["REL_POS_SPATIAL"],
        rel_pos_temporal=section["REL_POS_TEMPORAL"],
        residual_pooling=section["RESIDUAL_POOLING"],
        norm_eps=1e-6,
    )
    return _mvit(config, attention)


def _mvit(config: Resolved, attention: AttentionStyle) -> nn.Module:
    model, data, section = config["MODEL"], config["DATA"], config["MVIT"]
    adaptive, in_attention = (
        section["POOL_KV_STRIDE_ADAPTIVE"] or (),
        section.get("DIM_MUL_IN_ATT", False),
    )
    # The reference takes rows that change nothing, too.
    first, last = (0, section["DEPTH"] - 1) if in_attention else (1, section["DEPTH"])
    layout = MViTLayout(
        depth=section["DEPTH"],
        embed_dim=section["EMBED_DIM"],
        num_heads=section["NUM_HEADS"],
        dim_mul=[row for row in section["DIM_MUL"] if first <= row[0] <= last],
        head_mul=[row for row in section["HEAD_MUL"] if row[0] <= last],
        dim_mul_in_att=in_attention,
        q_stride=section["POOL_Q_STRIDE"],
        kv_stride=() if adaptive else section["POOL_KV_STRIDE"] or (),
        kv_stride_adaptive=adaptive,
        kernel=section["POOL_KVQ_KERNEL"] or (),
    )
    return MViT(
        num_classes=model["NUM_CLASSES"],
        num_frames=data["NUM_FRAMES"],
        size=data["TRAIN_CROP_SIZE"],
        layout=layout,
        attention=attention,
        mlp_ratio=section["MLP_RATIO"],
        patch_kernel=section["PATCH_KERNEL"],
        patch_stride=section["PATCH_STRIDE"],
        patch_padding=section["PATCH_PADDING"],
        cls_token=section["CLS_EMBED_ON"],
        mean_pooling=section.get("USE_MEAN_POOLING", False),
        norm_stem=section["NORM_STEM"],
        abs_pos=section.get("USE_ABS_POS", True),
        sep_pos_embed=section["SEP_POS_EMBED"],
        dropout=section["DROPOUT_RATE"],
        drop_path=section["DROPPATH_RATE"],
        head_dropout=model["DROPOUT_RATE"],
    )


FAMILIES: dict[str, Callable[[Resolved], nn.Module]] = {
    "uniformer": uniformer,
    "sf": sf,
    "slowfast": slowfast,
    "mvit": mvit,
    "mvit_fb": mvit_fb,
}


def build_family(family: str, config: Resolved) -> nn.Module:
    """Our model of a family, with the case's sizes and rates."""
    return FAMILIES[family](config)
