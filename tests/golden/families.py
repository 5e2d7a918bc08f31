"""From a case's resolved configuration (the reference's keys) to one of our models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

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


FAMILIES: dict[str, Callable[[Resolved], nn.Module]] = {"uniformer": uniformer}


def build_family(family: str, config: Resolved) -> nn.Module:
    """Our model of a family, with the case's sizes and rates."""
    return FAMILIES[family](config)
