"""From configuration to model: the only place that maps `MODEL` and the architectures' sections to arguments."""

from __future__ import annotations

from fvcore.common.config import CfgNode
from torch import nn

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


def build_model(cfg: CfgNode) -> nn.Module:
    """The model named by `MODEL.NAME`, with random weights; its seed is the caller's."""
    return MODELS.get(cfg.MODEL.NAME)(cfg)
