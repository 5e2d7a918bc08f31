"""Clips that are missing in a batch, of one rank or of two: the same step, the mean over those that are there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from nightcrawler.engine.build import build_trainer
from nightcrawler.utils import distributed
from tests import tiny
from tests.faults.ranks import on_ranks

LOST = (0, 3, 5)
PLAIN = (
    *("ADAPT.NAME", "none", "SOLVER.MAX_EPOCH", 1, "AUG.AA_TYPE", "", "MIXUP.ENABLE", False),
    *("TRAIN.BATCH_SIZE", 4, "TRAIN.MICRO_BATCH", 2),
    *("SOLVER.OPTIMIZING_METHOD", "sgd", "SOLVER.BASE_LR", 0.5, "SOLVER.WARMUP_EPOCHS", 0),
    *("SOLVER.CLIP_GRAD_L2NORM", 1.0),
)


def train(data: Path, folder: Path) -> None:
    """Train an epoch without some videos; the state goes to `state{world}{rank}.pt`."""
    world, rank = distributed.world_size(), distributed.rank()
    trainer = build_trainer(tiny.config(data, folder / f"run{world}", *PLAIN))
    load = trainer.train_step._next

    def shortened(number: int) -> dict[str, Any]:
        batch = load(number)
        kept = [place for place, index in enumerate(batch["index"].tolist()) if index not in LOST]
        # A batch without any clip ends the run, which is another matter.
        kept = kept or [0]
        for name in ("clip", "index", "label"):
            batch[name] = batch[name][kept]
        return batch

    trainer.train_step._next = shortened
    trainer.fit()
    torch.save(trainer.model.state_dict(), folder / f"state{world}{rank}.pt")


def test_ranks_that_lose_different_numbers_take_the_step_of_one(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = tiny.build_data(tmp_path_factory.mktemp("data"))
    for world in (1, 2):
        on_ranks(world, tmp_path, train, data, tmp_path)
    alone, first, second = (
        torch.load(tmp_path / f"state{place}.pt", weights_only=True) for place in ("10", "20", "21")
    )
    assert tiny.differences(first, second) == []
    for name, value in alone.items():
        torch.testing.assert_close(first[name], value, rtol=1e-4, atol=1e-6, msg=name)
