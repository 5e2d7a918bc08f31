"""Child process of a task: its own process group, log file, and lock.

The lock lasts as long as the process, even if the runner is killed, and the process is asked to
end (SIGTERM) when the runner dies.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from nightcrawler.utils.io import open_own
from nightcrawler.utils.process import terminate_with_parent
from nightcrawler.workflow.task import Task

# Variables of a distributed launcher: a task that inherited them would join the runner's own group
# of processes instead of starting one.
LAUNCHER_VARIABLES = (
    "WORLD_SIZE",
    "RANK",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
)
# Length of the end of a log that is searched for the error line.
TAIL_BYTES = 8192
# What a training and a test say at their end (`cli/net.py`, `engine/tester.py`).
TRAINED = re.compile(r" done: best (top-1 [\d.]+ % on \S+) ")
TESTED = re.compile(r"\.(?:npz|pkl): (top-1 [\d.]+ %) .* (of \d+ videos), chance ")


def task_environment(threads: int, gpu: str | None) -> dict[str, str]:
    """Return the environment variables of a task's process.

    Args:
        threads: CPU threads, unless `OMP_NUM_THREADS` is set.
        gpu: The only GPU that it sees, `None` for all.
    """
    env = {name: value for name, value in os.environ.items() if name not in LAUNCHER_VARIABLES}
    env.setdefault("OMP_NUM_THREADS", str(threads))
    env["PYTHONUNBUFFERED"] = "1"
    if gpu is not None:
        env["CUDA_VISIBLE_DEVICES"] = gpu
    return env


class TaskProcess:
    """Running process of a task.

    Args:
        task: The task.
        cwd: Folder in which it runs.
        log: File to which its output is appended.
        env: Its environment variables.
        lock: Locked file descriptor that the process inherits, so that the lock ends with it.
        more_locks: Others, of tasks that share the process.

    Raises:
        OSError: If the program cannot be started.
    """

    def __init__(
        self,
        task: Task,
        cwd: Path,
        log: Path,
        env: Mapping[str, str],
        lock: int,
        more_locks: Sequence[int] = (),
    ) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self.task = task
        self.log = log
        self.lock = lock
        self._started = time.monotonic()
        with open_own(log, "ab") as file:
            self._offset = note_start(file, task.command)
            parent = os.getpid()
            self._process = subprocess.Popen(
                task.command,
                cwd=cwd,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                # Ctrl-C of a terminal must reach the runner alone, which then asks its tasks.
                start_new_session=True,
                pass_fds=(lock, *more_locks),
                preexec_fn=lambda: terminate_with_parent(parent),
            )

    @property
    def seconds(self) -> float:
        """Return the time since it started."""
        return time.monotonic() - self._started

    def poll(self) -> int | None:
        """Return its exit code, or `None` while it runs."""
        return self._process.poll()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process and to all processes that it started."""
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            # It has ended in the meantime.
            return

    def last_line(self) -> str:
        """Return the last `error:` line of its output, or else the last line."""
        return error_line(self.log, self._offset)

    def accuracy(self) -> str:
        """Return the accuracy that its output tells, empty for none."""
        return accuracy_told(self.log, self._offset)


def note_start(file: IO[bytes], command: Sequence[str]) -> int:
    """Write time and command of a start into a log.

    Returns:
        The offset of what follows: output of earlier runs lies before it.
    """
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    file.write(f"\n== {now} {' '.join(command)}\n".encode())
    file.flush()
    return file.tell()


def error_line(log: Path, offset: int) -> str:
    """Return the last `error:` line of a log, or else the last line.

    Args:
        log: The file.
        offset: Where to start.
    """
    last = "no output"
    error = ""
    for line in map(str.strip, _tail(log, offset).splitlines()):
        if line:
            last = line
        if line.startswith("error:"):
            error = line
    return error or last


def accuracy_told(log: Path, offset: int) -> str:
    """Return the accuracy that the end of a log tells, empty for none.

    Args:
        log: The file.
        offset: Where to start.

    Example:
        `top-1 77.27 % on val_dark` of a training, `top-1 63.40 % of 440 videos` of a test.
    """
    found = ""
    for line in _tail(log, offset).splitlines():
        trained = TRAINED.search(line)
        tested = TESTED.search(line)
        if trained:
            found = trained[1]
        elif tested and not found:
            # Of several views, the first.
            found = f"{tested[1]} {tested[2]}"
    return found


def _tail(log: Path, offset: int) -> str:
    with open(log, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(offset, size - TAIL_BYTES))
        return file.read().decode("utf-8", "replace")
