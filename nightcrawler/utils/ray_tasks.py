"""Commands as tasks of Ray: each runs in a process of its own on any machine of the cluster.

Ray is an optional dependency (extra `cluster`). `RAY_ADDRESS` names a cluster that runs already;
without it, one starts on this machine and ends with this process.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nightcrawler.utils.errors import UserError, missing_extra
from nightcrawler.utils.io import open_own
from nightcrawler.utils.process import terminate_with_parent

POLL_SEC = 0.2
# Time that a command gets to save its state.
GRACE_SEC = 300.0
# Times that Ray starts a command again whose worker or machine was lost.
MAX_RETRIES = 20
EXIT_LOST = 1


def connect(what: str) -> Any:
    """Return the module `ray`, connected to a cluster.

    Args:
        what: Part of the program that needs it, for the message.

    Raises:
        UserError: If Ray is not installed, or its cluster cannot be reached.
    """
    # Ray reports its use to its makers unless told not to.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise missing_extra(what, "cluster") from None
    if ray.is_initialized():
        return ray
    address = os.environ.get("RAY_ADDRESS")
    try:
        if address:
            ray.init(address, log_to_driver=False)
        else:
            ray.init(include_dashboard=False, log_to_driver=False)
    except (OSError, RuntimeError, ValueError) as error:
        place = address or "this machine"
        raise UserError(f"{what}: cannot reach Ray at {place}: {error}") from None
    return ray


def start(
    command: Sequence[str],
    root: Path,
    log: Path,
    cpus: int = 1,
    gpus: int = 0,
    memory_gb: float | None = None,
) -> Any:
    """Submit a command and return the reference to its exit code.

    Args:
        command: Command line.
        root: Folder in which it runs, which all machines see.
        log: File to which its output is appended.
        cpus: Processors that it takes.
        gpus: GPUs that it takes and sees.
        memory_gb: Memory that it takes, in GB.
    """
    import ray

    options: dict[str, Any] = {"num_cpus": cpus, "num_gpus": gpus, "max_retries": MAX_RETRIES}
    if memory_gb is not None:
        options["memory"] = int(memory_gb * 2**30)
    return ray.remote(**options)(run_command).remote(list(command), str(root), str(log))


def run_command(command: Sequence[str], root: str, log: str) -> int:
    """Run a command to its end and return its exit code.

    When the task is cancelled, the command is asked to save its state and end. When the worker is
    killed, the kernel asks it.
    """
    parent = os.getpid()
    with open_own(Path(log), "ab") as file:
        process = subprocess.Popen(
            command,
            cwd=root,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=lambda: terminate_with_parent(parent),
        )
    try:
        while (code := process.poll()) is None:
            time.sleep(POLL_SEC)
    except KeyboardInterrupt:
        process.send_signal(signal.SIGTERM)
        return process.wait(GRACE_SEC)
    return code


def exit_code(reference: Any) -> int | None:
    """Return the exit code of a command, `None` while it waits or runs, 1 if it was lost."""
    import ray

    ended, _ = ray.wait([reference], timeout=0)
    if not ended:
        return None
    try:
        return int(ray.get(reference))
    except ray.exceptions.RayError:
        return EXIT_LOST


def cancel(reference: Any) -> None:
    """Ask a command to save its state and end."""
    import ray

    ray.cancel(reference)
