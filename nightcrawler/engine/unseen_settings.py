"""What no entry of a checkpoint holds: the scale of low-rank adapters, the number of heads, ..."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from fvcore.common.config import CfgNode

from nightcrawler.config.identity import read_recorded
from nightcrawler.config.schema.architectures import KEYS
from nightcrawler.config.schema.conditions import value_of
from nightcrawler.config.yaml import parse_yaml
from nightcrawler.models.pretrained import LORA
from nightcrawler.utils.errors import ConfigError, UserError
from nightcrawler.utils.logging import get_logger

logger = get_logger(__name__)

KEY = "MODEL.LORA_ALPHA"
# A key that every configuration of this project records, and none of those it takes weights from.
OWN_KEY = "ENHANCE.TEST"
# Keys of architectures that only training reads.
TRAINING_ONLY = ("DROPOUT_RATE", "FROZEN_BN")


def check_scale_from_cfg(cfg: CfgNode, names: Iterable[str], config_text: str, path: Path) -> None:
    """Refuse low-rank adapters that were trained with another alpha than that of `MODEL`.

    The rank shows in the shapes of entries. With another alpha, the same entries fit and give other
    answers. A checkpoint that does not record it is warned of.

    Args:
        cfg: the configuration of the model that takes the adapters.
        names: of the entries that it takes.
        config_text: configuration that they were trained with, empty if the file has none.
        path: file of the checkpoint, for messages.

    Raises:
        UserError: if the alphas differ.
    """
    if not cfg.MODEL.LORA_RANK or not any(LORA in name for name in names):
        return
    wanted = cfg.MODEL.LORA_ALPHA
    found = _recorded_alpha(config_text, path)
    if found is None:
        logger.warning(
            "%s: does not record the %s of its low-rank adapters, they are taken with %s: if they "
            "were trained with another one, set it, else the model gives other answers",
            path,
            KEY,
            wanted,
        )
    elif found != wanted:
        raise UserError(
            f"{path}: its low-rank adapters were trained with {KEY} {found}, it is {wanted} now, "
            f"and they would give other answers: set {KEY} {found}"
        )


def _recorded_alpha(config_text: str, path: Path) -> float | None:
    try:
        alpha = parse_yaml(config_text, path).values.get(KEY)
    except ConfigError:
        return None
    is_number = isinstance(alpha, int | float) and not isinstance(alpha, bool)
    return alpha if is_number else None


def check_architecture_from_cfg(cfg: CfgNode, config_text: str, path: Path) -> None:
    """Refuse weights that were trained as another architecture whose entries have equal shapes.

    Such as with another number of attention heads: all entries fit and answers are others.

    Args:
        cfg: the configuration of the model that takes the weights.
        config_text: configuration that they were trained with, empty if the file has none.
        path: file of the checkpoint, for messages.

    Raises:
        UserError: if a key of the architecture differs.
    """
    try:
        names = set(parse_yaml(config_text, path).values)
        recorded = read_recorded(config_text, path)
    except ConfigError:
        return
    # Records of other projects have keys of other meanings.
    if OWN_KEY not in names or recorded.MODEL.NAME != cfg.MODEL.NAME:
        return
    differences = []
    for key in KEYS:
        found, wanted = value_of(recorded, key.name), value_of(cfg, key.name)
        is_read_in_tests = key.name in names and not key.name.endswith(TRAINING_ONLY)
        if found != wanted and is_read_in_tests:
            differences.append(f"{key.name} {found} (now {wanted})")
    if differences:
        raise UserError(
            f"{path}: was trained with {', '.join(differences)}: its weights fit, and would give "
            "other answers; test it with the configuration of its training"
        )
