"""One of two ranks fails or hangs; the other ends soon and says in one line that it is not the cause."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch.multiprocessing as mp

from nightcrawler.data.batch_sampler import SampleKey
from nightcrawler.data.dataset import ClipDataset
from nightcrawler.engine.build import build_device, build_trainer
from nightcrawler.engine.trainer import Preempted
from nightcrawler.utils import distributed
from nightcrawler.utils.errors import UserError
from tests import tiny
from tests.faults.ranks import free_port, on_ranks, state_of, stop_after
from tests.waiting import wait_until


def run(data: Path, folder: Path, hangs: bool) -> None:
    """Rank 1 fails in loading its fourth video, or waits until the other one has ended."""
    rank = distributed.rank()
    other = folder / "said0.txt"
    trainer = build_trainer(tiny.config(data, folder / "run"))
    dataset: Any = trainer.stream_losses[0].stream.loader.dataset
    count = iter(range(1, 1000))

    class Spoilt(ClipDataset):
        def __getitem__(self, key: SampleKey) -> dict[str, Any]:
            if rank == 1 and next(count) == 4:
                if hangs:
                    wait_until(other.exists)
                raise ValueError("the disk of this machine is gone")
            return super().__getitem__(key)

    dataset.__class__ = Spoilt
    began = time.monotonic()
    with pytest.raises((UserError, ValueError)) as caught, distributed.peer_failure_as_error():
        trainer.fit()
    (folder / f"took{rank}.txt").write_text(str(time.monotonic() - began))
    (folder / f"said{rank}.txt").write_text(f"{caught.type.__name__}: {caught.value}")


@pytest.mark.parametrize("hangs", [False, True])
def test_the_other_rank_ends(data: Path, tmp_path: Path, hangs: bool) -> None:
    timeout_sec = 5 if hangs else 600
    on_ranks(2, tmp_path, run, data, tmp_path, hangs, timeout_sec=timeout_sec, together=False)
    said = [(tmp_path / f"said{rank}.txt").read_text() for rank in (0, 1)]
    assert said[0].startswith("UserError: rank 0 lost contact to the others (")
    assert len(said[0].splitlines()) == 1
    assert ("Timed out" in said[0]) == hangs
    assert said[1] == "ValueError: the disk of this machine is gone"
    assert float((tmp_path / "took0.txt").read_text()) < 30
    assert not (tmp_path / "run/DONE").exists()


def wait_in_vain(data: Path, folder: Path) -> None:
    """Join as a launcher would have it; rank 1 then says nothing for longer than the configuration allows."""
    rank = int(os.environ["RANK"])
    build_device(tiny.config(data, folder / f"run{rank}", "DIST_TIMEOUT_SEC", 2))
    began = time.monotonic()
    if rank == 1:
        wait_until((folder / "said.txt").exists)
        return
    with (
        pytest.raises(UserError, match="rank 0 lost contact") as caught,
        distributed.peer_failure_as_error(),
    ):
        distributed.barrier()
    (folder / "said.txt").write_text(f"{time.monotonic() - began} {caught.value}")


def launched_as(rank: int, port: int, data: Path, folder: Path) -> None:
    """A rank whose environment is a launcher's."""
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    wait_in_vain(data, folder)


def test_how_long_ranks_wait_is_configured(data: Path, tmp_path: Path) -> None:
    mp.spawn(launched_as, (free_port(), data, tmp_path), nprocs=2)
    seconds, said = (tmp_path / "said.txt").read_text().split(maxsplit=1)
    assert 1 < float(seconds) < 20
    assert "DIST_TIMEOUT_SEC" in said


def resume_apart(data: Path, folder: Path) -> None:
    """Two machines that do not share a folder: only that of rank 0 has what both of them trained."""
    trainer = build_trainer(tiny.config(data, folder / "run"))
    stop_after(trainer, 1)
    with pytest.raises(Preempted):
        trainer.fit()
    out = folder / ("run" if distributed.is_main() else "other")
    with pytest.raises(UserError) as caught:
        build_trainer(tiny.config(data, out))
    (folder / f"said{distributed.rank()}.txt").write_text(str(caught.value))


def test_ranks_that_find_different_checkpoints_do_not_start(data: Path, tmp_path: Path) -> None:
    on_ranks(2, tmp_path, resume_apart, data, tmp_path)
    for rank in (0, 1):
        said = (tmp_path / f"said{rank}.txt").read_text()
        assert (
            "rank 1 would continue from epoch 1 step 0, rank 0 from epoch 1 step 1: all machines"
            in said
        )


def train(data: Path, folder: Path, adapters: tuple[str, ...]) -> None:
    for adapter in adapters:
        trainer = build_trainer(
            tiny.config(
                data, folder / f"{adapter}{distributed.world_size()}", "ADAPT.NAME", adapter
            )
        )
        trainer.fit()


def test_uneven_data(data: Path, tmp_path: Path) -> None:
    """Seven videos to train on, three to validate, two dark ones: one chunk, so that rank 1 has none to adapt to."""
    own = tmp_path / "data"
    own.mkdir()
    for folder in ("labeled_train", "dry_run", "dark_train", "Test"):
        (own / folder).symlink_to(data / folder)
    for name, count in (
        ("train_label+val_dry", 7),
        ("val_dry", 3),
        ("total_unlabel", 2),
        ("arid", 5),
    ):
        rows = (data / f"{name}.csv").read_text().splitlines(keepends=True)
        (own / f"{name}.csv").write_text("".join(rows[:count]))
    adapters = ("batchnorm", "tent")
    train(own, tmp_path, adapters)
    on_ranks(2, tmp_path, train, own, tmp_path, adapters)
    for adapter in adapters:
        assert [row["num_clips"] for row in tiny.metrics(tmp_path / f"{adapter}2", "adapt")] == [
            2,
            2,
        ]
        one, two = (state_of(tmp_path / f"{adapter}{world}") for world in (1, 2))
        for name, value in one["model_state"].items():
            np.testing.assert_allclose(
                two["model_state"][name], value, rtol=0, atol=2e-6, err_msg=name
            )
        assert tiny.metrics(tmp_path / f"{adapter}1", "val") == tiny.metrics(
            tmp_path / f"{adapter}2", "val"
        )
