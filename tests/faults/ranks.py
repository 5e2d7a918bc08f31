"""Functions on several ranks of this machine, and what they can be made to suffer."""

from __future__ import annotations

import datetime
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from nightcrawler.engine.checkpoint_files import load_checkpoint
from nightcrawler.engine.trainer import Trainer
from nightcrawler.utils import distributed

LATEST = "checkpoints/checkpoint_latest.pyth"
STATE = (
    *("model_state", "ema_state", "optimizer_state", "scaler_state"),
    *("epoch", "step", "num_skipped", "best", "meter", "clean_labels"),
)


def _work(
    rank: int,
    world: int,
    seconds: int,
    together: bool,
    folder: Path,
    work: Callable[..., None],
    *arguments: Any,
) -> None:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    if world > 1:
        url = f"file://{folder}/rendezvous{world}"
        distributed.PEER_EXIT_GRACE_SEC = 0.0
        timeout = datetime.timedelta(seconds=seconds)
        dist.init_process_group(
            "gloo", init_method=url, rank=rank, world_size=world, timeout=timeout
        )
    try:
        work(*arguments)
        if world > 1 and together:
            # As the command line does: a rank that leaves early can take others with it.
            dist.barrier()
    finally:
        if world > 1:
            dist.destroy_process_group()


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def on_ranks(
    world: int,
    folder: Path,
    work: Callable[..., None],
    *arguments: Any,
    timeout_sec: int = 30,
    together: bool = True,
) -> None:
    """Call `work(*arguments)` on `world` ranks, which end `together` unless one is to fail, and wait for them."""
    mp.spawn(_work, (world, timeout_sec, together, folder, work, *arguments), nprocs=world)


def stop_after(trainer: Trainer, step: int) -> None:
    """Ask this rank for a stop once it has taken `step` steps in all, as a signal would."""
    run_step = trainer.train_step.run
    count = iter(range(1, 1000))

    def counted(lr: float) -> float:
        norm = run_step(lr)
        trainer.stop.requested = next(count) == step
        return norm

    trainer.train_step.run = counted


def stop_within(trainer: Trainer, place: str, epoch: int) -> None:
    """Ask this rank for a stop once a first batch of an epoch's `adaptation` or `validation` has come."""

    def asking(batches: Iterable[Any]) -> Iterator[Any]:
        for batch in batches:
            trainer.stop.requested |= trainer.epoch == epoch
            yield batch

    adapt_clips, rows = trainer.adapt_clips, trainer.evaluator.rows
    if place == "adaptation":
        trainer.adapt_clips = lambda *arguments: asking(adapt_clips(*arguments))
    else:
        trainer.evaluator.rows = lambda *arguments: asking(rows(*arguments))


def state_of(out: Path) -> dict[str, Any]:
    """What must be the same, bit for bit, however a run came to its end."""
    state = load_checkpoint(out / LATEST)
    return {name: state[name] for name in STATE if name in state}
