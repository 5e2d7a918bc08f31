"""A link's process: its own group, its log, and a lock that lasts as long as it does, even if the runner is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from nightcrawler.utils.process import terminate_with_parent
from nightcrawler.workflow.task import Task

LAUNCHER_VARIABLES = (
    "WORLD_SIZE",
    "RANK",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
)
TAIL_BYTES = 8192


def environment(threads: int, gpu: str | None) -> dict[str, str]:
    """What a link's process sees: this process's variables without a launcher's, threads, and its GPU."""
    kept = {name: value for name, value in os.environ.items() if name not in LAUNCHER_VARIABLES}
    kept.setdefault("OMP_NUM_THREADS", str(threads))
    kept["PYTHONUNBUFFERED"] = "1"
    if gpu is not None:
        kept["CUDA_VISIBLE_DEVICES"] = gpu
    return kept


class TaskProcess:
    """A running link.

    Args:
        link: what to run.
        cwd: the folder to run it in.
        log: file that its output is appended to.
        env: its variables.
        lock: descriptor that the process keeps open, so that its lock ends with it.
    """

    def __init__(self, link: Task, cwd: Path, log: Path, env: Mapping[str, str], lock: int) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self.link, self.log, self.lock = link, log, lock
        self.started = time.monotonic()
        with open(log, "ab") as file:
            file.write(
                f"\n== {time.strftime('%Y-%m-%d %H:%M:%S')} {' '.join(link.command)}\n".encode()
            )
            file.flush()
            self._offset = file.tell()
            parent = os.getpid()
            self.process = subprocess.Popen(
                link.command,
                cwd=cwd,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=(lock,),
                preexec_fn=lambda: terminate_with_parent(parent),
            )

    @property
    def seconds(self) -> float:
        """Since it started."""
        return time.monotonic() - self.started

    def poll(self) -> int | None:
        """Its exit code, once it has ended."""
        return self.process.poll()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process and all that it started."""
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            return

    def last_line(self) -> str:
        """The last thing it said: its `error:` line where there is one."""
        with open(self.log, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(self._offset, size - TAIL_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()
        lines = [line.strip() for line in lines if line.strip()]
        errors = [line for line in lines if line.startswith("error:")]
        return (errors or lines or ["it said nothing"])[-1]
