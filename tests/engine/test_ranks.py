"""Two ranks and one: the same weights, statistics, predictions and counts; every video exactly once."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from nightcrawler.data.build import build_eval_set, build_train_streams
from nightcrawler.engine.build import build_trainer
from nightcrawler.engine.checkpoint_files import load_checkpoint
from nightcrawler.engine.tester import build_tester
from nightcrawler.pseudo.predictions import read_results
from nightcrawler.utils import distributed
from tests import tiny

# Its fixture trains and tests on one rank and on two.
pytestmark = pytest.mark.slow
LATEST = "checkpoints/checkpoint_latest.pyth"
# One micro-batch a rank in a step: halving commutes with rounding, so the mean over ranks is exact.
PLAIN = ("MODEL.DROP_PATH_RATE", 0.3)
# Two micro-batches a rank, summed in another order, and gradients exchanged in the last of four backward passes.
JOINT = (
    *("DATA.PSEUDO_CSV", "pseudo/stage1.csv", "TRAIN.JOINT_STEP", True, "TRAIN.BATCH_SIZE", 8),
    *("AUG.AA_TYPE", ""),
)
TEST = (
    "TEST.DATA_SELECT",
    "total_unlabel",
    "TEST.NUM_ENSEMBLE_VIEWS",
    "[1, 3]",
    "TEST.NUM_SPATIAL_CROPS",
    "[1, 3]",
)
RUNS = {"plain": PLAIN, "joint": JOINT}


def indices_of(data: Path, out: Path) -> dict[str, Any]:
    """Which videos this rank loads: of each micro-batch of a training epoch, and of two splits."""
    cfg = tiny.config(data, out)
    (stream,) = build_train_streams(cfg)
    found: dict[str, Any] = {"train": [[r.index for r in requests] for requests in stream.sampler]}
    for split in ("total_unlabel", "val_dry"):
        loader = build_eval_set(cfg, split, "TEST", [(1, 1)]).loader
        found[split] = [sample["index"] for batch in loader for sample in batch]
    return found


def run_all(data: Path, folder: Path) -> None:
    """Train and test; what a rank loaded goes to `indices{rank}.pt`, its weights at the end to `state{rank}.pt`."""
    for name, overrides in RUNS.items():
        build_trainer(tiny.config(data, folder / name, *overrides)).fit()
    trainer = build_trainer(
        tiny.config(data, folder / "unadapted", "ADAPT.NAME", "none", "SOLVER.MAX_EPOCH", 1)
    )
    number = distributed.rank()
    trainer.fit()
    torch.save(trainer.model.state_dict(), folder / f"state{number}.pt")
    weights = ("TEST.CHECKPOINT_FILE_PATH", folder / "plain/best.pyth")
    build_tester(tiny.config(data, folder / "test", *PLAIN, *TEST, *weights)).run()
    torch.save(indices_of(data, folder / "test"), folder / f"indices{number}.pt")


def work(rank: int, data: Path, folder: Path) -> None:
    """One of two ranks."""
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2
    )
    try:
        run_all(data, folder)
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folders of one rank and of two ranks."""
    data = tiny.build_data(tmp_path_factory.mktemp("ranks") / "data")
    tiny.write_pseudo(data, 12)
    one, two = data.parent / "one", data.parent / "two"
    for folder in (one, two):
        folder.mkdir()
    run_all(data, one)
    mp.spawn(work, (data, two), nprocs=2)
    return one, two


def state_of(folder: Path, run: str) -> dict[str, Any]:
    """What must be the same."""
    state = load_checkpoint(folder / run / LATEST)
    return {
        name: state[name] for name in ("model_state", "optimizer_state", "epoch", "best", "meter")
    }


def test_weights_optimiser_and_adapted_statistics_are_equal_bit_for_bit(
    folders: tuple[Path, Path],
) -> None:
    one, two = (state_of(folder, "plain") for folder in folders)
    assert tiny.differences(one, two) == []


