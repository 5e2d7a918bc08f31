"""Builders of the adapters in `utils.registries.ADAPTERS`, from the configuration."""

from __future__ import annotations

from fvcore.common.config import CfgNode

from nightcrawler.adapt.base import Adapter, NoAdapter
from nightcrawler.adapt.batchnorm import BatchNormAdapter
from nightcrawler.adapt.infomax import InfomaxAdapter
from nightcrawler.adapt.tent import TentAdapter
from nightcrawler.utils.registries import ADAPTERS

# Ends the errors of adapters, which name arguments: the keys that these come from.
HINT = "see ADAPT.NAME, ADAPT.SPLIT and ADAPT.ALLOW_NO_BATCHNORM in the configuration"


def build_none(cfg: CfgNode) -> Adapter:
    """Build the adapter that changes nothing."""
    return NoAdapter()


def build_batchnorm(cfg: CfgNode) -> Adapter:
    """Build the re-estimation of BatchNorm statistics from `BN` and `ADAPT`."""
    return BatchNormAdapter(
        blend=cfg.BN.BLEND, allow_no_batchnorm=cfg.ADAPT.ALLOW_NO_BATCHNORM, hint=HINT
    )


def build_tent(cfg: CfgNode) -> Adapter:
    """Build entropy minimisation from `ADAPT`, after BatchNorm statistics from `BN`."""
    statistics = BatchNormAdapter(blend=cfg.BN.BLEND, hint=HINT)
    return TentAdapter(lr=cfg.ADAPT.TENT_LR, statistics=statistics, hint=HINT)


def build_infomax(cfg: CfgNode) -> Adapter:
    """Build information maximisation from `ADAPT`, after BatchNorm statistics from `BN`."""
    statistics = BatchNormAdapter(blend=cfg.BN.BLEND, hint=HINT)
    return InfomaxAdapter(lr=cfg.ADAPT.INFOMAX_LR, statistics=statistics, hint=HINT)


def build_adapter(cfg: CfgNode) -> Adapter:
    """Build the adapter named by `ADAPT.NAME`.

    Raises:
        UserError: if there is no such adapter.
    """
    return ADAPTERS.get(cfg.ADAPT.NAME)(cfg)
