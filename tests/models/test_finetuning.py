"""Probes and low-rank adapters: what is trained, what stays, and checkpoints that pass between them."""

from __future__ import annotations

import copy
import logging
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nightcrawler.config.node import dump, get_cfg
from nightcrawler.engine.checkpoint_files import save_checkpoint
from nightcrawler.engine.resume import start_from_cfg, weights_to_test_from_cfg
from nightcrawler.engine.unseen_settings import _recorded_alpha
from nightcrawler.models.build import build_model
from nightcrawler.models.lora import called_linear_layers
from nightcrawler.models.pretrained import load_pretrained
from nightcrawler.models.probe import AttentivePool
from nightcrawler.utils.errors import UserError
from tests.models.tiny_hub import clip_of, overrides, save_folder

K = 5
SIZE = ["DATA.NUM_FRAMES", 8, "DATA.TRAIN_CROP_SIZE", 32, "DATA.TEST_CROP_SIZE", 32]
UNIFORMER = [
    *("UNIFORMER.EMBED_DIM", "[8, 8, 16, 16]", "UNIFORMER.DEPTH", "[1, 1, 1, 1]"),
    *("UNIFORMER.HEAD_DIM", 8, "MODEL.NAME", "uniformer", *SIZE),
]
TIMM = ["MODEL.NAME", "timm/test_vit", *SIZE, "MODEL.DROPOUT_RATE", 0.3]
SLOWFAST = ["MODEL.NAME", "slowfast", "SLOWFAST.WIDTH", 8, "SLOWFAST.DEPTH", "[1, 1, 1, 1]", *SIZE]
OWN = {"uniformer": UNIFORMER, "timm": TIMM, "slowfast": SLOWFAST}


@pytest.fixture(scope="module")
def vivit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("transformers")
    return save_folder("vivit", tmp_path_factory.mktemp("vivit") / "vivit")


def build(base: list[Any], *more: Any) -> nn.Module:
    cfg = get_cfg()
    cfg.merge_from_list(["MODEL.NUM_CLASSES", K, *base, *more])
    torch.manual_seed(0)
    return build_model(cfg)


def settings(name: str, vivit: Path) -> list[Any]:
    return OWN[name] if name in OWN else overrides("vivit", vivit)


def clip_for(name: str) -> Tensor:
    if name not in OWN:
        return clip_of("vivit")
    return torch.randn(2, 3, 8, 32, 32, generator=torch.Generator().manual_seed(1))