def test_other_orders_of_summation_stay_within_rounding(folders: tuple[Path, Path]) -> None:
    """Found: at most 1.2e-7 of a tensor's largest value after two epochs."""
    one, two = (state_of(folder, "joint")["model_state"] for folder in folders)
    assert one.keys() == two.keys()
    for name, value in one.items():
        largest = value.abs().max().item()
        torch.testing.assert_close(
            two[name], value, rtol=0, atol=2e-6 * max(largest, 1e-3), msg=name
        )


@pytest.mark.parametrize("run", RUNS)
def test_validation_figures_are_equal(folders: tuple[Path, Path], run: str) -> None:
    one, two = (tiny.metrics(folder / run, "val") for folder in folders)
    assert len(one) == 2 * 3, "two epochs of val_dry, val_dark, arid"
    assert one == two


@pytest.mark.parametrize("run", RUNS)
def test_training_figures_are_over_all_ranks(folders: tuple[Path, Path], run: str) -> None:
    one, two = (tiny.metrics(folder / run, "train") for folder in folders)
    assert [row["grad_norm"] for row in two] == pytest.approx(
        [row["grad_norm"] for row in one], rel=1e-5
    )
    assert [row["loss"] for row in two] == pytest.approx([row["loss"] for row in one], rel=1e-5)
    assert [row["top1"] for row in two] == [pytest.approx(row["top1"]) for row in one]


def test_adaptation_sees_each_dark_clip_once(folders: tuple[Path, Path]) -> None:
    for folder in folders:
        assert [row["num_clips"] for row in tiny.metrics(folder / "plain", "adapt")] == [12, 12]


@pytest.mark.parametrize("pair", ["1x1", "3x3"])
def test_results_files_are_equal(folders: tuple[Path, Path], pair: str) -> None:
    one, two = (read_results(folder / f"test/total_unlabelx4x32x{pair}.npz") for folder in folders)
    assert len(one.names) == tiny.NUM_DARK + tiny.NUM_ARID
    assert one.names == two.names
    assert one.status == two.status
    assert one.logits.tobytes() == two.logits.tobytes()
    assert one.probs.tobytes() == two.probs.tobytes()
    assert one.num_clips.tolist() == two.num_clips.tolist()
    assert one.meta["config_hash"] == two.meta["config_hash"]


def test_every_video_is_loaded_exactly_once(folders: tuple[Path, Path]) -> None:
    (whole,) = (torch.load(folders[0] / "indices0.pt"),)
    parts = [torch.load(folders[1] / f"indices{rank}.pt") for rank in (0, 1)]
    for split, count in (("total_unlabel", 12), ("val_dry", 4)):
        assert (
            Counter(parts[0][split] + parts[1][split])
            == Counter(range(count))
            == Counter(whole[split])
        )
        assert all(parts[rank][split] for rank in (0, 1))
    turns = [
        micro for pair in zip(parts[0]["train"], parts[1]["train"], strict=True) for micro in pair
    ]
    assert turns == whole["train"]
    assert Counter(index for micro in turns for index in micro) == Counter(range(tiny.NUM_TRAIN))


def test_running_statistics_without_an_adapter_do_not_depend_on_ranks(
    folders: tuple[Path, Path],
) -> None:
    one, first, second = (
        torch.load(folders[i] / f"state{r}.pt", weights_only=True)
        for i, r in ((0, 0), (1, 0), (1, 1))
    )
    assert tiny.differences(first, second) == []
    assert set(one) == set(first)
    moved = 0
    for name, value in one.items():
        torch.testing.assert_close(first[name], value, rtol=2e-6, atol=1e-7)
        moved += name.endswith("running_mean") and bool(value.abs().max() > 1e-3)
    assert moved


def test_only_the_first_rank_writes(folders: tuple[Path, Path]) -> None:
    one, two = (
        sorted(
            str(p.relative_to(folder))
            for p in folder.rglob("*")
            if p.is_file() and p.suffix != ".pt"
        )
        for folder in folders
    )
    assert [name for name in two if name != "rendezvous"] == one
