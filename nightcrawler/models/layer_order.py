"""Order of a model's layers from the input to the classifier, for rates that fall with depth."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

from torch import nn

from nightcrawler.models.formats import plain_names
from nightcrawler.models.pretrained import is_head
from nightcrawler.utils.errors import ArgumentError

Position = tuple[float, float]
FIRST: Position = (-1, 0)
LAST: Position = (math.inf, 0)
# Names of numbered blocks, family by family, with the numbers that order them: the first match
# counts. A single number is that of a block.
BLOCKS = tuple(
    re.compile(pattern)
    for pattern in (
        # UniFormer, whose stages begin with an embedding.
        r"^blocks(?P<stage>\d)\.(?P<block>\d+)\.",
        r"^patch_embed(?P<stage>\d)\.",
        # SlowFast of PySlowFast and of AlphAction, whose pathways are side by side.
        r"^s(?P<stage>\d)\.pathway\d_(?:res|nonlocal)(?P<block>\d+)\.",
        r"^s(?P<stage>\d)(?P<after>_fuse)\.",
        r"^(?:slow|fast)\.res_nl(?P<stage>\d)\.res_(?P<block>\d+)\.",
        r"^fast\.(?P<before>Tconv)(?P<stage>\d)\.",
        # torchvision.
        r"^features\.(?P<stage>\d+)\.(?P<block>\d+)\.",
        r"^features\.(?P<stage>\d+)\.",
        r"^layer(?P<stage>\d)\.(?P<block>\d+)\.",
        # MViT, and transformers: VideoPrism sees space first, then time.
        r"^blocks\.(?P<block>\d+)\.",
        r"\bspatial_layers\.(?P<block>\d+)\.",
        r"\b(?P<second>temporal)_layers\.(?P<block>\d+)\.",
        r"^(?!pooler)\w+\.(?:encoder\.)?layers?\.(?P<block>\d+)\.",
    )
)
# Layers without a number that come before the first block.
EMBEDDINGS = re.compile(
    r"embed|cls_token|^(conv_proj|pos_encoding|stem|s1|norm_stem)\b|^(slow|fast)\.(conv1|bn1)\."
)


def layer_ids(model: nn.Module) -> dict[str, int]:
    """Number a model's layers: 0 for the embeddings, the highest for classifier and last norms.

    Models of timm have an order of their own, as its `param_groups_layer_decay` uses it.

    Args:
        model: any model of this package.

    Returns:
        Name of each parameter to the number of its layer.

    Raises:
        ArgumentError: if no block of the model has a number in its name.
    """
    for module in model.modules():
        image_model = getattr(module, "unregistered", None)
        if image_model is not None:
            return _timm_ids(model, image_model[0])
    names = plain_names(name for name, _ in model.named_parameters())
    positions = _positions(names)
    if not any(FIRST < position < LAST for position in positions.values()):
        raise ArgumentError(
            f"layer_decay: the order of the layers of {type(model).__name__} is not known: set "
            "it to 1",
            "layer_decay",
        )
    numbers = {position: i for i, position in enumerate(sorted(set(positions.values())))}
    return {names[plain]: numbers[position] for plain, position in positions.items()}


def _positions(names: Iterable[str]) -> dict[str, Position]:
    """Return the position of each parameter, comparable."""
    return {name: _position(name) for name in names}


def _position(name: str) -> Position:
    if is_head(name):
        return LAST
    for pattern in BLOCKS:
        found = pattern.search(name)
        if found:
            return _place(found.groupdict())
    return FIRST if EMBEDDINGS.search(name) else LAST


def _place(numbers: dict[str, str]) -> Position:
    """Return the position that the numbers in a name tell."""
    stage = float(numbers.get("stage", 0))
    # Lateral connections follow the blocks of a stage, AlphAction's those of the stage before.
    if "after" in numbers:
        return (stage, math.inf)
    if "before" in numbers:
        return (stage - 1, math.inf)
    if "second" in numbers:
        stage = 1
    return (stage, float(numbers.get("block", -1)))


def _timm_ids(model: nn.Module, image_model: Any) -> dict[str, int]:
    """Return timm's own numbers of layers."""
    from timm.models import group_parameters

    ids = group_parameters(image_model, image_model.group_matcher(coarse=False), reverse=True)
    # The wrapper has the names of the image model.
    return {name: ids[name] for name, _ in model.named_parameters()}
