"""Runs links in order, several at a time, and knows from files what is done: it can be killed at any point."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import atomic_write
from nightcrawler.utils.locks import take_inheritable_lock
from nightcrawler.utils.signals import signal_handler
from nightcrawler.workflow import task_state as stamps
from nightcrawler.workflow.console import Screen, write_state
from nightcrawler.workflow.process import TaskProcess, environment
from nightcrawler.workflow.task import Task, dependencies
from nightcrawler.workflow.task_state import FileHashes, TaskState, Verdict

# Requests to stop: from people, and from schedulers ahead of time.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
HASHES = ".hashes.json"
POLL_SEC = 0.02
# Least time between two writings of pipeline.json.
RECORD_SEC = 0.5
# How long a training may take to save itself when it is asked to stop.
GRACE_SEC = 330.0
EXIT_FAILED, EXIT_STOPPED, EXIT_INTERRUPTED = 1, 75, 130
# Kinds that take seconds where a training takes hours.
QUICK = ("data", "label", "vote")
WAITING, RUNNING, DONE, FAILED, BLOCKED, STOPPED = (
    "waiting",
    "running",
    "done",
    "failed",
    "blocked",
    "stopped",
)
STATUS_OF_STAMP = {
    stamps.STARTED: RUNNING,
    stamps.DONE: DONE,
    stamps.FAILED: FAILED,
    stamps.REDO: WAITING,
}


@dataclass
class RunOptions:
    """How a chain is run.

    Attributes:
        root: the folder that commands are run in.
        state: folder of `pipeline.json`, logs and remembered hashes.
        jobs: links at a time.
        gpus: GPUs to share out, one for each link at a time; empty leaves all to every link.
        threads: CPU threads of a link.
        found: what happens to outputs of runs by hand: `refuse`, `adopt` or `replace`.
        about: what `pipeline.json` says of the whole chain.
    """

    root: Path
    state: Path
    jobs: int = 1
    gpus: tuple[str, ...] = ()
    threads: int = 1
    found: str = "refuse"
    about: Mapping[str, Any] = field(default_factory=dict)


class Runner:
    """Brings links to where they stand.

    Args:
        links: in an order in which each comes after those it reads from.
        settings: see there.
        selected: names of the links to run; the others must stand where they are needed. `None`: all.
        screen: where progress is shown.
    """

    def __init__(
        self,
        links: Sequence[Task],
        settings: RunOptions,
        selected: set[str] | None = None,
        screen: Screen | None = None,
    ) -> None:
        self.links = {link.name: link for link in links}
        self.after = dependencies(links)
        self.settings = settings
        self.selected = set(self.links) if selected is None else selected
        self.screen = screen or Screen()
        self.hashes = FileHashes(settings.state / HASHES)
        self.status = dict.fromkeys(self.links, WAITING)
        self.reasons = dict.fromkeys(self.links, "")
        self.known: dict[str, TaskState | None] = {
            name: stamps.read_stamp(link.stamp) for name, link in self.links.items()
        }
        self.children: dict[str, tuple[TaskProcess, Verdict, int]] = {}
        self._judged: set[str] = set()
        self._recorded = 0.0
        self._stop: signal.Signals | None = None

    def run(self) -> int:
        """Run what does not stand; returns 0, or 1 if a link failed, 75 or 130 if asked to stop (SIGTERM, SIGINT)."""
        self.screen.open(len(self.selected))
        if "labels" in self.settings.about:
            self.screen.note(
                f"{self.settings.about['recipe']}: choices are {self.settings.about['labels']}"
            )
        with signal_handler(SIGNALS, self._asked):
            try:
                while self._open() and self._stop is None:
                    changed = self._reap() | self._advance()
                    if changed and time.monotonic() - self._recorded > RECORD_SEC:
                        self.record()
                    if not changed:
                        self.screen.tick(*self._progress())
                        time.sleep(POLL_SEC)
                if self._stop is not None:
                    self._end_children()
            finally:
                self.record()
                self.hashes.save()
                self.screen.close()
        return self._exit_code()

    def _open(self) -> list[str]:
        return [
            name
            for name in self.links
            if name in self.selected and self.status[name] in (WAITING, RUNNING)
        ]

    def _exit_code(self) -> int:
        if self._stop is not None:
            return EXIT_INTERRUPTED if self._stop == signal.SIGINT else EXIT_STOPPED
        states = {self.status[name] for name in self.selected}
        if states & {FAILED, BLOCKED}:
            return EXIT_FAILED if FAILED in states else EXIT_STOPPED
        return EXIT_STOPPED if STOPPED in states else 0

    # Starting

    def _advance(self) -> bool:
        """Settle or start waiting links whose inputs are there; returns whether any changed its status."""
        changed = False
        for name in self._open():
            if self.status[name] == WAITING and self._inputs_are_there(name):
                free = len(self.children) < self.settings.jobs
                if free or name not in self._judged:
                    self._judged.add(name)
                    self._begin(self.links[name], free)
            changed |= self.status[name] != WAITING and name not in self.children
        return changed

    def _inputs_are_there(self, name: str) -> bool:
        for before in self.after[name]:
            if before not in self.selected:
                verdict = stamps.judge(self.links[before], self.hashes)
                if not verdict.stands:
                    self._fail(name, f"needs {before}, which is not done ({verdict.reason})")
                    return False
            elif self.status[before] in (FAILED, BLOCKED, STOPPED):
                self.status[name], self.reasons[name] = BLOCKED, f"needs {before}"
                self.screen.line(name, BLOCKED, self.reasons[name], *self._progress())
                return False
            elif self.status[before] != DONE:
                return False
        return True

    def _begin(self, link: Task, free: bool) -> None:
        """Settle a link that stands; start one that does not, if there is room."""
        lock = take_inheritable_lock(link.stamp.with_suffix(".lock"))
        if lock is None:
            if not self.reasons[link.name]:
                self.reasons[link.name] = "another process is at it: waiting for its end"
                self.screen.line(link.name, WAITING, self.reasons[link.name], *self._progress())
            return
        try:
            verdict = stamps.judge(link, self.hashes)
            if verdict.stands or (verdict.foreign and self._settle_foreign(link, verdict)):
                self.known[link.name] = stamps.read_stamp(link.stamp)
                self.status[link.name], self.reasons[link.name] = DONE, "stands"
                self.screen.line(link.name, DONE, "stands", *self._progress())
            elif free and self.status[link.name] == WAITING:
                self._start(link, verdict, lock)
        except (UserError, OSError) as error:
            self._fail(link.name, str(error))
        finally:
            if link.name not in self.children:
                os.close(lock)

    def _settle_foreign(self, link: Task, verdict: Verdict) -> bool:
        """Outputs that this command did not make; returns whether the link stands with them."""
        if self.settings.found == "adopt":
            return stamps.adopt(link, verdict, self.hashes)
        if self.settings.found == "replace":
            return False
        raise UserError(
            f"{verdict.foreign[0]} is there and was not made by this command: --found adopt takes it, --found replace "
            "removes it, --out DIR leaves it alone"
        )

    def _start(self, link: Task, verdict: Verdict, lock: int) -> None:
        earlier = stamps.read_stamp(link.stamp)
        adopted = earlier is not None and earlier.adopted and earlier.status == stamps.STARTED
        goes_on = (
            earlier is not None and earlier.key == verdict.key and (verdict.goes_on or adopted)
        )
        keeps = goes_on and link.kind == "train" and stamps.reads_same_places(link, earlier)
        if not keeps and not (link.guards and earlier is None):
            stamps.clear(link, earlier)
        for path, text in link.writes.items():
            with atomic_write(path, "w") as file:
                file.write(text)
        link.folder.mkdir(parents=True, exist_ok=True)
        seconds = earlier.seconds if goes_on and earlier is not None else 0.0
        stamp = TaskState(
            stamps.STARTED, verdict.key, verdict.inputs, command=list(link.command), seconds=seconds
        )
        stamps.write_stamp(link.stamp, stamp)
        slot = min(set(range(self.settings.jobs)) - {slot for _, _, slot in self.children.values()})
        gpus = self.settings.gpus
        env = environment(self.settings.threads, gpus[slot % len(gpus)] if gpus else None)
        child = TaskProcess(
            link, self.settings.root, self.settings.state / "logs" / f"{link.slug}.log", env, lock
        )
        self.children[link.name] = (child, verdict, slot)
        self.known[link.name], self.status[link.name] = stamp, RUNNING
        self.reasons[link.name] = verdict.reason
        self.screen.line(link.name, RUNNING, verdict.reason, *self._progress())

    # Ending

    def _reap(self) -> bool:
        """Settle children that have ended; returns whether there was one."""
        ended = [
            (name, code)
            for name, (child, _, _) in self.children.items()
            if (code := child.poll()) is not None
        ]
        for name, code in ended:
            child, verdict, _ = self.children.pop(name)
            self._finish(child, verdict, code)
            os.close(child.lock)
        return bool(ended)

    def _finish(self, child: TaskProcess, verdict: Verdict, code: int) -> None:
        link = child.link
        seconds = child.seconds + (self.known[link.name] or TaskState("", "", {})).seconds
        stamp = TaskState(
            stamps.STARTED, verdict.key, verdict.inputs, {}, list(link.command), seconds, code
        )
        status, reason = DONE, "" if code == 0 else child.last_line()
        if code in link.ok_codes:
            stamp.status, stamp.outputs = stamps.DONE, stamps.output_hashes(link, self.hashes)
            missing = [name for name, found in stamp.outputs.items() if not found]
            if missing:
                status, reason = FAILED, f"ended well, but did not write {missing[0]}"
        elif self._stop is not None or code == EXIT_STOPPED:
            status, reason = STOPPED, "asked to stop; goes on from there next time"
        else:
            status = FAILED
            reason = f"{reason} (exit code {code}, log: {child.log})"
        if status == FAILED:
            stamp.status, stamp.outputs, stamp.error = stamps.FAILED, {}, reason
        stamps.write_stamp(link.stamp, stamp)
        self.known[link.name], self.status[link.name], self.reasons[link.name] = (
            stamp,
            status,
            reason,
        )
        self.screen.line(link.name, status, reason, *self._progress(), seconds=seconds)

    def _fail(self, name: str, reason: str) -> None:
        self.status[name], self.reasons[name] = FAILED, reason
        self.screen.line(name, FAILED, reason, *self._progress())

    def _asked(self, number: int, frame: FrameType | None) -> None:
        if self._stop is not None:
            for child, _, _ in list(self.children.values()):
                child.signal(signal.SIGKILL)
        self._stop = signal.Signals(number)

    def _end_children(self) -> None:
        """Ask children to end, and make those end that do not."""
        if self.children:
            self.screen.note(
                f"stopping: {len(self.children)} links save what they have (again: end them at once)"
            )
        for child, _, _ in self.children.values():
            child.signal(signal.SIGTERM)
        deadline = time.monotonic() + GRACE_SEC
        while self.children:
            if time.monotonic() > deadline:
                for child, _, _ in self.children.values():
                    child.signal(signal.SIGKILL)
            self._reap()
            time.sleep(POLL_SEC)

    # What is known

    def _progress(self) -> tuple[int, int, float | None]:
        """Links that are done, links in all, and about how many seconds are left (`None`: nothing to go by)."""
        done = sum(self.status[name] == DONE for name in self.selected)
        return done, len(self.selected), self._seconds_left()

    def _seconds_left(self) -> float | None:
        """By what links of the same kind took, this time or an earlier one."""
        took: dict[str, list[float]] = {}
        for name, stamp in self.known.items():
            if stamp is not None and stamp.status == stamps.DONE and stamp.seconds > 0:
                took.setdefault(self.links[name].kind, []).append(stamp.seconds)
        left = 0.0
        for name in self._open():
            times = took.get(self.links[name].kind, [0.0] if self.links[name].kind in QUICK else [])
            if not times:
                return None
            running = self.children[name][0].seconds if name in self.children else 0.0
            left += max(sum(times) / len(times) - running, 0.0)
        return left / self.settings.jobs

    def record(self) -> None:
        """Write `pipeline.json`; of links that are not selected it says what their stamps do."""
        self._recorded, rows = time.monotonic(), []
        for name, link in self.links.items():
            status, stamp = self.status[name], self.known[name]
            if name not in self.selected:
                stamp = stamps.read_stamp(link.stamp)
                status = STATUS_OF_STAMP[stamp.status] if stamp is not None else WAITING
            rows.append((link, status, self.reasons[name], stamp))
        write_state(
            self.settings.state / "pipeline.json", self.settings.root, self.settings.about, rows
        )
