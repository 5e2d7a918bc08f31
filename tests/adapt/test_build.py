"""Adapters from the configuration: names, values, and the keys in their errors."""

from __future__ import annotations

import subprocess
import sys

import pytest
from torch import nn

from nightcrawler.adapt.base import NoAdapter
from nightcrawler.adapt.batchnorm import BatchNormAdapter
from nightcrawler.adapt.build import build_adapter
from nightcrawler.adapt.infomax import InfomaxAdapter
from nightcrawler.adapt.tent import TentAdapter
from nightcrawler.config.node import get_cfg
from nightcrawler.config.schema import SCHEMA
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.registries import ADAPTERS


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("none", NoAdapter),
        ("batchnorm", BatchNormAdapter),
        ("tent", TentAdapter),
        ("infomax", InfomaxAdapter),
    ],
)
def test_every_name_builds_its_adapter(name: str, kind: type) -> None:
    cfg = get_cfg()
    cfg.ADAPT.NAME = name
    adapter = build_adapter(cfg)
    assert isinstance(adapter, kind)
    assert adapter.name == name


def test_the_configuration_takes_the_names_of_the_registry() -> None:
    assert SCHEMA["ADAPT.NAME"].choices is ADAPTERS
    assert ADAPTERS.names() == ["none", "batchnorm", "tent", "infomax"]


def test_values_come_from_their_keys() -> None:
    cfg = get_cfg()
    cfg.merge_from_list(["ADAPT.NAME", "tent", "ADAPT.TENT_LR", 0.5, "BN.BLEND", 0.25])
    tent = build_adapter(cfg)
    assert isinstance(tent, TentAdapter)
    assert (tent.lr, tent.statistics.blend) == (0.5, 0.25)
    cfg.merge_from_list(["ADAPT.NAME", "infomax", "ADAPT.INFOMAX_LR", 0.125])
    infomax = build_adapter(cfg)
    assert isinstance(infomax, InfomaxAdapter)
    assert (infomax.lr, infomax.statistics.blend) == (0.125, 0.25)


@pytest.mark.parametrize("name", ["batchnorm", "tent", "infomax"])
def test_faults_name_the_keys_at_the_door(name: str) -> None:
    cfg = get_cfg()
    cfg.ADAPT.NAME = name
    with pytest.raises(UserError, match=r"Linear has no .* \(see ADAPT\.NAME, ADAPT\.SPLIT"):
        build_adapter(cfg).run(nn.Linear(2, 2), [])


def test_the_interface_needs_no_torch() -> None:
    code = "import sys; import nightcrawler.adapt.base; print('torch' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "False"
