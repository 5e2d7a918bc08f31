"""A whole training run: what it leaves, what adaptation changes, how it picks its best, steps that are not finite."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from nightcrawler.adapt.batchnorm import batchnorm_layers
from nightcrawler.config.load import load_experiment
from nightcrawler.config.node import flatten
from nightcrawler.data.build import build_eval_set
from nightcrawler.engine import metric_logger
from nightcrawler.engine import train_step as train_step_module
from nightcrawler.engine.build import build_trainer
from nightcrawler.engine.checkpoint_files import load_checkpoint, verify
from nightcrawler.engine.trainer import Trainer
from nightcrawler.engine.writers.group import WriterGroup
from nightcrawler.engine.writers.jsonl import JsonlWriter
from nightcrawler.models.build import build_model
from nightcrawler.models.flops import count_gmacs
from nightcrawler.utils.errors import UserError
from tests import tiny

LATEST = "checkpoints/checkpoint_latest.pyth"
PREVIOUS = "checkpoints/checkpoint_previous.pyth"


def test_the_run_folder_is_complete_and_agrees_with_itself(data: Path, trained: Path) -> None:
    assert (trained / "DONE").is_file()
    assert not (trained / "PREEMPTED").exists()
    text = (trained / "resolved.yaml").read_text()
    cfg = tiny.config(data, trained)
    assert flatten(load_experiment(trained / "resolved.yaml")) == flatten(cfg)
    about = json.loads((trained / "run.json").read_text())
    best, latest, previous = (
        load_checkpoint(trained / name) for name in ("best.pyth", LATEST, PREVIOUS)
    )
    for state in (best, latest, previous):
        assert state["cfg"] == text
        assert state["config_hash"] == about["config_hash"]
        assert (state["class_names"], state["labels"], state["seed"]) == (
            cfg.MODEL.CLASS_NAMES,
            "label-free",
            6666,
        )
    assert [(state["epoch"], state["step"]) for state in (latest, previous)] == [(2, 0), (1, 0)]
    assert best["epoch"] == latest["best"]["epoch"]
    same = latest if best["epoch"] == 2 else previous
    assert not tiny.differences(best["model_state"], same["model_state"])
    assert about["num_params"] == sum(p.numel() for p in build_model(cfg).parameters())
    for name in ("best.pyth", LATEST, PREVIOUS):
        assert (trained / f"{name}.sha256").is_file()
        verify(trained / name)


def test_metrics_tell_every_step_adaptation_and_validation(trained: Path) -> None:
    train = tiny.metrics(trained, "train")
    assert [(row["epoch"], row["step"]) for row in train] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert all(math.isfinite(row["loss"]) and row["grad_norm"] > 0 for row in train)
    middle, end = (1e-6 + 1e-3) / 2, (1e-3 + 1e-6) / 2
    assert [row["lr"] for row in train] == pytest.approx([1e-6, middle, 1e-3, end])
    adapt = tiny.metrics(trained, "adapt")
    assert [(row["epoch"], row["num_clips"]) for row in adapt] == [(1, 12), (2, 12)]
    val = tiny.metrics(trained, "val")
    counts = {"val_dry": tiny.NUM_VAL, "val_dark": tiny.NUM_VAL, "arid": tiny.NUM_ARID}
    assert [(row["epoch"], row["split"]) for row in val] == [(e, s) for e in (1, 2) for s in counts]
    assert all(row["num_videos"] == counts[row["split"]] and row["num_bad"] == 0 for row in val)
    top1 = [row["top1"] for row in val if row["split"] == "val_dark"]
    best = load_checkpoint(trained / "best.pyth")["best"]
    assert (best["top1"], best["epoch"], best["split"]) == (
        max(top1),
        1 + top1.index(max(top1)),
        "val_dark",
    )


def test_the_log_tells_pace_waiting_and_work(data: Path, trained: Path) -> None:
    """A step is three forward passes' worth of work, two operations for each multiply-add."""
    cfg = tiny.config(data, trained)
    size = cfg.DATA.TRAIN_CROP_SIZE
    gmacs = count_gmacs(build_model(cfg), (1, 3, cfg.DATA.NUM_FRAMES, size, size))
    rows = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row["kind"] == "train"]
    assert len(rows) == 4
    for row in rows:
        assert row["gflop_per_sec"] == pytest.approx(6 * gmacs * row["clips_per_sec"])
        assert row["clips_per_sec"] == pytest.approx(
            row["step"] * 4 / (row["step"] * row["sec_per_step"])
        )
        assert 0 < row["data_wait_percent"] < 100
        assert "gpu_memory_gib" not in row
    text = (trained / "train.log").read_text()
    assert len(re.findall(r"clips/s, \S+ GFLOP/s, data wait \d+ %, left", text)) == 4


