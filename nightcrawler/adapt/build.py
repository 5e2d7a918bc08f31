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
    return BatchNormAdapter(blend=cfg.BN.BLEND, allow_no_batchnorm=cfg.ADAPT.ALLOW_NO_BATCHNORM)


def build_tent(cfg: CfgNode) -> Adapter:
    """Build entropy minimisation from `ADAPT`, after BatchNorm statistics from `BN`."""
    statistics = BatchNormAdapter(blend=cfg.BN.BLEND)
    return TentAdapter(lr=cfg.ADAPT.TENT_LR, statistics=statistics)


def build_infomax(cfg: CfgNode) -> Adapter:
    """Build information maximisation from `ADAPT`, after BatchNorm statistics from `BN`."""
    statistics = BatchNormAdapter(blend=cfg.BN.BLEND)
    return InfomaxAdapter(lr=cfg.ADAPT.INFOMAX_LR, statistics=statistics)


def build_adapter(cfg: CfgNode, hint: str = HINT) -> Adapter:
    """Build the adapter named by `ADAPT.NAME`.

    Args:
        cfg: the configuration.
        hint: end of its errors, where the user sets something else than the keys.

    Raises:
        UserError: if there is no such adapter.
    """
    adapter = ADAPTERS.get(cfg.ADAPT.NAME)(cfg)
    # Set here, so that builders of adapters of one's own take a configuration alone.
    if isinstance(adapter, TentAdapter):
        adapter.statistics.hint = hint
    if isinstance(adapter, TentAdapter | BatchNormAdapter):
        adapter.hint = hint
    return adapter
