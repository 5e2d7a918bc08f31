"""The few collective operations the project needs; each is the identity in a single process."""

from __future__ import annotations

import contextlib
import datetime
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from nightcrawler.utils.errors import UserError

# Where a process that our launcher started writes a code that is no failure.
EXIT_CODE_FILE = "NIGHTCRAWLER_EXIT_CODE_FILE"
# Seconds that a rank which lost another one waits before it ends, so that the launcher sees the other one first.
PEER_EXIT_GRACE_SEC = 1.0


def rank() -> int:
    """Rank of this process (0 when alone)."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def world_size() -> int:
    """Number of processes (1 when alone)."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def is_main() -> bool:
    """Whether this process writes files and log lines."""
    return rank() == 0


def launched_world() -> int:
    """Number of processes the launcher started (`WORLD_SIZE`; 1 without a launcher).

    Raises:
        UserError: if the variable is not a positive integer.
    """
    text = os.environ.get("WORLD_SIZE", "1")
    if not text.isdigit() or int(text) < 1:
        raise UserError(
            f"WORLD_SIZE is {text!r}: expected a positive integer; start through tools/launch.sh"
        )
    return int(text)


def launched_rank() -> int:
    """Rank that the launcher gave this process, before it has joined the others (`RANK`; 0 without a launcher)."""
    return int(os.environ.get("RANK", "0"))


def choose_device(name: str) -> torch.device:
    """The device of this process: `auto` takes CUDA where there is any, one GPU per local rank.

    Raises:
        UserError: if CUDA is asked for and absent.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UserError(
            "DEVICE is 'cuda' but no CUDA device is visible: set DEVICE cpu, or mend the driver"
        )
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())


def init_process_group(device: torch.device, backend: str, timeout_sec: int) -> None:
    """Join the group the launcher described; nothing to do for a single process.

    Args:
        device: this process's device.
        backend: `auto` (nccl on CUDA, gloo on CPU), `nccl` or `gloo`.
        timeout_sec: seconds after which a collective that does not complete is an error.
    """
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if launched_world() == 1 or dist.is_initialized():
        return
    if backend == "auto":
        backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=datetime.timedelta(seconds=timeout_sec))


def shutdown() -> None:
    """Leave the process group, where there is one."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


@contextlib.contextmanager
def peer_failure_as_error() -> Iterator[None]:
    """Within the block, a collective that fails because of another rank is one line, not a traceback.

    Raises:
        UserError: if a rank is gone, or gave no answer within `DIST_TIMEOUT_SEC`.
    """
    try:
        yield
    except RuntimeError as error:
        if not (isinstance(error, dist.DistError) or "gloo" in str(error).lower()):
            raise
        time.sleep(PEER_EXIT_GRACE_SEC)
        raise UserError(
            f"rank {rank() or launched_rank()} lost contact to the others ({str(error).splitlines()[0]}): the cause "
            "is what the one that ended first said; if none ended, one was slower than DIST_TIMEOUT_SEC"
        ) from error


def exit_code(code: int) -> int:
    """The code that this process ends with where all ranks end with `code`, which is no failure.

    Under our launcher it is 0: another one would make the launcher end the other ranks, and start all anew where
    restarts are left. The launcher itself then ends with `code`.
    """
    path = os.environ.get(EXIT_CODE_FILE)
    if path is None:
        return code
    Path(path).write_text(str(code), encoding="ascii")
    return 0


def barrier() -> None:
    """Wait for every rank."""
    if world_size() > 1:
        dist.barrier()


def all_reduce_sum(tensor: torch.Tensor) -> torch.Tensor:
    """Sum of `tensor` over ranks, same shape and dtype; the argument is left as it was."""
    if world_size() == 1:
        return tensor
    total = tensor.clone()
    dist.all_reduce(total)
    return total


def gather_objects(value: Any) -> list[Any]:
    """Every rank's `value` (plain Python and numpy objects), in rank order, on every rank."""
    if world_size() == 1:
        return [value]
    gathered: list[Any] = [None] * world_size()
    dist.all_gather_object(gathered, value)
    return gathered


def any_rank(flag: bool, device: torch.device) -> bool:
    """Whether `flag` is true on at least one rank."""
    if world_size() == 1:
        return flag
    return bool(all_reduce_sum(torch.tensor(float(flag), device=device)).item() > 0)


def sum_figures(
    figures: Mapping[str, float | torch.Tensor], device: torch.device
) -> dict[str, float]:
    """Sums over ranks of named numbers or tensors of one, by one collective, fetched from the device once.

    Every rank has the same names in the same order.
    """
    values = [
        torch.as_tensor(value, dtype=torch.float64, device=device) for value in figures.values()
    ]
    return dict(zip(figures, all_reduce_sum(torch.stack(values)).tolist(), strict=True))
