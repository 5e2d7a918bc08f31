"""Entries of checkpoints and models that must not be left over, however small they are."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn

# Entries of files that no model here has a use for: what pre-training predicts with, the scale of
# a text encoder's logits, and masks that follow from the size of a clip.
EXTRAS = re.compile(r"(^|\.)mask_token$|^(decoder|dec_|encoder_to_decoder|logit_scale$)|attn_mask$")


def scales_and_biases(model: nn.Module) -> list[str]:
    """Return the names of a model's biases, and of the scales of its normalisations.

    Args:
        model: the model.
    """
    names = []
    for module_name, module in model.named_modules():
        is_norm = "norm" in type(module).__name__.lower()
        for name, value in module.named_parameters(recurse=False):
            if value.ndim == 1 and (is_norm or name.endswith("bias")):
                names.append(f"{module_name}.{name}" if module_name else name)
    return names


def lost_entries(
    targets: Mapping[str, Tensor],
    missing: Sequence[str],
    skipped: Mapping[str, Tensor],
    small: Collection[str],
) -> list[str]:
    """Return the entries without which a model gives other answers, each with whose it is.

    Of the model these are scales and biases that nothing fills. Of the checkpoint these are further
    blocks, tokens and position tables of parts that the model has, and entries that the model has
    under another name or in another shape.

    Args:
        targets: entries of the model, without its classifier, as the other arguments.
        missing: names of the model's entries that nothing fills.
        skipped: entries of the checkpoint that the model does not take.
        small: names of the model's scales and biases.
    """
    lost = [f"{name} (the model's, not filled)" for name in missing if name in small]
    parts = {_part(name) for name in targets}
    # An entry beside a missing one of the same shape is the same under another name.
    shapes = {targets[name].shape for name in missing if targets[name].is_floating_point()}
    shapes.discard(torch.Size())
    for name, value in skipped.items():
        # Counters of BatchNorm and tables of indices (integers) do not matter.
        if EXTRAS.search(name) or not value.is_floating_point():
            continue
        if name in targets:
            # A share of the parameters sees large weights, not tokens, positions and biases.
            is_lost = value.ndim == 1 or not name.endswith(".weight")
        else:
            is_lost = _part(name) in parts or value.shape in shapes
        if is_lost:
            lost.append(f"{name} (the checkpoint's, not used)")
    return lost


def _part(name: str) -> str:
    """Return the part of a model that an entry lies in: the first word of its name.

    Numbers do not count, so that the blocks of all stages are one part. Entries of the model
    itself, such as tokens, are one part too.
    """
    if "." not in name:
        return ""
    return re.split(r"[^a-zA-Z]", name, maxsplit=1)[0]
