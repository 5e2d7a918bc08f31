"""Ways of fine-tuning in the real trainer: each is a key, and goes on bit for bit after a stop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from nightcrawler.engine.build import build_trainer
from nightcrawler.engine.checkpoint_files import load_checkpoint
from nightcrawler.engine.optim import Rate, param_groups, rates_from_cfg, set_lr
from nightcrawler.engine.trainer import Preempted
from nightcrawler.utils.errors import UserError
from tests import tiny
from tests.engine.test_resume import LATEST, STATE, stop_after

TIMM = ("MODEL.NAME", "timm/test_vit", "ADAPT.ALLOW_NO_BATCHNORM", True)
KINDS: dict[str, tuple[Any, ...]] = {
    "layer decay": ("SOLVER.LAYER_DECAY", 0.5),
    "groups": ("SOLVER.LR_FACTORS", "[head.*=10, blocks1.*=0.1@1]"),
    "linear": ("MODEL.PROBE", "linear"),
    "attentive": (*TIMM, "MODEL.PROBE", "attentive"),
    "lora": ("MODEL.LORA_RANK", 2),
    "recompute": (*TIMM, "MODEL.USE_CHECKPOINT", True, "SOLVER.LAYER_DECAY", 0.7),
    "early stop": ("TRAIN.EARLY_STOP", 1),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_stopped_run_goes_on_bit_for_bit(data: Path, tmp_path: Path, kind: str) -> None:
    if kind == "lora":
        pytest.importorskip("peft")
    whole = build_trainer(tiny.config(data, tmp_path / "whole", *KINDS[kind]))
    whole.fit()
    part = build_trainer(tiny.config(data, tmp_path / "part", *KINDS[kind]))
    stop_after(part, 1)
    with pytest.raises(Preempted):
        part.fit()
    build_trainer(tiny.config(data, tmp_path / "part", *KINDS[kind])).fit()
    states = []
    for name in ("whole", "part"):
        state = load_checkpoint(tmp_path / name / LATEST)
        states.append({key: state[key] for key in STATE})
    assert tiny.differences(*states) == []


def test_a_run_is_not_continued_with_adapters_of_another_scale(data: Path, tmp_path: Path) -> None:
    """Another run takes the whole state of the first one, optimiser included."""
    pytest.importorskip("peft")
    build_trainer(tiny.config(data, tmp_path / "one", *KINDS["lora"], "SOLVER.MAX_EPOCH", 1)).fit()
    latest = tmp_path / "one" / LATEST
    start = ("TRAIN.CHECKPOINT_FILE_PATH", latest, "TRAIN.CHECKPOINT_EPOCH_RESET", False)
    build_trainer(tiny.config(data, tmp_path / "same", *KINDS["lora"], *start))
    scaled = tiny.config(data, tmp_path / "two", *KINDS["lora"], *start, "MODEL.LORA_ALPHA", 4)
    with pytest.raises(UserError, match=r"MODEL.LORA_ALPHA 16, it is 4 now"):
        build_trainer(scaled)


def test_a_probe_leaves_the_backbone_as_it_was(data: Path, tmp_path: Path) -> None:
    trainer = build_trainer(
        tiny.config(data, tmp_path, "MODEL.PROBE", "linear", "ADAPT.NAME", "none")
    )
    before = {key: value.clone() for key, value in trainer.model.state_dict().items()}
    trainer.fit()
    changed = {k for k, v in trainer.model.state_dict().items() if not v.equal(before[k])}
    assert changed == {"model.head.weight", "model.head.bias"}


def test_statistics_of_a_frozen_backbone_are_still_adapted(data: Path, tmp_path: Path) -> None:
    trainer = build_trainer(tiny.config(data, tmp_path, "MODEL.PROBE", "linear"))
    before = {key: value.clone() for key, value in trainer.model.state_dict().items()}
    trainer.adapt(trainer.model)
    changed = {k for k, v in trainer.model.state_dict().items() if not v.equal(before[k])}
    assert changed
    assert all("running_" in key for key in changed)


def test_tent_trains_norms_of_a_frozen_backbone(data: Path, tmp_path: Path) -> None:
    options = ("MODEL.PROBE", "linear", "ADAPT.NAME", "tent", "ADAPT.TENT_LR", 0.1)
    trainer = build_trainer(tiny.config(data, tmp_path, *options))
    norm = trainer.model.get_parameter("model.blocks3.0.norm1.weight")
    before = norm.clone()
    trainer.adapt(trainer.model)
    assert not norm.requires_grad
    assert not torch.equal(norm, before)


def test_training_stops_when_nothing_better_comes(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny.config(
        data,
        tmp_path,
        *("SOLVER.MAX_EPOCH", 9, "TRAIN.EARLY_STOP", 2, "TRAIN.EVAL_PERIOD", 1),
        *("TRAIN.VAL_SPLITS", "[val_dry]", "TRAIN.BEST_SPLIT", "val_dry", "ADAPT.NAME", "none"),
    )
    trainer = build_trainer(config)
    top1 = iter([10.0, 30.0, 30.0, 20.0, 90.0])
    monkeypatch.setattr(trainer, "validate", lambda *_: {"val_dry": {"top1": next(top1)}})
    best = trainer.fit()
    # The better one would have come in epoch 5.
    assert (trainer.epoch, best["epoch"], best["top1"]) == (4, 2, 30.0)
    assert (tmp_path / "DONE").read_text().startswith("epoch 4,")
    again = build_trainer(config)
    assert again.fit() == best
    assert again.epoch == 4


def test_rates_of_groups_follow_the_schedule_and_rest_before_their_epoch() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2), nn.Linear(2, 2))
    rates = {"0.weight": Rate(0.5, 2.0), "0.bias": Rate(0.5, 2.0), "2.weight": Rate(10.0)}
    groups = param_groups(model, 0.03, 0.0, zero_wd_1d=True, rates=rates)
    found = [(len(g["params"]), g["weight_decay"], g["lr_factor"], g["lr_start"]) for g in groups]
    assert found == [
        (1, 0.03, 0.5, 2.0),
        (1, 0.0, 0.5, 2.0),
        (3, 0.0, 1.0, 0.0),
        (1, 0.03, 10.0, 0.0),
    ]
    optimizer = torch.optim.AdamW(groups, lr=1.0)
    set_lr(optimizer, 0.2, epoch=1.9)
    assert [group["lr"] for group in optimizer.param_groups] == [0.0, 0.0, 0.2, 2.0]
    set_lr(optimizer, 0.2, epoch=2.0)
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.1, 0.2, 2.0]


def test_patterns_multiply_the_decay_of_layers(data: Path, tmp_path: Path) -> None:
    cfg = tiny.config(
        data, tmp_path, "SOLVER.LAYER_DECAY", 0.5, "SOLVER.LR_FACTORS", "[head.*=10@1, '*.bias=2']"
    )
    trainer = build_trainer(cfg)
    rates = rates_from_cfg(cfg, trainer.model)
    assert rates["head.weight"] == Rate(10.0, 1.0)
    assert rates["head.bias"] == Rate(20.0, 1.0)
    assert rates["blocks4.0.attn.qkv.weight"] == Rate(0.5, 0.0)
    assert rates["patch_embed1.proj.bias"] == Rate(2 * 0.5**8, 0.0)


def test_a_pattern_without_a_parameter_is_an_error(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"SOLVER.LR_FACTORS heads\.\*=10: no trained parameter"):
        build_trainer(tiny.config(data, tmp_path, "SOLVER.LR_FACTORS", "[heads.*=10]"))


@pytest.mark.parametrize("text", ["head.*", "head.*=x", "head.*=1@", "=3", "a b=1"])
def test_other_texts_are_no_groups(data: Path, tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError, match="expected PATTERN=FACTOR"):
        tiny.config(data, tmp_path, "SOLVER.LR_FACTORS", f"['{text}']")