def step(model: nn.Module, clip: Tensor) -> set[str]:
    """Take a step of SGD, and return the entries that changed."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    parameters = [value for value in model.parameters() if value.requires_grad]
    nn.functional.cross_entropy(model.train()(clip), torch.tensor([1, 4])).backward()
    torch.optim.SGD(parameters, lr=0.1).step()
    return {name for name, value in model.state_dict().items() if not value.equal(before[name])}


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("uniformer", {"model.head.weight", "model.head.bias"}),
        ("timm", {"model.head.weight", "model.head.bias"}),
        ("slowfast", {"model.projection.weight", "model.projection.bias"}),
        ("vivit", {"model.model.classifier.weight", "model.model.classifier.bias"}),
    ],
)
def test_a_linear_probe_changes_the_classifier_alone(
    name: str, head: set[str], vivit: Path
) -> None:
    model = build(settings(name, vivit), "MODEL.PROBE", "linear")
    # SlowFast has statistics of BatchNorm, which a whole model would take in training.
    assert step(model, clip_for(name)) == head
    assert not model.model.training
    plain = build(settings(name, vivit))
    if name != "vivit":
        assert len(step(plain, clip_for(name))) > len(head)
    assert torch.equal(
        build(settings(name, vivit)).eval()(clip_for(name)),
        build(settings(name, vivit), "MODEL.PROBE", "linear").eval()(clip_for(name)),
    )


@pytest.mark.parametrize("name", ["timm", "vivit"])
def test_an_attentive_probe_changes_its_pool_alone(name: str, vivit: Path) -> None:
    model = build(settings(name, vivit), "MODEL.PROBE", "attentive")
    changed = step(model, clip_for(name))
    pool = {key for key, _ in model.named_parameters() if key.startswith("probe.")}
    # The bias of keys moves all scores of a query alike, so that the softmax does not see it.
    assert changed <= pool
    assert {key.removeprefix("probe.") for key in pool - changed} <= {"norm.weight", "query"}
    assert model.eval()(clip_for(name)).shape == (2, K)


def test_the_attentive_pool_is_attention_written_out() -> None:
    torch.manual_seed(1)
    pool = AttentivePool(8, K).double().eval()
    tokens = torch.randn(3, 7, 8, dtype=torch.float64)
    x = (tokens - tokens.mean(-1, keepdim=True)) / (
        tokens.var(-1, correction=0, keepdim=True) + 1e-5
    ).sqrt()
    q_weight, k_weight, v_weight = pool.attention.in_proj_weight.chunk(3)
    scores = (x @ k_weight.T) @ (pool.query[0, 0] @ q_weight.T) / 8**0.5
    mixed = (scores.softmax(1)[..., None] * (x @ v_weight.T)).sum(1)
    expected = pool.classifier(pool.attention.out_proj(mixed))
    torch.testing.assert_close(pool(tokens), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["timm/resnet18", "timm/test_convnext", "timm/test_vit"])
def test_tokens_of_timm_are_all_places_of_all_frames(name: str) -> None:
    model = build([*TIMM, "MODEL.NAME", name])
    tokens = model.eval().tokens(clip_for("timm"))
    features = model.unregistered[0].forward_features(clip_for("timm")[:, :, 3])
    per_frame = tokens.shape[1] // 8
    third = tokens[:, 3 * per_frame : 4 * per_frame]
    if features.ndim == 4:
        features = features.flatten(2).transpose(1, 2)
    torch.testing.assert_close(third, features, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["uniformer", "slowfast"])
def test_models_without_tokens_refuse_an_attentive_probe(name: str, vivit: Path) -> None:
    with pytest.raises(UserError, match=r"gives no tokens: .*\(MODEL.PROBE\)"):
        build(settings(name, vivit), "MODEL.PROBE", "attentive")


# --- low-rank adapters --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["uniformer", "timm", "vivit"])
def test_low_rank_adapters_begin_without_effect_and_all_are_trained(name: str, vivit: Path) -> None:
    pytest.importorskip("peft")
    base, clip = settings(name, vivit), clip_for(name)
    plain, model = build(base), build(base, "MODEL.LORA_RANK", 2)
    load_state = {
        key.replace(".base_layer.", "."): value for key, value in model.state_dict().items()
    }
    plain.load_state_dict({key: value for key, value in load_state.items() if ".lora_" not in key})
    assert torch.equal(plain.eval()(clip), model.eval()(clip))
    trained = {key for key, value in model.named_parameters() if value.requires_grad}
    # B begins at zero: A has no gradient in the first step, and all of it in the second.
    changed = {key for key in step(model, clip) if "running_" not in key and "num_b" not in key}
    assert changed == {key for key in trained if "lora_A" not in key}
    model.zero_grad()
    step(model, clip)
    assert all(value.grad.abs().max() > 0 for value in model.parameters() if value.requires_grad)
    assert any("lora_A" in key for key in trained)
    frozen = sum(value.numel() for value in model.parameters() if not value.requires_grad)
    assert frozen > sum(value.numel() for value in plain.parameters()) * 0.9


def test_an_adapter_is_a_product_of_low_rank(vivit: Path) -> None:
    pytest.importorskip("peft")
    model = build(overrides("vivit", vivit), "MODEL.LORA_RANK", 2, "MODEL.LORA_ALPHA", 6)
    layer = model.get_submodule("model.vivit.layers.0.attention.q_proj")
    nn.init.normal_(layer.lora_B["default"].weight)
    x = torch.randn(3, 24)
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    expected = layer.base_layer(x) + 6 / 2 * x @ a.T @ b.T
    torch.testing.assert_close(layer(x), expected)


class Functional(nn.Module):
    """A model that reads the weight of one layer without calling it."""

    def __init__(self) -> None:
        super().__init__()
        self.called, self.read, self.head = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, K)

    def forward(self, clip: Tensor) -> Tensor:
        hidden = self.called(clip.mean((2, 3, 4)))
        return self.head(nn.functional.linear(hidden, self.read.weight))


def test_layers_whose_weights_are_read_get_no_idle_adapter() -> None:
    assert called_linear_layers(Functional(), (1, 3, 2, 4, 4)) == ["called"]


def test_a_network_without_linear_layers_refuses_them() -> None:
    pytest.importorskip("peft")
    with pytest.raises(UserError, match=r"calls no linear layer but .*\(MODEL.LORA_RANK\)"):
        build(SLOWFAST, "MODEL.LORA_RANK", 2)


def test_without_the_library_one_line_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UserError, match=r"pip install 'nightcrawler-video\[lora\]'"):
        build(UNIFORMER, "MODEL.LORA_RANK", 2)


# --- checkpoints --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target", [("MODEL.PROBE", "linear"), ("MODEL.PROBE", "attentive"), ("MODEL.LORA_RANK", 2)]
)
def test_weights_of_a_whole_model_fill_a_probe_or_an_adapted_one(
    tmp_path: Path, target: tuple[str, Any]
) -> None:
    pytest.importorskip("peft")
    whole = build(TIMM)
    for value in whole.parameters():
        nn.init.normal_(value, std=0.1)
    torch.save(whole.state_dict(), tmp_path / "whole.pth")
    model = build(TIMM, *target)
    report = load_pretrained(model, tmp_path / "whole.pth")
    assert report.share == 1.0
    clip = clip_for("timm")
    if target[1] != "attentive":
        assert torch.equal(model.eval()(clip), whole.eval()(clip))
    with pytest.raises(UserError, match="not exactly those"):
        # A test must find every entry, adapters and pools included.
        load_pretrained(build(TIMM, "MODEL.LORA_RANK", 2), tmp_path / "whole.pth", complete=True)
    torch.save(model.state_dict(), tmp_path / "own.pth")
    again = build(TIMM, *target)
    load_pretrained(again, tmp_path / "own.pth", min_match=1.0, complete=True)
    assert torch.equal(again.eval()(clip), model.eval()(clip))
    assert torch.equal(copy.deepcopy(model)(clip), model(clip))


@pytest.mark.parametrize(("rank", "excuse"), [(0, "no such entry"), (2, r"shape \[4, ")])
def test_adapters_are_not_dropped_when_the_next_stage_starts(
    tmp_path: Path, rank: int, excuse: str
) -> None:
    pytest.importorskip("peft")
    torch.save(build(TIMM, "MODEL.LORA_RANK", 4).state_dict(), tmp_path / "best.pyth")
    cfg = get_cfg()
    start = ["TRAIN.CHECKPOINT_FILE_PATH", str(tmp_path / "best.pyth")]
    cfg.merge_from_list([*TIMM, *start, "MODEL.NUM_CLASSES", K, "MODEL.LORA_RANK", rank])
    wanted = rf"adapters of rank 4 would be lost.*{excuse}.*of rank 4 \(MODEL.LORA_RANK\)"
    with pytest.raises(UserError, match=wanted):
        start_from_cfg(cfg, build(TIMM, "MODEL.LORA_RANK", rank))


RANK = ("MODEL.LORA_RANK", 4)


def adapted(path: Path, alpha: int, recorded: bool = True) -> Path:
    """Write a checkpoint with adapters of rank 4, and the configuration that it was trained with."""
    keys = [*TIMM, *RANK, "MODEL.LORA_ALPHA", alpha, "MODEL.NUM_CLASSES", K]
    content: dict[str, Any] = {"model_state": build(keys).state_dict()}
    if recorded:
        cfg = get_cfg()
        cfg.merge_from_list(keys)
        content["cfg"] = dump(cfg)
    save_checkpoint(path, content)
    return path


def load_adapted(task: str, path: Path, alpha: int) -> Any:
    """Load a checkpoint with adapters of rank 4 into a model of an alpha, as a task does."""
    cfg = get_cfg()
    keys = [*TIMM, *RANK, "MODEL.LORA_ALPHA", alpha, "MODEL.NUM_CLASSES", K]
    cfg.merge_from_list([*keys, f"{task}.CHECKPOINT_FILE_PATH", str(path)])
    load = start_from_cfg if task == "TRAIN" else weights_to_test_from_cfg
    return load(cfg, build(keys))


@pytest.mark.parametrize("task", ["TRAIN", "TEST"])
def test_adapters_of_another_scale_are_refused(tmp_path: Path, task: str) -> None:
    pytest.importorskip("peft")
    path = adapted(tmp_path / "best.pyth", alpha=8)
    load_adapted(task, path, 8)
    wanted = (
        rf"^{re.escape(str(path))}: .* MODEL.LORA_ALPHA 8, it is 32 .*: set MODEL.LORA_ALPHA 8$"
    )
    with pytest.raises(UserError, match=wanted):
        load_adapted(task, path, 32)


def test_weights_without_adapters_have_no_scale(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    cfg = get_cfg()
    cfg.merge_from_list([*TIMM, "MODEL.NUM_CLASSES", K])
    path = tmp_path / "best.pyth"
    save_checkpoint(path, {"model_state": build(TIMM).state_dict(), "cfg": dump(cfg)})
    load_adapted("TRAIN", path, 32)


def test_adapters_of_a_scale_that_is_not_recorded_are_taken_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("peft")
    monkeypatch.setattr(logging.getLogger("nightcrawler"), "propagate", True)
    path = adapted(tmp_path / "best.pyth", alpha=8, recorded=False)
    load_adapted("TEST", path, 32)
    [warning] = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.getMessage().startswith(f"{path}: does not record the MODEL.LORA_ALPHA")
    assert "taken with 32" in warning.getMessage()


# --- recomputed activations ---------------------------------------------------------------------------------


def test_timm_recomputes_with_the_same_gradients() -> None:
    grads = []
    for recompute in (False, True):
        model = build(TIMM, "MODEL.USE_CHECKPOINT", recompute, "MODEL.DROPOUT_RATE", 0.0)
        model(clip_for("timm")).square().sum().backward()
        grads.append({key: value.grad for key, value in model.named_parameters()})
    for key, value in grads[0].items():
        torch.testing.assert_close(grads[1][key], value, rtol=0, atol=0, msg=key)


def test_timm_with_batchnorm_does_not_recompute() -> None:
    with pytest.raises(UserError, match=r"count each batch twice \(MODEL.USE_CHECKPOINT\)"):
        build(TIMM, "MODEL.NAME", "timm/resnet18", "MODEL.USE_CHECKPOINT", True)


@pytest.mark.parametrize(("text", "alpha"), [("8", 8), ("8.0", 8.0), ("true", None), ("x", None)])
def test_a_recorded_alpha_is_a_number(tmp_path: Path, text: str, alpha: float | None) -> None:
    assert _recorded_alpha(f"MODEL: {{LORA_ALPHA: {text}}}\n", tmp_path / "best.pyth") == alpha
