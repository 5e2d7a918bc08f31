"""From a case's resolved configuration (the reference's keys) to one of our models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from nightcrawler.models.resnet3d import Layout, ResNet3D
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
    layout = Layout(
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


FAMILIES: dict[str, Callable[[Resolved], nn.Module]] = {"uniformer": uniformer, "sf": sf, "slowfast": slowfast}


def build_family(family: str, config: Resolved) -> nn.Module:
    """Our model of a family, with the case's sizes and rates."""
    return FAMILIES[family](config)
