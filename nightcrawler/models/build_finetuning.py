"""Ways of fine-tuning that change a model: probes and low-rank adapters, from the configuration."""

from __future__ import annotations

from fvcore.common.config import CfgNode
from torch import nn


def build_finetuned(cfg: CfgNode, model: nn.Module) -> nn.Module:
    """Build what `MODEL.PROBE` and `MODEL.LORA_RANK` make of a model, the model itself without.

    Args:
        cfg: whole configuration.
        model: clips to logits. It belongs to the result from now on.

    Raises:
        ArgumentError: if the model cannot be trained so.
    """
    section = cfg.MODEL
    if section.PROBE == "linear":
        from nightcrawler.models.probe import LinearProbe

        return LinearProbe(model)
    if section.PROBE == "attentive":
        from nightcrawler.models.probe import AttentiveProbe

        return AttentiveProbe(model, section.NUM_CLASSES, section.DROPOUT_RATE)
    if section.LORA_RANK:
        from nightcrawler.models.lora import add_lora

        data = cfg.DATA
        side = data.TRAIN_CROP_SIZE
        clip = (1, 3, data.NUM_FRAMES, side, side)
        return add_lora(model, section.LORA_RANK, section.LORA_ALPHA, clip)
    return model
