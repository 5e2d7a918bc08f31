"""Models of torchvision and timm: built from configurations, equal to the originals, refusing what they cannot do."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torchvision.models import video

from nightcrawler.adapt.batchnorm import batchnorm_layers
from nightcrawler.config.load import load_experiment
from nightcrawler.config.node import get_cfg
from nightcrawler.models import external, frame_average
from nightcrawler.models.build import build_model
from nightcrawler.models.external import TORCHVISION, ShrinkingAvgPool3d, torchvision_video
from nightcrawler.models.frame_average import timm_frames
from nightcrawler.models.pretrained import is_head, load_pretrained
from nightcrawler.utils.errors import ConfigError, UserError
from nightcrawler.utils.registries import MODELS
from tests.paths import ROOT

K = 6
DEMO_SIZE = {"DATA.NUM_FRAMES": 8, "DATA.TRAIN_CROP_SIZE": 64, "DATA.TEST_CROP_SIZE": 64}
TRANSFORMERS = ("mvit_v1_b", "mvit_v2_s", "swin3d_t", "swin3d_s", "swin3d_b")
SMALL = ("mvit_v2_s", "swin3d_t", "r2plus1d_18", "s3d")
# Models of MODEL_ZOO.md: mean and standard deviation of pixels, side, and licence of the weights.
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
LISTED = {
    "vit_pe_core_base_patch16_224": (*HALF, 224, "apache-2.0"),
    "vit_small_patch16_dinov3": (*IMAGENET, 256, "dinov3-license"),
    "vit_base_patch16_siglip_gap_224.v2_webli": (*HALF, 224, "apache-2.0"),
    "eva02_base_patch14_224": (*CLIP, 224, "mit"),
    "convnextv2_tiny": (*IMAGENET, 224, "cc-by-nc-4.0"),
    "mobilenetv4_conv_medium": (*IMAGENET, 256, "apache-2.0"),
    "tiny_vit_21m_224": (*IMAGENET, 224, "apache-2.0"),
}
TIMM = ("resnet18", "test_vit", "test_convnext", "test_efficientnet")
CONFIGS = (
    *("timm_dinov3_s", "timm_pe_core_b", "timm_mobilenetv4_m", "x3d_s", "x3d_m"),
    *("tv_mvit_v2_s", "tv_swin3d_t", "tv_r2plus1d_18", "tv_s3d", "timm_resnet50"),
)


def from_config(name: str, **values: Any) -> nn.Module:
    cfg = get_cfg()
    values = {"MODEL.NAME": name, "MODEL.NUM_CLASSES": K, **DEMO_SIZE, **values}
    cfg.merge_from_list([item for pair in values.items() for item in pair])
    torch.manual_seed(0)
    return build_model(cfg)


def demo_clip(batch: int = 2, frames: int = 8, side: int = 64) -> Tensor:
    return torch.randn(batch, 3, frames, side, side, generator=torch.Generator().manual_seed(1))


def on_meta(name: str, **options: Any) -> nn.Module:
    """A model without memory: names and shapes only."""
    sizes = {"num_frames": 16, "crop_size": 224, "test_size": 224}
    with torch.device("meta"):
        return torchvision_video(name, **{"num_classes": 400, **sizes, **options})


def shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def head_names(model: nn.Module, num_classes: int) -> list[str]:
    """The two parameters of the classifier: those with a row a class."""
    names = [
        name
        for name, parameter in model.named_parameters()
        if parameter.shape[0] == num_classes and parameter.requires_grad
    ]
    assert len(names) == 2
    return names


# --- demo size --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", [f"torchvision/{name}" for name in SMALL] + [f"timm/{name}" for name in TIMM]
)
@pytest.mark.parametrize("motion", [False, True])
def test_a_demo_clip_goes_forward_and_back_through_every_parameter(name: str, motion: bool) -> None:
    model = from_config(name, **{"MODEL.MOTION_STEM": motion})
    assert model.training
    logits = model(demo_clip())
    assert logits.shape == (2, K)
    nn.functional.cross_entropy(logits, torch.tensor([1, 4])).backward()
    idle = [key for key, parameter in model.named_parameters() if parameter.grad is None]
    assert idle == []
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("name", TORCHVISION)
def test_every_torchvision_model_takes_the_demo_size(name: str) -> None:
    model = on_meta(name, num_classes=K, num_frames=8, crop_size=64, test_size=64, motion_stem=True)
    with torch.device("meta"):
        assert model(torch.empty(3, 3, 8, 64, 64)).shape == (3, K)


# --- the same models as at home ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TORCHVISION)
def test_entries_are_those_of_torchvision(name: str) -> None:
    with torch.device("meta"):
        original = getattr(video, name)()
    assert shapes(on_meta(name)) == shapes(original)


@pytest.mark.parametrize("name", ["swin3d_t", "r3d_18", "mc3_18", "r2plus1d_18"])
def test_logits_are_those_of_torchvision(name: str) -> None:
    original = getattr(video, name)(num_classes=K).eval()
    model = from_config(f"torchvision/{name}", **{"MODEL.DROPOUT_RATE": 0.5}).eval()
    model.load_state_dict(original.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(model(demo_clip()), original(demo_clip()), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["mvit_v1_b", "mvit_v2_s"])
def test_logits_of_mvit_are_those_of_torchvision(name: str) -> None:
    model = from_config(f"torchvision/{name}").eval()
    original = getattr(video, name)(num_classes=K).eval()
    # The original knows one size; given tables of positions of another, its own blocks work at that size.
    original.pos_encoding = copy.deepcopy(model.pos_encoding)
    for key, parameter in model.named_parameters():
        parent, _, leaf = key.rpartition(".")
        setattr(original.get_submodule(parent), leaf, nn.Parameter(parameter.detach().clone()))
    with torch.no_grad():
        torch.testing.assert_close(model(demo_clip()), original(demo_clip()), rtol=0, atol=0)


def test_logits_of_s3d_are_those_of_torchvision_where_its_pooling_fits() -> None:
    original, model = video.s3d(num_classes=K).eval(), from_config("torchvision/s3d").eval()
    model.load_state_dict(original.state_dict())
    with torch.no_grad():
        # The map of a demo clip is 1 x 2 x 2, smaller than the original's kernel 2 x 7 x 7: all of it is averaged.
        pooled = original.features(demo_clip()).mean((2, 3, 4), keepdim=True)
        torch.testing.assert_close(model(demo_clip()), original.classifier(pooled).flatten(1))


def test_the_pooling_of_s3d_is_cut_to_the_map() -> None:
    pool, small, large = (
        ShrinkingAvgPool3d((2, 7, 7)),
        torch.rand(2, 3, 1, 2, 5),
        torch.rand(2, 3, 4, 9, 7),
    )
    torch.testing.assert_close(pool(small), small.mean((2, 3, 4), keepdim=True))
    torch.testing.assert_close(pool(large), nn.AvgPool3d((2, 7, 7), stride=1)(large))


@pytest.mark.parametrize("name", TIMM)
def test_entries_are_those_of_timm(name: str) -> None:
    model = timm_frames(name, num_classes=K, crop_size=160, test_size=160)
    assert shapes(model) == shapes(timm.create_model(name, num_classes=K))
    assert [key for key, _ in model.named_parameters()] == [
        key for key, _ in timm.create_model(name, num_classes=K).named_parameters()
    ]


COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
}


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("name", ["timm/resnet18", "timm/test_vit", "torchvision/r3d_18"])
def test_a_copy_has_the_same_entries_and_logits_and_is_trained_alone(name: str, how: str) -> None:
    model = from_config(name, **{"MODEL.MOTION_STEM": True}).eval()
    copied = COPIES[how](model)
    assert not copied.training
    assert list(copied.state_dict()) == list(model.state_dict())
    with torch.no_grad():
        expected = model(demo_clip())
        torch.testing.assert_close(copied(demo_clip()), expected, rtol=0, atol=0)
        # A tensor that is replaced, not filled, must be the one that the forward pass reads.
        zeros = {key: torch.zeros_like(value) for key, value in copied.state_dict().items()}
        copied.load_state_dict(zeros, assign=True)
        assert not copied(demo_clip()).any()
        torch.testing.assert_close(model(demo_clip()), expected, rtol=0, atol=0)


def test_training_mode_reaches_the_image_model() -> None:
    model = timm_frames("test_vit", num_classes=K, crop_size=160)
    modes = [[module.training for module in (model, *model.unregistered, *model.modules())]]
    modes.append([m.training for m in (model.eval(), *model.unregistered, *model.modules())])
    assert [set(mode) for mode in modes] == [{True}, {False}]


@pytest.mark.parametrize("name", TIMM)
def test_features_are_averaged_over_frames(name: str) -> None:
    model = timm_frames(name, num_classes=K, crop_size=160, test_size=160, dropout=0.5).eval()
    image_model = timm.create_model(name, num_classes=K).eval()
    image_model.load_state_dict(model.state_dict())
    clip = demo_clip(2, 3, 160)
    with torch.no_grad():
        logits = [image_model(frame) for frame in clip.unbind(2)]
        # The classifier is affine: the mean of frames' logits is the classifier of the mean feature.
        torch.testing.assert_close(model(clip), torch.stack(logits).mean(0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", LISTED)
def test_listed_models_are_trained_whole_and_take_the_listed_preprocessing(name: str) -> None:
    mean, std, side, licence = LISTED[name]
    published = timm.get_pretrained_cfg(name)
    assert (published.mean, published.std, published.license) == (mean, std, licence)
    assert published.input_size == (3, side, side)
    with torch.device("meta"):
        model = timm_frames(name.partition(".")[0], num_classes=K, crop_size=side)
        model(torch.empty(2, 3, 2, side, side)).sum().backward()
    assert [key for key, value in model.named_parameters() if value.grad is None] == []
    zoo = (ROOT / "MODEL_ZOO.md").read_text(encoding="utf-8")
    assert f"`timm/{name}`" in zoo


def test_frames_of_different_clips_are_not_mixed() -> None:
    model, clip = from_config("timm/resnet18").eval(), demo_clip()
    with torch.no_grad():
        alone = torch.cat([model(one[None]) for one in clip])
        torch.testing.assert_close(model(clip), alone, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(model(clip.flip(2)), model(clip), rtol=1e-4, atol=1e-5)


# --- what MODEL asks --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", [f"torchvision/{name}" for name in SMALL] + [f"timm/{name}" for name in TIMM]
)
def test_dropout_is_before_the_classifier_only(name: str) -> None:
    model, clip = from_config(name, **{"MODEL.DROPOUT_RATE": 1.0}), demo_clip()
    (bias,) = (parameter for parameter in model.parameters() if parameter.shape == (K,))
    nn.init.constant_(bias, 3.0)
    # Everything is dropped: what is left is the classifier's bias.
    torch.testing.assert_close(model(clip), torch.full((2, K), 3.0))
    rates = [module.p for module in model.modules() if isinstance(module, nn.Dropout)]
    assert sorted(set(rates)) in ([1.0], [0.0, 1.0])
    assert rates.count(1.0) == 1


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_drop_path_grows_to_its_rate_in_transformers(name: str) -> None:
    model = on_meta(name, drop_path=0.3)
    rates = [module.p for module in model.modules() if type(module).__name__ == "StochasticDepth"]
    assert (rates[0], rates[-1]) == (0.0, pytest.approx(0.3))
    assert rates == sorted(rates)
    assert {
        module.p for module in on_meta(name).modules() if type(module).__name__ == "StochasticDepth"
    } == {0.0}


@pytest.mark.parametrize(
    ("name", "rate"), [("resnet18", 0.2), ("swin_tiny_patch4_window7_224", 0.0)]
)
def test_drop_path_of_timm_is_the_rate_asked_and_not_its_own(name: str, rate: float) -> None:
    with torch.device("meta"):
        model = timm_frames(name, num_classes=K, crop_size=224, test_size=224, drop_path=rate)
    rates = [module.drop_prob for module in model.modules() if type(module).__name__ == "DropPath"]
    assert max(rates, default=0.0) == pytest.approx(rate)


def test_motion_channels_reach_the_stem() -> None:
    for name in ("torchvision/r3d_18", "timm/resnet18"):
        model = from_config(name, **{"MODEL.MOTION_STEM": True}).eval()
        still, seen = demo_clip()[:, :, :1].expand(-1, -1, 8, -1, -1), []
        stem = next(
            module for module in model.modules() if isinstance(module, (nn.Conv2d, nn.Conv3d))
        )
        stem.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0]))
        with torch.no_grad():
            model(still)
        assert stem.in_channels == 6
        assert seen[0][:, 3:].abs().max() < 1e-5
        assert seen[0][:, :3].abs().max() > 1


REFUSED = [
    (
        "torchvision/r3d_18",
        {"MODEL.DROP_PATH_RATE": 0.1},
        "drop_path 0.1: torchvision/r3d_18 has no stochastic depth: set it to 0 (MODEL.DROP_PATH_RATE)",
    ),
    ("torchvision/s3d", {"MODEL.DROP_PATH_RATE": 0.1}, "MODEL.DROP_PATH_RATE"),
    (
        "torchvision/s3d",
        {"DATA.NUM_FRAMES": 4},
        "num_frames 4: torchvision/s3d takes at least 5 frames (DATA.NUM_FRAMES)",
    ),
    (
        "torchvision/s3d",
        {"DATA.TEST_CROP_SIZE": 16},
        "16: torchvision/s3d takes at least 17 (DATA.TRAIN_CROP_SIZE, DATA.TEST_CROP_SIZE)",
    ),
    (
        "torchvision/mvit_v2_s",
        {"DATA.NUM_FRAMES": 7},
        "num_frames 7: torchvision/mvit_v2_s takes an even number of frames (DATA.NUM_FRAMES)",
    ),
    (
        "torchvision/mvit_v1_b",
        {"DATA.TEST_CROP_SIZE": 96},
        "test_size 96: torchvision/mvit_v1_b is built for one size of clips, and crop_size is 64: make "
        "them equal (DATA.TEST_CROP_SIZE, DATA.TRAIN_CROP_SIZE)",
    ),
    (
        "torchvision/mvit_v1_b",
        {"DATA.TRAIN_CROP_SIZE": 50, "DATA.TEST_CROP_SIZE": 50},
        "crop_size 50: torchvision/mvit_v1_b takes multiples of 4 from 32 on (DATA.TRAIN_CROP_SIZE)",
    ),
    ("timm/densenet121", {"MODEL.DROP_PATH_RATE": 0.1}, "MODEL.DROP_PATH_RATE"),
    ("timm/vgg11", {"MODEL.DROP_PATH_RATE": 0.1}, "MODEL.DROP_PATH_RATE"),
    (
        "timm/test_vit",
        {"DATA.TEST_CROP_SIZE": 96},
        "test_size 96: timm/test_vit is built for one size",
    ),
    (
        "timm/levit_128",
        {},
        "timm/levit_128: its classifier is not one linear layer",
    ),
    ("timm/inception_v3", {}, "timm/inception_v3: fails on frames of 64 px with motion_stem False"),
    (
        "torchvision/mvit_v2",
        {},
        "unknown model 'torchvision/mvit_v2'; did you mean 'torchvision/mvit_v2_s'?",
    ),
    ("timm/resnet5o", {}, "unknown timm model 'resnet5o'; did you mean 'resnet50"),
    ("timm/hf-hub:timm/resnet50", {}, "unknown timm model"),
    (
        "torchvison/r3d_18",
        {},
        "unknown model 'torchvison/r3d_18'; did you mean 'torchvision/r3d_18'?",
    ),
]


@pytest.mark.parametrize(("name", "values", "said"), REFUSED)
def test_what_a_model_cannot_do_is_an_error_of_one_line(
    name: str, values: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError) as caught:
        from_config(name, **values)
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_classifier_that_loading_would_take_for_a_layer_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(frame_average, "is_head", lambda name: name.startswith("head."))
    with pytest.raises(UserError, match=r"under a usual name \(found fc\)"):
        from_config("timm/resnet18")


# --- configurations and checkpoints -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", [f"torchvision/{name}" for name in TORCHVISION] + ["timm/anything", "mvit"]
)
def test_configurations_may_name_them(tmp_path: Path, name: str) -> None:
    (tmp_path / "exp.yaml").write_text(f"MODEL:\n  NAME: {name}\n")
    assert name == load_experiment(tmp_path / "exp.yaml").MODEL.NAME


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            "NAME: torchvision/swin_t",
            "exp.yaml:2: MODEL.NAME: unknown model 'torchvision/swin_t'; did you mean 'torch",
        ),
        ("NAME: torchvision/", "MODEL.NAME: unknown model"),
        ("NAME: timm/", "MODEL.NAME: unknown model"),
        ("NAME: unifomer", "did you mean 'uniformer'?"),
        (
            "NAME: torchvision/s3d\n  USE_CHECKPOINT: True",
            "MODEL.USE_CHECKPOINT: torchvision/s3d cannot recompute",
        ),
        (
            "NAME: timm/resnet18\n  CHANNELS_LAST: True",
            "MODEL.CHANNELS_LAST: timm/resnet18 sees single frames",
        ),
    ],
)
def test_configurations_with_a_typo_or_an_idle_key_do_not_load(
    tmp_path: Path, values: str, said: str
) -> None:
    (tmp_path / "exp.yaml").write_text(f"MODEL:\n  {values}\n")
    with pytest.raises(ConfigError) as caught:
        load_experiment(tmp_path / "exp.yaml")
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_the_check_and_the_builder_know_the_same_names() -> None:
    registered = [name for name in MODELS.names() if name.startswith("torchvision/")]
    assert set(registered) == {f"torchvision/{name}" for name in external.TORCHVISION}
    assert set(external.TORCHVISION) <= set(dir(video))


@pytest.mark.parametrize("stem", CONFIGS)
def test_model_configurations_build_and_say_whether_there_is_batchnorm(stem: str) -> None:
    cfg = load_experiment(ROOT / "configs" / "models" / f"{stem}.yaml")
    with torch.device("meta"):
        model = build_model(cfg)
    assert (not batchnorm_layers(model)) == cfg.ADAPT.ALLOW_NO_BATCHNORM
    assert len(head_names(model, cfg.MODEL.NUM_CLASSES)) == 2


@pytest.mark.parametrize(
    "name",
    [
        "torchvision/mvit_v2_s",
        "torchvision/swin3d_t",
        "torchvision/r3d_18",
        "torchvision/s3d",
        "timm/resnet18",
    ]
    + ["timm/test_vit", "timm/test_convnext", "timm/test_efficientnet", "timm/densenet121"],
)
def test_classifiers_are_known_as_such_when_weights_are_loaded(name: str) -> None:
    with torch.device("meta"):
        model = from_config(name, **{"DATA.TRAIN_CROP_SIZE": 224, "DATA.TEST_CROP_SIZE": 224})
    assert [key for key in head_names(model, K) if not is_head(key)] == []


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("torchvision/r3d_18", lambda: video.r3d_18(num_classes=400)),
        ("timm/test_vit", lambda: timm.create_model("test_vit", num_classes=1000, img_size=64)),
    ],
)
def test_a_state_dict_saved_at_home_fills_all_but_the_classifier(
    tmp_path: Path, name: str, make: Any
) -> None:
    state = make().state_dict()
    torch.save(state, tmp_path / "official.pth")
    model = from_config(name)
    report = load_pretrained(model, str(tmp_path / "official.pth"))
    assert report.share > 0.999
    assert report.missing == head_names(model, K)
    filled = {key: value for key, value in model.state_dict().items() if key not in report.missing}
    assert all(torch.equal(value, state[key]) for key, value in filled.items())