def test_the_log_tells_the_memory_of_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its peak since the epoch began."""
    peaks, said = [7 * 2**30, 3 * 2**29], []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda _: peaks.pop(0))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: peaks[0])
    monkeypatch.setattr(metric_logger.logger, "info", said.append)
    figures = metric_logger.Throughput(torch.device("cuda"), gmacs=1.0).figures()
    assert figures["gpu_memory_gib"] == 1.5
    more = {"loss": 1.0, "lr": 0.1, "grad_norm": 1.0, "top1": {"labelled": 9.0}}
    writers = WriterGroup({"metrics.jsonl": JsonlWriter(tmp_path)}, set())
    metric_logger.MetricLogger(writers, {}).log_train_step(0, 1, 1, 2, {**more, **figures})
    assert "data wait 0 %, GPU memory 1.5 GiB, left " in said[0]
    assert tiny.metrics(tmp_path, "train")[0]["gpu_memory_gib"] == 1.5


def weights_after_a_step(data: Path, out: Path, micro: int) -> dict[str, torch.Tensor]:
    """Of a model without BatchNorm, clips not mixed: micro-batches are then memory's business alone."""
    overrides = (
        "SOLVER.MAX_EPOCH",
        1,
        "TRAIN.BATCH_SIZE",
        8,
        "TRAIN.MICRO_BATCH",
        micro,
        "MIXUP.ENABLE",
        False,
    )
    small = (
        "MVIT.DEPTH",
        4,
        "MVIT.EMBED_DIM",
        8,
        "MVIT.DIM_MUL",
        "[[1, 2.0]]",
        "MVIT.HEAD_MUL",
        "[[1, 2.0]]",
    )
    pooled = ("MVIT.POOL_Q_STRIDE", "[[1, 1, 2, 2]]", "MVIT.POOL_KV_STRIDE_ADAPTIVE", "[1, 2, 2]")
    plain = ("ADAPT.NAME", "none", "MODEL.DROP_PATH_RATE", 0.0, "MODEL.DROPOUT_RATE", 0.0)
    sgd = ("SOLVER.OPTIMIZING_METHOD", "sgd", "SOLVER.BASE_LR", 0.5, "SOLVER.WARMUP_EPOCHS", 0.0)
    cfg = tiny.config(
        data,
        out,
        *overrides,
        *small,
        *pooled,
        *plain,
        *sgd,
        experiment="exp_adapt_bn/mvit_b32_k600",
    )
    trainer = build_trainer(cfg)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.fit()
    return {name: value - before[name] for name, value in trainer.model.state_dict().items()}


def test_a_step_is_the_same_however_little_memory_it_takes(data: Path, tmp_path: Path) -> None:
    whole = weights_after_a_step(data, tmp_path / "8", 8)
    assert max(value.abs().max() for value in whole.values()) > 1e-3
    for micro in (1, 2, 4):
        parts = weights_after_a_step(data, tmp_path / str(micro), micro)
        for name, value in whole.items():
            np.testing.assert_allclose(
                parts[name], value, rtol=1e-4, atol=1e-6, err_msg=f"{micro} {name}"
            )


