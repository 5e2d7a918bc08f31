"""Models by name: from keyword arguments as from a configuration, and the errors of both doors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from nightcrawler.config.node import get_cfg
from nightcrawler.models import build
from nightcrawler.models.build import build_model, create_model, list_models
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.registries import MODELS

SMALL = {"depth": (1, 1, 1, 1), "embed_dim": (8, 8, 16, 16), "head_dim": 8}


def from_config(name: str, *settings: Any) -> torch.nn.Module:
    cfg = get_cfg()
    cfg.merge_from_list(["MODEL.NAME", name, "MODEL.NUM_CLASSES", 5, *settings])
    return build_model(cfg)


DEFAULTS = ["uniformer", "mvit", "slowfast", "resnet3d", "stgcn", "poseconv", "poseconv3d"]
DEFAULTS += ["torchvision/s3d"]


@pytest.mark.parametrize("name", DEFAULTS)
def test_the_defaults_are_those_of_the_configuration(name: str) -> None:
    with torch.device("meta"):
        created, built = create_model(name, 5).state_dict(), from_config(name).state_dict()
    assert list(created) == list(built)
    assert [value.shape for value in created.values()] == [value.shape for value in built.values()]


def test_options_reach_the_architecture() -> None:
    model = create_model("uniformer", num_classes=5, motion_stem=True, **SMALL)
    assert model.training
    assert model(torch.rand(1, 3, 4, 32, 32)).shape == (1, 5)
    assert create_model("timm/resnet18", 5, motion_stem=True).conv1.in_channels == 6


def test_weights_are_loaded(tmp_path: Path) -> None:
    model = create_model("uniformer", 5, **SMALL)
    torch.save(model.state_dict(), tmp_path / "a.pth")
    loaded = create_model("uniformer", 5, pretrained=tmp_path / "a.pth", **SMALL)
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, model.state_dict()[name])
    with pytest.raises(UserError, match="min_match is 95"):
        create_model(
            "uniformer", 5, pretrained=tmp_path / "a.pth", **{**SMALL, "embed_dim": (8, 8, 8, 8)}
        )


def test_every_name_has_a_constructor_and_every_constructor_a_name() -> None:
    families = {name.partition("/")[0] + "/" * ("/" in name) for name in MODELS.names()}
    assert families == {*build.CONSTRUCTORS, *build.LIBRARY_CONSTRUCTORS}


def test_names_are_listed_by_pattern() -> None:
    assert set(DEFAULTS) <= set(list_models())
    assert list_models("torchvision/mvit*") == ["torchvision/mvit_v1_b", "torchvision/mvit_v2_s"]
    assert "timm/resnet50" in list_models("timm/resnet*")
    assert not [name for name in list_models() if name.startswith("timm")]


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("unifomer", {}, "unknown model 'unifomer'; did you mean 'uniformer'?"),
        ("torchvision/s3", {}, "did you mean 'torchvision/s3d'?"),
        ("timm/resnet5o", {}, "unknown timm model 'resnet5o'; did you mean 'resnet50"),
        ("uniformer", {"dropuot": 0.1}, "unknown argument of uniformer 'dropuot'; did you mean"),
        ("mvit", {"size": 3}, "size 3 is less than patch_stride"),
        ("slowfast", {"beta_inv": 7}, "multiple of beta_inv 7"),
        ("uniformer", {"class_names": ["a"]}, "class_names: 1 names for num_classes 5"),
    ],
)
def test_errors_name_arguments(name: str, options: dict[str, Any], said: str) -> None:
    with torch.device("meta"), pytest.raises(UserError) as caught:
        create_model(name, 5, **options)
    assert said in str(caught.value)
    assert "MODEL." not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "settings", "keys"),
    [
        ("mvit", ["DATA.TRAIN_CROP_SIZE", 3], "DATA.TRAIN_CROP_SIZE, MVIT.PATCH_STRIDE"),
        ("mvit", ["MVIT.NUM_HEADS", 5], "(MVIT.EMBED_DIM, MVIT.NUM_HEADS, MVIT.DIM_MUL"),
        ("mvit", ["MVIT.HEAD_MUL", [[99, 2.0]]], "(MVIT.HEAD_MUL)"),
        ("slowfast", ["SLOWFAST.BETA_INV", 7], "(SLOWFAST.WIDTH, SLOWFAST.BETA_INV)"),
        ("resnet3d", ["SLOWFAST.BETA_INV", 7], "(RESNET.WIDTH_PER_GROUP, SLOWFAST.BETA_INV)"),
        ("resnet3d", ["SLOWFAST.FUSION_KERNEL_SZ", 4], "(SLOWFAST.FUSION_KERNEL_SZ)"),
    ],
)
def test_errors_of_configurations_name_keys(name: str, settings: list[Any], keys: str) -> None:
    with torch.device("meta"), pytest.raises(UserError) as caught:
        from_config(name, *settings)
    assert keys in str(caught.value)
