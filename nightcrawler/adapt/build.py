"""From configuration to adapter."""

from __future__ import annotations

from fvcore.common.config import CfgNode

from nightcrawler.adapt.base import Adapter, NoAdapter
from nightcrawler.adapt.batchnorm import BatchNormAdapter
from nightcrawler.adapt.tent import TentAdapter
from nightcrawler.utils.registries import ADAPTERS


def build_none(cfg: CfgNode) -> Adapter:
    """No adaptation."""
    return NoAdapter()


def build_batchnorm(cfg: CfgNode) -> Adapter:
    """BatchNorm statistics from `BN` and `ADAPT`."""
    return BatchNormAdapter(blend=cfg.BN.BLEND, allow_no_batchnorm=cfg.ADAPT.ALLOW_NO_BATCHNORM)


def build_tent(cfg: CfgNode) -> Adapter:
    """Entropy minimisation from `ADAPT`, after BatchNorm statistics from `BN`."""
    return TentAdapter(lr=cfg.ADAPT.TENT_LR, statistics=BatchNormAdapter(blend=cfg.BN.BLEND))


def build_adapter(cfg: CfgNode) -> Adapter:
    """The adapter named by `ADAPT.NAME`."""
    return ADAPTERS.get(cfg.ADAPT.NAME)(cfg)
