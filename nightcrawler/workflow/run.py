"""Runner: run every task that is out of date, several at a time.

The state of each task is read from files, so the runner may be killed at any point and started
again.

Why not a build tool such as doit? It was tried: a runner on doit 0.37 passed 16 of the 34 tests of
this module.

- It keeps no record of a task that has *started*, so resuming a killed training needs a state of
  our own beside its database.
- It does not handle SIGTERM: the runner dies at once, and its tasks run on as orphans. With two
  jobs (threads), Ctrl-C leaves orphans too.
- It locks nothing: two runners on one pipeline start the same tasks twice and end with errors.
- It overwrites outputs that it did not write.
- It has neither GPU slots nor a state file of the whole pipeline.

With these added by hand, only the choice of the next task would go, about 80 lines.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import FrameType

from nightcrawler.utils.errors import UserError
from nightcrawler.utils.file_hashes import CACHE_NAME, FileHashes
from nightcrawler.utils.locks import take_inheritable_lock
from nightcrawler.utils.signals import signal_handler
from nightcrawler.utils.versions import library_versions
from nightcrawler.workflow import task_state
from nightcrawler.workflow.comparison import Comparison
from nightcrawler.workflow.console import Progress, Screen
from nightcrawler.workflow.pipeline_file import PIPELINE_FILE, TaskRow, write_pipeline_file
from nightcrawler.workflow.progress import estimate_seconds_left
from nightcrawler.workflow.run_options import (
    BLOCKED,
    DONE,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_STOPPED,
    FAILED,
    RUNNING,
    STATUS_OF_STATE,
    STOP_SIGNALS,
    STOPPED,
    WAITING,
    RunOptions,
)
from nightcrawler.workflow.shared_process import (
    NOT_BEGUN,
    RunningProcess,
    can_share,
    start_processes,
)
from nightcrawler.workflow.start import prepare_start, take_outputs
from nightcrawler.workflow.task import Task, dependencies
from nightcrawler.workflow.task_process import task_environment
from nightcrawler.workflow.task_state import TaskCheck, TaskState, check_task

POLL_SEC = 0.02
# Shortest time between two writes of pipeline.json.
RECORD_SEC = 0.5
# Time that a training gets to save itself when it is asked to stop.
GRACE_SEC = 330.0


@dataclass(frozen=True)
class RunningTask:
    """Process of a task, the check that started it, and its slot (an index below `jobs`)."""

    process: RunningProcess
    check: TaskCheck
    slot: int


class Runner:
    """Run every task that is out of date.

    Args:
        tasks: Tasks in an order in which each follows those it reads from.
        options: Options of the run.
        selected: Names of the tasks that may run. Tasks that they need must be up to
            date. `None` selects all.
        screen: Display of progress.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        options: RunOptions,
        selected: set[str] | None = None,
        screen: Screen | None = None,
    ) -> None:
        self.tasks = {task.name: task for task in tasks}
        self.needed = dependencies(tasks)
        self.options = options
        self.selected = set(self.tasks) if selected is None else selected
        self.screen = screen or Screen()
        self.hashes = FileHashes(options.state / CACHE_NAME)
        self.status = dict.fromkeys(self.tasks, WAITING)
        self.reasons = dict.fromkeys(self.tasks, "")
        self.states: dict[str, TaskState | None] = {}
        for name, task in self.tasks.items():
            self.states[name] = task_state.read_state(task.state_file)
        self.running: dict[str, RunningTask] = {}
        # Tasks that were compared with the files on disk once since their inputs are there.
        self._checked: set[str] = set()
        self.comparison = Comparison()
        self._recorded = 0.0
        self._stop: signal.Signals | None = None

    def run(self) -> int:
        """Run until all selected tasks are settled.

        Returns:
            0, or 1 if a task failed, or 75 or 130 if asked to stop (SIGTERM or SIGINT).
        """
        about = self.options.about
        self.screen.open(len(self.selected))
        if "labels" in about:
            self.screen.note(f"{about['recipe']}: choices are {about['labels']}")
        with signal_handler(STOP_SIGNALS, self._request_stop):
            try:
                while self._open_names() and self._stop is None:
                    # Not `or`: both must be called.
                    changed = self._collect_ended() | self._start_ready()
                    if changed and time.monotonic() - self._recorded > RECORD_SEC:
                        self.record()
                    if not changed:
                        self.screen.tick(self.progress())
                        time.sleep(POLL_SEC)
                if self._stop is not None:
                    self._stop_running()
            finally:
                self.record()
                self.hashes.save()
                for note in self.comparison.notes():
                    self.screen.note(note)
                self.screen.close()
        return self._exit_code()

    def _open_names(self) -> list[str]:
        """Return the selected tasks that wait or run."""
        names = []
        for name in self.tasks:
            if name in self.selected and self.status[name] in (WAITING, RUNNING):
                names.append(name)
        return names

    def _exit_code(self) -> int:
        if self._stop is not None:
            return EXIT_INTERRUPTED if self._stop == signal.SIGINT else EXIT_STOPPED
        statuses = {self.status[name] for name in self.selected}
        if FAILED in statuses:
            return EXIT_FAILED
        # A task that was asked to stop by others blocks those after it.
        return EXIT_STOPPED if statuses & {BLOCKED, STOPPED} else 0

    # Start

    def _start_ready(self) -> bool:
        """Settle or start the tasks whose inputs are there.

        Returns:
            `True` if a task was settled without a process.
        """
        changed = False
        for name in self._open_names():
            if self.status[name] == WAITING and self._inputs_are_ready(name):
                free = self._jobs_taken() < self.options.jobs
                if free or name not in self._checked:
                    self._checked.add(name)
                    self._settle_or_start(self.tasks[name], free)
            changed |= self.status[name] != WAITING and name not in self.running
        return changed

    def _inputs_are_ready(self, name: str) -> bool:
        for before in self.needed[name]:
            if before not in self.selected:
                check = check_task(self.tasks[before], self.hashes)
                if not check.up_to_date:
                    self._fail(name, f"needs {before}, which is not done ({check.reason})")
                    return False
            elif self.status[before] in (FAILED, BLOCKED, STOPPED):
                self.status[name] = BLOCKED
                self.reasons[name] = f"needs {before}"
                self.screen.event(name, BLOCKED, self.progress(), self.reasons[name])
                return False
            elif self.status[before] != DONE:
                return False
        return True

    def _settle_or_start(self, task: Task, free: bool) -> None:
        """Settle a task that is up to date, or start it if a job is free."""
        lock = take_inheritable_lock(task.lock_file)
        if lock is None:
            if not self.reasons[task.name]:
                self.reasons[task.name] = "another process runs it: waiting for its end"
                self.screen.event(task.name, WAITING, self.progress(), self.reasons[task.name])
            return
        try:
            check = check_task(task, self.hashes)
            if check.up_to_date or (check.unknown_outputs and self._takes(task, check)):
                self.states[task.name] = self.comparison.add(task, check)
                self.status[task.name] = DONE
                self.reasons[task.name] = "up to date"
                self.screen.up_to_date(task.name, self.progress())
            elif free:
                self._start(task, check, lock)
        except (UserError, OSError) as error:
            self._fail(task.name, str(error))
        finally:
            # A running task holds its lock until it has ended.
            if task.name not in self.running:
                os.close(lock)

    def _start(self, task: Task, check: TaskCheck, lock: int) -> None:
        """Start the process of a task, and of those that share it."""
        started = [(task, check, lock)]
        self._prepare(task, check)
        started += self._companions(task)
        slot = self._free_slot()
        gpus = self.options.gpus
        env = task_environment(self.options.threads, gpus[slot % len(gpus)] if gpus else None)
        logs = self.options.state / "logs"
        tasks, checks, locks = zip(*started, strict=True)
        processes = start_processes(tasks, self.options.root, logs, env, locks)
        for one, found, process in zip(tasks, checks, processes, strict=True):
            self.running[one.name] = RunningTask(process, found, slot)
            self.status[one.name] = RUNNING
            self.reasons[one.name] = found.reason
            self.screen.event(one.name, RUNNING, self.progress(), found.reason)

    def _takes(self, task: Task, check: TaskCheck) -> bool:
        return take_outputs(task, check, self.options, self.hashes, self.screen.note)

    def _prepare(self, task: Task, check: TaskCheck) -> None:
        note = self.screen.note
        self.states[task.name] = prepare_start(task, check, self.options, self.hashes, note)

    def _companions(self, task: Task) -> list[tuple[Task, TaskCheck, int]]:
        """Prepare the tasks that share the process of a task, as many as no free job could run."""
        others = []
        for name in self._open_names():
            other = self.tasks[name]
            waits = self.status[name] == WAITING and name != task.name
            if waits and can_share(task, other) and self._inputs_are_ready(name):
                others.append(other)
        spare = self.options.jobs - self._jobs_taken() - 1
        found = []
        for other in others[spare:]:
            lock = take_inheritable_lock(other.lock_file)
            if lock is None:
                continue
            try:
                check = check_task(other, self.hashes)
                # Everything else is settled in its own turn.
                if not check.up_to_date and not check.unknown_outputs:
                    self._prepare(other, check)
                    found.append((other, check, lock))
                    continue
            except (UserError, OSError) as error:
                self._fail(other.name, str(error))
            os.close(lock)
        return found

    def _jobs_taken(self) -> int:
        # Tasks that share a process share its job.
        return len({running.slot for running in self.running.values()})

    def _free_slot(self) -> int:
        # The slot of a task that has ended is free again, and with it its GPU.
        taken = {running.slot for running in self.running.values()}
        return min(set(range(self.options.jobs)) - taken)

    # End

    def _collect_ended(self) -> bool:
        """Settle the tasks whose processes have ended, and return `True` if there was one."""
        ended = []
        for name, running in self.running.items():
            code = running.process.poll()
            if code is not None:
                ended.append((name, code))
        for name, code in ended:
            running = self.running.pop(name)
            if code == NOT_BEGUN and self._stop is None:
                # The process of a task before it was killed: it gets one of its own.
                self.status[name] = WAITING
            else:
                self._finish(running, code)
            os.close(running.process.lock)
        return bool(ended)

    def _finish(self, running: RunningTask, code: int) -> None:
        """Record the result of a task whose process has ended."""
        process = running.process
        task = process.task
        # Earlier attempts count too: the state of the start holds their time.
        started = self.states[task.name]
        state = TaskState(
            task_state.STARTED,
            running.check.key,
            running.check.inputs,
            command=list(task.command),
            seconds=process.seconds + (started.seconds if started is not None else 0.0),
            exit_code=code,
            versions=library_versions(),
        )
        status = DONE
        reason = "" if code == 0 else process.last_line()
        if code in task.ok_codes:
            state.status = task_state.DONE
            state.outputs = task_state.output_hashes(task, self.hashes)
            missing = [name for name, found in state.outputs.items() if not found]
            if missing:
                status = FAILED
                reason = f"exit code {code}, but it did not write {missing[0]}"
        elif self._stop is not None or code == EXIT_STOPPED:
            status = STOPPED
            reason = "asked to stop; resumes next time"
        else:
            status = FAILED
            reason = f"{reason} (exit code {code}, log: {process.log})"
        if status == FAILED:
            # No outputs are recorded, so those of a failed run never count as this task's.
            state.status = task_state.FAILED
            state.outputs = {}
            state.error = reason
        task_state.write_state(task.state_file, state)
        self.states[task.name] = state
        self.status[task.name] = status
        self.reasons[task.name] = reason
        # Beside the time that is left: what a person waits for.
        shown = process.accuracy() if status == DONE and not reason else reason
        self.screen.event(task.name, status, self.progress(), shown, state.seconds)

    def _fail(self, name: str, reason: str) -> None:
        """Settle a task that cannot be started."""
        self.status[name] = FAILED
        self.reasons[name] = reason
        self.screen.event(name, FAILED, self.progress(), reason)

    def _request_stop(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal: the first asks tasks to save and end, the second kills them."""
        # A shell and the system both send SIGHUP when a terminal is closed.
        if self._stop is not None and number != signal.SIGHUP:
            self._signal_all(signal.SIGKILL)
        self._stop = self._stop or signal.Signals(number)

    def _signal_all(self, number: signal.Signals) -> None:
        for running in list(self.running.values()):
            running.process.signal(number)

    def _stop_running(self) -> None:
        """Ask running tasks to save and end, and kill those that have not after `GRACE_SEC`."""
        if self.running:
            count = len(self.running)
            self.screen.note(f"stopping: {count} tasks save their state (again: kill them)")
        self._signal_all(signal.SIGTERM)
        deadline = time.monotonic() + GRACE_SEC
        while self.running:
            if time.monotonic() > deadline:
                self._signal_all(signal.SIGKILL)
            self._collect_ended()
            time.sleep(POLL_SEC)

    # Progress

    def progress(self) -> Progress:
        """Return the number of finished and of all selected tasks, and the time left."""
        done = sum(self.status[name] == DONE for name in self.selected)
        times = {name: running.process.seconds for name, running in self.running.items()}
        left = estimate_seconds_left(
            self.tasks.values(), self.states, self._open_names(), times, self.options.jobs
        )
        return Progress(done, len(self.selected), left)

    def record(self) -> None:
        """Write `pipeline.json`, with the state on disk of tasks that are not selected."""
        self._recorded = time.monotonic()
        rows = []
        for name, task in self.tasks.items():
            status = self.status[name]
            state = self.states[name]
            if name not in self.selected:
                # Another process may run it: a job of a scheduler, or a second runner.
                state = task_state.read_state(task.state_file)
                status = STATUS_OF_STATE[state.status] if state is not None else WAITING
            rows.append(TaskRow(task, status, self.reasons[name], state))
        path = self.options.state / PIPELINE_FILE
        write_pipeline_file(path, self.options.root, self.options.about, rows)
