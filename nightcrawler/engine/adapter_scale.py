"""Scale of low-rank adapters, which no entry of a checkpoint holds."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from fvcore.common.config import CfgNode

from nightcrawler.config.yaml import parse_yaml
from nightcrawler.models.pretrained import LORA
from nightcrawler.utils.errors import ConfigError, UserError
from nightcrawler.utils.logging import get_logger

logger = get_logger(__name__)

KEY = "MODEL.LORA_ALPHA"


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


def _recorded_alpha(config_text: str, path: Path) -> int | None:
    try:
        alpha = parse_yaml(config_text, path).values.get(KEY)
    except ConfigError:
        return None
    return alpha if isinstance(alpha, int) else None
