"""Options of a run of a pipeline, and the statuses of its tasks."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nightcrawler.workflow import task_state

WAITING = "waiting"
RUNNING = "running"
DONE = "done"
FAILED = "failed"
BLOCKED = "blocked"
STOPPED = "stopped"
STATUS_OF_STATE = {
    task_state.STARTED: RUNNING,
    task_state.DONE: DONE,
    task_state.FAILED: FAILED,
    task_state.REDO: WAITING,
}

# Exit codes of a pipeline.
EXIT_FAILED = 1
EXIT_STOPPED = 75
EXIT_INTERRUPTED = 130
# Requests to stop: Ctrl-C, a closed terminal, and the signals that schedulers send ahead of time.
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)

# Treatment of outputs that no run of this command made.
REFUSE = "refuse"
IMPORT = "import"
REPLACE = "replace"


@dataclass
class RunOptions:
    """Options of a run of a pipeline.

    Attributes:
        root: Folder in which commands run.
        state: Folder of `pipeline.json`, logs and cached hashes.
        jobs: Number of tasks at a time.
        gpus: GPUs to distribute, one to each running task, empty to leave all to every task.
        threads: CPU threads of a task.
        found: Treatment of outputs that no run of this command made: `refuse`, `import` or
            `replace`.
        redo: Discard finished trainings that are out of date, without asking.
        about: Facts about the whole pipeline for `pipeline.json`.
    """

    root: Path
    state: Path
    jobs: int = 1
    gpus: tuple[str, ...] = ()
    threads: int = 1
    found: str = REFUSE
    redo: bool = False
    about: Mapping[str, Any] = field(default_factory=dict)
