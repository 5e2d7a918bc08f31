"""Clean pseudo-labels: which are kept, that only they are drawn, and that a stopped run goes on with them."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nightcrawler.engine.build import build_trainer
from nightcrawler.engine.clean_labels import cleanest
from nightcrawler.engine.trainer import Preempted, Trainer
from tests import tiny
from tests.faults.ranks import STATE, on_ranks, state_of, stop_after
from tests.pseudo.made import made, permuted

HALF = ("TRAIN.KEEP_CLEAN", 0.5, "ADAPT.NAME", "none", "AUG.AA_TYPE", "", "SOLVER.MAX_EPOCH", 3)


def test_the_most_probable_labels_of_each_class_by_hand() -> None:
    probs = [[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.5, 0.5], [0.3, 0.7]]
    labels = [0, 0, 0, 1, 1]
    found = replace(made(5, 2, labels=labels), probs=np.array(probs, np.float32))
    # Of class 0 the probabilities are .9, .6, .2, of class 1 .5, .7: one and a half rounds up.
    assert cleanest(found, 0.5).tolist() == [0, 1, 4]
    assert cleanest(found, 0.3).tolist() == [0, 4]
    assert cleanest(found, 1.0).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_shares_hold_for_each_class_whatever_the_order_of_rows(share: float) -> None:
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 4, 60)
    found = made(60, 4, seed=2, labels=labels.tolist())
    kept = cleanest(found, share)
    for label in range(4):
        own = np.flatnonzero(labels == label)
        inside = np.intersect1d(own, kept)
        assert len(inside) == math.ceil(share * len(own) - 1e-9)
        left = np.setdiff1d(own, kept)
        assert found.probs[inside, label].min() > found.probs[left, label].max(initial=0)
    order = rng.permutation(60)
    again = cleanest(permuted(found, order.tolist()), share)
    assert sorted(order[again]) == kept.tolist()


def test_a_clip_that_cannot_be_read_comes_last() -> None:
    found = made(4, 2, labels=[0, 0, 1, 1], bad=[0, 2])
    assert cleanest(found, 0.5).tolist() == [1, 3]


def build(data: Path, out: Path, *overrides: Any) -> Trainer:
    return build_trainer(
        tiny.config(data, out, *HALF, *overrides, experiment=tiny.PSEUDO_EXPERIMENT)
    )


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with twelve pseudo-labels of three classes."""
    data = tiny.build_data(tmp_path_factory.mktemp("clean") / "data")
    tiny.write_pseudo(data, 12, probs=False)
    path = data / "pseudo/stage1.csv"
    names = [line.split(",")[0] for line in path.read_text().split()]
    path.write_text("".join(f"{name},{place % 3}\n" for place, name in enumerate(names)))
    return data


def test_after_a_validated_epoch_only_clean_clips_are_drawn(labelled: Path, tmp_path: Path) -> None:
    trainer = build(labelled, tmp_path / "run", "TRAIN.BALANCE_PSEUDO", True)
    drawn: list[set[int]] = []
    sampler = trainer.stream_losses[1].stream.sampler
    start = sampler.set_position

    def recorded(epoch: int, first_step: int = 0) -> None:
        drawn.append(set(sampler.epoch_items(epoch)))
        start(epoch, first_step)

    sampler.set_position = recorded  # type: ignore[method-assign]
    trainer.fit()
    assert drawn[0] == set(range(12))
    assert all(len(later) == 6 for later in drawn[1:])
    assert all(len({place % 3 for place in later}) == 3 for later in drawn[1:])
    rows = tiny.metrics(tmp_path / "run", "clean_labels")
    # Nothing is chosen after the last epoch, which nothing follows.
    assert [(row["epoch"], row["kept"], row["total"]) for row in rows] == [(1, 6, 12), (2, 6, 12)]
    steps = [row["step"] for row in tiny.metrics(tmp_path / "run", "train")]
    assert steps == [1, 2, 3] * 3


def test_all_labels_are_kept_by_default(labelled: Path, tmp_path: Path) -> None:
    trainer = build(labelled, tmp_path / "run", "TRAIN.KEEP_CLEAN", 1)
    assert trainer.clean_labels is None
    assert "clean_labels" not in trainer.state()


def whole_and_parts(data: Path, folder: Path) -> None:
    """Train in one go, and stopped in the middle of an epoch of clean clips."""
    build(data, folder / "whole").fit()
    trainer = build(data, folder / "parts")
    stop_after(trainer, 5)
    with pytest.raises(Preempted):
        trainer.fit()
    trainer = build(data, folder / "parts", "DATA_LOADER.NUM_WORKERS", 1)
    assert (trainer.epoch, trainer.step) == (1, 2)
    kept = trainer.stream_losses[1].stream.sampler.kept
    assert kept is not None
    assert len(kept) == 6
    trainer.fit()


def test_a_stopped_run_goes_on_with_the_same_clips_bit_for_bit(
    labelled: Path, tmp_path: Path
) -> None:
    whole_and_parts(labelled, tmp_path)
    assert tiny.differences(state_of(tmp_path / "whole"), state_of(tmp_path / "parts")) == []
    assert tiny.metrics(tmp_path / "whole") == tiny.metrics(tmp_path / "parts")


def one_run(data: Path, folder: Path) -> None:
    build(data, folder / "run", "TRAIN.BATCH_SIZE", 4, "TRAIN.MICRO_BATCH", 2).fit()


@pytest.mark.slow
def test_two_ranks_choose_the_same_clips(labelled: Path, tmp_path: Path) -> None:
    assert "clean_labels" in STATE
    states = []
    for world in (1, 2):
        folder = tmp_path / str(world)
        folder.mkdir()
        on_ranks(world, folder, one_run, labelled, folder, timeout_sec=120)
        states.append(state_of(folder / "run"))
    assert states[0]["clean_labels"] == states[1]["clean_labels"]
    assert tiny.differences(states[0]["model_state"], states[1]["model_state"]) == []
