"""A run stopped in the middle of an epoch ends as one that was not, bit for bit, whatever it is made of."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import pytest
import torch

from nightcrawler.engine.build import build_trainer
from nightcrawler.engine.checkpoint_files import load_checkpoint
from nightcrawler.engine.trainer import Preempted
from nightcrawler.utils import distributed
from tests import tiny
from tests.faults.ranks import on_ranks, state_of, stop_after, stop_within

EMA = ("TRAIN.EMA_DECAY", 0.9)
# With fewer frames, oneDNN's bf16 weight gradients of 3-D convolutions read memory that nobody wrote.
BF16 = ("MODEL.PRECISION", "bf16", "DATA.NUM_FRAMES", 16)
# Name: (overrides, overrides of the continuation).
CASES: dict[str, tuple[tuple[Any, ...], tuple[Any, ...]]] = {
    "workers 0 to 2": (EMA, ("DATA_LOADER.NUM_WORKERS", 2)),
    "ema and dropout": ((*EMA, "MODEL.DROPOUT_RATE", 0.3, "MODEL.DROP_PATH_RATE", 0.3), ()),
    "sgd, no mixup, no adapter": (
        ("SOLVER.OPTIMIZING_METHOD", "sgd", "MIXUP.ENABLE", False, "ADAPT.NAME", "none"),
        (),
    ),
    "blended batchnorm": (("BN.BLEND", 0.5), ()),
    "tent": ((*EMA, "ADAPT.NAME", "tent"), ()),
    "infomax, workers 0 to 2": (
        ("ADAPT.NAME", "infomax"),
        ("DATA_LOADER.NUM_WORKERS", 2),
    ),
    "bf16": ((*EMA, *BF16), ()),
}
ON_TWO = {
    "plain": (),
    "everything": (*EMA, "MODEL.DROPOUT_RATE", 0.3, "MODEL.DROP_PATH_RATE", 0.3, *BF16),
}


def digest(out: Path) -> str:
    """SHA-256 over model, average, optimiser, scaler, meters and best, and the weights in `best.pyth`."""
    content = io.BytesIO()
    torch.save([state_of(out), load_checkpoint(out / "best.pyth")["model_state"]], content)
    return hashlib.sha256(content.getvalue()).hexdigest()


def stopped_and_continued(
    data: Path, out: Path, overrides: tuple[Any, ...], more: tuple[Any, ...], step: int
) -> None:
    """Stop after `step` steps, then go on with `more` overrides; only the last rank is asked to stop."""
    trainer = build_trainer(tiny.config(data, out, *overrides))
    if distributed.rank() == distributed.world_size() - 1:
        stop_after(trainer, step)
    with pytest.raises(Preempted):
        trainer.fit()
    trainer = build_trainer(tiny.config(data, out, *overrides, *more))
    assert (trainer.epoch, trainer.step) == (step // trainer.num_steps, step % trainer.num_steps)
    trainer.fit()


def both(data: Path, folder: Path, overrides: tuple[Any, ...], more: tuple[Any, ...]) -> None:
    build_trainer(tiny.config(data, folder / "whole", *overrides)).fit()
    stopped_and_continued(data, folder / "parts", overrides, more, 3)


def several(data: Path, folder: Path, table: dict[str, tuple[Any, ...]]) -> None:
    for name, overrides in table.items():
        both(data, folder / name, overrides, ())


@pytest.mark.parametrize("case", CASES)
def test_one_process(data: Path, tmp_path: Path, case: str) -> None:
    both(data, tmp_path, *CASES[case])
    assert tiny.differences(state_of(tmp_path / "whole"), state_of(tmp_path / "parts")) == []
    assert digest(tmp_path / "whole") == digest(tmp_path / "parts")
    assert tiny.metrics(tmp_path / "whole") == tiny.metrics(tmp_path / "parts")


@pytest.mark.slow
def test_two_ranks(data: Path, tmp_path: Path) -> None:
    for name in ON_TWO:
        (tmp_path / name).mkdir()
    on_ranks(2, tmp_path, several, data, tmp_path, ON_TWO)
    for name in ON_TWO:
        whole, parts = tmp_path / name / "whole", tmp_path / name / "parts"
        assert tiny.differences(state_of(whole), state_of(parts)) == []
        assert digest(whole) == digest(parts)
        assert tiny.metrics(whole) == tiny.metrics(parts)


def within(data: Path, folder: Path) -> None:
    """Stop in each place of the second epoch, of the last rank only, then go on."""
    build_trainer(tiny.config(data, folder / "whole", *EMA)).fit()
    for place in ("adaptation", "validation"):
        trainer = build_trainer(tiny.config(data, folder / place, *EMA))
        if distributed.rank() == distributed.world_size() - 1:
            stop_within(trainer, place, 2)
        with pytest.raises(Preempted, match="stopped at epoch 2 step 2 as asked"):
            trainer.fit()
        assert (folder / place / "PREEMPTED").read_text() == "epoch 2 step 2\n"
        assert [row["epoch"] for row in tiny.metrics(folder / place, "val")] == [1] * 6
        trainer = build_trainer(tiny.config(data, folder / place, *EMA))
        assert (trainer.epoch, trainer.step) == (1, 2)
        trainer.fit()


@pytest.mark.slow
@pytest.mark.parametrize("world", [1, 2])
def test_stopped_while_the_model_is_adapted_or_validated(
    data: Path, tmp_path: Path, world: int
) -> None:
    """Neither is waited for, and what was trained before it is kept."""
    on_ranks(world, tmp_path, within, data, tmp_path)
    for place in ("adaptation", "validation"):
        assert tiny.differences(state_of(tmp_path / "whole"), state_of(tmp_path / place)) == []
        assert digest(tmp_path / "whole") == digest(tmp_path / place)
        assert tiny.metrics(tmp_path / "whole", "val") == tiny.metrics(tmp_path / place, "val")
        assert (tmp_path / place / "DONE").is_file()


def test_a_run_without_an_average_differs(data: Path, tmp_path: Path) -> None:
    """The comparison sees what it is meant to see."""
    for name, decay in (("a", 0.9), ("b", 0.4)):
        build_trainer(tiny.config(data, tmp_path / name, "TRAIN.EMA_DECAY", decay)).fit()
    left, right = state_of(tmp_path / "a"), state_of(tmp_path / "b")
    assert {place.split("/")[1] for place in tiny.differences(left, right)} <= {"ema_state", "best"}
    assert tiny.differences(left["ema_state"], right["ema_state"])
    assert digest(tmp_path / "a") != digest(tmp_path / "b")
