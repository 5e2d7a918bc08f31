"""Process groups and the collective operations in use. A single process needs no group."""

from __future__ import annotations

import contextlib
import datetime
import os
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from nightcrawler.utils.errors import UserError
from nightcrawler.utils.process import is_alive, terminate_with_parent

# Names the file into which a process of our launcher writes an exit code that is no failure.
EXIT_CODE_FILE = "NIGHTCRAWLER_EXIT_CODE_FILE"
# Process id of our launcher.
LAUNCHER_PID = "NIGHTCRAWLER_LAUNCHER_PID"
LAUNCH_HINT = (
    "start several processes through tools/launch.sh or torchrun; for one process, unset the "
    "launcher's variables (RANK, WORLD_SIZE, LOCAL_RANK)"
)
LOOPBACK = "127.0.0.1"
# A rank that lost a peer waits before it exits, so that the launcher reports the peer's failure
# first.
PEER_EXIT_GRACE_SEC = 1.0


def _has_group() -> bool:
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """Return the rank of this process (0 without a group)."""
    return dist.get_rank() if _has_group() else 0


def world_size() -> int:
    """Return the number of processes (1 without a group)."""
    return dist.get_world_size() if _has_group() else 1


def is_main() -> bool:
    """Return whether this process is rank 0, which writes files and log lines."""
    return rank() == 0


def launched_world() -> int:
    """Return the number of processes that the launcher started: `WORLD_SIZE`, default 1.

    Raises:
        UserError: If the variable is not a positive integer.
    """
    return _launcher_number("WORLD_SIZE", "1", least=1)


def launched_rank() -> int:
    """Return the rank that the launcher gave this process: `RANK`, default 0.

    Raises:
        UserError: If the variable is not a whole number below `WORLD_SIZE`.
    """
    number = _launcher_number("RANK", "0")
    world = launched_world()
    if number >= world:
        raise UserError(f"RANK is {number}, but WORLD_SIZE is {world}: {LAUNCH_HINT}")
    return number


def _local_rank() -> int:
    return _launcher_number("LOCAL_RANK", "0")


def _launcher_number(name: str, default: str, least: int = 0) -> int:
    """Return a variable of the launcher as a number.

    Raises:
        UserError: If it is not a whole number, or smaller than `least`.
    """
    text = os.environ.get(name, default)
    # Not `isdigit` alone, which takes digits that `int` refuses.
    if not (text.isascii() and text.isdigit()) or int(text) < least:
        kind = "positive integer" if least else "whole number from 0"
        raise UserError(f"{name} is {text!r}: expected a {kind}; {LAUNCH_HINT}")
    return int(text)


def check_launcher_variables() -> None:
    """Refuse variables of a launcher that are incomplete or not numbers, before anything is built.

    Raises:
        UserError: With the variable's name.
    """
    world = launched_world()
    launched_rank()
    _local_rank()
    if world == 1:
        return
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        if not os.environ.get(name):
            raise UserError(f"WORLD_SIZE is {world}, but {name} is not set: {LAUNCH_HINT}")
    _launcher_number("MASTER_PORT", "", least=1)


def end_with_launcher() -> None:
    """Ask for SIGTERM when the launcher of this process dies, so that it saves and ends.

    A launcher that was killed cannot tell its processes: they would train on, unseen, and keep
    their GPUs.

    Raises:
        UserError: If our launcher has died already.
    """
    if "LOCAL_RANK" not in os.environ:
        return
    # A wrapper script may stand between the launcher and this process.
    parent = os.getppid()
    launcher = os.environ.get(LAUNCHER_PID, "")
    if launcher.isdigit() and int(launcher) != parent and not is_alive(int(launcher)):
        raise UserError("the launcher of this process has ended: start the command again")
    terminate_with_parent(parent)


def choose_device(name: str) -> torch.device:
    """Return the device of this process, one GPU per local rank.

    Args:
        name: `cpu`, `cuda`, or `auto` for CUDA if there is any.

    Raises:
        UserError: If CUDA is asked for and absent.
    """
    if name == "auto":
        # An absent GPU is no error here: demos and tests run anywhere.
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UserError(
            "device 'cuda' was asked for, but no CUDA device is visible: use cpu, or repair the "
            "driver"
        )
    # More ranks than GPUs share them, which serves tests on one GPU.
    return torch.device("cuda", _local_rank() % torch.cuda.device_count())