def test_a_run_that_is_done_can_be_started_again_and_changes_nothing(
    data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    assert tiny.run_net("train", data, out, "SOLVER.MAX_EPOCH", 1) == 0
    before = {name: (out / name).read_bytes() for name in ("best.pyth", LATEST, "metrics.jsonl")}
    assert tiny.run_net("train", data, out, "SOLVER.MAX_EPOCH", 1) == 0
    assert before == {name: (out / name).read_bytes() for name in before}
    assert (out / "DONE").is_file()


def final_state(data: Path, out: Path, *overrides: Any) -> dict[str, Any]:
    build_trainer(tiny.config(data, out, *overrides)).fit()
    return load_checkpoint(out / LATEST)


def test_adaptation_changes_running_statistics_and_nothing_else(
    data: Path, trained: Path, tmp_path: Path
) -> None:
    adapted = load_checkpoint(trained / LATEST)
    plain = final_state(data, tmp_path / "plain", "ADAPT.NAME", "none")
    layers = batchnorm_layers(build_model(tiny.config(data, tmp_path)))
    expected = {f"/{name}.{part}" for name in layers for part in ("running_mean", "running_var")}
    assert set(tiny.differences(adapted["model_state"], plain["model_state"])) == expected
    assert not tiny.differences(adapted["optimizer_state"], plain["optimizer_state"])
    assert tiny.metrics(tmp_path / "plain", "adapt")[0]["num_clips"] == 0


def test_adaptation_waits_for_validation_and_replaces_what_came_before(
    data: Path, trained: Path, tmp_path: Path
) -> None:
    seldom = final_state(data, tmp_path / "seldom", "TRAIN.EVAL_PERIOD", 2)
    assert [row["epoch"] for row in tiny.metrics(tmp_path / "seldom", "adapt")] == [2]
    assert [row["epoch"] for row in tiny.metrics(tmp_path / "seldom", "val")] == [2, 2, 2]
    assert not tiny.differences(
        seldom["model_state"], load_checkpoint(trained / LATEST)["model_state"]
    )


def test_adapted_statistics_are_those_of_the_lit_dark_clips(data: Path, trained: Path) -> None:
    """The first BatchNorm's input does not depend on any BatchNorm: its mean and variance over all clips at once."""
    cfg = tiny.config(data, trained)
    model = build_model(cfg)
    model.load_state_dict(load_checkpoint(trained / LATEST)["model_state"])
    name, layer = next(iter(batchnorm_layers(model).items()))
    seen: list[torch.Tensor] = []
    layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].double()))
    clips = [
        sample["clip"]
        for batch in build_eval_set(cfg, "total_unlabel", "TEST", [(1, 1)]).loader
        for sample in batch
    ]
    with torch.no_grad():
        model.eval()(torch.cat(clips))
    assert (len(clips), name) == (12, "blocks1.0.norm1")
    torch.testing.assert_close(
        layer.running_mean.double(), seen[0].mean((0, 2, 3, 4)), rtol=1e-5, atol=1e-7
    )
    variance = seen[0].var((0, 2, 3, 4), correction=0)
    torch.testing.assert_close(layer.running_var.double(), variance, rtol=1e-5, atol=1e-9)


