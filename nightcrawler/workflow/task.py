"""Task of a pipeline: one command, the files it reads and the files it writes."""

from __future__ import annotations

import fnmatch
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nightcrawler.data.fingerprint import VideoList
from nightcrawler.utils.errors import UserError
from nightcrawler.workflow.recipe_file import Resources

STATE_FOLDER = ".pipeline"


@dataclass(frozen=True)
class Task:
    """One step of a pipeline.

    Attributes:
        name: Kind and subject: `train/exp_adapt_bn/sf32_k700`, `test/.../arid`, `label/round1`,
            `vote`.
        kind: `data`, `train`, `test`, `label` or `vote`.
        command: Command line, run from the project's root.
        signature: Hash of everything besides the inputs that determines the outputs
            (configuration, recipe). It does not depend on `command`.
        inputs: Files that it reads, by names that do not depend on their location.
        outputs: Files that it writes.
        folder: Folder of its outputs. Its state is kept in `folder/.pipeline`.
        about: Facts for reports (`round`, `stage`, `model`, `experiment`, `split`, `control`).
        writes: Small files to write before it starts, path to text.
        leftovers: Files that a run leaves beside its outputs, to be removed before it starts from
            scratch: names below `folder`, in which `*` stands for any text without a slash.
        earlier_outputs: Patterns of the same form, of names that outputs may have had before.
        root: Folder above `folder` below which no link is followed to remove a file, `None` for
            `folder` itself.
        videos: Lists of videos whose content its outputs depend on, by name of the split.
        config: `KEY` to value of the configuration, for messages.
        older_signatures: Signatures that earlier versions computed for the same outputs.
        stamps: What files made by hand must say of themselves to be imported.
        ok_codes: Exit codes that mean success.
        group: Tasks of one group may run in one process, one after the other, empty for none.
        run_hash: Configuration hash that `run.json` of a finished run must have for its outputs
            to be imported, empty for no such check.
        overwrite_safe: The command itself refuses to replace files that it did not write.
        resources: Share of a cluster that it gets.
    """

    name: str
    kind: str
    command: tuple[str, ...]
    signature: str
    inputs: Mapping[str, Path]
    outputs: tuple[Path, ...]
    folder: Path
    about: Mapping[str, Any] = field(default_factory=dict)
    writes: Mapping[Path, str] = field(default_factory=dict)
    leftovers: tuple[str, ...] = ()
    earlier_outputs: tuple[str, ...] = ()
    root: Path | None = None
    videos: Mapping[str, VideoList] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    older_signatures: tuple[str, ...] = ()
    stamps: Mapping[str, Any] = field(default_factory=dict)
    ok_codes: tuple[int, ...] = (0,)
    group: str = ""
    run_hash: str = ""
    overwrite_safe: bool = False
    resources: Resources = field(default_factory=Resources)

    @property
    def state_file(self) -> Path:
        """Return the file that records its last run."""
        return self.folder / STATE_FOLDER / f"{self.slug}.json"

    @property
    def lock_file(self) -> Path:
        """Return the file that is locked while it runs."""
        return self.state_file.with_suffix(".lock")

    @property
    def slug(self) -> str:
        """Return its name as a file name."""
        return self.name.replace("/", "-")


def digest(value: Any) -> str:
    """Return the hex SHA-256 of plain values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def dependencies(tasks: Sequence[Task]) -> dict[str, tuple[str, ...]]:
    """Map the name of each task to the names of the tasks that write its inputs.

    Raises:
        UserError: If two tasks write the same file.
    """
    writers: dict[Path, str] = {}
    for task in tasks:
        for path in task.outputs:
            if path in writers:
                raise UserError(f"{path}: written by {writers[path]} and by {task.name}")
            writers[path] = task.name
    needed: dict[str, tuple[str, ...]] = {}
    for task in tasks:
        names = [writers[path] for path in task.inputs.values() if path in writers]
        needed[task.name] = tuple(dict.fromkeys(names))
    return needed


def downstream(names: Iterable[str], needed: Mapping[str, Sequence[str]]) -> set[str]:
    """Return the given tasks and all tasks that depend on them.

    Args:
        names: Names of tasks.
        needed: Result of `dependencies`, in an order in which each task follows those it needs.
    """
    found = set(names)
    for name, before in needed.items():
        if found.intersection(before):
            found.add(name)
    return found


def match(tasks: Sequence[Task], patterns: Sequence[str]) -> set[str]:
    """Return the names of the tasks that match a pattern.

    Args:
        tasks: Tasks to choose from, at least one.
        patterns: Whole names, parts of names between slashes (`exp_adapt_bn`), or names with `*`.

    Raises:
        UserError: For a pattern that matches no task.
    """
    found: set[str] = set()
    for pattern in patterns:
        # A whole name wins: `vote` must not match `train/vote/...` too.
        names = {task.name for task in tasks if task.name == pattern}
        if not names:
            names = {task.name for task in tasks if _matches(task.name, pattern)}
        if not names:
            raise UserError(
                f"{pattern!r} matches no task; --dry-run lists them (the first: {tasks[0].name})"
            )
        found |= names
    return found


def _matches(name: str, pattern: str) -> bool:
    part = f"/{pattern.strip('/')}/"
    return fnmatch.fnmatchcase(name, pattern) or part in f"/{name}/"