def init_process_group(device: torch.device, backend: str, timeout_sec: int) -> None:
    """Join the process group that the launcher described, if it started several processes.

    Args:
        device: Device of this process.
        backend: `auto` (nccl on CUDA, gloo on CPU), `nccl` or `gloo`.
        timeout_sec: Seconds after which an incomplete collective operation is an error.
    """
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if launched_world() == 1 or dist.is_initialized():
        return
    if backend == "auto":
        backend = "nccl" if device.type == "cuda" else "gloo"
    check_launcher_variables()
    timeout = datetime.timedelta(seconds=timeout_sec)
    if not _is_on_one_machine():
        dist.init_process_group(backend, timeout=timeout)
        return
    store = _loopback_store(timeout)
    dist.init_process_group(
        backend, timeout=timeout, store=store, rank=launched_rank(), world_size=launched_world()
    )


def _is_on_one_machine() -> bool:
    """Return whether all processes are of one machine, and the first has to serve the others."""
    local = os.environ.get("LOCAL_WORLD_SIZE") == os.environ["WORLD_SIZE"]
    return local and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "False"


def _loopback_store(timeout: datetime.timedelta) -> dist.TCPStore:
    """Return the store in which the processes meet, which no other machine can reach.

    By itself, torch listens on every network interface, and asks nobody for a password.
    """
    port = int(os.environ["MASTER_PORT"])
    world = launched_world()
    if launched_rank() > 0:
        return dist.TCPStore(LOOPBACK, port, world, is_master=False, timeout=timeout)
    listener = socket.create_server((LOOPBACK, port))
    # The store closes the descriptor itself.
    return dist.TCPStore(
        LOOPBACK, port, world, is_master=True, timeout=timeout, master_listen_fd=listener.detach()
    )


def shutdown() -> None:
    """Leave the process group, if there is one."""
    if _has_group():
        dist.destroy_process_group()


@contextlib.contextmanager
def peer_failure_as_error() -> Iterator[None]:
    """Turn the failure of a collective operation within the block into an error of one line.

    Raises:
        UserError: If a rank is gone, or did not answer before the timeout.
    """
    try:
        yield
    except RuntimeError as error:
        # gloo raises plain RuntimeErrors; only their text tells them apart.
        if not (isinstance(error, dist.DistError) or "gloo" in str(error).lower()):
            raise
        time.sleep(PEER_EXIT_GRACE_SEC)
        raise UserError(
            f"rank {rank() or launched_rank()} lost contact to the others "
            f"({str(error).splitlines()[0]}): the rank that ended first names the cause; if none "
            "ended, one was slower than DIST_TIMEOUT_SEC"
        ) from error


def exit_code(code: int) -> int:
    """Return the code for this process to exit with, if all ranks end with one that is no failure.

    Under our launcher it is 0: any other would make the launcher stop the other ranks and use up a
    restart. The launcher reads the code from a file and exits with it.

    Args:
        code: Exit code of the run, such as 75 for a run that was asked to stop.
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
    """Return the sum of a tensor over ranks, same shape and dtype. The argument is unchanged."""
    if world_size() == 1:
        return tensor
    # all_reduce works in place.
    total = tensor.clone()
    dist.all_reduce(total)
    return total


def gather_objects(value: Any) -> list[Any]:
    """Return every rank's value (plain Python and numpy objects), in rank order, on every rank."""
    if world_size() == 1:
        return [value]
    gathered: list[Any] = [None] * world_size()
    dist.all_gather_object(gathered, value)
    return gathered


def any_rank(flag: bool, device: torch.device) -> bool:
    """Return whether a flag is true on at least one rank."""
    if world_size() == 1:
        return flag
    return bool(all_reduce_sum(torch.tensor(float(flag), device=device)).item() > 0)


def sum_figures(
    figures: Mapping[str, float | torch.Tensor], device: torch.device
) -> dict[str, float]:
    """Return the sums of named numbers over ranks.

    One collective operation and one transfer from the device serve all of them.

    Args:
        figures: Name to number or one-element tensor, with the same names in the same order on
            every rank.
        device: Device of the collective operation.
    """
    # float64 keeps counts exact.
    values = [
        torch.as_tensor(value, dtype=torch.float64, device=device) for value in figures.values()
    ]
    return dict(zip(figures, all_reduce_sum(torch.stack(values)).tolist(), strict=True))