def test_the_best_epoch_is_the_first_with_the_highest_top1(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top1 = iter([10.0, 30.0, 30.0, 20.0])
    monkeypatch.setattr(Trainer, "validate", lambda self, *_: {"val_dark": {"top1": next(top1)}})
    trainer = build_trainer(
        tiny.config(data, tmp_path, "SOLVER.MAX_EPOCH", 4, "ADAPT.NAME", "none")
    )
    assert trainer.fit() == {"top1": 30.0, "epoch": 2, "split": "val_dark", "weights": "raw"}
    best, latest = load_checkpoint(tmp_path / "best.pyth"), load_checkpoint(tmp_path / LATEST)
    assert (best["epoch"], latest["epoch"], latest["best"]["epoch"]) == (2, 4, 2)
    assert tiny.differences(best["model_state"], latest["model_state"])


def test_a_dark_split_that_picks_the_checkpoint_makes_the_run_an_oracles(
    data: Path, tmp_path: Path
) -> None:
    state = final_state(data, tmp_path, "TRAIN.BEST_SPLIT", "arid", "SOLVER.MAX_EPOCH", 1)
    assert state["labels"] == "oracle"
    assert {row["labels"] for row in tiny.metrics(tmp_path, "val")} == {"oracle"}


def test_a_split_without_labels_cannot_pick_the_checkpoint(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"dark_unlabel.*label"):
        build_trainer(tiny.config(data, tmp_path, "TRAIN.BEST_SPLIT", "dark_unlabel"))


def test_a_compiled_model_keeps_the_published_names_in_its_checkpoints(
    data: Path, tmp_path: Path
) -> None:
    cfg = tiny.config(data, tmp_path, "MODEL.COMPILE", True)
    assert list(build_trainer(cfg).state()["model_state"]) == list(build_model(cfg).state_dict())


def poisoned(data: Path, out: Path, bad_calls: set[int], *overrides: Any) -> Trainer:
    """A trainer whose loss is not a number in the given micro-batches (from 0)."""
    trainer = build_trainer(tiny.config(data, out, "ADAPT.NAME", "none", *overrides))
    loss, calls = trainer.stream_losses[0].loss, iter(range(1000))
    trainer.stream_losses[0].loss = lambda logits, target: (
        loss(logits, target) * (math.nan if next(calls) in bad_calls else 1.0)
    )
    return trainer


def test_a_step_that_is_not_finite_is_skipped_and_leaves_no_trace(
    data: Path, tmp_path: Path
) -> None:
    trainer = poisoned(data, tmp_path, set(range(8)))
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.fit()
    after = load_checkpoint(tmp_path / LATEST)
    assert not tiny.differences(before, dict(after["model_state"]))
    assert after["optimizer_state"]["state"] == {}
    assert after["num_skipped"] == 4


def test_steps_after_a_skipped_one_train(data: Path, tmp_path: Path) -> None:
    trainer = poisoned(data, tmp_path, {1})
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.fit()
    rows = tiny.metrics(tmp_path, "train")
    assert [row["num_skipped"] for row in rows] == [1, 1, 1, 1]
    assert (rows[0]["loss"], rows[0]["grad_norm"]) == ("nan", "nan")
    assert all(math.isfinite(row["loss"]) for row in rows[1:])
    after = load_checkpoint(tmp_path / LATEST)
    assert tiny.differences(before, dict(after["model_state"]))
    assert all(torch.isfinite(value).all() for value in after["model_state"].values())
    assert {int(state["step"]) for state in after["optimizer_state"]["state"].values()} == {3}


def test_many_skips_in_a_row_end_the_run(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_step_module, "MAX_SKIPS_IN_A_ROW", 3)
    with pytest.raises(
        UserError, match=r"3 steps in a row were not finite, last at epoch 2 step 1"
    ):
        poisoned(data, tmp_path, set(range(8))).fit()
    with_pauses = poisoned(data, tmp_path / "other", {0, 2, 6})
    with_pauses.fit()
    assert with_pauses.train_step.num_skipped == 3


def test_a_step_that_is_not_finite_ends_the_run_where_that_is_asked(
    data: Path, tmp_path: Path
) -> None:
    trainer = poisoned(data, tmp_path, {2}, "TRAIN.NON_FINITE", "raise")
    with pytest.raises(
        UserError, match=r"not finite at epoch 1 step 2: loss nan.*TRAIN.NON_FINITE is raise"
    ):
        trainer.fit()
    assert all(torch.isfinite(p).all() for p in trainer.model.parameters())
    assert not (tmp_path / "DONE").exists()


def test_infinite_gradients_are_caught_though_the_loss_is_finite(
    data: Path, tmp_path: Path
) -> None:
    trainer = build_trainer(tiny.config(data, tmp_path, "ADAPT.NAME", "none"))
    head = next(
        module
        for module in trainer.model.modules()
        if isinstance(module, nn.Linear) and module.out_features == 11
    )
    calls = iter(range(1000))
    head.weight.register_hook(lambda grad: grad * (math.inf if next(calls) == 0 else 1.0))
    trainer.fit()
    assert trainer.train_step.num_skipped == 1
    assert all(torch.isfinite(p).all() for p in trainer.model.parameters())


def test_batchnorm_of_a_single_value_is_one_line(data: Path, tmp_path: Path) -> None:
    single = ("DATA.NUM_FRAMES", 2, "TRAIN.MICRO_BATCH", 1, "AUG.NUM_SAMPLE", 1)
    trainer = build_trainer(tiny.config(data, tmp_path, *single, "ADAPT.NAME", "none"))
    with pytest.raises(UserError, match=r"one value a channel.*take more clips in a micro-batch"):
        trainer.fit()
