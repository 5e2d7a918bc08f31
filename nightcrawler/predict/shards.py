"""Workers of a large prediction: each pulls parts of the list until all are made."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from nightcrawler.data.lists import VideoItem
from nightcrawler.data.video.remote import video_state
from nightcrawler.predict.claims import claim_part
from nightcrawler.predict.part_table import NO_FILE, PartRow
from nightcrawler.predict.parts import Parts, is_final
from nightcrawler.predict.video_result import VideoResult
from nightcrawler.utils.errors import UserError

# Wait of a worker without work until it looks again whether the worker of a part has ended.
POLL_SEC = 2.0
# Variables of launchers with the index of a process.
ARRAY = "SLURM_ARRAY_TASK_ID"
# Index and number of processes; those of Kubernetes' Indexed Job lack the number, which the
# manifest sets.
INDEXED = {
    "RANK": "WORLD_SIZE",
    "JOB_COMPLETION_INDEX": "JOB_COMPLETIONS",
    "AWS_BATCH_JOB_ARRAY_INDEX": "AWS_BATCH_JOB_ARRAY_SIZE",
}
LAUNCHERS = (*INDEXED, ARRAY, "SLURM_PROCID")
# Set by `srun` alone: in a batch script, SLURM_NTASKS counts processes that do not run yet.
STEP_TASKS = "SLURM_STEP_NUM_TASKS"


def parse_shard(text: str, env: Mapping[str, str]) -> tuple[int, int]:
    """Return the index of a shard, from 0, and the number of shards.

    Args:
        text: `i/N`, or `env` to take both from a launcher's variables.
        env: environment variables.

    Raises:
        UserError: if the text is neither, or no launcher's variables are set.
    """
    if text == "env":
        return _shard_of_launcher(env)
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    if not match or not int(match[1]) < int(match[2]):
        raise UserError(f"shard '{text}': expected i/N with i from 0 to N-1, or env")
    return int(match[1]), int(match[2])


def _shard_of_launcher(env: Mapping[str, str]) -> tuple[int, int]:
    """Return the index and the number of shards of a launcher's process.

    The processes that `srun` starts in each element of an array have a shard each.
    """
    # RANK alone may be anybody's.
    found = [name for name in INDEXED if name in env and (name != "RANK" or "WORLD_SIZE" in env)]
    if found:
        shard = (_number(env, found[0]), _number(env, INDEXED[found[0]]))
    elif ARRAY in env:
        shard = _shard_of_array(env)
    elif "SLURM_PROCID" in env and "SLURM_NTASKS" in env:
        shard = (_number(env, "SLURM_PROCID"), _number(env, "SLURM_NTASKS"))
    else:
        names = ", ".join(LAUNCHERS)
        raise UserError(f"shard env: none of {names} is set; start it with a launcher, or give i/N")
    index, count = shard
    if index >= count:
        raise UserError(
            f"shard env: the launcher's variables say process {index} of {count}, counted from 0: "
            "give i/N"
        )
    return shard


def _shard_of_array(env: Mapping[str, str]) -> tuple[int, int]:
    first = _number(env, "SLURM_ARRAY_TASK_MIN", "0")
    count = _number(env, "SLURM_ARRAY_TASK_COUNT")
    last = _number(env, "SLURM_ARRAY_TASK_MAX", str(first + count - 1))
    index = _number(env, ARRAY) - first
    # With a step or gaps, the numbers of the elements are no indices of shards.
    if not 0 <= index < count or last - first + 1 != count:
        raise UserError(
            f"shard env: {ARRAY} is {env[ARRAY]} of {count} elements from {first} to {last}: "
            "--array must count by one, such as --array 0-6"
        )
    if _number(env, "SLURM_NTASKS", "1") == 1:
        return index, count
    if STEP_TASKS not in env:
        raise UserError(
            f"shard env: SLURM_NTASKS is {env['SLURM_NTASKS']} in each element of an array: start "
            "it with srun, or submit with --ntasks 1"
        )
    tasks = _number(env, STEP_TASKS)
    return index * tasks + _number(env, "SLURM_PROCID"), count * tasks


def _number(env: Mapping[str, str], name: str, default: str = "") -> int:
    """Return a variable of a launcher as a number.

    Raises:
        UserError: if it is missing, or not a whole number.
    """
    text = env.get(name, default)
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise UserError(
            f"shard env: {name} is {text!r}: expected a whole number; give i/N instead of env"
        )
    return int(text)


# Yields the result of each video, in order.
Predict = Callable[[Sequence[VideoItem]], Iterator[VideoResult]]


@dataclass
class Worker:
    """Worker of a run.

    Attributes:
        parts: parts of the run.
        items: every video of the list.
        shard: index of this worker, from 0, and the number of workers. They start with different
            parts, and each looks through its share of the parts that were sealed before.
        predict: yields the results of videos.
        say: prints a line.
        num_made: number of rows that this worker has made.
        num_bad: number of these that are of no video, or not of the whole one.
    """

    parts: Parts
    items: Sequence[VideoItem]
    shard: tuple[int, int]
    predict: Predict
    say: Callable[[str], None]
    num_made: int = 0
    num_bad: int = 0

    def run(self) -> None:
        """Make parts until all are sealed.

        Parts that others hold are waited for, and taken over if their worker ends.
        """
        index, count = self.shard
        num_parts = self.parts.count(self.items)
        sealed_before = self.parts.sealed()
        first = index * num_parts // count
        due = [*range(first, num_parts), *range(first)]
        # Whose files did not change since is asked by one worker only.
        due = [part for part in due if part not in sealed_before or part % count == index]
        is_waiting = False
        while due:
            part = self._take_one(due, sealed_before)
            if part is not None:
                due.remove(part)
                continue
            if not is_waiting:
                self.say(f"shard {index}/{count}: waits for {len(due)} parts that others make")
            is_waiting = True
            time.sleep(POLL_SEC)

    def _take_one(self, due: Sequence[int], sealed_before: set[int]) -> int | None:
        """Make the first of the parts that is free, and return its number."""
        sealed = self.parts.sealed()
        for part in due:
            if part in sealed and part not in sealed_before:
                return part
            claim = claim_part(self.parts.folder, part)
            if claim is not None:
                with claim:
                    self._make(part)
                return part
        return None

    def _make(self, part: int) -> None:
        """Make the rows of a part that are not there yet, and seal it."""
        items = self.parts.items_of(part, self.items)
        rows = self.parts.rows(part, items)
        refuse_others(self.parts, part, rows, items)
        due = []
        for item in items:
            if item.name not in rows or not is_final(rows[item.name], item):
                due.append(item)
        # Taken before the files are read: one that changes meanwhile is due again.
        states = [video_state(item.path) or NO_FILE for item in due]
        with self.parts.journal(part) as journal:
            for state, result in zip(states, self.predict(due), strict=True):
                row = PartRow(result, state)
                journal.append(row)
                rows[result.name] = row
                self.num_made += 1
                self.num_bad += result.failed
        if due or part not in self.parts.sealed():
            self.parts.seal(part, [rows[item.name] for item in items])


def refuse_others(
    parts: Parts, part: int, names: Mapping[str, object] | Sequence[str], items: Sequence[VideoItem]
) -> None:
    """Refuse a part that holds videos which the list does not have there.

    Raises:
        UserError: naming one of them.
    """
    others = set(names) - {item.name for item in items}
    if others:
        raise UserError(
            f"{parts.out}: part {part} holds '{min(others)}', which is not in rows "
            f"{part * parts.num_rows + 1} to {part * parts.num_rows + len(items)} of the list: the "
            "list has changed; give another output folder"
        )
